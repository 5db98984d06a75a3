//! Decides, in the hub, when a group's counts are an alert: a state machine over bucket boundaries.
//!
//! At every boundary `E` (a multiple of the bucket's width) in order, with `sum` the counts of the window before `E`:
//!
//! - the condition holds when `sum >= count`;
//! - quiet and it holds: an episode begins, `since = E`, its first bucket is the one that ends at `E`: *firing*;
//! - firing and it holds: at the first such boundary at or after the last notification plus `repeatInterval`: *repeat*;
//! - firing and it does not hold, from a first false boundary `F` on and at `E >= F + resolve.after`: *resolved*, quiet.
//!   A boundary at which it holds again forgets `F`.
//!
//! Invariants: the result is as if every boundary were visited, whatever the steps in which it is asked for; only
//! boundaries at which something can change are looked at. Never here: a clock, or a boundary after `decided_to`.

use domain::{AlertKind, Condition, Millis, RulePlan};
use serde::{Deserialize, Serialize};

use crate::window::Buckets;

/// How long an alert of condition `Any` outlives its last record where the rule says neither `resolve.after` nor
/// `repeatInterval`, ms.
const ANY_RESOLVE_AFTER: i64 = 5 * 60_000;

/// What of a rule's plan decides its alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleParams {
    buckets: Buckets,
    count: i64,
    repeat: Option<i64>,
    resolve_after: i64,
    notify_resolved: bool,
    allowed_lateness: i64,
}

impl RuleParams {
    /// The parameters of a rule that has alerts; none for a rule that speaks for each record (`Any` with neither
    /// `repeatInterval` nor `resolve`).
    pub fn of(plan: &RulePlan) -> Option<Self> {
        let repeat = plan.repeat_interval.map(|interval| interval.0.max(1));
        let (count, window, resolve_after) = match plan.condition {
            Condition::Any if plan.repeat_interval.is_none() && plan.resolve.is_none() => return None,
            Condition::Any => (1, Millis::from_secs(1), Some(repeat.unwrap_or(ANY_RESOLVE_AFTER))),
            Condition::Frequency { count, window } => (count, window, None),
        };
        let buckets = Buckets::of(window);
        let said = plan.resolve.and_then(|resolve| resolve.after).map(|after| after.0.max(0));
        Some(Self {
            buckets,
            count: count.max(1),
            repeat,
            resolve_after: said.or(resolve_after).unwrap_or_else(|| buckets.span()),
            notify_resolved: plan.resolve.is_some_and(|resolve| resolve.notify),
            allowed_lateness: plan.allowed_lateness.0,
        })
    }

    /// How the rule's event time is cut.
    pub fn buckets(&self) -> Buckets {
        self.buckets
    }

    /// The last boundary that a watermark decides: `floor((watermark - allowedLateness) / width) * width`.
    pub fn decided_to(&self, watermark_ms: i64) -> i64 {
        self.buckets.start_of(watermark_ms.saturating_sub(self.allowed_lateness))
    }

    /// Whether a count for the bucket comes after it was decided.
    pub fn is_late(&self, bucket_ms: i64, decided_to_ms: i64) -> bool {
        bucket_ms + self.buckets.width() <= decided_to_ms
    }

    /// Buckets that start before this instant can't matter any more, once all is decided up to the boundary.
    pub fn keep_from(&self, decided_to_ms: i64) -> i64 {
        decided_to_ms.saturating_sub(self.buckets.span() - self.buckets.width())
    }

    fn holds(&self, sum: i64) -> bool {
        sum >= self.count
    }
}

/// What the ledger keeps of a group between decisions. A group that is quiet and has no buckets left has no state worth
/// keeping: it equals [`GroupState::default`].
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupState {
    /// The open episode; none while quiet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub episode: Option<Episode>,
}

/// An alert that has not been resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Episode {
    /// Start of the bucket in which it began: part of the episode's id.
    pub first_bucket_ms: i64,
    /// The boundary at which it began.
    pub since_ms: i64,
    /// The boundary of its last notification.
    pub notified_ms: i64,
    /// Its repeats so far.
    pub repeats: i64,
    /// The window's count at its last notification.
    pub count: i64,
    /// The first boundary since which the condition has not held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_since_ms: Option<i64>,
}

impl GroupState {
    /// Whether no alert is open.
    pub fn is_quiet(&self) -> bool {
        self.episode.is_none()
    }

    /// Ends an open episode for another reason than its condition (the rule changed, is gone). `notify` of the decision
    /// is true; the caller knows whether the rule wants to hear of it.
    pub fn close(&mut self, at_ms: i64) -> Option<Decision> {
        let episode = self.episode.take()?;
        Some(Decision {
            kind: AlertKind::Resolved,
            at_ms,
            first_bucket_ms: episode.first_bucket_ms,
            since_ms: episode.since_ms,
            count: episode.count,
            window_start_ms: episode.first_bucket_ms,
            window_end_ms: at_ms.max(episode.since_ms),
            notify: true,
        })
    }
}

/// A change of a group's alert, of which somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Firing, its n-th repeat, or resolved.
    pub kind: AlertKind,
    /// The boundary at which it was so.
    pub at_ms: i64,
    /// Start of the episode's first bucket: part of its id.
    pub first_bucket_ms: i64,
    /// The boundary at which the episode began.
    pub since_ms: i64,
    /// Matched records in the window.
    pub count: i64,
    /// Start of the window, inclusive.
    pub window_start_ms: i64,
    /// End of the window, exclusive; the boundary.
    pub window_end_ms: i64,
    /// Whether to tell anybody: false for a resolution of which the rule does not want to hear.
    pub notify: bool,
}

