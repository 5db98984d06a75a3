//! Slack: incoming webhooks, Block Kit with a text fallback.
//!
//! | what Slack answers | outcome |
//! | --- | --- |
//! | 404, 410, or one of `invalid_payload`, `invalid_blocks`, `no_text`, `too_many_attachments`, `no_service`, `no_service_id`, `no_team`, `team_disabled`, `invalid_token`, `channel_not_found`, `channel_is_archived`, `user_not_found`, `action_prohibited`, `posting_to_general_channel_denied` | `Refused` |
//! | all else | as in [`crate::Http`]'s table; 429 pauses the channel |
//!
//! The whole URL is the secret: of what is answered only Slack's own error words reach a reason.

use bytes::Bytes;
use domain::{FileRef, Outcome};
use http::{HeaderMap, HeaderValue, header};
use serde_json::json;

use crate::http::{Answer, Post, parse_url};
use crate::message::{Attempt, Channel, Message, Words, group};
use crate::secrets::{FileProblem, Secret};
use crate::text::{cut, one_line};
use crate::{Kit, trust::Trust};

/// Longest text of a section block, characters.
const MAX_BLOCK: usize = 3_000;
/// Longest text of the message, characters.
const MAX_TEXT: usize = 40_000;

const FINAL: [&str; 14] = [
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

/// The channel.
pub(crate) struct Slack<'a> {
    pub(crate) kit: &'a Kit,
    pub(crate) webhook_url: &'a FileRef,
    pub(crate) ca_bundle: Option<&'a FileRef>,
}

impl Channel for Slack<'_> {
    fn deliver<'a>(&'a self, message: &'a Message) -> Attempt<'a> {
        Box::pin(async move { self.attempt(message).await.unwrap_or_else(|outcome| outcome) })
    }
}

impl Slack<'_> {
    async fn attempt(&self, message: &Message) -> Result<Outcome, Outcome> {
        let secret = self.kit.files.read(self.webhook_url).await?;
        let url = url(self.webhook_url, &secret)?;
        let trust = Trust::read(&self.kit.files, self.ca_bundle).await?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        let body = Bytes::from(payload(message).to_string());
        let post = Post { url, headers, body, trust: &trust, timeout: message.timeout, follow: true };
        let answer = self.kit.http.post(post).await?;
        Ok(outcome(&answer, message))
    }
}

/// The whole URL is the secret.
pub(crate) fn url(file: &FileRef, value: &Secret) -> Result<reqwest::Url, FileProblem> {
    parse_url(value.expose()).ok_or_else(|| FileProblem::invalid(file, "is not an http or https URL"))
}

fn outcome(answer: &Answer, message: &Message) -> Outcome {
    let word = answer.body.trim();
    let is_word = (1..=60).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let mut reason = format!("{} answered {}", answer.host, answer.status);
    // A word of lower-case letters can't be a part of the URL that matters: those hold capitals and digits.
    if is_word {
        reason.push_str(": ");
        reason.push_str(word);
    }
    let refused = answer.status.is_client_error()
        && answer.status.as_u16() != 429
        && (answer.status.as_u16() == 404 || FINAL.contains(&word));
    if refused { Outcome::Refused { reason } } else { answer.outcome_because(reason, message.now) }
}

/// Escapes what Slack takes for markup (`&`, `<`, `>`) after cutting to what fits escaped.
fn escaped(text: &str, limit: usize, place: &str) -> String {
    let weight = |c| match c {
        '&' => 5,
        '<' | '>' => 4,
        _ => 1,
    };
    cut(text, limit, place, weight).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn payload(message: &Message) -> serde_json::Value {
    let words = Words::of(&message.notification);
    let title = escaped(&one_line(&message.title), MAX_BLOCK - 2, "a Slack block");
    let body = escaped(message.body.trim(), MAX_BLOCK, "a Slack block");
    let mut facts = vec![
        message.notification.severity.name().to_owned(),
        words.kind.to_owned(),
        format!("{}/{}", message.notification.namespace, words.object.2),
    ];
    facts.extend(Some(group(&message.notification)).filter(|group| !group.is_empty()));
    let facts = escaped(&one_line(&facts.join(" · ")), 2_000, "a Slack context");

    // Verbatim: what looks like a link, a channel or a person in somebody's data does not become one.
    let words = |text: &str| json!({"type": "mrkdwn", "text": text, "verbatim": true});
    let mut blocks = vec![json!({"type": "section", "text": words(&format!("*{title}*"))})];
    if !body.is_empty() {
        blocks.push(json!({"type": "section", "text": words(&body)}));
    }
    blocks.push(json!({"type": "context", "elements": [words(&facts)]}));
    let text = format!("{}\n{}", one_line(&message.title), message.body.trim());
    let text = escaped(text.trim(), MAX_TEXT, "a Slack message");
    // Nor does Slack fetch what is linked: the address would be an answer to whoever wrote the record.
    json!({"text": text, "blocks": blocks, "unfurl_links": false, "unfurl_media": false})
}

#[cfg(test)]
mod tests;
