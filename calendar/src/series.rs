//! One rule's times as moments of a zone, whole or from one override to the next.
//!
//! Local times are resolved one ahead: a time moved forward out of a gap may fall behind the next one, so a
//! moment is given out only when no later local time can come before it. Far from any change of the clocks
//! there is nothing to wait for. Knows no exceptions.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::days::DAY;
use crate::exact::{ExactIter, ExactSeries};
use crate::local::{LocalIter, LocalSeries};
use crate::rule::{End, Rule, Until};
use crate::spec::{Length, RecurrenceError};
use crate::steps::Steps;
use crate::zone::{Calm, Gap, Moment, Resolved, Turn, Zone};

/// What a rule generates.
#[derive(Debug, Clone)]
pub(crate) enum Series {
    Local(Box<LocalSeries>),
    Exact(Box<ExactSeries>),
}

/// A series, where it was moved to, and how long its occurrences last.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) series: Series,
    /// UNTIL as an instant, where it was given as one; the series knows the others. Of moments that are not moved.
    until: i64,
    /// Seconds from the moments of the series: on the local clock, of an exact series in real time.
    pub(crate) shift: i64,
    pub(crate) length: Length,
}

impl Part {
    /// All that `rule` generates from `start`, a local time. What finding the last of COUNT takes is taken from `work`.
    pub(crate) fn new(
        rule: &Rule,
        zone: &Zone,
        start: i64,
        length: Length,
        work: &mut Steps,
    ) -> Result<Self, RecurrenceError> {
        let series = if rule.frequency.is_sub_daily() {
            let resolved = zone.resolve(start);
            let at = resolved.first.map_or(resolved.high, |moment| moment.at);
            let series = ExactSeries::new(rule, zone, at, work).ok_or(RecurrenceError::CountOutOfReach)?;
            Series::Exact(Box::new(series))
        } else {
            let mut series = LocalSeries::new(rule, start);
            if matches!(rule.end, End::Count(_)) && zone.dst.gap == Gap::Skip {
                series = series.count_existing(zone, work).ok_or(RecurrenceError::CountOutOfReach)?;
            }
            Series::Local(Box::new(series))
        };
        let until = match rule.end {
            End::Until(Until::Utc(at)) => at,
            _ => i64::MAX,
        };
        Ok(Self { series, until, shift: 0, length })
    }

    /// Cuts itself off before `moment`, and gives what comes from there on, if anything, moved by `shift`.
    pub(crate) fn split(&mut self, zone: &Zone, moment: Moment, shift: i64, length: Length) -> Option<Self> {
        if self.until != i64::MAX
            && let Series::Local(series) = &mut self.series
        {
            // Moved moments can't be held against an instant, so the last local time is found first.
            let last = series.back(zone.local_of(self.until).saturating_add(2 * DAY));
            let last =
                last.into_iter().find(|local| zone.resolve(*local).moments().any(|m| m.at <= self.until));
            series.last = last.unwrap_or(i64::MIN);
        }
        let mut rest = Self { until: i64::MAX, shift, length, ..self.clone() };
        let some = match (&mut self.series, &mut rest.series) {
            (Series::Local(first), Series::Local(rest)) => {
                first.last = first.last.min(moment.local - 1);
                rest.first = rest.first.max(moment.local);
                rest.first <= rest.last
            }
            (Series::Exact(first), Series::Exact(rest)) => {
                first.last = first.last.min(moment.at - 1);
                rest.first = rest.first.max(moment.at);
                rest.first <= rest.last
            }
            _ => false,
        };
        some.then_some(rest)
    }

    /// The moments from the instant `at` on, ascending; a few may lie before it.
    pub(crate) fn from<'a>(&'a self, zone: &'a Zone, at: i64) -> Moments<'a> {
        match &self.series {
            Series::Local(series) => {
                let calm = zone.calm(at);
                // A local time moved out of a gap, or named twice, is at most a day from its instant's own.
                let margin = if calm.holds_instant(at) { 0 } else { 3 * DAY };
                let from = at.saturating_add(calm.offset - margin);
                let iter = series.from(from.saturating_sub(self.shift));
                Moments::Local(Box::new(LocalMoments::new(iter, self, zone, calm)))
            }
            Series::Exact(series) => {
                let at = at.saturating_sub(self.shift);
                Moments::Exact(series.from(at), zone, zone.calm(at), self.shift)
            }
        }
    }

