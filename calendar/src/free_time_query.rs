//! A search for free times, with a copy of all the data that it needs.
//!
//! It takes two phases of bounded cost. First the caller, who has access to the index, copies what is held, one
//! participant or resource at a time ([`Occupancy::copy`]). Then the search runs without the index, and others can
//! use that meanwhile.

use std::collections::HashMap;
use std::hash::Hash;

use jiff::SignedDuration;

use crate::conflict::{Booking, HeldEvent};
use crate::expanded::LookAhead;
use crate::free::{FreeTime, FreeTimes, Search, SearchExtent, stretch};
use crate::moves::{Grid, MovableSeries};
use crate::occupancy::Occupancy;
use crate::spans::{Buffers, EventRun, Span};
use crate::steps::Steps;

/// Steps for copying one event or run: it takes that much more memory and time than looking at one.
const STEPS_PER_COPY: usize = 4;
/// Two events less than this apart are back to back.
pub(crate) const BREAK: SignedDuration = SignedDuration::from_mins(10);
/// Later, or negated earlier, than any event.
pub(crate) const EVER: i64 = i64::MAX / 4;

/// A search for times at which a booking clashes with nothing.
#[derive(Debug)]
pub struct FreeTimeQuery<R> {
    pub(crate) booking: Booking<R>,
    pub(crate) search: Search,
    pub(crate) ahead: LookAhead,
    /// `None` if the steps ran out during the expansion.
    pub(crate) series: Option<MovableSeries>,
    pub(crate) copies: Vec<CopiedEvents<R>>,
    /// Something could not be copied because the steps ran out.
    is_incomplete: bool,
}

/// The events that hold one participant or resource.
#[derive(Debug)]
pub(crate) struct CopiedEvents<R> {
    pub(crate) name: R,
    capacity: u32,
    /// Only events that start after the first and before the second instant matter.
    reach: (i64, i64),
    holds: Vec<(EventRun, Buffers, u32)>,
}

/// Whether to look for further free moves.
pub(crate) enum SearchControl {
    Continue,
    Done,
    /// The steps ran out.
    OutOfSteps,
}

impl<R: Clone + Ord> FreeTimeQuery<R> {
    /// A search for `booking` in the time that an index looks at ([`Occupancy::ahead`]).
    pub fn new(booking: Booking<R>, search: Search, ahead: LookAhead, steps: &mut Steps) -> Self {
        let series = MovableSeries::new(&booking.recurrence, ahead, steps);
        Self { booking, search, ahead, series, copies: Vec::new(), is_incomplete: false }
    }

    /// The nearest moves after which none of the booking's occurrences clashes: those that start between now and
    /// the horizon, at most the first 20,000. The nearest move comes first; of two at the same distance, the
    /// earlier one.
    pub fn nearest(&self, steps: &mut Steps) -> FreeTimes<FreeTime> {
        let (mut times, mut events) = (Vec::new(), Vec::new());
        let looked = self.for_each_free_move(&[], steps, |steps, series, shift, _| {
            if times.len() == self.search.count {
                return SearchControl::Done;
            }
            if !steps.take(series.len()) {
                return SearchControl::OutOfSteps;
            }
            series.events(shift, &mut events);
            times.extend(free_time(shift, &events));
            if times.len() == self.search.count { SearchControl::Done } else { SearchControl::Continue }
        });
        FreeTimes { times, looked }
    }

