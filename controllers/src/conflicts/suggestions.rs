//! Who asks for other times, whose turn it is to have them looked for, and what was found.
//!
//! An answer is kept until something that it rests on changes, or the first of its times has come: a search is never made
//! again for nothing, however little it found. Namespaces take turns, one schedule each. Never: a search.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};

use calendar::Stretch;
use jiff::Timestamp;

use super::index::Key;

/// Other times for a schedule.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Suggested {
    /// The first occurrence moved there, the best first.
    pub times: Vec<Stretch>,
    /// What was not looked at, if anything, in words.
    pub not_looked_at: Option<String>,
}

#[derive(Default)]
pub(super) struct Suggestions {
    /// By namespace.
    due: BTreeMap<String, BTreeSet<Key>>,
    found: HashMap<Key, (Suggested, Timestamp)>,
    ends: BTreeSet<(Timestamp, Key)>,
    /// Whose turn it was last.
    last: String,
}

impl Suggestions {
    /// Times are to be looked for, again if they were before.
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

    /// The oldest of the namespace whose turn it is.
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

    /// Keeps what was found. Whether it is something else than before.
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

    /// One whose answer has ended.
    pub(super) fn ended(&mut self, now: Timestamp) -> Option<Key> {
        let (until, key) = self.ends.first().copied().filter(|(until, _)| *until <= now)?;
        self.ends.remove(&(until, key));
        Some(key)
    }

    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }
}
