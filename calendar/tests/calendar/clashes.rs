//! Bookings that need the same people and resources at the same time.

use std::sync::Arc;
use std::time::Duration;

use calendar::{Booking, Clashes, HORIZON, Occupancy, Override, Recurrence, RecurrenceSpec, Search, Steps};
use jiff::SignedDuration;

use crate::{at, spec};

type Index = Occupancy<u32, &'static str>;

fn lasting(minutes: i64, start: &str, zone: &str, rule: &str) -> Booking<&'static str> {
    let duration = Some(SignedDuration::from_mins(minutes));
    let spec = RecurrenceSpec { duration, ..spec(start, zone, rule) };
    Booking::new(Arc::new(Recurrence::new(&spec).unwrap()), vec!["room"])
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

fn index(held: &[&Booking<&'static str>]) -> Index {
    let mut index = Index::new(at("2026-01-01T00:00:00Z"), HORIZON);
    for (key, booking) in (0..).zip(held) {
        index.insert(key, booking);
    }
    index
}

fn check(new: &Booking<&'static str>, held: &[&Booking<&'static str>]) -> Clashes<u32, &'static str> {
    index(held).check(&99, new, |_| true, 3)
}

fn starts(new: &Booking<&'static str>, held: &Booking<&'static str>) -> Vec<(String, String)> {
    let clashes = check(new, &[held]).first;
    clashes.iter().map(|it| (it.occurrence.start.to_string(), it.with[0].start.to_string())).collect()
}

#[test]
fn a_clash_deep_in_the_series_is_found() {
    let weekly = lasting(60, "2026-01-05T10:00:00", "UTC", "FREQ=WEEKLY");
    let monthly = lasting(60, "2026-01-15T10:30:00", "UTC", "FREQ=MONTHLY;BYMONTHDAY=15");
    let first = starts(&weekly, &monthly);
    assert_eq!(first[0], ("2026-06-15T10:00:00Z".to_owned(), "2026-06-15T10:30:00Z".to_owned()));
    let other_way: Vec<_> = starts(&monthly, &weekly).into_iter().map(|(a, b)| (b, a)).collect();
    assert_eq!(first, other_way);
    let clashes = check(&weekly, &[&monthly]);
    assert_eq!((clashes.total, clashes.never), (4, false));
}

#[test]
fn a_clash_is_found_before_1970_and_after_2106() {
    let years = [
        ("1969-06-01T00:00:00Z", "1969-12-31T23:30:00"),
        ("2106-01-01T00:00:00Z", "2106-02-07T06:00:00"),
        ("2150-01-01T00:00:00Z", "2150-03-01T10:00:00"),
    ];
    for (now, start) in years {
        for count in 1..5 {
            let mut index = Index::new(at(now), HORIZON);
            let held = lasting(60, start, "UTC", &format!("FREQ=DAILY;COUNT={count}"));
            assert_eq!(index.insert_if_free(1, &held, |_| true, 3).total, 0);
            assert_eq!(index.insert_if_free(2, &held, |_| true, 3).total, count);
            assert!(index.remove(&1));
            assert_eq!(index.insert_if_free(2, &held, |_| true, 3).total, 0);
        }
    }
}

#[test]
fn one_may_begin_where_the_other_ends() {
    let a = lasting(60, "2026-01-05T10:00:00", "UTC", "FREQ=DAILY");
    let b = lasting(60, "2026-01-05T11:00:00", "UTC", "FREQ=DAILY");
    assert!(starts(&a, &b).is_empty());
    let c = lasting(61, "2026-01-05T09:00:00", "UTC", "FREQ=DAILY;COUNT=2");
    assert_eq!(starts(&a, &c).len(), 2);
}

#[test]
fn what_takes_no_time_never_clashes() {
    let a = lasting(60, "2026-01-05T10:00:00", "UTC", "");
    let point = lasting(0, "2026-01-05T10:30:00", "UTC", "").with_buffers(minutes(60), minutes(60));
    assert!(starts(&a, &point).is_empty() && starts(&point, &a).is_empty());
}

