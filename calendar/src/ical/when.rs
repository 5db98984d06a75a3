//! When an event happens: DTSTART, DTEND, DURATION, RRULE, EXRULE, RDATE and EXDATE to a [`RecurrenceSpec`].
//!
//! Times of other zones and UTC become the local times of the event's own zone, which name its occurrences. Never: a
//! value that can't be read passed over. It might be the one that says that nobody need come.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::Remark;
use super::component::Component;
use super::lines::Line;
use super::policy;
use super::value::{Span, When, when};
use super::zones::{Known, Zones, by_name};
use crate::recurrence::Recurrence;
use crate::rule::{End, Rule};
use crate::spec::{MAX_DATES, MAX_RULES, RecurrenceSpec};

/// Properties that say when an event happens.
pub(super) const PROPERTIES: [&str; 8] =
    ["DTSTART", "DTEND", "DURATION", "RRULE", "EXRULE", "RDATE", "EXDATE", "RECURRENCE-ID"];

/// The clock of one event.
pub(super) struct Clock<'a, 'b> {
    pub(super) zones: &'a mut Zones<'b>,
    pub(super) name: String,
    pub(super) tz: TimeZone,
    pub(super) all_day: bool,
    /// For zones that are known only by their offsets.
    span: (DateTime, DateTime),
}

/// A time as an event's own clock has it, or as an instant where another clock gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Day(Date),
    Local(DateTime),
    Instant(Timestamp),
}

/// How long an event lasts: days by the calendar, then seconds.
pub(super) type Length = (i64, i64);

/// What an event says of when it happens, before its exceptions are named.
pub(super) struct Times {
    /// With rules and dates; `except_dates` and `overrides` are empty.
    pub(super) spec: RecurrenceSpec,
    pub(super) length: Length,
    pub(super) start: Named,
    /// EXDATE.
    pub(super) except: Vec<(u32, Named)>,
    pub(super) remarks: Vec<Remark>,
}

pub(super) fn refuse<T>(line: &Line, why: impl std::fmt::Display) -> Result<T, Remark> {
    Err(Remark::new(line.number, format!("{}: {why}", line.name)))
}

/// The clock of an event and what it says.
pub(super) fn read<'a, 'b>(
    event: &Component,
    zones: &'a mut Zones<'b>,
) -> Result<(Clock<'a, 'b>, Times), Remark> {
    whole(event)?;
    let Some(line) = event.first("DTSTART") else {
        return Err(Remark::new(event.line, "DTSTART: missing; an event needs a start"));
    };
    let mut remarks = Vec::new();
    let value = value(line)?;
    let span = span(event, value);
    let known = zone(event, line, value, zones, span)?;
    remarks.extend(known.remark.map(|text| Remark::new(line.number, text)));
    let all_day = matches!(value, When::Day(_));
    let mut clock = Clock { zones, name: known.name, tz: known.tz, all_day, span };
    let start = clock.own(line, value)?;
    let length = clock.length(event, start, &mut remarks)?;
    let mut spec = RecurrenceSpec {
        start: text(start),
        time_zone: clock.name.clone(),
        dst: policy::read(event)?,
        ..RecurrenceSpec::default()
    };
    set_length(&mut spec.duration, &mut spec.nominal_days, length, all_day);
    rules(event, &mut spec)?;
    spec.dates = clock.values(event, "RDATE", true)?.into_iter().map(|(_, text)| text).collect();
    let mut except = Vec::new();
    for line in event.all("EXDATE") {
        for text in line.value.split(',') {
            except.push((line.number, clock.read(line, text)?));
        }
    }
    if spec.dates.len() > MAX_DATES || except.len() > MAX_DATES {
        return Err(Remark::new(
            event.line,
            format!("RDATE and EXDATE: at most {MAX_DATES} values of each are allowed"),
        ));
    }
    Ok((clock, Times { spec, length, start, except, remarks }))
}

