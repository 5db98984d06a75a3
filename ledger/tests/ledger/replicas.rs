//! Several hubs over one database of PostgreSQL. With SQLite there is one, and these tests return at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::Outcome;
use ledger::{Database, Error, Signal, WorkerView};
use protocol::messages::{Commit, Entry, Pool};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::bed::*;

/// Two hubs over one database; `None` for SQLite.
async fn two() -> Option<(Bed, Bed)> {
    if !is_postgres() {
        return None;
    }
    let one = Bed::new().await;
    let other = one.another().await;
    Some((one, other))
}

/// A connection without a hub.
async fn connect(bed: &Bed) -> PgConnection {
    match bed.database() {
        Database::Postgres(url) => PgConnection::connect(&url).await.unwrap(),
        _ => unreachable!("these tests have a URL of PostgreSQL"),
    }
}

/// Ends every other connection to the database.
async fn cut(conn: &mut PgConnection) {
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() \
         AND datname = current_database()",
    )
    .execute(conn)
    .await
    .unwrap();
}

/// A commit of one record, as a worker makes it that has its plan from this hub; `None` if the hub has none yet.
fn one_record(bed: &Bed, offset: i64) -> Option<Commit> {
    let plan = bed.ledger.source_plan(NS, &source())?;
    let rules = plan.rules.iter().map(|(uid, rule)| (*uid, rule.state.clone())).collect();
    let entries = vec![Entry { records: vec![matched(offset, "pay")], ..entry(0, offset, offset + 1) }];
    Some(Commit { revision: plan.revision.clone(), rules, survey: None, entries })
}

#[tokio::test]
async fn what_one_hub_stores_another_hands_out_and_each_knows_how_it_ended() {
    let Some((one, other)) = two().await else { return };
    let mut plans = other.ledger.watch(&Signal::Plans(NS.to_owned()));
    one.put(vec![hook(), any()]).await;
    assert!(other.ledger.source_plan(NS, &source()).is_none(), "it has not heard yet");
    other.ledger.catch_up().await.unwrap();
    assert!(plans.has_changed().unwrap());
    plans.borrow_and_update();
    assert_eq!(other.ledger.revisions().objects, one.ledger.revisions().objects);
    assert_eq!(other.ledger.source_plan(NS, &source()), one.ledger.source_plan(NS, &source()));
    one.open(1).await;
    one.records(0, 5, 1).await;
    let mut work = other.ledger.watch(&Signal::Work(NS.to_owned(), Pool::Send));
    one.records(5, 10, 2).await;
    other.ledger.catch_up().await.unwrap();
    assert!(work.has_changed().unwrap(), "a claim that waits at the other hub is woken");
    work.borrow_and_update();
    let mut seen = HashSet::new();
    for turn in 0..12 {
        let (claims, reports) = if turn % 2 == 0 { (&other, &one) } else { (&one, &other) };
        let tasks = claims.claim_up_to(Pool::Send, 3, 1).await;
        assert!(tasks.iter().all(|task| seen.insert(task.delivery)), "nothing is handed out twice");
        reports.told(&tasks, &Outcome::Delivered, 3).await;
    }
    assert_eq!(seen.len(), 10);
    for bed in [&one, &other] {
        assert_eq!(bed.next_claim(Pool::Send).await, None);
        assert_eq!(bed.stories().await.len(), 10);
    }
}

#[tokio::test]
async fn a_record_that_is_committed_at_two_hubs_at_once_counts_once() {
    let Some((one, other)) = two().await else { return };
    one.put(vec![hook(), any()]).await;
    one.open(1).await;
    other.ledger.catch_up().await.unwrap();
    for offset in 0..40 {
        let calls = [&one, &other].map(|bed| {
            let (ledger, commit) = (bed.ledger.clone(), one_record(bed, offset).unwrap());
            tokio::spawn(async move { ledger.commit(NS, &source(), commit, at(2)).await })
        });
        let mut accepted = 0;
        for call in calls {
            let result = call.await.unwrap().unwrap();
            accepted += result.entries.iter().filter(|entry| entry.is_accepted()).count();
        }
        assert_eq!(accepted, 1, "{offset}");
    }
    assert_eq!(one.stories().await.len(), 40);
}

