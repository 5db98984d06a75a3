//! What a consumer owes the hub: per partition, which records are folded and not yet accepted.
//!
//! A pure state machine. Invariants: a partition's held fold covers exactly the records from its `from` to its `read`,
//! each once, in one plan; at most one commit is in flight, and it is sent unchanged until it is answered; after an
//! answer the next `from` is what the ledger holds. Never here: Kafka, the hub, a clock, or what a fold is made of.
//!
//! Clauses of docs/semantics.md: R2, R4.

use std::sync::Arc;

use alerting::progress::Progress;
use protocol::messages::EntryResult;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: i32,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// An open partition.
#[derive(Debug)]
pub struct Open<F> {
    topic_id: Arc<str>,
    /// Tells this opening from an earlier one of the same partition, whose commit may still be in flight.
    epoch: u64,
    from: i64,
    read: i64,
    held: F,
    end: i64,
    progress: Progress,
    /// How far that had come when it was last told, but not later than decisions may go.
    told: Option<i64>,
    /// Where the partition ended, and a clock from before that was known: what came before has been read by then.
    mark: Option<(i64, i64)>,
}

/// One partition's part of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Which partition.
    pub key: Key,
    /// The topic's id.
    pub topic_id: Arc<str>,
    /// What the ledger must hold.
    pub from: i64,
    /// The next offset to read.
    pub to: i64,
    /// Event-time progress, Unix ms.
    pub progress: Option<i64>,
    /// The partition's end as last seen.
    pub end: i64,
    epoch: u64,
}

/// What to do after an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Up to this offset all is in the ledger.
    Done(Key, i64),
    /// What was held is dropped: read on from this offset.
    Read(Key, i64),
    /// What was held is dropped and the partition closed: ask for positions.
    Ask(Key),
}

/// The books of one consumer. `F` is a fold, its default an empty one.
#[derive(Debug)]
pub struct Books<F> {
    /// Sorted by key.
    open: Vec<(Key, Open<F>)>,
    flight: Option<Vec<Sent>>,
    epochs: u64,
    /// Up to when all partitions are known: event time beyond it decides nothing yet.
    surveyed: i64,
}

impl<F> Open<F> {
    /// The fold that a record belongs to, which says its event time, and the partition's event-time progress, which takes
    /// that; `None` for a record that was read already. The record counts as read.
    pub fn admit(&mut self, offset: i64) -> Option<(&mut F, &mut Progress)> {
        if offset < self.read {
            return None;
        }
        self.reached(offset + 1);
        Some((&mut self.held, &mut self.progress))
    }

    /// Every record before `offset` has come: what lies between the last one and there are no records.
    pub fn reached(&mut self, offset: i64) {
        self.read = self.read.max(offset);
        self.end = self.end.max(offset);
        if let Some((_, clock_ms)) = self.mark.take_if(|(end, _)| *end <= self.read) {
            self.progress.advance_to(clock_ms);
        }
    }

    /// How far event time counts.
    fn counts_to(&self, surveyed: i64) -> Option<i64> {
        self.progress.at().min(Some(surveyed))
    }

    /// The id of its topic.
    pub fn topic_id(&self) -> &str {
        &self.topic_id
    }
}

impl<F: Default> Books<F> {
    /// Nothing open.
    pub fn new() -> Self {
        Self { open: Vec::new(), flight: None, epochs: 0, surveyed: i64::MAX }
    }

    /// Opens a partition, or opens it anew: the ledger holds `from`, and `read` is the first record to come (later than
    /// `from` where retention removed what was between).
    pub fn open(&mut self, key: Key, topic_id: Arc<str>, from: i64, read: i64) {
        self.epochs += 1;
        let read = read.max(from);
        let open = Open {
            topic_id,
            epoch: self.epochs,
            from,
            read,
            held: F::default(),
            end: read,
            progress: Progress::default(),
            told: None,
            mark: None,
        };
        match self.place(&key.topic, key.partition) {
            Ok(at) => self.open[at].1 = open,
            Err(at) => self.open.insert(at, (key, open)),
        }
    }

    /// Closes a partition and drops what is held of it.
    pub fn close(&mut self, key: &Key) {
        if let Ok(at) = self.place(&key.topic, key.partition) {
            self.open.remove(at);
        }
    }

    /// Where the partition is, or would be.
    fn place(&self, topic: &str, partition: i32) -> Result<usize, usize> {
        self.open.binary_search_by(|(key, _)| (&*key.topic, key.partition).cmp(&(topic, partition)))
    }

    fn get(&self, key: &Key) -> Option<&Open<F>> {
        let at = self.place(&key.topic, key.partition).ok()?;
        self.open.get(at).map(|(_, open)| open)
    }

    fn get_mut(&mut self, key: &Key) -> Option<&mut Open<F>> {
        let at = self.place(&key.topic, key.partition).ok()?;
        self.open.get_mut(at).map(|(_, open)| open)
    }

    fn values(&self) -> impl Iterator<Item = &Open<F>> {
        self.open.iter().map(|(_, open)| open)
    }

    /// The open partitions with the ids of their topics.
    pub fn partitions(&self) -> impl Iterator<Item = (&Key, &Arc<str>)> {
        self.open.iter().map(|(key, open)| (key, &open.topic_id))
    }

    /// The next offset to read, if the partition is open.
    pub fn read(&self, key: &Key) -> Option<i64> {
        self.get(key).map(|open| open.read)
    }

