//! The thread that reads: polls Kafka, folds records, and decides when a commit is due.
//!
//! Invariants: it waits at most 50 ms for hub or broker, except for the last commit of revoked partitions or of the process,
//! which is bounded too; all folds of one commit come from one plan; the memory of uncommitted records is bounded, and above
//! the bound the reader takes no more. It makes no HTTP call; tasks do.

mod partitions;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use alerting::fold::PartitionFold;
use protocol::messages::{Commit, Entry, EntryResult};

use super::events::{Ended, OutgoingCommit, ReaderEvent, ReaderRequests, now_ms};
use super::metrics::{ByReason, ByResult, ConsumerMetrics};
use super::offsets::{FollowUp, OffsetTracker, PartitionKey};
use super::plan::CompiledPlan;
use super::stalls::StallDetector;
use super::status::ConsumerStatus;
use super::survey::PartitionSurvey;
use crate::health::Heartbeat;
use crate::kafka::{DeadLetterRecord, GroupConsumer};

/// Above this many bytes of uncommitted records the reader commits at once, and takes no more while a commit is in flight.
/// Counted about as the commit writes them: an eighth of what the hub takes in one request, since they may take fifty times
/// as much memory there.
pub const MAX_UNCOMMITTED: usize = protocol::weight::MAX_BODY / 8;
/// The same for the number of counts and records of one partition: the hub takes twice as many in one entry.
const MAX_ITEMS: usize = 500;
/// Matches wait at most this long for a commit, unless one of them is a notification: that is committed at once.
const COUNTS_WAIT: Duration = Duration::from_millis(200);
/// Records without a match wait at most this long for a commit.
const OFFSETS_WAIT: Duration = Duration::from_secs(1);
/// How long the last commit may take: of revoked partitions, and when the reader stops; and how long leaving the group may
/// take.
const REVOKED_WAIT: Duration = Duration::from_secs(3);
const STOP_WAIT: Duration = Duration::from_secs(4);
const CLOSE_WAIT: Duration = Duration::from_secs(3);
/// How often the reader asks for partitions and ends: while alerts may change by time alone, and otherwise.
const SURVEY_HOT: Duration = Duration::from_secs(1);
const SURVEY_IDLE: Duration = Duration::from_secs(5);
/// How often offsets are committed to the consumer group.
const GROUP_EVERY: Duration = Duration::from_secs(5);

/// What was read of a partition and is not committed yet.
#[derive(Default)]
pub struct PartitionBuffer {
    fold: PartitionFold,
    /// Event time of the first record, Unix ms.
    since_ms: Option<i64>,
    dead_letters: Vec<DeadLetterRecord>,
    letter_bytes: usize,
}

impl PartitionBuffer {
    fn weight(&self) -> usize {
        self.fold.weight() + self.letter_bytes
    }
}

/// What makes a commit due.
// Independent facts, not states of one machine.
#[allow(clippy::struct_excessive_bools)]
#[derive(Default)]
struct CommitTriggers {
    /// Weight of all uncommitted records, bytes.
    weight: usize,
    /// A partition holds as many counts and records as one entry may have.
    full: bool,
    /// When the first uncommitted record was read.
    since: Option<Instant>,
    /// A match is uncommitted.
    matched: bool,
    /// A match that is a notification is uncommitted.
    urgent: bool,
    /// Event time may have moved by the clock: commit it now.
    clock_moved: bool,
}

/// The reader. See the module.
// Independent facts, not states of one machine.
#[allow(clippy::struct_excessive_bools)]
pub struct SourceReader {
    consumer: GroupConsumer,
    events: Receiver<ReaderEvent>,
    requests: ReaderRequests,
    status: ConsumerStatus,
    metrics: ConsumerMetrics,
    tracker: OffsetTracker<PartitionBuffer>,
    survey: PartitionSurvey,
    plan: Option<CompiledPlan>,
    pending: Option<Box<CompiledPlan>>,
    commits: u64,
    /// How many counts and records a partition may hold.
    max_items: usize,
    due: CommitTriggers,
    /// The next commit has an entry for every partition, so that the hub learns that a new plan runs.
    announce_plan: bool,
    /// Assigned partitions whose position is not known yet.
    wanted: BTreeSet<PartitionKey>,
    awaiting_positions: bool,
    ask_after: Instant,
    awaiting_survey: bool,
    last_survey: Instant,
    /// Clock (Unix ms) of the last match or opening of partitions: alerts may change by time alone for a while after it.
    last_activity_ms: i64,
    /// Offsets not committed to the group yet.
    untold: BTreeMap<PartitionKey, i64>,
    group_told: Instant,
    /// A position was out of range: compare all positions with the ends soon.
    offset_lost: bool,
    stalls: StallDetector,
    /// Topics that the broker does not let the user read.
    forbidden_topics: BTreeSet<String>,
    /// A partition stalls: end, so that the supervisor starts another reader.
    stalled: bool,
    stopping: bool,
}

