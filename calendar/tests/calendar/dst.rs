//! Local times that don't exist or exist twice.

use calendar::{Dst, Fold, Gap, Recurrence, RecurrenceSpec};

use crate::{at, instants, locals, recurrence, spec};

fn with(dst: Dst, start: &str, zone: &str, rule: &str) -> Recurrence {
    Recurrence::new(&RecurrenceSpec { dst, ..spec(start, zone, rule) }).unwrap()
}

const SKIP: Dst = Dst { gap: Gap::Skip, fold: Fold::First };
const LAST: Dst = Dst { gap: Gap::ShiftForward, fold: Fold::Last };
const BOTH: Dst = Dst { gap: Gap::ShiftForward, fold: Fold::Both };

#[test]
fn a_time_in_the_gap_is_read_with_the_offset_before_it() {
    let daily = recurrence("2026-03-07T02:30:00", "America/New_York", "FREQ=DAILY");
    assert_eq!(locals(&daily, 3), ["2026-03-07 02:30", "2026-03-08 03:30", "2026-03-09 02:30"]);
    let second = daily.all().nth(1).unwrap();
    assert_eq!(second.id(), "2026-03-08T02:30:00");
    assert_eq!(second.start, at("2026-03-08T07:30:00Z"));
}

#[test]
fn a_time_in_the_gap_is_skipped_on_request() {
    let daily = with(SKIP, "2026-03-07T02:30:00", "America/New_York", "FREQ=DAILY");
    assert_eq!(locals(&daily, 2), ["2026-03-07 02:30", "2026-03-09 02:30"]);
}

#[test]
fn count_does_not_count_what_a_gap_leaves_out() {
    let (york, apia) = ("America/New_York", "Pacific/Apia");
    let daily = with(SKIP, "2007-03-10T02:30:00", york, "FREQ=DAILY;COUNT=3");
    assert_eq!(locals(&daily, 9), ["2007-03-10 02:30", "2007-03-12 02:30", "2007-03-13 02:30"]);
    let moved = recurrence("2007-03-10T02:30:00", york, "FREQ=DAILY;COUNT=3");
    assert_eq!(locals(&moved, 9), ["2007-03-10 02:30", "2007-03-11 03:30", "2007-03-12 02:30"]);
    let wanted = ["2011-12-29 10:00", "2011-12-31 10:00", "2012-01-01 10:00"];
    assert_eq!(locals(&with(SKIP, "2011-12-29T10:00:00", apia, "FREQ=DAILY;COUNT=3"), 9), wanted);
    let wanted = ["2011-12-29 00:00", "2011-12-31 00:00", "2012-01-01 00:00"];
    assert_eq!(locals(&with(SKIP, "2011-12-29", apia, "FREQ=DAILY;COUNT=3"), 9), wanted);
    // A start in the gap, and rules of which the gap takes all occurrences but one over years.
    let first = with(SKIP, "2007-03-11T02:30:00", york, "FREQ=DAILY;COUNT=2");
    assert_eq!(locals(&first, 9), ["2007-03-12 02:30", "2007-03-13 02:30"]);
    let sundays =
        with(SKIP, "2007-03-04T02:30:00", york, "FREQ=YEARLY;BYMONTH=3;BYDAY=1SU,2SU;BYHOUR=2,3;COUNT=5");
    let wanted =
        ["2007-03-04 02:30", "2007-03-04 03:30", "2007-03-11 03:30", "2008-03-02 02:30", "2008-03-02 03:30"];
    assert_eq!(locals(&sundays, 9), wanted);
    let all = with(SKIP, "2007-03-10T02:30:00", york, "FREQ=DAILY;COUNT=999999999");
    assert!(all.before(jiff::Timestamp::MAX).is_some(), "the end is found");
    let never = "FREQ=YEARLY;BYMONTH=3;BYDAY=2SU;COUNT=5";
    let never = RecurrenceSpec { dst: SKIP, ..spec("2007-03-11T02:30:00", york, never) };
    assert!(Recurrence::new(&never).is_err(), "all that there is lies in the gap");
    // COUNT includes what a date takes out.
    let excepted = RecurrenceSpec {
        except_dates: vec!["2007-03-12".to_owned()],
        dst: SKIP,
        ..spec("2007-03-10T02:30:00", york, "FREQ=DAILY;COUNT=3")
    };
    let excepted = Recurrence::new(&excepted).unwrap();
    assert_eq!(locals(&excepted, 9), ["2007-03-10 02:30", "2007-03-13 02:30"]);
}

