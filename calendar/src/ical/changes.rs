//! A series with what is otherwise in it: RDATE with lengths, EXDATE, and components with a RECURRENCE-ID (RFC 5545,
//! sections 3.8.4.4 and 3.8.5).
//!
//! Every exception and override ends as the name that rule or date gives an occurrence. Never: a series that the calendar
//! would refuse; it is asked before the series is handed on.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use jiff::civil::DateTime;

use super::Remark;
use super::component::Component;
use super::value::{Span, When, when};
use super::when::{Clock, Length, Named, Times, one_less, refuse, set_length, text, whole};
use crate::recurrence::Recurrence;
use crate::spec::{MAX_DATES, Override, RecurrenceError, RecurrenceSpec};
use crate::zone::{Dst, Fold};

/// The whole series: what `event` says and what `changes`, its components with a RECURRENCE-ID, say otherwise.
pub(super) fn series(
    event: &Component,
    clock: &mut Clock<'_, '_>,
    times: Times,
    changes: &[&Component],
) -> Result<(RecurrenceSpec, Vec<Remark>), Remark> {
    if changes.len() > MAX_DATES {
        return Err(Remark::new(
            event.line,
            format!("RECURRENCE-ID: at most {MAX_DATES} components of a series are allowed"),
        ));
    }
    let mut series = Building {
        spec: times.spec,
        length: times.length,
        remarks: times.remarks,
        restored: BTreeSet::new(),
    };
    series.start(event, clock, times.start, &times.except)?;
    series.dates(event, clock)?;
    let plain = RecurrenceSpec { except_rules: Vec::new(), overrides: Vec::new(), ..series.spec.clone() };
    let recurrence = Recurrence::new(&plain).map_err(|error| refused(event, &error))?;
    series.exceptions(clock, &recurrence, &times.except)?;
    let lasting = changes.iter().any(|it| range(it) == Some("THISANDFUTURE"));
    for change in changes {
        series.change(clock, &recurrence, change, lasting)?;
    }
    series.tidy();
    Recurrence::new(&series.spec).map_err(|error| refused(event, &error))?;
    Ok((series.spec, series.remarks))
}

fn refused(event: &Component, error: &RecurrenceError) -> Remark {
    let rules = matches!(
        error,
        RecurrenceError::Rule(_)
            | RecurrenceError::AllDayRule
            | RecurrenceError::UntilBeforeStart { .. }
            | RecurrenceError::CountOutOfReach
            | RecurrenceError::NeverHappens
    );
    let line = event.first("RRULE").filter(|_| rules).map_or(event.line, |line| line.number);
    Remark::new(line, error.to_string())
}

fn range(change: &Component) -> Option<&str> {
    change.first("RECURRENCE-ID")?.parameter("RANGE")
}

pub(super) fn is_cancelled(event: &Component) -> bool {
    event.first("STATUS").is_some_and(|line| line.value.trim().eq_ignore_ascii_case("CANCELLED"))
}

struct Building {
    spec: RecurrenceSpec,
    length: Length,
    remarks: Vec<Remark>,
    /// Local times that exist twice, whose second an RDATE has that the policy says anyway.
    restored: BTreeSet<DateTime>,
}

impl Building {
    /// The start counts as an occurrence (3.8.5.3), also where the rule doesn't have it, unless it is excepted.
    fn start(
        &mut self,
        event: &Component,
        clock: &Clock<'_, '_>,
        start: Named,
        except: &[(u32, Named)],
    ) -> Result<(), Remark> {
        if self.spec.rule.is_none() {
            return Ok(());
        }
        let rules = RecurrenceSpec { dates: Vec::new(), except_rules: Vec::new(), ..self.spec.clone() };
        let rules = Recurrence::new(&rules).map_err(|error| refused(event, &error))?;
        let id = midnight_or(start).to_string();
        let is_start = |named: Named| match named {
            Named::Instant(at) => clock.local_of(at).map(Named::Local) == Some(start),
            named => named == start,
        };
        let is_said =
            self.spec.dates.contains(&text(start)) || except.iter().any(|(_, named)| is_start(*named));
        if is_said || rules.find(&id).is_some() {
            return Ok(());
        }
        if let (Some(rule), true) = (&self.spec.rule, self.spec.more_rules.is_empty()) {
            self.spec.rule = one_less(rule);
        }
        if self.spec.rule.is_some() {
            self.spec.dates.push(text(start));
        }
        let line = event.first("DTSTART").map_or(event.line, |line| line.number);
        let words = "DTSTART: not a time of RRULE; taken as an occurrence beside those of the rule, and counted by COUNT";
        self.remarks.push(Remark::new(line, words));
        Ok(())
    }

