//! A series as it is held and compared: its occurrences from now on, as far as bounds allow.
//!
//! Never: an expansion whose length a rule decides alone.

use crate::conflict::Booking;
use crate::recurrence::{RawOccurrence, Recurrence};
use crate::spans::{Buffers, Span, runs};
use crate::steps::Steps;

/// Occurrences of one series that are looked at; with more, it is covered less far.
const MAX_SPANS: usize = 250_000;
/// Runs that one series may take in memory; with more, it is covered less far.
const MAX_RUNS: usize = 5_000;
/// Runs that it may take at all that it needs together, of 28 bytes each.
const MAX_ENTRIES: usize = 40_000;
/// Steps for the expansion of one booking; with more, it is covered less far.
pub(crate) const EXPANDING: u64 = 2_000_000;

/// From when until when occurrences are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookAhead {
    pub(crate) now: i64,
    pub(crate) until: i64,
}

/// The occurrences of a booking that are not over, and start before some instant.
#[derive(Debug)]
pub struct Expanded {
    pub(crate) spans: Vec<Span>,
    /// Nothing comes after the last if this is `i64::MAX`.
    pub(crate) covered: i64,
    /// The steps did not suffice for more.
    pub(crate) is_short: bool,
}

impl Expanded {
    /// Expands a booking that is to be held, with at most so many needs: as far as asked, or as far as the bounds allow
    /// (2,000,000 steps, 250,000 occurrences, 5,000 runs, 40,000 at all needs together).
    pub fn for_booking<R>(booking: &Booking<R>, needs: usize, ahead: LookAhead) -> Self {
        let (most, mut steps) = (most_runs(needs), Steps::new(EXPANDING));
        Self::in_room(Vec::new(), &booking.recurrence, booking.buffers, ahead, most, &mut steps)
    }

    /// Expands a booking as far as asked, or as far as the bounds and steps allow.
    pub(crate) fn new(
        recurrence: &Recurrence,
        buffers: Buffers,
        ahead: LookAhead,
        steps: &mut Steps,
    ) -> Self {
        Self::in_room(Vec::new(), recurrence, buffers, ahead, MAX_RUNS, steps)
    }

    /// The same, with the memory of `spans`, which is empty, into at most so many runs.
    pub(crate) fn in_room(
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
            // Takes no time.
        } else if recurrence.segments.is_empty() && recurrence.no_exceptions {
            // Most are single events, for which this is all that must be done.
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

    /// How many runs it takes at each thing that it needs, of 28 bytes each.
    pub fn runs(&self) -> usize {
        runs(&self.spans).0.len()
    }

    /// The end of the last, with its buffer.
    pub(crate) fn end(&self, buffers: Buffers) -> Option<i64> {
        self.spans.iter().map(|span| buffers.around(*span).end).max()
    }
}

/// Runs that a booking may take at each of so many needs.
pub(crate) fn most_runs(needs: usize) -> usize {
    (MAX_ENTRIES / needs.max(1)).min(MAX_RUNS)
}
