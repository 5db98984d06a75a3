//! A tenant with one rule and one channel, and the steps and checks that fault tests share.

use std::time::{Duration, Instant};

use e2e::cluster::{Cluster, eventually};
use e2e::kafka::{create_topic, produce, producer};
use e2e::sink::Received;
use e2e::tenant::Tenant;
use jiff::Timestamp;
use rdkafka::producer::FutureProducer;
use serde_json::json;

/// The namespace of hub and operator.
pub(crate) const SYSTEM: &str = "belfry-system";
/// How long an outage lasts.
pub(crate) const OUTAGE: Duration = Duration::from_mins(2);

/// A namespace with a topic, a rule `event` that notifies of each record, and a channel `hook` with quick retries.
pub(crate) struct Pipeline {
    pub(crate) tenant: Tenant,
    pub(crate) topic: String,
    pub(crate) producer: FutureProducer,
}

impl Pipeline {
    pub(crate) async fn new(ns: &str, url: Option<&str>) -> Self {
        let tenant = Tenant::new(ns).await;
        // A failed test may have left them scaled to zero.
        for part in ["deploy/belfry-hub", "deploy/belfry-operator"] {
            tenant.cluster.kubectl(&["-n", "belfry-system", "scale", part, "--replicas=1"]).await;
        }
        let topic = tenant.topic("events");
        create_topic(&tenant.cluster.kafka, &topic, 3).await;
        let url = url.map_or_else(|| tenant.url("hook"), str::to_owned);
        tenant
            .apply(&format!(
                "apiVersion: belfry.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: hook, namespace: $NS}}
spec:
  type: Webhook
  webhook: {{url: \"{url}\"}}
  delivery: {{retry: {{maxAttempts: 100, initialDelay: 1s, maxDelay: 5s}}, timeout: 3s}}
---
apiVersion: belfry.dev/v1alpha1
kind: AlertRule
metadata: {{name: event, namespace: $NS}}
spec:
  source:
    kafka: {{bootstrapServers: [\"$KAFKA\"], topics: [\"{topic}\"], format: Json, startFrom: Earliest}}
  match: has(record.key)
  groupBy: {{key: record.key}}
  condition: {{type: Any}}
  severity: info
  title: \"{{{{ group.key }}}} {{{{ record.n }}}}\"
  notify: [{{channelRef: {{name: hook}}}}]
"
            ))
            .await;
        tenant.ready("nch/hook").await;
        tenant.ready("alr/event").await;
        let producer = producer(&tenant.cluster.kafka);
        Self { tenant, topic, producer }
    }

    /// Produces records `from..to` for each of three keys, in order.
    pub(crate) async fn produce(&self, from: i64, to: i64) {
        for n in from..to {
            for key in ["a", "b", "c"] {
                let record = json!({"key": key, "n": n}).to_string();
                produce(&self.producer, &self.topic, Some(key), Some(record.as_bytes()), None).await;
            }
        }
    }

    /// Waits until the notifications of all records `0..to` of each key have arrived, and checks that each came once and in order.
    pub(crate) async fn assert_all_arrive_once_and_in_order(&self, to: i64, within: u64) {
        let count = usize::try_from(to).expect("small") * 3;
        assert_once_and_in_order(&self.arrived(count, within).await, to);
    }

    /// Waits until the receiver of `hook` has accepted `count` notifications, at most `within` seconds. Returns all that it accepted.
    pub(crate) async fn arrived(&self, count: usize, within: u64) -> Vec<Received> {
        eventually(&format!("{count} arrived"), Duration::from_secs(within), async || {
            let arrived = accepted(self.tenant.received("hook").await);
            if arrived.len() >= count { Ok(arrived) } else { Err(format!("{} arrived", arrived.len())) }
        })
        .await
    }

    /// Scales a Deployment and waits until it has so many ready pods; with 0, until no pod is left.
    pub(crate) async fn scale(&self, ns: &str, what: &str, replicas: u32) {
        let cluster = &self.tenant.cluster;
        cluster.kubectl(&["-n", ns, "scale", what, &format!("--replicas={replicas}")]).await;
        eventually(&format!("{what} has {replicas} replicas"), Duration::from_mins(2), async || {
            let object = cluster.get(ns, what).await.ok_or("not there")?;
            let there = object["status"]["replicas"].as_u64().unwrap_or(0);
            let ready = object["status"]["readyReplicas"].as_u64().unwrap_or(0);
            let wanted = u64::from(replicas);
            if there == wanted && ready == wanted { Ok(()) } else { Err(object["status"].to_string()) }
        })
        .await;
        if replicas == 0 {
            let part = what.trim_start_matches("deploy/belfry-");
            let selector = format!("app.kubernetes.io/component={part}");
            eventually(&format!("no pod of {what} is left"), Duration::from_mins(1), async || {
                let pods = cluster.kubectl(&["-n", ns, "get", "pods", "-l", &selector, "-o", "name"]).await;
                if pods.trim().is_empty() { Ok(()) } else { Err(pods) }
            })
            .await;
        }
    }
}

/// The notifications that a receiver accepted, in the order in which they came. One that came again with the same id, because an answer
/// was lost, counts once.
pub(crate) fn accepted(received: Vec<Received>) -> Vec<Received> {
    let mut ids = std::collections::BTreeSet::new();
    let accepted = received.into_iter().filter(|one| one.status == 200);
    accepted.filter(|one| ids.insert(one.headers["webhook-id"].clone())).collect()
}

/// Checks that the accepted notifications have each of `0..to` of each key, once and in order.
pub(crate) fn assert_once_and_in_order(accepted: &[Received], to: i64) {
    let titles: Vec<String> = accepted.iter().map(Received::title).collect();
    for key in ["a", "b", "c"] {
        let seen: Vec<&String> = titles.iter().filter(|title| title.starts_with(key)).collect();
        let expected: Vec<String> = (0..to).map(|n| format!("{key} {n}")).collect();
        assert_eq!(seen, expected.iter().collect::<Vec<_>>());
    }
}

/// The folder on the node that holds the volume of a claim of Belfry's namespace.
pub(crate) async fn volume_of(cluster: &Cluster, claim: &str) -> String {
    let path = format!(
        "jsonpath={{range .items[?(@.spec.claimRef.name=='{claim}')]}}{{.spec.hostPath.path}}{{end}}"
    );
    let volume = cluster.kubectl(&["get", "pv", "-o", &path]).await.trim().to_owned();
    assert!(volume.starts_with('/'), "{volume}");
    volume
}

/// Waits for the length of an outage. This is no wait for a condition.
pub(crate) async fn outage(what: &str, length: Duration) {
    println!("{what} is down for {length:?}");
    let start = Instant::now();
    tokio::time::sleep(length).await;
    println!("{what} comes back after {:?}", start.elapsed());
}

#[allow(clippy::disallowed_methods, reason = "a test owns its clock")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
