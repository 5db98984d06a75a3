//! Two recurrences that overlap in time.

use calendar::{Recurrence, RecurrenceSpec, first_clashes};
use jiff::SignedDuration;

use crate::{at, spec};

fn lasting(minutes: i64, start: &str, zone: &str, rule: &str) -> Recurrence {
    let duration = Some(SignedDuration::from_mins(minutes));
    Recurrence::new(&RecurrenceSpec { duration, ..spec(start, zone, rule) }).unwrap()
}

fn starts(a: &Recurrence, b: &Recurrence, limit: usize) -> Vec<(String, String)> {
    let clashes = first_clashes(a, b, at("2026-01-01T00:00:00Z"), at("2028-01-01T00:00:00Z"), limit);
    clashes.first.iter().map(|it| (it.a.start.to_string(), it.b.start.to_string())).collect()
}

#[test]
fn a_clash_deep_in_the_series_is_found() {
    let weekly = lasting(60, "2026-01-05T10:00:00", "UTC", "FREQ=WEEKLY");
    let monthly = lasting(60, "2026-01-15T10:30:00", "UTC", "FREQ=MONTHLY;BYMONTHDAY=15");
    let first = starts(&weekly, &monthly, 1);
    assert_eq!(first, [("2026-06-15T10:00:00Z".to_owned(), "2026-06-15T10:30:00Z".to_owned())]);
    let other_way: Vec<_> = starts(&monthly, &weekly, 1).into_iter().map(|(a, b)| (b, a)).collect();
    assert_eq!(first, other_way);
}

#[test]
fn one_may_begin_where_the_other_ends() {
    let a = lasting(60, "2026-01-05T10:00:00", "UTC", "FREQ=DAILY");
    let b = lasting(60, "2026-01-05T11:00:00", "UTC", "FREQ=DAILY");
    assert!(starts(&a, &b, 5).is_empty());
    let c = lasting(61, "2026-01-05T09:00:00", "UTC", "FREQ=DAILY;COUNT=2");
    assert_eq!(starts(&a, &c, 5).len(), 2);
}

#[test]
fn what_takes_no_time_clashes_only_strictly_inside() {
    let a = lasting(60, "2026-01-05T10:00:00", "UTC", "");
    for (time, count) in [("10:00", 0), ("10:30", 1), ("11:00", 0)] {
        let point = lasting(0, &format!("2026-01-05T{time}:00"), "UTC", "");
        assert_eq!(starts(&a, &point, 5).len(), count, "{time}");
        assert_eq!(starts(&point, &a, 5).len(), count, "{time}");
        assert!(starts(&point, &point, 5).is_empty());
    }
}

#[test]
fn a_change_of_clocks_brings_a_clash_about() {
    // Half past nine in Berlin meets a Seoul evening only while Berlin is on winter time.
    let seoul = lasting(30, "2026-01-05T17:30:00", "Asia/Seoul", "FREQ=DAILY");
    let berlin = lasting(30, "2026-07-01T09:30:00", "Europe/Berlin", "FREQ=DAILY");
    assert_eq!(starts(&seoul, &berlin, 1)[0].0, "2026-10-25T08:30:00Z");
}

#[test]
fn the_limit_holds_and_says_how_far_was_looked() {
    let a = lasting(60, "2026-01-05T10:00:00", "UTC", "FREQ=DAILY");
    let clashes = first_clashes(&a, &a, at("2026-01-01T00:00:00Z"), at("2028-01-01T00:00:00Z"), 3);
    assert_eq!(clashes.first.len(), 3);
    assert_eq!(clashes.checked_until, at("2026-01-07T10:00:00Z"));
    let busy = lasting(1, "2026-01-01T00:00:00", "UTC", "FREQ=SECONDLY");
    let far = lasting(1, "2027-12-01T00:00:00", "UTC", "");
    let clashes = first_clashes(&busy, &far, at("2026-01-01T00:00:00Z"), at("2028-01-01T00:00:00Z"), 3);
    assert!(clashes.first.is_empty() && clashes.checked_until < at("2026-02-01T00:00:00Z"));
}

#[test]
fn one_that_lasts_long_clashes_with_what_begins_while_it_lasts() {
    let holiday = lasting(14 * 24 * 60, "2026-01-01T00:00:00", "UTC", "");
    let daily = lasting(15, "2025-01-05T10:00:00", "UTC", "FREQ=DAILY");
    let clashes = first_clashes(&daily, &holiday, at("2026-01-10T00:00:00Z"), at("2026-02-01T00:00:00Z"), 99);
    assert_eq!(clashes.first.len(), 5);
}
