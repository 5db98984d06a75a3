//! Strict, bounded rendering of the texts of rules and channels, in a subset of MiniJinja.
//!
//! MiniJinja's parser reads a template; our own evaluator (`render`) renders it, since MiniJinja's counts instructions and not
//! what a filter or an operator touches (ADR 19).
//!
//! Invariants: an undefined value is an error, but may be asked for (`{% if group %}`, which an empty or missing value
//! answers with no). A template's source, its steps, its time, each value that it makes and its output are bounded
//! (`meter`); over a bound is an error that names it, and only a title or a rule's summary is cut, visibly. Plain texts are
//! not escaped; JSON is, unless marked `safe`. A caller that can't render says so with [`fallback`]. What the language has is
//! in `subset`. Never here: a file, another template, a clock (the caller lends one), or a panic on anybody's template or data.
#![warn(missing_docs)]

mod cache;
mod failures;
mod filters;
mod jinja_tests;
mod meter;
pub mod names;
mod render;
pub mod rule_texts;
mod subset;
mod syntax_errors;
mod tree;
mod value;

use std::sync::Arc;

use minijinja::machinery;
use serde::Serialize;

pub use cache::TemplateCache;
pub use failures::Failures;
pub use meter::{MAX_ITEMS, MAX_TEXT, STEPS, TimeCheck};
use meter::{Meter, Stop};
use render::{Escape, Renderer};
use tree::{Stmt, Tells, TreeBuilder};
use value::Value;

/// The longest source of a template, bytes.
pub const MAX_SOURCE: usize = 16 << 10;

/// A compiled template.
#[derive(Clone)]
pub struct Template {
    body: Arc<[Stmt]>,
    escape: Escape,
    weight: usize,
    tells: Tells,
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template").field("weight", &self.weight).finish_non_exhaustive()
    }
}

/// What a template speaks of. Made once for all texts of the same thing.
#[derive(Debug, Clone)]
pub struct TemplateData(Value);

impl TemplateData {
    /// Of a map, or of a structure with named fields. What is neither has no names.
    pub fn new(data: &impl Serialize) -> Self {
        Self(serde_json::to_value(data).map_or(Value::None, Value::from))
    }
}

/// Why a text is not a template. Line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TemplateError {
    /// From 1; none where the error has no place.
    pub line: Option<usize>,
    /// From 1, in characters; none where the error has no place.
    pub column: Option<usize>,
    /// In words.
    pub message: String,
}

impl std::fmt::Display for TemplateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}")?;
            if let Some(column) = self.column {
                write!(f, ", column {column}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)
    }
}

/// Why a template can't be rendered with some data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RenderError {
    /// In words, with the source of what failed, without the data's values.
    pub message: String,
    /// Where nothing but its length was wrong: what there was room for, with `…` at its end.
    pub cut: Option<String>,
}

impl RenderError {
    /// The text that was cut, if its length was all that was wrong.
    pub fn or_cut(self) -> Result<String, Self> {
        match self.cut {
            Some(text) => Ok(text),
            None => Err(self),
        }
    }
}

/// How large an output may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLimit {
    /// Bytes.
    pub bytes: usize,
}

impl OutputLimit {
    /// Of a title or subject: 1 KiB.
    pub const TITLE: Self = Self { bytes: 1 << 10 };
    /// Of a summary or body: 16 KiB.
    pub const TEXT: Self = Self { bytes: 16 << 10 };
}

impl Template {
    /// Compiles a template of plain text: nothing is escaped.
    pub fn compile(text: &str) -> Result<Self, TemplateError> {
        Self::new(text, Escape::No)
    }

    /// Compiles a template of JSON: values are escaped as parts of strings unless marked `safe`.
    pub fn compile_json(text: &str) -> Result<Self, TemplateError> {
        Self::new(text, Escape::Json)
    }

    #[allow(clippy::default_trait_access, reason = "MiniJinja gives the syntax's type no name")]
    fn new(text: &str, escape: Escape) -> Result<Self, TemplateError> {
        if text.len() > MAX_SOURCE {
            let message = format!("{} bytes long; at most {MAX_SOURCE}", text.len());
            return Err(TemplateError { line: None, column: None, message });
        }
        subset::check(text)?;
        let parsed = machinery::parse(text, "text", Default::default()).map_err(|error| {
            let (line, column) = place(text, &error);
            TemplateError { line, column, message: syntax_errors::in_words(&error, text) }
        })?;
        let mut builder = TreeBuilder::default();
        let body = builder.template(&parsed).map_err(|refused| {
            let (line, column) = position(text, refused.at);
            TemplateError { line: Some(line), column: Some(column), message: refused.message }
        })?;
        let (weight, tells) = (size_of::<Self>() + builder.weight, builder.tells);
        Ok(Self { body: body.into(), escape, weight, tells })
    }

    /// Renders. An undefined value, too many steps, too much time or too long an output is an error: the caller falls back.
    /// But a title that is too long is cut.
    pub fn render(
        &self,
        data: &TemplateData,
        limit: OutputLimit,
        time_check: TimeCheck<'_>,
    ) -> Result<String, RenderError> {
        let rendered = self.metered(data, limit, time_check).0;
        if limit == OutputLimit::TITLE { rendered.or_else(RenderError::or_cut) } else { rendered }
    }

    /// The same, and how many of [`STEPS`] it took.
    pub fn metered(
        &self,
        data: &TemplateData,
        limit: OutputLimit,
        time_check: TimeCheck<'_>,
    ) -> (Result<String, RenderError>, u64) {
        let failed = |stop: Stop| RenderError {
            message: stop.to_string(),
            cut: if let Stop::Full(_, text) = stop { Some(text) } else { None },
        };
        match Meter::new(time_check) {
            Ok(meter) => {
                let mut renderer = Renderer::new(meter, &data.0, limit.bytes, self.escape);
                let text = renderer.render(&self.body).map_err(failed);
                (text, renderer.meter.used())
            }
            Err(stop) => (Err(failed(stop)), 0),
        }
    }

    /// Whether it says itself that a message is of this kind: of one that is over by `kind`, `status` or `endsAt`; of a
    /// `repeat`, or one that was `closed`, by writing the word or asking for it.
    pub fn tells_apart(&self, kind: &str) -> bool {
        match kind {
            "repeat" => self.tells.repeat,
            "closed" => self.tells.closed,
            _ => self.tells.over,
        }
    }

    /// Bytes that it takes, about.
    pub fn weight(&self) -> usize {
        self.weight
    }
}

/// The text that stands in for one that could not be rendered: `<context>: <what> template failed: <error>`, as in
/// `payment-errors (service=pay): title template failed: undefined value "record.foo"`.
pub fn fallback(what: &str, context: &str, error: &RenderError) -> String {
    format!("{context}: {what} template failed: {error}")
}

/// Line and column of a byte offset, from 1, the column in characters.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = 1 + before.matches('\n').count();
    let column = 1 + before.chars().rev().take_while(|it| *it != '\n').count();
    (line, column)
}

fn place(text: &str, error: &minijinja::Error) -> (Option<usize>, Option<usize>) {
    match error.range() {
        Some(range) => {
            let (line, column) = position(text, range.start);
            (Some(line), Some(column))
        }
        None => (error.line(), None),
    }
}

#[cfg(test)]
mod tests;
