//! Folds, in `worker consume`, records into counts by (rule, group, bucket).
//!
//! Invariants: what a [`Partition`] holds after some records does not depend on when it was taken: [`merge`] of what was
//! taken in parts is what would have been taken at once. A rule that does not compile stops no other. Never: a record
//! counted twice for a rule, or left out without a reason.

use std::collections::{BTreeMap, HashMap, hash_map};

use domain::{Count, Dropped, Format, Matched, RulePlan, Sample};
use uuid::Uuid;

use crate::{
    decide::RuleParams,
    decode::{DecodeError, Decoded, Decoder},
    matching::{CompileError, Matcher, Scope},
    paths::{GroupBy, PathError},
    reason::DropReason,
    record::{RawRecord, Record},
    sample,
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
}

/// A rule, compiled.
#[derive(Debug)]
pub struct Rule {
    uid: Uuid,
    matcher: Matcher,
    group_by: GroupBy,
    format: Format,
    /// None where it speaks for each record.
    buckets: Option<Buckets>,
}

impl Rule {
    /// Compiles what of a rule's plan looks at records. All that is wrong is listed.
    pub fn compile(uid: Uuid, plan: &RulePlan) -> Result<Self, Vec<RuleError>> {
        let matcher = Matcher::compile(&plan.matches).map_err(RuleError::from);
        let group_by =
            GroupBy::compile(&plan.group_by).map_err(|(label, error)| RuleError::GroupBy { label, error });
        match (matcher, group_by) {
            (Ok(matcher), Ok(group_by)) => {
                let buckets = RuleParams::of(plan).map(|params| params.buckets());
                Ok(Self { uid, matcher, group_by, format: plan.format, buckets })
            }
            (matcher, group_by) => Err(matcher.err().into_iter().chain(group_by.err()).collect()),
        }
    }
}

/// All rules of a source, compiled.
#[derive(Debug, Default)]
pub struct Engine {
    rules: Vec<Rule>,
    /// By topic, the rules that read it, together with those of the same format.
    topics: HashMap<String, Vec<(Decoder, Vec<usize>)>>,
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
        (engine, problems)
    }

    fn insert(&mut self, rule: Rule, topics: &[String]) {
        let index = self.rules.len();
        let topics: std::collections::BTreeSet<_> = topics.iter().collect();
        for topic in topics {
            let formats = self.topics.entry(topic.clone()).or_default();
            match formats.iter_mut().find(|(decoder, _)| decoder.format() == rule.format) {
                Some((_, rules)) => rules.push(index),
                None => formats.push((Decoder::new(rule.format), vec![index])),
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
        let mut matched = 0;
        for (decoder, rules) in formats {
            let value = match decoder.decode(record.value) {
                Ok(Decoded::Value(value)) => value,
                Ok(Decoded::Tombstone) => {
                    into.drop_record(None, DropReason::Tombstone);
                    return Ok(Folded::default());
                }
                Err(error) => {
                    into.drop_record(None, DropReason::Undecodable);
                    return Err(error);
                }
            };
            let record = Record { raw: *record, value: &value };
            let scope = Scope::new(&record);
            matched += rules.iter().filter(|rule| self.apply(**rule, into, &record, &scope)).count();
        }
        Ok(Folded { matched })
    }

    /// Whether the rule counted the record.
    fn apply(&self, index: usize, into: &mut Partition, record: &Record<'_>, scope: &Scope<'_>) -> bool {
        let rule = &self.rules[index];
        match rule.matcher.matches_in(scope) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(failure) => {
                into.drop_record(Some(rule.uid), failure.reason);
                return false;
            }
        }
        let Some(values) = rule.group_by.values(record) else {
            into.drop_record(Some(rule.uid), DropReason::GroupMissing);
            return false;
        };
        match rule.buckets {
            Some(buckets) => {
                // The time that a timestamp can hold: milliseconds at the edge of their type have no bucket.
                let bucket = buckets.start_of(record.raw.time().as_millisecond());
                into.count(rule, index, values, bucket, record);
            }
            None => into.matched(rule, &values, record),
        }
        true
    }
}

