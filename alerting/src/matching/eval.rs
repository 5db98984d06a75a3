//! Evaluates a program on a record.

use bumpalo::{Bump, collections::Vec as Made};

use crate::document::{Document, FieldName, NodeData};
use crate::patterns::MAX_WORK;
use crate::record::{RawRecord, Record};

use super::compile::SLOTS;
use super::fast_path::direct;
use super::fault::{EvalFault, Op, ValueType};
use super::functions::holds;
use super::macros::sorted;
use super::program::{ExprNode, follow};
use super::time::Time;
use super::value::{Constant, Val, text_or_null};
use super::{MAX_CONSTANT, MAX_LENGTH, MAX_MEMORY, MAX_READ, MAX_STEPS};

/// Whether the program is true for the record.
pub(super) fn evaluate(program: &ExprNode, record: &Record<'_>, memory: &Bump) -> Result<bool, EvalFault> {
    if let Some(answer) = direct(program, record.value) {
        return answer;
    }
    let mut eval = Eval::new(record, memory, MAX_MEMORY);
    let answer = eval.truth(program);
    // A budget that is exceeded is a failure even if && or || has an answer.
    if eval.steps > MAX_STEPS || eval.spent > MAX_MEMORY || eval.read > MAX_READ || eval.patterns > MAX_WORK {
        return Err(EvalFault::TooCostly);
    }
    match answer {
        Err(EvalFault::NotCondition(kind)) => Err(EvalFault::NotBoolean(kind)),
        answer => answer,
    }
}

/// Replaces a part whose operands are all constant by its value.
pub(super) fn fold_constants(node: ExprNode) -> ExprNode {
    let is = |node: &ExprNode| matches!(node, ExprNode::Constant(_));
    let constant = match &node {
        ExprNode::Not(it) | ExprNode::Negate(it) | ExprNode::Finds(it, _) | ExprNode::Matches(it, _) => {
            is(it)
        }
        ExprNode::Equal(pair)
        | ExprNode::Unequal(pair)
        | ExprNode::Compare(_, pair)
        | ExprNode::Arithmetic(_, pair) => pair.iter().all(is),
        ExprNode::List(list) => list.iter().all(|(it, optional)| is(it) && !optional),
        ExprNode::Call(_, target, arguments) => target.as_deref().is_none_or(is) && arguments.iter().all(is),
        _ => false,
    };
    if !constant {
        return node;
    }
    let (document, memory) = (Document::default(), Bump::new());
    let view = document.view("");
    let raw = RawRecord {
        topic: "",
        partition: 0,
        offset: 0,
        timestamp_ms: 0,
        clock_ms: 0,
        key: None,
        value: None,
        headers: &[],
    };
    let record = Record { raw, value: view.root() };
    let value = Eval::new(&record, &memory, MAX_CONSTANT).value(&node).ok();
    // A text longer than an expression is not stored; it is computed again for each record.
    let value = value.filter(|value| !matches!(value, Val::Text(text) if text.len() > MAX_LENGTH));
    value.and_then(|value| Constant::from_val(&value)).map_or(node, ExprNode::Constant)
}

/// Comparing and counting handle this many bytes at once.
const QUICK: usize = 16;

/// The state of one evaluation.
pub(super) struct Eval<'a> {
    record: &'a Record<'a>,
    memory: &'a Bump,
    /// The variables of macros.
    pub(super) slots: [Val<'a>; SLOTS],
    headers: Option<Val<'a>>,
    /// Steps taken by macros.
    pub(super) steps: u32,
    /// Bytes allocated.
    spent: usize,
    /// The most bytes that may be allocated.
    memory_limit: usize,
    /// Bytes of texts read by functions.
    read: usize,
    /// Steps taken by patterns.
    patterns: usize,
}

impl<'a> Eval<'a> {
    fn new(record: &'a Record<'a>, memory: &'a Bump, memory_limit: usize) -> Self {
        let slots = [Val::Null; SLOTS];
        Self { record, memory, slots, headers: None, steps: 0, spent: 0, memory_limit, read: 0, patterns: 0 }
    }

