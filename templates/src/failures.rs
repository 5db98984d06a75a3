//! Which templates failed lately, so that a status can name them.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How long a failure is told of, unless the same text is rendered before.
const LATELY: Duration = Duration::from_mins(15);
/// Failures that are remembered.
const MOST: usize = 1_000;

/// Failures by whose text it is and which of its texts. Bounded: what is over is not remembered.
#[derive(Debug)]
pub struct Failures<K> {
    entries: HashMap<(K, &'static str), (String, Instant)>,
}

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self { entries: HashMap::new() }
    }
}

impl<K: Eq + Hash + Copy> Failures<K> {
    /// Takes note of a rendering at this instant: its error, or none, which ends an earlier failure.
    pub fn note(&mut self, whose: K, which: &'static str, error: Option<&str>, at: Instant) {
        match error {
            None if self.entries.is_empty() => {}
            None => drop(self.entries.remove(&(whose, which))),
            Some(error) => {
                if self.entries.len() >= MOST {
                    self.forget(at);
                }
                if self.entries.len() < MOST || self.entries.contains_key(&(whose, which)) {
                    self.entries.insert((whose, which), (error.to_owned(), at));
                }
            }
        }
    }

    /// Those of the last 15 minutes, in words.
    pub fn lately(&mut self, at: Instant) -> impl Iterator<Item = (K, String)> {
        self.forget(at);
        self.entries
            .iter()
            .map(|((whose, which), (error, _))| (*whose, format!("{which} template failed: {error}")))
    }

    fn forget(&mut self, at: Instant) {
        self.entries.retain(|_, (_, noted)| at.saturating_duration_since(*noted) < LATELY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_until_the_text_is_rendered_or_for_a_quarter_of_an_hour() {
        let (mut failures, at) = (Failures::default(), Instant::now());
        let told = |failures: &mut Failures<i32>, at| {
            failures.lately(at).map(|(_, words)| words).collect::<Vec<_>>()
        };
        failures.note(1, "title", Some("undefined value \"a\""), at);
        failures.note(2, "title", None, at);
        let words = "title template failed: undefined value \"a\"";
        assert_eq!(told(&mut failures, at + Duration::from_secs(899)), [words]);
        failures.note(1, "title", None, at);
        assert!(told(&mut failures, at).is_empty());
        failures.note(1, "title", Some("x"), at);
        assert!(told(&mut failures, at + LATELY).is_empty());
    }

    #[test]
    fn failures_stay_bounded_and_old_ones_make_room() {
        let (mut failures, at) = (Failures::default(), Instant::now());
        (0..2 * MOST).for_each(|n| failures.note(n, "title", Some("x"), at));
        assert_eq!(failures.lately(at).count(), MOST);
        failures.note(usize::MAX, "title", Some("x"), at + LATELY);
        assert_eq!(failures.lately(at + LATELY).count(), 1);
    }
}
