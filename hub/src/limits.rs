//! What one namespace, and all together, may use of the hub: requests under way, memory of bodies, bytes a second.
//!
//! A namespace that is over its share waits or is refused alone; what is common is sized so that no single namespace can
//! use it up. Never: a limit kept for a name that has not been confirmed as its caller's namespace.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::Refusal;

/// Requests of one namespace's workers under way, long polls included.
const NAMESPACE_REQUESTS: usize = 512;
/// Requests of people under way, in all namespaces.
const READER_REQUESTS: usize = 64;
/// Requests of the operator under way.
const OPERATOR_REQUESTS: usize = 32;
/// Memory of bodies being read and worked on, KiB.
const NAMESPACE_BODIES: usize = 64 * 1024;
const ALL_BODIES: usize = 256 * 1024;
/// How long a request waits for its body's memory.
const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// Above so many namespaces, those without requests are forgotten.
const REMEMBERED: usize = 4_096;

/// The shares of all.
pub(crate) struct Limits {
    namespaces: Mutex<HashMap<String, Arc<Share>>>,
    readers: Arc<Share>,
    operator: Arc<Share>,
    bodies: Arc<Semaphore>,
    bytes_per_second: u64,
}

/// One share: a namespace's, the readers' or the operator's.
pub(crate) struct Share {
    requests: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    bytes: Option<Mutex<Bucket>>,
}

/// Held while a request is under way.
pub(crate) struct Turn(#[allow(dead_code, reason = "dropped, not read")] OwnedSemaphorePermit);

/// Held while a body and what was read from it are in memory.
pub(crate) struct BodyMemory(#[allow(dead_code, reason = "dropped, not read")] [OwnedSemaphorePermit; 2]);

impl Limits {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self {
            namespaces: Mutex::default(),
            readers: Arc::new(Share::new(READER_REQUESTS, None)),
            operator: Arc::new(Share::new(OPERATOR_REQUESTS, None)),
            bodies: Arc::new(Semaphore::new(ALL_BODIES)),
            bytes_per_second,
        }
    }

    /// The share of a namespace whose worker is calling.
    pub(crate) fn namespace(&self, name: &str) -> Arc<Share> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = namespaces.get(name) {
            return share.clone();
        }
        if namespaces.len() >= REMEMBERED {
            namespaces.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let bucket = Bucket::new(self.bytes_per_second, Instant::now());
        let share = Arc::new(Share::new(NAMESPACE_REQUESTS, Some(bucket)));
        namespaces.insert(name.to_owned(), share.clone());
        share
    }

    pub(crate) fn readers(&self) -> Arc<Share> {
        self.readers.clone()
    }

    pub(crate) fn operator(&self) -> Arc<Share> {
        self.operator.clone()
    }

    /// Waits for the memory of a body of so many bytes.
    pub(crate) async fn body(&self, share: &Share, bytes: usize) -> Result<BodyMemory, Refusal> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let wait = async {
            // The namespace's own first: one that is over its share must not wait while it holds what others need.
            let own = share.bodies.clone().acquire_many_owned(kib).await.ok()?;
            let common = self.bodies.clone().acquire_many_owned(kib).await.ok()?;
            Some(BodyMemory([own, common]))
        };
        match tokio::time::timeout(BODY_PATIENCE, wait).await {
            Ok(Some(memory)) => Ok(memory),
            _ => Err(Refusal::unavailable("too many large requests are under way")),
        }
    }
}

impl Share {
    fn new(requests: usize, bytes: Option<Bucket>) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(requests)),
            bodies: Arc::new(Semaphore::new(NAMESPACE_BODIES)),
            bytes: bytes.map(Mutex::new),
        }
    }

    /// A place for one more request.
    pub(crate) fn enter(&self) -> Result<Turn, Refusal> {
        let turn = self.requests.clone().try_acquire_owned();
        turn.map(Turn).map_err(|_| {
            Refusal::over_quota("too many requests of this namespace are under way", Duration::from_secs(1))
        })
    }

    /// Whether a body may be taken now; refused while earlier ones have not been paid off.
    pub(crate) fn may_send(&self, at: Instant) -> Result<(), Refusal> {
        let Some(bytes) = &self.bytes else { return Ok(()) };
        let wait = bytes.lock().unwrap_or_else(PoisonError::into_inner).wait(at);
        if wait.is_zero() {
            return Ok(());
        }
        Err(Refusal::over_quota("this namespace sends more bytes a second than its quota allows", wait))
    }

    /// Counts a body that was taken.
    pub(crate) fn sent(&self, bytes: usize, at: Instant) {
        if let Some(bucket) = &self.bytes {
            bucket.lock().unwrap_or_else(PoisonError::into_inner).spend(bytes, at);
        }
    }
}

/// A token bucket that may fall into debt: a body is counted after it was read, whatever its length, and the next one
/// waits until the debt is paid. So a body longer than a second's worth passes, once.
pub(crate) struct Bucket {
    rate: f64,
    level: f64,
    filled: Instant,
}

impl Bucket {
    pub(crate) fn new(per_second: u64, at: Instant) -> Self {
        let rate = (per_second.max(1)) as f64;
        Self { rate, level: rate, filled: at }
    }

    fn fill(&mut self, at: Instant) {
        let passed = at.saturating_duration_since(self.filled).as_secs_f64();
        self.level = (self.level + passed * self.rate).min(self.rate);
        self.filled = self.filled.max(at);
    }

    pub(crate) fn wait(&mut self, at: Instant) -> Duration {
        self.fill(at);
        if self.level > 0.0 {
            return Duration::ZERO;
        }
        // At most a day, so that no setting makes the arithmetic overflow.
        Duration::from_secs_f64((-self.level / self.rate).clamp(0.001, 86_400.0))
    }

    pub(crate) fn spend(&mut self, bytes: usize, at: Instant) {
        self.fill(at);
        self.level -= bytes as f64;
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
    fn one_namespace_can_not_take_the_places_of_another() {
        let limits = Limits::new(1_000);
        let (busy, calm) = (limits.namespace("busy"), limits.namespace("calm"));
        let turns: Vec<Turn> = std::iter::from_fn(|| busy.enter().ok()).collect();
        assert_eq!(turns.len(), NAMESPACE_REQUESTS);
        assert!(calm.enter().is_ok());
        drop(turns);
        assert!(busy.enter().is_ok());
    }

    #[tokio::test]
    async fn the_memory_of_bodies_is_given_back() {
        let limits = Limits::new(1_000);
        let share = limits.namespace("a");
        for _ in 0..10 {
            drop(limits.body(&share, 32 * 1024 * 1024).await.expect("memory"));
        }
    }
}
