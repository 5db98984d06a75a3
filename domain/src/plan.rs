//! Plans: all that hub and workers must know of one object, secrets only by reference.
//!
//! The operator validates before it makes a plan, so readers trust its values. Never here: a secret's value.

use std::collections::{BTreeMap, BTreeSet};

use calendar::{RecurrenceSpec, ReminderTime};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{About, Condition, Digest, KafkaSecurity, Millis, Resolve, RetryPolicy, Severity, Source};

/// The three kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Where a message goes.
    NotificationChannel,
    /// Which records matter.
    AlertRule,
    /// A recurring event.
    Schedule,
}

impl Kind {
    /// The kind's name, as in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotificationChannel => "NotificationChannel",
            Self::AlertRule => "AlertRule",
            Self::Schedule => "Schedule",
        }
    }
}

/// One object's plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The object's namespace: no plan reaches beyond it.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object's uid.
    pub uid: Uuid,
    /// `metadata.generation` of the spec that this plan says. Not part of the revision.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// `spec.suspend`.
    pub suspended: bool,
    /// What the kind says.
    pub body: PlanBody,
}

/// What each kind's plan says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "spec")]
pub enum PlanBody {
    /// Of a `NotificationChannel`.
    NotificationChannel(ChannelPlan),
    /// Of an `AlertRule`.
    AlertRule(RulePlan),
    /// Of a `Schedule`.
    Schedule(SchedulePlan),
}

impl Plan {
    /// The hash of what the plan says: everything but the generation.
    pub fn revision(&self) -> Digest {
        Digest::of(&(&self.namespace, &self.name, self.uid, self.created, self.suspended, &self.body))
    }

    /// Which kind it is of.
    pub fn kind(&self) -> Kind {
        match self.body {
            PlanBody::NotificationChannel(_) => Kind::NotificationChannel,
            PlanBody::AlertRule(_) => Kind::AlertRule,
            PlanBody::Schedule(_) => Kind::Schedule,
        }
    }
}

/// A key of a Secret or ConfigMap in the object's namespace, mounted in the worker's pod as
/// `<root>/<secrets|configmaps>/<name>/<key>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileRef {
    /// Secret or ConfigMap.
    pub kind: FileKind,
    /// Its name.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// Which kind of object holds a referenced file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FileKind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

impl FileRef {
    /// The path below the root of mounted files.
    pub fn path(&self) -> String {
        let folder = match self.kind {
            FileKind::Secret => "secrets",
            FileKind::ConfigMap => "configmaps",
        };
        format!("{folder}/{}/{}", self.name, self.key)
    }
}

impl std::fmt::Display for FileRef {
    /// `key "signing" of Secret "payments-notify"`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key {:?} of {:?} {:?}", self.key, self.kind, self.name)
    }
}

/// A channel: where a message goes and how hard to try.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelPlan {
    /// Where it goes.
    pub target: Target,
    /// Certificates of a private authority that the receiver's certificate may chain to (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<FileRef>,
    /// The channel's own texts; absent parts are the notification's.
    #[serde(default)]
    pub template: TemplateText,
    /// How hard to try.
    pub delivery: DeliveryPolicy,
    /// IANA zone of those who read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// A channel's template, MiniJinja.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateText {
    /// Of the title or subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Of the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Of all that a webhook sends, in place of its format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<PayloadText>,
}

impl TemplateText {
    /// Whether the notification's own texts are sent.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What a webhook sends in place of its format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PayloadText {
    /// MiniJinja.
    pub template: String,
    /// Its content type.
    pub content_type: String,
}

impl PayloadText {
    /// Whether it is JSON by its content type (RFC 6839, 3.1).
    pub fn is_json(&self) -> bool {
        let kind = self.content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || kind.ends_with("+json")
    }
}

/// Where a channel's messages go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum Target {
    /// A Slack incoming webhook.
    Slack {
        /// The whole URL is the secret.
        webhook_url: FileRef,
    },
    /// SMTP (RFC 5321).
    Email {
        /// The server's host name or address.
        host: String,
        /// The server's port.
        port: u16,
        /// How the connection is protected.
        tls: SmtpTls,
        /// Login name.
        #[serde(skip_serializing_if = "Option::is_none")]
        username: Option<FileRef>,
        /// Login password.
        #[serde(skip_serializing_if = "Option::is_none")]
        password: Option<FileRef>,
        /// The sender's mailbox (RFC 5322).
        from: String,
        /// The recipients' mailboxes; each is a delivery of its own.
        to: Vec<String>,
    },
    /// An HTTP request.
    Webhook(Box<WebhookPlan>),
    /// A Kafka topic, CloudEvents binary mode.
    Kafka {
        /// `host:port` each.
        bootstrap_servers: Vec<String>,
        /// The topic; it must exist.
        topic: String,
        /// TLS and login.
        #[serde(default, skip_serializing_if = "KafkaSecurity::is_plain")]
        security: Box<KafkaSecurity>,
    },
}

