//! Schedules that are stored while the operator is down or killed.

use std::time::Duration;

use e2e::sink::Received;
use e2e::tenant::Tenant;
use jiff::{SignedDuration, Timestamp};

use crate::support::{Pipeline, SYSTEM, now};

/// A Schedule of 15 minutes in a room, with a reminder ten minutes before.
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

/// The first whole minute that is at least so many seconds away, and the start of an event whose reminder is due then.
fn due_in(seconds: i64) -> (Timestamp, Timestamp) {
    let due = (now() + SignedDuration::from_secs(seconds + 59)).as_second().div_euclid(60) * 60;
    let due = Timestamp::from_second(due).expect("a time");
    (due, due + SignedDuration::from_mins(10))
}

/// Kills every pod of the operator at once, without a graceful stop.
async fn kill_operator(tenant: &Tenant) {
    let pods = ["-n", SYSTEM, "delete", "pod", "-l", "app.kubernetes.io/component=operator"];
    tenant.cluster.kubectl(&[&pods[..], &["--grace-period=0", "--force"]].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_stored_while_the_operator_is_down_or_killed_are_compared_and_each_reminder_comes_once() {
    let pipeline = Pipeline::new("f-schedules", None).await;
    let tenant = &pipeline.tenant;
    pipeline.scale(SYSTEM, "deploy/belfry-operator", 0).await;
    // While the operator is down, nobody answers the API server, so it stores every Schedule. The only reminder of this one falls due
    // before its CronJob exists.
    let (due, start) = due_in(5);
    tenant.apply(&schedule("passed", "room-2", start)).await;
    tokio::time::sleep(due.duration_since(now()).unsigned_abs() + Duration::from_secs(2)).await;
    let (_, start) = due_in(90);
    tenant.apply(&schedule("older", "room-1", start)).await;
    // Creation times are whole seconds.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    tenant.apply(&schedule("younger", "room-1", start + SignedDuration::from_mins(5))).await;
    pipeline.scale(SYSTEM, "deploy/belfry-operator", 1).await;
    // The operator is killed when it may have done a part of its work.
    kill_operator(tenant).await;
    tenant.ready("sch/older").await;
    tenant.condition("sch/younger", "Conflicting", "True", "Conflicting", 60).await;
    let titles =
        async |count| pipeline.arrived(count, 240).await.iter().map(Received::title).collect::<Vec<_>>();
    let told = titles(2).await;
    let whose = |title: &String| title.split([':', ',']).nth(1).unwrap_or_default().trim().to_owned();
    assert_eq!(told.iter().map(whose).collect::<Vec<_>>(), ["passed", "older"], "{told:?}");
    tenant.cluster.kubectl(&["-n", &tenant.ns, "delete", "sch", "older"]).await;
    tenant.ready("sch/younger").await;
    assert_eq!(titles(2).await.len(), 2, "each reminder once");
    pipeline.tenant.leave().await;
}
