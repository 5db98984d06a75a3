//! E-mail.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{self, SecretKeyRef};

/// Why a login without TLS is refused.
pub const CLEARTEXT_LOGIN: &str = "with tls: None everybody on the way reads the password: use StartTls or Implicit, or set allowCleartextLogin: true";

/// Mail by SMTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [common::cel(
    "has(self.usernameSecretRef) == has(self.passwordSecretRef)",
    "usernameSecretRef and passwordSecretRef go together: give both, or none to send without login",
), common::cel(
    "self.tls != 'None' || !has(self.passwordSecretRef) || self.allowCleartextLogin",
    CLEARTEXT_LOGIN,
)]))]
pub struct Email {
    /// Host name or address of the SMTP server.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$"))]
    pub host: String,
    /// Port of the SMTP server, usually 25, 465 or 587.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// How the connection is protected: StartTls (required, not merely tried), Implicit (TLS from the first byte) or None.
    #[serde(default)]
    pub tls: SmtpTls,
    /// Secret key with the login name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username_secret_ref: Option<SecretKeyRef>,
    /// Secret key with the login password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyRef>,
    /// Whether the login may be sent over a connection without TLS (tls: None), where everybody on the way can read it.
    #[serde(default)]
    pub allow_cleartext_login: bool,
    /// The sender, such as "Belfry <belfry@example.com>".
    #[schemars(length(min = 3, max = 320), regex(pattern = r"^[^\r\n]*@[^\r\n]*$"))]
    pub from: String,
    /// The recipients; each gets a delivery of its own.
    #[schemars(
        length(min = 1, max = 50),
        inner(length(min = 3, max = 320), regex(pattern = r"^[^\r\n]*@[^\r\n]*$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub to: Vec<String>,
}

/// How an SMTP connection is protected.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum SmtpTls {
    None,
    #[default]
    StartTls,
    Implicit,
}
