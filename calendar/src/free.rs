//! When everyone is free, and how far a booking must be moved so that it clashes nowhere.
//!
//! A series is moved as a whole, in local time: each occurrence by the same time on the clock, so it stays at one
//! local time across a change of clocks, as the series itself does. Never: a time given that clashes.

use std::collections::HashMap;
use std::hash::Hash;

use jiff::{SignedDuration, Timestamp};

use crate::conflict::{Booking, Hold, first_clash};
use crate::days::DAY;
use crate::occupancy::Occupancy;
use crate::recurrence::{Found, Recurrence};
use crate::spans::Span;
use crate::spec::Length;
use crate::zone::{ceil_second, timestamp};

/// Moves that are tried in one search, nearest first.
const MAX_TRIED: i64 = 20_000;
/// Occurrences of a series that is moved; later ones are left out of account.
const MAX_MOVED: usize = 20_000;

/// A stretch of time. Half open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// When it begins.
    pub start: Timestamp,
    /// When it ends.
    pub end: Timestamp,
}

/// Where to look for free times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// Starts are whole multiples of it after local midnight, for whole days those midnights: whole minutes from 1 to
    /// a day. 15 minutes by default.
    pub grid: SignedDuration,
    /// How far the booking may be moved, to either side. 14 days by default; of a fine grid the 20,000 nearest
    /// starts are tried.
    pub reach: SignedDuration,
    /// How many to find. 3 by default.
    pub count: usize,
}

impl Default for Search {
    fn default() -> Self {
        Self { grid: SignedDuration::from_mins(15), reach: SignedDuration::from_hours(14 * 24), count: 3 }
    }
}

/// A move of a booking to where it clashes nowhere within the horizon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeTime {
    /// By how much it is moved on the clock of its zone; the rule's parts that name days or times move with it.
    pub shift: SignedDuration,
    /// Its first occurrence that is not over, moved.
    pub first: Stretch,
    /// All that were looked at, moved.
    pub(crate) spans: Vec<Span>,
}

impl<K: Clone + Ord + Hash, R: Clone + Ord + Hash> Occupancy<K, R> {
    /// The stretches between `from` and `until` in which each of `needs` can take one more booking (without buffers
    /// of its own), in order. Both are held to the time from now to the horizon.
    pub fn free(&self, needs: &[R], from: Timestamp, until: Timestamp) -> Vec<Stretch> {
        let window =
            Span { start: ceil_second(from).max(self.now), end: ceil_second(until).min(self.until()) };
        let mut free: Vec<Span> = (window.start < window.end).then_some(window).into_iter().collect();
        for place in needs.iter().filter_map(|name| self.find(name)) {
            let full = full(&self.holds_between(place, window, None), place.capacity);
            free = free.into_iter().flat_map(|stretch| without(stretch, &full)).collect();
        }
        free.into_iter().map(stretch).collect()
    }

    /// The nearest moves of `booking` after which none of its occurrences that start from now to the horizon (the first
    /// 20,000) clashes with what others than `key` hold: nearest first, of two as near the earlier.
    ///
    /// None moves an occurrence to before now. For one occurrence of a series ask with a booking of that one alone.
    pub fn nearest_free(&self, key: &K, booking: &Booking<R>, search: &Search) -> Vec<FreeTime> {
        self.free_moves(key, booking, search).take(search.count).collect()
    }

    /// All such moves, as they are asked for.
    pub(crate) fn free_moves<'a>(
        &'a self,
        key: &'a K,
        booking: &'a Booking<R>,
        search: &Search,
    ) -> impl Iterator<Item = FreeTime> + use<'a, K, R> {
        let series = Movable::new(&booking.recurrence, self.now, self.until());
        let shifts =
            series.starts.first().map_or(Vec::new(), |first| search.shifts(first.wall, &booking.recurrence));
        let mut suspect = 0;
        shifts.into_iter().filter_map(move |shift| {
            let is_taken = |event: Span| event.start < self.now || self.clashes(key, booking, event);
            // What clashed under one move is likely to clash under the next.
            if series.moved(suspect, shift).any(is_taken) {
                return None;
            }
            if let Some(taken) =
                (0..series.starts.len()).find(|index| series.moved(*index, shift).any(is_taken))
            {
                suspect = taken;
                return None;
            }
            let spans: Vec<Span> =
                (0..series.starts.len()).flat_map(|index| series.moved(index, shift)).collect();
            let first = stretch(*spans.iter().min()?);
            Some(FreeTime { shift: SignedDuration::from_secs(shift), first, spans })
        })
    }

    /// Whether one event of a booking clashes.
    fn clashes(&self, key: &K, booking: &Booking<R>, event: Span) -> bool {
        let places = booking.needs.iter().filter_map(|name| self.find(name));
        places.into_iter().any(|place| {
            let holds = self.holds_between(place, booking.buffers.around(event), Some(key));
            first_clash(event, booking.buffers, &holds, place.capacity, |_| false).is_some()
        })
    }
}

