//! Webhook: an HTTP POST or PUT with plain JSON, a CloudEvent, or the receiver's own form. It can be signed by
//! [Standard Webhooks](https://www.standardwebhooks.com), and have the user's headers and login.
//!
//! Our headers:
//! - `x-belfry-notification`: the notification's id;
//! - `webhook-id` and `Idempotency-Key`: the delivery's id, the same for every attempt;
//! - `webhook-timestamp`: the attempt's time, Unix seconds;
//! - `webhook-signature`: `v1,<base64 of HMAC-SHA256 of id.timestamp.body>` for each key, separated by spaces.
//!
//! The Secret with the keys has one key per line, so that keys can rotate: `whsec_` and base64 of at least 24 bytes (at most
//! 64 by the specification).
//!
//! A URL with a token in it is a secret as a whole: reasons show only its host, and the guard checks it when it is read. A
//! request with the user's headers or login follows no redirect.
//!
//! Outcomes are those of [`crate::Http`]'s table. If a signature is asked for, nothing is sent unsigned. Credentials go over
//! http only if the channel allows that explicitly, and only to the address that the user named.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::{
    FileRef, Outcome, WebhookAuth, WebhookFormat, WebhookMethod, WebhookPlan, WebhookUrl, WebhookValue,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use reqwest::Url;
use sha2::Sha256;

use crate::cloud_event::CloudEvent;
use crate::http::{HttpRequest, parse_url};
use crate::message::{Channel, Message, OutcomeFuture, Payload};
use crate::secrets::{FileProblem, Files, Secret};
use crate::text::Mask;
use crate::{Kit, trust::Trust};

/// The shortest signing key, bytes: a shorter one can be guessed.
const MIN_KEY: usize = 24;

/// The webhook channel.
pub(crate) struct Webhook<'a> {
    pub(crate) kit: &'a Kit,
    pub(crate) plan: &'a WebhookPlan,
    pub(crate) ca_bundle: Option<&'a FileRef>,
}

impl Channel for Webhook<'_> {
    fn deliver<'a>(&'a self, message: &'a Message) -> OutcomeFuture<'a> {
        Box::pin(async move { self.attempt(message).await.unwrap_or_else(|outcome| outcome) })
    }

    fn check(&self, file: &FileRef, value: &Secret) -> Result<(), FileProblem> {
        let plan = self.plan;
        if plan.signing.as_ref() == Some(file) {
            check_keys(file, value)?;
        }
        if plan.url == WebhookUrl::Secret(file.clone()) {
            let url = secret_url(plan, file, value)?;
            self.kit
                .http
                .guard()
                .check_host(url.host_str().unwrap_or_default())
                .map_err(|denied| FileProblem::invalid(file, &format!("leads where nobody may: {denied}")))?;
        }
        if plan.headers.iter().any(|header| header.value == WebhookValue::Secret(file.clone())) {
            header_value(file, value.expose())?;
        }
        match &plan.auth {
            Some(WebhookAuth::Bearer { token }) if token == file => bearer(file, value).map(drop),
            Some(WebhookAuth::Basic { username, .. }) if username == file => check_username(file, value),
            _ => Ok(()),
        }
    }
}

impl Webhook<'_> {
    async fn attempt(&self, message: &Message) -> Result<Outcome, Outcome> {
        let (plan, files) = (self.plan, &self.kit.files);
        let (url, mut mask) = self.url().await?;
        let trust = Trust::read(files, self.ca_bundle).await?;
        let (mut headers, body) = match &message.payload {
            Some(payload) => payload_body(payload)?,
            None => event_body(&CloudEvent::new(message), plan.format),
        };
        for header in &plan.headers {
            let value = match &header.value {
                WebhookValue::Plain(text) => HeaderValue::from_str(text).ok(),
                WebhookValue::Secret(file) => {
                    let value = files.read(file).await?;
                    mask.hide(value.expose());
                    Some(header_value(file, value.expose())?)
                }
            };
            // The operator has checked names and values.
            if let (Ok(name), Some(value)) = (HeaderName::from_bytes(header.name.as_bytes()), value) {
                headers.insert(name, value);
            }
        }
        if let Some(auth) = &plan.auth {
            headers.insert(header::AUTHORIZATION, authorization(files, auth, &mut mask).await?);
        }
        let id = message.delivery.to_string();
        let timestamp = message.now.as_second().to_string();
        if let Some(file) = &plan.signing {
            let keys = files.read(file).await?;
            let signature =
                sign(keys.expose(), &id, &timestamp, &body).map_err(|fault| not_a_key(file, fault))?;
            insert(&mut headers, "webhook-signature", &signature);
            for line in keys.expose().lines() {
                mask.hide(line);
            }
        }
        insert(&mut headers, "webhook-id", &id);
        insert(&mut headers, "webhook-timestamp", &timestamp);
        insert(&mut headers, "idempotency-key", &id);
        insert(&mut headers, "x-belfry-notification", &message.notification.id.to_string());
        let method = match plan.method {
            WebhookMethod::Post => Method::POST,
            WebhookMethod::Put => Method::PUT,
        };
        // The user's headers and login are only for the receiver that the user named.
        let follow = plan.headers.is_empty() && plan.auth.is_none();
        let (trust, mask, timeout) = (&trust, &mask, message.timeout);
        let request = HttpRequest { method, url, headers, body, trust, timeout, follow, mask };
        let answer = self.kit.http.send(request).await?;
        Ok(answer.outcome(message.now, mask))
    }

    /// The URL, and a mask that hides what reasons may not show of it.
    async fn url(&self) -> Result<(Url, Mask), Outcome> {
        let mut mask = Mask::default();
        let url = match &self.plan.url {
            WebhookUrl::Plain(text) => {
                let url = parse_url(text)
                    .ok_or_else(|| Outcome::refused("the channel's url is not an http or https URL"))?;
                mask.hide_rest(&url);
                url
            }
            WebhookUrl::Secret(file) => {
                let url = secret_url(self.plan, file, &self.kit.files.read(file).await?)?;
                mask.hide_url(&url);
                url
            }
        };
        Ok((url, mask))
    }
}

