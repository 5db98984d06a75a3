//! Named scenarios: each is a few reconciles against a mock of API server and hub.

use std::sync::Arc;
use std::time::Duration;

use crds::Schedule;
use domain::{Plan, PlanBody};
use protocol::messages::{
    ChannelStatus, ClockCounts, DeliverySummary, RuleStatus, ScheduleStatus, StatusBody, Undelivered,
};
use serde_json::{Value, json};

use super::support::{Asked, Bed, condition, now as bed_now, object, ready, rule, schedule, slack, written};
use crate::channels::Channels;
use crate::guarded::Guarded;
use crate::queue::Reconciler as _;
use crate::rules::Rules;
use crate::schedules::Schedules;
use crate::validate;

const NS: &str = "payments";

fn paths(asked: &[Asked]) -> Vec<String> {
    asked
        .iter()
        .map(|asked| {
            let short = asked.path.split("/namespaces/payments/").nth(1).unwrap_or(&asked.path);
            format!("{} {short}", asked.method)
        })
        .collect()
}

fn channel_plan(bed: &Bed, name: &str) -> Plan {
    validate::channel(bed.context.channels.get(NS, name).unwrap().0.as_ref().unwrap()).unwrap()
}

fn rule_plan(bed: &Bed, name: &str) -> Plan {
    validate::rule(bed.context.rules.get(NS, name).unwrap().0.as_ref().unwrap()).unwrap()
}

fn delivered() -> StatusBody {
    StatusBody::NotificationChannel(ChannelStatus { delivered: 3, ..ChannelStatus::default() })
}

#[tokio::test]
async fn a_channel_gets_children_a_plan_and_a_status_and_then_nothing_is_written_any_more() {
    let bed = Bed::new().await;
    bed.context.channels.insert(slack("slack", 1));
    let channels = Channels::new(Arc::clone(&bed.context), bed.cluster("test"));

    channels.reconcile(NS.to_owned()).await.unwrap();
    bed.settle();
    let asked = bed.asked();
    assert_eq!(
        paths(&asked),
        [
            "PATCH serviceaccounts/belfry-worker",
            "PATCH deployments/belfry-send",
            "PATCH deployments/belfry-retry",
            "PATCH notificationchannels/slack/status",
        ]
    );
    assert!(asked.iter().all(|asked| asked.query.contains("fieldManager=belfry-test")), "{asked:#?}");
    assert_eq!(ready(&written(&asked, "slack")), "False/WorkerUnavailable");
    assert_eq!(bed.plans().await.len(), 1);

    bed.runs(&channel_plan(&bed, "slack"), &[], delivered());
    channels.reconcile(NS.to_owned()).await.unwrap();
    bed.settle();
    let asked = bed.asked();
    let status = written(&asked, "slack");
    assert_eq!(ready(&status), "True/Ready");
    assert_eq!(status["deliveries"]["delivered"], 3);
    assert_eq!(status["observedGeneration"], 1);
    assert!(condition(&status, "Reconciling").is_null());
    assert_eq!(paths(&asked)[1..], ["POST events"], "one event for one change");

    for _ in 0..3 {
        channels.reconcile(NS.to_owned()).await.unwrap();
    }
    assert_eq!(paths(&bed.asked()), [""; 0], "nothing changed");
    assert_eq!(bed.plans().await.len(), 1, "the plan was sent once");
}

#[tokio::test]
async fn a_cache_that_has_not_heard_of_our_write_leads_to_no_second_one() {
    let bed = Bed::new().await;
    bed.context.channels.insert(slack("slack", 1));
    let channels = Channels::new(Arc::clone(&bed.context), bed.cluster("test"));
    channels.reconcile(NS.to_owned()).await.unwrap();
    let first = bed.asked();
    channels.reconcile(NS.to_owned()).await.unwrap();
    let statuses = |asked: &[Asked]| asked.iter().filter(|asked| asked.path.ends_with("/status")).count();
    assert_eq!((statuses(&first), statuses(&bed.asked())), (1, 0));
}

