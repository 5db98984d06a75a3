//! The values that a rule's templates can use. The engine fills them in, and `templates` renders them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::{AlertKind, RecordRef, RulePlan, Severity, Values};

/// Prefix of the title when an alert is over.
pub const RESOLVED: &str = "Resolved: ";
/// Prefix of the title when an alert was closed because its rule changed; nobody knows whether it is over.
pub const CLOSED: &str = "Closed, its rule was changed: ";
/// For alerts younger than this, the title of a repeat shows the time at which the alert began. For older ones it also shows
/// the date.
const TODAY: SignedDuration = SignedDuration::from_hours(24);

/// The values that a rule's templates can use.
#[derive(Debug, Clone)]
pub struct AlertData<'a> {
    /// The rule's namespace.
    pub namespace: &'a str,
    /// The rule's name.
    pub rule: &'a str,
    /// The rule's uid.
    pub uid: Uuid,
    /// The rule.
    pub plan: &'a RulePlan,
    /// The rule's severity.
    pub severity: Severity,
    /// The group, label name to value.
    pub group: &'a BTreeMap<String, String>,
    /// Matched records in the window.
    pub count: i64,
    /// Start of the window, inclusive. For one record both ends are its time.
    pub window_start: Timestamp,
    /// End of the window, exclusive.
    pub window_end: Timestamp,
    /// When the episode began; for one record its time.
    pub since: Timestamp,
    /// Which of the alert's notifications this is; `None` for one record.
    pub kind: Option<AlertKind>,
    /// Whether the alert was closed because its rule changed; nobody knows whether it is over.
    pub closed: bool,
    /// The last record of the window, or the record with the value that the condition reports: the value as the worker kept it,
    /// and where it is.
    pub record: Option<(&'a serde_json::Value, &'a RecordRef)>,
    /// The first record of the window.
    pub first: Option<(&'a serde_json::Value, &'a RecordRef)>,
    /// What the condition measured if that is not the count: a value, a number of values, or a share.
    pub value: Option<&'a str>,
    /// The previous `value`.
    pub previous: Option<&'a str>,
    /// The new values (`NewValue`).
    pub values: &'a [String],
    /// The window's values of `topValues`, by name.
    pub top: &'a BTreeMap<String, Values>,
}

impl AlertData<'_> {
    /// Adds a prefix to `title` that says which of the alert's messages this is, so that only the first one looks like a new
    /// alert. For templates that don't say it themselves.
    pub fn with_status_prefix(&self, title: String) -> String {
        match self.word() {
            "resolved" => format!("{RESOLVED}{title}"),
            "closed" => format!("{CLOSED}{title}"),
            "repeat" => {
                let young = self.window_end.duration_since(self.since) < TODAY;
                let form = if young { "%H:%M UTC" } else { "%Y-%m-%d %H:%M UTC" };
                format!("Still firing since {}: {title}", self.since.strftime(form))
            }
            _ => title,
        }
    }

    /// `firing`, `repeat`, `resolved`, `closed` or `record`.
    pub fn word(&self) -> &'static str {
        match self.kind {
            Some(AlertKind::Resolved) if self.closed => "closed",
            Some(kind) => kind.name(),
            None => "record",
        }
    }
}
