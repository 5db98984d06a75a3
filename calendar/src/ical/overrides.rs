//! Reads what differs in a series: components with a RECURRENCE-ID (RFC 5545, section 3.8.4.4), and what METHOD:ADD
//! adds.
//!
//! If several components concern the same occurrence, one of them applies ([`super::statement`]). Occurrences are
//! identified by instant, not by text. A component that is left out without being superseded gets a remark.

use std::collections::{BTreeMap, HashMap};

use super::Remark;
use super::lines::ContentLine;
use super::series::{SeriesBuilder, midnight_or, occurrences_of_day};
use super::statement::{Statement, newest};
use super::value::when;
use super::value::{DaysAndSeconds, set_length};
use super::when::{ClockTime, EventClock, refuse, require_whole, spec_text, unreadable};
use crate::recurrence::Recurrence;
use crate::spec::{MAX_DATES, Override};

/// Properties that belong to a series and say nothing about one occurrence.
const OF_SERIES: [&str; 4] = ["RRULE", "EXRULE", "RDATE", "EXDATE"];

/// The component that applies to an occurrence, or to all from it on.
struct OverrideComponent<'a> {
    statement: Statement<'a>,
    name: ClockTime,
    this_and_future: bool,
}

/// Whether the RECURRENCE-ID has RANGE=THISANDFUTURE.
pub(super) fn this_and_future(line: &ContentLine) -> Result<bool, Remark> {
    match line.parameter("RANGE").map(str::to_ascii_uppercase).as_deref() {
        None => Ok(false),
        Some("THISANDFUTURE") => Ok(true),
        Some(other) => refuse(line, format!("RANGE={other} is not allowed; allowed is THISANDFUTURE")),
    }
}

