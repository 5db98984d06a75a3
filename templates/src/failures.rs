//! Remembers which templates failed recently, so that a status can name them.
//!
//! A template that fails with some data and works with other data is reported as failing: a status must not change with
//! every message.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::{Duration, Instant};

/// How long after its last failure a template is reported.
const RECENT: Duration = Duration::from_mins(15);
/// The shortest time between two searches for entries to forget.
const PAUSE: Duration = Duration::from_secs(10);
/// The most failures that are remembered, each of a few hundred bytes.
const MOST: usize = 10_000;

/// Failures by the text's owner and which of its texts it is. Bounded; old failures are forgotten.
#[derive(Debug)]
pub struct Failures<K> {
    entries: HashMap<(K, &'static str), TemplateFailure>,
    /// What was reported before this process started, in words, and until when it is still reported.
    before: HashMap<K, (Vec<String>, Instant)>,
    /// When entries were last searched for old ones. Not done for each failure, because it looks at all entries.
    cleared: Option<Instant>,
}

#[derive(Debug)]
struct TemplateFailure {
    /// A hash of the text, which itself may be long.
    text: u64,
    error: String,
    at: Instant,
}

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self { entries: HashMap::new(), before: HashMap::new(), cleared: None }
    }
}

impl<K: Eq + Hash + Copy> Failures<K> {
    /// Notes a rendering of this text at this instant: its error, or none. Rendering another text of the same owner and
    /// kind ends the failure of the one before.
    pub fn note(&mut self, whose: K, which: &'static str, text: &str, error: Option<&str>, at: Instant) {
        if self.entries.is_empty() && self.before.is_empty() && error.is_none() {
            return;
        }
        self.before.remove(&whose);
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
                let recently = |cleared: Instant| at.saturating_duration_since(cleared) < PAUSE;
                if self.entries.len() >= MOST && !self.cleared.is_some_and(recently) {
                    self.cleared = Some(at);
                    self.forget(at);
                }
                if self.entries.len() < MOST || self.entries.contains_key(&key) {
                    self.entries.insert(key, TemplateFailure { text, error: error.to_owned(), at });
                }
            }
        }
    }

    /// Takes over what was reported before this process started. It is reported until a text of the same owner is
    /// rendered, which shows the current state, or for 15 minutes.
    pub fn restore(&mut self, whose: K, words: String, at: Instant) {
        if self.before.len() < MOST || self.before.contains_key(&whose) {
            let (told, until) = self.before.entry(whose).or_insert_with(|| (Vec::new(), at));
            told.push(words);
            *until = at + RECENT;
        }
    }

    /// The failures of the last 15 minutes, in words.
    pub fn recent(&mut self, at: Instant) -> impl Iterator<Item = (K, String)> {
        self.forget(at);
        let before = self.before.iter();
        let before = before.flat_map(|(whose, (told, _))| told.iter().map(|words| (*whose, words.clone())));
        let told = |((whose, which), failure): (&(K, &'static str), &TemplateFailure)| {
            (*whose, format!("{which} template failed: {}", failure.error))
        };
        before.chain(self.entries.iter().map(told))
    }

    fn forget(&mut self, at: Instant) {
        self.entries.retain(|_, failure| at.saturating_duration_since(failure.at) < RECENT);
        self.before.retain(|_, (_, until)| *until > at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_until_another_text_is_rendered_or_for_a_quarter_of_an_hour() {
        let (mut failures, at) = (Failures::default(), Instant::now());
        let told = |failures: &mut Failures<i32>, at| {
            failures.recent(at).map(|(_, words)| words).collect::<Vec<_>>()
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
        assert!(told(&mut failures, at + RECENT).is_empty());
    }

    #[test]
    fn what_was_told_before_a_start_is_told_until_the_next_text_or_for_a_quarter_of_an_hour() {
        let (mut failures, at) = (Failures::default(), Instant::now());
        let count = |failures: &mut Failures<i32>, at| failures.recent(at).count();
        failures.restore(1, "title template failed: x".to_owned(), at);
        failures.restore(1, "summary template failed: x".to_owned(), at);
        failures.restore(2, "title template failed: y".to_owned(), at);
        assert_eq!(count(&mut failures, at), 3);
        failures.note(1, "title", "{{ a }}", None, at);
        assert_eq!(failures.recent(at).collect::<Vec<_>>(), [(2, "title template failed: y".to_owned())]);
        failures.note(2, "title", "{{ a }}", Some("z"), at);
        assert_eq!(failures.recent(at).collect::<Vec<_>>(), [(2, "title template failed: z".to_owned())]);
        failures.restore(3, "x".to_owned(), at);
        assert_eq!(count(&mut failures, at + RECENT), 0);
    }

    #[test]
    fn failures_stay_bounded_and_old_ones_make_room() {
        let (mut failures, at) = (Failures::default(), Instant::now());
        (0..2 * MOST).for_each(|n| failures.note(n, "title", "text", Some("x"), at));
        assert_eq!(failures.recent(at).count(), MOST);
        failures.note(usize::MAX, "title", "text", Some("x"), at + RECENT);
        assert_eq!(failures.recent(at + RECENT).count(), 1);
    }
}
