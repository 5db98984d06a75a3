//! Which of several VEVENTs holds that speak of the same (RFC 5545, section 3.8.7.4, and RFC 5546, section 2.1.5): that of the
//! highest SEQUENCE, of these that of the latest DTSTAMP. Wherever in the file they stand, in whatever order.
//!
//! Never: a choice by order where neither says which holds.

use jiff::Timestamp;

use super::component::Component;
use super::value::{IcalTime, when};
use super::when::PROPERTIES;

/// A VEVENT, and what its VCALENDAR says of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Statement<'a> {
    pub(super) event: &'a Component,
    /// The place of its VCALENDAR in the file.
    pub(super) calendar: usize,
    /// By STATUS or METHOD.
    pub(super) cancels: bool,
    /// METHOD:ADD: one occurrence more (RFC 5546, section 3.2.4).
    pub(super) adds: bool,
    pub(super) rank: Rank,
}

/// SEQUENCE, and DTSTAMP where it can be read.
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

    /// Whether this is newer, and both say so.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        let ((ours, our_stamp), (theirs, their_stamp)) = (self.rank, other.rank);
        ours > theirs
            || ours == theirs && our_stamp.zip(their_stamp).is_some_and(|(ours, theirs)| ours > theirs)
    }

    /// Whether both say the same of when it happens, in the same words.
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

/// The one that may hold: the newest, of these one that does not cancel, of these the first.
pub(super) fn newest<'b, 'a>(all: &'b [Statement<'a>]) -> Option<&'b Statement<'a>> {
    let ranked = all.iter().enumerate();
    ranked.max_by_key(|(at, it)| (it.rank, !it.cancels, std::cmp::Reverse(*at))).map(|(_, it)| it)
}

/// SEQUENCE; 0 where it is absent.
pub(super) fn sequence(event: &Component) -> Option<i64> {
    event.first("SEQUENCE").map_or(Some(0), |line| line.value.trim().parse().ok())
}

fn stamp(event: &Component) -> Option<Timestamp> {
    match when(&event.first("DTSTAMP")?.value)? {
        IcalTime::Utc(at) => Some(at),
        _ => None,
    }
}
