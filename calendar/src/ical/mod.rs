//! iCalendar text (RFC 5545) to series of events, and back.
//!
//! [`read`] takes a file apart, whatever is wrong in it: each event of it is taken, left out, or refused with its line and
//! the reason; nothing that one event does touches another. What changes *when* an event happens is taken whole or the
//! event is refused; what does not (colours, attachments) may be left, and is a remark. [`write`] makes one calendar with a
//! VTIMEZONE for each zone.
//!
//! The parser is our own: `calcard` keeps no line numbers and needs `chrono-tz`, and `icalendar` reads the clock.
//!
//! Bounds: lines of 64 KiB (longer ones are cut), 100,000 components of 5,000 properties, 8 deep; 1,000 dates and 1,000
//! overrides of an event; 40,000,000 steps to find zones.
//!
//! Never: a clock, a file, or an event half taken.

mod component;
mod details;
mod instants;
mod length;
mod line_writer;
mod lines;
mod observances;
mod overrides;
mod participants;
mod policy;
mod read;
mod reminders;
mod series;
mod statement;
mod timezone;
mod value;
mod when;
mod windows;
mod write;
mod zones;

use crate::reminders::ReminderTime;
use crate::spec::RecurrenceSpec;

pub use read::read;
pub use write::{Export, write};

/// What a reader may assume.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// Zone of floating times and of dates, by IANA or Windows name. Left out: the file's X-WR-TIMEZONE.
    pub time_zone: Option<String>,
    /// Whether LOCATION names something that can be double-booked.
    pub location_is_resource: bool,
}

/// Something to know about an event, with the line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// From 1.
    pub line: u32,
    /// The property, and what became of it or what is allowed.
    pub text: String,
}

impl Remark {
    pub(crate) fn new(line: u32, text: impl Into<String>) -> Self {
        Self { line, text: text.into() }
    }
}

/// What a file has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Import {
    /// Each series and each event alone, in the order of the file.
    pub events: Vec<ImportedEvent>,
    /// What is wrong outside events.
    pub notes: Vec<Remark>,
}

/// One series, or one event alone, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedEvent {
    /// Where it begins in the file.
    pub line: u32,
    /// UID.
    pub uid: Option<String>,
    /// SUMMARY.
    pub title: Option<String>,
    /// What became of it.
    pub result: ImportResult,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportResult {
    /// All that says when it happens is here.
    Taken(Box<Series>),
    /// There is nothing to take, and why: it is cancelled, or is no event.
    LeftOut(String),
    /// It can't be taken: the place, and what is allowed.
    Refused(Remark),
}

/// A series of events, or one event alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    /// UID: the same for the same series, in all files and for ever.
    pub uid: String,
    /// The name that Belfry gave it when it wrote it (X-BELFRY-NAME).
    pub name: Option<String>,
    /// SEQUENCE: the revision.
    pub sequence: Option<i64>,
    /// SUMMARY.
    pub title: String,
    /// DESCRIPTION, and links beside [`Series::url`].
    pub description: Option<String>,
    /// LOCATION.
    pub location: Option<String>,
    /// CONFERENCE, URL, or another property's link: where one takes part, or reads more.
    pub url: Option<String>,
    /// When it happens. Times are local; one that is read has a `duration` or `nominal_days`.
    pub spec: RecurrenceSpec,
    /// TRANSP:TRANSPARENT: who takes part is free meanwhile.
    pub transparent: bool,
    /// Who takes part.
    pub people: Vec<Person>,
    /// Rooms and things.
    pub resources: Vec<String>,
    /// When somebody is reminded.
    pub reminders: Vec<ReminderTime>,
    /// What was not taken, or not as it stands. Empty in what is written.
    pub remarks: Vec<Remark>,
}

/// Somebody who takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// CN, or the address.
    pub name: String,
    /// E-mail address.
    pub address: Option<String>,
}

/// Whether a name is that of a time zone: IANA's, or Windows'.
pub fn knows_zone(name: &str) -> bool {
    zones::by_name(name).is_some()
}
