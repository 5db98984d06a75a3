//! The texts of notifications with their deliveries and attempts, and of dead letters.

use std::fmt::Write as _;

use domain::{AlertKind, Cause, DeliveryRecord, DeliveryState, RecordRef, ReminderTime};
use protocol::messages::{NotificationStory, StoredDeadLetter};

use crate::terminal::{Colour, Page, Painted};

/// The names of the columns of [`rows`].
pub(crate) const COLUMNS: [&str; 7] = ["DECIDED", "KIND", "OBJECT", "CHANNEL", "STATE", "ID", "TITLE"];
/// The names of the columns of a wide table.
pub(crate) const WIDE: [&str; 12] = [
    "DECIDED",
    "KIND",
    "OBJECT",
    "CHANNEL",
    "STATE",
    "ID",
    "SEVERITY",
    "RECIPIENT",
    "ATTEMPTS",
    "DELIVERY",
    "TITLE",
    "WHY",
];
/// The longest title in a table that is not wide, in characters.
const MAX_TITLE: usize = 60;

/// Everything about a notification, in several lines.
pub(crate) fn full_text(story: &NotificationStory, mut page: Page) -> Page {
    let one = &story.notification;
    page.line(&one.title);
    for line in one.summary.lines() {
        page.line(format_args!("  {line}"));
    }
    page.line(format_args!("id        {}", one.id));
    page.line(format_args!("severity  {}", one.severity.name()));
    page.line(format_args!("decided   {}", one.created));
    page.line(format_args!("cause     {}", cause(&one.cause)));
    for (label, value) in &one.group {
        page.line(format_args!("group     {label}={value}"));
    }
    for delivery in &story.deliveries {
        add_delivery(&mut page, delivery);
    }
    if story.deliveries_left_out > 0 {
        page.line("");
        page.line(format_args!("{} further deliveries are left out", story.deliveries_left_out));
    }
    page
}

/// The JSON for programs: the hub's answer, with the notification's `kind` added.
pub(crate) fn json(story: &NotificationStory) -> serde_json::Value {
    let mut told = serde_json::to_value(story).unwrap_or_default();
    if let Some(serde_json::Value::Object(one)) = told.get_mut("notification") {
        one.insert("kind".to_owned(), story.notification.cause.kind().into());
        one.insert("cause".to_owned(), story.notification.cause.public_json());
    }
    told
}

/// Whether all deliveries in the answer have arrived. False if there is none.
pub(crate) fn all_delivered(story: &NotificationStory) -> bool {
    let delivered = |delivery: &DeliveryRecord| delivery.state == DeliveryState::Delivered;
    !story.deliveries.is_empty() && story.deliveries.iter().all(delivered)
}

/// A row of a table for each delivery that is asked for.
pub(crate) fn rows(
    story: &NotificationStory,
    wide: bool,
    asked: impl Fn(&DeliveryRecord) -> bool,
) -> Vec<Vec<Painted>> {
    let one = &story.notification;
    let row = |delivery: &DeliveryRecord| {
        let mut row = first_columns(story);
        row.push(delivery.channel.clone().into());
        row.push(Painted(delivery.state.name().to_owned(), colour(delivery.state)));
        row.push(one.id.to_string().into());
        if wide {
            let attempts = delivery.attempts.len() as i64 + delivery.attempts_left_out;
            let id = delivery.id.map(|id| id.to_string()).unwrap_or_default();
            row.extend(
                [one.severity.name().to_owned(), delivery.recipient.clone(), attempts.to_string(), id]
                    .map(Into::into),
            );
            row.extend([one.title.clone(), reason(delivery)].map(Into::into));
        } else {
            row.push(cut(&one.title).into());
        }
        row
    };
    let mut rows: Vec<_> = story.deliveries.iter().filter(|delivery| asked(delivery)).map(row).collect();
    if story.deliveries_left_out > 0 {
        let mut row = first_columns(story);
        row.push(String::new().into());
        row.push(Painted("...".to_owned(), Colour::Faint));
        row.push(one.id.to_string().into());
        row.push(format!("{} further deliveries are left out", story.deliveries_left_out).into());
        rows.push(row);
    }
    rows
}

/// The first columns of a row: when the notification was decided, its kind, and its object.
fn first_columns(story: &NotificationStory) -> Vec<Painted> {
    let one = &story.notification;
    let (colour, object) = match &one.cause {
        Cause::Alert { name, alert, .. } => {
            let colour = match alert.kind {
                AlertKind::Firing | AlertKind::Repeat { .. } => Colour::Bad,
                // Nobody knows.
                AlertKind::Resolved if alert.closed.is_some() => Colour::Faint,
                AlertKind::Resolved => Colour::Good,
            };
            (colour, format!("rule/{name}"))
        }
        Cause::Record { name, .. } => (Colour::None, format!("rule/{name}")),
        Cause::Reminder { name, .. } => (Colour::None, format!("schedule/{name}")),
        Cause::Test { name, .. } => (Colour::Faint, format!("channel/{name}")),
    };
    // To the second; `belfry ask` shows the exact time.
    let decided = one.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    vec![decided.into(), Painted(one.cause.kind().to_owned(), colour), object.into()]
}

fn colour(state: DeliveryState) -> Colour {
    match state {
        DeliveryState::Delivered => Colour::Good,
        DeliveryState::Dead => Colour::Bad,
        DeliveryState::Pending => Colour::Waits,
        DeliveryState::Expired | DeliveryState::Suppressed => Colour::Faint,
    }
}

fn cut(title: &str) -> String {
    let mut cut: String = title.chars().take(MAX_TITLE).collect();
    if cut.len() < title.len() {
        cut.pop();
        cut.push('…');
    }
    cut
}

