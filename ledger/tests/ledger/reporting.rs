use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use domain::{DropReason, Outcome};
use ledger::WorkerView;
use protocol::messages::{
    ChannelAction, ChannelRequest, ChannelStatus, ObjectProblem, ObjectStatus, Pool, RuleStatus, StatusBody,
};
use uuid::Uuid;

use crate::bed::*;

async fn publish(bed: &Bed, now: i64) -> u64 {
    bed.ledger.publish_statuses(Arc::new(WorkerView::default()), at(now)).await.unwrap()
}

async fn status(bed: &Bed, uid: Uuid) -> ObjectStatus {
    let feed = bed.ledger.feed(0).await.unwrap();
    feed.objects.into_iter().find(|object| object.uid == uid).expect("published")
}

async fn channel_status(bed: &Bed) -> ChannelStatus {
    match status(bed, HOOK).await.body {
        StatusBody::NotificationChannel(status) => status,
        other => panic!("{other:?}"),
    }
}

async fn rule_status(bed: &Bed) -> RuleStatus {
    match status(bed, RULE).await.body {
        StatusBody::AlertRule(status) => status,
        other => panic!("{other:?}"),
    }
}

async fn ready(rule: domain::Plan) -> Bed {
    let bed = Bed::new().await;
    bed.put(vec![hook(), rule]).await;
    bed.open(1).await;
    publish(&bed, 0).await;
    bed
}

#[tokio::test]
async fn a_status_is_published_when_it_differs_and_only_then() {
    let bed = ready(any()).await;
    let feed = bed.ledger.feed(0).await.unwrap();
    assert_eq!(feed.objects.len(), 2);
    assert_eq!(publish(&bed, 50).await, 0);
    assert!(bed.ledger.feed(feed.version).await.unwrap().objects.is_empty());
    let bed = bed.reopen().await;
    assert_eq!(publish(&bed, 51).await, 0, "the same after a restart");
    assert_eq!(bed.ledger.feed(feed.version).await.unwrap().version, feed.version);
}

#[tokio::test]
async fn counters_are_published_every_half_minute_and_transitions_at_once() {
    let bed = ready(any()).await;
    bed.records(0, 1, 1).await;
    let tasks = bed.claim(Pool::Send, 1).await;
    publish(&bed, 1).await;
    bed.told(&tasks, &Outcome::Delivered, 2).await;
    publish(&bed, 2).await;
    assert_eq!(channel_status(&bed).await.delivered, 1, "that the receiver takes anything is news");
    bed.records(1, 2, 3).await;
    let tasks = bed.claim(Pool::Send, 3).await;
    bed.told(&tasks, &Outcome::Delivered, 3).await;
    publish(&bed, 4).await;
    assert_eq!(channel_status(&bed).await.delivered, 1, "a counter waits");
    publish(&bed, 40).await;
    let status = channel_status(&bed).await;
    assert_eq!((status.delivered, status.pending, status.last_delivery), (2, 0, Some(at(3))));
    bed.records(2, 3, 41).await;
    let tasks = bed.claim(Pool::Send, 41).await;
    bed.told(&tasks, &later(), 41).await;
    publish(&bed, 42).await;
    let status = channel_status(&bed).await;
    assert_eq!((status.consecutive_failures, status.retrying), (1, 1));
    assert_eq!((status.last_error.as_deref(), status.last_error_time), (Some("503"), Some(at(41))));
    assert_eq!(status.oldest_pending, Some(at(41)));
    let tasks = bed.claim(Pool::Retry, 60).await;
    bed.told(&tasks, &Outcome::Delivered, 60).await;
    publish(&bed, 100).await;
    let status = channel_status(&bed).await;
    assert_eq!((status.consecutive_failures, status.last_error), (0, None));
}

