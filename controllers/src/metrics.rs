//! The operator's metrics. Labels are names of controllers and results, never of objects or namespaces.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    controller: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    controller: &'static str,
    what: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Admitted {
    kind: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Certificate {
    certificate: &'static str,
}

/// The operator's metrics. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    reconciles: Family<Outcome, Counter>,
    durations: Family<Controller, Histogram>,
    queued: Family<Controller, Gauge>,
    writes: Family<Write, Counter>,
    plans: Counter,
    admitted: Family<Admitted, Counter>,
    hub: Gauge,
    feed_age: Gauge<f64, AtomicU64>,
    leader: Gauge,
    certificates: Family<Certificate, Gauge>,
    registry: Arc<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// New metrics, all zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("belfry_operator");
        let reconciles = Family::default();
        let durations: Family<Controller, Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 14)));
        let queued = Family::default();
        let writes = Family::default();
        let (plans, hub, leader) = (Counter::default(), Gauge::default(), Gauge::default());
        let feed_age = Gauge::<f64, AtomicU64>::default();
        registry.register("reconcile", "Reconciliations of a namespace, by result", reconciles.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "How long a reconciliation took",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register("workqueue_depth", "Namespaces that wait to be reconciled", queued.clone());
        registry.register("writes", "Writes to the API server, by what was written", writes.clone());
        let admitted = Family::default();
        let help = "Objects that the API server asked about before storing them, by answer";
        registry.register("admission_requests", help, admitted.clone());
        registry.register("plans_sent", "Plans that the hub took", plans.clone());
        registry.register("hub_reachable", "1 while the hub answers", hub.clone());
        registry.register_with_unit(
            "feed_age",
            "Time since the hub's status feed last answered",
            Unit::Seconds,
            feed_age.clone(),
        );
        let certificates: Family<Certificate, Gauge> = Family::default();
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the certificate of hub and webhook ends, and its authority, in seconds since 1970",
            certificates.clone(),
        );
        registry.register("leader", "1 while this process holds the lease", leader.clone());
        Self {
            reconciles,
            durations,
            queued,
            writes,
            plans,
            admitted,
            hub,
            feed_age,
            leader,
            certificates,
            registry: Arc::new(registry),
        }
    }

    pub(crate) fn reconciled(&self, controller: &'static str, good: bool, took: Duration) {
        let result = if good { "success" } else { "error" };
        self.reconciles.get_or_create(&Outcome { controller, result }).inc();
        self.durations.get_or_create(&Controller { controller }).observe(took.as_secs_f64());
    }

    pub(crate) fn queue_depth(&self, controller: &'static str, depth: usize) {
        self.queued.get_or_create(&Controller { controller }).set(depth as i64);
    }

    pub(crate) fn wrote(&self, controller: &'static str, what: &'static str) {
        self.writes.get_or_create(&Write { controller, what }).inc();
    }

    pub(crate) fn admitted(&self, kind: &'static str, result: &'static str) {
        self.admitted.get_or_create(&Admitted { kind, result }).inc();
    }

    /// Counts a review that was rejected before it was looked at.
    pub fn turned_away(&self) {
        self.admitted("Other", "again");
    }

    pub(crate) fn plans_sent(&self, count: usize) {
        self.plans.inc_by(count as u64);
    }

    pub(crate) fn hub_reachable(&self, reachable: bool) {
        self.hub.set(i64::from(reachable));
    }

    pub(crate) fn feed_age(&self, age: Duration) {
        self.feed_age.set(age.as_secs_f64());
    }

    /// Sets when the certificate and its authority end, in seconds since 1970.
    pub fn certificates_end(&self, server: i64, authority: i64) {
        for (certificate, ends) in [("server", server), ("authority", authority)] {
            self.certificates.get_or_create(&Certificate { certificate }).set(ends);
        }
    }

    /// Sets whether this process holds the lease.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// The text that Prometheus reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
