//! What changes of the clocks do to occurrences: those that are not where the rule says, or not once.
//!
//! Never: what the rule itself leaves out, or a rule that counts in real time, which meets neither gap nor fold.

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use crate::occurrences::Occurrence;
use crate::recurrence::Recurrence;
use crate::spec::{RecurrenceError, RecurrenceSpec};
use crate::zone::{Dst, Fold};

/// What became of an occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClockEffect {
    /// Its local time did not exist, and it comes later.
    Shifted,
    /// Its local time did not exist, and it does not happen.
    Skipped,
    /// Its local time existed twice, and it happens at both.
    Doubled,
}

/// One occurrence that a change of the clocks has touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockChange {
    /// When the clocks change.
    pub at: Timestamp,
    /// The local time that the rule gives.
    pub local: DateTime,
    /// What became of it.
    pub effect: ClockEffect,
}

/// The occurrences touched by changes after `from` and up to `to`, in order of the changes, then of local time.
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
        // A day begins when it begins; only one that is missing whole is another matter.
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
            // An override may have moved it.
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

/// Before and after a change.
fn offsets(zone: &TimeZone, at: Timestamp) -> (Offset, Offset) {
    let before = at.checked_sub(SignedDuration::from_secs(1)).unwrap_or(at);
    (zone.to_offset(before), zone.to_offset(at))
}

/// What starts within the length of the change, to either side.
fn occurrences_near(recurrence: &Recurrence, at: Timestamp, old: Offset, new: Offset) -> Vec<Occurrence> {
    let length = SignedDuration::from_secs(i64::from((new.seconds() - old.seconds()).abs()));
    let from = at.checked_sub(length + SignedDuration::from_secs(1)).unwrap_or(Timestamp::MIN);
    let to = at.checked_add(length).unwrap_or(Timestamp::MAX);
    recurrence.occurrences(from).take_while(|it| it.start < to).collect()
}
