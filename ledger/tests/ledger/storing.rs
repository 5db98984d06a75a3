use std::sync::Arc;

use ledger::{Error, Ledger, Options};
use protocol::messages::EntryResult;
use uuid::Uuid;

use crate::bed::*;

#[tokio::test]
async fn a_second_hub_cannot_open_the_file_and_is_told_why() {
    if is_postgres() {
        return; // A database serves several.
    }
    let bed = Bed::new().await;
    let again = Ledger::open(bed.database(), Options::new(Uuid::from_u128(7)), Arc::new(Plain)).await;
    let error = again.err().expect("locked");
    assert!(matches!(error, Error::Locked(_)), "{error}");
    assert!(error.to_string().contains("only one hub"), "{error}");
    bed.ledger.clone().close().await;
    assert_eq!(bed.ledger.put_live(vec![], at(0)).await, Err(Error::Closed));
    Ledger::open(bed.database(), Options::new(Uuid::from_u128(7)), Arc::new(Plain))
        .await
        .expect("free again");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    std::fs::write(&path, vec![b'x'; 8_192]).unwrap();
    let error = Ledger::open(&path, Options::new(Uuid::nil()), Arc::new(Plain)).await.err().expect("refused");
    assert!(matches!(error, Error::Corrupt(_)), "{error}");
}

#[tokio::test]
async fn a_full_disk_is_said_keeps_what_is_stored_and_is_got_over() {
    if is_postgres() {
        return; // Of a file.
    }
    let bed = Bed::new().await;
    bed.put(vec![hook(), any()]).await;
    bed.open(1).await;
    bed.records(0, 5, 1).await;
    bed.ledger.limit_pages(1).await.unwrap();
    let plan = bed.ledger.source_plan(NS, &source()).unwrap();
    let rules: std::collections::BTreeMap<_, _> =
        plan.rules.iter().map(|(uid, rule)| (*uid, rule.state.clone())).collect();
    let records: Vec<_> = (5..405).map(|offset| matched(offset, "pay")).collect();
    let commit = protocol::messages::Commit {
        revision: plan.revision.clone(),
        rules,
        survey: None,
        entries: vec![protocol::messages::Entry { records, ..entry(0, 5, 405) }],
    };
    let calls = (0..8).map(|_| {
        let (ledger, commit) = (bed.ledger.clone(), commit.clone());
        tokio::spawn(async move { ledger.commit(NS, &source(), commit, at(2)).await.map(drop) })
    });
    for call in calls.collect::<Vec<_>>() {
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::StorageFull(_)), "{error}");
    }
    assert_eq!(bed.stories().await.len(), 5, "what was there is there");
    bed.ledger.limit_pages(0).await.unwrap();
    let result = bed.ledger.commit(NS, &source(), commit, at(3)).await.unwrap();
    assert!(result.entries[0].is_accepted());
    assert_eq!(bed.stories().await.len(), 405);
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_crash_and_what_was_not_is_whole_or_absent() {
    if is_postgres() {
        return; // Of a file.
    }
    let bed = Bed::new().await;
    bed.put(vec![hook(), any()]).await;
    bed.open(1).await;
    bed.records(0, 5, 1).await;
    // A call whose caller has left is done wholly or not at all.
    let plan = bed.ledger.source_plan(NS, &source()).unwrap();
    let rules = plan.rules.iter().map(|(uid, rule)| (*uid, rule.state.clone())).collect();
    let records: Vec<_> = (5..9).map(|offset| matched(offset, "pay")).collect();
    let commit = protocol::messages::Commit {
        revision: plan.revision.clone(),
        rules,
        survey: None,
        entries: vec![protocol::messages::Entry { records, ..entry(0, 5, 9) }],
    };
    let ledger = bed.ledger.clone();
    let call = tokio::spawn(async move { ledger.commit(NS, &source(), commit, at(2)).await });
    tokio::task::yield_now().await;
    call.abort();
    // A copy of the files, taken while they are in use, is what a crash leaves.
    let copy = tempfile::tempdir().unwrap();
    for name in ["ledger.db-wal", "ledger.db"] {
        let _ = std::fs::copy(bed.store.dir.path().join(name), copy.path().join(name));
    }
    let options = Options::new(Uuid::from_u128(7));
    let ledger = Ledger::open(&copy.path().join("ledger.db"), options, Arc::new(Plain)).await.unwrap();
    assert_eq!(ledger.id(), Uuid::from_u128(42));
    let query = protocol::messages::NotificationQuery { limit: Some(500), ..Default::default() };
    let stored = ledger.notifications(NS, query).await.unwrap().items.len();
    let again = protocol::messages::Commit {
        revision: plan.revision.clone(),
        rules: std::collections::BTreeMap::new(),
        survey: None,
        entries: vec![entry(0, 0, 1)],
    };
    let position = ledger.commit(NS, &source(), again, at(3)).await.unwrap().entries[0];
    let EntryResult::Elsewhere(position) = position else { panic!("{position:?}") };
    assert!((stored, position) == (5, 5) || (stored, position) == (9, 9), "{stored} {position}");
}

#[tokio::test]
async fn a_command_that_fails_undoes_only_itself() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), any()]).await;
    bed.open(1).await;
    let calls = (0..20).map(|n| {
        let ledger = bed.ledger.clone();
        tokio::spawn(async move {
            if n % 2 == 0 {
                ledger
                    .put_plans(vec![channel(Uuid::from_u128(1_000 + n), &format!("c{n}"), |_| {})], at(1))
                    .await
            } else {
                let none = protocol::messages::PositionsRequest { topics: vec![] };
                ledger.positions(NS, "unknown", none).await.map(drop)
            }
        })
    });
    for (n, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(call.await.unwrap().is_ok(), n % 2 == 0);
    }
    assert_eq!(bed.ledger.channels_plan(NS).channels.len(), 11);
    assert!(bed.ledger.writer_metrics().commits <= bed.ledger.writer_metrics().commands);
}
