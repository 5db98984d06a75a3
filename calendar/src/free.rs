//! When all needs are free, and how far a booking must move so that it clashes with nothing.
//!
//! A series moves as a whole in local time: each occurrence by the same time on the clock. So it keeps one local
//! time across a change of the clocks, as the series itself does. A time that clashes is never returned.

use std::collections::HashMap;
use std::hash::Hash;

use jiff::{SignedDuration, Timestamp};

use crate::conflict::HeldEvent;
use crate::occupancy::Occupancy;
use crate::spans::Span;
use crate::zone::{ceil_second, timestamp};

/// A stretch of time, from `start` until before `end`.
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
    /// Starts are whole multiples of this after local midnight (for all-day events: midnights). Whole minutes, from
    /// 1 to a day. 15 minutes by default.
    pub grid: SignedDuration,
    /// How far the booking may move in either direction. 14 days by default. A fine grid is limited to the 20,000
    /// nearest starts.
    pub reach: SignedDuration,
    /// How many times to find. 3 by default.
    pub count: usize,
}

impl Default for Search {
    fn default() -> Self {
        Self { grid: SignedDuration::from_mins(15), reach: SignedDuration::from_hours(14 * 24), count: 3 }
    }
}

/// A move of a booking after which it clashes nowhere within the horizon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeTime {
    /// How far it moves on the clock of its zone. The parts of the rule that name days or times move with it.
    pub shift: SignedDuration,
    /// The first occurrence that has not ended, after the move.
    pub first: Stretch,
}

/// How far a search has looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchExtent {
    /// All starts up to this distance, in either direction, were looked at. `None` if none was.
    pub within: Option<SignedDuration>,
    /// The search is incomplete: the steps ran out, or there are more than 20,000 starts.
    pub is_short: bool,
    /// Only this many occurrences, the first ones, were looked at. `None` if all up to the horizon were.
    pub occurrences: Option<usize>,
}

impl SearchExtent {
    pub(crate) fn nowhere() -> Self {
        Self { within: None, is_short: true, occurrences: None }
    }
}

/// The times that a search found, and how far it looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeTimes<T> {
    /// The times, the best first.
    pub times: Vec<T>,
    /// How far the search looked.
    pub looked: SearchExtent,
}

impl<K: Clone + Ord + Hash, R: Clone + Ord + Hash> Occupancy<K, R> {
    /// The stretches between `from` and `until` in which each of `needs` can take one more booking (without buffers
    /// of its own), in order. Both are limited to the time from now to the horizon.
    pub fn free(&self, needs: &[R], from: Timestamp, until: Timestamp) -> Vec<Stretch> {
        let window =
            Span { start: ceil_second(from).max(self.now), end: ceil_second(until).min(self.until()) };
        let mut free: Vec<Span> = (window.start < window.end).then_some(window).into_iter().collect();
        for need in needs.iter().filter_map(|name| self.find(name)) {
            let full = full_spans(&self.held_between(need, window, None), need.capacity);
            free = free.into_iter().flat_map(|stretch| subtract(stretch, &full)).collect();
        }
        free.into_iter().map(stretch).collect()
    }
}

pub(crate) fn stretch(span: Span) -> Stretch {
    Stretch { start: timestamp(span.start), end: timestamp(span.end) }
}

/// The stretches in which `capacity` bookings hold something, so it can take no more, in order.
fn full_spans(holds: &[HeldEvent], capacity: u32) -> Vec<Span> {
    let begins = holds.iter().map(|hold| (hold.around.start, true, hold.slot));
    let mut edges: Vec<(i64, bool, u32)> =
        begins.chain(holds.iter().map(|hold| (hold.around.end, false, hold.slot))).collect();
    edges.sort_unstable();
    let mut full: Vec<Span> = Vec::new();
    // The bookings that hold it, each with its number of events.
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

/// The parts of `stretch` outside `full`.
fn subtract(stretch: Span, full: &[Span]) -> Vec<Span> {
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
