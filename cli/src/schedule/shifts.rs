//! What clock changes do to a Schedule: occurrences that are moved, skipped or doubled, and the change of its time in UTC.
//!
//! Never: a change that has nothing to do with an occurrence.

use calendar::{Occurrence, Recurrence, RecurrenceSpec};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

/// Changes of the clocks that are looked at.
const MAX_CHANGES: usize = 400;
/// Occurrences around a change that are looked at.
const MAX_NEAR: usize = 2_000;

/// What a change of the clocks does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shift {
    /// When the clocks change.
    pub(crate) at: Timestamp,
    pub(crate) kind: Kind,
    /// The local time that the rule gives.
    pub(crate) local: DateTime,
    /// In words.
    pub(crate) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its local time does not exist; it is moved.
    Moved,
    /// Its local time does not exist; it does not happen.
    Skipped,
    /// Its local time exists twice, and one is taken.
    Chosen,
    /// Its local time exists twice, and so does it.
    Doubled,
    /// It stays at its local time, so its time in UTC changes.
    Utc,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Skipped => "skipped",
            Self::Chosen => "chosen",
            Self::Doubled => "doubled",
            Self::Utc => "utc",
        }
    }
}

/// What happens between two instants, in order.
pub(crate) fn shifts(
    spec: &RecurrenceSpec,
    recurrence: &Recurrence,
    from: Timestamp,
    to: Timestamp,
) -> Vec<Shift> {
    let tz = recurrence.zone();
    let plain = RecurrenceSpec { dst: calendar::Dst::default(), ..spec.clone() };
    let plain = Recurrence::new(&plain).ok();
    let changes = tz.following(from).map(|it| it.timestamp()).take_while(|at| *at <= to).take(MAX_CHANGES);
    let mut found = Vec::new();
    for at in changes {
        let before = at.checked_sub(SignedDuration::from_secs(1)).unwrap_or(at);
        let (old, new) = (tz.to_offset(before), tz.to_offset(at));
        if old == new {
            continue;
        }
        // Local times that are missing, or that come twice.
        let edges = [old.to_datetime(at), new.to_datetime(at)];
        let (low, high) = (edges[0].min(edges[1]), edges[0].max(edges[1]));
        let touched = |it: &Occurrence| (low..high).contains(&it.local_start);
        let ours: Vec<Occurrence> = near(recurrence, at).into_iter().filter(touched).collect();
        if new > old {
            let theirs = plain.as_ref().map(|it| near(it, at)).unwrap_or_default();
            found.extend(theirs.iter().filter(|it| touched(it)).map(|it| gap(tz, at, it, &ours)));
        } else {
            found.extend(fold(tz, at, &ours));
        }
        found.extend(utc(recurrence, at));
    }
    found
}

fn near(recurrence: &Recurrence, at: Timestamp) -> Vec<Occurrence> {
    let day = SignedDuration::from_hours(48);
    let from = at.checked_sub(day).unwrap_or(Timestamp::MIN);
    let to = at.checked_add(day).unwrap_or(Timestamp::MAX);
    recurrence.occurrences(from).take_while(|it| it.start < to).take(MAX_NEAR).collect()
}

fn gap(tz: &TimeZone, at: Timestamp, it: &Occurrence, ours: &[Occurrence]) -> Shift {
    let local = it.local_start;
    let happens = ours.iter().find(|own| own.local_start == local);
    let (kind, what) = match happens {
        Some(own) => (Kind::Moved, format!("it is at {}", short(tz.to_datetime(own.start).time()))),
        None => (Kind::Skipped, "it does not happen".to_owned()),
    };
    Shift { at, kind, local, text: format!("{local} does not exist: {what}") }
}

fn fold(tz: &TimeZone, at: Timestamp, ours: &[Occurrence]) -> Vec<Shift> {
    let mut found: Vec<Shift> = Vec::new();
    for it in ours {
        let local = it.local_start;
        // One that an override moved is not at that time.
        if tz.to_datetime(it.start) != local {
            continue;
        }
        if let Some(first) = found.iter_mut().find(|first| first.local == local) {
            first.kind = Kind::Doubled;
            first.text = format!("{local} exists twice: it happens at both");
            continue;
        }
        let which = if it.repeated { "second" } else { "first" };
        let text = format!("{local} exists twice: it happens at the {which}, {}", it.start);
        found.push(Shift { at, kind: Kind::Chosen, local, text });
    }
    found
}

/// The last occurrence before a change and the first after it, if they are at one local time.
fn utc(recurrence: &Recurrence, at: Timestamp) -> Option<Shift> {
    let tz = recurrence.zone();
    let instant_before = at.checked_sub(SignedDuration::from_secs(1)).ok()?;
    let (last, next) = (recurrence.before(at)?, recurrence.after(instant_before)?);
    let far = 400.days();
    let is_near = tz.to_datetime(last.start).checked_add(far).ok()? > tz.to_datetime(next.start);
    let clock = |it: &Occurrence| tz.to_datetime(it.start).time();
    let utc = |it: &Occurrence| TimeZone::UTC.to_datetime(it.start).time();
    let says = is_near && clock(&last) == clock(&next) && utc(&last) != utc(&next);
    says.then(|| Shift {
        at,
        kind: Kind::Utc,
        local: next.local_start,
        text: format!(
            "from {} on it is at {} UTC, before at {} UTC",
            next.local_start.date(),
            utc(&next),
            utc(&last)
        ),
    })
}

/// Seconds only where there are any.
fn short(time: jiff::civil::Time) -> String {
    time.strftime(if time.second() == 0 { "%H:%M" } else { "%H:%M:%S" }).to_string()
}
