//! Which sending workers are alive, so that the attempts of a worker that is gone are given up before their leases
//! end.
//!
//! A worker's process is gone when another process of the same pod asks for work: the kubelet starts one after the
//! other. It is also taken for gone after 10 s of silence while another pod works in its place; a worker with
//! attempts in hand reports every 2 s. A worker that is alone keeps its leases to their end, however silent it is.
//! All this is only in memory: after a restart of the hub every worker has 10 s to report. Several hubs tell each other
//! whom they hear (`peers.rs`).
//!
//! Correctness does not depend on it: an outcome that arrives later is still recorded, and a message that was sent
//! twice has the same id both times.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ledger::PresentWorkers;
use protocol::messages::Pool;
use uuid::Uuid;

use crate::peers::ShownSession;

/// How long a worker with a successor may be silent before it is taken for gone.
const SILENT: Duration = Duration::from_secs(10);
/// Processes of one namespace and pool. With more, nothing is given up early.
const MOST: usize = 64;

type Key = (String, Pool);

#[derive(Debug)]
struct Session {
    instance: String,
    heard: Instant,
    /// How many of its claims wait for work now.
    waiting: usize,
    /// It was another hub that heard it last.
    by_peer: bool,
}

#[derive(Debug, Default)]
struct PoolSessions {
    sessions: HashMap<Uuid, Session>,
    /// Whether a process came or went since `changed_pools` was last asked.
    news: bool,
    /// Whether every process has had its 10 s since the hub started.
    all_heard: bool,
}

/// The known processes of all namespaces.
#[derive(Clone)]
pub(crate) struct Sessions {
    pools: Arc<Mutex<HashMap<Key, PoolSessions>>>,
    began: Instant,
    /// Other hubs may hear workers, and it is not known now which ones.
    unknown: Arc<AtomicBool>,
}

/// Held while a claim waits, which shows that its worker is alive. Dropped when the claim ends, however it ends.
pub(crate) struct WaitingClaim {
    sessions: Sessions,
    key: Key,
    session: Uuid,
}

impl Drop for WaitingClaim {
    fn drop(&mut self) {
        let mut pools = self.sessions.lock();
        let session =
            pools.get_mut(&self.key).and_then(|pool_sessions| pool_sessions.sessions.get_mut(&self.session));
        if let Some(session) = session {
            session.waiting = session.waiting.saturating_sub(1);
            session.heard = Instant::now();
        }
    }
}

