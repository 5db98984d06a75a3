//! Where two recurrences overlap in time.
//!
//! Who shares what with whom is the caller's to know. Bounded by a limit of clashes and of occurrences looked at.

use std::collections::VecDeque;

use jiff::Timestamp;

use crate::occurrences::Occurrence;
use crate::recurrence::Recurrence;

const MAX_LOOKED_AT: usize = 1_000_000;

/// Two occurrences that overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clash {
    /// The occurrence of the first recurrence.
    pub a: Occurrence,
    /// The occurrence of the second.
    pub b: Occurrence,
}

/// The first clashes of two recurrences, and how far they were looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clashes {
    /// In order of the instant at which the overlap begins.
    pub first: Vec<Clash>,
    /// Overlaps that begin before this instant are all in `first`. Less than `until` when the limit was reached,
    /// or after 1,000,000 occurrences.
    pub checked_until: Timestamp,
}

/// The first `limit` clashes of `a` and `b` among occurrences that are not over at `from` and start before
/// `until`.
///
/// Occurrences are half open, so one may begin where another ends. One without duration clashes only when it lies
/// strictly inside the other.
pub fn first_clashes(
    a: &Recurrence,
    b: &Recurrence,
    from: Timestamp,
    until: Timestamp,
    limit: usize,
) -> Clashes {
    let mut of_a = a.current(from).take_while(|it| it.start < until).peekable();
    let mut of_b = b.current(from).take_while(|it| it.start < until).peekable();
    let (mut open_a, mut open_b) = (Open::default(), Open::default());
    let mut first = Vec::new();
    if limit == 0 {
        return Clashes { first, checked_until: from };
    }
    for _ in 0..MAX_LOOKED_AT {
        let a_is_next = match (of_a.peek(), of_b.peek()) {
            (None, None) => return Clashes { first, checked_until: until },
            (Some(a), Some(b)) => a.start <= b.start,
            (a, _) => a.is_some(),
        };
        let (next, own, other) = if a_is_next {
            (of_a.next(), &mut open_a, &mut open_b)
        } else {
            (of_b.next(), &mut open_b, &mut open_a)
        };
        let Some(next) = next else { break };
        other.close(next.start);
        for open in other.0.iter().filter(|open| overlap(open, &next)) {
            first.push(if a_is_next { Clash { a: next, b: *open } } else { Clash { a: *open, b: next } });
            if first.len() == limit {
                return Clashes { first, checked_until: next.start };
            }
        }
        own.open(next, limit);
    }
    let looked_at = of_a.peek().into_iter().chain(of_b.peek()).map(|it| it.start).min();
    Clashes { first, checked_until: looked_at.unwrap_or(until) }
}

fn overlap(a: &Occurrence, b: &Occurrence) -> bool {
    a.start < b.end && b.start < a.end
}

/// Occurrences under way. All of one recurrence last alike, so those that begin first end first.
#[derive(Default)]
struct Open(VecDeque<Occurrence>);

impl Open {
    fn close(&mut self, now: Timestamp) {
        while self.0.front().is_some_and(|it| it.end <= now) {
            self.0.pop_front();
        }
    }

    fn open(&mut self, occurrence: Occurrence, limit: usize) {
        // What is open meets the next one of the other side in full, so more than the limit is never needed.
        if self.0.len() == limit.min(MAX_LOOKED_AT) {
            self.0.pop_front();
        }
        self.0.push_back(occurrence);
    }
}
