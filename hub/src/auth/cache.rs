//! What the API server answered, for a while: bounded, keyed by structs, never by joined text.
//!
//! Only confirmed tokens enter the larger map, so junk can't push out what is good.

use std::collections::HashMap;
use std::hash::Hash as Key;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Known;
use super::token::Hash;

const KNOWN_FOR: Duration = Duration::from_mins(10);
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
const ACCESS_FOR: Duration = Duration::from_mins(1);
/// How long a held answer serves before the API server is tried again, so that it being down costs no request its time.
const HELD_FOR: Duration = Duration::from_secs(5);
const MOST_KNOWN: usize = 8_192;
const MOST_UNKNOWN: usize = 4_096;
const MOST_ACCESS: usize = 4_096;

/// One question of access.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Access {
    pub(super) token: Hash,
    pub(super) namespace: String,
}

struct Fresh<T> {
    answer: T,
    until: Instant,
}

#[derive(Default)]
struct Maps {
    known: HashMap<Hash, Fresh<Arc<Known>>>,
    unknown: HashMap<Hash, Fresh<()>>,
    access: HashMap<Access, Fresh<bool>>,
}

#[derive(Default)]
pub(super) struct Answers {
    maps: Mutex<Maps>,
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a token: nothing, that it is nobody's, or whose it is.
    #[allow(clippy::option_option, reason = "not known, known to be nobody's, known")]
    pub(super) fn token(&self, hash: &Hash, at: Instant) -> Option<Option<Arc<Known>>> {
        let maps = self.lock();
        if let Some(fresh) = maps.known.get(hash).filter(|fresh| fresh.until > at) {
            return Some(Some(fresh.answer.clone()));
        }
        maps.unknown.get(hash).filter(|fresh| fresh.until > at).map(|_| None)
    }

    pub(super) fn keep(&self, hash: Hash, answer: Option<Arc<Known>>, at: Instant) {
        let mut maps = self.lock();
        if let Some(answer) = answer {
            maps.unknown.remove(&hash);
            insert(&mut maps.known, hash, Fresh { answer, until: at + KNOWN_FOR }, MOST_KNOWN, at);
        } else {
            maps.known.remove(&hash);
            insert(&mut maps.unknown, hash, Fresh { answer: (), until: at + UNKNOWN_FOR }, MOST_UNKNOWN, at);
        }
    }

    /// The earlier answer while the API server is down. A token that does not say when it ends is not held.
    pub(super) fn hold(&self, hash: &Hash, says_when_it_ends: bool, at: Instant) -> Option<Arc<Known>> {
        let mut maps = self.lock();
        let fresh = maps.known.get_mut(hash).filter(|_| says_when_it_ends)?;
        fresh.until = fresh.until.max(at + HELD_FOR);
        Some(fresh.answer.clone())
    }

    /// Makes every answer stale, as ten minutes would.
    #[cfg(test)]
    pub(super) fn age(&self) {
        let past = Instant::now().checked_sub(Duration::from_millis(1));
        for fresh in self.lock().known.values_mut() {
            fresh.until = past.unwrap_or(fresh.until);
        }
    }

    pub(super) fn access(&self, key: &Access, at: Instant) -> Option<bool> {
        self.lock().access.get(key).filter(|fresh| fresh.until > at).map(|fresh| fresh.answer)
    }

    pub(super) fn keep_access(&self, key: Access, answer: bool, at: Instant) {
        let until = at + if answer { ACCESS_FOR } else { UNKNOWN_FOR };
        insert(&mut self.lock().access, key, Fresh { answer, until }, MOST_ACCESS, at);
    }
}

/// Inserts; a full map first drops what is stale, and if nothing is, the oldest half.
fn insert<K: Key + Eq, T>(map: &mut HashMap<K, Fresh<T>>, key: K, fresh: Fresh<T>, most: usize, at: Instant) {
    if map.len() >= most && !map.contains_key(&key) {
        map.retain(|_, fresh| fresh.until > at);
        if map.len() >= most {
            let mut ends: Vec<Instant> = map.values().map(|fresh| fresh.until).collect();
            let middle = ends.len() / 2;
            let (_, median, _) = ends.select_nth_unstable(middle);
            let median = *median;
            map.retain(|_, fresh| fresh.until > median);
        }
    }
    map.insert(key, fresh);
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
        let good = Arc::new(Known { identity: super::super::Identity::default(), for_hub: true });
        answers.keep(hash(0), Some(good), at);
        for n in 1..20_000 {
            answers.keep(hash(n), None, at + Duration::from_micros(n as u64));
        }
        assert!(answers.lock().unknown.len() <= MOST_UNKNOWN);
        assert!(matches!(answers.token(&hash(0), at), Some(Some(_))));
    }

    #[test]
    fn nobodys_token_is_asked_about_again_after_ten_seconds() {
        let answers = Answers::default();
        let at = Instant::now();
        answers.keep(hash(1), None, at);
        assert!(matches!(answers.token(&hash(1), at + Duration::from_secs(9)), Some(None)));
        assert!(answers.token(&hash(1), at + Duration::from_secs(11)).is_none());
    }
}
