//! Webhook.

use serde::{Deserialize, Serialize};

use super::Receiver;
use crate::FileRef;

/// An HTTP request for each message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookPlan {
    /// The URL.
    pub url: WebhookUrl,
    /// The request method.
    #[serde(default, skip_serializing_if = "WebhookMethod::is_post")]
    pub method: WebhookMethod,
    /// Headers in addition to those that Belfry sets; each name once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<WebhookHeader>,
    /// The login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<WebhookAuth>,
    /// Whether secrets may be sent over http, where everybody on the way can read them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_cleartext_login: bool,
    /// Standard Webhooks secrets (`whsec_...`), one per line. Each signs, so that keys can be rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing: Option<FileRef>,
    /// The format of the request body, unless there is a [`crate::TemplateText::payload`].
    pub format: WebhookFormat,
}

impl WebhookPlan {
    /// A POST to a URL, signed if `signing` is given.
    pub fn post(url: impl Into<String>, signing: Option<FileRef>, format: WebhookFormat) -> Self {
        Self {
            url: WebhookUrl::Plain(url.into()),
            method: WebhookMethod::Post,
            headers: Vec::new(),
            auth: None,
            allow_cleartext_login: false,
            signing,
            format,
        }
    }

    /// Whether requests carry credentials: a login or a header from a Secret.
    pub fn shows_credentials(&self) -> bool {
        let secret = |header: &WebhookHeader| matches!(header.value, WebhookValue::Secret(_));
        self.auth.is_some() || self.headers.iter().any(secret)
    }
}

impl Receiver for WebhookPlan {
    fn files(&self) -> Vec<&FileRef> {
        let mut files: Vec<&FileRef> = self.signing.iter().collect();
        if let WebhookUrl::Secret(file) = &self.url {
            files.push(file);
        }
        files.extend(self.headers.iter().filter_map(|header| match &header.value {
            WebhookValue::Secret(file) => Some(file),
            WebhookValue::Plain(_) => None,
        }));
        match &self.auth {
            Some(WebhookAuth::Basic { username, password }) => files.extend([username, password]),
            Some(WebhookAuth::Bearer { token }) => files.push(token),
            None => {}
        }
        files
    }
}

/// A webhook's URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WebhookUrl {
    /// An http or https URL.
    Plain(String),
    /// The whole URL is the secret.
    Secret(FileRef),
}

/// The method of a webhook's requests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WebhookMethod {
    /// POST.
    #[default]
    Post,
    /// PUT.
    Put,
}

impl WebhookMethod {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_post(&self) -> bool {
        *self == Self::Post
    }
}

/// A header of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookHeader {
    /// Its name, in lower case.
    pub name: String,
    /// Its value.
    pub value: WebhookValue,
}

/// A header's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WebhookValue {
    /// The value itself, from the manifest.
    Plain(String),
    /// In a Secret.
    Secret(FileRef),
}

/// A webhook's login (RFC 9110, section 11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum WebhookAuth {
    /// Basic (RFC 7617).
    Basic {
        /// The login name.
        username: FileRef,
        /// The password.
        password: FileRef,
    },
    /// A bearer token (RFC 6750).
    Bearer {
        /// The token.
        token: FileRef,
    },
}

/// The format of a webhook's request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WebhookFormat {
    /// A plain JSON object.
    Json,
    /// CloudEvents 1.0, attributes in headers.
    CloudEventsBinary,
    /// CloudEvents 1.0, `application/cloudevents+json`.
    CloudEventsStructured,
}
