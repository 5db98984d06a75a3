//! Overrides (RECURRENCE-ID), several rules, exception rules, periods, and nominal durations.

use calendar::{Override, Recurrence, RecurrenceError, RecurrenceSpec};
use jiff::SignedDuration;

use crate::{at, instants, locals, recurrence, spec};

fn daily() -> RecurrenceSpec {
    RecurrenceSpec {
        duration: Some(SignedDuration::from_hours(1)),
        ..spec("2026-03-02T10:00:00", "Europe/Berlin", "FREQ=DAILY;COUNT=6")
    }
}

fn with(overrides: Vec<Override>) -> Recurrence {
    Recurrence::new(&RecurrenceSpec { overrides, ..daily() }).unwrap()
}

fn of(recurrence_id: &str) -> Override {
    Override { recurrence_id: recurrence_id.into(), ..Override::default() }
}

fn to(recurrence_id: &str, start: &str) -> Override {
    Override { start: Some(start.into()), ..of(recurrence_id) }
}

#[test]
fn a_moved_occurrence_keeps_its_name_and_comes_in_order() {
    let moved = with(vec![to("2026-03-03T10:00:00", "2026-03-05T09:00:00")]);
    let wanted = ["02 10:00", "04 10:00", "05 09:00", "05 10:00", "06 10:00", "07 10:00"];
    assert_eq!(locals(&moved, 9), wanted.map(|it| format!("2026-03-{it}")));
    let found = moved.find("2026-03-03T10:00:00").unwrap();
    assert_eq!((found.start, found.end), (at("2026-03-05T08:00:00Z"), at("2026-03-05T09:00:00Z")));
    assert_eq!(found.id(), "2026-03-03T10:00:00");
    assert_eq!(moved.before(at("2026-03-05T09:00:00Z")), Some(found));
}

#[test]
fn an_occurrence_may_be_cancelled_or_last_longer() {
    let cancelled = Override { cancelled: true, ..of("2026-03-03") };
    let longer = Override { duration: Some(SignedDuration::from_hours(3)), ..of("2026-03-04T09:00:00Z") };
    let changed = with(vec![cancelled, longer]);
    assert_eq!(locals(&changed, 2), ["2026-03-02 10:00", "2026-03-04 10:00"]);
    let hours: Vec<i64> = changed.all().map(|it| it.end.duration_since(it.start).as_hours()).collect();
    assert_eq!(hours, [1, 3, 1, 1, 1]);
    assert_eq!(changed.current(at("2026-03-04T11:30:00Z")).next().unwrap().start, at("2026-03-04T09:00:00Z"));
}

#[test]
fn this_and_future_moves_all_that_follow_by_the_same_time() {
    let later = Override { this_and_future: true, ..to("2026-03-04T10:00:00", "2026-03-05T11:30:00") };
    let back =
        Override { this_and_future: true, duration: Some(SignedDuration::ZERO), ..of("2026-03-06T10:00:00") };
    let changed = with(vec![back, later, to("2026-03-05T10:00:00", "2026-03-09T08:00:00")]);
    let wanted = ["02 10:00", "03 10:00", "05 11:30", "06 10:00", "07 10:00", "09 08:00"];
    assert_eq!(locals(&changed, 9), wanted.map(|it| format!("2026-03-{it}")));
    let ids: Vec<String> = changed.all().map(|it| it.id()[8..10].to_owned()).collect();
    assert_eq!(ids, ["02", "03", "04", "06", "07", "05"]);
    for it in changed.all() {
        assert_eq!(changed.find(&it.id()), Some(it));
        assert_eq!(changed.before(it.start + SignedDuration::from_secs(1)), Some(it));
        assert_eq!(changed.after(it.start - SignedDuration::from_secs(1)), Some(it));
    }
    let ended = with(vec![Override { this_and_future: true, cancelled: true, ..of("2026-03-04T10:00:00") }]);
    assert_eq!(locals(&ended, 9).len(), 2);
}

#[test]
fn this_and_future_stays_at_its_local_time_across_a_change_and_hourly_ones_stay_hourly() {
    let later = Override { this_and_future: true, ..to("2026-03-28T10:00:00", "2026-03-28T12:00:00") };
    let spec = spec("2026-03-27T10:00:00", "Europe/Berlin", "FREQ=DAILY;UNTIL=20260330T080000Z");
    let daily = Recurrence::new(&RecurrenceSpec { overrides: vec![later], ..spec }).unwrap();
    let wanted = ["27 10:00", "28 12:00", "29 12:00", "30 12:00"];
    assert_eq!(locals(&daily, 9), wanted.map(|it| format!("2026-03-{it}")), "UNTIL is of the unmoved times");
    let later = Override { this_and_future: true, ..to("2026-03-29T01:00:00", "2026-03-29T01:30:00") };
    let spec = crate::spec("2026-03-29T00:00:00", "Europe/Berlin", "FREQ=HOURLY;COUNT=4");
    let hourly = Recurrence::new(&RecurrenceSpec { overrides: vec![later], ..spec }).unwrap();
    assert_eq!(
        locals(&hourly, 9),
        ["2026-03-29 00:00", "2026-03-29 01:30", "2026-03-29 03:30", "2026-03-29 04:30"]
    );
}

#[test]
fn many_overrides_for_the_future_cost_no_more_than_their_number() {
    let day = jiff::civil::date(2026, 1, 1);
    let overrides = day.series(jiff::Span::new().days(1)).take(300).map(|it| Override {
        this_and_future: true,
        ..to(&format!("{it}T10:00:00"), &format!("{it}T11:00:00"))
    });
    let spec =
        RecurrenceSpec { overrides: overrides.collect(), ..spec("2026-01-01T10:00:00", "UTC", "FREQ=DAILY") };
    let recurrence = Recurrence::new(&spec).unwrap();
    assert_eq!(locals(&recurrence, 400).len(), 400);
    assert!(locals(&recurrence, 400).iter().all(|it| it.ends_with("11:00")));
}

