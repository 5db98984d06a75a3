//! A notification's story in words.

use std::fmt::Write as _;

use domain::{AlertKind, Cause, DeliveryRecord, RecordRef, ReminderTime};
use protocol::messages::{HeldLetter, NotificationStory};

use crate::terminal::Page;

/// Everything, several lines.
pub(crate) fn whole(story: &NotificationStory) -> Page {
    let one = &story.notification;
    let mut page = Page::default();
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

/// A line for each delivery.
pub(crate) fn lines(story: &NotificationStory) -> Page {
    let one = &story.notification;
    let mut page = Page::default();
    for delivery in &story.deliveries {
        let (state, receiver) = (delivery.state.name(), receiver(delivery));
        page.line(format_args!("{}  {}  {state:<10}  {receiver}  {:?}", one.created, one.id, one.title));
    }
    if story.deliveries_left_out > 0 {
        let more = story.deliveries_left_out;
        page.line(format_args!("{}  {}  {more} further deliveries are left out", one.created, one.id));
    }
    page
}

/// A line for a record that could not be decoded.
pub(crate) fn letter(held: &HeldLetter) -> String {
    let HeldLetter { topic, partition, stored, letter } = held;
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
    let mut text = format!("{}: {}", receiver(delivery), delivery.state.name());
    // Writing to a String cannot fail, here and below.
    if !delivery.reason.is_empty() {
        let _ = write!(text, " ({})", delivery.reason);
    }
    if let Some(next) = delivery.next_attempt {
        let _ = write!(text, ", next attempt at {next}");
    }
    page.line("");
    page.line(text);
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
                AlertKind::Resolved => "is over".to_owned(),
            };
            let records: Vec<String> = alert.records.iter().map(place).collect();
            let records = records.join(" ... ");
            let shown = if records.is_empty() { String::new() } else { format!(" [{records}]") };
            let (count, start, end) = (alert.count, alert.window_start, alert.window_end);
            format!("AlertRule {name} {what}: {count} records from {start} to {end}{shown}")
        }
        Cause::Record { name, record, .. } => format!("AlertRule {name}: record {}", place(record)),
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

fn place(record: &RecordRef) -> String {
    format!("{}/{}@{} at {}", record.topic, record.partition, record.offset, record.time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_tells_cause_deliveries_and_attempts() {
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
                "reason": "gave up after 1 attempts: 550", "expires": "2026-01-06T01:00:00Z",
                "attempts": [{"number": 1, "started": "2026-01-05T01:00:01Z", "ended": "2026-01-05T01:00:02Z",
                              "outcome": "Refused", "reason": "550 no such mailbox"}],
            }],
        }))
        .expect("a story");
        assert_eq!(
            whole(&story).text(),
            "pay: 20 bad log lines in 1m\n  Last: card declined\nid        a17dbef1-601d-5bcc-806b-b0e6bf808605\n\
             severity  critical\ndecided   2026-01-05T01:00:00Z\ncause     AlertRule errors: record logs/3@42 at 2026-01-05T00:59:59Z\n\
             group     service=pay\n\nmail <a@example.com>: Dead (gave up after 1 attempts: 550)\n  \
             \u{20} 1. 2026-01-05T01:00:01Z  Refused: 550 no such mailbox\n"
        );
    }
}