#[tokio::test]
async fn the_feed_rises_in_the_order_of_commits_whoever_publishes() {
    let Some((one, other)) = two().await else { return };
    one.put(vec![hook(), any()]).await;
    let mut last = 0;
    for turn in 0..6 {
        let bed = if turn % 2 == 0 { &one } else { &other };
        let mut plan = any();
        plan.generation = 2 + turn;
        bed.ledger.put_plans(vec![plan], at(turn)).await.unwrap();
        bed.ledger.publish_statuses(Arc::new(WorkerView::default()), at(turn)).await.unwrap();
        let feed = one.ledger.feed(last).await.unwrap();
        assert!(feed.version > last, "{turn}: {} after {last}", feed.version);
        assert!(feed.objects.iter().any(|object| object.generation == 2 + turn), "{turn}: {feed:?}");
        last = feed.version;
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again_and_nothing_is_lost() {
    let Some((one, other)) = two().await else { return };
    one.put(vec![hook(), any()]).await;
    one.open(1).await;
    other.ledger.catch_up().await.unwrap();
    let mut conn = connect(&one).await;
    let mut failed = 0;
    for offset in 0..12 {
        if offset % 3 == 0 {
            cut(&mut conn).await;
        }
        let bed = if offset % 2 == 0 { &one } else { &other };
        // A worker tries again until it is told that its records are stored.
        while let Err(error) = bed.ledger.commit(NS, &source(), one_record(bed, offset).unwrap(), at(2)).await
        {
            assert!(matches!(error, Error::Storage(_)), "{error}");
            failed += 1;
            assert!(failed < 100, "{error}");
        }
    }
    assert!(failed > 0, "a connection was cut under a commit");
    assert_eq!(one.stories().await.len(), 12);
    other.ledger.catch_up().await.unwrap();
}

#[tokio::test]
async fn a_hub_that_stands_still_in_a_transaction_loses_it_and_the_others_go_on() {
    let Some((one, other)) = two().await else { return };
    one.put(vec![hook()]).await;
    // What a stopped process leaves: a transaction that holds the lock.
    let mut stopped = connect(&one).await;
    let opening = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '5s'";
    sqlx::raw_sql(opening).execute(&mut stopped).await.unwrap();
    sqlx::query("SELECT 1 FROM writer FOR UPDATE").execute(&mut stopped).await.unwrap();
    let begun = Instant::now();
    other.ledger.put_plans(vec![any()], at(1)).await.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(4), "the lock was held: {:?}", begun.elapsed());
    assert!(sqlx::query("SELECT 1").execute(&mut stopped).await.is_err(), "it has lost its connection");
}

#[tokio::test]
async fn hubs_see_each_other_and_notice_who_is_gone() {
    let Some((one, other)) = two().await else { return };
    assert_eq!(one.ledger.exchange("a", "from a".to_owned()).await.unwrap(), []);
    let peers = other.ledger.exchange("b", "from b".to_owned()).await.unwrap();
    let shown: Vec<_> = peers.iter().map(|peer| (peer.hub.as_str(), peer.body.as_str())).collect();
    assert_eq!(shown, [("a", "from a")]);
    assert!(peers[0].age < Duration::from_secs(5));
    one.ledger.leave("a").await.unwrap();
    assert_eq!(other.ledger.exchange("b", String::new()).await.unwrap(), []);
    // One that ends without a word is gone after half a minute.
    one.ledger.exchange("a", String::new()).await.unwrap();
    let mut conn = connect(&one).await;
    let sleep = "UPDATE hubs SET seen = seen - interval '31 s' WHERE hub = 'a'";
    sqlx::query(sleep).execute(&mut conn).await.unwrap();
    assert_eq!(other.ledger.exchange("b", String::new()).await.unwrap(), []);
}

#[tokio::test]
async fn what_a_hub_that_is_gone_had_not_published_is_published_by_another() {
    let Some((one, other)) = two().await else { return };
    let view = || Arc::new(WorkerView::default());
    one.put(vec![hook(), any()]).await;
    one.open(1).await;
    one.ledger.exchange("one", String::new()).await.unwrap();
    while one.ledger.publish_statuses(view(), at(1)).await.unwrap() > 0 {}
    other.ledger.catch_up().await.unwrap();
    while other.ledger.publish_statuses(view(), at(1)).await.unwrap() > 0 {}
    let before = other.ledger.feed(0).await.unwrap().version;
    // The first hub counts a record, and ends before it publishes that.
    one.records(0, 1, 2).await;
    one.ledger.close().await;
    assert_eq!(other.ledger.publish_statuses(view(), at(40)).await.unwrap(), 0, "it does not know");
    let mut conn = connect(&other).await;
    sqlx::query("UPDATE hubs SET seen = seen - interval '31 s'").execute(&mut conn).await.unwrap();
    other.ledger.exchange("other", String::new()).await.unwrap();
    assert!(other.ledger.publish_statuses(view(), at(40)).await.unwrap() > 0);
    assert!(other.ledger.feed(before).await.unwrap().objects.iter().any(|object| object.uid == RULE));
}

#[tokio::test]
async fn a_database_that_holds_another_ledger_is_refused_after_a_reconnect() {
    let Some((one, _)) = two().await else { return };
    one.put(vec![hook()]).await;
    let mut conn = connect(&one).await;
    let another = "UPDATE meta SET value = $1 WHERE key = 'ledger'";
    sqlx::query(another).bind(Uuid::from_u128(9).to_string()).execute(&mut conn).await.unwrap();
    cut(&mut conn).await;
    let mut errors = Vec::new();
    for _ in 0..2 {
        errors.push(one.ledger.put_plans(vec![any()], at(1)).await.unwrap_err());
    }
    assert!(matches!(errors[1], Error::OtherLedger { .. }), "{errors:?}");
}

#[tokio::test]
async fn a_group_with_labels_longer_than_an_entry_of_an_index_is_one_group() {
    let Some((one, _)) = two().await else { return };
    one.put(vec![hook(), three()]).await;
    one.open(1).await;
    // Text that does not compress.
    let long: String = (0..200_u128)
        .map(|n| Uuid::from_u128(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)).to_string())
        .collect();
    for offset in 0..2 {
        let entry = Entry { counts: vec![count(&long, offset, 1)], ..entry(0, offset, offset + 1) };
        one.commit(vec![entry], 2).await;
    }
    let groups: i64 =
        sqlx::query_scalar("SELECT count(*) FROM groups").fetch_one(&mut connect(&one).await).await.unwrap();
    assert_eq!(groups, 1);
}