#[tokio::test]
async fn while_the_hub_is_down_children_are_kept_up_and_the_status_says_why_it_is_not_ready() {
    let bed = Bed::without_hub().await;
    bed.context.channels.insert(slack("slack", 1));
    let channels = Channels::new(Arc::clone(&bed.context), bed.cluster("test"));
    let error = protocol::Error::Answer("nothing".to_owned());
    let begin = tokio::time::Instant::now();
    assert!(!bed.context.hub.failed(&error, begin), "a first start takes a while");
    channels.reconcile(NS.to_owned()).await.unwrap();
    let asked = bed.asked();
    assert!(paths(&asked).contains(&"PATCH deployments/belfry-send".to_owned()));
    assert_eq!(ready(&written(&asked, "slack")), "False/Progressing");
    assert!(bed.context.hub.failed(&error, begin + std::time::Duration::from_secs(11)));
    channels.reconcile(NS.to_owned()).await.unwrap();
    let status = written(&bed.asked(), "slack");
    assert_eq!(ready(&status), "False/HubUnreachable");
    assert_eq!(condition(&status, "Reconciling")["status"], "True");
    assert!(bed.plans().await.is_empty());
}

#[tokio::test]
async fn a_secret_key_that_a_worker_misses_is_named_and_heals() {
    let bed = Bed::new().await;
    bed.context.channels.insert(slack("slack", 1));
    let channels = Channels::new(Arc::clone(&bed.context), bed.cluster("test"));
    channels.reconcile(NS.to_owned()).await.unwrap();
    bed.settle();
    let plan = channel_plan(&bed, "slack");
    let problem = [("SecretKeyNotFound", "key \"slack-url\" of Secret \"payments-notify\" is not there")];
    bed.runs(&plan, &problem, delivered());
    channels.reconcile(NS.to_owned()).await.unwrap();
    bed.settle();
    let status = written(&bed.asked(), "slack");
    assert_eq!(ready(&status), "False/SecretKeyNotFound");
    assert!(condition(&status, "Stalled").is_null(), "it heals by itself");
    bed.runs(&plan, &[], delivered());
    channels.reconcile(NS.to_owned()).await.unwrap();
    assert_eq!(ready(&written(&bed.asked(), "slack")), "True/Ready");
}

#[tokio::test]
async fn a_rule_names_the_channel_that_is_missing_and_heals_when_it_appears() {
    let bed = Bed::new().await;
    bed.context.rules.insert(rule("errors", 2, &json!({})));
    let rules = Rules::new(Arc::clone(&bed.context), bed.cluster("test"));
    rules.reconcile(NS.to_owned()).await.unwrap();
    bed.settle();
    bed.asked();
    let activation = [("service-logs/0".to_owned(), 7)].into();
    let told = RuleStatus { partitions: 1, activation, ..RuleStatus::default() };
    bed.runs(&rule_plan(&bed, "errors"), &[], StatusBody::AlertRule(told));
    rules.reconcile(NS.to_owned()).await.unwrap();
    bed.settle();
    let status = written(&bed.asked(), "errors");
    assert_eq!(ready(&status), "False/ChannelNotFound");
    assert!(condition(&status, "Ready")["message"].as_str().unwrap().contains("slack"));
    bed.context.channels.insert(slack("slack", 1));
    rules.reconcile(NS.to_owned()).await.unwrap();
    assert_eq!(ready(&written(&bed.asked(), "errors")), "True/Ready");
}