impl SourceReader {
    /// A reader that has not begun to read.
    pub fn new(
        consumer: GroupConsumer,
        events: Receiver<ReaderEvent>,
        requests: ReaderRequests,
        status: ConsumerStatus,
        metrics: ConsumerMetrics,
        stalls: StallDetector,
    ) -> Self {
        let now = Instant::now();
        let mut tracker = OffsetTracker::new();
        tracker.surveyed_up_to(i64::MIN);
        Self {
            consumer,
            events,
            requests,
            status,
            metrics,
            tracker,
            survey: PartitionSurvey::default(),
            plan: None,
            pending: None,
            commits: 0,
            max_items: MAX_ITEMS,
            due: CommitTriggers::default(),
            announce_plan: false,
            wanted: BTreeSet::new(),
            awaiting_positions: false,
            ask_after: now,
            awaiting_survey: false,
            // The first survey is asked for at once.
            last_survey: now.checked_sub(SURVEY_IDLE).unwrap_or(now),
            last_activity_ms: 0,
            untold: BTreeMap::new(),
            group_told: now,
            offset_lost: false,
            stalls,
            forbidden_topics: BTreeSet::new(),
            stalled: false,
            stopping: false,
        }
    }

    /// Reads until it is told to stop or a partition stalls; fails if the Kafka client can't go on.
    pub fn read_until_stopped(mut self, beat: &Heartbeat) -> anyhow::Result<Ended> {
        while !self.stopping && !self.stalled {
            beat.beat();
            while let Ok(event) = self.events.try_recv() {
                self.handle_event(event);
            }
            self.follow_rebalances();
            self.switch_plan();
            self.commit_if_due();
            self.send_requests();
            self.tell_group();
            self.read_records()?;
        }
        self.commit_and_wait(Instant::now() + STOP_WAIT, None);
        self.group_told = Instant::now().checked_sub(GROUP_EVERY).unwrap_or(self.group_told);
        self.tell_group();
        self.consumer.close(CLOSE_WAIT);
        Ok(if self.stopping { Ended::Stopped } else { Ended::Stalled })
    }

    fn handle_event(&mut self, event: ReaderEvent) {
        match event {
            ReaderEvent::Plan(plan) => self.pending = Some(plan),
            ReaderEvent::NoPlan => self.stop_reading(),
            ReaderEvent::Answered(id, answers) if id == self.commits && self.tracker.in_flight() => {
                self.apply_answers(&answers);
            }
            ReaderEvent::Answered(..) => {}
            ReaderEvent::TooLarge => self.max_items = (self.max_items / 2).max(1),
            ReaderEvent::Positions(answer) => self.open_partitions(answer),
            ReaderEvent::Surveyed(clock_ms, answer) => self.apply_survey(clock_ms, answer),
            ReaderEvent::Topics(ids) => self.close_recreated_topics(&ids),
            ReaderEvent::Stop => self.stopping = true,
        }
    }

    /// Switches to the pending plan once everything folded by the old one is in a commit.
    fn switch_plan(&mut self) {
        if self.pending.is_none() || (self.tracker.holds_records() && self.tracker.in_flight()) {
            return;
        }
        if self.tracker.holds_records() {
            self.commit(false);
        }
        let Some(plan) = self.pending.take() else { return };
        if self.plan.as_ref().is_none_or(|old| old.topics != plan.topics) {
            if let Err(error) = self.consumer.subscribe(&plan.topics) {
                tracing::error!(%error, "can't subscribe");
            }
            self.survey.retain_topics(&plan.topics);
            self.wanted.retain(|key| plan.topics.iter().any(|topic| **topic == *key.topic));
        }
        tracing::info!(revision = %plan.revision, rules = plan.running.len(), topics = plan.topics.len(), "plan runs");
        self.status.set_plan(Some(&plan));
        self.last_activity_ms = now_ms();
        self.announce_plan = true;
        self.plan = Some(*plan);
    }

    /// Stops reading, since no rule reads the source and nothing could be committed.
    fn stop_reading(&mut self) {
        self.pending = None;
        if self.plan.take().is_none() {
            return;
        }
        tracing::info!("no rule reads this source; waiting for one");
        let _ = self.consumer.subscribe(&[]);
        for (key, _) in self.tracker.partitions() {
            let _ = self.consumer.stop(&key.topic, key.partition);
        }
        self.tracker.close_all();
        self.survey.forget();
        self.wanted.clear();
        self.nothing_held();
        self.status.set_plan(None);
    }

    fn commit_if_due(&mut self) {
        if self.plan.is_none() {
            return;
        }
        let holds = self.tracker.holds_records();
        let age = self.due.since.filter(|_| holds).map_or(Duration::ZERO, |since| since.elapsed());
        let full = self.due.full || self.due.weight >= MAX_UNCOMMITTED;
        let due = full
            || (holds && self.due.urgent)
            || (holds && self.due.matched && age >= COUNTS_WAIT)
            || (holds && age >= OFFSETS_WAIT)
            || (self.due.clock_moved && self.tracker.has_new_progress())
            || self.announce_plan;
        if self.tracker.in_flight() {
            if full {
                self.pause(true);
            }
        } else if due {
            self.commit(self.announce_plan);
        }
        if !self.due.full && self.due.weight < MAX_UNCOMMITTED {
            self.pause(false);
        }
    }

