//! When matched records are an alert, and when it is over. The crate `alerting` defines exactly what each condition means.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Millis;

/// When matched records are an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum Condition {
    /// Each record is an alert of its own.
    Any,
    /// At least `count` records in a window.
    Frequency {
        /// The smallest number of records; at least 1.
        count: i64,
        /// The window's length; at least 1 s.
        window: Millis,
    },
    /// The newest window has many times more or fewer records than the one before it.
    Spike {
        /// How many times the larger window must be the other, in thousandths; above 1,000.
        ratio: i64,
        /// The length of each of the two windows; at least 1 s.
        window: Millis,
        /// How many records the larger of the two windows must have; at least 1.
        min_count: i64,
        /// Whether more, fewer or both count.
        direction: SpikeDirection,
    },
    /// Fewer than `below` records in a window.
    Flatline {
        /// The exclusive upper bound of records; at least 1.
        below: i64,
        /// The window's length; at least 1 s.
        window: Millis,
        /// Groups that are watched even before their first record.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        groups: Vec<BTreeMap<String, String>>,
    },
    /// A value that the group has not had before.
    NewValue {
        /// Where the value is.
        path: String,
        /// For this long after a group's first record, its values are remembered without an alert.
        learn_for: Millis,
    },
    /// Too many or too few distinct values in a window.
    Cardinality {
        /// Where the value is.
        path: String,
        /// The window's length; at least 1 s.
        window: Millis,
        /// The number of values that is crossed.
        limit: Limit,
    },
    /// A value that differs from the one before it.
    Change {
        /// Where the value is.
        path: String,
    },
    /// A number beyond all that the group has had before.
    Extreme {
        /// Where the number is.
        path: String,
        /// Whether a new highest or a new lowest number counts.
        direction: ExtremeDirection,
    },
    /// The share of a window's records for which `of` is true is too large or too small.
    Ratio {
        /// A CEL expression.
        of: String,
        /// The window's length; at least 1 s.
        window: Millis,
        /// How many records the window must have; at least 1.
        min_count: i64,
        /// The share that is crossed, in parts of [`SHARE`].
        limit: Limit,
    },
}

/// 100 % in the unit of [`Condition::Ratio`]: thousandths of a percent.
pub const SHARE: i64 = 100_000;

/// A bound that is crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// More than this.
    Above(i64),
    /// Less than this.
    Below(i64),
}

/// Which way a spike goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpikeDirection {
    /// More than before.
    Up,
    /// Less than before.
    Down,
    /// Either.
    Both,
}

/// Which way a number goes beyond the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExtremeDirection {
    /// Above all before.
    Highest,
    /// Below all before.
    Lowest,
}

impl Condition {
    /// Its name, as in a manifest.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Any => "Any",
            Self::Frequency { .. } => "Frequency",
            Self::Spike { .. } => "Spike",
            Self::Flatline { .. } => "Flatline",
            Self::NewValue { .. } => "NewValue",
            Self::Cardinality { .. } => "Cardinality",
            Self::Change { .. } => "Change",
            Self::Extreme { .. } => "Extreme",
            Self::Ratio { .. } => "Ratio",
        }
    }

    /// The condition's window; `None` if it looks at records one by one.
    pub fn window(&self) -> Option<Millis> {
        match self {
            Self::Frequency { window, .. }
            | Self::Spike { window, .. }
            | Self::Flatline { window, .. }
            | Self::Cardinality { window, .. }
            | Self::Ratio { window, .. } => Some(*window),
            Self::Any | Self::NewValue { .. } | Self::Change { .. } | Self::Extreme { .. } => None,
        }
    }

    /// Whether the condition can hold, or begin to hold, while no records come.
    pub fn can_hold_without_records(&self) -> bool {
        match self {
            Self::Flatline { .. } | Self::Cardinality { limit: Limit::Below(_), .. } => true,
            Self::Spike { direction, .. } => *direction != SpikeDirection::Up,
            _ => false,
        }
    }
}

/// When an alert is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolve {
    /// How long the condition must have been false; one window if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Millis>,
    /// Whether to notify that the alert is over.
    pub notify: bool,
    /// Hysteresis: an open alert goes on until the measured value is below this, in the condition's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<i64>,
}