#[tokio::test]
async fn a_rule_that_does_not_compile_stalls_and_its_neighbours_go_on() {
    let bed = Bed::new().await;
    bed.context.channels.insert(slack("slack", 1));
    bed.context.rules.insert(rule("broken", 2, &json!({"match": "record.level =="})));
    bed.context.rules.insert(rule("good", 3, &json!({})));
    let unreadable =
        object("unreadable", 4, json!({"source": "not even a map", "poison": "\u{0}".repeat(100)}));
    bed.context.rules.insert(unreadable);
    let rules = Rules::new(Arc::clone(&bed.context), bed.cluster("test"));
    rules.reconcile(NS.to_owned()).await.unwrap();
    bed.settle();
    let asked = bed.asked();
    let status = written(&asked, "broken");
    assert_eq!(ready(&status), "False/InvalidMatch");
    assert_eq!(condition(&status, "Stalled")["status"], "True");
    assert!(condition(&status, "Ready")["message"].as_str().unwrap().contains("line 1"), "{status:#}");
    assert_eq!(ready(&written(&asked, "unreadable")), "False/Unreadable");
    let plans = bed.plans().await;
    assert_eq!(plans.len(), 1);
    assert_eq!(plans[0]["name"], "good");
}

#[tokio::test]
async fn rules_of_one_source_share_a_consumer_as_large_as_the_largest_asks() {
    let bed = Bed::new().await;
    bed.context.rules.insert(rule("a", 2, &json!({"consumers": {"replicas": 3}})));
    bed.context.rules.insert(rule("b", 3, &json!({})));
    let rules = Rules::new(Arc::clone(&bed.context), bed.cluster("test"));
    rules.reconcile(NS.to_owned()).await.unwrap();
    bed.settle();
    let asked = bed.asked();
    let deployments: Vec<&Asked> =
        asked.iter().filter(|asked| asked.path.contains("/deployments/")).collect();
    assert_eq!(deployments.len(), 1);
    assert_eq!(deployments[0].body["spec"]["replicas"], 3);
    assert_eq!(deployments[0].body["metadata"]["ownerReferences"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_source_that_no_rule_reads_any_more_loses_its_consumer_though_other_rules_live() {
    let bed = Bed::new().await;
    let other = json!({"source": {"kafka": {"bootstrapServers": ["other:9092"], "topics": ["t"]}}});
    bed.context.rules.insert(rule("a", 2, &json!({})));
    bed.context.rules.insert(rule("b", 3, &other));
    let rules = Rules::new(Arc::clone(&bed.context), bed.cluster("test"));
    rules.reconcile(NS.to_owned()).await.unwrap();
    bed.settle();
    bed.asked();
    bed.context.rules.insert(rule("b", 3, &json!({})));
    rules.reconcile(NS.to_owned()).await.unwrap();
    let asked = bed.asked();
    let deleted: Vec<&Asked> = asked.iter().filter(|asked| asked.method == "DELETE").collect();
    assert_eq!(deleted.len(), 1, "{deleted:?}");
    assert!(deleted[0].path.contains("deployments/belfry-consume-"), "{deleted:?}");
    assert_eq!(deleted[0].code, 200);
    let conditions = &deleted[0].body["preconditions"];
    assert!(conditions["uid"].is_string() && conditions["resourceVersion"].is_string(), "{deleted:?}");
}

#[tokio::test]
async fn a_child_that_somebody_edited_is_put_right() {
    let bed = Bed::new().await;
    bed.context.channels.insert(slack("slack", 1));
    let channels = Channels::new(Arc::clone(&bed.context), bed.cluster("test"));
    channels.reconcile(NS.to_owned()).await.unwrap();
    bed.settle();
    bed.asked();
    let mut edited = bed.context.deployments.get(NS, "belfry-send").unwrap().as_ref().clone();
    edited.metadata.generation = Some(2);
    bed.context.deployments.insert(edited);
    channels.reconcile(NS.to_owned()).await.unwrap();
    assert!(paths(&bed.asked()).contains(&"PATCH deployments/belfry-send".to_owned()));
}

#[tokio::test]
async fn the_younger_of_two_schedules_that_clash_is_rejected_until_the_older_goes() {
    let bed = Bed::new().await;
    bed.context.channels.insert(slack("slack", 1));
    bed.context.schedules.insert(schedule("older", 5, &json!({})));
    bed.context.schedules.insert(schedule("younger", 6, &json!({"start": "2026-01-05T10:10:00"})));
    let schedules = Schedules::new(Arc::clone(&bed.context), bed.cluster("test"));
    let again = schedules.reconcile(NS.to_owned()).await.unwrap();
    assert!(again.is_some(), "it looks again when a time passes");
    bed.settle();
    let asked = bed.asked();
    let status = written(&asked, "younger");
    assert_eq!(ready(&status), "False/Conflicting");
    assert_eq!(condition(&status, "Stalled")["reason"], "Conflicting");
    assert_eq!(condition(&status, "Conflicting")["status"], "True");
    assert_eq!(status["conflicts"][0]["schedule"], "older");
    assert_eq!(status["conflicts"][0]["shared"], json!(["minji@example.com", "room-3f-a"]));
    assert!(status["nextReminderTime"].is_null());
    let older = written(&asked, "older");
    assert_eq!(ready(&older), "True/Ready");
    assert_eq!(condition(&older, "Conflicting")["status"], "False");
    assert_eq!(older["nextOccurrences"][0]["start"], "2026-11-20T10:00:00+09:00");
    assert_eq!(older["nextReminderTime"], "2026-11-20T09:50:00+09:00");
    let suspended = |asked: &[Asked], uid8: &str| {
        let found = asked.iter().find(|asked| asked.path.contains(&format!("/belfry-remind-{uid8}-")));
        found.unwrap().body["spec"]["suspend"].clone()
    };
    assert_eq!(suspended(&asked, "00000006"), true);
    assert_eq!(suspended(&asked, "00000005"), false);
    let plans = bed.plans().await;
    let sent = plans.iter().find(|plan| plan["name"] == "younger").unwrap();
    assert_eq!(sent["suspended"], true);

    bed.context.schedules.remove(NS, "older");
    schedules.reconcile(NS.to_owned()).await.unwrap();
    let asked = bed.asked();
    assert_eq!(ready(&written(&asked, "younger")), "True/Ready");
    assert_eq!(suspended(&asked, "00000006"), false);
}

#[tokio::test]
async fn a_clash_is_only_said_with_warn_and_not_even_that_with_allow() {
    let bed = Bed::new().await;
    bed.context.channels.insert(slack("slack", 1));
    bed.context.schedules.insert(schedule("older", 5, &json!({})));
    bed.context.schedules.insert(schedule("warned", 6, &json!({"conflictPolicy": "Warn"})));
    bed.context.schedules.insert(schedule("allowed", 7, &json!({"conflictPolicy": "Allow"})));
    let schedules = Schedules::new(Arc::clone(&bed.context), bed.cluster("test"));
    schedules.reconcile(NS.to_owned()).await.unwrap();
    let asked = bed.asked();
    for (name, conflicting) in [("warned", "True"), ("allowed", "False")] {
        let status = written(&asked, name);
        assert_eq!(ready(&status), "True/Ready", "{name}");
        assert_eq!(condition(&status, "Conflicting")["status"], conflicting, "{name}");
    }
    let said = |name: &str| condition(&written(&asked, name), "Ready")["message"].to_string();
    assert!(
        said("warned").contains("reminders will be sent, though the older schedule older needs"),
        "{}",
        said("warned")
    );
    assert_eq!(said("allowed"), "\"reminders will be sent\"");
}

#[tokio::test]
async fn a_schedule_that_only_holds_a_slot_does_not_say_that_it_is_alone_where_an_older_one_has_it() {
    let bed = Bed::new().await;
    let silent = |policy: &str| json!({"conflictPolicy": policy, "reminders": null});
    bed.context.schedules.insert(schedule("standup", 5, &silent("Reject")));
    bed.context.schedules.insert(schedule("warned", 6, &silent("Warn")));
    let schedules = Schedules::new(Arc::clone(&bed.context), bed.cluster("test"));
    schedules.reconcile(NS.to_owned()).await.unwrap();
    let asked = bed.asked();
    let said =
        |name: &str| condition(&written(&asked, name), "Ready")["message"].as_str().unwrap().to_owned();
    assert_eq!(said("standup"), "the slot is held; there is nothing to remind of");
    let warned = said("warned");
    let begins = "the slot is not this schedule's alone: the older schedule standup needs";
    assert!(warned.starts_with(begins) && !warned.contains("is held"), "{warned}");
}

#[tokio::test]
async fn a_schedule_beside_a_channel_whose_childs_name_is_taken_says_that_nobody_can_be_told() {
    let bed = Bed::new().await;
    bed.context.channels.insert(slack("slack", 1));
    bed.context.schedules.insert(schedule("standup", 5, &json!({})));
    bed.put("apps/v1/deployments", json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "belfry-send", "namespace": NS},
    }));
    let channels = Channels::new(Arc::clone(&bed.context), bed.cluster("test"));
    channels.reconcile(NS.to_owned()).await.unwrap();
    bed.settle();
    assert_eq!(ready(&written(&bed.asked(), "slack")), "False/NameTaken");
    let schedules = Schedules::new(Arc::clone(&bed.context), bed.cluster("test"));
    schedules.reconcile(NS.to_owned()).await.unwrap();
    bed.settle();
    let status = written(&bed.asked(), "standup");
    assert_eq!(ready(&status), "False/ChannelNotReady");
    let message = condition(&status, "Ready")["message"].to_string();
    assert!(message.contains("NotificationChannel slack can't send now: NameTaken"), "{message}");
}

