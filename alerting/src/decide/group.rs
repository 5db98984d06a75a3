//! Decides one group as far as its rule has come: the one place for what both the ledger and [`crate::replay`] do.
//!
//! Invariant: how far one step goes does not change what is decided. How a group is stored, and its texts, are not
//! known here.

use domain::{AlertKind, Sample};

use super::{Bucket, Decision, GroupState, RuleParams, advance_at_most, next_due};

/// How far a rule has come.
#[derive(Debug, Clone, Copy)]
pub struct Reached {
    /// The last boundary that can be decided.
    pub to: i64,
    /// Since when the rule has observed, if known ([`RuleParams::needs_observed`]).
    pub observed: Option<i64>,
}

/// The result of one step of deciding a group.
#[derive(Debug, Default)]
pub struct GroupDecisions {
    /// What was decided.
    pub decisions: Vec<Decision>,
    /// The boundary up to which all is decided now.
    pub decided_to: i64,
    /// Buckets that start before this instant do not matter any more.
    pub keep_from: i64,
    /// The first boundary at which there is something to do without a further record; `None` if the group waits for
    /// one.
    pub next_due: Option<i64>,
    /// Whether nothing of the group is worth keeping.
    pub is_over: bool,
}

/// Decides a group up to where its rule has come, but makes at most `most` decisions.
///
/// `decided` is the boundary up to which it was decided before; `None` for a new group. `buckets` are the group's,
/// sorted by start: at least those that the step before kept, and what was counted since.
pub fn decide(
    params: &RuleParams,
    state: &mut GroupState,
    buckets: &[Bucket],
    decided: Option<i64>,
    Reached { to, observed }: Reached,
    most: usize,
) -> GroupDecisions {
    let first = buckets.first().map_or(to, |bucket| bucket.start_ms);
    // A count may belong to a bucket before anything that was decided; before that bucket there were no records.
    let from = decided.unwrap_or_else(|| first.min(observed.unwrap_or(to)).min(to));
    let (decisions, to) = advance_at_most(params, state, buckets, observed, (from, to), most);
    let keep_from = params.keep_from(to);
    let kept = buckets.split_at(buckets.partition_point(|bucket| bucket.start_ms < keep_from)).1;
    if kept.is_empty() && state.is_blank() {
        return GroupDecisions { decisions, decided_to: to, keep_from, next_due: None, is_over: true };
    }
    // When its last bucket leaves the window, there is something to remove.
    let empty = kept.last().map(|bucket| params.left_at(bucket.start_ms));
    let change = next_due(params, state, kept, observed, to);
    GroupDecisions {
        decisions,
        decided_to: to,
        keep_from,
        next_due: [change, empty].into_iter().flatten().min(),
        is_over: false,
    }
}

impl RuleParams {
    /// The boundary up to which a rule can be decided now, if it is later than `decided`. The slowest partition
    /// determines it, and there is none until every partition has reported its progress. It is not after `surveyed`, up
    /// to where it is known that there are no other partitions.
    pub fn next_decided_to(
        &self,
        decided: Option<i64>,
        progress: impl Iterator<Item = Option<i64>>,
        surveyed: i64,
    ) -> Option<i64> {
        let to = self.decided_to(progress.min().flatten()?.min(surveyed));
        decided.is_none_or(|decided| to > decided).then_some(to)
    }

    /// Whether a count for the bucket comes after the bucket was decided.
    pub fn is_late(&self, bucket_ms: i64, decided: Option<i64>) -> bool {
        decided.is_some_and(|decided| bucket_ms + self.buckets.width() <= decided)
    }

    /// How long after its last record an alert may still change by the passing of time alone, ms.
    pub fn settles_after(&self) -> i64 {
        self.buckets.span() + self.resolve_after + self.hold + self.allowed_lateness
    }
}

/// Since when a rule has observed: the latest instant at which it began to read one of its partitions; `None` if one is
/// unknown.
pub fn observed(mut since: impl Iterator<Item = Option<i64>>) -> Option<i64> {
    since.try_fold(None, |latest, since| Some(latest.max(Some(since?)))).flatten()
}

impl Decision {
    /// The record that has the value, if the value is a record's.
    pub fn own_sample(&self) -> Option<&Sample> {
        self.seen.as_ref().and_then(|seen| seen.sample.as_ref())
    }

    /// The record that texts call `record`: the decision's `own`, else the `last` of its window. For a resolution whose
    /// window has none, the one of the decision `before`.
    pub fn shown_record<S>(&self, own: Option<S>, last: Option<S>, before: Option<S>) -> Option<S> {
        let shown = own.or(last);
        if self.kind == AlertKind::Resolved { shown.or(before) } else { shown }
    }
}
