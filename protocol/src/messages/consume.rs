//! Messages of consumers.

use std::collections::BTreeMap;

use domain::{Count, Digest, Dropped, Matched, RulePlan, Source};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// All rules that read one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourcePlan {
    /// Changes with any of the rules.
    pub revision: Digest,
    /// Brokers, security, isolation, format and event time, whose hash is the source's key.
    #[serde(flatten)]
    pub source: Source,
    /// Every rule that is not suspended, by uid.
    pub rules: BTreeMap<Uuid, SourceRule>,
    /// The union of the rules' topics, suspended rules included, so that their records are passed over.
    pub topics: Vec<String>,
}

/// One rule of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceRule {
    /// The rule's name.
    pub name: String,
    /// Revision of its plan.
    pub revision: Digest,
    /// [`RulePlan::counting_hash`], which counts must carry.
    pub state: Digest,
    /// The plan.
    pub plan: RulePlan,
}

/// Asks from which offsets to read.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PositionsRequest {
    /// One for each topic; all its partitions, whoever owns them.
    pub topics: Vec<TopicEnds>,
}

/// A topic as the broker has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicEnds {
    /// Its name.
    pub topic: String,
    /// Its id (Kafka's topic UUID, base64 as Kafka prints it): a topic made again is another one.
    pub topic_id: String,
    /// First kept offset and next offset to be written, of partition 0, 1, 2, ...
    pub partitions: Vec<(i64, i64)>,
}

/// Where to read on. A topic that the source has never read is opened by the first request that names it: all its
/// partitions at the given ends, by `startFrom` (`Earliest` if any of its rules says so). A partition that appears later
/// is read from its first record.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Positions {
    /// Next offset to read, by topic, of partition 0, 1, 2, ...
    pub topics: BTreeMap<String, Vec<i64>>,
}

/// What a consumer has done since its last accepted commit. An entry of more than one record holds at most 1,000 counts and
/// records, and makes at most 2,000 deliveries; over that the commit is refused with 413, nothing of it is taken, and the
/// same records are to be read again in smaller parts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Commit {
    /// The revision of the source plan with which all entries were folded.
    pub revision: Digest,
    /// The rules of that revision, with their states: what was evaluated, matched or not.
    pub rules: BTreeMap<Uuid, Digest>,
    /// Up to when it is known which partitions there are. A worker that does not say so is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub survey: Option<Survey>,
    /// One entry a partition, each accepted or refused by itself.
    pub entries: Vec<Entry>,
}

/// Which partitions each topic has, as the broker answered. The hub decides a rule no further than this, because a
/// partition that it does not know holds nothing back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Survey {
    /// The time just before the broker was asked, Unix ms.
    pub at_ms: i64,
    /// Topics whose partitions the hub has all opened, and topics that don't exist.
    pub topics: Vec<String>,
}

impl Survey {
    /// Up to when all partitions of these topics are known, Unix ms; `None` if a topic is missing.
    pub fn known_until(&self, topics: &[String]) -> Option<i64> {
        topics.iter().all(|topic| self.topics.contains(topic)).then_some(self.at_ms)
    }
}

/// One partition's part of a commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Topic name.
    pub topic: String,
    /// Topic id.
    pub topic_id: String,
    /// Partition number.
    pub partition: i32,
    /// The offset that the ledger must hold; another one refuses the entry.
    pub from: i64,
    /// The next offset to read. Equal to `from` in an empty commit, which only moves event time.
    pub to: i64,
    /// How far the partition's event time has come with what lies before `to`, Unix ms (docs/semantics.md, E3). Absent when
    /// nothing is known yet.
    pub progress_ms: Option<i64>,
    /// Event time of the entry's first record that has one: since when a rule that begins here has observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// The partition's next offset to be written, as last seen, for the lag.
    pub end: i64,
    /// Counts by (rule, group, bucket).
    pub counts: Vec<Count>,
    /// Matched records of rules with condition `Any` that speak for each record.
    pub records: Vec<Matched>,
    /// Records that were not counted, by rule (absent: by all rules of the topic) and reason.
    pub dropped: Vec<Dropped>,
    /// Records that can't be decoded and that the dead-letter topic did not take.
    pub dead_letters: Vec<DeadLetter>,
}

/// A record that can't be decoded, kept in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// Its offset.
    pub offset: i64,
    /// Why.
    pub reason: String,
    /// Base64 of the key, cut to 1 KiB.
    pub key: Option<String>,
    /// Base64 of the value, cut to 16 KiB.
    pub value: String,
    /// Length of the whole value, bytes.
    pub length: i64,
}

/// The result of each entry, in the commit's order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitResult {
    /// One for each entry.
    pub entries: Vec<EntryResult>,
    /// The hub's current revision of the source plan.
    pub revision: Digest,
}

/// The result of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WireResult", into = "WireResult")]
pub enum EntryResult {
    /// The entry is durable; the ledger now holds this offset.
    Accepted(i64),
    /// The ledger holds this other offset: drop what is in memory and read again from there.
    Elsewhere(i64),
    /// The topic has not been opened, or was made again: ask for positions.
    Unknown,
}

impl EntryResult {
    /// Whether it is durable.
    pub fn is_accepted(self) -> bool {
        matches!(self, Self::Accepted(_))
    }
}

/// The same on the wire, as consumers of the release before read it: 200, 409 or 404.
#[derive(Serialize, Deserialize)]
struct WireResult {
    status: u16,
    offset: i64,
}

impl From<EntryResult> for WireResult {
    fn from(result: EntryResult) -> Self {
        let (status, offset) = match result {
            EntryResult::Accepted(offset) => (200, offset),
            EntryResult::Elsewhere(offset) => (409, offset),
            EntryResult::Unknown => (404, 0),
        };
        Self { status, offset }
    }
}

impl From<WireResult> for EntryResult {
    fn from(WireResult { status, offset }: WireResult) -> Self {
        match status {
            200 => Self::Accepted(offset),
            409 => Self::Elsewhere(offset),
            _ => Self::Unknown,
        }
    }
}