/// What one partition's records came to since the last commit.
#[derive(Debug, Default)]
pub struct Partition {
    counts: HashMap<Key, Held>,
    records: Vec<Matched>,
    dropped: BTreeMap<(Option<Uuid>, DropReason), i64>,
    weight: usize,
}

/// (rule's index, group's values, bucket).
type Key = (usize, Box<[String]>, i64);

/// The aggregate of one key.
#[derive(Debug)]
struct Held {
    rule: Uuid,
    labels: BTreeMap<String, String>,
    count: i64,
    first: Sample,
    /// None while it is the first.
    last: Option<Sample>,
}

/// The aggregates of one entry of a commit.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Aggregates {
    /// Counts by (rule, group, bucket), sorted.
    pub counts: Vec<Count>,
    /// Matched records of rules that speak for each record, in the order in which they came.
    pub records: Vec<Matched>,
    /// Records that were not counted, sorted.
    pub dropped: Vec<Dropped>,
}

impl Partition {
    /// About how many bytes are held: commit early when it grows.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.records.is_empty() && self.dropped.is_empty()
    }

    /// What was held; nothing is afterwards.
    pub fn take(&mut self) -> Aggregates {
        let held = std::mem::take(self);
        let mut counts: Vec<Count> = held
            .counts
            .into_iter()
            .map(|((_, _, bucket_ms), held)| Count {
                rule: held.rule,
                group: held.labels,
                bucket_ms,
                count: held.count,
                last: held.last.unwrap_or_else(|| held.first.clone()),
                first: held.first,
            })
            .collect();
        counts.sort_by(|a, b| (a.rule, &a.group, a.bucket_ms).cmp(&(b.rule, &b.group, b.bucket_ms)));
        let dropped = held
            .dropped
            .into_iter()
            .map(|((rule, reason), count)| Dropped { rule, reason: reason.name().to_owned(), count })
            .collect();
        Aggregates { counts, records: held.records, dropped }
    }

    fn drop_record(&mut self, rule: Option<Uuid>, reason: DropReason) {
        *self.dropped.entry((rule, reason)).or_insert_with(|| {
            self.weight += 64;
            0
        }) += 1;
    }

    fn matched(&mut self, rule: &Rule, values: &[String], record: &Record<'_>) {
        let group = rule.group_by.labels(values);
        let sample = sample::sample(record);
        self.weight += 64 + label_weight(&group) + sample::weight(&sample);
        self.records.push(Matched { rule: rule.uid, group, sample });
    }

    fn count(&mut self, rule: &Rule, index: usize, values: Box<[String]>, bucket: i64, record: &Record<'_>) {
        match self.counts.entry((index, values, bucket)) {
            hash_map::Entry::Vacant(vacant) => {
                let labels = rule.group_by.labels(&vacant.key().1);
                let first = sample::sample(record);
                self.weight += 256 + 2 * label_weight(&labels) + sample::weight(&first);
                vacant.insert(Held { rule: rule.uid, labels, count: 1, first, last: None });
            }
            hash_map::Entry::Occupied(mut occupied) => {
                let held = occupied.get_mut();
                held.count += 1;
                let at = record.raw.at();
                if at < held.first.at {
                    let before = std::mem::replace(&mut held.first, sample::sample(record));
                    self.weight += sample::weight(&held.first);
                    match held.last {
                        None => held.last = Some(before),
                        Some(_) => self.weight = self.weight.saturating_sub(sample::weight(&before)),
                    }
                } else if held.last.as_ref().is_none_or(|last| at > last.at) {
                    let after = sample::sample(record);
                    self.weight += sample::weight(&after);
                    if let Some(before) = held.last.replace(after) {
                        self.weight = self.weight.saturating_sub(sample::weight(&before));
                    }
                }
            }
        }
    }
}

fn label_weight(labels: &BTreeMap<String, String>) -> usize {
    labels.iter().map(|(name, value)| name.len() + value.len() + 64).sum()
}

/// Adds to a count another one of the same (rule, group, bucket).
pub fn merge(into: &mut Count, other: Count) {
    into.count += other.count;
    if other.first.at < into.first.at {
        into.first = other.first;
    }
    if other.last.at > into.last.at {
        into.last = other.last;
    }
}

#[cfg(test)]
mod tests;
