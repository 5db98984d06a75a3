//! What people ask.

use domain::{DeliveryRecord, Notification};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::DeadLetter;

/// Query of notifications.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NotificationQuery {
    /// Only those caused by this rule, schedule or channel test, or sent to this channel.
    pub object: Option<Uuid>,
    /// Only those with a delivery in this state.
    pub state: Option<domain::DeliveryState>,
    /// At most this many, 1 to 500; 100 by default.
    pub limit: Option<i64>,
}

/// Notifications, newest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationList {
    /// At most `limit`.
    pub items: Vec<NotificationStory>,
}

/// Everything about one notification: was the person told, when, and if not, why not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationStory {
    /// What was said and what caused it.
    pub notification: Notification,
    /// Every delivery with every attempt.
    pub deliveries: Vec<DeliveryRecord>,
}

/// Query of dead letters.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeadLetterQuery {
    /// At most this many, 1 to 500; 100 by default.
    pub limit: Option<i64>,
}

/// Records that could not be decoded and that no dead-letter topic took, newest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterList {
    /// At most `limit`.
    pub items: Vec<HeldLetter>,
}

/// A dead letter in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldLetter {
    /// Where it was read.
    pub topic: String,
    /// Where it was read.
    pub partition: i32,
    /// When it was stored.
    pub stored: Timestamp,
    /// The record.
    #[serde(flatten)]
    pub letter: DeadLetter,
}
