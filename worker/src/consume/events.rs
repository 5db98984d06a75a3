//! The messages between the reader and its tasks, and their clock.

use std::collections::{BTreeMap, BTreeSet};

use protocol::messages::{Commit, EntryResult};
use tokio::sync::mpsc::UnboundedSender;

use super::plan::CompiledPlan;
use crate::kafka::{DeadLetterRecord, PartitionEnds};

/// What the supervisor and the tasks tell the reader.
pub enum ReaderEvent {
    /// Read by this plan from now on.
    Plan(Box<CompiledPlan>),
    /// No rule reads the source.
    NoPlan,
    /// The commit with this number was answered, entry by entry. The ledger does not know the topic of an entry without an
    /// answer.
    Answered(u64, Vec<EntryResult>),
    /// The commit held more than the hub takes in one request: commit earlier.
    TooLarge,
    /// Where to read on in each topic, or why that is not known.
    Positions(Result<BTreeMap<String, OpenedTopic>, String>),
    /// The clock (Unix ms) from before the broker was asked, and its answer or why there is none.
    Surveyed(i64, Result<SurveyAnswer, String>),
    /// The id of each topic that exists.
    Topics(BTreeMap<String, String>),
    /// Commit what is read, leave the group and end.
    Stop,
}

/// Where the reader sends commits and requests.
pub struct ReaderRequests {
    /// Commits to send.
    pub commits: UnboundedSender<OutgoingCommit>,
    /// Topics whose positions the reader needs.
    pub positions: UnboundedSender<BTreeSet<String>>,
    /// Requests to ask how many partitions there are, and where they end.
    pub surveys: UnboundedSender<SurveyRequest>,
}

/// How a reader ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop.
    Stopped,
    /// Its Kafka client does not fetch records that exist: a new client may.
    Stalled,
}

/// A commit to send.
pub struct OutgoingCommit {
    /// Distinguishes its answer from an earlier one's.
    pub id: u64,
    /// The request to the hub.
    pub commit: Commit,
    /// Dead letters, each with the index of the entry that passes over it.
    pub dead_letters: Vec<(usize, DeadLetterRecord)>,
}

/// A topic and where to read on in it.
#[derive(Debug, Clone)]
pub struct OpenedTopic {
    /// The topic's id.
    pub id: String,
    /// For partition 0, 1, 2, ...: the next offset to read, the first kept offset, and the end.
    pub partitions: Vec<(i64, i64, i64)>,
}

/// Topics that are open at the hub, as far as this consumer knows: id and number of partitions.
pub type OpenTopics = BTreeMap<String, (String, usize)>;

/// Asks how many partitions the topics have, and where partitions begin and end.
pub struct SurveyRequest {
    /// All topics that are read.
    pub topics: Vec<String>,
    /// Which of them are open at the hub.
    pub open: OpenTopics,
    /// The partitions whose ends are needed.
    pub partitions: Vec<(String, i32)>,
}

/// The answer to a [`SurveyRequest`], by broker and hub.
pub struct SurveyAnswer {
    /// Topics whose partitions are all open at the hub.
    pub known: Vec<String>,
    /// The id of each topic that exists.
    pub ids: BTreeMap<String, String>,
    /// Topics that were opened at the hub to answer the request.
    pub opened: BTreeMap<String, OpenedTopic>,
    /// Where the partitions begin and end.
    pub ends: PartitionEnds,
}

/// The clock, Unix ms. Only the reader and its tasks read it; everything below takes time as an argument.
#[allow(clippy::disallowed_methods)]
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
