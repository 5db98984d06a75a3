//! Walks over the boundaries at which something can change, with the sums of the window at each.
//!
//! Invariant: the end of every bucket after the start of the walk is visited. Boundaries between two changes cost
//! nothing.

use std::collections::HashMap;

use domain::Extras;

use super::{Bucket, GroupState, RuleParams};

/// The sums of the window before a boundary.
#[derive(Debug)]
pub(super) struct WindowSums<'a> {
    /// The boundary.
    pub(super) end: i64,
    /// Matched records.
    pub(super) count: i64,
    /// Matched records of the window before this one, for a condition that compares both.
    pub(super) before: i64,
    /// Records for which `of` was true.
    pub(super) of: i64,
    /// Distinct values.
    pub(super) distinct: i64,
    /// The bucket that ends at the boundary.
    pub(super) newest: Option<&'a Bucket>,
    /// Whether the rule has observed long enough before the boundary to judge absence.
    pub(super) ready: bool,
}

pub(super) struct BoundaryWalk<'a> {
    params: &'a RuleParams,
    buckets: &'a [Bucket],
    observed: Option<i64>,
    /// The last boundary visited.
    at: i64,
    first: bool,
    /// Buckets before this index have left the window before the window at `at`.
    gone: usize,
    /// Buckets before this index have left the window at `at`.
    left: usize,
    /// Buckets before this index have entered the window at `at`.
    entered: usize,
    window: WindowSums<'a>,
    /// The number of buckets of the window that have each value.
    values: HashMap<&'a str, usize>,
}

impl<'a> BoundaryWalk<'a> {
    pub(super) fn new(
        params: &'a RuleParams,
        buckets: &'a [Bucket],
        observed: Option<i64>,
        from: i64,
    ) -> Self {
        debug_assert!(buckets.is_sorted_by_key(|bucket| bucket.start_ms), "buckets are sorted");
        let at = params.buckets.start_of(from);
        let window =
            WindowSums { end: at, count: 0, before: 0, of: 0, distinct: 0, newest: None, ready: false };
        Self {
            params,
            buckets,
            observed,
            at,
            first: true,
            gone: 0,
            left: 0,
            entered: 0,
            window,
            values: HashMap::new(),
        }
    }

    pub(super) fn next(&mut self, state: &GroupState, to: i64) -> Option<&WindowSums<'a>> {
        let at = self.candidate(state)?;
        if at > to {
            return None;
        }
        self.at = at;
        let grid = self.params.buckets;
        let all = self.buckets;
        self.window.newest = None;
        while let Some(bucket) = all.get(self.entered).filter(|it| it.start_ms + grid.width() <= at) {
            self.window.count += bucket.count;
            self.extras(bucket, true);
            if bucket.start_ms + grid.width() == at {
                self.window.newest = Some(bucket);
            }
            self.entered += 1;
        }
        let start = grid.window_start(at);
        while let Some(bucket) = all.get(self.left).filter(|it| it.start_ms < start) {
            self.window.count -= bucket.count;
            self.window.before += bucket.count;
            self.extras(bucket, false);
            self.left += 1;
        }
        let start = start - grid.span();
        while let Some(bucket) = all.get(self.gone).filter(|it| it.start_ms < start) {
            self.window.before -= bucket.count;
            self.gone += 1;
        }
        self.window.end = at;
        self.window.distinct = self.values.len() as i64;
        self.window.ready =
            !self.params.needs_observed() || self.ready_from(state).is_some_and(|ready| at >= ready);
        Some(&self.window)
    }

    fn extras(&mut self, bucket: &'a Bucket, enters: bool) {
        match bucket.extras.as_deref() {
            Some(Extras::Of(of)) => self.window.of += if enters { *of } else { -of },
            Some(Extras::Values(values)) if self.params.test.counts_values() => {
                for value in values.counts.keys() {
                    if enters {
                        *self.values.entry(value).or_default() += 1;
                    } else if let Some(held) = self.values.get_mut(value.as_str()) {
                        *held -= 1;
                        if *held == 0 {
                            self.values.remove(value.as_str());
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// The first boundary at which a condition that depends on absence has observed all that it looks back at. A group
    /// that the rule does not name is watched from its first bucket on.
    fn ready_from(&self, state: &GroupState) -> Option<i64> {
        let observed = self.observed?;
        let from = if self.params.watches() && !state.expected {
            observed.max(state.first_ms.or(self.window.newest.map(|bucket| bucket.start_ms))?)
        } else {
            observed
        };
        Some(self.params.buckets.boundary_at_or_after(from.saturating_add(self.params.history())))
    }

    /// The next boundary after the last one at which the window or the state may change.
    fn candidate(&mut self, state: &GroupState) -> Option<i64> {
        let (params, grid) = (self.params, self.params.buckets);
        if std::mem::take(&mut self.first) {
            // What held before is unknown here, so the first boundary is always visited.
            return self.at.checked_add(grid.width());
        }
        let after = |index: usize, delay: i64| {
            self.buckets.get(index).map(|bucket| bucket.start_ms + delay + grid.width())
        };
        let enters = after(self.entered, 0);
        let leaves = (self.left < self.entered).then(|| after(self.left, grid.span())).flatten();
        let both = params.history() > grid.span();
        let goes = (both && self.gone < self.left).then(|| after(self.gone, params.history())).flatten();
        let ready = if params.needs_observed() { self.ready_from(state) } else { None };
        let timed = match (&state.episode, state.pending_ms) {
            (Some(episode), _) => match episode.false_since_ms {
                Some(since) => Some(since + params.resolve_after),
                None => params.wait(episode.repeats).map(|wait| episode.notified_ms + wait),
            },
            (None, Some(since)) => Some(since + params.hold),
            (None, None) => None,
        };
        let timed = timed.map(|due| grid.boundary_at_or_after(due));
        [ready, timed]
            .into_iter()
            .map(|due| due.filter(|due| *due > self.at))
            .chain([enters, leaves, goes])
            .flatten()
            .min()
    }
}
