//! Reads a file into its series, with one result for each event.
//!
//! Components are grouped by UID (RFC 5545, section 3.8.4.7), wherever in the file they are. [`super::statement`]
//! decides which of several revisions applies. Every event gets a result.

use std::collections::{BTreeMap, HashMap};

use super::component::{self, Component};
use super::details;
use super::lines::ContentLine;
use super::series::{BuiltSeries, build_series};
use super::statement::{Statement, newest, sequence};
use super::value::{IcalTime, when, write_date, write_utc};
use super::when::{self, ClockTime};
use super::zones::FileZones;
use super::{Import, ImportResult, ImportedEvent, ReadOptions, Remark, Series, overrides, participants};
use crate::recurrence::Recurrence;
use crate::spec::RecurrenceSpec;

/// Reads a file: UTF-8 (Windows-1252 for lines that are not), or UTF-16 with a byte order mark.
pub fn read(bytes: &[u8], options: &ReadOptions) -> Import {
    let decoded = utf_16(bytes);
    let file = component::parse_file(decoded.as_deref().map_or(bytes, str::as_bytes));
    let mut import = Import::default();
    import.notes.extend(file.notes.into_iter().map(|(line, text)| Remark::new(line, text)));
    let mut zones = FileZones::new(&file.calendars, options.time_zone.as_deref());
    for calendar in &file.calendars {
        let bad = calendar.bad.iter();
        import
            .notes
            .extend(bad.map(|(bad, _)| Remark::new(bad.number, format!("\"{}\" is no property", bad.text))));
        import.events.extend(calendar.children.iter().filter_map(left_out_component));
    }
    for group in groups(&file.calendars, &mut import.events) {
        group.read_into(&mut zones, options, &mut import.events);
    }
    import.events.sort_by_key(|event| event.line);
    import.notes.sort_by_key(|note| note.line);
    import
}

/// Decodes UTF-16 with a byte order mark.
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

/// A component that is not an event: it is left out, and reported.
fn left_out_component(it: &Component) -> Option<ImportedEvent> {
    if matches!(it.kind.as_str(), "VEVENT" | "VTIMEZONE") {
        return None;
    }
    Some(imported_event(it, ImportResult::LeftOut(format!("a {} is no event", it.kind))))
}

fn imported_event(it: &Component, result: ImportResult) -> ImportedEvent {
    ImportedEvent {
        line: it.line,
        uid: uid(it),
        title: it.first("SUMMARY").map(|line| title(&line.text())),
        result,
    }
}

fn uid(it: &Component) -> Option<String> {
    it.first("UID").map(|line| line.text().trim().to_owned()).filter(|uid| !uid.is_empty())
}

/// Without line ends and repeated spaces.
fn title(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The components with the same UID.
#[derive(Default)]
struct UidGroup<'a> {
    events: Vec<Statement<'a>>,
    changes: Vec<Statement<'a>>,
}

/// Groups the events that may be taken. Adds the result of all others to `out`.
fn groups<'a>(calendars: &'a [Component], out: &mut Vec<ImportedEvent>) -> Vec<UidGroup<'a>> {
    let mut groups: Vec<UidGroup<'_>> = Vec::new();
    let mut by_uid: HashMap<String, usize> = HashMap::new();
    for (number, calendar) in calendars.iter().enumerate() {
        let method = method(calendar);
        let is_answer = matches!(method.as_str(), "REPLY" | "COUNTER" | "DECLINECOUNTER" | "REFRESH");
        let scale =
            calendar.first("CALSCALE").filter(|it| !it.value.trim().eq_ignore_ascii_case("GREGORIAN"));
        for it in calendar.children.iter().filter(|it| it.kind == "VEVENT") {
            if is_answer {
                let why = format!("METHOD:{method} is an answer to an event, not one");
                out.push(imported_event(it, ImportResult::LeftOut(why)));
                continue;
            }
            if let Some(line) = scale {
                let why = "CALSCALE: allowed is GREGORIAN";
                out.push(imported_event(it, ImportResult::Refused(Remark::new(line.number, why))));
                continue;
            }
            let at = match uid(it) {
                Some(uid) => *by_uid.entry(uid).or_insert(groups.len()),
                None => groups.len(),
            };
            if at == groups.len() {
                groups.push(UidGroup::default());
            }
            let statement = Statement::new(it, number, &method);
            match it.first("RECURRENCE-ID") {
                None if !statement.adds => groups[at].events.push(statement),
                _ => groups[at].changes.push(statement),
            }
        }
    }
    groups
}

