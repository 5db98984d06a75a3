//! Checks that alerts and counts do not depend on stalls and restarts of a consumer, nor on what it reads and commits when.
//!
//! Clauses of docs/semantics.md: E1, E6.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use alerting::record::{RawRecord, clock_ms};
use alerting::replay::{Replay, ReplayEvent, RuleTally};
use domain::{Condition, Millis, RulePlan};
use proptest::prelude::*;
use protocol::messages::EntryResult;
use uuid::Uuid;

use super::events::OpenedTopic;
use super::offsets::{OffsetTracker, PartitionKey};
use super::survey::{PartitionSurvey, compare};
use crate::kafka::TopicState;

const RULE: Uuid = Uuid::from_u128(1);
const PARTITIONS: i32 = 2;
const START: i64 = 1_767_225_600_000;
const LATENESS: i64 = 2_000;
/// How far a producer's clock may be ahead of the append, ms.
const AHEAD: i64 = 1_800_000;

/// A record in the log.
#[derive(Debug, Clone)]
struct Rec {
    partition: i32,
    appended: i64,
    time: i64,
}

/// What happens to the consumer.
#[derive(Debug, Clone)]
enum StallStep {
    /// Time passes, and records come meanwhile.
    Wait(i64),
    /// It reads up to this many records of a partition.
    Read(i32, usize),
    /// It asks how many partitions there are and where they end; the answers come later.
    Ask,
    Answer,
    /// The group assigns it the partitions that the hub has open.
    Given,
    Commit,
    /// It is killed; `true` if the hub got its last commit.
    Kill(bool),
}

