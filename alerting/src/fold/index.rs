//! An index that finds the rules of a topic that a record may concern, by the values of a few fields.
//!
//! Invariant: a rule that is skipped would have been false for the record, without a failure. The index does not answer
//! for the candidates; each of them is still evaluated.

use aho_corasick::AhoCorasick;
use hashbrown::HashMap;

use crate::document::{Node, NodeData};
use crate::matching::need::{FieldNeed, NumberKey, Predicate};
use crate::matching::program::{PathStep, follow};

use super::intervals::IntervalTree;

/// With fewer rules than this, every rule is a candidate.
const WORTH_IT: usize = 4;

/// An index over rules, which it knows by their numbers.
#[derive(Debug, Default)]
pub(super) struct RuleIndex {
    /// Rules that are always candidates, because they need nothing that the index knows.
    always: Vec<u32>,
    fields: Vec<FieldIndex>,
}

/// The rules that need something of one field.
#[derive(Debug, Default)]
struct FieldIndex {
    path: Box<[PathStep]>,
    texts: HashMap<Box<str>, Vec<u32>>,
    numbers: HashMap<NumberKey, Vec<u32>>,
    ranges: IntervalTree,
    prefixes: HashMap<Box<str>, Vec<u32>>,
    /// The lengths of prefixes, ascending.
    lengths: Vec<usize>,
    /// Texts that the field's text must contain, and the rules that need each.
    parts: Vec<(Box<str>, Vec<u32>)>,
    /// Finds all `parts` in one pass.
    finder: Option<AhoCorasick>,
    /// Rules that compare the field with numbers by equality.
    exact: Vec<u32>,
    /// Rules that fail if the field is no number.
    numeric: Vec<u32>,
    /// Rules that fail if the field is no text.
    textual: Vec<u32>,
    /// Rules that may fail with a reason if the field is missing.
    asked_if_missing: Vec<u32>,
    all: Vec<u32>,
}

impl RuleIndex {
    /// Builds the index from the rules and what they need. A rule with several needs is indexed by the one that it
    /// shares with the fewest rules.
    pub(super) fn new(rules: Vec<(u32, Vec<FieldNeed>)>) -> Self {
        let mut index = Self::default();
        let few = rules.len() < WORTH_IT;
        let sharing = sharing(&rules);
        for (rule, needs) in rules {
            let best = needs.into_iter().min_by_key(|need| cost(need, &sharing));
            match best {
                Some(need) if !few => index.field(&need.path).add(rule, need),
                _ => index.always.push(rule),
            }
        }
        for field in &mut index.fields {
            field.build();
        }
        index
    }

    fn field(&mut self, path: &[PathStep]) -> &mut FieldIndex {
        let at = self.fields.iter().position(|field| *field.path == *path).unwrap_or_else(|| {
            self.fields.push(FieldIndex { path: path.into(), ..FieldIndex::default() });
            self.fields.len() - 1
        });
        &mut self.fields[at]
    }

    /// Writes the rules that may concern a record with this value, in ascending order.
    pub(super) fn candidates(&self, value: Node<'_>, into: &mut Vec<u32>) {
        into.clear();
        into.extend_from_slice(&self.always);
        for field in &self.fields {
            field.candidates(value, into);
        }
        if !self.fields.is_empty() && into.len() > 1 {
            into.sort_unstable();
            into.dedup();
        }
    }
}

/// Texts of which a JSON object must contain at least one to concern any of these rules. `None` if some rule does not
/// require such a text as a field's value, or may fail for a record without it.
pub(super) fn required_texts(rules: &[(u32, Vec<FieldNeed>)]) -> Option<AhoCorasick> {
    let mut all: Vec<&str> = Vec::new();
    for (_, needs) in rules {
        let found = needs.iter().find_map(|need| match (&need.predicate, &*need.path) {
            (Predicate::Among { texts, numbers }, [PathStep::Name(_)])
                if need.false_if_missing && numbers.is_empty() && texts.iter().all(|text| findable(text)) =>
            {
                Some(texts)
            }
            _ => None,
        });
        all.extend(found?.iter().map(|text| &**text));
    }
    AhoCorasick::new(all).ok()
}

/// Whether a JSON text without escapes contains this text literally whenever a value equals it.
fn findable(text: &str) -> bool {
    !text.is_empty() && !text.contains(|it: char| it < ' ' || matches!(it, '"' | '\\'))
}

/// What a rule can be found by: a field, and the value that it must equal or contain.
#[derive(PartialEq, Eq, Hash)]
enum LookupKey {
    Text(Box<[PathStep]>, Box<str>),
    Number(Box<[PathStep]>, NumberKey),
    Range(Box<[PathStep]>),
}

