//! A plain recount: which notifications the produced records should have caused, by the definitions of
//! docs/semantics.md (E2, E5, E7, E8, E9, E10) and of `docs/alertrule.md`, and nothing else. It visits every boundary of every group and looks at every window
//! anew.
//!
//! Definitions, in ms of event time:
//!
//! - width of a bucket: `max(1 s, min(window / 60, 5 s), window / 720)`, the last one rounded up; buckets are aligned to the
//!   epoch and half open; the window before a boundary is its newest `window / width` whole buckets, 1 to 720 of them;
//!   conditions without a window look at the bucket, of 1 s;
//! - what each condition asks at a boundary is in [`looks`]; when an alert fires, repeats and is over in [`episodes`];
//! - `Any` without repeat and resolution: each record speaks for itself, at once, so none is ever late;
//! - a record whose event time is before `observed`, the one since which the rules have seen all records, is late: the run
//!   sends such records only when what they belong to must have been decided long ago. It changes nothing but numbers;
//! - a record from a clock that is ahead counts at its own time, and makes no other late.
//!
//! Never here: crate `alerting`, or anything clever.

mod episodes;
mod looks;

use std::collections::BTreeMap;

use serde_json::Value;

use super::rules::{Condition, SoakRule};
use looks::Group;

/// A record as its topic holds it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Which of the topics.
    pub topic: usize,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its event time, Unix ms.
    pub time_ms: i64,
    /// Its value.
    pub value: Value,
}

/// What a notification is about, by meaning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// One record.
    Record {
        /// Which of the topics.
        topic: usize,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
    },
    /// An alert at a boundary.
    Alert {
        /// The boundary, which is the end of the window, Unix ms.
        end_ms: i64,
        /// `firing`, `repeat 1`, `repeat 2`, ..., `resolved`.
        kind: String,
        /// The boundary at which the alert began.
        since_ms: i64,
    },
}

/// A notification that should come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The rule's name.
    pub rule: &'static str,
    /// Labels as `name=value`, sorted, separated by commas.
    pub group: String,
    /// What it is about.
    pub what: What,
    /// Records in the window; 1 for a record.
    pub count: i64,
    /// The title that the rule's template gives.
    pub title: String,
}

/// The numbers of a rule that its status shows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Records that matched, late ones included.
    pub matched: i64,
    /// Of these, late ones.
    pub late: i64,
    /// Records that matched but have no value where the condition looks for one: they are not counted.
    pub without_value: i64,
}

/// Everything that should come of these records, in the order in which it is decided within each group.
pub fn recount(rules: &[SoakRule], records: &[Seen], observed_ms: i64) -> Vec<Expected> {
    rules.iter().flat_map(|rule| of_rule(rule, records, observed_ms)).collect()
}

/// What a rule's status should show in the end.
pub fn numbers(rule: &SoakRule, records: &[Seen], observed_ms: i64) -> Numbers {
    let mut numbers = Numbers::default();
    for record in records.iter().filter(|record| concerns(rule, record)) {
        if !has_value(rule, record) {
            numbers.without_value += 1;
            continue;
        }
        numbers.matched += 1;
        numbers.late += i64::from(record.time_ms < observed_ms && !rule.speaks_for_each_record());
    }
    numbers
}

fn concerns(rule: &SoakRule, record: &Seen) -> bool {
    rule.topics.contains(&record.topic) && (rule.matches)(&record.value)
}

fn has_value(rule: &SoakRule, record: &Seen) -> bool {
    match (rule.condition, rule.condition.field()) {
        (Condition::Extreme { .. }, Some(field)) => record.value[field].is_number(),
        (_, Some(field)) => text(&record.value[field]).is_some(),
        (_, None) => true,
    }
}