    /// Calls `take` for each free move, the nearest first, with whether none of its events touches `off_hours`.
    pub(crate) fn for_each_free_move(
        &self,
        off_hours: &[Span],
        steps: &mut Steps,
        mut take: impl FnMut(&mut Steps, &MovableSeries, i64, bool) -> SearchControl,
    ) -> SearchExtent {
        let Some(series) = self.series.as_ref().filter(|_| !self.is_incomplete) else {
            return SearchExtent::nowhere();
        };
        let all = SearchExtent {
            within: Some(SignedDuration::from_secs(self.search.reach.as_secs().max(0))),
            is_short: false,
            occurrences: series.is_cut.then_some(series.len()),
        };
        let Some(first) = series.first() else { return all };
        let grid = Grid::new(&self.search, first, self.booking.recurrence.is_all_day());
        let Some(blocked) = self.blocked(steps) else { return SearchExtent::nowhere() };
        let up_to = |within: Option<i64>, is_short| SearchExtent {
            within: within.map(SignedDuration::from_secs),
            is_short,
            ..all
        };
        let mut inner = None;
        for outer in grid.rings() {
            let mut free = grid.ring(inner, outer);
            if !series.remove_blocked(grid, &mut free, &blocked, steps) {
                return up_to(inner, true);
            }
            let mut inside = free.clone();
            if !off_hours.is_empty() && !series.remove_blocked(grid, &mut inside, off_hours, steps) {
                return up_to(inner, true);
            }
            let mut moves: Vec<i64> = free.iter().flat_map(|(first, last)| *first..=*last).collect();
            moves.sort_unstable_by_key(|number| (grid.shift(*number).abs(), *number));
            for number in moves {
                let shift = grid.shift(number);
                let near = inside.get(inside.partition_point(|(_, last)| *last < number));
                let is_inside = near.is_some_and(|(first, _)| *first <= number);
                match take(steps, series, shift, is_inside) {
                    SearchControl::Continue => {}
                    SearchControl::Done => return up_to(Some(shift.abs()), false),
                    // Of two moves at this distance, one may have been looked at.
                    SearchControl::OutOfSteps => return up_to(inner.max(grid.nearer(shift)), true),
                }
            }
            inner = Some(outer);
        }
        if grid.is_cut { up_to(inner, true) } else { all }
    }

    /// The time that no event of the booking may touch, in order and merged. `None` if the steps run out.
    fn blocked(&self, steps: &mut Steps) -> Option<Vec<Span>> {
        let buffers = self.booking.buffers;
        let (before, after) = (i64::from(buffers.before), i64::from(buffers.after));
        let mut blocked = vec![Span { start: -EVER, end: self.ahead.now }];
        for copied in &self.copies {
            if self.booking.needs.binary_search(&copied.name).is_err() {
                continue;
            }
            let holds = copied.events(self.ahead, steps)?;
            if copied.capacity == 1 {
                // Its buffers may overlap the booking's buffers, but no buffer may overlap an event.
                blocked.extend(holds.map(|HeldEvent { event, around, .. }| Span {
                    start: around.start.min(event.start - after),
                    end: around.end.max(event.end + before),
                }));
            } else {
                add_crowded(holds, copied.capacity, buffers, &mut blocked);
            }
            if steps.left() == 0 {
                return None;
            }
            merge(&mut blocked);
        }
        Some(blocked)
    }

    /// Seconds before and after the booking's own events in which other events matter.
    fn margin(&self) -> (i64, i64) {
        let Buffers { before, after } = self.booking.buffers;
        let near = BREAK.as_secs();
        (near.max(before.into()), near.max(after.into()))
    }
}

impl<R> CopiedEvents<R> {
    /// The events that count. Ends early, with no steps left, if the steps run out.
    pub(crate) fn events<'a>(
        &'a self,
        ahead: LookAhead,
        steps: &'a mut Steps,
    ) -> Option<impl Iterator<Item = HeldEvent> + 'a> {
        let (low, high) = self.reach;
        let enough = steps.take(self.holds.len());
        enough.then(move || {
            let events = self.holds.iter().flat_map(move |(run, buffers, slot)| {
                run.starting_within(low, high).map(move |event| (event, *buffers, *slot))
            });
            let counted = events.take_while(|_| steps.take(1));
            let held = counted.map(|(event, buffers, slot)| HeldEvent {
                event,
                around: buffers.around(event),
                slot,
            });
            held.filter(move |hold| hold.event.start < ahead.until && hold.around.end > ahead.now)
        })
    }
}

impl<K: Clone + Ord + Hash, R: Clone + Ord + Hash> Occupancy<K, R> {
    /// Runs [`FreeTimeQuery::nearest`] for `booking`, which belongs to `key`.
    ///
    /// Never moves an occurrence to before now. To move one occurrence of a series, ask with a booking of that one
    /// alone.
    pub fn nearest_free(
        &self,
        key: &K,
        booking: &Booking<R>,
        search: &Search,
        steps: &mut Steps,
    ) -> FreeTimes<FreeTime> {
        let mut query = FreeTimeQuery::new(booking.clone(), *search, self.ahead(), steps);
        for name in &booking.needs {
            self.copy(&mut query, key, name, steps);
        }
        query.nearest(steps)
    }

