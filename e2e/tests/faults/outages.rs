//! What happens while the hub, the receiver, the broker, a worker, the operator or the API server is down.
//!
//! Clauses of docs/semantics.md: D4, D6, D7, S3.

use std::time::Duration;

use e2e::cluster::{Cluster, eventually};
use e2e::kafka::{create_topic, delete_topic, produce, producer};
use e2e::sink::Behaviour;
use e2e::tenant::Tenant;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::support::{OUTAGE, Pipeline, SYSTEM, accepted, assert_once_and_in_order, now, outage};

/// Applies a daily Schedule whose reminder is due at the first whole minute that is at least 30 s away. Returns that minute, Unix ms.
async fn reminder_soon(tenant: &Tenant) -> i64 {
    let due = (now() + SignedDuration::from_secs(30)).as_millisecond().div_euclid(60_000) * 60_000 + 60_000;
    let start = Timestamp::from_millisecond(due).expect("a time") + SignedDuration::from_mins(10);
    let local = start.in_tz("Europe/Berlin").expect("a zone").datetime();
    tenant
        .apply(&format!(
            "apiVersion: belfry.dev/v1alpha1
kind: Schedule
metadata: {{name: daily, namespace: $NS}}
spec:
  title: remember
  timeZone: Europe/Berlin
  start: \"{local}\"
  duration: 15m
  recurrence: {{rrule: FREQ=DAILY}}
  reminders: [{{before: 10m, notify: [{{channelRef: {{name: hook}}}}]}}]
"
        ))
        .await;
    tenant.ready("sch/daily").await;
    due
}

