//! A file to its series, one outcome for each.
//!
//! Components are grouped by UID (RFC 5545, section 3.8.4.7); of two revisions the higher SEQUENCE holds. Never: an event
//! without an outcome.

use std::collections::{BTreeMap, HashMap};

use super::about;
use super::component::{self, Component};
use super::when::{self, Named};
use super::zones::Zones;
use super::{Event, Import, Made, Options, Remark, Series, changes, who};
use crate::recurrence::Recurrence;
use crate::spec::RecurrenceSpec;

/// Reads a file: UTF-8, Windows-1252 where a line is not, or UTF-16 with its mark.
pub fn read(bytes: &[u8], options: &Options) -> Import {
    let decoded = utf_16(bytes);
    let file = component::read(decoded.as_deref().map_or(bytes, str::as_bytes));
    let mut import = Import::default();
    import.notes.extend(file.notes.into_iter().map(|(line, text)| Remark::new(line, text)));
    for calendar in &file.calendars {
        let mut zones = Zones::new(calendar, options.time_zone.as_deref());
        let bad = calendar.bad.iter();
        import
            .notes
            .extend(bad.map(|(bad, _)| Remark::new(bad.number, format!("\"{}\" is no property", bad.text))));
        for group in groups(calendar) {
            group.read(&method(calendar), &mut zones, options, &mut import.events);
        }
        import.events.extend(calendar.children.iter().filter_map(other));
    }
    import.events.sort_by_key(|event| event.line);
    import.notes.sort_by_key(|note| note.line);
    import
}

/// The text of UTF-16 with a byte order mark.
fn utf_16(bytes: &[u8]) -> Option<String> {
    let pair: fn([u8; 2]) -> u16 = match bytes {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return None,
    };
    let units: Vec<u16> = bytes[2..].chunks_exact(2).map(|it| pair([it[0], it[1]])).collect();
    Some(String::from_utf16_lossy(&units))
}

fn method(calendar: &Component) -> String {
    calendar.first("METHOD").map_or(String::new(), |line| line.value.trim().to_ascii_uppercase())
}

/// A component that is no event: there is nothing to take, and that is told.
fn other(it: &Component) -> Option<Event> {
    if matches!(it.kind.as_str(), "VEVENT" | "VTIMEZONE") {
        return None;
    }
    Some(event(it, Made::LeftOut(format!("a {} is no event", it.kind))))
}

fn event(it: &Component, made: Made) -> Event {
    Event { line: it.line, uid: uid(it), title: it.first("SUMMARY").map(|line| title(&line.text())), made }
}

fn uid(it: &Component) -> Option<String> {
    it.first("UID").map(|line| line.text().trim().to_owned()).filter(|uid| !uid.is_empty())
}

/// Without line ends and needless spaces.
fn title(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn sequence(it: &Component) -> i64 {
    it.first("SEQUENCE").and_then(|line| line.value.trim().parse().ok()).unwrap_or(0)
}

/// The components of one UID.
#[derive(Default)]
struct Group<'a> {
    events: Vec<&'a Component>,
    changes: Vec<&'a Component>,
}

fn groups(calendar: &Component) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut by_uid: HashMap<String, usize> = HashMap::new();
    for it in calendar.children.iter().filter(|it| it.kind == "VEVENT") {
        let at = match uid(it) {
            Some(uid) => *by_uid.entry(uid).or_insert(groups.len()),
            None => groups.len(),
        };
        if at == groups.len() {
            groups.push(Group::default());
        }
        match it.first("RECURRENCE-ID") {
            None => groups[at].events.push(it),
            Some(_) => groups[at].changes.push(it),
        }
    }
    groups
}

impl Group<'_> {
    fn read(&self, method: &str, zones: &mut Zones<'_>, options: &Options, out: &mut Vec<Event>) {
        if matches!(method, "REPLY" | "COUNTER" | "DECLINECOUNTER" | "REFRESH") {
            let why = format!("METHOD:{method} is an answer to an event, not one");
            out.extend(
                self.events.iter().chain(&self.changes).map(|it| event(it, Made::LeftOut(why.clone()))),
            );
            return;
        }
        // The first of the highest revision holds.
        let newest =
            self.events.iter().enumerate().max_by_key(|(at, it)| (sequence(it), std::cmp::Reverse(*at)));
        let Some((newest, master)) = newest else {
            for change in &self.changes {
                out.push(event(change, alone(change, method, zones, options)));
            }
            return;
        };
        for (_, it) in self.events.iter().enumerate().filter(|(at, _)| *at != newest) {
            let line = master.line;
            let made = if sequence(it) < sequence(master) {
                Made::LeftOut(format!("an older revision of the event of line {line}"))
            } else {
                Made::Refused(Remark::new(
                    it.line,
                    format!("UID: the event of line {line} has the same; allowed is one of its own"),
                ))
            };
            out.push(event(it, made));
        }
        if method == "CANCEL" || changes::is_cancelled(master) {
            out.push(event(master, Made::LeftOut("it is cancelled".to_owned())));
            return;
        }
        let made = taken(master, &self.newest_changes(), zones, options);
        out.push(event(master, made.map_or_else(Made::Refused, |it| Made::Taken(Box::new(it)))));
    }

    /// Of several components for one occurrence that of the highest revision, the last of those.
    fn newest_changes(&self) -> Vec<&Component> {
        let mut newest: BTreeMap<(String, bool), &Component> = BTreeMap::new();
        for it in &self.changes {
            let Some(line) = it.first("RECURRENCE-ID") else { continue };
            let key = (line.value.trim().to_owned(), line.parameter("RANGE").is_some());
            let kept = newest.entry(key).or_insert(it);
            if sequence(it) >= sequence(kept) {
                *kept = it;
            }
        }
        newest.into_values().collect()
    }
}

