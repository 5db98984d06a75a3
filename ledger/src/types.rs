//! Types of the ledger's public interface that aren't the protocol's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use domain::{AlertData, Digest, DropReason, Millis};
use jiff::Timestamp;
use protocol::messages::{ObjectProblem, Pool};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Error;

/// Where a ledger is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// A file of SQLite; a lock file stands beside it.
    Sqlite(PathBuf),
    /// A database of PostgreSQL 15 or newer, by its URL.
    Postgres(String),
    /// The same, by a file with its URL, which is read again for each new connection of the writer.
    PostgresUrlFile(PathBuf),
}

impl std::str::FromStr for Database {
    type Err = std::convert::Infallible;

    /// `postgres://...`, `@FILE` for a file with such a URL, or else the path of a file of SQLite.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.strip_prefix('@') {
            Some(file) => Self::PostgresUrlFile(file.into()),
            None if text.starts_with("postgres://") || text.starts_with("postgresql://") => {
                Self::Postgres(text.to_owned())
            }
            None => Self::Sqlite(text.into()),
        })
    }
}

impl Database {
    /// The URL of a database of PostgreSQL; `None` for SQLite.
    pub(crate) fn url(&self) -> Result<Option<String>, Error> {
        match self {
            Self::Sqlite(_) => Ok(None),
            Self::Postgres(url) => Ok(Some(url.clone())),
            Self::PostgresUrlFile(file) => match std::fs::read_to_string(file) {
                Ok(url) => Ok(Some(url.trim().to_owned())),
                Err(error) => Err(Error::Storage(format!("{}: {error}", file.display()))),
            },
        }
    }
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
    /// The id, a random UUID, that the ledger gets if it is created now.
    pub new_id: Uuid,
    /// Read-only connections for workers and the hub itself, at least 1; people get as many again.
    pub readers: u32,
    /// How long the state of an absent object is kept.
    pub grace: Millis,
    /// How many deliveries may be pending in a namespace.
    pub max_pending: i64,
    /// How many groups a namespace may have.
    pub max_groups: i64,
    /// Bytes that a namespace's groups may take, including their counts and samples.
    pub max_state_bytes: i64,
    /// In how many partitions the rules of a namespace may be active, summed over the rules. Each is a row.
    pub max_activations: i64,
    /// How many partitions a namespace's sources may have, over all their topics.
    pub max_partitions: i64,
    /// Bytes of absent objects' plans that a namespace keeps during the grace. Beyond that, the objects that have
    /// been absent longest are forgotten at once.
    pub max_absent_bytes: usize,
    /// At most how many groups are decided in one transaction; at least 1.
    pub groups_per_step: usize,
    /// How long the answer to a commit waits for what the commit left to decide, so that a consumer doesn't run far
    /// ahead.
    pub decide_wait: Millis,
    /// How long rendering the two texts of one notification may take; the hub allows 50 ms for each text.
    pub text_time: Millis,
    /// How long rendering all texts of one commit or step may take. Texts that aren't ready by then are the fallback.
    pub texts_time: Millis,
    /// Bytes of notifications with a pending delivery that a namespace may have. Each counts its body and 512.
    pub max_pending_bytes: i64,
    /// Bytes of finished notifications that a namespace keeps, with their deliveries (256 and their texts each) and
    /// attempts (128 and the reason each). Beyond that, the oldest are removed.
    pub max_finished_bytes: i64,
    /// Bytes of dead letters that a namespace keeps, each counted as its body and 256. Beyond that, the oldest are
    /// removed.
    pub max_dead_letter_bytes: i64,
    /// At most how many commands share one transaction.
    pub max_batch: usize,
    /// How much longer a lease is than its channel's timeout.
    pub lease_margin: Millis,
    /// The shortest time between two publications of an object's counters.
    pub status_interval: Millis,
    /// Whether opening checks the whole file.
    pub check_file: bool,
}

impl Options {
    /// The defaults; a new ledger gets this id.
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

/// What a caller can wait for with [`crate::Ledger::watch`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Signal {
    /// The plans of a namespace changed: its sources, channels or schedules.
    Plans(String),
    /// Deliveries of a namespace may have become due for a pool.
    Work(String, Pool),
    /// The status feed grew, or objects wait urgently to be published to it.
    Statuses,
}

