//! Checks an expression before it is compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::patterns::{MeasuredRegex, Patterns};
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators,
};

use super::compile::SLOTS;
use super::fault::Op;
use super::{CompileError, MAX_LENGTH, MAX_NESTING, MAX_OPERATORS, VARIABLES, calls, functions};

/// The type names, as in `type(x) == int`.
const TYPES: [&str; 12] = [
    "bool",
    "bytes",
    "double",
    "dyn",
    "int",
    "list",
    "map",
    "null_type",
    "optional_type",
    "string",
    "type",
    "uint",
];

/// The namespaces of functions.
const NAMESPACES: [&str; 4] = ["cel", "math", "optional", "strings"];

/// Refuses an expression that is too long, or on which the parser would recurse too deep.
pub(super) fn check_size(expression: &str) -> Result<(), CompileError> {
    let too = |message| Err(CompileError { line: 1, column: 1, message });
    if expression.len() > MAX_LENGTH {
        return too(format!("{} bytes long; at most {MAX_LENGTH}", expression.len()));
    }
    let found = operators_outside_of_strings(expression);
    if found > MAX_OPERATORS {
        return too(format!("{found} operators; at most {MAX_OPERATORS} besides && and ||"));
    }
    Ok(())
}

/// Counts the operators that may form a chain on which parsing recurses.
fn operators_outside_of_strings(expression: &str) -> usize {
    let bytes = expression.as_bytes();
    let (mut at, mut count) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' => {
                let raw = bytes[..at].iter().rev().take(2).any(|prefix| matches!(prefix, b'r' | b'R'));
                at = end_of_string(bytes, at, raw);
                continue;
            }
            // Names in backticks and comments contain no operators, and quotes in them begin no string.
            b'`' => {
                at = past(bytes, at + 1, b'`').unwrap_or(at + 1);
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at = past(bytes, at, b'\n').unwrap_or(bytes.len());
                continue;
            }
            b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'!' | b'?' | b'.' | b'[' => count += 1,
            b'=' if at == 0 || !matches!(bytes[at - 1], b'<' | b'>' | b'!' | b'=') => count += 1,
            _ => {}
        }
        at += 1;
    }
    count
}

/// The index after the next byte `end`.
fn past(bytes: &[u8], from: usize, end: u8) -> Option<usize> {
    Some(from + memchr::memchr(end, bytes.get(from..)?)? + 1)
}

/// The index after the string that begins at `start`, quoted once or three times. For a string without an end it is the
/// index after the opening quotes, so all that follows is counted.
fn end_of_string(bytes: &[u8], start: usize, raw: bool) -> usize {
    let quote = bytes[start];
    let triple = bytes[start..].starts_with(&[quote; 3]);
    let end = if triple { vec![quote; 3] } else { vec![quote] };
    let mut at = start + end.len();
    while at < bytes.len() {
        if bytes[at..].starts_with(&end) {
            return at + end.len();
        }
        at += if bytes[at] == b'\\' && !raw { 2 } else { 1 };
    }
    start + end.len()
}

/// The most faults reported for one expression.
const MAX_FAULTS: usize = 20;

/// Checks a parsed expression. Returns its compiled patterns by the ids of their nodes, or all that is wrong.
pub(super) fn check_program(
    expression: &IdedExpr,
    source: &SourceInfo,
) -> Result<BTreeMap<u64, Arc<MeasuredRegex>>, Vec<CompileError>> {
    let mut checker = Checker {
        source,
        bound: Vec::new(),
        variables: 0,
        nesting: 0,
        patterns: BTreeMap::new(),
        built: Patterns::default(),
        faults: Vec::new(),
    };
    checker.check_result(expression);
    checker.visit(expression);
    if checker.faults.is_empty() { Ok(checker.patterns) } else { Err(checker.faults) }
}

struct Checker<'s> {
    source: &'s SourceInfo,
    /// Variables of the enclosing comprehensions.
    bound: Vec<String>,
    /// How many slots they take in the program.
    variables: usize,
    nesting: usize,
    patterns: BTreeMap<u64, Arc<MeasuredRegex>>,
    built: Patterns,
    faults: Vec<CompileError>,
}

