//! What one participant or resource is held for.
//!
//! Keeps single events in order of time, and runs, each with the slot of its booking. The callers do the expansion.

use std::ops::Deref;
use std::slice;

use crate::spans::{EventRun, Span};

/// A run with fewer events takes more memory than its events.
pub(crate) const SHORT_RUN: u32 = 3;
/// Singles that a search probes first.
const PROBES: usize = 16;

/// The needs of a booking, as indices into the list of all needs.
#[derive(Debug)]
pub(crate) enum NeedNumbers {
    One(u32),
    Many(Box<[u32]>),
}

impl Deref for NeedNumbers {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match self {
            Self::One(need) => slice::from_ref(need),
            Self::Many(needs) => needs,
        }
    }
}

/// A participant or resource. A check of single events reads 64 bytes of it, if the name takes eight.
#[derive(Debug)]
pub(crate) struct NeedIndex<R> {
    pub(crate) name: R,
    pub(crate) capacity: u32,
    /// How many bookings hold it.
    pub(crate) bookings: u32,
    /// In order of their start.
    pub(crate) singles: Vec<Single>,
    pub(crate) repeated: Option<Box<Repeated>>,
    /// The longest buffer before an event, and the longest time from a start to the end of the buffer behind the
    /// event.
    pub(crate) lead: u32,
    pub(crate) reach: i64,
}

/// What holds it repeatedly.
#[derive(Debug, Default)]
pub(crate) struct Repeated {
    /// Slots of bookings that are not held completely.
    pub(crate) endless: Vec<u32>,
    pub(crate) runs: Vec<HeldRun>,
}

/// An event that starts between 1970 and 2106. An event at another time is held as a run of one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Single {
    start: u32,
    length: u32,
    pub(crate) slot: u32,
}

impl Single {
    fn new(event: Span, slot: u32) -> Option<Self> {
        let start = u32::try_from(event.start).ok()?;
        Some(Self { start, length: event.length() as u32, slot })
    }

    pub(crate) fn start(self) -> i64 {
        self.start.into()
    }

    pub(crate) fn event(self) -> Span {
        Span { start: self.start(), end: self.start() + i64::from(self.length) }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct HeldRun {
    pub(crate) run: EventRun,
    pub(crate) slot: u32,
}

impl<R> NeedIndex<R> {
    pub(crate) fn new(name: R) -> Self {
        Self { name, capacity: 1, bookings: 0, singles: Vec::new(), repeated: None, lead: 0, reach: 0 }
    }

    pub(crate) fn runs(&self) -> &[HeldRun] {
        self.repeated.as_ref().map_or(&[], |repeated| &repeated.runs)
    }

    pub(crate) fn endless(&self) -> &[u32] {
        self.repeated.as_ref().map_or(&[], |repeated| &repeated.endless)
    }

    /// How many singles start at or before `at`.
    ///
    /// Each step of a binary search waits for memory. So this first probes singles spread over the whole list,
    /// which the processor fetches at the same time.
    pub(crate) fn singles_started_by(&self, at: i64) -> usize {
        let step = self.singles.len() / PROBES + 1;
        let parts = self.singles.iter().step_by(step).filter(|single| single.start() <= at).count();
        let from = parts.saturating_sub(1) * step;
        let part = &self.singles[from..self.singles.len().min(from + step)];
        from + part.partition_point(|single| single.start() <= at)
    }

    pub(crate) fn enter(&mut self, slot: u32, singles: &[Span], runs: &[EventRun]) {
        if let ([event], []) = (singles, runs)
            && let Some(single) = Single::new(*event, slot)
        {
            // The check before has just read this memory, so a binary search is faster.
            let at = self.singles.partition_point(|other| other.start <= single.start);
            self.singles.insert(at, single);
            return;
        }
        let before = self.singles.len();
        for event in singles {
            self.push(*event, slot);
        }
        for run in runs {
            if run.count >= SHORT_RUN {
                self.push_run(*run, slot);
            } else {
                run.starting_within(run.first - 1, run.last() + 1).for_each(|event| self.push(event, slot));
            }
        }
        if self.singles.len() > before {
            // This sort takes advantage of the parts that are sorted already.
            self.singles.sort_by_key(|single| single.start);
        }
    }

    fn push(&mut self, event: Span, slot: u32) {
        match Single::new(event, slot) {
            Some(single) => self.singles.push(single),
            None => self.push_run(EventRun::one(event), slot),
        }
    }

    fn push_run(&mut self, run: EventRun, slot: u32) {
        self.repeated.get_or_insert_default().runs.push(HeldRun { run, slot });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_in_all_parts_finds_what_a_search_by_halves_finds() {
        for count in 0..100 {
            let mut need = NeedIndex::new("room");
            for index in (0..count).rev() {
                let start = index / 3 * 10;
                need.enter(0, &[Span { start, end: start + 5 }], &[]);
            }
            for at in -1..340 {
                let by_halves = need.singles.partition_point(|single| single.start() <= at);
                assert_eq!(need.singles_started_by(at), by_halves, "{count} singles, at {at}");
            }
        }
    }
}