    /// A partition to read records of, if it is open. `place` is where the record before found its own: many of one
    /// partition come in a row.
    pub fn reading(&mut self, topic: &str, partition: i32, place: &mut usize) -> Option<&mut Open<F>> {
        let is_there = |(key, _): &(Key, _)| key.partition == partition && *key.topic == *topic;
        if !self.open.get(*place).is_some_and(is_there) {
            *place = self.place(topic, partition).ok()?;
        }
        self.open.get_mut(*place).map(|(_, open)| open)
    }

    /// Records before `offset` can't be read any more. Returns how many those are.
    pub fn skip_to(&mut self, key: &Key, offset: i64) -> i64 {
        let Some(open) = self.get_mut(key) else { return 0 };
        let missed = (offset - open.read).max(0);
        open.read += missed;
        missed
    }

    /// The broker said where the partition ends, and the clock from before it was asked, if that is known: event time has come
    /// that far once all before the end is read. Of several ends that are not reached yet, the first counts.
    pub fn ends(&mut self, key: &Key, end: i64, clock_ms: Option<i64>) {
        let Some(open) = self.get_mut(key) else { return };
        open.end = end.max(open.read);
        if let Some(clock_ms) = clock_ms {
            // A log that was cut may end before.
            let _ = open.mark.take_if(|(before, _)| *before > end);
            open.mark.get_or_insert((end, clock_ms));
            open.reached(open.read);
        }
    }

    /// All partitions that were there at this clock are known; nothing else is decided by event time beyond it.
    pub fn surveyed(&mut self, at_ms: i64) {
        self.surveyed = at_ms;
    }

    /// Records between the read offset and the end, over all partitions.
    pub fn lag(&self) -> i64 {
        self.values().map(|open| open.end - open.read).sum()
    }

    /// What is held.
    pub fn held(&self) -> impl Iterator<Item = &F> {
        self.values().map(|open| &open.held)
    }

    /// The smallest event-time progress, if every partition has one.
    pub fn oldest_progress(&self) -> Option<i64> {
        self.values().map(|open| open.progress.at()).min().flatten()
    }

    /// Whether a commit is in flight.
    pub fn in_flight(&self) -> bool {
        self.flight.is_some()
    }

    /// Whether the commit in flight has an entry of this opening of the partition.
    pub fn in_flight_of(&self, key: &Key) -> bool {
        let epoch = self.get(key).map(|open| open.epoch);
        self.flight.iter().flatten().any(|sent| sent.key == *key && Some(sent.epoch) == epoch)
    }

    /// Whether any records are held.
    pub fn holds(&self) -> bool {
        self.values().any(|open| open.read > open.from)
    }

    /// Whether records of this partition are held.
    pub fn holds_of(&self, key: &Key) -> bool {
        self.get(key).is_some_and(|open| open.read > open.from)
    }

    /// Whether event time moved on since it was last told.
    pub fn has_news(&self) -> bool {
        self.values().any(|open| open.counts_to(self.surveyed) > open.told)
    }

    /// Takes all that is held into a commit, with the folds; afterwards nothing is held. With `all`, partitions without
    /// news get an empty entry too. Empty when one is in flight or there is nothing to say.
    pub fn take(&mut self, all: bool) -> Vec<(Sent, F)> {
        if self.flight.is_some() {
            return Vec::new();
        }
        let mut taken = Vec::new();
        for (key, open) in &mut self.open {
            let counts_to = open.counts_to(self.surveyed);
            if !(all || open.read > open.from || counts_to > open.told) {
                continue;
            }
            let sent = Sent {
                key: key.clone(),
                topic_id: Arc::clone(&open.topic_id),
                from: open.from,
                to: open.read,
                progress: open.progress.at(),
                end: open.end,
                epoch: open.epoch,
            };
            open.from = open.read;
            open.told = counts_to;
            taken.push((sent, std::mem::take(&mut open.held)));
        }
        if !taken.is_empty() {
            self.flight = Some(taken.iter().map(|(sent, _)| sent.clone()).collect());
        }
        taken
    }

    /// The commit in flight was answered, one answer for each entry.
    ///
    /// `Elsewhere(to)` is as good as accepted: an earlier try whose answer was lost did it, or another consumer read the
    /// same records; either way the ledger has counted up to `to`, and what is held begins there.
    pub fn answered(&mut self, answers: &[EntryResult]) -> Vec<Next> {
        let mut next = Vec::new();
        for (at, sent) in self.flight.take().into_iter().flatten().enumerate() {
            // A missing answer is no answer to rest on: ask.
            let answer = answers.get(at).copied().unwrap_or(EntryResult::Unknown);
            let Some(open) = self.get_mut(&sent.key).filter(|open| open.epoch == sent.epoch) else {
                continue;
            };
            match answer {
                EntryResult::Accepted(_) => next.push(Next::Done(sent.key, sent.to)),
                EntryResult::Elsewhere(offset) if offset == sent.to => {
                    next.push(Next::Done(sent.key, sent.to));
                }
                EntryResult::Elsewhere(offset) => {
                    open.from = offset;
                    open.read = offset;
                    open.held = F::default();
                    open.told = None;
                    open.progress = Progress::default();
                    open.mark = None;
                    next.push(Next::Read(sent.key, offset));
                }
                EntryResult::Unknown => {
                    self.close(&sent.key);
                    next.push(Next::Ask(sent.key));
                }
            }
        }
        next
    }

    /// The commit in flight can never be accepted (no rule reads the source any more): forget it and close everything.
    pub fn abandon(&mut self) {
        self.flight = None;
        self.open.clear();
    }
}

#[cfg(test)]
#[path = "books_tests.rs"]
mod tests;
