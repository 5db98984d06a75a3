//! Decides what follows an attempt: another one after an exponential delay with full jitter, or the end.
//!
//! Clauses of docs/semantics.md: D9, D10, D11.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{DeliveryPolicy, DeliveryState, Millis, OnUnknown, Outcome};

/// Exponential back-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicy {
    /// All attempts, the first included; 1 to 100.
    pub max_attempts: i32,
    /// The longest wait before the second attempt.
    pub initial_delay: Millis,
    /// The longest wait before any attempt.
    pub max_delay: Millis,
}

/// What follows an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The delivery ends in this state, with a reason unless it was delivered.
    End(DeliveryState, String),
    /// The delivery is tried again at this time.
    Again(Timestamp),
}

impl RetryPolicy {
    /// The wait before attempt `made + 1`, with full jitter: `chance` in `0.0..1.0` picks a wait between zero and
    /// `min(max_delay, initial_delay * 2^(made - 1))`.
    pub fn delay(&self, made: i32, chance: f64) -> Millis {
        let doublings = u32::try_from(made - 1).unwrap_or(0).min(40);
        let step = self.initial_delay.0.saturating_mul(1_i64 << doublings).min(self.max_delay.0);
        Millis((step as f64 * chance.clamp(0.0, 1.0)) as i64)
    }
}

/// The wait after an attempt that sent nothing. The worker that lacks something doesn't claim the delivery again before it has
/// that, but another worker may have it.
const NOT_SENT: Millis = Millis(5_000);

impl DeliveryPolicy {
    /// Decides what follows attempt number `made` (from 1) of a delivery that expires at `expires`. Attempts that sent nothing are
    /// not counted in `made`.
    ///
    /// A `Retry-After` is a lower bound of the wait. If the wait would end at or after `expires`, the delivery expires now.
    pub fn decide(
        &self,
        outcome: &Outcome,
        made: i32,
        now: Timestamp,
        expires: Timestamp,
        chance: f64,
    ) -> Verdict {
        let (reason, asked) = match outcome {
            Outcome::Delivered => return Verdict::End(DeliveryState::Delivered, String::new()),
            Outcome::Refused { reason } => return Verdict::End(DeliveryState::Dead, reason.clone()),
            Outcome::Unknown { reason } if self.on_unknown == OnUnknown::Hold => {
                return Verdict::End(
                    DeliveryState::Dead,
                    format!("held because the outcome is unknown: {reason}"),
                );
            }
            Outcome::NotSent { reason } => return again(NOT_SENT, now, expires, reason),
            Outcome::Unknown { reason } => (reason, None),
            Outcome::Later { reason, wait, .. } => (reason, *wait),
        };
        if made >= self.retry.max_attempts {
            let attempts = if made == 1 { "attempt" } else { "attempts" };
            return Verdict::End(DeliveryState::Dead, format!("gave up after {made} {attempts}: {reason}"));
        }
        let wait = self.retry.delay(made, chance).max(asked.unwrap_or_default());
        again(wait, now, expires, reason)
    }
}

fn again(wait: Millis, now: Timestamp, expires: Timestamp, reason: &str) -> Verdict {
    let at = now.checked_add(SignedDuration::from_millis(wait.0)).unwrap_or(expires);
    if at >= expires {
        return Verdict::End(DeliveryState::Expired, format!("expired before the next attempt: {reason}"));
    }
    Verdict::Again(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
    const EXPIRES: Timestamp = Timestamp::constant(1_800_086_400, 0);

    fn policy(on_unknown: OnUnknown) -> DeliveryPolicy {
        DeliveryPolicy {
            rate_limit: None,
            retry: RetryPolicy {
                max_attempts: 3,
                initial_delay: Millis::from_secs(10),
                max_delay: Millis::from_secs(15),
            },
            timeout: Millis::from_secs(10),
            expires_after: Millis::from_secs(86_400),
            on_unknown,
        }
    }

    fn later(wait: Option<Millis>) -> Outcome {
        Outcome::Later { reason: "503".to_owned(), wait, channel_wide: false }
    }

    fn after(seconds: i64) -> Verdict {
        Verdict::Again(NOW + SignedDuration::from_secs(seconds))
    }

    #[test]
    fn the_delay_doubles_up_to_its_bound_and_chance_picks_within_it() {
        let retry = policy(OnUnknown::Resend).retry;
        assert_eq!(retry.delay(1, 1.0), Millis::from_secs(10));
        assert_eq!(retry.delay(2, 1.0), Millis::from_secs(15));
        assert_eq!(retry.delay(60, 0.5), Millis(7_500));
        assert_eq!(retry.delay(1, 0.0), Millis(0));
    }

    #[test]
    fn retry_after_is_a_lower_bound_of_the_wait() {
        let policy = policy(OnUnknown::Resend);
        assert_eq!(policy.decide(&later(Some(Millis::from_secs(30))), 1, NOW, EXPIRES, 1.0), after(30));
        assert_eq!(policy.decide(&later(Some(Millis::from_secs(1))), 1, NOW, EXPIRES, 1.0), after(10));
    }

    #[test]
    fn the_last_attempt_that_fails_ends_it_dead() {
        let verdict = policy(OnUnknown::Resend).decide(&later(None), 3, NOW, EXPIRES, 0.5);
        assert_eq!(verdict, Verdict::End(DeliveryState::Dead, "gave up after 3 attempts: 503".to_owned()));
    }

    #[test]
    fn what_was_not_sent_is_no_attempt_and_waits_until_it_expires() {
        let policy = policy(OnUnknown::Resend);
        let not_sent = Outcome::NotSent { reason: "no key".to_owned() };
        assert_eq!(policy.decide(&not_sent, 3, NOW, EXPIRES, 1.0), after(5));
        let soon = NOW + SignedDuration::from_secs(5);
        let ended = policy.decide(&not_sent, 0, NOW, soon, 1.0);
        let why = "expired before the next attempt: no key".to_owned();
        assert_eq!(ended, Verdict::End(DeliveryState::Expired, why));
    }

    #[test]
    fn a_wait_past_the_expiry_ends_it_expired() {
        let verdict =
            policy(OnUnknown::Resend).decide(&later(Some(Millis::from_secs(90_000))), 1, NOW, EXPIRES, 0.5);
        assert!(matches!(verdict, Verdict::End(DeliveryState::Expired, _)), "{verdict:?}");
    }

    #[test]
    fn an_unknown_outcome_is_sent_again_or_held_as_the_channel_says() {
        let unknown = Outcome::Unknown { reason: "timeout".to_owned() };
        assert_eq!(policy(OnUnknown::Resend).decide(&unknown, 1, NOW, EXPIRES, 1.0), after(10));
        let held = policy(OnUnknown::Hold).decide(&unknown, 1, NOW, EXPIRES, 1.0);
        assert!(
            matches!(held, Verdict::End(DeliveryState::Dead, ref why) if why.contains("held")),
            "{held:?}"
        );
    }

    #[test]
    fn a_refusal_is_never_tried_again() {
        let refused = Outcome::Refused { reason: "410 Gone".to_owned() };
        let verdict = policy(OnUnknown::Resend).decide(&refused, 1, NOW, EXPIRES, 0.5);
        assert_eq!(verdict, Verdict::End(DeliveryState::Dead, "410 Gone".to_owned()));
    }
}
