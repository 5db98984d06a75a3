//! Prints what a search for other times costs. Compares ordinary searches with a simple one that tries each move
//! against each occurrence and need, and measures the largest searches within the steps that the operator allows.
//!
//! Run: `cargo run --release -p belfry-calendar --example suggest`.
#![allow(clippy::print_stdout, reason = "a tool that prints")]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use calendar::{
    Booking, FreeTimeQuery, HORIZON, NearestInHours, Occupancy, Recurrence, RecurrenceSpec, Search, Steps,
    WorkingHours,
};
use jiff::civil::{Weekday, time};
use jiff::{SignedDuration, Timestamp};

type BoxError = Box<dyn Error>;
type StringIndex = Occupancy<u32, String>;

/// The steps that the operator gives a search.
const STEPS: u64 = 2_000_000;
const NOW: i64 = 1_767_225_600;
/// Meetings of each person and room.
const MEETINGS: u32 = 5;

struct SearchCase {
    name: &'static str,
    people: usize,
    rooms: usize,
    rule: &'static str,
    search: Search,
    /// Whether to run the simple search too, which takes long.
    beside: bool,
}

fn main() -> Result<(), BoxError> {
    let hours = SignedDuration::from_hours;
    let fine = Search { grid: SignedDuration::from_mins(1), reach: hours(720), count: 10 };
    let cases = [
        SearchCase {
            name: "8 people, 2 rooms, weekly",
            people: 8,
            rooms: 2,
            rule: "FREQ=WEEKLY",
            search: Search::default(),
            beside: true,
        },
        SearchCase {
            name: "8 people, 2 rooms, daily",
            people: 8,
            rooms: 2,
            rule: "FREQ=DAILY",
            search: Search::default(),
            beside: true,
        },
        SearchCase {
            name: "5 people, daily, 720h/1m",
            people: 5,
            rooms: 0,
            rule: "FREQ=DAILY",
            search: fine,
            beside: false,
        },
        SearchCase {
            name: "100 people, 32 rooms, daily, 720h/1m",
            people: 100,
            rooms: 32,
            rule: "FREQ=DAILY",
            search: fine,
            beside: false,
        },
        SearchCase {
            name: "100 people, 32 rooms, hourly, 720h/1m",
            people: 100,
            rooms: 32,
            rule: "FREQ=HOURLY",
            search: fine,
            beside: false,
        },
        SearchCase {
            name: "100 people, 32 rooms, minutely, 720h/1m",
            people: 100,
            rooms: 32,
            rule: "FREQ=MINUTELY",
            search: fine,
            beside: false,
        },
    ];
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    for case in &cases {
        let (index, booking, people) = full_index(case)?;
        let began = Instant::now();
        let mut steps = Steps::new(STEPS);
        let mut question = FreeTimeQuery::new(booking.clone(), case.search, index.ahead(), &mut steps);
        for name in question.names(&people) {
            index.copy(&mut question, &u32::MAX, &name, &mut steps);
        }
        let copied = began.elapsed();
        let found = question.suggest(&people, &NearestInHours, &mut steps);
        let took = began.elapsed();
        println!(
            "{profile}: {}: {:.2} ms ({:.2} with the index at hand), {} steps, {} times, {:?}",
            case.name,
            took.as_secs_f64() * 1e3,
            copied.as_secs_f64() * 1e3,
            STEPS - steps.left(),
            found.times.len(),
            found.looked,
        );
        if case.beside {
            let began = Instant::now();
            let nearest = index.nearest_free(&u32::MAX, &booking, &case.search, &mut Steps::new(STEPS));
            let took = began.elapsed();
            let began = Instant::now();
            let simple = simple_search(&index, &booking, &case.search)?;
            let same = nearest.times.iter().map(|time| time.shift).eq(simple.iter().copied());
            println!(
                "{profile}: {}: the nearest {} {:.2} ms; {:.2} ms for each move against each occurrence and need; the same: {same}",
                case.name,
                simple.len(),
                took.as_secs_f64() * 1e3,
                began.elapsed().as_secs_f64() * 1e3,
            );
            if !same {
                return Err("the searches disagree".into());
            }
        }
    }
    Ok(())
}

