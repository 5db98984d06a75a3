//! When matched records are an alert, and when it is over. What each condition means exactly is said by `alerting`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Millis;

/// When matched records are an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum Condition {
    /// Each record is.
    Any,
    /// At least `count` in a window.
    Frequency {
        /// At least this many; from 1.
        count: i64,
        /// The window's length; from 1 s.
        window: Millis,
    },
    /// The newest window against the one before it.
    Spike {
        /// How many times the one must be the other, in thousandths; above 1,000.
        ratio: i64,
        /// The length of each of the two windows; from 1 s.
        window: Millis,
        /// The larger of the two windows has at least this many; from 1.
        min_count: i64,
        /// Which way.
        direction: SpikeDirection,
    },
    /// Fewer than `below` in a window.
    Flatline {
        /// Fewer than this many; from 1.
        below: i64,
        /// The window's length; from 1 s.
        window: Millis,
        /// Groups that are watched though they were never seen.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        groups: Vec<BTreeMap<String, String>>,
    },
    /// A value that the group has not had before.
    NewValue {
        /// Where the value is.
        path: String,
        /// How long after a group's first record its values are only remembered.
        learn_for: Millis,
    },
    /// Distinct values in a window.
    Cardinality {
        /// Where the value is.
        path: String,
        /// The window's length; from 1 s.
        window: Millis,
        /// How many are too many, or too few.
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
        /// Which way.
        direction: ExtremeDirection,
    },
    /// The share of a window's records for which `of` is true.
    Ratio {
        /// CEL.
        of: String,
        /// The window's length; from 1 s.
        window: Millis,
        /// The window has at least this many; from 1.
        min_count: i64,
        /// Which share is too large, or too small; see [`SHARE`].
        limit: Limit,
    },
}

/// A share of one, as [`Condition::Ratio`] counts it: thousandths of a percent.
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

    /// The window that the rule names; none where it looks at records one by one.
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

    /// Whether it can hold, or begin to hold, though no records come.
    pub fn speaks_of_silence(&self) -> bool {
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
    /// How long the condition must have been false; one window where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Millis>,
    /// Whether to say so.
    pub notify: bool,
    /// Hysteresis: an open alert goes on until what is measured is below this, in the measure of the condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<i64>,
}