#[tokio::test]
async fn a_reminder_that_nobody_got_is_told_of_its_schedule_with_one_warning() {
    let bed = Bed::new().await;
    bed.context.channels.insert(slack("slack", 1));
    bed.context.schedules.insert(schedule("standup", 5, &json!({})));
    let schedules = Schedules::new(Arc::clone(&bed.context), bed.cluster("test"));
    schedules.reconcile(NS.to_owned()).await.unwrap();
    bed.settle();
    bed.asked();
    let held = bed.context.schedules.get(NS, "standup").unwrap();
    let valid = validate::schedule(held.0.as_ref().unwrap()).unwrap();
    let dead = |count| {
        let (channel, reason) = ("slack".to_owned(), "404 no_service".to_owned());
        let state = domain::DeliveryState::Dead;
        let told = DeliverySummary {
            last: None,
            undelivered: vec![Undelivered { channel, count, since: bed_now(), state, reason }],
        };
        StatusBody::Schedule(ScheduleStatus { told, ..ScheduleStatus::default() })
    };
    for (count, warnings) in [(1, 1), (2, 1), (3, 0)] {
        bed.runs(&valid.plan, &[], dead(count));
        schedules.reconcile(NS.to_owned()).await.unwrap();
        bed.settle();
        let asked = bed.asked();
        let status = written(&asked, "standup");
        assert_eq!(condition(&status, "Delivered")["status"], "False");
        assert_eq!(status["undelivered"][0]["count"], count);
        let events = asked.iter().filter(|asked| asked.path.ends_with("/events"));
        let dead: Vec<_> = events.filter(|event| event.body["reason"] == "Dead").collect();
        assert_eq!(dead.len(), warnings, "{count}: {dead:?}");
        assert!(dead.iter().all(|event| event.body["type"] == "Warning"), "{dead:?}");
    }
}

