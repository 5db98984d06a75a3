//! Requests and answers, a file for each caller. Field names are camelCase JSON, times RFC 3339 or Unix milliseconds where
//! the name ends in `_ms`.

mod consume;
mod deliver;
mod operator;
mod people;
mod remind;

use std::collections::BTreeMap;

use domain::{Digest, Millis};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use consume::*;
pub use deliver::*;
pub use domain::{Count, DropSample, Dropped, Matched, Sample};
pub use operator::*;
pub use people::*;
pub use remind::*;

/// Query of a long poll for a plan.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanQuery {
    /// The revision that the caller has; empty for none.
    pub revision: String,
    /// How long to wait for another one, milliseconds, at most 60,000.
    pub wait_ms: u64,
}

/// An error's body, for every status of 400 and above.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// A stable word: `Unauthorized`, `Forbidden`, `NotFound`, `NoPlans`, `Invalid`, `TooLarge`, `Conflict`, `OverQuota`,
    /// `StorageFull`, `ReadFailed`, `Unavailable`, `Version`, `Internal`.
    pub reason: String,
    /// For people, without secrets.
    pub message: String,
}

/// What a worker instance runs, and what it can't do. Replaces the instance's earlier report; forgotten after a
/// minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The worker's instance (pod name).
    pub instance: String,
    /// The revisions of the objects that it runs, by uid.
    pub running: BTreeMap<Uuid, Digest>,
    /// What it can't do, by uid.
    pub problems: BTreeMap<Uuid, Vec<ObjectProblem>>,
    /// Partitions that a consumer owns, as (topic, topic id, partition).
    #[serde(default)]
    pub owned: Vec<(String, String, i32)>,
    /// The source's key, for a consumer.
    #[serde(default)]
    pub source: Option<Digest>,
    /// The instance is stopping: forget it at once.
    #[serde(default)]
    pub leaving: bool,
}

/// The answer to 429 and 503 carries how long to wait, in the header `Retry-After` and here.
pub const DEFAULT_RETRY: Millis = Millis::from_secs(5);
