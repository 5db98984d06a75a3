//! What a clash is: more bookings hold something than its capacity allows, while an event of one of them is under
//! way.
//!
//! A booking holds what it needs from `before` ahead of each event until `after` behind it. So of two events in a
//! room, neither may lie in a buffer of the other, but their buffers may overlap: the longer of the two must fit
//! between them. A booking whose own events overlap holds what it needs once. An event without duration takes no
//! time and never clashes.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use jiff::Timestamp;

use crate::occurrences::Occurrence;
use crate::recurrence::Recurrence;
use crate::spans::{Buffers, Span};

/// The longest buffer: 366 days. Longer ones are cut to it.
pub const MAX_BUFFER: Duration = Duration::from_hours(366 * 24);

/// A series of events and what it needs. `R` names a participant or a resource.
#[derive(Debug, Clone)]
pub struct Booking<R> {
    pub(crate) recurrence: Arc<Recurrence>,
    pub(crate) needs: Vec<R>,
    pub(crate) buffers: Buffers,
}

impl<R: Ord> Booking<R> {
    /// Needs each of `needs` once, without buffers. An event that leaves people free (TRANSP:TRANSPARENT of RFC
    /// 5545) needs nothing.
    pub fn new(recurrence: Arc<Recurrence>, mut needs: Vec<R>) -> Self {
        needs.sort_unstable();
        needs.dedup();
        Self { recurrence, needs, buffers: Buffers::default() }
    }

    /// When its events happen.
    #[must_use]
    pub fn recurrence(&self) -> &Recurrence {
        &self.recurrence
    }

    /// The participants and resources that it needs, in order.
    #[must_use]
    pub fn needs(&self) -> &[R] {
        &self.needs
    }

    /// Adds time before and after each event in which nothing else may be under way. Fractions of a second are
    /// rounded up.
    #[must_use]
    pub fn with_buffers(self, before: Duration, after: Duration) -> Self {
        let seconds = |buffer: Duration| {
            let buffer = buffer.min(MAX_BUFFER);
            buffer.as_secs() as u32 + u32::from(buffer.subsec_nanos() > 0)
        };
        Self { buffers: Buffers { before: seconds(before), after: seconds(after) }, ..self }
    }
}

/// The clashes of a booking with the bookings that an [`crate::Occupancy`] holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clashes<K, R> {
    /// The first clashes, by the start of the booking's own occurrence.
    pub first: Vec<Clash<K, R>>,
    /// How many of the booking's occurrences clash, among those that start before `checked_until`.
    pub total: usize,
    /// All occurrences that start before this instant were compared. It is the end of the horizon, or earlier for a
    /// series with very many occurrences.
    pub checked_until: Timestamp,
    /// The steps ran out: occurrences from `checked_until` on were not compared, although they start before the
    /// horizon.
    pub is_short: bool,
    /// It is proven that no occurrence ever clashes, however far ahead. If false, the time from `checked_until` on
    /// is unknown.
    pub never: bool,
}

/// An occurrence of the checked booking at which a participant or resource is needed too often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash<K, R> {
    /// The occurrence.
    pub occurrence: Occurrence,
    /// The first moment at which it clashes: in the occurrence or in its buffers.
    pub at: Timestamp,
    /// Who holds what it needs at such a moment, by start and key.
    pub with: Vec<Holder<K, R>>,
}

/// An occurrence of another booking, with which one clashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder<K, R> {
    /// The key of its booking.
    pub key: K,
    /// When its event begins.
    pub start: Timestamp,
    /// When its event ends.
    pub end: Timestamp,
    /// What both need, in order.
    pub needs: Vec<R>,
}

/// An event of another booking near the event that is checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeldEvent {
    pub(crate) slot: u32,
    pub(crate) event: Span,
    pub(crate) around: Span,
}

/// The first moment at which the event and `holds` together are more than `capacity` bookings, and one of them is
/// under way.
///
/// Calls `tell` once for each of `holds` that is held at such a moment, with its index, until `tell` returns false.
pub(crate) fn first_clash(
    event: Span,
    buffers: Buffers,
    holds: &[HeldEvent],
    capacity: u32,
    mut tell: impl FnMut(usize) -> bool,
) -> Option<i64> {
    let held = buffers.around(event);
    if holds.len() < capacity as usize {
        return None;
    }
    let mut edges: Vec<(i64, Edge)> = vec![(held.start, Edge::Own), (event.start, Edge::Own)];
    for (index, hold) in holds.iter().enumerate() {
        edges.extend([(hold.around.start, Edge::Holds(index)), (hold.around.end, Edge::Frees(index))]);
        edges.extend([(hold.event.start, Edge::Begins), (hold.event.end, Edge::Ends)]);
    }
    for (at, _) in &mut edges {
        *at = (*at).max(held.start);
    }
    edges.retain(|(at, _)| *at < held.end);
    edges.sort_unstable();
    // The bookings that hold now, each with its number of events; those not told yet; and how many events are under
    // way.
    let (mut by, mut untold, mut under_way) = (HashMap::<u32, u32>::new(), Vec::new(), 0i64);
    let mut first = None;
    for same in edges.chunk_by(|a, b| a.0 == b.0) {
        let at = same[0].0;
        for (_, edge) in same {
            match *edge {
                Edge::Holds(index) => {
                    *by.entry(holds[index].slot).or_default() += 1;
                    untold.push(index);
                }
                Edge::Begins => under_way += 1,
                Edge::Ends => under_way -= 1,
                Edge::Frees(index) => {
                    if let Some(count) = by.get_mut(&holds[index].slot) {
                        *count -= 1;
                        if *count == 0 {
                            by.remove(&holds[index].slot);
                        }
                    }
                }
                Edge::Own => {}
            }
        }
        if by.len() >= capacity as usize && (under_way > 0 || within(event, at)) {
            first = first.or(Some(at));
            if !untold.drain(..).filter(|index| holds[*index].around.end > at).all(&mut tell) {
                break;
            }
        }
    }
    first
}

/// What changes at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    Holds(usize),
    Begins,
    Ends,
    Frees(usize),
    /// The event itself, or its buffer, begins.
    Own,
}

fn within(span: Span, at: i64) -> bool {
    span.start <= at && at < span.end
}
