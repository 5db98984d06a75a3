//! A simple search that tries each move against each occurrence, need and held event. The real search must find the
//! same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::{Weekday, time};
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::conflict::{Booking, first_clash};
use crate::days::DAY;
use crate::free::Search;
use crate::moves::MovableSeries;
use crate::occupancy::Occupancy;
use crate::recurrence::Recurrence;
use crate::spans::Span;
use crate::spec::{Override, RecurrenceSpec};
use crate::steps::Steps;
use crate::suggest::{Candidate, NearestInHours, Ranking, WorkingHours};
use crate::zone::timestamp;
use crate::{Dst, Fold, Gap};

type Index = Occupancy<u32, &'static str>;
type People = BTreeMap<&'static str, WorkingHours>;

const NEAR: i64 = 600;

/// The free moves, nearest first, each with its events.
fn free(index: &Index, key: u32, booking: &Booking<&'static str>, search: &Search) -> Vec<(i64, Vec<Span>)> {
    let mut steps = Steps::new(u64::MAX);
    let series = MovableSeries::new(&booking.recurrence, index.ahead(), &mut steps).unwrap();
    let Some(first) = series.first() else { return Vec::new() };
    let grid = if booking.recurrence.is_all_day() { DAY } else { search.grid.as_secs() };
    let reach = search.reach.as_secs();
    let mut shifts: Vec<i64> =
        (-reach..=reach).filter(|shift| (first.rem_euclid(DAY) + shift).rem_euclid(grid) == 0).collect();
    shifts.sort_unstable_by_key(|shift| (shift.abs(), *shift));
    let clashes = |event: Span| {
        booking.needs.iter().filter_map(|name| index.find(name)).any(|need| {
            let holds = index.held_between(need, booking.buffers.around(event), Some(&key));
            first_clash(event, booking.buffers, &holds, need.capacity, |_| false).is_some()
        })
    };
    let moved = |shift: i64| {
        let events: Vec<Span> = (0..series.len()).flat_map(|index| series.moved(index, shift)).collect();
        let is_free = !events.is_empty()
            && events.iter().all(|event| event.start >= index.ahead().now && !clashes(*event));
        is_free.then_some((shift, events))
    };
    shifts.into_iter().filter_map(moved).collect()
}

fn covers(hours: &WorkingHours, event: Span) -> bool {
    let day = timestamp(event.start).to_zoned(jiff::tz::TimeZone::UTC).date();
    let near: Vec<Span> = (-2..=8).filter_map(|by| hours.day(day.checked_add(by.days()).unwrap())).collect();
    let mut covered = event.start;
    while covered < event.end
        && let Some(day) = near.iter().find(|day| day.start <= covered && covered < day.end)
    {
        covered = day.end;
    }
    covered >= event.end
}

fn suggested(
    index: &Index,
    key: u32,
    booking: &Booking<&'static str>,
    search: &Search,
    people: &People,
) -> Vec<Candidate> {
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for (shift, events) in free(index, key, booking, search) {
        let uncovered = |event: &Span| people.values().filter(|hours| !covers(hours, *event)).count();
        let outside_hours = events.iter().map(uncovered).sum();
        let busy = |side: Span| {
            let needs = people.keys().filter_map(|name| index.find(name));
            let holds = needs.map(|need| index.held_between(need, side, Some(&key)));
            holds
                .filter(|holds| holds.iter().any(|it| it.event.start < side.end && side.start < it.event.end))
                .count()
        };
        let sides = events.iter().flat_map(|event| {
            [
                Span { start: event.start - NEAR, end: event.start },
                Span { start: event.end, end: event.end + NEAR },
            ]
        });
        let time = crate::free_time_query::free_time(shift, &events).unwrap();
        let candidate =
            Candidate { time, occurrences: events.len(), outside_hours, back_to_back: sides.map(busy).sum() };
        let list = if outside_hours == 0 { &mut inside } else { &mut outside };
        if list.len() < 32 {
            list.push(candidate);
        }
        if inside.len() == 32 {
            break;
        }
    }
    inside.append(&mut outside);
    let costs = NearestInHours.costs(&inside);
    let mut ranked: Vec<_> = costs.into_iter().zip(inside).collect();
    ranked.sort_by_key(|(cost, candidate)| (*cost, candidate.time.first.start));
    ranked.into_iter().map(|(_, candidate)| candidate).take(search.count).collect()
}

const NAMES: [&str; 4] = ["ann", "ben", "hall", "pool"];
const ZONES: [&str; 5] =
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago"];

#[derive(Debug, Clone)]
struct GivenBooking {
    spec: RecurrenceSpec,
    needs: Vec<&'static str>,
    buffers: (u64, u64),
}

impl GivenBooking {
    fn booking(&self) -> Booking<&'static str> {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let recurrence = Arc::new(Recurrence::new(&self.spec).unwrap());
        let (before, after) = self.buffers;
        Booking::new(recurrence, self.needs.clone()).with_buffers(minutes(before), minutes(after))
    }
}

