//! Runs a program over a record.

use bumpalo::{Bump, collections::Vec as Made};

use crate::document::{Data, Document, Name};
use crate::patterns::MAX_WORK;
use crate::record::{RawRecord, Record};

use super::compile::SLOTS;
use super::fault::{Fault, Kind, Op};
use super::functions::holds;
use super::macros::sorted;
use super::plain::direct;
use super::program::{Node, follow};
use super::time::Time;
use super::value::{Constant, Val, text_or_null};
use super::{MAX_CONSTANT, MAX_LENGTH, MAX_MEMORY, MAX_READ, MAX_STEPS};

/// Whether the program is true for the record.
pub(super) fn run(program: &Node, record: &Record<'_>, memory: &Bump) -> Result<bool, Fault> {
    if let Some(answer) = direct(program, record.value) {
        return answer;
    }
    let mut eval = Eval::new(record, memory, MAX_MEMORY);
    let answer = eval.truth(program);
    // Neither && nor || takes that for an answer.
    if eval.steps > MAX_STEPS || eval.spent > MAX_MEMORY || eval.read > MAX_READ || eval.patterns > MAX_WORK {
        return Err(Fault::TooCostly);
    }
    match answer {
        Err(Fault::NotCondition(kind)) => Err(Fault::NotBoolean(kind)),
        answer => answer,
    }
}