/// Renders a rule's texts when it decides, on a thread of its own and never in a transaction. It can't fail: a
/// template that can't be rendered gives a fallback text that names the fault.
pub trait Render: Send + Sync + 'static {
    /// Renders title and summary. A text that isn't rendered by the deadline is the fallback; after the deadline this
    /// returns at once.
    fn alert(&self, alert: &AlertData<'_>, deadline: Instant) -> Rendered;

    /// The texts in place of ones that take too long: they name the rule, the group and the reason. Returns at once.
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
    /// Texts that need no template: they name the rule, the group and the reason.
    pub fn plain(alert: &AlertData<'_>, why: &str) -> Self {
        let mut whose = alert.rule.to_owned();
        for (at, (label, value)) in alert.group.iter().enumerate() {
            // Writing to a `String` can't fail.
            let _ = write!(whose, "{}{label}={value}", if at == 0 { " (" } else { ", " });
        }
        if !alert.group.is_empty() {
            whose.push(')');
        }
        let text =
            |which: &str| format!("{whose}: {which} template failed: {why}").chars().take(1_000).collect();
        Self { title: alert.with_status_prefix(text("title")), summary: text("summary") }
    }
}

/// A source, as (namespace, key).
pub type SourceRef = (String, String);
/// A partition of a source, as (topic, topic id, number).
pub type PartitionRef = (String, String, i32);

/// What workers reported within the last minute, merged by the hub. A restart of the hub loses it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct WorkerView {
    /// How many instances run each revision of an object.
    pub running: BTreeMap<Uuid, BTreeMap<Digest, i32>>,
    /// The problems that they reported, by object.
    pub problems: BTreeMap<Uuid, BTreeSet<ObjectProblem>>,
    /// Partitions that some consumer owns.
    pub owned: BTreeMap<SourceRef, BTreeSet<PartitionRef>>,
}

/// Counters of the writer since the process started.
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
    /// Dead letters that were removed because their namespace had too many bytes of them.
    pub letters_dropped: u64,
    /// Finished notifications that were removed for the same reason.
    pub history_dropped: u64,
}

/// What the ledger holds, as numbers for metrics. Labels are namespaces, kinds, channel types, states and reasons
/// only.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Deliveries by channel type and state: `pending`, `retrying` and `dead` as of now, the other states since ever.
    pub deliveries: BTreeMap<(&'static str, &'static str), i64>,
    /// Deliveries that were ever delivered, and that are dead now, of each namespace that has channels.
    pub by_namespace: BTreeMap<String, (i64, i64)>,
    /// When the oldest pending delivery was decided.
    pub oldest_pending: Option<Timestamp>,
    /// Deliveries that wait for a channel that doesn't exist; counted up to 100,000.
    pub waiting: i64,
    /// Records between the committed offsets and the partitions' ends as last seen, over all sources.
    pub lag: i64,
    /// Groups of all rules.
    pub groups: i64,
    /// Groups that are firing; counted up to 100,000.
    pub firing: i64,
    /// Matched records, ever.
    pub matched: i64,
    /// Late records, ever.
    pub late: i64,
    /// Records that could not be decoded, ever.
    pub dead_lettered: i64,
    /// Records that were left out, ever, by reason.
    pub unmatched: BTreeMap<DropReason, i64>,
    /// Objects by kind, absent ones included.
    pub objects: BTreeMap<&'static str, i64>,
    /// Bytes that count against namespaces' quotas, by kind: `pending` and `finished` notifications, and `letters`,
    /// the dead letters.
    pub usage: BTreeMap<&'static str, i64>,
    /// The largest such number of one namespace, by kind.
    pub most: BTreeMap<&'static str, i64>,
}

/// What pruning removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// Notifications with their deliveries and attempts.
    pub notifications: u64,
    /// Dead letters.
    pub letters: u64,
    /// Whether there may be more to remove: call again.
    pub more: bool,
}
