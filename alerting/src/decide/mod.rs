//! Decides when a group's counts are an alert: a state machine over bucket boundaries, run by the hub.
//!
//! It visits every boundary `E` (a multiple of the bucket's width) in order, with what [`WindowTest`] sees in the
//! window before `E`:
//!
//! - quiet, and the condition holds: *pending* since the first such boundary `P`. A boundary at which it does not hold
//!   resets `P`.
//! - pending, and `E >= P + for` (at once without `for`): *firing*. An episode begins with `since = P`; its first
//!   bucket is the one that ends at `P`.
//! - firing, and the condition holds: *repeat* at the first such boundary at or after the last notification plus
//!   `repeatInterval`. The interval is multiplied by `repeatFactor` for each repeat so far, up to a day or
//!   `repeatInterval` if that is longer.
//! - firing, and the condition does not hold from a boundary `F` on: *resolved* at `E >= F + resolve.after`, then
//!   quiet. A boundary at which it holds again resets `F`. With `resolve.below`, an open alert goes on until the
//!   measured number is below that.
//!
//! `NewValue`, `Change` and `Extreme` without `repeatInterval` and `resolve` have no episodes that last: each boundary
//! at which they hold is a notification of its own.
//!
//! Invariants: the result is the same as if every boundary were visited, in whatever steps it is asked for; only
//! boundaries at which something can change are visited. No boundary after `decided_to` is decided.
//!
//! Clauses of docs/semantics.md: E5, E10.

mod condition;
mod group;
mod state;
mod walk;

use std::collections::BTreeMap;

use domain::{AlertKind, Condition, Extras, Millis, RulePlan, Sample};

pub use condition::{SEEN_KEPT, WindowTest};
pub use group::{GroupDecisions, Reached, decide, observed};
pub use state::{Episode, GroupState};

use crate::window::Buckets;
use walk::{BoundaryWalk, WindowSums};

/// For a condition without a window: how long after its last record an alert resolves, if the rule has neither
/// `resolve.after` nor `repeatInterval`, ms.
const RESOLVE_AFTER: i64 = 5 * 60_000;
/// The longest wait for a repeat with a `repeatFactor`, ms, unless `repeatInterval` is longer.
pub const MAX_REPEAT: i64 = 24 * 3_600_000;

/// Label name to value.
pub type Group = BTreeMap<String, String>;

/// What is known of one bucket of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// Its start, Unix ms.
    pub start_ms: i64,
    /// Matched records.
    pub count: i64,
    /// What the condition needs beyond that ([`RuleParams::needs_extras`]).
    pub extras: Option<Box<Extras>>,
}

/// The parts of a rule's plan that decide its alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleParams {
    buckets: Buckets,
    test: WindowTest,
    hold: i64,
    repeat: Option<i64>,
    repeat_factor: i64,
    resolve_after: i64,
    notify_resolved: bool,
    allowed_lateness: i64,
    /// Each boundary at which the condition holds is a notification of its own.
    notifies_each_boundary: bool,
    kept: usize,
}

impl RuleParams {
    /// The parameters of a rule that has alerts. `None` for a rule that notifies of each record (`Any` with neither
    /// `repeatInterval` nor `resolve`).
    pub fn from_plan(plan: &RulePlan) -> Option<Self> {
        let repeat = plan.repeat_interval.map(|interval| interval.0.max(1));
        let alone = plan.repeat_interval.is_none() && plan.resolve.is_none();
        if plan.condition == Condition::Any && alone {
            return None;
        }
        let window = plan.condition.window();
        let buckets = Buckets::for_window(window.unwrap_or(Millis::from_secs(1)));
        let said = plan.resolve.and_then(|resolve| resolve.after).map(|after| after.0.max(0));
        let lasts = if window.is_some() { buckets.span() } else { repeat.unwrap_or(RESOLVE_AFTER) };
        Some(Self {
            buckets,
            test: WindowTest::from_condition(&plan.condition, plan.resolve.and_then(|resolve| resolve.below)),
            hold: plan.policy.hold.0.max(0),
            repeat,
            repeat_factor: plan.policy.repeat_factor.max(1_000),
            resolve_after: said.unwrap_or(lasts),
            notify_resolved: plan.resolve.is_some_and(|resolve| resolve.notify),
            allowed_lateness: plan.allowed_lateness.0,
            notifies_each_boundary: window.is_none() && alone,
            kept: crate::values::values_kept(&plan.condition),
        })
    }