#[test]
fn a_change_of_clocks_brings_a_clash_about() {
    // Half past nine in Berlin meets a Seoul evening only while Berlin is on winter time.
    let seoul = lasting(30, "2026-01-05T17:30:00", "Asia/Seoul", "FREQ=DAILY");
    let berlin = lasting(30, "2026-07-01T09:30:00", "Europe/Berlin", "FREQ=DAILY");
    assert_eq!(starts(&seoul, &berlin)[0].0, "2026-10-25T08:30:00Z");
}

#[test]
fn one_that_lasts_long_clashes_with_what_begins_while_it_lasts() {
    let holiday = lasting(14 * 24 * 60, "2026-01-10T00:00:00", "UTC", "");
    let daily = lasting(15, "2025-01-05T10:00:00", "UTC", "FREQ=DAILY");
    let clashes = check(&daily, &[&holiday]);
    assert_eq!(clashes.total, 14);
    assert_eq!(check(&holiday, &[&daily]).first[0].with.len(), 14);
}

#[test]
fn a_buffer_keeps_events_out_and_two_buffers_share_the_time_between() {
    let first = lasting(60, "2026-01-05T10:00:00", "UTC", "").with_buffers(minutes(0), minutes(30));
    for (gap, before, count) in [(29, 0, 1), (30, 0, 0), (30, 30, 0), (30, 31, 1), (45, 40, 0)] {
        let start = format!("2026-01-05T11:{gap}:00");
        let next = lasting(60, &start, "UTC", "").with_buffers(minutes(before), minutes(0));
        assert_eq!(check(&next, &[&first]).total, count, "{gap} {before}");
        assert_eq!(check(&first, &[&next]).total, count, "{gap} {before}");
    }
}

#[test]
fn a_buffer_counts_after_its_event_is_over() {
    let first = lasting(60, "2026-01-05T10:00:00", "UTC", "").with_buffers(minutes(0), minutes(30));
    let mut index = index(&[&first]);
    index.advance(at("2026-01-05T11:10:00Z"));
    let next = |minute| lasting(60, &format!("2026-01-05T11:{minute}:00"), "UTC", "");
    assert_eq!([20, 30].map(|minute| index.check(&99, &next(minute), |_| true, 0).total), [1, 0]);
}

#[test]
fn a_cancelled_occurrence_is_free_and_so_is_one_who_needs_nothing() {
    let mut daily = spec("2026-01-05T10:00:00", "UTC", "FREQ=DAILY");
    daily.duration = Some(SignedDuration::from_hours(1));
    daily.except_dates = vec!["2026-01-07".to_owned()];
    let daily = Booking::new(Arc::new(Recurrence::new(&daily).unwrap()), vec!["room"]);
    let there = |day: u32| lasting(60, &format!("2026-01-{day:02}T10:00:00"), "UTC", "");
    assert_eq!([6, 7, 8].map(|day| check(&there(day), &[&daily]).total), [1, 0, 1]);
    let recurrence =
        Recurrence::new(&RecurrenceSpec { ..spec("2026-01-05T10:00:00", "UTC", "FREQ=DAILY") }).unwrap();
    let clashes = check(&Booking::new(Arc::new(recurrence), Vec::new()), &[&daily]);
    assert!(clashes.total == 0 && clashes.never);
}

#[test]
fn as_many_as_the_capacity_may_hold_at_once_and_those_who_do_are_named() {
    let daily = |time: &str| lasting(60, &format!("2026-01-05T{time}:00"), "UTC", "FREQ=DAILY;COUNT=3");
    let mut index = index(&[&daily("10:00"), &daily("10:30"), &daily("11:00")]);
    index.set_capacity(&"room", 2);
    let new = daily("10:15");
    // At 10:30 there are three events, and at 11:00 too: each of the others clashes at one of these moments.
    let clashes = index.check(&99, &new, |_| true, 1);
    assert_eq!(clashes.total, 3);
    let first = &clashes.first[0];
    assert_eq!(first.at, at("2026-01-05T10:30:00Z"));
    assert_eq!(first.with.iter().map(|it| it.key).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(first.with[0].needs, ["room"]);
    index.set_capacity(&"room", 3);
    assert_eq!(index.check(&99, &new, |_| true, 1).total, 0);
}

#[test]
fn one_is_checked_against_those_it_must_yield_to_and_never_against_itself() {
    let a = lasting(60, "2026-01-05T10:00:00", "UTC", "FREQ=DAILY");
    let index = index(&[&a, &a, &a]);
    let keys = |clashes: Clashes<u32, &'static str>| -> Vec<u32> {
        clashes.first[0].with.iter().map(|it| it.key).collect()
    };
    assert_eq!(keys(index.check(&1, &a, |_| true, 1)), [0, 2]);
    assert_eq!(keys(index.check(&1, &a, |other| *other < 1, 1)), [0]);
}

