//! Killed workers: their attempts end as soon as it is known that they are gone, and are made again.

use domain::Outcome;
use ledger::PresentWorkers;
use protocol::messages::{ClaimRequest, Pool, Task};
use uuid::Uuid;

use crate::bed::*;

const ONE: Uuid = Uuid::from_u128(0x51);
const TWO: Uuid = Uuid::from_u128(0x52);

async fn ready() -> Bed {
    let bed = Bed::new().await;
    bed.put(vec![hook(), any()]).await;
    bed.open(1).await;
    let records = (0..4).map(|offset| matched(offset, &format!("key {offset}"))).collect();
    bed.commit(vec![protocol::messages::Entry { records, ..entry(0, 0, 4) }], 0).await;
    bed
}

async fn claim(
    bed: &Bed,
    pool: Pool,
    instance: &str,
    session: Option<Uuid>,
    max: i32,
    now: i64,
) -> Vec<Task> {
    let request = ClaimRequest { session, ..ClaimRequest::new(pool, instance, max) };
    let handed = bed.ledger.claim(NS, request, at(now)).await.unwrap();
    serde_json::from_str(&serde_json::to_string(&handed.tasks).unwrap()).unwrap()
}

fn there(session: Uuid, instance: &str, others_are_gone: bool) -> PresentWorkers {
    PresentWorkers { sessions: vec![session], instances: vec![instance.into()], others_are_gone }
}

#[tokio::test]
async fn a_process_started_anew_in_the_same_pod_frees_what_the_one_before_had_in_hand() {
    let bed = ready().await;
    let killed = claim(&bed, Pool::Send, "pod", Some(ONE), 2, 0).await;
    let other = claim(&bed, Pool::Send, "other", Some(Uuid::from_u128(3)), 1, 0).await;
    let own = claim(&bed, Pool::Send, "pod", Some(TWO), 1, 2).await;
    assert_eq!((killed.len(), other.len(), own.len()), (2, 1, 1));
    let abandoned = bed
        .ledger
        .end_abandoned_attempts(NS, Pool::Send, there(TWO, "pod", false), at(2), 0.0)
        .await
        .unwrap();
    assert_eq!(abandoned, 2, "those of the killed one and no others");
    let again = bed
        .ledger
        .end_abandoned_attempts(NS, Pool::Send, there(TWO, "pod", false), at(2), 0.0)
        .await
        .unwrap();
    assert_eq!(again, 0);
    let retried = claim(&bed, Pool::Retry, "retry", None, 10, 13).await;
    let mut ids: Vec<Uuid> = retried.iter().map(|task| task.delivery).collect();
    let mut wanted: Vec<Uuid> = killed.iter().map(|task| task.delivery).collect();
    ids.sort();
    wanted.sort();
    assert_eq!(ids, wanted, "long before the leases end, at 25");
    let story = bed.stories().await.remove(0);
    let attempt = &story.deliveries[0].attempts[0];
    assert_eq!(attempt.outcome.as_deref(), Some("Unknown"));
    assert_eq!(attempt.reason, "the worker ended during the attempt");
    // The worker was alive after all: what it delivered counts.
    bed.told(&killed[..1], &Outcome::Delivered, 14).await;
    assert_eq!(bed.stories().await[0].deliveries[0].state, domain::DeliveryState::Delivered);
    // The outcome of a later lease of the same delivery changes nothing.
    bed.told(&retried[..1], &later(), 15).await;
    assert_eq!(bed.stories().await[0].deliveries[0].state, domain::DeliveryState::Delivered);
}

#[tokio::test]
async fn another_pods_attempts_are_given_up_only_when_it_is_taken_for_gone_and_names_its_process() {
    let bed = ready().await;
    claim(&bed, Pool::Send, "old", Some(ONE), 1, 0).await;
    claim(&bed, Pool::Send, "of before", None, 1, 0).await;
    let look = async |pool, gone, now| {
        bed.ledger.end_abandoned_attempts(NS, pool, there(TWO, "new", gone), at(now), 0.0).await.unwrap()
    };
    assert_eq!(look(Pool::Send, false, 1).await, 0, "it has not had its time");
    assert_eq!(look(Pool::Retry, true, 1).await, 0, "the other pool's");
    assert_eq!(look(Pool::Send, true, 2).await, 1);
    assert_eq!(
        bed.ledger.expire_leases(at(25), 0.0).await.unwrap(),
        1,
        "the other waits for its lease's end"
    );
    let other = bed
        .ledger
        .end_abandoned_attempts("other", Pool::Send, there(TWO, "new", true), at(2), 0.0)
        .await
        .unwrap();
    assert_eq!(other, 0);
}
