//! From what is fetched to folds.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use alerting::record::{Header, RawRecord, clock_ms};

use super::{Held, MAX_HELD, Reader};
use crate::consume::books::{Books, Open};
use crate::consume::events::now_ms;
use crate::consume::metrics::Outcome;
use crate::consume::plan::Compiled;
use crate::kafka::{Consumer, Fetched, Letter, MOST_HOPS, News, Record};

/// What is idle waits this long, and one while an answer is awaited this long.
const POLL: Duration = Duration::from_millis(50);
const POLL_SOON: Duration = Duration::from_millis(5);
/// Records are taken for at most this long, or this many, before anything else is looked at.
const ROUND: Duration = Duration::from_millis(20);
const ROUND_RECORDS: u64 = 4096;

/// What became of the records of a round.
#[derive(Default)]
struct Round {
    read: u64,
    matched: u64,
    urgent: bool,
    letters: bool,
    /// That can't be decoded and stay where they are.
    staying: u64,
    full: bool,
}

impl Reader {
    /// Takes what is there, and hears of what else happened.
    pub(super) fn read(&mut self) -> anyhow::Result<()> {
        let soon = self.books.in_flight() || self.asking || self.due.since.is_some();
        let mut news = self.consumer.news();
        let wait = match news.is_empty() {
            false => Duration::ZERO,
            true if soon => POLL_SOON,
            true => POLL,
        };
        let mut round = Round::default();
        let (mut begun, mut now, mut place) = (None, 0, 0);
        let (consumer, books, plan) = (&self.consumer, &mut self.books, self.plan.as_ref());
        let barred = &mut self.barred;
        let items = self.items;
        consumer.take(wait, |fetched| {
            let begun = *begun.get_or_insert_with(|| {
                news.extend(consumer.news());
                // Time passes while it waits.
                now = now_ms();
                Instant::now()
            });
            match fetched {
                Fetched::Record(record) => {
                    let topic = record.topic();
                    if let (Some(plan), Some(open)) =
                        (plan, open(books, &news, topic, record.partition(), &mut place))
                        && let Some((held, progress)) = open.admit(record.offset())
                    {
                        let (time, is_brokers) = record.stamp().unwrap_or((now, false));
                        let clock = clock_ms(time, is_brokers, now);
                        if let Some(at) = fold(plan, held, (&record, topic), (time, clock), &mut round) {
                            progress.record(at, is_brokers.then_some(time));
                        }
                        // An entry can't be cut: it must not grow far beyond this.
                        round.full |= held.fold.items() >= items || held.weight() >= MAX_HELD;
                    }
                }
                Fetched::End(topic, partition, offset) => {
                    if let Some(open) = open(books, &news, topic, partition, &mut place) {
                        open.reached(offset);
                    }
                }
                Fetched::Error(topic, code, why) => {
                    if Consumer::bars(code) {
                        barred.insert(topic.to_owned());
                    }
                    news.push(consumer.failed(code, &why));
                }
            }
            let full = round.full || (round.letters && weight(books) >= MAX_HELD);
            if full || round.read >= ROUND_RECORDS || (round.read % 64 == 0 && begun.elapsed() > ROUND) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        if round.read > 0 {
            self.metrics.read.inc_by(round.read);
            self.metrics.matched.inc_by(round.matched);
            if round.staying > 0 {
                self.metrics.letters.get_or_create(&Outcome { result: "stays" }).inc_by(round.staying);
            }
            self.due.since.get_or_insert_with(Instant::now);
            self.due.urgent |= round.urgent;
            if round.matched > 0 {
                self.due.matched = true;
                self.stirred_ms = now_ms();
            }
            self.weigh();
        }
        self.hear(news)
    }

    fn hear(&mut self, news: Vec<News>) -> anyhow::Result<()> {
        let mut made_again = BTreeMap::new();
        for it in news {
            match it {
                News::MadeAgain(topic, id) => {
                    made_again.insert(topic, id);
                }
                News::OutOfRange => self.lost_place = true,
                News::NotInGroup => self.standing.group(false),
                News::Failed(why) => tracing::debug!(why, "the Kafka client"),
                News::Dead(why) => anyhow::bail!("the Kafka client can't go on: {why}"),
            }
        }
        self.topics(&made_again);
        Ok(())
    }

    /// Weighs what is held anew.
    pub(super) fn weigh(&mut self) {
        self.due.weight = weight(&self.books);
        self.due.full = self.books.held().any(|held| held.fold.items() >= self.items);
        self.metrics.held_bytes.set(self.due.weight as i64);
    }
}

/// The partition that something came of; `place` is as [`Books::reading`] says. Of a topic that was made again there is
/// none: what comes is not of the one that is open.
fn open<'b>(
    books: &'b mut Books<Held>,
    news: &[News],
    topic: &str,
    partition: i32,
    place: &mut usize,
) -> Option<&'b mut Open<Held>> {
    let open = books.reading(topic, partition, place)?;
    (!news.iter().any(|it| it.made_again(topic, open.topic_id()))).then_some(open)
}

fn weight(books: &Books<Held>) -> usize {
    books.held().map(Held::weight).sum()
}

/// Folds a record of the topic whose timestamp is given (where the broker gave none, the reader's clock), and the clock that
/// its event time is held against. Returns its event time, by which its partition's may move on.
fn fold(
    plan: &Compiled,
    held: &mut Held,
    (record, topic): (&Record<'_>, &str),
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
        let hops = Letter::hops(&headers);
        // A topic that only suspended rules read has none: their records are passed over.
        let Some(to) = plan.dead_letter_topics.get(topic).filter(|_| hops < MOST_HOPS) else {
            round.staying += 1;
            return folded.time_ms;
        };
        let letter = Letter {
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
        held.letter_bytes += letter.value.len() + letter.key.as_ref().map_or(0, Vec::len) + 256;
        held.letters.push(letter);
        round.letters = true;
    }
    folded.time_ms
}
