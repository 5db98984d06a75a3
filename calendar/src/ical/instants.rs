//! Merges occurrences at the same instant: they are one occurrence (docs/recurrence.md), as long as the longest of
//! them.
//!
//! So no time is lost, and each merge is remarked.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::series::{SeriesBuilder, midnight_or};
use super::value::{DaysAndSeconds, set_length};
use super::value::{IcalTime, when};
use super::when::{ClockTime, EventClock, spec_text};
use crate::recurrence::{RawOccurrence, Recurrence};
use crate::spec::{MAX_OVERRIDE_STEPS, Override, RecurrenceError};
use crate::steps::Steps;
use crate::zone::{local_seconds, timestamp};

/// Steps for finding what else happens at the instants of a series' overrides.
pub(super) const MAX_SHARING_STEPS: u64 = 10 * MAX_OVERRIDE_STEPS;

impl SeriesBuilder<'_> {
    /// Gives overrides that share an instant with other occurrences the longest of their lengths. `line` is the
    /// line for remarks on overrides without one.
    ///
    /// The series with all its overrides tells where each override is and what else is there, since a THISANDFUTURE
    /// override takes occurrences away from an instant and puts others there. Does nothing if the calendar refuses
    /// that series.
    pub(super) fn share_instants(
        &mut self,
        clock: &mut EventClock<'_, '_>,
        line: u32,
    ) -> Result<(), RecurrenceError> {
        let of_one = self.spec.overrides.iter().enumerate();
        let of_one = of_one.filter(|(_, it)| !it.this_and_future && !it.cancelled);
        let by_name: HashMap<i64, usize> = of_one
            .filter_map(|(index, it)| Some((local_seconds(midnight_or(named(&it.recurrence_id)?)), index)))
            .collect();
        if by_name.is_empty() {
            return Ok(());
        }
        let Ok(all) = Recurrence::new(&self.spec) else { return Ok(()) };
        let mut by_instant: BTreeMap<i64, Vec<(usize, DaysAndSeconds)>> = BTreeMap::new();
        for it in all.singles.iter().filter(|it| it.is_override) {
            if let Some(index) = by_name.get(&it.moment.local) {
                by_instant.entry(it.moment.at).or_default().push((*index, length(it)));
            }
        }
        let rest = all.without_moved();
        let mut steps = Steps::new(MAX_SHARING_STEPS);
        for (at, overrides) in by_instant {
            let stays = rest.occurrences_from(at).next_found_within(&mut steps);
            if steps.left() == 0 {
                return Err(RecurrenceError::OverridesTooCostly);
            }
            let stays = stays.filter(|it| it.moment.at == at);
            if overrides.len() + usize::from(stays.is_some()) < 2 {
                continue;
            }
            let lengths = overrides.iter().map(|(_, length)| *length).chain(stays.iter().map(length));
            let at = timestamp(at);
            let Some(start) = clock.local_of(at).map(ClockTime::Local) else { continue };
            let Some(longest) = lengths.max_by_key(|length| clock.seconds(start, *length)) else {
                continue;
            };
            let all_day = self.is_all_day();
            for (index, _) in &overrides {
                let it = &mut self.spec.overrides[*index];
                set_length(&mut it.duration, &mut it.nominal_days, longest, all_day);
            }
            let names = overrides.iter().map(|(index, _)| &self.spec.overrides[*index].recurrence_id);
            let line = names.filter_map(|name| self.lines.get(name)).max().copied().unwrap_or(line);
            let what =
                format!("RECURRENCE-ID: at {at} is another occurrence: they are one, as long as the longer");
            clock.remark(line, what);
        }
        Ok(())
    }

    /// Adds one occurrence. If there is one at that time already, they are one, as long as the longer.
    pub(super) fn add_occurrence(
        &mut self,
        clock: &mut EventClock<'_, '_>,
        plain: &Recurrence,
        (start, mut length): (ClockTime, DaysAndSeconds),
        line: u32,
    ) {
        let own = spec_text(start);
        let known = self.spec.overrides.iter().find(|it| it.recurrence_id == own && !it.this_and_future);
        let known = match known {
            Some(known) => Some(self.length_of(known)),
            None => plain.find(&midnight_or(start).to_string()).map(|_| self.length),
        };
        if let Some(known) = known {
            let what = format!("{own} is an occurrence already: they are one, as long as the longer");
            clock.remark(line, what);
            if clock.seconds(start, known) > clock.seconds(start, length) {
                length = known;
            }
        }
        if length != self.length {
            self.override_length(clock, &own, length);
        }
        self.spec.dates.push(own);
    }

    fn length_of(&self, it: &Override) -> DaysAndSeconds {
        match (it.duration, it.nominal_days) {
            (None, 0) => self.length,
            (duration, days) if self.is_all_day() => {
                (i64::from(days) + duration.unwrap_or_default().as_secs() / 86_400, 0)
            }
            (duration, days) => (days.into(), duration.unwrap_or_default().as_secs()),
        }
    }

    /// Gives one occurrence this length, or keeps its own if that is longer.
    pub(super) fn override_length(&mut self, clock: &EventClock<'_, '_>, id: &str, length: DaysAndSeconds) {
        let all_day = self.is_all_day();
        if let Some(at) =
            self.spec.overrides.iter().position(|it| it.recurrence_id == id && !it.this_and_future)
        {
            let known = self.length_of(&self.spec.overrides[at]);
            let start = named(id).unwrap_or(ClockTime::Instant(Timestamp::UNIX_EPOCH));
            if clock.seconds(start, length) > clock.seconds(start, known) {
                let it = &mut self.spec.overrides[at];
                set_length(&mut it.duration, &mut it.nominal_days, length, all_day);
            }
            return;
        }
        let mut it = Override { recurrence_id: id.to_owned(), ..Override::default() };
        set_length(&mut it.duration, &mut it.nominal_days, length, all_day);
        self.spec.overrides.push(it);
    }
}

fn length(it: &RawOccurrence) -> DaysAndSeconds {
    (it.length.days.into(), it.length.seconds)
}

fn named(text: &str) -> Option<ClockTime> {
    match when(text)? {
        IcalTime::Day(day) => Some(ClockTime::Day(day)),
        IcalTime::Local(local) => Some(ClockTime::Local(local)),
        IcalTime::Utc(at) => Some(ClockTime::Instant(at)),
    }
}
