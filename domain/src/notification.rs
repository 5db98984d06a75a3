//! Notifications, their deliveries and attempts, as the ledger keeps them and the hub reports them.

use calendar::ReminderTime;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// For information only.
    Info,
    /// Somebody should look at it.
    Warning,
    /// Somebody must look at it now.
    Critical,
}

impl Severity {
    /// As in a manifest: `info`, `warning`, `critical`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One thing to tell, to however many recipients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// UUID v5 of what the notification is about ([`crate::ids`]).
    pub id: Uuid,
    /// The namespace it belongs to.
    pub namespace: String,
    /// What caused it.
    pub cause: Cause,
    /// How bad it is.
    pub severity: Severity,
    /// The rendered title.
    pub title: String,
    /// The rendered summary; may be empty.
    pub summary: String,
    /// The alert's group, label name to value; empty for other causes.
    #[serde(default)]
    pub group: BTreeMap<String, String>,
    /// Deliveries with the same key to the same recipient of the same channel arrive in order.
    pub ordering_key: String,
    /// When it was decided.
    pub created: Timestamp,
}

/// Where a record is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordRef {
    /// The record's event time.
    pub time: Timestamp,
    /// Topic name.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
}

/// Which of an alert's notifications this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum AlertKind {
    /// The first.
    Firing,
    /// The alert is still firing.
    Repeat {
        /// The number of this repeat, from 1.
        n: i64,
    },
    /// It is over.
    Resolved,
}

impl AlertKind {
    /// The name in ids, texts and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Repeat { .. } => "repeat",
            Self::Resolved => "resolved",
        }
    }
}

/// An alert's state at one notification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// The episode's id.
    pub episode: Uuid,
    /// Which of its notifications this is.
    pub kind: AlertKind,
    /// When the episode began: the end of its first bucket.
    pub since: Timestamp,
    /// Matched records in the window.
    pub count: i64,
    /// What the condition measured if that is not the count, as texts show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The previous `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// The new values (`NewValue`): the first 10 in order of their text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Start of the window, inclusive.
    pub window_start: Timestamp,
    /// End of the window, exclusive.
    pub window_end: Timestamp,
    /// Why the alert was closed if the condition did not end it: `RuleChanged`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    /// The first counted record of the window, and the record that texts show: the last one, or for `Extreme` the one with the
    /// value. One entry if both are the same record, none if the window has no record.
    #[serde(default)]
    pub records: Vec<RecordRef>,
}

impl Alert {
    /// The id of the alert's first notification, to which all later ones refer.
    pub fn first(&self) -> Uuid {
        crate::ids::alert_notification(self.episode, AlertKind::Firing)
    }
}

/// What a schedule's reminders show besides title and time.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScheduleDetails {
    /// A description of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where the event takes place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// A link to the meeting or to more information.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Rooms and other resources that the event books; those of another namespace as `namespace/name`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
}

impl ScheduleDetails {
    /// Whether all fields are empty.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What caused a notification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum Cause {
    /// An alert of a rule.
    Alert {
        /// The rule's uid.
        rule: Uuid,
        /// The rule's name.
        name: String,
        /// The alert's state.
        alert: Alert,
    },
    /// One record that a rule with condition `Any` matched.
    Record {
        /// The rule's uid.
        rule: Uuid,
        /// The rule's name.
        name: String,
        /// The record.
        record: RecordRef,
    },
    /// A reminder of a schedule.
    Reminder {
        /// The schedule's uid.
        schedule: Uuid,
        /// The schedule's name.
        name: String,
        /// Start of the occurrence.
        occurrence: Timestamp,
        /// End of the occurrence.
        end: Timestamp,
        /// The schedule's IANA zone.
        time_zone: String,
        /// Whether the event takes whole days.
        #[serde(default)]
        all_day: bool,
        /// Recipients' IANA zones by lower-case address. Only those that are known and differ from the schedule's.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        time_zones: BTreeMap<String, String>,
        /// The schedule's description, location, link and resources.
        #[serde(flatten)]
        about: ScheduleDetails,
        /// Which of the schedule's reminders this is.
        #[serde(flatten)]
        time: ReminderTime,
        /// When the reminder was due.
        due: Timestamp,
    },
    /// The annotation `belfry.dev/send-test`.
    Test {
        /// The channel's uid.
        channel: Uuid,
        /// The channel's name.
        name: String,
        /// The annotation's value.
        request: String,
    },
}