    fn pause(&mut self, pause: bool) {
        if self.consumer.paused() != pause {
            tracing::debug!(pause, weight = self.due.weight, "records");
            if let Err(error) = self.consumer.pause(pause) {
                tracing::warn!(%error, pause, "can't pause or go on");
            }
        }
    }

    /// Sends everything uncommitted as one commit, unless one is in flight. With `all`, every partition gets an entry.
    fn commit(&mut self, all: bool) {
        let Some(plan) = &self.plan else { return };
        let taken = self.tracker.take_commit(all);
        if taken.is_empty() {
            return;
        }
        self.commits += 1;
        let mut dead_letters = Vec::new();
        let mut entries = Vec::with_capacity(taken.len());
        for (sent, mut buffer) in taken {
            let aggregates = buffer.fold.take();
            for dropped in &aggregates.dropped {
                let reason = ByReason { reason: dropped.reason.name() };
                self.metrics.rejected.get_or_create(&reason).inc_by(dropped.count.max(0) as u64);
            }
            dead_letters.extend(buffer.dead_letters.into_iter().map(|letter| (entries.len(), letter)));
            entries.push(Entry {
                topic: sent.key.topic.to_string(),
                topic_id: sent.topic_id.to_string(),
                partition: sent.key.partition,
                from: sent.from,
                to: sent.to,
                progress_ms: sent.progress,
                since_ms: buffer.since_ms,
                end: sent.end,
                counts: aggregates.counts,
                records: aggregates.records,
                dropped: aggregates.dropped,
                dead_letters: Vec::new(),
            });
        }
        let (revision, rules) = (plan.revision.clone(), plan.states.clone());
        let commit = Commit { revision, rules, survey: Some(self.survey.for_commit()), entries };
        // Fails only when the process ends.
        let _ = self.requests.commits.send(OutgoingCommit { id: self.commits, commit, dead_letters });
        self.announce_plan = false;
        self.nothing_held();
    }

    fn nothing_held(&mut self) {
        self.due = CommitTriggers::default();
        self.metrics.held_bytes.set(0);
    }

    fn apply_answers(&mut self, answers: &[EntryResult]) {
        for next in self.tracker.apply_answers(answers) {
            match next {
                FollowUp::Done(key, offset) => {
                    self.count_entry("accepted");
                    // Back to the bound slowly: what was too much is likely to be too much again.
                    self.max_items = (self.max_items + self.max_items / 8 + 1).min(MAX_ITEMS);
                    self.untold.insert(key, offset);
                }
                FollowUp::ReadFrom(key, offset) => {
                    self.count_entry("elsewhere");
                    tracing::info!(%key, offset, "the ledger is elsewhere; reading again from there");
                    if let Err(error) = self.consumer.read(&key.topic, key.partition, offset) {
                        tracing::warn!(%key, %error, "can't read; asking again");
                        self.wait_for_position(key);
                    }
                }
                FollowUp::AskPosition(key) => {
                    self.count_entry("unknown");
                    self.survey.forget();
                    tracing::info!(%key, "the ledger does not know this topic; asking for positions");
                    self.wait_for_position(key);
                }
            }
        }
        self.update_weight();
    }

    fn count_entry(&self, result: &'static str) {
        self.metrics.entries.get_or_create(&ByResult { result }).inc();
    }

    /// Waits for the commit in flight and makes a last one, until nothing of these partitions (or, with `None`, of any) is
    /// uncommitted or the deadline passes.
    fn commit_and_wait(&mut self, deadline: Instant, keys: Option<&[PartitionKey]>) {
        loop {
            if !self.tracker.in_flight() {
                let holds = match keys {
                    Some(keys) => keys.iter().any(|key| self.tracker.holds_records_of(key)),
                    None => self.tracker.holds_records(),
                };
                if !holds {
                    return;
                }
                self.commit(false);
                if !self.tracker.in_flight() {
                    return;
                }
            }
            if keys.is_some_and(|keys| {
                !keys.iter().any(|key| self.tracker.in_flight_of(key) || self.tracker.holds_records_of(key))
            }) {
                return;
            }
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => self.handle_event(event),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    tracing::warn!(
                        "the last commit was not answered in time; the next owner reads these records again"
                    );
                    return;
                }
            }
        }
    }

    fn tell_group(&mut self) {
        if self.group_told.elapsed() < GROUP_EVERY {
            return;
        }
        self.group_told = Instant::now();
        if let Some(progress) = self.tracker.oldest_progress() {
            self.metrics.progress_age.set((now_ms() - progress) as f64 / 1000.0);
        }
        let untold = std::mem::take(&mut self.untold);
        self.consumer.tell_group(untold.iter().map(|(key, offset)| (&*key.topic, key.partition, *offset)));
    }
}