/// Why the delivery is in its state, and when its next attempt is due.
fn reason(delivery: &DeliveryRecord) -> String {
    match delivery.next_attempt {
        Some(next) if delivery.reason.is_empty() => format!("next attempt at {next}"),
        Some(next) => format!("{}, next attempt at {next}", delivery.reason),
        None => delivery.reason.clone(),
    }
}

/// The line of a dead letter.
pub(crate) fn dead_letter(held: &StoredDeadLetter) -> String {
    let StoredDeadLetter { topic, partition, stored, letter } = held;
    format!("{stored}  {topic}/{partition}@{}  {} bytes  {}", letter.offset, letter.length, letter.reason)
}

fn receiver(delivery: &DeliveryRecord) -> String {
    if delivery.recipient.is_empty() {
        delivery.channel.clone()
    } else {
        format!("{} <{}>", delivery.channel, delivery.recipient)
    }
}

fn add_delivery(page: &mut Page, delivery: &DeliveryRecord) {
    page.line("");
    let state = Painted(delivery.state.name().to_owned(), colour(delivery.state));
    // Writing to a String cannot fail, here and below.
    let mut more = String::new();
    if !delivery.reason.is_empty() {
        let _ = write!(more, " ({})", delivery.reason);
    }
    if let Some(next) = delivery.next_attempt {
        let _ = write!(more, ", next attempt at {next}");
    }
    page.painted(&[format!("{}: ", receiver(delivery)).into(), state, more.into()]);
    match delivery.id {
        Some(id) => page.line(format_args!("  delivery {id}")),
        None => page.line("  delivery has no id before its channel exists"),
    }
    if delivery.attempts_left_out > 0 {
        page.line(format_args!("  {} earlier attempts are left out", delivery.attempts_left_out));
    }
    for attempt in &delivery.attempts {
        let outcome = attempt.outcome.as_deref().unwrap_or("under way");
        let mut text = format!("  {:>3}. {}  {outcome}", attempt.number, attempt.started);
        if !attempt.reason.is_empty() {
            let _ = write!(text, ": {}", attempt.reason);
        }
        page.line(text);
    }
}

fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Alert { name, alert, .. } => {
            let what = match alert.kind {
                AlertKind::Firing => "began to fire".to_owned(),
                AlertKind::Repeat { n } => format!("still fires (repeat {n})"),
                AlertKind::Resolved if alert.closed.is_some() => {
                    "was closed, its rule was changed (whether it is over is not known)".to_owned()
                }
                AlertKind::Resolved => "is over".to_owned(),
            };
            let records: Vec<String> = alert.records.iter().map(position).collect();
            let records = records.join(" ... ");
            let shown = if records.is_empty() { String::new() } else { format!(" [{records}]") };
            let (count, start, end) = (alert.count, alert.window_start, alert.window_end);
            format!("AlertRule {name} {what}: {count} records from {start} to {end}{shown}")
        }
        Cause::Record { name, record, .. } => format!("AlertRule {name}: record {}", position(record)),
        Cause::Reminder { name, occurrence, time, due, .. } => {
            let which = match time {
                ReminderTime::Before { before_minutes: n @ 0.. } => format!("{n} min before"),
                ReminderTime::Before { before_minutes: n } => format!("{} min after", -n),
                ReminderTime::At { at, days_before } => format!("at {at}, {days_before} days before"),
            };
            format!("Schedule {name}: occurrence {occurrence}, reminder {which}, due {due}")
        }
        Cause::Test { name, request, .. } => {
            format!("NotificationChannel {name}: belfry.dev/send-test={request}")
        }
    }
}

fn position(record: &RecordRef) -> String {
    format!("{}/{}@{} at {}", record.topic, record.partition, record.offset, record.time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_text_has_cause_deliveries_and_attempts() {
        let story: NotificationStory = serde_json::from_value(serde_json::json!({
            "notification": {
                "id": "a17dbef1-601d-5bcc-806b-b0e6bf808605", "namespace": "payments", "severity": "critical",
                "title": "pay: 20 bad log lines in 1m", "summary": "Last: card declined", "group": {"service": "pay"},
                "orderingKey": "k", "created": "2026-01-05T01:00:00Z",
                "cause": {"type": "Record", "rule": "a17dbef1-601d-5bcc-806b-b0e6bf808605", "name": "errors",
                          "record": {"time": "2026-01-05T00:59:59Z", "topic": "logs", "partition": 3, "offset": 42}},
            },
            "deliveries": [{
                "id": "b17dbef1-601d-5bcc-806b-b0e6bf808605", "channel": "mail", "recipient": "a@example.com", "state": "Dead",
                "reason": "gave up after 1 attempt: 550", "expires": "2026-01-06T01:00:00Z",
                "attempts": [{"number": 1, "started": "2026-01-05T01:00:01Z", "ended": "2026-01-05T01:00:02Z",
                              "outcome": "Refused", "reason": "550 no such mailbox"}],
            }],
        }))
        .expect("a story");
        assert_eq!(
            full_text(&story, Page::default()).text(),
            "pay: 20 bad log lines in 1m\n  Last: card declined\nid        a17dbef1-601d-5bcc-806b-b0e6bf808605\n\
             severity  critical\ndecided   2026-01-05T01:00:00Z\ncause     AlertRule errors: record logs/3@42 at 2026-01-05T00:59:59Z\n\
             group     service=pay\n\nmail <a@example.com>: Dead (gave up after 1 attempt: 550)\n  \
             delivery b17dbef1-601d-5bcc-806b-b0e6bf808605\n  \
             \u{20} 1. 2026-01-05T01:00:01Z  Refused: 550 no such mailbox\n"
        );
    }
}
