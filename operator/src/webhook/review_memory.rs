//! Bounds the memory of reviews under way: of all together, and of each address.
//!
//! Memory is charged before it is allocated, and released memory wakes those who wait. Nobody waits longer than until
//! the given instant, and no address can use up the memory of all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

/// Which bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Exhausted {
    /// That of all reviews.
    #[error("reviews under way take {0} bytes, and may not take more")]
    All(usize),
    /// That of this address.
    #[error("reviews under way of this API server take {0} bytes, and may not take more")]
    Peer(usize),
}

/// The memory of reviews under way.
#[derive(Debug)]
pub(crate) struct ReviewMemory {
    all: usize,
    per_peer: usize,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    peers: HashMap<IpAddr, usize>,
}

/// The memory that a review holds, bytes; released when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<ReviewMemory>,
    peer: IpAddr,
    bytes: usize,
}

impl ReviewMemory {
    pub(crate) fn new(all: usize, per_peer: usize) -> Arc<Self> {
        Arc::new(Self { all, per_peer, taken: Mutex::default(), freed: Notify::new() })
    }

    /// Charges so many bytes if they are free now.
    pub(crate) fn charge_now(self: &Arc<Self>, peer: IpAddr, bytes: usize) -> Option<Charge> {
        self.take(peer, bytes).ok()?;
        Some(Charge { budget: Arc::clone(self), peer, bytes })
    }

    /// Charges so many bytes; waits for them until `until`.
    pub(crate) async fn charge(
        self: &Arc<Self>,
        peer: IpAddr,
        bytes: usize,
        until: Instant,
    ) -> Result<Charge, Exhausted> {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Registered before the check, so that no release is missed.
            freed.as_mut().enable();
            let spent = match self.take(peer, bytes) {
                Ok(()) => return Ok(Charge { budget: Arc::clone(self), peer, bytes }),
                Err(spent) => spent,
            };
            if tokio::time::timeout_at(until, freed).await.is_err() {
                return Err(spent);
            }
        }
    }

    fn take(&self, peer: IpAddr, bytes: usize) -> Result<(), Exhausted> {
        let mut taken = self.lock();
        let of_peer = taken.peers.get(&peer).copied().unwrap_or(0);
        if of_peer + bytes > self.per_peer {
            return Err(Exhausted::Peer(self.per_peer));
        }
        if taken.all + bytes > self.all {
            return Err(Exhausted::All(self.all));
        }
        taken.all += bytes;
        taken.peers.insert(peer, of_peer + bytes);
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut taken = self.budget.lock();
        taken.all -= self.bytes;
        if let Some(of_peer) = taken.peers.get_mut(&self.peer) {
            *of_peer -= self.bytes;
            if *of_peer == 0 {
                taken.peers.remove(&self.peer);
            }
        }
        drop(taken);
        self.budget.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn peer(number: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, number])
    }

    #[tokio::test(start_paused = true)]
    async fn one_peer_takes_its_share_and_no_more_and_waits_for_its_own() {
        let budget = ReviewMemory::new(100, 60);
        let soon = Instant::now() + Duration::from_secs(1);
        let held = budget.charge(peer(1), 50, soon).await.unwrap();
        assert_eq!(budget.charge(peer(1), 20, soon).await.unwrap_err(), Exhausted::Peer(60));
        let soon = Instant::now() + Duration::from_secs(1);
        let other = budget.charge(peer(2), 50, soon).await.unwrap();
        assert_eq!(budget.charge(peer(3), 1, soon).await.unwrap_err(), Exhausted::All(100));
        let soon = Instant::now() + Duration::from_secs(1);
        let (waited, ()) = tokio::join!(budget.charge(peer(1), 60, soon), async { drop(held) });
        assert_eq!((waited.unwrap_err(), budget.taken()), (Exhausted::All(100), 50));
        drop(other);
        let all = budget.charge(peer(1), 60, soon).await.unwrap();
        drop(all);
        assert_eq!((budget.taken(), budget.lock().peers.len()), (0, 0));
    }
}
