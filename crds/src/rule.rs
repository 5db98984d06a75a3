//! `AlertRule`: which Kafka records count, when they are an alert, and which channels get it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition as StatusCondition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{self, Duration, LastNotification, Moment, Notify, Undelivered};
pub use crate::condition::{
    Cardinality, Change, Condition, ConditionType, Extreme, ExtremeDirection, Flatline, Frequency, NewValue,
    Ratio, Spike, SpikeDirection,
};
use crate::kafka::{self, KafkaSasl, KafkaTls};

/// Which Kafka records count, when they are an alert, and which channels get it.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "belfry.dev",
    version = "v1alpha1",
    kind = "AlertRule",
    plural = "alertrules",
    shortname = "alr",
    category = "belfry",
    namespaced,
    status = "AlertRuleStatus",
    derive = "PartialEq",
    doc = "Which Kafka records count, when they are an alert, and which channels get it.",
    printcolumn(
        name = "Severity",
        type_ = "string",
        json_path = ".spec.severity",
        description = "How bad an alert is"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether records are read and people can be told"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why it is ready or not"
    ),
    printcolumn(
        name = "Firing",
        type_ = "integer",
        json_path = ".status.firingCount",
        description = "Groups that are firing now"
    ),
    printcolumn(
        name = "Matched",
        type_ = "integer",
        json_path = ".status.matched",
        description = "Records that matched, ever"
    ),
    printcolumn(
        name = "Last Match",
        type_ = "date",
        json_path = ".status.lastMatchTime",
        description = "Event time of the last record that matched"
    ),
    printcolumn(
        name = "Last Alert",
        type_ = "date",
        json_path = ".status.lastAlertTime",
        description = "When a notification was last decided"
    ),
    printcolumn(
        name = "Delivered",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Delivered")].status"#,
        description = "Whether its last notifications arrived; False while some did not"
    ),
    printcolumn(
        name = "Lag",
        type_ = "integer",
        json_path = ".status.lag",
        description = "Records still to be read"
    ),
    printcolumn(
        name = "Unmatched",
        type_ = "integer",
        json_path = ".status.unmatchedTotal",
        description = "Records that could not be decoded, matched or counted, ever",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        description = "What to do about it",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Since when it exists"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct AlertRuleSpec {
    /// Where the records come from.
    pub source: Source,
    /// The consumer that reads the source. Rules that read the same brokers the same way share one, of the largest size among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumers: Option<Consumers>,
    /// CEL expression over record (the decoded value), key, headers, topic, partition and timestamp: true for records that
    /// count. False where it uses a field that the record does not have.
    #[schemars(length(min = 1, max = 4096))]
    #[serde(rename = "match")]
    pub matches: String,
    /// Label name to path, such as {service: record.service}. Each distinct set of values is an alert of its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(
        extend("maxProperties" = 8),
        extend("additionalProperties" = {"type": "string", "minLength": 1, "maxLength": 256, "description": "A path, such as record.service."}),
        extend("x-kubernetes-validations" = [common::cel(
            "self.all(name, name.matches('^[a-zA-Z_][a-zA-Z0-9_]{0,62}$'))",
            "a label name has up to 63 letters, digits and underscores, and does not begin with a digit",
        )])
    )]
    pub group_by: BTreeMap<String, String>,
    /// When matching records are an alert.
    pub condition: Condition,
    /// How bad an alert is: info, warning or critical.
    #[serde(default)]
    pub severity: Severity,
    /// Template of the title (MiniJinja over group, count, window, since, severity, record and more).
    #[schemars(length(min = 1, max = 1024))]
    pub title: String,
    /// Template of the text below the title (MiniJinja, the same names).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub summary: Option<String>,
    /// The channels that get the alerts.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub notify: Vec<Notify>,
    /// How long the condition must hold, by event time, before there is an alert, 1s to 24h; at once when absent. Only
    /// for conditions with a window.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = common::between("1s", "24h")))]
    pub for_: Option<Duration>,
    /// How often the alert of a firing group is repeated, 1s to 168h; never when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = common::between("1s", "168h")))]
    pub repeat_interval: Option<Duration>,
    /// The factor by which each repeat waits longer than the one before, 1 to 10, such as "2" or "1.5"; a repeat waits at most
    /// 24h, or repeatInterval if that is longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 24), regex(pattern = r"^[0-9]{1,4}(\.[0-9]{1,3})?$"))]
    pub repeat_factor: Option<String>,
    /// When an alert is over, and whether that is notified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolve: Option<Resolve>,
    /// How long a window waits for late records, by event time, 0s to 1h; 2s when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = common::between("0s", "1h")))]
    pub allowed_lateness: Option<Duration>,
    /// Name to path, such as {host: record.host}. Under that name, templates can show the most frequent values of the window.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(
        extend("maxProperties" = 4),
        extend("additionalProperties" = {"type": "string", "minLength": 1, "maxLength": 256, "description": "A path, such as record.host."}),
        extend("x-kubernetes-validations" = [common::cel(
            "self.all(name, name.matches('^[a-zA-Z_][a-zA-Z0-9_]{0,62}$'))",
            "a name has up to 63 letters, digits and underscores, and does not begin with a digit",
        )])
    )]
    pub top_values: BTreeMap<String, String>,
    /// How many groups the rule holds at once, 1 to 100000; 10000 when absent. Beyond that, the quiet groups without a record
    /// for the longest time are forgotten; status.unmatched counts them under GroupsEvicted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_groups: Option<i64>,
    /// Skips the records. The status says so.
    #[serde(default)]
    pub suspend: bool,
}

