//! Which occurrences a change of the clocks shifts, skips or doubles.
//!
//! Reports neither what the rule itself leaves out, nor rules that count in real time: those meet neither gap nor
//! fold.

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use crate::occurrences::Occurrence;
use crate::recurrence::Recurrence;
use crate::spec::{RecurrenceError, RecurrenceSpec};
use crate::zone::{Dst, Fold};

/// What happened to an occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClockEffect {
    /// Its local time does not exist; it happens later.
    Shifted,
    /// Its local time does not exist; it does not happen.
    Skipped,
    /// Its local time exists twice; it happens both times.
    Doubled,
}

/// An occurrence affected by a change of the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockChange {
    /// When the clocks change.
    pub at: Timestamp,
    /// The local time that the rule gives.
    pub local: DateTime,
    /// What happened to it.
    pub effect: ClockEffect,
}

/// The occurrences affected by changes after `from` and up to `to`, in order of the changes, then of local time.
pub fn clock_changes(
    spec: &RecurrenceSpec,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<ClockChange>, RecurrenceError> {
    let own = Recurrence::new(spec)?;
    let plain = RecurrenceSpec { dst: Dst::default(), ..spec.clone() };
    let plain = Some(plain).filter(|plain| plain.dst != spec.dst).map(|plain| Recurrence::new(&plain));
    let plain = plain.transpose()?;
    let plain = plain.as_ref().unwrap_or(&own);
    let zone = own.zone();
    let mut found = Vec::new();
    for at in zone.following(from).map(|it| it.timestamp()).take_while(|at| *at <= to) {
        let (old, new) = offsets(zone, at);
        // An all-day occurrence begins at the first instant of its day. Only a day that is missing as a whole
        // counts.
        if own.is_all_day() && new.seconds() - old.seconds() < 86_400 {
            continue;
        }
        if new > old {
            let local = |it: &Occurrence| it.local_start;
            let ours: Vec<DateTime> = occurrences_near(&own, at, old, new).iter().map(local).collect();
            for it in occurrences_near(plain, at, old, new).iter().filter(|it| it.is_shifted(zone)) {
                let here = ours.contains(&it.local_start);
                let effect = if here { ClockEffect::Shifted } else { ClockEffect::Skipped };
                found.push(ClockChange { at, local: it.local_start, effect });
            }
        } else if spec.dst.fold == Fold::Both {
            let once: Vec<Occurrence> = occurrences_near(plain, at, old, new);
            // An override may have moved the occurrence.
            let second =
                |it: &Occurrence| it.repeated && new.to_timestamp(it.local_start).ok() == Some(it.start);
            let twice = occurrences_near(&own, at, old, new).into_iter().filter(second);
            let added = twice.filter(|it| !once.iter().any(|other| other.start == it.start));
            found.extend(added.map(|it| ClockChange {
                at,
                local: it.local_start,
                effect: ClockEffect::Doubled,
            }));
        }
    }
    Ok(found)
}

/// The offsets before and after a change.
fn offsets(zone: &TimeZone, at: Timestamp) -> (Offset, Offset) {
    let before = at.checked_sub(SignedDuration::from_secs(1)).unwrap_or(at);
    (zone.to_offset(before), zone.to_offset(at))
}

/// The occurrences that start within the length of the change, before or after it.
fn occurrences_near(recurrence: &Recurrence, at: Timestamp, old: Offset, new: Offset) -> Vec<Occurrence> {
    let length = SignedDuration::from_secs(i64::from((new.seconds() - old.seconds()).abs()));
    let from = at.checked_sub(length + SignedDuration::from_secs(1)).unwrap_or(Timestamp::MIN);
    let to = at.checked_add(length).unwrap_or(Timestamp::MAX);
    recurrence.occurrences(from).take_while(|it| it.start < to).collect()
}
