//! Folds, in `worker consume`, records into counts by (rule, group, bucket).
//!
//! Invariants: what a [`Partition`] holds after some records does not depend on when it was taken: [`Aggregate::merge`] of what was
//! taken in parts is what would have been taken at once. A rule that does not compile stops no other. Never: a record
//! counted twice for a rule, or left out without a reason.

mod aggregate;
mod groups;
mod index;
mod partition;
mod ranges;

use std::sync::Arc;

use aggregate::Measures;
use domain::{Format, RulePlan};
use hashbrown::HashMap;
use uuid::Uuid;

pub(crate) use aggregate::number;
pub use aggregate::{Aggregate, MAX_CARDINALITY, TOP_KEPT, VALUES_KEPT, merge_values, values_kept};
pub use partition::{Aggregates, Partition};

use index::Index;
use partition::{Held, Scratch};

use crate::{
    decide::RuleParams,
    decode::{DecodeError, Decoded, Decoder},
    matching::{CompileError, Matcher, Memory},
    paths::{GroupBy, PathError},
    reason::DropReason,
    record::{RawRecord, Record},
    window::Buckets,
};

/// Why a rule can't run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// `match` does not compile.
    #[error("match: {0}")]
    Match(#[from] CompileError),
    /// A `groupBy` path does not compile.
    #[error("groupBy {label:?}: {error}")]
    GroupBy {
        /// The label.
        label: String,
        /// What is wrong with its path.
        error: PathError,
    },
    /// The condition's `of` does not compile.
    #[error("condition.of: {0}")]
    Of(CompileError),
    /// The condition's `path` does not compile.
    #[error("condition.path: {0}")]
    Path(PathError),
    /// A path of `topValues` does not compile.
    #[error("topValues {name:?}: {error}")]
    TopValues {
        /// Its name.
        name: String,
        /// What is wrong with its path.
        error: PathError,
    },
}

/// A rule, compiled.
#[derive(Debug)]
pub struct Rule {
    pub(super) uid: Uuid,
    matcher: Matcher,
    pub(super) group_by: GroupBy,
    format: Format,
    /// None where it speaks for each record.
    buckets: Option<Buckets>,
    /// None where only records are counted.
    measures: Option<Arc<Measures>>,
}

impl Rule {
    /// Compiles what of a rule's plan looks at records. All that is wrong is listed.
    pub fn compile(uid: Uuid, plan: &RulePlan) -> Result<Self, Vec<RuleError>> {
        let matcher = Matcher::compile(&plan.matches).map_err(RuleError::from);
        let group_by =
            GroupBy::compile(&plan.group_by).map_err(|(label, error)| RuleError::GroupBy { label, error });
        match (matcher, group_by, Measures::compile(plan)) {
            (Ok(matcher), Ok(group_by), Ok(measures)) => {
                let buckets = RuleParams::of(plan).map(|params| params.buckets());
                let measures = measures.map(Arc::new);
                Ok(Self { uid, matcher, group_by, format: plan.format, buckets, measures })
            }
            (matcher, group_by, measures) => {
                Err(matcher.err().into_iter().chain(group_by.err()).chain(measures.err()).collect())
            }
        }
    }
}

/// All rules of a source, compiled.
#[derive(Debug, Default)]
pub struct Engine {
    rules: Vec<Rule>,
    /// By topic, the rules that read it, together with those of the same format.
    topics: HashMap<String, Vec<Readers>>,
}

/// The rules that read the same topic in the same format.
#[derive(Debug)]
struct Readers {
    decoder: Decoder,
    rules: Vec<u32>,
    index: Index,
}

/// A rule that can't run; the others do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleProblem {
    /// The rule.
    pub rule: Uuid,
    /// All that is wrong with it.
    pub errors: Vec<RuleError>,
}

/// What became of a record.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Folded {
    /// Rules that counted it.
    pub matched: usize,
}

