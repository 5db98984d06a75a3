//! The API server's answers, kept for a while. Bounded, and keyed by structs, never by joined text.
//!
//! Only confirmed tokens enter the larger map, so junk can't push out good answers. A deleted account or a revoked
//! right stays usable as long as its answer is kept: a minute for people, five minutes for workers and the
//! operator.
//!
//! Clause P10 of docs/semantics.md.

use std::hash::Hash as Key;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ledger::NamespaceIdentity;
use lru::LruCache;

use super::review::Identity;
use super::token::Hash;

/// For workers and the operator, whose accounts the operator makes and removes.
const SERVICE_FOR: Duration = Duration::from_mins(5);
const PERSON_FOR: Duration = Duration::from_mins(1);
const UNKNOWN_FOR: Duration = Duration::from_secs(20);
/// Short, because a missing right may be granted at any moment.
const DENIED_FOR: Duration = Duration::from_secs(10);
const ACCESS_FOR: Duration = Duration::from_mins(1);
/// How long an extended answer serves before the API server is tried again, so that requests don't each wait for a
/// server that is down.
const HELD_FOR: Duration = Duration::from_secs(5);
const MOST_KNOWN: usize = 8_192;
const MOST_UNKNOWN: usize = 16_384;
const MOST_ACCESS: usize = 4_096;

/// Whose token it is.
#[derive(Debug)]
pub(super) struct TokenHolder {
    pub(super) identity: Identity,
    /// Whether the token was made for the hub's audience.
    pub(super) for_hub: bool,
    /// The one namespace that the token may read, if it is one of the policy for people.
    pub(super) granted: Option<String>,
    /// Whether the holder is a worker or the operator.
    pub(super) is_service: bool,
}

/// The question whether a token's holder may read a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Access {
    pub(super) token: Hash,
    pub(super) namespace: String,
}

struct CachedAnswer<T> {
    answer: T,
    until: Instant,
}

/// The maps are unbounded because a bounded `LruCache` allocates all its memory at once; [`insert`] keeps the
/// bounds.
struct Maps {
    known: LruCache<Hash, CachedAnswer<Arc<TokenHolder>>>,
    unknown: LruCache<Hash, CachedAnswer<()>>,
    access: LruCache<Access, CachedAnswer<bool>>,
    namespaces: LruCache<Access, CachedAnswer<Option<NamespaceIdentity>>>,
}

pub(super) struct Answers {
    maps: Mutex<Maps>,
}

impl Default for Answers {
    fn default() -> Self {
        let maps = Maps {
            known: LruCache::unbounded(),
            unknown: LruCache::unbounded(),
            access: LruCache::unbounded(),
            namespaces: LruCache::unbounded(),
        };
        Self { maps: Mutex::new(maps) }
    }
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a token: nothing, that it is nobody's, or its holder.
    #[allow(clippy::option_option, reason = "not known, known to be nobody's, known")]
    pub(super) fn token(&self, hash: &Hash, at: Instant) -> Option<Option<Arc<TokenHolder>>> {
        let mut maps = self.lock();
        if let Some(fresh) = maps.known.get(hash).filter(|fresh| fresh.until > at) {
            return Some(Some(fresh.answer.clone()));
        }
        maps.unknown.get(hash).filter(|fresh| fresh.until > at).map(|_| None)
    }

    /// Whether this token was confirmed before, even if the answer is stale.
    pub(super) fn knew(&self, hash: &Hash) -> bool {
        self.lock().known.contains(hash)
    }

    pub(super) fn keep(&self, hash: Hash, answer: Option<Arc<TokenHolder>>, at: Instant) {
        let mut maps = self.lock();
        if let Some(answer) = answer {
            maps.unknown.pop(&hash);
            let until = at + if answer.is_service { SERVICE_FOR } else { PERSON_FOR };
            insert(&mut maps.known, hash, CachedAnswer { answer, until }, MOST_KNOWN);
        } else {
            maps.known.pop(&hash);
            insert(
                &mut maps.unknown,
                hash,
                CachedAnswer { answer: (), until: at + UNKNOWN_FOR },
                MOST_UNKNOWN,
            );
        }
    }

