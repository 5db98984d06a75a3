//! Slack: sends to incoming webhooks, as Block Kit with a text fallback.
//!
//! | what Slack answers | outcome |
//! | --- | --- |
//! | 404, 410, or one of `invalid_payload`, `invalid_blocks`, `no_text`, `too_many_attachments`, `no_service`, `no_service_id`, `no_team`, `team_disabled`, `invalid_token`, `channel_not_found`, `channel_is_archived`, `user_not_found`, `action_prohibited`, `posting_to_general_channel_denied` | `Refused` |
//! | anything else | as in [`crate::Http`]'s table; 429 pauses the channel |
//!
//! An incoming webhook can't answer in a thread, so later messages of an alert name the id of the first.
//!
//! The whole URL is a secret: only Slack's own error words from an answer reach a reason.

use bytes::Bytes;
use domain::{Cause, FileRef, Notification, Outcome, Severity, SlackPlan};
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::json;

use crate::http::{HttpRequest, HttpResponse, parse_url};
use crate::message::{
    AlertEnd, Channel, Message, NotificationLabels, OutcomeFuture, alert_end, ask_command,
    earlier_notification, group_text,
};
use crate::secrets::{FileProblem, Secret};
use crate::text::{Mask, cut, one_line};
use crate::{Kit, trust::Trust};

/// Longest text of a section block, characters.
const MAX_BLOCK: usize = 3_000;
/// Longest text of the message, characters.
const MAX_TEXT: usize = 40_000;

const REFUSALS: [&str; 14] = [
    "invalid_payload",
    "invalid_blocks",
    "no_text",
    "too_many_attachments",
    "no_service",
    "no_service_id",
    "no_team",
    "team_disabled",
    "invalid_token",
    "channel_not_found",
    "channel_is_archived",
    "user_not_found",
    "action_prohibited",
    "posting_to_general_channel_denied",
];

/// The Slack channel.
pub(crate) struct Slack<'a> {
    pub(crate) kit: &'a Kit,
    pub(crate) plan: &'a SlackPlan,
    pub(crate) ca_bundle: Option<&'a FileRef>,
}

impl Channel for Slack<'_> {
    fn deliver<'a>(&'a self, message: &'a Message) -> OutcomeFuture<'a> {
        Box::pin(async move { self.attempt(message).await.unwrap_or_else(|outcome| outcome) })
    }

    fn check(&self, file: &FileRef, value: &Secret) -> Result<(), FileProblem> {
        url(file, value).map(drop)
    }
}

impl Slack<'_> {
    async fn attempt(&self, message: &Message) -> Result<Outcome, Outcome> {
        let file = &self.plan.webhook_url;
        let url = url(file, &self.kit.files.read(file).await?)?;
        let trust = Trust::read(&self.kit.files, self.ca_bundle).await?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        let body = Bytes::from(payload(message).to_string());
        let method = Method::POST;
        let mut mask = Mask::default();
        mask.hide_url(&url);
        let (trust, mask, timeout) = (&trust, &mask, message.timeout);
        let request = HttpRequest { method, url, headers, body, trust, timeout, follow: true, mask };
        let answer = self.kit.http.send(request).await?;
        Ok(outcome(&answer, message, mask))
    }
}

/// Parses the URL of the webhook.
fn url(file: &FileRef, value: &Secret) -> Result<reqwest::Url, FileProblem> {
    parse_url(value.expose()).ok_or_else(|| FileProblem::invalid(file, "is not an http or https URL"))
}

fn outcome(answer: &HttpResponse, message: &Message, mask: &Mask) -> Outcome {
    let word = answer.body.trim();
    let is_word = (1..=60).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let shown = mask.apply(word);
    let mut reason = format!("{} answered {}", answer.host, answer.status);
    // An error word can't be a part of Slack's URLs, which have capitals and digits. URLs of services that imitate Slack may
    // be in lower case, so words that are not Slack's are masked.
    if is_word {
        reason.push_str(": ");
        reason.push_str(if REFUSALS.contains(&word) { word } else { &shown });
    }
    let refused = answer.status.is_client_error()
        && answer.status.as_u16() != 429
        && (answer.status.as_u16() == 404 || REFUSALS.contains(&word));
    if refused { Outcome::Refused { reason } } else { answer.outcome_because(reason, message.now) }
}

