//! A delivery as a [CloudEvent](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md), and the documented
//! JSON object in it. Webhooks and Kafka channels send the same.
//!
//! The object (`data` of the event, and of the plain JSON form); `docs/schemas/notification.json` is its schema:
//!
//! | field | meaning |
//! | --- | --- |
//! | `delivery` | the delivery's stable id, the same for every attempt |
//! | `notification` | the notification's id |
//! | `first` | for an alert, the id of the notification that told of it first, which may be this one; absent for other causes |
//! | `ask` | the command that tells what became of it |
//! | `kind` | `firing`, `repeat`, `resolved`, `closed`, `record`, `reminder`, `test` |
//! | `namespace`, `object` {`kind`, `name`, `uid`} | what caused it |
//! | `severity` | `info`, `warning`, `critical` |
//! | `title`, `body` | the rendered texts |
//! | `group` | label name to value |
//! | `orderingKey` | deliveries with the same key arrive in order |
//! | `created` | when it was decided, RFC 3339 |
//! | `cause` | the details by kind, as `belfry ask -o json` tells them ([`domain::Cause::told`]), without the recipients' time zones |
//!
//! The body is the same for every attempt. If it would be longer than 256 KiB, its text is cut with a visible mark.

use std::collections::BTreeMap;

use domain::{Cause, Digest};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::message::{
    CausingObject, Message, NotificationLabels, ask_command, first_notification, group_text,
};
use crate::text::cut_bytes;

/// Longest body, bytes.
pub(crate) const MAX_BYTES: usize = 256 * 1024;
/// Longest title, bytes.
const MAX_TITLE: usize = 4 * 1024;

/// The attributes of a CloudEvent, and its data.
#[derive(Debug, Clone)]
pub(crate) struct CloudEvent {
    /// The delivery's id: stable over attempts.
    pub(crate) id: String,
    /// `/belfry/namespaces/<namespace>/<kind, plural>/<name>`.
    pub(crate) source: String,
    /// `dev.belfry.notification.<kind>`.
    pub(crate) kind: String,
    /// When the notification was decided, RFC 3339.
    pub(crate) time: String,
    /// The group as `k=v, k2=v2`, the occurrence, or the test's request; empty for none.
    pub(crate) subject: String,
    /// Hash of the ordering key (extension `partitionkey`).
    pub(crate) partition_key: String,
    /// The object described at this module's head, as JSON.
    pub(crate) data: Box<RawValue>,
}

/// The cause without the recipients' addresses and time zones, which are not the receiver's business.
fn told(cause: &Cause) -> Value {
    let mut told = cause.public_json();
    if let Value::Object(told) = &mut told {
        told.remove("timeZones");
    }
    told
}

/// The object described at this module's head.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventData<'a> {
    delivery: Uuid,
    notification: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<Uuid>,
    ask: String,
    kind: &'static str,
    namespace: &'a str,
    object: CausingObject<'a>,
    severity: &'static str,
    title: String,
    body: &'a str,
    group: &'a BTreeMap<String, String>,
    ordering_key: &'a str,
    created: Timestamp,
    cause: Value,
}

/// See [`CloudEvent::plain`].
#[derive(Serialize)]
struct PlainBody<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    timestamp: &'a str,
    data: &'a RawValue,
}

/// See [`CloudEvent::structured`].
#[derive(Serialize)]
struct StructuredBody<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    time: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    subject: &'a str,
    partitionkey: &'a str,
    datacontenttype: &'static str,
    data: &'a RawValue,
}

const SPEC_VERSION: &str = "1.0";

impl CloudEvent {
    /// The event of a message; its data is at most about 256 KiB.
    pub(crate) fn new(message: &Message) -> Self {
        let mut data = data(message, &message.body);
        let over = data.get().len().saturating_sub(MAX_BYTES - 2 * 1024);
        if over > 0 {
            // Escaping only makes a text longer, so cutting the raw text by the excess is always enough.
            let body = cut_bytes(&message.body, message.body.len().saturating_sub(over), "a webhook");
            data = self::data(message, &body);
        }
        let notification = &message.notification;
        let words = NotificationLabels::new(notification);
        let subject = match &notification.cause {
            Cause::Alert { .. } | Cause::Record { .. } => group_text(notification),
            Cause::Reminder { occurrence, .. } => occurrence.to_string(),
            Cause::Test { request, .. } => request.clone(),
        };
        Self {
            id: message.delivery.to_string(),
            source: format!(
                "/belfry/namespaces/{}/{}/{}",
                notification.namespace, words.object.plural, words.object.name
            ),
            kind: format!("dev.belfry.notification.{}", words.kind),
            time: notification.created.to_string(),
            subject,
            partition_key: Digest::of(&notification.ordering_key).to_string(),
            data,
        }
    }

    /// Plain JSON in the shape that Standard Webhooks recommends: `type`, `timestamp`, `data`.
    pub(crate) fn plain(&self) -> String {
        json(&PlainBody { kind: &self.kind, timestamp: &self.time, data: &self.data })
    }

    /// Structured content mode, `application/cloudevents+json`.
    pub(crate) fn structured(&self) -> String {
        json(&StructuredBody {
            specversion: SPEC_VERSION,
            id: &self.id,
            source: &self.source,
            kind: &self.kind,
            time: &self.time,
            subject: &self.subject,
            partitionkey: &self.partition_key,
            datacontenttype: "application/json",
            data: &self.data,
        })
    }

    /// The context attributes except `datacontenttype`. Leaves out absent ones.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("specversion", SPEC_VERSION),
            ("id", self.id.as_str()),
            ("source", &self.source),
            ("type", &self.kind),
            ("time", &self.time),
            ("subject", &self.subject),
            ("partitionkey", &self.partition_key),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
    }
}

fn data(message: &Message, body: &str) -> Box<RawValue> {
    let notification = &message.notification;
    let words = NotificationLabels::new(notification);
    let data = EventData {
        delivery: message.delivery,
        notification: notification.id,
        first: first_notification(notification),
        ask: ask_command(notification),
        kind: words.kind,
        namespace: &notification.namespace,
        object: words.object,
        severity: notification.severity.name(),
        title: cut_bytes(&message.title, MAX_TITLE, "a webhook"),
        body,
        group: &notification.group,
        ordering_key: &notification.ordering_key,
        created: notification.created,
        cause: told(&notification.cause),
    };
    RawValue::from_string(json(&data)).unwrap_or_default()
}

/// Writes JSON. Can't fail, since the values are strings, numbers and maps with string keys.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
