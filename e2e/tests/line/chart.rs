//! The chart as installed: rights, and values that it refuses.

use std::collections::{BTreeMap, BTreeSet};

use controllers::rbac::{CLUSTER, OWN, Rule, WATCHED};
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
    assert_eq!(granted(&role), needed(&[WATCHED, CLUSTER].concat()));
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
async fn the_hub_may_only_ask_who_somebody_is_what_they_may_see_and_which_namespace_that_is() {
    let cluster = Cluster::from_env();
    let role = cluster.get("belfry-system", "clusterrole/belfry-hub").await.expect("the role");
    let resources: Vec<String> = granted(&role).into_keys().map(|(_, resource)| resource).collect();
    assert_eq!(resources, ["namespaces", "tokenreviews", "subjectaccessreviews"]);
}

/// What the chart renders with these values, by kind.
async fn rendered(values: &[&str]) -> Vec<Value> {
    let mut arguments = vec!["template", "belfry", CHART, "-n", "belfry-system"];
    arguments.extend(values.iter().flat_map(|value| ["--set", value]));
    let text = run("helm", &arguments, "").await.expect("it renders");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> Vec<&'a Value> {
    documents.iter().filter(|document| document["kind"] == kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_of_two_namespaces_has_its_rights_in_those_alone() {
    let watch = "operator.watchNamespaces={payments,orders}";
    let documents = rendered(&[watch]).await;
    let roles = of_kind(&documents, "Role");
    for namespace in ["payments", "orders"] {
        let role = roles.iter().find(|role| role["metadata"]["namespace"] == namespace).expect("a role");
        assert_eq!(granted(role), needed(WATCHED), "{namespace}");
    }
    let named = |role: &&&Value| role["metadata"]["name"] == "belfry-operator";
    let cluster = of_kind(&documents, "ClusterRole");
    assert_eq!(granted(cluster.iter().find(named).expect("a role")), needed(CLUSTER));
    let documents = rendered(&[watch, "admission.enabled=false"]).await;
    assert!(
        of_kind(&documents, "ClusterRole").iter().find(named).is_none(),
        "nothing of the cluster's is needed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_and_budgets_are_there_when_they_are_asked_for() {
    let documents = rendered(&[]).await;
    assert!(
        of_kind(&documents, "NetworkPolicy").is_empty()
            && of_kind(&documents, "PodDisruptionBudget").is_empty()
    );
    let documents = rendered(&[
        "operator.replicas=2",
        "admission.failurePolicy=Fail",
        "networkPolicy.enabled=true",
        "networkPolicy.apiServer.cidrs={10.0.0.1/32}",
        "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.team=sre",
    ])
    .await;
    assert_eq!(of_kind(&documents, "PodDisruptionBudget").len(), 1);
    let policies = of_kind(&documents, "NetworkPolicy");
    assert_eq!(policies.len(), 2);
    let pods = of_kind(&documents, "Deployment");
    for policy in policies {
        let wanted = policy["spec"]["podSelector"]["matchLabels"].as_object().expect("labels");
        let selects = |pod: &&&Value| {
            let labels = &pod["spec"]["template"]["metadata"]["labels"];
            wanted.iter().all(|(name, value)| labels[name] == *value)
        };
        assert_eq!(pods.iter().filter(selects).count(), 1, "a policy is of one component: {policy}");
    }
    let webhook = of_kind(&documents, "ValidatingWebhookConfiguration")[0];
    assert_eq!(webhook["webhooks"][0]["failurePolicy"], "Fail");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_bad_values_are_refused_with_their_place() {
    for (value, place) in [
        ("hub.persistance.size=1Gi", "persistance"),
        ("crds.keep=maybe", "/crds/keep"),
        ("hub.keepDead=1y", "/hub/keepDead"),
        ("networkPolicy.apiServer.cidrs={everywhere}", "/networkPolicy/apiServer/cidrs/0"),
    ] {
        let refusal = run("helm", &["template", "belfry", CHART, "--set", value], "").await.expect_err(value);
        assert!(refusal.contains(place), "{value}: {refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_by_kubeconfig_has_three_rights_at_one_object_each_and_never_without_the_policy() {
    let documents = rendered(&[]).await;
    let people = |kind: &str| {
        let named = |it: &&&Value| it["metadata"]["name"] == "belfry-people";
        of_kind(&documents, kind).iter().find(named).map(|it| (**it).clone()).expect("it is there")
    };
    let role = people("Role");
    let at: Vec<_> = role["rules"].as_array().expect("rules").iter().map(|it| &it["resourceNames"]).collect();
    let named =
        ["belfry-ca", "https:belfry-hub:https", "belfry-people"].map(|name| serde_json::json!([name]));
    assert_eq!(at, named.iter().collect::<Vec<_>>());
    let policy = people("ValidatingAdmissionPolicy");
    assert_eq!(policy["spec"]["failurePolicy"], "Fail");
    assert_eq!(people("ValidatingAdmissionPolicyBinding")["spec"]["policyName"], "belfry-people");
    let documents = rendered(&["hub.askByKubeconfig=null"]).await;
    assert!(!documents.iter().any(|it| it.to_string().contains("belfry-people")), "all of it or nothing");
}
