//! The whole engine in memory: records go in, decisions come out, as worker and hub reach them together.
//!
//! For the command line (try, test, backtest) and for tests. Invariant: the code that folds, merges and decides is the
//! same as in a cluster. Only the database and the wire are missing, and with them the bound on groups (`maxGroups`).
//! It renders no texts and uses no clock and no file.
//!
//! ```
//! # use alerting::{record::RawRecord, replay::Replay};
//! # fn show(_: &[alerting::replay::ReplayEvent]) {}
//! # fn run(uid: uuid::Uuid, plan: &domain::RulePlan, records: &[RawRecord<'_>]) {
//! let (mut replay, problems) = Replay::new([(uid, plan)]);
//! assert!(problems.is_empty());
//! for record in records {
//!     let folded = replay.push(record);
//!     // Otherwise it is one for the dead-letter topic; that is counted as well.
//!     assert!(folded.undecodable.is_none());
//! }
//! show(&replay.finish(None));
//! # }
//! ```

use std::collections::{BTreeMap, BTreeSet};

use domain::{DropReason, Matched, Reading, RulePlan, Sample, Values};
use uuid::Uuid;

use crate::{
    decide::{self, Bucket, Decision, Group, GroupState, Reached, RuleParams},
    fold::{Aggregate, Folded, PartitionFold, RuleProblem, RuleSet},
    progress::Progress,
    record::RawRecord,
    values::merge_top,
};

/// A notification that a cluster would send.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayEvent {
    /// The boundary, or the record's time; Unix ms.
    pub time_ms: i64,
    /// The rule.
    pub rule: Uuid,
    /// The group.
    pub group: Group,
    /// What was decided; `None` if the record `last` is a notification of its own.
    pub decision: Option<Decision>,
    /// The window's first record, if it has any.
    pub first: Option<Sample>,
    /// The record that texts call `record`: the one that has the value, else the window's last. If the window has none,
    /// the record of the notification before.
    pub last: Option<Sample>,
    /// The window's values of `topValues`, by name.
    pub top: BTreeMap<String, Values>,
}

/// What happened to a rule's records.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RuleTally {
    /// Records counted, including late ones.
    pub matched: i64,
    /// Records that came after their bucket was decided, and changed nothing.
    pub late: i64,
}

/// Runs the engine over records that are pushed one by one.
#[derive(Debug)]
pub struct Replay {
    /// One for each way in which rules read their source.
    consumers: Vec<ConsumerReplay>,
    rules: BTreeMap<Uuid, RuleReplay>,
    dropped: BTreeMap<(Uuid, DropReason), i64>,
    /// Matched records that are notifications of their own and have not been returned yet.
    records: Vec<Matched>,
}

/// The rules that read their source in the same way.
#[derive(Debug)]
struct ConsumerReplay {
    engine: RuleSet,
    topics: BTreeSet<String>,
    partitions: BTreeMap<(String, i32), PartitionReplay>,
}

/// How far one partition has been read.
#[derive(Debug, Default)]
struct PartitionReplay {
    fold: PartitionFold,
    /// The event time from which on it was read.
    since: Option<i64>,
    progress: Progress,
    /// The largest event time of its records.
    newest: Option<i64>,
}

impl PartitionReplay {
    fn reached(&mut self, at_ms: i64) {
        self.since.get_or_insert(at_ms);
        self.progress.advance_to(at_ms);
    }
}

/// The state of a rule.
#[derive(Debug)]
struct RuleReplay {
    /// The index of its consumer.
    consumer: usize,
    plan: RulePlan,
    params: Option<RuleParams>,
    groups: BTreeMap<Group, GroupReplay>,
    decided: Option<i64>,
    observed: Option<i64>,
    tally: RuleTally,
}

#[derive(Debug, Default)]
struct GroupReplay {
    state: GroupState,
    buckets: BTreeMap<i64, Aggregate>,
    /// The record of the last notification.
    sample: Option<Sample>,
    /// The first boundary at which something may change; `None` if the group has to be looked at.
    next: Option<i64>,
}