#[tokio::test]
async fn a_schedule_shows_its_last_reminder_and_is_written_again_only_for_news() {
    let bed = Bed::new().await;
    bed.context.channels.insert(slack("slack", 1));
    bed.context.schedules.insert(schedule("standup", 5, &json!({})));
    let schedules = Schedules::new(Arc::clone(&bed.context), bed.cluster("test"));
    schedules.reconcile(NS.to_owned()).await.unwrap();
    bed.settle();
    bed.asked();
    let held = bed.context.schedules.get(NS, "standup").unwrap();
    let valid = validate::schedule(held.0.as_ref().unwrap()).unwrap();
    let told = ScheduleStatus {
        last_reminder: Some("2026-11-19T00:50:00.123Z".parse().unwrap()),
        skipped: 2,
        clock: ClockCounts { skipped: 1, ..ClockCounts::default() },
        ..ScheduleStatus::default()
    };
    bed.runs(&valid.plan, &[], StatusBody::Schedule(told));
    schedules.reconcile(NS.to_owned()).await.unwrap();
    bed.settle();
    let asked = bed.asked();
    assert_eq!(written(&asked, "standup")["lastReminderTime"], "2026-11-19T00:50:00Z");
    assert_eq!(written(&asked, "standup")["clockChanges"], json!({"shifted": 0, "skipped": 1, "doubled": 0}));
    let events = asked.iter().filter(|asked| asked.path.ends_with("/events"));
    let told: Vec<(&Value, &Value)> =
        events.map(|event| (&event.body["reason"], &event.body["note"])).collect();
    let skipped = "2 reminders were missed, and left out by catchUp (2 ever)";
    let clocks = "1 occurrences did not happen: their local time did not exist (1 ever)";
    assert!(told.contains(&(&json!("RemindersSkipped"), &json!(skipped))), "{told:?}");
    assert!(told.contains(&(&json!("ClocksChanged"), &json!(clocks))), "{told:?}");
    schedules.reconcile(NS.to_owned()).await.unwrap();
    assert_eq!(paths(&bed.asked()), [""; 0]);
}