/// Bookings around a change of the clocks in spring or in autumn.
fn given(autumn: bool) -> impl Strategy<Value = GivenBooking> {
    let rule = select(vec![
        "",
        "",
        "FREQ=DAILY",
        "FREQ=DAILY;INTERVAL=2;COUNT=9",
        "FREQ=WEEKLY;BYDAY=MO,WE,FR",
        "FREQ=WEEKLY;BYDAY=SU;BYHOUR=1,2",
        "FREQ=HOURLY;INTERVAL=7",
        "FREQ=HOURLY;INTERVAL=25;COUNT=4",
    ]);
    let dst = select(vec![
        Dst::default(),
        Dst { gap: Gap::Skip, fold: Fold::Last },
        Dst { gap: Gap::ShiftForward, fold: Fold::Both },
    ]);
    let minutes = prop_oneof![4 => 1..120i64, 1 => 0..2000i64, 1 => Just(1440)];
    let buffer = || prop_oneof![2 => Just(0u64), 1 => 0..90u64];
    let start = (0..14i64, 0..1440i64, select(ZONES.to_vec()));
    let length = (minutes, select(vec![0, 0, 1u16]), any::<bool>(), any::<bool>());
    (rule, dst, start, length, buffer(), buffer(), subsequence(NAMES.to_vec(), 0..=4)).prop_map(
        move |(rule, dst, (day, minute, zone), length, before, after, needs)| {
            let (minutes, nominal_days, all_day, moved) = length;
            let first = if autumn { jiff::civil::date(2026, 10, 22) } else { jiff::civil::date(2026, 3, 26) };
            let date = first.checked_add(day.days()).unwrap();
            let all_day = all_day && !rule.contains("HOUR");
            let start = if all_day {
                date.to_string()
            } else {
                format!("{date}T{:02}:{:02}:00", minute / 60, minute % 60)
            };
            let longer = Override {
                recurrence_id: start.clone(),
                duration: Some(SignedDuration::from_mins(200)),
                ..Override::default()
            };
            let plain = moved && !all_day && rule == "FREQ=DAILY" && dst == Dst::default();
            let spec = RecurrenceSpec {
                start,
                time_zone: zone.to_owned(),
                rule: (!rule.is_empty()).then(|| rule.to_owned()),
                duration: (!all_day).then(|| SignedDuration::from_mins(minutes)),
                nominal_days: if all_day { 0 } else { nominal_days },
                dst,
                overrides: if plain { vec![longer] } else { Vec::new() },
                ..RecurrenceSpec::default()
            };
            GivenBooking { spec, needs, buffers: (before, after) }
        },
    )
}

fn people() -> impl Strategy<Value = People> {
    let days = subsequence(
        vec![Weekday::Monday, Weekday::Tuesday, Weekday::Saturday, Weekday::Sunday, Weekday::Friday],
        1..=5,
    );
    let around_the_clock = prop::bool::weighted(0.3);
    let hours = (select(ZONES.to_vec()), days, 0..24i8, 0..24i8, around_the_clock).prop_map(
        |(zone, days, from, to, around_the_clock)| {
            let from = time(from, 0, 0, 0);
            let to = if around_the_clock { from } else { time(to, 30, 0, 0) };
            WorkingHours::new(zone, &days, from, to).unwrap()
        },
    );
    prop::collection::btree_map(select(vec!["ann", "ben", "joe"]), hours, 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn free_times_and_suggestions_are_those_of_the_simple_search(
        (all, asked) in any::<bool>().prop_flat_map(|autumn| (vec(given(autumn), 0..7), given(autumn))),
        people in people(), later in 0..9000i64, grid in select(vec![1, 7, 15, 60, 240]), count in 1..12usize,
    ) {
        let autumn = asked.spec.start.starts_with("2026-1");
        let now: Timestamp = if autumn { "2026-10-20T00:00:00Z" } else { "2026-03-24T00:00:00Z" }.parse().unwrap();
        let mut index = Index::new(now, SignedDuration::from_hours(16 * 24));
        index.set_capacity(&"hall", 2);
        index.set_capacity(&"pool", 3);
        for (key, given) in (0..).zip(&all) {
            index.insert(key, &given.booking());
        }
        index.insert(99, &asked.booking());
        index.advance(now + SignedDuration::from_mins(later));
        let reach = SignedDuration::from_hours(if grid < 7 { 5 } else { 60 });
        let search = Search { grid: SignedDuration::from_mins(grid), reach, count };
        let booking = asked.booking();
        let found = index.nearest_free(&99, &booking, &search, &mut Steps::new(u64::MAX));
        let want: Vec<_> = free(&index, 99, &booking, &search)
            .into_iter()
            .filter_map(|(shift, events)| crate::free_time_query::free_time(shift, &events))
            .take(count)
            .collect();
        prop_assert_eq!(&found.times, &want);
        prop_assert!(!found.looked.is_short);

        let found = index.suggest(&99, &booking, &search, &people, &NearestInHours, &mut Steps::new(u64::MAX));
        prop_assert_eq!(&found.times, &suggested(&index, 99, &booking, &search, &people));

        // With fewer steps it must not claim to have looked at more than it did, nor return a time that clashes.
        let all: Vec<_> = free(&index, 99, &booking, &search).into_iter().map(|(shift, _)| shift).collect();
        for most in [50, 500, 5000] {
            let mut steps = Steps::new(most);
            let few = index.nearest_free(&99, &booking, &search, &mut steps);
            let shifts: Vec<i64> = few.times.iter().map(|time| time.shift.as_secs()).collect();
            prop_assert_eq!(&all[..shifts.len()], &shifts[..], "{:?}", few.looked);
            let within = few.looked.within.map_or(-1, |within| within.as_secs());
            let looked_at = all.iter().filter(|shift| shift.abs() <= within).count();
            let fits = shifts.len() == count || shifts.len() >= looked_at && few.looked.is_short
                || shifts.len() == all.len();
            prop_assert!(fits, "{:?} of {} to {}", few.looked, shifts.len(), looked_at);
        }
    }
}
