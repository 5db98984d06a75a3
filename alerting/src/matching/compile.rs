//! Compiles a checked syntax tree to a program.

use std::collections::BTreeMap;
use std::sync::Arc;

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, MapExpr, SelectExpr, operators,
};
use memchr::memmem::Finder;

use crate::document::FieldName;
use crate::patterns::MeasuredRegex;

use super::MAX_NESTING;
use super::calls;
use super::eval;
use super::fault::{Op, ValueType};
use super::functions;
use super::program::{ExprNode, Macro, MacroKind, PathStep};
use super::value::Constant;

/// The most macro variables in scope at once: for each level of nesting two of a comprehension, and one of `cel.bind`
/// or `optMap`.
pub(super) const SLOTS: usize = 3 * MAX_NESTING;

/// Compiles a checked tree; `patterns` are its compiled patterns by the ids of their nodes.
pub(super) fn compile(expression: &IdedExpr, patterns: &BTreeMap<u64, Arc<MeasuredRegex>>) -> ExprNode {
    Compiler { bound: Vec::new(), patterns }.node(expression)
}

struct Compiler<'c> {
    /// The variables of the enclosing macros; the value of each is in the slot of its index.
    bound: Vec<String>,
    patterns: &'c BTreeMap<u64, Arc<MeasuredRegex>>,
}