impl Target {
    /// The channel type's name, a label of metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Slack { .. } => "Slack",
            Self::Email { .. } => "Email",
            Self::Webhook(_) => "Webhook",
            Self::Kafka { .. } => "Kafka",
        }
    }

    /// Whom a notification is delivered to: each mailbox for e-mail, otherwise one unnamed recipient.
    pub fn recipients(&self) -> Vec<&str> {
        match self {
            Self::Email { to, .. } => to.iter().map(String::as_str).collect(),
            Self::Slack { .. } | Self::Webhook(_) | Self::Kafka { .. } => vec![""],
        }
    }
}

impl ChannelPlan {
    /// The files that the worker must find to deliver.
    pub fn files(&self) -> Vec<&FileRef> {
        let mut files: Vec<&FileRef> = self.ca_bundle.iter().collect();
        match &self.target {
            Target::Slack { webhook_url } => files.push(webhook_url),
            Target::Email { username, password, .. } => files.extend(username.iter().chain(password)),
            Target::Webhook(webhook) => files.extend(webhook.files()),
            Target::Kafka { security, .. } => files.extend(security.files()),
        }
        files
    }
}

/// How an SMTP connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SmtpTls {
    /// Not at all.
    None,
    /// STARTTLS (RFC 3207), required.
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Implicit,
}

/// An HTTP request for each message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookPlan {
    /// Where to.
    pub url: WebhookUrl,
    /// How.
    #[serde(default, skip_serializing_if = "WebhookMethod::is_post")]
    pub method: WebhookMethod,
    /// Headers beside those that Belfry sets, each name once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<WebhookHeader>,
    /// Who Belfry says that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<WebhookAuth>,
    /// Whether what is secret may go over http, where everybody on the way reads it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_cleartext_login: bool,
    /// Standard Webhooks secret (`whsec_...`); one a line while keys rotate, each signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing: Option<FileRef>,
    /// The body's form, where [`TemplateText::payload`] has none.
    pub format: WebhookFormat,
}

impl WebhookPlan {
    /// A signed or unsigned POST to a URL.
    pub fn post(url: impl Into<String>, signing: Option<FileRef>, format: WebhookFormat) -> Self {
        Self {
            url: WebhookUrl::Plain(url.into()),
            method: WebhookMethod::Post,
            headers: Vec::new(),
            auth: None,
            allow_cleartext_login: false,
            signing,
            format,
        }
    }

    /// The files that it needs.
    pub fn files(&self) -> Vec<&FileRef> {
        let mut files: Vec<&FileRef> = self.signing.iter().collect();
        if let WebhookUrl::Secret(file) = &self.url {
            files.push(file);
        }
        files.extend(self.headers.iter().filter_map(|header| match &header.value {
            WebhookValue::Secret(file) => Some(file),
            WebhookValue::Plain(_) => None,
        }));
        match &self.auth {
            Some(WebhookAuth::Basic { username, password }) => files.extend([username, password]),
            Some(WebhookAuth::Bearer { token }) => files.push(token),
            None => {}
        }
        files
    }

    /// Whether a request shows who we are: then it goes to no address but the one that the user named.
    pub fn shows_credentials(&self) -> bool {
        let secret = |header: &WebhookHeader| matches!(header.value, WebhookValue::Secret(_));
        self.auth.is_some() || self.headers.iter().any(secret)
    }
}

/// Where a webhook is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WebhookUrl {
    /// An http or https URL.
    Plain(String),
    /// The whole URL is the secret.
    Secret(FileRef),
}

/// How a webhook is asked.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WebhookMethod {
    /// POST.
    #[default]
    Post,
    /// PUT.
    Put,
}

impl WebhookMethod {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_post(&self) -> bool {
        *self == Self::Post
    }
}

/// A header of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookHeader {
    /// Its name, in lower case.
    pub name: String,
    /// Its value.
    pub value: WebhookValue,
}

/// A header's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WebhookValue {
    /// As it stands in the manifest.
    Plain(String),
    /// In a Secret.
    Secret(FileRef),
}

/// Who a webhook's request is from (RFC 9110, 11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum WebhookAuth {
    /// Basic (RFC 7617).
    Basic {
        /// The login name.
        username: FileRef,
        /// The password.
        password: FileRef,
    },
    /// A bearer token (RFC 6750).
    Bearer {
        /// The token.
        token: FileRef,
    },
}

/// The form of a webhook's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WebhookFormat {
    /// A plain JSON object.
    Json,
    /// CloudEvents 1.0, attributes in headers.
    CloudEventsBinary,
    /// CloudEvents 1.0, `application/cloudevents+json`.
    CloudEventsStructured,
}

