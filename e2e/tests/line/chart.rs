//! The chart as installed: rights, and values that it refuses.

use std::collections::{BTreeMap, BTreeSet};

use controllers::rbac::{OWN, Rule, WATCHED};
use e2e::cluster::{Cluster, run};
use serde_json::Value;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/belfry");

type Rights = BTreeMap<(String, String), BTreeSet<String>>;

fn needed(rules: &[Rule]) -> Rights {
    let mut rights = Rights::new();
    for rule in rules {
        for resource in rule.resources {
            let verbs = rule.verbs.iter().map(|verb| (*verb).to_owned());
            rights.entry((rule.group.to_owned(), (*resource).to_owned())).or_default().extend(verbs);
        }
    }
    rights
}

fn granted(role: &Value) -> Rights {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let mut rights = Rights::new();
    for rule in role["rules"].as_array().expect("rules") {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                rights.entry((group.clone(), resource)).or_default().extend(texts(&rule["verbs"]));
            }
        }
    }
    rights
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_rights_are_those_it_needs_and_no_others() {
    let cluster = Cluster::from_env();
    let role = cluster.get("belfry-system", "clusterrole/belfry-operator").await.expect("the role");
    assert_eq!(granted(&role), needed(WATCHED));
    let role = cluster.get("belfry-system", "role/belfry-operator-lease").await.expect("the role");
    assert_eq!(granted(&role), needed(OWN));
    for (kind, name) in [("secrets", "belfry-certificates"), ("configmaps", "belfry-ca")] {
        let rules = role["rules"].as_array().into_iter().flatten();
        let named: Vec<&Value> =
            rules.filter(|rule| rule["resources"][0] == kind).map(|rule| &rule["resourceNames"]).collect();
        assert_eq!(named, [&serde_json::json!([name])], "one of {kind}, and no other");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_may_only_ask_who_somebody_is_and_what_they_may_see() {
    let cluster = Cluster::from_env();
    let role = cluster.get("belfry-system", "clusterrole/belfry-hub").await.expect("the role");
    let resources: Vec<String> = granted(&role).into_keys().map(|(_, resource)| resource).collect();
    assert_eq!(resources, ["tokenreviews", "subjectaccessreviews"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_bad_values_are_refused_with_their_place() {
    for (value, place) in [
        ("hub.persistance.size=1Gi", "persistance"),
        ("crds.keep=maybe", "/crds/keep"),
        ("hub.keepDead=1y", "/hub/keepDead"),
    ] {
        let refusal = run("helm", &["template", "belfry", CHART, "--set", value], "").await.expect_err(value);
        assert!(refusal.contains(place), "{value}: {refusal}");
    }
}