impl UidGroup<'_> {
    fn read_into(&self, zones: &mut FileZones<'_>, options: &ReadOptions, out: &mut Vec<ImportedEvent>) {
        let Some(master) = newest(&self.events) else {
            let all: Vec<&Statement<'_>> = self.changes.iter().collect();
            return read_without_series(&all, "its series is not in the file", (zones, options), out);
        };
        let line = master.event.line;
        for it in self.events.iter().filter(|it| !std::ptr::eq(it.event, master.event)) {
            let result = if master.is_newer_than(it) {
                ImportResult::LeftOut(format!("an older revision of the event of line {line}"))
            } else if master.says_the_same(it) {
                ImportResult::LeftOut(format!("the same as the event of line {line}"))
            } else {
                let why = format!("UID: the event of line {line} has the same; allowed is one of its own");
                ImportResult::Refused(Remark::new(it.event.line, why))
            };
            out.push(imported_event(it.event, result));
        }
        if master.cancels {
            out.push(imported_event(master.event, ImportResult::LeftOut("it is cancelled".to_owned())));
            // What was said about an occurrence after the cancellation is not cancelled.
            let since: Vec<&Statement<'_>> =
                self.changes.iter().filter(|it| it.is_newer_than(master)).collect();
            let gone = format!("its series, of line {line}, is cancelled");
            return read_without_series(&since, &gone, (zones, options), out);
        }
        match read_series(master, &self.changes, zones, options) {
            Err(why) => out.push(imported_event(master.event, ImportResult::Refused(why))),
            Ok((series, superseded)) => {
                out.push(imported_event(master.event, ImportResult::Taken(Box::new(series))));
                let told = |(it, line, is_newer)| {
                    let what = if is_newer { "an older revision of" } else { "the same as" };
                    imported_event(it, ImportResult::LeftOut(format!("{what} the component of line {line}")))
                };
                out.extend(superseded.into_iter().map(told));
            }
        }
    }
}

