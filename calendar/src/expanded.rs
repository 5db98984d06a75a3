//! The occurrences of a series from now on, as far as the bounds allow, for holding and comparing them.
//!
//! No rule alone decides how long its expansion takes.

use crate::conflict::Booking;
use crate::recurrence::{RawOccurrence, Recurrence};
use crate::spans::{Buffers, Span, runs};
use crate::steps::Steps;

/// Occurrences of one series that are looked at. A series with more is covered less far.
const MAX_SPANS: usize = 250_000;
/// Runs of one series that are held. A series with more is covered less far.
const MAX_RUNS: usize = 5_000;
/// Runs of one series over all its needs together; a run takes 28 bytes.
const MAX_ENTRIES: usize = 40_000;
/// Steps for the expansion of one booking. If they run out, the booking is covered less far.
pub(crate) const EXPANDING: u64 = 2_000_000;

/// The time for which occurrences are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookAhead {
    pub(crate) now: i64,
    pub(crate) until: i64,
}

/// The occurrences of a booking that have not ended, and start before some instant.
#[derive(Debug)]
pub struct Expanded {
    pub(crate) spans: Vec<Span>,
    /// All occurrences that start before this are in `spans`. `i64::MAX` if there are no others.
    pub(crate) covered: i64,
    /// The steps ran out.
    pub(crate) is_short: bool,
}

impl Expanded {
    /// Expands a booking that will be held, with at most so many needs: as far as `ahead` asks, or as far as the
    /// bounds allow (2,000,000 steps, 250,000 occurrences, 5,000 runs, 40,000 runs over all needs together).
    pub fn for_booking<R>(booking: &Booking<R>, needs: usize, ahead: LookAhead) -> Self {
        let (most, mut steps) = (most_runs(needs), Steps::new(EXPANDING));
        Self::expand_into(Vec::new(), &booking.recurrence, booking.buffers, ahead, most, &mut steps)
    }

    /// Expands a booking as far as `ahead` asks, or as far as the bounds and steps allow.
    pub(crate) fn new(
        recurrence: &Recurrence,
        buffers: Buffers,
        ahead: LookAhead,
        steps: &mut Steps,
    ) -> Self {
        Self::expand_into(Vec::new(), recurrence, buffers, ahead, MAX_RUNS, steps)
    }

    /// The same into at most `most` runs. Reuses the memory of `spans`, which must be empty.
    pub(crate) fn expand_into(
        mut spans: Vec<Span>,
        recurrence: &Recurrence,
        buffers: Buffers,
        LookAhead { now, until }: LookAhead,
        most: usize,
        steps: &mut Steps,
    ) -> Self {
        let mut covered = i64::MAX;
        let mut is_short = false;
        let from = now - i64::from(buffers.after);
        let mut take = |span: Span| {
            if span.start >= until || spans.len() == MAX_SPANS {
                covered = span.start.min(until);
                return false;
            }
            if span.end > from && span.end > span.start {
                spans.push(span);
            }
            true
        };
        let span = |found: &RawOccurrence| {
            let start = found.moment.at;
            Span { start, end: recurrence.end_of(start, found.wall, found.length) }
        };
        if recurrence.reach == 0 {
            // The events take no time.
        } else if recurrence.segments.is_empty() && recurrence.no_exceptions {
            // Most bookings are single events; for them this is enough.
            recurrence.singles.iter().map(span).all(&mut take);
        } else {
            let mut ahead = recurrence.occurrences_from(from.saturating_sub(recurrence.reach));
            let mut seen = now;
            while let Some(found) = ahead.next_found_within(steps) {
                let span = span(&found);
                seen = seen.max(span.start + 1);
                if span.end > from && !take(span) {
                    break;
                }
            }
            if steps.left() == 0 {
                is_short = true;
                covered = covered.min(seen);
            }
        }
        while spans.len() > most && runs(&spans).0.len() > most {
            covered = spans[spans.len() / 2].start;
            spans.truncate(spans.len() / 2);
        }
        Self { spans, covered, is_short }
    }

    /// How many runs of 28 bytes it takes for each need.
    pub fn runs(&self) -> usize {
        runs(&self.spans).0.len()
    }

    /// When the last event ends, with its buffer.
    pub(crate) fn end(&self, buffers: Buffers) -> Option<i64> {
        self.spans.iter().map(|span| buffers.around(*span).end).max()
    }
}

/// How many runs a booking may take for each of its needs.
pub(crate) fn most_runs(needs: usize) -> usize {
    (MAX_ENTRIES / needs.max(1)).min(MAX_RUNS)
}
