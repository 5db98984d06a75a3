//! Folds, in `worker consume`, records into counts by (rule, group, bucket).

use std::collections::{BTreeMap, HashMap};

use domain::{Condition, Count, Dropped, Format, Matched, RulePlan};
use uuid::Uuid;

use crate::{
    decide::RuleParams,
    decode::{DecodeError, Decoder},
    matching::{CompileError, Matcher},
    paths::{GroupBy, PathError},
    record::RawRecord,
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
                Ok(Self { uid, matcher, group_by, buckets })
            }
            (matcher, group_by) => Err(matcher.err().into_iter().chain(group_by.err()).collect()),
        }
    }
}

/// All rules of a source, compiled.
#[derive(Debug, Default)]
pub struct Engine {
    rules: Vec<Rule>,
    topics: HashMap<String, Vec<usize>>,
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

/// What one partition's records came to since the last commit.
#[derive(Debug, Default)]
pub struct Partition {}

/// The aggregates of one entry of a commit.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Aggregates {
    /// Counts by (rule, group, bucket), sorted.
    pub counts: Vec<Count>,
    /// Matched records of rules that speak for each record, by offset.
    pub records: Vec<Matched>,
    /// Records that were not counted, sorted.
    pub dropped: Vec<Dropped>,
}

impl Engine {
    /// Compiles rules. One that does not compile is reported and left out; the others run.
    pub fn new<'p>(rules: impl IntoIterator<Item = (Uuid, &'p RulePlan)>) -> (Self, Vec<RuleProblem>) {
        let _ = rules;
        let _ = |format: Format, condition: Condition| (Decoder::new(format), condition);
        let _: Option<BTreeMap<(), ()>> = None;
        todo!()
    }

    /// Folds a record into its partition's aggregates. An error means that it can't be decoded and belongs in the
    /// dead-letter topic; that is counted too.
    pub fn add(&self, into: &mut Partition, record: &RawRecord<'_>) -> Result<Folded, DecodeError> {
        let _ = (into, record, &self.rules, &self.topics);
        todo!()
    }
}

impl Partition {
    /// About how many bytes are held: commit early when it grows.
    pub fn weight(&self) -> usize {
        todo!()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// What was held; nothing is afterwards.
    pub fn take(&mut self) -> Aggregates {
        todo!()
    }
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