#[tokio::test]
async fn a_rule_tells_what_fires_what_it_matched_and_from_where() {
    let bed = ready(three()).await;
    let counts = vec![count("pay", 5, 3), count("mail", 5, 1)];
    let dropped = vec![
        protocol::messages::Dropped { rule: None, reason: DropReason::Undecodable, count: 2, sample: None },
        protocol::messages::Dropped {
            rule: Some(RULE),
            reason: DropReason::GroupMissing,
            count: 4,
            sample: None,
        },
    ];
    let entry = protocol::messages::Entry { counts, dropped, end: 30, ..entry(0, 0, 10) };
    bed.commit(vec![until(entry, 7)], 8).await;
    publish(&bed, 8).await;
    let status = rule_status(&bed).await;
    assert_eq!((status.firing_count, status.groups, status.matched), (1, 2, 4));
    assert_eq!((status.firing[0].group.clone(), status.firing[0].since), (group("pay"), at(6)));
    assert_eq!(
        (status.dead_lettered, status.unmatched.clone()),
        (2, BTreeMap::from([(DropReason::GroupMissing, 4)]))
    );
    assert_eq!((status.partitions, status.lag), (1, 20));
    assert_eq!(status.activation, BTreeMap::from([("orders/0".into(), 0)]));
    assert_eq!((status.last_match, status.last_alert), (Some(at(5)), Some(at(8))));
}

#[tokio::test]
async fn a_group_that_does_not_hold_long_enough_yet_is_pending() {
    let mut held = three();
    let domain::PlanBody::AlertRule(rule) = &mut held.body else { panic!("a rule") };
    rule.policy.hold = domain::Millis::from_secs(4);
    let bed = ready(held).await;
    bed.commit(
        vec![until(protocol::messages::Entry { counts: vec![count("pay", 5, 3)], ..entry(0, 0, 3) }, 7)],
        8,
    )
    .await;
    publish(&bed, 8).await;
    let status = rule_status(&bed).await;
    assert_eq!((status.firing_count, status.pending_count), (0, 1));
    bed.commit(vec![until(entry(0, 3, 3), 11)], 12).await;
    publish(&bed, 12).await;
    let status = rule_status(&bed).await;
    assert_eq!((status.firing_count, status.pending_count), (1, 0));
}

#[tokio::test]
async fn from_where_a_rule_counts_is_published_at_once() {
    let bed = ready(any()).await;
    bed.commit(vec![entry(0, 0, 0)], 1).await;
    assert_eq!(publish(&bed, 1).await, 1);
    assert_eq!(rule_status(&bed).await.activation, BTreeMap::from([("orders/0".into(), 0)]));
    bed.commit(vec![entry(0, 0, 5)], 2).await;
    assert_eq!(publish(&bed, 2).await, 0, "it is told once");
}

#[tokio::test]
async fn what_workers_say_is_published_at_once() {
    let bed = ready(any()).await;
    let plan = any();
    let problem = ObjectProblem { reason: "TopicNotFound".into(), message: "orders".into() };
    let view = WorkerView {
        running: BTreeMap::from([(RULE, BTreeMap::from([(revision(&plan), 2)]))]),
        problems: BTreeMap::from([(RULE, BTreeSet::from([problem.clone()]))]),
        owned: BTreeMap::new(),
    };
    assert_eq!(bed.ledger.publish_statuses(Arc::new(view.clone()), at(1)).await.unwrap(), 1);
    let told = status(&bed, RULE).await;
    assert_eq!((told.running, told.problems), (2, vec![problem]));
    assert_eq!(bed.ledger.publish_statuses(Arc::new(view), at(2)).await.unwrap(), 0);
    assert_eq!(publish(&bed, 3).await, 1, "and what they no longer say");
}

#[tokio::test]
async fn a_partition_without_an_owner_is_told_of_after_a_minute() {
    let bed = ready(any()).await;
    assert_eq!(publish(&bed, 59).await, 0);
    assert_eq!(publish(&bed, 60).await, 1);
    assert_eq!(rule_status(&bed).await.unowned, ["orders/0"]);
    let owned = BTreeSet::from([(TOPIC.to_owned(), TOPIC_ID.to_owned(), 0)]);
    let view =
        WorkerView { owned: BTreeMap::from([((NS.into(), source()), owned)]), ..WorkerView::default() };
    assert_eq!(bed.ledger.publish_statuses(Arc::new(view), at(61)).await.unwrap(), 1);
    assert!(rule_status(&bed).await.unowned.is_empty());
}

#[tokio::test]
async fn a_test_tells_what_became_of_it() {
    let bed = ready(any()).await;
    let request = ChannelRequest { channel: HOOK, request: "x".into(), action: ChannelAction::SendTest };
    bed.ledger.handle_request(request, at(1)).await.unwrap();
    publish(&bed, 1).await;
    assert_eq!(channel_status(&bed).await.last_test.unwrap().result, "Pending");
    let tasks = bed.claim(Pool::Send, 2).await;
    bed.told(&tasks, &Outcome::Refused { reason: "410 Gone".into() }, 2).await;
    publish(&bed, 2).await;
    assert_eq!(channel_status(&bed).await.last_test.unwrap().result, "Dead: 410 Gone");
}

