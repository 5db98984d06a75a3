//! Webhook: an HTTP POST signed by [Standard Webhooks](https://www.standardwebhooks.com), as plain JSON or as a CloudEvent.
//!
//! Headers: `webhook-id` and `Idempotency-Key` are the delivery's id, the same for every attempt; `webhook-timestamp` is
//! the attempt's time in seconds; `webhook-signature` is `v1,<base64 of HMAC-SHA256 of id.timestamp.body>` for each key,
//! separated by spaces. The Secret's value holds one key a line, `whsec_` and base64 of 24 bytes or more (64 at most by the
//! specification), so that keys can rotate.
//!
//! Outcomes are those of [`crate::Http`]'s table. Never: an unsigned request where a signature was asked for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::{FileRef, Outcome, WebhookFormat};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::Sha256;

use crate::event::Event;
use crate::http::{Post, parse_url};
use crate::message::{Attempt, Channel, Message};
use crate::secrets::{FileProblem, Secret};
use crate::{Kit, trust::Trust};

/// The shortest key, bytes: a shorter one can be guessed.
const MIN_KEY: usize = 24;

/// The channel.
pub(crate) struct Webhook<'a> {
    pub(crate) kit: &'a Kit,
    pub(crate) url: &'a str,
    pub(crate) signing: Option<&'a FileRef>,
    pub(crate) format: WebhookFormat,
    pub(crate) ca_bundle: Option<&'a FileRef>,
}

impl Channel for Webhook<'_> {
    fn deliver<'a>(&'a self, message: &'a Message) -> Attempt<'a> {
        Box::pin(async move { self.attempt(message).await.unwrap_or_else(|outcome| outcome) })
    }
}

impl Webhook<'_> {
    async fn attempt(&self, message: &Message) -> Result<Outcome, Outcome> {
        let url = parse_url(self.url).ok_or_else(|| Outcome::Refused {
            reason: "the channel's url is not an http or https URL".to_owned(),
        })?;
        let trust = Trust::read(&self.kit.files, self.ca_bundle).await?;
        let (mut headers, body) = content(&Event::of(message), self.format);
        let id = message.delivery.to_string();
        let timestamp = message.now.as_second().to_string();
        let mut secrets = Vec::new();
        if let Some(file) = self.signing {
            let keys = self.kit.files.read(file).await?;
            let signature =
                sign(keys.expose(), &id, &timestamp, &body).map_err(|fault| not_a_key(file, fault))?;
            insert(&mut headers, "webhook-signature", &signature);
            secrets.extend(keys.expose().lines().map(|line| line.trim().to_owned()));
        }
        insert(&mut headers, "webhook-id", &id);
        insert(&mut headers, "webhook-timestamp", &timestamp);
        insert(&mut headers, "idempotency-key", &id);
        secrets.extend([url.path().to_owned(), url.query().unwrap_or_default().to_owned()]);
        secrets.extend(url.password().map(str::to_owned));
        let post = Post { url, headers, body, trust: &trust, timeout: message.timeout, follow: true };
        let answer = self.kit.http.post(post).await?;
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        Ok(answer.outcome(message.now, &secrets))
    }
}

/// Why a line of the Secret's value is no key; lines count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyFault {
    /// Not base64, or nothing.
    NotBase64 { line: usize },
    /// Too few bytes.
    Short { line: usize, bytes: usize },
}

fn not_a_key(file: &FileRef, fault: KeyFault) -> FileProblem {
    let why = match fault {
        KeyFault::NotBase64 { line } => {
            format!("is no signing key in line {line}: whsec_ and base64 is needed")
        }
        KeyFault::Short { line, bytes } => format!(
            "is too short a signing key in line {line}: {bytes} bytes, at least {MIN_KEY} are needed (Standard Webhooks: 24 to 64)"
        ),
    };
    FileProblem::invalid(file, &why)
}

/// Whether each line of the Secret's value is a key.
pub(crate) fn check_keys(file: &FileRef, keys: &Secret) -> Result<(), FileProblem> {
    sign(keys.expose(), "", "", b"").map(drop).map_err(|fault| not_a_key(file, fault))
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    // Ids, numbers, base64 and percent-encoded texts are always header values.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn content(event: &Event, format: WebhookFormat) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    let (kind, body) = match format {
        WebhookFormat::Json => ("application/json", event.plain()),
        WebhookFormat::CloudEventsStructured => {
            ("application/cloudevents+json; charset=utf-8", event.structured())
        }
        WebhookFormat::CloudEventsBinary => {
            for (name, value) in event.attributes() {
                let name = HeaderName::try_from(format!("ce-{name}"));
                if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&percent_encoded(value))) {
                    headers.insert(name, value);
                }
            }
            ("application/json", event.data.get().to_owned())
        }
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    (headers, Bytes::from(body))
}

/// A header's value as the CloudEvents HTTP binding 1.0 has it (3.1.3.2): space, `"`, `%` and all but printable ASCII
/// percent-encoded.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_graphic() && byte != b'"' && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// One signature for each key.
fn sign(keys: &str, id: &str, timestamp: &str, body: &[u8]) -> Result<String, KeyFault> {
    let mut signatures = Vec::new();
    for (at, line) in keys.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()) {
        let fault = KeyFault::NotBase64 { line: at + 1 };
        let key = STANDARD.decode(line.strip_prefix("whsec_").unwrap_or(line)).map_err(|_| fault)?;
        if key.len() < MIN_KEY {
            return Err(KeyFault::Short { line: at + 1, bytes: key.len() });
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| fault)?;
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        signatures.push(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())));
    }
    if signatures.is_empty() { Err(KeyFault::NotBase64 { line: 1 }) } else { Ok(signatures.join(" ")) }
}

#[cfg(test)]
mod tests;
