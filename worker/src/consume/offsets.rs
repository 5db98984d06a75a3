//! Tracks, for each partition, which records are folded and not yet accepted by the hub.
//!
//! A pure state machine: it knows neither Kafka nor the hub, has no clock, and does not look into folds. Invariants:
//! - a partition's fold covers exactly the records from its `from` to its `read`, each once, all by one plan;
//! - at most one commit is in flight, and it is sent unchanged until it is answered;
//! - after an answer the next `from` is the offset that the ledger holds.
//!
//! Clauses of docs/semantics.md: R2, R4.

use std::sync::Arc;

use alerting::progress::Progress;
use protocol::messages::EntryResult;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: i32,
}

impl std::fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// An open partition.
#[derive(Debug)]
pub struct TrackedPartition<F> {
    topic_id: Arc<str>,
    /// Distinguishes this opening from earlier ones of the same partition, whose commit may still be in flight.
    epoch: u64,
    /// Where the fold begins: the offset that the ledger holds once the commit in flight is accepted.
    from: i64,
    /// The next offset to read.
    read: i64,
    fold: F,
    /// The partition's end as last seen.
    end: i64,
    progress: Progress,
    /// The progress that the last commit told, capped at the time up to which all partitions were known.
    committed_progress: Option<i64>,
    /// An end of the partition and the clock (Unix ms) from before the broker was asked for it: once all records before
    /// that end are read, event time has come as far as that clock.
    end_mark: Option<(i64, i64)>,
}

/// The entry of one partition in a commit, without its fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentEntry {
    /// Which partition.
    pub key: PartitionKey,
    /// The topic's id.
    pub topic_id: Arc<str>,
    /// The offset that the ledger must hold for the entry to be accepted.
    pub from: i64,
    /// The next offset to read.
    pub to: i64,
    /// Event-time progress, Unix ms.
    pub progress: Option<i64>,
    /// The partition's end as last seen.
    pub end: i64,
    epoch: u64,
}

/// What the reader does about a partition after its entry was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FollowUp {
    /// Nothing: the ledger has everything before this offset.
    Done(PartitionKey, i64),
    /// The fold was dropped: read again from this offset.
    ReadFrom(PartitionKey, i64),
    /// The fold was dropped and the partition closed: ask the hub for its position.
    AskPosition(PartitionKey),
}

/// The open partitions of one consumer and its commit in flight. `F` is a fold; `F::default()` is an empty one.
#[derive(Debug)]
pub struct OffsetTracker<F> {
    /// Sorted by key.
    open: Vec<(PartitionKey, TrackedPartition<F>)>,
    flight: Option<Vec<SentEntry>>,
    epochs: u64,
    /// All partitions that existed at this clock (Unix ms) are known; event time beyond it decides nothing yet.
    surveyed: i64,
}

impl<F> TrackedPartition<F> {
    /// Marks `offset` as read; returns the partition's fold and event-time progress, or `None` if it was read before. The
    /// caller adds the record to the fold and its event time to the progress.
    pub fn mark_read(&mut self, offset: i64) -> Option<(&mut F, &mut Progress)> {
        if offset < self.read {
            return None;
        }
        self.advance_to(offset + 1);
        Some((&mut self.fold, &mut self.progress))
    }

    /// Marks all offsets before `offset` as read: no records lie between the last one that came and `offset`.
    pub fn advance_to(&mut self, offset: i64) {
        self.read = self.read.max(offset);
        self.end = self.end.max(offset);
        if let Some((_, clock_ms)) = self.end_mark.take_if(|(end, _)| *end <= self.read) {
            self.progress.advance_to(clock_ms);
        }
    }

    /// The progress, capped at `surveyed`; `None` if it is not known.
    fn counts_to(&self, surveyed: i64) -> Option<i64> {
        self.progress.at().min(Some(surveyed))
    }

    /// The id of its topic.
    pub fn topic_id(&self) -> &str {
        &self.topic_id
    }
}

impl<F: Default> OffsetTracker<F> {
    /// A tracker without open partitions.
    pub fn new() -> Self {
        Self { open: Vec::new(), flight: None, epochs: 0, surveyed: i64::MAX }
    }

