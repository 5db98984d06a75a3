//! What is counted for a (rule, group, bucket): the records, the first and the last of them, what the condition needs
//! besides, and the values of `topValues`.
//!
//! Invariant: [`Aggregate::merge`] is associative and commutative, so a count depends neither on how records were split
//! nor on the order in which they came.

use std::collections::BTreeMap;

use domain::{
    AlertPolicy, Condition, Count, DropReason, Extras, ExtremeDirection, ExtremeValue, FirstAndLast,
    RecordRef, RecordValue, RulePlan, Sample, Values,
};

use super::RuleError;
use crate::{
    matching::{Matcher, Memory},
    paths::Path,
    record::Record,
    sample,
    values::{
        TOP_KEPT, VALUES_KEPT, merge_top, merge_values, number_to_text, text_to_number, trim, values_kept,
    },
};

/// What is counted for a (rule, group, bucket).
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// Matched records.
    pub count: i64,
    /// The first by (time, topic, partition, offset).
    pub first: Sample,
    /// The last.
    pub last: Sample,
    /// What the condition needs besides.
    pub extras: Option<Box<Extras>>,
    /// The values of the rule's `topValues`, by name.
    pub top: BTreeMap<String, Values>,
}

impl From<Count> for Aggregate {
    fn from(count: Count) -> Self {
        Self {
            count: count.count,
            first: count.first,
            last: count.last,
            extras: count.extras,
            top: count.top,
        }
    }
}

impl Aggregate {
    /// Adds the aggregate of other records of the same (rule, group, bucket). `kept` is the rule's
    /// [`values_kept`].
    pub fn merge(&mut self, other: Self, kept: usize) {
        self.count += other.count;
        if other.first.at < self.first.at {
            self.first = other.first;
        }
        if other.last.at > self.last.at {
            self.last = other.last;
        }
        match (&mut self.extras, other.extras) {
            (Some(into), Some(more)) => merge_extras(into, *more, kept),
            (into @ None, more) => *into = more,
            (Some(_), None) => {}
        }
        merge_top(&mut self.top, other.top);
    }
}

fn merge_extras(into: &mut Extras, more: Extras, kept: usize) {
    match (into, more) {
        (Extras::Of(into), Extras::Of(more)) => *into += more,
        (Extras::Values(into), Extras::Values(more)) => merge_values(into, more, kept),
        (Extras::Ends(into), Extras::Ends(more)) => {
            into.mixed |= more.mixed || into.first.value != more.first.value;
            if more.first.at < into.first.at {
                into.first = more.first;
            }
            if more.last.at > into.last.at {
                into.last = more.last;
            }
        }
        (Extras::Highest(into), Extras::Highest(more)) => merge_best(into, more, f64::gt),
        (Extras::Lowest(into), Extras::Lowest(more)) => merge_best(into, more, f64::lt),
        // All aggregates of one rule and one state are of one kind.
        _ => {}
    }
}

fn merge_best(into: &mut ExtremeValue, more: ExtremeValue, beyond: fn(&f64, &f64) -> bool) {
    let (held, new) = (text_to_number(&into.value), text_to_number(&more.value));
    let tie = !beyond(&held, &new) && !beyond(&new, &held);
    if beyond(&new, &held) || (tie && more.sample.at < into.sample.at) {
        (into.value, into.sample) = (more.value, more.sample);
    }
    if more.first.at < into.first.at {
        into.first = more.first;
    }
}

/// What a rule counts of a matched record besides the record itself, compiled.
#[derive(Debug)]
pub(super) struct Measures {
    measure: Measure,
    top: Vec<(String, Path)>,
}

#[derive(Debug)]
enum Measure {
    Nothing,
    Of(Matcher),
    Values(Path, usize),
    Ends(Path),
    Best(Path, ExtremeDirection),
}

/// What [`Measures`] found in one record.
#[derive(Debug, Default)]
pub(super) struct Measurement {
    of: bool,
    value: String,
    number: f64,
    top: Vec<(usize, String)>,
}