/// Components for single occurrences without their series, which is `gone`: each occurrence becomes an event of its
/// own.
fn read_without_series(
    changes: &[&Statement<'_>],
    gone: &str,
    (zones, options): (&mut FileZones<'_>, &ReadOptions),
    out: &mut Vec<ImportedEvent>,
) {
    let mut spoken: BTreeMap<String, Vec<Statement<'_>>> = BTreeMap::new();
    for it in changes {
        let Some(line) = it.event.first("RECURRENCE-ID") else {
            // Added by METHOD:ADD.
            let start = it.event.first("DTSTART").map_or("", |line| line.value.trim());
            spoken.entry(format!("+{start}")).or_default().push(**it);
            continue;
        };
        match overrides::this_and_future(line) {
            Err(why) => out.push(imported_event(it.event, ImportResult::Refused(why))),
            Ok(true) => {
                let why = format!("RECURRENCE-ID: {gone}, and from here on there is nothing to change");
                out.push(imported_event(it.event, ImportResult::Refused(Remark::new(line.number, why))));
            }
            Ok(false) => {
                zones.enter(it.calendar);
                spoken.entry(occurrence_key(line, zones)).or_default().push(**it);
            }
        }
    }
    for (occurrence, statements) in spoken {
        let Some(holds) = newest(&statements) else { continue };
        let line = holds.event.line;
        for it in statements.iter().filter(|it| !std::ptr::eq(it.event, holds.event)) {
            let result = if holds.is_newer_than(it) {
                ImportResult::LeftOut(format!("an older revision of the component of line {line}"))
            } else if holds.says_the_same(it) {
                ImportResult::LeftOut(format!("the same as the component of line {line}"))
            } else {
                let why = format!("RECURRENCE-ID: the component of line {line} has the same; allowed is one");
                ImportResult::Refused(Remark::new(it.event.line, why))
            };
            out.push(imported_event(it.event, result));
        }
        let result = if holds.cancels {
            ImportResult::LeftOut(format!("it is cancelled, and {gone}"))
        } else {
            match read_single(holds, (&occurrence, gone), zones, options) {
                Ok(series) => ImportResult::Taken(Box::new(series)),
                Err(why) => ImportResult::Refused(why),
            }
        };
        out.push(imported_event(holds.event, result));
    }
}

/// A name for the occurrence that a RECURRENCE-ID means, the same in all notations: a date, or an instant in UTC.
fn occurrence_key(line: &ContentLine, zones: &mut FileZones<'_>) -> String {
    let written = || line.value.trim().to_owned();
    let local = match when(&line.value) {
        None => return written(),
        Some(IcalTime::Day(day)) => return write_date(day),
        Some(IcalTime::Utc(at)) => return write_utc(at),
        Some(IcalTime::Local(local)) => local,
    };
    let span = (local, local);
    let known = match line.parameter("TZID") {
        Some(tzid) => zones.resolve(tzid, span),
        None => zones.floating(span),
    };
    known.ok().and_then(|known| known.tz.to_timestamp(local).ok()).map_or_else(written, write_utc)
}

/// Takes one occurrence without its series.
fn read_single(
    change: &Statement<'_>,
    (occurrence, gone): (&str, &str),
    zones: &mut FileZones<'_>,
    options: &ReadOptions,
) -> Result<Series, Remark> {
    let of_series =
        |line: &ContentLine| matches!(line.name.as_str(), "RRULE" | "EXRULE" | "RDATE" | "EXDATE");
    let mut single = change.event.clone();
    single.properties.retain(|line| !of_series(line));
    let (mut series, _) = read_series(&Statement { event: &single, ..*change }, &[], zones, options)?;
    let what = |line: &ContentLine| format!("{}: {gone}, and this is one occurrence; left", line.name);
    let left = change.event.properties.iter().filter(|line| of_series(line));
    series.remarks.extend(left.map(|line| Remark::new(line.number, what(line))));
    if let Some(line) = change.event.first("RECURRENCE-ID") {
        series.uid = format!("{}/{occurrence}", series.uid);
        let why = format!("RECURRENCE-ID: {gone}; taken as an event of its own");
        series.remarks.push(Remark::new(line.number, why));
    } else {
        series.uid = format!("{}/{}", series.uid, occurrence.trim_start_matches('+'));
        let why = format!("METHOD:ADD: {gone}; taken as an event of its own");
        series.remarks.push(Remark::new(change.event.line, why));
    }
    series.remarks.sort_by_key(|remark| remark.line);
    Ok(series)
}

type Superseded<'a> = Vec<(&'a Component, u32, bool)>;

fn read_series<'a>(
    statement: &Statement<'a>,
    others: &[Statement<'a>],
    zones: &mut FileZones<'_>,
    options: &ReadOptions,
) -> Result<(Series, Superseded<'a>), Remark> {
    let master = statement.event;
    zones.enter(statement.calendar);
    let speaking: Vec<&Component> = others.iter().map(|it| it.event).collect();
    let (mut clock, times) = when::read_times(master, &speaking, zones)?;
    let (start, length) = (times.start, times.length);
    let BuiltSeries { spec, superseded } = build_series(statement, &mut clock, times, others)?;
    let at = clock.instant(start);
    let mut remarks = std::mem::take(&mut clock.remarks);
    let seconds = length.0 * 86_400 + length.1;
    let recurs = spec.rule.is_some() || !spec.dates.is_empty();
    let text = |name: &str| master.first(name).map(ContentLine::text);
    let mut details = details::read_details(master);
    if options.location_is_resource {
        details.location = None;
    }
    let participants = participants::read_participants(master, options, &mut remarks);
    let reminders = participants::read_reminders(master, (&spec.start, at), seconds, recurs, &mut remarks);
    remarks.extend(participants::not_taken(master));
    let is_held = |it: &&Statement<'_>| {
        !it.cancels && superseded.iter().all(|(other, ..)| !std::ptr::eq(*other, it.event))
    };
    remarks.extend(
        others.iter().filter(is_held).filter_map(|it| participants::override_differences(master, it.event)),
    );
    remark_oddities(master, &mut remarks);
    let name = title(&text("SUMMARY").unwrap_or_default());
    if name.is_empty() {
        remarks.push(Remark::new(master.line, "SUMMARY: missing; titled \"(no title)\""));
    }
    let transparent =
        master.first("TRANSP").is_some_and(|it| it.value.trim().eq_ignore_ascii_case("TRANSPARENT"));
    remarks.sort_by_key(|remark| remark.line);
    let series = Series {
        uid: uid(master).unwrap_or_else(|| made_uid(&name, start, &spec)),
        name: text("X-BELFRY-NAME"),
        sequence: sequence(master).filter(|_| master.first("SEQUENCE").is_some()),
        title: if name.is_empty() { "(no title)".to_owned() } else { name },
        description: details.description,
        location: details.location,
        url: details.url,
        spec,
        transparent,
        people: participants.people,
        resources: participants.resources,
        reminders,
        remarks,
    };
    Ok((series, superseded))
}

/// A UID for an event without one, although RFC 5545 requires it: made of title and time.
fn made_uid(title: &str, start: ClockTime, spec: &RecurrenceSpec) -> String {
    format!("{title}@{}/{}", when::spec_text(start), spec.time_zone)
}

/// Remarks on odd lines and on STATUS.
fn remark_oddities(event: &Component, remarks: &mut Vec<Remark>) {
    for (bad, _) in &event.bad {
        remarks.push(Remark::new(bad.number, format!("\"{}\" is no property: passed over", bad.text)));
    }
    for line in &event.properties {
        if line.not_utf8 {
            remarks.push(Remark::new(line.number, format!("{}: not UTF-8; read as Windows-1252", line.name)));
        }
        if line.name == "SEQUENCE" && sequence(event).is_none() {
            remarks.push(Remark::new(line.number, "SEQUENCE: not a number: taken as 0"));
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
    /// The recurrence of the series, checked.
    pub fn recurrence(&self) -> Result<Recurrence, crate::RecurrenceError> {
        Recurrence::new(&self.spec)
    }
}