fn series(start: i64, rule: &str, minutes: i64, needs: Vec<String>) -> Result<Booking<String>, BoxError> {
    let start = Timestamp::from_second(start)?.to_string();
    let spec = RecurrenceSpec {
        start: start.trim_end_matches('Z').to_owned(),
        time_zone: "UTC".to_owned(),
        duration: Some(SignedDuration::from_mins(minutes)),
        rule: Some(rule.to_owned()),
        ..RecurrenceSpec::default()
    };
    Ok(Booking::new(Arc::new(Recurrence::new(&spec)?), needs))
}

/// An index in which every person and room has meetings during the day, one of them at 10:00; and the booking to
/// move, which is at 10:00 too.
#[allow(clippy::type_complexity, reason = "three things of one case")]
fn full_index(
    case: &SearchCase,
) -> Result<(StringIndex, Booking<String>, BTreeMap<String, WorkingHours>), BoxError> {
    let mut index = StringIndex::new(Timestamp::from_second(NOW)?, HORIZON);
    let mut needs = Vec::new();
    let mut people = BTreeMap::new();
    for number in 0..case.people + case.rooms {
        let name = format!("need-{number}");
        for meeting in 0..MEETINGS {
            let hour = 8 + (number as i64 * 7 + i64::from(meeting) * 3) % 9;
            let rule = ["FREQ=DAILY", "FREQ=WEEKLY", "FREQ=WEEKLY;BYDAY=MO,WE"][meeting as usize % 3];
            let key = number as u32 * MEETINGS + meeting;
            index.insert(key, &series(NOW + hour * 3600, rule, 30, vec![name.clone()])?);
        }
        if number < case.people {
            let days =
                [Weekday::Monday, Weekday::Tuesday, Weekday::Wednesday, Weekday::Thursday, Weekday::Friday];
            people
                .insert(name.clone(), WorkingHours::new("UTC", &days, time(9, 0, 0, 0), time(18, 0, 0, 0))?);
        }
        needs.push(name);
    }
    let minutes = if case.rule.contains("MINUTELY") { 1 } else { 30 };
    Ok((index, series(NOW + 10 * 3600, case.rule, minutes, needs)?, people))
}

/// The nearest moves under which each occurrence is free for each need, tried one by one.
fn simple_search(
    index: &StringIndex,
    booking: &Booking<String>,
    search: &Search,
) -> Result<Vec<SignedDuration>, BoxError> {
    let now = Timestamp::from_second(NOW)?;
    let until = now + HORIZON;
    let events: Vec<(Timestamp, Timestamp)> = booking
        .recurrence()
        .occurrences(now)
        .take_while(|it| it.start < until)
        .map(|it| (it.start, it.end))
        .collect();
    let grid = search.grid.as_mins();
    let steps = search.reach.as_mins() / grid;
    let mut moves: Vec<i64> = (-steps..=steps).map(|step| step * grid).collect();
    moves.sort_by_key(|minutes| (minutes.abs(), *minutes));
    let mut found = Vec::new();
    for shift in moves.into_iter().map(SignedDuration::from_mins) {
        let is_free = |need: &String| {
            events.iter().all(|(start, end)| {
                let (start, end) = (*start + shift, *end + shift);
                // The index holds nothing beyond the horizon.
                start >= now
                    && index
                        .free(std::slice::from_ref(need), start, end.min(until))
                        .iter()
                        .any(|free| free.start == start && free.end >= end.min(until))
                    || start >= until
            })
        };
        if booking.needs().iter().all(is_free) {
            found.push(shift);
        }
        if found.len() == search.count {
            break;
        }
    }
    Ok(found)
}