#[tokio::test]
async fn a_notification_is_found_by_its_id_and_by_its_deliverys_in_its_namespace_only() {
    let bed = ready(any()).await;
    bed.records(0, 2, 1).await;
    let story = bed.stories().await.remove(0);
    let (id, delivery) = (story.notification.id, story.deliveries[0].id.unwrap());
    assert_eq!(bed.ledger.notification(NS, id).await.unwrap().as_ref(), Some(&story));
    assert_eq!(bed.ledger.notification(NS, delivery).await.unwrap().as_ref(), Some(&story));
    assert_eq!(bed.ledger.notification("other", id).await.unwrap(), None);
    let query = |object| protocol::messages::NotificationQuery {
        object: Some(object),
        ..protocol::messages::NotificationQuery::default()
    };
    for (object, count) in [(RULE, 2), (HOOK, 2), (Uuid::from_u128(9), 0)] {
        assert_eq!(bed.ledger.notifications(NS, query(object)).await.unwrap().items.len(), count);
    }
    let dead = protocol::messages::NotificationQuery {
        state: Some(domain::DeliveryState::Dead),
        ..protocol::messages::NotificationQuery::default()
    };
    assert!(bed.ledger.notifications(NS, dead).await.unwrap().items.is_empty());
}

/// What the rule's status says became of its messages: the outcome of the last one, and what nobody got, as (channel,
/// count, since).
async fn became(bed: &Bed) -> (String, Vec<(String, i64, jiff::Timestamp)>) {
    let told = rule_status(bed).await.told;
    let undelivered = told.undelivered.into_iter().map(|it| (it.channel, it.count, it.since)).collect();
    (told.last.map(|last| last.outcome).unwrap_or_default(), undelivered)
}

fn refused() -> Outcome {
    Outcome::Refused { reason: "410 Gone".into() }
}

/// Makes one more alert, of a group of its own, whose attempt has this outcome.
async fn alert(bed: &Bed, offset: i64, outcome: &Outcome, now: i64) {
    let records = vec![matched(offset, &format!("service-{offset}"))];
    let entry = protocol::messages::Entry { records, ..entry(0, offset, offset + 1) };
    bed.commit(vec![entry], now).await;
    let tasks = bed.claim(Pool::Send, now).await;
    bed.told(&tasks, outcome, now).await;
    publish(bed, now).await;
}

#[tokio::test]
async fn an_alert_that_nobody_got_is_told_of_its_rule_at_once_until_a_later_one_arrives() {
    let bed = ready(any()).await;
    assert_eq!(became(&bed).await, (String::new(), vec![]));
    alert(&bed, 0, &refused(), 1).await;
    let id = rule_status(&bed).await.told.last.unwrap().id;
    assert_eq!(id, bed.stories().await[0].notification.id);
    assert_eq!(became(&bed).await, ("Dead: 410 Gone".into(), vec![("hook".into(), 1, at(1))]));
    alert(&bed, 1, &refused(), 2).await;
    assert_eq!(became(&bed).await.1, [("hook".into(), 2, at(1))], "the last of them is shown at once too");
    alert(&bed, 2, &Outcome::Delivered, 3).await;
    assert_eq!(became(&bed).await, ("Delivered".into(), vec![]));
}

#[tokio::test]
async fn what_nobody_got_heals_when_it_is_sent_again_or_removed() {
    let bed = ready(any()).await;
    for offset in 0..2 {
        alert(&bed, offset, &refused(), 1).await;
    }
    let dead = bed.stories().await[0].deliveries[0].id.unwrap();
    let ask = |request: String| ChannelRequest { channel: HOOK, request, action: ChannelAction::Resend };
    bed.ledger.handle_request(ask(format!("{dead}@1")), at(2)).await.unwrap();
    publish(&bed, 2).await;
    assert_eq!(became(&bed).await.1, [("hook".into(), 1, at(1))]);
    let tasks = bed.claim(Pool::Send, 3).await;
    bed.told(&tasks, &Outcome::Delivered, 3).await;
    publish(&bed, 3).await;
    assert_eq!(became(&bed).await.1, [("hook".into(), 1, at(1))], "an earlier one arrived");
    let day = domain::Millis::from_secs(86_400);
    bed.ledger.prune(at(3 * 86_400), day, day).await.unwrap();
    publish(&bed, 3 * 86_400).await;
    assert_eq!(became(&bed).await, (String::new(), vec![]));
}

