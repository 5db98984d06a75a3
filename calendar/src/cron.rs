//! The cron lines that start a pod for every reminder.
//!
//! Lines are in UTC and in the dialect of Kubernetes' CronJob: five fields. Lines are correct if they match each
//! instant at which a reminder is due. A match without a reminder starts a pod in vain: it does no harm, since the
//! pod asks what is due, but it costs. So lines are chosen by price: a start in vain costs 1, a further line costs
//! [`LINE_PRICE`].
//!
//! Lines are computed for whole calendar months, so they stay the same during a month, and nothing is rewritten in
//! the cluster. No line restricts both the day of month and the day of week, which cron would combine with OR.
//!
//! Clause S7 of docs/semantics.md.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use crate::days::{DAY, date_of, day_number, weekday};
use crate::recurrence::Recurrence;
use crate::reminders::{DueReminders, Reminder};
use crate::zone::{floor_second, timestamp};

/// The most lines that a schedule gets.
pub const MAX_CRON_LINES: usize = 8;
/// Lines are computed for this many months from the beginning of the current one, so 12 whole months are always
/// ahead.
const MONTHS: i32 = 13;
/// With more due instants in those months, the line is `* * * * *`.
const MAX_INSTANTS: usize = 600_000;
/// With more groups, pairs of them are not compared by price.
const MAX_GROUPS: usize = 24;
/// A further line must save at least this many starts in vain.
const LINE_PRICE: u32 = 2;

const ALL_HOURS: u32 = (1 << 24) - 1;
const ALL_MINUTES: u64 = (1 << 60) - 1;
const ALL_MONTHS: u16 = 0b1_1111_1111_1110;
const ALL_DAYS: u32 = u32::MAX - 1;
const ALL_WEEKDAYS: u8 = 0b111_1111;

/// A line for a CronJob with `timeZone: Etc/UTC`. [`fmt::Display`] gives its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CronLine {
    minutes: u64,
    hours: u32,
    /// Bits 1 to 31.
    days: u32,
    /// Bits 1 to 12.
    months: u16,
    /// Sunday = bit 0.
    weekdays: u8,
}

impl CronLine {
    /// Whether the line starts the job in the minute that begins at `t`.
    pub fn matches(&self, t: Timestamp) -> bool {
        let at = floor_second(t);
        let (minute, hour) = (at.div_euclid(60).rem_euclid(60), at.div_euclid(3600).rem_euclid(24));
        at.rem_euclid(60) == 0
            && self.minutes >> minute & 1 == 1
            && self.hours >> hour & 1 == 1
            && self.matches_day(at.div_euclid(DAY) as i32)
    }

    fn matches_day(&self, number: i32) -> bool {
        let (_, month, day) = date_of(number);
        self.months >> month & 1 == 1
            && self.days >> day & 1 == 1
            && self.weekdays >> sunday_based(number) & 1 == 1
    }
}

impl fmt::Display for CronLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        field(f, self.minutes, ALL_MINUTES)?;
        f.write_str(" ")?;
        field(f, self.hours.into(), ALL_HOURS.into())?;
        f.write_str(" ")?;
        field(f, self.days.into(), ALL_DAYS.into())?;
        f.write_str(" ")?;
        field(f, self.months.into(), ALL_MONTHS.into())?;
        f.write_str(" ")?;
        field(f, self.weekdays.into(), ALL_WEEKDAYS.into())
    }
}

/// Writes `*`, or values and ranges.
fn field(f: &mut fmt::Formatter<'_>, mask: u64, all: u64) -> fmt::Result {
    if mask == all {
        return f.write_str("*");
    }
    let mut bit = 0;
    let mut separator = "";
    while bit < 64 {
        if mask >> bit & 1 == 0 {
            bit += 1;
            continue;
        }
        let first = bit;
        while bit < 64 && mask >> bit & 1 == 1 {
            bit += 1;
        }
        match bit - first {
            1 => write!(f, "{separator}{first}")?,
            2 => write!(f, "{separator}{first},{}", bit - 1)?,
            _ => write!(f, "{separator}{first}-{}", bit - 1)?,
        }
        separator = ",";
    }
    Ok(())
}

fn sunday_based(number: i32) -> i32 {
    (weekday(number) + 1) % 7
}