    /// The last moment before the instant `bound`.
    pub(crate) fn before(&self, zone: &Zone, bound: i64) -> Option<Moment> {
        match &self.series {
            Series::Exact(series) => {
                let at = series.before(bound.saturating_sub(self.shift))?;
                Some(exact_moment(at, zone, self.shift))
            }
            Series::Local(series) => {
                let calm = zone.calm(bound);
                let mut best: Option<Moment> = None;
                let margin = if calm.holds_instant(bound) { 0 } else { 2 * DAY };
                let to = bound.saturating_add(calm.offset + margin).saturating_sub(self.shift);
                for local in series.back(to) {
                    let resolved = self.resolve(zone, local);
                    if best.is_some_and(|best| resolved.high < best.at) {
                        break;
                    }
                    let fits = resolved.moments().filter(|m| m.at < bound && m.at <= self.until);
                    best = best.into_iter().chain(fits).max_by_key(|m| m.at);
                    if best.is_some_and(|best| calm.holds_instant(best.at)) {
                        break;
                    }
                }
                best
            }
        }
    }

    /// Whether the series, unmoved, has this moment.
    pub(crate) fn has(&self, moment: Moment) -> bool {
        moment.at <= self.until
            && match &self.series {
                Series::Local(series) => series.has(moment.local),
                Series::Exact(series) => series.has(moment.at),
            }
    }

    /// Where a moment of the series begins on the local clock.
    pub(crate) fn wall(&self, zone: &Zone, moment: Moment) -> i64 {
        match self.series {
            Series::Exact(_) if self.shift != 0 => zone.local_of(moment.at),
            _ => moment.local + self.shift,
        }
    }

    /// The instants of a local time of the series, under that time's name.
    fn resolve(&self, zone: &Zone, local: i64) -> Resolved {
        let resolved = zone.resolve(local.saturating_add(self.shift));
        let named = |moment: Option<Moment>| moment.map(|it| Moment { local, ..it });
        Resolved { first: named(resolved.first), second: named(resolved.second), ..resolved }
    }
}

fn exact_moment(at: i64, zone: &Zone, shift: i64) -> Moment {
    let local = zone.local_of(at);
    // The policy is of no matter here, but the identity is: which of the two is it?
    let turn = Turn::second_if(zone.resolve(local).low < at);
    Moment { at: at.saturating_add(shift), local, turn }
}

/// Ascending moments of a part.
#[derive(Debug)]
pub(crate) enum Moments<'a> {
    Local(Box<LocalMoments<'a>>),
    Exact(ExactIter<'a>, &'a Zone, Calm, i64),
}

#[derive(Debug)]
pub(crate) struct LocalMoments<'a> {
    iter: LocalIter<'a>,
    part: &'a Part,
    zone: &'a Zone,
    /// No change of the clocks is near these local times.
    calm: Calm,
    ahead: Option<i64>,
    /// The least instant on top; of two with the same, the one with the later local time, which exists.
    waiting: BinaryHeap<Reverse<(i64, Reverse<i64>, Turn)>>,
}

impl<'a> LocalMoments<'a> {
    fn new(mut iter: LocalIter<'a>, part: &'a Part, zone: &'a Zone, calm: Calm) -> Self {
        let ahead = iter.next();
        Self { iter, part, zone, calm, ahead, waiting: BinaryHeap::new() }
    }

    /// The slow way, near a change of the clocks.
    fn near_a_change(&mut self) -> Option<Moment> {
        loop {
            let ready = self.waiting.peek().map(|Reverse((at, _, _))| *at);
            let ahead = self.ahead.map(|local| self.part.resolve(self.zone, local));
            match ahead {
                Some(ahead) if ready.is_none_or(|at| ahead.low <= at) => {
                    let until = self.part.until;
                    self.ahead = if ahead.low <= until { self.iter.next() } else { None };
                    let moments = ahead.moments().filter(|m| m.at <= until);
                    self.waiting.extend(moments.map(|m| Reverse((m.at, Reverse(m.local), m.turn))));
                }
                _ => {
                    let Reverse((at, Reverse(local), turn)) = self.waiting.pop()?;
                    return Some(Moment { at, local, turn });
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
            let wall = local.saturating_add(self.part.shift);
            if !self.calm.holds(wall) {
                self.calm = self.zone.calm(wall - self.calm.offset);
            }
            if self.calm.holds(wall) {
                let at = wall - self.calm.offset;
                self.ahead = if at <= self.part.until { self.iter.next() } else { None };
                return (at <= self.part.until).then_some(Moment { at, local, turn: Turn::First });
            }
        }
        self.near_a_change()
    }
}

impl Moments<'_> {
    /// Times looked at so far, beside those that were given.
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
            Self::Exact(iter, zone, calm, shift) => {
                let at = iter.next()?;
                if !calm.holds_instant(at) {
                    *calm = zone.calm(at);
                }
                if !calm.holds_instant(at) {
                    return Some(exact_moment(at, zone, *shift));
                }
                Some(Moment { at: at.saturating_add(*shift), local: at + calm.offset, turn: Turn::First })
            }
        }
    }
}
