//! What a rule's texts speak of.
//!
//! The engine fills it in, `templates` renders it. Never here: how either is done.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::{AlertKind, RecordRef, RulePlan, Severity, Values};

/// What the title of an alert that is over begins with, unless its template speaks of that itself.
pub const RESOLVED: &str = "Resolved: ";
/// What the title of one begins with that was closed since its rule was changed: nobody knows whether it is over.
pub const CLOSED: &str = "Closed, its rule was changed: ";
/// A repeat of an alert that is younger than this says at which time of the day it began, an older one the date too.
const TODAY: SignedDuration = SignedDuration::from_hours(24);

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
    /// It was closed since its rule was changed: nobody knows whether it is over.
    pub closed: bool,
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
    /// The title of this, where its template does not say itself which of an alert's messages it is: none but the first may
    /// look like a new alarm.
    pub fn titled(&self, title: String) -> String {
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
