//! What the consumer reports to the hub: which rules it runs, which partitions it owns, and its problems.
//!
//! Invariants: a problem that is over is no longer reported; no report holds a secret or a record's content.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use domain::Digest;
use protocol::messages::{ObjectProblem, Report, SourcePlan, SourceRule};
use tokio::sync::Notify;
use uuid::Uuid;

use super::plan::CompiledPlan;

/// How long a report tells of records that were removed before they were read, or are kept nowhere but in their topic.
const REMOVED_FOR: Duration = Duration::from_mins(15);

/// The consumer's state as the hub is told it, shared by the reader and its tasks. Cheap to clone.
#[derive(Clone, Default)]
pub struct ConsumerStatus {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Inner {
    /// Plan revision of each rule that runs.
    running: BTreeMap<Uuid, Digest>,
    /// The topics of each rule, running or not.
    readers: BTreeMap<Uuid, BTreeSet<String>>,
    /// Rules that do not compile.
    invalid: BTreeMap<Uuid, ObjectProblem>,
    /// The topics that are read.
    topics: Vec<String>,
    /// The partitions that are read, with the ids of their topics.
    owned: BTreeMap<(String, i32), String>,
    /// Why the credentials can't be used.
    credentials: Option<ObjectProblem>,
    /// Why no broker can be used.
    broker: Option<ObjectProblem>,
    /// The broker does not let the user be in the consumer group.
    not_in_group: bool,
    /// The reader has not finished a round for over a minute.
    stuck: bool,
    /// Why topics can't be read.
    missing: BTreeMap<String, ObjectProblem>,
    removed: BTreeMap<(String, i32), RemovedRecords>,
    unkept: BTreeMap<String, UnkeptDeadLetters>,
}

/// Dead letters that are kept nowhere but in their topic.
struct UnkeptDeadLetters {
    count: usize,
    why: String,
    at: Instant,
}

/// Records that retention removed before they were read.
struct RemovedRecords {
    missed: i64,
    /// Where reading goes on, in words.
    goes_on: &'static str,
    at: Instant,
}

impl ConsumerStatus {
    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let before = (inner.problems(), inner.running.clone(), inner.owned.clone());
        let result = change(&mut inner);
        if before != (inner.problems(), inner.running.clone(), inner.owned.clone()) {
            self.changed.notify_one();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the plan that runs, or none.
    pub fn set_plan(&self, plan: Option<&CompiledPlan>) {
        self.change(|inner| {
            if let Some(plan) = plan {
                inner.running.clone_from(&plan.running);
                inner.readers.clone_from(&plan.readers);
                inner.invalid.clone_from(&plan.problems);
                inner.topics.clone_from(&plan.topics);
                inner.missing.retain(|topic, _| plan.topics.contains(topic));
            } else {
                let (credentials, broker) = (inner.credentials.take(), inner.broker.take());
                *inner = Inner { credentials, broker, ..Inner::default() };
            }
        });
    }

    /// The topics to ask the broker about.
    pub fn topics(&self) -> Vec<String> {
        self.lock().topics.clone()
    }

    /// Sets the partitions that are read, with the ids of their topics.
    pub fn set_owned(&self, owned: BTreeMap<(String, i32), String>) {
        self.change(|inner| inner.owned = owned);
    }

    /// Sets why the source's credentials can't be used, or that they can. `plan` says which rules are affected.
    pub fn set_credentials(&self, plan: &SourcePlan, problem: Option<ObjectProblem>) {
        self.change(|inner| {
            if problem.is_some() {
                let topics = |rule: &SourceRule| rule.plan.topics.iter().cloned().collect();
                inner.readers = plan.rules.iter().map(|(uid, rule)| (*uid, topics(rule))).collect();
            }
            inner.credentials = problem;
        });
    }

    /// Sets why no broker can be used, or that one can.
    pub fn set_broker(&self, problem: Option<ObjectProblem>) {
        self.change(|inner| inner.broker = problem);
    }

    /// Sets whether the broker lets the user be in the consumer group.
    pub fn set_group_allowed(&self, allowed: bool) {
        self.change(|inner| inner.not_in_group = !allowed);
    }

    /// Sets whether the reader has been busy with one record or call for over a minute.
    pub fn set_stuck(&self, stuck: bool) {
        self.change(|inner| inner.stuck = stuck);
    }

    /// Sets why a topic can't be read, or that it can.
    pub fn set_topic(&self, topic: &str, problem: Option<ObjectProblem>) {
        self.change(|inner| match problem {
            Some(problem) => drop(inner.missing.insert(topic.to_owned(), problem)),
            None => drop(inner.missing.remove(topic)),
        });
    }

    /// Adds records that retention removed before they were read; `goes_on` says where reading goes on.
    pub fn add_removed(&self, topic: &str, partition: i32, missed: i64, goes_on: &'static str) {
        self.change(|inner| {
            let at = Instant::now();
            let removed = inner.removed.entry((topic.to_owned(), partition)).or_insert(RemovedRecords {
                missed: 0,
                goes_on,
                at,
            });
            *removed = RemovedRecords { missed: removed.missed + missed, goes_on, at };
        });
    }

    /// Adds dead letters that are kept nowhere but in their topic: their dead-letter topic can't be written, for the reason
    /// `why`, and they are more than the ledger takes.
    pub fn add_unkept(&self, topic: &str, count: usize, why: &str) {
        self.change(|inner| {
            let before = inner.unkept.get(topic).filter(|unkept| unkept.at.elapsed() < REMOVED_FOR);
            let count = count + before.map_or(0, |unkept| unkept.count);
            let unkept = UnkeptDeadLetters { count, why: why.to_owned(), at: Instant::now() };
            inner.unkept.insert(topic.to_owned(), unkept);
        });
    }

    /// Waits for a change that the hub should know of.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The report for the hub.
    pub fn report(&self, instance: &str, source: &str, leaving: bool) -> Report {
        let inner = self.lock();
        Report {
            instance: instance.to_owned(),
            running: inner.running.clone(),
            problems: inner.problems(),
            owned: inner
                .owned
                .iter()
                .map(|((topic, partition), id)| (topic.clone(), id.clone(), *partition))
                .collect(),
            source: Some(Digest::from(source.to_owned())),
            leaving,
        }
    }
}

impl Inner {
    fn problems(&self) -> BTreeMap<Uuid, Vec<ObjectProblem>> {
        let mut problems = BTreeMap::new();
        for (uid, topics) in &self.readers {
            let mut of_rule: Vec<ObjectProblem> = self.invalid.get(uid).cloned().into_iter().collect();
            // Without usable credentials no broker is asked.
            of_rule.extend(self.credentials.as_ref().or(self.broker.as_ref()).cloned());
            if self.not_in_group {
                let message = "the broker does not let this user be in the consumer group that shares out partitions: let it read groups with the prefix \"belfry.\"";
                of_rule.push(ObjectProblem {
                    reason: "KafkaAuthorizationFailed".to_owned(),
                    message: message.to_owned(),
                });
            }
            if self.stuck {
                let message = "the consumer has been busy with one record for over a minute, and nothing behind it is read; it is started anew after 5 min, and begins with the same record";
                of_rule
                    .push(ObjectProblem { reason: "ConsumerStuck".to_owned(), message: message.to_owned() });
            }
            of_rule.extend(topics.iter().filter_map(|topic| self.missing.get(topic)).cloned());
            of_rule.extend(self.removed_from(topics));
            of_rule.extend(self.unkept_in(topics));
            if !of_rule.is_empty() {
                problems.insert(*uid, of_rule);
            }
        }
        problems
    }