/// A value as texts show it; none where there is none.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(it) => Some(it.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn of_rule(rule: &SoakRule, records: &[Seen], observed_ms: i64) -> Vec<Expected> {
    let mut groups: BTreeMap<String, Vec<&Seen>> = BTreeMap::new();
    let named = named(rule);
    for group in &named {
        groups.insert(group.clone(), Vec::new());
    }
    let each = rule.speaks_for_each_record();
    for record in records.iter().filter(|record| concerns(rule, record) && has_value(rule, record)) {
        if each || record.time_ms >= observed_ms {
            groups.entry(group_of(rule, &record.value)).or_default().push(record);
        }
    }
    let mut all = Vec::new();
    for (group, mut records) in groups {
        records.sort_by_key(|record| (record.time_ms, record.topic, record.partition, record.offset));
        if each {
            all.extend(of_records(rule, &group, &records));
        } else {
            let is_named = named.contains(&group);
            all.extend(of_group(&group, &Group { rule, records: &records, is_named, observed_ms }));
        }
    }
    all
}

/// The groups that are watched though they were never seen.
fn named(rule: &SoakRule) -> Vec<String> {
    match (rule.condition, rule.group) {
        (Condition::Flatline { .. }, []) => vec![String::new()],
        (Condition::Flatline { named, .. }, [label, ..]) => {
            named.iter().map(|name| format!("{label}={name}")).collect()
        }
        _ => Vec::new(),
    }
}

fn group_of(rule: &SoakRule, value: &Value) -> String {
    let mut labels: Vec<String> = rule
        .group
        .iter()
        .map(|field| format!("{field}={}", text(&value[field]).unwrap_or_default()))
        .collect();
    labels.sort();
    labels.join(",")
}

fn of_records(rule: &SoakRule, group: &str, records: &[&Seen]) -> Vec<Expected> {
    let mut all: Vec<Expected> = records
        .iter()
        .map(|record| Expected {
            rule: rule.name,
            group: group.to_owned(),
            what: What::Record { topic: record.topic, partition: record.partition, offset: record.offset },
            count: 1,
            title: format!("record {}", record.value["n"]),
        })
        .collect();
    all.sort_by(|a, b| a.what.cmp(&b.what));
    all
}

fn of_group(name: &str, group: &Group<'_>) -> Vec<Expected> {
    let told = episodes::group_events(group);
    told.into_iter()
        .map(|one| {
            let word = one.kind.split(' ').next().unwrap_or_default();
            let measured = if word == "resolved" { None } else { one.saw.measured };
            let measured = measured.map(|text| format!(": {text}")).unwrap_or_default();
            Expected {
                rule: group.rule.name,
                group: name.to_owned(),
                title: format!("{word} {}{measured}", one.saw.count),
                what: What::Alert { end_ms: one.end_ms, since_ms: one.since_ms, kind: one.kind },
                count: one.saw.count,
            }
        })
        .collect()
}

/// A rule's lengths, ms.
struct Lengths {
    width: i64,
    span: i64,
    resolve_after: i64,
}

impl Lengths {
    fn from_rule(rule: &SoakRule) -> Self {
        let window = rule.condition.window_ms().unwrap_or(1_000);
        let width = bucket_width(window);
        let span = (window / width).clamp(1, 720) * width;
        let lasts =
            if rule.condition.window_ms().is_some() { span } else { rule.repeat_ms.unwrap_or(5 * 60_000) };
        let said = rule.resolve.and_then(|resolve| resolve.after_ms);
        Self { width, span, resolve_after: said.unwrap_or(lasts) }
    }

    /// How long after a group's last record something can still change, at most.
    fn tail(&self, rule: &SoakRule) -> i64 {
        let windows = if matches!(rule.condition, Condition::Spike { .. }) { 2 } else { 1 };
        let ends = if rule.speaks_for_each_bucket() { 0 } else { self.resolve_after };
        windows * self.span + rule.hold_ms + ends + 3 * self.width
    }
}

fn bucket_width(window: i64) -> i64 {
    let seven_hundred_twentieth = (window + 719) / 720;
    (window / 60).clamp(1_000, 5_000).max(seven_hundred_twentieth)
}

/// The last boundary at which anything could still change after a record of this time.
pub fn last_boundary(rules: &[SoakRule], last_ms: i64) -> i64 {
    let with_alerts = rules.iter().filter(|rule| !rule.speaks_for_each_record());
    with_alerts.map(|rule| last_ms + Lengths::from_rule(rule).tail(rule)).max().unwrap_or(last_ms)
}

#[cfg(test)]
mod tests;