#[tokio::test]
async fn a_message_that_waited_a_day_for_a_channel_is_told_as_expired_and_forgotten_with_its_rule() {
    let bed = Bed::new().await;
    bed.put(vec![any()]).await;
    bed.open(1).await;
    bed.records(0, 1, 0).await;
    publish(&bed, 0).await;
    assert_eq!(became(&bed).await.0, "Pending: ChannelNotFound");
    bed.ledger.expire_deliveries(at(86_400)).await.unwrap();
    publish(&bed, 86_400).await;
    let told = rule_status(&bed).await.told.undelivered;
    assert_eq!((told[0].state, told[0].channel.as_str()), (domain::DeliveryState::Expired, "hook"));
    bed.put(vec![hook()]).await;
    alert(&bed, 1, &Outcome::Delivered, 86_401).await;
    assert_eq!(became(&bed).await.1, []);
}

#[tokio::test]
async fn one_mailbox_that_refuses_is_told_beside_two_that_do_not_and_no_longer_once_it_is_taken_off() {
    let bed = Bed::new().await;
    let mail = |generation: i64, to: &[&str]| {
        let to = to.iter().map(|to| (*to).to_owned()).collect();
        let mut plan = channel(HOOK, "hook", |channel| {
            let mail = domain::EmailPlan {
                host: "mail".into(),
                port: 25,
                tls: domain::SmtpTls::None,
                username: None,
                password: None,
                from: "belfry@example.com".into(),
                to,
            };
            channel.target = mail.into();
        });
        plan.generation = generation;
        plan
    };
    bed.put(vec![mail(1, &["a@x", "b@x", "c@x"]), any()]).await;
    bed.open(1).await;
    for offset in 0..2 {
        let now = offset + 1;
        bed.records(offset, now, now).await;
        let (no, yes): (Vec<_>, Vec<_>) =
            bed.claim(Pool::Send, now).await.into_iter().partition(|task| task.recipient == "b@x");
        bed.told(&no, &refused(), now).await;
        bed.told(&yes, &Outcome::Delivered, now).await;
    }
    publish(&bed, 3).await;
    assert_eq!(became(&bed).await, ("Dead: 410 Gone".into(), vec![("hook".into(), 2, at(1))]));
    bed.put(vec![mail(2, &["a@x", "c@x"])]).await;
    bed.records(2, 3, 40).await;
    publish(&bed, 40).await;
    assert_eq!(became(&bed).await.1, []);
}

#[tokio::test]
async fn what_a_person_waits_for_is_published_at_once() {
    let bed = ready(any()).await;
    let ask = |action, request: &str| ChannelRequest { channel: HOOK, request: request.into(), action };
    bed.ledger.handle_request(ask(ChannelAction::SendTest, "1"), at(1)).await.unwrap();
    publish(&bed, 1).await;
    let result = |status: ChannelStatus| status.last_test.unwrap().result;
    assert_eq!(result(channel_status(&bed).await), "Pending");
    let tasks = bed.claim(Pool::Send, 1).await;
    bed.told(&tasks, &Outcome::Delivered, 1).await;
    publish(&bed, 1).await;
    assert_eq!(result(channel_status(&bed).await), "Delivered");
    bed.ledger.handle_request(ask(ChannelAction::SendTest, "2"), at(2)).await.unwrap();
    publish(&bed, 2).await;
    let tasks = bed.claim(Pool::Send, 2).await;
    bed.told(&tasks, &Outcome::Delivered, 2).await;
    publish(&bed, 2).await;
    assert_eq!(result(channel_status(&bed).await), "Delivered", "the second too");
    alert(&bed, 0, &refused(), 3).await;
    bed.ledger.handle_request(ask(ChannelAction::Resend, "all@1"), at(4)).await.unwrap();
    publish(&bed, 4).await;
    let tasks = bed.claim(Pool::Send, 4).await;
    bed.told(&tasks, &Outcome::Delivered, 5).await;
    publish(&bed, 5).await;
    let status = channel_status(&bed).await;
    assert_eq!((status.dead, status.delivered, status.consecutive_failures), (0, 3, 0));
    assert_eq!(became(&bed).await.0, "Delivered");
}

