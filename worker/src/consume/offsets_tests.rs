use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn key(partition: i32) -> PartitionKey {
    PartitionKey { topic: Arc::from("logs"), partition }
}

/// A tracker with one open partition at offset 10, whose folds list their offsets.
fn tracker() -> OffsetTracker<Vec<i64>> {
    let mut tracker = OffsetTracker::new();
    tracker.open(key(0), Arc::from("id"), 10, 10);
    tracker
}

fn read(tracker: &mut OffsetTracker<Vec<i64>>, offsets: std::ops::Range<i64>) {
    for offset in offsets {
        if let Some((fold, progress)) =
            tracker.partition_mut("logs", 0, &mut 0).and_then(|open| open.mark_read(offset))
        {
            progress.advance_to(offset);
            fold.push(offset);
        }
    }
}

#[test]
fn folding_goes_on_while_a_commit_is_in_flight_and_the_next_begins_where_it_ended() {
    let mut tracker = tracker();
    read(&mut tracker, 10..13);
    let first = tracker.take_commit(false);
    assert_eq!((first[0].0.from, first[0].0.to, &first[0].1[..]), (10, 13, &[10, 11, 12][..]));
    read(&mut tracker, 13..15);
    assert!(tracker.take_commit(false).is_empty(), "one in flight");
    assert_eq!(tracker.apply_answers(&[EntryResult::Accepted(0)]), [FollowUp::Done(key(0), 13)]);
    let second = tracker.take_commit(false);
    assert_eq!((second[0].0.from, second[0].0.to, &second[0].1[..]), (13, 15, &[13, 14][..]));
}

#[test]
fn a_commit_accepted_before_its_answer_was_lost_is_done_and_the_fold_after_it_stays() {
    let mut tracker = tracker();
    read(&mut tracker, 10..13);
    tracker.take_commit(false);
    read(&mut tracker, 13..14);
    assert_eq!(tracker.apply_answers(&[EntryResult::Elsewhere(13)]), [FollowUp::Done(key(0), 13)]);
    assert_eq!(tracker.take_commit(false)[0].1, [13]);
}

#[test]
fn a_ledger_at_another_offset_drops_the_fold_and_is_followed() {
    let mut tracker = tracker();
    read(&mut tracker, 10..13);
    tracker.take_commit(false);
    read(&mut tracker, 13..20);
    assert_eq!(tracker.apply_answers(&[EntryResult::Elsewhere(11)]), [FollowUp::ReadFrom(key(0), 11)]);
    assert!(!tracker.holds_records());
    read(&mut tracker, 11..12);
    let taken = tracker.take_commit(false);
    assert_eq!((taken[0].0.from, taken[0].0.to, &taken[0].1[..]), (11, 12, &[11][..]));
}

#[test]
fn an_answer_to_an_earlier_opening_of_the_partition_does_not_change_the_present_one() {
    let mut tracker = tracker();
    read(&mut tracker, 10..13);
    tracker.take_commit(false);
    tracker.close(&key(0));
    tracker.open(key(0), Arc::from("id"), 10, 10);
    read(&mut tracker, 10..11);
    assert!(!tracker.in_flight_of(&key(0)));
    assert_eq!(tracker.apply_answers(&[EntryResult::Elsewhere(5)]), []);
    assert_eq!(tracker.take_commit(false)[0].1, [10]);
}

#[test]
fn a_topic_that_the_ledger_does_not_know_is_closed_and_its_position_asked_for() {
    let mut tracker = tracker();
    read(&mut tracker, 10..13);
    tracker.take_commit(false);
    assert_eq!(tracker.apply_answers(&[EntryResult::Unknown]), [FollowUp::AskPosition(key(0))]);
    assert_eq!(tracker.next_offset(&key(0)), None);
}