    /// The rule's buckets.
    pub fn buckets(&self) -> Buckets {
        self.buckets
    }

    /// How many values are kept per bucket.
    pub fn values_kept(&self) -> usize {
        self.kept
    }

    /// Whether [`Bucket::extras`] matters.
    pub fn needs_extras(&self) -> bool {
        self.test.needs_extras()
    }

    /// Whether the condition depends on since when the rule has observed: absence before that says nothing.
    pub fn needs_observed(&self) -> bool {
        self.test.needs_observed()
    }

    /// Whether the condition watches groups: a group is asked about from its first record on, even without further
    /// ones.
    pub fn watches(&self) -> bool {
        self.test.watches()
    }

    /// The last boundary that a watermark decides: `floor((watermark - allowedLateness) / width) * width`.
    fn decided_to(&self, watermark_ms: i64) -> i64 {
        self.buckets.start_of(watermark_ms.saturating_sub(self.allowed_lateness))
    }

    /// The start of the first bucket that still matters once all is decided up to the boundary.
    fn keep_from(&self, decided_to_ms: i64) -> i64 {
        decided_to_ms.saturating_sub(self.history() - self.buckets.width())
    }

    /// The first boundary at which the bucket does not matter any more.
    fn left_at(&self, bucket_ms: i64) -> i64 {
        bucket_ms + self.history() + self.buckets.width()
    }

    /// How far back the condition looks from a boundary, ms.
    fn history(&self) -> i64 {
        self.buckets.span() * self.test.windows()
    }

    /// How long after a notification the next repeat is due, ms; `None` if the rule does not repeat.
    fn wait(&self, repeats: i64) -> Option<i64> {
        let first = self.repeat?;
        let most = first.max(MAX_REPEAT);
        let mut wait = first;
        for _ in 0..repeats {
            if self.repeat_factor <= 1_000 || wait >= most {
                break;
            }
            // At least a millisecond more each time, so that the loop ends.
            wait = (wait.saturating_mul(self.repeat_factor) / 1_000).max(wait + 1).min(most);
        }
        Some(wait)
    }
}

/// A change of a group's alert.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Firing, its n-th repeat, or resolved.
    pub kind: AlertKind,
    /// The boundary at which it was decided.
    pub at_ms: i64,
    /// Start of the episode's first bucket; part of the episode's id.
    pub first_bucket_ms: i64,
    /// The boundary at which the episode began.
    pub since_ms: i64,
    /// Matched records in the window.
    pub count: i64,
    /// Start of the window, inclusive.
    pub window_start_ms: i64,
    /// End of the window, exclusive; the boundary.
    pub window_end_ms: i64,
    /// Whether to notify: false for a resolution if the rule does not want to hear of it.
    pub notify: bool,
    /// What the condition saw; `None` for a condition that only counts.
    pub seen: Option<Box<SeenValues>>,
}

/// What a condition saw at a boundary, for texts.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct SeenValues {
    /// The value in question: the new value, the number of distinct values, or the share.
    pub value: String,
    /// The value before it, the number before it, or the count of the window before.
    pub previous: Option<String>,
    /// All new values; at most ten, sorted by text.
    pub values: Vec<String>,
    /// The record that has the value, if the value is a record's.
    pub sample: Option<Sample>,
}

