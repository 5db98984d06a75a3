//! What came of one attempt to deliver.

use serde::{Deserialize, Serialize};

use crate::Millis;

/// What happened to one attempt: a value, not an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// The receiver accepted it.
    Delivered,
    /// The receiver or the way to it was not able now: try again, not before `wait` where it said so.
    Later {
        /// What was seen, in words, without secrets.
        reason: String,
        /// From `Retry-After`.
        #[serde(skip_serializing_if = "Option::is_none")]
        wait: Option<Millis>,
        /// Whether the whole channel waits (429), not only this delivery.
        channel_wide: bool,
    },
    /// Nothing was sent, since something of the channel's own is missing or can't be used, such as a Secret's key: no attempt is
    /// counted, and it waits for that until it expires.
    NotSent {
        /// What is missing, in words, without secrets.
        reason: String,
    },
    /// The receiver will never take it: no further attempt.
    Refused {
        /// What was seen, in words, without secrets.
        reason: String,
    },
    /// It may have arrived or not: the connection broke or timed out after the request was sent.
    Unknown {
        /// What was seen, in words, without secrets.
        reason: String,
    },
}

impl Outcome {
    /// The name of the variant, a label of metrics and a column of the ledger.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Delivered => "Delivered",
            Self::Later { .. } => "Later",
            Self::NotSent { .. } => "NotSent",
            Self::Refused { .. } => "Refused",
            Self::Unknown { .. } => "Unknown",
        }
    }

    /// The reason, empty when delivered.
    pub fn reason(&self) -> &str {
        match self {
            Self::Delivered => "",
            Self::Later { reason, .. }
            | Self::NotSent { reason }
            | Self::Refused { reason }
            | Self::Unknown { reason } => reason,
        }
    }
}