    /// Extends an earlier answer while the API server is down, for workers and the operator, without whom alerts
    /// would stop. Answers about people, and about tokens without an expiry, are not extended.
    pub(super) fn hold(&self, hash: &Hash, says_when_it_ends: bool, at: Instant) -> Option<Arc<TokenHolder>> {
        let mut maps = self.lock();
        let fresh = maps.known.get_mut(hash).filter(|fresh| says_when_it_ends && fresh.answer.is_service)?;
        fresh.until = fresh.until.max(at + HELD_FOR);
        Some(fresh.answer.clone())
    }

    /// Makes every answer stale.
    #[cfg(test)]
    pub(super) fn age(&self) {
        let past = Instant::now().checked_sub(Duration::from_millis(1));
        for (_, fresh) in &mut self.lock().known {
            fresh.until = past.unwrap_or(fresh.until);
        }
    }

    pub(super) fn access(&self, key: &Access, at: Instant) -> Option<bool> {
        self.lock().access.get(key).filter(|fresh| fresh.until > at).map(|fresh| fresh.answer)
    }

    /// The namespace that a holder reads, as it was when their access was reviewed.
    #[allow(clippy::option_option, reason = "not known, known not to be there, known")]
    pub(super) fn namespace(&self, key: &Access, at: Instant) -> Option<Option<NamespaceIdentity>> {
        self.lock().namespaces.get(key).filter(|fresh| fresh.until > at).map(|fresh| fresh.answer)
    }

    pub(super) fn keep_namespace(&self, key: Access, answer: Option<NamespaceIdentity>, at: Instant) {
        let until = at + if answer.is_some() { ACCESS_FOR } else { DENIED_FOR };
        insert(&mut self.lock().namespaces, key, CachedAnswer { answer, until }, MOST_ACCESS);
    }

    pub(super) fn keep_access(&self, key: Access, answer: bool, at: Instant) {
        let until = at + if answer { ACCESS_FOR } else { DENIED_FOR };
        insert(&mut self.lock().access, key, CachedAnswer { answer, until }, MOST_ACCESS);
    }
}

/// Inserts; over the bound, drops the answer that was not used for the longest time.
fn insert<K: Key + Eq, T>(
    map: &mut LruCache<K, CachedAnswer<T>>,
    key: K,
    fresh: CachedAnswer<T>,
    most: usize,
) {
    map.put(key, fresh);
    if map.len() > most {
        map.pop_lru();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: usize) -> Hash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_be_bytes());
        hash
    }

    #[test]
    fn a_flood_of_junk_stays_bounded_and_leaves_good_answers_alone() {
        let answers = Answers::default();
        let at = Instant::now();
        let good = Arc::new(TokenHolder {
            identity: Identity::default(),
            for_hub: true,
            granted: None,
            is_service: true,
        });
        answers.keep(hash(0), Some(good), at);
        for n in 1..80_000 {
            answers.keep(hash(n), None, at + Duration::from_micros(n as u64));
        }
        assert!(answers.lock().unknown.len() <= MOST_UNKNOWN);
        assert!(matches!(answers.token(&hash(0), at), Some(Some(_))));
    }

    #[test]
    fn an_answer_serves_a_minute_and_a_workers_five() {
        let answers = Answers::default();
        let at = Instant::now();
        let known = |is_service| {
            Arc::new(TokenHolder { identity: Identity::default(), for_hub: true, granted: None, is_service })
        };
        answers.keep(hash(1), None, at);
        answers.keep(hash(2), Some(known(false)), at);
        answers.keep(hash(3), Some(known(true)), at);
        let is_kept = |n, seconds| answers.token(&hash(n), at + Duration::from_secs(seconds)).is_some();
        assert_eq!([1, 2, 3].map(|n| is_kept(n, 19)), [true, true, true]);
        assert_eq!([1, 2, 3].map(|n| is_kept(n, 59)), [false, true, true]);
        assert_eq!([1, 2, 3].map(|n| is_kept(n, 61)), [false, false, true]);
        assert!(is_kept(3, 299) && !is_kept(3, 301));
        assert!(answers.hold(&hash(2), true, at).is_none(), "a person's is not held");
        assert!(answers.hold(&hash(3), true, at).is_some());
    }
}
