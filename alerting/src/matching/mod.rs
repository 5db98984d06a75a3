//! `match`: a CEL expression over one record.
//!
//! Invariants: a field that is not there makes the match false, never an error; wrong types are a [`MatchFailure`], which
//! is no match. The cost of one record is bounded: an expression has at most [`MAX_LENGTH`] bytes and
//! [`MAX_OPERATORS`] operators, comprehensions are nested at most [`MAX_NESTING`] deep and take at most [`MAX_STEPS`]
//! steps, and patterns are literals that run in linear time. Never: a panic or a deep recursion on anybody's expression
//! or record, or a record's content in a message.
//!
//! The variables are `record` (the decoded value), `key` (a string, or null), `headers` (a map of strings; of those with
//! the same name the last; null where a value is not UTF-8), `topic`, `partition` and `timestamp`.

mod check;
mod values;

use std::sync::{
    Arc, LazyLock, OnceLock,
    atomic::{AtomicU32, Ordering},
};

use cel::{
    Context, Env, ExecutionError, ParseErrors, Value,
    common::{
        ast::IdedExpr,
        types::CelBool,
        value::{CowVal, Val},
    },
    context::VariableResolver,
};

use crate::{reason::DropReason, record::Record};
use check::{REGEX_PREFIX, TICK};
use values::CompiledRegex;

/// The longest expression, bytes.
pub const MAX_LENGTH: usize = 4096;
/// The most operators (`+`, `==`, `!`, `.`, `[` ..., but not `&&` and `||`) in an expression: longer chains recurse too deep.
pub const MAX_OPERATORS: usize = 512;
/// How deep comprehensions (`exists`, `all`, `map` ...) may be nested.
pub const MAX_NESTING: usize = 2;
/// The most steps that the comprehensions of one expression take for one record.
pub const MAX_STEPS: u32 = 100_000;
/// How deep parentheses, lists and calls may be nested.
const MAX_DEPTH: u16 = 40;

/// The variables of an expression.
pub const VARIABLES: [&str; 6] = ["record", "key", "headers", "topic", "partition", "timestamp"];

/// The standard library, and `matches` with a compiled pattern; built once.
static ROOT: LazyLock<Context<'static, 'static>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    values::declare(&mut env);
    Context::with_env(Arc::new(env))
});

/// A compiled `match` expression.
#[derive(Debug)]
pub struct Matcher {
    expression: IdedExpr,
    regexes: Vec<CompiledRegex>,
    /// The expression looks at maps and lists as a whole, so they are converted as a whole.
    whole: bool,
}

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
    /// In words, without the record's content.
    pub message: String,
}

/// A record's values as CEL sees them, made when first asked for and shared by all expressions that look at the record.
#[derive(Debug)]
pub struct Scope<'r> {
    record: &'r Record<'r>,
    lazy: OnceLock<Box<dyn Val + 'r>>,
    whole: OnceLock<Box<dyn Val + 'r>>,
    headers: OnceLock<Box<dyn Val + 'r>>,
}

impl<'r> Scope<'r> {
    /// Nothing is converted yet.
    pub fn new(record: &'r Record<'r>) -> Self {
        Self { record, lazy: OnceLock::new(), whole: OnceLock::new(), headers: OnceLock::new() }
    }
}

impl Matcher {
    /// Compiles an expression.
    pub fn compile(expression: &str) -> Result<Self, CompileError> {
        check::size(expression)?;
        let (expression, source) = Env::stdlib()
            .parser()
            .max_recursion_depth(MAX_DEPTH)
            .parse_with_source_info(expression)
            .map_err(|errors| syntax_error(expression, &errors))?;
        check::program(expression, &source)
    }

    /// Whether the record matches. A field that is not there makes it false.
    pub fn matches(&self, record: &Record<'_>) -> Result<bool, MatchFailure> {
        self.matches_in(&Scope::new(record))
    }

    /// The same, sharing what other expressions needed of the record.
    pub fn matches_in(&self, scope: &Scope<'_>) -> Result<bool, MatchFailure> {
        let variables = Variables { scope, matcher: self, steps: AtomicU32::new(0) };
        let root: &Context<'_, '_> = &ROOT;
        let mut context = root.new_inner_scope();
        context.set_variable_resolver(&variables);
        let result = Value::resolve_val(&self.expression, &context);
        if variables.steps.load(Ordering::Relaxed) > MAX_STEPS {
            let message = format!("more than {MAX_STEPS} steps for one record");
            return Err(MatchFailure { reason: DropReason::MatchTooCostly, message });
        }
        match result {
            Ok(value) => value.downcast_ref::<CelBool>().map(|answer| *answer.inner()).ok_or_else(|| {
                let message = format!("it is of type {}, not true or false", value.get_type().name());
                MatchFailure { reason: DropReason::MatchNotBoolean, message }
            }),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(failure(&error)),
        }
    }
}

