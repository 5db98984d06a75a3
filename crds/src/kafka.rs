//! How to connect to a Kafka cluster: TLS and login, the same for a rule's source and a channel. Secrets are references. The
//! default keys are those that Strimzi writes for a KafkaUser.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{self, CaBundle, SecretKeyRef};

/// TLS to the brokers. Their certificates and names are always verified.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaTls {
    /// Certificates (PEM) of a private authority; with it, no other authority is trusted. The public ones when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
    /// The client's own certificate and key, for mutual TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_ref: Option<CertificateRef>,
}

/// A certificate and its private key in a Secret of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRef {
    /// Name of the Secret, in this namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key with the certificate and its intermediate certificates (PEM): user.crt, or tls.crt as cert-manager writes it.
    #[serde(default = "user_crt")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^(\.?[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$"))]
    pub certificate_key: String,
    /// Key with the private key (PEM, not encrypted): user.key, or tls.key as cert-manager writes it.
    #[serde(default = "user_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^(\.?[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$"))]
    pub key_key: String,
}

fn user_crt() -> String {
    "user.crt".to_owned()
}

fn user_key() -> String {
    "user.key".to_owned()
}

fn password() -> String {
    "password".to_owned()
}

/// Login by SASL: a name with a password, or a token of an authorization server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    common::cel(
        "self.mechanism == 'OAuthBearer' ? has(self.oauth) : !has(self.oauth)",
        "mechanism OAuthBearer needs oauth, and the others do not know it",
    ),
    common::cel(
        "self.mechanism == 'OAuthBearer' || has(self.username) != has(self.usernameSecretRef)",
        "exactly one of username and usernameSecretRef is needed; for Strimzi, username is the KafkaUser's name",
    ),
    common::cel(
        "self.mechanism == 'OAuthBearer' || has(self.passwordSecretRef)",
        "passwordSecretRef is needed",
    ),
    common::cel(
        "self.mechanism != 'OAuthBearer' || !(has(self.username) || has(self.usernameSecretRef) || has(self.passwordSecretRef))",
        "mechanism OAuthBearer knows no username and password; who logs in is oauth.clientId",
    ),
]))]
pub struct KafkaSasl {
    /// How the client logs in. With a password: ScramSha512, ScramSha256, or Plain, which needs tls. With a token: OAuthBearer,
    /// which needs tls.
    pub mechanism: SaslMechanism,
    /// The login name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[^\x00-\x1f\x7f]+$"))]
    pub username: Option<String>,
    /// Secret key with the login name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username_secret_ref: Option<SecretKeyRef>,
    /// Secret key with the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<PasswordRef>,
    /// Where tokens come from, with mechanism OAuthBearer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth: Option<KafkaOAuth>,
}

/// How the client logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum SaslMechanism {
    Plain,
    ScramSha256,
    ScramSha512,
    OAuthBearer,
}

/// Where tokens come from: the client credentials grant of OAuth 2.0 (RFC 6749, section 4.4). A new token is asked for
/// before the old one expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaOAuth {
    /// The authorization server's token endpoint, such as https://id.example.com/realms/kafka/protocol/openid-connect/token.
    /// Redirects are not followed.
    #[schemars(length(min = 9, max = 1024), regex(pattern = r"^https://[^\s#]+$"))]
    pub token_endpoint: String,
    /// The client's id.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[\x20-\x7e]+$"))]
    pub client_id: String,
    /// Secret key with the client's secret.
    pub client_secret_ref: SecretKeyRef,
    /// The requested scope, names separated by spaces; the server's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[\x20-\x7e]+$"))]
    pub scope: Option<String>,
    /// The requested audience of the token, for servers that need it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[\x20-\x7e]+$"))]
    pub audience: Option<String>,
    /// Certificates (PEM) of a private authority for the endpoint's certificate, in addition to the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
}

/// A password in a Secret of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordRef {
    /// Name of the Secret, in this namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key in the Secret's data. Its value is read when it is used, so a change needs no restart.
    #[serde(default = "password")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^(\.?[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$"))]
    pub key: String,
}

/// The validation rule that a password or token is not sent without TLS. For types that have `tls` and `sasl`.
pub(crate) fn no_cleartext_login() -> serde_json::Value {
    common::cel(
        "!has(self.sasl) || !(self.sasl.mechanism in ['Plain', 'OAuthBearer']) || has(self.tls)",
        "sasl.mechanism Plain and OAuthBearer show password or token as it is, so they need tls (an empty tls: {} trusts public authorities)",
    )
}
