//! Decides which of several VEVENTs for the same occurrence applies (RFC 5545, section 3.8.7.4; RFC 5546, section
//! 2.1.5): the one with the highest SEQUENCE, then the latest DTSTAMP.
//!
//! Their order in the file never decides.

use jiff::Timestamp;

use super::component::Component;
use super::value::{IcalTime, when};
use super::when::PROPERTIES;

/// A VEVENT, and what its VCALENDAR says about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Statement<'a> {
    pub(super) event: &'a Component,
    /// The index of its VCALENDAR in the file.
    pub(super) calendar: usize,
    /// Whether it cancels, by STATUS or METHOD.
    pub(super) cancels: bool,
    /// METHOD:ADD: it adds an occurrence (RFC 5546, section 3.2.4).
    pub(super) adds: bool,
    pub(super) rank: Rank,
}

/// SEQUENCE, and DTSTAMP if it can be read.
pub(super) type Rank = (i64, Option<Timestamp>);

impl<'a> Statement<'a> {
    pub(super) fn new(event: &'a Component, calendar: usize, method: &str) -> Self {
        let status = event.first("STATUS").map_or("", |line| line.value.trim());
        Self {
            event,
            calendar,
            cancels: method == "CANCEL" || status.eq_ignore_ascii_case("CANCELLED"),
            adds: method == "ADD",
            rank: (sequence(event).unwrap_or(0), stamp(event)),
        }
    }

    /// Whether both together show that this one is newer.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        let ((ours, our_stamp), (theirs, their_stamp)) = (self.rank, other.rank);
        ours > theirs
            || ours == theirs && our_stamp.zip(their_stamp).is_some_and(|(ours, theirs)| ours > theirs)
    }

    /// Whether both have the same text for when it happens.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        let says = |it: &Self| {
            let lines = it.event.properties.iter().filter(|line| PROPERTIES.contains(&line.name.as_str()));
            let mut list: Vec<String> =
                lines.map(|line| format!("{} {:?} {}", line.name, line.parameters, line.value)).collect();
            list.sort();
            list
        };
        self.cancels == other.cancels && says(self) == says(other)
    }
}

/// The statement that may apply: the newest, preferably one that does not cancel, and of these the first.
pub(super) fn newest<'b, 'a>(all: &'b [Statement<'a>]) -> Option<&'b Statement<'a>> {
    let ranked = all.iter().enumerate();
    ranked.max_by_key(|(at, it)| (it.rank, !it.cancels, std::cmp::Reverse(*at))).map(|(_, it)| it)
}

/// SEQUENCE; 0 if it is absent. `None` if it is not a number.
pub(super) fn sequence(event: &Component) -> Option<i64> {
    event.first("SEQUENCE").map_or(Some(0), |line| line.value.trim().parse().ok())
}

fn stamp(event: &Component) -> Option<Timestamp> {
    match when(&event.first("DTSTAMP")?.value)? {
        IcalTime::Utc(at) => Some(at),
        _ => None,
    }
}