/// The constant that a part is, if all that it is made of is constant; otherwise the part.
pub(super) fn fold(node: Node) -> Node {
    let is = |node: &Node| matches!(node, Node::Constant(_));
    let constant = match &node {
        Node::Not(it) | Node::Negate(it) | Node::Finds(it, _) | Node::Matches(it, _) => is(it),
        Node::Equal(pair) | Node::Unequal(pair) | Node::Compare(_, pair) | Node::Arithmetic(_, pair) => {
            pair.iter().all(is)
        }
        Node::List(list) => list.iter().all(|(it, optional)| is(it) && !optional),
        Node::Call(_, target, arguments) => target.as_deref().is_none_or(is) && arguments.iter().all(is),
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
    // A text that functions made longer than an expression is made again for each record.
    let value = value.filter(|value| !matches!(value, Val::Text(text) if text.len() > MAX_LENGTH));
    value.and_then(|value| Constant::of(&value)).map_or(node, Node::Constant)
}

/// To compare and to count takes that many bytes at once.
const QUICK: usize = 16;

/// One evaluation.
pub(super) struct Eval<'a> {
    record: &'a Record<'a>,
    memory: &'a Bump,
    /// The variables of macros.
    pub(super) slots: [Val<'a>; SLOTS],
    headers: Option<Val<'a>>,
    /// Steps that macros took.
    pub(super) steps: u32,
    /// Bytes put together.
    spent: usize,
    /// The most of them.
    memory_limit: usize,
    /// Bytes of texts that functions looked at.
    read: usize,
    /// Steps that patterns took.
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

    /// Counts bytes that are put together.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), Fault> {
        self.spent = self.spent.saturating_add(bytes);
        if self.spent > self.memory_limit { Err(Fault::TooCostly) } else { Ok(()) }
    }

    /// Counts bytes that a function looks at.
    pub(super) fn look(&mut self, bytes: usize) -> Result<(), Fault> {
        self.read = self.read.saturating_add(bytes);
        if self.read > MAX_READ { Err(Fault::TooCostly) } else { Ok(()) }
    }

    /// The same within a macro: once, an expression may read the whole record.
    #[inline]
    fn reads(&mut self, bytes: impl FnOnce() -> usize) -> Result<(), Fault> {
        if self.steps == 0 { Ok(()) } else { self.look(bytes()) }
    }

    pub(super) fn keep(&mut self, value: Val<'a>) -> Result<&'a Val<'a>, Fault> {
        self.spend(size_of::<Val<'_>>())?;
        Ok(self.memory.alloc(value))
    }

    /// Whether a part is true. [`Fault::NotCondition`] says that it has a value that is no boolean, and comes from nowhere
    /// else.
    pub(super) fn truth(&mut self, node: &'a Node) -> Result<bool, Fault> {
        // Within a macro what is read is counted.
        if self.steps == 0
            && let Some(answer) = direct(node, self.record.value)
        {
            return answer;
        }
        match node {
            Node::And(pair) => self.both(false, Op::And, pair),
            Node::Or(pair) => self.both(true, Op::Or, pair),
            Node::Not(it) => self.truth(it).map(|it| !it).map_err(|fault| not_boolean(fault, Op::Not)),
            Node::Equal(pair) => self.equal(pair),
            Node::Unequal(pair) => self.equal(pair).map(|it| !it),
            Node::Compare(op, pair) => self.compare(*op, pair),
            Node::In(pair) => self.is_in(pair),
            Node::Has(of, name) => self.has(of, name),
            Node::Call(op @ (Op::Contains | Op::StartsWith | Op::EndsWith), Some(text), part) => {
                self.text(*op, text, part)
            }
            Node::Finds(text, part) => match self.subject(text)? {
                Val::Text(text) => {
                    self.reads(|| text.len())?;
                    Ok(part.find(text.as_bytes()).is_some())
                }
                other => Err(Fault::Types(Op::Contains, other.kind(), Kind::Text)),
            },
            Node::Matches(text, pattern) => match self.subject(text)? {
                Val::Text(text) => pattern.is_in(text, &mut self.patterns).ok_or(Fault::TooCostly),
                other => Err(Fault::Type(Op::Matches, other.kind())),
            },
            _ => match self.value(node)? {
                Val::Bool(it) => Ok(it),
                other => Err(Fault::NotCondition(other.kind())),
            },
        }
    }

    /// `&&` and `||`: the absorbing value decides whichever side it is on, whatever the other side is.
    fn both(&mut self, absorbing: bool, op: Op, [left, right]: &'a [Node; 2]) -> Result<bool, Fault> {
        let left = self.truth(left);
        if left == Ok(absorbing) {
            return Ok(absorbing);
        }
        match (left, self.truth(right)) {
            (Ok(_), Ok(right)) => Ok(right),
            (Err(_), Ok(right)) if right == absorbing => Ok(absorbing),
            (Err(fault), Ok(_) | Err(Fault::NotCondition(_))) | (_, Err(fault)) => {
                Err(not_boolean(fault, op))
            }
        }
    }

    fn equal(&mut self, [left, right]: &'a [Node; 2]) -> Result<bool, Fault> {
        let (left, right) = (self.value(left)?, self.value(right)?);
        self.reads(|| left.weight().min(right.weight()))?;
        Ok(left.equals(&right))
    }

    fn compare(&mut self, op: Op, [left, right]: &'a [Node; 2]) -> Result<bool, Fault> {
        let (left, right) = (self.value(left)?, self.value(right)?);
        self.reads(|| left.weight().min(right.weight()))?;
        let order = left.compare(&right).ok_or_else(|| Fault::Types(op, left.kind(), right.kind()))?;
        Ok(super::plain::in_order(op, order))
    }

    fn is_in(&mut self, [item, of]: &'a [Node; 2]) -> Result<bool, Fault> {
        let item = self.value(item)?;
        let of = self.value(of)?;
        if let Some(mut items) = of.items() {
            self.reads(|| of.weight())?;
            return Ok(items.any(|it| it.equals(&item)));
        }
        match of.entry(&item) {
            Ok(found) if found.is_some() || item.is_key() => Ok(found.is_some()),
            _ => Err(Fault::Types(Op::In, item.kind(), of.kind())),
        }
    }

    /// What a function of texts is applied to.
    #[inline]
    fn subject(&mut self, node: &'a Node) -> Result<Val<'a>, Fault> {
        match node {
            Node::Field(steps) => Ok(Val::of(follow(self.record.value, steps)?)),
            _ => self.value(node),
        }
    }

    #[inline]
    fn text(&mut self, op: Op, text: &'a Node, part: &'a [Node]) -> Result<bool, Fault> {
        let [part] = part else {
            for argument in part {
                self.value(argument)?;
            }
            self.value(text)?;
            return Err(Fault::Arguments(op));
        };
        let part = self.value(part)?;
        match (self.value(text)?, part) {
            (Val::Text(text), Val::Text(part)) => {
                self.reads(|| if op == Op::Contains { text.len() + part.len() } else { part.len() / QUICK })?;
                Ok(holds(op, text, part))
            }
            (text, part) => Err(Fault::Types(op, text.kind(), part.kind())),
        }
    }

    /// The value of a part.
    pub(super) fn value(&mut self, node: &'a Node) -> Result<Val<'a>, Fault> {
        Ok(match node {
            Node::Constant(it) => it.val(),
            Node::Field(steps) => Val::of(follow(self.record.value, steps)?),
            Node::Slot(slot) => self.slots.get(*slot).copied().unwrap_or(Val::Null),
            Node::Record => Val::of(self.record.value),
            Node::Key => text_or_null(self.record.raw.key_text()),
            Node::Header(name) => {
                let has = self.record.raw.headers.iter().any(|(header, _)| *header == &**name);
                has.then(|| text_or_null(self.record.raw.header_text(name))).ok_or(Fault::Missing)?
            }
            Node::Headers => self.headers()?,
            Node::Topic => Val::Text(self.record.raw.topic),
            Node::Partition => Val::Int(i64::from(self.record.raw.partition)),
            Node::Timestamp => Val::Time(Time::of_millis(self.record.raw.timestamp_ms)),
            Node::Nothing => return Err(Fault::Nothing),
            Node::Select(of, name) => self.select(of, name)?,
            Node::OptionalSelect(of, name) => {
                let Some((of, _)) = opened(self.value(of)?) else { return Ok(Val::Optional(None)) };
                let found = index(of, Val::Text(name.as_str())).ok();
                Val::Optional(found.map(|it| self.keep(it)).transpose()?)
            }
            Node::Index(pair) => self.index(pair, false)?,
            Node::OptionalIndex(pair) => self.index(pair, true)?,
            Node::Negate(it) => match self.value(it)? {
                Val::Int(it) => Val::Int(it.checked_neg().ok_or(Fault::Overflow(Op::Negate))?),
                Val::Double(it) => Val::Double(-it),
                other => return Err(Fault::Type(Op::Negate, other.kind())),
            },
            Node::Conditional(parts) => {
                let [condition, yes, no] = &**parts;
                let holds = self.truth(condition).map_err(|fault| not_boolean(fault, Op::Conditional))?;
                self.value(if holds { yes } else { no })?
            }
            Node::Arithmetic(op, pair) => {
                let (left, right) = (self.value(&pair[0])?, self.value(&pair[1])?);
                self.arithmetic(*op, left, right)?
            }
            Node::List(list) => self.list(list)?,
            Node::Map(map) => self.map(map)?,
            Node::Call(op, target, arguments) => self.call(*op, target.as_deref(), arguments)?,
            Node::Macro(it) => self.macro_over(it)?,
            Node::OptionalMap { of, slot, made, flat } => self.optional_map(of, *slot, made, *flat)?,
            Node::Bind(slot, parts) => {
                let [value, with] = &**parts;
                let value = self.value(value)?;
                self.set(*slot, value);
                self.value(with)?
            }
            Node::Extreme(op, given) => self.extreme(*op, given)?,
            Node::And(_)
            | Node::Or(_)
            | Node::Not(_)
            | Node::Equal(_)
            | Node::Unequal(_)
            | Node::Compare(..)
            | Node::In(_)
            | Node::Has(..)
            | Node::Finds(..)
            | Node::Matches(..) => Val::Bool(self.truth(node)?),
        })
    }

    #[inline(never)]
    fn call(&mut self, op: Op, target: Option<&'a Node>, arguments: &'a [Node]) -> Result<Val<'a>, Fault> {
        if matches!(op, Op::Contains | Op::StartsWith | Op::EndsWith)
            && let Some(text) = target
        {
            return self.text(op, text, arguments).map(Val::Bool);
        }
        // One more than any function takes.
        let mut given = [Val::Null; 5];
        // The target is evaluated last, and given first.
        let first = usize::from(target.is_some());
        for (at, argument) in arguments.iter().enumerate() {
            let value = self.value(argument)?;
            if let Some(place) = given.get_mut(at + first) {
                *place = value;
            }
        }
        if let Some(target) = target {
            given[0] = self.value(target)?;
        }
        let quick = if op == Op::Size { QUICK } else { 1 };
        for value in given {
            self.reads(|| if let Val::Text(text) = value { text.len() / quick } else { 0 })?;
        }
        let count = (arguments.len() + first).min(given.len());
        self.apply(op, given.get(..count).unwrap_or_default())
    }

    /// `optMap`, and `optFlatMap`.
    #[inline(never)]
    fn optional_map(
        &mut self,
        of: &'a Node,
        slot: usize,
        made: &'a Node,
        flat: bool,
    ) -> Result<Val<'a>, Fault> {
        let inner = match self.value(of)? {
            Val::Optional(Some(inner)) => *inner,
            Val::Optional(None) => return Ok(Val::Optional(None)),
            other => return Err(Fault::Type(Op::OptMap, other.kind())),
        };
        self.set(slot, inner);
        match self.value(made)? {
            made @ Val::Optional(_) if flat => Ok(made),
            made if flat => Err(Fault::Type(Op::OptMap, made.kind())),
            made => self.keep(made).map(|made| Val::Optional(Some(made))),
        }
    }

    /// All headers: of those with the same name the last.
    #[inline(never)]
    fn headers(&mut self) -> Result<Val<'a>, Fault> {
        if let Some(headers) = self.headers {
            return Ok(headers);
        }
        let headers = self.record.raw.headers;
        self.spend(headers.len() * 32)?;
        let mut sorted = Made::with_capacity_in(headers.len(), self.memory);
        sorted.extend(
            headers
                .iter()
                .rev()
                .map(|(name, value)| (*name, value.and_then(|value| std::str::from_utf8(value).ok()))),
        );
        // Stable: the last of a name comes first, and is the one that stays.
        sorted.sort_by_key(|(name, _)| *name);
        sorted.dedup_by_key(|(name, _)| *name);
        let headers = Val::Headers(sorted.into_bump_slice());
        self.headers = Some(headers);
        Ok(headers)
    }

    fn has(&mut self, of: &'a Node, name: &Name) -> Result<bool, Fault> {
        let Some((of, optional)) = opened(self.value(of)?) else { return Ok(false) };
        match field(of, name) {
            Ok(found) => Ok(found.is_some()),
            Err(_) if optional && of.kind() == Kind::List => Ok(false),
            Err(_) if optional => Err(Fault::Missing),
            Err(fault) => Err(fault),
        }
    }

    #[inline(never)]
    fn select(&mut self, of: &'a Node, name: &Name) -> Result<Val<'a>, Fault> {
        let Some((of, optional)) = opened(self.value(of)?) else { return Ok(Val::Optional(None)) };
        if !optional {
            return field(of, name)?.ok_or(Fault::Missing);
        }
        if !matches!(of.kind(), Kind::Map | Kind::List) {
            return Err(Fault::Missing);
        }
        let found = field(of, name).ok().flatten();
        Ok(Val::Optional(found.map(|it| self.keep(it)).transpose()?))
    }

    #[inline(never)]
    fn index(&mut self, [of, at]: &'a [Node; 2], asked: bool) -> Result<Val<'a>, Fault> {
        let Some((of, optional)) = opened(self.value(of)?) else { return Ok(Val::Optional(None)) };
        let at = self.value(at)?;
        let found = index(of, at);
        if asked || optional {
            return Ok(Val::Optional(found.ok().map(|it| self.keep(it)).transpose()?));
        }
        found
    }

    #[inline(never)]
    fn list(&mut self, list: &'a [(Node, bool)]) -> Result<Val<'a>, Fault> {
        self.spend(size_of_val(list))?;
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
    fn map(&mut self, map: &'a [(Node, Node, bool)]) -> Result<Val<'a>, Fault> {
        self.spend(size_of_val(map))?;
        let mut made: Made<'_, (Val<'a>, Val<'a>)> = Made::with_capacity_in(map.len(), self.memory);
        for (key, value, optional) in map {
            let key = self.value(key)?;
            if !key.is_key() || matches!(key, Val::Double(_)) {
                return Err(Fault::Type(Op::MapKey, key.kind()));
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

pub(super) fn not_boolean(fault: Fault, op: Op) -> Fault {
    match fault {
        Fault::NotCondition(kind) => Fault::Type(op, kind),
        fault => fault,
    }
}

/// What an optional holds, and that it was one; nothing if it is empty.
fn opened(value: Val<'_>) -> Option<(Val<'_>, bool)> {
    match value {
        Val::Optional(it) => it.map(|it| (*it, true)),
        value => Some((value, false)),
    }
}

/// The value of that name in a map, if it is there.
fn field<'a>(of: Val<'a>, name: &Name) -> Result<Option<Val<'a>>, Fault> {
    match of {
        Val::Fields(node) => match node.data() {
            Data::Map(map) => Ok(map.get(name).map(Val::of)),
            _ => Ok(None),
        },
        Val::Null => Err(Fault::Missing),
        _ => of.entry(&Val::Text(name.as_str())).map_err(|kind| Fault::Types(Op::Select, kind, Kind::Text)),
    }
}

/// The element at an index of a list, or the value of a key of a map.
fn index<'a>(of: Val<'a>, at: Val<'a>) -> Result<Val<'a>, Fault> {
    let wrong = Fault::Types(Op::Index, of.kind(), at.kind());
    match of.kind() {
        Kind::Null => Err(Fault::Missing),
        Kind::List => {
            let at = match at {
                Val::Int(at) => usize::try_from(at).ok(),
                Val::Uint(at) => usize::try_from(at).ok(),
                Val::Double(at) if at.fract() == 0.0 && at.abs() < i64::MAX as f64 => {
                    usize::try_from(at as i64).ok()
                }
                _ => return Err(wrong),
            };
            at.and_then(|at| of.item(at)).ok_or(Fault::Missing)
        }
        Kind::Map => match of.entry(&at) {
            Ok(Some(found)) => Ok(found),
            _ if at.is_key() => Err(Fault::Missing),
            _ => Err(wrong),
        },
        _ => Err(wrong),
    }
}
