//! The law across a consumer's stalls and restarts: what is read, when, and in which parts, changes no alert and no count.
//!
//! Clauses of docs/semantics.md: E1, E6.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use alerting::record::{RawRecord, clock};
use alerting::replay::{Event, Replay, Tally};
use domain::{Condition, Millis, RulePlan};
use proptest::prelude::*;
use protocol::messages::EntryResult;
use uuid::Uuid;

use super::books::{Books, Key};
use super::events::Opened;
use super::survey::{Survey, compare};
use crate::kafka::Topic;

const RULE: Uuid = Uuid::from_u128(1);
const PARTITIONS: i32 = 2;
const START: i64 = 1_767_225_600_000;
const LATENESS: i64 = 2_000;
/// So far ahead of their append are producers' clocks, at most.
const AHEAD: i64 = 1_800_000;

/// A record as it lies in the log.
#[derive(Debug, Clone)]
struct Rec {
    partition: i32,
    appended: i64,
    time: i64,
}

/// What happens to the consumer.
#[derive(Debug, Clone)]
enum Step {
    /// Time passes, in which records come.
    Wait(i64),
    /// It reads so many records of a partition.
    Read(i32, usize),
    /// It asks how many partitions there are and where they end; the answers come later.
    Ask,
    Answer,
    /// The group gives it what the hub has open.
    Given,
    Commit,
    /// It is killed; with or without the hub having what it sent.
    Kill(bool),
}

fn records() -> impl Strategy<Value = Vec<Rec>> {
    let off = prop_oneof![
        6 => -LATENESS..=0_i64,
        1 => 1..20_000_i64,
        1 => 1..AHEAD,
        // Hours behind: of windows that are decided, whatever happens.
        1 => -7_200_000..-3_600_000_i64,
    ];
    prop::collection::vec((0..PARTITIONS, 0..1_500_i64, off), 1..60).prop_map(|list| {
        let mut now = START + LATENESS + 1_000;
        list.into_iter()
            .map(|(partition, after, off)| {
                now += after;
                Rec { partition, appended: now, time: now + off }
            })
            .collect()
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..500_i64).prop_map(Step::Wait),
        1 => (0..60_000_i64).prop_map(Step::Wait),
        6 => (0..PARTITIONS, 1..20_usize).prop_map(|(partition, many)| Step::Read(partition, many)),
        3 => Just(Step::Ask),
        3 => Just(Step::Answer),
        1 => Just(Step::Given),
        4 => Just(Step::Commit),
        1 => any::<bool>().prop_map(Step::Kill),
    ];
    prop::collection::vec(step, 0..120)
}

fn plan() -> RulePlan {
    let condition = Condition::Frequency { count: 2, window: Millis::from_secs(5) };
    let plan = super::tests::rule(Vec::new(), "true", condition);
    let resolve = domain::Resolve { after: None, notify: true, below: None };
    RulePlan { resolve: Some(resolve), allowed_lateness: Millis(LATENESS), ..plan }
}

/// The log, the hub, and the consumer.
struct World<'a> {
    log: [Vec<&'a Rec>; PARTITIONS as usize],
    now: i64,
    /// When the topic got its other partition.
    grown: i64,
    /// The hub: where it stands, of how many partitions it knows, and what it decided.
    next: [i64; PARTITIONS as usize],
    open: i32,
    hub: Replay,
    events: Vec<Event>,
    /// The consumer: the offsets that it holds, with the clock when each was read.
    books: Books<Vec<(i64, i64)>>,
    survey: Survey,
    /// Clock, partitions and their ends.
    asked: VecDeque<(i64, i32, Vec<i64>)>,
}

fn key(partition: i32) -> Key {
    Key { topic: Arc::from("logs"), partition }
}

impl<'a> World<'a> {
    fn new(plan: &RulePlan, records: &'a [Rec], grown: i64) -> Self {
        let of = |partition| records.iter().filter(|rec| rec.partition == partition).collect();
        let (mut hub, problems) = Replay::new([(RULE, plan)]);
        assert_eq!(problems, []);
        hub.progress("logs", 0, START);
        hub.decide();
        let mut world = Self {
            log: [of(0), of(1)],
            now: START,
            grown,
            next: [0; 2],
            open: 1,
            hub,
            events: Vec::new(),
            books: Books::new(),
            survey: Survey::default(),
            asked: VecDeque::new(),
        };
        world.start();
        world
    }

    fn start(&mut self) {
        self.asked.clear();
        self.books = Books::new();
        self.books.surveyed(i64::MIN);
        self.survey = Survey::default();
        self.given();
    }

    fn given(&mut self) {
        for partition in 0..self.open {
            if self.books.read(&key(partition)).is_none() {
                let next = self.next[partition as usize];
                self.books.open(key(partition), Arc::from("id"), next, next);
            }
        }
    }

    fn there(&self) -> i32 {
        if self.now < self.grown { 1 } else { PARTITIONS }
    }

