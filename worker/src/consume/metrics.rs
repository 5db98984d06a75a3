//! The consumer's metrics. Labels come from closed sets.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::health::Health;

/// Label of what was not counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByReason {
    /// From a closed set.
    pub reason: &'static str,
}

/// Label of what ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByResult {
    /// From a closed set.
    pub result: &'static str,
}

/// The consumer's metrics. Cheap to clone.
#[derive(Clone)]
pub struct ConsumerMetrics {
    /// Records read.
    pub read: Counter<u64, AtomicU64>,
    /// Matches: (record, rule).
    pub matched: Counter<u64, AtomicU64>,
    /// Records not counted.
    pub rejected: Family<ByReason, Counter>,
    /// Dead letters, by where they went.
    pub dead_letters: Family<ByResult, Counter>,
    /// Entries of commits, by answer.
    pub entries: Family<ByResult, Counter>,
    /// Calls of commits, by result.
    pub commits: Family<ByResult, Counter>,
    /// Seconds from taking the folds to the hub's answer.
    pub commit_seconds: Histogram,
    /// Records not yet read.
    pub lag: Gauge<i64, AtomicI64>,
    /// Partitions read.
    pub owned: Gauge<i64, AtomicI64>,
    /// About how many bytes the folds hold.
    pub held_bytes: Gauge<i64, AtomicI64>,
    /// Seconds by which the slowest partition's event time is behind the clock.
    pub progress_age: Gauge<f64, AtomicU64>,
    /// Rebalances of the consumer group.
    pub rebalances: Counter<u64, AtomicU64>,
}

impl ConsumerMetrics {
    /// Creates and registers them.
    pub fn new(health: &Health) -> Self {
        let metrics = Self {
            read: Counter::default(),
            matched: Counter::default(),
            rejected: Family::default(),
            dead_letters: Family::default(),
            entries: Family::default(),
            commits: Family::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            lag: Gauge::default(),
            owned: Gauge::default(),
            held_bytes: Gauge::default(),
            progress_age: Gauge::default(),
            rebalances: Counter::default(),
        };
        let m = metrics.clone();
        health.register(|registry| {
            registry.register("records_read", "Records read", m.read);
            registry.register("records_matched", "Matches, one for each record and rule", m.matched);
            registry.register("records_rejected", "Records not counted, by reason", m.rejected);
            registry.register("dead_letters", "Dead letters, by where they went", m.dead_letters);
            registry.register("commit_entries", "Partition entries of commits, by answer", m.entries);
            registry.register("commits", "Calls of commits, by result", m.commits);
            let help = "From taking the folds to the answer";
            registry.register("commit_duration_seconds", help, m.commit_seconds);
            registry.register("lag_records", "Records not yet read", m.lag);
            registry.register("partitions_owned", "Partitions read", m.owned);
            registry.register("held_bytes", "About what the folds hold", m.held_bytes);
            registry.register("event_time_age_seconds", "How far event time is behind", m.progress_age);
            registry.register("rebalances", "Times that partitions were shared out anew", m.rebalances);
        });
        metrics
    }
}