    pub(super) fn memory(&self) -> &'a Bump {
        self.memory
    }

    /// Charges for allocating bytes.
    pub(super) fn charge_memory(&mut self, bytes: usize) -> Result<(), EvalFault> {
        self.spent = self.spent.saturating_add(bytes);
        if self.spent > self.memory_limit { Err(EvalFault::TooCostly) } else { Ok(()) }
    }

    /// Charges for reading bytes of texts.
    pub(super) fn charge_read(&mut self, bytes: usize) -> Result<(), EvalFault> {
        self.read = self.read.saturating_add(bytes);
        if self.read > MAX_READ { Err(EvalFault::TooCostly) } else { Ok(()) }
    }

    /// Charges for reading only inside macros: outside, an expression may read the whole record once.
    #[inline]
    fn charge_read_in_macro(&mut self, bytes: impl FnOnce() -> usize) -> Result<(), EvalFault> {
        if self.steps == 0 { Ok(()) } else { self.charge_read(bytes()) }
    }

    pub(super) fn keep(&mut self, value: Val<'a>) -> Result<&'a Val<'a>, EvalFault> {
        self.charge_memory(size_of::<Val<'_>>())?;
        Ok(self.memory.alloc(value))
    }

    /// Whether a part is true. Only [`EvalFault::NotCondition`] says that the part has a value that is no boolean.
    pub(super) fn truth(&mut self, node: &'a ExprNode) -> Result<bool, EvalFault> {
        // Inside macros reads are charged, so the fast path is not taken.
        if self.steps == 0
            && let Some(answer) = direct(node, self.record.value)
        {
            return answer;
        }
        match node {
            ExprNode::And(pair) => self.both(false, Op::And, pair),
            ExprNode::Or(pair) => self.both(true, Op::Or, pair),
            ExprNode::Not(it) => self.truth(it).map(|it| !it).map_err(|fault| not_boolean(fault, Op::Not)),
            ExprNode::Equal(pair) => self.equal(pair),
            ExprNode::Unequal(pair) => self.equal(pair).map(|it| !it),
            ExprNode::Compare(op, pair) => self.compare(*op, pair),
            ExprNode::In(pair) => self.is_in(pair),
            ExprNode::Has(of, name) => self.has(of, name),
            ExprNode::Call(op @ (Op::Contains | Op::StartsWith | Op::EndsWith), Some(text), part) => {
                self.text(*op, text, part)
            }
            ExprNode::Finds(text, part) => match self.subject(text)? {
                Val::Text(text) => {
                    self.charge_read_in_macro(|| text.len())?;
                    Ok(part.find(text.as_bytes()).is_some())
                }
                other => Err(EvalFault::Types(Op::Contains, other.kind(), ValueType::Text)),
            },
            ExprNode::Matches(text, pattern) => match self.subject(text)? {
                Val::Text(text) => pattern.is_in(text, &mut self.patterns).ok_or(EvalFault::TooCostly),
                other => Err(EvalFault::Type(Op::Matches, other.kind())),
            },
            _ => match self.value(node)? {
                Val::Bool(it) => Ok(it),
                other => Err(EvalFault::NotCondition(other.kind())),
            },
        }
    }

    /// Evaluates `&&` and `||`: the absorbing value decides on either side, whatever the other side is.
    fn both(&mut self, absorbing: bool, op: Op, [left, right]: &'a [ExprNode; 2]) -> Result<bool, EvalFault> {
        let left = self.truth(left);
        if left == Ok(absorbing) {
            return Ok(absorbing);
        }
        match (left, self.truth(right)) {
            (Ok(_), Ok(right)) => Ok(right),
            (Err(_), Ok(right)) if right == absorbing => Ok(absorbing),
            (Err(fault), Ok(_) | Err(EvalFault::NotCondition(_))) | (_, Err(fault)) => {
                Err(not_boolean(fault, op))
            }
        }
    }

    fn equal(&mut self, [left, right]: &'a [ExprNode; 2]) -> Result<bool, EvalFault> {
        let (left, right) = (self.value(left)?, self.value(right)?);
        self.charge_read_in_macro(|| left.weight().min(right.weight()))?;
        Ok(left.equals(&right))
    }

    fn compare(&mut self, op: Op, [left, right]: &'a [ExprNode; 2]) -> Result<bool, EvalFault> {
        let (left, right) = (self.value(left)?, self.value(right)?);
        self.charge_read_in_macro(|| left.weight().min(right.weight()))?;
        let order = left.compare(&right).ok_or_else(|| EvalFault::Types(op, left.kind(), right.kind()))?;
        Ok(super::fast_path::in_order(op, order))
    }

    fn is_in(&mut self, [item, of]: &'a [ExprNode; 2]) -> Result<bool, EvalFault> {
        let item = self.value(item)?;
        let of = self.value(of)?;
        if let Some(mut items) = of.items() {
            self.charge_read_in_macro(|| of.weight())?;
            return Ok(items.any(|it| it.equals(&item)));
        }
        match of.entry(&item) {
            Ok(found) if found.is_some() || item.is_key() => Ok(found.is_some()),
            _ => Err(EvalFault::Types(Op::In, item.kind(), of.kind())),
        }
    }

    /// The operand of a function of texts.
    #[inline]
    fn subject(&mut self, node: &'a ExprNode) -> Result<Val<'a>, EvalFault> {
        match node {
            ExprNode::Field(steps) => Ok(Val::from_node(follow(self.record.value, steps)?)),
            _ => self.value(node),
        }
    }

    #[inline]
    fn text(&mut self, op: Op, text: &'a ExprNode, part: &'a [ExprNode]) -> Result<bool, EvalFault> {
        let [part] = part else {
            for argument in part {
                self.value(argument)?;
            }
            self.value(text)?;
            return Err(EvalFault::Arguments(op));
        };
        let part = self.value(part)?;
        match (self.value(text)?, part) {
            (Val::Text(text), Val::Text(part)) => {
                self.charge_read_in_macro(|| {
                    if op == Op::Contains { text.len() + part.len() } else { part.len() / QUICK }
                })?;
                Ok(holds(op, text, part))
            }
            (text, part) => Err(EvalFault::Types(op, text.kind(), part.kind())),
        }
    }

    /// Evaluates a part.
    pub(super) fn value(&mut self, node: &'a ExprNode) -> Result<Val<'a>, EvalFault> {
        Ok(match node {
            ExprNode::Constant(it) => it.val(),
            ExprNode::Field(steps) => Val::from_node(follow(self.record.value, steps)?),
            ExprNode::Slot(slot) => self.slots.get(*slot).copied().unwrap_or(Val::Null),
            ExprNode::Record => Val::from_node(self.record.value),
            ExprNode::Key => text_or_null(self.record.raw.key_text()),
            ExprNode::Header(name) => {
                let has = self.record.raw.headers.iter().any(|(header, _)| *header == &**name);
                has.then(|| text_or_null(self.record.raw.header_text(name))).ok_or(EvalFault::Missing)?
            }
            ExprNode::Headers => self.headers()?,
            ExprNode::Topic => Val::Text(self.record.raw.topic),
            ExprNode::Partition => Val::Int(i64::from(self.record.raw.partition)),
            ExprNode::Timestamp => Val::Time(Time::from_millis(self.record.raw.timestamp_ms)),
            ExprNode::Nothing => return Err(EvalFault::Nothing),
            ExprNode::Select(of, name) => self.select(of, name)?,
            ExprNode::OptionalSelect(of, name) => {
                let Some((of, _)) = opened(self.value(of)?) else { return Ok(Val::Optional(None)) };
                let found = index(of, Val::Text(name.as_str())).ok();
                Val::Optional(found.map(|it| self.keep(it)).transpose()?)
            }
            ExprNode::Index(pair) => self.index(pair, false)?,
            ExprNode::OptionalIndex(pair) => self.index(pair, true)?,
            ExprNode::Negate(it) => match self.value(it)? {
                Val::Int(it) => Val::Int(it.checked_neg().ok_or(EvalFault::Overflow(Op::Negate))?),
                Val::Double(it) => Val::Double(-it),
                other => return Err(EvalFault::Type(Op::Negate, other.kind())),
            },
            ExprNode::Conditional(parts) => {
                let [condition, yes, no] = &**parts;
                let holds = self.truth(condition).map_err(|fault| not_boolean(fault, Op::Conditional))?;
                self.value(if holds { yes } else { no })?
            }
            ExprNode::Arithmetic(op, pair) => {
                let (left, right) = (self.value(&pair[0])?, self.value(&pair[1])?);
                self.arithmetic(*op, left, right)?
            }
            ExprNode::List(list) => self.list(list)?,
            ExprNode::Map(map) => self.map(map)?,
            ExprNode::Call(op, target, arguments) => self.call(*op, target.as_deref(), arguments)?,
            ExprNode::Macro(it) => self.macro_over(it)?,
            ExprNode::OptionalMap { of, slot, made, flat } => self.optional_map(of, *slot, made, *flat)?,
            ExprNode::Bind(slot, parts) => {
                let [value, with] = &**parts;
                let value = self.value(value)?;
                self.set(*slot, value);
                self.value(with)?
            }
            ExprNode::Extreme(op, given) => self.extreme(*op, given)?,
            ExprNode::And(_)
            | ExprNode::Or(_)
            | ExprNode::Not(_)
            | ExprNode::Equal(_)
            | ExprNode::Unequal(_)
            | ExprNode::Compare(..)
            | ExprNode::In(_)
            | ExprNode::Has(..)
            | ExprNode::Finds(..)
            | ExprNode::Matches(..) => Val::Bool(self.truth(node)?),
        })
    }

    #[inline(never)]
    fn call(
        &mut self,
        op: Op,
        target: Option<&'a ExprNode>,
        arguments: &'a [ExprNode],
    ) -> Result<Val<'a>, EvalFault> {
        if matches!(op, Op::Contains | Op::StartsWith | Op::EndsWith)
            && let Some(text) = target
        {
            return self.text(op, text, arguments).map(Val::Bool);
        }
        // Room for one more argument than any function takes.
        let mut given = [Val::Null; 5];
        // The target is evaluated last, and passed first.
        let first = usize::from(target.is_some());
        for (at, argument) in arguments.iter().enumerate() {
            let value = self.value(argument)?;
            if let Some(argument) = given.get_mut(at + first) {
                *argument = value;
            }
        }
        if let Some(target) = target {
            given[0] = self.value(target)?;
        }
        let quick = if op == Op::Size { QUICK } else { 1 };
        for value in given {
            self.charge_read_in_macro(|| if let Val::Text(text) = value { text.len() / quick } else { 0 })?;
        }
        let count = (arguments.len() + first).min(given.len());
        self.apply(op, given.get(..count).unwrap_or_default())
    }

    /// Evaluates `optMap` and `optFlatMap`.
    #[inline(never)]
    fn optional_map(
        &mut self,
        of: &'a ExprNode,
        slot: usize,
        made: &'a ExprNode,
        flat: bool,
    ) -> Result<Val<'a>, EvalFault> {
        let inner = match self.value(of)? {
            Val::Optional(Some(inner)) => *inner,
            Val::Optional(None) => return Ok(Val::Optional(None)),
            other => return Err(EvalFault::Type(Op::OptMap, other.kind())),
        };
        self.set(slot, inner);
        match self.value(made)? {
            made @ Val::Optional(_) if flat => Ok(made),
            made if flat => Err(EvalFault::Type(Op::OptMap, made.kind())),
            made => self.keep(made).map(|made| Val::Optional(Some(made))),
        }
    }

    /// All headers as a map; of equal names the last one counts.
    #[inline(never)]
    fn headers(&mut self) -> Result<Val<'a>, EvalFault> {
        if let Some(headers) = self.headers {
            return Ok(headers);
        }
        let headers = self.record.raw.headers;
        self.charge_memory(headers.len() * 32)?;
        let mut sorted = Made::with_capacity_in(headers.len(), self.memory);
        sorted.extend(
            headers
                .iter()
                .rev()
                .map(|(name, value)| (*name, value.and_then(|value| std::str::from_utf8(value).ok()))),
        );
        // The sort is stable: the last header of a name comes first, and stays.
        sorted.sort_by_key(|(name, _)| *name);
        sorted.dedup_by_key(|(name, _)| *name);
        let headers = Val::Headers(sorted.into_bump_slice());
        self.headers = Some(headers);
        Ok(headers)
    }

    fn has(&mut self, of: &'a ExprNode, name: &FieldName) -> Result<bool, EvalFault> {
        let Some((of, optional)) = opened(self.value(of)?) else { return Ok(false) };
        match field(of, name) {
            Ok(found) => Ok(found.is_some()),
            Err(_) if optional && of.kind() == ValueType::List => Ok(false),
            Err(_) if optional => Err(EvalFault::Missing),
            Err(fault) => Err(fault),
        }
    }

    #[inline(never)]
    fn select(&mut self, of: &'a ExprNode, name: &FieldName) -> Result<Val<'a>, EvalFault> {
        let Some((of, optional)) = opened(self.value(of)?) else { return Ok(Val::Optional(None)) };
        if !optional {
            return field(of, name)?.ok_or(EvalFault::Missing);
        }
        if !matches!(of.kind(), ValueType::Map | ValueType::List) {
            return Err(EvalFault::Missing);
        }
        let found = field(of, name).ok().flatten();
        Ok(Val::Optional(found.map(|it| self.keep(it)).transpose()?))
    }

    #[inline(never)]
    fn index(&mut self, [of, at]: &'a [ExprNode; 2], asked: bool) -> Result<Val<'a>, EvalFault> {
        let Some((of, optional)) = opened(self.value(of)?) else { return Ok(Val::Optional(None)) };
        let at = self.value(at)?;
        let found = index(of, at);
        if asked || optional {
            return Ok(Val::Optional(found.ok().map(|it| self.keep(it)).transpose()?));
        }
        found
    }

    #[inline(never)]
    fn list(&mut self, list: &'a [(ExprNode, bool)]) -> Result<Val<'a>, EvalFault> {
        self.charge_memory(size_of_val(list))?;
        let mut made = Made::with_capacity_in(list.len(), self.memory);
        for (node, optional) in list {
            match self.value(node)? {
                Val::Optional(it) if *optional => made.extend(it.copied()),
                value => made.push(value),
            }
        }
        Ok(Val::List(made.into_bump_slice()))
    }

    #[inline(never)]
    fn map(&mut self, map: &'a [(ExprNode, ExprNode, bool)]) -> Result<Val<'a>, EvalFault> {
        self.charge_memory(size_of_val(map))?;
        let mut made: Made<'_, (Val<'a>, Val<'a>)> = Made::with_capacity_in(map.len(), self.memory);
        for (key, value, optional) in map {
            let key = self.value(key)?;
            if !key.is_key() || matches!(key, Val::Double(_)) {
                return Err(EvalFault::Type(Op::MapKey, key.kind()));
            }
            let value = match self.value(value)? {
                Val::Optional(Some(it)) if *optional => *it,
                Val::Optional(None) if *optional => continue,
                value => value,
            };
            made.push((key, value));
        }
        Ok(Val::Map(sorted(made)?))
    }
}

pub(super) fn not_boolean(fault: EvalFault, op: Op) -> EvalFault {
    match fault {
        EvalFault::NotCondition(kind) => EvalFault::Type(op, kind),
        fault => fault,
    }
}

/// Unwraps an optional, and says whether it was one; `None` if it is empty.
fn opened(value: Val<'_>) -> Option<(Val<'_>, bool)> {
    match value {
        Val::Optional(it) => it.map(|it| (*it, true)),
        value => Some((value, false)),
    }
}

/// The value of that name in a map, if there is one.
fn field<'a>(of: Val<'a>, name: &FieldName) -> Result<Option<Val<'a>>, EvalFault> {
    match of {
        Val::Fields(node) => match node.data() {
            NodeData::Map(map) => Ok(map.get(name).map(Val::from_node)),
            _ => Ok(None),
        },
        Val::Null => Err(EvalFault::Missing),
        _ => of
            .entry(&Val::Text(name.as_str()))
            .map_err(|kind| EvalFault::Types(Op::Select, kind, ValueType::Text)),
    }
}

/// The element at an index of a list, or the value of a key of a map.
fn index<'a>(of: Val<'a>, at: Val<'a>) -> Result<Val<'a>, EvalFault> {
    let wrong = EvalFault::Types(Op::Index, of.kind(), at.kind());
    match of.kind() {
        ValueType::Null => Err(EvalFault::Missing),
        ValueType::List => {
            let at = match at {
                Val::Int(at) => usize::try_from(at).ok(),
                Val::Uint(at) => usize::try_from(at).ok(),
                Val::Double(at) if at.fract() == 0.0 && at.abs() < i64::MAX as f64 => {
                    usize::try_from(at as i64).ok()
                }
                _ => return Err(wrong),
            };
            at.and_then(|at| of.item(at)).ok_or(EvalFault::Missing)
        }
        ValueType::Map => match of.entry(&at) {
            Ok(Some(found)) => Ok(found),
            _ if at.is_key() => Err(EvalFault::Missing),
            _ => Err(wrong),
        },
        _ => Err(wrong),
    }
}
