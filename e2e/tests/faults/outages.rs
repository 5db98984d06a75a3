//! The hub, the receiver, the broker, the operator, the API server and the ledger's disk, gone for a while.

use std::time::{Duration, Instant};

use e2e::cluster::{Cluster, condition, eventually};
use e2e::tenant::Tenant;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::support::{Line, OUTAGE, told_once_and_in_order, volume_of};

const SYSTEM: &str = "belfry-system";

/// An outage lasts as long as it lasts: this is no wait for a condition.
async fn outage(what: &str, length: Duration) {
    println!("{what} is down for {length:?}");
    let start = Instant::now();
    tokio::time::sleep(length).await;
    println!("{what} comes back after {:?}", start.elapsed());
}

#[allow(clippy::disallowed_methods, reason = "a test owns its clock")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// A daily schedule whose reminder is due at the first whole minute that is 30 s or more away; that minute, Unix ms.
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

async fn reminders(tenant: &Tenant) -> usize {
    tenant.received("hook").await.iter().filter(|one| one.body.contains("remember")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_down_for_two_minutes_loses_nothing_and_a_reminder_comes_once_and_late() {
    let line = Line::new("f-hub", None).await;
    line.produce(0, 5).await;
    line.all_told_once_and_in_order(5, 60).await;
    let due = reminder_soon(&line.tenant).await;
    line.scale(SYSTEM, "deploy/belfry-hub", 0).await;
    line.produce(5, 40).await;
    outage("the hub", OUTAGE).await;
    line.scale(SYSTEM, "deploy/belfry-hub", 1).await;
    let back = now().as_millisecond();
    assert!(due < back, "the reminder was due while the hub was down");
    let all = eventually("all records and the reminder are told", Duration::from_mins(3), async || {
        let all = line.tenant.received("hook").await;
        if all.len() > 40 * 3 { Ok(all) } else { Err(format!("{} arrived", all.len())) }
    })
    .await;
    let (reminders, records): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|one| one.body.contains("remember"));
    assert_eq!(reminders.len(), 1, "once");
    told_once_and_in_order(&records, 40);
    line.tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_down_for_two_minutes_gets_all_in_order_when_it_is_back() {
    let cluster = Cluster::from_env();
    let file = format!("{}/receivers/second.jsonl", cluster.folder);
    // What an earlier run that failed may have left.
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
    let line = Line::new("f-receiver", Some(&url)).await;
    line.produce(0, 3).await;
    eventually("the first records", Duration::from_mins(1), async || {
        let seen = received().await?.len();
        if seen == 9 { Ok(()) } else { Err(format!("{seen}")) }
    })
    .await;
    cluster.bed("exec", &["--", "kill", "-9", &first]).await;
    line.produce(3, 20).await;
    outage("the receiver", OUTAGE).await;
    let pid = start().await;
    let all = eventually("all records", Duration::from_mins(3), async || {
        let all = received().await?;
        if all.len() >= 60 { Ok(all) } else { Err(format!("{} arrived", all.len())) }
    })
    .await;
    cluster.bed("exec", &["--", "kill", "-9", &pid]).await;
    told_once_and_in_order(&all, 20);
    line.tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_down_for_two_minutes_is_said_and_all_catches_up() {
    let line = Line::new("f-broker", None).await;
    line.produce(0, 5).await;
    line.all_told_once_and_in_order(5, 60).await;
    line.tenant.cluster.bed("kafka-stop", &[]).await;
    line.tenant.condition("alr/event", "Ready", "False", "BrokerUnreachable", 45).await;
    outage("the broker", OUTAGE.saturating_sub(Duration::from_secs(30))).await;
    line.tenant.cluster.bed("kafka-start", &[]).await;
    line.tenant.ready("alr/event").await;
    line.produce(5, 20).await;
    line.all_told_once_and_in_order(20, 120).await;
    line.tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_operator_down_alerts_and_reminders_go_on() {
    let line = Line::new("f-operator", None).await;
    reminder_soon(&line.tenant).await;
    line.scale(SYSTEM, "deploy/belfry-operator", 0).await;
    line.produce(0, 5).await;
    let all = line.tenant.arrived("hook", 16, 150).await;
    assert_eq!(reminders(&line.tenant).await, 1);
    let records: Vec<_> = all.into_iter().filter(|one| !one.body.contains("remember")).collect();
    told_once_and_in_order(&records, 5);
    line.scale(SYSTEM, "deploy/belfry-operator", 1).await;
    line.tenant.ready("alr/event").await;
    line.tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_api_server_down_alerts_and_retries_go_on() {
    let line = Line::new("f-api", None).await;
    line.produce(0, 2).await;
    line.all_told_once_and_in_order(2, 60).await;
    line.tenant.behave("hook", e2e::sink::Behaviour { status: 503, times: 3, ..Default::default() }).await;
    line.tenant.cluster.bed("stop-apiserver", &[]).await;
    line.produce(2, 8).await;
    line.tenant.arrived("hook", 8 * 3 + 3, 90).await;
    line.tenant.cluster.bed("start-apiserver", &[]).await;
    line.all_told_once_and_in_order(8, 30).await;
    line.tenant.ready("alr/event").await;
    line.tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_lost_its_database_is_whole_again_by_itself() {
    let line = Line::new("f-lost", None).await;
    line.produce(0, 2).await;
    line.all_told_once_and_in_order(2, 60).await;
    line.scale(SYSTEM, "deploy/belfry-hub", 0).await;
    let volume = volume_of(&line.tenant.cluster, "belfry-hub").await;
    line.tenant.cluster.bed("exec", &["--", "sh", "-c", &format!("rm -rf {volume}/*")]).await;
    // Until what was lost is said.
    line.tenant.behave("hook", e2e::sink::Behaviour { status: 503, times: 3, ..Default::default() }).await;
    line.scale(SYSTEM, "deploy/belfry-hub", 1).await;
    line.tenant.ready("nch/hook").await;
    line.tenant.ready("alr/event").await;
    eventually("what was lost is said", Duration::from_mins(1), async || {
        let events = line.tenant.cluster.kubectl(&["-n", "f-lost", "get", "events"]).await;
        if events.contains("LedgerLost") { Ok(()) } else { Err(events) }
    })
    .await;
    // The offsets went with the database: the topic is read again from its start, told again under the same ids.
    line.produce(2, 4).await;
    let all = eventually("the new records are told", Duration::from_mins(2), async || {
        let all = line.tenant.received("hook").await;
        let new = all.iter().filter(|one| one.status == 200 && one.title().ends_with(" 3")).count();
        if new == 3 { Ok(all) } else { Err(format!("{} arrived, {new} of the last", all.len())) }
    })
    .await;
    let ids: std::collections::BTreeSet<_> =
        all.iter().map(|one| one.headers["webhook-id"].clone()).collect();
    assert_eq!(ids.len(), 12, "the same ids for what was told before: {}", json!(ids));
    line.tenant.leave().await;
}

/// Starts the hub anew on the volume of another claim.
async fn hub_on(cluster: &Cluster, claim: &str) {
    let patch = json!([{
        "op": "replace", "path": "/spec/template/spec/volumes/0/persistentVolumeClaim/claimName", "value": claim,
    }]);
    let hub = "deploy/belfry-hub";
    cluster.kubectl(&["-n", SYSTEM, "patch", hub, "--type=json", "-p", &patch.to_string()]).await;
    cluster.kubectl(&["-n", SYSTEM, "rollout", "status", hub, "--timeout=90s"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledgers_disk_full_is_said_and_when_there_is_room_all_goes_on() {
    const CLAIM: &str = "hub-on-a-small-disk";
    let cluster = Cluster::from_env();
    cluster
        .apply(&format!(
            "apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {CLAIM}, namespace: {SYSTEM}}}
spec: {{storageClassName: tiny, accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 16Mi}}}}}}
"
        ))
        .await;
    hub_on(&cluster, CLAIM).await;
    let volume = volume_of(&cluster, CLAIM).await;
    let fill = format!("cat /dev/zero >{volume}/filler; test $(df --output=avail {volume} | tail -1) = 0");
    let free = format!("rm -f {volume}/filler");
    // What an earlier run that failed may have left.
    cluster.bed("exec", &["--", "sh", "-c", &free]).await;
    let line = Line::new("f-disk", None).await;
    line.produce(0, 5).await;
    line.all_told_once_and_in_order(5, 60).await;
    cluster.bed("exec", &["--", "sh", "-c", &fill]).await;
    let full = now();
    line.produce(5, 40).await;
    let since = format!("--since-time={full}");
    for (ns, part) in [(SYSTEM, "hub"), ("f-disk", "consume")] {
        let selector = format!("-lapp.kubernetes.io/component={part}");
        eventually(&format!("the log of {part} says why"), Duration::from_mins(1), async || {
            let log = cluster.try_kubectl(&["-n", ns, "logs", &since, &selector]).await?;
            if log.contains("StorageFull") { Ok(()) } else { Err(log) }
        })
        .await;
    }
    let rule = line.tenant.condition("alr/event", "Ready", "False", "HubUnreachable", 90).await;
    let (_, _, message) = condition(&rule, "Ready").expect("it is there");
    assert!(message.contains("disk is full"), "{message}");
    cluster.bed("exec", &["--", "sh", "-c", &free]).await;
    line.all_told_once_and_in_order(40, 120).await;
    line.tenant.ready("alr/event").await;
    line.tenant.leave().await;
    hub_on(&cluster, "belfry-hub").await;
    cluster.kubectl(&["-n", SYSTEM, "delete", "pvc", CLAIM, "--wait=false"]).await;
}
