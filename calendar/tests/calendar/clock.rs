//! How changes of the clocks are reported.

use calendar::{ClockEffect, Dst, Fold, Gap, Override, RecurrenceSpec, clock_changes};

use crate::{at, spec};

fn told(spec: &RecurrenceSpec, from: &str, to: &str) -> Vec<String> {
    let name = |effect| match effect {
        ClockEffect::Shifted => "shifted",
        ClockEffect::Skipped => "skipped",
        ClockEffect::Doubled => "doubled",
    };
    let found = clock_changes(spec, at(from), at(to)).unwrap();
    found.iter().map(|it| format!("{} {}", it.local, name(it.effect))).collect()
}

const YEAR: (&str, &str) = ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");

fn nightly(gap: Gap, fold: Fold) -> RecurrenceSpec {
    let dst = Dst { gap, fold };
    RecurrenceSpec { dst, ..spec("2026-01-05T02:30:00", "Europe/Berlin", "FREQ=DAILY") }
}

#[test]
fn a_local_time_that_does_not_exist_is_told_as_shifted_or_as_skipped() {
    let both = |gap, fold| told(&nightly(gap, fold), YEAR.0, YEAR.1);
    assert_eq!(both(Gap::ShiftForward, Fold::First), ["2026-03-29T02:30:00 shifted"]);
    assert_eq!(both(Gap::Skip, Fold::Last), ["2026-03-29T02:30:00 skipped"]);
    let all = ["2026-03-29T02:30:00 skipped", "2026-10-25T02:30:00 doubled"];
    assert_eq!(both(Gap::Skip, Fold::Both), all);
}

#[test]
fn two_stretches_that_meet_tell_each_change_once() {
    let nightly = nightly(Gap::Skip, Fold::Both);
    let change = "2026-03-29T01:00:00Z";
    assert_eq!(told(&nightly, YEAR.0, change), ["2026-03-29T02:30:00 skipped"]);
    assert_eq!(told(&nightly, change, YEAR.1), ["2026-10-25T02:30:00 doubled"]);
}

#[test]
fn what_the_change_does_not_touch_is_not_told() {
    let daily = |start: &str, rule| told(&spec(start, "Europe/Berlin", rule), YEAR.0, YEAR.1);
    for (start, rule) in [
        ("2026-01-05T03:00:00", "FREQ=DAILY"),
        ("2026-01-05T02:30:00", "FREQ=HOURLY"),
        ("2026-01-05T02:30:00", "FREQ=WEEKLY"),
        ("2026-01-05T02:30:00", "FREQ=DAILY;COUNT=3"),
        ("2026-01-05", "FREQ=DAILY"),
    ] {
        assert_eq!(daily(start, rule), [""; 0], "{start} {rule}");
    }
    let hourly = RecurrenceSpec {
        dst: Dst { gap: Gap::Skip, fold: Fold::Both },
        ..spec("2026-01-05T02:30:00", "Europe/Berlin", "FREQ=HOURLY")
    };
    assert_eq!(told(&hourly, YEAR.0, YEAR.1), [""; 0], "it counts in real time");
    let moved = Override {
        recurrence_id: "2026-03-29T02:30:00".to_owned(),
        start: Some("2026-03-29T05:00:00".to_owned()),
        ..Override::default()
    };
    let moved = RecurrenceSpec { overrides: vec![moved], ..nightly(Gap::ShiftForward, Fold::First) };
    assert_eq!(told(&moved, YEAR.0, YEAR.1), [""; 0], "it is elsewhere anyhow");
}

#[test]
fn a_day_that_is_missing_whole_is_told_of_all_day_events_too() {
    let days = |gap| RecurrenceSpec {
        dst: Dst { gap, fold: Fold::First },
        ..spec("2011-12-02", "Pacific/Apia", "FREQ=WEEKLY")
    };
    let december = |gap| told(&days(gap), "2011-12-03T00:00:00Z", "2012-01-10T00:00:00Z");
    assert_eq!(december(Gap::Skip), ["2011-12-30T00:00:00 skipped"]);
    assert_eq!(december(Gap::ShiftForward), ["2011-12-30T00:00:00 shifted"]);
}
