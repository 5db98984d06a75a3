//! When reminders fall due, and which of the missed ones are still sent.
//!
//! Due instants are whole minutes, since cron starts nothing between them: an occurrence counts as if it started
//! with its minute. The ledger knows what was sent already.
//!
//! Clauses of docs/semantics.md: S5, S6.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::iter::Peekable;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::days::DAY;
use crate::occurrences::{Occurrence, Occurrences};
use crate::recurrence::Recurrence;
use crate::zone::{floor_second, timestamp};

/// The longest time before or after a start: 366 days.
pub const MAX_BEFORE: SignedDuration = SignedDuration::from_hours(366 * 24);
/// How late a reminder may be under [`CatchUpPolicy::None`] and still count as in time: a cron pod needs a moment
/// to start.
pub const NONE_TOLERANCE: SignedDuration = SignedDuration::from_mins(2);

/// When somebody is reminded of an occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum ReminderTime {
    /// Some time before the start.
    Before {
        /// Whole minutes. Negative: after the start.
        before_minutes: i64,
    },
    /// At a time of day in the recurrence's zone.
    At {
        /// The time of day, a whole minute. Around a change of the clocks, RFC 5545, section 3.3.5 applies.
        at: Time,
        /// Days before the day of the start; 0 is the same day.
        days_before: u16,
    },
}

/// A reminder, with a delay that is added to its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reminder {
    time: ReminderTime,
    delay_minutes: u16,
}

/// Why a reminder is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReminderError {
    /// The time before the start has seconds.
    #[error("before has seconds; allowed are whole minutes, such as 10m or 1h30m")]
    Seconds,
    /// The time before the start is too long.
    #[error("before is longer than 366 days; allowed are whole minutes from -8784h to 8784h")]
    TooLong,
    /// The time of day has seconds.
    #[error("at has seconds; allowed are whole minutes, such as 09:00")]
    AtSeconds,
    /// The day is too many days before.
    #[error("daysBefore is more than 366")]
    TooManyDays,
}

impl Reminder {
    /// A reminder `before` the start: whole minutes, from -366 to 366 days.
    pub fn new(before: SignedDuration) -> Result<Self, ReminderError> {
        if before.as_secs() % 60 != 0 || before.subsec_nanos() != 0 {
            return Err(ReminderError::Seconds);
        }
        Self::from_time(ReminderTime::Before { before_minutes: before.as_secs() / 60 })
    }

    /// A reminder at `time`, without delay.
    pub fn from_time(time: ReminderTime) -> Result<Self, ReminderError> {
        match time {
            ReminderTime::Before { before_minutes } => {
                if before_minutes.unsigned_abs() > MAX_BEFORE.as_mins().unsigned_abs() {
                    return Err(ReminderError::TooLong);
                }
            }
            ReminderTime::At { at, days_before } => {
                if at.second() != 0 || at.subsec_nanosecond() != 0 {
                    return Err(ReminderError::AtSeconds);
                }
                if i64::from(days_before) * 24 > MAX_BEFORE.as_hours() {
                    return Err(ReminderError::TooManyDays);
                }
            }
        }
        Ok(Self { time, delay_minutes: 0 })
    }

    /// The same reminder, but due this much later.
    #[must_use]
    pub fn delayed(self, minutes: u16) -> Self {
        Self { delay_minutes: minutes, ..self }
    }

    /// Its time, without the delay.
    pub fn time(self) -> ReminderTime {
        self.time
    }

    /// When it is due for an occurrence that starts at `start`.
    fn due(self, start: i64, zone: &TimeZone) -> i64 {
        let start = start - start.rem_euclid(60);
        let due = match self.time {
            ReminderTime::Before { before_minutes } => start - before_minutes * 60,
            ReminderTime::At { at, days_before } => {
                let day = timestamp(start).to_zoned(zone.clone()).date();
                let day = day.saturating_sub(Span::new().days(days_before));
                // `compatible` is the rule of section 3.3.5. A date at the end of time has no instant.
                let due = zone.to_ambiguous_timestamp(day.to_datetime(at)).compatible();
                due.map_or(start, floor_second)
            }
        };
        due + i64::from(self.delay_minutes) * 60
    }