impl Replay {
    /// Compiles rules. A rule that does not compile is reported and left out; the others run.
    pub fn new<'p>(rules: impl IntoIterator<Item = (Uuid, &'p RulePlan)>) -> (Self, Vec<RuleProblem>) {
        let mut readings: BTreeMap<&Reading, Vec<(Uuid, &RulePlan)>> = BTreeMap::new();
        for (uid, plan) in rules {
            readings.entry(&plan.source.reading).or_default().push((uid, plan));
        }
        let (mut consumers, mut runs, mut problems) = (Vec::new(), BTreeMap::new(), Vec::new());
        for (reading, plans) in readings {
            let (engine, failed) = RuleSet::new(reading, plans.iter().copied());
            let mut topics = BTreeSet::new();
            for (uid, plan) in plans {
                if failed.iter().all(|problem| problem.rule != uid) {
                    topics.extend(plan.topics.iter().cloned());
                    runs.insert(uid, RuleReplay::new(plan, consumers.len()));
                }
            }
            consumers.push(ConsumerReplay { engine, topics, partitions: BTreeMap::new() });
            problems.extend(failed);
        }
        (Self { consumers, rules: runs, dropped: BTreeMap::new(), records: Vec::new() }, problems)
    }

    /// The partition's state in each consumer that reads its topic.
    fn partitions_of(
        &mut self,
        topic: &str,
        partition: i32,
    ) -> impl Iterator<Item = (&RuleSet, &mut PartitionReplay)> {
        let reading = self.consumers.iter_mut().filter(move |it| it.topics.contains(topic));
        reading.map(move |ConsumerReplay { engine, partitions, .. }| {
            (&*engine, partitions.entry((topic.to_owned(), partition)).or_default())
        })
    }

    /// Announces a partition: nothing is decided before it has a record or progress. A partition that is not announced
    /// is known from its first record on.
    pub fn add_partition(&mut self, topic: &str, partition: i32) {
        self.partitions_of(topic, partition).for_each(drop);
    }

    /// Takes a partition's next record, in the order of offsets; its timestamp is a producer's. If several consumers
    /// read the topic, their results are combined.
    #[must_use]
    pub fn push(&mut self, record: &RawRecord<'_>) -> Folded {
        self.push_appended(record, None)
    }

    /// Like [`Replay::push`], for a record that the broker appended at `appended_ms` (Unix ms), if its timestamp says
    /// so.
    #[must_use]
    pub fn push_appended(&mut self, record: &RawRecord<'_>, appended_ms: Option<i64>) -> Folded {
        let mut all = Folded::default();
        for (engine, partition_replay) in self.partitions_of(record.topic, record.partition) {
            let folded = engine.add(&mut partition_replay.fold, record);
            if let Some(time) = folded.time_ms {
                partition_replay.since.get_or_insert(time);
                partition_replay.newest = partition_replay.newest.max(Some(time));
                partition_replay.progress.record(time, appended_ms);
            }
            all.matched += folded.matched;
            all.time_ms = all.time_ms.max(folded.time_ms);
            all.undecodable = all.undecodable.or(folded.undecodable);
        }
        all
    }

    /// Advances a partition's event time without a record, as the clock does for a partition that has been read to its
    /// end.
    pub fn advance_partition(&mut self, topic: &str, partition: i32, at_ms: i64) {
        self.partitions_of(topic, partition)
            .for_each(|(_, partition_replay)| partition_replay.reached(at_ms));
    }

    /// Decides all that the partitions' event time allows, and returns it in event-time order. Each call continues
    /// where the previous one ended. For records that are not late, it does not matter when it is called.
    pub fn decide(&mut self) -> Vec<ReplayEvent> {
        let partitions = self.consumers.iter_mut().enumerate().flat_map(|(at, consumer)| {
            consumer
                .partitions
                .iter_mut()
                .map(move |((topic, _), partition_replay)| (at, topic, partition_replay))
        });
        for (consumer, topic, partition_replay) in partitions {
            let taken = partition_replay.fold.take();
            for dropped in taken.dropped {
                let reads = |run: &RuleReplay| run.consumer == consumer && run.plan.topics.contains(topic);
                let concerned = match dropped.rule {
                    Some(rule) => vec![rule],
                    None => self.rules.iter().filter(|(_, run)| reads(run)).map(|(uid, _)| *uid).collect(),
                };
                for rule in concerned {
                    *self.dropped.entry((rule, dropped.reason)).or_default() += dropped.count;
                }
            }
            for count in taken.counts {
                if let Some(run) = self.rules.get_mut(&count.rule) {
                    let (group, bucket) = (count.group.clone(), count.bucket_ms);
                    run.count(group, bucket, count.into());
                }
            }
            self.records.extend(taken.records);
        }
        let mut events = Vec::new();
        for matched in std::mem::take(&mut self.records) {
            if let Some(run) = self.rules.get_mut(&matched.rule) {
                run.tally.matched += 1;
            }
            events.push(ReplayEvent {
                time_ms: matched.sample.at.time.as_millisecond(),
                rule: matched.rule,
                group: matched.group,
                decision: None,
                first: None,
                last: Some(matched.sample),
                top: BTreeMap::new(),
            });
        }
        for (uid, run) in &mut self.rules {
            let known = self.consumers.get(run.consumer).into_iter().flat_map(|it| &it.partitions);
            let read = known.filter(|((topic, _), _)| run.plan.topics.contains(topic));
            let read: Vec<&PartitionReplay> = read.map(|(_, partition_replay)| partition_replay).collect();
            let Some(params) = run.params else { continue };
            let progress = read.iter().map(|partition_replay| partition_replay.progress.at());
            if let Some(to) = params.next_decided_to(run.decided, progress, i64::MAX) {
                let observed = run
                    .observed
                    .or_else(|| decide::observed(read.iter().map(|partition_replay| partition_replay.since)));
                run.decide(*uid, &params, Reached { to, observed }, &mut events);
            }
        }
        let at = |event: &ReplayEvent| event.last.as_ref().map(|last| last.at.clone());
        events
            .sort_by(|a, b| (a.time_ms, a.rule, &a.group, at(a)).cmp(&(b.time_ms, b.rule, &b.group, at(b))));
        events
    }

    /// Advances all partitions to `until_ms` and decides up to there; without it, to the instant at which every count
    /// is decided.
    pub fn finish(&mut self, until_ms: Option<i64>) -> Vec<ReplayEvent> {
        if let Some(until) = until_ms.or_else(|| self.end()) {
            for partition_replay in self.consumers.iter_mut().flat_map(|it| it.partitions.values_mut()) {
                partition_replay.reached(until);
            }
        }
        self.decide()
    }

    /// The instant at which every bucket that has a record by now is decided.
    fn end(&self) -> Option<i64> {
        let partitions = self.consumers.iter().flat_map(|it| it.partitions.values());
        let last = partitions
            .filter_map(|partition_replay| partition_replay.progress.at().max(partition_replay.newest))
            .max()?;
        let wait =
            |run: &RuleReplay| run.params.map_or(0, |it| it.buckets().width() + run.plan.allowed_lateness.0);
        Some(last.saturating_add(self.rules.values().map(wait).max().unwrap_or(0)))
    }

    /// What happened to a rule's records, as far as [`Replay::decide`] has seen them.
    pub fn tally(&self, rule: Uuid) -> Option<RuleTally> {
        self.rules.get(&rule).map(|run| run.tally)
    }

    /// Dropped records, by rule and reason.
    pub fn dropped(&self) -> &BTreeMap<(Uuid, DropReason), i64> {
        &self.dropped
    }
}

