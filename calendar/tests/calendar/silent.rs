//! Where the RFC is silent or other implementations differ. docs/recurrence.md gives the reasons.

use calendar::{Recurrence, RecurrenceSpec};

use crate::{instants, locals, recurrence, spec};

fn days(start: &str, rule: &str, n: usize) -> Vec<String> {
    let days = locals(&recurrence(&format!("{start}T09:00:00"), "UTC", rule), n);
    days.iter().map(|it| it[..10].to_owned()).collect()
}

fn times(start: &str, rule: &str, n: usize) -> Vec<String> {
    locals(&recurrence(start, "UTC", rule), n)
}

#[test]
fn byweekno_alone_takes_its_weekday_from_the_start() {
    assert_eq!(days("1997-09-02", "FREQ=YEARLY;BYWEEKNO=20", 3), ["1998-05-12", "1999-05-18", "2000-05-16"]);
}

#[test]
fn byweekno_looks_at_the_days_of_the_calendar_year() {
    // 2 January 2016 lies in week 53 of 2015, but in the year 2016; INTERVAL and BYSETPOS go by 2016.
    let rule = "FREQ=YEARLY;INTERVAL=2;BYWEEKNO=53;BYDAY=TU,SA";
    assert_eq!(days("2014-01-01", rule, 1), ["2016-01-02"]);
    assert_eq!(days("2013-01-01", "FREQ=YEARLY;BYWEEKNO=53;BYDAY=TU,SA", 2), ["2015-12-29", "2016-01-02"]);
    // With weeks that begin on Saturday, 2 January 2026 is in week 52 of 2025.
    assert_eq!(days("2026-01-01", "FREQ=YEARLY;BYWEEKNO=52;BYDAY=FR;WKST=SA", 1), ["2026-01-02"]);
}

#[test]
fn days_with_and_without_an_ordinal_are_one_list() {
    let wanted = ["2005-01-22", "2005-01-23", "2005-01-30", "2005-02-06"];
    assert_eq!(days("2005-01-21", "FREQ=MONTHLY;BYDAY=4SA,SU", 4), wanted);
}

#[test]
fn bysetpos_counts_the_whole_first_week() {
    // Tuesday the 11th was the first of its set, but it lies before the start.
    assert_eq!(days("1997-11-16", "FREQ=WEEKLY;BYDAY=SU,TU;BYSETPOS=2", 2), ["1997-11-16", "1997-11-23"]);
    assert_eq!(days("1997-11-16", "FREQ=WEEKLY;BYDAY=SU,TU;BYSETPOS=1", 2), ["1997-11-18", "1997-11-25"]);
}

#[test]
fn bysetpos_picks_from_the_date_times_of_every_period() {
    let wanted = ["2026-01-05 09:00", "2026-01-06 09:00"];
    assert_eq!(times("2026-01-05T09:00:00", "FREQ=DAILY;BYHOUR=8,9;BYSETPOS=2", 2), wanted);
    let wanted = ["2026-01-28 09:00", "2026-02-25 09:00"];
    assert_eq!(times("2026-01-05T09:00:00", "FREQ=MONTHLY;BYDAY=WE;BYHOUR=8,9;BYSETPOS=-1", 2), wanted);
    let wanted = ["2026-01-05 09:40", "2026-01-05 10:40"];
    assert_eq!(times("2026-01-05T09:00:00", "FREQ=HOURLY;BYMINUTE=20,40;BYSETPOS=-1", 2), wanted);
}

#[test]
fn parts_of_the_time_limit_the_periods_of_shorter_rules() {
    let wanted = ["2026-01-05 12:00", "2026-01-06 00:00"];
    assert_eq!(times("2026-01-05T00:00:00", "FREQ=HOURLY;INTERVAL=4;BYHOUR=0,6,12,18", 3)[1..], wanted);
    let wanted = ["2026-01-05 20:00", "2026-01-05 20:01"];
    assert_eq!(times("2026-01-05T00:10:00", "FREQ=MINUTELY;BYHOUR=20", 2), wanted);
    let wanted = ["2026-01-05 09:13", "2026-01-05 09:27", "2026-01-05 10:13"];
    assert_eq!(times("2026-01-05T09:00:00", "FREQ=MINUTELY;BYMINUTE=13,27", 3), wanted);
}

#[test]
fn negative_weeks_count_from_the_end() {
    let wanted = ["2026-12-21", "2026-12-28", "2027-12-20", "2027-12-27"];
    assert_eq!(days("2026-01-05", "FREQ=YEARLY;BYWEEKNO=-2,-1;BYDAY=MO", 4), wanted);
}

