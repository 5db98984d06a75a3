//! Messages of the operator.

use std::collections::BTreeMap;

use domain::{DeliveryState, Digest, DropReason, Plan};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ClockCounts;

/// Plans to store, up to 500.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PutPlans {
    /// The plans.
    pub plans: Vec<Plan>,
}

/// What the hub holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revisions {
    /// The ledger's own id: another one means that the database is new.
    pub ledger: Uuid,
    /// Revision and generation by uid.
    pub objects: BTreeMap<Uuid, (Digest, i64)>,
}

/// The complete set of live objects. What is missing from it for the grace period is forgotten.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveObjects {
    /// All uids of all three kinds.
    pub uids: Vec<Uuid>,
}

/// Query of the feed.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FeedQuery {
    /// The last version seen; 0 for all.
    pub after: i64,
    /// How long to wait for news, milliseconds, at most 60,000.
    pub wait_ms: u64,
}

/// Statuses that changed, oldest first, at most 500.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Feed {
    /// The ledger's id: when it changes, send all plans again and read the feed from 0.
    pub ledger: Uuid,
    /// Ask after this one next.
    pub version: i64,
    /// What changed.
    pub objects: Vec<ObjectStatus>,
}

/// What hub and workers know of one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// The object.
    pub uid: Uuid,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The plan's revision that the hub holds.
    pub revision: Digest,
    /// The plan's generation that the hub holds.
    pub generation: i64,
    /// Worker instances that said within the last minute that they run this revision.
    pub running: i32,
    /// What workers can't do for it now; sorted, without repeats.
    pub problems: Vec<ObjectProblem>,
    /// What the kind knows.
    pub body: StatusBody,
}

/// What a worker can't do for an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectProblem {
    /// UpperCamelCase, for a condition: `SecretKeyNotFound`, `BrokerUnreachable`, `TopicNotFound`, ...
    pub reason: String,
    /// For people, without secrets.
    pub message: String,
}

impl ObjectProblem {
    /// The one that does not stop its object's work: a text could not be rendered, and a fallback is sent.
    pub const TEMPLATE_FAILED: &str = "TemplateFailed";
}

/// What each kind knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "status")]
pub enum StatusBody {
    /// Of a channel.
    NotificationChannel(ChannelStatus),
    /// Of a rule.
    AlertRule(RuleStatus),
    /// Of a schedule.
    Schedule(ScheduleStatus),
}

/// A channel's counters.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelStatus {
    /// Waiting for their first attempt.
    pub pending: i64,
    /// Waiting for a further attempt.
    pub retrying: i64,
    /// Accepted by the receiver, ever.
    pub delivered: i64,
    /// Given up, and not sent again since.
    pub dead: i64,
    /// Too old, ever.
    pub expired: i64,
    /// Not wanted any more, ever.
    pub suppressed: i64,
    /// When a receiver last accepted one.
    pub last_delivery: Option<Timestamp>,
    /// The last attempt that failed after the last delivery.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_time: Option<Timestamp>,
    /// Attempts that failed since the last success.
    pub consecutive_failures: i64,
    /// The oldest delivery still pending.
    pub oldest_pending: Option<Timestamp>,
    /// Deliveries whose history went before its time, since the namespace held too many bytes of it.
    #[serde(default)]
    pub history_dropped: i64,
    /// The last handled value of `belfry.dev/send-test`.
    pub last_test: Option<RequestStatus>,
    /// The last handled value of `belfry.dev/resend`.
    pub last_resend: Option<RequestStatus>,
}

/// The result of an annotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestStatus {
    /// The annotation's value.
    pub request: String,
    /// When it was handled.
    pub time: Timestamp,
    /// How many deliveries it made or revived.
    pub count: i64,
    /// `Pending`, `Delivered`, `Dead: why` ... for a test; what was done or why not for a resend.
    pub result: String,
}