/// Parses a URL from a Secret; refuses http if credentials would go over it.
fn secret_url(plan: &WebhookPlan, file: &FileRef, value: &Secret) -> Result<Url, FileProblem> {
    let invalid = |why: &str| FileProblem::invalid(file, why);
    let url = parse_url(value.expose()).ok_or_else(|| invalid("is not an http or https URL"))?;
    if url.scheme() == "http" && plan.shows_credentials() && !plan.allow_cleartext_login {
        return Err(invalid(
            "is an http:// URL, where everybody on the way reads the credentials: use https://, or set \
             webhook.allowCleartextLogin: true",
        ));
    }
    Ok(url)
}

/// A header's value from a Secret, marked sensitive so that nothing prints it.
fn header_value(file: &FileRef, text: &str) -> Result<HeaderValue, FileProblem> {
    let mut value = HeaderValue::from_str(text.trim()).map_err(|_| {
        FileProblem::invalid(file, "is not one line of printable ASCII, as a header's value is")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn bearer(file: &FileRef, token: &Secret) -> Result<HeaderValue, FileProblem> {
    header_value(file, &format!("Bearer {}", token.expose().trim()))
}

fn check_username(file: &FileRef, username: &Secret) -> Result<(), FileProblem> {
    // RFC 7617, section 2.
    let wrong = username.expose().contains(|it: char| it == ':' || it.is_control());
    if wrong {
        Err(FileProblem::invalid(file, "is no login name: it holds a colon or a control character"))
    } else {
        Ok(())
    }
}

/// The value of `Authorization`; adds its secrets to `mask`.
async fn authorization(
    files: &Files,
    auth: &WebhookAuth,
    mask: &mut Mask,
) -> Result<HeaderValue, FileProblem> {
    match auth {
        WebhookAuth::Bearer { token: file } => {
            let token = files.read(file).await?;
            mask.hide(token.expose());
            bearer(file, &token)
        }
        WebhookAuth::Basic { username: file, password } => {
            let (username, password) = (files.read(file).await?, files.read(password).await?);
            check_username(file, &username)?;
            let login = STANDARD.encode(format!("{}:{}", username.expose(), password.expose()));
            mask.hide_login(username.expose(), password.expose());
            header_value(file, &format!("Basic {login}"))
        }
    }
}

/// Headers and body in the receiver's own form.
fn payload_body(payload: &Payload) -> Result<(HeaderMap, Bytes), Outcome> {
    let kind = HeaderValue::from_str(&payload.content_type)
        .map_err(|_| Outcome::refused("the channel's content type is not a header's value"))?;
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]);
    Ok((headers, Bytes::from(payload.text.clone())))
}

/// Why a line of the Secret is not a signing key; lines count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyFault {
    /// Not base64, or empty.
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

/// Checks that each line of the Secret is a signing key.
fn check_keys(file: &FileRef, keys: &Secret) -> Result<(), FileProblem> {
    sign(keys.expose(), "", "", b"").map(drop).map_err(|fault| not_a_key(file, fault))
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    // Ids, numbers, base64 and percent-encoded texts are always header values.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn event_body(event: &CloudEvent, format: WebhookFormat) -> (HeaderMap, Bytes) {
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

/// Encodes a header's value by the CloudEvents HTTP binding 1.0 (3.1.3.2): percent-encodes space, `"`, `%` and everything but
/// printable ASCII.
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

/// The signatures, one for each key, separated by spaces.
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