/// Where records come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Topics of a Kafka cluster.
    pub kafka: KafkaSource,
}

/// Topics of a Kafka cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    kafka::no_cleartext_login(),
    common::cel(
        "!has(self.deadLetterTopic) || !(self.deadLetterTopic in self.topics)",
        "deadLetterTopic must not be one of the topics that are read",
    ),
    common::cel("has(self.text) == (self.format == 'Text')", "text is for format Text, which needs it"),
]))]
pub struct KafkaSource {
    /// Bootstrap brokers, host:port each.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 3, max = 259), regex(pattern = r"^[A-Za-z0-9.\[\]:_-]+:[0-9]{1,5}$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub bootstrap_servers: Vec<String>,
    /// TLS to the brokers; plain text when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// Login by SASL; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
    /// Which records of transactions are read: ReadCommitted or ReadUncommitted.
    #[serde(default)]
    pub isolation: Isolation,
    /// The topics to read. They may be created later.
    #[schemars(
        length(min = 1, max = 32),
        inner(length(min = 1, max = 249), regex(pattern = r"^[a-zA-Z0-9._-]+$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub topics: Vec<String>,
    /// How a record's value is decoded: Json, Logfmt, Text or CloudEvents.
    #[serde(default)]
    pub format: Format,
    /// How a text is split into fields; for format Text, which needs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<TextFormat>,
    /// Where in a record its event time is; the Kafka timestamp when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_time: Option<EventTime>,
    /// Where to begin in a topic that was never read from these brokers in this namespace: Latest or Earliest.
    #[serde(default)]
    pub start_from: StartFrom,
    /// Topic for records that can't be decoded, whole, with the reason in their headers; <topic>.DLT when absent. It is
    /// created if the brokers allow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249), regex(pattern = r"^[a-zA-Z0-9._-]+$"))]
    pub dead_letter_topic: Option<String>,
}

/// Which records of transactions are read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Isolation {
    #[default]
    ReadCommitted,
    ReadUncommitted,
}

/// How a record's value is decoded.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Format {
    #[default]
    Json,
    Logfmt,
    Text,
    CloudEvents,
}

/// How a text is split into fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TextFormat {
    /// A regular expression (RE2 syntax) with named groups, such as ^(?<level>[A-Z]+) (?<message>.*)$. The groups are the
    /// record's fields, all texts. A record that it does not match can't be decoded.
    #[schemars(length(min = 1, max = 2048))]
    pub pattern: String,
}

