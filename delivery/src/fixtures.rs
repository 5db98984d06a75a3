//! Notifications, messages and mounted files for tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::{
    Alert, AlertKind, Cause, ChannelPlan, DeliveryPolicy, FileKind, FileRef, Guard, KafkaPlan, Millis,
    Notification, OnUnknown, Outcome, RecordRef, ReminderTime, RetryPolicy, ScheduleDetails, Severity,
    Target, TemplateText, WebhookFormat, WebhookPlan,
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{Files, Http, KafkaRecord, Kit, Message, OutcomeFuture, Producer};

pub(crate) const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

pub(crate) fn alert() -> Notification {
    Notification {
        id: domain::ids::alert_notification(Uuid::from_u128(3), AlertKind::Firing),
        namespace: "payments".to_owned(),
        cause: Cause::Alert {
            rule: Uuid::from_u128(2),
            name: "payment-errors".to_owned(),
            alert: Alert {
                episode: Uuid::from_u128(3),
                kind: AlertKind::Firing,
                since: NOW,
                count: 21,
                value: None,
                previous: None,
                values: Vec::new(),
                window_start: Timestamp::constant(1_799_999_940, 0),
                window_end: NOW,
                closed: None,
                records: vec![RecordRef {
                    time: NOW,
                    topic: "service-logs".to_owned(),
                    partition: 3,
                    offset: 42,
                }],
            },
        },
        severity: Severity::Critical,
        title: "pay: 21 bad log lines in 1m".to_owned(),
        summary: "Last: <b>card & pin</b> refused".to_owned(),
        group: BTreeMap::from([("service".to_owned(), "pay".to_owned())]),
        ordering_key: "rule/2/service=pay".to_owned(),
        created: NOW,
    }
}

/// The notification that tests a channel.
pub(crate) fn test() -> Notification {
    Notification {
        id: Uuid::from_u128(21),
        cause: Cause::Test {
            channel: Uuid::from_u128(0xc),
            name: "slack".to_owned(),
            request: "first try".to_owned(),
        },
        severity: Severity::Info,
        title: "Test of channel slack".to_owned(),
        summary: "This is a test.".to_owned(),
        group: BTreeMap::new(),
        ordering_key: "test/c".to_owned(),
        ..alert()
    }
}

/// A notification about a single record.
pub(crate) fn record() -> Notification {
    let record = match alert().cause {
        Cause::Alert { alert, .. } => alert.records[0].clone(),
        _ => panic!("an alert"),
    };
    let cause = Cause::Record { rule: Uuid::from_u128(2), name: "payment-errors".to_owned(), record };
    Notification { id: Uuid::from_u128(31), cause, ..alert() }
}

