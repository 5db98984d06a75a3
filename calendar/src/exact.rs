//! Rules of HOURLY, MINUTELY and SECONDLY. They count in real time, so hourly stays hourly across a change of the
//! clocks; their BY-parts read the local clock.
//!
//! A period is one hour, minute or second of real time, counted from the hour, minute or second of the start. The
//! search skips whole days, hours and minutes that BY-parts rule out. Every search is bounded: by [`MAX_WORK`]
//! times looked at, and by 400 years.

use crate::days::{CYCLE_DAYS, DAY, date_of, day_number};
use crate::rule::{End, Frequency, RecurrenceRule, Until};
use crate::steps::Steps;
use crate::zone::{OffsetSegment, Zone};

/// A search gives up after it has looked at this many times.
const MAX_WORK: u64 = 2_000_000;
/// Finding the last occurrence of COUNT gives up after this many times, counted over all rules of a recurrence.
pub(crate) const MAX_COUNT_WORK: u64 = 4_000_000;
/// No search goes further than the 400 years after which the calendar repeats.
const MAX_SEARCH: i64 = CYCLE_DAYS * DAY;
/// The end of the calendar, with room for any offset from UTC.
const LAST: i64 = 253_370_000_000;

/// The instants that a sub-daily rule generates from a start.
#[derive(Debug, Clone)]
pub(crate) struct ExactSeries {
    rule: RecurrenceRule,
    zone: Zone,
    /// Unix seconds of the start.
    start: i64,
    /// The beginning of the start's own period.
    base: i64,
    /// The length of a period, and the distance between two, in seconds.
    unit: i64,
    step: i64,
    /// The rule has no BY-parts: one instant in each period.
    bare: bool,
    /// The first and the last possible instant, both inclusive.
    pub(crate) first: i64,
    pub(crate) last: i64,
}

impl ExactSeries {
    /// `start` in Unix seconds. The rule must be shorter than DAILY. `None` if the last occurrence of COUNT is out
    /// of reach.
    pub(crate) fn new(rule: &RecurrenceRule, zone: &Zone, start: i64, work: &mut Steps) -> Option<Self> {
        let unit = match rule.frequency {
            Frequency::Hourly => 3600,
            Frequency::Minutely => 60,
            _ => 1,
        };
        let last = match rule.end {
            End::Never | End::Count(_) => LAST,
            End::Until(Until::Utc(at)) => at,
            End::Until(Until::Local(local)) => zone.resolve(local).high,
            End::Until(Until::Date(day)) => zone.resolve(i64::from(day) * DAY + DAY - 1).high,
        };
        let mut series = Self {
            rule: rule.clone(),
            zone: zone.clone(),
            start,
            first: start,
            base: start - zone.local_of(start).rem_euclid(unit),
            unit,
            step: unit * i64::from(rule.interval),
            bare: rule.has_no_by_parts(),
            last: last.min(LAST),
        };
        if let End::Count(count) = rule.end {
            series.last = series.nth(count, work)?;
        }
        Some(series)
    }

    fn nth(&self, count: u32, work: &mut Steps) -> Option<i64> {
        if self.bare {
            return Some(i64::from(count - 1).saturating_mul(self.step).saturating_add(self.start).min(LAST));
        }
        let mut last = self.start;
        let mut walk = self.iter_from(self.start);
        for _ in 0..count {
            let before = walk.work;
            match walk.next() {
                Some(at) => last = at,
                None => break,
            }
            if !work.take(1 + (walk.work - before) as usize) {
                return None;
            }
        }
        Some(last)
    }

