//! Reads when an event happens: DTSTART, DTEND, DURATION, RRULE, EXRULE, RDATE and EXDATE, into a
//! [`RecurrenceSpec`].
//!
//! Times of other zones and in UTC become local times of the event's own zone, since those name its occurrences. A
//! value that can't be read is never skipped: it might be the one that cancels a meeting. A date is never
//! converted: if the start is a date, other times become the dates with which they are written.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::Remark;
use super::component::Component;
use super::lines::ContentLine;
use super::policy;
use super::value::{DaysAndSeconds, set_length};
use super::value::{IcalDuration, IcalTime, when};
use super::zones::{FileZones, LocalSpan, ResolvedZone, by_name};
use crate::recurrence::Recurrence;
use crate::rule::{End, RecurrenceRule, Until};
use crate::spec::{MAX_DATES, MAX_RULES, RecurrenceSpec};

/// Properties that say when an event happens.
pub(super) const PROPERTIES: [&str; 8] =
    ["DTSTART", "DTEND", "DURATION", "RRULE", "EXRULE", "RDATE", "EXDATE", "RECURRENCE-ID"];

/// The clock of one event: its zone, or that it is all-day.
pub(super) struct EventClock<'a, 'b> {
    pub(super) zones: &'a mut FileZones<'b>,
    pub(super) name: String,
    pub(super) tz: TimeZone,
    pub(super) all_day: bool,
    /// The stretch of time for which zones are compared by their offsets.
    span: LocalSpan,
    /// Remarks on times, zones and lengths.
    pub(super) remarks: Vec<Remark>,
}

/// A time on the event's own clock, or an instant if it was given on another clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClockTime {
    Day(Date),
    Local(DateTime),
    Instant(Timestamp),
}

/// When an event happens, before its exceptions are converted to names.
pub(super) struct EventTimes {
    /// Contains rules and dates; `except_dates` and `overrides` are empty.
    pub(super) spec: RecurrenceSpec,
    pub(super) length: DaysAndSeconds,
    pub(super) start: ClockTime,
    /// EXDATE: line and time.
    pub(super) except: Vec<(u32, ClockTime)>,
}

pub(super) fn refuse<T>(line: &ContentLine, why: impl std::fmt::Display) -> Result<T, Remark> {
    Err(Remark::new(line.number, format!("{}: {why}", line.name)))
}

/// Reads the clock and the times of an event. `changes` are the other components of the series.
pub(super) fn read_times<'a, 'b>(
    event: &Component,
    changes: &[&Component],
    zones: &'a mut FileZones<'b>,
) -> Result<(EventClock<'a, 'b>, EventTimes), Remark> {
    require_whole(event)?;
    let Some(line) = event.first("DTSTART") else {
        return Err(Remark::new(event.line, "DTSTART: missing; an event needs a start"));
    };
    let mut remarks = Vec::new();
    let value = start_value(line, &mut remarks)?;
    let span = event_span(event, changes, value);
    let known = event_zone(event, line, value, zones, span)?;
    remarks.extend(known.remark.map(|text| Remark::new(line.number, text)));
    let all_day = matches!(value, IcalTime::Day(_));
    let mut clock = EventClock { zones, name: known.name, tz: known.tz, all_day, span, remarks };
    let start = match value {
        IcalTime::Day(day) => ClockTime::Day(day),
        value => clock.own_time(line, value)?,
    };
    let length = clock.length(event, start)?;
    let mut spec = RecurrenceSpec {
        start: spec_text(start),
        time_zone: clock.name.clone(),
        dst: policy::read_policy(event)?,
        ..RecurrenceSpec::default()
    };
    set_length(&mut spec.duration, &mut spec.nominal_days, length, all_day);
    clock.read_rules(event, &mut spec)?;
    spec.dates = clock.read_values(event, "RDATE", true)?.into_iter().map(|(_, text)| text).collect();
    let mut except = Vec::new();
    for line in event.all("EXDATE") {
        for text in line.value.split(',') {
            except.push((line.number, clock.read_value(line, text)?));
        }
    }
    if spec.dates.len() > MAX_DATES || except.len() > MAX_DATES {
        return Err(Remark::new(
            event.line,
            format!("RDATE and EXDATE: at most {MAX_DATES} values of each are allowed"),
        ));
    }
    Ok((clock, EventTimes { spec, length, start, except }))
}

