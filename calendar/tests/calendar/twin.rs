//! A second implementation, written from the RFC's text: it tries every day or every second and asks each BY-part.
//! Both must agree on random rules.

use calendar::{Dst, Fold, Gap, Recurrence, RecurrenceError, RecurrenceSpec};
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::spec;

const WEEKDAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];
const HORIZON_YEARS: i32 = 6;

/// A rule as lists. An empty list is an absent part.
#[derive(Debug, Clone, Default)]
struct RuleParts {
    freq: &'static str,
    interval: i64,
    count: Option<usize>,
    months: Vec<i32>,
    weeks: Vec<i32>,
    year_days: Vec<i32>,
    month_days: Vec<i32>,
    days: Vec<(i32, usize)>,
    hours: Vec<i32>,
    minutes: Vec<i32>,
    seconds: Vec<i32>,
    positions: Vec<i32>,
    week_start: usize,
}

impl RuleParts {
    #[allow(clippy::format_push_string)]
    fn text(&self) -> String {
        let mut text =
            format!("FREQ={};INTERVAL={};WKST={}", self.freq, self.interval, WEEKDAYS[self.week_start]);
        if let Some(count) = self.count {
            text.push_str(&format!(";COUNT={count}"));
        }
        for (name, list) in [
            ("BYMONTH", &self.months),
            ("BYWEEKNO", &self.weeks),
            ("BYYEARDAY", &self.year_days),
            ("BYMONTHDAY", &self.month_days),
            ("BYHOUR", &self.hours),
            ("BYMINUTE", &self.minutes),
            ("BYSECOND", &self.seconds),
            ("BYSETPOS", &self.positions),
        ] {
            if !list.is_empty() {
                let list: Vec<String> = list.iter().map(ToString::to_string).collect();
                text.push_str(&format!(";{name}={}", list.join(",")));
            }
        }
        if !self.days.is_empty() {
            let number = |n: i32| if n == 0 { String::new() } else { n.to_string() };
            let list: Vec<String> = self.days.iter().map(|(n, day)| number(*n) + WEEKDAYS[*day]).collect();
            text.push_str(&format!(";BYDAY={}", list.join(",")));
        }
        text
    }

    fn no_day_part(&self) -> bool {
        self.weeks.is_empty()
            && self.year_days.is_empty()
            && self.month_days.is_empty()
            && self.days.is_empty()
    }

    /// Whether each BY-part accepts the day for the set of its period.
    fn takes(&self, day: Date, start: Date) -> bool {
        let month_ok = self.months.is_empty() || self.months.contains(&day.month().into());
        let from_end = |value: i32, length: i32| value - length - 1;
        let (week, weeks) = week_number(day, self.week_start);
        let week_ok =
            self.weeks.is_empty() || self.weeks.iter().any(|&w| w == week || w == from_end(week, weeks));
        let (of_year, length) = (i32::from(day.day_of_year()), i32::from(day.days_in_year()));
        let year_day_ok = self.year_days.is_empty()
            || self.year_days.iter().any(|&d| d == of_year || d == from_end(of_year, length));
        let (of_month, length) = (i32::from(day.day()), i32::from(day.days_in_month()));
        let month_day_ok = self.month_days.is_empty()
            || self.month_days.iter().any(|&d| d == of_month || d == from_end(of_month, length));
        let day_ok =
            self.days.is_empty() || self.days.iter().any(|(n, weekday)| self.is_nth(day, *n, *weekday));
        let missing_ok = match self.freq {
            "YEARLY" if self.no_day_part() => {
                day.day() == start.day() && (!self.months.is_empty() || day.month() == start.month())
            }
            "YEARLY" if self.days.is_empty() && self.year_days.is_empty() && self.month_days.is_empty() => {
                day.weekday() == start.weekday()
            }
            "MONTHLY" if self.no_day_part() => day.day() == start.day(),
            "WEEKLY" if self.no_day_part() => day.weekday() == start.weekday(),
            _ => true,
        };
        month_ok && week_ok && year_day_ok && month_day_ok && day_ok && missing_ok
    }

