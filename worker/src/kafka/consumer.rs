//! A member of the source's consumer group that reads from explicit offsets.
//!
//! The group only assigns partitions; where to read comes from the hub. Invariants: librdkafka reads a partition only from an
//! explicit offset, so it never fetches records that nobody asked for; offsets committed to the group are for lag tools and
//! are never read back.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::Isolation;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};

use super::native::{self, ClientEvent, EventQueue, Fetched, RecordQueue};
use super::{Broker, ClientMonitor, ClusterAccess};

/// Partitions as (topic, number).
pub type Partitions = Vec<(String, i32)>;

/// The group assigned partitions to us, or takes some back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebalance {
    /// These partitions are ours now.
    Assigned(Partitions),
    /// The group takes these partitions back; they are ours until [`GroupConsumer::release`].
    Revoked(Partitions),
}

/// What the client tells besides records.
pub enum ConsumerNotice {
    /// Topic and new id: it was deleted and created again, and records that come from here on are of the new topic.
    TopicRecreated(String, String),
    /// The broker no longer has the position that was read from: compare positions with the partitions' ends.
    OffsetOutOfRange,
    /// The broker does not let the user be in the group; librdkafka keeps trying.
    NotInGroup,
    /// Something failed; librdkafka tries again.
    Failed(String),
    /// The consumer can't go on.
    Fatal(String),
}

impl ConsumerNotice {
    /// Whether it says that `topic` now has another id than `id`.
    pub fn recreated(&self, topic: &str, id: &str) -> bool {
        matches!(self, Self::TopicRecreated(of, new) if *of == *topic && *new != *id)
    }
}

/// A member of a consumer group.
pub struct GroupConsumer {
    events: EventQueue,
    records: RecordQueue,
    inner: Arc<BaseConsumer<ClientMonitor>>,
    rebalances: RefCell<Vec<Rebalance>>,
    /// The partitions that librdkafka reads.
    assigned: BTreeSet<(String, i32)>,
    paused: bool,
    isolation: Isolation,
}

impl ConsumerContext for ClientMonitor {
    /// Called only in [`GroupConsumer::close`]; all other changes come by [`GroupConsumer::rebalances`].
    fn rebalance(&self, consumer: &BaseConsumer<Self>, _: RDKafkaRespErr, _: &mut TopicPartitionList) {
        let _ = consumer.unassign();
    }
}

impl GroupConsumer {
    /// Makes a member; it joins the group with the first [`Self::subscribe`].
    pub fn new(
        access: &ClusterAccess,
        isolation: Isolation,
        group: &str,
        instance: &str,
    ) -> KafkaResult<Self> {
        let level = match isolation {
            Isolation::ReadCommitted => "read_committed",
            Isolation::ReadUncommitted => "read_uncommitted",
        };
        let mut config = super::client_config(access, instance);
        // Makes librdkafka log the line that says that a topic has another id (see `recreated_topic`): a few lines every 5 s.
        config.set("debug", "metadata").set_log_level(rdkafka::config::RDKafkaLogLevel::Debug);
        config
            .set("group.id", group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "2000")
            .set("max.poll.interval.ms", "60000")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", level)
            .set("enable.partition.eof", "true")
            // Bounds what is read ahead, and so the memory; a larger record is still read.
            .set("queued.max.messages.kbytes", "8192")
            .set("fetch.queue.backoff.ms", "20")
            .set("fetch.max.bytes", "8388608")
            .set("max.partition.fetch.bytes", "1048576")
            .set("fetch.error.backoff.ms", "200")
            .set("receive.message.max.bytes", "134217728");
        let inner = Arc::new(access.client::<BaseConsumer<ClientMonitor>>(&config, access.monitor())?);
        let failed = |code: RDKafkaErrorCode| KafkaError::ClientCreation(code.to_string());
        let events = EventQueue::new(inner.client()).map_err(failed)?;
        let records = RecordQueue::new(inner.client()).map_err(failed)?;
        let (rebalances, assigned) = (RefCell::default(), BTreeSet::new());
        Ok(Self { events, records, inner, rebalances, assigned, paused: false, isolation })
    }