#[test]
fn negative_days_count_from_the_end_in_every_frequency() {
    let wanted = ["2026-01-31 00:00", "2026-01-31 01:00"];
    assert_eq!(times("2026-01-05T00:00:00", "FREQ=HOURLY;BYMONTHDAY=-1", 2), wanted);
    assert_eq!(times("2026-01-05T00:00:00", "FREQ=HOURLY;BYYEARDAY=-1", 1), ["2026-12-31 00:00"]);
}

#[test]
fn bymonthday_alone_is_in_every_month_of_a_year() {
    let wanted = ["1997-09-03", "1997-10-01", "1997-10-03"];
    assert_eq!(days("1997-09-02", "FREQ=YEARLY;BYMONTHDAY=1,3", 3), wanted);
}

#[test]
fn interval_counts_weeks_from_the_week_of_the_start() {
    // The week of Tuesday the 2nd began on Thursday, so its Monday has passed.
    assert_eq!(
        days("2012-10-02", "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO;WKST=TH", 2),
        ["2012-10-15", "2012-10-29"]
    );
    assert_eq!(days("2000-09-06", "FREQ=WEEKLY;INTERVAL=2;BYDAY=SU", 2), ["2000-09-10", "2000-09-24"]);
}

#[test]
fn parts_of_a_year_are_held_against_each_other() {
    let rule = "FREQ=YEARLY;BYMONTH=2,4,8,12;BYYEARDAY=-323,-252,-23,33,252;BYDAY=MO";
    assert_eq!(days("2006-09-30", rule, 1), ["2007-02-12"]);
}

#[test]
fn parts_of_the_time_are_ignored_beside_a_date() {
    let days = recurrence("2026-01-05", "UTC", "FREQ=DAILY;BYHOUR=9;BYMINUTE=30;COUNT=2");
    assert_eq!(instants(&days, 9), ["2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z"]);
}

#[test]
fn until_in_utc_of_an_all_day_rule_is_compared_with_midnight() {
    let until = |until: &str| {
        let days = recurrence("2026-01-05", "Asia/Seoul", &format!("FREQ=DAILY;UNTIL={until}"));
        days.all().count()
    };
    // Midnight of the 7th in Seoul is the 6th at 15:00 in UTC.
    assert_eq!((until("20260106T145959Z"), until("20260106T150000Z"), until("20260107")), (2, 3, 3));
}

#[test]
fn a_leap_second_is_the_second_before_it() {
    let wanted = ["2026-01-05T09:00:59Z"];
    assert_eq!(instants(&recurrence("2026-01-05T09:00:00", "UTC", "FREQ=DAILY;BYSECOND=60"), 1), wanted);
}

#[test]
fn a_date_left_out_takes_out_the_whole_day() {
    let spec = RecurrenceSpec {
        except_dates: vec!["2026-01-05".into()],
        ..spec("2026-01-05T09:00:00", "UTC", "FREQ=DAILY;BYHOUR=9,17")
    };
    assert_eq!(locals(&Recurrence::new(&spec).unwrap(), 1), ["2026-01-06 09:00"]);
}

#[test]
fn count_counts_what_is_left_out_too() {
    let spec = RecurrenceSpec {
        except_dates: vec!["2026-01-06".into()],
        dates: vec!["2026-02-01".into()],
        ..spec("2026-01-05T09:00:00", "UTC", "FREQ=DAILY;COUNT=3")
    };
    let wanted = ["2026-01-05 09:00", "2026-01-07 09:00", "2026-02-01 09:00"];
    assert_eq!(locals(&Recurrence::new(&spec).unwrap(), 9), wanted);
}

#[test]
fn once_in_400_years_is_found() {
    // Every hundredth year from 2100: only one in four is divisible by 400.
    assert_eq!(
        days("2100-01-01", "FREQ=YEARLY;INTERVAL=100;BYMONTH=2;BYMONTHDAY=29", 2),
        ["2400-02-29", "2800-02-29"]
    );
}

#[test]
fn a_large_count_and_interval_cost_nothing() {
    for rule in [
        "FREQ=DAILY;COUNT=999999999",
        "FREQ=SECONDLY;COUNT=999999999",
        "FREQ=HOURLY;INTERVAL=999999999;COUNT=999999999",
        "FREQ=WEEKLY;INTERVAL=999999999;COUNT=999999999",
        "FREQ=MONTHLY;BYDAY=MO;COUNT=999999999",
        "FREQ=DAILY;BYMONTH=2;COUNT=999999999",
    ] {
        assert_eq!(days("2026-02-02", rule, 1), ["2026-02-02"], "{rule}");
        assert!(
            recurrence("2026-02-02T09:00:00", "UTC", rule).before(jiff::Timestamp::MAX).is_some(),
            "{rule}"
        );
    }
}