impl Engine {
    /// Compiles rules. One that does not compile is reported and left out; the others run.
    pub fn new<'p>(rules: impl IntoIterator<Item = (Uuid, &'p RulePlan)>) -> (Self, Vec<RuleProblem>) {
        let (mut engine, mut problems) = (Self::default(), Vec::new());
        for (uid, plan) in rules {
            match Rule::compile(uid, plan) {
                Ok(rule) => engine.insert(rule, &plan.topics),
                Err(errors) => problems.push(RuleProblem { rule: uid, errors }),
            }
        }
        for readers in engine.topics.values_mut().flatten() {
            let rules = &engine.rules;
            let needs =
                |at: &u32| (*at, rules.get(*at as usize).map_or_else(Vec::new, |it| it.matcher.needs()));
            readers.index = Index::new(readers.rules.iter().map(needs).collect());
        }
        (engine, problems)
    }

    fn insert(&mut self, rule: Rule, topics: &[String]) {
        let index = self.rules.len() as u32;
        let topics: std::collections::BTreeSet<_> = topics.iter().collect();
        for topic in topics {
            let formats = self.topics.entry(topic.clone()).or_default();
            match formats.iter_mut().find(|readers| readers.decoder.format() == rule.format) {
                Some(readers) => readers.rules.push(index),
                None => formats.push(Readers {
                    decoder: Decoder::new(rule.format),
                    rules: vec![index],
                    index: Index::default(),
                }),
            }
        }
        self.rules.push(rule);
    }

    /// Folds a record into its partition's aggregates. An error means that it can't be decoded and belongs in the
    /// dead-letter topic; that is counted too. Of a topic that no rule reads, records are passed over.
    ///
    /// `into` belongs to one partition of one topic and to this engine: take what it holds before another engine goes on.
    pub fn add(&self, into: &mut Partition, record: &RawRecord<'_>) -> Result<Folded, DecodeError> {
        let Some(formats) = self.topics.get(record.topic) else { return Ok(Folded::default()) };
        let Partition { held, scratch } = into;
        let mut matched = 0;
        for readers in formats {
            let Scratch { document, memory, candidates } = scratch;
            let view = match readers.decoder.decode(record.value, document) {
                Ok(Decoded::Value(view)) => view,
                Ok(Decoded::Tombstone) => {
                    held.drop_record(None, DropReason::Tombstone);
                    return Ok(Folded::default());
                }
                Err(error) => {
                    held.drop_record(None, DropReason::Undecodable);
                    return Err(error);
                }
            };
            let record = Record { raw: *record, value: view.root() };
            readers.index.candidates(record.value, candidates);
            matched += candidates.iter().filter(|rule| self.apply(**rule, held, &record, memory)).count();
            memory.clear();
        }
        Ok(Folded { matched })
    }

    /// Whether the rule counted the record.
    fn apply(&self, index: u32, held: &mut Held, record: &Record<'_>, memory: &Memory) -> bool {
        let Some(rule) = self.rules.get(index as usize) else { return false };
        match rule.matcher.matches_in(record, memory) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(failure) => {
                held.drop_record(Some(rule.uid), failure.reason);
                return false;
            }
        }
        if !held.group(rule, index, record) {
            held.drop_record(Some(rule.uid), DropReason::GroupMissing);
            return false;
        }
        match rule.buckets {
            Some(_) if record.raw.is_ahead() => {
                held.drop_record(Some(rule.uid), DropReason::TimeAhead);
                return false;
            }
            Some(buckets) => {
                // The time that a timestamp can hold: milliseconds at the edge of their type have no bucket.
                let bucket = buckets.start_of(record.raw.time().as_millisecond());
                let reading = match rule.measures.as_ref().map(|measures| measures.read(record, memory)) {
                    Some(Err(reason)) => {
                        held.drop_record(Some(rule.uid), reason);
                        return false;
                    }
                    Some(Ok(reading)) => Some(reading),
                    None => None,
                };
                held.count(rule, index, bucket, record, reading);
            }
            None => held.matched(rule, record),
        }
        true
    }
}

#[cfg(test)]
mod index_tests;
#[cfg(test)]
mod tests;
