//! The schedules that ask for other times, which of them is next, and what was found.
//!
//! An answer is kept until something that it depends on changes, or the first of its times has come, so no search is
//! repeated without need. Namespaces take turns with one schedule each. The search itself is elsewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};

use calendar::Stretch;
use jiff::Timestamp;

use super::index::Key;

/// Other times for a schedule.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Suggested {
    /// The first occurrence at the other times, the best first.
    pub times: Vec<Stretch>,
    /// What was not searched, if anything, as a text.
    pub not_looked_at: Option<String>,
}

#[derive(Default)]
pub(super) struct Suggestions {
    /// Schedules to search for, by namespace.
    due: BTreeMap<String, BTreeSet<Key>>,
    found: HashMap<Key, (Suggested, Timestamp)>,
    ends: BTreeSet<(Timestamp, Key)>,
    /// The namespace that was served last.
    last: String,
}

impl Suggestions {
    /// Asks for other times, again if they were found before.
    pub(super) fn ask(&mut self, namespace: &str, key: Key) {
        self.due.entry(namespace.to_owned()).or_default().insert(key);
    }

    pub(super) fn forget(&mut self, namespace: &str, key: &Key) {
        if let Some(due) = self.due.get_mut(namespace) {
            due.remove(key);
            if due.is_empty() {
                self.due.remove(namespace);
            }
        }
        if let Some((_, until)) = self.found.remove(key) {
            self.ends.remove(&(until, *key));
        }
    }

    /// The oldest schedule of the next namespace.
    pub(super) fn next(&mut self) -> Option<Key> {
        let after = self.due.range::<String, _>((Excluded(&self.last), Unbounded)).next();
        let (namespace, _) = after.or_else(|| self.due.first_key_value())?;
        let namespace = namespace.clone();
        let due = self.due.get_mut(&namespace)?;
        let key = due.pop_first();
        if due.is_empty() {
            self.due.remove(&namespace);
        }
        self.last = namespace;
        key
    }

    /// Keeps what was found; returns whether it differs from before.
    pub(super) fn answer(&mut self, key: Key, found: Suggested, until: Timestamp) -> bool {
        let before = self.found.remove(&key);
        if let Some((_, until)) = &before {
            self.ends.remove(&(*until, key));
        }
        self.ends.insert((until, key));
        let is_news = before.is_none_or(|(before, _)| before != found);
        self.found.insert(key, (found, until));
        is_news
    }

    pub(super) fn found(&self, key: &Key) -> Option<&(Suggested, Timestamp)> {
        self.found.get(key)
    }

    /// A schedule whose answer has ended.
    pub(super) fn ended(&mut self, now: Timestamp) -> Option<Key> {
        let (until, key) = self.ends.first().copied().filter(|(until, _)| *until <= now)?;
        self.ends.remove(&(until, key));
        Some(key)
    }

    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }
}
