//! `belfry rule backtest`: runs the engine over old records of the rules' topics.
//!
//! Partitions are assigned, not subscribed to, and no offset is committed, so no consumer group is created. No message is sent, and
//! records that come after the start are not read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use alerting::record::{Header, RawRecord, clock_ms};
use anyhow::{Context as _, bail};
use domain::{Millis, PlanBody};
use jiff::Timestamp;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message as _, Timestamp as KafkaTimestamp};
use rdkafka::{Offset, TopicPartitionList};

use super::RuleRun;
use crate::{Output, manifests, terminal};

/// How long the brokers may take to answer.
const BROKER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long to wait for the next record before giving up.
const POLL_TIMEOUT: Duration = Duration::from_mins(1);
/// Alerts are decided each time that this many records were read.
const RECORDS_PER_DECISION: u64 = 50_000;

#[derive(clap::Args)]
pub(crate) struct Flags {
    /// The manifest of the rule, or of several that read the same brokers. Other kinds in it are passed over.
    #[arg(short, long)]
    filename: PathBuf,
    /// Begins this long ago, such as 24h.
    #[arg(long, default_value = "24h", value_parser = Millis::parse)]
    since: Millis,
    /// Begins at this offset in every partition instead, or at the first that is kept.
    #[arg(long, conflicts_with = "since", value_parser = clap::value_parser!(i64).range(0..))]
    from_offset: Option<i64>,
    /// The brokers, host:port each, if they are reached under other names than the rule's.
    #[arg(long, value_delimiter = ',')]
    brokers: Vec<String>,
    /// Any of librdkafka's properties, such as security.protocol=SASL_SSL.
    #[arg(short = 'X', value_name = "PROPERTY=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
    /// How notifications are written: text, with a summary; or JSON, one object a line.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

fn property(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "write PROPERTY=VALUE".to_owned())
}

/// Each partition's next offset, and its end when the run began.
type OffsetRanges = BTreeMap<(String, i32), (i64, i64)>;

/// Runs the backtest; always returns true.
pub(crate) fn run(flags: &Flags, now: Timestamp) -> anyhow::Result<bool> {
    let manifests = manifests::read_all(std::slice::from_ref(&flags.filename))?;
    let mut run = RuleRun::new(manifests::rules(&manifests, now)?)?;
    let consumer = consumer(flags, &run)?;
    let from = now.as_millisecond() - flags.since.0;
    let mut ranges = offset_ranges(&consumer, &topics(&run), flags.from_offset.ok_or(from))?;
    let mut assignment = TopicPartitionList::new();
    for ((topic, partition), (next, _)) in &ranges {
        run.replay.add_partition(topic, *partition);
        assignment.add_partition_offset(topic, *partition, Offset::Offset(*next))?;
    }
    consumer.assign(&assignment)?;
    let text = flags.output == Output::Text;
    read_partitions(&consumer, &mut run, &mut ranges, now, &|run| print_notices(&run.decide(), text))?;
    print_notices(&run.finish(Some(now.as_millisecond())), text);
    for line in run.record_counts() {
        if text { terminal::line(line) } else { terminal::note(line) }
    }
    Ok(true)
}

fn print_notices(notices: &[super::Notice], text: bool) {
    for notice in notices {
        if text { notice.lines().iter().for_each(terminal::line) } else { terminal::json(notice) }
    }
}

fn topics(run: &RuleRun) -> BTreeSet<String> {
    let rules = run.rules().filter_map(|(_, plan)| super::rule_plan(plan));
    rules.flat_map(|rule| rule.topics.iter().cloned()).collect()
}

fn consumer(flags: &Flags, run: &RuleRun) -> anyhow::Result<BaseConsumer> {
    let mut sources: Vec<&Vec<String>> = run
        .rules()
        .filter_map(|(_, plan)| match &plan.body {
            PlanBody::AlertRule(rule) => Some(&rule.source.bootstrap_servers),
            _ => None,
        })
        .collect();
    sources.dedup();
    let brokers = match (flags.brokers.as_slice(), sources.as_slice()) {
        ([], [one]) => one.join(","),
        ([], all) => {
            bail!("the rules read from {} Kafka clusters: run one at a time, or give --brokers", all.len())
        }
        (brokers, _) => brokers.join(","),
    };
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        // librdkafka assigns nothing without a name; the group never comes into being, since nobody joins or commits.
        .set("group.id", "belfry-backtest")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.message.max.bytes", "16777216");
    for (name, value) in &flags.properties {
        config.set(name, value);
    }
    config.create().context("no Kafka client can be made")
}

