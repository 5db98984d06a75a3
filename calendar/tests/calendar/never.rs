//! When it is proven that two bookings never clash, and when not.

use std::sync::Arc;
use std::time::Duration;

use calendar::{Booking, HORIZON, Occupancy, Recurrence, RecurrenceSpec};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::sample::select;

use crate::{at, spec};

fn booking(start: &str, minutes: i64, zone: &str, rule: &str) -> Booking<&'static str> {
    let duration = Some(SignedDuration::from_mins(minutes));
    let spec = RecurrenceSpec { duration, ..spec(start, zone, rule) };
    Booking::new(Arc::new(Recurrence::new(&spec).unwrap()), vec!["room"])
}

/// How many clashes there are within the horizon, and whether it is proven that there never is one.
fn check(a: &Booking<&'static str>, b: &Booking<&'static str>) -> (usize, bool) {
    let mut index = Occupancy::new(at("2026-01-01T00:00:00Z"), HORIZON);
    index.insert(0, b);
    let clashes = index.check(&1, a, |_| true, 0);
    (clashes.total, clashes.never)
}

fn hour(start: &str, zone: &str, rule: &str) -> Booking<&'static str> {
    booking(start, 60, zone, rule)
}

const PROVEN: (usize, bool) = (0, true);
const NOT_PROVEN: (usize, bool) = (0, false);

#[test]
fn an_event_just_behind_the_horizon_leaves_a_series_unproven_and_one_before_it_does_not() {
    let single = |start: &str| {
        let spec =
            RecurrenceSpec { duration: Some(SignedDuration::from_hours(1)), ..RecurrenceSpec::default() };
        let spec = RecurrenceSpec { start: start.to_owned(), time_zone: "UTC".to_owned(), ..spec };
        Booking::new(Arc::new(Recurrence::new(&spec).unwrap()), vec!["room"])
    };
    let daily = hour("2026-01-05T10:00:00", "UTC", "FREQ=DAILY");
    let buffered = daily.clone().with_buffers(Duration::from_hours(2), Duration::ZERO);
    // The horizon ends with 2027.
    assert_eq!(check(&daily, &single("2028-01-02T22:00:00")), NOT_PROVEN);
    assert_eq!(check(&daily, &single("2028-01-01T22:00:00")), PROVEN);
    assert_eq!(check(&daily, &single("2028-01-01T23:00:00")), PROVEN);
    assert_eq!(check(&buffered, &single("2028-01-01T22:00:00")), NOT_PROVEN);
}

#[test]
fn other_weekdays_of_one_zone_never_clash() {
    let monday = hour("2026-01-05T10:00:00", "Europe/Berlin", "FREQ=WEEKLY;BYDAY=MO");
    let tuesday = hour("2026-01-06T10:00:00", "Europe/Berlin", "FREQ=WEEKLY;BYDAY=TU");
    assert_eq!(check(&monday, &tuesday), PROVEN);
    let last_tuesday = hour("2026-01-06T10:00:00", "Europe/Berlin", "FREQ=MONTHLY;BYDAY=-1TU");
    assert_eq!(check(&monday, &last_tuesday), PROVEN);
    assert_eq!(check(&last_tuesday, &monday), PROVEN);
}

#[test]
fn one_after_the_other_never_clashes_where_no_clock_changes_between() {
    for zone in ["UTC", "Asia/Seoul", "Europe/Berlin", "America/Santiago", "Africa/Casablanca"] {
        let first = hour("2026-01-05T10:00:00", zone, "FREQ=DAILY");
        let second = hour("2026-01-05T11:00:00", zone, "FREQ=YEARLY;BYMONTH=3;BYMONTHDAY=29");
        assert_eq!(check(&first, &second), PROVEN, "{zone}");
        let buffered = first.clone().with_buffers(Duration::ZERO, Duration::from_secs(1));
        assert!(!check(&buffered, &second).1, "{zone}");
    }
}

#[test]
fn every_other_week_never_clashes_with_the_weeks_between() {
    let even = hour("2026-01-05T10:00:00", "Europe/Berlin", "FREQ=WEEKLY;INTERVAL=2");
    let odd = hour("2026-01-12T10:00:00", "Europe/Berlin", "FREQ=WEEKLY;INTERVAL=2");
    assert_eq!(check(&even, &odd), PROVEN);
    let third = hour("2026-01-12T10:00:00", "Europe/Berlin", "FREQ=WEEKLY;INTERVAL=3");
    assert!(check(&even, &third).0 > 0);
}

#[test]
fn whole_days_of_one_zone_follow_each_other_through_every_change() {
    let week = |start: &str| booking(start, 7 * 24 * 60, "Europe/Berlin", "FREQ=WEEKLY;INTERVAL=2");
    assert_eq!(check(&week("2026-01-05"), &week("2026-01-12")), PROVEN);
    assert!(check(&week("2026-01-05"), &week("2026-01-11")).0 > 0);
}