    /// The instants from `at` on, ascending.
    pub(crate) fn iter_from(&self, at: i64) -> ExactIter<'_> {
        let from = at.max(self.first);
        let period = (from - self.base).div_euclid(self.step);
        let segment = self.zone.segment(self.base + period * self.step);
        ExactIter { series: self, from, period, set: Vec::new(), index: 0, segment, work: 0, done: false }
    }

    /// Whether it has this instant. Looks at one period.
    pub(crate) fn contains(&self, at: i64) -> bool {
        if at < self.first || at > self.last {
            return false;
        }
        let mut iter = self.iter_from(at);
        if self.bare {
            return iter.next() == Some(at);
        }
        let begin = self.base + iter.period * self.step;
        self.fill(begin, &mut iter.segment, &mut iter.set);
        iter.set.contains(&at)
    }

    /// The last instant before `at`.
    pub(crate) fn last_before(&self, at: i64) -> Option<i64> {
        let has = |from: i64| self.iter_from(from).next().is_some_and(|first| first < at);
        if !has(self.first) {
            return None;
        }
        let mut back = self.step;
        while !has(at - back) {
            back *= 2;
        }
        // [at - back, at) contains an instant; narrow it down so that little is left to iterate.
        let (mut low, mut high) = (at - back, at);
        while high - low > self.step {
            let middle = low + (high - low) / 2;
            if has(middle) { low = middle } else { high = middle }
        }
        self.iter_from(low).take_while(|it| *it < at).last()
    }

    /// Appends the instants of the period that begins at `begin`. Returns how many times it looked at.
    fn fill(&self, begin: i64, segment: &mut OffsetSegment, set: &mut Vec<i64>) -> u64 {
        let rule = &self.rule;
        let into = self.start - self.base;
        // The start supplies what the rule leaves out, in real time.
        let minutes = match rule.frequency {
            Frequency::Hourly if rule.minutes != 0 => 0..60,
            _ => into / 60..into / 60 + 1,
        };
        let seconds = match rule.frequency {
            Frequency::Hourly | Frequency::Minutely if rule.seconds != 0 => 0..60,
            _ => into % 60..into % 60 + 1,
        };
        let mut work = 1;
        let local_begin = begin + self.offset(begin, segment);
        // Usually no clock change lies in the period, and its minutes are the minutes of the clock.
        let plain = segment.to >= begin + self.unit && local_begin.rem_euclid(60) == 0;
        for minute in minutes {
            work += 1;
            let on_clock = (local_begin / 60 + minute).rem_euclid(60);
            if plain && rule.minutes != 0 && rule.minutes >> on_clock & 1 == 0 {
                continue;
            }
            for second in seconds.clone() {
                work += 1;
                let at = begin + minute * 60 + second;
                let local = at + self.offset(at, segment);
                let (hour, minute, second) = (local.rem_euclid(DAY) / 3600, local / 60, local.rem_euclid(60));
                if (rule.hours == 0 || rule.hours >> hour & 1 == 1)
                    && (rule.minutes == 0 || rule.minutes >> minute.rem_euclid(60) & 1 == 1)
                    && (rule.seconds == 0 || rule.seconds >> second & 1 == 1)
                    && rule.allows_day(local.div_euclid(DAY) as i32)
                {
                    set.push(at);
                }
            }
        }
        if !rule.positions.is_empty() {
            let count = set.len() as i64;
            let index = |p: i32| if p > 0 { i64::from(p) - 1 } else { count + i64::from(p) };
            let picked: Vec<i64> = rule.positions.iter().map(|p| index(*p)).collect();
            let mut at = -1;
            set.retain(|_| {
                at += 1;
                picked.contains(&at)
            });
        }
        work
    }

    fn offset(&self, at: i64, segment: &mut OffsetSegment) -> i64 {
        if at < segment.from || at >= segment.to {
            *segment = self.zone.segment(at);
        }
        segment.offset
    }

    /// The next instant after `at`, within the same UTC offset, that the limiting BY-parts may allow.
    fn worth_looking_at(&self, at: i64, segment: &mut OffsetSegment) -> i64 {
        let rule = &self.rule;
        let local = at + self.offset(at, segment);
        let target = 'local: {
            let day = local.div_euclid(DAY) as i32;
            if !rule.allows_day(day) {
                break 'local self.next_day(day, segment.to) * DAY;
            }
            let hour = local.div_euclid(3600);
            if rule.hours != 0 && rule.hours >> hour.rem_euclid(24) & 1 == 0 {
                break 'local (hour + 1) * 3600;
            }
            let minute = local.div_euclid(60);
            if self.unit < 3600 && rule.minutes != 0 && rule.minutes >> minute.rem_euclid(60) & 1 == 0 {
                break 'local (minute + 1) * 60;
            }
            return at + 1;
        };
        (target - segment.offset).min(segment.to)
    }

    /// The next day that the rule allows, as a day number. Does not search beyond the instant `until`.
    fn next_day(&self, day: i32, until: i64) -> i64 {
        let until = until.min(self.start.max(i64::from(day) * DAY) + MAX_SEARCH).div_euclid(DAY) + 2;
        let mut day = day + 1;
        while i64::from(day) <= until && !self.rule.allows_day(day) {
            let (year, month, _) = date_of(day);
            let whole_month = self.rule.months != 0 && self.rule.months >> month & 1 == 0;
            day = match month {
                _ if !whole_month => day + 1,
                12 => day_number(year + 1, 1, 1),
                _ => day_number(year, month + 1, 1),
            };
        }
        day.into()
    }
}

/// Instants of an exact series, ascending.
#[derive(Debug)]
pub(crate) struct ExactIter<'a> {
    series: &'a ExactSeries,
    from: i64,
    /// The next period to look at.
    period: i64,
    set: Vec<i64>,
    index: usize,
    segment: OffsetSegment,
    /// How many times it looked at so far.
    pub(crate) work: u64,
    done: bool,
}

impl Iterator for ExactIter<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        let series = self.series;
        if series.bare {
            let at = (series.start + self.period * series.step).max(self.from);
            // The first period may lie before `from`.
            self.period = (at - series.start + series.step - 1).div_euclid(series.step) + 1;
            let at = series.start + (self.period - 1) * series.step;
            return (at <= series.last).then_some(at);
        }
        let searched_from = series.base + self.period * series.step;
        let limit = self.work + MAX_WORK;
        while !self.done {
            while let Some(&at) = self.set.get(self.index) {
                self.index += 1;
                if at > series.last {
                    self.done = true;
                    return None;
                }
                if at >= self.from {
                    return Some(at);
                }
            }
            self.set.clear();
            self.index = 0;
            let begin = series.base + self.period * series.step;
            if begin > series.last || self.work > limit || begin - searched_from > MAX_SEARCH {
                self.done = true;
                return None;
            }
            self.work += series.fill(begin, &mut self.segment, &mut self.set);
            self.period += 1;
            if self.set.is_empty() {
                let target = series.worth_looking_at(begin, &mut self.segment);
                // The first period that ends after the target.
                let skip = (target - series.base - series.unit).div_euclid(series.step) + 1;
                self.period = self.period.max(skip);
            }
        }
        None
    }
}