impl RuleReplay {
    fn new(plan: &RulePlan, consumer: usize) -> Self {
        let params = RuleParams::from_plan(plan);
        let mut groups = BTreeMap::new();
        for group in decide::expected_groups(plan) {
            groups.insert(group, GroupReplay { state: GroupState::expected(), ..GroupReplay::default() });
        }
        Self {
            consumer,
            plan: plan.clone(),
            params,
            groups,
            decided: None,
            observed: None,
            tally: RuleTally::default(),
        }
    }

    fn count(&mut self, group: Group, bucket: i64, counted: Aggregate) {
        let Some(params) = self.params else { return };
        self.tally.matched += counted.count;
        if params.is_late(bucket, self.decided) {
            self.tally.late += counted.count;
            return;
        }
        let held = self.groups.entry(group).or_default();
        held.next = None;
        match held.buckets.get_mut(&bucket) {
            Some(into) => into.merge(counted, params.values_kept()),
            None => {
                held.buckets.insert(bucket, counted);
            }
        }
    }

    fn decide(&mut self, rule: Uuid, params: &RuleParams, reached: Reached, events: &mut Vec<ReplayEvent>) {
        let decided = self.decided.replace(reached.to);
        self.observed = reached.observed;
        self.groups.retain(|group, held| {
            if decided.is_some() && held.next.is_some_and(|next| next > reached.to) {
                return true;
            }
            let buckets: Vec<Bucket> = held
                .buckets
                .iter()
                .map(|(start, it)| Bucket { start_ms: *start, count: it.count, extras: it.extras.clone() })
                .collect();
            let step = decide::decide(params, &mut held.state, &buckets, decided, reached, usize::MAX);
            for decision in step.decisions {
                if let Some(event) = held.event(rule, group, decision) {
                    events.push(event);
                }
            }
            held.buckets = held.buckets.split_off(&step.keep_from);
            // With nothing due, the group waits for a record.
            held.next = step.next_due.or(Some(i64::MAX));
            !step.is_over
        });
    }
}

impl GroupReplay {
    /// The notification of a decision; `None` if the decision notifies nobody.
    fn event(&mut self, rule: Uuid, group: &Group, decision: Decision) -> Option<ReplayEvent> {
        let window = || self.buckets.range(decision.window_start_ms..decision.window_end_ms);
        let first = window().next().map(|(_, it)| it.first.clone());
        let last = window().next_back().map(|(_, it)| it.last.clone());
        self.sample = decision.shown_record(decision.own_sample().cloned(), last, self.sample.take());
        let mut top = BTreeMap::new();
        for (_, it) in window() {
            merge_top(&mut top, it.top.clone());
        }
        decision.notify.then(|| ReplayEvent {
            time_ms: decision.at_ms,
            rule,
            group: group.clone(),
            decision: Some(decision),
            first,
            last: self.sample.clone(),
            top,
        })
    }
}

#[cfg(test)]
mod law;
#[cfg(test)]
mod tests;
