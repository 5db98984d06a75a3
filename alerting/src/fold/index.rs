//! Which rules of a topic a record may concern, found by the values of a few fields.
//!
//! Invariant: a rule that is passed over is false for the record, and would have failed with no reason. Never: a rule's
//! answer; who is a candidate is still asked.

use aho_corasick::AhoCorasick;
use hashbrown::HashMap;

use crate::document::{Data, Node};
use crate::matching::need::{Condition, Need, Number};
use crate::matching::program::{Step, follow};

use super::ranges::Ranges;

/// With fewer rules than this each is asked.
const WORTH_IT: usize = 4;

/// An index over some rules, which it knows by numbers.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Rules of which nothing is known.
    always: Vec<u32>,
    fields: Vec<Field>,
}

/// The rules that need something of one field.
#[derive(Debug, Default)]
struct Field {
    path: Box<[Step]>,
    texts: HashMap<Box<str>, Vec<u32>>,
    numbers: HashMap<Number, Vec<u32>>,
    ranges: Ranges,
    prefixes: HashMap<Box<str>, Vec<u32>>,
    /// The lengths of prefixes, ascending.
    lengths: Vec<usize>,
    /// Texts of which one must be contained, and the rules of each.
    parts: Vec<(Box<str>, Vec<u32>)>,
    /// Finds them all in one pass.
    finder: Option<AhoCorasick>,
    /// Rules that compare numbers exactly.
    exact: Vec<u32>,
    /// Rules to which a text is an error.
    numeric: Vec<u32>,
    /// Rules to which anything but a text is an error.
    textual: Vec<u32>,
    /// Rules that may have something to say where the field is not there.
    loud: Vec<u32>,
    all: Vec<u32>,
}

impl Index {
    /// An index over rules and what they need. Of several needs of a rule the one counts that it shares with the fewest.
    pub(super) fn new(rules: Vec<(u32, Vec<Need>)>) -> Self {
        let mut index = Self::default();
        let few = rules.len() < WORTH_IT;
        let shared = shared(&rules);
        for (rule, needs) in rules {
            let best = needs.into_iter().min_by_key(|need| cost(need, &shared));
            match best {
                Some(need) if !few => index.field(&need.path).add(rule, need),
                _ => index.always.push(rule),
            }
        }
        for field in &mut index.fields {
            field.settle();
        }
        index
    }

    fn field(&mut self, path: &[Step]) -> &mut Field {
        let at = self.fields.iter().position(|field| *field.path == *path).unwrap_or_else(|| {
            self.fields.push(Field { path: path.into(), ..Field::default() });
            self.fields.len() - 1
        });
        &mut self.fields[at]
    }

    /// Writes the rules that may concern a record of this value, in their order.
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

/// Texts of which a record must have one to concern any of these rules, if it is an object: each rule needs one of its own
/// as a field's value. None where a rule may be found otherwise, or is never passed over silently.
pub(super) fn texts(rules: &[(u32, Vec<Need>)]) -> Option<AhoCorasick> {
    let mut all: Vec<&str> = Vec::new();
    for (_, needs) in rules {
        let found = needs.iter().find_map(|need| match (&need.condition, &*need.path) {
            (Condition::Among { texts, numbers }, [Step::Name(_)])
                if need.quiet && numbers.is_empty() && texts.iter().all(|text| findable(text)) =>
            {
                Some(texts)
            }
            _ => None,
        });
        all.extend(found?.iter().map(|text| &**text));
    }
    AhoCorasick::new(all).ok()
}

/// Whether a JSON text without escapes has it as it is.
fn findable(text: &str) -> bool {
    !text.is_empty() && !text.contains(|it: char| it < ' ' || matches!(it, '"' | '\\'))
}

/// What a rule is found by: a field and the value that it must have or contain.
#[derive(PartialEq, Eq, Hash)]
enum Mark {
    Text(Box<[Step]>, Box<str>),
    Number(Box<[Step]>, Number),
    Range(Box<[Step]>),
}

fn marks(need: &Need) -> Vec<Mark> {
    let path = &need.path;
    let text = |text: &str| Mark::Text(path.clone(), text.into());
    match &need.condition {
        Condition::Among { texts, numbers } => {
            let numbers = numbers.iter().map(|number| Mark::Number(path.clone(), *number));
            texts.iter().map(|it| text(it)).chain(numbers).collect()
        }
        Condition::Prefix(it) | Condition::Contains(it) => vec![text(it)],
        Condition::Within(..) => vec![Mark::Range(path.clone())],
    }
}

/// How many rules can be found by each mark.
fn shared(rules: &[(u32, Vec<Need>)]) -> HashMap<Mark, usize> {
    let mut shared = HashMap::new();
    for mark in rules.iter().flat_map(|(_, needs)| needs).flat_map(marks) {
        *shared.entry(mark).or_insert(0) += 1;
    }
    shared
}

/// About how many rules are asked where this one is, and how dear it is to find them.
fn cost(need: &Need, shared: &HashMap<Mark, usize>) -> (usize, usize) {
    let rules: usize = marks(need).iter().filter_map(|mark| shared.get(mark)).sum();
    let finding = match need.condition {
        Condition::Among { .. } => 0,
        Condition::Within(..) => 1,
        Condition::Prefix(_) => 2,
        Condition::Contains(_) => 3,
    };
    (rules, finding)
}

impl Field {
    fn add(&mut self, rule: u32, need: Need) {
        self.all.push(rule);
        if !need.quiet {
            self.loud.push(rule);
        }
        match need.condition {
            Condition::Among { texts, numbers } => {
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
            Condition::Prefix(prefix) => {
                self.textual.push(rule);
                self.lengths.push(prefix.len());
                self.prefixes.entry(prefix).or_default().push(rule);
            }
            Condition::Contains(part) => {
                self.textual.push(rule);
                match self.parts.iter_mut().find(|(its, _)| *its == part) {
                    Some((_, rules)) => rules.push(rule),
                    None => self.parts.push((part, vec![rule])),
                }
            }
            Condition::Within(from, to) => {
                self.numeric.push(rule);
                self.ranges.add(from, to, rule);
            }
        }
    }

    fn settle(&mut self) {
        self.ranges.settle();
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
                into.extend_from_slice(if missing { &self.loud } else { &self.all });
                return;
            }
        };
        match value {
            Data::Text(text) => {
                self.text(text, into);
                into.extend_from_slice(&self.numeric);
                return;
            }
            Data::Int(it) => {
                let rules = Number::of_int(it).and_then(|number| self.numbers.get(&number));
                into.extend(rules.into_iter().flatten());
                self.ranges.holding(it as f64, into);
            }
            Data::Uint(it) => self.ranges.holding(it as f64, into),
            Data::Double(it) => {
                match Number::of_double(it) {
                    Some(number) => into.extend(self.numbers.get(&number).into_iter().flatten()),
                    None => into.extend_from_slice(&self.exact),
                }
                self.ranges.holding(it, into);
            }
            Data::Null | Data::Bool(_) | Data::List(_) | Data::Map(_) => {
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
