//! Logs refused requests, at most [`LOGGED_PER_SECOND`], so that a flood of junk does not fill the log. All
//! refusals are counted elsewhere.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serving::Peer;

use crate::auth::Denied;
use crate::limits::Bucket;

/// Refusals logged a second.
const LOGGED_PER_SECOND: u64 = 20;
/// How much of a request's path is logged, characters.
const LOGGED_PATH: usize = 200;

/// The budget of log lines about refusals.
pub(crate) struct Denials(Mutex<Bucket>);

impl Denials {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Bucket::new(LOGGED_PER_SECOND, Instant::now())))
    }

    pub(crate) fn log(&self, denied: &Denied, path: &str, peer: Option<Peer>) {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = Instant::now();
        if !bucket.wait(at).is_zero() {
            return;
        }
        bucket.spend(1, at);
        drop(bucket);
        let path: String = path.chars().take(LOGGED_PATH).collect();
        tracing::warn!(
            status = denied.refusal.status.as_u16(),
            who = denied.who.as_deref().unwrap_or("unknown"),
            path,
            peer = peer.map(|Peer(address)| tracing::field::display(address)),
            reason = denied.refusal.message,
            "refused"
        );
    }
}