#[test]
fn an_override_of_what_does_not_happen_is_refused() {
    let spec =
        RecurrenceSpec { overrides: vec![of("2026-03-03T10:00:00"), of("2026-03-03T10:30:00")], ..daily() };
    let error = Recurrence::new(&spec).unwrap_err();
    assert_eq!(
        error.to_string(),
        "overrides[1] \"2026-03-03T10:30:00\": there is no such occurrence; allowed is the time that rule or dates give it"
    );
    let spec = RecurrenceSpec { overrides: vec![to("2026-03-03", "later")], ..daily() };
    assert!(
        Recurrence::new(&spec).unwrap_err().to_string().starts_with("overrides[0] \"later\" is not allowed")
    );
}

#[test]
fn several_rules_give_one_set_and_each_instant_once() {
    let spec = RecurrenceSpec {
        more_rules: vec!["FREQ=WEEKLY;BYDAY=SA;COUNT=2".into(), "FREQ=DAILY;INTERVAL=2;COUNT=3".into()],
        ..spec("2026-03-02T10:00:00", "Europe/Berlin", "FREQ=WEEKLY;COUNT=2")
    };
    let both = Recurrence::new(&spec).unwrap();
    let wanted = ["02", "04", "06", "07", "09", "14"];
    assert_eq!(locals(&both, 9), wanted.map(|it| format!("2026-03-{it} 10:00")));
    assert_eq!(both.before(at("2026-03-09T00:00:00Z")).unwrap().start, at("2026-03-07T09:00:00Z"));
    assert_eq!(both.rules().len(), 3);
}

#[test]
fn the_times_of_a_rule_left_out_do_not_happen() {
    let spec = RecurrenceSpec {
        except_rules: vec!["FREQ=WEEKLY;BYDAY=WE,TH;COUNT=3".into()],
        dates: vec!["2026-03-04T10:00:00".into()],
        ..daily()
    };
    let wanted = ["02", "03", "06", "07"];
    assert_eq!(locals(&Recurrence::new(&spec).unwrap(), 9), wanted.map(|it| format!("2026-03-{it} 10:00")));
}

#[test]
fn a_rule_left_out_whole_never_happens_and_that_is_found_out() {
    for rule in ["FREQ=SECONDLY", "FREQ=DAILY"] {
        let spec =
            RecurrenceSpec { except_rules: vec![rule.into()], ..spec("2026-03-02T10:00:00", "UTC", rule) };
        assert_eq!(Recurrence::new(&spec).unwrap_err(), RecurrenceError::NeverHappens);
    }
}

#[test]
fn a_date_that_is_a_period_lasts_as_long_as_it_says() {
    let spec = RecurrenceSpec {
        dates: vec![
            "2026-03-03T10:00:00/PT3H".into(),
            "2026-03-20T22:00:00/2026-03-21T06:00:00".into(),
            "2026-03-28T22:00:00/P1DT1H".into(),
            "2026-03-30".into(),
        ],
        ..daily()
    };
    let recurrence = Recurrence::new(&spec).unwrap();
    let hours: Vec<i64> = recurrence.all().map(|it| it.end.duration_since(it.start).as_hours()).collect();
    assert_eq!(hours, [1, 3, 1, 1, 1, 1, 8, 24, 1], "the 28th loses an hour");
    for wrong in [
        "2026-03-03T10:00:00/",
        "2026-03-03T10:00:00/2026-03-03T09:00:00",
        "2026-03-03T10:00:00/P",
        "2026-03-03T10:00:00/PT",
        "2026-03-03T10:00:00/PT1D",
    ] {
        let spec = RecurrenceSpec { dates: vec![wrong.into()], ..daily() };
        assert!(Recurrence::new(&spec).is_err(), "{wrong}");
    }
}

#[test]
fn a_nominal_day_ends_at_the_same_time_of_day_and_24_hours_do_not() {
    let start = |rule: &str| spec("2026-03-28T12:00:00", "Europe/Berlin", rule);
    let end = |spec: RecurrenceSpec| Recurrence::new(&spec).unwrap().all().next().unwrap().end;
    assert_eq!(end(RecurrenceSpec { nominal_days: 1, ..start("") }), at("2026-03-29T10:00:00Z"));
    let hours = |hours| Some(SignedDuration::from_hours(hours));
    assert_eq!(end(RecurrenceSpec { duration: hours(24), ..start("") }), at("2026-03-29T11:00:00Z"));
    assert_eq!(
        end(RecurrenceSpec { nominal_days: 1, duration: hours(2), ..start("") }),
        at("2026-03-29T12:00:00Z")
    );
    for nominal_days in [367, 366] {
        let spec = RecurrenceSpec { nominal_days, duration: hours(1), ..start("") };
        assert_eq!(Recurrence::new(&spec).unwrap_err(), RecurrenceError::Duration);
    }
}

#[test]
fn a_floating_event_is_the_same_spec_in_the_zone_of_whoever_looks() {
    let in_zone = |zone| instants(&recurrence("2026-03-28T12:00:00", zone, "FREQ=DAILY"), 2);
    assert_eq!(in_zone("Europe/Berlin"), ["2026-03-28T11:00:00Z", "2026-03-29T10:00:00Z"]);
    assert_eq!(in_zone("Asia/Seoul"), ["2026-03-28T03:00:00Z", "2026-03-29T03:00:00Z"]);
}