/// Decides all boundaries after `decided_from_ms` up to `decided_to_ms`, inclusive.
///
/// `buckets` are the group's (start, count), sorted by start: at least those from [`RuleParams::keep_from`] of
/// `decided_from_ms` on. For a rule that has never decided, `decided_from_ms` is any boundary at or before the first
/// bucket's start.
pub fn advance(
    params: &RuleParams,
    state: &mut GroupState,
    buckets: &[(i64, i64)],
    decided_from_ms: i64,
    decided_to_ms: i64,
) -> Vec<Decision> {
    let mut walk = Walk::new(params, buckets, decided_from_ms);
    let mut decisions = Vec::new();
    while let Some((boundary, sum)) = walk.next(state, decided_to_ms) {
        decisions.extend(step(params, state, boundary, sum));
    }
    decisions
}

/// The next boundary after `decided_to_ms` at which the group's state changes or somebody is told, if no further record
/// is counted; none when nothing will. Until then the group need not be looked at.
pub fn next_due(
    params: &RuleParams,
    state: &GroupState,
    buckets: &[(i64, i64)],
    decided_to_ms: i64,
) -> Option<i64> {
    let mut walk = Walk::new(params, buckets, decided_to_ms);
    let mut after = state.clone();
    while let Some((boundary, sum)) = walk.next(&after, i64::MAX) {
        let told = step(params, &mut after, boundary, sum).is_some();
        if told || after != *state {
            return Some(boundary);
        }
    }
    None
}

/// One boundary of the state machine.
fn step(params: &RuleParams, state: &mut GroupState, boundary: i64, sum: i64) -> Option<Decision> {
    let holds = params.holds(sum);
    let (kind, episode) = match &mut state.episode {
        None if !holds => return None,
        None => {
            let episode = Episode {
                first_bucket_ms: boundary - params.buckets.width(),
                since_ms: boundary,
                notified_ms: boundary,
                repeats: 0,
                count: sum,
                false_since_ms: None,
            };
            state.episode = Some(episode.clone());
            (AlertKind::Firing, episode)
        }
        Some(episode) if holds => {
            episode.false_since_ms = None;
            let due = params.repeat.is_some_and(|repeat| boundary >= episode.notified_ms + repeat);
            if !due {
                return None;
            }
            episode.repeats += 1;
            episode.notified_ms = boundary;
            episode.count = sum;
            (AlertKind::Repeat { n: episode.repeats }, episode.clone())
        }
        Some(episode) => {
            let since = *episode.false_since_ms.get_or_insert(boundary);
            if boundary < since + params.resolve_after {
                return None;
            }
            (AlertKind::Resolved, state.episode.take()?)
        }
    };
    Some(Decision {
        kind,
        at_ms: boundary,
        first_bucket_ms: episode.first_bucket_ms,
        since_ms: episode.since_ms,
        count: sum,
        window_start_ms: params.buckets.window_start(boundary),
        window_end_ms: boundary,
        notify: kind != AlertKind::Resolved || params.notify_resolved,
    })
}

/// Walks the boundaries at which something can change, with the window's sum at each.
struct Walk<'a> {
    params: &'a RuleParams,
    buckets: &'a [(i64, i64)],
    /// The last boundary looked at.
    at: i64,
    first: bool,
    /// Buckets before this index have left the window at `at`.
    left: usize,
    /// Buckets before this index have entered the window at `at`.
    entered: usize,
    sum: i64,
}

impl<'a> Walk<'a> {
    fn new(params: &'a RuleParams, buckets: &'a [(i64, i64)], from: i64) -> Self {
        debug_assert!(buckets.is_sorted_by_key(|(start, _)| *start), "buckets are sorted");
        Self { params, buckets, at: params.buckets.start_of(from), first: true, left: 0, entered: 0, sum: 0 }
    }

    fn next(&mut self, state: &GroupState, to: i64) -> Option<(i64, i64)> {
        let at = self.candidate(state)?;
        if at > to {
            return None;
        }
        self.at = at;
        let grid = self.params.buckets;
        while let Some((_, count)) =
            self.buckets.get(self.entered).filter(|(start, _)| start + grid.width() <= at)
        {
            self.sum += count;
            self.entered += 1;
        }
        while let Some((_, count)) =
            self.buckets.get(self.left).filter(|(start, _)| *start < grid.window_start(at))
        {
            self.sum -= count;
            self.left += 1;
        }
        Some((at, self.sum))
    }

    /// The next boundary after the last one at which the sum or the state may change.
    fn candidate(&mut self, state: &GroupState) -> Option<i64> {
        let (params, grid) = (self.params, self.params.buckets);
        if std::mem::take(&mut self.first) {
            // What held before is not known here: look once.
            return self.at.checked_add(grid.width());
        }
        let enters = self.buckets.get(self.entered).map(|(start, _)| start + grid.width());
        let leaves =
            self.buckets[..self.entered].get(self.left).map(|(start, _)| start + grid.span() + grid.width());
        let timed = state.episode.as_ref().and_then(|episode| match episode.false_since_ms {
            Some(since) => Some(since + params.resolve_after),
            None => params.repeat.map(|repeat| episode.notified_ms + repeat),
        });
        let timed = timed.map(|due| grid.boundary_at_or_after(due)).filter(|due| *due > self.at);
        [enters, leaves, timed].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
