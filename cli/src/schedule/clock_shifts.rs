//! Finds what clock changes do to a Schedule: occurrences that are shifted, skipped or doubled, as the operator counts them, and
//! changes of its time in UTC. Clock changes that affect no occurrence are left out.

use calendar::{
    ClockChange, ClockEffect, Occurrence, Recurrence, RecurrenceError, RecurrenceSpec, clock_changes,
};
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

/// How many clock changes are examined.
const MAX_CHANGES: usize = 400;

/// The effect of one clock change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClockShift {
    /// When the clocks change.
    pub(crate) at: Timestamp,
    /// `shifted`, `skipped`, `doubled`, or `utc`.
    pub(crate) kind: &'static str,
    /// The local time that the rule gives.
    pub(crate) local: DateTime,
    /// In words.
    pub(crate) text: String,
}

/// The effects of the clock changes between two instants, in order.
pub(crate) fn clock_shifts(
    spec: &RecurrenceSpec,
    recurrence: &Recurrence,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<ClockShift>, RecurrenceError> {
    let tz = recurrence.zone();
    let changes = tz.following(from).map(|it| it.timestamp()).take_while(|at| *at <= to).take(MAX_CHANGES);
    let mut found: Vec<ClockShift> =
        clock_changes(spec, from, to)?.into_iter().map(|it| occurrence_shift(recurrence, it)).collect();
    found.extend(changes.filter_map(|at| utc_shift(recurrence, at)));
    // Effects on one occurrence come before the effect on all.
    found.sort_by_key(|it| (it.at, it.kind == "utc"));
    Ok(found)
}

fn occurrence_shift(recurrence: &Recurrence, ClockChange { at, local, effect }: ClockChange) -> ClockShift {
    let tz = recurrence.zone();
    let (kind, text) = match effect {
        ClockEffect::Shifted => {
            let is_at = recurrence.find(&local.to_string()).map_or(at, |it| it.start);
            let moved = short(tz.to_datetime(is_at).time());
            ("shifted", format!("{local} does not exist: it is at {moved}"))
        }
        ClockEffect::Skipped => ("skipped", format!("{local} does not exist: it does not happen")),
        ClockEffect::Doubled => ("doubled", format!("{local} exists twice: it happens at both")),
    };
    ClockShift { at, kind, local, text }
}

/// The change of the Schedule's time in UTC: compares the last occurrence before the clock change with the next unaffected one. `None`
/// if their local times differ.
fn utc_shift(recurrence: &Recurrence, at: Timestamp) -> Option<ClockShift> {
    let tz = recurrence.zone();
    let change = tz.to_datetime(at).date();
    let is_plain =
        |it: &Occurrence| !it.is_shifted(tz) && !it.repeated && tz.to_datetime(it.start) == it.local_start;
    let on_change = at.checked_sub(SignedDuration::from_secs(1)).ok()?;
    // A few occurrences are enough to skip those that the clock change affects.
    let next = recurrence.occurrences(on_change).take(50).find(is_plain)?;
    let last = recurrence.before(at)?;
    let is_near = last.local_start.date().checked_add(400.days()).ok()? > change;
    let clock = |it: &Occurrence| it.local_start.time();
    let utc = |it: &Occurrence| TimeZone::UTC.to_datetime(it.start).time();
    let says = is_near && clock(&last) == clock(&next) && utc(&last) != utc(&next);
    says.then(|| ClockShift {
        at,
        kind: "utc",
        local: next.local_start,
        text: format!(
            "from {} on it is at {} UTC, before at {} UTC",
            next.local_start.date(),
            short(utc(&next)),
            short(utc(&last))
        ),
    })
}

/// Formats a time of day as `10:00`; with seconds unless they are 0.
fn short(time: Time) -> String {
    time.strftime(if time.second() == 0 { "%H:%M" } else { "%H:%M:%S" }).to_string()
}
