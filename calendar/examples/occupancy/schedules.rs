//! What the index costs with 10,000 schedules, of which each person and room has 20.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use calendar::{Booking, HORIZON, Occupancy, Recurrence, RecurrenceSpec, Search, Steps};
use jiff::{SignedDuration, Timestamp};

use crate::{BoxError, XorShift};

const COUNT: u64 = 10_000;
/// Two people and a room for each schedule.
const NEEDS: u64 = 3;
const PLACES: u64 = COUNT * NEEDS / 20;
const RULES: [&str; 4] =
    ["FREQ=WEEKLY", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR", "FREQ=DAILY", "FREQ=WEEKLY;INTERVAL=2"];
const ZONES: [&str; 4] = ["Europe/Berlin", "America/New_York", "Asia/Seoul", "UTC"];

pub(crate) fn print_figures() -> Result<(), BoxError> {
    let mut now = Timestamp::from_second(1_767_225_600)?;
    let before = resident_bytes()?;
    let mut random = XorShift(3);
    let bookings = (0..COUNT).map(|_| booking(&mut random)).collect::<Result<Vec<_>, _>>()?;
    let made = resident_bytes()?;
    let mut index: Occupancy<u64, u64> = Occupancy::new(now, HORIZON);
    let began = Instant::now();
    for (key, booking) in (0..).zip(&bookings) {
        index.insert(key, booking);
    }
    let inserting = began.elapsed();
    let held = resident_bytes()?;
    println!(
        "{COUNT} schedules, three needs each: {:.0} bytes a schedule in the index, {:.0} bytes its recurrence; insert {:.1} us",
        (held - made) / COUNT as f64,
        (made - before) / COUNT as f64,
        inserting.as_secs_f64() * 1e6 / COUNT as f64
    );

    let (mut checks, mut clean, mut searches) = (Vec::new(), Vec::new(), Vec::new());
    for key in COUNT..COUNT + 3000 {
        let new = weekly(&mut random)?;
        let began = Instant::now();
        let clashes = index.check(&key, &new, |_| true, 5);
        let took = began.elapsed();
        if clashes.total == 0 {
            clean.push(took);
            continue;
        }
        checks.push(took);
        let began = Instant::now();
        index.nearest_free(&key, &new, &Search::default(), &mut Steps::new(u64::MAX));
        searches.push(began.elapsed());
    }
    println!("check of a new weekly series that clashes: {}", percentiles(&mut checks));
    println!("check of one that doesn't, with what is proven beyond: {}", percentiles(&mut clean));
    println!("its three nearest free times: {}", percentiles(&mut searches));

    let mut days = Vec::new();
    for _ in 0..365 {
        now += SignedDuration::from_hours(24);
        let began = Instant::now();
        index.advance(now);
        days.push(began.elapsed());
    }
    println!("a day goes by: {}", percentiles(&mut days));
    Ok(())
}

fn booking(random: &mut XorShift) -> Result<Booking<u64>, BoxError> {
    let rule = RULES[random.below(4) as usize];
    random_booking(random, rule)
}

fn weekly(random: &mut XorShift) -> Result<Booking<u64>, BoxError> {
    random_booking(random, "FREQ=WEEKLY")
}

fn random_booking(random: &mut XorShift, rule: &str) -> Result<Booking<u64>, BoxError> {
    let (day, quarter) = (random.below(5) + 5, random.below(40));
    let spec = RecurrenceSpec {
        start: format!("2026-01-{day:02}T{:02}:{:02}:00", 8 + quarter / 4, quarter % 4 * 15),
        time_zone: ZONES[random.below(4) as usize].to_owned(),
        duration: Some(SignedDuration::from_mins(30)),
        rule: Some(rule.to_owned()),
        ..RecurrenceSpec::default()
    };
    let needs = (0..NEEDS).map(|_| random.below(PLACES)).collect();
    Ok(Booking::new(Arc::new(Recurrence::new(&spec)?), needs))
}

fn percentiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at =
        |share: f64| times.get((times.len() as f64 * share) as usize).map_or(0.0, |t| t.as_secs_f64() * 1e6);
    format!("p50 {:.1} us, p99 {:.1} us, of {}", at(0.5), at(0.99), times.len())
}

/// Resident memory of this process, in bytes.
fn resident_bytes() -> Result<f64, BoxError> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse::<f64>()? * 1024.0)
}
