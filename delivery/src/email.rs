//! E-mail: text and HTML, with one recipient for each message, since a server that refuses one must not silence the others.
//!
//! The conversation and its outcomes are in [`session`]; this file makes the message (RFC 5322).
//!
//! `Message-ID` holds the delivery's id, so that a receiver recognises a message that was sent twice. Later messages of an
//! alert refer to its first one (`References` and `In-Reply-To`, RFC 5322, 3.6.4), whether that arrived or not. Other messages
//! refer to an invented id made of the ordering key, so that mail programs show one thread for each key. `Auto-Submitted`
//! (RFC 3834) keeps absence notes from answering.
//!
//! No text can add a header, and all HTML is escaped.

mod session;
mod starttls;

use domain::{Cause, Digest, EmailPlan, FileRef, Outcome, ids};
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, MultiPartKind, SinglePart};

use crate::message::{
    Channel, Message, NotificationLabels, OutcomeFuture, ask_command, earlier_notification, group_text,
};
use crate::text::{cut, cut_bytes, one_line};
use crate::{Kit, trust::Trust};

pub(crate) use session::Smtp;
use session::{Login, Server};

/// Longest subject, characters: RFC 5322 allows 998 in a line, people read far fewer.
const MAX_SUBJECT: usize = 200;
/// Longest text, bytes.
const MAX_TEXT: usize = 256 * 1024;

/// The e-mail channel.
pub(crate) struct Email<'a> {
    pub(crate) kit: &'a Kit,
    pub(crate) plan: &'a EmailPlan,
    pub(crate) ca_bundle: Option<&'a FileRef>,
}

impl Channel for Email<'_> {
    fn deliver<'a>(&'a self, message: &'a Message) -> OutcomeFuture<'a> {
        Box::pin(async move { self.attempt(message).await.unwrap_or_else(|outcome| outcome) })
    }
}

impl Email<'_> {
    async fn attempt(&self, message: &Message) -> Result<Outcome, Outcome> {
        let (plan, files) = (self.plan, &self.kit.files);
        let mail = mail(message, &plan.from)?;
        let login = match (&plan.username, &plan.password) {
            (Some(username), Some(password)) => {
                Some(Login { username: files.read(username).await?, password: files.read(password).await? })
            }
            _ => None,
        };
        let trust = Trust::read(files, self.ca_bundle).await?;
        let server = Server { plan, login, trust };
        Ok(self.kit.smtp.send(&server, &mail, message.timeout).await)
    }
}

/// The whole message with its envelope.
fn mail(message: &Message, from: &str) -> Result<lettre::Message, Outcome> {
    let to: Mailbox = message
        .recipient
        .parse()
        .map_err(|_| Outcome::refused(format!("recipient {:?} is not a mailbox", message.recipient)))?;
    let from: Mailbox =
        from.parse().map_err(|_| Outcome::refused(format!("sender {from:?} is not a mailbox")))?;
    let domain = from.email.domain().to_owned();
    let thread = match &message.notification.cause {
        Cause::Alert { .. } => earlier_notification(&message.notification)
            .map(|first| ids::delivery(first, message.channel, &message.recipient))
            .map(|first| format!("<{first}@{domain}>")),
        _ => Some(format!("<{}@{domain}>", Digest::of(&message.notification.ordering_key))),
    };
    let subject = cut(&one_line(&message.title), MAX_SUBJECT, "a subject", |_| 1);
    // "=_" can occur neither in quoted-printable nor in a UUID.
    let boundary = format!("=_belfry-{}", message.delivery);
    let body = MultiPart::builder()
        .kind(MultiPartKind::Alternative)
        .boundary(boundary)
        .singlepart(part(ContentType::TEXT_PLAIN, text(message)))
        .singlepart(part(ContentType::TEXT_HTML, html(message)));
    let mut head = lettre::Message::builder()
        .from(from)
        .to(to)
        .subject(subject)
        .date(message.now.into())
        .message_id(Some(format!("<{}@{domain}>", message.delivery)));
    if let Some(thread) = thread {
        head = head.in_reply_to(thread.clone()).references(thread);
    }
    let mut mail = head
        .multipart(body)
        .map_err(|error| Outcome::refused(format!("the message can't be made: {error}")))?;
    for (name, value) in [
        (HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()),
        (HeaderName::new_from_ascii_str("X-Belfry-Notification"), message.notification.id.to_string()),
    ] {
        mail.headers_mut().insert_raw(HeaderValue::new(name, value));
    }
    Ok(mail)
}

fn part(kind: ContentType, body: String) -> SinglePart {
    SinglePart::builder().header(kind).header(ContentTransferEncoding::QuotedPrintable).body(body)
}

/// Names and values that a message tells besides its texts.
fn facts(message: &Message) -> Vec<(&'static str, String)> {
    let notification = &message.notification;
    let words = NotificationLabels::new(notification);
    let mut facts = vec![
        ("Severity", notification.severity.name().to_owned()),
        ("Kind", words.kind.to_owned()),
        (words.object.kind, format!("{}/{}", notification.namespace, words.object.name)),
        ("Time", notification.created.to_string()),
    ];
    if let Cause::Alert { alert, .. } = &notification.cause {
        facts.push(("Since", alert.since.to_string()));
    }
    if !notification.group.is_empty() {
        facts.push(("Group", one_line(&group_text(notification))));
    }
    if let Some(first) = earlier_notification(notification) {
        facts.push(("First message", first.to_string()));
    }
    facts.push(("Notification", notification.id.to_string()));
    facts.push(("What became of it", ask_command(notification)));
    facts
}

fn text(message: &Message) -> String {
    let facts: Vec<String> =
        facts(message).iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    let body = cut_bytes(message.body.trim(), MAX_TEXT, "an e-mail");
    let gap = if body.is_empty() { "" } else { "\n\n" };
    format!("{}\n\n{body}{gap}-- \n{}", one_line(&message.title), facts.concat())
}

fn html(message: &Message) -> String {
    let facts: Vec<String> = facts(message)
        .iter()
        .map(|(name, value)| format!("<tr><td>{}</td><td>{}</td></tr>\n", escaped(name), escaped(value)))
        .collect();
    let body = cut_bytes(message.body.trim(), MAX_TEXT, "an e-mail");
    format!(
        "<!DOCTYPE html>\n<html><body>\n<h2>{}</h2>\n<p style=\"white-space:pre-wrap\">{}</p>\n<table>\n{}</table>\n</body></html>\n",
        escaped(&one_line(&message.title)),
        escaped(&body),
        facts.concat(),
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests;
