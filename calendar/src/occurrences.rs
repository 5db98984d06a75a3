//! The set of occurrences: merges rules and dates, takes exceptions out, and sorts by instant.
//!
//! Never yields the same instant twice.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::days::DAY;
use crate::recurrence::{RawOccurrence, Recurrence};
use crate::segment::{Moments, RuleSegment};
use crate::spec::{Length, MAX_OVERRIDE_STEPS};
use crate::steps::Steps;
use crate::zone::{FoldSide, Moment, Zone, ceil_second, civil, floor_second, timestamp};

/// A search ends after `except_rules` took out this many times in a row.
const MAX_EXCEPTED: u32 = 100_000;

/// Steps for starting to iterate one segment of a recurrence.
const EACH_PART: usize = 10;

/// One occurrence: from `start` until before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
    /// When it begins.
    pub start: Timestamp,
    /// When it ends. Equal to `start` if it has no duration.
    pub end: Timestamp,
    /// The local time that names it (RECURRENCE-ID): what the rule or date says. It stays the same if that time
    /// does not exist and `start` is later, and if an override moved the occurrence. Midnight if all-day.
    pub local_start: DateTime,
    /// Whether it is the second of a local time that exists twice. Together with `local_start` it is the identity.
    pub repeated: bool,
}

impl Occurrence {
    /// Whether it comes later because its local time does not exist in the zone.
    pub fn is_shifted(&self, zone: &TimeZone) -> bool {
        match zone.to_ambiguous_timestamp(self.local_start).offset() {
            AmbiguousOffset::Gap { before, .. } => {
                before.to_timestamp(self.local_start).ok() == Some(self.start)
            }
            _ => false,
        }
    }

    /// Its identity within the recurrence, stable across restarts and edits of other fields: the local start, such
    /// as `2026-01-05T10:00:00`, and `/2` behind it for the second of a repeated local time.
    pub fn id(&self) -> String {
        format!("{}{}", self.local_start, if self.repeated { "/2" } else { "" })
    }
}

/// The occurrences of a recurrence, ordered by start. No two have the same start.
#[derive(Debug)]
pub struct Occurrences<'a> {
    recurrence: &'a Recurrence,
    sources: Vec<SegmentCursor<'a>>,
    singles: &'a [RawOccurrence],
    /// There is one source and no single date, so nothing has to be merged.
    alone: bool,
    after: i64,
    /// What it cost to look at times that exceptions took out.
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
    /// The cost does not depend on how long ago the recurrence began. The iterator ends with the recurrence, in the
    /// year 9998, when a rule shorter than DAILY finds nothing for 400 years, or when `except_rules` take out
    /// 100,000 times in a row.
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
            // Another occurrence may have the same instant as the one that is excepted.
            let same = self.occurrences_from(last.at).next().filter(|it| it.start.as_second() == last.at);
            if same.is_some() {
                return same;
            }
            bound = last.at;
            // Skip an excepted day as a whole, unless its midnight exists twice or not at all.
            let midnight = self.zone.resolve(last.local.div_euclid(DAY) * DAY);
            if self.may_step_over(last) && midnight.low == midnight.high {
                bound = midnight.low.min(bound);
            }
        }
        None
    }

    /// The occurrences that have not ended at `t`: first those under way, then those that start at or after it.
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

    /// The occurrence with this name. `None` also if the steps run out; then `steps` is empty.
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
            // On the time line, a shift of the local clock differs by at most one change of the clocks.
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

    /// When an event ends that begins at the instant `at`, which is `wall` on the local clock.
    #[inline]
    pub(crate) fn end_of(&self, at: i64, wall: i64, length: Length) -> i64 {
        let days = match length.days {
            0 => at,
            days => {
                let next = self.zone.resolve(wall + i64::from(days) * DAY);
                // An event never ends before it begins, even if a day is missing or the clocks are set back.
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

    /// The next occurrence; takes what it cost from `steps`. `None` also if the steps run out; then `steps` is
    /// empty.
    #[inline]
    pub(crate) fn next_found_within(&mut self, steps: &mut Steps) -> Option<RawOccurrence> {
        let before = self.work();
        let found = self.next_found();
        let work = self.work().saturating_sub(before) + self.each();
        steps.take(work as usize).then_some(found)?
    }

    /// Steps for one time: find the earliest of all sources, and compare it with each exception rule.
    fn each(&self) -> u64 {
        (self.sources.len().max(1) + 4 * self.recurrence.except_segments.len()) as u64
    }

    fn work(&self) -> u64 {
        self.spent + self.sources.iter().map(|source| source.moments.work()).sum::<u64>()
    }

    /// The same as [`Self::next_merged`], if there is nothing to merge or to take out.
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

    /// Takes the earliest of all sources, excepted or not.
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
            // If a date has the same instant as a rule, the date's own length applies (RFC 5545, section 3.8.5.2).
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

    /// Skips the rest of an excepted day with very many occurrences.
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
