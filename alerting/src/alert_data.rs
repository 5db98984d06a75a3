//! Collects what a rule's texts may use of a decision, or of a record that is a notification of its own. Texts are
//! rendered elsewhere.

use std::collections::BTreeMap;

use domain::{AlertData, RulePlan, Sample, Values};
use jiff::Timestamp;
use uuid::Uuid;

use crate::decide::{Decision, Group};

/// The rule whose texts are rendered.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The rule's namespace.
    pub namespace: &'a str,
    /// The rule's name.
    pub name: &'a str,
    /// The rule's uid.
    pub uid: Uuid,
    /// The rule.
    pub plan: &'a RulePlan,
}

/// The records and values that a notification of a decision shows.
#[derive(Debug, Clone, Copy)]
pub struct ShownRecords<'a> {
    /// The window's first record.
    pub first: Option<&'a Sample>,
    /// The record that texts call `record`: the window's last, or the one of the notification before.
    pub last: Option<&'a Sample>,
    /// The window's values of `topValues`.
    pub top: &'a BTreeMap<String, Values>,
}

static NO_VALUES: BTreeMap<String, Values> = BTreeMap::new();

impl<'a> ShownRecords<'a> {
    /// For a window without records; `last` is the record of the notification before.
    pub fn last_only(last: Option<&'a Sample>) -> Self {
        Self { first: None, last, top: &NO_VALUES }
    }
}

impl<'a> Subject<'a> {
    fn data(self, group: &'a Group) -> AlertData<'a> {
        AlertData {
            namespace: self.namespace,
            rule: self.name,
            uid: self.uid,
            plan: self.plan,
            severity: self.plan.severity,
            group,
            count: 1,
            window_start: Timestamp::UNIX_EPOCH,
            window_end: Timestamp::UNIX_EPOCH,
            since: Timestamp::UNIX_EPOCH,
            kind: None,
            closed: false,
            record: None,
            first: None,
            value: None,
            previous: None,
            values: &[],
            top: &NO_VALUES,
        }
    }

    /// Data for one matched record.
    pub fn record(self, group: &'a Group, sample: &'a Sample) -> AlertData<'a> {
        let at = &sample.at;
        AlertData {
            window_start: at.time,
            window_end: at.time,
            since: at.time,
            record: Some((&sample.value, at)),
            ..self.data(group)
        }
    }

    /// Data for a decision.
    pub fn alert(self, group: &'a Group, decision: &'a Decision, shown: ShownRecords<'a>) -> AlertData<'a> {
        let seen = decision.seen.as_deref();
        AlertData {
            count: decision.count,
            window_start: time(decision.window_start_ms),
            window_end: time(decision.window_end_ms),
            since: time(decision.since_ms),
            kind: Some(decision.kind),
            closed: false,
            record: shown.last.map(|sample| (&sample.value, &sample.at)),
            first: shown.first.map(|sample| (&sample.value, &sample.at)),
            value: seen.map(|seen| seen.value.as_str()),
            previous: seen.and_then(|seen| seen.previous.as_deref()),
            values: seen.map_or(&[], |seen| &seen.values),
            top: shown.top,
            ..self.data(group)
        }
    }
}

/// A boundary is always within what a timestamp holds.
fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or_default()
}
