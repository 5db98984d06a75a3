//! The thread that reads: polls Kafka, folds, and says when a commit is due.
//!
//! Invariants: it never waits for hub or broker longer than 50 ms, but for the bounded last commit when partitions go or
//! the process stops; folds of one commit come from one plan; what is held is bounded, and over the bound no more records
//! are taken. Never here: an HTTP call, or a rule's meaning.

mod partitions;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use alerting::fold::PartitionFold;
use protocol::messages::{Commit, Entry, EntryResult};

use super::books::{Books, Key, Next};
use super::events::{Asks, Ended, Event, Outgoing, now_ms};
use super::metrics::{Metrics, Outcome, Reason};
use super::plan::Compiled;
use super::problems::Standing;
use super::stalls::Stalls;
use super::survey::Survey;
use crate::health::Beat;
use crate::kafka::{Consumer, Letter};

/// Over this, what is held is committed at once, and while it can't be, no more is taken. Bytes, about as its commit has them:
/// an eighth of what the hub takes at once, since they may take fifty times as much memory there.
pub const MAX_HELD: usize = protocol::weight::MAX_BODY / 8;
/// The same for the counts and records of a partition: the hub takes twice as many in one entry.
const MAX_ITEMS: usize = 500;
/// Matches wait at most this long, where none of them is a notification by itself.
const COUNTS_WAIT: Duration = Duration::from_millis(200);
/// Records without a match wait at most this long.
const OFFSETS_WAIT: Duration = Duration::from_secs(1);
/// How long the last commit of partitions that go may take, and of all when the process stops.
const TAKEN_WAIT: Duration = Duration::from_secs(3);
const STOP_WAIT: Duration = Duration::from_secs(4);
const CLOSE_WAIT: Duration = Duration::from_secs(3);
/// How often the ends are asked for, while alerts could change by time alone, and otherwise.
const LOOK_HOT: Duration = Duration::from_secs(1);
const LOOK_COLD: Duration = Duration::from_secs(5);
/// The group hears of offsets this often.
const GROUP_EVERY: Duration = Duration::from_secs(5);

/// What is held of a partition.
#[derive(Default)]
pub struct Held {
    fold: PartitionFold,
    /// Event time of the first record.
    since_ms: Option<i64>,
    letters: Vec<Letter>,
    letter_bytes: usize,
}

impl Held {
    fn weight(&self) -> usize {
        self.fold.weight() + self.letter_bytes
    }
}

/// What makes a commit due.
// Independent facts, not states of one machine.
#[allow(clippy::struct_excessive_bools)]
#[derive(Default)]
struct Due {
    /// What is held, bytes.
    weight: usize,
    /// A partition holds as many counts and records as it may.
    full: bool,
    /// Since when something is held.
    since: Option<Instant>,
    /// A match is held.
    matched: bool,
    /// A notification is held.
    urgent: bool,
    /// Event time may have moved by the clock: tell it now.
    clock_moved: bool,
}

/// The reader. See the module.
// Independent facts, not states of one machine.
#[allow(clippy::struct_excessive_bools)]
pub struct Reader {
    consumer: Consumer,
    events: Receiver<Event>,
    asks: Asks,
    standing: Standing,
    metrics: Metrics,
    books: Books<Held>,
    survey: Survey,
    plan: Option<Compiled>,
    pending: Option<Box<Compiled>>,
    commits: u64,
    /// Counts and records that a partition may hold.
    items: usize,
    due: Due,
    /// Tell the hub of every partition, even without news: it learns that a new plan runs.
    announce: bool,
    /// Partitions of ours whose position is not known yet.
    wanted: BTreeSet<Key>,
    asking: bool,
    ask_after: Instant,
    looking: bool,
    looked: Instant,
    /// Clock of the last match or opening: alerts may be waiting for time to pass.
    stirred_ms: i64,
    /// Offsets that the group has not heard of.
    untold: BTreeMap<Key, i64>,
    told: Instant,
    /// A position was out of range: compare all with the ends.
    lost_place: bool,
    stalls: Stalls,
    /// Topics that the broker lets nobody of ours read.
    barred: BTreeSet<String>,
    /// A partition stands still: leave, for another to begin.
    stood: bool,
    stopping: bool,
}