/// Escapes Slack's markup characters (`&`, `<`, `>`), after cutting the text so that it fits once escaped.
fn escaped(text: &str, limit: usize, place: &str) -> String {
    let weight = |c| match c {
        '&' => 5,
        '<' | '>' => 4,
        _ => 1,
    };
    cut(text, limit, place, weight).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The colour of the bar beside the message: green for a resolved alert, grey for a closed one, where nobody knows.
fn colour(notification: &Notification) -> &'static str {
    match (alert_end(notification), &notification.cause, notification.severity) {
        (Some(AlertEnd::Resolved), ..) => "#2eb67d",
        (Some(AlertEnd::Closed), ..) | (None, Cause::Test { .. }, _) => "#9e9ea6",
        (None, Cause::Reminder { .. }, _) | (None, _, Severity::Info) => "#36c5f0",
        (None, _, Severity::Warning) => "#ecb22e",
        (None, _, Severity::Critical) => "#e01e5a",
    }
}

/// Makes the URL of a reminder a link. It is the only link in a message: it comes from the Schedule, never from a record.
fn with_link(body: String, notification: &Notification) -> String {
    let Cause::Reminder { about, .. } = &notification.cause else { return body };
    let is_link = |url: &&str| url.starts_with("https://") || url.starts_with("http://");
    let Some(url) = about.url.as_deref().filter(is_link) else { return body };
    // Escapes characters that would end a link in Slack's markup.
    let link = url.replace('&', "&amp;").replace('<', "%3C").replace('>', "%3E").replace('|', "%7C");
    let linked = body.replacen(&escaped(url, MAX_BLOCK, ""), &format!("<{link}>"), 1);
    if linked.chars().count() > MAX_BLOCK { body } else { linked }
}

fn payload(message: &Message) -> serde_json::Value {
    let notification = &message.notification;
    let words = NotificationLabels::new(notification);
    let title = escaped(&one_line(&message.title), MAX_BLOCK - 2, "a Slack block");
    let body = with_link(escaped(message.body.trim(), MAX_BLOCK, "a Slack block"), notification);
    let mut facts = vec![
        notification.severity.name().to_owned(),
        words.kind.to_owned(),
        format!("{}/{}", notification.namespace, words.object.name),
    ];
    facts.extend(Some(group_text(notification)).filter(|group| !group.is_empty()));
    let facts = escaped(&one_line(&facts.join(" · ")), 2_000, "a Slack context");
    let mut back = format!("`{}`", ask_command(notification));
    if let Some(first) = earlier_notification(notification) {
        back = format!("{back} · first message {first}");
    }

    // Verbatim: text in the data that looks like a link, a channel or a person does not become one.
    let words = |text: &str| json!({"type": "mrkdwn", "text": text, "verbatim": true});
    let mut blocks = vec![json!({"type": "section", "text": words(&format!("*{title}*"))})];
    if !body.is_empty() {
        blocks.push(json!({"type": "section", "text": words(&body)}));
    }
    // Slack folds long attachments. So only the small print is in one, for the colour of its bar.
    let foot = json!([{"type": "context", "elements": [words(&facts), words(&back)]}]);
    let text = format!("{}\n{}", one_line(&message.title), message.body.trim());
    let text = escaped(text.trim(), MAX_TEXT, "a Slack message");
    // Slack must not fetch links either: that would answer to whoever wrote the record.
    json!({
        "text": text,
        "blocks": blocks,
        "attachments": [{"color": colour(notification), "blocks": foot}],
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

#[cfg(test)]
mod tests;
