//! Webhook.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{self, SecretKeyRef};

/// Why credentials without TLS are refused.
pub const CLEARTEXT_CREDENTIALS: &str =
    "over http:// everybody on the way reads credentials: use https://, or set allowCleartextLogin: true";

/// An HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    common::cel("has(self.url) != has(self.urlSecretRef)", "exactly one of url and urlSecretRef is needed"),
    common::cel(
        "!(has(self.basicAuth) && has(self.bearerTokenSecretRef))",
        "either basicAuth or bearerTokenSecretRef: both are the header Authorization",
    ),
    common::cel(
        "!has(self.body) || !has(self.format) || self.format == 'Json'",
        "body says all that is sent: leave out format",
    ),
    common::cel(
        "!has(self.url) || !self.url.startsWith('http://') || has(self.allowCleartextLogin) && self.allowCleartextLogin || !(has(self.basicAuth) \
         || has(self.bearerTokenSecretRef) || has(self.headers) && self.headers.exists(it, has(it.secretKeyRef)))",
        CLEARTEXT_CREDENTIALS,
    ),
]))]
pub struct Webhook {
    /// The receiver's http or https URL, without secrets in it. Loopback, link-local and multicast addresses are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 10, max = 2048), regex(pattern = r"^https?://[^\s/@?#]+([/?#]\S*)?$"))]
    pub url: Option<String>,
    /// Secret key with the whole URL instead, for URLs that contain a token. The same addresses are refused when it is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_secret_ref: Option<SecretKeyRef>,
    /// The request method: POST or PUT; POST when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<WebhookMethod>,
    /// Further headers. If there are any, redirects are not followed, so that nobody else gets them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub headers: Vec<WebhookHeader>,
    /// HTTP Basic authentication, with name and password from Secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// Secret key with a token that is sent as Authorization: Bearer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_token_secret_ref: Option<SecretKeyRef>,
    /// Whether logins and headers from Secrets may be sent over http://, where everybody on the way can read them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_cleartext_login: Option<bool>,
    /// A template of all that is sent, in the receiver's own format, in place of format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<WebhookBody>,
    /// Secret key with a Standard Webhooks signing secret (whsec_ and base64 of 24 to 64 bytes). With several lines, each
    /// key signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_secret_ref: Option<SecretKeyRef>,
    /// The format of the request body: Json, CloudEventsBinary (attributes in headers) or CloudEventsStructured.
    #[serde(default)]
    pub format: WebhookFormat,
}

/// The method of a webhook's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum WebhookMethod {
    #[serde(rename = "POST")]
    Post,
    #[serde(rename = "PUT")]
    Put,
}

/// A header of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [common::cel(
    "has(self.value) != has(self.secretKeyRef)",
    "exactly one of value and secretKeyRef is needed",
)]))]
pub struct WebhookHeader {
    /// The header's name. Headers that Belfry sets or that HTTP needs, such as Content-Type or Host, are not allowed.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9!#$%&*+.^_|~-]+$"))]
    pub name: String,
    /// The header's value, printable ASCII. Everybody who may read this object can read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = r"^([!-~]([ -~]*[!-~])?)?$"))]
    pub value: Option<String>,
    /// A Secret key with the value instead. Authorization, Cookie and Proxy-Authorization need one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// HTTP Basic authentication (RFC 7617).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BasicAuth {
    /// Secret key with the login name, which has no colon.
    pub username_secret_ref: SecretKeyRef,
    /// Secret key with the password.
    pub password_secret_ref: SecretKeyRef,
}

/// A template of a request body in the receiver's own format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookBody {
    /// MiniJinja over the same names as spec.template, and text: title and body as this channel writes them. With a JSON content
    /// type, values are escaped for JSON strings.
    #[schemars(length(min = 1, max = 16_384))]
    pub template: String,
    /// Content type; application/json when absent. With a JSON content type, the rendered text must be JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 3, max = 128),
        regex(pattern = r"^[A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+(; *[A-Za-z0-9.+-]+=[A-Za-z0-9.+-]+)*$")
    )]
    pub content_type: Option<String>,
}

/// The format of a webhook's request body.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum WebhookFormat {
    #[default]
    Json,
    CloudEventsBinary,
    CloudEventsStructured,
}
