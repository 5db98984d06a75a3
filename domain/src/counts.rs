//! What a consumer counted: typed aggregates of (rule, group, bucket), and single records.
//!
//! `alerting` makes them in `worker consume`, `protocol` carries them, the ledger merges them. Never here: how they are
//! counted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::RecordRef;

/// A typed aggregate of (rule, group, bucket).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// The rule's uid.
    pub rule: Uuid,
    /// Label name to value.
    pub group: BTreeMap<String, String>,
    /// Start of the bucket, Unix ms.
    pub bucket_ms: i64,
    /// Matched records.
    pub count: i64,
    /// The first by (time, partition, offset).
    pub first: Sample,
    /// The last by (time, partition, offset).
    pub last: Sample,
}

/// A record kept as an example, cut to a bounded size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Where it is.
    pub at: RecordRef,
    /// The decoded value, long parts cut.
    pub value: serde_json::Value,
}

/// A matched record of a rule that speaks for each record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Matched {
    /// The rule's uid.
    pub rule: Uuid,
    /// Label name to value.
    pub group: BTreeMap<String, String>,
    /// The record.
    pub sample: Sample,
}

/// Records not counted, under one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dropped {
    /// The rule, or none where it concerns all rules of the topic.
    pub rule: Option<Uuid>,
    /// From a closed set: `Tombstone`, `Undecodable`, `MatchFailed`, `GroupMissing`, ...
    pub reason: String,
    /// How many.
    pub count: i64,
}
