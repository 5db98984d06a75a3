//! Folds records into counts by (rule, group, bucket); runs in `worker consume`.
//!
//! Invariants: when a [`PartitionFold`] is taken does not matter: merging what was taken in parts
//! ([`Aggregate::merge`]) gives what taking once would have given. A rule that does not compile stops no other rule. A
//! rule counts a record once, or drops it with a reason.

mod aggregate;
mod entries;
mod groups;
mod index;
mod intervals;
mod partition;
mod table;

use std::sync::Arc;

use aggregate::Measures;
use aho_corasick::AhoCorasick;
use domain::{DropReason, Format, Reading, RulePlan};
use hashbrown::HashMap;
use uuid::Uuid;

pub use aggregate::Aggregate;
pub use partition::{Aggregates, PartitionFold};

use index::RuleIndex;
use partition::{Scratch, Uncommitted};

use crate::{
    decide::RuleParams,
    decode::{self, DecodeError, Decoded, Decoder, PatternError},
    event_time::{CompiledEventTime, EventTimeError},
    matching::{CompileError, Matcher, Memory},
    paths::{GroupBy, PathError},
    record::{RawRecord, Record},
    window::Buckets,
};

/// Why a rule can't run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The source's pattern does not compile.
    #[error("source: text.pattern: {0}")]
    Pattern(#[from] PatternError),
    /// The source's event time does not compile.
    #[error("source: eventTime: {0}")]
    EventTime(#[from] EventTimeError),
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
pub struct CompiledRule {
    pub(super) uid: Uuid,
    matcher: Matcher,
    pub(super) group_by: GroupBy,
    /// Whether the record's bytes are the JSON of its value.
    is_json: bool,
    /// `None` if each matched record is a notification of its own.
    buckets: Option<Buckets>,
    /// `None` if the rule counts records and nothing else of them.
    measures: Option<Arc<Measures>>,
}

impl CompiledRule {
    /// Compiles the parts of a rule's plan that look at records. The error lists all that is wrong.
    pub fn compile(uid: Uuid, plan: &RulePlan) -> Result<Self, Vec<RuleError>> {
        let matcher = Matcher::compile(&plan.matches).map_err(RuleError::from);
        let group_by =
            GroupBy::compile(&plan.group_by).map_err(|(label, error)| RuleError::GroupBy { label, error });
        match (matcher, group_by, Measures::compile(plan)) {
            (Ok(matcher), Ok(group_by), Ok(measures)) => {
                let buckets = RuleParams::from_plan(plan).map(|params| params.buckets());
                let measures = measures.map(Arc::new);
                let is_json = plan.source.reading.format == Format::Json;
                Ok(Self { uid, matcher, group_by, is_json, buckets, measures })
            }
            (matcher, group_by, measures) => {
                Err(matcher.err().into_iter().chain(group_by.err()).chain(measures.err()).collect())
            }
        }
    }
}

/// All rules of a source, compiled.
#[derive(Debug)]
pub struct RuleSet {
    decoder: Decoder,
    /// `None` if event time is the record's timestamp.
    event_time: Option<CompiledEventTime>,
    rules: Vec<CompiledRule>,
    /// The rules by the topic that they read.
    topics: HashMap<String, TopicRules>,
}

/// The rules that read the same topic.
#[derive(Debug, Default)]
struct TopicRules {
    rules: Vec<u32>,
    index: RuleIndex,
    /// Texts of which a JSON record must contain at least one to concern any of the rules; `None` if there are no such
    /// texts.
    texts: Option<AhoCorasick>,
}

/// A rule that can't run. The others run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleProblem {
    /// The rule.
    pub rule: Uuid,
    /// All that is wrong with it.
    pub errors: Vec<RuleError>,
}

/// What happened to a record.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Folded {
    /// How many rules counted it.
    pub matched: usize,
    /// Its event time, Unix ms, by which its partition's [`Progress`](crate::progress::Progress) may advance. `None` if
    /// the record has no time, or one too far ahead ([`MAX_AHEAD`](crate::record::MAX_AHEAD)).
    pub time_ms: Option<i64>,
    /// Why it can't be decoded and belongs in the dead-letter topic. It is counted as dropped too.
    pub undecodable: Option<DecodeError>,
}

impl Folded {
    /// Returns itself, or the error if the record can't be decoded.
    pub fn decoded(mut self) -> Result<Self, DecodeError> {
        self.undecodable.take().map_or(Ok(self), Err)
    }
}

