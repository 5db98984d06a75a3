use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn key(partition: i32) -> Key {
    Key { topic: Arc::from("logs"), partition }
}

/// Books with one open partition at offset 10, and folds that list the offsets in them.
fn books() -> Books<Vec<i64>> {
    let mut books = Books::new();
    books.open(key(0), Arc::from("id"), 10, 10);
    books
}

fn read(books: &mut Books<Vec<i64>>, offsets: std::ops::Range<i64>) {
    for offset in offsets {
        if let Some((fold, progress)) = books.reading("logs", 0, &mut 0).and_then(|open| open.admit(offset)) {
            progress.advance_to(offset);
            fold.push(offset);
        }
    }
}

#[test]
fn folding_goes_on_while_a_commit_is_in_flight_and_the_next_begins_where_it_ended() {
    let mut books = books();
    read(&mut books, 10..13);
    let first = books.take(false);
    assert_eq!((first[0].0.from, first[0].0.to, &first[0].1[..]), (10, 13, &[10, 11, 12][..]));
    read(&mut books, 13..15);
    assert!(books.take(false).is_empty(), "one in flight");
    assert_eq!(books.answered(&[EntryResult::Accepted(0)]), [Next::Done(key(0), 13)]);
    let second = books.take(false);
    assert_eq!((second[0].0.from, second[0].0.to, &second[0].1[..]), (13, 15, &[13, 14][..]));
}

#[test]
fn a_commit_accepted_before_its_answer_was_lost_is_done_and_what_was_held_after_it_stays() {
    let mut books = books();
    read(&mut books, 10..13);
    books.take(false);
    read(&mut books, 13..14);
    assert_eq!(books.answered(&[EntryResult::Elsewhere(13)]), [Next::Done(key(0), 13)]);
    assert_eq!(books.take(false)[0].1, [13]);
}

#[test]
fn a_ledger_that_is_elsewhere_drops_what_is_held_and_is_followed() {
    let mut books = books();
    read(&mut books, 10..13);
    books.take(false);
    read(&mut books, 13..20);
    assert_eq!(books.answered(&[EntryResult::Elsewhere(11)]), [Next::Read(key(0), 11)]);
    assert!(!books.holds());
    read(&mut books, 11..12);
    let taken = books.take(false);
    assert_eq!((taken[0].0.from, taken[0].0.to, &taken[0].1[..]), (11, 12, &[11][..]));
}

#[test]
fn an_answer_for_an_earlier_opening_of_the_partition_does_not_touch_the_present_one() {
    let mut books = books();
    read(&mut books, 10..13);
    books.take(false);
    books.close(&key(0));
    books.open(key(0), Arc::from("id"), 10, 10);
    read(&mut books, 10..11);
    assert!(!books.in_flight_of(&key(0)));
    assert_eq!(books.answered(&[EntryResult::Elsewhere(5)]), []);
    assert_eq!(books.take(false)[0].1, [10]);
}

#[test]
fn a_topic_that_the_ledger_does_not_know_is_closed_and_asked_about() {
    let mut books = books();
    read(&mut books, 10..13);
    books.take(false);
    assert_eq!(books.answered(&[EntryResult::Unknown]), [Next::Ask(key(0))]);
    assert_eq!(books.read(&key(0)), None);
}

#[test]
fn records_that_retention_removed_are_passed_over_in_the_entry_that_follows() {
    let mut books = Books::<Vec<i64>>::new();
    books.open(key(0), Arc::from("id"), 10, 100);
    read(&mut books, 100..101);
    let taken = books.take(false);
    assert_eq!((taken[0].0.from, taken[0].0.to, &taken[0].1[..]), (10, 101, &[100][..]));
    assert_eq!(books.skip_to(&key(0), 110), 9);
    assert_eq!(books.skip_to(&key(0), 105), 0);
}