#[test]
fn the_next_entry_passes_over_records_that_retention_removed() {
    let mut tracker = OffsetTracker::<Vec<i64>>::new();
    tracker.open(key(0), Arc::from("id"), 10, 100);
    read(&mut tracker, 100..101);
    let taken = tracker.take_commit(false);
    assert_eq!((taken[0].0.from, taken[0].0.to, &taken[0].1[..]), (10, 101, &[100][..]));
    assert_eq!(tracker.skip_to(&key(0), 110), 9);
    assert_eq!(tracker.skip_to(&key(0), 105), 0);
}

#[test]
fn an_empty_commit_tells_event_time_once() {
    let mut tracker = tracker();
    assert!(tracker.take_commit(false).is_empty());
    tracker.saw_end(&key(0), 10, None);
    assert!(!tracker.has_new_progress(), "the clock is not known");
    tracker.saw_end(&key(0), 10, Some(5_000));
    assert!(tracker.has_new_progress());
    let taken = tracker.take_commit(false);
    assert_eq!((taken[0].0.from, taken[0].0.to, taken[0].0.progress), (10, 10, Some(5_000)));
    tracker.apply_answers(&[EntryResult::Accepted(0)]);
    assert!(!tracker.has_new_progress());
    tracker.saw_end(&key(0), 10, Some(4_000));
    assert!(!tracker.has_new_progress(), "never backwards");
    tracker.saw_end(&key(0), 11, Some(6_000));
    assert!(!tracker.has_new_progress(), "one more to read");
    assert_eq!(tracker.lag(), 1);
}

#[test]
fn event_time_advances_at_the_first_end_that_is_reached_and_a_truncated_log_has_a_new_end() {
    let mut tracker = tracker();
    let told = |tracker: &mut OffsetTracker<Vec<i64>>| {
        let told = tracker.take_commit(true)[0].0.progress;
        tracker.apply_answers(&[EntryResult::Accepted(0)]);
        told
    };
    let read = |tracker: &mut OffsetTracker<Vec<i64>>, offset| {
        let _ = tracker.partition_mut("logs", 0, &mut 0).and_then(|open| open.mark_read(offset));
    };
    tracker.saw_end(&key(0), 12, Some(5_000));
    read(&mut tracker, 10);
    tracker.saw_end(&key(0), 20, Some(6_000));
    assert_eq!(told(&mut tracker), None);
    read(&mut tracker, 11);
    assert_eq!(told(&mut tracker), Some(5_000));
    tracker.saw_end(&key(0), 30, Some(7_000));
    tracker.saw_end(&key(0), 12, Some(8_000));
    assert_eq!(told(&mut tracker), Some(8_000));
}

#[test]
fn transaction_markers_after_the_last_record_are_passed_over() {
    let mut tracker = tracker();
    read(&mut tracker, 10..12);
    tracker.saw_end(&key(0), 13, Some(5_000));
    assert_eq!(tracker.oldest_progress(), Some(11), "a marker, or a record still to come");
    tracker.partition_mut("logs", 0, &mut 0).unwrap().advance_to(13);
    assert_eq!(tracker.oldest_progress(), Some(5_000));
    tracker.partition_mut("logs", 0, &mut 0).unwrap().advance_to(11);
    assert_eq!((tracker.take_commit(false)[0].0.to, tracker.lag()), (13, 0));
}

/// What can happen to one consumer and the ledger, with two partitions.
#[derive(Debug, Clone)]
enum TrackerStep {
    Read(i32, u8),
    Take,
    /// The hub takes the commit in flight; its answer arrives.
    Answer,
    /// The hub takes the commit in flight; the answer is lost.
    LoseAnswer,
    /// Another consumer commits this many records of a partition.
    Other(i32, u8),
    /// The group takes the partition away and gives it back.
    Reassign(i32),
    /// The plan changes; it takes effect when no records are uncommitted.
    Plan,
}