/// How many reminders of that Schedule have arrived.
async fn reminders_received(tenant: &Tenant) -> usize {
    tenant.received("hook").await.iter().filter(|one| one.body.contains("remember")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_down_for_two_minutes_loses_nothing_and_a_reminder_comes_once_and_late() {
    let pipeline = Pipeline::new("f-hub", None).await;
    pipeline.produce(0, 5).await;
    pipeline.assert_all_arrive_once_and_in_order(5, 60).await;
    let due = reminder_soon(&pipeline.tenant).await;
    pipeline.scale(SYSTEM, "deploy/belfry-hub", 0).await;
    pipeline.produce(5, 40).await;
    outage("the hub", OUTAGE).await;
    pipeline.scale(SYSTEM, "deploy/belfry-hub", 1).await;
    let back = now().as_millisecond();
    assert!(due < back, "the reminder was due while the hub was down");
    let all = pipeline.arrived(40 * 3 + 1, 180).await;
    let (reminders, records): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|one| one.body.contains("remember"));
    assert_eq!(reminders.len(), 1, "once");
    assert_once_and_in_order(&records, 40);
    pipeline.tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_down_for_two_minutes_gets_all_in_order_when_it_is_back() {
    let cluster = Cluster::from_env();
    let file = format!("{}/receivers/second.jsonl", cluster.folder);
    // A failed earlier run may have left its sink.
    cluster.bed("exec", &["--", "sh", "-c", "pkill -9 -f '[s]econd.jsonl' || true"]).await;
    let _ = std::fs::remove_file(&file);
    let start = async || {
        let sink = env!("CARGO_BIN_EXE_belfry-sink");
        let flags = ["--listen", "0.0.0.0:8085", "--control", "0.0.0.0:8095", "--file", &file];
        let title = format!("sink-{}", now().as_millisecond());
        let mut args = vec!["--as", &title, "--", sink];
        args.extend(flags);
        cluster.bed("run", &args).await.trim().to_owned()
    };
    let received = async || {
        let answer = reqwest::get(format!("http://{}:8095/received", cluster.node_ip))
            .await
            .map_err(|error| error.to_string())?;
        answer.json::<Vec<e2e::sink::Received>>().await.map_err(|error| error.to_string())
    };
    let first = start().await;
    let url = format!("http://{}:8085/f-receiver", cluster.node_ip);
    let pipeline = Pipeline::new("f-receiver", Some(&url)).await;
    pipeline.produce(0, 3).await;
    eventually("the first records", Duration::from_mins(1), async || {
        let seen = received().await?.len();
        if seen == 9 { Ok(()) } else { Err(format!("{seen}")) }
    })
    .await;
    cluster.bed("exec", &["--", "kill", "-9", &first]).await;
    pipeline.produce(3, 20).await;
    outage("the receiver", OUTAGE).await;
    let pid = start().await;
    let all = eventually("all records", Duration::from_mins(3), async || {
        let all = accepted(received().await?);
        if all.len() >= 60 { Ok(all) } else { Err(format!("{} arrived", all.len())) }
    })
    .await;
    cluster.bed("exec", &["--", "kill", "-9", &pid]).await;
    assert_once_and_in_order(&all, 20);
    pipeline.tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_of_a_killed_worker_go_on_long_before_its_leases_end() {
    let pipeline = Pipeline::new("f-killed", None).await;
    let (cluster, ns) = (&pipeline.tenant.cluster, pipeline.tenant.ns.as_str());
    let patch = r#"{"spec":{"delivery":{"timeout":"3m"}}}"#;
    cluster.kubectl(&["-n", ns, "patch", "nch/hook", "--type=merge", "-p", patch]).await;
    pipeline.tenant.ready("nch/hook").await;
    let hangs = Behaviour { hang_ms: 600_000, ..Behaviour::default() };
    pipeline.tenant.behave("hook", hangs).await;
    pipeline.produce(0, 2).await;
    eventually("three attempts are in hand", Duration::from_mins(1), async || {
        let status =
            pipeline.tenant.get("nch/hook").await.ok_or("not there")?["status"]["deliveries"].clone();
        if status["pending"] == 6 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    pipeline.tenant.behave("hook", Behaviour::default()).await;
    let pods = ["-n", ns, "delete", "pod", "-l", "app.kubernetes.io/component=send"];
    cluster.kubectl(&[&pods[..], &["--force", "--grace-period=0"]].concat()).await;
    // The leases would end only after three minutes and a quarter.
    pipeline.assert_all_arrive_once_and_in_order(2, 90).await;
    pipeline.tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_down_for_two_minutes_shows_at_the_rule_and_everything_catches_up() {
    let pipeline = Pipeline::new("f-broker", None).await;
    pipeline.produce(0, 5).await;
    pipeline.assert_all_arrive_once_and_in_order(5, 60).await;
    pipeline.tenant.cluster.bed("kafka-stop", &[]).await;
    pipeline.tenant.condition("alr/event", "Ready", "False", "BrokerUnreachable", 45).await;
    outage("the broker", OUTAGE.saturating_sub(Duration::from_secs(30))).await;
    pipeline.tenant.cluster.bed("kafka-start", &[]).await;
    pipeline.tenant.ready("alr/event").await;
    pipeline.produce(5, 20).await;
    pipeline.assert_all_arrive_once_and_in_order(20, 120).await;
    pipeline.tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_again_after_the_broker_was_killed_is_read() {
    let pipeline = Pipeline::new("f-again", None).await;
    let (cluster, kafka) = (&pipeline.tenant.cluster, pipeline.tenant.cluster.kafka.clone());
    pipeline.produce(0, 2).await;
    pipeline.assert_all_arrive_once_and_in_order(2, 60).await;
    // Afterwards the leaders of its partitions have a later epoch than those of a new topic.
    cluster.bed("kafka-kill", &[]).await;
    cluster.bed("kafka-start", &[]).await;
    pipeline.tenant.ready("alr/event").await;
    pipeline.produce(2, 4).await;
    pipeline.assert_all_arrive_once_and_in_order(4, 120).await;
    delete_topic(&kafka, &pipeline.topic).await;
    create_topic(&kafka, &pipeline.topic, 3).await;
    let again = producer(&kafka);
    for key in ["a", "b", "c"] {
        let record = json!({"key": key, "n": 4}).to_string();
        produce(&again, &pipeline.topic, Some(key), Some(record.as_bytes()), None).await;
    }
    pipeline.assert_all_arrive_once_and_in_order(5, 90).await;
    pipeline.tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_operator_down_alerts_and_reminders_go_on() {
    let pipeline = Pipeline::new("f-operator", None).await;
    reminder_soon(&pipeline.tenant).await;
    pipeline.scale(SYSTEM, "deploy/belfry-operator", 0).await;
    pipeline.produce(0, 5).await;
    let all = pipeline.arrived(16, 150).await;
    assert_eq!(reminders_received(&pipeline.tenant).await, 1);
    let records: Vec<_> = all.into_iter().filter(|one| !one.body.contains("remember")).collect();
    assert_once_and_in_order(&records, 5);
    pipeline.scale(SYSTEM, "deploy/belfry-operator", 1).await;
    pipeline.tenant.ready("alr/event").await;
    pipeline.tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_api_server_down_alerts_and_retries_go_on() {
    let pipeline = Pipeline::new("f-api", None).await;
    pipeline.produce(0, 2).await;
    pipeline.assert_all_arrive_once_and_in_order(2, 60).await;
    pipeline
        .tenant
        .behave("hook", e2e::sink::Behaviour { status: 503, times: 3, ..Default::default() })
        .await;
    pipeline.tenant.cluster.bed("stop-apiserver", &[]).await;
    pipeline.produce(2, 8).await;
    pipeline.arrived(8 * 3, 90).await;
    pipeline.tenant.cluster.bed("start-apiserver", &[]).await;
    pipeline.assert_all_arrive_once_and_in_order(8, 30).await;
    pipeline.tenant.ready("alr/event").await;
    pipeline.tenant.leave().await;
}
