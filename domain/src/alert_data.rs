//! What a rule's texts speak of.
//!
//! The engine fills it in, `templates` renders it. Never here: how either is done.

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use crate::{AlertKind, RecordRef, RulePlan, Severity, Values};

/// What the title of an alert that is over begins with, unless its template speaks of that itself.
pub const RESOLVED: &str = "Resolved: ";

/// What a rule's templates may speak of.
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
    /// The window, inclusive and exclusive; for one record its time twice.
    pub window_start: Timestamp,
    /// See `window_start`.
    pub window_end: Timestamp,
    /// When the episode began; a record's time.
    pub since: Timestamp,
    /// Which of an alert's notifications it is; none for one record.
    pub kind: Option<AlertKind>,
    /// The last record of the window, or the one that has the value: its value as the worker kept it, and where it is.
    pub record: Option<(&'a serde_json::Value, &'a RecordRef)>,
    /// The first record of the window.
    pub first: Option<(&'a serde_json::Value, &'a RecordRef)>,
    /// What the condition measured, where that is not the count: a value, a number of values, a share.
    pub value: Option<&'a str>,
    /// What it was before.
    pub previous: Option<&'a str>,
    /// New values.
    pub values: &'a [String],
    /// The window's values of `topValues`, by name.
    pub top: &'a BTreeMap<String, Values>,
}

impl AlertData<'_> {
    /// The title of this, where its template does not speak of whether it is over: one that is must not look like another
    /// alarm.
    pub fn titled(&self, title: String) -> String {
        if self.is_resolved() { format!("{RESOLVED}{title}") } else { title }
    }

    /// Whether an alert is over.
    pub fn is_resolved(&self) -> bool {
        self.kind == Some(AlertKind::Resolved)
    }

    /// `firing`, `repeat`, `resolved` or `record`.
    pub fn word(&self) -> &'static str {
        self.kind.map_or("record", AlertKind::name)
    }
}