    /// Copies what other keys than `key` hold of `name` into a search that needs it. False if the steps run out:
    /// then the search finds nothing.
    pub fn copy(&self, query: &mut FreeTimeQuery<R>, key: &K, name: &R, steps: &mut Steps) -> bool {
        let (Some(need), Some(series)) = (self.find(name), &query.series) else { return true };
        let grid = Grid::new(&query.search, 0, query.booking.recurrence.is_all_day());
        let ((before, after), window) = (query.margin(), series.window(grid.reach));
        let low = window.start.max(query.ahead.now) - before - need.reach;
        let high = window.end + after + i64::from(need.lead);
        let from = need.singles_started_by(low);
        let singles = &need.singles[from..];
        let singles = &singles[..singles.partition_point(|single| single.start() < high)];
        if query.is_incomplete || !steps.take(STEPS_PER_COPY * singles.len() + need.runs().len()) {
            query.is_incomplete = true;
            return false;
        }
        let near = need.runs().iter().filter(|series| series.run.first < high && series.run.last() > low);
        let near: Vec<_> = near.collect();
        if !steps.take(STEPS_PER_COPY * near.len()) {
            query.is_incomplete = true;
            return false;
        }
        let own = self.slot(key);
        let singles = singles.iter().map(|single| (EventRun::one(single.event()), single.slot));
        let all = singles.chain(near.into_iter().map(|series| (series.run, series.slot)));
        let holds = all
            .filter(|(_, slot)| Some(*slot) != own)
            .filter_map(|(run, slot)| Some((run, self.held[slot as usize].as_ref()?.buffers, slot)));
        query.copies.push(CopiedEvents {
            name: name.clone(),
            capacity: need.capacity,
            reach: (low, high),
            holds: holds.collect(),
        });
        true
    }
}

/// The free time of a move with these events. `None` if there are none.
pub(crate) fn free_time(shift: i64, events: &[Span]) -> Option<FreeTime> {
    let first = stretch(*events.iter().min()?);
    Some(FreeTime { shift: SignedDuration::from_secs(shift), first })
}

/// Adds to `blocked` the stretches in which `capacity` bookings hold something. If also an event of theirs is under
/// way, the booking's own buffers, turned around, are added on both sides.
fn add_crowded(
    holds: impl Iterator<Item = HeldEvent>,
    capacity: u32,
    buffers: Buffers,
    blocked: &mut Vec<Span>,
) {
    let mut edges: Vec<(i64, i32, i32, u32)> = Vec::new();
    for HeldEvent { event, around, slot } in holds {
        edges.extend([(around.start, 1, 0, slot), (around.end, -1, 0, slot)]);
        edges.extend([(event.start, 0, 1, slot), (event.end, 0, -1, slot)]);
    }
    edges.sort_unstable();
    // The bookings that hold it, each with its number of events; and how many events are under way.
    let (mut by, mut under_way) = (HashMap::<u32, i32>::new(), 0);
    let mut from = 0;
    while let Some(&(at, ..)) = edges.get(from) {
        let to = from + edges[from..].partition_point(|edge| edge.0 == at);
        for (_, holds, events, slot) in &edges[from..to] {
            under_way += events;
            let count = by.entry(*slot).or_default();
            *count += holds;
        }
        for (.., slot) in &edges[from..to] {
            if by.get(slot) == Some(&0) {
                by.remove(slot);
            }
        }
        from = to;
        let Some(&(end, ..)) = edges.get(to).filter(|_| by.len() >= capacity as usize) else { continue };
        blocked.push(Span { start: at, end });
        if under_way > 0 {
            blocked.push(Span { start: at - i64::from(buffers.after), end: end + i64::from(buffers.before) });
        }
    }
}

/// Sorts spans and merges those that touch.
pub(crate) fn merge(spans: &mut Vec<Span>) {
    spans.sort_unstable();
    spans.dedup_by(|next, before| {
        let meets = next.start <= before.end;
        if meets {
            before.end = before.end.max(next.end);
        }
        meets
    });
}
