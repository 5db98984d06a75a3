//! The message, and the trait by which a channel delivers it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use domain::{AlertKind, Cause, FileRef, Notification, Outcome};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::secrets::{FileProblem, Secret};

/// What one recipient gets in one attempt.
#[derive(Debug, Clone)]
pub struct Message {
    /// The delivery's stable id, the same for every attempt.
    pub delivery: Uuid,
    /// The channel's uid.
    pub channel: Uuid,
    /// The attempt's number, from 1.
    pub attempt: i32,
    /// The recipient; empty if the channel has one unnamed recipient.
    pub recipient: String,
    /// The rendered title.
    pub title: String,
    /// The rendered body; may be empty.
    pub body: String,
    /// The whole body of a webhook whose channel has its own form; it replaces ours.
    pub payload: Option<Payload>,
    /// The notification that the message tells.
    pub notification: Notification,
    /// When the attempt began, by the caller's clock.
    pub now: Timestamp,
    /// How long the attempt may take.
    pub timeout: Duration,
}

/// A webhook's body in the channel's own form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Its content type.
    pub content_type: String,
    /// The body.
    pub text: String,
}

/// The future that [`Channel::deliver`] returns.
pub type OutcomeFuture<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// A channel as one worker uses it: delivers messages.
pub trait Channel: Send + Sync {
    /// Makes one attempt within [`Message::timeout`]. Whatever happens becomes an outcome, whose reason holds no secret.
    fn deliver<'a>(&'a self, message: &'a Message) -> OutcomeFuture<'a>;

    /// Checks that the value of one of its files fits its use. Connects to nothing.
    fn check(&self, _file: &FileRef, _value: &Secret) -> Result<(), FileProblem> {
        Ok(())
    }
}

/// How all channels name a notification's kind and cause.
pub(crate) struct NotificationLabels<'a> {
    /// [`Cause::kind`].
    pub(crate) kind: &'static str,
    /// The object that caused it.
    pub(crate) object: CausingObject<'a>,
}

/// The object that caused a notification, as messages name it.
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

/// The id of the notification that told of the same alert first; `None` if the cause is no alert.
pub(crate) fn first_notification(notification: &Notification) -> Option<Uuid> {
    match &notification.cause {
        Cause::Alert { alert, .. } => Some(alert.first()),
        _ => None,
    }
}

/// The same, but `None` for the first notification itself.
pub(crate) fn earlier_notification(notification: &Notification) -> Option<Uuid> {
    first_notification(notification).filter(|first| *first != notification.id)
}

/// The command that tells what became of the notification.
pub(crate) fn ask_command(notification: &Notification) -> String {
    format!("belfry ask {} -n {}", notification.id, notification.namespace)
}

/// How an alert ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AlertEnd {
    /// Its condition no longer holds.
    Resolved,
    /// It was closed, for example because its rule changed: nobody knows whether the condition holds.
    Closed,
}

/// How the notification's alert ended; `None` if it goes on or the cause is no alert.
pub(crate) fn alert_end(notification: &Notification) -> Option<AlertEnd> {
    match &notification.cause {
        Cause::Alert { alert, .. } if alert.kind == AlertKind::Resolved => {
            Some(if alert.closed.is_some() { AlertEnd::Closed } else { AlertEnd::Resolved })
        }
        _ => None,
    }
}

/// The group as `k=v, k2=v2`.
pub(crate) fn group_text(notification: &Notification) -> String {
    let parts: Vec<String> = notification.group.iter().map(|(k, v)| format!("{k}={v}")).collect();
    parts.join(", ")
}