/// A notification of each kind, with the kind's name.
pub(crate) fn all() -> [(&'static str, Notification); 7] {
    [
        ("firing", alert()),
        ("repeat", later(AlertKind::Repeat { n: 1 }, None)),
        ("resolved", later(AlertKind::Resolved, None)),
        ("closed", later(AlertKind::Resolved, Some("RuleChanged"))),
        ("record", record()),
        ("reminder", reminder()),
        ("test", test()),
    ]
}

/// The same alert later: repeated, resolved, or closed because its rule changed.
pub(crate) fn later(kind: AlertKind, closed: Option<&str>) -> Notification {
    let mut later = alert();
    if let Cause::Alert { alert, .. } = &mut later.cause {
        alert.kind = kind;
        alert.closed = closed.map(str::to_owned);
        later.id = domain::ids::alert_notification(alert.episode, kind);
    }
    if kind == AlertKind::Resolved {
        let word = if closed.is_some() { domain::CLOSED } else { domain::RESOLVED };
        later.title = format!("{word}{}", later.title);
    }
    later
}

pub(crate) fn reminder() -> Notification {
    Notification {
        id: Uuid::from_u128(11),
        cause: Cause::Reminder {
            schedule: Uuid::from_u128(12),
            name: "standup".to_owned(),
            occurrence: NOW,
            end: NOW,
            time_zone: "Asia/Seoul".to_owned(),
            all_day: false,
            time_zones: BTreeMap::from([("jonas@example.com".to_owned(), "Europe/Berlin".to_owned())]),
            about: ScheduleDetails {
                description: Some("Blockers first.".to_owned()),
                location: Some("3rd floor".to_owned()),
                url: Some("https://meet.example.com/x?a=1&b=2".to_owned()),
                resources: vec!["room-3f-a".to_owned()],
            },
            time: ReminderTime::Before { before_minutes: 10 },
            due: NOW,
        },
        severity: Severity::Info,
        title: "Payments stand-up in 10 minutes — 회의".to_owned(),
        summary: "Starts at 2027-01-15 17:00 (Asia/Seoul), in 10 minutes.\nWhere: 3rd floor; room-3f-a\n\
                  Link: https://meet.example.com/x?a=1&b=2\n\nBlockers first."
            .to_owned(),
        group: BTreeMap::new(),
        ordering_key: "schedule/12".to_owned(),
        ..alert()
    }
}

pub(crate) fn message(notification: Notification, recipient: &str) -> Message {
    Message {
        delivery: Uuid::from_u128(0xd),
        channel: Uuid::from_u128(0xc),
        attempt: 1,
        recipient: recipient.to_owned(),
        title: notification.title.clone(),
        body: notification.summary.clone(),
        payload: None,
        notification,
        now: NOW,
        timeout: Duration::from_secs(10),
    }
}

pub(crate) fn webhook(url: impl Into<String>, signing: Option<FileRef>, format: WebhookFormat) -> Target {
    WebhookPlan::post(url, signing, format).into()
}

pub(crate) fn secret(key: &str) -> FileRef {
    FileRef { kind: FileKind::Secret, name: "notify".to_owned(), key: key.to_owned() }
}

/// A kit with these keys in the Secret `notify`, which may connect to loopback; and the directory of its files.
pub(crate) fn kit(keys: &[(&str, &str)]) -> (tempfile::TempDir, Kit) {
    kit_with_guard(Guard::allowing_loopback_in_tests(false), keys)
}

pub(crate) fn kit_with_guard(guard: Guard, keys: &[(&str, &str)]) -> (tempfile::TempDir, Kit) {
    build_kit(guard, keys, Arc::default())
}

/// The records that were written to Kafka, with their topics.
#[derive(Default)]
pub(crate) struct WrittenRecords(pub(crate) Mutex<Vec<(String, KafkaRecord)>>);

impl Producer for Arc<WrittenRecords> {
    fn write<'a>(&'a self, plan: &'a KafkaPlan, record: KafkaRecord, _: Duration) -> OutcomeFuture<'a> {
        self.0.lock().unwrap().push((plan.topic.clone(), record));
        Box::pin(async { Outcome::Delivered })
    }
}

/// A kit that writes its records to `written`.
pub(crate) fn kit_writing_to(written: Arc<WrittenRecords>) -> (tempfile::TempDir, Kit) {
    build_kit(Guard::new(false), &[], written)
}

fn build_kit(guard: Guard, keys: &[(&str, &str)], written: Arc<WrittenRecords>) -> (tempfile::TempDir, Kit) {
    // Fails in all tests but the first, where it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("secrets/notify")).unwrap();
    for (key, value) in keys {
        std::fs::write(root.path().join("secrets/notify").join(key), value).unwrap();
    }
    let kit = Kit::new(Arc::new(Http::new(guard)), Files::new(root.path()), Box::new(written));
    (root, kit)
}

pub(crate) fn plan(target: Target) -> ChannelPlan {
    ChannelPlan {
        time_zone: None,
        target,
        ca_bundle: None,
        template: TemplateText::default(),
        delivery: DeliveryPolicy {
            rate_limit: None,
            retry: RetryPolicy {
                max_attempts: 8,
                initial_delay: Millis::from_secs(10),
                max_delay: Millis::from_secs(3600),
            },
            timeout: Millis::from_secs(10),
            expires_after: Millis::from_secs(86_400),
            on_unknown: OnUnknown::Resend,
        },
    }
}
