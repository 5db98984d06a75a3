//! Which rules of a topic a record may concern, found by the values of a few fields.
//!
//! Invariant: a rule that is passed over is false for the record, and would have failed with no reason. Never: a rule's
//! answer; who is a candidate is still asked.

use hashbrown::HashMap;

use crate::document::{Data, Node};
use crate::matching::need::{Condition, Need, Number};
use crate::matching::program::{Step, follow};

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
    /// By their least number, ascending.
    at_least: Vec<(f64, u32)>,
    /// By their greatest number, descending.
    at_most: Vec<(f64, u32)>,
    prefixes: HashMap<Box<str>, Vec<u32>>,
    /// The lengths of prefixes, ascending.
    lengths: Vec<usize>,
    /// Rules that compare numbers exactly.
    exact: Vec<u32>,
    /// Rules to which a text is an error.
    ranged: Vec<u32>,
    /// Rules to which anything but a text is an error.
    prefixed: Vec<u32>,
    /// Rules that may have something to say where the field is not there.
    loud: Vec<u32>,
    all: Vec<u32>,
}

impl Index {
    /// An index over rules and what they need.
    pub(super) fn new(rules: Vec<(u32, Option<Need>)>) -> Self {
        let mut index = Self::default();
        let few = rules.len() < WORTH_IT;
        for (rule, need) in rules {
            match need {
                Some(need) if !few => index.field(&need.path).add(rule, need),
                _ => index.always.push(rule),
            }
        }
        for field in &mut index.fields {
            field.at_least.sort_by(|a, b| a.0.total_cmp(&b.0));
            field.at_most.sort_by(|a, b| b.0.total_cmp(&a.0));
            field.lengths.sort_unstable();
            field.lengths.dedup();
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
        }
    }
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
                    once(self.texts.entry(text).or_default(), rule);
                }
                for number in numbers {
                    once(self.numbers.entry(number).or_default(), rule);
                }
            }
            Condition::Prefix(prefix) => {
                self.prefixed.push(rule);
                self.lengths.push(prefix.len());
                self.prefixes.entry(prefix).or_default().push(rule);
            }
            Condition::AtLeast(least) => {
                self.ranged.push(rule);
                self.at_least.push((least, rule));
            }
            Condition::AtMost(most) => {
                self.ranged.push(rule);
                self.at_most.push((most, rule));
            }
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
                into.extend(self.texts.get(text).into_iter().flatten());
                into.extend_from_slice(&self.ranged);
                for length in &self.lengths {
                    let Some(beginning) = text.get(..*length) else { continue };
                    into.extend(self.prefixes.get(beginning).into_iter().flatten());
                }
                return;
            }
            Data::Int(it) => {
                let rules = Number::of_int(it).and_then(|number| self.numbers.get(&number));
                into.extend(rules.into_iter().flatten());
                self.range(it as f64, into);
            }
            Data::Uint(it) => self.range(it as f64, into),
            Data::Double(it) => {
                match Number::of_double(it) {
                    Some(number) => into.extend(self.numbers.get(&number).into_iter().flatten()),
                    None => into.extend_from_slice(&self.exact),
                }
                self.range(it, into);
            }
            Data::Null | Data::Bool(_) | Data::List(_) | Data::Map(_) => into.extend_from_slice(&self.ranged),
        }
        into.extend_from_slice(&self.prefixed);
    }

    fn range(&self, value: f64, into: &mut Vec<u32>) {
        let least = self.at_least.partition_point(|(least, _)| *least <= value);
        into.extend(self.at_least.iter().take(least).map(|(_, rule)| *rule));
        let most = self.at_most.partition_point(|(most, _)| *most >= value);
        into.extend(self.at_most.iter().take(most).map(|(_, rule)| *rule));
    }
}

fn once(rules: &mut Vec<u32>, rule: u32) {
    if rules.last() != Some(&rule) {
        rules.push(rule);
    }
}