/// Checks that nothing is missing that says when the event happens: the component ends, and its lines are complete.
pub(super) fn require_whole(event: &Component) -> Result<(), Remark> {
    if let Some(line) = event.open {
        return Err(Remark::new(line, "END:VEVENT is missing: what the event still says is not known"));
    }
    if event.full {
        return Err(Remark::new(
            event.line,
            format!("it has more than {} properties", super::component::MAX_PROPERTIES),
        ));
    }
    let says_when = |name: &str| PROPERTIES.contains(&name);
    if let Some((bad, before)) = event.bad.iter().find(|(_, before)| says_when(before)) {
        return Err(Remark::new(
            bad.number,
            format!(
                "\"{}\" is no property, and may belong to the {before} before it: lines are folded with a space",
                bad.text
            ),
        ));
    }
    for line in event.properties.iter().filter(|line| says_when(&line.name)) {
        let once = matches!(line.name.as_str(), "DTSTART" | "DTEND" | "DURATION" | "RECURRENCE-ID");
        if line.cut {
            return refuse(line, format!("longer than {} bytes", super::lines::MAX_LINE));
        }
        if once && event.all(&line.name).count() > 1 {
            return refuse(line, "there are several; allowed is one");
        }
    }
    Ok(())
}

/// DTSTART. A midnight with VALUE=DATE is read as a date.
fn start_value(line: &ContentLine, remarks: &mut Vec<Remark>) -> Result<IcalTime, Remark> {
    let value = when(&line.value).map_or_else(|| refuse(line, unreadable(&line.value)), Ok)?;
    let is_date = line.parameter("VALUE").is_some_and(|it| it.eq_ignore_ascii_case("DATE"));
    let (date, time) = as_written(value);
    match (value, line.parameter("TZID")) {
        (IcalTime::Day(_), Some(tzid)) => {
            let text = format!("DTSTART: TZID={tzid} beside a date, which has no zone: overlooked");
            remarks.push(Remark::new(line.number, text));
        }
        (IcalTime::Local(_) | IcalTime::Utc(_), _) if is_date => {
            if time != Time::midnight() {
                return refuse(line, "VALUE=DATE beside a time of day; allowed is one of the two");
            }
            let text = format!("DTSTART: VALUE=DATE beside a time: taken as that date, {date}");
            remarks.push(Remark::new(line.number, text));
            return Ok(IcalTime::Day(date));
        }
        (IcalTime::Utc(_), Some(tzid)) => {
            let text = format!("DTSTART: TZID={tzid} beside Z: overlooked, since Z is UTC");
            remarks.push(Remark::new(line.number, text));
        }
        _ => {}
    }
    Ok(value)
}

/// The date and the time of day as they are written.
pub(super) fn as_written(value: IcalTime) -> (Date, Time) {
    let local = match value {
        IcalTime::Day(day) => day.to_datetime(Time::midnight()),
        IcalTime::Local(local) => local,
        IcalTime::Utc(at) => Offset::UTC.to_datetime(at),
    };
    (local.date(), local.time())
}

pub(super) fn unreadable(text: &str) -> String {
    let shown: String = text.chars().take(40).collect();
    format!("\"{shown}\" is not allowed; allowed are 20260105, 20260105T100000 and 20260105T100000Z")
}

/// The zone in which the event is kept.
fn event_zone(
    event: &Component,
    line: &ContentLine,
    value: IcalTime,
    zones: &mut FileZones<'_>,
    span: LocalSpan,
) -> Result<ResolvedZone, Remark> {
    if let Some(own) = event.first("X-BELFRY-TIMEZONE").and_then(|line| by_name(&line.value)) {
        // With another zone, an event that is kept at a local time would follow that zone's clock.
        if !matches!(value, IcalTime::Local(_)) || line.parameter("TZID").is_none() {
            return Ok(own);
        }
    }
    match (value, line.parameter("TZID")) {
        (IcalTime::Utc(_), _) => by_name("UTC").map_or_else(|| refuse(line, "UTC is unknown"), Ok),
        (IcalTime::Local(_), Some(tzid)) => zones.resolve(tzid, span).or_else(|why| refuse(line, why)),
        _ => zones.floating(span).or_else(|why| {
            let what = if matches!(value, IcalTime::Day(_)) { "a date" } else { "floating" };
            refuse(line, format!("{what}, and {why}"))
        }),
    }
}

/// The stretch of time for comparing offsets, from the first to the last possible time of the event; ten years if
/// it has no end.
fn event_span(event: &Component, changes: &[&Component], start: IcalTime) -> LocalSpan {
    let local = |value| {
        let (date, time) = as_written(value);
        date.to_datetime(time)
    };
    let start = local(start);
    let ten = super::observances::years_from(start, 10);
    let all = || std::iter::once(&event).chain(changes);
    let values = |name: &'static str| {
        all().flat_map(move |it| it.all(name)).flat_map(|line| line.value.split([',', '/'])).filter_map(when)
    };
    let times: Vec<DateTime> =
        ["DTSTART", "DTEND", "RDATE"].into_iter().flat_map(values).map(local).chain([start]).collect();
    let (first, last) = (times.iter().min().copied(), times.iter().max().copied());
    let (first, last) = (first.unwrap_or(start), last.unwrap_or(start));
    let until = event.all("RRULE").map(|line| last_local_time(start, &line.value).unwrap_or(ten));
    let last = until.max().unwrap_or(last).max(last);
    let lengths = all().flat_map(|it| it.all("DURATION")).filter_map(|line| IcalDuration::read(&line.value));
    let length = lengths.map(|span| span.total().max(0)).max().unwrap_or(0);
    (first, last.checked_add(SignedDuration::from_secs(length)).unwrap_or(last))
}

