//! Requests and answers. Field names are camelCase JSON, times RFC 3339 or Unix milliseconds where the name ends in `_ms`.

use std::collections::BTreeMap;

use domain::{
    ChannelPlan, DeliveryRecord, Digest, Millis, Notification, Outcome, Plan, ReminderTime, RulePlan,
    Severity, Source,
};
pub use domain::{Count, Dropped, Matched, Sample};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Query of a long poll for a plan.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanQuery {
    /// The revision that the caller holds; empty for none.
    pub revision: String,
    /// How long to wait for another one, milliseconds, at most 60,000.
    pub wait_ms: u64,
}

/// An error's body, for every status of 400 and above.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// A stable word: `Unauthorized`, `Forbidden`, `NotFound`, `Invalid`, `Conflict`, `OverQuota`, `StorageFull`,
    /// `Unavailable`, `Version`, `Internal`.
    pub reason: String,
    /// For people, without secrets.
    pub message: String,
}

// ---- operator ----

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

/// The complete set of live objects. What is absent for the grace period is collected.
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
    /// The last handled value of `belfry.dev/send-test`.
    pub last_test: Option<RequestStatus>,
    /// The last handled value of `belfry.dev/resend`.
    pub last_resend: Option<RequestStatus>,
}

/// What came of an annotation.
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
    pub unmatched: BTreeMap<String, i64>,
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
    /// Reminders up to this instant are recorded.
    pub through: Option<Timestamp>,
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

// ---- worker consume ----

/// All rules that read one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourcePlan {
    /// Changes with any of the rules.
    pub revision: Digest,
    /// Brokers, security and isolation, whose hash is the source's key.
    #[serde(flatten)]
    pub source: Source,
    /// Every rule that is not suspended, by uid.
    pub rules: BTreeMap<Uuid, SourceRule>,
    /// The union of the rules' topics, suspended rules included, so that their records are passed over.
    pub topics: Vec<String>,
}

/// One rule of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceRule {
    /// The rule's name.
    pub name: String,
    /// Revision of its plan.
    pub revision: Digest,
    /// [`RulePlan::state`], which counts must carry.
    pub state: Digest,
    /// The plan.
    pub plan: RulePlan,
}

/// Asks where to read on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PositionsRequest {
    /// One for each topic; all its partitions, whoever owns them.
    pub topics: Vec<TopicEnds>,
}

/// A topic as the broker has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicEnds {
    /// Its name.
    pub topic: String,
    /// Its id (Kafka's topic UUID, base64 as Kafka prints it): a topic made again is another one.
    pub topic_id: String,
    /// First kept offset and next offset to be written, of partition 0, 1, 2, ...
    pub partitions: Vec<(i64, i64)>,
}

/// Where to read on. A topic that the source has never read is opened by the first request that names it: all its
/// partitions at the given ends, by `startFrom` (`Earliest` if any of its rules says so). A partition that appears later
/// is read from its first record.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Positions {
    /// Next offset to read, by topic, of partition 0, 1, 2, ...
    pub topics: BTreeMap<String, Vec<i64>>,
}

/// What a consumer has done since its last accepted commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Commit {
    /// The revision of the source plan with which all entries were folded.
    pub revision: Digest,
    /// The rules of that revision, with their states: what was evaluated, matched or not.
    pub rules: BTreeMap<Uuid, Digest>,
    /// One entry a partition, each accepted or refused by itself.
    pub entries: Vec<Entry>,
}

/// One partition's part of a commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Topic name.
    pub topic: String,
    /// Topic id.
    pub topic_id: String,
    /// Partition number.
    pub partition: i32,
    /// The offset that the ledger must hold; another one refuses the entry.
    pub from: i64,
    /// The next offset to read. Equal to `from` in an empty commit, which only moves event time.
    pub to: i64,
    /// Event-time progress, Unix ms: the largest event time seen up to `to` and not beyond the worker's clock; or, where
    /// the broker said that `to` is the end, the worker's clock from before it asked. Absent when nothing is known yet.
    pub progress_ms: Option<i64>,
    /// Event time of the entry's first record, not beyond the worker's clock: where a partition that was never read begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// The partition's next offset to be written, as last seen, for the lag.
    pub end: i64,
    /// Counts by (rule, group, bucket).
    pub counts: Vec<Count>,
    /// Matched records of rules with condition `Any` that speak for each record.
    pub records: Vec<Matched>,
    /// Records that were not counted, by rule (absent: by all rules of the topic) and reason.
    pub dropped: Vec<Dropped>,
    /// Records that can't be decoded and that the dead-letter topic did not take.
    pub dead_letters: Vec<DeadLetter>,
}

/// A record that can't be decoded, kept in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// Its offset.
    pub offset: i64,
    /// Why.
    pub reason: String,
    /// Base64 of the key, cut to 1 KiB.
    pub key: Option<String>,
    /// Base64 of the value, cut to 16 KiB.
    pub value: String,
    /// Length of the whole value, bytes.
    pub length: i64,
}

