//! Attempts under way, for metrics alone: their channel type, and when they began. A restart loses them, which only
//! leaves out some measurements.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use protocol::messages::{AttemptOutcome, Claimed};
use uuid::Uuid;

use crate::metrics::{AttemptLabels, ChannelTypeLabel, Metrics};

/// How many attempts are remembered at the same time.
const MOST: usize = 50_000;
/// An attempt without an outcome is forgotten after this time.
const LONGEST: Duration = Duration::from_mins(15);

/// Channel type and start time, by delivery and attempt number.
type UnderWay = HashMap<(Uuid, i32), (&'static str, Instant)>;

/// The attempts that were handed out and have no outcome yet.
#[derive(Default)]
pub(crate) struct Attempts(Mutex<UnderWay>);

impl Attempts {
    pub(crate) fn claimed<N>(&self, claimed: &Claimed<N>, at: Instant) {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for task in &claimed.tasks {
            if under_way.len() >= MOST {
                return;
            }
            if let Some(channel) = claimed.channels.get(&task.channel) {
                under_way.insert((task.delivery, task.attempt), (channel.plan.target.name(), at));
            }
        }
    }

    pub(crate) fn ended(&self, outcomes: &[AttemptOutcome], metrics: &Metrics, at: Instant) {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for each in outcomes {
            // Unknown after a restart of the hub, or reported twice.
            let Some((channel_type, began)) = under_way.remove(&(each.delivery, each.attempt)) else {
                continue;
            };
            let labels = AttemptLabels { channel_type, outcome: each.outcome.name() };
            metrics.attempts.get_or_create(&labels).inc();
            let seconds = at.saturating_duration_since(began).as_secs_f64();
            metrics.attempt_seconds.get_or_create(&ChannelTypeLabel { channel_type }).observe(seconds);
        }
    }

    /// Forgets attempts whose worker never reported back.
    pub(crate) fn tidy(&self, at: Instant) {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, (_, began)| at.saturating_duration_since(*began) < LONGEST);
    }
}
