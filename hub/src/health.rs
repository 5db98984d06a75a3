//! /healthz, /readyz and /metrics, on a port and a thread of their own. They need no token and say nothing about
//! anyone's objects.
//!
//! Healthy means: the ledger's writer has made a step within [`STUCK`], and every background loop has finished a
//! run within [`LOST`] beyond its pace. Busy is not stuck: a loop that only waits behind others' commands is no
//! reason to end the process, since a new one would begin with the same commands. A failed run counts as finished:
//! an error is not a hang, and a restart would not mend a full disk. A writer that has ended makes the hub
//! unhealthy at once.
//!
//! Ready means: the ledger is open and the hub is not about to stop.

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

/// How long the writer may make no step. The loops give it work every second, and its longest step is far shorter
/// than this.
const STUCK: Duration = Duration::from_mins(2);
/// How long beyond its pace a loop may go without a finished run while the writer makes progress.
const LOST: Duration = Duration::from_mins(10);

/// Whether the process is ready and makes progress.
#[derive(Default)]
pub(crate) struct Health {
    ready: AtomicBool,
    ended: AtomicBool,
    beats: Mutex<BTreeMap<&'static str, (Instant, Duration)>>,
    writer: Mutex<Option<Writer>>,
}

/// The writer's steps when they last changed, and when that was.
struct Writer {
    steps: Arc<AtomicU64>,
    seen: u64,
    since: Instant,
}

impl Health {
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// From now on watches the writer by its count of steps.
    pub(crate) fn watch(&self, steps: Arc<AtomicU64>, at: Instant) {
        let seen = steps.load(Ordering::Relaxed);
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Writer { steps, seen, since: at });
    }

    /// The writer has ended, for good.
    pub(crate) fn writer_ended(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// A loop finished a run, and will run again after `pace`.
    pub(crate) fn beat(&self, name: &'static str, pace: Duration, at: Instant) {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner).insert(name, (at, pace));
    }

    /// Names what makes no progress.
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
