//! Limits on questions to the API server, which everybody uses and which is slower than the hub.
//!
//! Invariants: a token that was confirmed before never waits behind unknown ones. Unknown tokens are limited in all
//! and by address; addresses whose tokens failed lately leave half of the budget to others. Access reviews are
//! limited by person. No limit is kept under a name that an unknown caller chose.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::limits::Bucket;
use crate::refusal::Refusal;

/// Questions at the same time about tokens that were confirmed before.
const KNOWN_AT_ONCE: usize = 16;
/// Questions at the same time about unknown tokens.
const STRANGERS_AT_ONCE: usize = 8;
/// Access reviews at the same time.
const ACCESS_AT_ONCE: usize = 8;
/// How long a question waits for its turn. The API server has 3 s for each.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Questions about unknown tokens in all: at once, and a second. A token that is confirmed does not count.
const STRANGERS: (u64, u64) = (100, 50);
/// The same from one address.
const OF_ADDRESS: (u64, u64) = (20, 5);
/// Access reviews of one person: at once, and a second.
const OF_PERSON: (u64, u64) = (20, 5);
/// How many addresses, and how many persons, are remembered. Those that have not asked lately are forgotten first.
const REMEMBERED: usize = 4_096;

/// Limits how many questions the API server gets, by kind of caller.
pub(super) struct ReviewLimits {
    known: Semaphore,
    strangers: Semaphore,
    access: Semaphore,
    tokens: Mutex<Tokens>,
    persons: Mutex<HashMap<String, Bucket>>,
}

struct Tokens {
    all: Bucket,
    addresses: HashMap<IpAddr, Bucket>,
}

impl ReviewLimits {
    pub(super) fn new(at: Instant) -> Self {
        let tokens = Tokens { all: Bucket::holding(STRANGERS.0, STRANGERS.1, at), addresses: HashMap::new() };
        Self {
            known: Semaphore::new(KNOWN_AT_ONCE),
            strangers: Semaphore::new(STRANGERS_AT_ONCE),
            access: Semaphore::new(ACCESS_AT_ONCE),
            tokens: Mutex::new(tokens),
            persons: Mutex::default(),
        }
    }

    /// Waits for a turn to ask about a token that was confirmed before.
    pub(super) async fn known(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        acquire_turn(&self.known).await
    }

    /// Waits for a turn to ask about an unknown token, which then counts against its address until
    /// [`Self::confirmed`]. It counts only once its turn has come, so that a restarted hub, which knows nobody yet,
    /// turns no good token away.
    pub(super) async fn stranger(&self, from: IpAddr) -> Result<SemaphorePermit<'_>, Refusal> {
        let turn = acquire_turn(&self.strangers).await?;
        if !self.lock().spend(from, Instant::now()) {
            return Err(Refusal::over_quota(
                format!(
                    "too many unknown tokens are being asked about: at most {} a second of one address, and {} of all",
                    OF_ADDRESS.1, STRANGERS.1
                ),
                Duration::from_secs(1),
            ));
        }
        Ok(turn)
    }

    /// The API server confirmed an unknown token: it does not count.
    pub(super) fn confirmed(&self, from: IpAddr) {
        let mut tokens = self.lock();
        tokens.all.give_back(1);
        if let Some(bucket) = tokens.addresses.get_mut(&from) {
            bucket.give_back(1);
        }
    }

    /// Waits for a turn to ask what a person may do.
    pub(super) async fn access(&self, person: &str) -> Result<SemaphorePermit<'_>, Refusal> {
        let at = Instant::now();
        let allowed = {
            let mut persons = self.persons.lock().unwrap_or_else(PoisonError::into_inner);
            bucket(&mut persons, person.to_owned(), OF_PERSON, at).is_some_and(|bucket| {
                let allowed = bucket.wait(at).is_zero();
                bucket.spend(usize::from(allowed), at);
                allowed
            })
        };
        if !allowed {
            let most = OF_PERSON.1;
            let why = format!("you ask about too many namespaces: at most {most} others a second");
            return Err(Refusal::over_quota(why, Duration::from_secs(1)));
        }
        acquire_turn(&self.access).await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tokens {
    fn spend(&mut self, from: IpAddr, at: Instant) -> bool {
        let Self { all, addresses } = self;
        let Some(own) = bucket(addresses, from, OF_ADDRESS, at) else { return false };
        let fresh = own.part(at) >= 0.9;
        let allowed = own.wait(at).is_zero() && all.part(at) > if fresh { 0.0 } else { 0.5 };
        if allowed {
            own.spend(1, at);
            all.spend(1, at);
        }
        allowed
    }
}

async fn acquire_turn(semaphore: &Semaphore) -> Result<SemaphorePermit<'_>, Refusal> {
    match tokio::time::timeout(MAX_WAIT, semaphore.acquire()).await {
        Ok(Ok(turn)) => Ok(turn),
        _ => Err(Refusal::unavailable("the Kubernetes API server is slow to say who callers are")),
    }
}

/// The bucket of this name; `None` if there is no room for another one.
fn bucket<K: Hash + Eq>(
    buckets: &mut HashMap<K, Bucket>,
    name: K,
    (most, rate): (u64, u64),
    at: Instant,
) -> Option<&mut Bucket> {
    if buckets.len() >= REMEMBERED && !buckets.contains_key(&name) {
        buckets.retain(|_, bucket| bucket.part(at) < 1.0);
        if buckets.len() >= REMEMBERED {
            return None;
        }
    }
    Some(buckets.entry(name).or_insert_with(|| Bucket::holding(most, rate, at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn a_flood_of_junk_from_a_few_addresses_leaves_turns_to_others() {
        let at = Instant::now();
        let asking = ReviewLimits::new(at);
        let mut asked = 0;
        for second in 0..60 {
            let at = at + Duration::from_secs(second);
            for n in 0..2_000 {
                asked += usize::from(asking.lock().spend(address(n % 10), at));
            }
            let newcomer = address(1_000 + u32::try_from(second).expect("small"));
            assert!(asking.lock().spend(newcomer, at), "after {second} s");
        }
        // Ten addresses at 5 a second each, and what they had at the start.
        assert!(asked <= 60 * 50 + 100, "{asked}");
        assert!(!asking.lock().spend(address(0), at + Duration::from_secs(59)));
        assert!(asking.lock().spend(address(0), at + Duration::from_secs(70)), "after a while");
    }

    #[test]
    fn addresses_are_remembered_up_to_a_bound() {
        let at = Instant::now();
        let asking = ReviewLimits::new(at);
        for n in 0..100_000 {
            asking.lock().spend(address(n), at + Duration::from_millis(n.into()));
        }
        assert!(asking.lock().addresses.len() <= REMEMBERED);
    }

    #[tokio::test]
    async fn one_person_can_not_make_the_api_server_answer_without_end() {
        let asking = ReviewLimits::new(Instant::now());
        let mut allowed = 0;
        for _ in 0..1_000 {
            allowed += usize::from(asking.access("ann").await.is_ok());
        }
        assert!(allowed <= 40, "{allowed}");
        assert!(asking.access("bob").await.is_ok());
    }

    #[tokio::test]
    async fn a_stranger_who_turns_out_to_be_somebody_does_not_count() {
        let asking = ReviewLimits::new(Instant::now());
        for _ in 0..200 {
            assert!(asking.stranger(address(1)).await.is_ok());
            asking.confirmed(address(1));
        }
    }
}
