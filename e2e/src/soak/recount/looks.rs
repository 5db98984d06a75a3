//! What each condition sees of a group at a boundary.
//!
//! With `n` the records of the window that ends there:
//!
//! - `Any`: `n >= 1`; `Frequency`: `n >= count`; `Flatline`: `n < below`;
//! - `Spike`: one of `n` and `m`, the records of the window before, is `ratio` times the other or more, and at least
//!   `minCount`;
//! - `NewValue`: the bucket has a value that no record before the bucket has, and the boundary is later than `learnFor` after
//!   the start of the group's first bucket; the first ten new ones by text are told;
//! - `Cardinality`: more than `above` distinct values;
//! - `Change`: in the order of (time, topic, partition, offset) a record of the bucket has another value than the one before
//!   it; the bucket's last value is told, and the last one before the bucket, or the bucket's first where there is none;
//! - `Extreme`: in that order a record of the bucket is higher than all before it, of which there is one; the highest is
//!   told, the first record that has it, and the highest before the bucket, or the bucket's first number;
//! - `Ratio`: `n >= minCount`, and `of` holds for more than `above` of them; cut to thousandths of a percent.
//!
//! `Spike` says nothing before two windows since `observed`; `Flatline` nothing before one, and for a group that isn't named
//! nothing before one since the start of its first bucket. With `resolve.below` an open alert stays until what is measured
//! is below that. Never here: what was seen at another boundary.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Lengths, Seen, text};
use crate::soak::rules::{Condition, SoakRule};

/// A group and its records in the order of (time, topic, partition, offset).
pub(super) struct Group<'a> {
    pub(super) rule: &'a SoakRule,
    pub(super) records: &'a [&'a Seen],
    /// Whether it is watched though it was never seen.
    pub(super) is_named: bool,
    /// Since when the rule has seen all records.
    pub(super) observed_ms: i64,
}

/// What is seen at a boundary.
#[derive(Debug)]
pub(super) struct Saw {
    /// Whether the condition holds.
    pub(super) holds: bool,
    /// Whether an open alert goes on.
    pub(super) stays: bool,
    /// Records in the window.
    pub(super) count: i64,
    /// What the title shows of what was measured.
    pub(super) measured: Option<String>,
}

impl Group<'_> {
    /// The records of `[from, to)`.
    fn within(&self, from_ms: i64, to_ms: i64) -> &[&Seen] {
        let before = |instant: i64| self.records.partition_point(|record| record.time_ms < instant);
        &self.records[before(from_ms)..before(to_ms).max(before(from_ms))]
    }

    /// The start of the first record's bucket.
    pub(super) fn first_bucket(&self) -> Option<i64> {
        let width = Lengths::from_rule(self.rule).width;
        self.records.first().map(|record| record.time_ms.div_euclid(width) * width)
    }

    pub(super) fn look(&self, end_ms: i64) -> Saw {
        let Lengths { width, span, .. } = Lengths::from_rule(self.rule);
        let window = self.within(end_ms - span, end_ms);
        let bucket = self.within(end_ms - width, end_ms);
        let earlier = self.within(i64::MIN, end_ms - width);
        let n = window.len() as i64;
        let below = self.rule.resolve.and_then(|resolve| resolve.below);
        let plain = |holds: bool| Saw { holds, stays: holds, count: n, measured: None };
        let told = |holds: bool, text: String| Saw { measured: Some(text), ..plain(holds) };
        match self.rule.condition {
            Condition::Any => plain(n >= 1),
            Condition::Frequency { count, .. } => {
                Saw { stays: n >= count || below.is_some_and(|below| n >= below), ..plain(n >= count) }
            }
            Condition::Spike { ratio, min_count, .. } => {
                let m = self.within(end_ms - 2 * span, end_ms - span).len() as i64;
                let is = |large: i64, small: i64| large >= min_count && large >= ratio * small;
                let holds = end_ms - 2 * span >= self.observed_ms && (is(n, m) || is(m, n));
                told(holds, format!("{n} after {m}"))
            }
            Condition::Flatline { below, .. } => {
                let since = if self.is_named { Some(self.observed_ms) } else { self.first_bucket() };
                let whole = since.is_some_and(|since| end_ms - span >= since.max(self.observed_ms));
                plain(whole && n < below)
            }
            Condition::NewValue { field, learn_ms } => {
                let had = |value: &String| earlier.iter().rev().any(|record| has_value(record, field, value));
                let values: BTreeSet<String> = bucket.iter().map(|record| value_of(record, field)).collect();
                let new: Vec<String> = values.into_iter().filter(|value| !had(value)).take(10).collect();
                let learnt = self.first_bucket().is_some_and(|first| end_ms > first + learn_ms);
                told(learnt && !new.is_empty(), new.join(" "))
            }
            Condition::Cardinality { field, above, .. } => {
                let values: BTreeSet<String> = window.iter().map(|record| value_of(record, field)).collect();
                let d = values.len() as i64;
                let stays = d > above || below.is_some_and(|below| d >= below);
                Saw { stays, ..told(d > above, d.to_string()) }
            }
            Condition::Change { field } => {
                let mut before = earlier.last().map(|record| value_of(record, field));
                let previous =
                    before.clone().or_else(|| bucket.first().map(|record| value_of(record, field)));
                let mut changed = false;
                for record in bucket {
                    let value = value_of(record, field);
                    changed |= before.as_ref().is_some_and(|before| *before != value);
                    before = Some(value);
                }
                told(
                    changed,
                    format!("{} after {}", before.unwrap_or_default(), previous.unwrap_or_default()),
                )
            }
            Condition::Extreme { field } => {
                let number = |record: &&Seen| record.value[field].as_i64().unwrap_or(i64::MIN);
                let mut mark = earlier.iter().map(number).max();
                let previous = mark.or_else(|| bucket.first().map(number));
                let mut best = None;
                for record in bucket {
                    if mark.is_some_and(|mark| number(record) > mark) {
                        best = Some(record);
                    }
                    mark = mark.max(Some(number(record)));
                }
                let measured = best.zip(previous).map(|(best, previous)| {
                    format!("{} after {previous} in {}", number(best), best.value["n"])
                });
                Saw { measured, ..plain(best.is_some()) }
            }
            Condition::Ratio { of, min_count, above_percent, .. } => {
                let k = window.iter().filter(|record| of(&record.value)).count() as i64;
                // `k / n > percent / 100`, in whole numbers.
                let holds = n >= min_count && k * 100 > above_percent * n;
                let stays = holds || below.is_some_and(|below| n >= min_count && k * 100 >= below * n);
                Saw { stays, ..told(holds, share(k, n)) }
            }
        }
    }
}

fn value_of(record: &Seen, field: &str) -> String {
    text(&record.value[field]).unwrap_or_default()
}

/// Whether [`value_of`] is this.
fn has_value(record: &Seen, field: &str, value: &str) -> bool {
    match &record.value[field] {
        Value::String(text) => text == value,
        other => text(other).is_some_and(|text| text == value),
    }
}

/// `12.5%`, to the nearest thousandth of a percent, where not all or nothing.
fn share(of: i64, all: i64) -> String {
    let nearest = if all == 0 { 0 } else { (2 * of * 100_000 + all) / (2 * all) };
    let thousandths = if of == 0 || of == all { nearest } else { nearest.clamp(1, 99_999) };
    format!("{}%", thousandths as f64 / 1_000.0)
}
