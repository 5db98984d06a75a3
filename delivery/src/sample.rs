//! Notifications, messages and mounted files for tests.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{
    Alert, AlertKind, Cause, ChannelPlan, DeliveryPolicy, FileKind, FileRef, Guard, Millis, Notification,
    OnUnknown, RecordRef, ReminderTime, RetryPolicy, Severity, Target, TemplateText,
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{Files, Kit, Message};

pub(crate) const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

pub(crate) fn alert() -> Notification {
    Notification {
        id: Uuid::from_u128(1),
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
            time: ReminderTime::Before { before_minutes: 10 },
            due: NOW,
        },
        severity: Severity::Info,
        title: "Payments stand-up in 10 minutes — 회의".to_owned(),
        summary: String::new(),
        group: BTreeMap::new(),
        ordering_key: "schedule/12".to_owned(),
        ..alert()
    }
}

pub(crate) fn message(notification: Notification, recipient: &str) -> Message {
    Message {
        delivery: Uuid::from_u128(0xd),
        attempt: 1,
        recipient: recipient.to_owned(),
        title: notification.title.clone(),
        body: notification.summary.clone(),
        notification,
        now: NOW,
        timeout: Duration::from_secs(10),
    }
}

pub(crate) fn secret(key: &str) -> FileRef {
    FileRef { kind: FileKind::Secret, name: "notify".to_owned(), key: key.to_owned() }
}

/// Files with these keys in the Secret `notify`, and a kit that reaches this machine.
pub(crate) fn kit(keys: &[(&str, &str)]) -> (tempfile::TempDir, Kit) {
    guarded(Guard::allowing_loopback_in_tests(false), keys)
}

pub(crate) fn guarded(guard: Guard, keys: &[(&str, &str)]) -> (tempfile::TempDir, Kit) {
    // A second test that installs it finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("secrets/notify")).unwrap();
    for (key, value) in keys {
        std::fs::write(root.path().join("secrets/notify").join(key), value).unwrap();
    }
    let kit = Kit::new(guard, Files::new(root.path()));
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
