//! Memory that requests may hold, reserved before it is allocated and charged to its namespace.
//!
//! One rule keeps it fair: nobody may hold more than is free for all. So whoever takes all they can leaves half of
//! what they found. The next one finds room, and a small request finds it whatever a few others do. As they give
//! back and take again, their shares become equal.
//!
//! A body's memory is reserved as the body arrives, not for what is only announced.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The memory for one purpose, shared by all.
pub(crate) struct MemoryPool {
    all: usize,
    most: usize,
    used: Mutex<usize>,
    freed: Notify,
}

/// Bytes that one namespace holds of a pool. Changed only under the pool's lock.
#[derive(Default)]
struct Account(AtomicUsize);

/// One namespace's share of a pool. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MemoryShare {
    pool: Arc<MemoryPool>,
    account: Arc<Account>,
}

/// Reserved memory, given back when this is dropped.
pub(crate) struct ReservedMemory {
    share: MemoryShare,
    bytes: usize,
}

/// How long a request may still wait, all its waits together.
pub(crate) struct Patience(Duration);

impl Patience {
    pub(crate) fn new(longest: Duration) -> Self {
        Self(longest)
    }

    /// Waits for `what`; `None` when the patience ran out.
    pub(crate) async fn wait<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let begun = Instant::now();
        let done = tokio::time::timeout(self.0, what).await.ok();
        self.0 = self.0.saturating_sub(begun.elapsed());
        done
    }
}

impl MemoryPool {
    /// A pool of `all` bytes, of which each namespace may hold `most`.
    pub(crate) fn new(all: usize, most: usize) -> Arc<Self> {
        Arc::new(Self { all, most, used: Mutex::new(0), freed: Notify::new() })
    }

    /// A share that holds nothing yet.
    pub(crate) fn share(self: &Arc<Self>) -> MemoryShare {
        MemoryShare { pool: self.clone(), account: Arc::default() }
    }

    fn take(&self, account: &Account, bytes: usize) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let own = account.0.load(Ordering::Relaxed).saturating_add(bytes);
        if own > self.most || own > self.all - *used {
            return false;
        }
        *used += bytes;
        account.0.store(own, Ordering::Relaxed);
        true
    }

    fn give(&self, account: &Account, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        *used -= bytes;
        account.0.fetch_sub(bytes, Ordering::Relaxed);
        drop(used);
        self.freed.notify_waiters();
    }
}

impl MemoryShare {
    /// A reservation of nothing, to grow later.
    pub(crate) fn empty(&self) -> ReservedMemory {
        ReservedMemory { share: self.clone(), bytes: 0 }
    }

    /// Reserves so many bytes as soon as they are free; `None` when the patience ran out.
    pub(crate) async fn take(&self, bytes: usize, patience: &mut Patience) -> Option<ReservedMemory> {
        let mut held = self.empty();
        held.grow(bytes, patience).await.then_some(held)
    }
}

impl ReservedMemory {
    /// Grows the reservation to so many bytes; false when the patience ran out.
    pub(crate) async fn grow(&mut self, bytes: usize, patience: &mut Patience) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        let MemoryShare { pool, account } = &self.share;
        let taken = async {
            loop {
                let freed = pool.freed.notified();
                tokio::pin!(freed);
                // Registers before looking, so that no notification is missed.
                freed.as_mut().enable();
                if pool.take(account, more) {
                    return;
                }
                freed.await;
            }
        };
        if pool.take(account, more) || patience.wait(taken).await.is_some() {
            self.bytes += more;
            return true;
        }
        false
    }
}

impl Drop for ReservedMemory {
    fn drop(&mut self) {
        self.share.pool.give(&self.share.account, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Patience {
        Patience::new(Duration::ZERO)
    }

    #[tokio::test]
    async fn whoever_takes_all_they_can_leaves_half_of_what_they_found() {
        let pool = MemoryPool::new(1_000, 600);
        let mut held = Vec::new();
        let mut found = 1_000;
        for _ in 0..4 {
            let share = pool.share();
            while let Some(more) = share.take(1, &mut none()).await {
                held.push(more);
            }
            let left = 1_000 - held.len();
            assert!(left >= found / 2, "{left} of {found}");
            found = left;
        }
        assert!(pool.share().take(60, &mut none()).await.is_some());
        held.clear();
        assert!(pool.share().take(600, &mut none()).await.is_some(), "all was given back");
        assert!(pool.share().take(601, &mut none()).await.is_none(), "more than one may have");
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_request_goes_on_when_memory_is_given_back_and_gives_up_when_it_is_not() {
        let pool = MemoryPool::new(100, 50);
        let (one, two) = (pool.share(), pool.share());
        let first = one.take(50, &mut none()).await.expect("free");
        let mut patience = Patience::new(Duration::from_secs(10));
        assert!(two.take(51, &mut patience).await.is_none());
        let waiting =
            tokio::spawn(
                async move { one.take(10, &mut Patience::new(Duration::from_secs(10))).await.is_some() },
            );
        tokio::time::sleep(Duration::from_secs(9)).await;
        drop(first);
        assert!(waiting.await.expect("ended"));
    }
}