impl Cause {
    /// The kind of message, in the word that people and programs see: `firing`, `repeat`, `resolved`, `closed` (the rule changed,
    /// and nobody knows whether the alert is over), `record`, `reminder` or `test`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Alert { alert, .. } => match alert.kind {
                AlertKind::Firing => "firing",
                AlertKind::Repeat { .. } => "repeat",
                AlertKind::Resolved if alert.closed.is_some() => "closed",
                AlertKind::Resolved => "resolved",
            },
            Self::Record { .. } => "record",
            Self::Reminder { .. } => "reminder",
            Self::Test { .. } => "test",
        }
    }

    /// The value of `status` in templates: `firing`, `resolved` or `closed`.
    pub fn status(&self) -> &'static str {
        match self.kind() {
            over @ ("resolved" | "closed") => over,
            _ => "firing",
        }
    }

    /// The JSON that programs get: the stored form, but with the word of [`Cause::kind`] as the alert's kind.
    pub fn public_json(&self) -> Value {
        let mut told = serde_json::to_value(self).unwrap_or_default();
        if let Some(kind) = told.pointer_mut("/alert/kind/type") {
            *kind = self.kind().into();
        }
        told
    }
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DeliveryState {
    /// Waits for its turn, its time or its channel, or an attempt is under way.
    Pending,
    /// The receiver accepted it.
    Delivered,
    /// Given up: refused, out of attempts, or held.
    Dead,
    /// Older than `expiresAfter`.
    Expired,
    /// Not wanted any more, for the reason given.
    Suppressed,
}

impl DeliveryState {
    /// The name, as stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Delivered => "Delivered",
            Self::Dead => "Dead",
            Self::Expired => "Expired",
            Self::Suppressed => "Suppressed",
        }
    }
}

/// The number under which the ledger stores the state. Its statements and indexes contain these numbers.
impl From<DeliveryState> for i64 {
    fn from(state: DeliveryState) -> Self {
        match state {
            DeliveryState::Pending => 0,
            DeliveryState::Delivered => 1,
            DeliveryState::Dead => 2,
            DeliveryState::Expired => 3,
            DeliveryState::Suppressed => 4,
        }
    }
}

impl From<i64> for DeliveryState {
    fn from(number: i64) -> Self {
        match number {
            0 => Self::Pending,
            1 => Self::Delivered,
            2 => Self::Dead,
            3 => Self::Expired,
            _ => Self::Suppressed,
        }
    }
}

/// One delivery with all its attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryRecord {
    /// UUID v5 of (notification, channel uid, recipient); absent while the channel does not exist yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// The channel's name.
    pub channel: String,
    /// The recipient; empty if the channel has one unnamed recipient.
    pub recipient: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Why the delivery ended without success, or what it waits for while it is pending.
    pub reason: String,
    /// When the next attempt is due, while pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Timestamp>,
    /// When it expires.
    pub expires: Timestamp,
    /// Its attempts, oldest first. If there are many, only the last ones.
    pub attempts: Vec<AttemptRecord>,
    /// How many earlier attempts are left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts_left_out: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &i64) -> bool {
    *count == 0
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptRecord {
    /// From 1.
    pub number: i32,
    /// When it was handed out.
    pub started: Timestamp,
    /// When its outcome was recorded; absent while under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Name of the outcome; absent while under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The outcome's reason.
    pub reason: String,
}
