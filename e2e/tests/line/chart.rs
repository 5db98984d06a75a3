//! The chart: the rights that it grants, what it renders, and the values that it refuses.

use std::collections::{BTreeMap, BTreeSet};

use controllers::rbac::{CLUSTER, OWN, Rule, WATCHED};
use e2e::cluster::{Cluster, run_command};
use serde_json::Value;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/belfry");

/// (API group, resource) to verbs.
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

/// The objects that the chart renders with these values (`--set`).
async fn rendered(values: &[&str]) -> Vec<Value> {
    let mut arguments = vec!["template", "belfry", CHART, "-n", "belfry-system"];
    arguments.extend(values.iter().flat_map(|value| ["--set", value]));
    let text = run_command("helm", &arguments, "").await.expect("it renders");
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
        ("networkPolicy.apiServer.cidrs={10.0.0.1/33}", "10.0.0.1/33 is not a range"),
        ("network.deniedRanges={300.0.0.0/8}", "network.deniedRanges: 300.0.0.0/8 is not a range"),
        (
            "network.allowedRanges={10.0.0.1/8}",
            "network.allowedRanges: 10.0.0.1/8 has bits behind its length",
        ),
        ("network.allowedRanges={fd00::/129}", "fd00::/129 is not a range"),
        ("hub.persistence.size=banana", "/hub/persistence/size"),
        ("hub.persistence.size=0Gi", "/hub/persistence/size"),
        ("hub.persistence.storageClass=Fast_Disk", "/hub/persistence/storageClass"),
        ("hub.resources.limits.memory=lots", "/hub/resources/limits/memory"),
        ("hub.keepDead=1m1h", "/hub/keepDead"),
        ("operator.replicas=0", "/operator/replicas"),
        ("hub.replicas=0", "/hub/replicas"),
        ("hub.replicas=3", "3 hubs need a database (hub.database.existingSecret)"),
        ("hub.redis.existingSecret=redis", "of use to hubs with a database alone"),
        ("hub.database.url=postgres://x", "url"),
        ("nameOverride=Belfry", "/nameOverride"),
        ("fullnameOverride=a-name-that-is-longer-than-forty-characters-are", "/fullnameOverride"),
        ("fullnameOverride=1st", "/fullnameOverride"),
        ("image.tag=a b", "/image/tag"),
        ("commonLabels.team=a b", "/commonLabels/team"),
        ("commonLabels.app\\.kubernetes\\.io/name=x", "commonLabels: app.kubernetes.io/name is a label"),
        ("admission.clientAuth.configMap=a,admission.clientAuth.secret=b", "give one of them, not both"),
        ("rbac.mayReachHub[0].kind=ServiceAccount,rbac.mayReachHub[0].name=x", "x needs its namespace"),
    ] {
        let refusal =
            run_command("helm", &["template", "belfry", CHART, "--set", value], "").await.expect_err(value);
        assert!(refusal.contains(place), "{value}: {refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledgers_claim_outlives_the_release_unless_that_is_not_wanted() {
    let kept = |documents: &[Value]| {
        let claim = of_kind(documents, "PersistentVolumeClaim")[0];
        claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    };
    assert!(kept(&rendered(&[]).await));
    assert!(!kept(&rendered(&["hub.persistence.keep=false"]).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn hubs_with_a_database_have_no_volume_and_are_replaced_one_by_one() {
    let one = rendered(&[]).await;
    let several = rendered(&[
        "hub.replicas=3",
        "hub.database.existingSecret=belfry-db",
        "hub.redis.existingSecret=belfry-redis",
        "operator.replicas=1",
    ])
    .await;
    let hub = |documents: &[Value]| {
        let is_hub = |deployment: &&&Value| deployment["metadata"]["name"] == "belfry-hub";
        (*of_kind(documents, "Deployment").iter().find(is_hub).expect("the hub")).clone()
    };
    let (alone, together) = (hub(&one), hub(&several));
    assert_eq!(
        (&alone["spec"]["replicas"], &alone["spec"]["strategy"]["type"]),
        (&1.into(), &"Recreate".into())
    );
    assert_eq!(together["spec"]["replicas"], 3);
    assert_eq!(together["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
    assert!(of_kind(&several, "PersistentVolumeClaim").is_empty());
    assert_eq!(
        (of_kind(&one, "PodDisruptionBudget").len(), of_kind(&several, "PodDisruptionBudget").len()),
        (0, 1)
    );
    let volumes = together["spec"]["template"]["spec"]["volumes"].to_string();
    for secret in ["belfry-db", "belfry-redis"] {
        assert!(volumes.contains(&format!("\"secretName\":\"{secret}\"")), "{volumes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn common_labels_are_on_each_object_also_on_the_definitions() {
    for document in rendered(&["commonLabels.team=sre", "metrics.podMonitor.enabled=true"]).await {
        assert_eq!(document["metadata"]["labels"]["team"], "sre", "{}", document["metadata"]["name"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_that_has_metrics_has_a_pod_monitor_that_names_a_port_of_its_pods() {
    let documents =
        rendered(&["metrics.podMonitor.enabled=true", "metrics.podMonitor.labels.release=p"]).await;
    let monitors = of_kind(&documents, "PodMonitor");
    let ports: BTreeMap<&str, &str> = monitors
        .iter()
        .map(|monitor| {
            assert_eq!(monitor["metadata"]["labels"]["release"], "p");
            let port = &monitor["spec"]["podMetricsEndpoints"][0]["port"];
            (monitor["metadata"]["name"].as_str().expect("a name"), port.as_str().expect("a port"))
        })
        .collect();
    let expected = [("belfry-hub", "metrics"), ("belfry-operator", "metrics"), ("belfry-worker", "http")];
    assert_eq!(ports, BTreeMap::from(expected));
}

/// Whether an account may do this in the namespace. `what` is a resource, or `RESOURCE.status`.
async fn may(cluster: &Cluster, who: &str, verb: &str, what: &str, namespace: &str) -> bool {
    let (what, subresource) = what.split_once(".status").map_or((what, ""), |(what, _)| (what, "status"));
    let subresource = format!("--subresource={subresource}");
    let asked = ["auth", "can-i", verb, what, &subresource, "-n", namespace, "--as", who];
    let answer = cluster.try_kubectl(&asked).await;
    answer.is_ok_and(|answer| answer.trim() == "yes")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_built_in_roles_read_and_write_our_kinds_in_their_namespace_and_no_status() {
    let tenant = e2e::tenant::Tenant::new("t-rights").await;
    let ns = tenant.ns.as_str();
    for role in ["view", "edit", "admin"] {
        let account = format!("--serviceaccount={ns}:{role}");
        let clusterrole = format!("--clusterrole={role}");
        tenant.cluster.kubectl(&["-n", ns, "create", "rolebinding", role, &clusterrole, &account]).await;
        let who = format!("system:serviceaccount:{ns}:{role}");
        let writes = role != "view";
        // The controller manager aggregates roles, a moment after an installation.
        e2e::cluster::eventually("the role is aggregated", std::time::Duration::from_mins(1), async || {
            if may(&tenant.cluster, &who, "get", "alertrules.belfry.dev", ns).await {
                Ok(())
            } else {
                Err(format!("{role} may not get alertrules"))
            }
        })
        .await;
        for kind in ["notificationchannels", "alertrules", "schedules", "bookableresources"] {
            let kind = format!("{kind}.belfry.dev");
            for verb in ["get", "list", "watch"] {
                assert!(may(&tenant.cluster, &who, verb, &kind, ns).await, "{role} {verb} {kind}");
            }
            for verb in ["create", "update", "patch", "delete"] {
                assert_eq!(may(&tenant.cluster, &who, verb, &kind, ns).await, writes, "{role} {verb} {kind}");
            }
            let status = format!("{kind}.status");
            assert!(!may(&tenant.cluster, &who, "patch", &status, ns).await, "{role} patches {status}");
            assert!(
                !may(&tenant.cluster, &who, "get", &kind, "default").await,
                "{role} gets {kind} elsewhere"
            );
        }
        let authority = "configmaps/belfry-ca";
        assert!(may(&tenant.cluster, &who, "get", authority, "belfry-system").await, "{role}: the authority");
        assert!(!may(&tenant.cluster, &who, "get", "secrets", "belfry-system").await, "{role}: secrets");
    }
}

/// Prometheus' promtool checks the metrics of hub, operator and a worker, in Prometheus' text format.
#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_no_fault_in_the_metrics() {
    let tenant = e2e::tenant::Tenant::new("t-promtool").await;
    tenant.apply(&crate::support::webhook(&tenant, "hook", "{}")).await;
    tenant.ready("nch/hook").await;
    let Some((testbed, _)) = &tenant.cluster.testbed else { return };
    let promtool =
        run_command(testbed, &["unpack", "prometheus", "usr/bin/promtool"], "").await.expect("promtool");
    let selector_of = |component: &str| format!("app.kubernetes.io/component={component}");
    for (namespace, component, port) in [
        ("belfry-system", "hub", 8081),
        ("belfry-system", "operator", 8081),
        (tenant.ns.as_str(), "send", 9090),
    ] {
        let path = "jsonpath={.items[0].status.podIP}";
        let selector = selector_of(component);
        let address =
            tenant.cluster.kubectl(&["-n", namespace, "get", "pods", "-l", &selector, "-o", path]).await;
        let text = reqwest::get(format!("http://{}:{port}/metrics", address.trim())).await;
        let text = text.expect("an answer").text().await.expect("a text");
        for name in ["belfry_build_info{", "process_resident_memory_bytes ", "process_start_time_seconds "] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{component} has no {name}");
        }
        let said = run_command(promtool.trim(), &["check", "metrics"], &text).await;
        assert_eq!(said.as_deref().map(str::trim), Ok(""), "{component}: {said:?}");
    }
}

/// Collects each name, namespace, class and label of a document, with its path.
fn collect_names(value: &Value, place: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let place = format!("{place}.{name}");
                let is_label = [".labels.", ".matchLabels."].iter().any(|of| place.contains(of));
                let is_name = ["name", "namespace", "storageClassName", "priorityClassName", "claimName"];
                if is_label || is_name.contains(&name.as_str()) {
                    found.push((place.clone(), field.clone()));
                }
                collect_names(field, &place, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_names(item, place, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_yaml_takes_for_something_else_stay_names() {
    let values = "fullnameOverride: \"y\"\nnameOverride: \"no\"\ncommonLabels: {team: \"1\"}\nhub: {priorityClassName: \"1e3\", \
                  persistence: {storageClass: \"123\"}}\noperator: {watchNamespaces: [\"on\"]}\nmetrics: {podMonitor: {enabled: true}}";
    let arguments = ["template", "1", CHART, "-n", "true", "-f", "-"];
    let text = run_command("helm", &arguments, values).await.expect("it renders");
    let mut found = Vec::new();
    for document in serde_saphyr::from_multiple::<Value>(&text).expect("YAML") {
        collect_names(&document["metadata"], "metadata", &mut found);
        if document["kind"] != "CustomResourceDefinition" {
            collect_names(&document, "", &mut found);
        }
    }
    assert!(found.len() > 100, "{}", found.len());
    for (place, name) in found {
        assert!(name.is_string() || name.is_object(), "{place}: {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_who_ask_by_kubeconfig_have_three_rights_at_one_object_each_and_never_without_the_policy() {
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
