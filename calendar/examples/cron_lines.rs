//! Compares the starts in vain of our cron lines, for common office rules, with the fewest possible:
//! `cargo run --release -p belfry-calendar --example cron_lines`.
//!
//! The optimum is found by trying everything. The reminders are split into groups by minute of the day and month of
//! the year. Of all ways to distribute these groups over at most eight lines, the one with the fewest starts is the
//! optimum; each line is the smallest that covers its groups, by day of week or by day of month.
#![expect(clippy::unwrap_used, reason = "a program that measures ends where something is wrong")]

use std::collections::{BTreeMap, BTreeSet};

use calendar::{MAX_CRON_LINES, Recurrence, RecurrenceSpec, Reminder, cron_lines, due};
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

const RULES: [(&str, &str, &str, &str); 10] = [
    ("stand-up on working days", "2026-01-05T10:00:00", "Europe/Berlin", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"),
    ("the same, no summer time", "2026-01-05T10:00:00", "Asia/Seoul", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"),
    ("weekly", "2026-01-07T14:00:00", "America/New_York", "FREQ=WEEKLY;BYDAY=WE"),
    ("twice a week", "2026-01-06T09:30:00", "Europe/London", "FREQ=WEEKLY;BYDAY=TU,TH"),
    ("every other week", "2026-01-09T15:00:00", "Europe/Berlin", "FREQ=WEEKLY;INTERVAL=2;BYDAY=FR"),
    ("daily", "2026-01-01T07:00:00", "America/Los_Angeles", "FREQ=DAILY"),
    ("first Monday of the month", "2026-01-05T11:00:00", "Europe/Berlin", "FREQ=MONTHLY;BYDAY=1MO"),
    (
        "last working day of the month",
        "2026-01-30T17:00:00",
        "Asia/Seoul",
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
    ),
    ("the 15th and the last", "2026-01-15T09:00:00", "America/New_York", "FREQ=MONTHLY;BYMONTHDAY=15,-1"),
    ("quarterly", "2026-03-31T16:00:00", "Europe/Berlin", "FREQ=YEARLY;BYMONTH=3,6,9,12;BYMONTHDAY=-1"),
];
/// The months that the lines are made for.
const FIRST: Date = date(2026, 1, 1);
const END: Date = date(2027, 2, 1);

fn main() {
    println!(
        "| 13 months, reminded 10 minutes before | reminders | our lines | in vain | fewest with {MAX_CRON_LINES} lines |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for (name, start, zone, rule) in RULES {
        let spec = RecurrenceSpec {
            start: start.to_owned(),
            time_zone: zone.to_owned(),
            rule: Some(rule.to_owned()),
            ..RecurrenceSpec::default()
        };
        let recurrence = Recurrence::new(&spec).unwrap();
        let reminders = [Reminder::new(SignedDuration::from_mins(10)).unwrap()];
        let (from, end) = (instant(FIRST) - SignedDuration::from_secs(1), instant(END));
        let told: BTreeSet<Timestamp> =
            due(&recurrence, &reminders, from, end - SignedDuration::from_secs(1), 100_000)
                .iter()
                .map(|it| it.due)
                .collect();
        let lines = cron_lines(&recurrence, &reminders, from + SignedDuration::from_secs(1));
        let starts: usize = lines.iter().map(|line| starts(line, from, end)).sum();
        let (fewest, with) = fewest(&told);
        let (vain, best) = (starts - told.len(), fewest - told.len());
        let share = |vain: usize| 100.0 * vain as f64 / told.len() as f64;
        println!(
            "| {name} | {} | {} | {vain} ({:.1} %) | {best} ({:.1} %), {with} lines |",
            told.len(),
            lines.len(),
            share(vain),
            share(best)
        );
    }
}

fn instant(date: Date) -> Timestamp {
    date.to_zoned(TimeZone::UTC).unwrap().timestamp()
}

fn starts(line: &calendar::CronLine, from: Timestamp, end: Timestamp) -> usize {
    let minutes = (from.as_second() + 1..end.as_second()).step_by(60);
    minutes.filter(|at| line.matches(Timestamp::from_second(*at).unwrap())).count()
}

/// The days with a reminder at one minute of the day, in one month of the year.
struct MinuteInMonth {
    minute: i64,
    days: Vec<Date>,
}

/// The fewest possible starts, and with how many lines.
fn fewest(told: &BTreeSet<Timestamp>) -> (usize, usize) {
    let mut groups: BTreeMap<(i64, i8), MinuteInMonth> = BTreeMap::new();
    for at in told {
        let minute = at.as_second().rem_euclid(86_400) / 60;
        let day = at.to_zoned(TimeZone::UTC).date();
        let part = groups.entry((minute, day.month()));
        part.or_insert(MinuteInMonth { minute, days: Vec::new() }).days.push(day);
    }
    let groups: Vec<MinuteInMonth> = groups.into_values().collect();
    assert!(groups.len() <= 16, "{} groups are too many to try everything", groups.len());
    let all = (1usize << groups.len()) - 1;
    let price: Vec<usize> = (0..=all).map(|group| starts_around(&groups, group)).collect();
    // The fewest starts for each set of groups, with at most this many lines.
    let mut best = vec![usize::MAX; all + 1];
    best[0] = 0;
    let mut with = 0;
    for line in 1..=MAX_CRON_LINES {
        let mut next = best.clone();
        for (set, fewest) in next.iter_mut().enumerate().skip(1) {
            let least = 1 << set.trailing_zeros();
            let others = set & !least;
            let mut group = others;
            loop {
                let rest = set & !(group | least);
                if best[rest] != usize::MAX {
                    *fewest = (*fewest).min(best[rest] + price[group | least]);
                }
                if group == 0 {
                    break;
                }
                group = (group - 1) & others;
            }
        }
        if next[all] < best[all] {
            with = line;
        }
        best = next;
    }
    (best[all], with)
}

/// The starts of the smallest line that covers these groups.
fn starts_around(groups: &[MinuteInMonth], group: usize) -> usize {
    let (mut minutes, mut hours) = (BTreeSet::new(), BTreeSet::new());
    let (mut months, mut days, mut weekdays) = ([false; 13], [false; 32], [false; 8]);
    for (_, part) in groups.iter().enumerate().filter(|(at, _)| group >> at & 1 == 1) {
        minutes.insert(part.minute % 60);
        hours.insert(part.minute / 60);
        for day in &part.days {
            months[day.month() as usize] = true;
            days[day.day() as usize] = true;
            weekdays[day.weekday().to_monday_one_offset() as usize] = true;
        }
    }
    let within = FIRST.series(jiff::Span::new().days(1)).take_while(|day| *day < END);
    let (mut by_day, mut by_weekday) = (0, 0);
    for day in within.filter(|day| months[day.month() as usize]) {
        by_day += usize::from(days[day.day() as usize]);
        by_weekday += usize::from(weekdays[day.weekday().to_monday_one_offset() as usize]);
    }
    by_day.min(by_weekday) * minutes.len() * hours.len()
}
