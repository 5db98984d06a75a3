//! What an expression must not say, told before it runs, and what is prepared for its running.
//!
//! The tree is changed in two ways: patterns of `matches` become compiled ones, and every step of a comprehension asks
//! for the variable [`TICK`], which ends when the steps of a record are used up.

use cel::{
    Context, ExecutionError, Value,
    common::{
        ast::{
            CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, SourceInfo,
            operators,
        },
        types::CelString,
    },
};
use regex::RegexBuilder;

use super::{
    CompileError, MAX_LENGTH, MAX_NESTING, MAX_OPERATORS, Matcher, ROOT, VARIABLES, values::CompiledRegex,
};

/// The variable of one step. No expression can name it: `@` is not CEL.
pub(super) const TICK: &str = "@tick";
/// Followed by a number: the variable of a compiled pattern.
pub(super) const REGEX_PREFIX: &str = "@re";

/// The names of types, as `type(x) == int` says them.
const TYPES: [&str; 11] =
    ["bool", "bytes", "double", "dyn", "int", "list", "map", "null_type", "string", "type", "uint"];

/// A compiled pattern's largest size, bytes.
const REGEX_SIZE: usize = 1 << 20;

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
            b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'!' | b'?' | b'.' | b'[' => count += 1,
            b'=' if at == 0 || !matches!(bytes[at - 1], b'<' | b'>' | b'!' | b'=') => count += 1,
            _ => {}
        }
        at += 1;
    }
    count
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

/// Checks and prepares a parsed expression.
pub(super) fn program(mut expression: IdedExpr, source: &SourceInfo) -> Result<Matcher, CompileError> {
    let mut check = Check { source, bound: Vec::new(), nesting: 0, regexes: Vec::new(), whole: false };
    check.result(&expression)?;
    check.visit(&mut expression)?;
    let Check { regexes, whole, .. } = check;
    Ok(Matcher { expression, regexes, whole })
}

