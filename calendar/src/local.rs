//! Rules of DAILY and longer, expanded on the local calendar: the days of each period, times a list of times of
//! day.
//!
//! A period is found by division, never by counting from the start, so the age of a rule does not matter. COUNT is
//! converted once, when the series is made, to a last local time. Only [`LocalSeries::count_existing`] needs a
//! zone.

use crate::days::{CYCLE_DAYS, DAY, LAST_YEAR, date_of, day_number};
use crate::period_days::PeriodDays;
use crate::rule::{End, Frequency, RecurrenceRule, Until};
use crate::steps::Steps;
use crate::zone::Zone;

/// The local times that a rule generates from a start.
#[derive(Debug, Clone)]
pub(crate) struct LocalSeries {
    days: PeriodDays,
    /// Local seconds of the start.
    start: i64,
    /// Times of day in seconds, ascending.
    times: Vec<i64>,
    /// The first and the last possible local time, both inclusive.
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// After this many periods the pattern repeats.
    cycle: i64,
    regular: Option<Regular>,
}

/// A series whose periods are all alike: the same number of days, and the same times from the beginning of each.
#[derive(Debug, Clone)]
struct Regular {
    /// Local seconds at which the first period begins.
    base: i64,
    step: i64,
    times: Vec<i64>,
}

/// The times of one period, ascending.
#[derive(Debug, Default)]
struct PeriodSet {
    days: Vec<i32>,
    /// What BYSETPOS picked, as indices into days × times.
    picks: Vec<usize>,
    picked: bool,
}

