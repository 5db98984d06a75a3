//! Schedules that are stored while the operator is killed.

use std::time::Duration;

use e2e::tenant::Tenant;
use jiff::{SignedDuration, Timestamp};

use crate::support::{Line, SYSTEM, now};

fn schedule(name: &str, start: Timestamp) -> String {
    format!(
        "apiVersion: belfry.dev/v1alpha1
kind: Schedule
metadata: {{name: {name}, namespace: $NS}}
spec:
  title: {name}
  timeZone: Etc/UTC
  start: \"{}\"
  duration: 15m
  resources: [room-1]
  conflictPolicy: Reject
  reminders: [{{before: 10m, notify: [{{channelRef: {{name: hook}}}}]}}]
",
        start.strftime("%Y-%m-%dT%H:%M:%S")
    )
}

/// Kills every operator's pod at once, without a farewell.
async fn kill(tenant: &Tenant) {
    let pods = ["-n", SYSTEM, "delete", "pod", "-l", "app.kubernetes.io/component=operator"];
    tenant.cluster.kubectl(&[&pods[..], &["--grace-period=0", "--force"]].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_just_before_the_operator_is_killed_is_told_apart_and_reminded_of_by_the_next_one() {
    let line = Line::new("f-schedules", None).await;
    let tenant = &line.tenant;
    // The first whole minute that is at least 90 s away is when the reminder is due.
    let due = (now() + SignedDuration::from_secs(90)).as_second().div_euclid(60) * 60 + 60;
    let start = Timestamp::from_second(due).expect("a time") + SignedDuration::from_mins(10);
    line.scale(SYSTEM, "deploy/belfry-operator", 0).await;
    // Nobody answers the API server: both are taken.
    tenant.apply(&schedule("older", start)).await;
    // Creation times have a grain of one second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    tenant.apply(&schedule("younger", start + SignedDuration::from_mins(5))).await;
    line.scale(SYSTEM, "deploy/belfry-operator", 1).await;
    // Killed while it may have done some of it.
    kill(tenant).await;
    tenant.ready("sch/older").await;
    tenant.condition("sch/younger", "Conflicting", "True", "Conflicting", 60).await;
    let received = tenant.arrived("hook", 1, 240).await;
    assert_eq!(received[0].title(), "older");
    tenant.cluster.kubectl(&["-n", &tenant.ns, "delete", "sch", "older"]).await;
    tenant.ready("sch/younger").await;
    assert_eq!(tenant.received("hook").await.len(), 1, "each reminder once");
    line.tenant.leave().await;
}
