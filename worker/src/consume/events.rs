//! What reader and tasks say to each other, and the clock that they read.
//!
//! Never here: who says it, or what follows.

use std::collections::{BTreeMap, BTreeSet};

use protocol::messages::{Commit, EntryResult};
use tokio::sync::mpsc::UnboundedSender;

use super::plan::CompiledPlan;
use crate::kafka::{DeadLetterRecord, Ends};

/// What happens to the reader.
pub enum ReaderEvent {
    /// The plan is this one from now on.
    Plan(Box<CompiledPlan>),
    /// No rule reads the source.
    NoPlan,
    /// The commit of this number was answered, entry by entry; an entry without an answer is of no known topic.
    Answered(u64, Vec<EntryResult>),
    /// It held more than the hub takes at once: hold less.
    TooLarge,
    /// Where to read on, or why that isn't known.
    Positions(Result<BTreeMap<String, OpenedTopic>, String>),
    /// The clock from before the broker was asked, and what it said.
    Surveyed(i64, Result<SurveyAnswer, String>),
    /// Ids of the topics that are there.
    Topics(BTreeMap<String, String>),
    /// Leave.
    Stop,
}

/// Where questions and commits go.
pub struct ReaderRequests {
    /// Commits.
    pub commits: UnboundedSender<OutgoingCommit>,
    /// Topics whose positions are wanted.
    pub positions: UnboundedSender<BTreeSet<String>>,
    /// Looks at how many partitions there are, and where they end.
    pub surveys: UnboundedSender<SurveyRequest>,
}

/// How a reader ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// Its Kafka client brought nothing of what is there: another one may.
    Stalled,
}

/// A commit to send.
pub struct OutgoingCommit {
    /// Tells its answer from an earlier one's.
    pub id: u64,
    /// What to say.
    pub commit: Commit,
    /// Dead letters, with the index of the entry that passes over each.
    pub letters: Vec<(usize, DeadLetterRecord)>,
}

/// A topic and where to read on in it.
#[derive(Debug, Clone)]
pub struct OpenedTopic {
    /// The topic's id.
    pub id: String,
    /// Next offset to read, first kept offset and end, of partition 0, 1, 2, ...
    pub partitions: Vec<(i64, i64, i64)>,
}

/// Topics that are open at the hub, as far as this consumer knows: id, and how many partitions.
pub type OpenTopics = BTreeMap<String, (String, usize)>;

/// A look at the log: how many partitions there are, and where they end.
pub struct SurveyRequest {
    /// All topics that are read.
    pub topics: Vec<String>,
    /// What of them is open at the hub.
    pub open: OpenTopics,
    /// Partitions whose ends are wanted.
    pub partitions: Vec<(String, i32)>,
}

/// What the broker, and the hub, said.
pub struct SurveyAnswer {
    /// Topics of which all partitions are open at the hub.
    pub known: Vec<String>,
    /// Ids of the topics that are there.
    pub ids: BTreeMap<String, String>,
    /// What was opened for that.
    pub opened: BTreeMap<String, OpenedTopic>,
    /// Where the partitions begin and end.
    pub ends: Ends,
}

/// The clock, Unix ms. The reader owns it; everything below takes time as an argument.
#[allow(clippy::disallowed_methods)]
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