impl Sessions {
    pub(crate) fn new(began: Instant) -> Self {
        Self { pools: Arc::default(), began, unknown: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, PoolSessions>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a process is alive. An earlier process of the same pod has then ended.
    pub(crate) fn heard(&self, ns: &str, pool: Pool, instance: &str, session: Uuid, at: Instant) {
        let mut pools = self.lock();
        let pool_sessions = pools.entry((ns.to_owned(), pool)).or_default();
        if let Some(known) = pool_sessions.sessions.get_mut(&session) {
            (known.heard, known.by_peer) = (at, false);
            return;
        }
        pool_sessions.sessions.retain(|_, other| other.instance != instance);
        pool_sessions.news = true;
        if pool_sessions.sessions.len() <= MOST {
            let instance = instance.to_owned();
            pool_sessions
                .sessions
                .insert(session, Session { instance, heard: at, waiting: 0, by_peer: false });
        }
    }

    /// Records that another hub heard a process. What is known better stays.
    pub(crate) fn heard_by_peer(&self, ns: &str, pool: Pool, instance: &str, session: Uuid, at: Instant) {
        let mut pools = self.lock();
        let pool_sessions = pools.entry((ns.to_owned(), pool)).or_default();
        let is_old = |known: &Session| known.heard >= at || known.waiting > 0;
        if let Some(known) = pool_sessions.sessions.get_mut(&session) {
            if !is_old(known) {
                (known.heard, known.by_peer) = (at, true);
            }
            return;
        }
        // An earlier process of a pod that has a newer one.
        if pool_sessions.sessions.values().any(|known| known.instance == instance && is_old(known)) {
            return;
        }
        pool_sessions.sessions.retain(|_, other| other.instance != instance);
        pool_sessions.news = true;
        if pool_sessions.sessions.len() <= MOST {
            let instance = instance.to_owned();
            pool_sessions
                .sessions
                .insert(session, Session { instance, heard: at, waiting: 0, by_peer: true });
        }
    }

    /// The processes that this hub heard itself.
    pub(crate) fn shown(&self, at: Instant) -> Vec<ShownSession> {
        let mut shown = Vec::new();
        for ((ns, pool), pool_sessions) in &*self.lock() {
            for (session, known) in pool_sessions.sessions.iter().filter(|(_, known)| !known.by_peer) {
                let age = if known.waiting > 0 {
                    Duration::ZERO
                } else {
                    at.saturating_duration_since(known.heard)
                };
                shown.push(ShownSession {
                    namespace: ns.clone(),
                    pool: *pool,
                    instance: known.instance.clone(),
                    session: *session,
                    age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
                });
            }
        }
        shown
    }

    /// Whether it is known whom the other hubs hear. While it is not, nobody is taken for gone because of silence.
    pub(crate) fn others_are_known(&self, known: bool) {
        self.unknown.store(!known, Ordering::Relaxed);
    }

    /// Records the same of a process that asks for work, for as long as the claim waits.
    pub(crate) fn claims(&self, ns: &str, pool: Pool, instance: &str, session: Uuid) -> WaitingClaim {
        self.heard(ns, pool, instance, session, Instant::now());
        let key = (ns.to_owned(), pool);
        if let Some(known) =
            self.lock().get_mut(&key).and_then(|pool_sessions| pool_sessions.sessions.get_mut(&session))
        {
            known.waiting += 1;
        }
        WaitingClaim { sessions: self.clone(), key, session }
    }

    /// Pools in which a process came or went, each with the processes that are alive.
    pub(crate) fn changed_pools(&self, at: Instant) -> Vec<(String, Pool, PresentWorkers)> {
        let all_heard =
            at.saturating_duration_since(self.began) >= SILENT && !self.unknown.load(Ordering::Relaxed);
        let mut looks = Vec::new();
        self.lock().retain(|(ns, pool), pool_sessions| {
            let before = pool_sessions.sessions.len();
            pool_sessions.sessions.retain(|_, session| {
                session.waiting > 0 || at.saturating_duration_since(session.heard) < SILENT
            });
            let news = pool_sessions.news
                || pool_sessions.sessions.len() < before
                || pool_sessions.all_heard != all_heard;
            (pool_sessions.news, pool_sessions.all_heard) = (false, all_heard);
            if news && (1..=MOST).contains(&pool_sessions.sessions.len()) {
                let sessions = pool_sessions.sessions.keys().copied().collect();
                let instances =
                    pool_sessions.sessions.values().map(|session| session.instance.clone()).collect();
                looks.push((
                    ns.clone(),
                    *pool,
                    PresentWorkers { sessions, instances, others_are_gone: all_heard },
                ));
            }
            !pool_sessions.sessions.is_empty()
        });
        looks
    }

    /// Makes the next `changed_pools` return this pool again: there is more to give up, or giving up failed.
    pub(crate) fn mark_changed(&self, ns: &str, pool: Pool) {
        if let Some(pool_sessions) = self.lock().get_mut(&(ns.to_owned(), pool)) {
            pool_sessions.news = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Uuid = Uuid::from_u128(1);
    const TWO: Uuid = Uuid::from_u128(2);

    fn after(at: Instant, seconds: u64) -> Instant {
        at + Duration::from_secs(seconds)
    }

    fn there(sessions: &Sessions, at: Instant) -> Option<(Vec<Uuid>, bool)> {
        let mut looks = sessions.changed_pools(at);
        assert!(looks.len() <= 1, "{looks:?}");
        looks.pop().map(|(_, _, there)| {
            let mut sessions = there.sessions;
            sessions.sort();
            (sessions, there.others_are_gone)
        })
    }

    #[test]
    fn a_process_of_the_same_pod_ends_the_one_before_at_once() {
        let at = Instant::now();
        let sessions = Sessions::new(at);
        sessions.heard("a", Pool::Send, "pod", ONE, at);
        assert_eq!(there(&sessions, at), Some((vec![ONE], false)));
        assert_eq!(there(&sessions, at), None, "no news");
        sessions.heard("a", Pool::Send, "pod", TWO, after(at, 1));
        assert_eq!(there(&sessions, after(at, 1)), Some((vec![TWO], false)));
    }

    #[test]
    fn a_silent_process_is_gone_when_another_works_in_its_place_and_never_when_it_is_alone() {
        let at = Instant::now();
        let sessions = Sessions::new(at);
        let beat = |pod: &str, id, seconds| sessions.heard("a", Pool::Send, pod, id, after(at, seconds));
        beat("old", ONE, 60);
        assert_eq!(there(&sessions, after(at, 60)), Some((vec![ONE], true)));
        assert_eq!(there(&sessions, after(at, 90)), None, "alone");
        beat("old", ONE, 100);
        beat("new", TWO, 105);
        assert_eq!(
            there(&sessions, after(at, 105)),
            Some((vec![ONE, TWO], true)),
            "in a roll-out both are there"
        );
        beat("new", TWO, 109);
        assert_eq!(there(&sessions, after(at, 109)), None);
        assert_eq!(there(&sessions, after(at, 110)), Some((vec![TWO], true)), "silent for 10 s");
        beat("old", ONE, 111);
        assert_eq!(there(&sessions, after(at, 111)), Some((vec![ONE, TWO], true)), "it is back");
    }

    #[test]
    fn a_claim_that_waits_says_that_its_worker_is_there() {
        let at = Instant::now();
        let sessions = Sessions::new(at);
        let waiting = sessions.claims("a", Pool::Retry, "old", ONE);
        sessions.heard("a", Pool::Retry, "new", TWO, after(at, 29));
        assert_eq!(there(&sessions, after(at, 30)), Some((vec![ONE, TWO], true)));
        drop(waiting);
        sessions.heard("a", Pool::Retry, "new", TWO, after(at, 60));
        assert_eq!(there(&sessions, after(at, 60)), Some((vec![TWO], true)));
    }

    #[test]
    fn after_a_start_everybody_has_their_time_and_namespaces_that_are_silent_are_forgotten() {
        let at = Instant::now();
        let sessions = Sessions::new(at);
        sessions.heard("a", Pool::Send, "new", TWO, after(at, 5));
        assert_eq!(there(&sessions, after(at, 5)), Some((vec![TWO], false)));
        assert_eq!(there(&sessions, after(at, 10)), Some((vec![TWO], true)), "others had 10 s");
        assert_eq!(there(&sessions, after(at, 40)), None);
        assert!(sessions.lock().is_empty());
    }

    #[test]
    fn what_another_hub_heard_counts_unless_it_is_known_better() {
        let at = Instant::now();
        let sessions = Sessions::new(at);
        sessions.heard("a", Pool::Send, "new", TWO, after(at, 20));
        sessions.heard_by_peer("a", Pool::Send, "old", ONE, after(at, 19));
        assert_eq!(there(&sessions, after(at, 20)), Some((vec![ONE, TWO], true)));
        assert_eq!(sessions.shown(after(at, 20)).len(), 1, "it shows only whom it heard itself");
        // An earlier process of the same pod, of which the other hub heard last.
        sessions.heard_by_peer("a", Pool::Send, "new", Uuid::from_u128(3), after(at, 19));
        assert_eq!(there(&sessions, after(at, 25)), None);
        assert_eq!(there(&sessions, after(at, 29)), Some((vec![TWO], true)), "silent at both");
        // A later one.
        sessions.heard_by_peer("a", Pool::Send, "new", Uuid::from_u128(3), after(at, 29));
        assert_eq!(there(&sessions, after(at, 29)), Some((vec![Uuid::from_u128(3)], true)));
        sessions.others_are_known(false);
        assert_eq!(there(&sessions, after(at, 30)), Some((vec![Uuid::from_u128(3)], false)));
    }

    #[test]
    fn more_processes_than_a_namespace_has_end_nothing_early() {
        let at = Instant::now();
        let sessions = Sessions::new(at);
        for n in 0..10_000 {
            sessions.heard("a", Pool::Send, &n.to_string(), Uuid::from_u128(n), at);
        }
        assert_eq!(there(&sessions, after(at, 1)), None);
        assert!(sessions.lock().values().all(|pool_sessions| pool_sessions.sessions.len() <= MOST + 1));
    }
}
