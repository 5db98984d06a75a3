//! Folds the records that the Kafka client fetches.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use alerting::record::{Header, RawRecord, clock_ms};

use super::{MAX_UNCOMMITTED, PartitionBuffer, SourceReader};
use crate::consume::events::now_ms;
use crate::consume::metrics::ByResult;
use crate::consume::offsets::{OffsetTracker, TrackedPartition};
use crate::consume::plan::CompiledPlan;
use crate::kafka::{ConsumerNotice, DeadLetterRecord, Fetched, FetchedRecord, GroupConsumer, MAX_HOPS};

/// How long a poll waits for records: when the reader is idle, and when it awaits an answer or has something uncommitted.
const POLL: Duration = Duration::from_millis(50);
const POLL_SOON: Duration = Duration::from_millis(5);
/// The reader takes records for at most this long, or this many, before it looks at anything else.
const ROUND: Duration = Duration::from_millis(20);
const ROUND_RECORDS: u64 = 4096;

/// Counts of what became of a round's records.
#[derive(Default)]
struct RoundTotals {
    read: u64,
    matched: u64,
    urgent: bool,
    dead_letters: bool,
    /// Records that can't be decoded and stay where they are.
    staying: u64,
    full: bool,
}

impl SourceReader {
    /// Folds the records that have come, for one round, and handles the client's notices.
    pub(super) fn read_records(&mut self) -> anyhow::Result<()> {
        let soon = self.tracker.in_flight() || self.awaiting_positions || self.due.since.is_some();
        let mut notices = self.consumer.notices();
        let wait = match notices.is_empty() {
            false => Duration::ZERO,
            true if soon => POLL_SOON,
            true => POLL,
        };
        let mut round = RoundTotals::default();
        let (mut begun, mut now, mut hint) = (None, 0, 0);
        let (consumer, tracker, plan) = (&self.consumer, &mut self.tracker, self.plan.as_ref());
        let forbidden_topics = &mut self.forbidden_topics;
        let items = self.max_items;
        consumer.take(wait, |fetched| {
            let begun = *begun.get_or_insert_with(|| {
                notices.extend(consumer.notices());
                // Read here, since time passes while the poll waits.
                now = now_ms();
                Instant::now()
            });
            match fetched {
                Fetched::Record(record) => {
                    let topic = record.topic();
                    if let (Some(plan), Some(open)) =
                        (plan, open_partition(tracker, &notices, topic, record.partition(), &mut hint))
                        && let Some((buffer, progress)) = open.mark_read(record.offset())
                    {
                        let (time, is_brokers) = record.stamp().unwrap_or((now, false));
                        let clock = clock_ms(time, is_brokers, now);
                        if let Some(at) = fold(plan, buffer, (&record, topic), (time, clock), &mut round) {
                            progress.record(at, is_brokers.then_some(time));
                        }
                        // An entry can't be split: it must not grow far beyond this.
                        round.full |= buffer.fold.items() >= items || buffer.weight() >= MAX_UNCOMMITTED;
                    }
                }
                Fetched::End(topic, partition, offset) => {
                    if let Some(open) = open_partition(tracker, &notices, topic, partition, &mut hint) {
                        open.advance_to(offset);
                    }
                }
                Fetched::Error(topic, code, why) => {
                    if GroupConsumer::forbids_topic(code) {
                        forbidden_topics.insert(topic.to_owned());
                    }
                    notices.push(consumer.notice_of(code, &why));
                }
            }
            let full = round.full || (round.dead_letters && weight(tracker) >= MAX_UNCOMMITTED);
            if full || round.read >= ROUND_RECORDS || (round.read % 64 == 0 && begun.elapsed() > ROUND) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        if round.read > 0 {
            self.metrics.read.inc_by(round.read);
            self.metrics.matched.inc_by(round.matched);
            if round.staying > 0 {
                self.metrics.dead_letters.get_or_create(&ByResult { result: "stays" }).inc_by(round.staying);
            }
            self.due.since.get_or_insert_with(Instant::now);
            self.due.urgent |= round.urgent;
            if round.matched > 0 {
                self.due.matched = true;
                self.last_activity_ms = now_ms();
            }
            self.update_weight();
        }
        self.handle_notices(notices)
    }

    fn handle_notices(&mut self, notices: Vec<ConsumerNotice>) -> anyhow::Result<()> {
        let mut recreated = BTreeMap::new();
        for it in notices {
            match it {
                ConsumerNotice::TopicRecreated(topic, id) => {
                    recreated.insert(topic, id);
                }
                ConsumerNotice::OffsetOutOfRange => self.offset_lost = true,
                ConsumerNotice::NotInGroup => self.status.set_group_allowed(false),
                ConsumerNotice::Failed(why) => tracing::debug!(why, "the Kafka client"),
                ConsumerNotice::Fatal(why) => anyhow::bail!("the Kafka client can't go on: {why}"),
            }
        }
        self.close_recreated_topics(&recreated);
        Ok(())
    }

    /// Recomputes the weight of everything uncommitted.
    pub(super) fn update_weight(&mut self) {
        self.due.weight = weight(&self.tracker);
        self.due.full = self.tracker.folds().any(|buffer| buffer.fold.items() >= self.max_items);
        self.metrics.held_bytes.set(self.due.weight as i64);
    }
}

/// The open partition that a record or end belongs to; for `hint` see [`OffsetTracker::partition_mut`]. `None` if
/// the topic was created again: what comes is of the new topic, and the old one is open.
fn open_partition<'b>(
    tracker: &'b mut OffsetTracker<PartitionBuffer>,
    notices: &[ConsumerNotice],
    topic: &str,
    partition: i32,
    hint: &mut usize,
) -> Option<&'b mut TrackedPartition<PartitionBuffer>> {
    let open = tracker.partition_mut(topic, partition, hint)?;
    (!notices.iter().any(|it| it.recreated(topic, open.topic_id()))).then_some(open)
}

