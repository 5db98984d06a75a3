//! Serves `/healthz` (the process is alive), `/readyz` (it can work) and `/metrics`, on a separate thread, so that a
//! review or reconcile can't delay the answers, however long it takes.
//!
//! The process is alive if its own loop came round within [`STUCK`], that is, if its threads still take turns. Long
//! work of a controller or the webhook has bounds of its own and is no reason to end the process, which would begin
//! with the same object again. The process ends by itself when it loses the lease or when a task ends.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use controllers::metrics::Metrics;
use serving::Probes;
use tokio::sync::watch;

/// For how long all threads may be busy before the process counts as stuck.
const STUCK: Duration = Duration::from_mins(5);
/// How often the loop comes round.
const PACE: Duration = Duration::from_secs(1);

/// The phase of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It can't work yet, or not any more.
    NotReady,
    /// Another replica leads; this one can take over.
    Standby,
    /// This replica leads, with full caches.
    Leading,
}

/// When the process's own loop last came round. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pulse(Arc<Mutex<Instant>>);

impl Default for Pulse {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Pulse {
    /// Runs the loop for ever, on the threads that do the work.
    pub(crate) async fn beats(self) {
        loop {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            tokio::time::sleep(PACE).await;
        }
    }

    fn is_stuck(&self, at: Instant) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        at.saturating_duration_since(last) > STUCK
    }
}

/// Serves until the returned value is dropped.
pub(crate) fn serve(
    listen: SocketAddr,
    phase: watch::Receiver<Phase>,
    metrics: Metrics,
    pulse: Pulse,
) -> anyhow::Result<Probes> {
    let router = Router::new()
        .route("/healthz", get(move || std::future::ready(alive(pulse.is_stuck(Instant::now())))))
        .route("/readyz", get(move || std::future::ready(ready(*phase.borrow()))))
        .route("/metrics", get(move |headers: HeaderMap| std::future::ready(exposed(&headers, &metrics))));
    Probes::start(listen, router)
}

fn alive(stuck: bool) -> impl IntoResponse {
    if stuck {
        return (StatusCode::SERVICE_UNAVAILABLE, "stuck: its threads did not take turns for five minutes\n");
    }
    (StatusCode::OK, "alive\n")
}

fn ready(phase: Phase) -> impl IntoResponse {
    match phase {
        Phase::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        Phase::Standby => (StatusCode::OK, "standby\n"),
        Phase::Leading => (StatusCode::OK, "leading\n"),
    }
}

fn exposed(headers: &HeaderMap, metrics: &Metrics) -> Response {
    serving::exposition::answer(headers, "operator", env!("CARGO_PKG_VERSION"), &metrics.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_whose_loop_comes_round_is_alive_and_one_whose_loop_does_not_is_stuck() {
        let pulse = Pulse::default();
        let at = Instant::now();
        assert!(!pulse.is_stuck(at));
        assert!(pulse.is_stuck(Instant::now() + STUCK + Duration::from_secs(1)));
        let later = at + Duration::from_millis(5);
        let beats = tokio::spawn(pulse.clone().beats());
        while *pulse.0.lock().unwrap() == at || Instant::now() < later {
            tokio::task::yield_now().await;
        }
        assert!(!pulse.is_stuck(Instant::now()));
        beats.abort();
        assert_eq!(alive(true).into_response().status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
