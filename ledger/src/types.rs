//! Types of the ledger's own interface; the rest is the protocol's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use domain::{AlertData, Digest, DropReason, Millis};
use jiff::Timestamp;
use protocol::messages::{ObjectProblem, Pool};
use uuid::Uuid;

/// Where a ledger is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// A file of SQLite; a lock file stands beside it.
    Sqlite(PathBuf),
    /// A database of PostgreSQL 15 or newer, by its URL.
    Postgres(String),
}

impl From<&Path> for Database {
    fn from(path: &Path) -> Self {
        Self::Sqlite(path.to_owned())
    }
}

impl From<&PathBuf> for Database {
    fn from(path: &PathBuf) -> Self {
        Self::Sqlite(path.clone())
    }
}

/// Settings of a ledger.
#[derive(Debug, Clone)]
pub struct Options {
    /// The ledger's id if it is created now: a random UUID.
    pub new_id: Uuid,
    /// Read-only connections for workers and the hub itself, 1 or more, and as many for people.
    pub readers: u32,
    /// How long an absent object's state is kept.
    pub grace: Millis,
    /// Deliveries that may be pending in a namespace.
    pub max_pending: i64,
    /// Groups that may be held in a namespace.
    pub max_groups: i64,
    /// Bytes that a namespace's groups may take, with their counts and samples.
    pub max_state_bytes: i64,
    /// In how many partitions the rules of a namespace may be active, summed up; what a rule is active in is a row.
    pub max_activations: i64,
    /// Partitions that a namespace's sources may have, over all their topics.
    pub max_partitions: i64,
    /// Bytes of plans of deleted objects that are kept for the grace in a namespace; over them the longest gone are forgotten.
    pub max_absent_bytes: usize,
    /// Groups that are decided in one transaction, at most; 1 or more.
    pub groups_per_step: usize,
    /// How long a commit's answer waits for what it left to decide, so that a consumer does not run far ahead.
    pub decide_wait: Millis,
    /// How long the two texts of one notification may take to render; the hub gives each 50 ms.
    pub text_time: Millis,
    /// How long all texts may take that are rendered for one commit or step; past it they are the fallback.
    pub texts_time: Millis,
    /// Bytes of notifications with a pending delivery that a namespace may have, each counted as its body and 512.
    pub max_pending_bytes: i64,
    /// Bytes of finished notifications that are kept for a namespace, with their deliveries (256 and their texts each) and
    /// attempts (128 and their reason each); over them the oldest go.
    pub max_finished_bytes: i64,
    /// Bytes of dead letters that are kept for a namespace, each counted as its body and 256; over them the oldest go.
    pub max_dead_letter_bytes: i64,
    /// Commands in one commit, at most.
    pub max_batch: usize,
    /// How much longer than its channel's timeout a lease runs.
    pub lease_margin: Millis,
    /// How often an object's counters are published, at most.
    pub status_interval: Millis,
    /// Whether the whole file is checked at opening.
    pub check_file: bool,
}

impl Options {
    /// The defaults, with this id for a new ledger.
    pub fn new(new_id: Uuid) -> Self {
        Self {
            new_id,
            readers: 3,
            grace: Millis::from_secs(120),
            max_pending: 100_000,
            max_groups: 20_000,
            max_state_bytes: 64 << 20,
            max_pending_bytes: 64 * 1024 * 1024,
            max_finished_bytes: 32 * 1024 * 1024,
            max_dead_letter_bytes: 16 * 1024 * 1024,
            max_activations: 100_000,
            max_partitions: 20_000,
            max_absent_bytes: 8 << 20,
            groups_per_step: 500,
            decide_wait: Millis::from_secs(5),
            text_time: Millis(150),
            texts_time: Millis::from_secs(2),
            max_batch: 256,
            lease_margin: Millis::from_secs(15),
            status_interval: Millis::from_secs(30),
            check_file: true,
        }
    }
}

/// What a caller may wait for, with [`crate::Ledger::watch`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Signal {
    /// The plans of a namespace: its sources, channels and schedules.
    Plans(String),
    /// Deliveries of a namespace that may have become due for a pool.
    Work(String, Pool),
    /// The status feed, and objects that wait urgently to be published to it.
    Statuses,
}

