//! Metrics of `send` and `retry`. Labels come from closed sets; no label is an object's name.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Attempted {
    pub(super) channel_type: &'static str,
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByChannel {
    pub(super) channel_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByResult {
    pub(super) result: &'static str,
}

#[derive(Clone)]
pub(super) struct DeliveryMetrics {
    pub(super) attempts: Family<Attempted, Counter>,
    pub(super) seconds: Family<ByChannel, Histogram>,
    pub(super) in_flight: Gauge,
    pub(super) claims: Family<ByResult, Counter>,
    pub(super) reports: Family<ByResult, Counter>,
    pub(super) lost: Counter,
    pub(super) files_missing: Gauge<i64>,
    pub(super) oldest_report: Gauge<f64, AtomicU64>,
}

impl DeliveryMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            attempts: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.005, 2.0, 13))),
            in_flight: Gauge::default(),
            claims: Family::default(),
            reports: Family::default(),
            lost: Counter::default(),
            files_missing: Gauge::default(),
            oldest_report: Gauge::default(),
        };
        let one = &metrics;
        registry.register("delivery_attempts", "Attempts, by channel type and outcome", one.attempts.clone());
        registry.register("delivery_attempt_duration_seconds", "How long attempts took", one.seconds.clone());
        registry.register("delivery_in_flight", "Attempts under way", one.in_flight.clone());
        registry.register("delivery_claims", "Claims, by result: work, empty, failed", one.claims.clone());
        registry.register("delivery_reports", "Calls that report outcomes, by result", one.reports.clone());
        registry.register(
            "delivery_outcomes_lost",
            "Outcomes that could not be reported; their leases end them",
            one.lost.clone(),
        );
        registry.register(
            "delivery_files_missing",
            "Referenced keys that are missing or unusable",
            one.files_missing.clone(),
        );
        registry.register(
            "delivery_report_delay_seconds",
            "Age of the oldest outcome of the last report",
            one.oldest_report.clone(),
        );
        metrics
    }
}
