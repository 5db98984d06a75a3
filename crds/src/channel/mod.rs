//! `NotificationChannel`: where messages go and how hard to try.
//!
//! Each type of receiver has a file here, a line in the table below, and a member of the spec.

mod email;
mod kafka;
mod slack;
mod webhook;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{self, CaBundle, Duration, Moment};

pub use email::{CLEARTEXT_LOGIN, Email, SmtpTls};
pub use kafka::KafkaTarget;
pub use slack::Slack;
pub use webhook::{
    BasicAuth, CLEARTEXT_CREDENTIALS, Webhook, WebhookBody, WebhookFormat, WebhookHeader, WebhookMethod,
};

/// Where messages go and how hard to try.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "belfry.dev",
    version = "v1alpha1",
    kind = "NotificationChannel",
    plural = "notificationchannels",
    shortname = "nch",
    category = "belfry",
    namespaced,
    status = "NotificationChannelStatus",
    derive = "PartialEq",
    doc = "Where messages go and how hard to try. Rules and schedules of the same namespace name it.",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type", description = "Kind of receiver"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether messages can be sent"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why it is ready or not"
    ),
    printcolumn(
        name = "Healthy",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Healthy")].status"#,
        description = "Whether the receiver takes what is sent"
    ),
    printcolumn(
        name = "Pending",
        type_ = "integer",
        json_path = ".status.deliveries.pending",
        description = "Deliveries that wait for their first attempt"
    ),
    printcolumn(
        name = "Retrying",
        type_ = "integer",
        json_path = ".status.deliveries.retrying",
        description = "Deliveries that wait for another attempt"
    ),
    printcolumn(
        name = "Delivered",
        type_ = "integer",
        json_path = ".status.deliveries.delivered",
        description = "Deliveries that the receiver took"
    ),
    printcolumn(
        name = "Dead",
        type_ = "integer",
        json_path = ".status.deliveries.dead",
        description = "Deliveries given up; belfry.dev/resend sends them again"
    ),
    printcolumn(
        name = "Last Delivery",
        type_ = "date",
        json_path = ".status.lastDeliveryTime",
        description = "When the receiver last took one"
    ),
    printcolumn(
        name = "Last Error",
        type_ = "string",
        json_path = ".status.lastError",
        description = "The last failed attempt since then"
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
#[schemars(extend("x-kubernetes-validations" = spec_rules()))]
pub struct NotificationChannelSpec {
    /// Kind of receiver.
    #[serde(rename = "type")]
    #[schemars(extend("description" = type_description()))]
    pub type_: ChannelType,
    /// A Slack incoming webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slack: Option<Slack>,
    /// Mail by SMTP. Each recipient gets a message of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
    /// An HTTP request in the form of Standard Webhooks, of CloudEvents, or of your own template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// A record to a Kafka topic, with CloudEvents headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaTarget>,
    /// How hard to try, and how fast.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// TLS to the receiver, but for Kafka, which has kafka.tls. Verification can't be turned off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Templates of this channel's texts. Where one is absent, the notification's own text is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// IANA time zone of the people who read the messages, such as Europe/Berlin. A reminder also shows its time in this zone if that
    /// differs from the time in the schedule's zone. For recipients of an email, the schedule's participants.workingHours.timeZone
    /// takes precedence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9_+/-]*$"))]
    pub time_zone: Option<String>,
    /// Holds deliveries back; they may expire meanwhile.
    #[serde(default)]
    pub suspend: bool,
}

/// Declares the types of receivers, each with its member of the spec and that member's type.
macro_rules! types {
    ($($name:ident in $member:ident: $wire:ty,)*) => {
        /// Kind of receiver.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[schemars(inline)]
        pub enum ChannelType {
            $($name,)*
        }

        /// The member of a spec that describes its receiver.
        #[derive(Debug, Clone, Copy)]
        pub enum ReceiverSpec<'a> {
            $($name(&'a $wire),)*
        }

        /// Each type's name and its member's.
        pub const MEMBERS: &[(&str, &str)] = &[$((stringify!($name), stringify!($member)),)*];

        impl NotificationChannelSpec {
            /// The members that are given. A valid spec has exactly one, that of its type.
            pub fn members(&self) -> Vec<ReceiverSpec<'_>> {
                let mut members = Vec::new();
                $(members.extend(self.$member.as_ref().map(ReceiverSpec::$name));)*
                members
            }
        }

        impl ReceiverSpec<'_> {
            /// The type that the member belongs to.
            pub fn type_(&self) -> ChannelType {
                match self {
                    $(Self::$name(_) => ChannelType::$name,)*
                }
            }
        }
    };
}

types! {
    Slack in slack: Slack,
    Email in email: Email,
    Webhook in webhook: Webhook,
    Kafka in kafka: KafkaTarget,
}