/// Where in a record its event time is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    common::cel("has(self.pattern) == (self.format == 'Pattern')", "pattern is for format Pattern, which needs it"),
    common::cel("!has(self.timeZone) || self.format == 'Pattern'", "timeZone is for format Pattern"),
]))]
pub struct EventTime {
    /// A path, such as record.time.
    #[schemars(length(min = 1, max = 256))]
    pub path: String,
    /// How the time is written there: RFC3339, UnixSeconds, UnixMilliseconds or Pattern.
    #[serde(default)]
    pub format: TimeFormat,
    /// For format Pattern: strptime's directives, such as %d/%b/%Y:%H:%M:%S %z, with at least the year to the minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub pattern: Option<String>,
    /// The IANA time zone of a pattern without an offset; UTC when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
}

/// How a time is written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum TimeFormat {
    #[default]
    #[serde(rename = "RFC3339")]
    Rfc3339,
    UnixSeconds,
    UnixMilliseconds,
    Pattern,
}

/// Where to begin in a topic never read before.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum StartFrom {
    #[default]
    Latest,
    Earliest,
}

/// The consumer that reads the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Consumers {
    /// How many pods share the partitions.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub replicas: i32,
}

fn one() -> i32 {
    1
}

/// How bad an alert is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Severity {
    Info,
    #[default]
    Warning,
    Critical,
}

/// When an alert is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resolve {
    /// How long the condition must have been false, by event time, 1s to 168h; one window when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = common::between("1s", "168h")))]
    pub after: Option<Duration>,
    /// Hysteresis: an open alert goes on until the measured value is below this: a number for Frequency and Cardinality, a
    /// percentage for Ratio. Only for these conditions, with count or above.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 10), regex(pattern = r"^([0-9]{1,10}|[0-9]{1,3}(\.[0-9]{1,3})?%)$"))]
    pub below: Option<String>,
    /// Whether the channels that got the alert are told that it is over.
    #[serde(default)]
    pub notify: bool,
}

/// The status of a rule.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AlertRuleStatus {
    /// The metadata.generation that the operator last acted on; -1 before it has seen the object.
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// The object's status conditions.
    #[schemars(schema_with = "common::conditions")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<StatusCondition>,
    /// How many groups are firing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub firing_count: Option<i64>,
    /// The groups that have been firing longest, at most 10.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub firing: Vec<FiringGroup>,
    /// How many groups are pending: the condition holds, but not yet as long as spec.for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub pending_count: Option<i64>,
    /// Records that matched, ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub matched: Option<i64>,
    /// Event time of the last record that matched, up to 30 s late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_match_time: Option<Moment>,
    /// When a notification was last decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_alert_time: Option<Moment>,
    /// Records that matched but came after their window was decided, ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub late: Option<i64>,
    /// Records of its topics that could not be decoded, ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub dead_lettered: Option<i64>,
    /// Records that could not be decoded, matched or counted, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32), extend("additionalProperties" = {"type": "integer", "format": "int64", "minimum": 0, "description": "How many."}))]
    pub unmatched: BTreeMap<String, i64>,
    /// The sum of unmatched, without tombstones and without what was left out because of a quota.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub unmatched_total: Option<i64>,
    /// The last notification that the rule caused, and its outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_notification: Option<LastNotification>,
    /// Deliveries that did not arrive, by channel, at most 5.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "atomic"))]
    pub undelivered: Vec<Undelivered>,
    /// Records still to be read in its topics, as last seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub lag: Option<i64>,
    /// How many partitions of its topics are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub partitions: Option<i32>,
    /// The offsets from which the rule counts, by topic/partition, at most 100.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 100), extend("additionalProperties" = {"type": "integer", "format": "int64", "minimum": 0, "description": "The first offset counted."}))]
    pub activation_offsets: BTreeMap<String, i64>,
}

/// A group that is firing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FiringGroup {
    /// Label name to value; long values are cut.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 8), extend("additionalProperties" = {"type": "string", "maxLength": 256, "description": "The label's value."}))]
    pub group: BTreeMap<String, String>,
    /// Since when.
    pub since: Moment,
    /// Matching records in the window at the last notification.
    #[schemars(range(min = 0))]
    pub count: i64,
}
