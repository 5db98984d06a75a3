//! Clauses of docs/semantics.md: P1, P3, P4, D12, S1, S3.

use domain::{
    CatchUp, CatchUpPolicy, DeliveryState, Millis, PlanBody, RecurrenceSpec, ReminderPlan, ReminderTime,
    ScheduleDetails, SchedulePlan, Severity,
};
use ledger::{Error, Signal};
use protocol::messages::{ChannelAction, ChannelRequest, ClockCounts, Pool, ReminderDue, Reminders};
use uuid::Uuid;

use crate::bed::*;

const SCHEDULE: Uuid = Uuid::from_u128(200);

fn schedule() -> domain::Plan {
    let recurrence = RecurrenceSpec {
        start: "2027-01-15T09:00:00".into(),
        time_zone: "Europe/Berlin".into(),
        rule: Some("FREQ=DAILY".into()),
        ..RecurrenceSpec::default()
    };
    let body = SchedulePlan {
        title: "standup".into(),
        about: ScheduleDetails {
            url: Some("https://meet.example.com/x".into()),
            ..ScheduleDetails::default()
        },
        summary: None,
        recurrence,
        reminders: vec![ReminderPlan {
            time: ReminderTime::Before { before_minutes: 10 },
            notify: vec!["hook".into()],
        }],
        time_zones: std::collections::BTreeMap::new(),
        delay_minutes: 0,
        catch_up: CatchUp { policy: CatchUpPolicy::All, window: Millis::from_secs(3_600) },
    };
    plan(SCHEDULE, "standup", PlanBody::Schedule(body))
}

fn due(seconds: i64) -> ReminderDue {
    ReminderDue {
        occurrence: at(seconds + 600),
        end: at(seconds + 2_400),
        time: ReminderTime::Before { before_minutes: 10 },
        due: at(seconds),
        title: "standup in 10 minutes".into(),
        summary: String::new(),
        severity: Severity::Info,
    }
}

fn reminders(plan: &domain::Plan, through: i64, due: Vec<ReminderDue>) -> Reminders {
    Reminders {
        revision: revision(plan),
        through: at(through),
        reminders: due,
        skipped: 1,
        clock: ClockCounts { shifted: 1, ..ClockCounts::default() },
    }
}

#[tokio::test]
async fn an_older_generation_never_replaces_a_newer_one() {
    let bed = Bed::new().await;
    let newer = changed(any(), |rule| rule.title = "newer".into());
    bed.put(vec![newer.clone()]).await;
    bed.put(vec![any()]).await;
    let revisions = bed.ledger.revisions();
    assert_eq!(revisions.objects[&RULE], (newer.revision(), 2));
    assert_eq!(revisions.ledger, Uuid::from_u128(42));
}

#[tokio::test]
async fn a_changed_plan_wakes_those_who_wait_and_an_unchanged_one_does_not() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), any()]).await;
    let mut plans = bed.ledger.watch(&Signal::Plans(NS.into()));
    bed.put(vec![hook(), any()]).await;
    assert!(!plans.has_changed().unwrap());
    let before = bed.ledger.source_plan(NS, &source()).unwrap().revision.clone();
    bed.put(vec![changed(any(), |rule| rule.title = "x".into())]).await;
    plans.changed().await.unwrap();
    assert_ne!(bed.ledger.source_plan(NS, &source()).unwrap().revision, before);
}

#[tokio::test]
async fn everything_is_there_again_after_a_restart() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), three(), schedule()]).await;
    bed.open(1).await;
    let counts = vec![count("pay", 5, 2)];
    bed.commit(vec![until(protocol::messages::Entry { counts, ..entry(0, 0, 2) }, 6)], 7).await;
    let (revisions, plan) = (bed.ledger.revisions().objects, bed.ledger.source_plan(NS, &source()));
    let bed = bed.reopen().await;
    assert_eq!(bed.ledger.revisions().objects, revisions);
    assert_eq!(bed.ledger.source_plan(NS, &source()), plan);
    assert_eq!(bed.ledger.id(), Uuid::from_u128(42));
    let counts = vec![count("pay", 6, 1)];
    let result = bed.commit(vec![until(protocol::messages::Entry { counts, ..entry(0, 2, 3) }, 7)], 8).await;
    assert!(result.entries[0].is_accepted());
    assert_eq!(bed.titles().await, ["three firing 3"]);
}