/// The end of the calendar.
const LAST_LOCAL: i64 = 253_370_764_799;

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl LocalSeries {
    /// `start` in local seconds. The rule must be DAILY or longer.
    pub(crate) fn new(rule: &RecurrenceRule, start: i64) -> Self {
        let time = start.rem_euclid(DAY);
        let or = |mask: u64, value: i64| if mask == 0 { 1 << value } else { mask };
        let hours = or(u64::from(rule.hours), time / 3600);
        let (minutes, seconds) = (or(rule.minutes, time / 60 % 60), or(rule.seconds, time % 60));
        let bits = |mask: u64| (0..60i64).filter(move |bit| mask >> bit & 1 == 1);
        let mut times = Vec::new();
        for hour in bits(hours) {
            for minute in bits(minutes) {
                times.extend(bits(seconds).map(|second| hour * 3600 + minute * 60 + second));
            }
        }
        let whole_cycle = match rule.frequency {
            Frequency::Yearly => 400,
            Frequency::Monthly => 4800,
            Frequency::Weekly => CYCLE_DAYS / 7,
            _ => CYCLE_DAYS,
        };
        let last = match rule.end {
            End::Until(Until::Date(day)) => i64::from(day) * DAY + DAY - 1,
            End::Until(Until::Local(local)) => local,
            // The instant is compared later; no offset from UTC reaches two days.
            End::Until(Until::Utc(at)) => at + 2 * DAY,
            End::Never | End::Count(_) => LAST_LOCAL,
        };
        let mut series = Self {
            start,
            first: start,
            times,
            last: last.min(LAST_LOCAL),
            cycle: whole_cycle / gcd(whole_cycle, i64::from(rule.interval)),
            regular: None,
            days: PeriodDays::new(rule, start.div_euclid(DAY) as i32),
        };
        series.regular = series.find_regular();
        if let End::Count(count) = rule.end {
            series.last = series.nth(start, count as usize);
        }
        series
    }

    /// Extends COUNT by the local times that don't exist, if the zone's policy skips them: those "MUST NOT be
    /// counted" (RFC 5545, section 3.3.10). `None` if `work` does not suffice.
    pub(crate) fn count_existing(mut self, zone: &Zone, work: &mut Steps) -> Option<Self> {
        let mut from = self.start;
        loop {
            let missing = self.missing(zone, from, work)?;
            if missing == 0 {
                return Some(self);
            }
            from = self.last + 1;
            // If it does not lie behind the last time, it lies behind the end of the calendar.
            self.last = self.nth(from, missing).max(self.last);
        }
    }

    /// How many of the local times between `from` and the last don't exist.
    fn missing(&self, zone: &Zone, from: i64, work: &mut Steps) -> Option<usize> {
        let mut count = 0;
        let mut now = zone.segment(zone.resolve(from).low.saturating_sub(DAY));
        while now.to != i64::MAX && now.to + now.offset <= self.last {
            let next = zone.segment(now.to);
            let (gap, end) = (now.to + now.offset, now.to + next.offset);
            let inside = self.iter_from(gap.max(from)).take_while(|local| *local < end);
            for local in inside.take(if gap < end { usize::MAX } else { 0 }) {
                count += usize::from(zone.resolve(local).first.is_none());
                if !work.take(1) {
                    return None;
                }
            }
            if !work.take(20) {
                return None;
            }
            now = next;
        }
        Some(count)
    }

    fn find_regular(&self) -> Option<Regular> {
        let rule = &self.days.rule;
        let alike = match rule.frequency {
            Frequency::Weekly => true,
            Frequency::Daily => rule.month_days.is_empty() && rule.days.is_empty(),
            _ => false,
        };
        if !alike || rule.months != 0 {
            return None;
        }
        let (first, days) = match rule.frequency {
            Frequency::Weekly => (self.days.week_of(self.days.start_day), 7),
            _ => (self.days.start_day, 1),
        };
        let mut set = PeriodSet::default();
        self.fill(0, &mut set);
        let base = i64::from(first) * DAY;
        let times: Vec<i64> = (0..set.len(self)).map(|index| set.get(self, index) - base).collect();
        (!times.is_empty()).then_some(Regular { base, step: days * i64::from(rule.interval) * DAY, times })
    }

    /// The local time of the `count`th occurrence from `from` on, or the last one if there are fewer.
    fn nth(&self, from: i64, count: usize) -> i64 {
        if let Some(regular) = &self.regular {
            return regular.get(regular.first_at_least(from) + count as i64 - 1).min(LAST_LOCAL);
        }
        let mut left = count;
        let mut last = from;
        let mut walk = self.iter_from(from);
        while let Some(period) = walk.period {
            let rest = walk.set.len(self) - walk.index;
            if rest >= left {
                return walk.set.get(self, walk.index + left - 1);
            }
            if rest > 0 {
                last = walk.set.get(self, walk.index + rest - 1);
                left -= rest;
            }
            walk.enter(self.period_after(period));
        }
        last
    }

    /// The local times from `local` on, ascending.
    pub(crate) fn iter_from(&self, local: i64) -> LocalIter<'_> {
        let from = local.max(self.first);
        let mut iter =
            LocalIter { series: self, period: None, index: 0, set: PeriodSet::default(), occupied: 0 };
        if let Some(regular) = &self.regular {
            let next = regular.first_at_least(from);
            let count = regular.times.len() as i64;
            iter.period = Some(next.div_euclid(count));
            iter.index = next.rem_euclid(count) as usize;
            return iter;
        }
        let period = self.period_of(from).max(0);
        iter.occupied = period;
        iter.enter(Some(period));
        iter.index = iter.set.first_at_least(self, from);
        iter
    }

    /// Whether it has this local time. Looks at one period.
    pub(crate) fn contains(&self, local: i64) -> bool {
        if local < self.first || local > self.last {
            return false;
        }
        let mut iter = self.iter_from(local);
        if self.regular.is_some() {
            return iter.next() == Some(local);
        }
        iter.period.is_some() && iter.index < iter.set.len(self) && iter.set.get(self, iter.index) == local
    }

    /// The local times up to `local`, descending.
    pub(crate) fn descending_from(&self, local: i64) -> LocalDescending<'_> {
        let to = local.min(self.last);
        let mut iter =
            LocalDescending { series: self, period: -1, index: 0, set: PeriodSet::default(), occupied: 0 };
        if to >= self.first {
            iter.period = self.period_of(to.min(i64::from(day_number(LAST_YEAR, 12, 31)) * DAY));
            iter.occupied = iter.period;
            self.fill(iter.period, &mut iter.set);
            iter.index = iter.set.first_at_least(self, to + 1);
        }
        iter
    }

    fn period_of(&self, local: i64) -> i64 {
        let day = local.div_euclid(DAY).min(i64::from(day_number(LAST_YEAR + 1, 1, 1))) as i32;
        let (year, month, _) = date_of(day);
        let (start_year, start_month, _) = self.days.start_date;
        let units = match self.days.rule.frequency {
            Frequency::Yearly => i64::from(year - start_year),
            Frequency::Monthly => i64::from((year - start_year) * 12 + month - start_month),
            Frequency::Weekly => {
                i64::from(self.days.week_of(day) - self.days.week_of(self.days.start_day)) / 7
            }
            _ => i64::from(day - self.days.start_day),
        };
        units.div_euclid(self.days.rule.interval.into())
    }

    /// The next period that may contain days; `None` after the end of the calendar.
    fn period_after(&self, period: i64) -> Option<i64> {
        let next = period + 1;
        if self.days.rule.frequency != Frequency::Daily || self.days.rule.months == 0 {
            return Some(next);
        }
        let day = self.daily(next)?;
        let (mut year, mut month, _) = date_of(day);
        if self.days.rule.months >> month & 1 == 1 {
            return Some(next);
        }
        while self.days.rule.months >> month & 1 == 0 {
            (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        }
        let days = i64::from(day_number(year, month, 1) - self.days.start_day);
        let interval = i64::from(self.days.rule.interval);
        Some((days + interval - 1).div_euclid(interval))
    }

    fn daily(&self, period: i64) -> Option<i32> {
        let day = i64::from(self.days.start_day) + period * i64::from(self.days.rule.interval);
        (day <= i64::from(day_number(LAST_YEAR, 12, 31))).then_some(day as i32)
    }

    /// Writes the times of a period into `set`. False after the end of the calendar.
    fn fill(&self, period: i64, set: &mut PeriodSet) -> bool {
        set.days.clear();
        let (year, month, _) = self.days.start_date;
        let step = period * i64::from(self.days.rule.interval);
        let inside = match self.days.rule.frequency {
            Frequency::Yearly => {
                let year = i64::from(year) + step;
                year <= i64::from(LAST_YEAR) && {
                    self.days.year(year as i32, &mut set.days);
                    true
                }
            }
            Frequency::Monthly => {
                let months = i64::from(year) * 12 + i64::from(month - 1) + step;
                months / 12 <= i64::from(LAST_YEAR) && {
                    self.days.month((months / 12) as i32, (months % 12) as i32 + 1, &mut set.days);
                    true
                }
            }
            Frequency::Weekly => {
                let first = i64::from(self.days.week_of(self.days.start_day)) + step * 7;
                first + 6 <= i64::from(day_number(LAST_YEAR, 12, 31)) && {
                    self.days.week(first as i32, &mut set.days);
                    true
                }
            }
            _ => self.daily(period).is_some_and(|day| {
                if self.days.rule.allows_day(day) {
                    set.days.push(day);
                }
                true
            }),
        };
        if !self.days.rule.positions.is_empty() {
            let count = set.days.len() * self.times.len();
            let index = |position: i32| {
                if position > 0 { i64::from(position) - 1 } else { count as i64 + i64::from(position) }
            };
            let picked =
                self.days.rule.positions.iter().filter_map(|position| usize::try_from(index(*position)).ok());
            set.picks.clear();
            set.picks.extend(picked.filter(|index| *index < count));
            set.picks.sort_unstable();
            set.picks.dedup();
            set.picked = true;
        }
        inside
    }
}

