//! Attempts under way, for metrics alone: of which channel type, and since when. Lost with the process, and nobody minds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use protocol::messages::{AttemptOutcome, Claimed};
use uuid::Uuid;

use crate::metrics::{AttemptLabels, ChannelTypeLabel, Metrics};

/// Attempts remembered at the same time.
const MOST: usize = 50_000;
/// After which an attempt without an outcome is forgotten.
const LONGEST: Duration = Duration::from_mins(15);

/// Channel type and beginning, by delivery and number.
type UnderWay = HashMap<(Uuid, i32), (&'static str, Instant)>;

/// What was handed out.
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
            // Unknown after a restart of the hub, or told twice.
            let Some((channel_type, began)) = under_way.remove(&(each.delivery, each.attempt)) else {
                continue;
            };
            let labels = AttemptLabels { channel_type, outcome: each.outcome.name() };
            metrics.attempts.get_or_create(&labels).inc();
            let seconds = at.saturating_duration_since(began).as_secs_f64();
            metrics.attempt_seconds.get_or_create(&ChannelTypeLabel { channel_type }).observe(seconds);
        }
    }

    /// Forgets attempts whose worker never came back.
    pub(crate) fn tidy(&self, at: Instant) {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, (_, began)| at.saturating_duration_since(*began) < LONGEST);
    }
}