#[tokio::test]
async fn a_delivery_to_a_channel_that_does_not_exist_waits_and_is_released_in_order() {
    let bed = Bed::new().await;
    bed.put(vec![any()]).await;
    bed.open(1).await;
    bed.records(0, 2, 5).await;
    let waiting = bed.stories().await.remove(0).deliveries.remove(0);
    assert_eq!((waiting.id, waiting.state), (None, DeliveryState::Pending));
    assert_eq!(waiting.reason, "ChannelNotFound");
    assert_eq!(bed.ledger.totals().await.unwrap().waiting, 2);
    bed.put(vec![hook()]).await;
    let first = bed.claim(Pool::Send, 10).await;
    assert_eq!(first.len(), 1);
    assert!(
        matches!(&first[0].notification.cause, domain::Cause::Record { record, .. } if record.offset == 0)
    );
    bed.told(&first, &domain::Outcome::Delivered, 10).await;
    assert_eq!(bed.claim(Pool::Send, 11).await.len(), 1);
}

#[tokio::test]
async fn a_delivery_that_waited_a_day_for_its_channel_expires() {
    let bed = Bed::new().await;
    bed.put(vec![any()]).await;
    bed.open(1).await;
    bed.records(0, 1, 0).await;
    assert_eq!(bed.ledger.expire_deliveries(at(86_399)).await.unwrap(), 0);
    assert_eq!(bed.ledger.expire_deliveries(at(86_400)).await.unwrap(), 1);
    let delivery = bed.stories().await.remove(0).deliveries.remove(0);
    assert_eq!(
        (delivery.state, delivery.reason.as_str()),
        (DeliveryState::Expired, "expired: ChannelNotFound")
    );
}

#[tokio::test]
async fn what_is_absent_stops_at_once_and_is_forgotten_after_the_grace() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), any(), schedule()]).await;
    bed.open(1).await;
    bed.records(0, 2, 0).await;
    bed.ledger.put_live(vec![], at(10)).await.unwrap();
    assert!(bed.ledger.source_plan(NS, &source()).is_none());
    assert!(bed.claim(Pool::Send, 11).await.is_empty());
    assert!(bed.ledger.reminder_state(NS, SCHEDULE).await.unwrap().is_none());
    assert_eq!(bed.collect(129).await, 0);
    assert_eq!(bed.collect(130).await, 3);
    assert_eq!(bed.collect(250).await, 1, "the topic, after a grace of its own");
    for story in bed.stories().await {
        let delivery = &story.deliveries[0];
        assert_eq!(delivery.state, DeliveryState::Suppressed);
        assert!(
            delivery.reason.ends_with("was deleted, so it is not sent any more (Deleted)"),
            "{delivery:?}"
        );
    }
    assert!(bed.ledger.revisions().objects.is_empty());
    let bed = bed.reopen().await;
    assert!(bed.ledger.revisions().objects.is_empty());
    assert!(bed.ledger.feed(0).await.unwrap().objects.is_empty());
}

