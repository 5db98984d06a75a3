//! What one namespace, one person, and all together may use of the hub: requests under way, memory, bytes a second.
//!
//! A caller over its share waits or is refused; others are not affected. Workers, people and the operator have
//! separate shares, so that none of them takes from another. A share is made only for a name that was confirmed as
//! its caller's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use protocol::weight::MAX_BODY_MEMORY;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::memory::{MemoryPool, MemoryShare, Patience};
use crate::reader_slots::{ReaderSlot, ReaderSlots, SlotBounds};
use crate::refusal::Refusal;

const MIB: usize = 1024 * 1024;
/// Requests of one namespace's workers under way, long polls included.
const NAMESPACE_REQUESTS: usize = 512;
/// Requests of people under way: in all, of one namespace, of one person.
const READER_REQUESTS: SlotBounds = SlotBounds { all: 64, namespace: 16, person: 8 };
/// Requests of the operator under way.
const OPERATOR_REQUESTS: usize = 32;
/// Memory for bodies while they arrive: in all, and of one namespace.
const ARRIVING: (usize, usize) = (48 * MIB, 16 * MIB);
/// Memory for parsed bodies: in all, and of one namespace.
const READ: (usize, usize) = (144 * MIB, 64 * MIB);
/// Memory for answers on their way: in all, and of one namespace.
const ANSWERS: (usize, usize) = (64 * MIB, 24 * MIB);
/// The operator's own memory for arriving bodies, parsed bodies and answers.
const OPERATOR: (usize, usize, usize) = (16 * MIB, MAX_BODY_MEMORY + 16 * MIB, 64 * MIB);
/// How long a request waits for memory, all its waits together.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// With more namespaces than this, those without requests are forgotten.
const REMEMBERED: usize = 4_096;

/// The shares of all callers.
pub(crate) struct Limits {
    workers: Shares,
    people: Shares,
    readers: Arc<ReaderSlots>,
    operator: Arc<Share>,
}

/// The shares of one group of callers, by namespace.
struct Shares {
    by_namespace: Mutex<HashMap<String, Arc<Share>>>,
    pools: MemoryPools,
    requests: usize,
    bytes_per_second: Option<u64>,
}

/// The memory for one group of callers.
#[derive(Clone)]
struct MemoryPools {
    arriving: Arc<MemoryPool>,
    read: Arc<MemoryPool>,
    answers: Arc<MemoryPool>,
}

/// The share of a namespace's workers, of its readers, or of the operator.
pub(crate) struct Share {
    requests: Arc<Semaphore>,
    /// One large body at a time: two that each hold a part of what they need would wait for each other.
    large: Arc<Semaphore>,
    bytes: Option<Mutex<Bucket>>,
    pub(crate) arriving: MemoryShare,
    pub(crate) read: MemoryShare,
    pub(crate) answers: MemoryShare,
}

