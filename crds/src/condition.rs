//! The union of an `AlertRule`'s conditions: when matching records are an alert.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::common::{self, Duration};

/// The types of conditions, each with its member of the union.
const CONDITIONS: [(&str, &str); 8] = [
    ("Frequency", "frequency"),
    ("Spike", "spike"),
    ("Flatline", "flatline"),
    ("NewValue", "newValue"),
    ("Cardinality", "cardinality"),
    ("Change", "change"),
    ("Extreme", "extreme"),
    ("Ratio", "ratio"),
];

/// The validation rule that exactly one of `above` and `below` is given.
fn one_bound() -> serde_json::Value {
    serde_json::json!([common::cel(
        "has(self.above) != has(self.below)",
        "exactly one of above and below is needed",
    )])
}

/// When matching records are an alert, by event time. The result does not depend on the order in which records come.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = common::union(&CONDITIONS, &["Any"])))]
pub struct Condition {
    /// Any: each matching record. Frequency: at least count records in a window. Spike: many times more or fewer than in
    /// the window before. Flatline: fewer than below in a window. NewValue: a value that the group has not had before. Cardinality:
    /// more or fewer distinct values in a window. Change: a value that differs from the one before. Extreme: a new highest
    /// or lowest number. Ratio: the share of records for which an expression is true.
    #[serde(rename = "type")]
    pub type_: ConditionType,
    /// At least count matching records in a window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency: Option<Frequency>,
    /// Many times more or fewer matching records than in the window before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spike: Option<Spike>,
    /// Fewer than below matching records in a window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flatline: Option<Flatline>,
    /// A value that the group has not had before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_value: Option<NewValue>,
    /// More or fewer distinct values in a window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cardinality: Option<Cardinality>,
    /// A value that differs from the one before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// A number higher or lower than all that the group has had before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extreme: Option<Extreme>,
    /// The share of matching records for which another expression is true too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Ratio>,
}

/// The types of conditions.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum ConditionType {
    #[default]
    Any,
    Frequency,
    Spike,
    Flatline,
    NewValue,
    Cardinality,
    Change,
    Extreme,
    Ratio,
}

/// At least `count` matching records in a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Frequency {
    /// At least this many.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub count: i64,
    /// Length of the window, by event time, 1s to 168h.
    #[schemars(extend("x-kubernetes-validations" = common::between("1s", "168h")))]
    pub window: Duration,
}

/// Many times more or fewer matching records than in the window before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Spike {
    /// How many times more records the larger window must have than the other, above 1, such as "3" or "2.5".
    #[schemars(length(min = 1, max = 24), regex(pattern = r"^[0-9]{1,4}(\.[0-9]{1,3})?$"))]
    pub ratio: String,
    /// Length of each of the two windows, by event time, 1s to 84h.
    #[schemars(extend("x-kubernetes-validations" = common::between("1s", "84h")))]
    pub window: Duration,
    /// The larger window must have at least this many records: a jump from 1 to 3 is seldom news.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub min_count: i64,
    /// Up: more than before. Down: fewer than before. Both: either.
    #[serde(default)]
    pub direction: SpikeDirection,
}

fn ten() -> i64 {
    10
}

/// Which way a spike goes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum SpikeDirection {
    #[default]
    Up,
    Down,
    Both,
}

/// Fewer than `below` matching records in a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Flatline {
    /// Fewer than this many; 1 means no record at all.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub below: i64,
    /// Length of the window, by event time, 1s to 168h.
    #[schemars(extend("x-kubernetes-validations" = common::between("1s", "168h")))]
    pub window: Duration,
    /// Groups that are watched even before their first record, each with all labels of groupBy. Other groups are watched from
    /// their first record on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "groups")]
    pub groups: Vec<BTreeMap<String, String>>,
}

fn one() -> i64 {
    1
}

/// The schema of [`Flatline::groups`].
fn groups(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "Groups that are watched even before their first record, each with all labels of groupBy. Other groups are watched from their first record on.",
        "type": "array",
        "maxItems": 100,
        "x-kubernetes-list-type": "atomic",
        "items": {
            "description": "Label name to value.",
            "type": "object",
            "maxProperties": 8,
            "additionalProperties": {"description": "The label's value.", "type": "string", "maxLength": 256},
        },
    })
}

/// A value that the group has not had before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewValue {
    /// Where the value is, such as record.country. A record without it is not counted.
    #[schemars(length(min = 1, max = 256))]
    pub path: String,
    /// For how long after a group's first record its values are remembered without an alert, 0s to 168h; 0s when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = common::between("0s", "168h")))]
    pub learn_for: Option<Duration>,
}

/// More or fewer distinct values in a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = one_bound()))]
pub struct Cardinality {
    /// Where the value is, such as record.userId. A record without it is not counted.
    #[schemars(length(min = 1, max = 256))]
    pub path: String,
    /// Length of the window, by event time, 1s to 168h.
    #[schemars(extend("x-kubernetes-validations" = common::between("1s", "168h")))]
    pub window: Duration,
    /// More than this many.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_999))]
    pub above: Option<i64>,
    /// Fewer than this many.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_999))]
    pub below: Option<i64>,
}

/// A value that differs from the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Where the value is, such as record.status. A record without it is not counted.
    #[schemars(length(min = 1, max = 256))]
    pub path: String,
}

/// A number higher or lower than all that the group has had before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Extreme {
    /// Where the number is, such as record.bid. A record without it is not counted.
    #[schemars(length(min = 1, max = 256))]
    pub path: String,
    /// Highest or Lowest.
    pub direction: ExtremeDirection,
}

/// Whether a new highest or a new lowest number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum ExtremeDirection {
    Highest,
    Lowest,
}

/// The share of matching records for which another expression is true too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = one_bound()))]
pub struct Ratio {
    /// CEL over the same names as match. A field that is not there makes it false.
    #[schemars(length(min = 1, max = 4096))]
    pub of: String,
    /// Length of the window, by event time, 1s to 168h.
    #[schemars(extend("x-kubernetes-validations" = common::between("1s", "168h")))]
    pub window: Duration,
    /// The window must have at least this many matching records: one failure of two requests is seldom news.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub min_count: i64,
    /// More than this share, such as 5% or 0.1%.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 24), regex(pattern = r"^[0-9]{1,3}(\.[0-9]{1,3})?%$"))]
    pub above: Option<String>,
    /// Less than this share, such as 99.9%.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 24), regex(pattern = r"^[0-9]{1,3}(\.[0-9]{1,3})?%$"))]
    pub below: Option<String>,
}
