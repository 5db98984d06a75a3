//! Messages of people's queries.

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
    /// Only those caused by the AlertRule that has this name now.
    pub rule: Option<String>,
    /// Only those caused by the Schedule that has this name now.
    pub schedule: Option<String>,
    /// Only those with a delivery to the NotificationChannel that has this name now; a state is then that of this delivery.
    pub channel: Option<String>,
    /// Only those decided at this time or later.
    pub since: Option<Timestamp>,
    /// Only those with a delivery in this state.
    pub state: Option<domain::DeliveryState>,
    /// At most this many, 1 to 500; 100 by default.
    pub limit: Option<i64>,
    /// Only those older than this notification: the `next` of the answer before.
    pub after: Option<Uuid>,
}

/// Notifications, newest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationList {
    /// At most `limit`, and no more than fit into about 1 MiB; fewer, even none, where many had to be looked at.
    pub items: Vec<NotificationStory>,
    /// Ask again with `after` set to this: there may be more. None at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Uuid>,
}

/// Everything about one notification: was the person told, when, and if not, why not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationStory {
    /// What was said and what caused it.
    pub notification: Notification,
    /// Every delivery with its attempts; of more than 500 the first.
    pub deliveries: Vec<DeliveryRecord>,
    /// How many deliveries are left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deliveries_left_out: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &i64) -> bool {
    *count == 0
}

/// Query of dead letters.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeadLetterQuery {
    /// At most this many, 1 to 500; 100 by default.
    pub limit: Option<i64>,
    /// Only those older than this letter: the `next` of the answer before.
    pub after: Option<String>,
}

/// Records that could not be decoded and that no dead-letter topic took, newest first.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterList {
    /// At most `limit`, and no more than fit into about 1 MiB.
    pub items: Vec<StoredDeadLetter>,
    /// Ask again with `after` set to this: there are more. None at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Where else such records went: the namespace's dead-letter topics, at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<DeadLetterTopic>,
}

/// A topic to which a rule sends records that can't be decoded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterTopic {
    /// The rule's name.
    pub rule: String,
    /// The topic, of the rule's brokers.
    pub topic: String,
}

/// A dead letter that the ledger keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredDeadLetter {
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