impl Compiler<'_> {
    fn node(&mut self, expression: &IdedExpr) -> ExprNode {
        match &expression.expr {
            Expr::Literal(literal) => ExprNode::Constant(constant(literal)),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let optional = |index| list.optional_indices.contains(&index);
                let elements = list.elements.iter().enumerate();
                eval::fold_constants(ExprNode::List(
                    elements.map(|(at, it)| (self.node(it), optional(at))).collect(),
                ))
            }
            Expr::Map(map) => self.map(map),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            // The check has refused these.
            Expr::Struct(_) | Expr::Unspecified => ExprNode::Nothing,
        }
    }

    fn name(&self, name: &str) -> ExprNode {
        if let Some(slot) = self.bound.iter().rposition(|bound| bound == name) {
            return ExprNode::Slot(slot);
        }
        match name {
            "record" => ExprNode::Record,
            "key" => ExprNode::Key,
            "headers" => ExprNode::Headers,
            "topic" => ExprNode::Topic,
            "partition" => ExprNode::Partition,
            "timestamp" => ExprNode::Timestamp,
            _ => ValueType::named(name)
                .map_or(ExprNode::Nothing, |kind| ExprNode::Constant(Constant::Type(kind))),
        }
    }

    fn select(&mut self, select: &SelectExpr) -> ExprNode {
        let operand = self.node(&select.operand);
        let name = FieldName::new(&select.field);
        if select.test {
            return ExprNode::Has(Box::new(operand), name);
        }
        match operand {
            ExprNode::Headers => ExprNode::Header(name.as_str().into()),
            _ => match append_step(operand, PathStep::Name(name)) {
                Ok(field) => field,
                Err((operand, PathStep::Name(name))) => ExprNode::Select(Box::new(operand), name),
                Err((_, PathStep::Index(_))) => ExprNode::Nothing,
            },
        }
    }

    fn map(&mut self, map: &MapExpr) -> ExprNode {
        let entries = map.entries.iter().filter_map(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => {
                Some((self.node(&entry.key), self.node(&entry.value), entry.optional))
            }
            EntryExpr::StructField(_) => None,
        });
        ExprNode::Map(entries.collect())
    }

    fn pair(&mut self, call: &CallExpr) -> Option<Box<[ExprNode; 2]>> {
        let [left, right] = call.args.as_slice() else { return None };
        Some(Box::new([self.node(left), self.node(right)]))
    }

    fn call(&mut self, call: &CallExpr) -> ExprNode {
        let node = match call.args.as_slice() {
            [one] if call.target.is_none() => match call.func_name.as_str() {
                operators::LOGICAL_NOT => Some(ExprNode::Not(Box::new(self.node(one)))),
                operators::NEGATE => Some(ExprNode::Negate(Box::new(self.node(one)))),
                _ => None,
            },
            [_, _] if call.target.is_none() => self.binary(call),
            [condition, yes, no] if call.func_name == operators::CONDITIONAL => {
                Some(ExprNode::Conditional(Box::new([self.node(condition), self.node(yes), self.node(no)])))
            }
            _ => None,
        };
        eval::fold_constants(node.unwrap_or_else(|| self.function(call)))
    }

    fn binary(&mut self, call: &CallExpr) -> Option<ExprNode> {
        let compare = |op| move |pair| ExprNode::Compare(op, pair);
        let arithmetic = |op| move |pair| ExprNode::Arithmetic(op, pair);
        Some(match call.func_name.as_str() {
            operators::LOGICAL_AND => ExprNode::And(self.pair(call)?),
            operators::LOGICAL_OR => ExprNode::Or(self.pair(call)?),
            operators::EQUALS => ExprNode::Equal(self.pair(call)?),
            operators::NOT_EQUALS => ExprNode::Unequal(self.pair(call)?),
            operators::IN => ExprNode::In(self.pair(call)?),
            operators::LESS => compare(Op::Less)(self.pair(call)?),
            operators::LESS_EQUALS => compare(Op::LessOrEqual)(self.pair(call)?),
            operators::GREATER => compare(Op::Greater)(self.pair(call)?),
            operators::GREATER_EQUALS => compare(Op::GreaterOrEqual)(self.pair(call)?),
            operators::ADD => arithmetic(Op::Add)(self.pair(call)?),
            operators::SUBSTRACT => arithmetic(Op::Subtract)(self.pair(call)?),
            operators::MULTIPLY => arithmetic(Op::Multiply)(self.pair(call)?),
            operators::DIVIDE => arithmetic(Op::Divide)(self.pair(call)?),
            operators::MODULO => arithmetic(Op::Remainder)(self.pair(call)?),
            operators::INDEX => {
                let [of, index] = *self.pair(call)?;
                indexed(of, index)
            }
            operators::OPT_INDEX => ExprNode::OptionalIndex(self.pair(call)?),
            operators::OPT_SELECT => {
                let [of, name] = *self.pair(call)?;
                match name {
                    ExprNode::Constant(Constant::Text(name)) => {
                        ExprNode::OptionalSelect(Box::new(of), FieldName::new(&name))
                    }
                    _ => ExprNode::Nothing,
                }
            }
            _ => return None,
        })
    }

    fn function(&mut self, call: &CallExpr) -> ExprNode {
        if let Some(it) = calls::macro_call(call) {
            return self.macro_call(&it).unwrap_or(ExprNode::Nothing);
        }
        let name = &call.func_name;
        let namespace = call.target.as_deref().and_then(calls::name);
        let namespace = namespace.filter(|it| !self.bound.iter().any(|bound| bound == it));
        let (op, target) = match namespace.and_then(|it| functions::namespaced(it, name)) {
            Some(op) => (Some(op), None),
            None => (functions::named(name, call.target.is_some()), call.target.as_deref()),
        };
        let Some(op) = op else { return ExprNode::Nothing };
        if op == Op::Matches {
            // The pattern is the last argument, and the check has compiled it.
            let pattern = call.args.last().and_then(|it| self.patterns.get(&it.id)).cloned();
            let text = match (target, call.args.as_slice()) {
                (Some(text), [_]) | (None, [text, _]) => Some(self.node(text)),
                _ => None,
            };
            if let (Some(text), Some(pattern)) = (text, pattern) {
                return ExprNode::Matches(Box::new(text), pattern);
            }
        }
        let arguments: Box<[ExprNode]> = call.args.iter().map(|it| self.node(it)).collect();
        let target = target.map(|it| Box::new(self.node(it)));
        if matches!(op, Op::Greatest | Op::Least) {
            return ExprNode::Extreme(op, arguments);
        }
        let (target, arguments) = match (op, target, &*arguments) {
            (Op::Contains, Some(text), [ExprNode::Constant(Constant::Text(part))]) => {
                return ExprNode::Finds(text, Box::new(Finder::new(part.as_bytes()).into_owned()));
            }
            (_, target, _) => (target, arguments),
        };
        ExprNode::Call(op, target, arguments)
    }

    fn comprehension(&mut self, it: &ComprehensionExpr) -> ExprNode {
        let over = self.node(&it.iter_range);
        let slot = self.bound.len();
        self.bound.push(it.iter_var.clone());
        let kind = self.macro_kind(it);
        self.bound.truncate(slot);
        kind.map_or(ExprNode::Nothing, |kind| {
            ExprNode::Macro(Box::new(Macro { over, slot, pairs: false, kind }))
        })
    }

    /// Compiles a macro that the parser left as a call.
    fn macro_call(&mut self, it: &calls::MacroCall<'_>) -> Option<ExprNode> {
        let over = self.node(it.over);
        let slot = self.bound.len();
        self.bound.extend(it.names.iter().filter_map(calls::name).map(str::to_owned));
        let mut parts: Vec<ExprNode> = it.parts.iter().map(|part| self.node(part)).collect();
        self.bound.truncate(slot);
        let made = parts.pop()?;
        let guard = parts.pop();
        let kind = match it.kind {
            calls::MacroCallKind::Exists => MacroKind::Exists(made),
            calls::MacroCallKind::All => MacroKind::All(made),
            calls::MacroCallKind::ExistsOne => MacroKind::ExistsOne(made),
            calls::MacroCallKind::TransformList => MacroKind::Collect(guard, made),
            calls::MacroCallKind::TransformMap => MacroKind::ToMap(guard, made),
            calls::MacroCallKind::OptMap | calls::MacroCallKind::OptFlatMap => {
                let flat = it.kind == calls::MacroCallKind::OptFlatMap;
                return Some(ExprNode::OptionalMap { of: Box::new(over), slot, made: Box::new(made), flat });
            }
            calls::MacroCallKind::Bind => return Some(ExprNode::Bind(slot, Box::new([over, made]))),
        };
        Some(ExprNode::Macro(Box::new(Macro { over, slot, pairs: true, kind })))
    }

    /// Recognises the macro that the parser expanded; it makes no other forms.
    fn macro_kind(&mut self, it: &ComprehensionExpr) -> Option<MacroKind> {
        let Expr::Call(step) = &it.loop_step.expr else { return None };
        Some(match (step.func_name.as_str(), step.args.as_slice()) {
            (operators::LOGICAL_OR, [_, holds]) => MacroKind::Exists(self.node(holds)),
            (operators::LOGICAL_AND, [_, holds]) => MacroKind::All(self.node(holds)),
            (operators::ADD, [_, list]) => MacroKind::Collect(None, self.only_element(list)?),
            (operators::CONDITIONAL, [guard, added, _]) => {
                let guard = self.node(guard);
                let Expr::Call(added) = &added.expr else { return None };
                match added.args.as_slice() {
                    [_, list] if matches!(list.expr, Expr::List(_)) => {
                        MacroKind::Collect(Some(guard), self.only_element(list)?)
                    }
                    _ => MacroKind::ExistsOne(guard),
                }
            }
            _ => return None,
        })
    }

    /// The only element of a list literal.
    fn only_element(&mut self, list: &IdedExpr) -> Option<ExprNode> {
        match &list.expr {
            Expr::List(list) => list.elements.first().map(|it| self.node(it)),
            _ => None,
        }
    }
}

