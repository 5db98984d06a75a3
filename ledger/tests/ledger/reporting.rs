use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use domain::Outcome;
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
    let before = bed.ledger.feed(0).await.unwrap().version;
    bed.told(&tasks, &Outcome::Delivered, 2).await;
    publish(&bed, 3).await;
    assert_eq!(bed.ledger.feed(before).await.unwrap().objects.len(), 0, "a counter waits");
    publish(&bed, 40).await;
    let status = channel_status(&bed).await;
    assert_eq!((status.delivered, status.pending, status.last_delivery), (1, 0, Some(at(2))));
    bed.records(1, 2, 41).await;
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
        protocol::messages::Dropped { rule: None, reason: "Undecodable".into(), count: 2 },
        protocol::messages::Dropped { rule: Some(RULE), reason: "GroupMissing".into(), count: 4 },
    ];
    let entry = protocol::messages::Entry { counts, dropped, end: 30, ..entry(0, 0, 10) };
    bed.commit(vec![until(entry, 7)], 8).await;
    publish(&bed, 8).await;
    let status = rule_status(&bed).await;
    assert_eq!((status.firing_count, status.groups, status.matched), (1, 2, 4));
    assert_eq!((status.firing[0].group.clone(), status.firing[0].since), (group("pay"), at(6)));
    assert_eq!(
        (status.dead_lettered, status.unmatched.clone()),
        (2, BTreeMap::from([("GroupMissing".into(), 4)]))
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
    bed.ledger.request(request, at(1)).await.unwrap();
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