    /// After an instant, this reminder is never due for occurrences that start this many seconds later, or earlier.
    fn lead(self) -> i64 {
        let lead = match self.time {
            ReminderTime::Before { before_minutes } => before_minutes * 60,
            // No change of the clocks exceeds a day (Samoa, 2011).
            ReminderTime::At { at, days_before } => {
                let at = i64::from(at.hour()) * 3_600 + i64::from(at.minute()) * 60;
                (i64::from(days_before) - 1) * DAY - at
            }
        };
        lead - i64::from(self.delay_minutes) * 60
    }
}

/// One reminder of one occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueReminder {
    /// The occurrence that it reminds of.
    pub occurrence: Occurrence,
    /// Index of the reminder in the given list.
    pub index: usize,
    /// The reminder itself.
    pub reminder: Reminder,
    /// When it is due, a whole minute.
    pub due: Timestamp,
}

/// Which of the missed reminders to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum CatchUpPolicy {
    /// Each one within the window.
    #[default]
    All,
    /// Only the latest within the window, for each reminder of the list.
    Latest,
    /// Only what is due now; see [`NONE_TOLERANCE`].
    None,
}

/// Which of the missed reminders to send, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CatchUp {
    /// Which ones to send.
    pub policy: CatchUpPolicy,
    /// How old a reminder may be, counted from its due time. One not older than [`NONE_TOLERANCE`] is always in
    /// time.
    pub window: SignedDuration,
}

impl Default for CatchUp {
    /// All within an hour.
    fn default() -> Self {
        Self { policy: CatchUpPolicy::All, window: SignedDuration::from_hours(1) }
    }
}

/// What a catch-up sends and what it skips (for counting), both in order of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatchUpPlan {
    /// To send now.
    pub to_send: Vec<DueReminder>,
    /// Never to send.
    pub skipped: Vec<DueReminder>,
}

/// The first `limit` reminders due after `after` (exclusive) and up to `until` (inclusive), in order of time. If
/// there are exactly `limit` of them, there may be more, even at the instant of the last one: choose a limit well
/// above the number of reminders.
pub fn due(
    recurrence: &Recurrence,
    reminders: &[Reminder],
    after: Timestamp,
    until: Timestamp,
    limit: usize,
) -> Vec<DueReminder> {
    DueReminders::new(recurrence, reminders, after).take_while(|it| it.due <= until).take(limit).collect()
}

/// The first reminder due after `after` (exclusive).
pub fn next_reminder(
    recurrence: &Recurrence,
    reminders: &[Reminder],
    after: Timestamp,
) -> Option<DueReminder> {
    DueReminders::new(recurrence, reminders, after).next()
}

/// Divides what fell due up to `now` into what is sent and what is skipped. Ignores anything due after `now`.
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

/// The due reminders of a recurrence without end, in order of time, then of the list.
pub(crate) struct DueReminders<'a> {
    zone: &'a TimeZone,
    reminders: &'a [Reminder],
    streams: Vec<Peekable<Occurrences<'a>>>,
    next: BinaryHeap<Reverse<(i64, usize)>>,
    after: i64,
}

impl<'a> DueReminders<'a> {
    pub(crate) fn new(recurrence: &'a Recurrence, reminders: &'a [Reminder], after: Timestamp) -> Self {
        let after = floor_second(after);
        let from = |reminder: &Reminder| {
            recurrence.occurrences_from(after.saturating_add(reminder.lead() + 1)).peekable()
        };
        let streams = reminders.iter().map(from).collect();
        let mut instants =
            Self { zone: recurrence.zone(), reminders, streams, next: BinaryHeap::new(), after };
        for index in 0..reminders.len() {
            instants.queue(index);
        }
        instants
    }

    fn queue(&mut self, index: usize) {
        if let Some(occurrence) = self.streams[index].peek() {
            let due = self.reminders[index].due(occurrence.start.as_second(), self.zone);
            self.next.push(Reverse((due, index)));
        }
    }
}

impl Iterator for DueReminders<'_> {
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