#[tokio::test]
async fn what_a_deleted_rule_caused_is_not_sent_in_the_grace_nor_when_its_channel_appears_and_ends_as_deleted()
 {
    let bed = Bed::with(|options| in_steps(options, 100, true)).await;
    let other = Uuid::from_u128(101);
    bed.put(vec![any(), rule(other, "other", |_| {})]).await;
    bed.open(1).await;
    bed.records(0, 5, 0).await;
    let record = protocol::messages::Matched { rule: other, ..matched(5, "pay") };
    bed.commit(vec![protocol::messages::Entry { records: vec![record], ..entry(0, 5, 6) }], 6).await;
    bed.ledger.put_live(vec![other], at(10)).await.unwrap();
    for story in &bed.stories().await[..5] {
        let delivery = &story.deliveries[0];
        assert!(delivery.reason.contains("was deleted: it is not sent"), "{delivery:?}");
    }
    // The channel's budget is one message a minute, and held deliveries don't use it.
    let one = domain::RateLimit { per_minute: 1, burst: 1 };
    bed.ledger
        .put_plans(vec![channel(HOOK, "hook", |channel| channel.delivery.rate_limit = Some(one))], at(20))
        .await
        .unwrap();
    bed.ledger.wait_until_decided().await;
    let tasks = bed.claim(Pool::Send, 21).await;
    assert_eq!(tasks.len(), 1, "that of the other rule");
    let domain::Cause::Record { rule, .. } = &tasks[0].notification.cause else { panic!("a record") };
    assert_eq!(*rule, other);
    bed.told(&tasks, &domain::Outcome::Delivered, 21).await;
    for now in [60, 120, 129] {
        assert!(bed.claim(Pool::Send, now).await.is_empty(), "{now}");
    }
    assert_eq!(bed.ledger.collect(at(130)).await.unwrap(), 1);
    assert!(bed.claim(Pool::Send, 250).await.is_empty(), "forgotten, and not ended yet");
    bed.chores(251).await;
    for story in &bed.stories().await[..5] {
        let delivery = &story.deliveries[0];
        let why = "what caused it was deleted, so it is not sent any more (Deleted)";
        assert_eq!((delivery.state, delivery.reason.as_str()), (DeliveryState::Suppressed, why));
    }
    assert!(bed.claim(Pool::Send, 10_000).await.is_empty());
}

#[tokio::test]
async fn a_rule_that_was_only_thought_to_be_gone_or_was_edited_has_everything_sent() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), any()]).await;
    bed.open(1).await;
    bed.records(0, 1, 0).await;
    bed.ledger.put_live(vec![HOOK], at(10)).await.unwrap();
    assert!(bed.claim(Pool::Send, 11).await.is_empty());
    bed.ledger.put_live(vec![HOOK, RULE], at(20)).await.unwrap();
    bed.put(vec![changed(any(), |rule| rule.matches = "record.n > 0".into())]).await;
    assert_eq!(bed.collect(200).await, 0);
    assert_eq!(bed.claim(Pool::Send, 200).await.len(), 1);
}

#[tokio::test]
async fn what_comes_back_within_the_grace_goes_on_where_it_was() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), any()]).await;
    bed.open(1).await;
    bed.records(0, 2, 0).await;
    bed.ledger.put_live(vec![RULE], at(10)).await.unwrap();
    bed.records(2, 3, 12).await;
    assert!(bed.claim(Pool::Send, 12).await.is_empty());
    bed.ledger.put_live(vec![RULE, HOOK], at(60)).await.unwrap();
    assert_eq!(bed.collect(300).await, 0);
    for now in 301..304 {
        let tasks = bed.claim(Pool::Send, now).await;
        assert_eq!(tasks.len(), 1);
        bed.told(&tasks, &domain::Outcome::Delivered, now).await;
    }
}

#[tokio::test]
async fn an_object_made_again_under_its_name_takes_over_and_the_old_one_ends() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), any()]).await;
    bed.open(1).await;
    bed.records(0, 1, 0).await;
    let (new_hook, new_rule) = (Uuid::from_u128(2), Uuid::from_u128(101));
    let again = |plan: domain::Plan, uid| domain::Plan { uid, created: at(5), ..plan };
    bed.put(vec![again(hook(), new_hook), again(any(), new_rule)]).await;
    let plan = bed.ledger.source_plan(NS, &source()).unwrap();
    assert_eq!(plan.rules.keys().collect::<Vec<_>>(), [&new_rule]);
    let record = protocol::messages::Matched { rule: new_rule, ..matched(1, "pay") };
    bed.commit(vec![protocol::messages::Entry { records: vec![record], ..entry(0, 1, 2) }], 6).await;
    bed.ledger.put_live(vec![new_hook, new_rule], at(7)).await.unwrap();
    bed.collect(127).await;
    let tasks = bed.claim(Pool::Send, 128).await;
    assert_eq!(tasks.iter().map(|task| task.channel).collect::<Vec<_>>(), [new_hook]);
    assert_eq!(bed.stories().await[0].deliveries[0].state, DeliveryState::Suppressed);
}