    fn is_nth(&self, day: Date, n: i32, weekday: usize) -> bool {
        if day.weekday().to_monday_zero_offset() as usize != weekday {
            return false;
        }
        let in_month = self.freq == "MONTHLY" || !self.months.is_empty();
        let (place, length) = if in_month {
            (i32::from(day.day()), i32::from(day.days_in_month()))
        } else {
            (i32::from(day.day_of_year()), i32::from(day.days_in_year()))
        };
        n == 0 || n == (place - 1) / 7 + 1 || n == -((length - place) / 7 + 1)
    }

    fn period(&self, day: Date, start: Date) -> i64 {
        let week = |day: Date| day.checked_sub(into_week(day, self.week_start).days()).unwrap();
        let days = |from: Date, to: Date| i64::from(from.until(to).unwrap().get_days());
        match self.freq {
            "YEARLY" => i64::from(day.year() - start.year()),
            "MONTHLY" => i64::from(day.year() - start.year()) * 12 + i64::from(day.month() - start.month()),
            "WEEKLY" => days(week(start), week(day)) / 7,
            _ => days(start, day),
        }
    }

    /// Every local time from `start` on within the horizon.
    fn expand(&self, start: DateTime) -> Vec<DateTime> {
        let or = |list: &[i32], value: i8| if list.is_empty() { vec![value.into()] } else { list.to_vec() };
        let mut times = Vec::new();
        for hour in or(&self.hours, start.hour()) {
            for minute in or(&self.minutes, start.minute()) {
                for second in or(&self.seconds, start.second()) {
                    times.push((hour as i8, minute as i8, second as i8));
                }
            }
        }
        times.sort_unstable();
        let begin = start.date().first_of_year().checked_sub(7.days()).unwrap();
        let end = start.date().checked_add(HORIZON_YEARS.years()).unwrap();
        let mut all = Vec::new();
        let (mut set, mut period) = (Vec::new(), None);
        for day in begin.series(1.day()).take_while(|day| *day <= end) {
            let now = self.period(day, start.date());
            if period != Some(now) {
                all.extend(self.pick(std::mem::take(&mut set)));
                period = Some(now);
            }
            if now >= 0 && now % self.interval == 0 && self.takes(day, start.date()) {
                set.extend(times.iter().map(|(h, m, s)| day.at(*h, *m, *s, 0)));
            }
        }
        // The horizon may cut the last period off, so it is ignored.
        all.retain(|time| *time >= start);
        all.truncate(self.count.unwrap_or(usize::MAX));
        all
    }

    fn pick<T>(&self, set: Vec<T>) -> Vec<T> {
        let count = set.len() as i32;
        let keep = |index: i32| {
            self.positions.is_empty() || self.positions.iter().any(|p| *p == index + 1 || *p == index - count)
        };
        set.into_iter().enumerate().filter(|(index, _)| keep(*index as i32)).map(|(_, it)| it).collect()
    }

    /// Every instant in `[start, end)` of a sub-daily rule, second by second.
    fn expand_seconds(&self, start: Timestamp, end: i64, zone: &TimeZone) -> Vec<i64> {
        let first = start.to_zoned(zone.clone()).datetime();
        let (unit, into) = match self.freq {
            "HOURLY" => (3600, i64::from(first.minute()) * 60 + i64::from(first.second())),
            "MINUTELY" => (60, i64::from(first.second())),
            _ => (1, 0),
        };
        let base = start.as_second() - into;
        let has = |list: &[i32], value: i8| list.is_empty() || list.contains(&value.into());
        let (mut all, mut set) = (Vec::new(), Vec::new());
        for at in base..end {
            if (at - base) % unit == 0 {
                all.extend(self.pick(std::mem::take(&mut set)));
            }
            if (at - base) / unit % self.interval != 0 {
                continue;
            }
            let place = at - base - (at - base) / unit * unit;
            let minute_given = self.freq == "HOURLY" && self.minutes.is_empty() && place / 60 != into / 60;
            let second_given = self.freq != "SECONDLY" && self.seconds.is_empty() && place % 60 != into % 60;
            if minute_given || second_given {
                continue;
            }
            let local = zone.to_datetime(Timestamp::from_second(at).unwrap());
            if has(&self.hours, local.hour())
                && has(&self.minutes, local.minute())
                && has(&self.seconds, local.second())
                && self.takes(local.date(), first.date())
            {
                set.push(at);
            }
        }
        all.retain(|at| *at >= start.as_second());
        all.truncate(self.count.unwrap_or(usize::MAX));
        all
    }
}

