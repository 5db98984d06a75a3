//! `NotificationChannel`: where a message goes and how hard to try.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{self, ConfigMapKeyRef, Duration, Moment, SecretKeyRef};
use crate::kafka::{self, KafkaSasl, KafkaTls};

/// Where a message goes and how hard to try.
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
    doc = "Where a message goes and how hard to try. Rules and schedules of the same namespace name it.",
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
#[schemars(extend("x-kubernetes-validations" = rules()))]
pub struct NotificationChannelSpec {
    /// Kind of receiver: Slack, Email, Webhook or Kafka. The member of that name says the rest.
    #[serde(rename = "type")]
    pub type_: ChannelType,
    /// A Slack incoming webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slack: Option<Slack>,
    /// Mail by SMTP. Each recipient gets a message of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
    /// An HTTP request in the form of Standard Webhooks, of CloudEvents, or of your own.
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
    /// Texts of this channel; absent parts are the notification's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// IANA time zone of those who read it, such as Europe/Berlin: a reminder says when it is there too, where that is another time
    /// than in the schedule's zone. Of an email's recipients, participants.workingHours.timeZone of the schedule goes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9_+/-]*$"))]
    pub time_zone: Option<String>,
    /// Holds deliveries back, until they expire.
    #[serde(default)]
    pub suspend: bool,
}

/// The type's member and no other; and one place for the TLS of Kafka.
fn rules() -> serde_json::Value {
    let members = [("Slack", "slack"), ("Email", "email"), ("Webhook", "webhook"), ("Kafka", "kafka")];
    let mut rules = common::union(&members, &[]);
    if let Some(rules) = rules.as_array_mut() {
        rules.push(common::cel(
            "self.type != 'Kafka' || !has(self.tls)",
            "tls is for the other types: that of Kafka is kafka.tls",
        ));
    }
    rules
}

/// Kind of receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum ChannelType {
    Slack,
    Email,
    Webhook,
    Kafka,
}

/// A Slack incoming webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Slack {
    /// Secret key with the incoming webhook's whole URL.
    pub webhook_url_secret_ref: SecretKeyRef,
}

/// Why a login without TLS is refused.
pub const CLEARTEXT_LOGIN: &str = "with tls: None everybody on the way reads the password: use StartTls or Implicit, or set allowCleartextLogin: true";

