//! `match`: a CEL expression over one record.

use crate::{reason::DropReason, record::Record};

/// A compiled `match` expression.
#[derive(Debug)]
pub struct Matcher {}

/// Why an expression can't be used, and where. Line and column count from 1, in characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct CompileError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// In words.
    pub message: String,
}

/// Why `match` has no answer for a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", reason.name())]
pub struct MatchFailure {
    /// Why.
    pub reason: DropReason,
    /// In words.
    pub message: String,
}

impl Matcher {
    /// Compiles an expression.
    pub fn compile(expression: &str) -> Result<Self, CompileError> {
        let _ = expression;
        Ok(Self {})
    }

    /// Whether the record matches. A field that is not there makes it false.
    pub fn matches(&self, record: &Record<'_>) -> Result<bool, MatchFailure> {
        let _ = record;
        Ok(false)
    }
}
