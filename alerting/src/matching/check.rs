//! What an expression must not say, told before it is compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::patterns::{Measured, Patterns};
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators,
};

use super::compile::SLOTS;
use super::fault::Op;
use super::{CompileError, MAX_LENGTH, MAX_NESTING, MAX_OPERATORS, VARIABLES, calls, functions};

/// The names of types, as `type(x) == int` says them.
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

/// What functions' names begin with.
const NAMESPACES: [&str; 4] = ["cel", "math", "optional", "strings"];

/// Refuses what the parser should not see.
pub(super) fn size(expression: &str) -> Result<(), CompileError> {
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

/// Counts what may form a chain that recurses.
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
            // A name in backticks and a comment hold no operators, and their quotes begin no string.
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

/// The index after the next of that byte.
fn past(bytes: &[u8], from: usize, end: u8) -> Option<usize> {
    Some(from + memchr::memchr(end, bytes.get(from..)?)? + 1)
}

/// The index after the string that begins at `start`, quoted once or three times. Where it does not end, the index after
/// its opening: then all that follows counts.
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

/// Checks a parsed expression; its patterns, compiled, by the ids of their nodes.
pub(super) fn program(
    expression: &IdedExpr,
    source: &SourceInfo,
) -> Result<BTreeMap<u64, Arc<Measured>>, CompileError> {
    let mut check = Check {
        source,
        bound: Vec::new(),
        variables: 0,
        nesting: 0,
        patterns: BTreeMap::new(),
        built: Patterns::default(),
    };
    check.result(expression)?;
    check.visit(expression)?;
    Ok(check.patterns)
}

struct Check<'s> {
    source: &'s SourceInfo,
    /// Variables of the comprehensions around.
    bound: Vec<String>,
    /// How many of them a program has places for.
    variables: usize,
    nesting: usize,
    patterns: BTreeMap<u64, Arc<Measured>>,
    built: Patterns,
}