    /// RDATE: instants become local times, and a length of its own an override.
    fn dates(&mut self, event: &Component, clock: &Clock<'_, '_>) -> Result<(), Remark> {
        let line = event.first("RDATE").map_or(event.line, |line| line.number);
        let wrong = |value: &str, why: &str| Remark::new(line, format!("RDATE: {value} {why}"));
        let (mut dates, mut seconds) = (BTreeSet::new(), Vec::new());
        for value in std::mem::take(&mut self.spec.dates) {
            let parts = value.split_once('/');
            let (from, till) = parts.map_or((value.as_str(), None), |(from, till)| (from, Some(till)));
            let mut name = from.to_owned();
            if let Some(When::Utc(at)) = when(from) {
                let Some(local) = clock.local_of(at) else {
                    seconds.push((at, value));
                    continue;
                };
                name = local.to_string();
            }
            if let Some(till) = till {
                let length = period(clock, from, till).ok_or_else(|| wrong(&value, "is not a period"))?;
                if length != self.length {
                    self.override_length(&name, length);
                }
            }
            dates.insert(name);
        }
        self.spec.dates = dates.into_iter().collect();
        if seconds.is_empty() {
            return Ok(());
        }
        // The second of a local time that exists twice has no name but what the policy gives it.
        let plain = RecurrenceSpec { except_rules: Vec::new(), overrides: Vec::new(), ..self.spec.clone() };
        let plain = Recurrence::new(&plain).map_err(|error| refused(event, &error))?;
        for (at, value) in seconds {
            let before = at.checked_sub(SignedDuration::from_secs(1)).ok();
            let known =
                before.and_then(|before| plain.after(before)).filter(|it| it.start == at && it.repeated);
            match known {
                Some(known) => self.restored.extend([known.local_start]),
                None if self.spec.dst.fold == Fold::Last && !value.contains('/') => {
                    let local = clock.tz.to_datetime(at);
                    self.restored.insert(local);
                    self.spec.dates.push(local.to_string());
                }
                None => {
                    let why = "is the second of a local time that its zone has twice, which can't be said";
                    return Err(wrong(&value, why));
                }
            }
        }
        Ok(())
    }

    fn override_length(&mut self, id: &str, length: Length) {
        let mut change = Override { recurrence_id: id.to_owned(), ..Override::default() };
        set_length(&mut change.duration, &mut change.nominal_days, length, self.is_all_day());
        self.spec.overrides.push(change);
    }

    fn is_all_day(&self) -> bool {
        self.spec.start.len() == 10
    }

    /// EXDATE: instants become names; what names nothing is left.
    fn exceptions(
        &mut self,
        clock: &Clock<'_, '_>,
        recurrence: &Recurrence,
        except: &[(u32, Named)],
    ) -> Result<(), Remark> {
        let mut dates = BTreeSet::new();
        for (line, named) in except {
            let name = clock.name(recurrence, *named).ok_or_else(|| {
                Remark::new(
                    *line,
                    "EXDATE: the second of a local time that its zone has twice, which can't be said",
                )
            })?;
            if let Named::Local(local) = name {
                if self.restored.contains(&local) {
                    if self.spec.dst.fold == Fold::Both {
                        let why =
                            "EXDATE: the first of a local time whose second is in RDATE, which can't be said";
                        return Err(Remark::new(*line, why));
                    }
                    continue;
                }
                let is_named =
                    ["", "/2"].iter().any(|turn| recurrence.find(&format!("{local}{turn}")).is_some());
                if !is_named {
                    // A policy of its own is written out with exceptions that name what is none under it.
                    if self.spec.dst == Dst::default() {
                        let text = format!("EXDATE: there is no occurrence at {local}; left");
                        self.remarks.push(Remark::new(*line, text));
                    }
                    continue;
                }
            }
            dates.insert(text(name));
        }
        self.spec.except_dates = dates.into_iter().collect();
        Ok(())
    }