/// Mail by SMTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [common::cel(
    "has(self.usernameSecretRef) == has(self.passwordSecretRef)",
    "usernameSecretRef and passwordSecretRef go together: give both, or none to send without login",
), common::cel(
    "self.tls != 'None' || !has(self.passwordSecretRef) || self.allowCleartextLogin",
    CLEARTEXT_LOGIN,
)]))]
pub struct Email {
    /// Host name or address of the SMTP server.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$"))]
    pub host: String,
    /// Port of the SMTP server, usually 25, 465 or 587.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// How the connection is protected: StartTls (required, not merely tried), Implicit (TLS from the first byte) or None.
    #[serde(default)]
    pub tls: SmtpTls,
    /// Secret key with the login name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username_secret_ref: Option<SecretKeyRef>,
    /// Secret key with the login password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyRef>,
    /// Whether the login may go over a connection without TLS (tls: None), where everybody on the way reads name and password.
    #[serde(default)]
    pub allow_cleartext_login: bool,
    /// The sender, such as "Belfry <belfry@example.com>".
    #[schemars(length(min = 3, max = 320), regex(pattern = r"^[^\r\n]*@[^\r\n]*$"))]
    pub from: String,
    /// The recipients; each is a delivery of its own.
    #[schemars(
        length(min = 1, max = 50),
        inner(length(min = 3, max = 320), regex(pattern = r"^[^\r\n]*@[^\r\n]*$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub to: Vec<String>,
}

/// How an SMTP connection is protected.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum SmtpTls {
    None,
    #[default]
    StartTls,
    Implicit,
}

/// Why credentials without TLS are refused.
pub const CLEARTEXT_CREDENTIALS: &str =
    "over http:// everybody on the way reads credentials: use https://, or set allowCleartextLogin: true";

/// An HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    common::cel("has(self.url) != has(self.urlSecretRef)", "exactly one of url and urlSecretRef is needed"),
    common::cel(
        "!(has(self.basicAuth) && has(self.bearerTokenSecretRef))",
        "either basicAuth or bearerTokenSecretRef: both are the header Authorization",
    ),
    common::cel(
        "!has(self.body) || !has(self.format) || self.format == 'Json'",
        "body says all that is sent: leave out format",
    ),
    common::cel(
        "!has(self.url) || !self.url.startsWith('http://') || has(self.allowCleartextLogin) && self.allowCleartextLogin || !(has(self.basicAuth) \
         || has(self.bearerTokenSecretRef) || has(self.headers) && self.headers.exists(it, has(it.secretKeyRef)))",
        CLEARTEXT_CREDENTIALS,
    ),
]))]
pub struct Webhook {
    /// The receiver's http or https URL, without secrets in it. Loopback, link-local and multicast addresses are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 10, max = 2048), regex(pattern = r"^https?://[^\s/@?#]+([/?#]\S*)?$"))]
    pub url: Option<String>,
    /// Secret key with the whole URL instead, where it has a token in it. The same addresses are refused, when it is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_secret_ref: Option<SecretKeyRef>,
    /// How it is asked: POST or PUT; POST when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<WebhookMethod>,
    /// Further headers. With any, redirects are not followed, so that nobody else is shown them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub headers: Vec<WebhookHeader>,
    /// HTTP Basic authentication, with name and password from Secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// Secret key with a token that goes as Authorization: Bearer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_token_secret_ref: Option<SecretKeyRef>,
    /// Whether headers from Secrets and logins may go over http://, where everybody on the way reads them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_cleartext_login: Option<bool>,
    /// What is sent, in the receiver's own form, in place of format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<WebhookBody>,
    /// Secret key with a Standard Webhooks signing secret (whsec_ and base64 of 24 to 64 bytes). Several lines sign with several
    /// keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_secret_ref: Option<SecretKeyRef>,
    /// The body's form: Json, CloudEventsBinary (attributes in headers) or CloudEventsStructured.
    #[serde(default)]
    pub format: WebhookFormat,
}

/// How a webhook is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum WebhookMethod {
    #[serde(rename = "POST")]
    Post,
    #[serde(rename = "PUT")]
    Put,
}

/// A header of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [common::cel(
    "has(self.value) != has(self.secretKeyRef)",
    "exactly one of value and secretKeyRef is needed",
)]))]
pub struct WebhookHeader {
    /// Its name. Not one that Belfry sets or that HTTP needs for itself, such as Content-Type or Host.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9!#$%&*+.^_|~-]+$"))]
    pub name: String,
    /// Its value, which everybody reads who may read this object. Printable ASCII.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = r"^([!-~]([ -~]*[!-~])?)?$"))]
    pub value: Option<String>,
    /// Or a Secret key with it. Authorization, Cookie and Proxy-Authorization need one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// HTTP Basic authentication (RFC 7617).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BasicAuth {
    /// Secret key with the login name, which has no colon.
    pub username_secret_ref: SecretKeyRef,
    /// Secret key with the password.
    pub password_secret_ref: SecretKeyRef,
}

/// A body in the receiver's own form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookBody {
    /// MiniJinja, over the same names as spec.template, and text: title and body as this channel writes them. With a content type
    /// of JSON, values are escaped as parts of its strings.
    #[schemars(length(min = 1, max = 16_384))]
    pub template: String,
    /// Content type; application/json when absent. What is JSON by its name must be JSON when it is rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 3, max = 128),
        regex(pattern = r"^[A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+(; *[A-Za-z0-9.+-]+=[A-Za-z0-9.+-]+)*$")
    )]
    pub content_type: Option<String>,
}

