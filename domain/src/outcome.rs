//! The outcome of one attempt to deliver.

use serde::{Deserialize, Serialize};

use crate::Millis;

/// The outcome of one attempt. It is a value, not an error: errors are our own faults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// The receiver accepted it.
    Delivered,
    /// The receiver, or the way to it, can't take the message now. Try again, after `wait` if the receiver said so.
    Later {
        /// What was seen, in words, without secrets.
        reason: String,
        /// From `Retry-After`.
        #[serde(skip_serializing_if = "Option::is_none")]
        wait: Option<Millis>,
        /// Whether the whole channel waits (429), not only this delivery.
        channel_wide: bool,
    },
    /// Nothing was sent, because something that the channel needs is missing or unusable, such as a key of a Secret. No attempt is
    /// counted; the delivery waits until that is there, or until it expires.
    NotSent {
        /// What is missing, in words, without secrets.
        reason: String,
    },
    /// The receiver will never take the message. There is no further attempt.
    Refused {
        /// What was seen, in words, without secrets.
        reason: String,
    },
    /// The message may have arrived: the connection broke or timed out after the request was sent.
    Unknown {
        /// What was seen, in words, without secrets.
        reason: String,
    },
}

impl Outcome {
    /// [`Outcome::Later`] for this delivery alone, without a `wait`.
    pub fn later(reason: impl Into<String>) -> Self {
        Self::Later { reason: reason.into(), wait: None, channel_wide: false }
    }

    /// [`Outcome::Refused`] with this reason.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }

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
