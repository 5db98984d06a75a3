//! Which reminders fall due when, and which of those missed are still sent.
//!
//! Due instants are whole minutes: an occurrence that starts within a minute counts as starting with it, since
//! cron can't wake anyone in between. Never decides what was sent already; that is the ledger's.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::iter::Peekable;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::occurrences::{Occurrence, Occurrences};
use crate::recurrence::Recurrence;
use crate::zone::{floor_second, timestamp};

/// The longest time before, or after, a start: 366 days.
pub const MAX_BEFORE: SignedDuration = SignedDuration::from_hours(366 * 24);
/// How late a reminder may be and still be in time under [`CatchUpPolicy::None`]: a cron pod needs a moment to start.
pub const NONE_TOLERANCE: SignedDuration = SignedDuration::from_mins(2);

/// A reminder: whole minutes before each start, after it if negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "SignedDuration", into = "SignedDuration")]
pub struct Reminder {
    before_minutes: i32,
}

/// Why a reminder is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReminderError {
    /// It has seconds.
    #[error("before has seconds; allowed are whole minutes, such as 10m or 1h30m")]
    Seconds,
    /// It is too long.
    #[error("before is longer than 366 days; allowed are whole minutes from -8784h to 8784h")]
    TooLong,
}

impl Reminder {
    /// A reminder `before` the start: whole minutes, from -366 to 366 days.
    pub fn new(before: SignedDuration) -> Result<Self, ReminderError> {
        if before.abs() > MAX_BEFORE {
            return Err(ReminderError::TooLong);
        }
        if before.as_secs() % 60 != 0 || before.subsec_nanos() != 0 {
            return Err(ReminderError::Seconds);
        }
        Ok(Self { before_minutes: (before.as_secs() / 60) as i32 })
    }

    /// How long before the start.
    pub fn before(self) -> SignedDuration {
        SignedDuration::from_mins(self.before_minutes.into())
    }

    fn seconds(self) -> i64 {
        i64::from(self.before_minutes) * 60
    }
}

impl TryFrom<SignedDuration> for Reminder {
    type Error = ReminderError;

    fn try_from(before: SignedDuration) -> Result<Self, ReminderError> {
        Self::new(before)
    }
}

impl From<Reminder> for SignedDuration {
    fn from(reminder: Reminder) -> Self {
        reminder.before()
    }
}

/// One reminder of one occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueReminder {
    /// What it reminds of.
    pub occurrence: Occurrence,
    /// Place of the reminder in the list given.
    pub index: usize,
    /// The reminder itself.
    pub reminder: Reminder,
    /// When it is due: a whole minute.
    pub due: Timestamp,
}

/// What to do about reminders that were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum CatchUpPolicy {
    /// Send each that is within the window.
    #[default]
    All,
    /// Send the latest within the window of each reminder.
    Latest,
    /// Send only what is due now; see [`NONE_TOLERANCE`].
    None,
}

/// What to do about reminders that were missed, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CatchUp {
    /// Which are sent.
    pub policy: CatchUpPolicy,
    /// How old one may be, counted from when it was due. One not older than [`NONE_TOLERANCE`] is always in time.
    pub window: SignedDuration,
}

impl Default for CatchUp {
    /// All within an hour.
    fn default() -> Self {
        Self { policy: CatchUpPolicy::All, window: SignedDuration::from_hours(1) }
    }
}

/// What a catch-up sends, and what it leaves out so that it can be counted. Both in order of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatchUpPlan {
    /// To be sent now.
    pub to_send: Vec<DueReminder>,
    /// Never to be sent.
    pub skipped: Vec<DueReminder>,
}

/// The reminders due after `after` (exclusive) and up to `until` (inclusive), in order of time, at most `limit`.
/// With exactly `limit` of them there may be more; those due at the same instant as the last are cut off too, so
/// the limit should be well above the number of reminders.
pub fn due(
    recurrence: &Recurrence,
    reminders: &[Reminder],
    after: Timestamp,
    until: Timestamp,
    limit: usize,
) -> Vec<DueReminder> {
    Instants::new(recurrence, reminders, after).take_while(|it| it.due <= until).take(limit).collect()
}

/// The first reminder due after `after` (exclusive).
pub fn next_reminder(
    recurrence: &Recurrence,
    reminders: &[Reminder],
    after: Timestamp,
) -> Option<DueReminder> {
    Instants::new(recurrence, reminders, after).next()
}

/// Parts what fell due up to `now` into what is sent and what is skipped. Anything due after `now` is left out.
pub fn plan_catch_up(due: Vec<DueReminder>, now: Timestamp, catch_up: CatchUp) -> CatchUpPlan {
    let age = |it: &DueReminder| now.duration_since(it.due);
    let window = match catch_up.policy {
        CatchUpPolicy::None => NONE_TOLERANCE,
        _ => catch_up.window.max(NONE_TOLERANCE),
    };
    let mut due: Vec<DueReminder> = due.into_iter().filter(|it| it.due <= now).collect();
    due.sort_by_key(|it| (it.due, it.index));
    let latest: BTreeMap<usize, Timestamp> = due.iter().map(|it| (it.index, it.due)).collect();
    let (to_send, skipped) = due.into_iter().partition(|it| {
        let superseded = catch_up.policy == CatchUpPolicy::Latest && latest.get(&it.index) != Some(&it.due);
        age(it) <= window && !superseded
    });
    CatchUpPlan { to_send, skipped }
}

/// Due reminders without end, in order of time, then of the list.
pub(crate) struct Instants<'a> {
    reminders: &'a [Reminder],
    streams: Vec<Peekable<Occurrences<'a>>>,
    next: BinaryHeap<Reverse<(i64, usize)>>,
    after: i64,
}

impl<'a> Instants<'a> {
    pub(crate) fn new(recurrence: &'a Recurrence, reminders: &'a [Reminder], after: Timestamp) -> Self {
        let after = floor_second(after);
        let from = |reminder: &Reminder| {
            recurrence.occurrences_from(after.saturating_add(reminder.seconds() + 1)).peekable()
        };
        let mut instants =
            Self { reminders, streams: reminders.iter().map(from).collect(), next: BinaryHeap::new(), after };
        for index in 0..reminders.len() {
            instants.queue(index);
        }
        instants
    }

    fn queue(&mut self, index: usize) {
        if let Some(occurrence) = self.streams[index].peek() {
            let start = occurrence.start.as_second();
            let due = start - start.rem_euclid(60) - self.reminders[index].seconds();
            self.next.push(Reverse((due, index)));
        }
    }
}

impl Iterator for Instants<'_> {
    type Item = DueReminder;

    fn next(&mut self) -> Option<DueReminder> {
        loop {
            let Reverse((due, index)) = self.next.pop()?;
            let occurrence = self.streams[index].next()?;
            self.queue(index);
            if due > self.after {
                return Some(DueReminder {
                    occurrence,
                    index,
                    reminder: self.reminders[index],
                    due: timestamp(due),
                });
            }
        }
    }
}
