//! Applies overrides: occurrences that differ from what rules and dates say (RFC 5545, section 3.8.4.4).
//!
//! An override names an occurrence by the time that rules and dates give it, never by what another override did.
//! First, overrides of all future occurrences split the rules into segments. Then overrides of one occurrence take
//! it out and put it where they say.

use crate::recurrence::{RawOccurrence, Recurrence};
use crate::segment::RuleSeries;
use crate::spec::{
    Length, MAX_DATES, MAX_OVERRIDE_STEPS, Override, RecurrenceError, SpecTime, read_time, short,
};
use crate::spec_problem::SpecProblems;
use crate::steps::Steps;
use crate::zone::{FoldSide, Moment};

/// Steps for copying one segment.
const COPY: usize = 10;

/// Applies all overrides. If not all rules and dates could be read (`are_read`), only checks the texts.
pub(crate) fn apply(
    recurrence: &mut Recurrence,
    overrides: &[Override],
    are_read: bool,
    problems: &mut SpecProblems,
) {
    if overrides.len() > MAX_DATES {
        return problems.add(RecurrenceError::TooManyDates { list: "overrides" });
    }
    let mut named = Vec::new();
    let mut steps = Steps::new(MAX_OVERRIDE_STEPS);
    let before = problems.len();
    for (index, it) in overrides.iter().enumerate() {
        let missing = || RecurrenceError::NoSuchOccurrence { index, found: short(&it.recurrence_id) };
        if are_read {
            let found = find_named(recurrence, it, &mut steps);
            if steps.left() == 0 {
                return problems.add(RecurrenceError::OverridesTooCostly);
            }
            named.extend(problems.take(found.ok_or_else(missing)).map(|found| (found, index, it)));
        } else if read_time(it.recurrence_id.strip_suffix("/2").unwrap_or(&it.recurrence_id)).is_none() {
            problems.add(missing());
        }
        let start = it.start.as_deref().map(|text| new_start(recurrence, index, text)).transpose();
        problems.take(start);
        let own = it.duration.is_some() || it.nominal_days != 0;
        problems.take(
            own.then(|| Length::new(it.duration, it.nominal_days, recurrence.zone.all_day)).transpose(),
        );
    }
    if are_read && problems.len() == before {
        problems.take(apply_named(recurrence, named, &mut steps));
    }
}

/// Applies overrides whose occurrences were found.
fn apply_named(
    recurrence: &mut Recurrence,
    mut named: Vec<(RawOccurrence, usize, &Override)>,
    steps: &mut Steps,
) -> Result<(), RecurrenceError> {
    // Overrides of one occurrence come last. Of two for the same occurrence, the later in the list wins.
    named.sort_by_key(|(found, index, it)| (!it.this_and_future, found.moment.at, *index));
    for (base, index, it) in named {
        let length = |was: Length| match (it.duration, it.nominal_days) {
            (None, 0) => Ok(was),
            (duration, days) => Length::new(duration, days, recurrence.zone.all_day),
        };
        let start = it.start.as_deref().map(|text| new_start(recurrence, index, text)).transpose()?;
        if it.this_and_future {
            let length = length(recurrence.length)?;
            // Each segment may be split in two, which copies it.
            if !steps.take(COPY * recurrence.segments.len()) {
                return Err(RecurrenceError::OverridesTooCostly);
            }
            override_this_and_future(recurrence, &base, it.cancelled, start, length);
        } else {
            let now = recurrence.find_local(base.moment.local, base.moment.side, steps).unwrap_or(base);
            if steps.left() == 0 {
                return Err(RecurrenceError::OverridesTooCostly);
            }
            let length = length(now.length)?;
            override_one(recurrence, &now, it.cancelled, start, length);
        }
    }
    recurrence.replaced.sort_unstable();
    recurrence.singles.sort_by_key(|it| it.moment.at);
    Ok(())
}

/// The occurrence that an override names.
fn find_named(recurrence: &Recurrence, it: &Override, steps: &mut Steps) -> Option<RawOccurrence> {
    let (text, side) = match it.recurrence_id.strip_suffix("/2") {
        Some(text) => (text, FoldSide::Second),
        None => (it.recurrence_id.as_str(), FoldSide::First),
    };
    match read_time(text)? {
        when @ SpecTime::Instant(_) => {
            let moment = recurrence.moments(when).next()?;
            recurrence.find_local(moment.local, moment.side, steps)
        }
        SpecTime::Day(midnight) => recurrence.find_local(recurrence.at_start_time(midnight), side, steps),
        SpecTime::Local(local) => recurrence.find_local(local, side, steps),
    }
}

fn new_start(recurrence: &Recurrence, index: usize, text: &str) -> Result<Moment, RecurrenceError> {
    let all_day = recurrence.zone.all_day;
    let allowed =
        if all_day { "a date such as 2026-02-17" } else { "a local time such as 2026-02-17T10:00:00" };
    let refused = || RecurrenceError::Date { list: "overrides", index, found: short(text), allowed };
    match read_time(text) {
        Some(SpecTime::Day(local)) if all_day => Ok(local),
        Some(SpecTime::Local(local)) if !all_day => Ok(local),
        _ => Err(refused()),
    }
    .map(|local| {
        let resolved = recurrence.zone.resolve(local);
        resolved.first.unwrap_or(Moment { at: resolved.high, local, side: FoldSide::First })
    })
}

fn override_this_and_future(
    recurrence: &mut Recurrence,
    base: &RawOccurrence,
    cancelled: bool,
    start: Option<Moment>,
    length: Length,
) {
    let here = base.moment;
    let on_clock = start.map_or(0, |start| start.local - here.local);
    let in_time = start.map_or(0, |start| start.at - here.at);
    let mut rests = Vec::new();
    for segment in &mut recurrence.segments {
        let shift = if matches!(segment.series, RuleSeries::Exact(_)) { in_time } else { on_clock };
        rests.extend(segment.split_off(&recurrence.zone, here, shift, length));
    }
    if cancelled {
        recurrence.singles.retain(|it| it.moment.local < here.local);
        return;
    }
    recurrence.segments.extend(rests);
    for it in recurrence.singles.iter_mut().filter(|it| it.moment.local >= here.local) {
        it.wall = it.moment.local + on_clock;
        let resolved = recurrence.zone.resolve(it.wall);
        it.moment.at = resolved.first.map_or(resolved.high, |moment| moment.at);
        it.length = if it.own_length { it.length } else { length };
    }
    recurrence.singles.sort_by_key(|it| it.moment.at);
}

fn override_one(
    recurrence: &mut Recurrence,
    now: &RawOccurrence,
    cancelled: bool,
    start: Option<Moment>,
    length: Length,
) {
    let name = (now.moment.local, now.moment.side);
    recurrence.replaced.push(name);
    recurrence.replaced.sort_unstable();
    recurrence.singles.retain(|it| (it.moment.local, it.moment.side) != name);
    if !cancelled {
        let (at, wall) = start.map_or((now.moment.at, now.wall), |start| (start.at, start.local));
        let moment = Moment { at, ..now.moment };
        recurrence.singles.push(RawOccurrence { moment, wall, length, own_length: true, is_override: true });
        recurrence.singles.sort_by_key(|it| it.moment.at);
    }
}
