//! Tests of the calendar's public interface; each name is a sentence.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clashes;
mod clock;
mod corpus;
mod cron;
mod dst;
mod free;
mod ical;
mod never;
mod occupancy;
mod overrides;
mod refused;
mod reminders;
mod rfc;
mod searching;
mod silent;
mod statements;
mod transitions;
mod twin;

use calendar::{Recurrence, RecurrenceSpec};
use jiff::Timestamp;

pub(crate) fn spec(start: &str, zone: &str, rule: &str) -> RecurrenceSpec {
    RecurrenceSpec {
        start: start.to_owned(),
        time_zone: zone.to_owned(),
        rule: (!rule.is_empty()).then(|| rule.to_owned()),
        ..RecurrenceSpec::default()
    }
}

pub(crate) fn recurrence(start: &str, zone: &str, rule: &str) -> Recurrence {
    Recurrence::new(&spec(start, zone, rule)).unwrap_or_else(|error| panic!("{rule}: {error}"))
}

/// The first `n` occurrences, as local times of the zone, without seconds.
pub(crate) fn locals(recurrence: &Recurrence, n: usize) -> Vec<String> {
    let local = |t: Timestamp| t.to_zoned(recurrence.zone().clone()).strftime("%Y-%m-%d %H:%M").to_string();
    recurrence.all().take(n).map(|it| local(it.start)).collect()
}

/// The first `n` occurrences as instants.
pub(crate) fn instants(recurrence: &Recurrence, n: usize) -> Vec<String> {
    recurrence.all().take(n).map(|it| it.start.to_string()).collect()
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}
