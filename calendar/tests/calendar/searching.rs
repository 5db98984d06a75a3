//! Dates beside the rule, exceptions, and searches that start anywhere.

use calendar::{Recurrence, RecurrenceSpec};

use crate::{at, instants, locals, recurrence, spec};

#[test]
fn the_stand_up_leaves_out_the_days_of_the_new_year() {
    let standup = Recurrence::new(&RecurrenceSpec {
        duration: Some(jiff::SignedDuration::from_mins(15)),
        except_dates: vec!["2026-02-17".into(), "2026-02-18".into()],
        ..spec("2026-01-05T10:00:00", "Asia/Seoul", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR")
    })
    .unwrap();
    let after = |t| standup.after(at(t)).unwrap().start.to_string();
    assert_eq!(after("2026-02-16T01:00:00Z"), "2026-02-19T01:00:00Z");
    assert_eq!(after("2026-02-20T01:00:00Z"), "2026-02-23T01:00:00Z");
    let before = standup.before(at("2026-02-19T01:00:00Z")).unwrap();
    assert_eq!(before.start, at("2026-02-16T01:00:00Z"));
    assert_eq!(before.end, at("2026-02-16T01:15:00Z"));
}

#[test]
fn the_month_close_is_on_the_last_working_day() {
    let rule = "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1";
    let close = recurrence("2026-01-30T17:00:00", "Asia/Seoul", rule);
    let days =
        ["2026-01-30", "2026-02-27", "2026-03-31", "2026-04-30", "2026-05-29", "2026-06-30", "2026-07-31"];
    assert_eq!(locals(&close, 7), days.map(|day| format!("{day} 17:00")));
}

#[test]
fn dates_are_added_and_exceptions_taken_out() {
    let spec = RecurrenceSpec {
        dates: vec!["2026-01-07T15:00:00".into(), "2026-01-09".into(), "2026-01-10T00:30:00Z".into()],
        except_dates: vec![
            "2026-01-06T10:00:00".into(),
            "2026-01-08T09:00:00Z".into(),
            "2026-01-07T10:00:01".into(),
        ],
        ..spec("2026-01-05T10:00:00", "Europe/Berlin", "FREQ=DAILY;COUNT=4")
    };
    let recurrence = Recurrence::new(&spec).unwrap();
    let wanted =
        ["2026-01-05 10:00", "2026-01-07 10:00", "2026-01-07 15:00", "2026-01-09 10:00", "2026-01-10 01:30"];
    assert_eq!(locals(&recurrence, 9), wanted);
    assert_eq!(recurrence.before(at("2027-01-01T00:00:00Z")).unwrap().start, at("2026-01-10T00:30:00Z"));
}

#[test]
fn without_a_rule_there_is_the_start_and_a_date_equal_to_it_is_one() {
    let spec = RecurrenceSpec { dates: vec!["2026-01-05".into()], ..spec("2026-01-05T10:00:00", "UTC", "") };
    let once = Recurrence::new(&spec).unwrap();
    assert_eq!(instants(&once, 9), ["2026-01-05T10:00:00Z"]);
    assert_eq!(once.after(at("2026-01-05T10:00:00Z")), None);
    assert_eq!(once.before(at("2026-01-05T10:00:00Z")), None);
}

#[test]
fn a_start_that_the_rule_does_not_generate_is_no_occurrence() {
    let tuesdays = recurrence("2026-01-05T10:00:00", "UTC", "FREQ=WEEKLY;BYDAY=TU;COUNT=2");
    assert_eq!(instants(&tuesdays, 9), ["2026-01-06T10:00:00Z", "2026-01-13T10:00:00Z"]);
}

#[test]
fn leap_days_come_every_four_years_but_not_in_2100() {
    let leap = recurrence("2096-02-29T00:00:00", "UTC", "FREQ=YEARLY");
    assert_eq!(instants(&leap, 2), ["2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"]);
    assert_eq!(leap.before(at("2104-02-29T00:00:00Z")).unwrap().start, at("2096-02-29T00:00:00Z"));
}

#[test]
fn a_rule_that_happens_once_in_decades_is_found() {
    let daily = recurrence("2026-01-01T00:00:00", "UTC", "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29;BYDAY=SU");
    assert_eq!(instants(&daily, 2), ["2032-02-29T00:00:00Z", "2060-02-29T00:00:00Z"]);
    let secondly = recurrence("2026-01-01T00:00:00", "UTC", "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=SU");
    assert_eq!(instants(&secondly, 1), ["2032-02-29T00:00:00Z"]);
    assert_eq!(secondly.before(at("2060-02-29T00:00:00Z")).unwrap().start, at("2032-02-29T23:59:59Z"));
}

#[test]
fn a_date_until_holds_to_the_end_of_that_day() {
    let rule = "FREQ=DAILY;UNTIL=20260107";
    assert_eq!(locals(&recurrence("2026-01-05T23:30:00", "America/New_York", rule), 9).len(), 3);
    let local = "FREQ=DAILY;UNTIL=20260107T232959";
    assert_eq!(locals(&recurrence("2026-01-05T23:30:00", "America/New_York", local), 9).len(), 2);
    assert_eq!(recurrence("2026-01-05", "America/New_York", rule).all().count(), 3);
}

#[test]
fn what_is_under_way_is_current() {
    let spec = RecurrenceSpec {
        duration: Some(jiff::SignedDuration::from_hours(2)),
        ..spec("2026-01-05T10:00:00", "UTC", "FREQ=DAILY")
    };
    let daily = Recurrence::new(&spec).unwrap();
    let current = |t| daily.current(at(t)).next().unwrap().start.to_string();
    assert_eq!(current("2026-01-06T11:59:59Z"), "2026-01-06T10:00:00Z");
    assert_eq!(current("2026-01-06T12:00:00Z"), "2026-01-07T10:00:00Z");
}

#[test]
fn iteration_ends_with_the_calendar_and_extreme_instants_are_taken() {
    let yearly = recurrence("2026-01-05T10:00:00", "Europe/Berlin", "FREQ=YEARLY;INTERVAL=100");
    assert_eq!(yearly.all().count(), 80);
    for rule in ["FREQ=YEARLY", "FREQ=DAILY", "FREQ=WEEKLY", "FREQ=MONTHLY", "FREQ=HOURLY"] {
        let it = recurrence("2026-01-05T10:00:00", "Europe/Berlin", rule);
        assert!(it.before(jiff::Timestamp::MAX).is_some(), "{rule}");
        assert_eq!(it.after(jiff::Timestamp::MAX), None, "{rule}");
        assert_eq!(it.before(jiff::Timestamp::MIN), None, "{rule}");
    }
}

#[test]
fn excepted_days_of_a_rule_that_happens_every_second_are_stepped_over() {
    let day = jiff::civil::date(2026, 1, 5);
    let except_dates = day.series(jiff::Span::new().days(1)).take(300).map(|it| it.to_string()).collect();
    let spec =
        RecurrenceSpec { except_dates, ..spec("2026-01-05T00:00:00", "Europe/Berlin", "FREQ=SECONDLY") };
    let recurrence = Recurrence::new(&spec).unwrap();
    assert_eq!(locals(&recurrence, 1), ["2026-11-01 00:00"]);
    assert_eq!(recurrence.before(at("2026-10-31T23:00:00Z")), None);
}
