//! Prints what it costs to check and hold bookings, compared with PostgreSQL's exclusion constraint on the same
//! bookings in the same run; and what the index costs with 10,000 schedules.
//!
//! Run: `cargo run --release -p belfry-calendar --example occupancy`. It starts its own PostgreSQL in a temporary
//! directory; the programs are found in PATH or in Debian's directory.
#![allow(clippy::print_stdout, reason = "a tool that prints")]

mod peer;
mod schedules;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use calendar::{Booking, HORIZON, Occupancy, Recurrence, RecurrenceSpec};
use jiff::{SignedDuration, Timestamp};

use peer::{AskedBooking, PostgresPeer};

pub(crate) type BoxError = Box<dyn Error>;

const PLACES: u64 = 10_000;
const SINGLES: u64 = 1_000_000;
const SERIES: u64 = 20_000;
/// Occurrences of a series.
const WEEKS: u32 = 50;
/// Both sides take turns, so other load on the machine affects both.
const TURNS: u64 = 10;
/// So few bookings are made at a time that they are still in the processor's cache when they are checked.
const FEW: usize = 100;

fn main() -> Result<(), BoxError> {
    schedules::print_figures()?;
    let mut peer = PostgresPeer::start()?;
    println!("peer: {}", peer.version()?);
    // One hour in about a hundred at each place: one booking in ten clashes with an earlier one.
    let singles = random_bookings(SINGLES, 4 * 760, 1);
    compare("single occurrences", &mut peer, &singles)?;
    let series = random_bookings(SERIES, 4 * 15, WEEKS);
    compare("weekly series of 50", &mut peer, &series)
}

/// Random bookings of an hour over all places, on a grid of quarters of an hour.
fn random_bookings(count: u64, quarters: u64, weeks: u32) -> Vec<AskedBooking> {
    let mut random = XorShift(7);
    (0..count)
        .map(|id| AskedBooking {
            id,
            place: random.below(PLACES),
            start: 1_767_571_200 + 900 * random.below(quarters) as i64,
            weeks,
        })
        .collect()
}

/// Marsaglia's xorshift64, always with the same seed.
pub(crate) struct XorShift(pub(crate) u64);

impl XorShift {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

fn booking(asked: &AskedBooking) -> Result<Booking<u64>, BoxError> {
    let start = Timestamp::from_second(asked.start)?.to_string();
    let spec = RecurrenceSpec {
        start: start.trim_end_matches('Z').to_owned(),
        time_zone: "UTC".to_owned(),
        duration: Some(SignedDuration::from_hours(1)),
        rule: (asked.weeks > 1).then(|| format!("FREQ=WEEKLY;COUNT={}", asked.weeks)),
        ..RecurrenceSpec::default()
    };
    Ok(Booking::new(Arc::new(Recurrence::new(&spec)?), vec![asked.place]))
}

fn compare(what: &str, peer: &mut PostgresPeer, asked: &[AskedBooking]) -> Result<(), BoxError> {
    let mut index: Occupancy<u64, u64> = Occupancy::new(Timestamp::from_second(1_767_225_600)?, HORIZON);
    let (mut making, mut own, mut theirs) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut taken = Vec::new();
    peer.begin(asked)?;
    for part in asked.chunks(asked.len().div_ceil(TURNS as usize)) {
        for few in part.chunks(FEW) {
            let began = Instant::now();
            let bookings = few.iter().map(booking).collect::<Result<Vec<_>, _>>()?;
            making += began.elapsed();
            let began = Instant::now();
            for (asked, booking) in few.iter().zip(&bookings) {
                if index.insert_if_free(asked.id, booking, |_| true, 1).total == 0 {
                    taken.push(asked.id);
                }
            }
            own += began.elapsed();
        }
        theirs += peer.book(part)?;
    }
    let differ = taken != peer.booked()?;
    let count = asked.len() as f64;
    let occurrences: u64 = asked.iter().map(|asked| u64::from(asked.weeks)).sum();
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count;
    println!(
        "{what}: {} asked for ({occurrences} occurrences), {:.1} % clash; check and insert {:.3} us ({:.3} us with \
         reading the texts); PostgreSQL {:.2} us: {:.0} times ({:.0} times); accepted sets {}",
        asked.len(),
        100.0 - 100.0 * taken.len() as f64 / count,
        each(own),
        each(own + making),
        each(theirs),
        theirs.as_secs_f64() / own.as_secs_f64(),
        theirs.as_secs_f64() / (own + making).as_secs_f64(),
        if differ { "DIFFER" } else { "equal" },
    );
    if differ { Err("index and PostgreSQL disagree".into()) } else { Ok(()) }
}