fn steps() -> impl Strategy<Value = Vec<TrackerStep>> {
    let partition = 0..2_i32;
    prop::collection::vec(
        prop_oneof![
            6 => (partition.clone(), 1..20_u8).prop_map(|(p, n)| TrackerStep::Read(p, n)),
            4 => Just(TrackerStep::Take),
            4 => Just(TrackerStep::Answer),
            2 => Just(TrackerStep::LoseAnswer),
            1 => (partition.clone(), 1..20_u8).prop_map(|(p, n)| TrackerStep::Other(p, n)),
            1 => partition.prop_map(TrackerStep::Reassign),
            1 => Just(TrackerStep::Plan),
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
    tracker: OffsetTracker<Vec<(u32, i64)>>,
    place: BTreeMap<i32, i64>,
    sent: Vec<(SentEntry, Vec<(u32, i64)>)>,
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
        if !self.tracker.in_flight() {
            return;
        }
        let answers = self.deliver(ledger);
        for next in self.tracker.apply_answers(&answers) {
            if let FollowUp::ReadFrom(key, offset) = next {
                self.place.insert(key.partition, offset);
            }
        }
        self.sent.clear();
    }

    fn take(&mut self) {
        let taken = self.tracker.take_commit(false);
        if !taken.is_empty() {
            for (sent, fold) in &taken {
                let plans: std::collections::BTreeSet<u32> = fold.iter().map(|(plan, _)| *plan).collect();
                assert!(plans.len() <= 1, "one plan in an entry: {plans:?}");
                let offsets: Vec<i64> = fold.iter().map(|(_, offset)| *offset).collect();
                assert_eq!(offsets, (sent.from..sent.to).collect::<Vec<_>>());
            }
            self.sent = taken;
        }
        if self.switch && !self.tracker.holds_records() {
            self.plan += 1;
            self.switch = false;
        }
    }

    fn step(&mut self, step: &TrackerStep, ledger: &mut Ledger) {
        match step {
            TrackerStep::Read(partition, count) => {
                for _ in 0..*count {
                    let offset = self.place[partition];
                    if let Some((fold, progress)) = self
                        .tracker
                        .partition_mut("logs", *partition, &mut 0)
                        .and_then(|open| open.mark_read(offset))
                    {
                        progress.advance_to(offset);
                        fold.push((self.plan, offset));
                    }
                    self.place.insert(*partition, offset + 1);
                }
            }
            TrackerStep::Take => self.take(),
            TrackerStep::Answer => self.answer(ledger),
            TrackerStep::LoseAnswer => drop(self.deliver(ledger)),
            TrackerStep::Other(partition, count) => {
                let from = ledger.next.get(partition).copied().unwrap_or(0);
                let to = from + i64::from(*count);
                ledger.commit(*partition, from, to, from..to);
            }
            TrackerStep::Reassign(partition) => {
                let from = ledger.next.get(partition).copied().unwrap_or(0);
                self.tracker.close(&key(*partition));
                self.tracker.open(key(*partition), Arc::from("id"), from, from);
                self.place.insert(*partition, from);
            }
            TrackerStep::Plan => self.switch = true,
        }
    }
}

proptest! {
    #[test]
    fn every_record_up_to_the_ledgers_offset_is_counted_exactly_once(steps in steps()) {
        let mut ledger = Ledger::default();
        let mut consumer =
            Consumer { tracker: OffsetTracker::new(), place: BTreeMap::new(), sent: Vec::new(), plan: 0, switch: false };
        for partition in 0..2 {
            consumer.tracker.open(key(partition), Arc::from("id"), 0, 0);
            consumer.place.insert(partition, 0);
        }
        for step in &steps {
            consumer.step(step, &mut ledger);
        }
        // Undisturbed, it commits all that it read.
        for _ in 0..4 {
            consumer.answer(&mut ledger);
            consumer.take();
        }
        prop_assert!(!consumer.tracker.holds_records());
        for (partition, next) in &ledger.next {
            for offset in 0..*next {
                prop_assert_eq!(ledger.counted.get(&(*partition, offset)), Some(&1), "{}/{}", partition, offset);
            }
        }
    }
}