/// Held while a request is under way, until its answer has reached the caller.
pub(crate) enum RequestPermit {
    /// Of a worker or the operator.
    Request(#[allow(dead_code, reason = "dropped, not read")] OwnedSemaphorePermit),
    /// Of a person.
    Reader(#[allow(dead_code, reason = "dropped, not read")] ReaderSlot),
}

impl Limits {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        let pools =
            |(arriving, read, answers): ((usize, usize), (usize, usize), (usize, usize))| MemoryPools {
                arriving: MemoryPool::new(arriving.0, arriving.1),
                read: MemoryPool::new(read.0, read.1),
                answers: MemoryPool::new(answers.0, answers.1),
            };
        let both = |all| (all, all);
        let operator = pools((both(OPERATOR.0), both(OPERATOR.1), both(OPERATOR.2)));
        let shares = |pools, requests, bytes_per_second| Shares {
            by_namespace: Mutex::default(),
            pools,
            requests,
            bytes_per_second,
        };
        Self {
            workers: shares(pools((ARRIVING, READ, ANSWERS)), NAMESPACE_REQUESTS, Some(bytes_per_second)),
            // People send nothing.
            people: shares(pools((both(0), both(0), ANSWERS)), 0, None),
            readers: ReaderSlots::new(READER_REQUESTS),
            operator: Arc::new(Share::new(&operator, OPERATOR_REQUESTS, None)),
        }
    }

    /// The share of a namespace's workers.
    pub(crate) fn namespace(&self, name: &str) -> Arc<Share> {
        self.workers.for_namespace(name)
    }

    /// The share of the people who read in a namespace.
    pub(crate) fn people(&self, name: &str) -> Arc<Share> {
        self.people.for_namespace(name)
    }

    pub(crate) fn operator(&self) -> Arc<Share> {
        self.operator.clone()
    }

    /// A permit for one more request of a person.
    pub(crate) fn reader_permit(&self, person: &str, namespace: &str) -> Result<RequestPermit, Refusal> {
        self.readers.enter(person, namespace).map(RequestPermit::Reader).map_err(|full| {
            Refusal::over_quota(format!("too many requests are under way: {full}"), Duration::from_secs(1))
        })
    }
}

impl Shares {
    fn for_namespace(&self, name: &str) -> Arc<Share> {
        let mut shares = self.by_namespace.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(name) {
            return share.clone();
        }
        if shares.len() >= REMEMBERED {
            shares.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let bucket = self.bytes_per_second.map(|rate| Bucket::new(rate, Instant::now()));
        let share = Arc::new(Share::new(&self.pools, self.requests, bucket));
        shares.insert(name.to_owned(), share.clone());
        share
    }
}

impl Share {
    fn new(pools: &MemoryPools, requests: usize, bytes: Option<Bucket>) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(requests)),
            large: Arc::new(Semaphore::new(1)),
            bytes: bytes.map(Mutex::new),
            arriving: pools.arriving.share(),
            read: pools.read.share(),
            answers: pools.answers.share(),
        }
    }

    /// A permit for one more request of this share.
    pub(crate) fn request_permit(&self) -> Result<RequestPermit, Refusal> {
        let turn = self.requests.clone().try_acquire_owned();
        turn.map(RequestPermit::Request).map_err(|_| {
            let most = NAMESPACE_REQUESTS;
            let why = format!("too many requests of this namespace are under way: at most {most}");
            Refusal::over_quota(why, Duration::from_secs(1))
        })
    }

    /// Waits until this body is the share's only large one; `None` when the patience ran out.
    pub(crate) async fn large(&self, patience: &mut Patience) -> Option<OwnedSemaphorePermit> {
        patience.wait(self.large.clone().acquire_owned()).await?.ok()
    }

    /// Whether a body may be taken now. Refuses while the debt of earlier bodies is not paid.
    pub(crate) fn may_send(&self, at: Instant) -> Result<(), Refusal> {
        let Some(bytes) = &self.bytes else { return Ok(()) };
        let wait = bytes.lock().unwrap_or_else(PoisonError::into_inner).wait(at);
        if wait.is_zero() {
            return Ok(());
        }
        Err(Refusal::over_quota("this namespace sends more bytes a second than its quota allows", wait))
    }

    /// Counts bytes that arrived.
    pub(crate) fn sent(&self, bytes: usize, at: Instant) {
        if let Some(bucket) = &self.bytes {
            bucket.lock().unwrap_or_else(PoisonError::into_inner).spend(bytes, at);
        }
    }
}

/// A token bucket that may fall into debt. A body is counted as it arrives, whatever its length, and the next one
/// waits until the debt is paid. So one body longer than a second's worth passes.
pub(crate) struct Bucket {
    rate: f64,
    most: f64,
    level: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket that holds a second's worth.
    pub(crate) fn new(per_second: u64, at: Instant) -> Self {
        Self::holding(per_second, per_second, at)
    }