impl Reader {
    /// Not reading yet.
    pub fn new(
        consumer: Consumer,
        events: Receiver<Event>,
        asks: Asks,
        standing: Standing,
        metrics: Metrics,
        stalls: Stalls,
    ) -> Self {
        let now = Instant::now();
        let mut books = Books::new();
        books.surveyed(i64::MIN);
        Self {
            consumer,
            events,
            asks,
            standing,
            metrics,
            books,
            survey: Survey::default(),
            plan: None,
            pending: None,
            commits: 0,
            items: MAX_ITEMS,
            due: Due::default(),
            announce: false,
            wanted: BTreeSet::new(),
            asking: false,
            ask_after: now,
            looking: false,
            // The first look is at once.
            looked: now.checked_sub(LOOK_COLD).unwrap_or(now),
            stirred_ms: 0,
            untold: BTreeMap::new(),
            told: now,
            lost_place: false,
            stalls,
            barred: BTreeSet::new(),
            stood: false,
            stopping: false,
        }
    }

    /// Reads until it is told to stop, or a partition stands still; fails when the Kafka client can't go on.
    pub fn run(mut self, beat: &Beat) -> anyhow::Result<Ended> {
        while !self.stopping && !self.stood {
            beat.beat();
            while let Ok(event) = self.events.try_recv() {
                self.event(event);
            }
            self.rebalance();
            self.switch();
            self.commit_if_due();
            self.ask();
            self.tell_group();
            self.read()?;
        }
        self.settle(Instant::now() + STOP_WAIT, None);
        self.told = Instant::now().checked_sub(GROUP_EVERY).unwrap_or(self.told);
        self.tell_group();
        self.consumer.close(CLOSE_WAIT);
        Ok(if self.stopping { Ended::Left } else { Ended::Stood })
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Plan(plan) => self.pending = Some(plan),
            Event::NoPlan => self.idle(),
            Event::Answered(id, answers) if id == self.commits && self.books.in_flight() => {
                self.answered(&answers);
            }
            Event::Answered(..) => {}
            Event::TooLarge => self.items = (self.items / 2).max(1),
            Event::Positions(answer) => self.positions(answer),
            Event::Looked(clock_ms, answer) => self.looked(clock_ms, answer),
            Event::Topics(ids) => self.topics(&ids),
            Event::Stop => self.stopping = true,
        }
    }

    /// Puts the pending plan in force once nothing folded by the old one is held.
    fn switch(&mut self) {
        if self.pending.is_none() || (self.books.holds() && self.books.in_flight()) {
            return;
        }
        if self.books.holds() {
            self.commit(false);
        }
        let Some(plan) = self.pending.take() else { return };
        if self.plan.as_ref().is_none_or(|old| old.topics != plan.topics) {
            if let Err(error) = self.consumer.subscribe(&plan.topics) {
                tracing::error!(%error, "can't subscribe");
            }
            self.survey.only(&plan.topics);
            self.wanted.retain(|key| plan.topics.iter().any(|topic| **topic == *key.topic));
        }
        tracing::info!(revision = %plan.revision, rules = plan.running.len(), topics = plan.topics.len(), "plan runs");
        self.standing.runs(Some(&plan));
        self.stirred_ms = now_ms();
        self.announce = true;
        self.plan = Some(*plan);
    }

    /// No rule reads the source: nothing can be committed, so nothing is read.
    fn idle(&mut self) {
        self.pending = None;
        if self.plan.take().is_none() {
            return;
        }
        tracing::info!("no rule reads this source; waiting for one");
        let _ = self.consumer.subscribe(&[]);
        for (key, _) in self.books.partitions() {
            let _ = self.consumer.stop(&key.topic, key.partition);
        }
        self.books.abandon();
        self.survey.forget();
        self.wanted.clear();
        self.nothing_held();
        self.standing.runs(None);
    }

    fn commit_if_due(&mut self) {
        if self.plan.is_none() {
            return;
        }
        let holds = self.books.holds();
        let age = self.due.since.filter(|_| holds).map_or(Duration::ZERO, |since| since.elapsed());
        let full = self.due.full || self.due.weight >= MAX_HELD;
        let due = full
            || (holds && self.due.urgent)
            || (holds && self.due.matched && age >= COUNTS_WAIT)
            || (holds && age >= OFFSETS_WAIT)
            || (self.due.clock_moved && self.books.has_news())
            || self.announce;
        if self.books.in_flight() {
            if full {
                self.pause(true);
            }
        } else if due {
            self.commit(self.announce);
        }
        if !self.due.full && self.due.weight < MAX_HELD {
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

    /// Hands all that is held to the sender. Nothing happens while a commit is in flight.
    fn commit(&mut self, all: bool) {
        let Some(plan) = &self.plan else { return };
        let taken = self.books.take(all);
        if taken.is_empty() {
            return;
        }
        self.commits += 1;
        let mut letters = Vec::new();
        let mut entries = Vec::with_capacity(taken.len());
        for (sent, mut held) in taken {
            let aggregates = held.fold.take();
            for dropped in &aggregates.dropped {
                let reason = Reason { reason: dropped.reason.name() };
                self.metrics.rejected.get_or_create(&reason).inc_by(dropped.count.max(0) as u64);
            }
            letters.extend(held.letters.into_iter().map(|letter| (entries.len(), letter)));
            entries.push(Entry {
                topic: sent.key.topic.to_string(),
                topic_id: sent.topic_id.to_string(),
                partition: sent.key.partition,
                from: sent.from,
                to: sent.to,
                progress_ms: sent.progress,
                since_ms: held.since_ms,
                end: sent.end,
                counts: aggregates.counts,
                records: aggregates.records,
                dropped: aggregates.dropped,
                dead_letters: Vec::new(),
            });
        }
        let (revision, rules) = (plan.revision.clone(), plan.states.clone());
        let commit = Commit { revision, rules, survey: Some(self.survey.told()), entries };
        // The sender ends only with the process.
        let _ = self.asks.commits.send(Outgoing { id: self.commits, commit, letters });
        self.announce = false;
        self.nothing_held();
    }

    fn nothing_held(&mut self) {
        self.due = Due::default();
        self.metrics.held_bytes.set(0);
    }

    fn answered(&mut self, answers: &[EntryResult]) {
        for next in self.books.answered(answers) {
            match next {
                Next::Done(key, offset) => {
                    self.count("accepted");
                    // Back to the bound, slowly: what was too much is likely to be again.
                    self.items = (self.items + self.items / 8 + 1).min(MAX_ITEMS);
                    self.untold.insert(key, offset);
                }
                Next::Read(key, offset) => {
                    self.count("elsewhere");
                    tracing::info!(%key, offset, "the ledger is elsewhere; reading again from there");
                    if let Err(error) = self.consumer.read(&key.topic, key.partition, offset) {
                        tracing::warn!(%key, %error, "can't read; asking again");
                        self.want(key);
                    }
                }
                Next::Ask(key) => {
                    self.count("unknown");
                    self.survey.forget();
                    tracing::info!(%key, "the ledger does not know this topic; asking for positions");
                    self.want(key);
                }
            }
        }
        self.weigh();
    }

    fn count(&self, result: &'static str) {
        self.metrics.entries.get_or_create(&Outcome { result }).inc();
    }

    /// Waits for the answer of what is in flight and for a last commit, for as long as the partitions have something held.
    fn settle(&mut self, deadline: Instant, keys: Option<&[Key]>) {
        loop {
            if !self.books.in_flight() {
                let holds = match keys {
                    Some(keys) => keys.iter().any(|key| self.books.holds_of(key)),
                    None => self.books.holds(),
                };
                if !holds {
                    return;
                }
                self.commit(false);
                if !self.books.in_flight() {
                    return;
                }
            }
            if keys.is_some_and(|keys| {
                !keys.iter().any(|key| self.books.in_flight_of(key) || self.books.holds_of(key))
            }) {
                return;
            }
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => self.event(event),
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
        if self.told.elapsed() < GROUP_EVERY {
            return;
        }
        self.told = Instant::now();
        if let Some(progress) = self.books.oldest_progress() {
            self.metrics.progress_age.set((now_ms() - progress) as f64 / 1000.0);
        }
        let untold = std::mem::take(&mut self.untold);
        self.consumer.tell_group(untold.iter().map(|(key, offset)| (&*key.topic, key.partition, *offset)));
    }
}