/// The validation rules of the spec: the type's member and no other, and `kafka.tls` in place of `tls`.
fn spec_rules() -> serde_json::Value {
    let mut rules = common::union(MEMBERS, &[]);
    if let Some(rules) = rules.as_array_mut() {
        rules.push(common::cel(
            "self.type != 'Kafka' || !has(self.tls)",
            "tls is for the other types: that of Kafka is kafka.tls",
        ));
    }
    rules
}

/// The description of the field `type`.
fn type_description() -> String {
    let names: Vec<&str> = MEMBERS.iter().map(|(name, _)| *name).collect();
    let (last, others) = names.split_last().unwrap_or((&"", &[]));
    let listed = format!("{} or {last}", others.join(", "));
    format!("Kind of receiver: {listed}. The member of that name has the details.")
}

/// How hard to try, and how fast.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// The rate limit over all replicas. Waiting for it is not an attempt. No limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// When to try again: exponential, with full jitter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// How long one attempt may take, 1s to 5m; 10s when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = common::between("1s", "5m")))]
    pub timeout: Option<Duration>,
    /// How old a delivery may get before it expires, 1s to 720h; 24h when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = common::between("1s", "720h")))]
    pub expires_after: Option<Duration>,
    /// What to do if nobody knows whether a message arrived: Resend it under the same id, or Hold it as dead.
    #[serde(default)]
    pub on_unknown: OnUnknown,
}

/// A limit of attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Attempts per minute.
    #[schemars(range(min = 1, max = 600_000))]
    pub per_minute: i32,
    /// How many attempts may start at once after a quiet time.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10_000))]
    pub burst: i32,
}

fn one() -> i32 {
    1
}

/// When to try again.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// All attempts, the first included; 8 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: Option<i32>,
    /// The longest wait before the second attempt, 100ms to 1h; 10s when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = common::between("100ms", "1h")))]
    pub initial_delay: Option<Duration>,
    /// The longest wait before any attempt, 100ms to 24h; 1h when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = common::between("100ms", "24h")))]
    pub max_delay: Option<Duration>,
}

/// What to do if nobody knows whether a message arrived.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum OnUnknown {
    #[default]
    Resend,
    Hold,
}

/// TLS to the receiver.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Certificates (PEM) of a private authority; with it, no other authority is trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
}

/// Templates of a channel's texts, in MiniJinja.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Title or subject (MiniJinja over id, title, summary, severity, group, name, namespace and more).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub title: Option<String>,
    /// Body (MiniJinja, the same names). If a name is undefined, a visible fallback text is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16_384))]
    pub body: Option<String>,
}

/// The status of a channel.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NotificationChannelStatus {
    /// The metadata.generation that the operator last acted on; -1 before it has seen the object.
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// The object's status conditions.
    #[schemars(schema_with = "common::conditions")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Deliveries by state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<DeliveryCounts>,
    /// When the receiver last took a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_delivery_time: Option<Moment>,
    /// The error of the last failed attempt since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub last_error: Option<String>,
    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error_time: Option<Moment>,
    /// The last handled value of the annotation belfry.dev/send-test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_test: Option<TestResult>,
    /// The last handled value of the annotation belfry.dev/resend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_resend: Option<ResendResult>,
}

/// Deliveries by state. A delivery is one notification to one recipient.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DeliveryCounts {
    /// Waiting for their first attempt.
    #[schemars(range(min = 0))]
    pub pending: i64,
    /// Waiting for another attempt.
    #[schemars(range(min = 0))]
    pub retrying: i64,
    /// Accepted by the receiver, ever.
    #[schemars(range(min = 0))]
    pub delivered: i64,
    /// Given up and not sent again since.
    #[schemars(range(min = 0))]
    pub dead: i64,
    /// Too old to send, ever.
    #[schemars(range(min = 0))]
    pub expired: i64,
    /// Not wanted any more, ever.
    #[schemars(range(min = 0))]
    pub suppressed: i64,
}

/// The result of a test message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestResult {
    /// The annotation's value.
    #[schemars(length(max = 512))]
    pub request: String,
    /// When it was handled.
    pub time: Moment,
    /// Pending, Delivered, or why it was not delivered.
    #[schemars(length(max = 1024))]
    pub result: String,
}

/// The result of sending dead deliveries again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResendResult {
    /// The annotation's value.
    #[schemars(length(max = 512))]
    pub request: String,
    /// When it was handled.
    pub time: Moment,
    /// How many deliveries are sent again.
    #[schemars(range(min = 0))]
    pub count: i64,
    /// What was done, or why not.
    #[schemars(length(max = 1024))]
    pub result: String,
}