    /// A handle to ask the broker from other threads.
    pub fn broker(&self) -> Broker {
        Broker::new(Arc::clone(&self.inner), self.isolation)
    }

    /// Subscribes to these topics, replacing earlier ones. Topics that don't exist yet are joined once they do.
    pub fn subscribe(&self, topics: &[String]) -> KafkaResult<()> {
        if topics.is_empty() {
            self.inner.unsubscribe();
            return Ok(());
        }
        self.inner.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The notices since the last call. Must be called at least every 60 s.
    pub fn notices(&self) -> Vec<ConsumerNotice> {
        let mut all = Vec::new();
        while let Some(event) = self.events.next() {
            match event {
                ClientEvent::Rebalance(given, partitions) => {
                    let rebalance =
                        if given { Rebalance::Assigned(partitions) } else { Rebalance::Revoked(partitions) };
                    self.rebalances.borrow_mut().push(rebalance);
                }
                ClientEvent::Log(level, facility, line) => match recreated_topic(&line) {
                    Some((topic, id)) => {
                        all.push(ConsumerNotice::TopicRecreated(topic.to_owned(), id.to_owned()));
                    }
                    None => super::log_line(level <= 4, &facility, &self.inner.context().masked(&line)),
                },
                ClientEvent::Token => native::set_token(self.inner.client()),
                ClientEvent::Error(code, true, text) => {
                    all.push(ConsumerNotice::Fatal(format!(
                        "{code}: {}",
                        self.inner.context().masked(&text)
                    )));
                }
                ClientEvent::Error(code, false, text) => all.push(self.notice_of(code, &text)),
            }
        }
        all
    }

    /// Waits for records or ends of the partitions that are read, and hands them to `handle` until that says stop. Once the
    /// first one comes, [`Self::notices`] returns everything that the client told before or while these were fetched.
    pub fn take(&self, timeout: Duration, handle: impl FnMut(Fetched<'_>) -> ControlFlow<()>) {
        self.records.take(self.inner.client(), timeout, handle);
    }

    /// The notice for a failure.
    pub fn notice_of(&self, code: RDKafkaErrorCode, text: &str) -> ConsumerNotice {
        match code {
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                ConsumerNotice::OffsetOutOfRange
            }
            RDKafkaErrorCode::GroupAuthorizationFailed => ConsumerNotice::NotInGroup,
            code => {
                self.inner.context().note_error(code, text);
                ConsumerNotice::Failed(code.to_string())
            }
        }
    }

    /// Whether this failure means that the user may not read the topic.
    pub fn forbids_topic(code: RDKafkaErrorCode) -> bool {
        code == RDKafkaErrorCode::TopicAuthorizationFailed
    }

    /// The rebalances since the last call, in order.
    pub fn rebalances(&self) -> Vec<Rebalance> {
        self.rebalances.take()
    }

    /// Accepts assigned partitions; reading each begins with [`Self::read`].
    pub fn acknowledge(&self) -> KafkaResult<()> {
        self.inner.incremental_assign(&TopicPartitionList::new())
    }

    /// Gives revoked partitions back to the group.
    pub fn release(&mut self, partitions: &[(String, i32)]) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            if self.assigned.remove(partition) {
                list.add_partition(&partition.0, partition.1);
            }
        }
        self.inner.incremental_unassign(&list)
    }

    /// Reads a partition from this offset on, wherever it was read before.
    pub fn read(&mut self, topic: &str, partition: i32, offset: i64) -> KafkaResult<()> {
        self.stop(topic, partition)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        // Before the assignment, so that none of its records goes to the event queue; and again after it, because ending an
        // earlier assignment undoes the forwarding, and has happened by then. Records that come in between wait.
        self.receive(topic, partition)?;
        self.inner.incremental_assign(&list)?;
        self.assigned.insert((topic.to_owned(), partition));
        self.receive(topic, partition)?;
        if self.paused { self.inner.pause(&list) } else { Ok(()) }
    }

    fn receive(&self, topic: &str, partition: i32) -> KafkaResult<()> {
        let received = self.records.receive(self.inner.client(), topic, partition);
        received.map_err(KafkaError::MetadataFetch)
    }

    /// Stops reading a partition; it stays assigned to us.
    pub fn stop(&mut self, topic: &str, partition: i32) -> KafkaResult<()> {
        if self.assigned.remove(&(topic.to_owned(), partition)) {
            let mut list = TopicPartitionList::new();
            list.add_partition(topic, partition);
            self.inner.incremental_unassign(&list)?;
        }
        Ok(())
    }

    /// Stops fetching records, or resumes it.
    pub fn pause(&mut self, pause: bool) -> KafkaResult<()> {
        if self.paused == pause {
            return Ok(());
        }
        self.paused = pause;
        let mut list = TopicPartitionList::new();
        for (topic, partition) in &self.assigned {
            list.add_partition(topic, *partition);
        }
        if pause { self.inner.pause(&list) } else { self.inner.resume(&list) }
    }

    /// Whether fetching is paused.
    pub fn paused(&self) -> bool {
        self.paused
    }

    /// Commits offsets to the group, for lag tools. Does not wait, and ignores failures.
    pub fn tell_group<'k>(&self, offsets: impl Iterator<Item = (&'k str, i32, i64)>) {
        let mut list = TopicPartitionList::new();
        for (topic, partition, offset) in offsets {
            if self.assigned.contains(&(topic.to_owned(), partition)) {
                let _ = list.add_partition_offset(topic, partition, Offset::Offset(offset));
            }
        }
        if list.count() > 0
            && let Err(error) = self.inner.commit(&list, CommitMode::Async)
        {
            tracing::debug!(%error, "the group's offsets were not told");
        }
    }

    /// Leaves the group, within `limit`.
    pub fn close(self, limit: Duration) {
        let begun = Instant::now();
        if self.inner.close_queue().is_ok() {
            while !self.inner.closed() && begun.elapsed() < limit {
                let _ = self.inner.poll(Duration::from_millis(50));
            }
        }
        drop((self.events, self.records));
        // Dropping the client closes it a second time and may wait for the broker without limit. So a thread drops it, once
        // no `Broker` is left; the end of the process does not wait for that thread.
        let inner = self.inner;
        let last = std::thread::Builder::new().name("close".to_owned()).spawn(move || {
            while Arc::strong_count(&inner) > 1 {
                std::thread::sleep(Duration::from_millis(100));
            }
            drop(inner);
        });
        if let Err(error) = last {
            tracing::warn!(%error, "no thread to close the Kafka client");
        }
    }
}

/// Topic and new id, if this line of librdkafka's log says that a topic's id changed.
///
/// librdkafka fetches by topic id. When it learns of a new id it goes on at the same offset, now in the records of another
/// topic. It says so only in its log, and that line comes before the first of these records.
fn recreated_topic(line: &str) -> Option<(&str, &str)> {
    let (before, ids) = line.split_once(" changed id from ")?;
    let (_, id) = ids.split_once(" to ")?;
    Some((before.rsplit_once("Topic ")?.1, id.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topics_other_id_is_read_from_the_log() {
        let line =
            "[thrd:main]: Topic my.logs changed id from AAAAAAAAAAAAAAAAAAAAAA to s1Qd0eVtQ3a-8uY2aGf0_w";
        assert_eq!(recreated_topic(line), Some(("my.logs", "s1Qd0eVtQ3a-8uY2aGf0_w")));
        assert_eq!(recreated_topic("[thrd:main]: Topic my.logs [0] Leader 1 Epoch 0"), None);
    }
}
