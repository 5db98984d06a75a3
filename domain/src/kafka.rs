//! How a Kafka cluster is reached, as sources and channels share it: brokers' TLS, login, and what of transactions is read.
//!
//! Invariants: verification can't be turned off, for there is no field for it; secrets are references. Never here: a value
//! of a Secret.

use serde::{Deserialize, Serialize};

use crate::{Digest, FileRef, Reading};

/// What one consumer reads and how, not which topics.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// `host:port` each, sorted.
    pub bootstrap_servers: Vec<String>,
    /// TLS and login. Two rules with other credentials do not share a consumer: each sees what its own may see.
    #[serde(default, skip_serializing_if = "KafkaSecurity::is_plain")]
    pub security: Box<KafkaSecurity>,
    /// What of transactions is read.
    #[serde(default, skip_serializing_if = "Isolation::is_default")]
    pub isolation: Isolation,
    /// How records are read. Event time is the partition's, and a record is decoded once: rules that read otherwise have
    /// a consumer of their own.
    #[serde(default, skip_serializing_if = "Reading::is_default")]
    pub reading: Box<Reading>,
}

impl Source {
    /// The source's key within its namespace.
    pub fn key(&self) -> Digest {
        Digest::of(self)
    }
}

/// What of transactions is read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// Records of committed transactions only.
    #[default]
    ReadCommitted,
    /// All records, those of aborted transactions too.
    ReadUncommitted,
}

impl Isolation {
    /// Whether it is what a source has that says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// TLS and login of a Kafka client. Neither: plain text, as whoever is in the network.
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
    /// The only authorities trusted (PEM); the public ones where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<FileRef>,
    /// The client's own certificate, for mutual TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<ClientCertificate>,
}

/// A client's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCertificate {
    /// The certificate and those that it chains through (PEM).
    pub certificate: FileRef,
    /// Its private key (PEM, not encrypted).
    pub key: FileRef,
}

/// Login by SASL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Sasl {
    /// With a name and a password.
    Password(Password),
    /// With a token of an authorization server (OAUTHBEARER, RFC 7628).
    OAuth(OAuth),
}

/// Where tokens come from: the client credentials grant (RFC 6749, section 4.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OAuth {
    /// The authorization server's token endpoint, https.
    pub token_endpoint: String,
    /// Who asks.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: FileRef,
    /// What is asked for; the server's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// For whom the token shall be, where the server wants to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Further authorities of the endpoint's certificate (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<FileRef>,
}

/// A name and a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Password {
    /// How the password is shown.
    pub mechanism: Mechanism,
    /// Who logs in.
    pub username: Username,
    /// The password.
    pub password: FileRef,
}

/// How the password is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mechanism {
    /// As it is (RFC 4616); only inside TLS.
    Plain,
    /// SCRAM-SHA-256 (RFC 7677).
    ScramSha256,
    /// SCRAM-SHA-512.
    ScramSha512,
}

/// A login name: no secret by itself, but some keep it beside the password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Username {
    /// Written in the manifest.
    Text(String),
    /// In a file.
    File(FileRef),
}

impl Mechanism {
    /// Its name as IANA and Kafka have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl KafkaSecurity {
    /// Whether it is plain text without login.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The files that a client must find to connect.
    pub fn files(&self) -> Vec<&FileRef> {
        let mut files = Vec::new();
        if let Some(tls) = &self.tls {
            files.extend(&tls.ca_bundle);
            files.extend(tls.certificate.iter().flat_map(|own| [&own.certificate, &own.key]));
        }
        match &self.sasl {
            Some(Sasl::Password(Password { username, password, .. })) => {
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
            sasl: Some(Sasl::Password(Password { mechanism: Mechanism::ScramSha512, username, password })),
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
    fn a_source_that_says_nothing_of_security_has_the_key_that_it_always_had() {
        let source = Source { bootstrap_servers: vec!["a:1".to_owned()], ..Source::default() };
        assert_eq!(source.key(), Digest::of(&serde_json::json!({"bootstrapServers": ["a:1"]})));
    }

    #[test]
    fn other_credentials_and_another_isolation_are_another_source() {
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
