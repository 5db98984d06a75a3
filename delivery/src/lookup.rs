//! Resolves names for all channels by the system's resolver, and returns only addresses that the guard allows.
//!
//! The system's resolver blocks a thread for each question, and there are few threads: a name whose servers are silent must
//! not take them all. So each name has one question at a time, and its answer serves all callers that waited for it.
//!
//! An answer is kept for at most a second, and the guard checks its addresses at each use.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::{Denied, Guard};
use tokio::time::Instant;

/// How long an answer serves later callers.
const FRESH: Duration = Duration::from_secs(1);
/// Above this many names, those that nobody waits for are forgotten.
const NAMES: usize = 256;

type Answer = Result<Vec<IpAddr>, String>;
type CachedAnswer = Arc<tokio::sync::Mutex<Option<(Instant, Answer)>>>;

/// Why a name has no usable address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    /// The guard denies each of its addresses.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// It has no address, or DNS doesn't answer.
    #[error("the name can't be resolved: {0}")]
    Dns(String),
}

/// See the module.
pub(crate) struct Lookup {
    guard: Guard,
    names: Mutex<HashMap<String, CachedAnswer>>,
}

impl Lookup {
    pub(crate) fn new(guard: Guard) -> Self {
        Self { guard, names: Mutex::default() }
    }

    /// The guard that checks addresses.
    pub(crate) fn guard(&self) -> Guard {
        self.guard
    }

    /// The addresses of `host`, a name or an address, that the guard allows: at least one.
    pub(crate) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, LookupError> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let found = match host.parse() {
            Ok(literal) => vec![literal],
            Err(_) => self.resolve(host).await.map_err(LookupError::Dns)?,
        };
        let allowed = allowed(self.guard, &found)?;
        Ok(allowed.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }

    async fn resolve(&self, host: &str) -> Answer {
        let (slot, host) = (self.slot(host), host.to_owned());
        // Goes on if the caller gives up, so that the next caller waits for it instead of taking another thread.
        let question = tokio::spawn(async move {
            let mut known = slot.lock().await;
            if let Some((_, answer)) = known.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
                return answer.clone();
            }
            let answer = match tokio::net::lookup_host((host.as_str(), 0)).await {
                Ok(found) => Ok(found.map(|address| address.ip()).collect()),
                Err(error) => Err(error.to_string()),
            };
            *known = Some((Instant::now(), answer.clone()));
            answer
        });
        question.await.unwrap_or_else(|_| Err("the lookup did not end".to_owned()))
    }

    fn slot(&self, host: &str) -> CachedAnswer {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES {
            names.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(names.entry(host.to_owned()).or_default())
    }
}

/// The addresses among `found` that the guard allows: at least one.
fn allowed(guard: Guard, found: &[IpAddr]) -> Result<Vec<IpAddr>, LookupError> {
    let mut denied = None;
    let mut allowed = Vec::new();
    for address in found {
        match guard.check(*address) {
            Ok(()) => allowed.push(*address),
            Err(why) => denied = denied.or(Some(why)),
        }
    }
    match denied {
        _ if !allowed.is_empty() => Ok(allowed),
        Some(why) => Err(why.into()),
        None => Err(LookupError::Dns("the name has no address".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_leads_to_loopback_only_has_no_address() {
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            let error = Lookup::new(Guard::new(false)).addresses(host, 80).await.unwrap_err();
            assert!(matches!(error, LookupError::Denied(Denied { class: "loopback", .. })), "{error}");
        }
    }

    #[tokio::test]
    async fn an_answer_or_failure_serves_all_waiting_callers() {
        let lookup = Lookup::new(Guard::allowing_loopback_in_tests(false));
        let found = lookup.addresses("localhost", 7).await.unwrap();
        assert!(found.iter().all(|address| address.port() == 7 && address.ip().is_loopback()));
        let (one, two) =
            tokio::join!(lookup.addresses("no-such.invalid", 1), lookup.addresses("no-such.invalid", 1));
        assert!(matches!((one, two), (Err(LookupError::Dns(_)), Err(LookupError::Dns(_)))));
        assert_eq!(lookup.names.lock().unwrap().len(), 2);
    }

    #[test]
    fn only_allowed_addresses_are_returned() {
        let (inside, outside): (IpAddr, IpAddr) = ("127.0.0.1".parse().unwrap(), "1.1.1.1".parse().unwrap());
        let guard = Guard::new(false);
        assert_eq!(allowed(guard, &[inside, outside]).unwrap(), [outside]);
        assert!(matches!(
            allowed(guard, &[inside]),
            Err(LookupError::Denied(Denied { class: "loopback", .. }))
        ));
        assert!(matches!(allowed(guard, &[]), Err(LookupError::Dns(_))));
    }
}
