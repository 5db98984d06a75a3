//! Builds a series: rules, RDATE with lengths and EXDATE (RFC 5545, section 3.8.5), then overrides.
//!
//! Every exception becomes the name that a rule or date gives its occurrence. Before the series is returned, the
//! calendar checks that it accepts it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime};

use super::Remark;
use super::component::Component;
use super::statement::Statement;
use super::value::DaysAndSeconds;
use super::value::{IcalDuration, IcalTime, when};
use super::when::{ClockTime, EventClock, EventTimes, one_less, spec_text};
use crate::recurrence::Recurrence;
use crate::spec::{MAX_OVERRIDE_STEPS, RecurrenceError, RecurrenceSpec};
use crate::steps::Steps;
use crate::zone::{Dst, Fold, civil};

/// The most occurrences of one day that an exception or override can name by its date.
const MAX_OF_DAY: usize = 50;

/// A series as a file describes it.
pub(super) struct BuiltSeries<'a> {
    pub(super) spec: RecurrenceSpec,
    /// Components that are superseded, each with the line of the one that applies, and whether that one is newer.
    pub(super) superseded: Vec<(&'a Component, u32, bool)>,
}

/// Builds the whole series of `master` and of `changes`, its components with a RECURRENCE-ID. Remarks go to the
/// clock.
pub(super) fn build_series<'a>(
    master: &Statement<'a>,
    clock: &mut EventClock<'_, '_>,
    times: EventTimes,
    changes: &[Statement<'a>],
) -> Result<BuiltSeries<'a>, Remark> {
    let event = master.event;
    let mut series = SeriesBuilder {
        spec: times.spec,
        length: times.length,
        restored: BTreeSet::new(),
        superseded: Vec::new(),
        lines: BTreeMap::new(),
    };
    series.add_start(event, clock, times.start, &times.except)?;
    series.read_dates(event, clock)?;
    let plain = RecurrenceSpec { except_rules: Vec::new(), overrides: Vec::new(), ..series.spec.clone() };
    let recurrence = Recurrence::new(&plain).map_err(|error| refused(event, &error))?;
    series.read_exceptions(clock, &recurrence, &times.except)?;
    series.apply_overrides(clock, &recurrence, master, changes)?;
    series.sort_and_dedup();
    series.share_instants(clock, event.line).map_err(|error| refused(event, &error))?;
    Recurrence::new(&series.spec).map_err(|error| refused(event, &error))?;
    Ok(BuiltSeries { spec: series.spec, superseded: series.superseded })
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

pub(super) struct SeriesBuilder<'a> {
    pub(super) spec: RecurrenceSpec,
    pub(super) length: DaysAndSeconds,
    /// Local times that exist twice, and whose second instant an RDATE names although the policy gives it anyway.
    restored: BTreeSet<DateTime>,
    pub(super) superseded: Vec<(&'a Component, u32, bool)>,
    /// The line of each override's RECURRENCE-ID.
    pub(super) lines: BTreeMap<String, u32>,
}

