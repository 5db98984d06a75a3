//! Which partitions there are, and up to when that is known.
//!
//! The hub decides over the partitions that are open there: one that it does not know of holds nothing back, and its records
//! would be late. So the broker is asked how many partitions each topic has, what is not open at the hub yet is opened there, and
//! only then does the clock from before the question count. Never here: Kafka, the hub, or a clock.
//!
//! Clauses of docs/semantics.md: E3, E6.

use std::collections::BTreeMap;

use protocol::messages;

use super::events::{Open, Opened};
use crate::kafka::Topic;

/// See the module.
#[derive(Debug, Default)]
pub struct Survey {
    open: Open,
    told: Option<messages::Survey>,
}

/// What the broker's answer comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Topics of which the hub has all partitions, or of which there are none to be read.
    pub known: Vec<String>,
    /// Topics that are to be opened, or of which more partitions are.
    pub missing: Vec<String>,
    /// Ids of all that are there.
    pub ids: BTreeMap<String, String>,
}

/// What is open at the hub beside what the broker has. A topic with another id than that which is open is in neither list: what
/// is held of the one before is committed first.
pub fn compare(open: &Open, told: &BTreeMap<String, Topic>) -> Compared {
    let mut compared = Compared::default();
    for (name, topic) in told {
        match topic {
            Topic::There { id, partitions } => {
                match open.get(name) {
                    Some((known, _)) if known != id => {}
                    Some((_, many)) if *many as i64 >= i64::from(*partitions) => {
                        compared.known.push(name.clone());
                    }
                    _ => compared.missing.push(name.clone()),
                }
                compared.ids.insert(name.clone(), id.clone());
            }
            Topic::Missing | Topic::Barred(_) => compared.known.push(name.clone()),
            Topic::Failed(_) => {}
        }
    }
    compared
}

/// Adds what was opened.
pub fn add(open: &mut Open, topics: &BTreeMap<String, Opened>) {
    let more = topics.iter().map(|(name, topic)| (name.clone(), (topic.id.clone(), topic.partitions.len())));
    open.extend(more);
}

impl Survey {
    /// What is open.
    pub fn open(&self) -> &Open {
        &self.open
    }

    /// The hub has these open now.
    pub fn opened(&mut self, topics: &BTreeMap<String, Opened>) {
        add(&mut self.open, topics);
    }

    /// Topics that have another id now are to be opened anew.
    pub fn others(&mut self, ids: &BTreeMap<String, String>) {
        self.open.retain(|name, (id, _)| ids.get(name).is_none_or(|now| now == id));
    }

    /// Only these topics are read: what the hub has of others it may forget.
    pub fn only(&mut self, topics: &[String]) {
        self.open.retain(|name, _| topics.contains(name));
    }

    /// The hub may have fewer partitions open than is known here: it has another ledger.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// All partitions of these topics, with these ids, that were there at this clock are open at the hub; unless that was forgotten
    /// since the question.
    pub fn done(&mut self, at_ms: i64, mut topics: Vec<String>, ids: &BTreeMap<String, String>) {
        let open = &self.open;
        topics
            .retain(|topic| ids.get(topic).is_none_or(|id| open.get(topic).is_some_and(|(it, _)| it == id)));
        self.told = Some(messages::Survey { at_ms, topics });
    }

    /// What the hub is told: nothing is known before the first answer.
    pub fn told(&self) -> messages::Survey {
        self.told.clone().unwrap_or(messages::Survey { at_ms: 0, topics: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(id: &str, partitions: i32) -> Topic {
        Topic::There { id: id.to_owned(), partitions }
    }

    #[test]
    fn a_topic_is_known_once_the_hub_has_as_many_partitions_of_the_same_one() {
        let mut survey = Survey::default();
        let opened = Opened { id: "1".to_owned(), partitions: vec![(0, 0, 0); 2] };
        survey.opened(&BTreeMap::from([("a".to_owned(), opened.clone()), ("b".to_owned(), opened.clone())]));
        let told = BTreeMap::from([
            ("a".to_owned(), there("1", 2)),
            ("b".to_owned(), there("1", 3)),
            ("c".to_owned(), there("1", 1)),
            ("gone".to_owned(), Topic::Missing),
            ("barred".to_owned(), Topic::Barred(String::new())),
            ("untold".to_owned(), Topic::Failed(String::new())),
        ]);
        let compared = compare(survey.open(), &told);
        assert_eq!(compared.known, ["a", "barred", "gone"]);
        assert_eq!(compared.missing, ["b", "c"]);
        let again = BTreeMap::from([("a".to_owned(), there("2", 1))]);
        let compared = compare(survey.open(), &again);
        assert_eq!((compared.known.len(), compared.missing.len()), (0, 0), "what is held of it comes first");
        survey.others(&compared.ids);
        assert_eq!(compare(survey.open(), &again).missing, ["a"]);
    }

    #[test]
    fn nothing_is_known_before_the_first_answer_and_after_the_ledger_was_elsewhere() {
        let mut survey = Survey::default();
        let topics = || vec!["a".to_owned()];
        assert_eq!(survey.told().known_until(&topics()), None);
        let ids = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        survey.done(5, topics(), &ids);
        assert_eq!(survey.told().known_until(&topics()), None, "it is not open any more");
        survey.opened(&BTreeMap::from([(
            "a".to_owned(),
            Opened { id: "1".to_owned(), partitions: vec![(0, 0, 0)] },
        )]));
        survey.done(5, topics(), &ids);
        assert_eq!(survey.told().known_until(&topics()), Some(5));
        assert_eq!(survey.told().known_until(&["a".to_owned(), "b".to_owned()]), None, "not of both");
        survey.forget();
        assert_eq!(survey.told().known_until(&topics()), None);
    }
}
