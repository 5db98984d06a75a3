//! Clause D14 of docs/semantics.md.

use domain::{DeliveryState, Millis, Outcome};
use protocol::messages::{ChannelAction, ChannelRequest, Pool};
use uuid::Uuid;

use crate::bed::*;

const WEEK: Millis = Millis::from_secs(7 * 86_400);
const MONTH: Millis = Millis::from_secs(30 * 86_400);

fn ask(action: ChannelAction, request: &str) -> ChannelRequest {
    ChannelRequest { channel: HOOK, request: request.into(), action }
}

async fn ready() -> Bed {
    let bed = Bed::new().await;
    bed.put(vec![hook(), any()]).await;
    bed.open(1).await;
    bed
}

async fn dead(bed: &Bed, now: i64) {
    let tasks = bed.claim(Pool::Send, now).await;
    bed.told(&tasks, &Outcome::Refused { reason: "410".into() }, now).await;
}

#[tokio::test]
async fn what_ended_long_ago_is_pruned_and_the_counters_stay() {
    let bed = ready().await;
    bed.records(0, 1, 0).await;
    let tasks = bed.claim(Pool::Send, 1).await;
    bed.told(&tasks, &Outcome::Delivered, 1).await;
    bed.records(1, 2, 2).await;
    dead(&bed, 3).await;
    bed.records(2, 3, 4).await;
    let prune = async |days: i64| bed.ledger.prune(at(days * 86_400 + 10), WEEK, MONTH).await.unwrap();
    assert_eq!(prune(6).await.notifications, 0);
    assert_eq!(prune(7).await.notifications, 1);
    assert_eq!(prune(29).await.notifications, 0, "one is dead, one still pending");
    assert_eq!(prune(31).await.notifications, 1);
    let left = bed.stories().await;
    assert_eq!((left.len(), left[0].deliveries[0].state), (1, DeliveryState::Pending));
    let counts = bed.ledger.totals().await.unwrap();
    assert_eq!(counts.deliveries[&("Webhook", "delivered")], 1);
    assert_eq!(counts.deliveries[&("Webhook", "dead")], 1);
}

#[tokio::test]
async fn dead_deliveries_are_sent_again_once_per_value_at_the_end_of_their_lanes() {
    let bed = ready().await;
    bed.records(0, 2, 0).await;
    dead(&bed, 1).await;
    dead(&bed, 2).await;
    bed.records(2, 3, 3).await;
    let status = bed.ledger.handle_request(ask(ChannelAction::Resend, "all@1"), at(10)).await.unwrap();
    assert_eq!((status.count, status.result.as_str()), (2, "2 dead deliveries are sent again"));
    let again = bed.ledger.handle_request(ask(ChannelAction::Resend, "all@1"), at(99)).await.unwrap();
    assert_eq!(again, status);
    let mut order = Vec::new();
    for now in 11..14 {
        let tasks = bed.claim(Pool::Send, now).await;
        assert_eq!(tasks.len(), 1);
        order.push((tasks[0].notification.created, tasks[0].attempt));
        bed.told(&tasks, &Outcome::Delivered, now).await;
    }
    assert_eq!(order, [(at(3), 1), (at(0), 2), (at(0), 2)], "attempts go on being numbered");
    let counts = bed.ledger.totals().await.unwrap();
    assert_eq!(counts.deliveries[&("Webhook", "delivered")], 3);
    assert_eq!(counts.deliveries[&("Webhook", "dead")], 0);
    assert_eq!(bed.ledger.prune(at(6 * 86_400), WEEK, MONTH).await.unwrap().notifications, 0);
    assert_eq!(bed.ledger.prune(at(8 * 86_400), WEEK, MONTH).await.unwrap().notifications, 3);
}

#[tokio::test]
async fn a_resent_delivery_has_all_its_attempts_and_its_time_again() {
    let bed = ready().await;
    bed.records(0, 1, 0).await;
    dead(&bed, 1).await;
    let id = bed.stories().await[0].deliveries[0].id.unwrap();
    let status =
        bed.ledger.handle_request(ask(ChannelAction::Resend, &format!("{id}@x")), at(80_000)).await.unwrap();
    assert_eq!(status.count, 1);
    assert_eq!(bed.ledger.expire_deliveries(at(90_000)).await.unwrap(), 0);
    for (pool, now) in [(Pool::Send, 90_000), (Pool::Retry, 91_000), (Pool::Retry, 92_000)] {
        let tasks = bed.claim(pool, now).await;
        assert_eq!(tasks.len(), 1);
        bed.told(&tasks, &later(), now).await;
    }
    let delivery = bed.stories().await.remove(0).deliveries.remove(0);
    assert_eq!((delivery.state, delivery.attempts.len()), (DeliveryState::Dead, 4));
}

#[tokio::test]
async fn a_resend_that_is_not_understood_says_what_is_allowed() {
    let bed = ready().await;
    for (value, expected) in [
        ("everything", "all@<anything>"),
        ("nonsense@1", "<delivery id>@<anything>"),
        ("all@1", "there is no dead delivery"),
        ("00000000-0000-0000-0000-000000000009@1", "not a dead delivery of this channel"),
    ] {
        let status = bed.ledger.handle_request(ask(ChannelAction::Resend, value), at(1)).await.unwrap();
        assert_eq!(status.count, 0);
        assert!(status.result.contains(expected), "{value}: {}", status.result);
    }
}

#[tokio::test]
async fn a_test_is_sent_once_per_value() {
    let bed = ready().await;
    for now in 1..4 {
        let status = bed.ledger.handle_request(ask(ChannelAction::SendTest, "hello"), at(now)).await.unwrap();
        assert_eq!((status.count, status.time), (1, at(1)));
    }
    bed.ledger.handle_request(ask(ChannelAction::SendTest, "again"), at(5)).await.unwrap();
    assert_eq!(bed.stories().await.len(), 2);
    let unknown = ChannelRequest { channel: Uuid::from_u128(9), ..ask(ChannelAction::SendTest, "x") };
    let error = bed.ledger.handle_request(unknown, at(6)).await.unwrap_err();
    assert!(matches!(error, ledger::Error::NotFound(_)), "{error}");
}

#[tokio::test]
async fn a_delivery_under_way_does_not_expire() {
    let bed = ready().await;
    bed.records(0, 1, 0).await;
    let tasks = bed.claim(Pool::Send, 86_390).await;
    assert_eq!(bed.ledger.expire_deliveries(at(86_405)).await.unwrap(), 0);
    bed.told(&tasks, &Outcome::Delivered, 86_406).await;
    assert_eq!(bed.stories().await[0].deliveries[0].state, DeliveryState::Delivered);
}
