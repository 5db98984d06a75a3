//! What is delivered, and the one method by which a channel delivers it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use domain::{AlertKind, Cause, FileRef, Notification, Outcome};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::secrets::{FileProblem, Secret};

/// One attempt to tell one recipient.
#[derive(Debug, Clone)]
pub struct Message {
    /// The delivery's stable id, the same for every attempt.
    pub delivery: Uuid,
    /// The channel's uid.
    pub channel: Uuid,
    /// The attempt's number, from 1.
    pub attempt: i32,
    /// Whom; empty where the channel has one unnamed recipient.
    pub recipient: String,
    /// The rendered title.
    pub title: String,
    /// The rendered body; may be empty.
    pub body: String,
    /// All that a webhook sends, where it is not one of our forms.
    pub payload: Option<Payload>,
    /// What is told.
    pub notification: Notification,
    /// When the attempt began, by the caller's clock.
    pub now: Timestamp,
    /// How long the attempt may take.
    pub timeout: Duration,
}

/// What a webhook sends in a form of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Its content type.
    pub content_type: String,
    /// It itself.
    pub text: String,
}

/// What [`Channel::deliver`] gives back.
pub type OutcomeFuture<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// A way to deliver.
pub trait Channel: Send + Sync {
    /// Makes one attempt, within [`Message::timeout`]. Whatever happens is an outcome; its reason holds no secret.
    fn deliver<'a>(&'a self, message: &'a Message) -> OutcomeFuture<'a>;

    /// Whether the value of one of its files can be what it takes it for; connects to nothing.
    fn check(&self, _file: &FileRef, _value: &Secret) -> Result<(), FileProblem> {
        Ok(())
    }
}

/// Names for a notification that all channels share.
pub(crate) struct NotificationLabels<'a> {
    /// As [`Cause::kind`] has it.
    pub(crate) kind: &'static str,
    /// What caused it.
    pub(crate) object: CausingObject<'a>,
}

/// An object, as messages name it.
#[derive(Serialize)]
pub(crate) struct CausingObject<'a> {
    pub(crate) kind: &'static str,
    #[serde(skip)]
    pub(crate) plural: &'static str,
    pub(crate) name: &'a str,
    pub(crate) uid: Uuid,
}

impl<'a> NotificationLabels<'a> {
    pub(crate) fn new(notification: &'a Notification) -> Self {
        const RULE: (&str, &str) = ("AlertRule", "alertrules");
        let ((object, plural), name, uid) = match &notification.cause {
            Cause::Alert { rule, name, .. } | Cause::Record { rule, name, .. } => (RULE, name, *rule),
            Cause::Reminder { schedule, name, .. } => (("Schedule", "schedules"), name, *schedule),
            Cause::Test { channel, name, .. } => {
                (("NotificationChannel", "notificationchannels"), name, *channel)
            }
        };
        let kind = notification.cause.kind();
        Self { kind, object: CausingObject { kind: object, plural, name, uid } }
    }
}

/// What an alert's message refers to: that which told of it first.
pub(crate) fn first_notification(notification: &Notification) -> Option<Uuid> {
    match &notification.cause {
        Cause::Alert { alert, .. } => Some(alert.first()),
        _ => None,
    }
}

/// The same, but not for the first itself.
pub(crate) fn earlier_notification(notification: &Notification) -> Option<Uuid> {
    first_notification(notification).filter(|first| *first != notification.id)
}

/// What to type to learn what became of it.
pub(crate) fn ask_command(notification: &Notification) -> String {
    format!("belfry ask {} -n {}", notification.id, notification.namespace)
}

/// How an alert is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AlertEnd {
    /// The condition does not hold any more.
    Resolved,
    /// It was closed, and nobody knows.
    Closed,
}

/// Whether it is over.
pub(crate) fn alert_end(notification: &Notification) -> Option<AlertEnd> {
    match &notification.cause {
        Cause::Alert { alert, .. } if alert.kind == AlertKind::Resolved => {
            Some(if alert.closed.is_some() { AlertEnd::Closed } else { AlertEnd::Resolved })
        }
        _ => None,
    }
}

/// `k=v, k2=v2`.
pub(crate) fn group_text(notification: &Notification) -> String {
    let parts: Vec<String> = notification.group.iter().map(|(k, v)| format!("{k}={v}")).collect();
    parts.join(", ")
}
