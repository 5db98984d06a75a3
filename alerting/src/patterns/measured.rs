//! A compiled regular expression that bounds the work of each search.
//!
//! An engine that does not backtrack takes for each byte at most one step for each part of the pattern with its
//! repetitions written out: `(a{1,9}){1,9}` has 90 and more. So steps times bytes bounds the work before it begins.
//! Most texts cost far less. If that product is large, a lazy DFA is tried first. It starts empty each time and has
//! limited memory, so its answer depends only on the pattern and the text. No search is outside the budget.

use std::sync::OnceLock;

use regex::Regex;
use regex_automata::dfa::onepass;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::{MAX_COMPILED, MAX_WORK, ORDINARY};

/// Up to this many steps the regex crate searches as it likes; above, the lazy DFA is tried first.
const SMALL: usize = MAX_WORK / 16;
/// The memory that the lazy DFA may take besides its minimum, bytes.
const ROOM: usize = 1 << 20;
/// With its states made, the lazy DFA reads this many bytes in a step.
const QUICK: usize = 4;
/// The size of an entry of the DFA's table, bytes. Making one may take the steps of a byte.
const ENTRY: usize = 4;
/// Reporting the spans of this many groups doubles the work.
const GROUPS: usize = 16;
/// This many ranges of a class count as another part.
const RANGES: usize = 64;

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct MeasuredRegex {
    pub(crate) regex: Regex,
    /// The most steps for a byte.
    pub(super) steps: usize,
    /// Made when first needed; `None` if it can't be made.
    automaton: OnceLock<Option<DFA>>,
}

impl MeasuredRegex {
    pub(super) fn new(regex: Regex, pattern: &Hir) -> Self {
        Self { regex, steps: parts(pattern).max(1), automaton: OnceLock::new() }
    }

    /// Whether the pattern matches somewhere in the text. Adds the steps to `spent`; if they exceed what is left of
    /// [`MAX_WORK`], returns `None` and spends the whole budget.
    pub(crate) fn is_in(&self, text: &str, spent: &mut usize) -> Option<bool> {
        let most = self.steps.saturating_mul(text.len().max(1));
        let over = spent.saturating_add(most) > MAX_WORK;
        // The first search of an ordinary text is always within the budget.
        let first = *spent == 0 && text.len() <= ORDINARY;
        if !first && (most > SMALL || over) && *spent <= MAX_WORK {
            let (found, taken) = self.search_with_automaton(text);
            *spent = spent.saturating_add(taken);
            if found.is_some() && *spent <= MAX_WORK {
                return found;
            }
        }
        *spent = spent.saturating_add(most);
        if *spent > MAX_WORK {
            *spent = usize::MAX;
            return None;
        }
        Some(self.regex.is_match(text))
    }

    /// Searches with a fresh lazy DFA; also returns its steps. The answer is `None` if it needs more memory, or can't
    /// read the text.
    fn search_with_automaton(&self, text: &str) -> (Option<bool>, usize) {
        let automaton = self.automaton.get_or_init(|| automaton(self.regex.as_str(), self.steps));
        let Some(automaton) = automaton else { return (None, 0) };
        let mut cache = Cache::new(automaton);
        let empty = cache.memory_usage();
        let found = automaton.try_search_fwd(&mut cache, &Input::new(text).earliest(true));
        let made = cache.memory_usage().saturating_sub(empty) / ENTRY;
        (found.ok().map(|at| at.is_some()), text.len() / QUICK + made.saturating_mul(self.steps))
    }

    /// The most steps for a byte if the groups' spans are reported too.
    pub(super) fn steps_of_groups(&self) -> usize {
        let groups = self.regex.captures_len();
        self.steps.saturating_add(self.steps.saturating_mul(groups) / GROUPS)
    }

    /// The longest text in which groups can be found, bytes.
    pub(crate) fn longest(&self) -> usize {
        MAX_WORK / self.steps_of_groups()
    }

    /// An engine that finds the groups' spans in one step per byte. It exists if the pattern begins with `^` and each
    /// byte determines how the match continues.
    pub(crate) fn one_pass(&self) -> Option<onepass::DFA> {
        let config = onepass::Config::new().size_limit(Some(MAX_COMPILED / 2));
        let built = onepass::Builder::new()
            .configure(config)
            .thompson(thompson::Config::new().nfa_size_limit(Some(MAX_COMPILED)))
            .build(self.regex.as_str())
            .ok()?;
        built.get_nfa().is_always_start_anchored().then_some(built)
    }
}

/// The spans of the groups, found by [`one_pass`](MeasuredRegex::one_pass); `None` if the pattern does not match.
pub(crate) fn group_spans(engine: &onepass::DFA, text: &str) -> Option<Vec<Option<(usize, usize)>>> {
    let mut slots: Vec<Option<NonMaxUsize>> = vec![None; engine.get_nfa().group_info().slot_len()];
    let input = Input::new(text).anchored(Anchored::Yes);
    engine.try_search_slots(&mut engine.create_cache(), &input, &mut slots).ok()??;
    let place = |pair: &[Option<NonMaxUsize>]| match pair {
        [Some(start), Some(end)] => Some((start.get(), end.get())),
        _ => None,
    };
    Some(slots.chunks(2).map(place).collect())
}