/// Renders a rule's texts at the decision, on a thread of its own and never in a transaction. Never fails: a template that
/// can't be rendered gives a named fallback text.
pub trait Render: Send + Sync + 'static {
    /// Title and summary. What is not rendered by the deadline is the fallback; past it that takes no time to speak of.
    fn alert(&self, alert: &AlertData<'_>, deadline: Instant) -> Rendered;

    /// What stands for texts that can't be waited for: it names the rule, the group and why. At once.
    fn fallback(&self, alert: &AlertData<'_>, why: &str) -> Rendered {
        Rendered::plain(alert, why)
    }
}

/// A rule's texts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The title.
    pub title: String,
    /// The summary; may be empty.
    pub summary: String,
}

impl Rendered {
    /// Texts without a template: they name the rule, the group and why.
    pub fn plain(alert: &AlertData<'_>, why: &str) -> Self {
        let mut whose = alert.rule.to_owned();
        for (at, (label, value)) in alert.group.iter().enumerate() {
            // Writing to a text can't fail.
            let _ = write!(whose, "{}{label}={value}", if at == 0 { " (" } else { ", " });
        }
        if !alert.group.is_empty() {
            whose.push(')');
        }
        let text =
            |which: &str| format!("{whose}: {which} template failed: {why}").chars().take(1_000).collect();
        Self { title: alert.titled(text("title")), summary: text("summary") }
    }
}

/// A source: namespace and key.
pub type SourceRef = (String, String);
/// A partition of a source: topic, topic id, number.
pub type PartitionRef = (String, String, i32);

/// What workers said within the last minute, merged by the hub. It may be lost with the hub.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct WorkerView {
    /// Instances by object and the revision of it that they run.
    pub running: BTreeMap<Uuid, BTreeMap<Digest, i32>>,
    /// What they can't do, by object.
    pub problems: BTreeMap<Uuid, BTreeSet<ObjectProblem>>,
    /// Partitions that somebody owns.
    pub owned: BTreeMap<SourceRef, BTreeSet<PartitionRef>>,
}

/// Plain numbers of the writer, from the start of the process.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct WriterMetrics {
    /// Transactions committed.
    pub commits: u64,
    /// Commands done.
    pub commands: u64,
    /// Commands that failed.
    pub failed: u64,
    /// Seconds spent in transactions, commit included.
    pub seconds: f64,
    /// Notifications made.
    pub notifications: u64,
    /// Deliveries made.
    pub deliveries: u64,
    /// Attempts handed out.
    pub claimed: u64,
    /// Outcomes recorded.
    pub outcomes: u64,
    /// Dead letters that went because their namespace held too many bytes of them.
    pub letters_dropped: u64,
    /// Finished notifications that went for the same reason.
    pub history_dropped: u64,
}

/// What the ledger holds, for metrics: no label beyond channel types, states and reasons.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Deliveries that each channel type has, by state: `pending` and `retrying` now, `dead` now, the others ever.
    pub deliveries: BTreeMap<(&'static str, &'static str), i64>,
    /// Delivered ever and dead now, of each namespace that has channels.
    pub by_namespace: BTreeMap<String, (i64, i64)>,
    /// When the oldest pending delivery was decided.
    pub oldest_pending: Option<Timestamp>,
    /// Deliveries that wait for a channel that does not exist; counted up to 100,000.
    pub waiting: i64,
    /// Records between committed offsets and the ends as last seen, over all sources.
    pub lag: i64,
    /// Groups held, over all rules.
    pub groups: i64,
    /// Groups that are firing; counted up to 100,000.
    pub firing: i64,
    /// Matched records, ever.
    pub matched: i64,
    /// Late records, ever.
    pub late: i64,
    /// Records not decoded, ever.
    pub dead_lettered: i64,
    /// Records not evaluated, ever, by reason.
    pub unmatched: BTreeMap<DropReason, i64>,
    /// Objects held, by kind.
    pub objects: BTreeMap<&'static str, i64>,
    /// Bytes that are counted for namespaces, by kind: `pending` and `finished` notifications, `letters`.
    pub usage: BTreeMap<&'static str, i64>,
    /// The most that one namespace has, by kind.
    pub most: BTreeMap<&'static str, i64>,
}

/// What pruning removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// Notifications with their deliveries and attempts.
    pub notifications: u64,
    /// Dead letters.
    pub letters: u64,
    /// Whether more is waiting: ask again.
    pub more: bool,
}
