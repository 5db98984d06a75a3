//! Collects what is wrong with a spec, and in which rule; at most 50 problems.

use crate::spec::RecurrenceError;

/// The most problems that are kept.
const MAX_FAULTS: usize = 50;

/// Something that is wrong with a [`crate::RecurrenceSpec`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecProblem {
    /// The rule concerned, if it is a rule.
    pub rule: Option<WhichRule>,
    /// What is wrong.
    pub error: RecurrenceError,
}

/// A rule of a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichRule {
    /// A rule by index: 0 is `rule`, then come `more_rules`.
    Rule(usize),
    /// One of `except_rules`, by index.
    Except(usize),
}

/// Collects problems.
#[derive(Debug, Default)]
pub(crate) struct SpecProblems(Vec<SpecProblem>);

impl SpecProblems {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn add(&mut self, error: RecurrenceError) {
        self.push(SpecProblem { rule: None, error });
    }

    /// The checked value; `None` if it is wrong.
    pub(crate) fn take<T>(&mut self, checked: Result<T, RecurrenceError>) -> Option<T> {
        checked.map_err(|error| self.add(error)).ok()
    }

    /// The same for a value of a rule.
    pub(crate) fn take_for_rule<T>(
        &mut self,
        rule: WhichRule,
        checked: Result<T, RecurrenceError>,
    ) -> Option<T> {
        checked.map_err(|error| self.push(SpecProblem { rule: Some(rule), error })).ok()
    }

    pub(crate) fn into_result<T>(self, checked: T) -> Result<T, Vec<SpecProblem>> {
        if self.0.is_empty() { Ok(checked) } else { Err(self.0) }
    }

    fn push(&mut self, misfit: SpecProblem) {
        if self.0.len() < MAX_FAULTS {
            self.0.push(misfit);
        }
    }
}
