//! A source's plan, compiled: what the reader runs.
//!
//! Invariant: a commit names the revision and the rules of exactly one compiled plan.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use alerting::decide::RuleParams;
use alerting::fold::RuleSet;
use domain::{Digest, RulePlan, StartFrom};
use protocol::messages::{ObjectProblem, SourcePlan};
use uuid::Uuid;

/// Alerts may still change by time at least this long after the last match, ms.
const SLACK: i64 = 60_000;

/// A source's plan, compiled.
pub struct CompiledPlan {
    /// The hub's revision of the plan.
    pub revision: Digest,
    /// State hash of each rule that runs.
    pub states: BTreeMap<Uuid, Digest>,
    /// Plan revision of each rule that runs.
    pub running: BTreeMap<Uuid, Digest>,
    /// The topics of each rule, running or not.
    pub readers: BTreeMap<Uuid, BTreeSet<String>>,
    /// Rules that do not compile.
    pub problems: BTreeMap<Uuid, ObjectProblem>,
    /// Topics to read.
    pub topics: Vec<String>,
    /// For each topic, the dead-letter topics that its rules name. Records that can't be decoded stay where they are if
    /// their topic is missing here: this source writes dead letters to it, or it is named like a dead-letter topic.
    pub dead_letter_topics: BTreeMap<String, BTreeSet<String>>,
    /// Topics in which reading goes on at the first kept record if the next one was removed; in others it goes on at the
    /// end.
    pub earliest: HashSet<String>,
    /// Topics in which each matched record is a notification.
    pub urgent: HashSet<String>,
    /// How long after the last match an alert may still change by time alone, ms; 0 if none can.
    pub horizon_ms: i64,
    /// The rules.
    pub engine: RuleSet,
}

impl CompiledPlan {
    /// Compiles a plan. A rule that does not compile becomes a problem; the others run.
    pub fn new(plan: &SourcePlan) -> Self {
        let (engine, failed) =
            RuleSet::new(&plan.source.reading, plan.rules.iter().map(|(uid, rule)| (*uid, &rule.plan)));
        let problems: BTreeMap<Uuid, ObjectProblem> = failed
            .into_iter()
            .map(|failed| {
                let message = failed.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                (failed.rule, ObjectProblem { reason: "RuleInvalid".to_owned(), message })
            })
            .collect();
        let runs = || plan.rules.iter().filter(|(uid, _)| !problems.contains_key(uid));
        Self {
            revision: plan.revision.clone(),
            states: runs().map(|(uid, rule)| (*uid, rule.state.clone())).collect(),
            running: runs().map(|(uid, rule)| (*uid, rule.revision.clone())).collect(),
            readers: plan
                .rules
                .iter()
                .map(|(uid, rule)| (*uid, rule.plan.topics.iter().cloned().collect()))
                .collect(),
            topics: plan.topics.clone(),
            dead_letter_topics: dead_letter_topics(plan),
            earliest: plan
                .rules
                .values()
                .filter(|rule| rule.plan.start_from == StartFrom::Earliest)
                .flat_map(|rule| rule.plan.topics.iter().cloned())
                .collect(),
            urgent: runs()
                .filter(|(_, rule)| RuleParams::from_plan(&rule.plan).is_none())
                .flat_map(|(_, rule)| rule.plan.topics.iter().cloned())
                .collect(),
            horizon_ms: runs().map(|(_, rule)| horizon(&rule.plan)).max().unwrap_or(0),
            engine,
            problems,
        }
    }
}

fn dead_letter_topics(plan: &SourcePlan) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rule in plan.rules.values() {
        for topic in &rule.plan.topics {
            if let Some(to) = rule.plan.dead_letter_topic_of(topic) {
                all.entry(topic.clone()).or_default().insert(to);
            }
        }
    }
    // Otherwise two rules that read each other's dead-letter topics would write dead letters for ever.
    let written: BTreeSet<String> = all.values().flatten().cloned().collect();
    all.retain(|topic, _| !written.contains(topic));
    all
}

fn horizon(plan: &RulePlan) -> i64 {
    match RuleParams::from_plan(plan) {
        None => 0,
        // The absence of records is an alert too, at any time.
        Some(_) if plan.condition.can_hold_without_records() => i64::MAX,
        Some(params) => params.settles_after() + SLACK,
    }
}
