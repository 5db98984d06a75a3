//! A namespace that was deleted and made again is another one.

use domain::{DeliveryState, Outcome};
use ledger::NamespaceIdentity;
use protocol::messages::{DeadLetterQuery, NotificationQuery, Pool};
use uuid::Uuid;

use crate::bed::*;
use crate::tenants::{commit, counted_is_right, letter};

const NEW_RULE: Uuid = Uuid::from_u128(300);
const NEW_HOOK: Uuid = Uuid::from_u128(301);

fn made(uid: u128, seconds: i64) -> NamespaceIdentity {
    NamespaceIdentity { uid: Uuid::from_u128(uid), created: at(seconds) }
}

/// A rule whose notifications wait for a channel that doesn't exist, and one whose topic has dead letters.
async fn recorded(known: Option<NamespaceIdentity>) -> Bed {
    let bed = Bed::new().await;
    if let Some(known) = known {
        bed.ledger.register_namespace(NS, known, at(0)).await.unwrap();
    }
    let both = rule(RULE, "any", |rule| rule.notify = vec!["hook".into(), "absent".into()]);
    bed.put(vec![hook(), both]).await;
    bed.open(1).await;
    bed.records(0, 700, 10).await;
    let told = bed.claim_up_to(Pool::Send, 11, 3).await;
    bed.told(&told, &Outcome::Delivered, 12).await;
    let letters = (700..1_100).map(|offset| letter(offset, "ours")).collect();
    let letters = protocol::messages::Entry { dead_letters: letters, ..entry(0, 700, 1_100) };
    commit(&bed.ledger, NS, vec![letters], 13).await.unwrap();
    bed
}

async fn letters(bed: &Bed) -> usize {
    let query = DeadLetterQuery { limit: Some(500), after: None };
    bed.ledger.dead_letters(NS, query).await.unwrap().items.len()
}

#[tokio::test]
async fn a_namespace_made_again_has_nothing_of_the_one_before_and_it_is_removed_in_batches() {
    let bed = recorded(Some(made(1, -1_000))).await;
    let old = bed.stories().await.remove(0);
    assert_eq!((bed.stories().await.len(), letters(&bed).await), (700, 400));
    let old_source = bed.ledger.source_plan(NS, &source()).unwrap();
    bed.ledger.register_namespace(NS, made(2, 100), at(101)).await.unwrap();
    // At once, before any batch, and after a restart too.
    let bed = bed.reopen().await;
    assert_eq!((bed.stories().await.len(), letters(&bed).await), (0, 0));
    for id in [old.notification.id, old.deliveries[0].id.unwrap()] {
        assert_eq!(bed.ledger.notification(NS, id).await.unwrap(), None);
    }
    let of_old = NotificationQuery { object: Some(RULE), ..NotificationQuery::default() };
    assert!(bed.ledger.notifications(NS, of_old).await.unwrap().items.is_empty());
    assert!(bed.claim(Pool::Send, 102).await.is_empty());
    assert!(bed.ledger.source_plan(NS, &source()).is_none(), "{old_source:?}");
    // Its channels have the names that the old notifications wait for, and its rule reads the same topic.
    let both = rule(NEW_RULE, "any", |rule| rule.notify = vec!["hook".into(), "absent".into()]);
    bed.put(vec![channel(NEW_HOOK, "hook", |_| {}), channel(HOOK, "absent", |_| {}), both]).await;
    bed.ledger.resume_deciding(at(103)).await.unwrap();
    bed.ledger.wait_until_decided().await;
    assert!(bed.claim(Pool::Send, 104).await.is_empty());
    bed.open(1).await;
    let record = protocol::messages::Matched { rule: NEW_RULE, ..matched(0, "pay") };
    let result =
        bed.commit(vec![protocol::messages::Entry { records: vec![record], ..entry(0, 0, 1) }], 105).await;
    assert!(result.entries[0].is_accepted(), "it reads from where its own source began");
    assert_eq!(bed.stories().await.len(), 1);
    let batches = bed.chores(106).await;
    assert!(batches >= 5, "{batches}");
    assert_eq!(bed.stories().await.len(), 1);
    let tasks = bed.claim(Pool::Send, 107).await;
    bed.told(&tasks, &Outcome::Delivered, 108).await;
    let story = bed.stories().await.remove(0);
    assert!(story.deliveries.iter().all(|it| it.state == DeliveryState::Delivered), "{story:?}");
    // An answer of the cluster that was delayed.
    bed.ledger.register_namespace(NS, made(1, -1_000), at(109)).await.unwrap();
    assert_eq!(bed.stories().await.len(), 1);
    bed.collect(500).await;
    let counts = bed.ledger.totals().await.unwrap();
    assert_eq!((counts.usage.get("pending"), counts.waiting), (None, 0), "{counts:?}");
    counted_is_right(&bed.database()).await;
}

#[tokio::test]
async fn a_namespace_that_is_met_for_the_first_time_has_what_was_recorded_since_it_was_made() {
    for (created, left) in [(-1_000, 700), (10 + 60, 700), (10 + 61, 0)] {
        let bed = recorded(None).await;
        bed.ledger.register_namespace(NS, made(1, created), at(500)).await.unwrap();
        assert_eq!(bed.stories().await.len(), left, "made at {created}");
        assert!(bed.ledger.has_object(RULE), "no object goes");
        bed.chores(501).await;
        counted_is_right(&bed.database()).await;
        assert_eq!(bed.stories().await.len(), left);
    }
    // Created between the two: the later half is its own.
    let bed = recorded(None).await;
    bed.records(1_100, 1_500, 300).await;
    bed.ledger.register_namespace(NS, made(1, 200), at(500)).await.unwrap();
    assert_eq!((bed.stories().await.len(), letters(&bed).await), (400, 0));
    bed.chores(501).await;
    assert_eq!(bed.stories().await.len(), 400);
    counted_is_right(&bed.database()).await;
}

#[tokio::test]
async fn a_namespace_that_is_gone_keeps_its_history_and_one_without_anything_is_forgotten() {
    let bed = recorded(Some(made(1, -1_000))).await;
    bed.ledger.put_live(vec![], at(20)).await.unwrap();
    bed.collect(200).await;
    bed.collect(400).await;
    assert_eq!(bed.stories().await.len(), 700);
    while bed.ledger.prune(at(90 * 86_400), domain::Millis(0), domain::Millis(0)).await.unwrap().more {}
    bed.collect(90 * 86_400).await;
    // Registered as for the first time: there is nothing to forget.
    bed.put(vec![hook(), any()]).await;
    bed.ledger.register_namespace(NS, made(2, 80 * 86_400), at(90 * 86_400)).await.unwrap();
    assert!(bed.ledger.has_object(RULE));
}