    fn unkept_in(&self, topics: &BTreeSet<String>) -> Option<ObjectProblem> {
        let lines: Vec<String> = self
            .unkept
            .iter()
            .filter(|(topic, unkept)| topics.contains(*topic) && unkept.at.elapsed() < REMOVED_FOR)
            // Rounded down to a power of ten, so that the status condition does not change with each record.
            .map(|(topic, UnkeptDeadLetters { count, why, .. })| {
                format!("at least {} of {topic}: {why}", 10_usize.pow(count.max(&1).ilog10()))
            })
            .collect();
        (!lines.is_empty()).then(|| ObjectProblem {
            reason: "DeadLettersNotKept".to_owned(),
            message: format!(
                "records that can't be decoded are kept nowhere but in their topic, where the dead-letter topic can't be written and they are more than 256 or 2 MiB a minute: {}",
                lines.join("; ")
            ),
        })
    }

    fn removed_from(&self, topics: &BTreeSet<String>) -> Option<ObjectProblem> {
        let lines: Vec<String> = self
            .removed
            .iter()
            .filter(|((topic, _), removed)| topics.contains(topic) && removed.at.elapsed() < REMOVED_FOR)
            .map(|((topic, partition), RemovedRecords { missed, goes_on, .. })| {
                format!("{missed} of {topic}/{partition}, reading goes on {goes_on}")
            })
            .collect();
        (!lines.is_empty()).then(|| ObjectProblem {
            reason: "OffsetsRemoved".to_owned(),
            message: format!("the broker removed records before they were read: {}", lines.join("; ")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stuck_reader_is_a_problem_of_each_rule_until_it_goes_on() {
        let (status, rules) = (ConsumerStatus::default(), [Uuid::from_u128(1), Uuid::from_u128(2)]);
        status.change(|inner| inner.readers = rules.map(|uid| (uid, BTreeSet::new())).into());
        status.set_stuck(true);
        let told = status.report("a", "source", false).problems;
        assert!(rules.iter().all(|uid| told[uid][0].reason == "ConsumerStuck"));
        status.set_stuck(false);
        assert!(status.report("a", "source", false).problems.is_empty());
    }
}
