//! Reads the participants, resources and reminders of an event, and tells what is not taken.
//!
//! Every property that is dropped is named in a remark, except for the bookkeeping of calendars (DTSTAMP, CREATED,
//! LAST-MODIFIED) and for values that are the default anyway.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::component::Component;
use super::lines::{ContentLine, texts};
use super::value::{IcalDuration, IcalTime, when};
use super::when::PROPERTIES;
use super::{Person, ReadOptions, Remark, reminders};
use crate::reminders::ReminderTime;

/// The longest time before a reminded event, in minutes: 30 days.
const MAX_MINUTES: i64 = 30 * 24 * 60;
/// The most reminders of an event, repetitions included.
const MAX_REMINDERS: usize = 64;

/// Properties that are read elsewhere, or are bookkeeping of calendars.
const KNOWN: [&str; 17] = [
    "DESCRIPTION",
    "UID",
    "SUMMARY",
    "DTSTAMP",
    "CREATED",
    "LAST-MODIFIED",
    "SEQUENCE",
    "TRANSP",
    "STATUS",
    "ATTENDEE",
    "ORGANIZER",
    "RESOURCES",
    "LOCATION",
    "X-BELFRY-NAME",
    "X-BELFRY-TIMEZONE",
    "X-BELFRY-DST",
    "X-LIC-ERROR",
];

/// The people and resources of an event.
#[derive(Default)]
pub(super) struct Participants {
    pub(super) people: Vec<Person>,
    pub(super) resources: Vec<String>,
}

pub(super) fn read_participants(
    event: &Component,
    options: &ReadOptions,
    remarks: &mut Vec<Remark>,
) -> Participants {
    let mut participants = Participants::default();
    let mut declined = BTreeSet::new();
    for line in event.all("ATTENDEE") {
        let (name, address) = person(line);
        let says = |name: &str| line.parameter(name).unwrap_or_default().to_ascii_uppercase();
        let mut leave = |why: &str| remarks.push(Remark::new(line.number, format!("ATTENDEE: {name} {why}")));
        if matches!(says("CUTYPE").as_str(), "ROOM" | "RESOURCE") {
            match says("PARTSTAT").as_str() {
                "DECLINED" => leave("has declined: not taken"),
                _ => participants.add_resource(&name),
            }
        } else if says("PARTSTAT") == "DECLINED" {
            declined.extend(address.clone());
            leave("has declined: not taken");
        } else if says("ROLE") == "NON-PARTICIPANT" {
            leave("is told and does not take part (NON-PARTICIPANT): not taken");
        } else {
            if says("ROLE") == "OPT-PARTICIPANT" {
                leave("may stay away (OPT-PARTICIPANT), which can't be said: taken as everybody");
            }
            participants.add(name, address);
        }
    }
    if let Some(line) = event.first("ORGANIZER") {
        let (name, address) = person(line);
        let is_calendar = address.as_ref().is_some_and(|it| it.ends_with("@group.calendar.google.com"));
        if is_calendar {
            remarks.push(Remark::new(line.number, format!("ORGANIZER: {name} is a calendar: not taken")));
        } else if !address.as_ref().is_some_and(|it| declined.contains(it)) {
            participants.add(name, address);
        }
    }
    for line in event.all("RESOURCES") {
        for name in texts(&line.value) {
            participants.add_resource(&name);
        }
    }
    if let Some(line) = event.first("LOCATION").filter(|_| options.location_is_resource) {
        participants.add_resource(&line.text());
    }
    participants
}

impl Participants {
    /// Adds a person once: by address, or else by name.
    fn add(&mut self, name: String, address: Option<String>) {
        let is_there = self.people.iter().any(|it| match (&it.address, &address) {
            (Some(one), Some(other)) => one == other,
            (None, None) => it.name == name,
            _ => false,
        });
        if !is_there {
            self.people.push(Person { name, address });
        }
    }

    fn add_resource(&mut self, name: &str) {
        let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
        if !name.is_empty() && !self.resources.contains(&name) {
            self.resources.push(name);
        }
    }
}

/// Name and address of a calendar user.
fn person(line: &ContentLine) -> (String, Option<String>) {
    let value = line.value.trim();
    let scheme = value.get(..7).filter(|it| it.eq_ignore_ascii_case("mailto:"));
    let address = scheme.map_or(line.parameter("EMAIL"), |_| Some(value[7..].trim()));
    let address = address.map(str::to_lowercase).filter(|it| is_address(it));
    let name = line.parameter("CN").map(|name| name.split_whitespace().collect::<Vec<_>>().join(" "));
    let name = name.map(|it| it.trim_matches('\'').to_owned()).filter(|it| !it.is_empty());
    let name = name.or_else(|| address.clone()).unwrap_or_else(|| value.to_owned());
    (name, address)
}

/// Whether a Schedule accepts this as an address.
fn is_address(text: &str) -> bool {
    let mut parts = text.split('@');
    let filled = |part: Option<&str>| part.is_some_and(|it| !it.is_empty());
    filled(parts.next())
        && filled(parts.next())
        && parts.next().is_none()
        && !text.contains(char::is_whitespace)
}

