//! What is too much for one command continues in later ones, namespaces in turn, and after a restart.

use domain::{DeliveryState, Outcome};
use protocol::messages::{ChannelAction, ChannelRequest, Entry, Pool};
use sqlx::query_scalar;
use uuid::Uuid;

use crate::bed::*;
use crate::tenants::{OTHER, commit, counted_is_right, of};

const MANY: i64 = 1_000;

async fn count(bed: &Bed, sql: &'static str) -> i64 {
    query_scalar(sql).fetch_one(&mut raw(&bed.database()).await).await.unwrap()
}

const PENDING: &str = "SELECT count(*) FROM deliveries WHERE state = 0 AND c IS NOT NULL";

async fn dead(count: i64) -> Bed {
    let bed = Bed::new().await;
    bed.put(vec![hook(), any()]).await;
    bed.open(1).await;
    let records = (0..count).map(|offset| matched(offset, &format!("service{offset}"))).collect();
    bed.commit(vec![Entry { records, ..entry(0, 0, count) }], 0).await;
    loop {
        let tasks = bed.claim(Pool::Send, 1).await;
        if tasks.is_empty() {
            return bed;
        }
        bed.told(&tasks, &Outcome::Refused { reason: "410".into() }, 1).await;
    }
}

#[tokio::test]
async fn all_dead_deliveries_are_sent_again_in_batches_and_the_answer_says_how_many() {
    let bed = dead(MANY).await;
    let request = ChannelRequest { channel: HOOK, request: "all@1".into(), action: ChannelAction::Resend };
    let status = bed.ledger.handle_request(request.clone(), at(2)).await.unwrap();
    assert_eq!((status.count, status.result.as_str()), (MANY, "1000 dead deliveries are sent again"));
    let first = count(&bed, PENDING).await;
    assert!((1..MANY / 2).contains(&first), "{first}");
    // Deliveries that become dead meanwhile are not included.
    let tasks = bed.claim_up_to(Pool::Send, 3, 10).await;
    bed.told(&tasks, &Outcome::Refused { reason: "410".into() }, 3).await;
    let bed = bed.reopen().await;
    bed.chores(4).await;
    assert_eq!(count(&bed, PENDING).await, MANY - 10);
    let stands = bed.ledger.totals().await.unwrap().deliveries;
    assert_eq!((stands[&("Webhook", "pending")], stands[&("Webhook", "dead")]), (MANY - 10, 10));
    assert_eq!(bed.ledger.handle_request(request, at(5)).await.unwrap(), status, "once");
    assert_eq!(count(&bed, PENDING).await, MANY - 10);
    counted_is_right(&bed.database()).await;
}

#[tokio::test]
async fn what_is_pending_for_a_channel_or_of_a_rule_that_is_gone_ends_in_batches() {
    for left in [vec![RULE], vec![HOOK]] {
        let bed = Bed::new().await;
        bed.put(vec![hook(), any()]).await;
        bed.open(1).await;
        bed.records(0, MANY, 0).await;
        bed.ledger.put_live(left, at(1)).await.unwrap();
        assert_eq!(bed.ledger.collect(at(200)).await.unwrap(), 1);
        assert_eq!(count(&bed, PENDING).await, MANY, "left to batches");
        let bed = bed.reopen().await;
        assert!(bed.chores(201).await >= 4);
        assert_eq!(count(&bed, PENDING).await, 0);
        let stories = bed.stories().await;
        assert_eq!(stories.len() as i64, MANY);
        assert!(stories.iter().all(|story| {
            let delivery = &story.deliveries[0];
            delivery.state == DeliveryState::Suppressed
                && delivery.reason.ends_with(" was deleted, so it is not sent any more (Deleted)")
        }));
        counted_is_right(&bed.database()).await;
    }
}

#[tokio::test]
async fn only_the_newest_handled_values_of_an_annotation_are_remembered() {
    let bed = Bed::new().await;
    bed.put(vec![hook()]).await;
    for n in 0..250 {
        let request =
            ChannelRequest { channel: HOOK, request: format!("all@{n}"), action: ChannelAction::Resend };
        bed.ledger.handle_request(request, at(n)).await.unwrap();
    }
    let mut kept: Vec<String> = sqlx::query_scalar("SELECT request FROM requests ORDER BY at")
        .fetch_all(&mut raw(&bed.database()).await)
        .await
        .unwrap();
    assert_eq!((kept.len(), kept.remove(0)), (200, "all@50".to_owned()));
}

#[tokio::test]
async fn namespaces_take_turns() {
    let bed = Bed::new().await;
    let (rule, channel) = (Uuid::from_u128(200), Uuid::from_u128(201));
    bed.put(vec![hook(), any(), of(OTHER, channel, hook()), of(OTHER, rule, any())]).await;
    bed.open(1).await;
    let ends = protocol::messages::TopicEnds {
        topic: TOPIC.into(),
        topic_id: TOPIC_ID.into(),
        partitions: vec![(0, 0)],
    };
    let request = protocol::messages::PositionsRequest { topics: vec![ends] };
    bed.ledger.positions(OTHER, &source(), request).await.unwrap();
    bed.records(0, MANY, 0).await;
    let records =
        (0..MANY).map(|offset| protocol::messages::Matched { rule, ..matched(offset, "x") }).collect();
    commit(&bed.ledger, OTHER, vec![Entry { records, ..entry(0, 0, MANY) }], 0).await.unwrap();
    bed.ledger.put_live(vec![RULE, rule], at(1)).await.unwrap();
    bed.ledger.collect(at(200)).await.unwrap();
    let (mut last, mut turns) = (String::new(), Vec::new());
    while let Some(namespace) = bed.ledger.run_chore(&last, at(201)).await.unwrap() {
        turns.push(namespace.clone());
        last = namespace;
    }
    assert!(turns.len() >= 8, "{turns:?}");
    assert!(turns[..8].windows(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
}