fn automaton(pattern: &str, steps: usize) -> Option<DFA> {
    let build = |capacity: usize| {
        let config = DFA::config()
            .unicode_word_boundary(true)
            .skip_cache_capacity_check(true)
            .cache_capacity(capacity)
            .minimum_cache_clear_count(Some(0));
        let nfa = thompson::Config::new()
            .nfa_size_limit(Some(MAX_COMPILED))
            .which_captures(thompson::WhichCaptures::None);
        DFA::builder().configure(config).thompson(nfa).build(pattern).ok()
    };
    // First the memory that the DFA takes without any states.
    let own = Cache::new(&build(0)?).memory_usage();
    build(own + ROOM.min(MAX_WORK / steps))
}

/// How many parts a pattern has with its repetitions written out: at most this many are active at a byte.
fn parts(pattern: &Hir) -> usize {
    let sum = |list: &[Hir]| list.iter().map(parts).fold(0, usize::saturating_add);
    match pattern.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(Class::Bytes(_)) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(Class::Unicode(class)) => 1 + class.ranges().len() / RANGES,
        HirKind::Repetition(it) => {
            let times = it.max.unwrap_or(it.min).max(1) as usize;
            parts(&it.sub).saturating_add(1).saturating_mul(times)
        }
        HirKind::Capture(it) => parts(&it.sub).saturating_add(2),
        HirKind::Concat(list) => sum(list),
        HirKind::Alternation(list) => sum(list).saturating_add(list.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patterns::Patterns;

    fn measured(pattern: &str) -> std::sync::Arc<MeasuredRegex> {
        Patterns::default().build(pattern).unwrap()
    }

    #[test]
    fn what_a_pattern_takes_for_a_byte_is_its_parts_written_out() {
        let steps = |pattern: &str| measured(pattern).steps;
        assert_eq!(steps("timeout"), 7);
        assert_eq!(steps("^a?b*[0-9]{3}$"), 1 + 2 + 2 + 6 + 1);
        assert_eq!(steps("a{1,30}"), 60);
        assert!((1_800..2_000).contains(&steps("(a{1,30}){1,30}b")));
        assert!(steps(r"\w{9}") > 9 * 2);
    }

    #[test]
    fn ordinary_patterns_look_into_large_records() {
        let line = "2026-01-05T10:00:00Z INFO http: user=42 GET /api/v1/orders took 12ms, retry in 3s\n";
        let text = line.repeat((4 << 20) / line.len()) + "ERROR java.io.IOException: Connection reset";
        for pattern in [
            "(?i)timeout|connection (refused|reset)|broken pipe",
            r"(ERROR|FATAL)\s+\S*(Exception|Error)\b",
            r"\bERROR\b.*Exception",
            r"(?m)^(?:ERROR|FATAL|CRITICAL) \w+\.\w+",
            "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|Connection",
            r"\d{3} [a-z]+ reset$|reset$",
        ] {
            assert_eq!(measured(pattern).is_in(&text, &mut 0), Some(true), "{pattern}");
        }
        // Several patterns of one expression too.
        let (mut spent, never) = (0, measured(r"\w+@\w+\.(com|org)|panic: .*|OutOfMemory"));
        for _ in 0..16 {
            assert_eq!(never.is_in(&text, &mut spent), Some(false));
        }
    }

    #[test]
    fn what_would_take_too_long_is_told_before_and_the_same_each_time() {
        let pattern = measured("(a{1,30}){1,30}b");
        let text = "a".repeat(900_000);
        let told = |length: usize| {
            let mut spent = 0;
            (pattern.is_in(&text[..length], &mut spent), spent)
        };
        let first = [16 << 10, 17 << 10, 20 << 10, 900_000].map(told);
        assert_eq!(first[0].0, Some(false));
        assert_eq!(first[3], (None, usize::MAX));
        // Earlier searches neither help nor harm.
        measured("b$").is_in(&text, &mut 0);
        assert_eq!([16 << 10, 17 << 10, 20 << 10, 900_000].map(told), first);
        assert_eq!(measured("a+b").is_in(&text, &mut 0), Some(false));
        assert_eq!(measured("a").is_in(&text, &mut { usize::MAX }), None);
    }

    #[test]
    fn both_ways_to_look_find_the_same() {
        let texts = ["", "a", "ab\n", "abab01 9", "é", "aé0 b", "ab c-d", "\u{1F600}\u{1F600}a"];
        for pattern in [
            "",
            "a",
            "^a$",
            r"\bb",
            r"(?-u:\b)b",
            "(?m)^b|0$",
            "[^a]",
            ".",
            r"\w+ \w",
            "a|ab|",
            "(ab)*0",
            r"\d\D?$",
            r"\pL{2}",
            "(?i)É",
            "b??",
            r"\B",
        ] {
            let pattern = measured(pattern);
            for text in texts {
                if let (Some(found), _) = pattern.search_with_automaton(text) {
                    assert_eq!(found, pattern.regex.is_match(text), "{} {text:?}", pattern.regex);
                }
                if let Some(engine) = pattern.one_pass() {
                    let found = group_spans(&engine, text);
                    let regex = pattern.regex.captures(text).map(|it| {
                        it.iter().map(|group| group.map(|it| (it.start(), it.end()))).collect::<Vec<_>>()
                    });
                    assert_eq!(found.is_some(), regex.is_some(), "{} {text:?}", pattern.regex);
                }
            }
        }
    }
}