    /// Opens a partition, again if it is open. The ledger holds `from`; `read` is the first offset to read, later than
    /// `from` if retention removed the records between.
    pub fn open(&mut self, key: PartitionKey, topic_id: Arc<str>, from: i64, read: i64) {
        self.epochs += 1;
        let read = read.max(from);
        let open = TrackedPartition {
            topic_id,
            epoch: self.epochs,
            from,
            read,
            fold: F::default(),
            end: read,
            progress: Progress::default(),
            committed_progress: None,
            end_mark: None,
        };
        match self.index_of(&key.topic, key.partition) {
            Ok(at) => self.open[at].1 = open,
            Err(at) => self.open.insert(at, (key, open)),
        }
    }

    /// Closes a partition and drops its fold.
    pub fn close(&mut self, key: &PartitionKey) {
        if let Ok(at) = self.index_of(&key.topic, key.partition) {
            self.open.remove(at);
        }
    }

    /// The partition's index in `open`, or the index at which to insert it.
    fn index_of(&self, topic: &str, partition: i32) -> Result<usize, usize> {
        self.open.binary_search_by(|(key, _)| (&*key.topic, key.partition).cmp(&(topic, partition)))
    }

    fn get(&self, key: &PartitionKey) -> Option<&TrackedPartition<F>> {
        let at = self.index_of(&key.topic, key.partition).ok()?;
        self.open.get(at).map(|(_, open)| open)
    }

    fn get_mut(&mut self, key: &PartitionKey) -> Option<&mut TrackedPartition<F>> {
        let at = self.index_of(&key.topic, key.partition).ok()?;
        self.open.get_mut(at).map(|(_, open)| open)
    }

    fn values(&self) -> impl Iterator<Item = &TrackedPartition<F>> {
        self.open.iter().map(|(_, open)| open)
    }

    /// The open partitions with the ids of their topics.
    pub fn partitions(&self) -> impl Iterator<Item = (&PartitionKey, &Arc<str>)> {
        self.open.iter().map(|(key, open)| (key, &open.topic_id))
    }

    /// The next offset to read, if the partition is open.
    pub fn next_offset(&self, key: &PartitionKey) -> Option<i64> {
        self.get(key).map(|open| open.read)
    }

    /// The partition, if it is open. `hint` is the index that the last call found; passing it again saves the search,
    /// since many records of one partition come in a row.
    pub fn partition_mut(
        &mut self,
        topic: &str,
        partition: i32,
        hint: &mut usize,
    ) -> Option<&mut TrackedPartition<F>> {
        let is_there = |(key, _): &(PartitionKey, _)| key.partition == partition && *key.topic == *topic;
        if !self.open.get(*hint).is_some_and(is_there) {
            *hint = self.index_of(topic, partition).ok()?;
        }
        self.open.get_mut(*hint).map(|(_, open)| open)
    }

    /// Skips the unread records before `offset`, which the broker has removed. Returns how many offsets it skipped.
    pub fn skip_to(&mut self, key: &PartitionKey, offset: i64) -> i64 {
        let Some(open) = self.get_mut(key) else { return 0 };
        let missed = (offset - open.read).max(0);
        open.read += missed;
        missed
    }

    /// Takes the partition's end from the broker, with the clock (Unix ms) from before the question, if known: once all
    /// records before the end are read, event time has come as far as that clock. If several ends are not reached yet, the
    /// first one counts.
    pub fn saw_end(&mut self, key: &PartitionKey, end: i64, clock_ms: Option<i64>) {
        let Some(open) = self.get_mut(key) else { return };
        open.end = end.max(open.read);
        if let Some(clock_ms) = clock_ms {
            // A truncated log ends earlier: the old end is never reached.
            let _ = open.end_mark.take_if(|(before, _)| *before > end);
            open.end_mark.get_or_insert((end, clock_ms));
            open.advance_to(open.read);
        }
    }

    /// All partitions that existed at this clock (Unix ms) are known: event time up to it may decide.
    pub fn surveyed_up_to(&mut self, at_ms: i64) {
        self.surveyed = at_ms;
    }