impl<'a> SeriesBuilder<'a> {
    /// Applies all components in `all` that differ from `master`.
    pub(super) fn apply_overrides(
        &mut self,
        clock: &mut EventClock<'_, '_>,
        recurrence: &Recurrence,
        master: &Statement<'a>,
        all: &[Statement<'a>],
    ) -> Result<(), Remark> {
        let changes = self.effective_overrides(clock, recurrence, all)?;
        let lasting = changes.iter().any(|it| it.this_and_future);
        for change in &changes {
            clock.zones.enter(change.statement.calendar);
            self.apply_override(clock, recurrence, master, change, lasting)?;
        }
        for added in all.iter().filter(|it| it.adds && it.event.first("RECURRENCE-ID").is_none()) {
            clock.zones.enter(added.calendar);
            require_whole(added.event)?;
            if master.is_newer_than(added) {
                self.superseded.push((added.event, master.event.line, true));
                continue;
            }
            let Some(line) = added.event.first("DTSTART") else {
                return Err(Remark::new(added.event.line, "DTSTART: missing; an event needs a start"));
            };
            let (start, length) =
                self.time_and_length(clock, added, ClockTime::Day(jiff::civil::Date::ZERO))?;
            clock.remark(
                line.number,
                format!("METHOD:ADD: {} is taken as one occurrence more", spec_text(start)),
            );
            self.add_occurrence(clock, recurrence, (start, length), line.number);
        }
        Ok(())
    }

    /// Selects the component that applies to each occurrence.
    fn effective_overrides(
        &mut self,
        clock: &mut EventClock<'_, '_>,
        recurrence: &Recurrence,
        all: &[Statement<'a>],
    ) -> Result<Vec<OverrideComponent<'a>>, Remark> {
        let mut names: HashMap<(usize, &str, Option<&str>), ClockTime> = HashMap::new();
        let mut spoken: BTreeMap<(String, bool), (ClockTime, Vec<Statement<'a>>)> = BTreeMap::new();
        for it in all {
            let Some(line) = it.event.first("RECURRENCE-ID") else { continue };
            require_whole(it.event)?;
            clock.zones.enter(it.calendar);
            let future = this_and_future(line)?;
            let written = (it.calendar, line.value.trim(), line.parameter("TZID"));
            let name = match names.get(&written) {
                Some(name) => *name,
                None if names.len() == MAX_DATES => {
                    return refuse(line, format!("at most {MAX_DATES} occurrences may be otherwise"));
                }
                None => self.named_occurrence(clock, recurrence, line)?,
            };
            names.insert(written, name);
            spoken.entry((spec_text(name), future)).or_insert_with(|| (name, Vec::new())).1.push(*it);
        }
        let mut changes = Vec::new();
        for ((_, this_and_future), (name, statements)) in spoken {
            let Some(holds) = newest(&statements) else { continue };
            for other in statements.iter().filter(|it| !std::ptr::eq(it.event, holds.event)) {
                let is_newer = holds.is_newer_than(other);
                if !is_newer && !self.is_same(clock, name, holds, other)? {
                    refuse_undecided(clock, holds, other)?;
                }
                self.superseded.push((other.event, holds.event.line, is_newer));
            }
            changes.push(OverrideComponent { statement: *holds, name, this_and_future });
        }
        Ok(changes)
    }

    /// The name of the occurrence that a RECURRENCE-ID means.
    fn named_occurrence(
        &self,
        clock: &mut EventClock<'_, '_>,
        recurrence: &Recurrence,
        line: &ContentLine,
    ) -> Result<ClockTime, Remark> {
        let named = clock.read_value(line, &line.value)?;
        let Some(name) = clock.occurrence_name(recurrence, named) else {
            return refuse(line, "the second of a local time that its zone has twice, which can't be said");
        };
        match name {
            ClockTime::Day(day) if !self.is_all_day() => {
                match occurrences_of_day(clock, recurrence, day).as_slice() {
                    [] => Ok(ClockTime::Local(day.to_datetime(recurrence.start().time()))),
                    [only] => Ok(ClockTime::Local(*only)),
                    _ => refuse(line, "a date, where the series has several occurrences on that day"),
                }
            }
            name => Ok(name),
        }
    }

    /// Whether two components for the same occurrence say the same.
    fn is_same(
        &mut self,
        clock: &mut EventClock<'_, '_>,
        name: ClockTime,
        one: &Statement<'a>,
        other: &Statement<'a>,
    ) -> Result<bool, Remark> {
        if one.cancels || other.cancels {
            return Ok(one.cancels == other.cancels);
        }
        if one.calendar == other.calendar && one.says_the_same(other) {
            return Ok(true);
        }
        // Problems of a component that does not apply don't matter.
        let remarks = clock.remarks.len();
        let mut said = Vec::new();
        for it in [one, other] {
            clock.zones.enter(it.calendar);
            said.push(self.time_and_length(clock, it, name)?);
        }
        clock.remarks.truncate(remarks);
        Ok(said[0] == said[1])
    }

    /// When the occurrence `name` happens according to a component, and how long it lasts.
    fn time_and_length(
        &self,
        clock: &mut EventClock<'_, '_>,
        it: &Statement<'a>,
        name: ClockTime,
    ) -> Result<(ClockTime, DaysAndSeconds), Remark> {
        let says_length = ["DTEND", "DURATION"].iter().any(|name| it.event.first(name).is_some());
        let Some(line) = it.event.first("DTSTART") else {
            let length = if says_length { clock.length(it.event, name)? } else { self.length };
            return Ok((name, length));
        };
        let Some(value) = when(&line.value) else { return refuse(line, unreadable(&line.value)) };
        let start = clock.own_time(line, value)?;
        Ok((start, clock.length(it.event, start)?))
    }

    /// Applies one component with a RECURRENCE-ID.
    fn apply_override(
        &mut self,
        clock: &mut EventClock<'_, '_>,
        recurrence: &Recurrence,
        master: &Statement<'a>,
        change: &OverrideComponent<'a>,
        lasting: bool,
    ) -> Result<(), Remark> {
        let OverrideComponent { statement, name, this_and_future } = *change;
        let event = statement.event;
        let Some(line) = event.first("RECURRENCE-ID") else { return Ok(()) };
        let id = spec_text(name);
        let is_there = recurrence.find(&midnight_or(name).to_string()).is_some();
        if statement.cancels {
            if !is_there {
                let text = format!("RECURRENCE-ID: there is no occurrence at {id} to cancel; left");
                clock.remark(line.number, text);
            } else if this_and_future || !self.excepts(&id) {
                let it =
                    Override { recurrence_id: id, this_and_future, cancelled: true, ..Override::default() };
                self.set_override(it);
            }
            return Ok(());
        }
        check_series_properties(clock, master, &statement, this_and_future)?;
        let newer = master.is_newer_than(&statement);
        if newer && self.excepts(&id) {
            let text =
                format!("RECURRENCE-ID: the series is newer, and leaves out the occurrence at {id}; left");
            clock.remark(line.number, text);
            return Ok(());
        }
        if !is_there {
            return self.override_unknown(clock, recurrence, change, newer);
        }
        let (start, length) = self.time_and_length(clock, &statement, name)?;
        // An override counts more than an exception.
        self.remove_exception(clock, recurrence, name);
        let (moved, other) = (start != name, length != self.length);
        if !(moved || other || lasting) {
            return Ok(());
        }
        self.lines.insert(id.clone(), line.number);
        let mut it = Override { recurrence_id: id, this_and_future, ..Override::default() };
        it.start = (moved || lasting).then(|| spec_text(start));
        if other || lasting {
            set_length(&mut it.duration, &mut it.nominal_days, length, self.is_all_day());
        }
        self.set_override(it);
        Ok(())
    }

    /// Applies an override of an occurrence that the series does not have.
    fn override_unknown(
        &mut self,
        clock: &mut EventClock<'_, '_>,
        recurrence: &Recurrence,
        change: &OverrideComponent<'a>,
        series_is_newer: bool,
    ) -> Result<(), Remark> {
        let Some(line) = change.statement.event.first("RECURRENCE-ID") else { return Ok(()) };
        let id = spec_text(change.name);
        if series_is_newer {
            let text = format!("RECURRENCE-ID: the series is newer, and has no occurrence at {id}; left");
            clock.remark(line.number, text);
            return Ok(());
        }
        if change.this_and_future {
            let why = format!("there is no occurrence at {id}, from which on it would be otherwise");
            return refuse(line, why);
        }
        clock
            .remark(line.number, format!("RECURRENCE-ID: there is no occurrence at {id}; taken as one more"));
        let (start, length) = self.time_and_length(clock, &change.statement, change.name)?;
        self.add_occurrence(clock, recurrence, (start, length), line.number);
        Ok(())
    }

    fn set_override(&mut self, it: Override) {
        let is_other = |other: &Override| {
            other.recurrence_id != it.recurrence_id || other.this_and_future != it.this_and_future
        };
        self.spec.overrides.retain(is_other);
        self.spec.overrides.push(it);
    }

    /// Removes an occurrence from the exceptions. The other occurrences of its day stay excepted, each by its name.
    fn remove_exception(&mut self, clock: &EventClock<'_, '_>, recurrence: &Recurrence, name: ClockTime) {
        let (id, day) = (spec_text(name), midnight_or(name).date());
        let count = self.spec.except_dates.len();
        self.spec.except_dates.retain(|date| *date != day.to_string());
        if self.spec.except_dates.len() < count && !self.is_all_day() {
            let whole = occurrences_of_day(clock, recurrence, day).into_iter().map(|local| local.to_string());
            self.spec.except_dates.extend(whole);
        }
        self.spec.except_dates.retain(|date| *date != id);
    }
}

/// Two components contradict each other, and neither is newer. If one of them cancels, the other applies; otherwise
/// none does.
fn refuse_undecided(
    clock: &mut EventClock<'_, '_>,
    holds: &Statement<'_>,
    other: &Statement<'_>,
) -> Result<(), Remark> {
    let (line, ours) = (other.event.line, holds.event.line);
    if !other.cancels {
        let why = format!(
            "RECURRENCE-ID: the component of line {ours} says otherwise of the same occurrence, and neither SEQUENCE nor \
             DTSTAMP says which is newer"
        );
        return Err(Remark::new(line, why));
    }
    let text = format!("it cancels what line {ours} has, and is no newer: not cancelled");
    clock.remark(line, text);
    Ok(())
}

/// Handles properties of the series in a component for one occurrence, or for all from it on.
fn check_series_properties(
    clock: &mut EventClock<'_, '_>,
    master: &Statement<'_>,
    statement: &Statement<'_>,
    this_and_future: bool,
) -> Result<(), Remark> {
    for line in statement.event.properties.iter().filter(|it| OF_SERIES.contains(&it.name.as_str())) {
        if !this_and_future {
            let text =
                format!("{}: in a component with RECURRENCE-ID, which is one occurrence; left", line.name);
            clock.remark(line.number, text);
        } else if master.event.all(&line.name).all(|it| it.value != line.value) {
            return refuse(
                line,
                "another than that of the series, from RECURRENCE-ID on, which can't be said",
            );
        }
    }
    Ok(())
}
