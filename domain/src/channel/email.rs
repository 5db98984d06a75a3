//! E-mail.

use serde::{Deserialize, Serialize};

use super::Receiver;
use crate::FileRef;

/// SMTP (RFC 5321).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmailPlan {
    /// The server's host name or address.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// Login name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<FileRef>,
    /// Login password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<FileRef>,
    /// The sender's mailbox (RFC 5322).
    pub from: String,
    /// The recipients' mailboxes; each gets a delivery of its own.
    pub to: Vec<String>,
}

/// How an SMTP connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SmtpTls {
    /// Not at all.
    None,
    /// STARTTLS (RFC 3207), required.
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Implicit,
}

impl Receiver for EmailPlan {
    fn files(&self) -> Vec<&FileRef> {
        self.username.iter().chain(&self.password).collect()
    }

    fn recipients(&self) -> Vec<&str> {
        self.to.iter().map(String::as_str).collect()
    }
}