impl Check<'_> {
    fn error(&self, at: &IdedExpr, message: String) -> CompileError {
        // Offsets count bytes. A node that has none, made by a macro, is put at the beginning.
        let offset = self.source.offset_for(at.id).map_or(0, |(start, _)| start as usize);
        let before = self.source.source.get(..offset).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        let column = 1 + before.chars().rev().take_while(|char| *char != '\n').count();
        CompileError { line, column, message }
    }

    /// The whole expression must be able to be true or false.
    fn result(&self, expression: &IdedExpr) -> Result<(), CompileError> {
        let never = match &expression.expr {
            Expr::Literal(literal) => !matches!(literal, LiteralValue::Boolean(_)),
            Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => true,
            Expr::Call(call) if matches!(calls::of(call), Some(it) if it.never_true()) => true,
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
            return Err(self.error(expression, "can't be true or false".to_owned()));
        }
        Ok(())
    }

    fn visit(&mut self, node: &IdedExpr) -> Result<(), CompileError> {
        match &node.expr {
            Expr::Ident(name) => self.identifier(node, name),
            Expr::Struct(_) => Err(self.error(node, "there are no message types".to_owned())),
            Expr::Call(call) => {
                if let Some(it) = calls::of(call) {
                    return self.written(node, &it);
                }
                self.function(node, call)?;
                if call.func_name == "matches"
                    && let Some(pattern) = call.args.last()
                {
                    self.pattern(pattern)?;
                }
                let target = call.target.as_deref().filter(|_| self.namespaced(call).is_none());
                target.into_iter().chain(&call.args).try_for_each(|it| self.visit(it))
            }
            Expr::Comprehension(comprehension) => {
                self.room(node, true, 1)?;
                self.comprehension(comprehension)
            }
            Expr::List(list) => list.elements.iter().try_for_each(|it| self.visit(it)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::StructField(field) => self.visit(&field.value),
                EntryExpr::MapEntry(entry) => {
                    self.visit(&entry.key)?;
                    self.visit(&entry.value)
                }
            }),
            Expr::Select(select) => self.visit(&select.operand),
            Expr::Literal(_) | Expr::Unspecified => Ok(()),
        }
    }

    fn identifier(&self, node: &IdedExpr, name: &str) -> Result<(), CompileError> {
        let known = name.starts_with('@')
            || VARIABLES.contains(&name)
            || TYPES.contains(&name)
            || self.bound.iter().any(|bound| bound == name);
        if known {
            return Ok(());
        }
        let message = format!("unknown variable `{name}`; there are {}", VARIABLES.join(", "));
        Err(self.error(node, message))
    }

    /// Refuses a function that does not exist.
    fn function(&self, node: &IdedExpr, call: &CallExpr) -> Result<(), CompileError> {
        let name = &call.func_name;
        if !name.starts_with(|first: char| first.is_ascii_alphabetic()) || self.named(call).is_some() {
            return Ok(());
        }
        let namespace = call.target.as_deref().and_then(calls::name).filter(|it| NAMESPACES.contains(it));
        let name = namespace.map_or_else(|| name.clone(), |namespace| format!("{namespace}.{name}"));
        Err(self.error(node, format!("unknown function `{name}`")))
    }

    /// The function that a call is in a namespace, unless that is the name of a variable.
    fn namespaced(&self, call: &CallExpr) -> Option<Op> {
        let namespace = calls::name(call.target.as_deref()?)?;
        let is_variable = self.bound.iter().any(|bound| bound == namespace);
        functions::namespaced(namespace, &call.func_name).filter(|_| !is_variable)
    }

    fn named(&self, call: &CallExpr) -> Option<Op> {
        self.namespaced(call).or_else(|| functions::named(&call.func_name, call.target.is_some()))
    }

    /// Refuses more variables and more nesting than a program has room for.
    fn room(&self, node: &IdedExpr, iterates: bool, variables: usize) -> Result<(), CompileError> {
        let message = if iterates && self.nesting == MAX_NESTING {
            format!("exists, all, map and filter nested more than {MAX_NESTING} deep")
        } else if self.variables + variables > SLOTS {
            format!("more than {SLOTS} variables of macros at once")
        } else {
            return Ok(());
        };
        Err(self.error(node, message))
    }

    /// A macro that the parser left as it is written.
    fn written(&mut self, node: &IdedExpr, it: &calls::Call<'_>) -> Result<(), CompileError> {
        self.room(node, it.kind.iterates(), it.names.len())?;
        self.visit(it.over)?;
        let outside = self.bound.len();
        for expression in it.names {
            let Some(name) = calls::name(expression) else {
                return Err(self.error(expression, "a variable's name is expected here".to_owned()));
            };
            if self.bound.iter().skip(outside).any(|bound| bound == name) {
                return Err(self.error(expression, format!("two variables of the name `{name}`")));
            }
            self.bound.push(name.to_owned());
        }
        self.variables += it.names.len();
        self.nesting += usize::from(it.kind.iterates());
        it.parts.iter().try_for_each(|part| self.visit(part))?;
        self.nesting -= usize::from(it.kind.iterates());
        self.variables -= it.names.len();
        self.bound.truncate(outside);
        Ok(())
    }

    fn pattern(&mut self, pattern: &IdedExpr) -> Result<(), CompileError> {
        let Expr::Literal(LiteralValue::String(text)) = &pattern.expr else {
            return Err(self.error(pattern, "the pattern of matches() must be written out".to_owned()));
        };
        let built = self.built.build(text.inner());
        let regex = built.map_err(|message| self.error(pattern, message))?;
        self.patterns.insert(pattern.id, regex);
        Ok(())
    }

    fn comprehension(&mut self, it: &ComprehensionExpr) -> Result<(), CompileError> {
        self.visit(&it.iter_range)?;
        self.visit(&it.accu_init)?;
        let outside = self.bound.len();
        self.bound.extend([it.iter_var.clone(), it.accu_var.clone()]);
        self.bound.extend(it.iter_var2.clone());
        self.variables += 1;
        self.nesting += 1;
        for part in [&it.loop_cond, &it.loop_step, &it.result] {
            self.visit(part)?;
        }
        self.nesting -= 1;
        self.variables -= 1;
        self.bound.truncate(outside);
        Ok(())
    }
}

/// Whether a function can say true or false.
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