#[test]
fn an_empty_commit_tells_event_time_once() {
    let mut books = books();
    assert!(books.take(false).is_empty());
    books.ends(&key(0), 10, None);
    assert!(!books.has_news(), "from when, nobody knows");
    books.ends(&key(0), 10, Some(5_000));
    assert!(books.has_news());
    let taken = books.take(false);
    assert_eq!((taken[0].0.from, taken[0].0.to, taken[0].0.progress), (10, 10, Some(5_000)));
    books.answered(&[EntryResult::Accepted(0)]);
    assert!(!books.has_news());
    books.ends(&key(0), 10, Some(4_000));
    assert!(!books.has_news(), "never backwards");
    books.ends(&key(0), 11, Some(6_000));
    assert!(!books.has_news(), "one more to read");
    assert_eq!(books.lag(), 1);
}

#[test]
fn event_time_comes_as_far_as_the_first_end_that_is_reached_and_a_log_that_was_cut_has_another() {
    let mut books = books();
    let told = |books: &mut Books<Vec<i64>>| {
        let told = books.take(true)[0].0.progress;
        books.answered(&[EntryResult::Accepted(0)]);
        told
    };
    let read = |books: &mut Books<Vec<i64>>, offset| {
        let _ = books.reading("logs", 0, &mut 0).and_then(|open| open.admit(offset));
    };
    books.ends(&key(0), 12, Some(5_000));
    read(&mut books, 10);
    books.ends(&key(0), 20, Some(6_000));
    assert_eq!(told(&mut books), None);
    read(&mut books, 11);
    assert_eq!(told(&mut books), Some(5_000));
    books.ends(&key(0), 30, Some(7_000));
    books.ends(&key(0), 12, Some(8_000));
    assert_eq!(told(&mut books), Some(8_000));
}

#[test]
fn what_lies_after_the_last_record_of_a_transaction_is_passed_over() {
    let mut books = books();
    read(&mut books, 10..12);
    books.ends(&key(0), 13, Some(5_000));
    assert_eq!(books.oldest_progress(), Some(11), "a marker, or a record still to come");
    books.reading("logs", 0, &mut 0).unwrap().reached(13);
    assert_eq!(books.oldest_progress(), Some(5_000));
    books.reading("logs", 0, &mut 0).unwrap().reached(11);
    assert_eq!((books.take(false)[0].0.to, books.lag()), (13, 0));
}

/// What can happen to one consumer and the ledger, over two partitions.
#[derive(Debug, Clone)]
enum Step {
    Read(i32, u8),
    Take,
    /// The hub takes the commit in flight; its answer arrives.
    Answer,
    /// The hub takes the commit in flight; the answer is lost.
    LoseAnswer,
    /// Another consumer commits that many records of a partition.
    Other(i32, u8),
    /// The partition goes and comes back.
    Reassign(i32),
    /// The plan changes: switches when nothing is held.
    Plan,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let partition = 0..2_i32;
    prop::collection::vec(
        prop_oneof![
            6 => (partition.clone(), 1..20_u8).prop_map(|(p, n)| Step::Read(p, n)),
            4 => Just(Step::Take),
            4 => Just(Step::Answer),
            2 => Just(Step::LoseAnswer),
            1 => (partition.clone(), 1..20_u8).prop_map(|(p, n)| Step::Other(p, n)),
            1 => partition.prop_map(Step::Reassign),
            1 => Just(Step::Plan),
        ],
        1..200,
    )
}

/// A ledger: next offset of each partition, and how often each record was counted.
#[derive(Default)]
struct Ledger {
    next: BTreeMap<i32, i64>,
    counted: BTreeMap<(i32, i64), u32>,
}

impl Ledger {
    fn commit(
        &mut self,
        partition: i32,
        from: i64,
        to: i64,
        records: impl Iterator<Item = i64>,
    ) -> EntryResult {
        let next = self.next.entry(partition).or_default();
        if *next != from {
            return EntryResult::Elsewhere(*next);
        }
        *next = to;
        for record in records {
            *self.counted.entry((partition, record)).or_default() += 1;
        }
        EntryResult::Accepted(0)
    }
}