/// At most [`MAX_CRON_LINES`] lines. They match every instant at which a reminder is due in the 12 months after
/// `from`, and the next such instant even if it is later. Empty if no reminder is due after `from`.
///
/// The result is the same for every `from` of a calendar month (UTC), as long as a reminder is left.
pub fn cron_lines(recurrence: &Recurrence, reminders: &[Reminder], from: Timestamp) -> Vec<CronLine> {
    let Some(next) = DueReminders::new(recurrence, reminders, from).next() else {
        return Vec::new();
    };
    let month_of = |at: i64| {
        let (year, month, _) = date_of(at.div_euclid(DAY) as i32);
        year * 12 + month - 1
    };
    let month_start = |months: i32| day_number(months.div_euclid(12), months.rem_euclid(12) + 1, 1);
    let (now, next) = (month_of(floor_second(from)), month_of(next.due.as_second()));
    // If the next reminder is further away, the range begins with its month.
    let first = if next < now + MONTHS { now } else { next };
    let months = MonthRange::new(month_start(first), month_start(first + MONTHS));
    let Some(slots) = days_by_minute(recurrence, reminders, &months) else {
        let every = CronLine {
            minutes: ALL_MINUTES,
            hours: ALL_HOURS,
            days: ALL_DAYS,
            months: ALL_MONTHS,
            weekdays: ALL_WEEKDAYS,
        };
        return vec![every];
    };
    let mut lines: Vec<CronLine> =
        months.cheapest_groups(slots).into_iter().map(|group| group.line).collect();
    lines.sort_unstable();
    lines
}

/// Days of the range as bits; bit 0 is its first day.
type DaySet = [u64; 7];

/// Whole months, as day numbers, `end` exclusive. Also sorts these days by month of the year, by day of the month,
/// and by day of the week (from Sunday).
struct MonthRange {
    first: i32,
    end: i32,
    months: [DaySet; 12],
    days: [DaySet; 31],
    weekdays: [DaySet; 7],
}

/// The times that one line has to cover.
#[derive(Clone)]
struct LineGroup {
    minutes: u64,
    hours: u32,
    days: DaySet,
    line: CronLine,
    /// How often the line starts the job in the range.
    fires: u32,
}

/// For each minute of the day, the days on which it has a due reminder. `None` if there are too many to look at.
fn days_by_minute(
    recurrence: &Recurrence,
    reminders: &[Reminder],
    months: &MonthRange,
) -> Option<BTreeMap<i64, DaySet>> {
    let mut slots: BTreeMap<i64, DaySet> = BTreeMap::new();
    let from = timestamp(i64::from(months.first) * DAY - 1);
    let end = timestamp(i64::from(months.end) * DAY);
    for (count, it) in
        DueReminders::new(recurrence, reminders, from).take_while(|it| it.due < end).enumerate()
    {
        if count == MAX_INSTANTS {
            return None;
        }
        let at = it.due.as_second();
        let day = (at.div_euclid(DAY) - i64::from(months.first)) as usize;
        slots.entry(at.rem_euclid(DAY) / 60).or_default()[day / 64] |= 1 << (day % 64);
    }
    Some(slots)
}

impl MonthRange {
    fn new(first: i32, end: i32) -> Self {
        let mut it = Self {
            first,
            end,
            months: Default::default(),
            days: [DaySet::default(); 31],
            weekdays: Default::default(),
        };
        for (index, number) in (first..end).enumerate() {
            let (_, month, day) = date_of(number);
            let (word, bit) = (index / 64, 1 << (index % 64));
            it.months[month as usize - 1][word] |= bit;
            it.days[day as usize - 1][word] |= bit;
            it.weekdays[sunday_based(number) as usize][word] |= bit;
        }
        it
    }

    /// The cheapest groups, at most [`MAX_CRON_LINES`].
    fn cheapest_groups(&self, slots: BTreeMap<i64, DaySet>) -> Vec<LineGroup> {
        let mut blocks = blocks(slots);
        if blocks.len() > MAX_GROUPS {
            // Too many to compare: use the same days for all, so that only the times differ.
            let all = blocks.iter().fold(DaySet::default(), |all, (_, _, days)| union(&all, days));
            let slots = blocks.iter().flat_map(|&(minutes, hours, _)| {
                let hours = (0..24i64).filter(move |hour| hours >> hour & 1 == 1);
                hours.flat_map(move |h| {
                    (0..60i64).filter(move |m| minutes >> m & 1 == 1).map(move |m| h * 60 + m)
                })
            });
            blocks = self::blocks(slots.map(|slot| (slot, all)).collect());
        }
        if blocks.len() > MAX_GROUPS {
            let all = blocks.iter().fold((0, 0, DaySet::default()), |all, block| {
                (all.0 | block.0, all.1 | block.1, union(&all.2, &block.2))
            });
            blocks = vec![all];
        }
        let parts = blocks.into_iter().flat_map(|(minutes, hours, days)| {
            let mut parts = self.by_month(minutes, hours, &days);
            self.merge_groups(&mut parts, MAX_GROUPS, 1);
            parts
        });
        let mut groups: Vec<LineGroup> = parts.collect();
        self.merge_groups(&mut groups, MAX_CRON_LINES, LINE_PRICE);
        groups
    }