/// Appends a step to a path into the record; returns both if `from` is no path.
fn append_step(from: ExprNode, step: PathStep) -> Result<ExprNode, (ExprNode, PathStep)> {
    match from {
        ExprNode::Record => Ok(ExprNode::Field(Box::new([step]))),
        ExprNode::Field(steps) => Ok(ExprNode::Field(steps.into_iter().chain([step]).collect())),
        other => Err((other, step)),
    }
}

fn indexed(of: ExprNode, index: ExprNode) -> ExprNode {
    let step = match (&of, &index) {
        (ExprNode::Headers, ExprNode::Constant(Constant::Text(name))) => {
            return ExprNode::Header(name.clone());
        }
        (_, ExprNode::Constant(Constant::Text(name))) => PathStep::Name(FieldName::new(name)),
        (_, ExprNode::Constant(Constant::Int(index))) => PathStep::Index(*index),
        _ => return ExprNode::Index(Box::new([of, index])),
    };
    append_step(of, step).unwrap_or_else(|(of, _)| ExprNode::Index(Box::new([of, index])))
}

fn constant(literal: &LiteralValue) -> Constant {
    match literal {
        LiteralValue::Boolean(it) => Constant::Bool(*it.inner()),
        LiteralValue::Bytes(it) => Constant::Bytes(it.inner().into()),
        LiteralValue::Double(it) => Constant::Double(*it.inner()),
        LiteralValue::Int(it) => Constant::Int(*it.inner()),
        LiteralValue::Null => Constant::Null,
        LiteralValue::String(it) => Constant::Text(it.inner().into()),
        LiteralValue::UInt(it) => Constant::Uint(*it.inner()),
    }
}