fn weight(tracker: &OffsetTracker<PartitionBuffer>) -> usize {
    tracker.folds().map(PartitionBuffer::weight).sum()
}

/// Folds a record into `buffer`. `timestamp_ms` is its timestamp, or the reader's clock if it has none; `clock_ms` is the
/// clock that its event time is compared with. Returns its event time, by which the partition's progress may move on.
fn fold(
    plan: &CompiledPlan,
    buffer: &mut PartitionBuffer,
    (record, topic): (&FetchedRecord<'_>, &str),
    (timestamp_ms, clock_ms): (i64, i64),
    round: &mut RoundTotals,
) -> Option<i64> {
    let headers: Vec<Header<'_>> = record.headers();
    let raw = RawRecord {
        topic,
        partition: record.partition(),
        offset: record.offset(),
        timestamp_ms,
        clock_ms,
        key: record.key(),
        value: record.value(),
        headers: &headers,
    };
    round.read += 1;
    let folded = plan.engine.add(&mut buffer.fold, &raw);
    buffer.since_ms = buffer.since_ms.or(folded.time_ms);
    round.matched += folded.matched as u64;
    round.urgent |= folded.matched > 0 && plan.urgent.contains(topic);
    if let Some(error) = folded.undecodable {
        let hops = DeadLetterRecord::hops(&headers);
        // A topic that only suspended rules read has no dead-letter topic: its records are passed over.
        let Some(to) = plan.dead_letter_topics.get(topic).filter(|_| hops < MAX_HOPS) else {
            round.staying += 1;
            return folded.time_ms;
        };
        let letter = DeadLetterRecord {
            to: to.iter().cloned().collect(),
            hops,
            topic: topic.to_owned(),
            partition: record.partition(),
            offset: record.offset(),
            timestamp: record.timestamp(),
            reason: error.to_string(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().unwrap_or_default().to_vec(),
        };
        buffer.letter_bytes += letter.value.len() + letter.key.as_ref().map_or(0, Vec::len) + 256;
        buffer.dead_letters.push(letter);
        round.dead_letters = true;
    }
    folded.time_ms
}
