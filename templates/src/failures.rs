//! Which templates failed lately, so that a status can name them.
//!
//! A template that fails with some data and not with other is told of as one that fails: what is told must not change with
//! every message.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::{Duration, Instant};

/// How long after it last failed a template is told of.
const LATELY: Duration = Duration::from_mins(15);
/// How often room is made, at most.
const PAUSE: Duration = Duration::from_secs(10);
/// Failures that are remembered, each of a few hundred bytes.
const MOST: usize = 10_000;

/// Failures by whose text it is and which of its texts. Bounded: what is over is not remembered.
#[derive(Debug)]
pub struct Failures<K> {
    entries: HashMap<(K, &'static str), Failure>,
    /// When room was last made: not for each failure, since that looks at all.
    cleared: Option<Instant>,
}

#[derive(Debug)]
struct Failure {
    /// A hash of the text: a text itself may be long.
    text: u64,
    error: String,
    at: Instant,
}

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self { entries: HashMap::new(), cleared: None }
    }
}

impl<K: Eq + Hash + Copy> Failures<K> {
    /// Takes note of a rendering of this text at this instant: its error, or none. Another text that is rendered ends the
    /// failure of the one before.
    pub fn note(&mut self, whose: K, which: &'static str, text: &str, error: Option<&str>, at: Instant) {
        if self.entries.is_empty() && error.is_none() {
            return;
        }
        let key = (whose, which);
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let text = hasher.finish();
        let known = self.entries.get_mut(&key).filter(|known| known.text == text);
        match (known, error) {
            (Some(known), Some(_)) => known.at = at,
            (Some(_), None) => {}
            (None, None) => drop(self.entries.remove(&key)),
            (None, Some(error)) => {
                let lately = |cleared: Instant| at.saturating_duration_since(cleared) < PAUSE;
                if self.entries.len() >= MOST && !self.cleared.is_some_and(lately) {
                    self.cleared = Some(at);
                    self.forget(at);
                }
                if self.entries.len() < MOST || self.entries.contains_key(&key) {
                    self.entries.insert(key, Failure { text, error: error.to_owned(), at });
                }
            }
        }
    }

    /// Those of the last 15 minutes, in words.
    pub fn lately(&mut self, at: Instant) -> impl Iterator<Item = (K, String)> {
        self.forget(at);
        let told = |((whose, which), failure): (&(K, &'static str), &Failure)| {
            (*whose, format!("{which} template failed: {}", failure.error))
        };
        self.entries.iter().map(told)
    }

    fn forget(&mut self, at: Instant) {
        self.entries.retain(|_, failure| at.saturating_duration_since(failure.at) < LATELY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_until_another_text_is_rendered_or_for_a_quarter_of_an_hour() {
        let (mut failures, at) = (Failures::default(), Instant::now());
        let told = |failures: &mut Failures<i32>, at| {
            failures.lately(at).map(|(_, words)| words).collect::<Vec<_>>()
        };
        failures.note(1, "title", "{{ a }}", Some("undefined value \"a\""), at);
        failures.note(1, "title", "{{ a }}", Some("another fault"), at);
        failures.note(1, "title", "{{ a }}", None, at);
        failures.note(2, "title", "{{ b }}", None, at);
        let words = "title template failed: undefined value \"a\"";
        assert_eq!(told(&mut failures, at + Duration::from_secs(899)), [words], "it fails with some data");
        failures.note(1, "title", "{{ b }}", None, at);
        assert!(told(&mut failures, at).is_empty());
        failures.note(1, "title", "{{ a }}", Some("x"), at);
        assert!(told(&mut failures, at + LATELY).is_empty());
    }

    #[test]
    fn failures_stay_bounded_and_old_ones_make_room() {
        let (mut failures, at) = (Failures::default(), Instant::now());
        (0..2 * MOST).for_each(|n| failures.note(n, "title", "text", Some("x"), at));
        assert_eq!(failures.lately(at).count(), MOST);
        failures.note(usize::MAX, "title", "text", Some("x"), at + LATELY);
        assert_eq!(failures.lately(at + LATELY).count(), 1);
    }
}
