//! Writes reminders as VALARM, and reads back those that only we write.
//!
//! A reminder at a time of day is written as a time before the first start, which other programs understand, and
//! also as what it is, in properties of our own. Recipients are not written, since iCalendar has no channels.

use jiff::SignedDuration;
use jiff::civil::{DateTime, Time};

use super::component::Component;
use super::line_writer::LineWriter;
use super::value::write_span;
use crate::reminders::{Reminder, ReminderTime};

const AT: &str = "X-BELFRY-AT";
const DAYS_BEFORE: &str = "X-BELFRY-DAYS-BEFORE";

/// Writes a VALARM for each reminder of a series. `start` is its local start: a time or a date.
pub(super) fn write_alarms(lines: &mut LineWriter, title: &str, start: &str, reminders: &[ReminderTime]) {
    for reminder in reminders {
        lines.raw("BEGIN", "VALARM");
        lines.raw("ACTION", "DISPLAY");
        lines.text("DESCRIPTION", title);
        lines.raw("TRIGGER", &write_span(0, SignedDuration::from_mins(-minutes_before(*reminder, start))));
        if let ReminderTime::At { at, days_before } = reminder {
            lines.raw(AT, &at.strftime("%H:%M").to_string());
            lines.raw(DAYS_BEFORE, &days_before.to_string());
        }
        lines.raw("END", "VALARM");
    }
}

/// The reminder at a time of day that we wrote into an alarm. `None` if somebody has moved the alarm since: it now
/// rings `seconds` before the start.
pub(super) fn written_reminder(alarm: &Component, start: &str, seconds: &[i64]) -> Option<ReminderTime> {
    let text = |name: &str| Some(alarm.first(name)?.value.trim());
    let at = Time::strptime("%H:%M", text(AT)?).ok()?;
    let reminder = ReminderTime::At { at, days_before: text(DAYS_BEFORE)?.parse().ok()? };
    let is_there = Reminder::from_time(reminder).is_ok() && seconds == [minutes_before(reminder, start) * 60];
    is_there.then_some(reminder)
}

/// Minutes before the first start, on a day without a change of the clocks.
fn minutes_before(reminder: ReminderTime, start: &str) -> i64 {
    let of_day = |time: Time| i64::from(time.hour()) * 60 + i64::from(time.minute());
    match reminder {
        ReminderTime::Before { before_minutes } => before_minutes,
        ReminderTime::At { at, days_before } => {
            let start = start.trim_end_matches('Z').parse().map_or(Time::MIN, DateTime::time);
            i64::from(days_before) * 24 * 60 + of_day(start) - of_day(at)
        }
    }
}
