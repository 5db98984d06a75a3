//! How sources and channels connect to a Kafka cluster: TLS to the brokers, login, and isolation of transactions.
//!
//! Certificates are always verified: no field turns that off. Secrets are references; no value of a Secret is here.

use serde::{Deserialize, Serialize};

use crate::{Digest, FileRef, Reading};

/// What one consumer reads and how. The topics are not part of it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// `host:port` each, sorted.
    pub bootstrap_servers: Vec<String>,
    /// TLS and login. Rules with different credentials don't share a consumer, so each reads only what its own credentials
    /// allow.
    #[serde(default, skip_serializing_if = "KafkaSecurity::is_plain")]
    pub security: Box<KafkaSecurity>,
    /// Which records of transactions are read.
    #[serde(default, skip_serializing_if = "Isolation::is_default")]
    pub isolation: Isolation,
    /// How records are decoded and where their event time is. A consumer decodes each record once and keeps one progress for
    /// each partition, so rules that differ here don't share a consumer.
    #[serde(default, skip_serializing_if = "Reading::is_default")]
    pub reading: Box<Reading>,
}

impl Source {
    /// The source's key within its namespace.
    pub fn key(&self) -> Digest {
        Digest::of(self)
    }
}

/// Which records of transactions are read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// Records of committed transactions only.
    #[default]
    ReadCommitted,
    /// All records, including those of aborted transactions.
    ReadUncommitted,
}

impl Isolation {
    /// Whether it is the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// TLS and login of a Kafka client. Without both, it connects in plain text and without login.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSecurity {
    /// TLS to the brokers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// Login by SASL (RFC 4422).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
}

/// TLS to the brokers; their certificates and names are verified.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaTls {
    /// The only trusted authorities (PEM); the public ones if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<FileRef>,
    /// The client's own certificate, for mutual TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<ClientCertificate>,
}

/// A client's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCertificate {
    /// The certificate with its intermediate certificates (PEM).
    pub certificate: FileRef,
    /// Its private key (PEM, not encrypted).
    pub key: FileRef,
}

/// Login by SASL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Sasl {
    /// With a name and a password.
    Password(PasswordLogin),
    /// With a token of an authorization server (OAUTHBEARER, RFC 7628).
    OAuth(OAuth),
}

/// Where tokens come from: the client credentials grant (RFC 6749, section 4.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OAuth {
    /// The authorization server's token endpoint, https.
    pub token_endpoint: String,
    /// The OAuth client's id.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: FileRef,
    /// The requested scope; the server's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The requested audience, for servers that need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Authorities for the endpoint's certificate (PEM), in addition to the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<FileRef>,
}

/// A name and a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordLogin {
    /// How the client proves that it knows the password.
    pub mechanism: PasswordMechanism,
    /// Who logs in.
    pub username: Username,
    /// The password.
    pub password: FileRef,
}

/// How a client proves that it knows the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PasswordMechanism {
    /// Sends it as it is (RFC 4616); only inside TLS.
    Plain,
    /// SCRAM-SHA-256 (RFC 7677).
    ScramSha256,
    /// SCRAM-SHA-512.
    ScramSha512,
}

/// A login name. It is not a secret, but some users keep it beside the password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Username {
    /// Written in the manifest.
    Text(String),
    /// In a file.
    File(FileRef),
}

impl PasswordMechanism {
    /// The name that IANA and Kafka use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl KafkaSecurity {
    /// Whether there is neither TLS nor login.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The files that a client needs to connect.
    pub fn files(&self) -> Vec<&FileRef> {
        let mut files = Vec::new();
        if let Some(tls) = &self.tls {
            files.extend(&tls.ca_bundle);
            files.extend(tls.certificate.iter().flat_map(|own| [&own.certificate, &own.key]));
        }
        match &self.sasl {
            Some(Sasl::Password(PasswordLogin { username, password, .. })) => {
                if let Username::File(file) = username {
                    files.push(file);
                }
                files.push(password);
            }
            Some(Sasl::OAuth(oauth)) => {
                files.push(&oauth.client_secret);
                files.extend(&oauth.ca_bundle);
            }
            None => {}
        }
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileKind;

    fn sasl(secret: &str) -> KafkaSecurity {
        let password =
            FileRef { kind: FileKind::Secret, name: secret.to_owned(), key: "password".to_owned() };
        let username = Username::Text("belfry".to_owned());
        KafkaSecurity {
            tls: None,
            sasl: Some(Sasl::Password(PasswordLogin {
                mechanism: PasswordMechanism::ScramSha512,
                username,
                password,
            })),
        }
    }

    fn oauth() -> KafkaSecurity {
        let client_secret = FileRef { kind: FileKind::Secret, name: "s".to_owned(), key: "k".to_owned() };
        let oauth = OAuth {
            token_endpoint: "https://id.example.com/token".to_owned(),
            client_id: "belfry".to_owned(),
            client_secret,
            scope: None,
            audience: None,
            ca_bundle: None,
        };
        KafkaSecurity { tls: None, sasl: Some(Sasl::OAuth(oauth)) }
    }

    #[test]
    fn a_source_without_security_keeps_its_key() {
        let source = Source { bootstrap_servers: vec!["a:1".to_owned()], ..Source::default() };
        assert_eq!(source.key(), Digest::of(&serde_json::json!({"bootstrapServers": ["a:1"]})));
    }

    #[test]
    fn sources_that_differ_in_credentials_or_isolation_have_different_keys() {
        let plain = Source { bootstrap_servers: vec!["a:1".to_owned()], ..Source::default() };
        let one = Source { security: Box::new(sasl("one")), ..plain.clone() };
        let two = Source { security: Box::new(sasl("two")), ..plain.clone() };
        let token = Source { security: Box::new(oauth()), ..plain.clone() };
        let all = Source { isolation: Isolation::ReadUncommitted, ..plain.clone() };
        let keys: std::collections::BTreeSet<_> =
            [&plain, &one, &two, &token, &all].map(|source| source.key().to_string()).into();
        assert_eq!(keys.len(), 5);
        for source in [one, token] {
            let text = serde_json::to_string(&source).unwrap();
            assert_eq!(serde_json::from_str::<Source>(&text).unwrap(), source, "{text}");
        }
    }
}
