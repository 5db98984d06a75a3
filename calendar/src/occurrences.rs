//! The set of occurrences: rule and dates merged, exceptions taken out, in order of instants.
//!
//! Local times are resolved one ahead: a time moved forward out of a gap may fall behind the next one, so an
//! instant is given out only when no later local time can come before it. Never gives an instant twice.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter::Peekable;

use jiff::Timestamp;
use jiff::civil::DateTime;

use crate::days::DAY;
use crate::exact::ExactIter;
use crate::local::LocalIter;
use crate::recurrence::{Length, Recurrence, Series};
use crate::zone::{Moment, Resolved, Zone, ceil_second, civil, floor_second, timestamp};

/// One occurrence. Half open: `end` is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
    /// When it begins.
    pub start: Timestamp,
    /// When it ends; equal to `start` without a duration.
    pub end: Timestamp,
    /// The local time that names it (RECURRENCE-ID): what the rule or date says, also where that time does not
    /// exist and `start` was moved forward. Midnight when all-day.
    pub local_start: DateTime,
    /// Whether it is the second of a local time that exists twice. With `local_start` this is its identity.
    pub repeated: bool,
}

impl Occurrence {
    /// Its identity within the recurrence, stable across restarts and edits of other fields: the local start,
    /// such as `2026-01-05T10:00:00`, followed by `/2` for the second of a repeated local time.
    pub fn id(&self) -> String {
        format!("{}{}", self.local_start, if self.repeated { "/2" } else { "" })
    }
}

/// The occurrences of a recurrence in order of their start, no two with the same start.
#[derive(Debug)]
pub struct Occurrences<'a> {
    recurrence: &'a Recurrence,
    rule: Option<Peekable<RuleMoments<'a>>>,
    singles: Peekable<std::slice::Iter<'a, Moment>>,
    after: i64,
}

#[derive(Debug)]
enum RuleMoments<'a> {
    Local(Box<LocalMoments<'a>>),
    Exact(ExactIter<'a>, &'a Zone),
}

#[derive(Debug)]
struct LocalMoments<'a> {
    iter: LocalIter<'a>,
    zone: &'a Zone,
    until: i64,
    ahead: Option<Resolved>,
    /// The least instant on top; of two with the same, the one with the later local time, which exists.
    waiting: BinaryHeap<Reverse<(i64, Reverse<i64>, bool)>>,
}

impl Recurrence {
    /// The occurrences that start after `after`.
    ///
    /// Costs the same however long ago the recurrence began. The iterator ends at the end of the recurrence, or
    /// in the year 9998, or when a rule shorter than DAILY finds nothing for 400 years.
    pub fn occurrences(&self, after: Timestamp) -> Occurrences<'_> {
        self.occurrences_from(floor_second(after).saturating_add(1))
    }

    /// All occurrences, from the first.
    pub fn all(&self) -> Occurrences<'_> {
        self.occurrences(Timestamp::MIN)
    }

    /// The first occurrence that starts after `t`.
    pub fn after(&self, t: Timestamp) -> Option<Occurrence> {
        self.occurrences(t).next()
    }

    /// The last occurrence that starts before `t`.
    pub fn before(&self, t: Timestamp) -> Option<Occurrence> {
        let mut bound = ceil_second(t);
        loop {
            let single = self.singles[..self.singles.partition_point(|m| m.at < bound)].last().copied();
            let rule = self.series.as_ref().and_then(|series| self.rule_before(series, bound));
            let last = match (single, rule) {
                (Some(a), Some(b)) => Some(if b.at >= a.at { b } else { a }),
                (a, b) => a.or(b),
            }?;
            // Another on the same instant may stand where this one is excepted.
            let same = self.occurrences_from(last.at).next().filter(|it| it.start.as_second() == last.at);
            if same.is_some() {
                return same;
            }
            bound = last.at;
            // Step over an excepted day whole, unless its midnight exists twice or not at all.
            let midnight = self.zone.resolve(last.local.div_euclid(DAY) * DAY);
            if self.excepts_day(last) && midnight.low == midnight.high {
                bound = midnight.low.min(bound);
            }
        }
    }

    /// The occurrences that are not over at `t`: those under way, then those that start at or after it.
    pub fn current(&self, t: Timestamp) -> impl Iterator<Item = Occurrence> {
        let reach = match self.length {
            Length::Seconds(seconds) => seconds,
            // A day may be two longer or shorter than its hours say where a zone crosses the date line.
            Length::Days(days) => (i64::from(days) + 2) * DAY,
        };
        self.occurrences_from(floor_second(t).saturating_sub(reach))
            .filter(move |it| it.end > t || it.start >= t)
    }

    pub(crate) fn occurrences_from(&self, at: i64) -> Occurrences<'_> {
        let rule = self.series.as_ref().map(|series| match series {
            Series::Local(series) => {
                // A local time moved out of a gap, or named twice, is at most a day from its instant's own. As a
                // rule no change is near, and then it is the same.
                let near = self.zone.segment(at.saturating_sub(2 * DAY));
                let calm = near.to > at.saturating_add(2 * DAY);
                let from = at.saturating_add(if calm { near.offset } else { near.offset - 3 * DAY });
                RuleMoments::Local(Box::new(LocalMoments::new(series.from(from), &self.zone, self.until)))
            }
            Series::Exact(series) => RuleMoments::Exact(series.from(at), &self.zone),
        });
        let singles = self.singles[self.singles.partition_point(|m| m.at < at)..].iter().peekable();
        Occurrences {
            recurrence: self,
            rule: rule.map(Iterator::peekable),
            singles,
            after: at.saturating_sub(1),
        }
    }

    fn rule_before(&self, series: &Series, bound: i64) -> Option<Moment> {
        match series {
            Series::Exact(series) => {
                let at = series.before(bound)?;
                Some(exact_moment(at, &self.zone))
            }
            Series::Local(series) => {
                let mut best: Option<Moment> = None;
                for local in series.back(self.zone.local_of(bound).saturating_add(2 * DAY)) {
                    let resolved = self.zone.resolve(local);
                    if best.is_some_and(|best| resolved.high < best.at) {
                        break;
                    }
                    let fits = resolved.moments().filter(|m| m.at < bound && m.at <= self.until);
                    best = best.into_iter().chain(fits).max_by_key(|m| m.at);
                }
                best
            }
        }
    }

    fn occurrence(&self, moment: Moment) -> Occurrence {
        let end = match self.length {
            Length::Seconds(seconds) => moment.at.saturating_add(seconds),
            Length::Days(days) => {
                let next = self.zone.resolve(moment.local + i64::from(days) * DAY);
                next.first.map_or(next.high, |m| m.at)
            }
        };
        Occurrence {
            start: timestamp(moment.at),
            end: timestamp(end),
            local_start: civil(moment.local),
            repeated: moment.repeated,
        }
    }
}

