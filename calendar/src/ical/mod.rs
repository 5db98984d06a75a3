//! Converts iCalendar text (RFC 5545) to series of events, and back.
//!
//! [`read`] reads a file, whatever is wrong in it. Each event is taken, left out, or refused with its line and the
//! reason; no event affects another. What determines *when* an event happens is taken completely, or the event is
//! refused. The rest (colours, attachments) may be dropped, with a remark. [`write`] makes one calendar with a
//! VTIMEZONE for each zone.
//!
//! We have our own parser because `calcard` keeps no line numbers and needs `chrono-tz`, and `icalendar` reads the
//! clock.
//!
//! Bounds: lines of 64 KiB (longer ones are cut), 100,000 components with 5,000 properties each, nested 8 deep;
//! 1,000 dates and 1,000 overrides for each event; 40,000,000 steps for finding zones.
//!
//! Neither direction reads a clock or opens a file.

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

/// Options for reading a file.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// The zone of floating times and of dates, by IANA or Windows name. If absent: the file's X-WR-TIMEZONE.
    pub time_zone: Option<String>,
    /// Whether LOCATION names a resource that can be double-booked.
    pub location_is_resource: bool,
}

/// A remark on an event, with a line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The line, from 1.
    pub line: u32,
    /// The property, and what happened to it or what is allowed.
    pub text: String,
}

impl Remark {
    pub(crate) fn new(line: u32, text: impl Into<String>) -> Self {
        Self { line, text: text.into() }
    }
}

/// The contents of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Import {
    /// Each series and each single event, in the order of the file.
    pub events: Vec<ImportedEvent>,
    /// What is wrong outside events.
    pub notes: Vec<Remark>,
}

/// One series or single event, and the result of reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedEvent {
    /// The line at which it begins.
    pub line: u32,
    /// UID.
    pub uid: Option<String>,
    /// SUMMARY.
    pub title: Option<String>,
    /// The result.
    pub result: ImportResult,
}

/// The result of reading an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportResult {
    /// The event was taken: everything that says when it happens is here.
    Taken(Box<Series>),
    /// There is nothing to take, for this reason: it is cancelled, or is not an event.
    LeftOut(String),
    /// It can't be taken: the line, and what is allowed.
    Refused(Remark),
}

/// A series of events, or a single event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    /// UID: always the same for the same series, in all files.
    pub uid: String,
    /// The name that Belfry gave it when writing it (X-BELFRY-NAME).
    pub name: Option<String>,
    /// SEQUENCE: the revision.
    pub sequence: Option<i64>,
    /// SUMMARY.
    pub title: String,
    /// DESCRIPTION, and all links except [`Series::url`].
    pub description: Option<String>,
    /// LOCATION.
    pub location: Option<String>,
    /// Where to take part or read more: CONFERENCE, URL, or the link of another property.
    pub url: Option<String>,
    /// When it happens, in local times. After reading it has a `duration` or `nominal_days`.
    pub spec: RecurrenceSpec,
    /// TRANSP:TRANSPARENT: participants are free during the event.
    pub transparent: bool,
    /// The people who take part.
    pub people: Vec<Person>,
    /// Rooms and machines.
    pub resources: Vec<String>,
    /// When people are reminded.
    pub reminders: Vec<ReminderTime>,
    /// What was not taken, or changed. Ignored in writing.
    pub remarks: Vec<Remark>,
}

/// A person who takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// CN, or the address.
    pub name: String,
    /// E-mail address.
    pub address: Option<String>,
}

/// Whether `name` is the IANA or Windows name of a time zone.
pub fn knows_zone(name: &str) -> bool {
    zones::by_name(name).is_some()
}
