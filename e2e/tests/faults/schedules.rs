//! Schedules that are stored while the operator is down, or killed.

use std::time::Duration;

use e2e::sink::Received;
use e2e::tenant::Tenant;
use jiff::{SignedDuration, Timestamp};

use crate::support::{Line, SYSTEM, now};

/// A quarter of an hour in a room, told of ten minutes before.
fn schedule(name: &str, room: &str, start: Timestamp) -> String {
    format!(
        "apiVersion: belfry.dev/v1alpha1
kind: Schedule
metadata: {{name: {name}, namespace: $NS}}
spec:
  title: {name}
  timeZone: Etc/UTC
  start: \"{}\"
  duration: 15m
  resources: [{room}]
  conflictPolicy: Reject
  reminders: [{{before: 10m, notify: [{{channelRef: {{name: hook}}}}]}}]
",
        start.strftime("%Y-%m-%dT%H:%M:%S")
    )
}

/// The first whole minute at least so many seconds away, and what starts ten minutes later.
fn due_in(seconds: i64) -> (Timestamp, Timestamp) {
    let due = (now() + SignedDuration::from_secs(seconds + 59)).as_second().div_euclid(60) * 60;
    let due = Timestamp::from_second(due).expect("a time");
    (due, due + SignedDuration::from_mins(10))
}

/// Kills every operator's pod at once, without a farewell.
async fn kill(tenant: &Tenant) {
    let pods = ["-n", SYSTEM, "delete", "pod", "-l", "app.kubernetes.io/component=operator"];
    tenant.cluster.kubectl(&[&pods[..], &["--grace-period=0", "--force"]].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_while_the_operator_is_down_or_killed_is_told_apart_and_reminded_of_once() {
    let line = Line::new("f-schedules", None).await;
    let tenant = &line.tenant;
    line.scale(SYSTEM, "deploy/belfry-operator", 0).await;
    // Nobody answers the API server: all are taken. This one's only reminder falls due before any CronJob of it exists.
    let (due, start) = due_in(5);
    tenant.apply(&schedule("passed", "room-2", start)).await;
    tokio::time::sleep(due.duration_since(now()).unsigned_abs() + Duration::from_secs(2)).await;
    let (_, start) = due_in(90);
    tenant.apply(&schedule("older", "room-1", start)).await;
    // Creation times have a grain of one second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    tenant.apply(&schedule("younger", "room-1", start + SignedDuration::from_mins(5))).await;
    line.scale(SYSTEM, "deploy/belfry-operator", 1).await;
    // Killed while it may have done some of it.
    kill(tenant).await;
    tenant.ready("sch/older").await;
    tenant.condition("sch/younger", "Conflicting", "True", "Conflicting", 60).await;
    let titles = async |count| line.told(count, 240).await.iter().map(Received::title).collect::<Vec<_>>();
    let told = titles(2).await;
    let whose = |title: &String| title.split([':', ',']).nth(1).unwrap_or_default().trim().to_owned();
    assert_eq!(told.iter().map(whose).collect::<Vec<_>>(), ["passed", "older"], "{told:?}");
    tenant.cluster.kubectl(&["-n", &tenant.ns, "delete", "sch", "older"]).await;
    tenant.ready("sch/younger").await;
    assert_eq!(titles(2).await.len(), 2, "each reminder once");
    line.tenant.leave().await;
}
