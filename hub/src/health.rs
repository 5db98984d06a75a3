//! /healthz, /readyz and /metrics, on a port and a thread of their own, without a token and without a word about anyone's
//! objects.
//!
//! Stuck is not busy. Healthy: the ledger's writer gets on, that is, it has done any step at all within [`STUCK`]; and no
//! background loop has been without a finished run for [`LOST`] beyond its pace. A loop that only waits behind others'
//! commands is no reason to end the process: it would begin with the same ones. A run that failed counts as well: an error
//! is not a hang, and a restart would not mend a full disk. A writer that has ended is found at once. Ready: the ledger is
//! open and the hub is not about to stop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode};

use crate::metrics::Metrics;

/// How long the writer may do nothing at all. The loops ask it every second, so it always has something to do; its longest
/// step is bounded far below this.
const STUCK: Duration = Duration::from_mins(2);
/// How long a loop may wait beyond its own pace while the writer gets on.
const LOST: Duration = Duration::from_mins(10);

/// How the process fares.
#[derive(Default)]
pub(crate) struct Health {
    ready: AtomicBool,
    ended: AtomicBool,
    beats: Mutex<BTreeMap<&'static str, (Instant, Duration)>>,
    writer: Mutex<Option<Writer>>,
}

/// How far the writer was when it was last looked at, and since when.
struct Writer {
    steps: Arc<AtomicU64>,
    seen: u64,
    since: Instant,
}

impl Health {
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// There is a writer that counts its steps.
    pub(crate) fn watch(&self, steps: Arc<AtomicU64>, at: Instant) {
        let seen = steps.load(Ordering::Relaxed);
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Writer { steps, seen, since: at });
    }

    /// The writer is gone, and does not come back.
    pub(crate) fn writer_ended(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// A loop finished a run, and will run again after `pace`.
    pub(crate) fn beat(&self, name: &'static str, pace: Duration, at: Instant) {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner).insert(name, (at, pace));
    }

    /// What does not get on.
    fn hanging(&self, at: Instant) -> Vec<&'static str> {
        let mut hanging = Vec::new();
        if self.ended.load(Ordering::Relaxed) {
            hanging.push("the writer has ended");
        }
        if let Some(writer) = &mut *self.writer.lock().unwrap_or_else(PoisonError::into_inner) {
            let steps = writer.steps.load(Ordering::Relaxed);
            if steps != writer.seen {
                (writer.seen, writer.since) = (steps, at);
            }
            if at.saturating_duration_since(writer.since) > STUCK {
                hanging.push("writer");
            }
        }
        let beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        let late = |(beat, pace): &(Instant, Duration)| at.saturating_duration_since(*beat) > LOST + *pace;
        hanging.extend(beats.iter().filter(|(_, beat)| late(beat)).map(|(name, _)| *name));
        hanging
    }
}

#[derive(Clone)]
struct Shared {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

pub(crate) fn router(health: Arc<Health>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(Shared { health, metrics })
}

async fn healthz(State(shared): State<Shared>) -> Response {
    let hanging = shared.health.hanging(Instant::now());
    if hanging.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("no progress: {}\n", hanging.join(", "))).into_response()
}

async fn readyz(State(shared): State<Shared>) -> Response {
    if shared.health.ready.load(Ordering::Relaxed) {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or stopping\n").into_response()
}

async fn scrape(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    match shared.metrics.text() {
        Ok(text) => serving::exposition::answer(&headers, "hub", env!("CARGO_PKG_VERSION"), &text),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_waits_while_the_writer_gets_on_is_busy_and_one_that_does_so_for_very_long_is_named() {
        let health = Health::default();
        let (at, steps) = (Instant::now(), Arc::new(AtomicU64::new(7)));
        health.watch(Arc::clone(&steps), at);
        health.beat("leases", Duration::from_secs(1), at);
        health.beat("prune", Duration::from_mins(1), at);
        for minute in 0..=10 {
            steps.fetch_add(1, Ordering::Relaxed);
            assert!(health.hanging(at + Duration::from_mins(minute)).is_empty(), "{minute}");
        }
        steps.fetch_add(1, Ordering::Relaxed);
        assert_eq!(health.hanging(at + Duration::from_secs(602)), ["leases"]);
        assert_eq!(health.hanging(at + Duration::from_secs(661)), ["leases", "prune"]);
    }

    #[test]
    fn a_writer_that_does_no_step_at_all_is_stuck_and_one_that_does_one_is_not() {
        let health = Health::default();
        let (at, steps) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        health.watch(Arc::clone(&steps), at);
        assert!(health.hanging(at + STUCK).is_empty());
        assert_eq!(health.hanging(at + STUCK + Duration::from_secs(1)), ["writer"]);
        steps.fetch_add(1, Ordering::Relaxed);
        assert!(health.hanging(at + 2 * STUCK).is_empty());
        assert!(health.hanging(at + 3 * STUCK).is_empty());
        assert_eq!(health.hanging(at + 3 * STUCK + Duration::from_secs(1)), ["writer"]);
        health.writer_ended();
        assert_eq!(health.hanging(at + 3 * STUCK), ["the writer has ended"]);
    }
}
