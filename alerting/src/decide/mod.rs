//! Decides, in the hub, when a group's counts are an alert: a state machine over bucket boundaries.
//!
//! At every boundary `E` (a multiple of the bucket's width) in order, with what [`WindowTest`] sees in the window before `E`:
//!
//! - quiet and the condition holds: *pending* since the first such boundary `P`; one at which it does not hold forgets `P`;
//! - pending at `E >= P + for` (at once without `for`): an episode begins, `since = P`, its first bucket is the one that
//!   ends at `P`: *firing*;
//! - firing and it holds: at the first such boundary at or after the last notification plus `repeatInterval` (times
//!   `repeatFactor` for each repeat so far, at most a day or `repeatInterval`): *repeat*;
//! - firing and it does not hold, from a first false boundary `F` on and at `E >= F + resolve.after`: *resolved*, quiet.
//!   A boundary at which it holds again forgets `F`. With `resolve.below` an open alert holds on until what is measured is
//!   below that.
//!
//! `NewValue`, `Change` and `Extreme` without `repeatInterval` and `resolve` have no state of alert: each boundary at which
//! they hold is told by itself.
//!
//! Invariants: the result is as if every boundary were visited, whatever the steps in which it is asked for; only
//! boundaries at which something can change are looked at. Never here: a clock, or a boundary after `decided_to`.
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

/// How long an alert of a condition without a window outlives its last record where the rule says neither
/// `resolve.after` nor `repeatInterval`, ms.
const RESOLVE_AFTER: i64 = 5 * 60_000;
/// What a repeat that waits longer and longer waits at most, ms, unless `repeatInterval` is longer.
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

/// What of a rule's plan decides its alerts.
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
    /// Each boundary at which it holds is told by itself.
    each: bool,
    kept: usize,
}

impl RuleParams {
    /// The parameters of a rule that has alerts; none for a rule that speaks for each record (`Any` with neither
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
            each: window.is_none() && alone,
            kept: crate::values::values_kept(&plan.condition),
        })
    }

    /// How the rule's event time is cut.
    pub fn buckets(&self) -> Buckets {
        self.buckets
    }

    /// How many values of a bucket are kept.
    pub fn values_kept(&self) -> usize {
        self.kept
    }

    /// Whether [`Bucket::extras`] matters.
    pub fn needs_extras(&self) -> bool {
        self.test.needs_extras()
    }

    /// Whether it matters since when the rule has seen all records: before, an absence says nothing.
    pub fn needs_observed(&self) -> bool {
        self.test.needs_observed()
    }

    /// Whether a group is watched from its first record on, with or without further ones.
    pub fn watches(&self) -> bool {
        self.test.watches()
    }

    /// The last boundary that a watermark decides: `floor((watermark - allowedLateness) / width) * width`.
    fn decided_to(&self, watermark_ms: i64) -> i64 {
        self.buckets.start_of(watermark_ms.saturating_sub(self.allowed_lateness))
    }

    /// Buckets that start before this instant can't matter any more, once all is decided up to the boundary.
    fn keep_from(&self, decided_to_ms: i64) -> i64 {
        decided_to_ms.saturating_sub(self.history() - self.buckets.width())
    }

    /// The first boundary at which a bucket does not matter any more.
    fn left_at(&self, bucket_ms: i64) -> i64 {
        bucket_ms + self.history() + self.buckets.width()
    }

    /// How far back a boundary looks, ms.
    fn history(&self) -> i64 {
        self.buckets.span() * self.test.windows()
    }

    /// How long after a notification the next repeat is due.
    fn wait(&self, repeats: i64) -> Option<i64> {
        let first = self.repeat?;
        let most = first.max(MAX_REPEAT);
        let mut wait = first;
        for _ in 0..repeats {
            if self.repeat_factor <= 1_000 || wait >= most {
                break;
            }
            // At least a millisecond more, so that it ends.
            wait = (wait.saturating_mul(self.repeat_factor) / 1_000).max(wait + 1).min(most);
        }
        Some(wait)
    }
}

/// A change of a group's alert, of which somebody is told.
#[derive(Debug, Clone, PartialEq)]
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
    /// What the condition saw; nothing for conditions that only count.
    pub seen: Option<Box<SeenValues>>,
}

/// What a condition saw at a boundary, for texts.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct SeenValues {
    /// The value that matters: the new one, the number of distinct ones, the share.
    pub value: String,
    /// The one before it: the value, the number, the count of the window before.
    pub previous: Option<String>,
    /// All values that are new, the first ten by text.
    pub values: Vec<String>,
    /// The record that has the value, where it is one.
    pub sample: Option<Sample>,
}

/// Decides all boundaries after `decided_from_ms` up to `decided_to_ms`, inclusive.
///
/// `buckets` are the group's, sorted by start: at least those from [`RuleParams::keep_from`] of `decided_from_ms` on. For a
/// rule that has never decided, `decided_from_ms` is any boundary at or before the first bucket's start and `observed_ms`.
/// `observed_ms` is since when the rule has seen all records, if that is known ([`RuleParams::needs_observed`]).
///
/// Ends at the boundary of the `most`-th decision, 1 or more; also the boundary up to which all is decided. Going on from there
/// gives what going on at once would have given.
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

/// As [`advance_at_most`], without an end before `decided_to_ms`.
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

/// The next boundary after `decided_to_ms` at which the group's state changes or somebody is told, if no further record
/// is counted; none when nothing will. Until then the group need not be looked at.
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

/// One boundary of the state machine.
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
            if !params.each {
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

/// The groups that a rule watches though they were never seen: those that it names, and the one of a rule without groups.
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
