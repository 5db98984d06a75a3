//! Schedules: a reminder that a real CronJob starts, and conflicts.

use e2e::tenant::Tenant;
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use crate::support::webhook;

/// A schedule in Asia/Seoul; `start` is local.
fn schedule(name: &str, start: &str, more: &str) -> String {
    format!(
        "apiVersion: belfry.dev/v1alpha1
kind: Schedule
metadata: {{name: {name}, namespace: $NS}}
spec:
  title: {name}
  timeZone: Asia/Seoul
  start: \"{start}\"
  duration: 15m
{more}---
"
    )
}

#[allow(clippy::disallowed_methods, reason = "a test owns its clock")]
fn now() -> Timestamp {
    Timestamp::now()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reminder_comes_once_at_its_minute() {
    let tenant = Tenant::new("t-remind").await;
    // The reminder is due at the first whole minute that is at least 20 s away.
    let due_ms =
        (now() + SignedDuration::from_secs(20)).as_millisecond().div_euclid(60_000) * 60_000 + 60_000;
    let start = Timestamp::from_millisecond(due_ms).expect("a time") + SignedDuration::from_mins(10);
    let local = start.in_tz("Asia/Seoul").expect("a zone").datetime();
    let yesterday = local.checked_sub(1.day()).expect("yesterday");
    let more = "  recurrence: {rrule: FREQ=DAILY}\n  reminders: [{before: 10m, notify: [{channelRef: {name: hook}}]}]\n";
    let manifest = webhook(&tenant, "hook", "{}") + &schedule("standup", &yesterday.to_string(), more);
    tenant.apply(&manifest).await;
    tenant.ready("sch/standup").await;
    let received = tenant.arrived("hook", 1, 150).await;
    assert!(received[0].body.contains("standup"), "{}", received[0].body);
    let late = received[0].time_ms as i64 - due_ms;
    println!("the reminder came {late} ms after it was due");
    assert!(late >= 0, "{late} ms");
    let object = tenant.get("sch/standup").await.expect("the schedule");
    assert_eq!(object["status"]["nextOccurrences"].as_array().map(Vec::len), Some(5), "{object}");
    assert_eq!(tenant.received("hook").await.len(), 1);
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_clash_the_older_keeps_the_slot_and_the_other_says_conflicting_until_it_is_free() {
    let tenant = Tenant::unchecked("t-conflict").await;
    let room = "  resources: [room-1]\n  conflictPolicy: Reject\n";
    tenant
        .apply(&schedule(
            "older",
            "2027-01-04T10:00:00",
            &format!("{room}  recurrence: {{rrule: FREQ=WEEKLY}}\n"),
        ))
        .await;
    tenant.ready("sch/older").await;
    // Creation times are whole seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    tenant.apply(&schedule("younger", "2027-01-18T10:10:00", room)).await;
    let object = tenant.condition("sch/younger", "Conflicting", "True", "", 30).await;
    let text = object["status"].to_string();
    assert!(text.contains("older") && text.contains("room-1"), "{text}");
    tenant.condition("sch/younger", "Stalled", "True", "", 30).await;
    tenant.ready("sch/older").await;
    tenant.cluster.kubectl(&["-n", &tenant.ns, "delete", "sch", "older"]).await;
    tenant.ready("sch/younger").await;
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recurrence_that_never_happens_and_an_unknown_zone_are_reported_in_words() {
    let tenant = Tenant::unchecked("t-never").await;
    let never = schedule(
        "never",
        "2027-02-28T10:00:00",
        "  recurrence: {rrule: FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=31}\n",
    );
    let zone = schedule("zone", "2027-02-28T10:00:00", "").replace("Asia/Seoul", "Asia/Soul");
    tenant.apply(&(never + &zone)).await;
    let object = tenant.condition("sch/never", "Stalled", "True", "", 30).await;
    assert!(object["status"]["conditions"].to_string().contains("never"), "{}", object["status"]);
    let object = tenant.condition("sch/zone", "Stalled", "True", "", 30).await;
    assert!(object["status"]["conditions"].to_string().contains("Asia/Soul"), "{}", object["status"]);
    tenant.leave().await;
}
