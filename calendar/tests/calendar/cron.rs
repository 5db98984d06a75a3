//! The cron lines cover every reminder and rarely start a pod in vain.

use calendar::{CronLine, MAX_CRON_LINES, Recurrence, RecurrenceSpec, Reminder, cron_lines, due};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::sample::select;

use crate::reminders::before;
use crate::{at, recurrence, spec};

const FROM: &str = "2026-01-05T00:00:00Z";

fn lines(start: &str, zone: &str, rule: &str, minutes: &[i64]) -> Vec<String> {
    let lines = cron_lines(&recurrence(start, zone, rule), &before(minutes), at(FROM));
    lines.iter().map(ToString::to_string).collect()
}

/// Parses the line with another library.
fn parse(line: &CronLine) -> Cron {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(&line.to_string()).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn fires(cron: &Cron, t: Timestamp) -> bool {
    let utc = t.to_zoned(TimeZone::UTC);
    let (year, month, day) = (i32::from(utc.year()), utc.month() as u32, utc.day() as u32);
    let weekday = croner::Weekday::from_days_from_sunday(utc.weekday().to_sunday_zero_offset() as u32);
    cron.pattern.minute_match(utc.minute() as u32).unwrap()
        && cron.pattern.hour_match(utc.hour() as u32).unwrap()
        && cron.pattern.month_match(month).unwrap()
        && cron.pattern.day_match(year, month, day, weekday).unwrap()
}

fn covers(
    recurrence: &Recurrence,
    reminders: &[Reminder],
    from: Timestamp,
) -> Result<Vec<CronLine>, TestCaseError> {
    let lines = cron_lines(recurrence, reminders, from);
    prop_assert!(lines.len() <= MAX_CRON_LINES);
    let crons: Vec<Cron> = lines.iter().map(parse).collect();
    for line in &lines {
        let text = line.to_string();
        let fields: Vec<&str> = text.split(' ').collect();
        prop_assert_eq!(fields.len(), 5);
        prop_assert!(fields[2] == "*" || fields[4] == "*", "cron reads {} as OR", line);
    }
    let until = from + SignedDuration::from_hours(365 * 24);
    for it in due(recurrence, reminders, from, until, 5000) {
        prop_assert!(crons.iter().any(|cron| fires(cron, it.due)), "{} is not in {:?}", it.due, lines);
        prop_assert!(lines.iter().any(|line| line.matches(it.due)));
    }
    if let Some(next) = calendar::next_reminder(recurrence, reminders, from) {
        prop_assert!(
            crons.iter().any(|cron| fires(cron, next.due)),
            "next {} is not in {:?}",
            next.due,
            lines
        );
    }
    Ok(lines)
}

#[test]
fn the_stand_up_is_one_line_without_an_empty_start_but_for_the_holidays() {
    let rule = "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR";
    assert_eq!(lines("2026-01-05T10:00:00", "Asia/Seoul", rule, &[10]), ["50 0 * * 1-5"]);
}

#[test]
fn a_morning_in_seoul_is_the_day_before_in_utc() {
    let rule = "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR";
    assert_eq!(lines("2026-01-05T08:00:00", "Asia/Seoul", rule, &[10]), ["50 22 * * 0-4"]);
}

#[test]
fn the_month_close_starts_in_vain_at_most_a_few_days_a_year() {
    let rule = "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1";
    let got = lines("2026-01-30T17:00:00", "Asia/Seoul", rule, &[24 * 60, 15]);
    let (early, late) = got.split_at(4);
    assert_eq!(early, ["0 8 26 2 *", "0 8 29 4,6,9-11 *", "0 8 28,29 1,5 *", "0 8 30 3,7,8,12 *"]);
    assert_eq!(late, ["45 7 27 2 *", "45 7 30 4,6,9-11 *", "45 7 29,30 1,5 *", "45 7 31 3,7,8,12 *"]);
}

#[test]
fn offsets_that_are_no_cross_product_get_lines_of_their_own() {
    assert_eq!(lines("2026-01-05T10:15:00", "UTC", "FREQ=DAILY", &[10, 25]), ["5 10 * * *", "50 9 * * *"]);
    assert_eq!(lines("2026-01-05T10:30:00", "UTC", "FREQ=DAILY", &[10, 25]), ["5,20 10 * * *"]);
}

#[test]
fn summer_and_winter_time_have_each_their_hour() {
    let got = lines("2026-01-05T10:00:00", "America/New_York", "FREQ=DAILY", &[10]);
    assert_eq!(got, ["50 13 8-31 3 *", "50 13 * 4-10 *", "50 14 1-7 3 *", "50 14 * 1,2,11,12 *"]);
    let weekly = lines("2026-01-05T10:00:00", "America/New_York", "FREQ=WEEKLY", &[10]);
    assert_eq!(weekly, ["50 13 * 3-10 1", "50 14 2 3 *", "50 14 * 1,2,11,12 1"]);
}

#[test]
fn one_time_and_yearly_schedules_start_on_their_day() {
    assert_eq!(lines("2026-07-09T10:00:00", "Asia/Seoul", "", &[10]), ["50 0 9 7 *"]);
    assert_eq!(lines("2026-12-24T18:00:00", "Europe/Berlin", "FREQ=YEARLY", &[0]), ["0 17 24 12 *"]);
}

#[test]
fn a_schedule_beyond_a_year_is_there_and_a_finished_one_is_not() {
    assert_eq!(lines("2029-02-01T10:00:00", "UTC", "", &[10]), ["50 9 1 2 *"]);
    assert!(lines("2025-02-01T10:00:00", "UTC", "", &[10]).is_empty());
    assert!(lines("2026-02-01T10:00:00", "UTC", "", &[]).is_empty());
}

#[test]
fn the_lines_stay_the_same_all_month() {
    let rule = "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1";
    let close = recurrence("2026-01-30T17:00:00", "Asia/Seoul", rule);
    let on = |t| cron_lines(&close, &before(&[24 * 60, 15]), at(t));
    assert_eq!(on("2026-02-01T00:00:00Z"), on("2026-02-28T23:59:59Z"));
}

#[test]
fn dense_schedules_become_short_lines() {
    assert_eq!(
        lines("2026-01-05T00:00:00", "UTC", "FREQ=MINUTELY;INTERVAL=15", &[0]),
        ["0,15,30,45 * * * *"]
    );
    assert_eq!(lines("2026-01-05T00:00:00", "UTC", "FREQ=MINUTELY", &[0]), ["* * * * *"]);
    assert_eq!(lines("2026-01-05T00:00:00", "UTC", "FREQ=SECONDLY", &[0]), ["* * * * *"]);
}

#[test]
fn both_hours_of_a_fold_are_covered() {
    let dst = calendar::Dst { fold: calendar::Fold::Both, ..calendar::Dst::default() };
    let spec = RecurrenceSpec { dst, ..spec("2026-10-20T01:30:00", "America/New_York", "FREQ=DAILY") };
    covers(&Recurrence::new(&spec).unwrap(), &before(&[10]), at("2026-10-20T00:00:00Z")).unwrap();
}

fn rules() -> impl Strategy<Value = String> {
    let rules = [
        "FREQ=DAILY",
        "FREQ=DAILY;INTERVAL=3",
        "FREQ=DAILY;BYHOUR=8,12,17;BYMINUTE=0,30",
        "FREQ=DAILY;BYHOUR=1,2,3;BYMINUTE=10,50",
        "FREQ=DAILY;COUNT=20",
        "FREQ=WEEKLY",
        "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR",
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE",
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
        "FREQ=MONTHLY;BYDAY=-1FR",
        "FREQ=MONTHLY;BYDAY=2TU,4TH;BYHOUR=9,15",
        "FREQ=MONTHLY;BYMONTHDAY=1,15,-1",
        "FREQ=MONTHLY;INTERVAL=18;BYMONTHDAY=31",
        "FREQ=YEARLY;BYMONTH=3,6,9,12;BYMONTHDAY=-1",
        "FREQ=YEARLY;BYWEEKNO=1,20,40;BYDAY=MO",
        "FREQ=YEARLY;INTERVAL=4;BYMONTH=2;BYMONTHDAY=29",
        "FREQ=HOURLY;INTERVAL=5",
        "FREQ=MINUTELY;INTERVAL=50;BYHOUR=9,10,11",
    ];
    select(rules.to_vec()).prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_reminder_within_12_months_is_covered(
        rule in rules(),
        zone in select(vec!["UTC", "Asia/Seoul", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe"]),
        offsets in prop::collection::vec(prop_oneof![
            select(vec![0i64, 5, 10, 15, 25, 60, 1440, 2880, 10_080, -10]), -600..3000i64], 1..4),
        (hour, minute) in (0..24, 0..60),
        from in 0..400i64,
    ) {
        let start = format!("2026-02-28T{hour:02}:{minute:02}:00");
        let Ok(recurrence) = Recurrence::new(&spec(&start, zone, &rule)) else { return Ok(()) };
        let from = at(FROM) + SignedDuration::from_hours(from * 25);
        covers(&recurrence, &before(&offsets), from)?;
    }
}
