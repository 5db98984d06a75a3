//! What a consumer counted: typed aggregates of (rule, group, bucket), and single records.
//!
//! `alerting` makes them in `worker consume`, `protocol` carries them, the ledger merges them. Never here: how they are
//! counted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{DropReason, RecordRef};

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
    /// The first by (time, topic, partition, offset).
    pub first: Sample,
    /// The last by (time, topic, partition, offset).
    pub last: Sample,
    /// What the rule's condition counts beyond that; absent for most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extras: Option<Box<Extras>>,
    /// The values of the rule's `topValues`, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub top: BTreeMap<String, Values>,
}

/// What a condition counts in a bucket beyond its records: one kind for each kind of condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Extras {
    /// Records for which `of` was true (`Ratio`).
    Of(i64),
    /// The distinct values (`Cardinality`, `NewValue`).
    Values(Values),
    /// The first and the last value (`Change`).
    Ends(Ends),
    /// The highest number (`Extreme`).
    Highest(Best),
    /// The lowest number (`Extreme`).
    Lowest(Best),
}

/// Distinct values with their numbers of records. Of more than the bound, which ones are kept depends on the values alone.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Values {
    /// Records by value.
    pub counts: BTreeMap<String, i64>,
    /// Records whose values are over the bound; 0 where all values are kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub others: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// A value and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Valued {
    /// The record.
    pub at: RecordRef,
    /// Its value.
    pub value: String,
}

/// The values at both ends, by (time, topic, partition, offset).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// The first.
    pub first: Valued,
    /// The last.
    pub last: Valued,
    /// Whether there is more than one value.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mixed: bool,
}

/// The number furthest out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Best {
    /// The first number, by (time, topic, partition, offset).
    pub first: Valued,
    /// The number furthest out, as the shortest text that reads back to it.
    pub value: String,
    /// The first record that has it.
    pub sample: Sample,
}

/// A record kept as an example, cut to a bounded size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Why.
    pub reason: DropReason,
    /// How many.
    pub count: i64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<DropSample>,
}

/// A record that was not counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DropSample {
    /// Its offset.
    pub offset: i64,
    /// What was wrong with it, by types, such as "`>=` does not take int and string"; never a value. May be empty.
    pub detail: String,
}