impl SeriesBuilder<'_> {
    /// The start counts as an occurrence (3.8.5.3) even if the rule does not have it, unless it is excepted.
    fn add_start(
        &mut self,
        event: &Component,
        clock: &mut EventClock<'_, '_>,
        start: ClockTime,
        except: &[(u32, ClockTime)],
    ) -> Result<(), Remark> {
        if self.spec.rule.is_none() {
            return Ok(());
        }
        let rules = RecurrenceSpec { dates: Vec::new(), except_rules: Vec::new(), ..self.spec.clone() };
        let rules = Recurrence::new(&rules).map_err(|error| refused(event, &error))?;
        let id = midnight_or(start).to_string();
        let is_start = |named: ClockTime| match named {
            ClockTime::Instant(at) => clock.local_of(at).map(ClockTime::Local) == Some(start),
            ClockTime::Day(day) => midnight_or(start).date() == day,
            named @ ClockTime::Local(_) => named == start,
        };
        // RDATE may name the start in any zone, also with a length.
        let is_date = |date: &String| match when(date.split('/').next().unwrap_or(date)) {
            Some(IcalTime::Utc(at)) => is_start(ClockTime::Instant(at)),
            Some(IcalTime::Local(local)) => is_start(ClockTime::Local(local)),
            Some(IcalTime::Day(day)) => is_start(ClockTime::Day(day)),
            None => false,
        };
        let is_said = self.spec.dates.iter().any(is_date) || except.iter().any(|(_, named)| is_start(*named));
        if is_said || rules.find(&id).is_some() {
            return Ok(());
        }
        let mut counted = "";
        if let (Some(rule), true) = (&self.spec.rule, self.spec.more_rules.is_empty()) {
            if rule.to_ascii_uppercase().contains("COUNT=") {
                counted = ", and counted by COUNT";
            }
            self.spec.rule = one_less(rule);
        }
        if self.spec.rule.is_some() {
            self.spec.dates.push(spec_text(start));
        }
        let line = event.first("DTSTART").map_or(event.line, |line| line.number);
        let words =
            format!("DTSTART: not a time of RRULE; taken as an occurrence beside those of the rule{counted}");
        clock.remark(line, words);
        Ok(())
    }

    /// Reads RDATE: instants become local times, and a length of its own becomes an override.
    fn read_dates(&mut self, event: &Component, clock: &EventClock<'_, '_>) -> Result<(), Remark> {
        let line = event.first("RDATE").map_or(event.line, |line| line.number);
        let wrong = |value: &str, why: &str| Remark::new(line, format!("RDATE: {value} {why}"));
        let (mut dates, mut seconds) = (BTreeSet::new(), Vec::new());
        for value in std::mem::take(&mut self.spec.dates) {
            let parts = value.split_once('/');
            let (from, till) = parts.map_or((value.as_str(), None), |(from, till)| (from, Some(till)));
            let mut name = from.to_owned();
            if let Some(IcalTime::Utc(at)) = when(from) {
                let Some(local) = clock.local_of(at) else {
                    seconds.push((at, value));
                    continue;
                };
                name = local.to_string();
            }
            if let Some(till) = till {
                let length =
                    period_length(clock, from, till).ok_or_else(|| wrong(&value, "is not a period"))?;
                if length != self.length {
                    self.override_length(clock, &name, length);
                }
            }
            dates.insert(name);
        }
        self.spec.dates = dates.into_iter().collect();
        if seconds.is_empty() {
            return Ok(());
        }
        // The second instant of a repeated local time has a name only if the policy gives it one.
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

    pub(super) fn is_all_day(&self) -> bool {
        self.spec.start.len() == 10
    }

    /// Reads EXDATE: instants become names. What names no occurrence is dropped, with a remark.
    fn read_exceptions(
        &mut self,
        clock: &mut EventClock<'_, '_>,
        recurrence: &Recurrence,
        except: &[(u32, ClockTime)],
    ) -> Result<(), Remark> {
        let mut dates = BTreeSet::new();
        for (line, named) in except {
            let name = clock.occurrence_name(recurrence, *named).ok_or_else(|| {
                Remark::new(
                    *line,
                    "EXDATE: the second of a local time that its zone has twice, which can't be said",
                )
            })?;
            let is_named = match name {
                ClockTime::Local(local) if self.restored.contains(&local) => {
                    if self.spec.dst.fold == Fold::Both {
                        let why =
                            "EXDATE: the first of a local time whose second is in RDATE, which can't be said";
                        return Err(Remark::new(*line, why));
                    }
                    continue;
                }
                ClockTime::Day(day) => !occurrences_of_day(clock, recurrence, day).is_empty(),
                named => {
                    let local = midnight_or(named);
                    ["", "/2"].iter().any(|turn| recurrence.find(&format!("{local}{turn}")).is_some())
                }
            };
            if is_named {
                dates.insert(spec_text(name));
            } else if self.spec.dst == Dst::default() {
                // With a policy of its own, the exceptions for other readers name times that are no occurrences
                // under it.
                clock.remark(*line, format!("EXDATE: there is no occurrence at {}; left", spec_text(name)));
            }
        }
        self.spec.except_dates = dates.into_iter().collect();
        Ok(())
    }

    /// Whether EXDATE takes out an occurrence, by its name or with its day.
    pub(super) fn excepts(&self, id: &str) -> bool {
        let day = id.get(..10).unwrap_or(id);
        self.spec.except_dates.iter().any(|date| date == id || date == day)
    }

    /// Sorts everything and removes duplicates.
    fn sort_and_dedup(&mut self) {
        // An excepted period needs no length either.
        let mut overrides = std::mem::take(&mut self.spec.overrides);
        overrides.retain(|it| it.this_and_future || !self.excepts(&it.recurrence_id));
        self.spec.overrides = overrides;
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

/// The names of the occurrences of a day, in order: at most 50.
pub(super) fn occurrences_of_day(
    clock: &EventClock<'_, '_>,
    recurrence: &Recurrence,
    day: Date,
) -> Vec<DateTime> {
    let midnight = clock.instant(ClockTime::Day(day));
    let before = midnight.and_then(|it| it.checked_sub(SignedDuration::from_secs(1)).ok());
    let mut steps = Steps::new(MAX_OVERRIDE_STEPS);
    let mut near = before.map(|before| recurrence.occurrences(before));
    let found = std::iter::from_fn(|| near.as_mut()?.next_found_within(&mut steps));
    let names = found.map(|it| civil(it.moment.local)).take_while(|local| local.date() <= day);
    names.filter(|local| local.date() == day).take(MAX_OF_DAY).collect()
}

/// The length of a period, from its duration or its end.
fn period_length(clock: &EventClock<'_, '_>, from: &str, till: &str) -> Option<DaysAndSeconds> {
    if let Some(span) = IcalDuration::read(till) {
        return Some((span.days.into(), span.seconds)).filter(|length| length.0 >= 0 && length.1 >= 0);
    }
    let named = |text: &str| match when(text)? {
        IcalTime::Day(day) => Some(ClockTime::Day(day)),
        IcalTime::Local(local) => Some(ClockTime::Local(local)),
        IcalTime::Utc(at) => Some(ClockTime::Instant(at)),
    };
    let [from, till] = [from, till].map(|text| named(text).and_then(|named| clock.instant(named)));
    let seconds = till?.as_second() - from?.as_second();
    (seconds >= 0).then_some(if clock.all_day { (seconds / 86_400, 0) } else { (0, seconds) })
}

pub(super) fn midnight_or(named: ClockTime) -> DateTime {
    match named {
        ClockTime::Day(day) => day.at(0, 0, 0, 0),
        ClockTime::Local(local) => local,
        ClockTime::Instant(at) => jiff::tz::Offset::UTC.to_datetime(at),
    }
}