/// Decides all boundaries after `decided_from_ms` up to and including `decided_to_ms`.
///
/// `buckets` are the group's, sorted by start, at least those from [`RuleParams::keep_from`] of `decided_from_ms` on.
/// For a rule that has never decided, `decided_from_ms` is any boundary not after the first bucket's start and
/// `observed_ms`. `observed_ms` is since when the rule has observed, if known ([`RuleParams::needs_observed`]).
///
/// Stops at the boundary of the `most`-th decision (1 or more), and also returns the boundary up to which all is
/// decided. Continuing from there gives the same decisions as not stopping.
fn advance_at_most(
    params: &RuleParams,
    state: &mut GroupState,
    buckets: &[Bucket],
    observed_ms: Option<i64>,
    (decided_from_ms, decided_to_ms): (i64, i64),
    most: usize,
) -> (Vec<Decision>, i64) {
    let mut walk = BoundaryWalk::new(params, buckets, observed_ms, decided_from_ms);
    let mut decisions = Vec::new();
    while let Some(window) = walk.next(state, decided_to_ms) {
        decisions.extend(step(params, state, window));
        if decisions.len() >= most {
            return (decisions, window.end);
        }
    }
    (decisions, decided_to_ms)
}

/// Like [`advance_at_most`], without a bound on the decisions.
#[cfg(test)]
pub(crate) fn advance(
    params: &RuleParams,
    state: &mut GroupState,
    buckets: &[Bucket],
    observed_ms: Option<i64>,
    decided_from_ms: i64,
    decided_to_ms: i64,
) -> Vec<Decision> {
    let range = (decided_from_ms, decided_to_ms);
    advance_at_most(params, state, buckets, observed_ms, range, usize::MAX).0
}

/// The next boundary after `decided_to_ms` at which the group's state changes or a notification is due if no further
/// record is counted; `None` if there is none. Until then the group need not be looked at.
fn next_due(
    params: &RuleParams,
    state: &GroupState,
    buckets: &[Bucket],
    observed_ms: Option<i64>,
    decided_to_ms: i64,
) -> Option<i64> {
    let mut walk = BoundaryWalk::new(params, buckets, observed_ms, decided_to_ms);
    let mut after = state.clone();
    while let Some(window) = walk.next(&after, i64::MAX) {
        let boundary = window.end;
        let told = step(params, &mut after, window).is_some();
        if told || after != *state {
            return Some(boundary);
        }
    }
    None
}

/// Takes the state machine over one boundary.
fn step(params: &RuleParams, state: &mut GroupState, window: &WindowSums<'_>) -> Option<Decision> {
    let boundary = window.end;
    let result = params.test.evaluate(state, window);
    let (kind, episode) = match &mut state.episode {
        None if !result.holds => {
            state.pending_ms = None;
            return None;
        }
        None => {
            let since = *state.pending_ms.get_or_insert(boundary);
            if boundary < since + params.hold {
                return None;
            }
            state.pending_ms = None;
            let episode = Episode {
                first_bucket_ms: since - params.buckets.width(),
                since_ms: since,
                notified_ms: boundary,
                repeats: 0,
                count: window.count,
                false_since_ms: None,
            };
            if !params.notifies_each_boundary {
                state.episode = Some(episode.clone());
            }
            (AlertKind::Firing, episode)
        }
        Some(episode) if result.stays => {
            episode.false_since_ms = None;
            if params.wait(episode.repeats).is_none_or(|wait| boundary < episode.notified_ms + wait) {
                return None;
            }
            episode.repeats += 1;
            episode.notified_ms = boundary;
            episode.count = window.count;
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
        count: window.count,
        window_start_ms: params.buckets.window_start(boundary),
        window_end_ms: boundary,
        notify: kind != AlertKind::Resolved || params.notify_resolved,
        seen: result.seen,
    })
}

/// The groups that a rule watches before any record: those that it names, and the one group of a rule without
/// `groupBy`.
pub fn expected_groups(plan: &RulePlan) -> Vec<Group> {
    let watches = RuleParams::from_plan(plan).is_some_and(|params| params.watches());
    match &plan.condition {
        _ if !watches => Vec::new(),
        _ if plan.group_by.is_empty() => vec![Group::new()],
        Condition::Flatline { groups, .. } => groups.clone(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