/// What became of each entry, in the commit's order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitResult {
    /// One for each entry.
    pub entries: Vec<EntryResult>,
    /// The hub's current revision of the source plan.
    pub revision: Digest,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryResult {
    /// 200: durable. 409: the ledger holds another offset; drop what is held and read again from `offset`.
    /// 404: the topic has not been opened (or is another one now): ask for positions.
    pub status: u16,
    /// What the ledger holds now.
    pub offset: i64,
}

// ---- workers send and retry ----

/// All channels of a namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelsPlan {
    /// Changes with any of the channels.
    pub revision: Digest,
    /// Every channel, by uid.
    pub channels: BTreeMap<Uuid, ChannelEntry>,
}

/// One channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelEntry {
    /// Its name.
    pub name: String,
    /// Revision of its plan.
    pub revision: Digest,
    /// The plan.
    pub plan: ChannelPlan,
}

/// Which attempts a worker makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Pool {
    /// The first.
    Send,
    /// The others.
    Retry,
}

/// Asks for work.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRequest {
    /// Which attempts.
    pub pool: Pool,
    /// The worker's instance (pod name), for the ledger.
    pub instance: String,
    /// At most this many, 1 to 500.
    pub max: i32,
    /// How long to wait for the first, milliseconds, at most 30,000.
    pub wait_ms: u64,
}

/// Work under a lease. The hub hands notifications on as they are stored, without reading them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claimed<N = Notification> {
    /// The attempts to make; each lease runs its channel's timeout and 15 s more.
    pub tasks: Vec<Task<N>>,
    /// The channels of the tasks, as they are now.
    pub channels: BTreeMap<Uuid, ChannelEntry>,
}

/// One attempt to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task<N = Notification> {
    /// The delivery's stable id, the same for every attempt.
    pub delivery: Uuid,
    /// The attempt's number, from 1: with the delivery it names the lease.
    pub attempt: i32,
    /// The channel.
    pub channel: Uuid,
    /// The recipient; empty where the channel has one unnamed.
    pub recipient: String,
    /// What to say.
    pub notification: N,
}

/// What came of attempts, up to 1,000.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcomes {
    /// One for each.
    pub outcomes: Vec<AttemptOutcome>,
}

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptOutcome {
    /// The delivery.
    pub delivery: Uuid,
    /// The attempt.
    pub attempt: i32,
    /// What came of it.
    pub outcome: Outcome,
}

// ---- worker remind ----

/// A schedule and where its reminders stand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReminderState {
    /// The plan.
    pub plan: Plan,
    /// Reminders due at or before this instant are settled: the last recorded `through`, or the baseline (the later of
    /// the schedule's creation and its last resume).
    pub through: Timestamp,
}

/// Reminders that fell due.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reminders {
    /// The plan's revision by which they were found; another one held by the hub answers 409: ask again.
    pub revision: Digest,
    /// All reminders due after the settled instant and up to this one are listed or skipped.
    pub through: Timestamp,
    /// To send.
    pub reminders: Vec<ReminderDue>,
    /// Left out by the catch-up policy.
    pub skipped: i64,
    /// What changes of the clocks, after the settled instant and up to this one, did to occurrences.
    #[serde(default)]
    pub clock: ClockCounts,
}

/// Occurrences that are not where the rule says, or not once, because clocks changed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockCounts {
    /// Their local time did not exist, and they came later.
    pub shifted: i64,
    /// Their local time did not exist, and they did not happen.
    pub skipped: i64,
    /// Their local time existed twice, and they happened at both.
    pub doubled: i64,
}

/// One reminder that fell due.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReminderDue {
    /// Start of the occurrence.
    pub occurrence: Timestamp,
    /// End of the occurrence.
    pub end: Timestamp,
    /// Which of the schedule's reminders it is.
    #[serde(flatten)]
    pub time: ReminderTime,
    /// When it was due.
    pub due: Timestamp,
    /// What to say.
    pub title: String,
    /// What to say below it.
    pub summary: String,
    /// How bad it is: always `info` for now.
    pub severity: Severity,
}

// ---- all workers ----

/// What a worker instance runs and can't do. Replaces the instance's earlier report; forgotten after a minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The worker's instance (pod name).
    pub instance: String,
    /// The revisions of the objects that it runs, by uid.
    pub running: BTreeMap<Uuid, Digest>,
    /// What it can't do, by uid.
    pub problems: BTreeMap<Uuid, Vec<ObjectProblem>>,
    /// Partitions that a consumer owns, as (topic, topic id, partition).
    #[serde(default)]
    pub owned: Vec<(String, String, i32)>,
    /// The source's key, for a consumer.
    #[serde(default)]
    pub source: Option<Digest>,
    /// The instance is leaving: forget it at once.
    #[serde(default)]
    pub leaving: bool,
}

// ---- people ----

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

/// The answer to 429 and 503 carries how long to wait, in the header `Retry-After` and here.
pub const DEFAULT_RETRY: Millis = Millis::from_secs(5);