impl Regular {
    /// The time with this index, counted from the beginning of the first period.
    fn get(&self, index: i64) -> i64 {
        let count = self.times.len() as i64;
        let period = index.div_euclid(count).saturating_mul(self.step);
        period.saturating_add(self.base + self.times[index.rem_euclid(count) as usize])
    }

    /// The index of the first time at or after `local`.
    fn first_at_least(&self, local: i64) -> i64 {
        let period = (local - self.base).div_euclid(self.step);
        let into = local - self.base - period * self.step;
        period * self.times.len() as i64 + self.times.partition_point(|time| *time < into) as i64
    }
}

impl PeriodSet {
    fn len(&self, series: &LocalSeries) -> usize {
        if self.picked { self.picks.len() } else { self.days.len() * series.times.len() }
    }

    fn get(&self, series: &LocalSeries, index: usize) -> i64 {
        let index = if self.picked { self.picks[index] } else { index };
        let times = series.times.len();
        if times == 1 {
            return i64::from(self.days[index]) * DAY + series.times[0];
        }
        i64::from(self.days[index / times]) * DAY + series.times[index % times]
    }

    fn first_at_least(&self, series: &LocalSeries, local: i64) -> usize {
        let (mut low, mut high) = (0, self.len(series));
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.get(series, middle) < local { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// Local times of a series, ascending.
#[derive(Debug)]
pub(crate) struct LocalIter<'a> {
    series: &'a LocalSeries,
    /// `None` after the last.
    period: Option<i64>,
    index: usize,
    set: PeriodSet,
    /// The last period that contained a time. The search ends after a whole cycle of empty periods.
    occupied: i64,
}

impl LocalIter<'_> {
    fn enter(&mut self, period: Option<i64>) {
        self.index = 0;
        self.period = period.filter(|period| {
            let inside = self.series.fill(*period, &mut self.set);
            if self.set.len(self.series) > 0 {
                self.occupied = *period;
            }
            inside && period - self.occupied <= self.series.cycle
        });
    }
}

impl Iterator for LocalIter<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        let series = self.series;
        if let Some(regular) = &series.regular {
            let local = regular.base + self.period? * regular.step + regular.times[self.index];
            self.index += 1;
            if self.index == regular.times.len() {
                (self.period, self.index) = (self.period.map(|period| period + 1), 0);
            }
            return (local <= series.last).then_some(local);
        }
        loop {
            let period = self.period?;
            if self.index < self.set.len(series) {
                let local = self.set.get(series, self.index);
                if local > series.last {
                    self.period = None;
                    return None;
                }
                self.index += 1;
                return Some(local);
            }
            self.enter(series.period_after(period));
        }
    }
}

/// Local times of a series, descending.
#[derive(Debug)]
pub(crate) struct LocalDescending<'a> {
    series: &'a LocalSeries,
    /// Negative before the first period.
    period: i64,
    index: usize,
    set: PeriodSet,
    occupied: i64,
}

impl Iterator for LocalDescending<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        loop {
            if self.period < 0 || self.occupied - self.period > self.series.cycle {
                return None;
            }
            if self.index > 0 {
                self.index -= 1;
                self.occupied = self.period;
                let local = self.set.get(self.series, self.index);
                return (local >= self.series.first).then_some(local);
            }
            self.period -= 1;
            if self.period >= 0 {
                self.series.fill(self.period, &mut self.set);
                self.index = self.set.len(self.series);
            }
        }
    }
}
