//! From polls to folds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alerting::record::{Header, RawRecord};

use super::{Held, MAX_HELD, Reader, now_ms};
use crate::consume::books::{Key, Open};
use crate::consume::plan::Compiled;
use crate::kafka::{Letter, Polled, Record};

/// An idle poll waits this long, and one while an answer is awaited this long.
const POLL: Duration = Duration::from_millis(50);
const POLL_SOON: Duration = Duration::from_millis(5);
/// Records are taken for at most this long, or this many, before anything else is looked at.
const ROUND: Duration = Duration::from_millis(20);
const ROUND_RECORDS: u32 = 4096;

/// What became of the records of a round.
#[derive(Default)]
struct Round {
    read: u64,
    matched: u64,
    urgent: bool,
    letters: bool,
}

impl Reader {
    /// Polls once, and goes on while records are there.
    pub(super) fn read(&mut self) -> anyhow::Result<()> {
        let soon = self.books.in_flight() || self.asking || self.due.since.is_some();
        let mut timeout = if soon { POLL_SOON } else { POLL };
        let mut round = Round::default();
        // The partition of the record before: many of one come in a row.
        let mut current: Option<(Key, Option<&mut Open<Held>>)> = None;
        let mut begun: Option<Instant> = None;
        let mut now = 0;
        let mut made_again = BTreeMap::new();
        loop {
            match self.consumer.poll(timeout) {
                Polled::Nothing | Polled::Event => break,
                Polled::Record(record) => {
                    // Time passes while a poll waits.
                    let start = *begun.get_or_insert_with(|| {
                        now = now_ms();
                        Instant::now()
                    });
                    if let Some(plan) = &self.plan {
                        let (topic, partition) = (record.topic(), record.partition());
                        let is_same =
                            |(key, _): &(Key, _)| key.partition == partition && *key.topic == *topic;
                        if !current.as_ref().is_some_and(is_same) {
                            let key = Key { topic: Arc::from(topic), partition };
                            let open = self.books.reading(&key);
                            current = Some((key, open));
                        }
                        let time = record.timestamp().unwrap_or(now);
                        if time > now {
                            now = now_ms();
                        }
                        let open = current.as_mut().and_then(|(_, open)| open.as_deref_mut());
                        if let Some((held, progress)) = open.and_then(|open| open.admit(record.offset())) {
                            let time = fold(plan, held, (&record, topic), (time, now), &mut round);
                            *progress = (*progress).max(time);
                        }
                    }
                    let full = round.letters && {
                        current = None;
                        self.weight_now() >= MAX_HELD
                    };
                    if full
                        || round.read >= u64::from(ROUND_RECORDS)
                        || (round.read % 64 == 0 && start.elapsed() > ROUND)
                    {
                        break;
                    }
                }
                Polled::End(topic, partition, offset) => {
                    current = None;
                    self.books.reached(&Key { topic: Arc::from(topic), partition }, offset);
                }
                Polled::OutOfRange => self.lost_place = true,
                Polled::MadeAgain(topic, id) => {
                    made_again.insert(topic, id);
                    break;
                }
                Polled::NotInGroup => self.standing.group(false),
                Polled::Failed(why) => tracing::debug!(why, "poll"),
                Polled::Dead(why) => anyhow::bail!("the Kafka client can't go on: {why}"),
            }
            timeout = Duration::ZERO;
        }
        if round.read > 0 {
            self.metrics.read.inc_by(round.read);
            self.metrics.matched.inc_by(round.matched);
            self.due.since.get_or_insert_with(Instant::now);
            self.due.urgent |= round.urgent;
            if round.matched > 0 {
                self.due.matched = true;
                self.stirred_ms = now_ms();
            }
            self.weigh();
        }
        self.topics(&made_again);
        Ok(())
    }

    fn weight_now(&self) -> usize {
        self.books.held().map(Held::weight).sum()
    }

    /// Weighs what is held anew.
    pub(super) fn weigh(&mut self) {
        self.due.weight = self.weight_now();
        self.metrics.held_bytes.set(self.due.weight as i64);
    }
}

/// Folds a record of the topic whose timestamp, and the clock, are given; where the broker gave none, it is the clock.
/// Returns its event time, by which its partition's may move on.
fn fold(
    plan: &Compiled,
    held: &mut Held,
    (record, topic): (&Record, &str),
    (timestamp_ms, clock_ms): (i64, i64),
    round: &mut Round,
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
    let folded = plan.engine.add(&mut held.fold, &raw);
    held.since_ms = held.since_ms.or(folded.time_ms);
    round.matched += folded.matched as u64;
    round.urgent |= folded.matched > 0 && plan.urgent.contains(topic);
    if let Some(error) = folded.undecodable {
        // A topic that only suspended rules read has none: their records are passed over.
        let to = plan.dead_letter_topics.get(topic);
        let to = to.filter(|_| !Letter::is_one(topic, &headers)).into_iter().flatten();
        let letter = Letter {
            to: to.cloned().collect(),
            topic: topic.to_owned(),
            partition: record.partition(),
            offset: record.offset(),
            timestamp: record.timestamp(),
            reason: error.to_string(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().unwrap_or_default().to_vec(),
        };
        held.letter_bytes += letter.value.len() + letter.key.as_ref().map_or(0, Vec::len) + 256;
        held.letters.push(letter);
        round.letters = true;
    }
    folded.time_ms
}
