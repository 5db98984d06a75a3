//! Occurrences that end up on one instant: they are one (docs/recurrence.md), which lasts as long as the longest.
//!
//! Never: time that is given away for that, or without a word.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::series::{Building, midnight_or};
use super::value::{Length, set_length};
use super::value::{When, when};
use super::when::{Clock, Named, text};
use crate::recurrence::Recurrence;
use crate::spec::Override;

impl Building<'_> {
    /// Gives overrides that share an instant with others the longest of their lengths. `line` is told where they have none.
    pub(super) fn share_instants(&mut self, clock: &mut Clock<'_, '_>, plain: &Recurrence, line: u32) {
        let mut by_instant: BTreeMap<Timestamp, Vec<usize>> = BTreeMap::new();
        for (index, it) in self.spec.overrides.iter().enumerate() {
            let start = it.start.as_ref().unwrap_or(&it.recurrence_id);
            if let Some(at) = named(start).and_then(|named| clock.instant(named))
                && !it.this_and_future
                && !it.cancelled
            {
                by_instant.entry(at).or_default().push(index);
            }
        }
        let others: BTreeSet<String> = self
            .spec
            .overrides
            .iter()
            .filter(|it| !it.this_and_future)
            .map(|it| it.recurrence_id.clone())
            .collect();
        for (at, indices) in by_instant {
            let before = at.checked_sub(SignedDuration::from_secs(1)).unwrap_or(at);
            let stays = plain.occurrences(before).next().filter(|it| it.start == at).map(|it| {
                if self.is_all_day() { it.local_start.date().to_string() } else { it.local_start.to_string() }
            });
            let stays = stays.filter(|id| !others.contains(id) && !self.excepts(id));
            if indices.len() + usize::from(stays.is_some()) < 2 {
                continue;
            }
            let lengths = indices.iter().map(|index| self.length_of(&self.spec.overrides[*index]));
            let lengths: Vec<Length> = lengths.chain(stays.iter().map(|_| self.length)).collect();
            let Some(start) = clock.local_of(at).map(Named::Local) else { continue };
            let Some(longest) = lengths.into_iter().max_by_key(|length| clock.seconds(start, *length)) else {
                continue;
            };
            let all_day = self.is_all_day();
            for index in &indices {
                let it = &mut self.spec.overrides[*index];
                set_length(&mut it.duration, &mut it.nominal_days, longest, all_day);
            }
            let lines =
                indices.iter().filter_map(|index| self.lines.get(&self.spec.overrides[*index].recurrence_id));
            let line = lines.max().copied().unwrap_or(line);
            let what =
                format!("RECURRENCE-ID: at {at} is another occurrence: they are one, as long as the longer");
            clock.remark(line, what);
        }
    }

    /// One occurrence more; where there is one already, that, as long as the longer.
    pub(super) fn add(
        &mut self,
        clock: &mut Clock<'_, '_>,
        plain: &Recurrence,
        (start, mut length): (Named, Length),
        line: u32,
    ) {
        let own = text(start);
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

    fn length_of(&self, it: &Override) -> Length {
        match (it.duration, it.nominal_days) {
            (None, 0) => self.length,
            (duration, days) if self.is_all_day() => {
                (i64::from(days) + duration.unwrap_or_default().as_secs() / 86_400, 0)
            }
            (duration, days) => (days.into(), duration.unwrap_or_default().as_secs()),
        }
    }

    /// A length for one occurrence: of two the longer.
    pub(super) fn override_length(&mut self, clock: &Clock<'_, '_>, id: &str, length: Length) {
        let all_day = self.is_all_day();
        if let Some(at) =
            self.spec.overrides.iter().position(|it| it.recurrence_id == id && !it.this_and_future)
        {
            let known = self.length_of(&self.spec.overrides[at]);
            let start = named(id).unwrap_or(Named::Instant(Timestamp::UNIX_EPOCH));
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

fn named(text: &str) -> Option<Named> {
    match when(text)? {
        When::Day(day) => Some(Named::Day(day)),
        When::Local(local) => Some(Named::Local(local)),
        When::Utc(at) => Some(Named::Instant(at)),
    }
}