fn records() -> impl Strategy<Value = Vec<Rec>> {
    let off = prop_oneof![
        6 => -LATENESS..=0_i64,
        1 => 1..20_000_i64,
        1 => 1..AHEAD,
        // Hours behind: their windows are decided in any case.
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

fn steps() -> impl Strategy<Value = Vec<StallStep>> {
    let step = prop_oneof![
        2 => (0..500_i64).prop_map(StallStep::Wait),
        1 => (0..60_000_i64).prop_map(StallStep::Wait),
        6 => (0..PARTITIONS, 1..20_usize).prop_map(|(partition, many)| StallStep::Read(partition, many)),
        3 => Just(StallStep::Ask),
        3 => Just(StallStep::Answer),
        1 => Just(StallStep::Given),
        4 => Just(StallStep::Commit),
        1 => any::<bool>().prop_map(StallStep::Kill),
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
struct Simulation<'a> {
    log: [Vec<&'a Rec>; PARTITIONS as usize],
    now: i64,
    /// When the topic gets its second partition.
    grown: i64,
    /// The hub: its next offsets, how many partitions it knows, and what it decided.
    next: [i64; PARTITIONS as usize],
    open: i32,
    hub: Replay,
    events: Vec<ReplayEvent>,
    /// The consumer: its folds list offsets with the clock at which each was read.
    tracker: OffsetTracker<Vec<(i64, i64)>>,
    survey: PartitionSurvey,
    /// Questions without an answer yet: clock, number of partitions and their ends.
    asked: VecDeque<(i64, i32, Vec<i64>)>,
}

fn key(partition: i32) -> PartitionKey {
    PartitionKey { topic: Arc::from("logs"), partition }
}

impl<'a> Simulation<'a> {
    fn new(plan: &RulePlan, records: &'a [Rec], grown: i64) -> Self {
        let of = |partition| records.iter().filter(|rec| rec.partition == partition).collect();
        let (mut hub, problems) = Replay::new([(RULE, plan)]);
        assert_eq!(problems, []);
        hub.advance_partition("logs", 0, START);
        hub.decide();
        let mut world = Self {
            log: [of(0), of(1)],
            now: START,
            grown,
            next: [0; 2],
            open: 1,
            hub,
            events: Vec::new(),
            tracker: OffsetTracker::new(),
            survey: PartitionSurvey::default(),
            asked: VecDeque::new(),
        };
        world.start();
        world
    }

    fn start(&mut self) {
        self.asked.clear();
        self.tracker = OffsetTracker::new();
        self.tracker.surveyed_up_to(i64::MIN);
        self.survey = PartitionSurvey::default();
        self.given();
    }

    fn given(&mut self) {
        for partition in 0..self.open {
            if self.tracker.next_offset(&key(partition)).is_none() {
                let next = self.next[partition as usize];
                self.tracker.open(key(partition), Arc::from("id"), next, next);
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
            let Some(offset) = self.tracker.next_offset(&key(partition)) else { return };
            if offset >= self.end(partition) {
                return;
            }
            let open = self.tracker.partition_mut("logs", partition, &mut 0).unwrap();
            let (held, progress) = open.mark_read(offset).unwrap();
            held.push((offset, self.now));
            progress.record(self.log[partition as usize][offset as usize].time, None);
        }
    }

    fn answer(&mut self) {
        if let Some((clock, partitions, ends)) = self.asked.pop_front() {
            let topic = TopicState::Exists { id: "id".to_owned(), partitions };
            let told = BTreeMap::from([("logs".to_owned(), topic)]);
            if !compare(self.survey.open(), &told).missing.is_empty() {
                let opened =
                    OpenedTopic { id: "id".to_owned(), partitions: vec![(0, 0, 0); partitions as usize] };
                self.survey.add_opened(&BTreeMap::from([("logs".to_owned(), opened)]));
                self.open = self.open.max(partitions);
                (0..partitions).for_each(|partition| self.hub.add_partition("logs", partition));
            }
            let compared = compare(self.survey.open(), &told);
            self.survey.complete(clock, compared.known, &compared.ids);
            self.tracker.surveyed_up_to(clock);
            for (partition, end) in (0..).zip(ends) {
                self.tracker.saw_end(&key(partition), end, Some(clock));
            }
        }
    }

    /// The hub takes a commit of everything uncommitted.
    fn commit(&mut self) {
        let taken = self.tracker.take_commit(false);
        for (sent, held) in &taken {
            let partition = sent.key.partition;
            assert_eq!(self.next[partition as usize], sent.from);
            self.next[partition as usize] = sent.to;
            for (offset, read) in held {
                let rec = self.log[partition as usize][*offset as usize];
                let _ = self.hub.push(&raw(rec, *offset, *read));
            }
        }
        let known = self.survey.for_commit().known_until(&["logs".to_owned()]);
        for (sent, _) in &taken {
            if let Some(progress) = sent.progress.min(known) {
                self.hub.advance_partition("logs", sent.key.partition, progress);
            }
        }
        self.events.extend(self.hub.decide());
        self.tracker.apply_answers(&vec![EntryResult::Accepted(0); taken.len()]);
    }

    fn step(&mut self, step: &StallStep) {
        match step {
            StallStep::Wait(ms) => self.now += ms,
            StallStep::Read(partition, many) => self.read(*partition, *many),
            StallStep::Ask => {
                let ends = (0..PARTITIONS).map(|it| self.end(it)).collect();
                self.asked.push_back((self.now, self.there(), ends));
            }
            StallStep::Answer => self.answer(),
            StallStep::Given => self.given(),
            StallStep::Commit => self.commit(),
            StallStep::Kill(sent) => {
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
        clock_ms: clock_ms(rec.time, false, read_ms),
        key: None,
        value: Some(b"{}"),
        headers: &[],
    }
}

/// The result of a run: alerts, counts, and how many records were not counted.
type SimulationResult = (Vec<(i64, String, i64)>, RuleTally, usize);

/// Reads and decides everything that is left; returns the result.
fn end(mut world: Simulation<'_>) -> SimulationResult {
    let last = START + 10 * AHEAD;
    world.now = last;
    // Earlier questions are answered first.
    while !world.asked.is_empty() {
        world.answer();
    }
    let look = [StallStep::Ask, StallStep::Answer];
    let read = [StallStep::Given, StallStep::Read(0, 100), StallStep::Read(1, 100), StallStep::Commit];
    for step in look.iter().chain(&read).chain(&look).chain(&[StallStep::Commit]) {
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
        // Before the topic grows it has one partition.
        records.iter_mut().filter(|rec| rec.appended < grown).for_each(|rec| rec.partition = 0);
        let plan = plan();
        let outcome = end(Simulation::new(&plan, &records, grown));
        let mut world = Simulation::new(&plan, &records, grown);
        for step in &steps {
            world.step(step);
        }
        let hours_behind = records.iter().filter(|rec| rec.time < START).count() as i64;
        prop_assert_eq!(outcome.1, RuleTally { matched: records.len() as i64, late: hours_behind });
        prop_assert_eq!(end(world), outcome);
    }
}
