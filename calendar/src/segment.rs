//! The times of one rule as moments of a zone: of the whole rule, or of the stretch between two overrides.
//!
//! A local time that is moved forward out of a gap may come after the next local time. So the iterator resolves one
//! local time ahead, and yields a moment only when no later local time can precede it. Far from any change of the
//! clocks it need not wait. Exceptions are applied elsewhere.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::days::DAY;
use crate::exact::{ExactIter, ExactSeries};
use crate::local::{LocalIter, LocalSeries};
use crate::rule::{End, RecurrenceRule, Until};
use crate::spec::{Length, RecurrenceError};
use crate::steps::Steps;
use crate::zone::{FixedOffsetRange, FoldSide, Gap, Moment, Resolved, Zone};

/// The times that a rule generates: on the local clock, or in real time.
#[derive(Debug, Clone)]
pub(crate) enum RuleSeries {
    Local(Box<LocalSeries>),
    Exact(Box<ExactSeries>),
}

/// The times of a rule, how far an override moved them, and how long each occurrence lasts.
#[derive(Debug, Clone)]
pub(crate) struct RuleSegment {
    pub(crate) series: RuleSeries,
    /// UNTIL as an instant, if it was given as one (the series knows the other forms). It bounds the times before
    /// the shift.
    until: i64,
    /// Seconds by which the times are moved: on the local clock, or in real time for an exact series.
    pub(crate) shift: i64,
    pub(crate) length: Length,
}

impl RuleSegment {
    /// All that `rule` generates from the local time `start`. Finding the last occurrence of COUNT takes steps from
    /// `work`.
    pub(crate) fn new(
        rule: &RecurrenceRule,
        zone: &Zone,
        start: i64,
        length: Length,
        work: &mut Steps,
    ) -> Result<Self, RecurrenceError> {
        let series = if rule.frequency.is_sub_daily() {
            let resolved = zone.resolve(start);
            let at = resolved.first.map_or(resolved.high, |moment| moment.at);
            let series = ExactSeries::new(rule, zone, at, work).ok_or(RecurrenceError::CountOutOfReach)?;
            RuleSeries::Exact(Box::new(series))
        } else {
            let mut series = LocalSeries::new(rule, start);
            if matches!(rule.end, End::Count(_)) && zone.dst.gap == Gap::Skip {
                series = series.count_existing(zone, work).ok_or(RecurrenceError::CountOutOfReach)?;
            }
            RuleSeries::Local(Box::new(series))
        };
        let until = match rule.end {
            End::Until(Until::Utc(at)) => at,
            _ => i64::MAX,
        };
        Ok(Self { series, until, shift: 0, length })
    }

    /// Ends this segment before `moment`. Returns the rest, moved by `shift`, or `None` if there is nothing after
    /// it.
    pub(crate) fn split_off(
        &mut self,
        zone: &Zone,
        moment: Moment,
        shift: i64,
        length: Length,
    ) -> Option<Self> {
        if self.until != i64::MAX
            && let RuleSeries::Local(series) = &mut self.series
        {
            // Moved moments can't be compared with an instant, so find the last local time first.
            let last = series.descending_from(zone.local_of(self.until).saturating_add(2 * DAY));
            let last =
                last.into_iter().find(|local| zone.resolve(*local).moments().any(|m| m.at <= self.until));
            series.last = last.unwrap_or(i64::MIN);
        }
        let mut rest = Self { until: i64::MAX, shift, length, ..self.clone() };
        let some = match (&mut self.series, &mut rest.series) {
            (RuleSeries::Local(first), RuleSeries::Local(rest)) => {
                first.last = first.last.min(moment.local - 1);
                rest.first = rest.first.max(moment.local);
                rest.first <= rest.last
            }
            (RuleSeries::Exact(first), RuleSeries::Exact(rest)) => {
                first.last = first.last.min(moment.at - 1);
                rest.first = rest.first.max(moment.at);
                rest.first <= rest.last
            }
            _ => false,
        };
        some.then_some(rest)
    }

    /// The moments from the instant `at` on, ascending. A few may lie before it.
    pub(crate) fn moments_from<'a>(&'a self, zone: &'a Zone, at: i64) -> Moments<'a> {
        match &self.series {
            RuleSeries::Local(series) => {
                let fixed = zone.fixed_offset_around(at);
                // If a local time was moved out of a gap or exists twice, it is at most a day off.
                let margin = if fixed.contains_instant(at) { 0 } else { 3 * DAY };
                let from = at.saturating_add(fixed.offset - margin);
                let iter = series.iter_from(from.saturating_sub(self.shift));
                Moments::Local(Box::new(LocalMoments::new(iter, self, zone, fixed)))
            }
            RuleSeries::Exact(series) => {
                let at = at.saturating_sub(self.shift);
                Moments::Exact(series.iter_from(at), zone, zone.fixed_offset_around(at), self.shift)
            }
        }
    }

    /// The last moment before the instant `bound`.
    pub(crate) fn last_before(&self, zone: &Zone, bound: i64) -> Option<Moment> {
        match &self.series {
            RuleSeries::Exact(series) => {
                let at = series.last_before(bound.saturating_sub(self.shift))?;
                Some(exact_moment(at, zone, self.shift))
            }
            RuleSeries::Local(series) => {
                let fixed = zone.fixed_offset_around(bound);
                let mut best: Option<Moment> = None;
                let margin = if fixed.contains_instant(bound) { 0 } else { 2 * DAY };
                let to = bound.saturating_add(fixed.offset + margin).saturating_sub(self.shift);
                for local in series.descending_from(to) {
                    let resolved = self.resolve(zone, local);
                    if best.is_some_and(|best| resolved.high < best.at) {
                        break;
                    }
                    let fits = resolved.moments().filter(|m| m.at < bound && m.at <= self.until);
                    best = best.into_iter().chain(fits).max_by_key(|m| m.at);
                    if best.is_some_and(|best| fixed.contains_instant(best.at)) {
                        break;
                    }
                }
                best
            }
        }
    }