impl Checker<'_> {
    fn refuse(&mut self, at: &IdedExpr, message: String) {
        // The same mistake in many places is reported once.
        if self.faults.len() < MAX_FAULTS && self.faults.iter().all(|told| told.message != message) {
            let error = self.error(at, message);
            self.faults.push(error);
        }
    }

    fn error(&self, at: &IdedExpr, message: String) -> CompileError {
        // Offsets are in bytes. A node that a macro made has none, and is reported at the beginning.
        let offset = self.source.offset_for(at.id).map_or(0, |(start, _)| start as usize);
        let before = self.source.source.get(..offset).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        let column = 1 + before.chars().rev().take_while(|char| *char != '\n').count();
        CompileError { line, column, message }
    }

    /// Refuses an expression that is never a boolean.
    fn check_result(&mut self, expression: &IdedExpr) {
        let never = match &expression.expr {
            Expr::Literal(literal) => !matches!(literal, LiteralValue::Boolean(_)),
            Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => true,
            Expr::Call(call) if matches!(calls::macro_call(call), Some(it) if it.never_true()) => true,
            Expr::Call(call) => match self.named(call) {
                Some(op) => !may_be_true(op),
                None => matches!(
                    call.func_name.as_str(),
                    operators::ADD
                        | operators::SUBSTRACT
                        | operators::MULTIPLY
                        | operators::DIVIDE
                        | operators::MODULO
                        | operators::NEGATE
                ),
            },
            _ => false,
        };
        if never {
            self.refuse(expression, "can't be true or false".to_owned());
        }
    }

    fn visit(&mut self, node: &IdedExpr) {
        match &node.expr {
            Expr::Ident(name) => self.identifier(node, name),
            Expr::Struct(_) => self.refuse(node, "there are no message types".to_owned()),
            Expr::Call(call) => {
                if let Some(it) = calls::macro_call(call) {
                    return self.macro_call(node, &it);
                }
                self.function(node, call);
                if call.func_name == "matches"
                    && let Some(pattern) = call.args.last()
                {
                    self.pattern(pattern);
                }
                // A namespace without such a function has already been refused as an unknown function.
                let is_namespace = self.namespaced(call).is_some()
                    || self.named(call).is_none()
                        && call
                            .target
                            .as_deref()
                            .and_then(calls::name)
                            .is_some_and(|name| NAMESPACES.contains(&name) && !self.is_bound(name));
                let target = call.target.as_deref().filter(|_| !is_namespace);
                target.into_iter().chain(&call.args).for_each(|it| self.visit(it));
            }
            Expr::Comprehension(comprehension) => {
                if self.has_room(node, true, 1) {
                    self.comprehension(comprehension);
                }
            }
            Expr::List(list) => list.elements.iter().for_each(|it| self.visit(it)),
            Expr::Map(map) => map.entries.iter().for_each(|entry| match &entry.expr {
                EntryExpr::StructField(field) => self.visit(&field.value),
                EntryExpr::MapEntry(entry) => {
                    self.visit(&entry.key);
                    self.visit(&entry.value);
                }
            }),
            Expr::Select(select) => self.visit(&select.operand),
            Expr::Literal(_) | Expr::Unspecified => {}
        }
    }

    fn is_bound(&self, name: &str) -> bool {
        self.bound.iter().any(|bound| bound == name)
    }

    fn identifier(&mut self, node: &IdedExpr, name: &str) {
        let known = name.starts_with('@')
            || VARIABLES.contains(&name)
            || TYPES.contains(&name)
            || self.is_bound(name);
        if !known {
            let message = format!("unknown variable `{name}`; there are {}", VARIABLES.join(", "));
            self.refuse(node, message);
        }
    }

    /// Refuses a function that does not exist.
    fn function(&mut self, node: &IdedExpr, call: &CallExpr) {
        let name = &call.func_name;
        if !name.starts_with(|first: char| first.is_ascii_alphabetic()) || self.named(call).is_some() {
            return;
        }
        let namespace = call.target.as_deref().and_then(calls::name).filter(|it| NAMESPACES.contains(it));
        let name = namespace.map_or_else(|| name.clone(), |namespace| format!("{namespace}.{name}"));
        let hint = hint_at(&name, call.target.is_some()).map_or(String::new(), |it| format!("; {it}"));
        self.refuse(node, format!("unknown function `{name}`{hint}"));
    }

    /// The namespaced function that a call is, unless the namespace is a variable's name.
    fn namespaced(&self, call: &CallExpr) -> Option<Op> {
        let namespace = calls::name(call.target.as_deref()?)?;
        let is_variable = self.bound.iter().any(|bound| bound == namespace);
        functions::namespaced(namespace, &call.func_name).filter(|_| !is_variable)
    }

    fn named(&self, call: &CallExpr) -> Option<Op> {
        self.namespaced(call).or_else(|| functions::named(&call.func_name, call.target.is_some()))
    }

    /// Refuses more variables or deeper nesting than a program has room for.
    fn has_room(&mut self, node: &IdedExpr, iterates: bool, variables: usize) -> bool {
        let message = if iterates && self.nesting == MAX_NESTING {
            format!("exists, all, map and filter nested more than {MAX_NESTING} deep")
        } else if self.variables + variables > SLOTS {
            format!("more than {SLOTS} variables of macros at once")
        } else {
            return true;
        };
        self.refuse(node, message);
        false
    }

    /// Checks a macro that the parser left as a call.
    fn macro_call(&mut self, node: &IdedExpr, it: &calls::MacroCall<'_>) {
        if !self.has_room(node, it.kind.iterates(), it.names.len()) {
            return;
        }
        self.visit(it.over);
        let outside = self.bound.len();
        for expression in it.names {
            let Some(name) = calls::name(expression) else {
                self.refuse(expression, "a variable's name is expected here".to_owned());
                continue;
            };
            if self.bound.iter().skip(outside).any(|bound| bound == name) {
                self.refuse(expression, format!("two variables of the name `{name}`"));
            }
            self.bound.push(name.to_owned());
        }
        self.variables += it.names.len();
        self.nesting += usize::from(it.kind.iterates());
        it.parts.iter().for_each(|part| self.visit(part));
        self.nesting -= usize::from(it.kind.iterates());
        self.variables -= it.names.len();
        self.bound.truncate(outside);
    }

    fn pattern(&mut self, pattern: &IdedExpr) {
        let Expr::Literal(LiteralValue::String(text)) = &pattern.expr else {
            return self.refuse(pattern, "the pattern of matches() must be written out".to_owned());
        };
        match self.built.build(text.inner()) {
            Ok(regex) => drop(self.patterns.insert(pattern.id, regex)),
            Err(message) => self.refuse(pattern, message),
        }
    }

    fn comprehension(&mut self, it: &ComprehensionExpr) {
        self.visit(&it.iter_range);
        self.visit(&it.accu_init);
        let outside = self.bound.len();
        self.bound.extend([it.iter_var.clone(), it.accu_var.clone()]);
        self.bound.extend(it.iter_var2.clone());
        self.variables += 1;
        self.nesting += 1;
        for part in [&it.loop_cond, &it.loop_step, &it.result] {
            self.visit(part);
        }
        self.nesting -= 1;
        self.variables -= 1;
        self.bound.truncate(outside);
    }
}

