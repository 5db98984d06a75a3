//! A plain recount: which notifications the produced records should have caused, by the definitions of the design's
//! semantics and nothing else. It visits every boundary of every group and adds up every window anew.
//!
//! Definitions, in ms of event time:
//!
//! - width of a bucket: `max(1 s, min(window / 60, 5 s), window / 720)`, the last one rounded up; buckets are aligned to the
//!   epoch and half open; the window before a boundary is its newest `window / width` whole buckets, 1 to 720 of them;
//! - a quiet group in whose window are at least `count` records at a boundary fires there;
//! - while it fires and the condition holds, it speaks again at the first boundary `repeatInterval` after it last spoke;
//! - once the condition has been false for `resolve.after` (one window where absent) since the first boundary at which
//!   it was, the alert is over; it is told only where the rule wants that;
//! - `Any` with a repeat or a resolution is an alert of count 1 in a window of 1 s, over after `repeatInterval`, or 5
//!   minutes, where `resolve.after` is absent; without both, each record speaks for itself.
//!
//! Never here: crate `alerting`, or anything clever.

use std::collections::BTreeMap;

use serde_json::Value;

use super::rules::{Condition, Rule};

/// A record as the topic holds it.
#[derive(Debug, Clone)]
pub struct Seen {
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

/// Everything that should come of these records, in the order in which it is decided within each group.
pub fn recount(rules: &[Rule], records: &[Seen]) -> Vec<Expected> {
    rules.iter().flat_map(|rule| of_rule(rule, records)).collect()
}

/// How many records each rule's condition matches.
pub fn matched(rule: &Rule, records: &[Seen]) -> i64 {
    records.iter().filter(|record| (rule.matches)(&record.value)).count() as i64
}

fn of_rule(rule: &Rule, records: &[Seen]) -> Vec<Expected> {
    let mut groups: BTreeMap<String, Vec<&Seen>> = BTreeMap::new();
    for record in records.iter().filter(|record| (rule.matches)(&record.value)) {
        groups.entry(group_of(rule, &record.value)).or_default().push(record);
    }
    groups.into_iter().flat_map(|(group, matching)| of_group(rule, &group, &matching)).collect()
}

fn group_of(rule: &Rule, value: &Value) -> String {
    let mut labels: Vec<String> = rule
        .group
        .iter()
        .map(|field| format!("{field}={}", value[field].as_str().unwrap_or_default()))
        .collect();
    labels.sort();
    labels.join(",")
}

fn of_group(rule: &Rule, group: &str, matching: &[&Seen]) -> Vec<Expected> {
    if rule.speaks_for_each_record() {
        let mut all: Vec<Expected> = matching
            .iter()
            .map(|record| Expected {
                rule: rule.name,
                group: group.to_owned(),
                what: What::Record { partition: record.partition, offset: record.offset },
                count: 1,
                title: format!("record {}", record.value["n"]),
            })
            .collect();
        all.sort_by(|a, b| a.what.cmp(&b.what));
        return all;
    }
    let mut times: Vec<i64> = matching.iter().map(|record| record.time_ms).collect();
    times.sort_unstable();
    let told = alerts(&Alert::of(rule), &times);
    told.into_iter()
        .map(|(kind, end_ms, since_ms, count)| Expected {
            rule: rule.name,
            group: group.to_owned(),
            title: format!("{} {count}", kind.split(' ').next().unwrap_or_default()),
            what: What::Alert { end_ms, kind, since_ms },
            count,
        })
        .collect()
}

/// A rule's numbers.
struct Alert {
    count: i64,
    width: i64,
    buckets: i64,
    repeat: Option<i64>,
    resolve_after: i64,
    tell_resolved: bool,
}

impl Alert {
    fn of(rule: &Rule) -> Self {
        let (count, window) = match rule.condition {
            Condition::Any => (1, 1_000),
            Condition::Frequency { count, window_ms } => (count, window_ms),
        };
        let width = bucket_width(window);
        let buckets = (window / width).clamp(1, 720);
        let default_after = match rule.condition {
            Condition::Any => rule.repeat_ms.unwrap_or(5 * 60_000),
            Condition::Frequency { .. } => buckets * width,
        };
        Self {
            count,
            width,
            buckets,
            repeat: rule.repeat_ms,
            resolve_after: rule.resolve.and_then(|resolve| resolve.after_ms).unwrap_or(default_after),
            tell_resolved: rule.resolve.is_some_and(|resolve| resolve.notify),
        }
    }
}

fn bucket_width(window: i64) -> i64 {
    let seven_hundred_twentieth = (window + 719) / 720;
    (window / 60).clamp(1_000, 5_000).max(seven_hundred_twentieth)
}

/// What is told of one group whose matching records have these times, sorted: (kind, boundary, since, count).
fn alerts(alert: &Alert, times: &[i64]) -> Vec<(String, i64, i64, i64)> {
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return Vec::new() };
    let span = alert.buckets * alert.width;
    let mut told = Vec::new();
    let mut since: Option<i64> = None;
    let (mut spoke, mut repeats, mut false_from) = (0, 0, None);
    let mut boundary = first - first.rem_euclid(alert.width) + alert.width;
    let end = last + span + alert.resolve_after + 2 * alert.width;
    while boundary <= end {
        let count = within(times, boundary - span, boundary);
        let holds = count >= alert.count;
        match since {
            None if holds => {
                since = Some(boundary);
                (spoke, repeats, false_from) = (boundary, 0, None);
                told.push(("firing".to_owned(), boundary, boundary, count));
            }
            None => {}
            Some(began) if holds => {
                false_from = None;
                if alert.repeat.is_some_and(|repeat| boundary >= spoke + repeat) {
                    spoke = boundary;
                    repeats += 1;
                    told.push((format!("repeat {repeats}"), boundary, began, count));
                }
            }
            Some(began) => {
                let from = *false_from.get_or_insert(boundary);
                if boundary >= from + alert.resolve_after {
                    since = None;
                    if alert.tell_resolved {
                        told.push(("resolved".to_owned(), boundary, began, count));
                    }
                }
            }
        }
        boundary += alert.width;
    }
    told
}

/// How many times lie in `[from, to)`.
fn within(times: &[i64], from: i64, to: i64) -> i64 {
    let before = |instant: i64| times.iter().filter(|time| **time < instant).count() as i64;
    before(to) - before(from)
}

/// The last boundary at which anything could still change.
pub fn last_boundary(rules: &[Rule], records: &[Seen]) -> i64 {
    let last = records.iter().map(|record| record.time_ms).max().unwrap_or(0);
    rules
        .iter()
        .filter(|rule| !rule.speaks_for_each_record())
        .map(|rule| {
            let alert = Alert::of(rule);
            last + alert.buckets * alert.width + alert.resolve_after + 3 * alert.width
        })
        .max()
        .unwrap_or(last)
}

#[cfg(test)]
#[path = "recount_tests.rs"]
mod tests;
