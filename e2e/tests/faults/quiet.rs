//! What must not happen: a write without a change, something left after everything was deleted, a secret's value in sight, work in a
//! namespace that is not watched.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::cluster::{Cluster, condition, eventually};
use e2e::tenant::Tenant;
use serde_json::{Value, json};

use crate::support::{Pipeline, volume_of};

/// Writes of Belfry's accounts in the API server's audit log, as "verb path", without those of leases and without reviews.
fn writes(cluster: &Cluster) -> Vec<String> {
    let text = std::fs::read_to_string(format!("{}/log/audit.json", cluster.folder)).expect("the audit log");
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| {
            event["user"]["username"]
                .as_str()
                .is_some_and(|user| user.starts_with("system:serviceaccount:belfry-system:"))
        })
        .filter(|event| {
            let resource = event["objectRef"]["resource"].as_str().unwrap_or_default();
            !["leases", "tokenreviews", "subjectaccessreviews"].contains(&resource)
        })
        .map(|event| {
            format!(
                "{} {}",
                event["verb"].as_str().unwrap_or_default(),
                event["requestURI"].as_str().unwrap_or_default()
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_resyncs_without_a_change_write_nothing() {
    let pipeline = Pipeline::new("f-quiet", None).await;
    pipeline.produce(0, 2).await;
    pipeline.assert_all_arrive_once_and_in_order(2, 60).await;
    let cluster = &pipeline.tenant.cluster;
    // Counters are written at most every 30 s, so the writes have ended when there was none for 40 s.
    let mut before = writes(cluster).len();
    eventually("writes end after the last change", Duration::from_mins(4), async || {
        tokio::time::sleep(Duration::from_secs(40)).await;
        let now = writes(cluster).len();
        let quiet = now == before;
        before = now;
        if quiet { Ok(()) } else { Err(format!("{now} writes")) }
    })
    .await;
    // The operator sends the live set every minute, and controllers resync in between.
    tokio::time::sleep(Duration::from_secs(130)).await;
    let after = writes(cluster);
    assert_eq!(after.len(), before, "{:?}", &after[before..]);
    assert!(before > 0, "the audit log is read");
    pipeline.tenant.leave().await;
}

/// The names of all objects in the cluster, except events and leases.
async fn objects(cluster: &Cluster) -> BTreeSet<String> {
    let kinds = cluster.kubectl(&["api-resources", "--verbs=list", "-o", "name"]).await;
    let kinds: Vec<&str> =
        kinds.lines().filter(|kind| !kind.starts_with("events") && !kind.starts_with("leases")).collect();
    let listing = cluster.kubectl(&["get", &kinds.join(","), "-A", "-o", "name", "--ignore-not-found"]).await;
    listing.lines().map(str::to_owned).collect()
}

/// The uids of the objects whose plans the hub has.
async fn ledger_uids(cluster: &Cluster) -> BTreeSet<String> {
    let token = cluster
        .kubectl(&["-n", "belfry-system", "create", "token", "belfry-operator", "--audience", "belfry-hub"])
        .await;
    let (client, hub) = cluster.hub_client().await;
    let request = client.get(format!("{hub}/v1/operator/revisions")).bearer_auth(token.trim());
    let answer: Value =
        request.header("belfry-protocol", "1.0").send().await.expect("the hub").json().await.expect("JSON");
    answer["objects"].as_object().expect("objects").keys().cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_everything_is_deleted_nothing_is_left_in_the_cluster_or_the_ledger() {
    let cluster = Cluster::from_env();
    let _ = cluster.try_kubectl(&["delete", "namespace", "f-remains", "--ignore-not-found"]).await;
    let (objects_before, uids_before) = (objects(&cluster).await, ledger_uids(&cluster).await);
    let pipeline = Pipeline::new("f-remains", None).await;
    pipeline.produce(0, 2).await;
    pipeline.assert_all_arrive_once_and_in_order(2, 60).await;
    assert!(ledger_uids(&cluster).await.difference(&uids_before).count() == 2, "a channel and a rule");
    // Everything is deleted while the hub is down: no deletion may wait for the hub.
    pipeline.scale("belfry-system", "deploy/belfry-hub", 0).await;
    cluster.kubectl(&["-n", "f-remains", "delete", "nch,alr", "--all", "--timeout=20s"]).await;
    cluster.kubectl(&["delete", "namespace", "f-remains", "--timeout=90s"]).await;
    pipeline.scale("belfry-system", "deploy/belfry-hub", 1).await;
    eventually("the listing is as before", Duration::from_mins(2), async || {
        let now = objects(&cluster).await;
        let new: Vec<_> = now
            .difference(&objects_before)
            .filter(|name| !name.starts_with("pod/") && !name.contains("endpointslice"))
            .collect();
        if new.is_empty() { Ok(()) } else { Err(format!("{new:?}")) }
    })
    .await;
    eventually("the ledger forgot them", Duration::from_mins(5), async || {
        let now = ledger_uids(&cluster).await;
        let new: Vec<_> = now.difference(&uids_before).collect();
        if new.is_empty() { Ok(()) } else { Err(format!("{new:?}")) }
    })
    .await;
}

/// A channel and a rule that log in at the broker with the password in Secret `notify`, which is wrong.
fn wrong_kafka_logins() -> String {
    let secured = e2e::kafka::Secured::from_env().expect("the test bed's broker");
    let authority = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kafka-ca", "namespace": "f-canary"},
        "data": {"ca.crt": secured.ca},
    });
    let access = format!(
        "bootstrapServers: [\"{}\"], tls: {{caBundle: {{configMapRef: {{name: kafka-ca, key: ca.crt}}}}}}, sasl: {{mechanism: ScramSha512, username: {}, passwordSecretRef: {{name: notify}}}}",
        secured.sasl, secured.user
    );
    format!(
        "{authority}
---
apiVersion: belfry.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: bus, namespace: $NS}}
spec:
  type: Kafka
  kafka: {{{access}, topic: nowhere}}
  delivery: {{retry: {{maxAttempts: 2, initialDelay: 1s, maxDelay: 1s}}}}
---
apiVersion: belfry.dev/v1alpha1
kind: AlertRule
metadata: {{name: refused, namespace: $NS}}
spec:
  source: {{kafka: {{{access}, topics: [nowhere]}}}}
  match: \"true\"
  condition: {{type: Any}}
  title: x
  notify: [{{channelRef: {{name: bus}}}}]
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secrets_value_is_nowhere_in_sight() {
    const CANARIES: [&str; 3] =
        ["canary-slack-7f3a", "Y2FuYXJ5LXNpZ25pbmctOWIxLW9mLTI0LWJ5dGVzLW9yLW1vcmU=", "canary-password-51cd"];
    let tenant = Tenant::new("f-canary").await;
    let sink = format!("http://sink.{}.svc:8080/{}", tenant.ns, CANARIES[0]);
    tenant
        .apply(&format!(
            "apiVersion: v1
kind: Secret
metadata: {{name: notify, namespace: $NS}}
stringData: {{slack: \"{sink}\", signing: \"whsec_{}\", user: belfry, password: \"{}\"}}
---
apiVersion: belfry.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: slack, namespace: $NS}}
spec:
  type: Slack
  slack: {{webhookUrlSecretRef: {{name: notify, key: slack}}}}
  delivery: {{retry: {{maxAttempts: 2, initialDelay: 1s, maxDelay: 1s}}}}
---
apiVersion: belfry.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: hook, namespace: $NS}}
spec:
  type: Webhook
  webhook: {{url: \"http://sink.$NS.svc:9/nobody\", signingSecretRef: {{name: notify, key: signing}}}}
  delivery: {{retry: {{maxAttempts: 2, initialDelay: 1s, maxDelay: 1s}}}}
---
apiVersion: belfry.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: mail, namespace: $NS}}
spec:
  type: Email
  email: {{host: smtp.$NS.svc, port: 2525, tls: None, allowCleartextLogin: true, usernameSecretRef: {{name: notify, key: user}}, passwordSecretRef: {{name: notify, key: password}}, from: a@example.com, to: [b@example.com]}}
  delivery: {{retry: {{maxAttempts: 2, initialDelay: 1s, maxDelay: 1s}}, timeout: 3s}}
---
{}",
            CANARIES[1],
            CANARIES[2],
            wrong_kafka_logins()
        ))
        .await;
    // Every channel fails, because secrets leak in errors: Slack's receiver answers 500, nobody listens at the webhook's address, and the
    // logins are wrong.
    let failing = json!({ format!("/{}", CANARIES[0]): {"status": 500} });
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let control = format!("http://{}:8090/behaviours", tenant.cluster.node_ip);
    client.put(control).json(&failing).send().await.expect("the sink");
    for channel in ["nch/slack", "nch/hook", "nch/mail", "nch/bus"] {
        tenant.ready(channel).await;
        tenant.cluster.kubectl(&["-n", &tenant.ns, "annotate", channel, "belfry.dev/send-test=1"]).await;
    }
    for channel in ["nch/slack", "nch/hook", "nch/mail", "nch/bus"] {
        eventually(&format!("{channel} gives up"), Duration::from_mins(1), async || {
            let object = tenant.get(channel).await.ok_or("not there")?;
            if object["status"]["deliveries"]["dead"] == 1 {
                Ok(())
            } else {
                Err(object["status"].to_string())
            }
        })
        .await;
    }
    tenant.condition("alr/refused", "Ready", "False", "KafkaAuthenticationFailed", 90).await;
    let cluster = &tenant.cluster;
    let mut seen =
        cluster.kubectl(&["-n", &tenant.ns, "get", "nch,alr,events,pods,deployments", "-o", "yaml"]).await;
    for (ns, selector) in [
        (tenant.ns.as_str(), "app.kubernetes.io/managed-by=belfry"),
        ("belfry-system", "app.kubernetes.io/part-of=belfry"),
    ] {
        seen += &cluster
            .kubectl(&[
                "-n",
                ns,
                "logs",
                "--tail=-1",
                "--all-containers",
                "--max-log-requests=20",
                "-l",
                selector,
            ])
            .await;
        let ips = cluster
            .kubectl(&["-n", ns, "get", "pods", "-l", selector, "-o", "jsonpath={.items[*].status.podIP}"])
            .await;
        for ip in ips.split_whitespace() {
            let port = if ns == "belfry-system" { 8081 } else { 9090 };
            let metrics = client.get(format!("http://{ip}:{port}/metrics")).send().await.expect("metrics");
            seen += &metrics.text().await.expect("text");
        }
    }
    let volume = volume_of(cluster, "belfry-hub").await;
    let ledger = cluster.bed("exec", &["--", "sh", "-c", &format!("cat {volume}/* | strings -n 8")]).await;
    assert!(ledger.contains("f-canary"), "the ledger is read");
    assert!(seen.contains("belfry_"), "metrics are read");
    for canary in CANARIES {
        assert!(!seen.contains(canary), "{canary} is in a log, event, status or metric");
        assert!(!ledger.contains(canary), "{canary} is in the ledger");
    }
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_not_watched_is_left_alone_until_it_is() {
    let (watched, other) = (Tenant::new("f-watched").await, Tenant::new("f-unwatched").await);
    let cluster = &watched.cluster;
    let operator = async |args: &[&str]| {
        let args = [&["-n", "belfry-system"], args].concat();
        cluster.kubectl(&args).await;
        let status = ["-n", "belfry-system", "rollout", "status", "deploy/belfry-operator", "--timeout=60s"];
        cluster.kubectl(&status).await;
    };
    let flag = json!([{
        "op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--watch-namespaces=f-watched",
    }])
    .to_string();
    operator(&["patch", "deploy/belfry-operator", "--type=json", "-p", &flag]).await;
    let channel = "apiVersion: belfry.dev/v1alpha1
kind: NotificationChannel
metadata: {name: hook, namespace: $NS}
spec: {type: Webhook, webhook: {url: \"http://sink.$NS.svc:8080/hook\"}}
";
    other.apply(channel).await;
    watched.apply(channel).await;
    watched.ready("nch/hook").await;
    let seen = other.get("nch/hook").await.expect("it is there");
    assert!(condition(&seen, "Ready").is_none_or(|(status, ..)| status == "Unknown"), "{}", seen["status"]);
    let children = cluster.kubectl(&["-n", &other.ns, "get", "deploy", "-o", "name"]).await;
    assert_eq!(children, "");
    operator(&["rollout", "undo", "deploy/belfry-operator"]).await;
    other.ready("nch/hook").await;
    watched.leave().await;
    other.leave().await;
}
