//! When everyone is free, and what is suggested.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use calendar::{
    Booking, Candidate, FreeTime, HORIZON, NearestInHours, Occupancy, Ranking, Recurrence, RecurrenceSpec,
    Search, Steps, WorkingHours,
};
use jiff::civil::{Weekday, time};
use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::occupancy::{CAPACITIES, GivenBooking, MINUTE, NEEDS, Twin, clashes, given, index};
use crate::{at, spec};

type Index = Occupancy<u32, &'static str>;

fn meeting(start: &str, zone: &str, rule: &str, needs: &[&'static str]) -> Booking<&'static str> {
    let duration = Some(SignedDuration::from_hours(1));
    let spec = RecurrenceSpec { duration, ..spec(start, zone, rule) };
    Booking::new(Arc::new(Recurrence::new(&spec).unwrap()), needs.to_vec())
}

fn held(bookings: &[Booking<&'static str>]) -> Index {
    let mut index = Index::new(at("2026-01-01T00:00:00Z"), HORIZON);
    for (key, booking) in (0..).zip(bookings) {
        index.insert(key, booking);
    }
    index
}

fn enough() -> Steps {
    Steps::new(u64::MAX)
}

fn nearest(index: &Index, key: u32, booking: &Booking<&'static str>, search: &Search) -> Vec<FreeTime> {
    let found = index.nearest_free(&key, booking, search, &mut enough());
    assert!(!found.looked.is_short);
    found.times
}

fn firsts(found: &[FreeTime]) -> Vec<String> {
    found.iter().map(|it| it.first.start.to_string()).collect()
}

#[test]
fn everyone_is_free_where_nobody_is_busy() {
    let index = held(&[
        meeting("2026-01-05T10:00:00", "UTC", "FREQ=DAILY", &["ann"]),
        meeting("2026-01-05T10:30:00", "UTC", "FREQ=WEEKLY", &["ben", "room"]),
    ]);
    let (from, until) = (at("2026-01-12T09:00:00Z"), at("2026-01-12T18:00:00Z"));
    let free = index.free(&["ann", "ben", "nobody"], from, until);
    let free: Vec<_> = free.iter().map(|it| (it.start.to_string(), it.end.to_string())).collect();
    let want = [("09:00", "10:00"), ("11:30", "18:00")];
    assert_eq!(free, want.map(|(a, b)| (format!("2026-01-12T{a}:00Z"), format!("2026-01-12T{b}:00Z"))));
    assert!(index.free(&["ann"], until, from).is_empty());
}

#[test]
fn the_nearest_free_times_come_first_and_lie_on_the_grid() {
    let index = held(&[meeting("2026-01-05T10:00:00", "UTC", "", &["ann"])]);
    let new = meeting("2026-01-05T10:07:00", "UTC", "", &["ann"]);
    let found = nearest(&index, 9, &new, &Search::default());
    assert_eq!(firsts(&found), ["2026-01-05T11:00:00Z", "2026-01-05T09:00:00Z", "2026-01-05T11:15:00Z"]);
    assert_eq!(found[0].shift, SignedDuration::from_mins(53));
}

#[test]
fn a_series_is_moved_to_where_none_of_its_occurrences_clashes() {
    // At 11:00 only a single day is taken; that is enough.
    let index = held(&[
        meeting("2026-01-05T10:00:00", "Europe/Berlin", "FREQ=WEEKLY", &["ann"]),
        meeting("2026-06-15T11:00:00", "Europe/Berlin", "", &["ben"]),
        meeting("2026-11-02T08:30:00", "Europe/Berlin", "", &["ben"]),
    ]);
    let new = meeting("2026-01-05T10:00:00", "Europe/Berlin", "FREQ=WEEKLY", &["ann", "ben"]);
    let found =
        nearest(&index, 9, &new, &Search { grid: SignedDuration::from_mins(30), ..Search::default() });
    assert_eq!(found[0].shift, SignedDuration::from_hours(2));
    assert_eq!(found[1].shift, -SignedDuration::from_mins(150));
    // The shift applies to Berlin's clock: noon in summer too.
    assert_eq!(found[0].first.start, at("2026-01-05T11:00:00Z"));
}

#[test]
fn a_move_is_told_in_local_time_and_never_leads_to_the_past() {
    let busy = |from: &str| meeting(from, "UTC", "", &["ann"]);
    let index = held(&[busy("2026-03-29T00:00:00"), busy("2026-03-29T01:00:00")]);
    let search = Search { grid: SignedDuration::from_hours(1), count: 4, ..Search::default() };
    // From one to two o'clock. In Berlin, 02:00 does not exist on that day, and 04:00 is 02:00 UTC.
    let found = nearest(&index, 9, &meeting("2026-03-29T01:00:00", "Europe/Berlin", "", &["ann"]), &search);
    let later = found.iter().find(|it| it.shift > SignedDuration::ZERO).unwrap();
    assert_eq!((later.shift, later.first.start), (SignedDuration::from_hours(3), at("2026-03-29T02:00:00Z")));
    let index = held(&[busy("2026-01-01T00:00:00")]);
    let found = nearest(&index, 9, &busy("2026-01-01T00:00:00"), &search);
    assert_eq!(found[0].shift, SignedDuration::from_hours(1));
}

#[test]
fn whole_days_are_moved_by_whole_days() {
    let day = |date: &str| {
        let spec = RecurrenceSpec { ..spec(date, "Asia/Seoul", "") };
        Booking::new(Arc::new(Recurrence::new(&spec).unwrap()), vec!["ann"])
    };
    let index = held(&[day("2026-02-05"), day("2026-02-06")]);
    let found = nearest(&index, 9, &day("2026-02-05"), &Search::default());
    assert_eq!(found.iter().map(|it| it.shift.as_hours() / 24).collect::<Vec<_>>(), [-1, -2, 2],);
}

fn office(zone: &str) -> WorkingHours {
    use Weekday::{Friday, Monday, Thursday, Tuesday, Wednesday};
    let days = [Monday, Tuesday, Wednesday, Thursday, Friday];
    WorkingHours::new(zone, &days, time(9, 0, 0, 0), time(18, 0, 0, 0)).unwrap()
}

fn suggested(
    index: &Index,
    new: &Booking<&'static str>,
    people: &[(&'static str, WorkingHours)],
) -> Vec<String> {
    let people: BTreeMap<_, _> = people.iter().cloned().collect();
    let found = index.suggest(&9, new, &Search::default(), &people, &NearestInHours, &mut enough());
    found.times.iter().map(|it| it.time.first.start.to_string()).collect()
}

#[test]
fn suggestions_lie_in_the_hours_of_all_zones_where_they_can() {
    let index = held(&[]);
    // A Saturday in Seoul. Both work from Monday 17:00 to 18:00 in Seoul; 17:00 there is 09:00 in Berlin.
    let new = meeting("2026-01-10T15:00:00", "Asia/Seoul", "", &["ann", "min"]);
    let people = [("ann", office("Europe/Berlin")), ("min", office("Asia/Seoul"))];
    let found = suggested(&index, &new, &people);
    assert_eq!(found[0], "2026-01-09T08:00:00Z");
    assert!(WorkingHours::new("Mars", &[], time(9, 0, 0, 0), time(18, 0, 0, 0)).is_err());
}

#[test]
fn of_times_as_near_the_one_with_a_break_is_suggested() {
    let index = held(&[meeting("2026-01-05T10:00:00", "UTC", "", &["ann"])]);
    let new = meeting("2026-01-05T10:00:00", "UTC", "", &["ann"]);
    let found = suggested(&index, &new, &[("ann", office("UTC"))]);
    // A shift of an hour and a quarter is better than one of an hour, which is back to back.
    assert_eq!(found[0], "2026-01-05T11:15:00Z");
}

#[test]
fn night_shifts_work_past_midnight() {
    let night = WorkingHours::new("UTC", &[Weekday::Monday], time(22, 0, 0, 0), time(6, 0, 0, 0)).unwrap();
    let new = meeting("2026-01-06T08:00:00", "UTC", "", &["ann"]);
    // Monday night until six o'clock on Tuesday.
    assert_eq!(suggested(&held(&[]), &new, &[("ann", night)])[0], "2026-01-06T05:00:00Z");
}

#[test]
fn hours_that_touch_are_one_stretch() {
    use Weekday::{Friday, Monday, Saturday, Sunday, Thursday, Tuesday, Wednesday};
    let every = [Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday];
    let midnight = time(0, 0, 0, 0);
    let (from, until) = (at("2026-01-05T10:00:00Z"), at("2026-01-12T10:00:00Z"));
    for clock in [midnight, time(20, 0, 0, 0)] {
        let always = WorkingHours::new("Europe/Berlin", &every, clock, clock).unwrap();
        let found = always.within(from, until);
        assert_eq!((found.len(), found[0].start, found[0].end), (1, from, until));
        // From 23:30 to 00:30 is as good as any other time.
        let new = meeting("2026-01-06T22:30:00", "UTC", "", &["ann"]);
        let busy = held(&[meeting("2026-01-06T22:15:00", "UTC", "", &["ann"])]);
        let first = &suggested(&busy, &new, &[("ann", always.clone())])[0];
        assert_eq!(first, "2026-01-06T23:30:00Z", "{clock}");
        let index = held(&[]);
        let people = BTreeMap::from([("ann", always)]);
        let found = index.suggest(&9, &new, &Search::default(), &people, &NearestInHours, &mut enough());
        let best = &found.times[0];
        assert_eq!((best.time.shift, best.outside_hours), (SignedDuration::ZERO, 0), "{clock}");
    }
    let weekend = WorkingHours::new("UTC", &[Saturday, Sunday], midnight, midnight).unwrap();
    let found = weekend.within(at("2026-01-05T00:00:00Z"), at("2026-01-19T00:00:00Z"));
    let hours: Vec<i64> = found.iter().map(|it| it.end.duration_since(it.start).as_hours()).collect();
    assert_eq!(hours, [48, 48], "two weekends, each whole");
}

#[test]
fn a_ranking_of_someone_else_decides_and_ties_go_by_time() {
    struct AllAlike;
    impl Ranking for AllAlike {
        fn costs(&self, _: &[Candidate]) -> Vec<u64> {
            Vec::new()
        }
    }
    let index = held(&[]);
    let new = meeting("2026-01-05T10:00:00", "UTC", "", &["ann"]);
    let found = index.suggest(&9, &new, &Search::default(), &BTreeMap::new(), &AllAlike, &mut enough()).times;
    // The earliest of the 32 nearest times: sixteen quarters of an hour before.
    assert_eq!(found[0].time.first.start, at("2026-01-05T06:00:00Z"));
}

/// The moves of a booking that a minute-by-minute search finds free.
fn free_moves(twin: &Twin, given: &GivenBooking, search: &Search) -> Vec<SignedDuration> {
    let recurrence = &given.recurrence;
    let minutes = twin.minutes(|_| true);
    let ahead = recurrence.all().take_while(|it| it.start < twin.until());
    let starts: Vec<_> = ahead.filter(|it| it.start >= twin.now && it.start < it.end).collect();
    let Some(first) = starts.first() else { return Vec::new() };
    let real = recurrence.rules().iter().any(|rule| rule.frequency().is_sub_daily());
    let midnight = first.local_start.date().to_datetime(time(0, 0, 0, 0));
    let into_day = first.local_start.duration_since(midnight).as_mins();
    let reach = search.reach.as_mins();
    let grid = if recurrence.is_all_day() { 1440 } else { search.grid.as_mins() };
    let mut shifts: Vec<i64> =
        (-reach..=reach).filter(|shift| (into_day + shift).rem_euclid(grid) == 0).collect();
    shifts.sort_by_key(|shift| (shift.abs(), *shift));
    let is_free = |shift: &i64| {
        let shift = SignedDuration::from_mins(*shift);
        let moved = |local: jiff::civil::DateTime| {
            (local + shift).to_zoned(recurrence.zone().clone()).unwrap().timestamp()
        };
        let events: Vec<[i64; 4]> = starts
            .iter()
            .map(|it| {
                let start = if real { it.start + shift } else { moved(it.local_start) };
                let days =
                    SignedDuration::from_hours((it.end.duration_since(it.start).as_hours() + 12) / 24 * 24);
                let end = if recurrence.is_all_day() {
                    moved(it.local_start + days)
                } else {
                    start + it.end.duration_since(it.start)
                };
                [start, end].map(|t: Timestamp| t.as_second() / MINUTE)
            })
            .map(|[start, end]| [start, end, start - given.before as i64, end + given.after as i64])
            .collect();
        events.iter().all(|event| event[0] * MINUTE >= twin.now.as_second())
            && clashes(given, &events, &minutes, CAPACITIES).is_empty()
    };
    shifts.into_iter().filter(is_free).take(search.count).map(SignedDuration::from_mins).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn free_times_are_those_that_a_look_at_each_minute_finds(
        all in vec(given(), 1..9), asked in given(), later in 0..4000i64, grid in 1..90i64,
    ) {
        let mut twin = Twin::new();
        let mut index = index(twin.now);
        for (key, given) in (0..).zip(all) {
            index.insert(key, &given.booking());
            twin.held.insert(key, given);
        }
        twin.now += SignedDuration::from_mins(later);
        index.advance(twin.now);

        let from = twin.now + SignedDuration::from_hours(7);
        let found = index.free(&asked.needs, from, from + SignedDuration::from_hours(72));
        let minute = |t: Timestamp| t.as_second() / MINUTE;
        let found: Vec<i64> = found.iter().flat_map(|it| minute(it.start)..minute(it.end)).collect();
        let minutes = twin.minutes(|_| true);
        let is_free = |minute: &i64| {
            NEEDS.iter().zip(CAPACITIES).filter(|(need, _)| asked.needs.contains(need)).all(|(need, capacity)| {
                let holders = minutes.get(&(*need, *minute)).map_or(&[][..], Vec::as_slice);
                holders.iter().map(|it| it.0).collect::<BTreeSet<_>>().len() < capacity as usize
            })
        };
        let window = minute(from)..minute(from) + 72 * 60;
        prop_assert_eq!(found, window.filter(is_free).collect::<Vec<_>>());

        let search = Search { grid: SignedDuration::from_mins(grid), reach: SignedDuration::from_hours(40), count: 4 };
        let found = nearest(&index, 99, &asked.booking(), &search);
        let found: Vec<SignedDuration> = found.iter().map(|it| it.shift).collect();
        prop_assert_eq!(found, free_moves(&twin, &asked, &search));
    }
}