impl Search {
    /// Seconds to move a series by whose first local start is `first`, nearest first.
    fn shifts(&self, first: i64, recurrence: &Recurrence) -> Vec<i64> {
        let minutes = (self.grid.as_secs() / 60).clamp(1, DAY / 60);
        let grid = if recurrence.is_all_day() { DAY } else { minutes * 60 };
        let reach = self.reach.as_secs().clamp(0, grid * (MAX_TRIED / 2));
        // From the grid's start at or before the first.
        let base = -first.rem_euclid(DAY).rem_euclid(grid);
        let steps = reach / grid + 1;
        let mut shifts: Vec<i64> = (-steps..=steps).map(|step| base + step * grid).collect();
        shifts.retain(|shift| shift.abs() <= reach);
        shifts.sort_unstable_by_key(|shift| (shift.abs(), *shift));
        shifts
    }
}

/// A series that can be moved as a whole.
struct Movable<'a> {
    recurrence: &'a Recurrence,
    /// What is ahead, no local time twice.
    starts: Vec<Found>,
    /// It counts in real time.
    is_real: bool,
}

impl<'a> Movable<'a> {
    fn new(recurrence: &'a Recurrence, now: i64, until: i64) -> Self {
        let is_real = recurrence.rules().iter().any(|rule| rule.frequency().is_sub_daily());
        let mut ahead = recurrence.occurrences_from(now);
        let ahead = std::iter::from_fn(|| ahead.next_found()).take_while(|found| found.moment.at < until);
        let ahead = ahead.filter(|found| found.length != Length::default());
        let mut starts: Vec<Found> = ahead.take(MAX_MOVED).collect();
        if !is_real {
            starts.dedup_by_key(|found| found.wall);
        }
        Self { recurrence, starts, is_real }
    }

    fn moved(&self, index: usize, shift: i64) -> impl Iterator<Item = Span> {
        let Found { moment, wall, length, .. } = self.starts[index];
        let starts = if self.is_real {
            [Some(moment.at + shift), None]
        } else {
            let resolved = self.recurrence.zone.resolve(wall + shift);
            [resolved.first, resolved.second].map(|moment| moment.map(|moment| moment.at))
        };
        let end = move |start| self.recurrence.end_of(start, wall + shift, length);
        starts.into_iter().flatten().map(move |start| Span { start, end: end(start) })
    }
}

fn stretch(span: Span) -> Stretch {
    Stretch { start: timestamp(span.start), end: timestamp(span.end) }
}

/// The stretches in which so many bookings hold something that it can take no more, in order.
fn full(holds: &[Hold], capacity: u32) -> Vec<Span> {
    let begins = holds.iter().map(|hold| (hold.held.start, true, hold.slot));
    let mut edges: Vec<(i64, bool, u32)> =
        begins.chain(holds.iter().map(|hold| (hold.held.end, false, hold.slot))).collect();
    edges.sort_unstable();
    let mut full: Vec<Span> = Vec::new();
    // Those that hold it, with how many of their events.
    let mut by: HashMap<u32, u32> = HashMap::new();
    let mut since = None;
    for (at, begins, slot) in edges {
        let events = by.entry(slot).or_default();
        *events = if begins { *events + 1 } else { *events - 1 };
        if *events == 0 {
            by.remove(&slot);
        }
        match since {
            None if by.len() >= capacity as usize => since = Some(at),
            Some(start) if by.len() < capacity as usize => {
                full.push(Span { start, end: at });
                since = None;
            }
            _ => {}
        }
    }
    full
}

/// What is left of a stretch without `full`.
fn without(stretch: Span, full: &[Span]) -> Vec<Span> {
    let mut left = Vec::new();
    let mut from = stretch.start;
    let near = &full[full.partition_point(|taken| taken.end <= stretch.start)..];
    for taken in near.iter().take_while(|taken| taken.start < stretch.end) {
        if taken.start > from {
            left.push(Span { start: from, end: taken.start });
        }
        from = from.max(taken.end);
    }
    if from < stretch.end {
        left.push(Span { start: from, end: stretch.end });
    }
    left
}