/// The form of a webhook's body.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum WebhookFormat {
    #[default]
    Json,
    CloudEventsBinary,
    CloudEventsStructured,
}

/// A Kafka topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [kafka::no_bare_password()]))]
pub struct KafkaTarget {
    /// Brokers to begin with, host:port each.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 3, max = 259), regex(pattern = r"^[A-Za-z0-9.\[\]:_-]+:[0-9]{1,5}$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub bootstrap_servers: Vec<String>,
    /// The topic; it must exist. Records carry the ordering key as their key.
    #[schemars(length(min = 1, max = 249), regex(pattern = r"^[a-zA-Z0-9._-]+$"))]
    pub topic: String,
    /// TLS to the brokers; plain text when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// Login by SASL; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
}

/// How hard to try, and how fast.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// The channel's budget over all replicas. Waiting for it is no attempt. No limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// When to try again: exponential, with full jitter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// How long one attempt may take, 1s to 5m; 10s when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = common::between("1s", "5m")))]
    pub timeout: Option<Duration>,
    /// How old a delivery may get before it is given up as noise, 1s to 720h; 24h when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = common::between("1s", "720h")))]
    pub expires_after: Option<Duration>,
    /// What to do when nobody knows whether a message arrived: Resend it under the same id, or Hold it as dead.
    #[serde(default)]
    pub on_unknown: OnUnknown,
}

/// A budget of attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Attempts a minute.
    #[schemars(range(min = 1, max = 600_000))]
    pub per_minute: i32,
    /// How many may go at once after a quiet time.
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

/// What to do when nobody knows whether a message arrived.
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

/// Where the certificates of a private authority are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [common::cel(
    "has(self.configMapRef) != has(self.secretRef)",
    "exactly one of configMapRef and secretRef is needed",
)]))]
pub struct CaBundle {
    /// A key of a ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigMapKeyRef>,
    /// A key of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
}

/// Texts of a channel, in MiniJinja.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Title or subject (MiniJinja over id, title, summary, severity, group, name, namespace and more).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub title: Option<String>,
    /// Body (MiniJinja, the same names). An undefined name gives a visible fallback text, never silence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16_384))]
    pub body: Option<String>,
}

/// What is known of a channel.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NotificationChannelStatus {
    /// The metadata.generation that the operator last acted on; -1 before it has seen the object.
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// Where the object stands.
    #[schemars(schema_with = "common::conditions")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Deliveries by where they stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<DeliveryCounts>,
    /// When the receiver last took a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_delivery_time: Option<Moment>,
    /// What the last failed attempt since then met.
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

/// Deliveries by where they stand. A delivery is one message to one recipient.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DeliveryCounts {
    /// Waiting for their first attempt.
    #[schemars(range(min = 0))]
    pub pending: i64,
    /// Waiting for another attempt.
    #[schemars(range(min = 0))]
    pub retrying: i64,
    /// Taken by the receiver, ever.
    #[schemars(range(min = 0))]
    pub delivered: i64,
    /// Given up, and not sent again since.
    #[schemars(range(min = 0))]
    pub dead: i64,
    /// Too old to send, ever.
    #[schemars(range(min = 0))]
    pub expired: i64,
    /// Not wanted any more, ever.
    #[schemars(range(min = 0))]
    pub suppressed: i64,
}

/// What came of a test message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestResult {
    /// The annotation's value.
    #[schemars(length(max = 512))]
    pub request: String,
    /// When it was handled.
    pub time: Moment,
    /// Pending, Delivered, or why it was not.
    #[schemars(length(max = 1024))]
    pub result: String,
}

/// What came of sending dead letters again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResendResult {
    /// The annotation's value.
    #[schemars(length(max = 512))]
    pub request: String,
    /// When it was handled.
    pub time: Moment,
    /// How many deliveries were taken up again.
    #[schemars(range(min = 0))]
    pub count: i64,
    /// What was done, or why not.
    #[schemars(length(max = 1024))]
    pub result: String,
}
