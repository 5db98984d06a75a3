//! A question for free times, with all that its answer needs: so it is answered apart from the index.
//!
//! Asked in two parts, each of a bounded cost. First, with the index at hand, what is held is copied, one participant or
//! resource at a time ([`Occupancy::copy`]); then the search, in which others can go on with the index.
//! Never: a look at the index once all is copied.

use std::collections::HashMap;
use std::hash::Hash;

use jiff::SignedDuration;

use crate::conflict::Booking;
use crate::expanded::LookAhead;
use crate::free::{FreeTime, FreeTimes, Search, SearchExtent, stretch};
use crate::moves::{Grid, MovableSeries};
use crate::occupancy::Occupancy;
use crate::spans::{Buffers, Run, Span};
use crate::steps::Steps;

/// Steps for a copy of one event or run, which takes so much more memory and time than a look at it.
const STEPS_PER_COPY: usize = 4;
/// Two events with less between them are back to back.
pub(crate) const BREAK: SignedDuration = SignedDuration::from_mins(10);
/// Long before, and long after, anything.
pub(crate) const EVER: i64 = i64::MAX / 4;

/// A question for times at which a booking clashes with nothing.
#[derive(Debug)]
pub struct FreeTimeQuery<R> {
    pub(crate) booking: Booking<R>,
    pub(crate) search: Search,
    pub(crate) ahead: LookAhead,
    /// None when the steps did not suffice to expand it.
    pub(crate) series: Option<MovableSeries>,
    pub(crate) copies: Vec<CopiedEvents<R>>,
    /// Something is not copied, for the steps did not suffice.
    is_incomplete: bool,
}

/// What holds a participant or resource.
#[derive(Debug)]
pub(crate) struct CopiedEvents<R> {
    pub(crate) name: R,
    capacity: u32,
    /// What starts after the first and before the second matters.
    reach: (i64, i64),
    holds: Vec<(Run, Buffers, u32)>,
}

/// An event of another booking, and that with its buffers.
pub(crate) struct HeldEvent {
    pub(crate) event: Span,
    around: Span,
    slot: u32,
}

/// What is to be done with a move that is free.
pub(crate) enum SearchControl {
    Continue,
    Done,
    /// The steps did not suffice for it.
    OutOfSteps,
}

impl<R: Clone + Ord> FreeTimeQuery<R> {
    /// Times for `booking`, as of what an index looks at ([`Occupancy::ahead`]).
    pub fn new(booking: Booking<R>, search: Search, ahead: LookAhead, steps: &mut Steps) -> Self {
        let series = MovableSeries::new(&booking.recurrence, ahead, steps);
        Self { booking, search, ahead, series, copies: Vec::new(), is_incomplete: false }
    }

    /// The nearest moves after which none of its occurrences that start from now to the horizon (the first 20,000)
    /// clashes: nearest first, of two as near the earlier.
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

    /// Hands on the free moves, nearest first, and whether nothing of them touches `off`.
    pub(crate) fn for_each_free_move(
        &self,
        off: &[Span],
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
            if !off.is_empty() && !series.remove_blocked(grid, &mut inside, off, steps) {
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
                    // Of two as far one may have been looked at.
                    SearchControl::OutOfSteps => return up_to(inner.max(grid.nearer(shift)), true),
                }
            }
            inner = Some(outer);
        }
        if grid.is_cut { up_to(inner, true) } else { all }
    }

    /// The stretches that an event of the booking may not touch, in order and apart. None when the steps don't suffice.
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
                // Its buffers may share time with the booking's, and no event with a buffer.
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

    /// Seconds around the booking's own events in which what others hold matters.
    fn margin(&self) -> (i64, i64) {
        let Buffers { before, after } = self.booking.buffers;
        let near = BREAK.as_secs();
        (near.max(before.into()), near.max(after.into()))
    }
}

impl<R> CopiedEvents<R> {
    /// Each event that counts. Ends early when the steps don't suffice, and leaves none.
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
    /// What [`FreeTimeQuery::nearest`] finds for `booking`, whose is `key`.
    ///
    /// None moves an occurrence to before now. For one occurrence of a series ask with a booking of that one alone.
    pub fn nearest_free(
        &self,
        key: &K,
        booking: &Booking<R>,
        search: &Search,
        steps: &mut Steps,
    ) -> FreeTimes<FreeTime> {
        let mut question = FreeTimeQuery::new(booking.clone(), *search, self.ahead(), steps);
        for name in &booking.needs {
            self.copy(&mut question, key, name, steps);
        }
        question.nearest(steps)
    }

    /// Copies what others than `key` hold of `name` into a question that is about it. False when the steps don't
    /// suffice: then the question finds nothing.
    pub fn copy(&self, question: &mut FreeTimeQuery<R>, key: &K, name: &R, steps: &mut Steps) -> bool {
        let (Some(need), Some(series)) = (self.find(name), &question.series) else { return true };
        let grid = Grid::new(&question.search, 0, question.booking.recurrence.is_all_day());
        let ((before, after), window) = (question.margin(), series.window(grid.reach));
        let low = window.start.max(question.ahead.now) - before - need.reach;
        let high = window.end + after + i64::from(need.lead);
        let from = need.singles_started_by(low);
        let singles = &need.singles[from..];
        let singles = &singles[..singles.partition_point(|single| single.start() < high)];
        if question.is_incomplete || !steps.take(STEPS_PER_COPY * singles.len() + need.runs().len()) {
            question.is_incomplete = true;
            return false;
        }
        let near = need.runs().iter().filter(|series| series.run.first < high && series.run.last() > low);
        let near: Vec<_> = near.collect();
        if !steps.take(STEPS_PER_COPY * near.len()) {
            question.is_incomplete = true;
            return false;
        }
        let own = self.slot(key);
        let singles = singles.iter().map(|single| (Run::one(single.event()), single.slot));
        let all = singles.chain(near.into_iter().map(|series| (series.run, series.slot)));
        let holds = all
            .filter(|(_, slot)| Some(*slot) != own)
            .filter_map(|(run, slot)| Some((run, self.held[slot as usize].as_ref()?.buffers, slot)));
        question.copies.push(CopiedEvents {
            name: name.clone(),
            capacity: need.capacity,
            reach: (low, high),
            holds: holds.collect(),
        });
        true
    }
}

/// The move and the first of its events. None if it has none at all.
pub(crate) fn free_time(shift: i64, events: &[Span]) -> Option<FreeTime> {
    let first = stretch(*events.iter().min()?);
    Some(FreeTime { shift: SignedDuration::from_secs(shift), first })
}

/// Adds the stretches in which so many bookings hold something that it can take no more, and those, with the buffers of
/// the booking that is asked about turned around them, in which also an event of theirs is under way.
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
    // Those that hold it, with how many of their events; and how many events are under way.
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

/// Puts stretches in order, and makes one of those that meet.
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