#[tokio::test]
async fn a_reminder_exists_once_however_often_it_is_told() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), schedule()]).await;
    let state = bed.ledger.reminder_state(NS, SCHEDULE).await.unwrap().unwrap();
    assert_eq!(state.through, at(-1_000), "the baseline is its creation");
    for _ in 0..2 {
        let told = reminders(&schedule(), 100, vec![due(50), due(90)]);
        bed.ledger.record_reminders(NS, SCHEDULE, told, at(100)).await.unwrap();
    }
    let told = reminders(&schedule(), 200, vec![due(90), due(150)]);
    bed.ledger.record_reminders(NS, SCHEDULE, told, at(200)).await.unwrap();
    let said = bed.stories().await.remove(0).notification.cause;
    assert!(
        matches!(&said, domain::Cause::Reminder { about, .. } if about.url.as_deref() == Some("https://meet.example.com/x")),
        "{said:?}"
    );
    assert_eq!(bed.stories().await.len(), 3);
    assert_eq!(bed.ledger.reminder_state(NS, SCHEDULE).await.unwrap().unwrap().through, at(200));
}

#[tokio::test]
async fn reminders_found_by_another_revision_are_refused() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), schedule()]).await;
    let mut other = schedule();
    other.suspended = true;
    let told = reminders(&other, 100, vec![due(50)]);
    let error = bed.ledger.record_reminders(NS, SCHEDULE, told, at(100)).await.unwrap_err();
    assert!(matches!(error, Error::Conflict(_)), "{error}");
    let told = reminders(&schedule(), 100, vec![due(50)]);
    let error = bed.ledger.record_reminders("other", SCHEDULE, told, at(100)).await.unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error}");
}

#[tokio::test]
async fn a_resumed_schedule_starts_from_its_resume() {
    let bed = Bed::new().await;
    let (mut suspended, mut resumed) = (schedule(), schedule());
    (suspended.suspended, suspended.generation) = (true, 2);
    resumed.generation = 3;
    bed.put(vec![hook(), suspended]).await;
    bed.ledger.put_plans(vec![resumed], at(500)).await.unwrap();
    let bed = bed.reopen().await;
    assert_eq!(bed.ledger.reminder_state(NS, SCHEDULE).await.unwrap().unwrap().through, at(500));
    let told = reminders(&schedule(), 600, vec![due(450), due(550)]);
    bed.ledger.record_reminders(NS, SCHEDULE, told, at(600)).await.unwrap();
    assert_eq!(bed.stories().await.len(), 1);
}

#[tokio::test]
async fn a_changed_channel_is_used_for_what_is_already_waiting() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), any()]).await;
    bed.open(1).await;
    bed.records(0, 1, 0).await;
    let tasks = bed.claim(Pool::Send, 1).await;
    let mut plan = channel(HOOK, "hook", |channel| channel.delivery.retry.max_attempts = 1);
    plan.generation = 2;
    bed.put(vec![plan]).await;
    bed.told(&tasks, &later(), 2).await;
    assert_eq!(bed.stories().await[0].deliveries[0].state, DeliveryState::Dead);
    let request = ChannelRequest { channel: HOOK, request: "all@1".into(), action: ChannelAction::Resend };
    assert_eq!(bed.ledger.handle_request(request, at(3)).await.unwrap().count, 1);
}
