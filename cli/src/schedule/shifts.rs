//! What clock changes do to a Schedule: occurrences that are shifted, skipped or doubled, as the operator counts them, and the
//! change of its time in UTC.
//!
//! Never: a change that has nothing to do with an occurrence.

use calendar::{
    ClockChange, ClockEffect, Occurrence, Recurrence, RecurrenceError, RecurrenceSpec, clock_changes,
};
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

/// Changes of the clocks that are looked at.
const MAX_CHANGES: usize = 400;

/// What a change of the clocks does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shift {
    /// When the clocks change.
    pub(crate) at: Timestamp,
    /// `shifted`, `skipped`, `doubled`, or `utc`.
    pub(crate) kind: &'static str,
    /// The local time that the rule gives.
    pub(crate) local: DateTime,
    /// In words.
    pub(crate) text: String,
}

/// What happens between two instants, in order.
pub(crate) fn shifts(
    spec: &RecurrenceSpec,
    recurrence: &Recurrence,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Shift>, RecurrenceError> {
    let tz = recurrence.zone();
    let changes = tz.following(from).map(|it| it.timestamp()).take_while(|at| *at <= to).take(MAX_CHANGES);
    let mut found: Vec<Shift> =
        clock_changes(spec, from, to)?.into_iter().map(|it| touched(recurrence, it)).collect();
    found.extend(changes.filter_map(|at| utc(recurrence, at)));
    // What happens to one occurrence comes before what happens to all.
    found.sort_by_key(|it| (it.at, it.kind == "utc"));
    Ok(found)
}

fn touched(recurrence: &Recurrence, ClockChange { at, local, effect }: ClockChange) -> Shift {
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
    Shift { at, kind, local, text }
}

/// The last occurrence before a change and the first on another day behind it, if they are at one local time.
fn utc(recurrence: &Recurrence, at: Timestamp) -> Option<Shift> {
    let tz = recurrence.zone();
    let change = tz.to_datetime(at).date();
    let is_plain =
        |it: &Occurrence| !it.is_shifted(tz) && !it.repeated && tz.to_datetime(it.start) == it.local_start;
    let on_change = at.checked_sub(SignedDuration::from_secs(1)).ok()?;
    // A few around the change are enough to step over those that it touched.
    let next = recurrence.occurrences(on_change).take(50).find(is_plain)?;
    let last = recurrence.before(at)?;
    let is_near = last.local_start.date().checked_add(400.days()).ok()? > change;
    let clock = |it: &Occurrence| it.local_start.time();
    let utc = |it: &Occurrence| TimeZone::UTC.to_datetime(it.start).time();
    let says = is_near && clock(&last) == clock(&next) && utc(&last) != utc(&next);
    says.then(|| Shift {
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

/// Seconds only where there are any.
fn short(time: Time) -> String {
    time.strftime(if time.second() == 0 { "%H:%M" } else { "%H:%M:%S" }).to_string()
}