/// Nothing is missing of what says when: the component ends, and its lines are whole.
pub(super) fn whole(event: &Component) -> Result<(), Remark> {
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

fn value(line: &Line) -> Result<When, Remark> {
    when(&line.value).map_or_else(|| refuse(line, unreadable(&line.value)), Ok)
}

fn unreadable(text: &str) -> String {
    let shown: String = text.chars().take(40).collect();
    format!("\"{shown}\" is not allowed; allowed are 20260105, 20260105T100000 and 20260105T100000Z")
}

/// The zone that an event is kept in.
fn zone(
    event: &Component,
    line: &Line,
    value: When,
    zones: &mut Zones<'_>,
    span: (DateTime, DateTime),
) -> Result<Known, Remark> {
    if let Some(own) = event.first("X-BELFRY-TIMEZONE").and_then(|line| by_name(&line.value)) {
        // What is kept at a local time of another zone would move with that zone's clock.
        if !matches!(value, When::Local(_)) || line.parameter("TZID").is_none() {
            return Ok(own);
        }
    }
    match (value, line.parameter("TZID")) {
        (When::Utc(_), _) => by_name("UTC").map_or_else(|| refuse(line, "UTC is unknown"), Ok),
        (When::Local(_), Some(tzid)) => zones.resolve(tzid, span).or_else(|why| refuse(line, why)),
        _ => zones.default.clone().map_or_else(
            || {
                let what = if matches!(value, When::Day(_)) { "a date" } else { "floating" };
                let why = "so the file does not say in which time zone; say it with --time-zone";
                refuse(line, format!("{what}, {why}"))
            },
            Ok,
        ),
    }
}

/// From the first to the last that the event may be at, for comparing offsets: ten years where it has no end.
fn span(event: &Component, start: When) -> (DateTime, DateTime) {
    let local = |value| match value {
        When::Day(day) => day.to_datetime(jiff::civil::Time::midnight()),
        When::Local(local) => local,
        When::Utc(at) => jiff::tz::Offset::UTC.to_datetime(at),
    };
    let from = local(start);
    let ten = super::observances::years_from(from, 10);
    let dates = event.all("RDATE").flat_map(|line| line.value.split([',', '/']));
    let ends = event.all("DTEND").map(|line| line.value.as_str());
    let last = dates.chain(ends).filter_map(when).map(local).max().unwrap_or(from);
    let until = event.all("RRULE").map(|line| last_of(from, &line.value).unwrap_or(ten));
    (from, until.max().unwrap_or(from).max(last).max(from))
}

/// The last time of a rule that ends, by any zone's clock.
fn last_of(start: DateTime, rule: &str) -> Option<DateTime> {
    let rule = rule.trim().trim_end_matches(';');
    rule.parse::<Rule>().ok().filter(Rule::is_bounded)?;
    let spec = RecurrenceSpec {
        start: start.to_string(),
        time_zone: "UTC".to_owned(),
        rule: Some(rule.to_owned()),
        ..RecurrenceSpec::default()
    };
    Recurrence::new(&spec).ok()?.before(Timestamp::MAX).map(|last| last.local_start)
}

/// A length as a spec has it.
pub(super) fn set_length(
    duration: &mut Option<SignedDuration>,
    nominal: &mut u16,
    (days, seconds): Length,
    all_day: bool,
) {
    if all_day {
        *duration = Some(SignedDuration::from_secs(days * 86_400 + seconds));
    } else {
        *nominal = u16::try_from(days).unwrap_or(u16::MAX);
        *duration = (seconds != 0 || days == 0).then(|| SignedDuration::from_secs(seconds));
    }
}

/// As the calendar reads it.
pub(super) fn text(named: Named) -> String {
    match named {
        Named::Day(day) => day.to_string(),
        Named::Local(local) => local.to_string(),
        Named::Instant(at) => at.to_string(),
    }
}

fn rules(event: &Component, spec: &mut RecurrenceSpec) -> Result<(), Remark> {
    for name in ["RRULE", "EXRULE"] {
        for line in event.all(name) {
            let text = line.value.trim().trim_end_matches(';');
            if let Err(why) = text.parse::<Rule>() {
                return refuse(line, why);
            }
            match (name, &spec.rule) {
                ("EXRULE", _) => spec.except_rules.push(text.to_owned()),
                (_, None) => spec.rule = Some(text.to_owned()),
                _ => spec.more_rules.push(text.to_owned()),
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

impl Clock<'_, '_> {
    /// A value of a property.
    pub(super) fn read(&mut self, line: &Line, text: &str) -> Result<Named, Remark> {
        let value = when(text).map_or_else(|| refuse(line, unreadable(text)), Ok)?;
        let named = match (value, line.parameter("TZID")) {
            (When::Day(day), _) => Named::Day(day),
            (When::Utc(at), _) => Named::Instant(at),
            (When::Local(local), None) => Named::Local(local),
            (When::Local(local), Some(tzid)) => {
                let known = self.zones.resolve(tzid, self.span).or_else(|why| refuse(line, why))?;
                if known.name == self.name {
                    Named::Local(local)
                } else {
                    let at = known.tz.to_timestamp(local);
                    at.map(Named::Instant).or_else(|_| refuse(line, "out of range"))?
                }
            }
        };
        Ok(match named {
            // Programs write exceptions of all-day events as times.
            Named::Local(local) if self.all_day => Named::Day(local.date()),
            Named::Instant(at) if self.all_day => Named::Day(self.tz.to_datetime(at).date()),
            named => named,
        })
    }

    /// The same, as a time of the event's own clock; an instant that the clock has as the second of two is refused.
    pub(super) fn own(&mut self, line: &Line, value: When) -> Result<Named, Remark> {
        let named = match value {
            When::Day(day) if self.all_day => Named::Day(day),
            When::Day(_) => return refuse(line, "a date, where the event's start has a time"),
            When::Local(_) | When::Utc(_) if self.all_day => {
                return refuse(line, "a time, where the event's start is a date");
            }
            _ => self.read(line, &line.value)?,
        };
        match named {
            Named::Instant(at) => match self.local_of(at) {
                Some(local) => Ok(Named::Local(local)),
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

    /// The local time of an instant, unless it is the second of two.
    pub(super) fn local_of(&self, at: Timestamp) -> Option<DateTime> {
        let local = self.tz.to_datetime(at).with().subsec_nanosecond(0).build().ok()?;
        (self.tz.to_timestamp(local).ok()? == at).then_some(local)
    }

    /// The instant of a time; of a date its midnight.
    pub(super) fn instant(&self, named: Named) -> Option<Timestamp> {
        match named {
            Named::Day(day) => self.tz.to_timestamp(day.at(0, 0, 0, 0)).ok(),
            Named::Local(local) => self.tz.to_timestamp(local).ok(),
            Named::Instant(at) => Some(at),
        }
    }

    /// How long an event lasts that begins at `start`.
    pub(super) fn length(
        &mut self,
        event: &Component,
        start: Named,
        remarks: &mut Vec<Remark>,
    ) -> Result<Length, Remark> {
        if let Some(line) = event.first("DURATION") {
            let span = Span::read(&line.value).filter(|span| span.total() >= 0);
            let Some(span) = span else {
                return refuse(line, "not allowed; allowed is a length such as PT1H30M or P1D");
            };
            if self.all_day && (span.seconds % 86_400 != 0 || span.total() == 0) {
                return refuse(line, "allowed are whole days where DTSTART is a date");
            }
            return Ok(if self.all_day {
                (span.total() / 86_400, 0)
            } else {
                (span.days.into(), span.seconds)
            });
        }
        let Some(line) = event.first("DTEND") else { return Ok(if self.all_day { (1, 0) } else { (0, 0) }) };
        let end = self.read(line, &line.value)?;
        let length = match (start, end) {
            (Named::Day(start), Named::Day(end)) => {
                let days = start.until(end).map_or(-1, |span| i64::from(span.get_days()));
                if days == 0 {
                    remarks.push(Remark::new(
                        line.number,
                        "DTEND: the day of DTSTART, which has no length: taken as one day",
                    ));
                }
                (days.max(i64::from(days == 0)), 0)
            }
            (_, Named::Day(_)) => return refuse(line, "a date, where DTSTART has a time"),
            _ => match (self.instant(start), self.instant(end)) {
                (Some(start), Some(end)) => (0, end.as_second() - start.as_second()),
                _ => return refuse(line, "out of range"),
            },
        };
        if length.0 < 0 || length.1 < 0 {
            return refuse(line, "it lies before DTSTART");
        }
        Ok(length)
    }

    /// The values of all properties of a name, as the calendar reads them, with periods.
    fn values(&mut self, event: &Component, name: &str, periods: bool) -> Result<Vec<(u32, String)>, Remark> {
        let mut list = Vec::new();
        for line in event.all(name) {
            for value in line.value.split(',') {
                let (from, till) =
                    value.split_once('/').map_or((value, None), |(from, till)| (from, Some(till)));
                let mut it = text(self.read(line, from)?);
                match till {
                    None => {}
                    Some(_) if !periods => return refuse(line, "a period is not allowed here"),
                    Some(till) if till.starts_with(['P', 'p']) => {
                        it = format!("{it}/{}", till.to_uppercase());
                    }
                    Some(till) => it = format!("{it}/{}", text(self.read(line, till)?)),
                }
                list.push((line.number, it));
            }
        }
        Ok(list)
    }

    /// The name of the occurrence of `recurrence` at a time: what rule or date gives it.
    pub(super) fn name(&self, recurrence: &Recurrence, named: Named) -> Option<Named> {
        let Named::Instant(at) = named else { return Some(named) };
        let before = at.checked_sub(SignedDuration::from_secs(1)).ok()?;
        let found = recurrence.occurrences(before).next().filter(|it| it.start == at);
        match found {
            Some(found) if found.repeated => None,
            Some(found) => Some(Named::Local(found.local_start)),
            None => self.local_of(at).map(Named::Local),
        }
    }
}

/// COUNT less one, as the start counts and is no time of the rule; None if nothing is left.
pub(super) fn one_less(rule: &str) -> Option<String> {
    let mut rule: Rule = rule.parse().ok()?;
    match rule.end {
        End::Count(1) => return None,
        End::Count(count) => rule.end = End::Count(count - 1),
        _ => {}
    }
    Some(rule.to_string())
}