/// When people are reminded of an event. It starts at `local`, which is the instant `start`, and lasts `seconds`;
/// `recurs` tells whether it is a series.
pub(super) fn read_reminders(
    event: &Component,
    (local, start): (&str, Option<Timestamp>),
    seconds: i64,
    recurs: bool,
    remarks: &mut Vec<Remark>,
) -> Vec<ReminderTime> {
    let (mut found, mut at_times) = (BTreeSet::new(), BTreeSet::new());
    for alarm in event.children.iter().filter(|it| it.kind == "VALARM") {
        // Apple writes an alarm that never rings for "none".
        if alarm.first("ACTION").is_some_and(|line| line.value.trim().eq_ignore_ascii_case("NONE")) {
            continue;
        }
        let line = alarm.first("TRIGGER").map_or(alarm.line, |line| line.number);
        match seconds_before(alarm, start, seconds, recurs) {
            Ok(all) => {
                if let Some(at) = reminders::written_reminder(alarm, local, &all) {
                    at_times.insert(at);
                    continue;
                }
                for before in all {
                    if before % 60 != 0 {
                        remarks.push(Remark::new(line, "TRIGGER: not whole minutes: not taken"));
                    } else if (before / 60).abs() > MAX_MINUTES {
                        remarks.push(Remark::new(line, "TRIGGER: more than 30 days: not taken"));
                    } else if found.len() < MAX_REMINDERS {
                        found.insert(before / 60);
                    }
                }
            }
            Err(why) => remarks.push(Remark::new(line, format!("TRIGGER: {why}: not taken"))),
        }
    }
    let before = found.into_iter().rev().map(|before_minutes| ReminderTime::Before { before_minutes });
    before.chain(at_times.into_iter().rev().take(MAX_REMINDERS)).collect()
}

/// How many seconds before the start an alarm and its repetitions ring.
fn seconds_before(
    alarm: &Component,
    start: Option<Timestamp>,
    seconds: i64,
    recurs: bool,
) -> Result<Vec<i64>, &'static str> {
    let line = alarm.first("TRIGGER").ok_or("missing")?;
    let first = match (IcalDuration::read(&line.value), when(&line.value)) {
        (Some(span), _) => {
            let is_end = line.parameter("RELATED").is_some_and(|it| it.eq_ignore_ascii_case("END"));
            -span.total() - if is_end { seconds } else { 0 }
        }
        (_, Some(IcalTime::Utc(at))) if !recurs => {
            start.map(|start| start.as_second() - at.as_second()).ok_or("the start is out of range")?
        }
        (_, Some(IcalTime::Utc(_))) => return Err("one instant, where the event recurs"),
        (_, Some(_)) => return Err("an instant is in UTC, with Z"),
        _ => return Err("neither a duration nor an instant"),
    };
    let number = |name: &str| alarm.first(name).and_then(|line| line.value.trim().parse::<i64>().ok());
    let step =
        alarm.first("DURATION").and_then(|line| IcalDuration::read(&line.value)).map(IcalDuration::total);
    let repeats = step.map_or(0, |_| number("REPEAT").unwrap_or(0).clamp(0, MAX_REMINDERS as i64));
    Ok((0..=repeats).map(|at| first - at * step.unwrap_or(0)).collect())
}

/// The names of properties that are not taken, with the line of the first one.
pub(super) fn not_taken(event: &Component) -> Option<Remark> {
    let is_known = |line: &ContentLine| {
        let value = line.value.trim();
        KNOWN.contains(&line.name.as_str())
            || super::details::LINKS.contains(&line.name.as_str())
            || PROPERTIES.contains(&line.name.as_str())
            || value.is_empty()
            || (line.name == "CLASS" && value.eq_ignore_ascii_case("PUBLIC"))
            || (line.name == "PRIORITY" && value == "0")
    };
    let left: Vec<&ContentLine> = event.properties.iter().filter(|line| !is_known(line)).collect();
    let names: BTreeSet<&str> = left.iter().map(|line| line.name.as_str()).collect();
    let first = left.first()?;
    Some(Remark::new(
        first.number,
        format!("not taken: {}", names.into_iter().collect::<Vec<_>>().join(", ")),
    ))
}

/// In what else than its time an override differs from its series. That is not taken.
pub(super) fn override_differences(event: &Component, change: &Component) -> Option<Remark> {
    let mut names: BTreeSet<&str> =
        event.properties.iter().chain(&change.properties).map(|it| it.name.as_str()).collect();
    names.retain(|name| {
        let books = ["DTSTAMP", "CREATED", "LAST-MODIFIED", "SEQUENCE", "STATUS", "UID"];
        let own = name.starts_with("X-") || books.contains(name) || PROPERTIES.contains(name);
        let values = |it: &Component| {
            let mut list: Vec<String> = it.all(name).map(|line| line.value.to_lowercase()).collect();
            list.sort();
            list
        };
        !own && values(event) != values(change)
    });
    let alarms = |it: &Component| {
        let alarms = it.children.iter().filter(|it| it.kind == "VALARM");
        alarms.map(|it| it.first("TRIGGER").map(|line| line.value.clone())).collect::<BTreeSet<_>>()
    };
    if alarms(event) != alarms(change) {
        names.insert("VALARM");
    }
    if names.is_empty() {
        return None;
    }
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    Some(Remark::new(change.line, format!("one occurrence differs from its series in {names}: not taken")))
}