/// One event whose only reminder fell due five minutes ago.
fn five_minutes_ago(changes: &Value) -> Guarded<Schedule> {
    let mut spec = json!({"timeZone": "Etc/UTC", "start": "2026-11-20T00:05:00", "recurrence": null});
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    schedule("once", 5, &spec)
}

/// Reconciles it, with a CronJob made then, until the hub has told how far reminders are recorded; the Jobs after that.
async fn jobs_for(bed: &Bed, made: Option<&str>, through: Option<&str>, wait: Duration) -> Vec<String> {
    let schedules = Schedules::new(Arc::clone(&bed.context), bed.cluster("test"));
    schedules.reconcile(NS.to_owned()).await.unwrap();
    bed.settle();
    let held = bed.context.schedules.get(NS, "once").unwrap();
    let plan = validate::schedule(held.0.as_ref().unwrap()).unwrap().plan;
    if let Some(made) = made {
        let held = bed.context.cron_jobs.get(NS, &crate::children::cron_job_name(&plan, 0)).unwrap();
        let mut held = serde_json::to_value(held.as_ref()).unwrap();
        held["metadata"]["creationTimestamp"] = json!(made);
        bed.context.cron_jobs.insert(serde_json::from_value(held).unwrap());
    }
    assert!(!paths(&bed.asked()).contains(&"POST jobs".to_owned()), "the hub has not said anything yet");
    let through = through.map(|through| through.parse().unwrap());
    bed.runs(&plan, &[], StatusBody::Schedule(ScheduleStatus { through, ..ScheduleStatus::default() }));
    tokio::time::pause();
    tokio::time::advance(wait).await;
    tokio::time::resume();
    let mut jobs = Vec::new();
    for _ in 0..3 {
        schedules.reconcile(NS.to_owned()).await.unwrap();
        let posted = bed.asked().into_iter().filter(|asked| asked.path.ends_with("/jobs"));
        jobs.extend(posted.map(|asked| asked.body["metadata"]["name"].as_str().unwrap().to_owned()));
    }
    jobs
}

#[tokio::test]
async fn a_reminder_that_no_cron_job_could_wake_is_told_by_a_job_once() {
    let (made_late, made_before) = (Some("2026-11-19T23:55:01Z"), Some("2026-11-19T20:00:00Z"));
    let (none, minute) = (Duration::ZERO, Duration::from_secs(61));
    let due_before = Some("2026-11-19T23:55:00Z");
    let window = json!({"catchUp": {"policy": "All", "window": "3m"}});
    let cases = [
        ("no CronJob yet", json!({}), None, None, none, 1),
        ("a CronJob made too late", json!({}), made_late, None, none, 1),
        ("a CronJob that may be at work, and a hub just come back", json!({}), made_before, None, none, 0),
        ("a CronJob that did nothing", json!({}), made_before, None, minute, 1),
        ("recorded", json!({}), None, due_before, minute, 0),
        ("too late to be sent", window, None, None, minute, 0),
        ("suspended", json!({"suspend": true}), None, None, minute, 0),
    ];
    for (case, changes, made, through, wait, count) in cases {
        let bed = Bed::new().await;
        bed.context.schedules.insert(five_minutes_ago(&changes));
        let jobs = jobs_for(&bed, made, through, wait).await;
        assert_eq!(jobs.len(), count, "{case}: {jobs:?}");
        assert!(jobs.iter().all(|name| name == "belfry-remind-00000005-29918875"), "{jobs:?}");
    }
}