/// Each partition's first and end offset. `from`: the offset to begin at, or (`Err`) the time in Unix ms.
fn offset_ranges(
    consumer: &BaseConsumer,
    topics: &BTreeSet<String>,
    from: Result<i64, i64>,
) -> anyhow::Result<OffsetRanges> {
    let mut ranges = OffsetRanges::new();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), BROKER_TIMEOUT).context("no broker answers")?;
        let partitions = metadata.topics().first().map(rdkafka::metadata::MetadataTopic::partitions);
        let partitions = partitions.filter(|partitions| !partitions.is_empty());
        for partition in partitions.with_context(|| format!("there is no topic {topic:?}"))? {
            let bounds = consumer.fetch_watermarks(topic, partition.id(), BROKER_TIMEOUT);
            ranges.insert((topic.clone(), partition.id()), bounds.with_context(|| topic.clone())?);
        }
    }
    let mut begin = BTreeMap::new();
    if let Err(time) = from {
        let mut wanted = TopicPartitionList::new();
        for (topic, partition) in ranges.keys() {
            wanted.add_partition_offset(topic, *partition, Offset::Offset(time))?;
        }
        let found = consumer.offsets_for_times(wanted, BROKER_TIMEOUT).context("offsets of a time")?;
        for place in found.elements() {
            if let Offset::Offset(offset) = place.offset() {
                begin.insert((place.topic().to_owned(), place.partition()), offset);
            }
        }
    }
    for (place, (first, last)) in &mut ranges {
        *first = match from {
            Ok(offset) => offset.clamp(*first, *last),
            // No record is at or after that time.
            Err(_) => begin.get(place).copied().unwrap_or(*last),
        };
    }
    Ok(ranges)
}

/// Reads all partitions to their ends.
fn read_partitions(
    consumer: &BaseConsumer,
    run: &mut RuleRun,
    ranges: &mut OffsetRanges,
    now: Timestamp,
    decide: &dyn Fn(&mut RuleRun),
) -> anyhow::Result<()> {
    let all: i64 = ranges.values().map(|(next, end)| end - next).sum();
    let mut progress = ReadProgress::new(all);
    let mut left = ranges.clone();
    left.retain(|(topic, partition), (next, end)| {
        let open = next < end;
        if !open {
            run.replay.advance_partition(topic, *partition, now.as_millisecond());
        }
        open
    });
    while !left.is_empty() {
        let record = match consumer.poll(POLL_TIMEOUT) {
            Some(Ok(record)) => record,
            // After the last record there may only be markers of transactions. The event doesn't name the topic of its
            // partition.
            Some(Err(KafkaError::PartitionEOF(number))) => {
                let ended: Vec<_> =
                    left.keys().filter(|(_, partition)| *partition == number).cloned().collect();
                if let [partition] = ended.as_slice() {
                    left.remove(partition);
                    run.replay.advance_partition(&partition.0, partition.1, now.as_millisecond());
                }
                continue;
            }
            Some(Err(error)) => return Err(error).context("reading"),
            None => {
                terminal::note(format_args!(
                    "nothing more came for {POLL_TIMEOUT:?}; {} partitions may not be at their end",
                    left.len()
                ));
                break;
            }
        };
        let partition = (record.topic().to_owned(), record.partition());
        let Some((next, end)) = left.get_mut(&partition) else { continue };
        if record.offset() < *end {
            let appended = match record.timestamp() {
                KafkaTimestamp::LogAppendTime(at) => Some(at),
                _ => None,
            };
            run.push_record(&raw_record(&record, &headers(&record), now.as_millisecond()), appended);
        }
        progress.read += record.offset() + 1 - *next;
        *next = record.offset() + 1;
        if *next >= *end {
            left.remove(&partition);
            run.replay.advance_partition(&partition.0, partition.1, now.as_millisecond());
        }
        if run.read.is_multiple_of(RECORDS_PER_DECISION) {
            decide(run);
        }
        progress.report_each_second();
    }
    progress.finish();
    Ok(())
}

fn headers<'r>(record: &'r rdkafka::message::BorrowedMessage<'_>) -> Vec<Header<'r>> {
    record.headers().into_iter().flat_map(|all| all.iter()).map(|header| (header.key, header.value)).collect()
}

fn raw_record<'r>(
    record: &'r rdkafka::message::BorrowedMessage<'_>,
    headers: &'r [Header<'r>],
    now_ms: i64,
) -> RawRecord<'r> {
    let timestamp_ms = record.timestamp().to_millis().unwrap_or(now_ms);
    let is_brokers = matches!(record.timestamp(), KafkaTimestamp::LogAppendTime(_));
    RawRecord {
        topic: record.topic(),
        partition: record.partition(),
        offset: record.offset(),
        timestamp_ms,
        clock_ms: clock_ms(timestamp_ms, is_brokers, now_ms),
        key: record.key(),
        value: record.payload(),
        headers,
    }
}

/// Reports the progress of the run on standard error.
struct ReadProgress {
    all: i64,
    read: i64,
    begun: Instant,
    told: Instant,
}

impl ReadProgress {
    fn new(all: i64) -> Self {
        let now = Instant::now();
        Self { all, read: 0, begun: now, told: now }
    }

    fn report_each_second(&mut self) {
        if self.told.elapsed() >= Duration::from_secs(1) {
            self.told = Instant::now();
            self.report();
        }
    }

    fn report(&self) {
        let seconds = self.begun.elapsed().as_secs_f64().max(0.001);
        let rate = self.read as f64 / seconds;
        let left = (self.all - self.read).max(0) as f64 / rate.max(1.0);
        let share = 100.0 * self.read as f64 / (self.all as f64).max(1.0);
        terminal::note(format_args!(
            "{share:.0} % of {} offsets, {rate:.0} a second, {left:.0} s left",
            self.all
        ));
    }

    fn finish(&self) {
        self.report();
    }
}
