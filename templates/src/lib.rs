//! Strict, bounded rendering of texts.
#![warn(missing_docs)]

use std::collections::BTreeSet;

use serde::Serialize;

/// A compiled template.
#[derive(Debug, Clone)]
pub struct Template {
    env: minijinja::Environment<'static>,
}

/// Why a text is not a template. Line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TemplateError {
    /// From 1; none where the error has no place.
    pub line: Option<usize>,
    /// From 1, in characters.
    pub column: Option<usize>,
    /// In words.
    pub message: String,
}

impl std::fmt::Display for TemplateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// Why a template can't be rendered with some data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RenderError {
    /// In words.
    pub message: String,
}

/// How large an output may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes.
    pub output: usize,
}

impl Limits {
    /// Of a title or subject: 1 KiB.
    pub const TITLE: Self = Self { output: 1 << 10 };
    /// Of a summary or body: 16 KiB.
    pub const TEXT: Self = Self { output: 16 << 10 };
}

impl Template {
    /// Compiles a template of plain text: nothing is escaped.
    pub fn compile(name: &str, text: &str) -> Result<Self, TemplateError> {
        let _ = (name, text);
        todo!()
    }

    /// Compiles a template of HTML: values are escaped unless marked `safe`.
    pub fn compile_html(name: &str, text: &str) -> Result<Self, TemplateError> {
        let _ = (name, text);
        todo!()
    }

    /// Renders. An undefined value, too much work or too long an output is an error: the caller falls back.
    pub fn render(&self, data: &impl Serialize, limits: Limits) -> Result<String, RenderError> {
        let _ = (data, limits, &self.env);
        todo!()
    }

    /// The variables that it uses, with their attributes where they are plain: `count`, `record.message`.
    pub fn variables(&self) -> BTreeSet<String> {
        todo!()
    }
}

/// The text that stands in for one that could not be rendered: `<context>: <what> template failed: <error>`.
pub fn fallback(what: &str, context: &str, error: &RenderError) -> String {
    format!("{context}: {what} template failed: {error}")
}
