//! A text that a regular expression takes apart: the named groups that took part are the record's fields, all texts.
//!
//! The expression is searched for, as RE2 and the `regex` crate read it, in time linear in the text; `^` and `$` bind it to the
//! whole. Never: a record of a text that it is not found in.

use regex::Regex;

use super::DecodeError;
use crate::document::{Document, View};
use crate::patterns::Patterns;

/// A compiled expression with the names of its groups.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
    /// Index and name.
    names: Vec<(usize, String)>,
}

/// Why a text is not such an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Not a regular expression, or one beyond a bound ([`crate::patterns`]).
    #[error("{0}")]
    Invalid(String),
    /// No group has a name.
    #[error("no group has a name, such as (?<level>[A-Z]+): a record would have no fields")]
    Nameless,
}

impl Pattern {
    /// Compiles an expression.
    pub fn compile(pattern: &str) -> Result<Self, PatternError> {
        let regex = Patterns::default().build(pattern).map_err(PatternError::Invalid)?;
        let names: Vec<_> = regex
            .capture_names()
            .enumerate()
            .filter_map(|(index, name)| Some((index, name?.to_owned())))
            .collect();
        if names.is_empty() {
            return Err(PatternError::Nameless);
        }
        Ok(Self { regex, names })
    }
}

/// Takes a text apart.
pub(super) fn decode<'d>(
    pattern: &Pattern,
    text: &'d str,
    into: &'d mut Document,
) -> Result<View<'d>, DecodeError> {
    let mut places = pattern.regex.capture_locations();
    if pattern.regex.captures_read(&mut places, text).is_none() {
        return Err(DecodeError::malformed("the pattern is not found in it"));
    }
    let mut builder = into.build();
    let mut map = builder.open_map();
    for (index, name) in &pattern.names {
        if let Some((start, end)) = places.get(*index) {
            builder.name(&mut map, name);
            builder.source_text(start, end - start);
        }
    }
    builder.close_map(&map, text);
    Ok(into.view(text))
}