#[test]
fn zones_are_compared_at_every_offset_that_they_may_have() {
    let seoul = hour("2026-01-05T17:00:00", "Asia/Seoul", "FREQ=DAILY");
    // 08:00 to 09:00 UTC; Berlin's 11:00 is 09:00 or 10:00.
    assert_eq!(check(&seoul, &hour("2026-01-05T11:00:00", "Europe/Berlin", "FREQ=DAILY")), PROVEN);
    assert!(check(&seoul, &hour("2026-01-05T10:00:00", "Europe/Berlin", "FREQ=DAILY")).0 > 0);
}

#[test]
fn what_clashes_behind_the_horizon_is_not_proven_free() {
    // The Monday is 29 February 2044.
    let monday = hour("2026-01-05T10:00:00", "UTC", "FREQ=WEEKLY;BYDAY=MO");
    let leap = hour("2028-02-29T10:00:00", "UTC", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29");
    assert_eq!(check(&monday, &leap), NOT_PROVEN);
    let single = hour("2032-03-01T10:00:00", "UTC", "");
    assert_eq!(check(&monday, &single), NOT_PROVEN);
    // On the Sundays of a clock change the two are as close as possible: not examined further.
    let one = hour("2026-01-05T01:00:00", "Europe/Berlin", "FREQ=DAILY");
    let two = hour("2026-01-05T02:00:00", "Europe/Berlin", "FREQ=DAILY");
    assert_eq!(check(&one, &two), NOT_PROVEN);
}

#[test]
fn what_is_over_before_the_horizon_ends_is_compared_in_full() {
    let weekly = hour("2026-01-05T10:00:00", "Europe/Berlin", "FREQ=WEEKLY;BYMONTH=1");
    let ends = hour("2026-01-05T10:00:00", "UTC", "FREQ=DAILY;UNTIL=20270601T000000Z;BYMONTH=5");
    assert_eq!(check(&weekly, &ends), PROVEN);
    assert_eq!(check(&ends, &weekly), PROVEN);
}

#[test]
fn what_ends_behind_the_horizon_was_not_compared_in_full() {
    let mut index = Occupancy::new(at("2026-01-01T00:00:00Z"), SignedDuration::from_hours(1));
    index.insert(0, &hour("2026-01-01T20:00:00", "UTC", ""));
    let daily = hour("2025-01-01T20:00:00", "UTC", "FREQ=DAILY");
    let clashes = index.check(&1, &daily, |_| true, 0);
    assert_eq!((clashes.total, clashes.never), NOT_PROVEN);
    index.insert(0, &hour("2026-01-01T00:00:00", "UTC", ""));
    assert!(index.check(&1, &daily, |_| true, 0).never);
}

fn random() -> impl Strategy<Value = (String, i64, &'static str, &'static str)> {
    let zone =
        select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo"]);
    let rule = select(vec![
        "FREQ=DAILY",
        "FREQ=DAILY;INTERVAL=14",
        "FREQ=WEEKLY",
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,TH",
        "FREQ=MONTHLY;BYDAY=-1SU",
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
        "FREQ=YEARLY;BYMONTH=3,10;BYDAY=SU",
        "FREQ=MONTHLY;BYMONTHDAY=13",
        "FREQ=DAILY;COUNT=2",
        "FREQ=HOURLY;INTERVAL=12",
    ]);
    let start = (1..12, prop_oneof![0..5, 0..24], select(vec![0, 30]))
        .prop_map(|(day, hour, minute)| format!("2026-01-{day:02}T{hour:02}:{minute:02}:00"));
    (start, select(vec![30, 60, 90, 180i64]), zone, rule)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_proven_holds_for_forty_years(
        all in [random(), random(), random()], one_zone in any::<bool>(), buffer in select(vec![0, 0, 45]), two in any::<bool>(),
    ) {
        let zone = all[0].2;
        let buffer = Duration::from_secs(60 * buffer);
        let [a, b, c] = all.map(|(start, minutes, own, rule)| {
            booking(&start, minutes, if one_zone { zone } else { own }, rule).with_buffers(Duration::ZERO, buffer)
        });
        let now: Timestamp = at("2026-01-01T00:00:00Z");
        let check = |horizon: SignedDuration| {
            let mut index = Occupancy::new(now, horizon);
            index.insert(0, &b);
            if two {
                index.insert(1, &c);
                index.set_capacity(&"room", 2);
            }
            index.check(&2, &a, |_| true, 0)
        };
        // Almost nothing is compared, so that all depends on the proof.
        if check(SignedDuration::from_hours(1)).never {
            prop_assert_eq!(check(HORIZON * 20).total, 0);
        }
    }
}
