//! The set of occurrences: rules and dates merged, exceptions taken out, in order of instants.
//!
//! Never gives an instant twice.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::days::DAY;
use crate::recurrence::{RawOccurrence, Recurrence};
use crate::segment::{Moments, RuleSegment};
use crate::spec::{Length, MAX_OVERRIDE_STEPS};
use crate::steps::Steps;
use crate::zone::{FoldSide, Moment, Zone, ceil_second, civil, floor_second, timestamp};

/// Times in a row that `except_rules` may take out before a search ends.
const MAX_EXCEPTED: u32 = 100_000;

/// What it counts as to begin with one segment of a recurrence, in steps.
const EACH_PART: usize = 10;

/// One occurrence. Half open: `end` is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
    /// When it begins.
    pub start: Timestamp,
    /// When it ends; equal to `start` without a duration.
    pub end: Timestamp,
    /// The local time that names it (RECURRENCE-ID): what the rule or date says, also where that time does not
    /// exist and `start` was moved forward, and where an override moved it. Midnight when all-day.
    pub local_start: DateTime,
    /// Whether it is the second of a local time that exists twice. With `local_start` this is its identity.
    pub repeated: bool,
}

impl Occurrence {
    /// Whether its local time does not exist in the zone, and it comes later for that.
    pub fn is_shifted(&self, zone: &TimeZone) -> bool {
        match zone.to_ambiguous_timestamp(self.local_start).offset() {
            AmbiguousOffset::Gap { before, .. } => {
                before.to_timestamp(self.local_start).ok() == Some(self.start)
            }
            _ => false,
        }
    }

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
    sources: Vec<SegmentCursor<'a>>,
    singles: &'a [RawOccurrence],
    /// There is one source and nothing else, so nothing is merged.
    alone: bool,
    after: i64,
    /// What looking at times that exceptions took out has cost.
    spent: u64,
}

#[derive(Debug)]
struct SegmentCursor<'a> {
    segment: &'a RuleSegment,
    next: Option<Moment>,
    moments: Moments<'a>,
}

impl SegmentCursor<'_> {
    #[inline]
    fn found(&self, zone: &Zone, moment: Moment) -> RawOccurrence {
        let wall = self.segment.wall(zone, moment);
        RawOccurrence { moment, wall, length: self.segment.length, own_length: false, is_override: false }
    }
}

impl Recurrence {
    /// The occurrences that start after `after`.
    ///
    /// Costs the same however long ago the recurrence began. The iterator ends at the end of the recurrence, or
    /// in the year 9998, or when a rule shorter than DAILY finds nothing for 400 years, or when `except_rules`
    /// take out 100,000 times in a row.
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
        for _ in 0..MAX_EXCEPTED {
            let single = self.singles[..self.singles.partition_point(|it| it.moment.at < bound)].last();
            let of_rules = self.segments.iter().filter_map(|segment| segment.last_before(&self.zone, bound));
            let last = of_rules.chain(single.map(|it| it.moment)).max_by_key(|moment| moment.at)?;
            // Another on the same instant may stand where this one is excepted.
            let same = self.occurrences_from(last.at).next().filter(|it| it.start.as_second() == last.at);
            if same.is_some() {
                return same;
            }
            bound = last.at;
            // Step over an excepted day whole, unless its midnight exists twice or not at all.
            let midnight = self.zone.resolve(last.local.div_euclid(DAY) * DAY);
            if self.may_step_over(last) && midnight.low == midnight.high {
                bound = midnight.low.min(bound);
            }
        }
        None
    }

    /// The occurrences that are not over at `t`: those under way, then those that start at or after it.
    pub fn current(&self, t: Timestamp) -> impl Iterator<Item = Occurrence> {
        self.occurrences_from(floor_second(t).saturating_sub(self.reach))
            .filter(move |it| it.end > t || it.start >= t)
    }

    /// The occurrence with this identity ([`Occurrence::id`]), if there is one.
    pub fn find(&self, id: &str) -> Option<Occurrence> {
        let local: DateTime = id.strip_suffix("/2").unwrap_or(id).parse().ok()?;
        let mut steps = Steps::new(MAX_OVERRIDE_STEPS);
        let found = self.find_local(
            crate::zone::local_seconds(local),
            FoldSide::second_if(id.ends_with("/2")),
            &mut steps,
        )?;
        Some(self.occurrence(&found))
    }

    /// None too when the steps don't suffice; then none is left.
    pub(crate) fn find_local(&self, local: i64, side: FoldSide, steps: &mut Steps) -> Option<RawOccurrence> {
        let named = |it: &RawOccurrence| it.moment.local == local && it.moment.side == side;
        let moved = self.singles.iter().find(|it| it.is_override && named(it));
        if moved.is_some() {
            return moved.copied();
        }
        let resolved = self.zone.resolve(local);
        let mut shifts: Vec<i64> = self.segments.iter().map(|segment| segment.shift).chain([0]).collect();
        shifts.sort_unstable_by_key(|shift| (shift.abs(), *shift));
        shifts.dedup();
        shifts.into_iter().find_map(|shift| {
            // A shift on the local clock is, in instants, at most a change of the clocks off.
            let margin = if shift == 0 { 0 } else { DAY };
            if !steps.take(EACH_PART * self.segments.len()) {
                return None;
            }
            let mut near = self.occurrences_from(resolved.low.saturating_add(shift - margin));
            std::iter::from_fn(|| near.next_found_within(steps))
                .take_while(|it| it.moment.at <= resolved.high.saturating_add(shift + margin))
                .find(named)
        })
    }

    pub(crate) fn occurrences_from<'a>(&'a self, at: i64) -> Occurrences<'a> {
        let singles = &self.singles[self.singles.partition_point(|it| it.moment.at < at)..];
        let alone = self.segments.len() == 1 && singles.is_empty();
        let source = |segment: &'a RuleSegment| {
            let mut moments = segment.moments_from(&self.zone, at);
            SegmentCursor { segment, next: if alone { None } else { moments.next() }, moments }
        };
        Occurrences {
            recurrence: self,
            sources: self.segments.iter().map(source).collect(),
            singles,
            alone,
            after: at.saturating_sub(1),
            spent: 0,
        }
    }

    /// When an event ends that begins at `at`, which is `wall` on the local clock.
    #[inline]
    pub(crate) fn end_of(&self, at: i64, wall: i64, length: Length) -> i64 {
        let days = match length.days {
            0 => at,
            days => {
                let next = self.zone.resolve(wall + i64::from(days) * DAY);
                // Where a day is missing or the clocks are set back, never before it begins.
                next.first.map_or(next.high, |m| m.at).max(at)
            }
        };
        days.saturating_add(length.seconds)
    }

    #[inline]
    pub(crate) fn occurrence(&self, found: &RawOccurrence) -> Occurrence {
        let at = found.moment.at;
        Occurrence {
            start: timestamp(at),
            end: timestamp(self.end_of(at, found.wall, found.length)),
            local_start: civil(found.moment.local),
            repeated: found.moment.side == FoldSide::Second,
        }
    }
}

