//! Long polls: look, wait for a change, look again, until there is news, the caller's time is up, or the hub stops.
//!
//! Invariant: the receiver is made before the first look, so no change is missed in between. A dropped wait leaves
//! nothing behind.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The longest that a caller may wait.
pub(crate) const LONGEST: Duration = Duration::from_mins(1);

/// One long poll's bounds.
pub(crate) struct Wait {
    until: Instant,
    stop: CancellationToken,
}

impl Wait {
    /// The bounds of a request that asks to wait `wait_ms`, at most `longest`.
    pub(crate) fn new(wait_ms: u64, longest: Duration, stop: &CancellationToken) -> Self {
        let wait = Duration::from_millis(wait_ms).min(longest);
        Self { until: Instant::now() + wait, stop: stop.clone() }
    }

    /// Waits for a change, at most until `at`. `false` means that the time is up or the hub stops: the caller
    /// answers with what there is.
    pub(crate) async fn news(&self, changed: &mut watch::Receiver<u64>, at: Option<Instant>) -> bool {
        let wake = at.map_or(self.until, |at| at.min(self.until));
        if self.is_over() {
            return false;
        }
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep_until(wake) => wake < self.until,
            changed = changed.changed() => changed.is_ok(),
        }
    }

    /// Whether nothing more should be begun.
    pub(crate) fn is_over(&self) -> bool {
        self.stop.is_cancelled() || Instant::now() >= self.until
    }

    /// Whether the hub stops.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_at_its_time_at_a_change_and_at_the_stop() {
        let (change, mut changed) = watch::channel(0);
        let stop = CancellationToken::new();
        let wait = Wait::new(1_000, LONGEST, &stop);
        let soon = Instant::now() + Duration::from_millis(10);
        assert!(wait.news(&mut changed, Some(soon)).await, "woken early to look again");
        change.send_replace(1);
        assert!(wait.news(&mut changed, None).await);
        assert!(!wait.news(&mut changed, None).await, "its time is up");
        assert!(wait.is_over());
        let wait = Wait::new(u64::MAX, LONGEST, &stop);
        assert!(wait.until <= Instant::now() + LONGEST);
        stop.cancel();
        assert!(!wait.news(&mut changed, None).await);
    }
}