    fn end(&self, partition: i32) -> i64 {
        self.log[partition as usize].partition_point(|rec| rec.appended <= self.now) as i64
    }

    fn read(&mut self, partition: i32, many: usize) {
        for _ in 0..many {
            let Some(offset) = self.books.read(&key(partition)) else { return };
            if offset >= self.end(partition) {
                return;
            }
            let open = self.books.reading("logs", partition, &mut 0).unwrap();
            let (held, progress) = open.admit(offset).unwrap();
            held.push((offset, self.now));
            progress.record(self.log[partition as usize][offset as usize].time, None);
        }
    }

    fn answer(&mut self) {
        if let Some((clock, partitions, ends)) = self.asked.pop_front() {
            let topic = Topic::There { id: "id".to_owned(), partitions };
            let told = BTreeMap::from([("logs".to_owned(), topic)]);
            if !compare(self.survey.open(), &told).missing.is_empty() {
                let opened = Opened { id: "id".to_owned(), partitions: vec![(0, 0, 0); partitions as usize] };
                self.survey.opened(&BTreeMap::from([("logs".to_owned(), opened)]));
                self.open = self.open.max(partitions);
                (0..partitions).for_each(|partition| self.hub.open("logs", partition));
            }
            let compared = compare(self.survey.open(), &told);
            self.survey.done(clock, compared.known, &compared.ids);
            self.books.surveyed(clock);
            for (partition, end) in (0..).zip(ends) {
                self.books.ends(&key(partition), end, Some(clock));
            }
        }
    }

    /// The hub takes what is held; whether it is told of or not, nothing more is held.
    fn commit(&mut self) {
        let taken = self.books.take(false);
        for (sent, held) in &taken {
            let partition = sent.key.partition;
            assert_eq!(self.next[partition as usize], sent.from);
            self.next[partition as usize] = sent.to;
            for (offset, read) in held {
                let rec = self.log[partition as usize][*offset as usize];
                let _ = self.hub.push(&raw(rec, *offset, *read));
            }
        }
        let known = self.survey.told().known_until(&["logs".to_owned()]);
        for (sent, _) in &taken {
            if let Some(progress) = sent.progress.min(known) {
                self.hub.progress("logs", sent.key.partition, progress);
            }
        }
        self.events.extend(self.hub.decide());
        self.books.answered(&vec![EntryResult::Accepted(0); taken.len()]);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Wait(ms) => self.now += ms,
            Step::Read(partition, many) => self.read(*partition, *many),
            Step::Ask => {
                let ends = (0..PARTITIONS).map(|it| self.end(it)).collect();
                self.asked.push_back((self.now, self.there(), ends));
            }
            Step::Answer => self.answer(),
            Step::Given => self.given(),
            Step::Commit => self.commit(),
            Step::Kill(sent) => {
                if *sent {
                    self.commit();
                }
                self.start();
            }
        }
    }
}

fn raw(rec: &Rec, offset: i64, read_ms: i64) -> RawRecord<'static> {
    RawRecord {
        topic: "logs",
        partition: rec.partition,
        offset,
        timestamp_ms: rec.time,
        clock_ms: clock(rec.time, false, read_ms),
        key: None,
        value: Some(b"{}"),
        headers: &[],
    }
}

/// What came of it in the end: what was told, the numbers, and what was not counted.
type Outcome = (Vec<(i64, String, i64)>, Tally, usize);

/// All is read and decided.
fn end(mut world: World<'_>) -> Outcome {
    let last = START + 10 * AHEAD;
    world.now = last;
    // What was asked before is answered before.
    while !world.asked.is_empty() {
        world.answer();
    }
    let look = [Step::Ask, Step::Answer];
    let read = [Step::Given, Step::Read(0, 100), Step::Read(1, 100), Step::Commit];
    for step in look.iter().chain(&read).chain(&look).chain(&[Step::Commit]) {
        world.step(step);
    }
    let told = world.events.iter().map(|event| {
        let decision = event.decision.as_ref().unwrap();
        (event.time_ms, format!("{:?}", decision.kind), decision.count)
    });
    (told.collect(), world.hub.tally(RULE).unwrap(), world.hub.dropped().len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn alerts_and_late_records_are_the_same_wherever_it_stalls_is_killed_or_commits(
        mut records in records(),
        grown in 0..60_000_i64,
        steps in steps(),
    ) {
        let grown = START + grown;
        // Before there is another partition there is one.
        records.iter_mut().filter(|rec| rec.appended < grown).for_each(|rec| rec.partition = 0);
        let plan = plan();
        let outcome = end(World::new(&plan, &records, grown));
        let mut world = World::new(&plan, &records, grown);
        for step in &steps {
            world.step(step);
        }
        let hours_behind = records.iter().filter(|rec| rec.time < START).count() as i64;
        prop_assert_eq!(outcome.1, Tally { matched: records.len() as i64, late: hours_behind });
        prop_assert_eq!(end(world), outcome);
    }
}