#[tokio::test]
async fn a_channel_that_takes_messages_again_is_told_at_once() {
    let bed = ready(any()).await;
    alert(&bed, 0, &later(), 1).await;
    assert_eq!(channel_status(&bed).await.consecutive_failures, 1);
    let tasks = bed.claim(Pool::Retry, 20).await;
    bed.told(&tasks, &Outcome::Delivered, 20).await;
    publish(&bed, 20).await;
    let fails = channel_status(&bed).await.consecutive_failures;
    assert_eq!(fails, 0);
    publish(&bed, 20).await;
}

fn dropped(reason: DropReason, count: i64, detail: &str) -> protocol::messages::Dropped {
    let sample = Some(protocol::messages::DropSample { offset: 1, detail: detail.into() });
    protocol::messages::Dropped { rule: Some(RULE), reason, count, sample }
}

#[tokio::test]
async fn a_rule_whose_match_fails_on_each_record_says_so_at_once_with_a_sample_until_it_is_mended() {
    let bed = ready(three()).await;
    bed.commit(vec![entry(0, 0, 0)], 1).await;
    publish(&bed, 1).await;
    let fails = dropped(DropReason::MatchWrongType, 3, "`>=` does not take int and string");
    let entry_of = |dropped, from, to| protocol::messages::Entry { dropped, ..entry(0, from, to) };
    bed.commit(vec![entry_of(vec![fails.clone()], 0, 3)], 2).await;
    publish(&bed, 2).await;
    let said = rule_status(&bed).await.uncountable.unwrap();
    assert_eq!((said.reason, said.share, said.matched), (DropReason::MatchWrongType, 100, false));
    assert_eq!((said.partition.as_str(), said.offset), ("orders/0", 1));
    assert_eq!(said.detail, "`>=` does not take int and string");
    let mended = changed(three(), |rule| rule.matches = "record.n >= 1".into());
    bed.put(vec![mended]).await;
    publish(&bed, 3).await;
    assert_eq!(rule_status(&bed).await.uncountable, None);
    assert_eq!(rule_status(&bed).await.unmatched[&DropReason::MatchWrongType], 3, "what is counted is kept");
}

#[tokio::test]
async fn a_source_of_undecodable_records_is_published_at_once_and_a_few_failing_ones_are_not() {
    let bed = ready(three()).await;
    let entry_of = |dropped, from, to| protocol::messages::Entry { dropped, ..entry(0, from, to) };
    bed.commit(vec![entry_of(vec![dropped(DropReason::MatchWrongType, 4, "")], 0, 10)], 1).await;
    publish(&bed, 1).await;
    assert_eq!(rule_status(&bed).await.uncountable, None);
    let all = protocol::messages::Dropped { rule: None, ..dropped(DropReason::Undecodable, 990, "") };
    bed.commit(vec![entry_of(vec![all], 10, 1_000)], 2).await;
    publish(&bed, 2).await;
    let said = rule_status(&bed).await.uncountable.unwrap();
    assert_eq!((said.reason, said.share), (DropReason::Undecodable, 90));
    let tombs = protocol::messages::Dropped { rule: None, ..dropped(DropReason::Tombstone, 5_000, "") };
    bed.commit(vec![entry_of(vec![tombs], 1_000, 6_000)], 3).await;
    publish(&bed, 3).await;
    assert!(rule_status(&bed).await.uncountable.is_some(), "tombstones say nothing");
    bed.commit(vec![entry(0, 6_000, 9_000)], 4).await;
    publish(&bed, 4).await;
    assert_eq!(rule_status(&bed).await.uncountable, None, "healed at once");
}

#[tokio::test]
async fn a_rule_all_of_whose_matches_lack_their_group_can_not_count_though_most_records_do_not_match() {
    let bed = ready(three()).await;
    let entry_of = |dropped, from, to| protocol::messages::Entry { dropped, ..entry(0, from, to) };
    bed.commit(vec![entry_of(vec![dropped(DropReason::GroupMissing, 3, "")], 0, 5_000)], 1).await;
    publish(&bed, 1).await;
    let said = rule_status(&bed).await.uncountable.unwrap();
    assert_eq!((said.reason, said.share, said.matched), (DropReason::GroupMissing, 100, true));
}
