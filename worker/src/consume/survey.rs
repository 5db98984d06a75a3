//! Tracks which partitions there are, and up to which clock all of them are known.
//!
//! The hub decides when all partitions that are open there have come far enough. A partition that it does not know holds
//! nothing back, and its records would be late. So the consumer asks the broker how many partitions each topic has, opens
//! those that are missing at the hub, and only then tells the hub the clock from before the question. This module is pure.
//!
//! Clauses of docs/semantics.md: E3, E6.

use std::collections::BTreeMap;

use protocol::messages;

use super::events::{OpenTopics, OpenedTopic};
use crate::kafka::TopicState;

/// What is open at the hub, and the last complete survey.
#[derive(Debug, Default)]
pub struct PartitionSurvey {
    open: OpenTopics,
    last: Option<messages::Survey>,
}

/// The broker's answer compared with what is open at the hub.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TopicComparison {
    /// Topics whose partitions are all open at the hub, or that have none to read.
    pub known: Vec<String>,
    /// Topics to open, or to open with more partitions.
    pub missing: Vec<String>,
    /// The id of each topic that exists.
    pub ids: BTreeMap<String, String>,
}

/// Compares what is open at the hub with the broker's answer. A topic whose id differs from the open one is neither known
/// nor missing: what was read of the old one must be committed first.
pub fn compare(open: &OpenTopics, told: &BTreeMap<String, TopicState>) -> TopicComparison {
    let mut compared = TopicComparison::default();
    for (name, topic) in told {
        match topic {
            TopicState::Exists { id, partitions } => {
                match open.get(name) {
                    Some((known, _)) if known != id => {}
                    Some((_, many)) if *many as i64 >= i64::from(*partitions) => {
                        compared.known.push(name.clone());
                    }
                    _ => compared.missing.push(name.clone()),
                }
                compared.ids.insert(name.clone(), id.clone());
            }
            TopicState::Missing | TopicState::Forbidden(_) => compared.known.push(name.clone()),
            TopicState::Unknown(_) => {}
        }
    }
    compared
}

/// Adds topics that were opened at the hub.
pub fn extend_open(open: &mut OpenTopics, topics: &BTreeMap<String, OpenedTopic>) {
    let more = topics.iter().map(|(name, topic)| (name.clone(), (topic.id.clone(), topic.partitions.len())));
    open.extend(more);
}

impl PartitionSurvey {
    /// What is open at the hub.
    pub fn open(&self) -> &OpenTopics {
        &self.open
    }

    /// Adds topics that were opened at the hub.
    pub fn add_opened(&mut self, topics: &BTreeMap<String, OpenedTopic>) {
        extend_open(&mut self.open, topics);
    }

    /// Forgets topics whose id is another one in `ids`, so that they are opened again.
    pub fn close_recreated(&mut self, ids: &BTreeMap<String, String>) {
        self.open.retain(|name, (id, _)| ids.get(name).is_none_or(|now| now == id));
    }

    /// Forgets all topics but these: the hub may forget what is not read.
    pub fn retain_topics(&mut self, topics: &[String]) {
        self.open.retain(|name, _| topics.contains(name));
    }

    /// Forgets everything: the hub has another ledger, with fewer partitions open.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Takes note that all partitions of these topics that existed at the clock `at_ms` (Unix ms) are open at the hub. Topics
    /// that were forgotten since the question, or have another id, are left out.
    pub fn complete(&mut self, at_ms: i64, mut topics: Vec<String>, ids: &BTreeMap<String, String>) {
        let open = &self.open;
        topics
            .retain(|topic| ids.get(topic).is_none_or(|id| open.get(topic).is_some_and(|(it, _)| it == id)));
        self.last = Some(messages::Survey { at_ms, topics });
    }

    /// The survey for the next commit; before the first answer it knows no topic.
    pub fn for_commit(&self) -> messages::Survey {
        self.last.clone().unwrap_or(messages::Survey { at_ms: 0, topics: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(id: &str, partitions: i32) -> TopicState {
        TopicState::Exists { id: id.to_owned(), partitions }
    }

    #[test]
    fn a_topic_is_known_once_the_hub_has_all_partitions_of_the_same_id() {
        let mut survey = PartitionSurvey::default();
        let opened = OpenedTopic { id: "1".to_owned(), partitions: vec![(0, 0, 0); 2] };
        survey.add_opened(&BTreeMap::from([
            ("a".to_owned(), opened.clone()),
            ("b".to_owned(), opened.clone()),
        ]));
        let told = BTreeMap::from([
            ("a".to_owned(), there("1", 2)),
            ("b".to_owned(), there("1", 3)),
            ("c".to_owned(), there("1", 1)),
            ("gone".to_owned(), TopicState::Missing),
            ("barred".to_owned(), TopicState::Forbidden(String::new())),
            ("untold".to_owned(), TopicState::Unknown(String::new())),
        ]);
        let compared = compare(survey.open(), &told);
        assert_eq!(compared.known, ["a", "barred", "gone"]);
        assert_eq!(compared.missing, ["b", "c"]);
        let again = BTreeMap::from([("a".to_owned(), there("2", 1))]);
        let compared = compare(survey.open(), &again);
        assert_eq!((compared.known.len(), compared.missing.len()), (0, 0), "what is held of it comes first");
        survey.close_recreated(&compared.ids);
        assert_eq!(compare(survey.open(), &again).missing, ["a"]);
    }

    #[test]
    fn no_topic_is_known_before_the_first_answer_or_after_the_survey_was_forgotten() {
        let mut survey = PartitionSurvey::default();
        let topics = || vec!["a".to_owned()];
        assert_eq!(survey.for_commit().known_until(&topics()), None);
        let ids = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        survey.complete(5, topics(), &ids);
        assert_eq!(survey.for_commit().known_until(&topics()), None, "it is not open any more");
        survey.add_opened(&BTreeMap::from([(
            "a".to_owned(),
            OpenedTopic { id: "1".to_owned(), partitions: vec![(0, 0, 0)] },
        )]));
        survey.complete(5, topics(), &ids);
        assert_eq!(survey.for_commit().known_until(&topics()), Some(5));
        assert_eq!(survey.for_commit().known_until(&["a".to_owned(), "b".to_owned()]), None, "not of both");
        survey.forget();
        assert_eq!(survey.for_commit().known_until(&topics()), None);
    }
}
