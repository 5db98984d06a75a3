//! What a consumer counted: typed aggregates of (rule, group, bucket), and single records.
//!
//! `alerting` makes them in `worker consume`, `protocol` carries them, and the ledger merges them.

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
    /// The first record by (time, topic, partition, offset).
    pub first: Sample,
    /// The last record by (time, topic, partition, offset).
    pub last: Sample,
    /// What else the rule's condition counts; absent for most conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extras: Option<Box<Extras>>,
    /// The values of the rule's `topValues`, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub top: BTreeMap<String, Values>,
}

/// What a condition counts in a bucket besides the number of records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Extras {
    /// Records for which `of` was true (`Ratio`).
    Of(i64),
    /// The distinct values (`Cardinality`, `NewValue`).
    Values(Values),
    /// The first and the last value (`Change`).
    Ends(FirstAndLast),
    /// The highest number (`Extreme`).
    Highest(ExtremeValue),
    /// The lowest number (`Extreme`).
    Lowest(ExtremeValue),
}

/// Distinct values, each with its number of records. If there are more values than the bound, the values alone decide which are
/// kept, not the order in which they came.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Values {
    /// Records by value.
    pub counts: BTreeMap<String, i64>,
    /// Records whose values were not kept because of the bound; 0 if all values are kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub others: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// A value and the record that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordValue {
    /// The record.
    pub at: RecordRef,
    /// Its value.
    pub value: String,
}

/// The first and the last value, by (time, topic, partition, offset).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstAndLast {
    /// The first.
    pub first: RecordValue,
    /// The last.
    pub last: RecordValue,
    /// Whether there is more than one distinct value.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mixed: bool,
}

/// The highest or lowest number, and the first one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtremeValue {
    /// The first number, by (time, topic, partition, offset).
    pub first: RecordValue,
    /// The highest or lowest number, as the shortest text that parses back to it.
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

/// A matched record of a rule with condition `Any`.
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

/// How many records were not counted for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dropped {
    /// The rule; `None` if the reason concerns all rules of the topic.
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
    /// What was wrong with it, in terms of types, such as "`>=` does not take int and string". Never contains a value. May be
    /// empty.
    pub detail: String,
}