#[test]
fn a_time_that_exists_twice_happens_first_last_or_both() {
    let (start, zone, rule) = ("2026-10-31T01:30:00", "America/New_York", "FREQ=DAILY;COUNT=3");
    let (first, last) = ("2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z");
    assert_eq!(instants(&recurrence(start, zone, rule), 9)[1], first);
    assert_eq!(instants(&with(LAST, start, zone, rule), 9)[1], last);
    let both = with(BOTH, start, zone, rule);
    assert_eq!(instants(&both, 9)[1..3], [first, last]);
    assert_eq!(both.all().count(), 4, "COUNT counts local times");
    let ids: Vec<String> = both.all().map(|it| it.id()).collect();
    assert_eq!(ids[1..3], ["2026-11-01T01:30:00", "2026-11-01T01:30:00/2"]);
    assert_eq!(both.find(&ids[2]).unwrap().start, at(last));
}

#[test]
fn occurrences_around_a_gap_stay_in_order_and_come_once() {
    let rule = "FREQ=DAILY;BYHOUR=2,3;BYMINUTE=0,30";
    let both = recurrence("2026-03-29T02:00:00", "Europe/Berlin", rule);
    let wanted = ["2026-03-29 03:00", "2026-03-29 03:30", "2026-03-30 02:00"];
    assert_eq!(locals(&both, 3), wanted);
    assert_eq!(both.all().next().unwrap().id(), "2026-03-29T03:00:00", "the time that exists gives its name");
}

#[test]
fn occurrences_in_a_fold_interleave_when_both_happen() {
    let rule = "FREQ=DAILY;BYHOUR=2;BYMINUTE=0,30";
    let both = with(BOTH, "2026-10-25T02:00:00", "Europe/Berlin", rule);
    let wanted =
        ["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"];
    assert_eq!(instants(&both, 4), wanted);
}

#[test]
fn seoul_has_no_changes_and_the_wall_clock_stays_elsewhere() {
    let seoul = recurrence("2026-01-05T10:00:00", "Asia/Seoul", "FREQ=MONTHLY");
    assert!(instants(&seoul, 24).iter().all(|it| it.ends_with("T01:00:00Z")));
    let berlin = recurrence("2026-01-05T10:00:00", "Europe/Berlin", "FREQ=MONTHLY");
    assert!(locals(&berlin, 24).iter().all(|it| it.ends_with("10:00")));
    assert_eq!(instants(&berlin, 7)[0], "2026-01-05T09:00:00Z");
    assert_eq!(instants(&berlin, 7)[6], "2026-07-05T08:00:00Z");
}

#[test]
fn lord_howe_moves_by_half_an_hour() {
    let zone = "Australia/Lord_Howe";
    // 2026-10-04 02:00 becomes 02:30; 2026-04-05 02:00 becomes 01:30.
    let gap = recurrence("2026-10-03T02:15:00", zone, "FREQ=DAILY");
    assert_eq!(locals(&gap, 2)[1], "2026-10-04 02:45");
    let fold = with(BOTH, "2026-04-05T01:45:00", zone, "FREQ=DAILY");
    assert_eq!(instants(&fold, 2), ["2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z"]);
    let hourly = recurrence("2026-10-04T00:00:00", zone, "FREQ=HOURLY");
    assert_eq!(
        locals(&hourly, 4),
        ["2026-10-04 00:00", "2026-10-04 01:00", "2026-10-04 02:30", "2026-10-04 03:30"]
    );
    let read = recurrence("2026-10-04T00:00:00", zone, "FREQ=HOURLY;BYMINUTE=0");
    assert_eq!(locals(&read, 3), ["2026-10-04 00:00", "2026-10-04 01:00", "2026-10-04 03:00"]);
}