/// Other languages' names, in lower case, for what CEL has under another name.
const MEANT: [(&str, &str); 20] = [
    ("lower", "x.lowerAscii()"),
    ("tolower", "x.lowerAscii()"),
    ("tolowercase", "x.lowerAscii()"),
    ("lowercase", "x.lowerAscii()"),
    ("upper", "x.upperAscii()"),
    ("toupper", "x.upperAscii()"),
    ("touppercase", "x.upperAscii()"),
    ("uppercase", "x.upperAscii()"),
    ("includes", "x.contains(\"part\")"),
    ("len", "size(x)"),
    ("length", "size(x)"),
    ("count", "size(x)"),
    ("match", "x.matches(\"pattern\")"),
    ("test", "x.matches(\"pattern\")"),
    ("regex", "x.matches(\"pattern\")"),
    ("strip", "x.trim()"),
    ("any", "x.exists(it, ...)"),
    ("some", "x.exists(it, ...)"),
    ("every", "x.all(it, ...)"),
    ("now", "timestamp is when the record was written; there is no clock"),
];

/// A hint at the function that was probably meant.
fn hint_at(name: &str, on_value: bool) -> Option<String> {
    let plain = |text: &str| text.replace('_', "").to_ascii_lowercase();
    let said = plain(name.rsplit('.').next().unwrap_or(name));
    if let Some((_, hint)) = MEANT.iter().find(|(other, _)| *other == said) {
        let is_call = hint.contains('(');
        return Some(if is_call { format!("CEL has `{hint}`") } else { (*hint).to_owned() });
    }
    // The same name in another spelling, or called in the other form.
    let known = functions::NAMES.iter().find(|known| plain(known) == said)?;
    match (functions::named(known, true).is_some(), on_value) {
        (true, _) => Some(format!("CEL has `x.{known}(...)`")),
        (false, true) => Some(format!("CEL has `{known}(x)`")),
        (false, false) => Some(format!("CEL has `{known}`")),
    }
}

/// Whether a function can return a boolean.
fn may_be_true(op: Op) -> bool {
    matches!(
        op,
        Op::Contains
            | Op::StartsWith
            | Op::EndsWith
            | Op::Matches
            | Op::ToBool
            | Op::Dyn
            | Op::Value
            | Op::OrValue
            | Op::HasValue
            | Op::IsInf
            | Op::IsNan
            | Op::IsFinite
    )
}
