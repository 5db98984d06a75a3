//! What can go wrong in the ledger, as types that a caller can act on.
//!
//! Never: the outcome of a delivery. That is a value, not an error.

use std::path::PathBuf;

use domain::Millis;

/// Why the ledger could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another process holds the file.
    #[error("the ledger {0} is in use by another process: only one hub may open it")]
    Locked(PathBuf),
    /// The file is not a sound database of ours.
    #[error("the ledger's file is damaged: {0}")]
    Corrupt(String),
    /// The schema is of a later version of Belfry.
    #[error("the ledger has schema version {found}, this hub knows versions up to {known}: use a newer hub")]
    TooNew {
        /// What the file says.
        found: i64,
        /// What this program knows.
        known: i64,
    },
    /// The disk, or the bound of the file's size, is reached. What is stored stays; try again when there is room.
    #[error("the ledger's disk is full: {0}")]
    StorageFull(String),
    /// Reading or writing failed.
    #[error("the ledger's storage failed: {0}")]
    Storage(String),
    /// There is no such object.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The caller worked from something older than what is stored.
    #[error("{0}")]
    Conflict(String),
    /// The request can't be right.
    #[error("{0}")]
    Invalid(String),
    /// The namespace has used up its quota.
    #[error("namespace {namespace} is over its quota of {limit} {what}")]
    OverQuota {
        /// Which namespace.
        namespace: String,
        /// Of what.
        what: &'static str,
        /// The quota.
        limit: i64,
        /// How long to wait before trying again.
        retry: Millis,
    },
    /// The ledger is being closed.
    #[error("the ledger is closed")]
    Closed,
}

/// SQLite's primary result codes that mean "no room".
const FULL: &str = "13";

impl Error {
    /// Whether the transaction can't be trusted any more, so that all that waits in it must be tried anew.
    pub(crate) fn is_storage(&self) -> bool {
        matches!(self, Self::StorageFull(_) | Self::Storage(_) | Self::Corrupt(_))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if let sqlx::Error::Database(database) = &error {
            let code = database.code().unwrap_or_default();
            // Extended codes carry the primary one in their lowest byte.
            let primary = code.parse::<i64>().map(|code| (code & 0xff).to_string()).unwrap_or_default();
            return match primary.as_str() {
                FULL => Self::StorageFull(database.message().to_owned()),
                "11" | "26" => Self::Corrupt(database.message().to_owned()),
                _ => Self::Storage(format!("{} (code {code})", database.message())),
            };
        }
        match error {
            sqlx::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull => {
                Self::StorageFull(io.to_string())
            }
            other => Self::Storage(other.to_string()),
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Storage(format!("stored JSON can't be read: {error}"))
    }
}