fn exact_moment(at: i64, zone: &Zone) -> Moment {
    let local = zone.local_of(at);
    // The policy is of no matter here, but the identity is: which of the two is it?
    let repeated = zone.resolve(local).low < at;
    Moment { at, local, repeated }
}

impl<'a> LocalMoments<'a> {
    fn new(mut iter: LocalIter<'a>, zone: &'a Zone, until: i64) -> Self {
        let ahead = iter.next().map(|local| zone.resolve(local));
        Self { iter, zone, until, ahead, waiting: BinaryHeap::new() }
    }
}

impl Iterator for LocalMoments<'_> {
    type Item = Moment;

    fn next(&mut self) -> Option<Moment> {
        loop {
            let ready = self.waiting.peek().map(|Reverse((at, _, _))| *at);
            match self.ahead {
                Some(ahead) if ready.is_none_or(|at| ahead.low <= at) => {
                    let until = self.until;
                    if ahead.low <= until {
                        let moments = ahead.moments().filter(|m| m.at <= until);
                        self.waiting.extend(moments.map(|m| Reverse((m.at, Reverse(m.local), m.repeated))));
                        self.ahead = self.iter.next().map(|local| self.zone.resolve(local));
                    } else {
                        self.ahead = None;
                    }
                }
                _ => {
                    let Reverse((at, Reverse(local), repeated)) = self.waiting.pop()?;
                    return Some(Moment { at, local, repeated });
                }
            }
        }
    }
}

impl Iterator for RuleMoments<'_> {
    type Item = Moment;

    fn next(&mut self) -> Option<Moment> {
        match self {
            Self::Local(moments) => moments.next(),
            Self::Exact(iter, zone) => iter.next().map(|at| exact_moment(at, zone)),
        }
    }
}

impl Occurrences<'_> {
    /// Steps over the rest of an excepted day with very many occurrences.
    fn skip_day(&mut self, moment: Moment) {
        let midnight = self.recurrence.zone.resolve((moment.local.div_euclid(DAY) + 1) * DAY);
        if midnight.low == midnight.high && midnight.low > moment.at {
            let after = self.after;
            *self = self.recurrence.occurrences_from(midnight.low);
            self.after = self.after.max(after);
        }
    }
}

impl Iterator for Occurrences<'_> {
    type Item = Occurrence;

    fn next(&mut self) -> Option<Occurrence> {
        let mut excepted = 0u64;
        loop {
            let rule = self.rule.as_mut().and_then(|rule| rule.peek().copied());
            let single = self.singles.peek().copied().copied();
            let moment = match (rule, single) {
                (Some(rule), Some(single)) if single.at < rule.at => self.singles.next().copied(),
                (Some(_), _) => self.rule.as_mut().and_then(Iterator::next),
                (None, _) => self.singles.next().copied(),
            }?;
            if moment.at <= self.after {
                continue;
            }
            if !self.recurrence.excepts(moment) {
                self.after = moment.at;
                return Some(self.recurrence.occurrence(moment));
            }
            excepted += 1;
            if excepted.is_multiple_of(1000) && self.recurrence.excepts_day(moment) {
                self.skip_day(moment);
            }
        }
    }
}
