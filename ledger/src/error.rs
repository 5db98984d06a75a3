//! Errors of the ledger, as types that a caller can act on.
//!
//! The outcome of a delivery is a value, not an error.

use std::path::PathBuf;

use domain::Millis;
use sqlx::postgres::PgDatabaseError;

/// Why the ledger could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another process holds the file.
    #[error("the ledger {0} is in use by another process: only one hub may open it")]
    Locked(PathBuf),
    /// The file is damaged, or is not a ledger.
    #[error("the ledger's file is damaged: {0}")]
    Corrupt(String),
    /// The schema is of a later version of Belfry.
    #[error("the ledger has schema version {found}, this hub knows versions up to {known}: use a newer hub")]
    TooNew {
        /// The version of the file.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// The database holds another ledger than before.
    #[error(
        "the database holds the ledger {found:?}, and this hub began with {ours}: connect it to its own, or restart the hub"
    )]
    OtherLedger {
        /// The id of this hub's ledger.
        ours: String,
        /// What the database has.
        found: String,
    },
    /// The disk is full, or the file has reached its bound. What is stored stays; try again when there is room.
    #[error("the ledger's disk is full: {0}")]
    StorageFull(String),
    /// Reading or writing failed.
    #[error("the ledger's storage failed: {0}")]
    Storage(String),
    /// SQLite refused a statement, or a command read something invalid. Only that command fails.
    #[error("the ledger's storage failed: refused: {0}")]
    Refused(String),
    /// There is no such object.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The caller's request is based on something older than what is stored.
    #[error("{0}")]
    Conflict(String),
    /// The request is invalid.
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
    /// One request holds more than is taken at once.
    #[error("{place} holds {held} {what}, and at most {limit} are taken at once: send less at once")]
    TooLarge {
        /// Where.
        place: String,
        /// Of what.
        what: &'static str,
        /// How many.
        held: usize,
        /// The bound.
        limit: usize,
    },
    /// The ledger is being closed.
    #[error("the ledger is closed")]
    Closed,
}

impl Error {
    /// Whether the whole transaction must be undone, with all its commands.
    pub(crate) fn is_storage(&self) -> bool {
        matches!(self, Self::StorageFull(_) | Self::Corrupt(_) | Self::Storage(_) | Self::OtherLedger { .. })
    }
}

/// SQLite's result code "the memory shared between connections can't grow".
const SHARED_MEMORY_FULL: i64 = 4_874;

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if let sqlx::Error::Database(database) = &error {
            if let Some(postgres) = database.try_downcast_ref::<PgDatabaseError>() {
                return of_postgres(postgres);
            }
            let code = database.code().and_then(|code| code.parse::<i64>().ok()).unwrap_or(0);
            let message = database.message();
            // The lowest byte of an extended code is the primary code.
            return match (code, code & 0xff) {
                (SHARED_MEMORY_FULL, _) | (_, 13) => Self::StorageFull(message.to_owned()),
                (_, 11 | 26) => Self::Corrupt(message.to_owned()),
                // SQLITE_INTERRUPT: only readers have a budget of steps.
                (_, 9) => Self::Invalid("this takes more steps than one read may: ask for less".to_owned()),
                // A faulty statement, a type that doesn't fit, or a violated constraint.
                (_, 1 | 18 | 19 | 20 | 25) => Self::Refused(format!("{message} (code {code})")),
                _ => Self::Storage(format!("{message} (code {code})")),
            };
        }
        match error {
            sqlx::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull => {
                Self::StorageFull(io.to_string())
            }
            sqlx::Error::PoolClosed => Self::Closed,
            other
            @ (sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => {
                Self::Refused(other.to_string())
            }
            other => Self::Storage(other.to_string()),
        }
    }
}

/// By the classes of SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn of_postgres(error: &PgDatabaseError) -> Error {
    let (code, message) = (error.code(), error.message());
    match (code, code.get(..2).unwrap_or_default()) {
        ("53100", _) => Error::StorageFull(message.to_owned()),
        ("57014", _) => Error::Invalid("this takes more time than one read may: ask for less".to_owned()),
        (_, "XX") => Error::Corrupt(message.to_owned()),
        // Data, constraints, and statements that can't be: a fault of the command alone.
        (_, "21" | "22" | "23" | "42") => Error::Refused(format!("{message} (code {code})")),
        _ => Error::Storage(format!("{message} (code {code})")),
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Refused(format!("stored JSON can't be read: {error}"))
    }
}