/// How hard to try.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryPolicy {
    /// The channel's budget over all replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// When to try again.
    pub retry: RetryPolicy,
    /// How long an attempt may take.
    pub timeout: Millis,
    /// How old a delivery may get.
    pub expires_after: Millis,
    /// What to do when nobody knows whether it arrived.
    pub on_unknown: OnUnknown,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Attempts a minute.
    pub per_minute: i32,
    /// How many may go at once after a quiet time.
    pub burst: i32,
}

/// What to do when nobody knows whether a message arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnUnknown {
    /// Send it again under the same id.
    Resend,
    /// End it dead, with that reason.
    Hold,
}

/// An alert rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RulePlan {
    /// What its consumer reads; shared by the rules that name the same.
    pub source: Source,
    /// The topics of the source that this rule reads.
    pub topics: Vec<String>,
    /// Where to begin in a topic that the source has never read.
    pub start_from: StartFrom,
    /// Where records go that can't be decoded; `<topic>.DLT` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_topic: Option<String>,
    /// CEL.
    #[serde(rename = "match")]
    pub matches: String,
    /// Label name to path.
    pub group_by: BTreeMap<String, String>,
    /// When it is an alert.
    pub condition: Condition,
    /// How bad it is.
    pub severity: Severity,
    /// Template of the title.
    pub title: String,
    /// Template of the summary; empty where the user gave none.
    pub summary: String,
    /// Names of the channels, in the rule's namespace.
    pub notify: Vec<String>,
    /// How often a firing group speaks again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_interval: Option<Millis>,
    /// When it is over and whether to say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolve: Option<Resolve>,
    /// How long a bucket waits for late records.
    pub allowed_lateness: Millis,
    /// How its alerts behave beyond that.
    #[serde(default)]
    pub policy: AlertPolicy,
}

impl RulePlan {
    /// Where records of a topic go that can't be decoded; none of one that is itself named like such a topic, unless the
    /// rule says where.
    pub fn dead_letter_topic_of(&self, topic: &str) -> Option<String> {
        let default = || (!topic.ends_with(".DLT")).then(|| format!("{topic}.DLT"));
        self.dead_letter_topic.clone().or_else(default)
    }

    /// Where records of all of its topics go that can't be decoded.
    pub fn dead_letter_topics(&self) -> BTreeSet<String> {
        self.topics.iter().filter_map(|topic| self.dead_letter_topic_of(topic)).collect()
    }
}

/// How a rule's alerts behave beyond their condition. Not part of what decides its counts: a change keeps the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AlertPolicy {
    /// How long the condition must hold before it is an alert; 0 for at once.
    #[serde(rename = "for")]
    pub hold: Millis,
    /// How much longer each repeat waits than the one before, in thousandths; from 1,000.
    pub repeat_factor: i64,
    /// Label name to the path whose most frequent values a notification shows.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub top_values: BTreeMap<String, String>,
    /// Groups held at once; from 1.
    pub max_groups: i64,
}

impl AlertPolicy {
    /// Groups of a rule that are held at once unless it says otherwise.
    pub const MAX_GROUPS: i64 = 10_000;
}

impl Default for AlertPolicy {
    fn default() -> Self {
        Self {
            hold: Millis(0),
            repeat_factor: 1_000,
            top_values: BTreeMap::new(),
            max_groups: Self::MAX_GROUPS,
        }
    }
}

impl RulePlan {
    /// The hash of what decides the rule's counts and states. Another hash starts anew.
    pub fn state(&self) -> Digest {
        Digest::of(&(&self.matches, &self.group_by, &self.condition, &self.source.reading))
    }
}

/// Where to begin in a topic that the source has never read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StartFrom {
    /// At the first record that is kept.
    Earliest,
    /// After the last record.
    Latest,
}

/// A recurring event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SchedulePlan {
    /// What it is.
    pub title: String,
    /// What else it says of itself.
    #[serde(default, skip_serializing_if = "About::is_nothing")]
    pub about: About,
    /// Template of what its reminders say below the title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// When it is.
    pub recurrence: RecurrenceSpec,
    /// What to say before it.
    pub reminders: Vec<ReminderPlan>,
    /// IANA zones of participants by their lower-case address, where they are not the schedule's.
    #[serde(default)]
    pub time_zones: BTreeMap<String, String>,
    /// Minutes by which all of them fall due later, so that not all schedules remind in the same minute.
    #[serde(default)]
    pub delay_minutes: u16,
    /// What to do about reminders missed while the cluster was down.
    pub catch_up: CatchUp,
}

/// One reminder of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReminderPlan {
    /// When.
    #[serde(flatten)]
    pub time: ReminderTime,
    /// Names of the channels, in the schedule's namespace.
    pub notify: Vec<String>,
}

/// What to do about missed reminders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchUp {
    /// Which of them are sent.
    pub policy: CatchUpPolicy,
    /// How late a reminder may come.
    pub window: Millis,
}

/// Which missed reminders are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatchUpPolicy {
    /// All within the window.
    All,
    /// The latest of each reminder within the window.
    Latest,
    /// None.
    None,
}