/// A change whose series is elsewhere: an event of its own.
fn alone(change: &Component, method: &str, zones: &mut Zones<'_>, options: &Options) -> Made {
    let Some(line) = change.first("RECURRENCE-ID") else { return Made::LeftOut(String::new()) };
    if line.parameter("RANGE").is_some() {
        let why = "RECURRENCE-ID: the series that it changes from here on is not in the file";
        return Made::Refused(Remark::new(line.number, why));
    }
    if method == "CANCEL" || changes::is_cancelled(change) {
        return Made::LeftOut("it is cancelled, and its series is not in the file".to_owned());
    }
    match taken(change, &[], zones, options) {
        Err(why) => Made::Refused(why),
        Ok(mut series) => {
            series.uid = format!("{}/{}", series.uid, line.value.trim());
            let why = "RECURRENCE-ID: its series is not in the file; taken as an event of its own";
            series.remarks.push(Remark::new(line.number, why));
            Made::Taken(Box::new(series))
        }
    }
}

fn taken(
    master: &Component,
    others: &[&Component],
    zones: &mut Zones<'_>,
    options: &Options,
) -> Result<Series, Remark> {
    let (mut clock, times) = when::read(master, zones)?;
    let (start, length) = (times.start, times.length);
    let (spec, mut remarks) = changes::series(master, &mut clock, times, others)?;
    let at = clock.instant(start);
    let seconds = length.0 * 86_400 + length.1;
    let recurs = spec.rule.is_some() || !spec.dates.is_empty();
    let text = |name: &str| master.first(name).map(super::lines::Line::text);
    let mut about = about::read(master);
    if options.location_is_resource {
        about.location = None;
    }
    let who = who::who(master, options, &mut remarks);
    let reminders = who::reminders(master, (&spec.start, at), seconds, recurs, &mut remarks);
    remarks.extend(who::left(master));
    remarks.extend(
        others.iter().filter(|it| !changes::is_cancelled(it)).filter_map(|it| who::differs(master, it)),
    );
    odd(master, &mut remarks);
    let name = title(&text("SUMMARY").unwrap_or_default());
    if name.is_empty() {
        remarks.push(Remark::new(master.line, "SUMMARY: missing; titled \"(no title)\""));
    }
    let transparent =
        master.first("TRANSP").is_some_and(|it| it.value.trim().eq_ignore_ascii_case("TRANSPARENT"));
    remarks.sort_by_key(|remark| remark.line);
    Ok(Series {
        uid: uid(master).unwrap_or_else(|| made_uid(&name, start, &spec)),
        name: text("X-BELFRY-NAME"),
        sequence: master.first("SEQUENCE").and_then(|line| line.value.trim().parse().ok()),
        title: if name.is_empty() { "(no title)".to_owned() } else { name },
        description: about.description,
        location: about.location,
        url: about.url,
        spec,
        transparent,
        people: who.people,
        resources: who.resources,
        reminders,
        remarks,
    })
}

/// For an event without UID, which RFC 5545 asks for: what it is, and when.
fn made_uid(title: &str, start: Named, spec: &RecurrenceSpec) -> String {
    format!("{title}@{}/{}", when::text(start), spec.time_zone)
}

/// What was odd about lines, and STATUS.
fn odd(event: &Component, remarks: &mut Vec<Remark>) {
    for (bad, _) in &event.bad {
        remarks.push(Remark::new(bad.number, format!("\"{}\" is no property: passed over", bad.text)));
    }
    for line in &event.properties {
        if line.guessed {
            remarks.push(Remark::new(line.number, format!("{}: not UTF-8; read as Windows-1252", line.name)));
        }
        if line.name == "STATUS" && line.value.trim().eq_ignore_ascii_case("TENTATIVE") {
            remarks.push(Remark::new(line.number, "STATUS:TENTATIVE: taken as if it were certain"));
        }
    }
    let broken = event.children.iter().filter(|it| it.open.is_some());
    remarks.extend(broken.map(|it| Remark::new(it.line, format!("{}: it does not end", it.kind))));
    if event.first("UID").is_none() {
        remarks.push(Remark::new(event.line, "UID: missing; its name is made of SUMMARY and DTSTART"));
    }
}

impl Series {
    /// Its recurrence, as the calendar checked it.
    pub fn recurrence(&self) -> Result<Recurrence, crate::RecurrenceError> {
        Recurrence::new(&self.spec)
    }
}