/// Resolves an expression's variables from a record, and counts the steps of its comprehensions.
struct Variables<'s, 'r> {
    scope: &'s Scope<'r>,
    matcher: &'s Matcher,
    steps: AtomicU32,
}

impl VariableResolver for Variables<'_, '_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let scope = self.scope;
        let raw = &scope.record.raw;
        match variable {
            "record" if self.matcher.whole => {
                Some(CowVal::Borrowed(scope.whole.get_or_init(|| values::whole(scope.record.value)).as_ref()))
            }
            "record" => {
                Some(CowVal::Borrowed(scope.lazy.get_or_init(|| values::lazy(scope.record.value)).as_ref()))
            }
            "headers" => {
                Some(CowVal::Borrowed(scope.headers.get_or_init(|| values::headers(raw.headers)).as_ref()))
            }
            "key" => Some(CowVal::Owned(values::text_or_null(raw.key_text()))),
            "topic" => Some(CowVal::Owned(values::text_or_null(Some(raw.topic)))),
            "partition" => Some(CowVal::Owned(values::int(i64::from(raw.partition)))),
            "timestamp" => Some(CowVal::Owned(values::timestamp(raw.timestamp_ms))),
            TICK => {
                let taken = self.steps.fetch_add(1, Ordering::Relaxed);
                // Over the bound the variable is gone: the evaluation ends with an error.
                (taken < MAX_STEPS).then(|| CowVal::owned(CelBool::from(true)))
            }
            _ => {
                let index = variable.strip_prefix(REGEX_PREFIX)?.parse::<usize>().ok()?;
                self.matcher.regexes.get(index).map(|regex| CowVal::Borrowed(regex as &dyn Val))
            }
        }
    }
}

/// Whether the error says that something is not there: no such field, no such element, or a field of null.
fn is_missing(error: &ExecutionError) -> bool {
    match error {
        ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_) => true,
        ExecutionError::NoSuchOverload(overload) => {
            matches!(overload.function(), "_._" | "_[_]")
                && overload.argument_types().first().is_some_and(|name| name == "null_type")
        }
        _ => false,
    }
}

/// The errors' own messages print values; these say only types and names.
fn failure(error: &ExecutionError) -> MatchFailure {
    use ExecutionError as E;
    let (reason, message) = match error {
        E::NoSuchOverload(overload) => (DropReason::MatchWrongType, overload.to_string()),
        E::UnsupportedBinaryOperator(operator, left, right) => (
            DropReason::MatchWrongType,
            format!("`{operator}` does not take {} and {}", left.type_of(), right.type_of()),
        ),
        E::UnexpectedType { got, want } => {
            (DropReason::MatchWrongType, format!("it is of type {got}, not {want}"))
        }
        E::ValuesNotComparable(..)
        | E::UnsupportedTargetType { .. }
        | E::NotSupportedAsMethod { .. }
        | E::UnsupportedKeyType(_)
        | E::UnsupportedIndex(..) => (DropReason::MatchWrongType, "wrong types".to_owned()),
        E::DivisionByZero(_) | E::RemainderByZero(_) => {
            (DropReason::MatchArithmetic, "division by zero".to_owned())
        }
        E::Overflow(operator, ..) => (DropReason::MatchArithmetic, format!("`{operator}` overflows")),
        E::FunctionError { function, .. } => {
            (DropReason::MatchFailed, format!("`{function}` can't be applied to this record"))
        }
        _ => (DropReason::MatchFailed, "can't be evaluated for this record".to_owned()),
    };
    MatchFailure { reason, message }
}

fn syntax_error(expression: &str, errors: &ParseErrors) -> CompileError {
    let Some(error) = errors.errors.first() else {
        return CompileError { line: 1, column: 1, message: "not an expression".to_owned() };
    };
    let place = |at: isize| usize::try_from(at).unwrap_or(1).max(1);
    let message = if error.msg.contains("Recursion limit") {
        format!("nested too deep; at most {MAX_DEPTH} levels")
    } else if expression.trim().is_empty() {
        "an expression is missing".to_owned()
    } else {
        let message = error.msg.strip_prefix("Syntax error: ").unwrap_or(&error.msg);
        // What follows is the list of all tokens of the grammar.
        in_words(message.split(" expecting ").next().unwrap_or(message)).chars().take(200).collect()
    };
    CompileError { line: place(error.pos.0), column: place(error.pos.1), message }
}

/// A parser's message without the parser's words.
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
    // The slip of most who write their first rule.
    let hint = if found == "=" { "; equality is `==`" } else { "" };
    format!("`{found}` is not expected here{hint}")
}

#[cfg(test)]
mod tests;
