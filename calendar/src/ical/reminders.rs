//! Reminders as VALARM. One place: a reminder of another form is written here and nowhere else.
//!
//! Never: whom it tells. Channels are not iCalendar's.

use jiff::SignedDuration;

use super::Before;
use super::value::write_span;
use super::write::Lines;

/// A VALARM for each.
pub(super) fn write(lines: &mut Lines, title: &str, reminders: &[Before]) {
    for Before { minutes } in reminders {
        lines.raw("BEGIN", "VALARM");
        lines.raw("ACTION", "DISPLAY");
        lines.text("DESCRIPTION", title);
        lines.raw("TRIGGER", &write_span(0, SignedDuration::from_mins(-minutes)));
        lines.raw("END", "VALARM");
    }
}