    /// A full bucket that holds `most`.
    pub(crate) fn holding(most: u64, per_second: u64, at: Instant) -> Self {
        let (rate, most) = (per_second.max(1) as f64, most.max(1) as f64);
        Self { rate, most, level: most, filled: at }
    }

    fn fill(&mut self, at: Instant) {
        let passed = at.saturating_duration_since(self.filled).as_secs_f64();
        self.level = (self.level + passed * self.rate).min(self.most);
        self.filled = self.filled.max(at);
    }

    /// The level as a fraction of a full bucket; 0 or less in debt.
    pub(crate) fn part(&mut self, at: Instant) -> f64 {
        self.fill(at);
        self.level / self.most
    }

    pub(crate) fn wait(&mut self, at: Instant) -> Duration {
        self.fill(at);
        if self.level > 0.0 {
            return Duration::ZERO;
        }
        // At most a day, so that no setting makes the arithmetic overflow.
        Duration::from_secs_f64((-self.level / self.rate).clamp(0.001, 86_400.0))
    }

    pub(crate) fn spend(&mut self, units: usize, at: Instant) {
        self.fill(at);
        self.level -= units as f64;
    }

    pub(crate) fn give_back(&mut self, units: usize) {
        self.level = (self.level + units as f64).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_in_debt_waits_until_it_is_paid_and_others_do_not() {
        let limits = Limits::new(1_000);
        let at = Instant::now() + Duration::from_secs(1);
        let (busy, calm) = (limits.namespace("busy"), limits.namespace("calm"));
        busy.sent(3_500, at);
        let refusal = busy.may_send(at).expect_err("in debt");
        assert_eq!(refusal.retry_after, Some(Duration::from_millis(2_500)));
        assert!(calm.may_send(at).is_ok());
        assert!(limits.namespace("busy").may_send(at + Duration::from_secs(2)).is_err());
        assert!(limits.namespace("busy").may_send(at + Duration::from_secs(3)).is_ok());
    }

    #[test]
    fn one_namespace_can_not_take_the_requests_of_another() {
        let limits = Limits::new(1_000);
        let (busy, calm) = (limits.namespace("busy"), limits.namespace("calm"));
        let turns: Vec<RequestPermit> = std::iter::from_fn(|| busy.request_permit().ok()).collect();
        assert_eq!(turns.len(), NAMESPACE_REQUESTS);
        assert!(calm.request_permit().is_ok());
        drop(turns);
        assert!(busy.request_permit().is_ok());
    }

    #[test]
    fn one_person_can_not_take_the_requests_of_another_nor_people_those_of_workers() {
        let limits = Limits::new(1_000);
        let mut turns: Vec<RequestPermit> =
            std::iter::from_fn(|| limits.reader_permit("ann", "a").ok()).collect();
        assert_eq!(turns.len(), READER_REQUESTS.person);
        assert!(limits.reader_permit("bob", "a").is_ok());
        for name in 0..100 {
            let person = format!("account-{name}");
            turns.extend(std::iter::from_fn(|| limits.reader_permit(&person, "a").ok()));
        }
        assert_eq!(turns.len(), READER_REQUESTS.namespace);
        let refusal = limits.reader_permit("bob", "a").err().expect("full");
        assert!(refusal.message.contains("16 of one namespace"), "{}", refusal.message);
        assert!(limits.reader_permit("eve", "b").is_ok());
        assert!(limits.namespace("a").request_permit().is_ok());
    }

    #[tokio::test]
    async fn the_largest_body_that_there_may_be_finds_its_memory() {
        let limits = Limits::new(1_000);
        for share in [limits.namespace("a"), limits.operator()] {
            let mut patience = Patience::new(Duration::ZERO);
            for _ in 0..10 {
                let arriving = share.arriving.take(protocol::weight::MAX_BODY * 3 / 2, &mut patience).await;
                let read = share.read.take(MAX_BODY_MEMORY, &mut patience).await;
                assert!(arriving.is_some() && read.is_some());
            }
        }
    }
}