#[test]
fn samoa_has_no_30_december_2011() {
    let zone = "Pacific/Apia";
    let daily = recurrence("2011-12-29T10:00:00", zone, "FREQ=DAILY");
    assert_eq!(locals(&daily, 3), ["2011-12-29 10:00", "2011-12-31 10:00", "2012-01-01 10:00"]);
    let yearly = recurrence("2010-12-30T10:00:00", zone, "FREQ=YEARLY");
    assert_eq!(locals(&yearly, 3), ["2010-12-30 10:00", "2011-12-31 10:00", "2012-12-30 10:00"]);
    let skipped = with(SKIP, "2010-12-30T10:00:00", zone, "FREQ=YEARLY");
    assert_eq!(locals(&skipped, 2), ["2010-12-30 10:00", "2012-12-30 10:00"]);
    let all_day = recurrence("2011-12-29", zone, "FREQ=DAILY");
    assert_eq!(locals(&all_day, 3), ["2011-12-29 00:00", "2011-12-31 00:00", "2012-01-01 00:00"]);
    let no_day = with(SKIP, "2011-12-30", zone, "FREQ=YEARLY");
    assert_eq!(locals(&no_day, 1), ["2012-12-30 00:00"]);
}

#[test]
fn hourly_stays_hourly_across_both_changes() {
    for day in ["2026-03-08", "2026-11-01"] {
        let hourly = recurrence(&format!("{day}T00:00:00"), "America/New_York", "FREQ=HOURLY;COUNT=6");
        let starts: Vec<i64> = hourly.all().map(|it| it.start.as_second()).collect();
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == 3600), "{day}");
        assert_eq!(starts.len(), 6);
    }
}

#[test]
fn an_all_day_occurrence_lasts_from_midnight_to_midnight_whatever_the_clocks_do() {
    let days = recurrence("2026-03-07", "America/New_York", "FREQ=DAILY;COUNT=3");
    let hours: Vec<i64> = days.all().map(|it| it.end.duration_since(it.start).as_hours()).collect();
    assert_eq!(hours, [24, 23, 24]);
}

#[test]
fn an_all_day_occurrence_begins_where_a_gap_at_midnight_ends() {
    // Clocks in Beirut went from 00:00 to 01:00 on 2024-03-31; the policy Skip does not lose the day.
    let days = with(SKIP, "2024-03-30", "Asia/Beirut", "FREQ=DAILY");
    assert_eq!(locals(&days, 3), ["2024-03-30 00:00", "2024-03-31 01:00", "2024-04-01 00:00"]);
}

#[test]
fn the_duration_is_exact_across_a_change() {
    let night = Recurrence::new(&RecurrenceSpec {
        duration: Some(jiff::SignedDuration::from_hours(8)),
        ..spec("2026-03-07T22:00:00", "America/New_York", "")
    })
    .unwrap();
    assert_eq!(night.all().next().unwrap().end, at("2026-03-08T11:00:00Z"));
}

#[test]
fn until_in_utc_is_compared_as_an_instant() {
    // 01:30 exists twice; UNTIL lies between the two.
    let rule = "FREQ=DAILY;UNTIL=20261101T060000Z";
    assert_eq!(with(BOTH, "2026-10-31T01:30:00", "America/New_York", rule).all().count(), 2);
    assert_eq!(with(LAST, "2026-10-31T01:30:00", "America/New_York", rule).all().count(), 1);
}
