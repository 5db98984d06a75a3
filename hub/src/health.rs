//! /healthz, /readyz and /metrics, on a port of their own, without a token and without a word about anyone's objects.
//!
//! Healthy: every background loop has finished a run lately; since each of them goes through the ledger's writer, a
//! writer that is stuck or gone shows too. A run that failed counts: an error is not a hang, and a restart would not mend a
//! full disk. Ready: the ledger is open and the hub is not about to stop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{StatusCode, header};

use crate::metrics::Metrics;

/// How long a loop may take beyond its own pace.
const PATIENCE: Duration = Duration::from_mins(1);

/// How the process fares.
#[derive(Default)]
pub(crate) struct Health {
    ready: AtomicBool,
    beats: Mutex<BTreeMap<&'static str, (Instant, Duration)>>,
}

impl Health {
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// A loop finished a run, and will run again after `pace`.
    pub(crate) fn beat(&self, name: &'static str, pace: Duration, at: Instant) {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner).insert(name, (at, pace));
    }

    /// The loops that hang.
    fn hanging(&self, at: Instant) -> Vec<&'static str> {
        let beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        let late =
            |(beat, pace): &(Instant, Duration)| at.saturating_duration_since(*beat) > PATIENCE + *pace;
        beats.iter().filter(|(_, beat)| late(beat)).map(|(name, _)| *name).collect()
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

async fn scrape(State(shared): State<Shared>) -> Response {
    match shared.metrics.text() {
        Ok(text) => {
            let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, form)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_hangs_is_named_and_one_that_fails_is_not() {
        let health = Health::default();
        let at = Instant::now();
        health.beat("leases", Duration::from_secs(1), at);
        health.beat("prune", Duration::from_mins(1), at);
        assert!(health.hanging(at + Duration::from_mins(1)).is_empty());
        assert_eq!(health.hanging(at + Duration::from_secs(90)), ["leases"]);
        assert_eq!(health.hanging(at + Duration::from_secs(121)), ["leases", "prune"]);
    }
}