struct Check<'s> {
    source: &'s SourceInfo,
    /// Variables of the comprehensions around.
    bound: Vec<String>,
    nesting: usize,
    regexes: Vec<CompiledRegex>,
    whole: bool,
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
            Expr::Call(call) => matches!(
                call.func_name.as_str(),
                operators::ADD
                    | operators::SUBSTRACT
                    | operators::MULTIPLY
                    | operators::DIVIDE
                    | operators::MODULO
                    | operators::NEGATE
                    | "size"
                    | "string"
                    | "int"
                    | "double"
            ),
            _ => false,
        };
        if never {
            return Err(self.error(expression, "can't be true or false".to_owned()));
        }
        Ok(())
    }

    fn visit(&mut self, node: &mut IdedExpr) -> Result<(), CompileError> {
        match &node.expr {
            Expr::Ident(name) => return self.identifier(node, name),
            Expr::Struct(_) => return Err(self.error(node, "there are no message types".to_owned())),
            Expr::Call(call) => self.function(node, call)?,
            Expr::Comprehension(_) if self.nesting == MAX_NESTING => {
                let message = format!("exists, all, map and filter nested more than {MAX_NESTING} deep");
                return Err(self.error(node, message));
            }
            Expr::Map(_) | Expr::Comprehension(_) => self.whole = true,
            Expr::List(_) | Expr::Literal(_) | Expr::Select(_) | Expr::Unspecified => {}
        }
        match &mut node.expr {
            Expr::Call(call) => {
                if call.func_name == "matches"
                    && let Some(pattern) = call.args.last_mut()
                {
                    self.pattern(pattern)?;
                }
                call.target.as_deref_mut().into_iter().chain(&mut call.args).try_for_each(|it| self.visit(it))
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::List(list) => list.elements.iter_mut().try_for_each(|it| self.visit(it)),
            Expr::Map(map) => map.entries.iter_mut().try_for_each(|entry| match &mut entry.expr {
                EntryExpr::StructField(field) => self.visit(&mut field.value),
                EntryExpr::MapEntry(entry) => {
                    self.visit(&mut entry.key)?;
                    self.visit(&mut entry.value)
                }
            }),
            Expr::Select(select) => self.visit(&mut select.operand),
            Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_) | Expr::Unspecified => Ok(()),
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

    /// Refuses a function that does not exist: without arguments a known one finds no overload.
    fn function(&self, node: &IdedExpr, call: &CallExpr) -> Result<(), CompileError> {
        if !call.func_name.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return Ok(());
        }
        let text =
            || IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::String(CelString::from(String::new()))) };
        let probe = IdedExpr {
            id: 0,
            expr: Expr::Call(CallExpr {
                func_name: call.func_name.clone(),
                target: call.target.is_some().then(|| Box::new(text())),
                args: Vec::new(),
            }),
        };
        let root: &Context<'_, '_> = &ROOT;
        match Value::resolve_val(&probe, root) {
            Err(ExecutionError::UndeclaredReference(_)) => {
                Err(self.error(node, format!("unknown function `{}`", call.func_name)))
            }
            _ => Ok(()),
        }
    }

    fn pattern(&mut self, pattern: &mut IdedExpr) -> Result<(), CompileError> {
        let Expr::Literal(LiteralValue::String(text)) = &pattern.expr else {
            return Err(self.error(pattern, "the pattern of matches() must be written out".to_owned()));
        };
        let regex = RegexBuilder::new(text.inner()).size_limit(REGEX_SIZE).build().map_err(|error| {
            let error = error.to_string();
            let what = error.lines().last().unwrap_or_default().trim();
            self.error(pattern, format!("not a regular expression: {}", what.trim_start_matches("error: ")))
        })?;
        pattern.expr = Expr::Ident(format!("{REGEX_PREFIX}{}", self.regexes.len()));
        self.regexes.push(CompiledRegex(regex));
        Ok(())
    }

    fn comprehension(&mut self, it: &mut ComprehensionExpr) -> Result<(), CompileError> {
        self.visit(&mut it.iter_range)?;
        self.visit(&mut it.accu_init)?;
        let outside = self.bound.len();
        self.bound.extend([it.iter_var.clone(), it.accu_var.clone()]);
        self.bound.extend(it.iter_var2.clone());
        self.nesting += 1;
        for part in [&mut it.loop_cond, &mut it.loop_step, &mut it.result] {
            self.visit(part)?;
        }
        self.nesting -= 1;
        self.bound.truncate(outside);
        count_steps(it);
        Ok(())
    }
}

/// Makes every step of a comprehension ask for [`TICK`]. `map` and `filter` are told by cel from the form of their step
/// and their literal loop condition, so theirs is asked for where the form leaves room; otherwise they would copy the
/// list at every step.
fn count_steps(it: &mut ComprehensionExpr) {
    if !matches!(it.loop_cond.expr, Expr::Literal(_)) {
        let condition = std::mem::take(&mut it.loop_cond);
        it.loop_cond = call(operators::LOGICAL_AND, vec![tick(), condition]);
        return;
    }
    if let Expr::Call(step) = &mut it.loop_step.expr {
        match (step.func_name.as_str(), step.args.as_mut_slice()) {
            (operators::CONDITIONAL, [guard, _, _]) => {
                let condition = std::mem::take(guard);
                *guard = call(operators::LOGICAL_AND, vec![tick(), condition]);
                return;
            }
            (operators::ADD, [_, IdedExpr { expr: Expr::List(ListExpr { elements, .. }), .. }]) => {
                for element in elements {
                    let value = std::mem::take(element);
                    let never = IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Null) };
                    *element = call(operators::CONDITIONAL, vec![tick(), value, never]);
                }
                return;
            }
            _ => {}
        }
    }
    it.loop_cond = tick();
}

fn tick() -> IdedExpr {
    IdedExpr { id: 0, expr: Expr::Ident(TICK.to_owned()) }
}

fn call(function: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr { id: 0, expr: Expr::Call(CallExpr { func_name: function.to_owned(), target: None, args }) }
}
