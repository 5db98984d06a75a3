//! A channel's plan: where messages go and how hard to try.
//!
//! Each type of receiver has a file here, with everything that a delivery needs to know of it, and a line in the table below.
//! The compiler then asks for the other parts; `docs/adding-a-channel.md` lists them.

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

/// What the plan of every type of receiver answers.
trait Receiver {
    /// The files that a worker needs to deliver.
    fn files(&self) -> Vec<&FileRef>;

    /// The recipients; each gets a delivery of its own. By default one unnamed recipient.
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
    /// The files that a worker needs to deliver.
    pub fn files(&self) -> Vec<&FileRef> {
        self.receiver().files()
    }

    /// The recipients: each mailbox for e-mail, otherwise one unnamed recipient.
    pub fn recipients(&self) -> Vec<&str> {
        self.receiver().recipients()
    }
}

/// A channel: where messages go and how hard to try.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelPlan {
    /// Where messages go.
    pub target: Target,
    /// Certificates (PEM) of a private authority that signs the receiver's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<FileRef>,
    /// The channel's own texts. Where one is absent, the notification's text is sent.
    #[serde(default)]
    pub template: TemplateText,
    /// How hard to try.
    pub delivery: DeliveryPolicy,
    /// The IANA zone of the people who read the messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// A channel's templates, in MiniJinja.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateText {
    /// Template of the title or subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Template of the body, which replaces the notification's summary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Template of everything that a webhook sends, in place of its format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<PayloadText>,
}

impl TemplateText {
    /// Whether there is no template, so that the notification's own texts are sent.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// A template of everything that a webhook sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PayloadText {
    /// The template, in MiniJinja.
    pub template: String,
    /// The content type of what it renders.
    pub content_type: String,
}

impl PayloadText {
    /// Whether the content type means JSON (RFC 6839, section 3.1).
    pub fn is_json(&self) -> bool {
        let kind = self.content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || kind.ends_with("+json")
    }
}

impl ChannelPlan {
    /// The files that a worker needs to deliver, including the target's.
    pub fn files(&self) -> Vec<&FileRef> {
        self.ca_bundle.iter().chain(self.target.files()).collect()
    }
}

/// How hard to try.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryPolicy {
    /// The rate limit of the channel over all replicas; none if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// When to try again, and how often.
    pub retry: RetryPolicy,
    /// How long one attempt may take.
    pub timeout: Millis,
    /// How old a delivery may get before it expires.
    pub expires_after: Millis,
    /// What to do if nobody knows whether a message arrived.
    pub on_unknown: OnUnknown,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Attempts per minute.
    pub per_minute: i32,
    /// How many attempts may start at once after a quiet time.
    pub burst: i32,
}

/// What to do if nobody knows whether a message arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnUnknown {
    /// Send it again under the same id.
    Resend,
    /// End the delivery as dead, with that reason.
    Hold,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The JSON that hubs and workers of other versions read, and that revisions hash.
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
    fn the_json_of_each_target_stays_the_same() {
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
