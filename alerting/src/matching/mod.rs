//! `match`: a CEL expression over one record.
//!
//! Invariants: a missing field makes the match false, never an error; wrong types are a [`MatchFailure`], which is no
//! match. The cost of one record is bounded: an expression has at most [`MAX_LENGTH`] bytes and [`MAX_OPERATORS`]
//! operators, comprehensions are nested at most [`MAX_NESTING`] deep and take at most [`MAX_STEPS`] steps, and patterns
//! are literals that run in linear time. No expression or record causes a panic or a deep recursion, and no message
//! contains a record's content.
//!
//! What functions read of texts is bounded by [`MAX_READ`]; inside macros, what comparisons read counts too.
//!
//! The variables are `record` (the decoded value), `key` (a string, or null), `headers` (a map of strings; of equal
//! names the last one counts; null where a value is not UTF-8), `topic`, `partition` and `timestamp`.
//!
//! Besides the standard there are the extensions for strings and math, optionals, macros with two variables, `cel.bind`
//! and names in backticks (docs/cel.md). The `cel` crate parses an expression; then it is checked, compiled to a
//! program of our own, and evaluated on the record's document. The answers are the same as those of that crate's
//! interpreter, which the tests ask too, except:
//!
//! - an integer and a double compare exactly, not as the nearest doubles;
//! - `+` of a list and a map is [`DropReason::MatchWrongType`], not a list with the map's keys;
//! - `duration("1h and more")`, `duration("1e3s")`: anything that is not part of a duration is an error, not ignored;
//! - time zone names ignore case, and a timestamp with second 60 is refused;
//! - within a day of the end of year 9999, a zone in which it is already 10000 shows 9999-12-31;
//! - a match that builds values of more than [`MAX_MEMORY`] bytes is too costly.

mod calls;
mod check;
mod compile;
mod eval;
mod fast_path;
pub(crate) mod fault;
mod foreign_syntax;
mod functions;
mod macros;
mod math;
pub(crate) mod need;
pub(crate) mod program;
mod strings;
mod time;
mod unclosed;
mod value;

use std::fmt;

use bumpalo::Bump;
use cel::{ParseErrors, parser::Parser};

use crate::record::Record;
use domain::DropReason;
use fault::EvalFault;
use program::ExprNode;

/// The longest expression, bytes.
pub const MAX_LENGTH: usize = 4096;
/// The most operators (`+`, `==`, `!`, `.`, `[` ..., but not `&&` and `||`) in an expression: longer chains would
/// recurse too deep.
pub const MAX_OPERATORS: usize = 512;
/// How deep comprehensions (`exists`, `all`, `map` ...) may be nested.
pub const MAX_NESTING: usize = 2;
/// The most steps that the comprehensions of one expression take for one record.
pub const MAX_STEPS: u32 = 100_000;
/// How deep parentheses, lists and calls may be nested.
const MAX_DEPTH: u16 = 40;

/// The variables of an expression.
pub const VARIABLES: [&str; 6] = ["record", "key", "headers", "topic", "partition", "timestamp"];

/// The most bytes that evaluating one expression for one record allocates.
pub const MAX_MEMORY: usize = 64 << 20;

/// The most bytes of texts that the functions of one expression read for one record.
pub const MAX_READ: usize = 256 << 20;
/// The most bytes that computing a constant part allocates.
const MAX_CONSTANT: usize = 256 << 10;

/// A compiled `match` expression.
#[derive(Debug)]
pub struct Matcher {
    program: ExprNode,
}

/// The memory in which expressions build values that are not in the record as they are; reused for the next record.
#[derive(Debug, Default)]
pub struct Memory(Bump);

impl Memory {
    /// Discards all values, and frees what one large record took.
    pub fn clear(&mut self) {
        if self.0.allocated_bytes() > 1 << 20 {
            self.0 = Bump::new();
        } else {
            self.0.reset();
        }
    }
}

/// Why an expression is refused, and where. Line and column count from 1, in characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct CompileError {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong, in words.
    pub message: String,
}

/// Why `match` has no answer for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatchFailure {
    /// Why.
    pub reason: DropReason,
    fault: EvalFault,
}

impl MatchFailure {
    /// What failed, by types: "`>=` does not take int and string". Without the record's content.
    pub fn detail(&self) -> String {
        self.fault.to_string()
    }
}