fn lookup_keys(need: &FieldNeed) -> Vec<LookupKey> {
    let path = &need.path;
    let text = |text: &str| LookupKey::Text(path.clone(), text.into());
    match &need.predicate {
        Predicate::Among { texts, numbers } => {
            let numbers = numbers.iter().map(|number| LookupKey::Number(path.clone(), *number));
            texts.iter().map(|it| text(it)).chain(numbers).collect()
        }
        Predicate::Prefix(it) | Predicate::Contains(it) => vec![text(it)],
        Predicate::Within(..) => vec![LookupKey::Range(path.clone())],
    }
}

/// How many rules share each key.
fn sharing(rules: &[(u32, Vec<FieldNeed>)]) -> HashMap<LookupKey, usize> {
    let mut sharing = HashMap::new();
    for key in rules.iter().flat_map(|(_, needs)| needs).flat_map(lookup_keys) {
        *sharing.entry(key).or_insert(0) += 1;
    }
    sharing
}

/// Roughly how many rules are candidates whenever this one is, and how expensive it is to find them.
fn cost(need: &FieldNeed, sharing: &HashMap<LookupKey, usize>) -> (usize, usize) {
    let rules: usize = lookup_keys(need).iter().filter_map(|key| sharing.get(key)).sum();
    let finding = match need.predicate {
        Predicate::Among { .. } => 0,
        Predicate::Within(..) => 1,
        Predicate::Prefix(_) => 2,
        Predicate::Contains(_) => 3,
    };
    (rules, finding)
}

impl FieldIndex {
    fn add(&mut self, rule: u32, need: FieldNeed) {
        self.all.push(rule);
        if !need.false_if_missing {
            self.asked_if_missing.push(rule);
        }
        match need.predicate {
            Predicate::Among { texts, numbers } => {
                if !numbers.is_empty() {
                    self.exact.push(rule);
                }
                for text in texts {
                    self.texts.entry(text).or_default().push(rule);
                }
                for number in numbers {
                    self.numbers.entry(number).or_default().push(rule);
                }
            }
            Predicate::Prefix(prefix) => {
                self.textual.push(rule);
                self.lengths.push(prefix.len());
                self.prefixes.entry(prefix).or_default().push(rule);
            }
            Predicate::Contains(part) => {
                self.textual.push(rule);
                match self.parts.iter_mut().find(|(its, _)| *its == part) {
                    Some((_, rules)) => rules.push(rule),
                    None => self.parts.push((part, vec![rule])),
                }
            }
            Predicate::Within(from, to) => {
                self.numeric.push(rule);
                self.ranges.add(from, to, rule);
            }
        }
    }

    fn build(&mut self) {
        self.ranges.build();
        self.lengths.sort_unstable();
        self.lengths.dedup();
        if !self.parts.is_empty() {
            self.finder = AhoCorasick::new(self.parts.iter().map(|(part, _)| &**part)).ok();
        }
    }

    fn candidates(&self, value: Node<'_>, into: &mut Vec<u32>) {
        let value = match follow(value, &self.path) {
            Ok(value) => value.data(),
            Err(fault) => {
                let missing = fault.reason().is_none();
                into.extend_from_slice(if missing { &self.asked_if_missing } else { &self.all });
                return;
            }
        };
        match value {
            NodeData::Text(text) => {
                self.text(text, into);
                into.extend_from_slice(&self.numeric);
                return;
            }
            NodeData::Int(it) => {
                let rules = NumberKey::from_int(it).and_then(|number| self.numbers.get(&number));
                into.extend(rules.into_iter().flatten());
                self.ranges.find_containing(it as f64, into);
            }
            NodeData::Uint(it) => self.ranges.find_containing(it as f64, into),
            NodeData::Double(it) => {
                match NumberKey::from_double(it) {
                    Some(number) => into.extend(self.numbers.get(&number).into_iter().flatten()),
                    None => into.extend_from_slice(&self.exact),
                }
                self.ranges.find_containing(it, into);
            }
            NodeData::Null | NodeData::Bool(_) | NodeData::List(_) | NodeData::Map(_) => {
                into.extend_from_slice(&self.numeric);
            }
        }
        into.extend_from_slice(&self.textual);
    }

    fn text(&self, text: &str, into: &mut Vec<u32>) {
        if !self.texts.is_empty() {
            into.extend(self.texts.get(text).into_iter().flatten());
        }
        for length in &self.lengths {
            let Some(beginning) = text.get(..*length) else { continue };
            into.extend(self.prefixes.get(beginning).into_iter().flatten());
        }
        if self.parts.is_empty() {
            return;
        }
        match self.finder.as_ref().map(|finder| finder.try_find_overlapping_iter(text)) {
            Some(Ok(found)) => {
                for part in found.filter_map(|found| self.parts.get(found.pattern().as_usize())) {
                    into.extend_from_slice(&part.1);
                }
            }
            _ => into.extend_from_slice(&self.textual),
        }
    }
}
