//! The hub's metrics, with the prefix `belfry_hub_`. Labels have closed sets of values: routes, statuses, channel
//! types, outcomes, reasons. No label is a name or a uid, except the namespace in one metric, and that only while
//! there are no more namespaces than a setting allows.

use std::fmt::Error;
use std::sync::{Arc, Mutex, PoisonError};

use domain::DropReason;
use jiff::Timestamp;
use ledger::{Totals, WriterMetrics};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use protocol::messages::ClockCounts;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) method: &'static str,
    pub(crate) route: String,
    pub(crate) status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct AttemptLabels {
    pub(crate) channel_type: &'static str,
    pub(crate) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ChannelTypeLabel {
    pub(crate) channel_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    pub(crate) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ResultLabel {
    pub(crate) result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct KindLabel {
    pub(crate) kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct LoopLabel {
    pub(crate) task: &'static str,
}

#[derive(Clone)]
pub(crate) struct Seconds(&'static [f64]);

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

const ATTEMPT_SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const LEDGER_SECONDS: &[f64] = &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// All of the hub's own metrics, and the latest figures of the ledger.
pub(crate) struct Metrics {
    pub(crate) requests: Family<RequestLabels, Counter>,
    pub(crate) auth: Family<ResultLabel, Counter>,
    pub(crate) attempts: Family<AttemptLabels, Counter>,
    pub(crate) attempt_seconds: Family<ChannelTypeLabel, Histogram, Seconds>,
    pub(crate) call_seconds: Family<KindLabel, Histogram, Seconds>,
    pub(crate) records_read: Counter,
    pub(crate) records_matched: Counter,
    pub(crate) records_dropped: Family<ReasonLabel, Counter>,
    pub(crate) dead_lettered: Counter,
    pub(crate) entries_refused: Counter,
    pub(crate) decisions: Family<KindLabel, Counter>,
    reminders: Family<ResultLabel, Counter>,
    clock: Family<KindLabel, Counter>,
    pub(crate) fallback_texts: Counter,
    pub(crate) statuses: Counter,
    pub(crate) feed_version: Gauge,
    pub(crate) reports: Counter,
    pub(crate) instances: Gauge,
    pub(crate) storage_errors: Family<ReasonLabel, Counter>,
    pub(crate) wakeups: Family<ResultLabel, Counter>,
    pub(crate) read_errors: Family<ReasonLabel, Counter>,
    pub(crate) reviews: Family<KindLabel, Counter>,
    pub(crate) loop_failures: Family<LoopLabel, Counter>,
    pub(crate) pruned: Counter,
    pub(crate) pruned_letters: Counter,
    pub(crate) database_bytes: Gauge,
    pub(crate) volume_bytes: Gauge,
    pub(crate) volume_free_bytes: Gauge,
    ledger: Arc<LedgerCollector>,
    registry: Registry,
}

impl Metrics {
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self::with_namespaces(100)
    }

    /// Also counts by namespace while no more than `namespaces` of them have channels.
    pub(crate) fn with_namespaces(namespaces: usize) -> Self {
        let mut registry = Registry::with_prefix("belfry_hub");
        let ledger = Arc::new(LedgerCollector::new(namespaces));
        let metrics = Self {
            requests: Family::default(),
            auth: Family::default(),
            attempts: Family::default(),
            attempt_seconds: Family::new_with_constructor(Seconds(ATTEMPT_SECONDS)),
            call_seconds: Family::new_with_constructor(Seconds(LEDGER_SECONDS)),
            records_read: Counter::default(),
            records_matched: Counter::default(),
            records_dropped: Family::default(),
            dead_lettered: Counter::default(),
            entries_refused: Counter::default(),
            decisions: Family::default(),
            reminders: Family::default(),
            clock: Family::default(),
            fallback_texts: Counter::default(),
            statuses: Counter::default(),
            feed_version: Gauge::default(),
            reports: Counter::default(),
            instances: Gauge::default(),
            storage_errors: Family::default(),
            wakeups: Family::default(),
            read_errors: Family::default(),
            reviews: Family::default(),
            loop_failures: Family::default(),
            pruned: Counter::default(),
            pruned_letters: Counter::default(),
            database_bytes: Gauge::default(),
            volume_bytes: Gauge::default(),
            volume_free_bytes: Gauge::default(),
            ledger: ledger.clone(),
            registry: Registry::default(),
        };
        metrics.register(&mut registry);
        registry.register_collector(Box::new(ledger));
        metrics.begin();
        Self { registry, ..metrics }
    }

    /// Creates counters at 0: an alert sees a rise only if there was a value before.
    fn begin(&self) {
        for reason in STORAGE {
            self.storage_errors.get_or_create(&ReasonLabel { reason }).inc_by(0);
        }
        for reason in STORAGE.into_iter().chain(["Busy", "Timeout"]) {
            self.read_errors.get_or_create(&ReasonLabel { reason }).inc_by(0);
        }
        for channel_type in ["Slack", "Email", "Webhook", "Kafka"] {
            for outcome in ["Delivered", "Later", "Refused", "Unknown"] {
                self.attempts.get_or_create(&AttemptLabels { channel_type, outcome }).inc_by(0);
            }
        }
    }

    fn register(&self, to: &mut Registry) {
        to.register("requests", "API requests, by route and status", self.requests.clone());
        to.register("auth", "Questions of who may do what, by result", self.auth.clone());
        to.register("attempts", "Attempts to deliver, by channel type and outcome", self.attempts.clone());
        let help = "From handing out an attempt to its outcome";
        to.register("attempt_duration_seconds", help, self.attempt_seconds.clone());
        let help = "How long the ledger took, by kind of call";
        to.register("ledger_call_duration_seconds", help, self.call_seconds.clone());
        to.register("records_read", "Records passed over by accepted entries", self.records_read.clone());
        to.register("records_matched", "Records that a rule matched", self.records_matched.clone());
        to.register("records_dropped", "Records not counted, by reason", self.records_dropped.clone());
        let help = "Records that the ledger kept because the dead-letter topic did not take them";
        to.register("records_dead_lettered", help, self.dead_lettered.clone());
        let help = "Entries of commits refused because another consumer has the partition";
        to.register("commit_entries_refused", help, self.entries_refused.clone());
        let help = "Decisions of rules, by kind; those whose transaction was tried anew count again";
        to.register("rule_decisions", help, self.decisions.clone());
        let help = "Texts that could not be rendered and were replaced by a named fallback";
        to.register("fallback_texts", help, self.fallback_texts.clone());
        to.register("reminders", "Reminders that fell due, by what became of them", self.reminders.clone());
        let help =
            "Occurrences of schedules that a change of the clocks shifted, left out (skipped) or doubled";
        to.register("clock_changed_occurrences", help, self.clock.clone());
        to.register("feed_statuses", "Statuses published to the feed", self.statuses.clone());
        to.register("feed_version", "The feed's newest version that was read", self.feed_version.clone());
        to.register("reports", "Reports of workers", self.reports.clone());
        to.register("worker_instances", "Workers heard of within a minute", self.instances.clone());
        to.register("wakeups", "Messages between hubs through Redis, by result", self.wakeups.clone());
        to.register("storage_errors", "Failures of the database, by reason", self.storage_errors.clone());
        let help = "Reads that failed, by reason; each is its reader's alone";
        to.register("read_errors", help, self.read_errors.clone());
        let help = "Questions asked of the API server, by kind: token, access";
        to.register("reviews", help, self.reviews.clone());
        to.register("loop_failures", "Failed runs of a background loop", self.loop_failures.clone());
        let help = "Notifications removed for their age or their namespace's quota";
        to.register("pruned_notifications", help, self.pruned.clone());
        let help = "Dead letters removed for their age or, by the background loop, their namespace's quota";
        to.register("pruned_dead_letters", help, self.pruned_letters.clone());
        to.register("database_bytes", "Size of the database and its log", self.database_bytes.clone());
        to.register("volume_bytes", "Size of the database's volume", self.volume_bytes.clone());
        let help = "What is free on the database's volume";
        to.register("volume_free_bytes", help, self.volume_free_bytes.clone());
    }

    /// Counts reminders that were settled.
    pub(crate) fn reminded(&self, recorded: u64, skipped: i64, clock: ClockCounts) {
        for (result, count) in [("recorded", recorded), ("skipped", unsigned(skipped))] {
            self.reminders.get_or_create(&ResultLabel { result }).inc_by(count);
        }
        let ClockCounts { shifted, skipped, doubled } = clock;
        for (kind, count) in [("shifted", shifted), ("skipped", skipped), ("doubled", doubled)] {
            self.clock.get_or_create(&KindLabel { kind }).inc_by(unsigned(count));
        }
    }

    /// Stores the ledger's latest figures for the next scrapes. Without `counts` the earlier ones stay.
    pub(crate) fn set_ledger(&self, writer: WriterMetrics, counts: Option<Totals>, now: Timestamp) {
        let mut seen = self.ledger.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = counts.unwrap_or_else(|| std::mem::take(&mut seen.counts));
        *seen = Seen { writer, counts, now };
    }

    /// All metrics in the OpenMetrics text format.
    pub(crate) fn text(&self) -> Result<String, Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Reasons of failures of the database.
pub(crate) const STORAGE: [&str; 3] = ["StorageFull", "Corrupt", "Storage"];

#[derive(Debug)]
struct Seen {
    writer: WriterMetrics,
    counts: Totals,
    now: Timestamp,
}

/// Encodes the ledger's own figures.
#[derive(Debug)]
struct LedgerCollector {
    seen: Mutex<Seen>,
    /// With more namespaces than this, none is counted by itself.
    namespaces: usize,
}

impl LedgerCollector {
    fn new(namespaces: usize) -> Self {
        let seen =
            Seen { writer: WriterMetrics::default(), counts: Totals::default(), now: Timestamp::UNIX_EPOCH };
        Self { seen: Mutex::new(seen), namespaces }
    }
}

/// Writes the metrics of one descriptor encoder.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> Result<(), Error> {
        let metric = ConstCounter::new(value);
        metric.encode(self.0.encode_descriptor(name, help, None, metric.metric_type())?)
    }

    fn gauge(&mut self, name: &str, help: &str, value: i64) -> Result<(), Error> {
        let metric = ConstGauge::new(value);
        metric.encode(self.0.encode_descriptor(name, help, None, metric.metric_type())?)
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (L, i64)>,
    ) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Collector for LedgerCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (writer, counts) = (&seen.writer, &seen.counts);
        let mut to = Writer(encoder);
        to.counter("commits", "Transactions committed", writer.commits)?;
        to.counter("commands", "Commands done; by commits: commands per commit", writer.commands)?;
        to.counter("commands_failed", "Commands that failed", writer.failed)?;
        to.counter("notifications", "Notifications made", writer.notifications)?;
        to.counter("deliveries_made", "Deliveries made", writer.deliveries)?;
        to.counter("attempts_claimed", "Attempts handed out", writer.claimed)?;
        to.counter("outcomes", "Outcomes recorded", writer.outcomes)?;
        let help = "Dead letters that went because their namespace held deadLetterBytes";
        to.counter("dead_letters_dropped", help, writer.letters_dropped)?;
        let help = "Finished notifications that went because their namespace held finishedBytes";
        to.counter("history_dropped", help, writer.history_dropped)?;
        let seconds = ConstCounter::new(writer.seconds);
        let help = "Time spent in transactions, commit included";
        seconds.encode(to.0.encode_descriptor(
            "commit_duration_seconds",
            help,
            None,
            seconds.metric_type(),
        )?)?;
        let by_state = counts
            .deliveries
            .iter()
            .map(|((kind, state), n)| ([("channel_type", *kind), ("state", *state)], *n));
        to.gauges("deliveries", "Deliveries, by channel type and state", by_state)?;
        to.gauge("namespaces", "Namespaces that have channels", len(counts.by_namespace.len()))?;
        if counts.by_namespace.len() <= self.namespaces {
            let by_namespace = counts.by_namespace.iter().flat_map(|(namespace, (delivered, dead))| {
                let of = |state, n: &i64| ([("namespace", namespace.as_str()), ("state", state)], *n);
                [of("delivered", delivered), of("dead", dead)]
            });
            let help = "Deliveries of each namespace, delivered ever and dead now; left out over the bound of namespaces";
            to.gauges("namespace_deliveries", help, by_namespace)?;
        }
        let of = |wanted: &str| -> i64 {
            counts.deliveries.iter().filter(|((_, state), _)| *state == wanted).map(|(_, n)| n).sum()
        };
        let help = "Deliveries that wait for an attempt";
        to.gauge("pending_deliveries", help, of("pending") + of("retrying"))?;
        to.gauge("dead_deliveries", "Deliveries given up and not sent again since", of("dead"))?;
        let help = "Deliveries that wait for a channel that does not exist";
        to.gauge("waiting_deliveries", help, counts.waiting)?;
        let age =
            counts.oldest_pending.map_or(0, |oldest| (seen.now.as_second() - oldest.as_second()).max(0));
        to.gauge("oldest_pending_age_seconds", "Age of the oldest pending delivery", age)?;
        to.gauge("consumer_lag_records", "Records not read yet, as last seen", counts.lag)?;
        to.gauge("groups", "Groups held, over all rules", counts.groups)?;
        to.gauge("firing_groups", "Groups that are firing", counts.firing)?;
        to.counter(
            "records_late",
            "Matched records that came after their bucket was decided",
            unsigned(counts.late),
        )?;
        for (name, help, reason) in [
            (
                "groups_evicted",
                "Quiet groups forgotten because their rule held maxGroups",
                DropReason::GroupsEvicted,
            ),
            (
                "records_without_room",
                "Records of new groups where all of maxGroups were firing",
                DropReason::GroupsFull,
            ),
            (
                "records_without_bytes",
                "Records not counted because their namespace's groups, or their group, take too many bytes",
                DropReason::StateFull,
            ),
        ] {
            let count = counts.unmatched.get(&reason).copied().unwrap_or(0);
            to.counter(name, help, unsigned(count))?;
        }
        let kinds = |numbers: &std::collections::BTreeMap<&'static str, i64>| {
            numbers.iter().map(|(kind, n)| ([("kind", *kind)], *n)).collect::<Vec<_>>()
        };
        let help = "Bytes counted against quotas, over all namespaces, by kind";
        to.gauges("usage_bytes", help, kinds(&counts.usage).into_iter())?;
        let help = "Bytes counted against quotas that the largest namespace has, by kind";
        to.gauges("usage_most_bytes", help, kinds(&counts.most).into_iter())?;
        let objects = counts.objects.iter().map(|(kind, n)| ([("kind", *kind)], *n));
        to.gauges("objects", "Objects held, by kind", objects)
    }
}

fn len(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// Seconds since `start`, for a histogram.
pub(crate) fn seconds_since(start: std::time::Instant) -> f64 {
    start.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_the_prefix_and_reasons_stay_bounded() {
        let metrics = Metrics::new();
        for reason in DropReason::ALL {
            metrics.records_dropped.get_or_create(&ReasonLabel { reason: reason.name() }).inc();
        }
        metrics.set_ledger(
            WriterMetrics { commits: 3, ..WriterMetrics::default() },
            None,
            Timestamp::UNIX_EPOCH,
        );
        let text = metrics.text().expect("text");
        assert!(text.contains("belfry_hub_commits_total 3"), "{text}");
        for reason in ["Other", "TimeMissing", "Tombstone"] {
            let line = format!("belfry_hub_records_dropped_total{{reason=\"{reason}\"}} 1");
            assert!(text.contains(&line), "{text}");
        }
        let named = text.lines().filter(|line| !line.starts_with('#'));
        for line in named {
            assert!(line.starts_with("belfry_hub_"), "{line}");
        }
    }

    #[test]
    fn what_an_alert_is_made_on_begins_at_zero() {
        let text = Metrics::new().text().expect("text");
        for line in [
            "belfry_hub_storage_errors_total{reason=\"StorageFull\"} 0\n",
            "belfry_hub_storage_errors_total{reason=\"Corrupt\"} 0\n",
            "belfry_hub_storage_errors_total{reason=\"Storage\"} 0\n",
            "belfry_hub_read_errors_total{reason=\"Timeout\"} 0\n",
            "belfry_hub_attempts_total{channel_type=\"Kafka\",outcome=\"Delivered\"} 0\n",
            "belfry_hub_fallback_texts_total 0\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }

    #[test]
    fn deliveries_are_counted_by_namespace_while_these_are_few() {
        let text = |namespaces: &[&str]| {
            let metrics = Metrics::with_namespaces(2);
            let by_namespace = namespaces.iter().map(|name| ((*name).to_owned(), (7, 2))).collect();
            let counts = Totals { by_namespace, ..Totals::default() };
            metrics.set_ledger(WriterMetrics::default(), Some(counts), Timestamp::UNIX_EPOCH);
            metrics.text().expect("text")
        };
        let few = text(&["orders", "payments"]);
        for line in [
            "belfry_hub_namespace_deliveries{namespace=\"orders\",state=\"delivered\"} 7\n",
            "belfry_hub_namespace_deliveries{namespace=\"payments\",state=\"dead\"} 2\n",
            "belfry_hub_namespaces 2\n",
        ] {
            assert!(few.contains(line), "{few}");
        }
        let many = text(&["a", "b", "c"]);
        assert!(
            many.contains("belfry_hub_namespaces 3\n") && !many.contains("namespace_deliveries"),
            "{many}"
        );
    }
}