/// In words, without the record's content.
impl fmt::Display for MatchFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.name(), self.fault)
    }
}

impl std::error::Error for MatchFailure {}

impl Matcher {
    /// Compiles an expression. The error is the first of [`Self::check`].
    pub fn compile(expression: &str) -> Result<Self, CompileError> {
        Self::compile_or_all(expression)
            .map_err(|all| all.into_iter().next().unwrap_or_else(|| at_once("not an expression")))
    }

    /// Returns all that is wrong with an expression, without faults that follow from others: unknown names and
    /// functions, patterns, bounds; or where it does not parse.
    pub fn check(expression: &str) -> Vec<CompileError> {
        Self::compile_or_all(expression).err().unwrap_or_default()
    }

    fn compile_or_all(expression: &str) -> Result<Self, Vec<CompileError>> {
        check::check_size(expression).map_err(|error| vec![error])?;
        let (expression, source) = Parser::new()
            .enable_optional_syntax(true)
            .enable_ident_escape_syntax(true)
            .max_recursion_depth(MAX_DEPTH)
            .parse_with_source_info(expression)
            .map_err(|errors| syntax_errors(expression, &errors))?;
        let patterns = check::check_program(&expression, &source)?;
        Ok(Self { program: compile::compile(&expression, &patterns) })
    }

    /// The conditions on single fields without which the expression is false.
    pub(crate) fn needs(&self) -> Vec<need::FieldNeed> {
        need::field_needs(&self.program)
    }

    /// Whether the record matches. A missing field makes it false.
    pub fn matches(&self, record: &Record<'_>) -> Result<bool, MatchFailure> {
        self.matches_in(record, &Memory::default())
    }

    /// Like [`Matcher::matches`], with memory that the caller reuses.
    pub fn matches_in(&self, record: &Record<'_>, memory: &Memory) -> Result<bool, MatchFailure> {
        match eval::evaluate(&self.program, record, &memory.0) {
            Ok(answer) => Ok(answer),
            Err(fault) => match fault.reason() {
                None => Ok(false),
                Some(reason) => Err(MatchFailure { reason, fault }),
            },
        }
    }
}

fn at_once(message: &str) -> CompileError {
    CompileError { line: 1, column: 1, message: message.to_owned() }
}

/// Each use of another language's syntax; if there is none, the first thing that the parser did not expect. What the
/// parser says after that is often a consequence of it.
fn syntax_errors(expression: &str, errors: &ParseErrors) -> Vec<CompileError> {
    let is_closed = unclosed::string(expression).is_none();
    let is_deep = errors.errors.iter().any(|error| error.msg.contains("Recursion limit"));
    let slips = if is_closed && !is_deep { foreign_syntax::find_all(expression) } else { Vec::new() };
    if slips.is_empty() { vec![syntax_error(expression, errors)] } else { slips }
}

fn syntax_error(expression: &str, errors: &ParseErrors) -> CompileError {
    let Some(error) = errors.errors.first() else { return at_once("not an expression") };
    if let Some((line, column, quote)) = unclosed::string(expression) {
        return CompileError { line, column, message: format!("a string isn't closed: {quote} is missing") };
    }
    let from_one = |at: isize| usize::try_from(at).unwrap_or(1).max(1);
    let message = if error.msg.contains("Recursion limit") {
        format!("nested too deep; at most {MAX_DEPTH} levels")
    } else if expression.trim().is_empty() {
        "an expression is missing".to_owned()
    } else {
        let message = error.msg.strip_prefix("Syntax error: ").unwrap_or(&error.msg);
        // The rest of the message lists all tokens of the grammar.
        in_words(message.split(" expecting ").next().unwrap_or(message)).chars().take(200).collect()
    };
    CompileError { line: from_one(error.pos.0), column: from_one(error.pos.1), message }
}

/// Rewrites a parser's message in plain words.
fn in_words(message: &str) -> String {
    if message.contains("'<EOF>'") {
        return "end of the expression, but something is missing".to_owned();
    }
    let unexpected = [
        "token recognition error at: ",
        "mismatched input ",
        "extraneous input ",
        "no viable alternative at input ",
    ];
    let Some(found) = unexpected.iter().find_map(|words| message.strip_prefix(words)) else {
        return message.to_owned();
    };
    let found = found.trim_matches('\'').trim();
    format!("`{found}` is not expected here")
}

#[cfg(test)]
mod tests;
