//! Deleted objects take everything with them; suspended objects stop their work.

use std::time::Duration;

use e2e::cluster::eventually;
use e2e::kafka::{create_topic, produce, producer};
use e2e::tenant::Tenant;
use serde_json::json;

use crate::support::{annotate, any_rule, field, webhook};

/// The names of Belfry's children in the namespace.
async fn children(tenant: &Tenant) -> Vec<String> {
    let text = tenant
        .cluster
        .kubectl(&[
            "-n",
            &tenant.ns,
            "get",
            "deployments,cronjobs,pods,serviceaccounts",
            "-l",
            "app.kubernetes.io/managed-by=belfry",
            "-o",
            "name",
        ])
        .await;
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_objects_take_their_children_with_them() {
    let tenant = Tenant::new("t-leave").await;
    let topic = tenant.topic("events");
    create_topic(&tenant.cluster.kafka, &topic, 1).await;
    let schedule = "apiVersion: belfry.dev/v1alpha1
kind: Schedule
metadata: {name: weekly, namespace: $NS}
spec:
  title: weekly
  timeZone: Europe/Berlin
  start: \"2026-01-05T10:00:00\"
  duration: 15m
  recurrence: {rrule: FREQ=WEEKLY}
  reminders: [{before: 10m, notify: [{channelRef: {name: hook}}]}]
";
    tenant.apply(&(webhook(&tenant, "hook", "{}") + &any_rule("event", &topic, "hook") + schedule)).await;
    for what in ["nch/hook", "alr/event", "sch/weekly"] {
        tenant.ready(what).await;
    }
    let seen = children(&tenant).await;
    for name in [
        "deployment.apps/belfry-send",
        "deployment.apps/belfry-retry",
        "cronjob.batch/belfry-remind-",
        "deployment.apps/belfry-consume-",
    ] {
        assert!(seen.iter().any(|child| child.starts_with(name)), "{name} in {seen:?}");
    }
    tenant.cluster.kubectl(&["-n", &tenant.ns, "delete", "nch,alr,sch", "--all", "--timeout=20s"]).await;
    eventually("no child is left", Duration::from_mins(1), async || {
        let left = children(&tenant).await;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspend_stops_work_and_says_so() {
    let tenant = Tenant::new("t-suspend").await;
    let topic = tenant.topic("events");
    create_topic(&tenant.cluster.kafka, &topic, 1).await;
    tenant
        .apply(
            &(webhook(&tenant, "hook", "{}")
                + &any_rule("event", &topic, "hook")
                + &any_rule("other", &topic, "hook")),
        )
        .await;
    for what in ["nch/hook", "alr/event", "alr/other"] {
        tenant.ready(what).await;
    }
    let suspend = |what: &'static str, value: bool| {
        let patch = json!({"spec": {"suspend": value}}).to_string();
        let (cluster, ns) = (tenant.cluster.clone(), tenant.ns.clone());
        async move { cluster.kubectl(&["-n", &ns, "patch", what, "--type=merge", "-p", &patch]).await }
    };
    suspend("alr/event", true).await;
    eventually("the rule says that it is suspended", Duration::from_secs(30), async || {
        let text = tenant.get("alr/event").await.ok_or("not there")?["status"]["conditions"].to_string();
        if text.contains("Suspended") { Ok(()) } else { Err(text) }
    })
    .await;
    let producer = producer(&tenant.cluster.kafka);
    for kind in ["event", "other"] {
        let record = json!({"kind": kind, "key": "x"}).to_string();
        produce(&producer, &topic, None, Some(record.as_bytes()), None).await;
    }
    let received = tenant.arrived("hook", 1, 30).await;
    assert!(received.len() == 1 && received[0].body.contains("other x"), "{received:?}");

    suspend("nch/hook", true).await;
    eventually("the channel says that it is suspended", Duration::from_secs(30), async || {
        let text = tenant.get("nch/hook").await.ok_or("not there")?["status"]["conditions"].to_string();
        if text.contains("Suspended") { Ok(()) } else { Err(text) }
    })
    .await;
    annotate(&tenant, "nch/hook", "belfry.dev/send-test=held").await;
    field(&tenant, "nch/hook", "/status/deliveries/pending", json!(1)).await;
    assert_eq!(tenant.received("hook").await.len(), 1, "held while suspended");
    suspend("nch/hook", false).await;
    tenant.arrived("hook", 2, 30).await;
    tenant.leave().await;
}
