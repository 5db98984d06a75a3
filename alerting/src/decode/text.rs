//! Plain text: the regular expression's named groups that took part in the match are the record's fields, all of them
//! texts.
//!
//! The expression may match anywhere in the text, with the syntax of RE2 and of the `regex` crate, in time linear in
//! the text; `^` and `$` anchor it. A text is refused if the pattern does not match, or if searching it would take more
//! steps than allowed ([`crate::patterns`]). Longer texts are accepted if the pattern takes one step for each byte.

use std::sync::Arc;

use regex_automata::dfa::onepass;

use super::{DecodeError, DecodeReason};
use crate::document::{Document, DocumentView};
use crate::patterns::{self, MeasuredRegex};

/// A compiled expression and the names of its groups.
#[derive(Debug, Clone)]
pub struct Pattern {
    measured: Arc<MeasuredRegex>,
    /// Reads texts that are too long for `measured`; `None` if the pattern does not allow it.
    one_pass: Option<Arc<onepass::DFA>>,
    /// Group index and name.
    names: Vec<(usize, String)>,
}

/// Why a pattern is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Not a regular expression, or beyond a bound of [`crate::patterns`].
    #[error("{0}")]
    Invalid(String),
    /// No group has a name.
    #[error("no group has a name, such as (?<level>[A-Z]+): a record would have no fields")]
    Nameless,
}

impl Pattern {
    /// Compiles an expression.
    pub fn compile(pattern: &str) -> Result<Self, PatternError> {
        let measured = patterns::compile_capturing(pattern).map_err(PatternError::Invalid)?;
        let names: Vec<_> = measured
            .regex
            .capture_names()
            .enumerate()
            .filter_map(|(index, name)| Some((index, name?.to_owned())))
            .collect();
        if names.is_empty() {
            return Err(PatternError::Nameless);
        }
        let one_pass = measured.one_pass().map(Arc::new);
        Ok(Self { measured, one_pass, names })
    }
}

/// Decodes one line.
pub(super) fn decode<'d>(
    pattern: &Pattern,
    text: &'d str,
    into: &'d mut Document,
) -> Result<DocumentView<'d>, DecodeError> {
    let not_found = || DecodeError::malformed("the pattern is not found in it");
    let longest = pattern.measured.longest();
    if text.len() > longest {
        let Some(engine) = &pattern.one_pass else {
            let message = format!(
                "{} bytes; by this pattern at most {longest} are taken apart: let it begin with ^, and each byte decide how it goes on",
                text.len()
            );
            return Err(DecodeError { reason: DecodeReason::TooLarge, message });
        };
        let spans = patterns::group_spans(engine, text).ok_or_else(not_found)?;
        return Ok(fields(pattern, text, into, |index| spans.get(index).copied().flatten()));
    }
    let regex = &pattern.measured.regex;
    let mut spans = regex.capture_locations();
    regex.captures_read(&mut spans, text).ok_or_else(not_found)?;
    Ok(fields(pattern, text, into, |index| spans.get(index)))
}

fn fields<'d>(
    pattern: &Pattern,
    text: &'d str,
    into: &'d mut Document,
    span: impl Fn(usize) -> Option<(usize, usize)>,
) -> DocumentView<'d> {
    let mut builder = into.build();
    let mut map = builder.open_map();
    for (index, name) in &pattern.names {
        if let Some((start, end)) = span(*index) {
            builder.name(&mut map, name);
            builder.source_text(start, end - start);
        }
    }
    builder.close_map(&map, text);
    into.view(text)
}
