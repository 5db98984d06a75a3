//! A channel's plan: where a message goes and how hard to try.
//!
//! Each type of receiver has a file here, with what must be known of it to deliver, and a line in the table below. The
//! compiler then asks for its other parts; `docs/adding-a-channel.md` lists them.

mod email;
mod kafka;
mod slack;
mod webhook;

use serde::{Deserialize, Serialize};

use crate::{FileRef, Millis, RetryPolicy};

pub use email::{EmailPlan, SmtpTls};
pub use kafka::KafkaPlan;
pub use slack::SlackPlan;
pub use webhook::{
    WebhookAuth, WebhookFormat, WebhookHeader, WebhookMethod, WebhookPlan, WebhookUrl, WebhookValue,
};

/// What is asked of a plan whatever its type.
trait Receiver {
    /// The files that the worker must find to deliver.
    fn files(&self) -> Vec<&FileRef>;

    /// Whom a notification is delivered to, each in a delivery of its own; one unnamed recipient unless it says otherwise.
    fn recipients(&self) -> Vec<&str> {
        vec![""]
    }
}

macro_rules! targets {
    ($($(#[$doc:meta])* $name:ident($plan:ty),)*) => {
        /// Where a channel's messages go.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "type")]
        pub enum Target {
            $($(#[$doc])* $name(Box<$plan>),)*
        }

        impl Target {
            /// The channel type's name, a label of metrics.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)*
                }
            }

            fn receiver(&self) -> &dyn Receiver {
                match self {
                    $(Self::$name(plan) => plan.as_ref(),)*
                }
            }
        }

        $(impl From<$plan> for Target {
            fn from(plan: $plan) -> Self {
                Self::$name(Box::new(plan))
            }
        })*
    };
}

targets! {
    /// A Slack incoming webhook.
    Slack(SlackPlan),
    /// SMTP (RFC 5321).
    Email(EmailPlan),
    /// An HTTP request.
    Webhook(WebhookPlan),
    /// A Kafka topic.
    Kafka(KafkaPlan),
}

impl Target {
    /// The files that the worker must find to deliver.
    pub fn files(&self) -> Vec<&FileRef> {
        self.receiver().files()
    }

    /// Whom a notification is delivered to: each mailbox for e-mail, otherwise one unnamed recipient.
    pub fn recipients(&self) -> Vec<&str> {
        self.receiver().recipients()
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

impl ChannelPlan {
    /// The files that the worker must find to deliver, those of the target among them.
    pub fn files(&self) -> Vec<&FileRef> {
        self.ca_bundle.iter().chain(self.target.files()).collect()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What hubs and workers of another version read, and what revisions are hashes of.
    const WRITTEN: [&str; 5] = [
        r#"{"type":"Slack","webhookUrl":{"kind":"Secret","name":"s","key":"url"}}"#,
        r#"{"type":"Email","host":"mx","port":587,"tls":"StartTls","username":{"kind":"Secret","name":"s","key":"u"},"password":{"kind":"Secret","name":"s","key":"p"},"from":"b@x","to":["a@x","c@x"]}"#,
        r#"{"type":"Webhook","url":{"kind":"Secret","name":"s","key":"url"},"headers":[{"name":"x-a","value":{"kind":"Secret","name":"s","key":"h"}}],"auth":{"type":"Bearer","token":{"kind":"Secret","name":"s","key":"t"}},"signing":{"kind":"Secret","name":"s","key":"k"},"format":"Json"}"#,
        r#"{"type":"Kafka","bootstrapServers":["a:1"],"topic":"t"}"#,
        r#"{"type":"Kafka","bootstrapServers":["a:1"],"topic":"t","security":{"tls":{"caBundle":{"kind":"ConfigMap","name":"c","key":"ca"}}}}"#,
    ];

    fn targets() -> impl Iterator<Item = Target> {
        WRITTEN.into_iter().map(|text| serde_json::from_str(text).unwrap())
    }

    #[test]
    fn each_target_is_written_as_it_always_was() {
        for (text, target) in WRITTEN.into_iter().zip(targets()) {
            assert_eq!(serde_json::to_string(&target).unwrap(), text);
        }
    }

    #[test]
    fn a_channel_needs_each_file_that_its_plan_names_and_has_a_recipient() {
        for target in targets() {
            let text = serde_json::to_string(&target).unwrap();
            let named = text.matches(r#""kind":"#).count();
            assert_eq!(target.files().len(), named, "{text}");
            assert_eq!(target.recipients().len(), if target.name() == "Email" { 2 } else { 1 });
        }
    }
}