/// The instants of a local time: those at which an offset in force nearby shows it on the clock. If there is none,
/// the time lies in a gap.
fn instants(local: DateTime, zone: &TimeZone, dst: Dst) -> Vec<i64> {
    let plain = jiff::tz::Offset::UTC.to_timestamp(local).unwrap();
    let offset = |hours: i64| zone.to_offset(plain + jiff::SignedDuration::from_hours(hours)).seconds();
    let (before, after) = (offset(-30), offset(30));
    let at = |offset: i32| plain - jiff::SignedDuration::from_secs(offset.into());
    let mut shown: Vec<Timestamp> =
        [at(before), at(after)].into_iter().filter(|it| zone.to_datetime(*it) == local).collect();
    shown.sort_unstable();
    shown.dedup();
    let chosen = match (shown.as_slice(), dst) {
        ([], Dst { gap: Gap::Skip, .. }) => &[][..],
        ([], Dst { gap: Gap::ShiftForward, .. }) => &[at(before)],
        ([first, ..], Dst { fold: Fold::First, .. }) => &[*first],
        ([.., last], Dst { fold: Fold::Last, .. }) => &[*last],
        (all, Dst { fold: Fold::Both, .. }) => all,
    };
    chosen.iter().map(|it| it.as_second()).collect()
}

fn into_week(day: Date, week_start: usize) -> i32 {
    (i32::from(day.weekday().to_monday_zero_offset()) - week_start as i32).rem_euclid(7)
}

/// The number of the week that contains a day, and how many weeks its year has. A week belongs to the year of its
/// fourth day.
fn week_number(day: Date, week_start: usize) -> (i32, i32) {
    let fourth = day.checked_add((3 - into_week(day, week_start)).days()).unwrap();
    let number = (i32::from(fourth.day_of_year()) - 1) / 7 + 1;
    let left = (i32::from(fourth.days_in_year()) - i32::from(fourth.day_of_year())) / 7;
    (number, number + left)
}

fn some<T: Clone + std::fmt::Debug + 'static>(values: Vec<T>, most: usize) -> BoxedStrategy<Vec<T>> {
    prop_oneof![2 => Just(Vec::new()), 1 => subsequence(values, 1..=most)].boxed()
}

fn signed(high: i32) -> Vec<i32> {
    (-high..=high).filter(|n| *n != 0).collect()
}

fn days(ordinal: i32) -> BoxedStrategy<Vec<(i32, usize)>> {
    let day = (prop_oneof![Just(0), -ordinal..=ordinal], 0..7usize);
    prop_oneof![1 => Just(Vec::new()), 1 => vec(day, 1..4)].boxed()
}