#[tokio::test]
async fn a_reminder_that_no_pod_has_told_of_for_minutes_is_said_to_be_overdue() {
    for (waited, expected) in [(120, "True/Ready"), (181, "False/ReminderOverdue")] {
        let bed = Bed::new().await;
        bed.context.channels.insert(slack("slack", 1));
        bed.context.schedules.insert(five_minutes_ago(&json!({})));
        let made = Some("2026-11-19T20:00:00Z");
        let schedules = Schedules::new(Arc::clone(&bed.context), bed.cluster("test"));
        let jobs = jobs_for(&bed, made, None, Duration::from_secs(waited)).await;
        assert_eq!(jobs.len(), 1);
        let object = bed.context.schedules.get(NS, "once").unwrap();
        let mut shown = object.0.as_ref().unwrap().clone();
        shown.status = None;
        bed.context.schedules.insert(serde_json::from_value(serde_json::to_value(shown).unwrap()).unwrap());
        let again = schedules.reconcile(NS.to_owned()).await.unwrap();
        let status = written(&bed.asked(), "once");
        assert_eq!(ready(&status), expected);
        let message = condition(&status, "Ready")["message"].as_str().unwrap().to_owned();
        if waited > 180 {
            assert!(message.contains("the reminder due at 2026-11-19T23:55:00+00:00"), "{message}");
        } else {
            assert!(again.unwrap() <= Duration::from_secs(62), "it looks again");
        }
    }
}

#[tokio::test]
async fn an_annotation_is_handed_to_the_hub_once_for_each_value() {
    let bed = Bed::new().await;
    let mut channel = slack("slack", 1);
    let annotations = [("belfry.dev/send-test".to_owned(), "one".to_owned())];
    channel.0.as_mut().unwrap().metadata.annotations = Some(annotations.into());
    bed.context.channels.insert(channel);
    let channels = Channels::new(Arc::clone(&bed.context), bed.cluster("test"));
    for _ in 0..3 {
        channels.reconcile(NS.to_owned()).await.unwrap();
        bed.settle();
    }
    let requests = bed.hub_server.received_requests().await.unwrap();
    let tests: Vec<_> =
        requests.iter().filter(|request| request.url.path() == protocol::paths::REQUESTS).collect();
    assert_eq!(tests.len(), 1);
    assert!(String::from_utf8_lossy(&tests[0].body).contains("\"one\""));
}

#[tokio::test]
async fn a_suspended_channel_says_so_and_its_plan_too() {
    let bed = Bed::new().await;
    let mut channel = slack("slack", 1);
    channel.0.as_mut().unwrap().spec.suspend = true;
    bed.context.channels.insert(channel);
    let channels = Channels::new(Arc::clone(&bed.context), bed.cluster("test"));
    channels.reconcile(NS.to_owned()).await.unwrap();
    let status = written(&bed.asked(), "slack");
    assert_eq!(ready(&status), "False/Suspended");
    assert!(condition(&status, "Stalled").is_null() && condition(&status, "Reconciling").is_null());
    assert_eq!(bed.plans().await[0]["suspended"], true);
}

#[tokio::test]
async fn a_plan_says_no_more_than_references_of_a_secret() {
    let bed = Bed::new().await;
    bed.context.channels.insert(slack("slack", 1));
    let plan = channel_plan(&bed, "slack");
    let PlanBody::NotificationChannel(channel) = &plan.body else { panic!() };
    assert_eq!(channel.files()[0].path(), "secrets/payments-notify/slack-url");
}