#[test]
fn a_series_with_very_many_occurrences_is_covered_less_far() {
    let busy = lasting(1, "2026-01-01T00:00:00", "UTC", "FREQ=SECONDLY");
    let far = lasting(1, "2027-12-01T00:00:00", "UTC", "");
    let clashes = check(&busy, &[&far]);
    assert!(clashes.total == 0 && !clashes.never && clashes.checked_until < at("2026-02-01T00:00:00Z"));
    let clashes = check(&far, &[&busy]);
    assert!(clashes.total == 0 && !clashes.never && clashes.checked_until < at("2026-02-01T00:00:00Z"));
}

#[test]
fn a_series_too_irregular_for_runs_is_covered_less_far() {
    let rule = "FREQ=SECONDLY;INTERVAL=997;BYMINUTE=1,2,3,5,8,13,21,34,44,55";
    let busy = lasting(1, "2026-01-01T00:01:00", "UTC", rule);
    let far = lasting(1, "2027-12-01T00:00:00", "UTC", "");
    let clashes = check(&far, &[&busy]);
    assert!(clashes.total == 0 && !clashes.never, "{}", clashes.checked_until);
    assert!(clashes.checked_until < at("2027-12-01T00:00:00Z"), "{}", clashes.checked_until);
    let near = lasting(1, "2026-01-01T00:01:00", "UTC", "");
    assert_eq!(check(&near, &[&busy]).total, 1);
}

#[test]
fn what_is_moved_and_longer_by_an_override_is_compared_as_it_is() {
    let moved = Override {
        recurrence_id: "2026-02-09T10:00:00".to_owned(),
        start: Some("2026-02-09T12:00:00".to_owned()),
        duration: Some(SignedDuration::from_hours(3)),
        ..Override::default()
    };
    let spec = RecurrenceSpec {
        duration: Some(SignedDuration::from_mins(30)),
        overrides: vec![moved],
        ..spec("2026-02-02T10:00:00", "UTC", "FREQ=WEEKLY")
    };
    let held = Booking::new(Arc::new(Recurrence::new(&spec).unwrap()), vec!["room"]);
    let only = |start| lasting(30, start, "UTC", "FREQ=DAILY;COUNT=1");
    for (start, clashing) in [
        ("2026-02-02T10:15:00", 1),
        ("2026-02-09T10:15:00", 0),
        ("2026-02-09T14:45:00", 1),
        ("2026-02-16T12:15:00", 0),
    ] {
        assert_eq!(check(&only(start), &[&held]).total, clashing, "{start}");
    }
    let free = index(&[&held]).nearest_free(&0, &held, &Search::default(), &mut Steps::new(u64::MAX)).times;
    assert_eq!(free[0].shift, SignedDuration::ZERO, "it does not stand in its own way");
}

#[test]
fn each_rule_of_several_is_compared_and_nothing_is_proven_of_them() {
    let spec = RecurrenceSpec {
        duration: Some(SignedDuration::from_mins(30)),
        more_rules: vec!["FREQ=MONTHLY;BYDAY=1FR".to_owned()],
        ..spec("2026-02-02T10:00:00", "UTC", "FREQ=WEEKLY;BYDAY=MO")
    };
    let both = Booking::new(Arc::new(Recurrence::new(&spec).unwrap()), vec!["room"]);
    let friday = lasting(30, "2026-02-06T10:15:00", "UTC", "FREQ=WEEKLY;BYDAY=FR");
    assert!(check(&friday, &[&both]).total > 20);
    let tuesday = lasting(30, "2026-02-03T10:15:00", "UTC", "FREQ=WEEKLY;BYDAY=TU");
    let clashes = check(&tuesday, &[&both]);
    assert_eq!((clashes.total, clashes.never), (0, false));
}
