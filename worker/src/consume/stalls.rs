//! Detects partitions whose records the Kafka client does not fetch.
//!
//! librdkafka 2.12 remembers the leader epoch of a partition by the topic's name. A topic that is deleted and created again
//! begins with a lower epoch, so the client takes all metadata about it for outdated and fetches nothing, for ever. A new
//! client remembers nothing and reads on. Pure: callers pass the time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::offsets::PartitionKey;

/// How long a partition may stall while its broker answers.
const FIRST_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest timeout, after new clients did not help: a client that is replaced too often reads nothing either.
const LONGEST: Duration = Duration::from_mins(5);

/// How long a partition may stall before the client is replaced: doubles each time a new client stalls too.
#[derive(Debug, Default)]
pub struct StallTimeout(Option<(Instant, Duration)>);

impl StallTimeout {
    /// How long the next client may stall.
    pub fn current(&self) -> Duration {
        self.0.map_or(FIRST_TIMEOUT, |(_, timeout)| timeout)
    }

    /// Takes note that a client stalled and is replaced.
    pub fn client_stalled(&mut self, now: Instant) {
        let recent = self.0.filter(|(at, timeout)| now.duration_since(*at) < *timeout * 4);
        let next = recent.map_or(FIRST_TIMEOUT, |(_, timeout)| (timeout * 2).min(LONGEST));
        self.0 = Some((now, next));
    }
}

/// Remembers since when partitions have not moved.
#[derive(Debug)]
pub struct StallDetector {
    timeout: Duration,
    /// For each partition with unread records: the next offset, and since when it has been the same.
    still: BTreeMap<PartitionKey, (i64, Instant)>,
}

impl StallDetector {
    /// No partition stalls yet.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, still: BTreeMap::new() }
    }

    /// Forgets everything: brokers did not answer, or the reader is paused, so nothing is known.
    pub fn clear(&mut self) {
        self.still.clear();
    }

    /// Takes partitions with the next offset to read and the end that their leaders just told. Returns one that has stalled
    /// longer than the timeout, if there is one.
    pub fn find_stalled(
        &mut self,
        now: Instant,
        partitions: impl Iterator<Item = (PartitionKey, i64, i64)>,
    ) -> Option<PartitionKey> {
        let before = std::mem::take(&mut self.still);
        for (key, read, _) in partitions.filter(|(_, read, end)| read < end) {
            let since = before.get(&key).filter(|(stood, _)| *stood == read).map_or(now, |(_, since)| *since);
            self.still.insert(key, (read, since));
        }
        let stalled = self.still.iter().find(|(_, (_, since))| now.duration_since(*since) >= self.timeout);
        stalled.map(|(key, _)| key.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn key(partition: i32) -> PartitionKey {
        PartitionKey { topic: Arc::from("logs"), partition }
    }

    #[test]
    fn a_partition_with_unread_records_that_does_not_move_stalls() {
        let (begun, mut stalls) = (Instant::now(), StallDetector::new(Duration::from_secs(10)));
        let mut seen = |second, partitions: &[(i32, i64, i64)]| {
            let now = begun + Duration::from_secs(second);
            stalls.find_stalled(
                now,
                partitions.iter().map(|(partition, read, end)| (key(*partition), *read, *end)),
            )
        };
        assert_eq!(seen(0, &[(0, 5, 9), (1, 5, 5), (2, 5, 9)]), None);
        assert_eq!(seen(9, &[(0, 5, 9), (1, 5, 5), (2, 6, 9)]), None);
        assert_eq!(seen(10, &[(1, 5, 5), (2, 6, 9)]), None, "its leader is not there");
        assert_eq!(seen(18, &[(0, 5, 9), (1, 5, 6), (2, 7, 9)]), None);
        assert_eq!(seen(28, &[(0, 5, 9), (1, 6, 6), (2, 9, 9)]), Some(key(0)));
        stalls.clear();
        assert_eq!(stalls.find_stalled(begun + Duration::from_secs(90), [(key(0), 5, 9)].into_iter()), None);
    }

    #[test]
    fn the_timeout_doubles_while_new_clients_stall_and_is_reset_after_one_that_did_not() {
        let (mut now, mut timeout) = (Instant::now(), StallTimeout::default());
        let mut waits = Vec::new();
        for _ in 0..8 {
            now += timeout.current();
            timeout.client_stalled(now);
            waits.push(timeout.current().as_secs());
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
        timeout.client_stalled(now + LONGEST * 5);
        assert_eq!(timeout.current(), FIRST_TIMEOUT);
    }
}