    /// One component with a RECURRENCE-ID.
    fn change(
        &mut self,
        clock: &mut Clock<'_, '_>,
        recurrence: &Recurrence,
        change: &Component,
        lasting: bool,
    ) -> Result<(), Remark> {
        whole(change)?;
        let Some(line) = change.first("RECURRENCE-ID") else { return Ok(()) };
        let this_and_future = match range(change).map(str::to_ascii_uppercase).as_deref() {
            None => false,
            Some("THISANDFUTURE") => true,
            Some(other) => {
                return refuse(line, format!("RANGE={other} is not allowed; allowed is THISANDFUTURE"));
            }
        };
        let named = clock.read(line, &line.value)?;
        let Some(name) = clock.name(recurrence, named) else {
            return refuse(line, "the second of a local time that its zone has twice, which can't be said");
        };
        let name = match name {
            Named::Day(day) if !self.is_all_day() => Named::Local(day.to_datetime(recurrence.start().time())),
            name => name,
        };
        let is_there = recurrence.find(&midnight_or(name).to_string()).is_some();
        let id = text(name);
        if is_cancelled(change) {
            let excepted = self.spec.except_dates.contains(&id);
            match (is_there, excepted) {
                (true, false) => self.spec.overrides.push(Override {
                    recurrence_id: id,
                    this_and_future,
                    cancelled: true,
                    ..Override::default()
                }),
                (true, true) => {}
                (false, _) => self.remark(
                    line.number,
                    format!("RECURRENCE-ID: there is no occurrence at {id} to cancel; left"),
                ),
            }
            return Ok(());
        }
        let (start, length) = match change.first("DTSTART") {
            None => (name, self.length),
            Some(line) => {
                let value = when(&line.value).map_or_else(|| refuse(line, "not a time"), Ok)?;
                let start = clock.own(line, value)?;
                (start, clock.length(change, start, &mut self.remarks)?)
            }
        };
        if !is_there {
            if this_and_future {
                return refuse(
                    line,
                    format!("there is no occurrence at {id}, from which on it would be otherwise"),
                );
            }
            self.remark(
                line.number,
                format!("RECURRENCE-ID: there is no occurrence at {id}; taken as one more"),
            );
            let own = text(start);
            if length != self.length {
                self.override_length(&own, length);
            }
            self.spec.dates.push(own);
            return Ok(());
        }
        // What is otherwise is more than what is left out.
        self.spec.except_dates.retain(|date| *date != id);
        let (moved, other) = (start != name, length != self.length);
        if !(moved || other || lasting) {
            return Ok(());
        }
        self.spec.overrides.retain(|it| it.recurrence_id != id || it.this_and_future != this_and_future);
        let mut it = Override { recurrence_id: id, this_and_future, ..Override::default() };
        it.start = (moved || lasting).then(|| text(start));
        if other || lasting {
            set_length(&mut it.duration, &mut it.nominal_days, length, self.is_all_day());
        }
        self.spec.overrides.push(it);
        Ok(())
    }

    fn remark(&mut self, line: u32, text: String) {
        self.remarks.push(Remark::new(line, text));
    }

    /// In order, and nothing twice.
    fn tidy(&mut self) {
        let spec = &mut self.spec;
        spec.dates.sort();
        spec.dates.dedup();
        if spec.rule.is_none() {
            let start = spec.start.clone();
            spec.dates.retain(|date| *date != start);
        }
        spec.overrides.sort_by(|a, b| {
            (&a.recurrence_id, a.this_and_future).cmp(&(&b.recurrence_id, b.this_and_future))
        });
    }
}

/// How long a period lasts, by its duration or its end.
fn period(clock: &Clock<'_, '_>, from: &str, till: &str) -> Option<Length> {
    if let Some(span) = Span::read(till) {
        return Some((span.days.into(), span.seconds)).filter(|length| length.0 >= 0 && length.1 >= 0);
    }
    let named = |text: &str| match when(text)? {
        When::Day(day) => Some(Named::Day(day)),
        When::Local(local) => Some(Named::Local(local)),
        When::Utc(at) => Some(Named::Instant(at)),
    };
    let [from, till] = [from, till].map(|text| named(text).and_then(|named| clock.instant(named)));
    let seconds = till?.as_second() - from?.as_second();
    (seconds >= 0).then_some(if clock.all_day { (seconds / 86_400, 0) } else { (0, seconds) })
}

fn midnight_or(named: Named) -> DateTime {
    match named {
        Named::Day(day) => day.at(0, 0, 0, 0),
        Named::Local(local) => local,
        Named::Instant(at) => jiff::tz::Offset::UTC.to_datetime(at),
    }
}
