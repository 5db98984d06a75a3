//! The probes `/healthz` and `/readyz`, and `/metrics`.
//!
//! A separate thread answers them, so a slow record or text does not delay them. The worker is alive if every watched loop
//! finished a round within its bound; a loop that hangs gets the pod restarted. Bounds are well above what a round may take
//! ([`LONG`]), so that a busy loop does not count as stuck. The worker is ready if nothing that it needs is known to be
//! missing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use prometheus_client::registry::Registry;
use serving::Probes;

use crate::context::Context;

/// The bound of a loop whose rounds depend on a tenant's data.
pub const LONG: Duration = Duration::from_mins(5);

/// Liveness, readiness and metrics. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    registry: Registry,
    beats: BTreeMap<&'static str, (Instant, Duration)>,
    missing: BTreeMap<&'static str, String>,
}

/// Proves that a watched loop makes progress; dropping it ends the watch.
pub struct Heartbeat {
    name: &'static str,
    health: Health,
}

impl Health {
    /// Nothing is watched and nothing is missing; metrics go to `registry`.
    pub fn new(registry: Registry) -> Self {
        let inner = Inner { registry, beats: BTreeMap::new(), missing: BTreeMap::new() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Registers metrics by `make`, and returns what it makes.
    pub fn register<T>(&self, make: impl FnOnce(&mut Registry) -> T) -> T {
        make(&mut self.lock().registry)
    }

    /// Watches a loop that must [`Heartbeat::beat`] at least every `bound`.
    pub fn watch(&self, name: &'static str, bound: Duration) -> Heartbeat {
        self.lock().beats.insert(name, (Instant::now(), bound));
        Heartbeat { name, health: self.clone() }
    }

    /// Sets why something that the worker needs is missing, or with `None` that it is not.
    pub fn missing(&self, what: &'static str, why: Option<String>) {
        let mut inner = self.lock();
        match why {
            Some(why) => inner.missing.insert(what, why),
            None => inner.missing.remove(what),
        };
    }

    /// Names of the loops that have not finished a round within their bound.
    pub fn stuck(&self) -> Vec<&'static str> {
        let inner = self.lock();
        inner.beats.iter().filter(|(_, (at, bound))| at.elapsed() > *bound).map(|(name, _)| *name).collect()
    }

    /// How long ago a watched loop finished its last round; `None` if it is not watched.
    pub fn silent(&self, name: &'static str) -> Option<Duration> {
        self.lock().beats.get(name).map(|(at, _)| at.elapsed())
    }

    /// What is missing, one per line; empty if the worker is ready.
    pub fn not_ready(&self) -> String {
        let inner = self.lock();
        inner.missing.iter().flat_map(|(what, why)| [what, ": ", why, "\n"]).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The metrics in OpenMetrics text.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.lock().registry);
        text
    }
}

impl Heartbeat {
    /// The loop begins another round.
    pub fn beat(&self) {
        if let Some((at, _)) = self.health.lock().beats.get_mut(self.name) {
            *at = Instant::now();
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.health.lock().beats.remove(self.name);
    }
}

/// Answers until the returned value is dropped.
pub fn serve(context: &Context) -> anyhow::Result<Probes> {
    let (live, ready, metrics) = (context.health.clone(), context.clone(), context.health.clone());
    let router = Router::new()
        .route(
            "/healthz",
            get(async move || match live.stuck() {
                stuck if stuck.is_empty() => (StatusCode::OK, "ok\n".to_owned()),
                stuck => (StatusCode::SERVICE_UNAVAILABLE, format!("stuck: {}\n", stuck.join(", "))),
            }),
        )
        .route(
            "/readyz",
            get(async move || match ready.health.not_ready() {
                _ if ready.stop.is_cancelled() => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned()),
                missing if missing.is_empty() => (StatusCode::OK, "ok\n".to_owned()),
                missing => (StatusCode::SERVICE_UNAVAILABLE, missing),
            }),
        )
        .route(
            "/metrics",
            get(async move |headers: HeaderMap| {
                serving::exposition::answer(&headers, "worker", env!("CARGO_PKG_VERSION"), &metrics.metrics())
            }),
        );
    // It also answers while the worker stops.
    Probes::start(context.config.listen, router)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_without_a_beat_is_stuck_until_its_next_one() {
        let health = Health::new(Registry::default());
        let beat = health.watch("loop", Duration::ZERO);
        while health.stuck().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(health.stuck(), ["loop"]);
        assert!(health.silent("loop") > Some(Duration::ZERO));
        let other = health.watch("other", Duration::from_hours(1));
        other.beat();
        drop(beat);
        assert!(health.stuck().is_empty());
        assert_eq!(health.silent("loop"), None);
    }

    #[test]
    fn what_is_missing_is_named_until_it_is_there() {
        let health = Health::new(Registry::default());
        health.missing("hub", Some("can't be reached".to_owned()));
        assert_eq!(health.not_ready(), "hub: can't be reached\n");
        health.missing("hub", None);
        assert_eq!(health.not_ready(), "");
    }
}