impl Measures {
    /// Compiles a plan's measures; `None` if the rule only counts records.
    pub(super) fn compile(plan: &RulePlan) -> Result<Option<Self>, RuleError> {
        let path = |text: &str| Path::compile(text).map_err(RuleError::Path);
        let measure = match &plan.condition {
            Condition::Any
            | Condition::Frequency { .. }
            | Condition::Spike { .. }
            | Condition::Flatline { .. } => Measure::Nothing,
            Condition::Ratio { of, .. } => Measure::Of(Matcher::compile(of).map_err(RuleError::Of)?),
            Condition::NewValue { path: text, .. } | Condition::Cardinality { path: text, .. } => {
                Measure::Values(path(text)?, values_kept(&plan.condition))
            }
            Condition::Change { path: text } => Measure::Ends(path(text)?),
            Condition::Extreme { path: text, direction } => Measure::Best(path(text)?, *direction),
        };
        let AlertPolicy { top_values, .. } = &plan.policy;
        let top = top_values
            .iter()
            .map(|(name, text)| {
                let error = |error| RuleError::TopValues { name: name.clone(), error };
                Path::compile(text).map(|path| (name.clone(), path)).map_err(error)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let counts = !matches!(measure, Measure::Nothing) || !top.is_empty();
        Ok(counts.then_some(Self { measure, top }))
    }

    /// How many values of a bucket are kept.
    pub(super) fn kept(&self) -> usize {
        match &self.measure {
            Measure::Values(_, kept) => *kept,
            _ => VALUES_KEPT,
        }
    }

    /// Measures a record, or says why it is dropped. A record that lacks one of the `topValues` is counted all the
    /// same.
    pub(super) fn measure(&self, record: &Record<'_>, memory: &Memory) -> Result<Measurement, DropReason> {
        let mut measurement = Measurement::default();
        match &self.measure {
            Measure::Nothing => {}
            Measure::Of(of) => {
                measurement.of = of.matches_in(record, memory).map_err(|failure| failure.reason)?;
            }
            Measure::Values(path, _) | Measure::Ends(path) => {
                measurement.value = path.text(record).ok_or(DropReason::ValueMissing)?.into_owned();
            }
            Measure::Best(path, _) => {
                measurement.number = path.number(record).ok_or(DropReason::ValueMissing)?;
            }
        }
        let values = self.top.iter().enumerate();
        measurement.top =
            values.filter_map(|(at, (_, path))| Some((at, path.text(record)?.into_owned()))).collect();
        Ok(measurement)
    }

    /// Adds what was measured in a record; returns roughly how many bytes this added.
    pub(super) fn add(
        &self,
        into: &mut BucketExtras,
        measurement: Measurement,
        record: &Record<'_>,
    ) -> usize {
        let mut weight = 0;
        for (at, value) in measurement.top {
            let name = &self.top[at].0;
            if !into.top.contains_key(name) {
                into.top.insert(name.clone(), Values::default());
            }
            if let Some(values) = into.top.get_mut(name) {
                weight += add_value(values, value, TOP_KEPT);
            }
        }
        let one = match &self.measure {
            Measure::Nothing => return weight,
            Measure::Of(_) => Extras::Of(i64::from(measurement.of)),
            Measure::Values(_, kept) => {
                let extras = into.extras.get_or_insert_with(|| Box::new(Extras::Values(Values::default())));
                if let Extras::Values(values) = extras.as_mut() {
                    weight += add_value(values, measurement.value, *kept);
                }
                return weight;
            }
            Measure::Ends(_) => {
                let first = RecordValue { at: record.raw.record_ref(), value: measurement.value };
                Extras::Ends(FirstAndLast { last: first.clone(), first, mixed: false })
            }
            Measure::Best(_, direction) => {
                let value = number_to_text(measurement.number);
                let first = RecordValue { at: record.raw.record_ref(), value: value.clone() };
                if !may_matter(into.extras.as_deref(), measurement.number, &first.at, *direction) {
                    return weight;
                }
                let best = ExtremeValue { first, value, sample: sample::sample(record) };
                match direction {
                    ExtremeDirection::Highest => Extras::Highest(best),
                    ExtremeDirection::Lowest => Extras::Lowest(best),
                }
            }
        };
        if let Some(held) = &mut into.extras {
            merge_extras(held, one, VALUES_KEPT);
        } else {
            weight += 512;
            into.extras = Some(Box::new(one));
        }
        weight
    }
}

/// What is counted for a (rule, group, bucket) besides its records.
#[derive(Debug, Default)]
pub(super) struct BucketExtras {
    pub(super) extras: Option<Box<Extras>>,
    pub(super) top: BTreeMap<String, Values>,
}

/// Whether a number can change what is held. Most can't, and need no sample.
fn may_matter(held: Option<&Extras>, new: f64, at: &RecordRef, direction: ExtremeDirection) -> bool {
    let Some(Extras::Highest(held) | Extras::Lowest(held)) = held else { return true };
    let best = text_to_number(&held.value);
    let beyond = match direction {
        ExtremeDirection::Highest => new > best,
        ExtremeDirection::Lowest => new < best,
    };
    beyond || *at < held.first.at || *at < held.sample.at
}

/// Counts a value; returns roughly how many bytes this added.
fn add_value(values: &mut Values, value: String, kept: usize) -> usize {
    if let Some(count) = values.counts.get_mut(&value) {
        *count += 1;
        return 0;
    }
    let weight = value.len() + 48;
    values.counts.insert(value, 1);
    // Trims only at twice the bound, so that the work of trimming is spread over that many values.
    if values.counts.len() > 2 * kept {
        trim(values, kept);
    }
    weight
}

/// Trims the values to their bounds, before they are sent.
pub(super) fn trim_to_bounds(measures: &Measures, mut more: BucketExtras) -> BucketExtras {
    if let Some(Extras::Values(values)) = more.extras.as_deref_mut() {
        trim(values, measures.kept());
    }
    for values in more.top.values_mut() {
        trim(values, TOP_KEPT);
    }
    more
}

#[cfg(test)]
#[path = "aggregate_tests.rs"]
mod tests;
