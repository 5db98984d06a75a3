//! Copies of whole ledgers: between the engines, and of a file.

use std::sync::Arc;

use domain::Outcome;
use ledger::{Database, Error, Ledger, Options};
use protocol::messages::{Entry, Pool};
use uuid::Uuid;

use crate::bed::*;

/// A ledger in which much has happened, in SQLite: delivered, retrying and dead deliveries, counts, a dead letter's worth of text.
async fn lived_in() -> Bed {
    let bed = Bed::on(Store::sqlite(), |_| {}).await;
    bed.put(vec![hook(), three()]).await;
    bed.open(2).await;
    for second in 0..5 {
        let entry =
            Entry { counts: vec![count("pay \u{e9}\0\"", second, 2)], ..entry(0, second, second + 1) };
        bed.commit(vec![until(entry, second)], second).await;
    }
    bed.put(vec![changed(any(), |_| {})]).await;
    bed.open(2).await;
    let records = (5..15).map(|offset| matched(offset, &format!("key {offset}"))).collect();
    bed.commit(vec![Entry { records, ..entry(0, 5, 15) }], 20).await;
    let tasks = bed.claim_up_to(Pool::Send, 21, 4).await;
    bed.told(&tasks[..2], &Outcome::Delivered, 22).await;
    bed.told(&tasks[2..3], &later(), 22).await;
    bed
}

/// What a reader sees of a ledger.
async fn shown(bed: &Bed) -> (String, String, String) {
    let stories = serde_json::to_string(&bed.stories().await).unwrap();
    let totals = format!("{:?}", bed.ledger.totals().await.unwrap());
    (stories, totals, format!("{:?}", bed.ledger.revisions().objects))
}

#[tokio::test]
async fn a_ledger_moves_to_postgresql_and_back_and_goes_on_where_it_stood() {
    if !is_postgres() {
        return;
    }
    let bed = lived_in().await;
    let (id, before) = (bed.ledger.id(), shown(&bed).await);
    let (from, options) = (bed.database(), bed.options.clone());
    let target = Store::new().await;
    let error = ledger::copy(&from, &target.database).await.unwrap_err();
    assert!(matches!(error, Error::Locked(_)), "a hub has it: {error}");
    bed.ledger.clone().close().await;
    let copied = ledger::copy(&from, &target.database).await.unwrap();
    assert!(copied.iter().any(|(table, rows)| table == "deliveries" && *rows > 9), "{copied:?}");
    let error = ledger::copy(&from, &target.database).await.unwrap_err();
    assert!(error.to_string().contains("not empty"), "{error}");

    let moved = Bed {
        ledger: Ledger::open(target.database.clone(), options.clone(), Arc::new(Plain)).await.unwrap(),
        store: target,
        options,
    };
    assert_eq!(moved.ledger.id(), id);
    // Text in PostgreSQL has no NUL.
    let without = |text: &str| text.replace("\\u0000", "\u{fffd}").replace("\\0", "\u{fffd}");
    let after = shown(&moved).await;
    assert_eq!(without(&before.0), without(&after.0));
    assert_eq!((&before.1, &before.2), (&after.1, &after.2));
    // It goes on: the next record, the next claim, and new groups beside the old.
    moved.records(15, 16, 30).await;
    assert!(!moved.claim(Pool::Send, 31).await.is_empty());
    moved.put(vec![changed(changed(three(), |_| {}), |_| {})]).await;
    let entry = Entry { counts: vec![count("new", 40, 2)], ..entry(1, 0, 1) };
    moved.commit(vec![until(entry, 40)], 41).await;
    let there = shown(&moved).await;

    // And back. A hub that is there is named.
    moved.ledger.exchange("hub-1", String::new()).await.unwrap();
    let back = Store::sqlite();
    let error = ledger::copy(&moved.database(), &back.database).await.unwrap_err();
    assert!(error.to_string().contains("hub-1"), "{error}");
    moved.ledger.leave("hub-1").await.unwrap();
    let (database, options) = (moved.database(), moved.options.clone());
    moved.ledger.clone().close().await;
    ledger::copy(&database, &back.database).await.unwrap();
    let again = Bed {
        ledger: Ledger::open(back.database.clone(), options.clone(), Arc::new(Plain)).await.unwrap(),
        store: back,
        options,
    };
    assert_eq!(shown(&again).await, there);
    again.records(16, 17, 50).await;
}

#[tokio::test]
async fn a_copy_of_a_file_in_use_is_whole_and_takes_its_place_later() {
    let bed = lived_in().await;
    let Database::Sqlite(file) = bed.database() else { unreachable!("lived_in is SQLite") };
    let before = shown(&bed).await;
    let copy = bed.store.dir.path().join("copy.db");
    assert!(ledger::back_up(&file, &copy).await.unwrap() > 10_000);
    let error = ledger::back_up(&file, &copy).await.unwrap_err();
    assert!(error.to_string().contains("is there already"), "{error}");
    bed.records(15, 20, 30).await;
    assert!(matches!(ledger::restore(&copy, &file).await, Err(Error::Locked(_))), "a hub has it");
    let options = bed.options.clone();
    bed.ledger.clone().close().await;
    let other = bed.store.dir.path().join("other");
    std::fs::write(&other, vec![b'x'; 8_192]).unwrap();
    ledger::restore(&other, &file).await.expect_err("no ledger");
    ledger::restore(&copy, &file).await.unwrap();
    let again = Bed {
        ledger: Ledger::open(&file, options, Arc::new(Plain)).await.unwrap(),
        store: bed.store,
        options: Options::new(Uuid::nil()),
    };
    assert_eq!(shown(&again).await, before);
}