/// A rule's counters and alerts.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleStatus {
    /// How many groups are firing.
    pub firing_count: i64,
    /// The first 10 firing groups, the longest firing first.
    pub firing: Vec<FiringGroup>,
    /// How many groups are pending: the condition holds, but not yet as long as `for` says.
    #[serde(default)]
    pub pending_count: i64,
    /// Matched records, ever.
    pub matched: i64,
    /// Event time of the last matched record.
    pub last_match: Option<Timestamp>,
    /// When the last notification was decided.
    pub last_alert: Option<Timestamp>,
    /// Matched records that came after their bucket was decided.
    pub late: i64,
    /// Records of its topics that could not be decoded.
    pub dead_lettered: i64,
    /// Records on which `match` or `groupBy` could not be evaluated, by reason.
    pub unmatched: BTreeMap<DropReason, i64>,
    /// Partitions of its topics that the source has opened.
    pub partitions: i32,
    /// Partitions without an owner for a minute or more, as `topic/partition`; at most 10.
    pub unowned: Vec<String>,
    /// Records between the committed offsets and the ends of its topics, as last seen.
    pub lag: i64,
    /// Activation offset by `topic/partition`; at most 100.
    pub activation: BTreeMap<String, i64>,
    /// Groups held, against the quota.
    pub groups: i64,
    /// The quota for which records or groups were left out within the last hour: `GroupsFull`, `StateFull`, `GroupsEvicted`.
    #[serde(default)]
    pub full: Option<DropReason>,
    /// Where at least half of the records that came lately can't be looked into or counted: why, and one of them.
    #[serde(default)]
    pub uncountable: Option<Uncountable>,
    /// What became of its notifications.
    #[serde(default, flatten)]
    pub told: DeliverySummary,
}

/// Records that a rule could not count lately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Uncountable {
    /// As in `unmatched`, or `Undecodable`.
    pub reason: DropReason,
    /// Per cent of the records lately, in tens, 50 to 100: of those read; where `matched`, of those that matched.
    pub share: i32,
    /// Whether the records matched, and could not be counted after that.
    pub matched: bool,
    /// Where one of them is, as `topic/partition`; empty when nobody said.
    pub partition: String,
    /// Its offset.
    pub offset: i64,
    /// What was wrong with it, by types; may be empty.
    pub detail: String,
}

/// What became of the notifications that an object caused.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeliverySummary {
    /// The last notification.
    pub last: Option<LastNotification>,
    /// Deliveries that ended dead or expired, were not resent, and after which nothing arrived at the same
    /// recipient; by channel name, the first 5.
    pub undelivered: Vec<Undelivered>,
}

/// An object's last notification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastNotification {
    /// Its id, for `belfry ask`.
    pub id: Uuid,
    /// When it was made.
    pub time: Timestamp,
    /// `Delivered`, `Pending`, `Dead: why` ...; of several deliveries that of the worst.
    pub outcome: String,
}

/// Messages that nobody got at a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Undelivered {
    /// The channel's name.
    pub channel: String,
    /// How many.
    pub count: i64,
    /// When the first of them was given up.
    pub since: Timestamp,
    /// Of the last of them: `Dead` or `Expired`.
    pub state: DeliveryState,
    /// And why.
    pub reason: String,
}

/// A firing group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FiringGroup {
    /// Label name to value.
    pub group: BTreeMap<String, String>,
    /// Since when.
    pub since: Timestamp,
    /// Count at the last notification.
    pub count: i64,
}

/// A schedule's counters.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleStatus {
    /// Due time of the last reminder recorded.
    pub last_reminder: Option<Timestamp>,
    /// Reminders recorded, ever.
    pub reminders: i64,
    /// Reminders that the catch-up policy left out, ever.
    pub skipped: i64,
    /// What changes of the clocks did to occurrences, ever.
    #[serde(default)]
    pub clock: ClockCounts,
    /// Reminders whose history went before its time, since the namespace held too many bytes of it.
    #[serde(default)]
    pub history_dropped: i64,
    /// Reminders up to this instant are recorded.
    pub through: Option<Timestamp>,
    /// What became of its notifications.
    #[serde(default, flatten)]
    pub told: DeliverySummary,
}

/// What a channel's annotation asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelRequest {
    /// The channel.
    pub channel: Uuid,
    /// The annotation's value; handled once.
    pub request: String,
    /// Which annotation.
    pub action: ChannelAction,
}

/// Which annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelAction {
    /// `belfry.dev/send-test`.
    SendTest,
    /// `belfry.dev/resend`: `all@<anything>` or `<delivery id>@<anything>`.
    Resend,
}