/// The last local time of a rule that ends.
fn last_local_time(start: DateTime, rule: &str) -> Option<DateTime> {
    let rule = rule.trim().trim_end_matches(';');
    rule.parse::<RecurrenceRule>().ok().filter(RecurrenceRule::is_bounded)?;
    let spec = RecurrenceSpec {
        start: start.to_string(),
        time_zone: "UTC".to_owned(),
        rule: Some(rule.to_owned()),
        ..RecurrenceSpec::default()
    };
    Recurrence::new(&spec).ok()?.before(Timestamp::MAX).map(|last| last.local_start)
}

/// The text as [`RecurrenceSpec`] has it.
pub(super) fn spec_text(named: ClockTime) -> String {
    match named {
        ClockTime::Day(day) => day.to_string(),
        ClockTime::Local(local) => local.to_string(),
        ClockTime::Instant(at) => at.to_string(),
    }
}

impl EventClock<'_, '_> {
    pub(super) fn remark(&mut self, line: u32, text: impl Into<String>) {
        let remark = Remark::new(line, text);
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    fn read_rules(&mut self, event: &Component, spec: &mut RecurrenceSpec) -> Result<(), Remark> {
        for name in ["RRULE", "EXRULE"] {
            for line in event.all(name) {
                let rule: RecurrenceRule = match line.value.trim().trim_end_matches(';').parse() {
                    Ok(rule) => rule,
                    Err(why) => return refuse(line, why),
                };
                let text = self
                    .until_date(line, &rule)
                    .unwrap_or_else(|| line.value.trim().trim_end_matches(';').to_owned());
                match (name, &spec.rule) {
                    ("EXRULE", _) => spec.except_rules.push(text),
                    (_, None) => spec.rule = Some(text),
                    _ => spec.more_rules.push(text),
                }
            }
        }
        if spec.more_rules.len() >= MAX_RULES || spec.except_rules.len() > MAX_RULES {
            return Err(Remark::new(
                event.line,
                format!("RRULE and EXRULE: at most {MAX_RULES} of each are allowed"),
            ));
        }
        Ok(())
    }

    /// For a UNTIL in UTC that may mean two dates, the rule with the date that loses no time. `None` if the start
    /// is not a date, or if there is only one.
    fn until_date(&mut self, line: &ContentLine, rule: &RecurrenceRule) -> Option<String> {
        let End::Until(Until::Utc(at)) = rule.end else { return None };
        let at = crate::zone::timestamp(at);
        let (as_written, here) = (Offset::UTC.to_datetime(at).date(), self.tz.to_datetime(at).date());
        if !self.all_day || as_written == here {
            return None;
        }
        let (which, day) = match line.name.as_str() {
            "EXRULE" => ("earlier", as_written.min(here)),
            _ => ("later", as_written.max(here)),
        };
        let text = format!(
            "{}: UNTIL is a time, where DTSTART is a date: taken as {day}, the {which} that it can mean",
            line.name
        );
        self.remark(line.number, text);
        let day = crate::days::day_number(day.year().into(), day.month().into(), day.day().into());
        Some(RecurrenceRule { end: End::Until(Until::Date(day)), ..rule.clone() }.to_string())
    }

    /// Reads a value of a property.
    pub(super) fn read_value(&mut self, line: &ContentLine, text: &str) -> Result<ClockTime, Remark> {
        let value = when(text).map_or_else(|| refuse(line, unreadable(text)), Ok)?;
        if self.all_day {
            // Programs write exceptions of all-day events as times.
            let (date, time) = as_written(value);
            if time != Time::midnight() {
                let text = text.trim();
                let why =
                    format!("{}: {text} is a time, where DTSTART is a date: taken as {date}", line.name);
                self.remark(line.number, why);
            }
            return Ok(ClockTime::Day(date));
        }
        match (value, line.parameter("TZID")) {
            (IcalTime::Day(day), _) => Ok(ClockTime::Day(day)),
            (IcalTime::Utc(at), _) => Ok(ClockTime::Instant(at)),
            (IcalTime::Local(local), None) => Ok(ClockTime::Local(local)),
            (IcalTime::Local(local), Some(tzid)) => {
                let known = self.zones.resolve(tzid, self.span).or_else(|why| refuse(line, why))?;
                let is_told = self.remarks.iter().any(|it| Some(&it.text) == known.remark.as_ref());
                if let Some(remark) = known.remark.filter(|_| !is_told) {
                    self.remark(line.number, remark);
                }
                if known.name == self.name {
                    return Ok(ClockTime::Local(local));
                }
                let at = known.tz.to_timestamp(local);
                at.map(ClockTime::Instant).or_else(|_| refuse(line, "out of range"))
            }
        }
    }

    /// The same, but as a time of the event's own clock. Refuses the second instant of a repeated local time.
    pub(super) fn own_time(&mut self, line: &ContentLine, value: IcalTime) -> Result<ClockTime, Remark> {
        let named = match value {
            IcalTime::Day(day) if self.all_day => ClockTime::Day(day),
            IcalTime::Day(_) => return refuse(line, "a date, where the event's start has a time"),
            IcalTime::Local(_) | IcalTime::Utc(_) if self.all_day => match as_written(value) {
                (day, time) if time == Time::midnight() => ClockTime::Day(day),
                _ => return refuse(line, "a time, where the event's start is a date"),
            },
            _ => self.read_value(line, &line.value)?,
        };
        match named {
            ClockTime::Instant(at) => match self.local_of(at) {
                Some(local) => Ok(ClockTime::Local(local)),
                None => refuse(
                    line,
                    format!(
                        "{at} is the second of a local time that {} has twice, which can't be said",
                        self.name
                    ),
                ),
            },
            named => Ok(named),
        }
    }

    /// The local time of an instant. `None` for the second instant of a repeated local time.
    pub(super) fn local_of(&self, at: Timestamp) -> Option<DateTime> {
        let local = self.tz.to_datetime(at).with().subsec_nanosecond(0).build().ok()?;
        (self.tz.to_timestamp(local).ok()? == at).then_some(local)
    }

    /// The instant of a time, or of a date's midnight.
    pub(super) fn instant(&self, named: ClockTime) -> Option<Timestamp> {
        match named {
            ClockTime::Day(day) => self.tz.to_timestamp(day.at(0, 0, 0, 0)).ok(),
            ClockTime::Local(local) => self.tz.to_timestamp(local).ok(),
            ClockTime::Instant(at) => Some(at),
        }
    }

    /// All values of the properties with this name, in the texts of a spec. Periods are allowed if `periods` is
    /// set.
    fn read_values(
        &mut self,
        event: &Component,
        name: &str,
        periods: bool,
    ) -> Result<Vec<(u32, String)>, Remark> {
        let mut list = Vec::new();
        for line in event.all(name) {
            for value in line.value.split(',') {
                let (from, till) =
                    value.split_once('/').map_or((value, None), |(from, till)| (from, Some(till)));
                let mut it = spec_text(self.read_value(line, from)?);
                match till {
                    None => {}
                    Some(_) if !periods => return refuse(line, "a period is not allowed here"),
                    Some(till) if till.starts_with(['P', 'p']) => {
                        it = format!("{it}/{}", till.to_uppercase());
                    }
                    Some(till) => it = format!("{it}/{}", spec_text(self.read_value(line, till)?)),
                }
                list.push((line.number, it));
            }
        }
        Ok(list)
    }

    /// The name of the occurrence of `recurrence` at a time: the local time that a rule or date gives it. If the
    /// time is not a name, compares instants, since a gap gives two names to one instant. `None` for the second
    /// instant of a repeated local time.
    pub(super) fn occurrence_name(&self, recurrence: &Recurrence, named: ClockTime) -> Option<ClockTime> {
        let at = match named {
            ClockTime::Day(_) => return Some(named),
            ClockTime::Local(local) if recurrence.find(&local.to_string()).is_some() => return Some(named),
            ClockTime::Local(local) => match self.tz.to_timestamp(local) {
                Ok(at) => at,
                Err(_) => return Some(named),
            },
            ClockTime::Instant(at) => at,
        };
        let before = at.checked_sub(SignedDuration::from_secs(1)).ok()?;
        let found = recurrence.occurrences(before).next().filter(|it| it.start == at);
        match (found, named) {
            (Some(found), _) if !found.repeated => Some(ClockTime::Local(found.local_start)),
            (_, ClockTime::Local(_)) => Some(named),
            (Some(_), _) => None,
            (None, _) => self.local_of(at).map(ClockTime::Local),
        }
    }
}

/// The rule with COUNT less one, because the start counts but is not a time of the rule. `None` if nothing is left.
pub(super) fn one_less(rule: &str) -> Option<String> {
    let mut rule: RecurrenceRule = rule.parse().ok()?;
    match rule.end {
        End::Count(1) => return None,
        End::Count(count) => rule.end = End::Count(count - 1),
        _ => {}
    }
    Some(rule.to_string())
}