    /// Splits these times into one group for each month of the year.
    fn by_month(&self, minutes: u64, hours: u32, days: &DaySet) -> Vec<LineGroup> {
        let months = self.months.iter().map(|month| intersection(month, days));
        let months = months.filter(|days| days.iter().any(|word| *word != 0));
        months.map(|days| self.cheapest_group(minutes, hours, days)).collect()
    }

    /// Merges the cheapest pair as long as that costs less than `price`, or there are more than `limit` groups.
    fn merge_groups(&self, groups: &mut Vec<LineGroup>, limit: usize, price: u32) {
        // The cost of merging each pair, indexed by both groups.
        let both = |groups: &[LineGroup], one: usize, two: usize| {
            let (one, two) = (&groups[one], &groups[two]);
            let days = union(&one.days, &two.days);
            let merged = self.cheapest_group(one.minutes | two.minutes, one.hours | two.hours, days);
            (i64::from(merged.fires) - i64::from(one.fires) - i64::from(two.fires), merged)
        };
        let mut costs: Vec<Vec<i64>> =
            (0..groups.len()).map(|one| (0..one).map(|two| both(groups, one, two).0).collect()).collect();
        loop {
            let pairs = costs
                .iter()
                .enumerate()
                .flat_map(|(one, costs)| costs.iter().enumerate().map(move |(two, cost)| (*cost, one, two)));
            let Some((cost, one, two)) = pairs.min() else { return };
            if groups.len() <= limit && cost >= i64::from(price) {
                return;
            }
            groups[two] = both(groups, one, two).1;
            groups.remove(one);
            costs.remove(one);
            for costs in &mut costs[one..] {
                costs.remove(one);
            }
            costs[two] = (0..two).map(|other| both(groups, two, other).0).collect();
            for (one, costs) in costs.iter_mut().enumerate().skip(two + 1) {
                costs[two] = both(groups, one, two).0;
            }
        }
    }

    /// The group with the single line that starts the job least: by day of week or by day of month.
    fn cheapest_group(&self, minutes: u64, hours: u32, days: DaySet) -> LineGroup {
        let meets = |set: &DaySet| set.iter().zip(&days).any(|(set, days)| set & days != 0);
        let chosen = |sets: &[DaySet], first: usize| {
            let met = sets.iter().enumerate().filter(|(_, set)| meets(set));
            met.fold((0u32, DaySet::default()), |(mask, all), (at, set)| {
                (mask | 1 << (at + first), union(&all, set))
            })
        };
        let (months, of_months) = chosen(&self.months, 1);
        let (of_month, in_month) = chosen(&self.days, 1);
        let (of_week, in_week) = chosen(&self.weekdays, 0);
        let by_week =
            CronLine { minutes, hours, months: months as u16, days: ALL_DAYS, weekdays: of_week as u8 };
        let by_month = CronLine { days: of_month, weekdays: ALL_WEEKDAYS, ..by_week };
        let on = |days: &DaySet| -> u32 {
            intersection(&of_months, days).iter().map(|word| word.count_ones()).sum()
        };
        let (weekly, monthly) = (on(&in_week), on(&in_month));
        let times = minutes.count_ones() * hours.count_ones();
        let (line, on_days) = if weekly <= monthly { (by_week, weekly) } else { (by_month, monthly) };
        LineGroup { minutes, hours, days, line, fires: on_days * times }
    }
}

/// Splits the times into exact cross products of minutes, hours and days.
fn blocks(slots: BTreeMap<i64, DaySet>) -> Vec<(u64, u32, DaySet)> {
    let mut hours: BTreeMap<(i64, DaySet), u32> = BTreeMap::new();
    for (slot, days) in slots {
        *hours.entry((slot % 60, days)).or_default() |= 1 << (slot / 60);
    }
    let mut minutes: BTreeMap<(u32, DaySet), u64> = BTreeMap::new();
    for ((minute, days), hours) in hours {
        *minutes.entry((hours, days)).or_default() |= 1 << minute;
    }
    minutes.into_iter().map(|((hours, days), minutes)| (minutes, hours, days)).collect()
}

fn union(a: &DaySet, b: &DaySet) -> DaySet {
    std::array::from_fn(|index| a[index] | b[index])
}

fn intersection(a: &DaySet, b: &DaySet) -> DaySet {
    std::array::from_fn(|index| a[index] & b[index])
}