fn parts() -> impl Strategy<Value = RuleParts> {
    let date_parts = (
        some((1..=12).collect(), 4),
        some(signed(53), 6),
        some(signed(366), 12),
        some(signed(31), 6),
        prop_oneof![days(0), days(5), days(53)],
    );
    let time_parts = (some((0..24).collect(), 3), some((0..60).collect(), 3), some((0..60).collect(), 2));
    let ends = (1..=4i64, prop::option::of(1..40usize), some(signed(6), 2), 0..7usize);
    (select(vec!["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]), date_parts, time_parts, ends).prop_map(
        |(freq, (months, weeks, year_days, month_days, mut days), (hours, minutes, seconds), ends)| {
            let (interval, count, positions, week_start) = ends;
            let weeks = if freq == "YEARLY" { weeks } else { Vec::new() };
            if matches!(freq, "DAILY" | "WEEKLY") || !weeks.is_empty() {
                for day in &mut days {
                    day.0 = 0;
                }
            }
            let mut parts = RuleParts {
                freq,
                interval,
                count,
                months,
                weeks,
                year_days: if freq == "YEARLY" { year_days } else { Vec::new() },
                month_days: if freq == "WEEKLY" { Vec::new() } else { month_days },
                days,
                hours,
                minutes,
                seconds,
                positions,
                week_start,
            };
            let bare = parts.no_day_part() && parts.months.is_empty();
            if bare && parts.hours.is_empty() && parts.minutes.is_empty() && parts.seconds.is_empty() {
                parts.positions.clear();
            }
            parts
        },
    )
}

fn sub_daily() -> impl Strategy<Value = RuleParts> {
    let steps = prop_oneof![1..=4i64, select(vec![7, 15, 20, 30, 60, 90, 1440])];
    let lists = (
        some((0..24).collect(), 8),
        some((0..60).collect(), 8),
        some((0..60).collect(), 3),
        some(signed(4), 2),
    );
    let day_lists = (some(vec![3, 4, 9, 10, 11], 3), some(signed(31), 20), days(0), some(signed(366), 300));
    (select(vec!["HOURLY", "MINUTELY", "SECONDLY"]), steps, lists, day_lists, prop::option::of(1..60usize))
        .prop_map(|(freq, interval, (hours, minutes, seconds, positions), day_lists, count)| {
            let (months, month_days, days, year_days) = day_lists;
            RuleParts {
                freq,
                interval: if freq == "SECONDLY" { interval * 37 } else { interval },
                count,
                positions: if hours.is_empty() && minutes.is_empty() { Vec::new() } else { positions },
                hours,
                minutes,
                seconds,
                months,
                month_days,
                days,
                year_days,
                ..RuleParts::default()
            }
        })
}

fn starts() -> impl Strategy<Value = DateTime> {
    (1995..2030i16, 1..=12i8, 1..=31i8, 0..24i8, 0..60i8).prop_map(|(year, month, day, hour, minute)| {
        let day = day.min(jiff::civil::date(year, month, 1).days_in_month());
        jiff::civil::date(year, month, day).at(hour, minute, 0, 0)
    })
}

fn zones() -> impl Strategy<Value = &'static str> {
    select(vec![
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Asia/Seoul",
        "Australia/Lord_Howe",
        "Pacific/Apia",
    ])
}

fn policies() -> impl Strategy<Value = Dst> {
    let gaps = select(vec![Gap::ShiftForward, Gap::Skip]);
    (gaps, select(vec![Fold::First, Fold::Last, Fold::Both])).prop_map(|(gap, fold)| Dst { gap, fold })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn daily_to_yearly_rules_agree_with_the_twin(parts in parts(), start in starts()) {
        let wanted = parts.expand(start);
        match Recurrence::new(&spec(&start.to_string(), "UTC", &parts.text())) {
            Err(error) => {
                prop_assert_eq!(error, RecurrenceError::NeverHappens, "{}", parts.text());
                prop_assert!(wanted.is_empty(), "{} from {}", parts.text(), start);
            }
            Ok(recurrence) => {
                let enough = wanted.len().min(500);
                let got: Vec<DateTime> = recurrence.all().take(enough).map(|it| it.local_start).collect();
                prop_assert_eq!(&got[..], &wanted[..enough], "{} from {}", parts.text(), start);
                if parts.count.is_some_and(|count| count == wanted.len()) {
                    prop_assert_eq!(recurrence.all().count(), wanted.len(), "{} from {}", parts.text(), start);
                }
            }
        }
    }

    #[test]
    fn daily_to_yearly_rules_in_zones_agree_with_the_twin(
        parts in parts(), start in starts(), zone in zones(), dst in policies(),
    ) {
        let tz = TimeZone::get(zone).unwrap();
        let mut locals = RuleParts { count: None, ..parts.clone() }.expand(start);
        // "MUST NOT be counted" applies to local times that don't exist, unless they are moved.
        locals.retain(|local| !instants(*local, &tz, dst).is_empty());
        locals.truncate(parts.count.unwrap_or(usize::MAX));
        let mut wanted: Vec<i64> =
            locals.iter().take(400).flat_map(|local| instants(*local, &tz, dst)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        match Recurrence::new(&RecurrenceSpec { dst, ..spec(&start.to_string(), zone, &parts.text()) }) {
            Err(error) => {
                prop_assert_eq!(error, RecurrenceError::NeverHappens, "{}", parts.text());
                prop_assert!(wanted.is_empty(), "{} from {}", parts.text(), start);
            }
            Ok(recurrence) => {
                // The last ones may not be in order with those after them.
                let enough = if locals.len() <= 400 { wanted.len() } else { wanted.len().saturating_sub(60) };
                let got: Vec<i64> = recurrence.all().take(enough).map(|it| it.start.as_second()).collect();
                prop_assert_eq!(&got[..], &wanted[..enough], "{} from {} {}", parts.text(), start, zone);
            }
        }
    }

    #[test]
    fn the_canonical_text_of_a_rule_parses_to_the_same_rule(parts in prop_oneof![parts().boxed(), sub_daily().boxed()]) {
        let rule: calendar::RecurrenceRule = parts.text().parse().unwrap();
        prop_assert_eq!(&rule, &rule.to_string().parse().unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sub_daily_rules_agree_with_the_twin(
        parts in sub_daily(), zone in zones(), hour in 0..48i64, minute in 0..3600i64, autumn in any::<bool>(),
    ) {
        // The day before a change in Berlin, New York and Lord Howe.
        let days = if autumn { ["2026-10-24T00:00:00Z", "2026-10-31T00:00:00Z", "2026-10-03T00:00:00Z"] }
            else { ["2026-03-28T00:00:00Z", "2026-03-07T00:00:00Z", "2026-04-04T00:00:00Z"] };
        let day = match zone { "America/New_York" => days[1], "Australia/Lord_Howe" => days[2], _ => days[0] };
        let tz = TimeZone::get(zone).unwrap();
        let start = day.parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(hour * 3600 + minute);
        let local = tz.to_datetime(start);
        prop_assume!(tz.to_timestamp(local).unwrap() == start);
        let end = start.as_second() + 2 * 86_400;
        let wanted = parts.expand_seconds(start, end, &tz);
        match Recurrence::new(&spec(&local.to_string(), zone, &parts.text())) {
            Err(error) => {
                prop_assert_eq!(error, RecurrenceError::NeverHappens, "{}", parts.text());
                prop_assert!(wanted.is_empty(), "{} from {}", parts.text(), start);
            }
            Ok(recurrence) => {
                let enough = wanted.len();
                let got: Vec<i64> = recurrence.all().take(enough).map(|it| it.start.as_second()).collect();
                prop_assert_eq!(&got[..], &wanted[..enough], "{} from {} {}", parts.text(), local, zone);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn searching_from_the_middle_agrees_with_walking_from_the_start(
        parts in prop_oneof![3 => parts().boxed(), 1 => sub_daily().boxed()],
        start in starts(), zone in zones(), dst in policies(), place in 0..40usize,
    ) {
        let spec = RecurrenceSpec { dst, ..spec(&start.to_string(), zone, &parts.text()) };
        let Ok(recurrence) = Recurrence::new(&spec) else { return Ok(()) };
        let all: Vec<_> = recurrence.all().take(40).collect();
        prop_assert!(all.windows(2).all(|pair| pair[0].start < pair[1].start));
        let here = all[place % all.len()];
        let place = place % all.len();
        let second = jiff::SignedDuration::from_secs(1);
        prop_assert_eq!(recurrence.after(here.start - second), Some(here));
        prop_assert_eq!(recurrence.before(here.start + second), Some(here));
        prop_assert_eq!(recurrence.before(here.start), place.checked_sub(1).map(|it| all[it]));
        prop_assert_eq!(recurrence.find(&here.id()), Some(here));
        let rest: Vec<_> = recurrence.occurrences(here.start).take(all.len() - place - 1).collect();
        prop_assert_eq!(&rest[..], &all[place + 1..]);
    }
}
