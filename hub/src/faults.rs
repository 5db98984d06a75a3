//! Failures of the ledger: turns them into refusals, counts them, and logs each change once.
//!
//! A full or failing disk refuses thousands of requests a second: each is counted, only the change is logged.
//! Invariant: only writes and the background loops mark the storage as failing. A failed read concerns its reader
//! alone, since it may need room or time that other requests do not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ledger::Error;

use crate::limits::Bucket;
use crate::metrics::{Metrics, ReasonLabel};
use crate::refusal::Refusal;

/// Remembers whether the storage fails.
pub(crate) struct Faults {
    metrics: Arc<Metrics>,
    failing: Mutex<Option<(&'static str, Instant)>>,
    /// Limits the log to one failed read a second.
    logged: Mutex<Bucket>,
}

/// How long after its last failure the storage is said to work again. A call that succeeds may have had nothing to
/// write.
const CALM: Duration = Duration::from_secs(10);

impl Faults {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, failing: Mutex::new(None), logged: Mutex::new(Bucket::new(1, Instant::now())) }
    }

    /// The result of a write: its value or a refusal. Also records whether the storage works.
    pub(crate) fn write_result<T>(&self, result: Result<T, Error>) -> Result<T, Refusal> {
        if result.is_ok() {
            self.worked(Instant::now());
        }
        result.map_err(|error| {
            self.note(&error);
            refusal(&error)
        })
    }

    /// The result of a read. It says nothing about whether writes work.
    pub(crate) fn read_result<T>(&self, result: Result<T, Error>) -> Result<T, Refusal> {
        result.map_err(|error| match storage(&error) {
            None => refusal(&error),
            Some(reason) => {
                self.read_failed(reason, &error.to_string());
                Refusal::read_failed("the hub could not read this; others' requests go on. Its log says why")
            }
        })
    }

    /// Counts a failed read, and logs it unless one was logged within the last second.
    pub(crate) fn read_failed(&self, reason: &'static str, message: &str) {
        self.metrics.read_errors.get_or_create(&ReasonLabel { reason }).inc();
        let (mut logged, at) = (self.logged.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        if logged.wait(at).is_zero() {
            logged.spend(1, at);
            tracing::warn!(reason, message, "a read failed; it alone is refused");
        }
    }

    /// Counts and logs an error if it is a failure of the storage; returns whether it is one.
    pub(crate) fn note(&self, error: &Error) -> bool {
        let Some(reason) = storage(error) else { return false };
        self.metrics.storage_errors.get_or_create(&ReasonLabel { reason }).inc();
        self.failed(reason, &error.to_string(), Instant::now());
        true
    }

    fn failed(&self, reason: &'static str, message: &str, at: Instant) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if failing.is_none_or(|(before, _)| before != reason) {
            tracing::error!(reason, message, "the storage fails; what was stored before is safe");
        }
        *failing = Some((reason, at));
    }

    /// Refuses while nothing can be stored: what is known of objects is then out of date.
    pub(crate) fn failing(&self) -> Result<(), Refusal> {
        match *self.failing.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(("StorageFull", _)) => Err(Refusal::storage_full()),
            Some(_) => Err(Refusal::unavailable("the hub's storage failed; its log says why")),
        }
    }

    /// A write succeeded, or had nothing to write.
    pub(crate) fn worked(&self, at: Instant) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if failing.is_some_and(|(_, last)| at.saturating_duration_since(last) >= CALM) {
            tracing::info!("the storage works again");
            *failing = None;
        }
    }
}

/// The reason under which an error counts as a failure of the storage; `None` for other errors.
fn storage(error: &Error) -> Option<&'static str> {
    match error {
        Error::StorageFull(_) => Some("StorageFull"),
        Error::Corrupt(_) => Some("Corrupt"),
        Error::OtherLedger { .. } => Some("OtherLedger"),
        Error::Storage(_) | Error::Refused(_) | Error::Locked(_) | Error::TooNew { .. } => Some("Storage"),
        Error::NotFound(_)
        | Error::Conflict(_)
        | Error::Invalid(_)
        | Error::OverQuota { .. }
        | Error::TooLarge { .. }
        | Error::Closed => None,
    }
}

fn refusal(error: &Error) -> Refusal {
    match error {
        Error::StorageFull(_) => Refusal::storage_full(),
        Error::NotFound(what) => Refusal::not_found(format!("{what} does not exist")),
        Error::Conflict(why) => Refusal::conflict(why.clone()),
        Error::Invalid(why) => Refusal::invalid(why.clone()),
        Error::OverQuota { retry, .. } => Refusal::over_quota(error.to_string(), retry.std()),
        Error::TooLarge { .. } => Refusal::too_much(error.to_string()),
        Error::Closed => Refusal::unavailable("the hub is shutting down"),
        Error::Storage(_)
        | Error::Refused(_)
        | Error::Corrupt(_)
        | Error::Locked(_)
        | Error::OtherLedger { .. }
        | Error::TooNew { .. } => Refusal::unavailable("the hub's storage failed; its log says why"),
    }
}

#[cfg(test)]
mod tests {
    use domain::Millis;
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_full_disk_is_said_and_a_quota_names_its_wait() {
        let faults = Faults::new(Arc::new(Metrics::new()));
        let full = faults.write_result::<()>(Err(Error::StorageFull("x".to_owned()))).expect_err("full");
        assert_eq!((full.status, full.reason), (StatusCode::INSUFFICIENT_STORAGE, "StorageFull"));
        let over = Error::OverQuota {
            namespace: "a".to_owned(),
            what: "pending deliveries",
            limit: 1,
            retry: Millis::from_secs(7),
        };
        let over = faults.write_result::<()>(Err(over)).expect_err("over");
        assert_eq!(over.retry_after, Some(std::time::Duration::from_secs(7)));
    }

    #[test]
    fn a_call_that_had_nothing_to_write_does_not_end_a_failure() {
        let faults = Faults::new(Arc::new(Metrics::new()));
        let at = Instant::now();
        faults.failed("StorageFull", "x", at);
        faults.worked(at + Duration::from_secs(1));
        assert!(faults.failing.lock().expect("unpoisoned").is_some());
        faults.worked(at + CALM);
        assert!(faults.failing.lock().expect("unpoisoned").is_none());
    }

    #[test]
    fn a_failed_read_refuses_its_reader_and_does_not_mark_the_storage_as_failing() {
        let faults = Faults::new(Arc::new(Metrics::new()));
        for error in [
            Error::Storage("unable to open database file".to_owned()),
            Error::StorageFull("no place for a temporary file".to_owned()),
            Error::Corrupt("x".to_owned()),
        ] {
            let told = faults.read_result::<()>(Err(error)).expect_err("failed");
            assert_eq!((told.status, told.reason), (StatusCode::SERVICE_UNAVAILABLE, "ReadFailed"));
            assert!(faults.failing().is_ok());
        }
        assert!(faults.write_result::<()>(Err(Error::Storage("x".to_owned()))).is_err());
        assert!(faults.failing().is_err(), "a write that fails is everybody's");
    }

    #[test]
    fn an_inner_failure_is_not_told_to_callers() {
        let faults = Faults::new(Arc::new(Metrics::new()));
        let error = Error::Storage("disk I/O error at /secret/place".to_owned());
        let told = faults.read_result::<()>(Err(error)).expect_err("failed");
        assert!(!told.message.contains("secret"), "{}", told.message);
    }
}