    /// Whether the series has this moment, before the shift.
    pub(crate) fn contains(&self, moment: Moment) -> bool {
        moment.at <= self.until
            && match &self.series {
                RuleSeries::Local(series) => series.contains(moment.local),
                RuleSeries::Exact(series) => series.contains(moment.at),
            }
    }

    /// The local time at which the occurrence of this moment begins.
    pub(crate) fn wall(&self, zone: &Zone, moment: Moment) -> i64 {
        match self.series {
            RuleSeries::Exact(_) if self.shift != 0 => zone.local_of(moment.at),
            _ => moment.local + self.shift,
        }
    }

    /// The instants of a local time of the series, named by that time.
    fn resolve(&self, zone: &Zone, local: i64) -> Resolved {
        let resolved = zone.resolve(local.saturating_add(self.shift));
        let named = |moment: Option<Moment>| moment.map(|it| Moment { local, ..it });
        Resolved { first: named(resolved.first), second: named(resolved.second), ..resolved }
    }
}

fn exact_moment(at: i64, zone: &Zone, shift: i64) -> Moment {
    let local = zone.local_of(at);
    // The policy doesn't matter here, only which of the two instants this is.
    let side = FoldSide::second_if(zone.resolve(local).low < at);
    Moment { at: at.saturating_add(shift), local, side }
}

/// The moments of a segment, ascending.
#[derive(Debug)]
pub(crate) enum Moments<'a> {
    Local(Box<LocalMoments<'a>>),
    Exact(ExactIter<'a>, &'a Zone, FixedOffsetRange, i64),
}

#[derive(Debug)]
pub(crate) struct LocalMoments<'a> {
    iter: LocalIter<'a>,
    segment: &'a RuleSegment,
    zone: &'a Zone,
    /// Local times far from any change of the clocks.
    fixed: FixedOffsetRange,
    ahead: Option<i64>,
    /// The earliest instant is on top. Of two with the same instant, the one with the later local time wins: that
    /// one exists.
    waiting: BinaryHeap<Reverse<(i64, Reverse<i64>, FoldSide)>>,
}

impl<'a> LocalMoments<'a> {
    fn new(
        mut iter: LocalIter<'a>,
        segment: &'a RuleSegment,
        zone: &'a Zone,
        fixed: FixedOffsetRange,
    ) -> Self {
        let ahead = iter.next();
        Self { iter, segment, zone, fixed, ahead, waiting: BinaryHeap::new() }
    }

    /// The slow path, near a change of the clocks.
    fn next_near_a_change(&mut self) -> Option<Moment> {
        loop {
            let ready = self.waiting.peek().map(|Reverse((at, _, _))| *at);
            let ahead = self.ahead.map(|local| self.segment.resolve(self.zone, local));
            match ahead {
                Some(ahead) if ready.is_none_or(|at| ahead.low <= at) => {
                    let until = self.segment.until;
                    self.ahead = if ahead.low <= until { self.iter.next() } else { None };
                    let moments = ahead.moments().filter(|m| m.at <= until);
                    self.waiting.extend(moments.map(|m| Reverse((m.at, Reverse(m.local), m.side))));
                }
                _ => {
                    let Reverse((at, Reverse(local), side)) = self.waiting.pop()?;
                    return Some(Moment { at, local, side });
                }
            }
        }
    }
}

impl Iterator for LocalMoments<'_> {
    type Item = Moment;

    #[inline]
    fn next(&mut self) -> Option<Moment> {
        if let Some(local) = self.ahead
            && self.waiting.is_empty()
        {
            let wall = local.saturating_add(self.segment.shift);
            if !self.fixed.contains(wall) {
                self.fixed = self.zone.fixed_offset_around(wall - self.fixed.offset);
            }
            if self.fixed.contains(wall) {
                let at = wall - self.fixed.offset;
                self.ahead = if at <= self.segment.until { self.iter.next() } else { None };
                return (at <= self.segment.until).then_some(Moment { at, local, side: FoldSide::First });
            }
        }
        self.next_near_a_change()
    }
}

impl Moments<'_> {
    /// How many times were looked at and not yielded.
    #[inline]
    pub(crate) fn work(&self) -> u64 {
        match self {
            Self::Local(_) => 0,
            Self::Exact(iter, ..) => iter.work,
        }
    }
}

impl Iterator for Moments<'_> {
    type Item = Moment;

    #[inline]
    fn next(&mut self) -> Option<Moment> {
        match self {
            Self::Local(moments) => moments.next(),
            Self::Exact(iter, zone, fixed, shift) => {
                let at = iter.next()?;
                if !fixed.contains_instant(at) {
                    *fixed = zone.fixed_offset_around(at);
                }
                if !fixed.contains_instant(at) {
                    return Some(exact_moment(at, zone, *shift));
                }
                Some(Moment {
                    at: at.saturating_add(*shift),
                    local: at + fixed.offset,
                    side: FoldSide::First,
                })
            }
        }
    }
}