/// A consumer: where Kafka reads, what is in flight with its folds as (plan, offset), and the plan in force.
struct Consumer {
    books: Books<Vec<(u32, i64)>>,
    place: BTreeMap<i32, i64>,
    sent: Vec<(Sent, Vec<(u32, i64)>)>,
    plan: u32,
    switch: bool,
}

impl Consumer {
    fn deliver(&mut self, ledger: &mut Ledger) -> Vec<EntryResult> {
        self.sent
            .iter()
            .map(|(sent, fold)| {
                ledger.commit(sent.key.partition, sent.from, sent.to, fold.iter().map(|(_, offset)| *offset))
            })
            .collect()
    }

    fn answer(&mut self, ledger: &mut Ledger) {
        if !self.books.in_flight() {
            return;
        }
        let answers = self.deliver(ledger);
        for next in self.books.answered(&answers) {
            if let Next::Read(key, offset) = next {
                self.place.insert(key.partition, offset);
            }
        }
        self.sent.clear();
    }

    fn take(&mut self) {
        let taken = self.books.take(false);
        if !taken.is_empty() {
            for (sent, fold) in &taken {
                let plans: std::collections::BTreeSet<u32> = fold.iter().map(|(plan, _)| *plan).collect();
                assert!(plans.len() <= 1, "one plan in an entry: {plans:?}");
                let offsets: Vec<i64> = fold.iter().map(|(_, offset)| *offset).collect();
                assert_eq!(offsets, (sent.from..sent.to).collect::<Vec<_>>());
            }
            self.sent = taken;
        }
        if self.switch && !self.books.holds() {
            self.plan += 1;
            self.switch = false;
        }
    }

    fn step(&mut self, step: &Step, ledger: &mut Ledger) {
        match step {
            Step::Read(partition, count) => {
                for _ in 0..*count {
                    let offset = self.place[partition];
                    if let Some((fold, progress)) =
                        self.books.reading("logs", *partition, &mut 0).and_then(|open| open.admit(offset))
                    {
                        progress.advance_to(offset);
                        fold.push((self.plan, offset));
                    }
                    self.place.insert(*partition, offset + 1);
                }
            }
            Step::Take => self.take(),
            Step::Answer => self.answer(ledger),
            Step::LoseAnswer => drop(self.deliver(ledger)),
            Step::Other(partition, count) => {
                let from = ledger.next.get(partition).copied().unwrap_or(0);
                let to = from + i64::from(*count);
                ledger.commit(*partition, from, to, from..to);
            }
            Step::Reassign(partition) => {
                let from = ledger.next.get(partition).copied().unwrap_or(0);
                self.books.close(&key(*partition));
                self.books.open(key(*partition), Arc::from("id"), from, from);
                self.place.insert(*partition, from);
            }
            Step::Plan => self.switch = true,
        }
    }
}

proptest! {
    #[test]
    fn every_record_up_to_the_ledgers_offset_is_counted_exactly_once(steps in steps()) {
        let mut ledger = Ledger::default();
        let mut consumer =
            Consumer { books: Books::new(), place: BTreeMap::new(), sent: Vec::new(), plan: 0, switch: false };
        for partition in 0..2 {
            consumer.books.open(key(partition), Arc::from("id"), 0, 0);
            consumer.place.insert(partition, 0);
        }
        for step in &steps {
            consumer.step(step, &mut ledger);
        }
        // Left alone it reaches the ledger, with all that it read.
        for _ in 0..4 {
            consumer.answer(&mut ledger);
            consumer.take();
        }
        prop_assert!(!consumer.books.holds());
        for (partition, next) in &ledger.next {
            for offset in 0..*next {
                prop_assert_eq!(ledger.counted.get(&(*partition, offset)), Some(&1), "{}/{}", partition, offset);
            }
        }
    }
}