    /// Offsets between the next one to read and the end, summed over all partitions.
    pub fn lag(&self) -> i64 {
        self.values().map(|open| open.end - open.read).sum()
    }

    /// The folds of all open partitions.
    pub fn folds(&self) -> impl Iterator<Item = &F> {
        self.values().map(|open| &open.fold)
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
    pub fn in_flight_of(&self, key: &PartitionKey) -> bool {
        let epoch = self.get(key).map(|open| open.epoch);
        self.flight.iter().flatten().any(|sent| sent.key == *key && Some(sent.epoch) == epoch)
    }

    /// Whether any records are read and not in a commit yet.
    pub fn holds_records(&self) -> bool {
        self.values().any(|open| open.read > open.from)
    }

    /// The same for one partition.
    pub fn holds_records_of(&self, key: &PartitionKey) -> bool {
        self.get(key).is_some_and(|open| open.read > open.from)
    }

    /// Whether event time moved on since the last commit.
    pub fn has_new_progress(&self) -> bool {
        self.values().any(|open| open.counts_to(self.surveyed) > open.committed_progress)
    }

    /// Moves all folds into a commit, which is then in flight. Partitions with neither records nor new progress get an
    /// entry only with `all`. Returns nothing if a commit is in flight or there is nothing to tell.
    pub fn take_commit(&mut self, all: bool) -> Vec<(SentEntry, F)> {
        if self.flight.is_some() {
            return Vec::new();
        }
        let mut taken = Vec::new();
        for (key, open) in &mut self.open {
            let counts_to = open.counts_to(self.surveyed);
            if !(all || open.read > open.from || counts_to > open.committed_progress) {
                continue;
            }
            let sent = SentEntry {
                key: key.clone(),
                topic_id: Arc::clone(&open.topic_id),
                from: open.from,
                to: open.read,
                progress: open.progress.at(),
                end: open.end,
                epoch: open.epoch,
            };
            open.from = open.read;
            open.committed_progress = counts_to;
            taken.push((sent, std::mem::take(&mut open.fold)));
        }
        if !taken.is_empty() {
            self.flight = Some(taken.iter().map(|(sent, _)| sent.clone()).collect());
        }
        taken
    }

    /// Applies the answers to the commit in flight, one for each entry, and returns what to do.
    ///
    /// `Elsewhere(to)` is as good as accepted: the ledger has counted up to `to`, from an earlier try whose answer was lost
    /// or from another consumer that read the same records, and the present fold begins there.
    pub fn apply_answers(&mut self, answers: &[EntryResult]) -> Vec<FollowUp> {
        let mut next = Vec::new();
        for (at, sent) in self.flight.take().into_iter().flatten().enumerate() {
            // Without an answer the ledger's offset is not known: ask for it.
            let answer = answers.get(at).copied().unwrap_or(EntryResult::Unknown);
            let Some(open) = self.get_mut(&sent.key).filter(|open| open.epoch == sent.epoch) else {
                continue;
            };
            match answer {
                EntryResult::Accepted(_) => next.push(FollowUp::Done(sent.key, sent.to)),
                EntryResult::Elsewhere(offset) if offset == sent.to => {
                    next.push(FollowUp::Done(sent.key, sent.to));
                }
                EntryResult::Elsewhere(offset) => {
                    open.from = offset;
                    open.read = offset;
                    open.fold = F::default();
                    open.committed_progress = None;
                    open.progress = Progress::default();
                    open.end_mark = None;
                    next.push(FollowUp::ReadFrom(sent.key, offset));
                }
                EntryResult::Unknown => {
                    self.close(&sent.key);
                    next.push(FollowUp::AskPosition(sent.key));
                }
            }
        }
        next
    }

    /// Forgets the commit in flight, which can't be accepted since no rule reads the source, and closes all partitions.
    pub fn close_all(&mut self) {
        self.flight = None;
        self.open.clear();
    }
}

#[cfg(test)]
#[path = "offsets_tests.rs"]
mod tests;