impl RuleSet {
    /// Compiles rules whose sources are read in the same way. A rule that does not compile is reported and left out;
    /// the others run.
    pub fn new<'p>(
        reading: &Reading,
        rules: impl IntoIterator<Item = (Uuid, &'p RulePlan)>,
    ) -> (Self, Vec<RuleProblem>) {
        let decoder = Decoder::new(&reading.format).map_err(RuleError::from);
        let event_time =
            reading.event_time.as_ref().map(CompiledEventTime::compile).transpose().map_err(RuleError::from);
        let unreadable: Vec<RuleError> =
            decoder.as_ref().err().into_iter().chain(event_time.as_ref().err()).cloned().collect();
        let mut engine = Self {
            decoder: decoder.unwrap_or(Decoder::Json),
            event_time: event_time.unwrap_or_default(),
            rules: Vec::new(),
            topics: HashMap::new(),
        };
        let mut problems = Vec::new();
        for (uid, plan) in rules {
            match CompiledRule::compile(uid, plan) {
                Ok(rule) if unreadable.is_empty() => engine.insert(rule, &plan.topics),
                compiled => {
                    let errors = unreadable.iter().cloned().chain(compiled.err().into_iter().flatten());
                    problems.push(RuleProblem { rule: uid, errors: errors.collect() });
                }
            }
        }
        for readers in engine.topics.values_mut() {
            let rules = &engine.rules;
            let needs =
                |at: &u32| (*at, rules.get(*at as usize).map_or_else(Vec::new, |it| it.matcher.needs()));
            let needs: Vec<_> = readers.rules.iter().map(needs).collect();
            // A record that is not decoded has no time but its timestamp.
            if reading.format == Format::Json && reading.event_time.is_none() {
                readers.texts = index::required_texts(&needs);
            }
            readers.index = RuleIndex::new(needs);
        }
        (engine, problems)
    }

    fn insert(&mut self, rule: CompiledRule, topics: &[String]) {
        let index = self.rules.len() as u32;
        let topics: std::collections::BTreeSet<_> = topics.iter().collect();
        for topic in topics {
            self.topics.entry(topic.clone()).or_default().rules.push(index);
        }
        self.rules.push(rule);
    }

    /// Folds a record into its partition's aggregates. A record of a topic that no rule reads is ignored.
    ///
    /// `into` must hold records of one partition and of this engine only: take what it holds before another engine goes
    /// on with it.
    #[must_use]
    pub fn add(&self, into: &mut PartitionFold, record: &RawRecord<'_>) -> Folded {
        let mut folded = Folded::default();
        let PartitionFold { uncommitted, scratch: Scratch { document, memory, candidates } } = into;
        let readers = self.topics.get(record.topic);
        if let (Some(texts), Some(value)) = (readers.and_then(|it| it.texts.as_ref()), record.value)
            && decode::is_object_without(value, texts, &mut document.scratch)
        {
            folded.time_ms = record.near_ms();
            return folded;
        }
        let value = match readers.map(|_| self.decoder.decode(record, document)) {
            Some(Ok(Decoded::Value(view))) => Some(view),
            Some(Ok(Decoded::Tombstone)) => {
                uncommitted.drop_record(None, DropReason::Tombstone, record.offset, String::new);
                None
            }
            Some(Err(error)) => {
                uncommitted.drop_record(None, DropReason::Undecodable, record.offset, String::new);
                folded.undecodable = Some(error);
                None
            }
            None => None,
        };
        let (Some(view), Some(readers)) = (value, readers) else {
            // A record that is not decoded has no time of its own.
            folded.time_ms = self.event_time.is_none().then_some(record).and_then(RawRecord::near_ms);
            return folded;
        };
        let mut record = Record { raw: *record, value: view.root() };
        let timed = self.event_time.as_ref().map(|it| it.time_ms(&record));
        if let Some(Some(time)) = timed {
            record.raw.timestamp_ms = time;
        }
        let has_time = timed != Some(None);
        folded.time_ms = has_time.then_some(&record.raw).and_then(RawRecord::near_ms);
        readers.index.candidates(record.value, candidates);
        folded.matched = candidates
            .iter()
            .filter(|rule| self.apply(**rule, uncommitted, &record, has_time, memory))
            .count();
        memory.clear();
        folded
    }

    /// Applies one rule to the record; true if the rule counted it.
    fn apply(
        &self,
        index: u32,
        uncommitted: &mut Uncommitted,
        record: &Record<'_>,
        has_time: bool,
        memory: &Memory,
    ) -> bool {
        let Some(rule) = self.rules.get(index as usize) else { return false };
        match rule.matcher.matches_in(record, memory) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(failure) => {
                uncommitted
                    .drop_record(Some(rule.uid), failure.reason, record.raw.offset, || failure.detail());
                return false;
            }
        }
        if !uncommitted.make_key(rule, index, record) {
            uncommitted.drop_record(Some(rule.uid), DropReason::GroupMissing, record.raw.offset, String::new);
            return false;
        }
        match rule.buckets {
            Some(_) if !has_time => {
                uncommitted.drop_record(
                    Some(rule.uid),
                    DropReason::TimeMissing,
                    record.raw.offset,
                    String::new,
                );
                return false;
            }
            Some(_) if record.raw.is_ahead() => {
                uncommitted.drop_record(
                    Some(rule.uid),
                    DropReason::TimeAhead,
                    record.raw.offset,
                    String::new,
                );
                return false;
            }
            Some(buckets) => {
                // Clamped to what a timestamp can hold: milliseconds at the edges of `i64` have no bucket.
                let bucket = buckets.start_of(record.raw.time_ms());
                let measurement =
                    match rule.measures.as_ref().map(|measures| measures.measure(record, memory)) {
                        Some(Err(reason)) => {
                            uncommitted.drop_record(Some(rule.uid), reason, record.raw.offset, String::new);
                            return false;
                        }
                        Some(Ok(measurement)) => Some(measurement),
                        None => None,
                    };
                uncommitted.count(rule, index, bucket, record, measurement);
            }
            None => uncommitted.keep_matched(rule, record),
        }
        true
    }
}

#[cfg(test)]
mod index_tests;
#[cfg(test)]
mod tests;
