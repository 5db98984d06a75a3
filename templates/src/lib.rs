//! Strict, bounded rendering of the texts of rules and channels, in a subset of MiniJinja.
//!
//! MiniJinja's parser reads a template; our own evaluator (`render`) renders it, because MiniJinja's counts
//! instructions and not what a filter or an operator touches (ADR 19).
//!
//! Invariants: using an undefined value is an error, but a template may ask whether there is one (`{% if group %}` is
//! false for an empty or missing value). A template's source, its steps, its time, each value that it builds and its
//! output are bounded (`meter`). Exceeding a bound is an error that names it; only a title or a rule's summary is cut,
//! visibly. Plain text is not escaped; JSON is, unless marked `safe`. A caller that can't render says so with
//! [`fallback`]. `subset` defines the language. Rendering reads no file, includes no other template, uses only the time
//! check that the caller lends, and does not panic on any template or data.
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
use render::{Escape, TemplateRenderer};
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

/// The data of a template. Built once for all texts about the same thing.
#[derive(Debug, Clone)]
pub struct TemplateData(Value);

impl TemplateData {
    /// Converts a map, or a struct with named fields. Anything else has no names.
    pub fn new(data: &impl Serialize) -> Self {
        Self(serde_json::to_value(data).map_or(Value::None, Value::from))
    }
}

/// Why a text is not a template. Line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TemplateError {
    /// Counted from 1; `None` if the error has no place.
    pub line: Option<usize>,
    /// Counted from 1, in characters; `None` if the error has no place.
    pub column: Option<usize>,
    /// What is wrong, in words.
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
    /// What is wrong, in words, with the source of what failed and without the data's values.
    pub message: String,
    /// If only its length was wrong: as much of the output as fits, with `…` at its end.
    pub cut: Option<String>,
}

impl RenderError {
    /// The cut text, if the length was all that was wrong.
    pub fn or_cut(self) -> Result<String, Self> {
        match self.cut {
            Some(text) => Ok(text),
            None => Err(self),
        }
    }
}

/// The largest output of a rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLimit {
    /// Bytes.
    pub bytes: usize,
}

impl OutputLimit {
    /// For a title or subject: 1 KiB.
    pub const TITLE: Self = Self { bytes: 1 << 10 };
    /// For a summary or body: 16 KiB.
    pub const TEXT: Self = Self { bytes: 16 << 10 };
}

impl Template {
    /// Compiles a template of plain text; nothing is escaped.
    pub fn compile(text: &str) -> Result<Self, TemplateError> {
        Self::new(text, Escape::No)
    }

    /// Compiles a template of JSON; values are escaped as parts of strings unless marked `safe`.
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
            let (line, column) = error_position(text, &error);
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

    /// Renders the template. Fails for an undefined value, too many steps, too much time or too long an output; then
    /// the caller falls back. A title that is too long is cut instead.
    pub fn render(
        &self,
        data: &TemplateData,
        limit: OutputLimit,
        time_check: TimeCheck<'_>,
    ) -> Result<String, RenderError> {
        let rendered = self.metered(data, limit, time_check).0;
        if limit == OutputLimit::TITLE { rendered.or_else(RenderError::or_cut) } else { rendered }
    }

    /// Like [`Template::render`], without cutting a title; also returns how many of [`STEPS`] it took.
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
                let mut renderer = TemplateRenderer::new(meter, &data.0, limit.bytes, self.escape);
                let text = renderer.render(&self.body).map_err(failed);
                (text, renderer.meter.used())
            }
            Err(stop) => (Err(failed(stop)), 0),
        }
    }

    /// Whether the text itself tells a message of this kind from the alert's first one. A resolved alert: by using
    /// `kind`, `status` or `endsAt`. A `repeat`, or an alert that was `closed`: by writing `kind` (or `status`, for
    /// `closed`), or by containing that word in a string.
    pub fn tells_apart(&self, kind: &str) -> bool {
        match kind {
            "repeat" => self.tells.repeat,
            "closed" => self.tells.closed,
            _ => self.tells.over,
        }
    }

    /// The approximate size of the template, bytes.
    pub fn weight(&self) -> usize {
        self.weight
    }
}

/// The text that replaces one that could not be rendered: `<context>: <what> template failed: <error>`, as in
/// `payment-errors (service=pay): title template failed: undefined value "record.foo"`.
pub fn fallback(what: &str, context: &str, error: &RenderError) -> String {
    format!("{context}: {what} template failed: {error}")
}

/// Line and column of a byte offset, counted from 1, the column in characters.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = 1 + before.matches('\n').count();
    let column = 1 + before.chars().rev().take_while(|it| *it != '\n').count();
    (line, column)
}

fn error_position(text: &str, error: &minijinja::Error) -> (Option<usize>, Option<usize>) {
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
