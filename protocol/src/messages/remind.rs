//! What reminder jobs say and are told.

use domain::{Digest, Plan, ReminderTime, Severity};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A schedule and where its reminders stand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReminderState {
    /// The plan.
    pub plan: Plan,
    /// Reminders due at or before this instant are settled: the last recorded `through`, or the baseline (the later of
    /// the schedule's creation and its last resume).
    pub through: Timestamp,
}

/// Reminders that fell due.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reminders {
    /// The plan's revision by which they were found; another one held by the hub answers 409: ask again.
    pub revision: Digest,
    /// All reminders due after the settled instant and up to this one are listed or skipped.
    pub through: Timestamp,
    /// To send.
    pub reminders: Vec<ReminderDue>,
    /// Left out by the catch-up policy.
    pub skipped: i64,
    /// What changes of the clocks, after the settled instant and up to this one, did to occurrences.
    #[serde(default)]
    pub clock: ClockCounts,
}

/// Occurrences that are not where the rule says, or not once, because clocks changed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockCounts {
    /// Their local time did not exist, and they came later.
    pub shifted: i64,
    /// Their local time did not exist, and they did not happen.
    pub skipped: i64,
    /// Their local time existed twice, and they happened at both.
    pub doubled: i64,
}

/// One reminder that fell due.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReminderDue {
    /// Start of the occurrence.
    pub occurrence: Timestamp,
    /// End of the occurrence.
    pub end: Timestamp,
    /// Which of the schedule's reminders it is.
    #[serde(flatten)]
    pub time: ReminderTime,
    /// When it was due.
    pub due: Timestamp,
    /// What to say.
    pub title: String,
    /// What to say below it.
    pub summary: String,
    /// How bad it is: `info`, since a schedule names none.
    pub severity: Severity,
}