impl Occurrences<'_> {
    #[inline]
    pub(crate) fn next_found(&mut self) -> Option<RawOccurrence> {
        if self.alone && self.recurrence.no_exceptions { self.next_plain() } else { self.next_merged() }
    }

    /// The next one, and what it cost to find it taken from `steps`. None too when they don't suffice; then none is left.
    #[inline]
    pub(crate) fn next_found_within(&mut self, steps: &mut Steps) -> Option<RawOccurrence> {
        let before = self.work();
        let found = self.next_found();
        let work = self.work().saturating_sub(before) + self.each();
        steps.take(work as usize).then_some(found)?
    }

    /// What a look at one time costs: the least of all sources is looked for, and held against each exception.
    fn each(&self) -> u64 {
        (self.sources.len().max(1) + 4 * self.recurrence.except_segments.len()) as u64
    }

    fn work(&self) -> u64 {
        self.spent + self.sources.iter().map(|source| source.moments.work()).sum::<u64>()
    }

    /// What [`Self::next_merged`] finds where nothing is merged or taken out.
    #[inline]
    fn next_plain(&mut self) -> Option<RawOccurrence> {
        let source = self.sources.first_mut()?;
        let after = self.after;
        let moment = source.moments.find(|moment| moment.at > after)?;
        self.after = moment.at;
        Some(source.found(&self.recurrence.zone, moment))
    }

    fn next_merged(&mut self) -> Option<RawOccurrence> {
        let (mut excepted, mut by_rule) = (0u64, 0);
        loop {
            let found = self.least()?;
            if found.moment.at <= self.after {
                continue;
            }
            let recurrence = self.recurrence;
            if recurrence.no_exceptions || found.is_override || !recurrence.excepts(found.moment) {
                if recurrence.no_exceptions || !recurrence.excepts_by_rule(&found) {
                    self.after = found.moment.at;
                    return Some(found);
                }
                by_rule += 1;
                self.spent += self.each();
                if by_rule == MAX_EXCEPTED {
                    return None;
                }
                continue;
            }
            excepted += 1;
            self.spent += self.each();
            if excepted.is_multiple_of(1000) && recurrence.may_step_over(found.moment) {
                self.step_over_day(found.moment);
            }
        }
    }

    /// Takes the least of all, excepted or not.
    fn least(&mut self) -> Option<RawOccurrence> {
        let zone = &self.recurrence.zone;
        if self.alone {
            let source = self.sources.first_mut()?;
            let moment = source.moments.next()?;
            return Some(source.found(zone, moment));
        }
        let mut least: Option<(&mut SegmentCursor<'_>, Moment)> = None;
        for source in &mut self.sources {
            if let Some(moment) = source.next
                && least.as_ref().is_none_or(|(_, least)| moment.at < least.at)
            {
                least = Some((source, moment));
            }
        }
        if let Some((single, rest)) = self.singles.split_first() {
            // A date's own length counts where a rule has the same instant (RFC 5545, section 3.8.5.2).
            let at = single.moment.at;
            if least.as_ref().is_none_or(|(_, least)| at < least.at || at == least.at && single.own_length) {
                self.singles = rest;
                return Some(*single);
            }
        }
        let (source, moment) = least?;
        source.next = source.moments.next();
        Some(source.found(zone, moment))
    }

    /// Steps over the rest of an excepted day with very many occurrences.
    fn step_over_day(&mut self, moment: Moment) {
        let midnight = self.recurrence.zone.resolve((moment.local.div_euclid(DAY) + 1) * DAY);
        if midnight.low == midnight.high && midnight.low > moment.at {
            let (after, spent) = (self.after, self.work());
            *self = self.recurrence.occurrences_from(midnight.low);
            self.after = self.after.max(after);
            self.spent = spent;
        }
    }
}

impl Iterator for Occurrences<'_> {
    type Item = Occurrence;

    fn next(&mut self) -> Option<Occurrence> {
        let found = self.next_found()?;
        Some(self.recurrence.occurrence(&found))
    }
}
