//! Renders a template's tree. Every expression, element and byte that it touches is charged to the meter first.
//!
//! No value is computed later than it is charged, and the meter ends every loop.

use std::sync::Arc;

use crate::filters::CallArguments;
use crate::jinja_tests;
use crate::meter::{BoundedText, Meter, Stop, fault};
use crate::tree::{Args, Arithmetic, CompareOp, Expr, For, LoopTarget, Name, Stmt};
use crate::value::{Number, UNDEFINED, Value, equal, order};

/// The state of one rendering.
pub(crate) struct TemplateRenderer<'a> {
    pub(crate) meter: Meter<'a>,
    data: &'a Value,
    locals: Vec<(Name, Value)>,
    loops: Vec<LoopState>,
    out: BoundedText,
    escape: Escape,
}

/// How values are escaped in the output, unless they are marked `safe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escape {
    /// Not at all.
    No,
    /// As part of a JSON string; numbers stay as they are.
    Json,
}

/// The state of a loop.
struct LoopState {
    items: Arc<Vec<Value>>,
    at: usize,
    changed: Option<Vec<Value>>,
}

impl<'a> TemplateRenderer<'a> {
    pub(crate) fn new(meter: Meter<'a>, data: &'a Value, limit: usize, escape: Escape) -> Self {
        Self { meter, data, locals: Vec::new(), loops: Vec::new(), out: BoundedText::output(limit), escape }
    }

    /// Renders the statements and returns the output.
    pub(crate) fn render(&mut self, stmts: &[Stmt]) -> Result<String, Stop> {
        self.body(stmts)?;
        Ok(std::mem::take(&mut self.out.text))
    }

    fn body(&mut self, stmts: &[Stmt]) -> Result<(), Stop> {
        for stmt in stmts {
            self.meter.steps(1)?;
            match stmt {
                Stmt::Raw(raw) => self.out.push(&mut self.meter, raw)?,
                Stmt::Emit(expr) => {
                    let value = self.defined(expr)?;
                    self.emit(&value)?;
                }
                Stmt::If(condition, then, otherwise) => {
                    let taken = if self.eval(condition)?.is_true() { then } else { otherwise };
                    self.body(taken)?;
                }
                Stmt::For(looped) => self.run_loop(looped)?,
            }
        }
        Ok(())
    }

    fn emit(&mut self, value: &Value) -> Result<(), Stop> {
        match value {
            Value::Text(text, true) => self.out.push(&mut self.meter, text),
            Value::Text(..) | Value::List(_) | Value::Map(_) if self.escape == Escape::Json => {
                let text = value.to_text(&mut self.meter)?;
                escaped_json(&mut self.meter, &mut self.out, &text)
            }
            value => value.write(&mut self.meter, &mut self.out, false),
        }
    }

    fn run_loop(&mut self, looped: &For) -> Result<(), Stop> {
        let mut items = self.items(&looped.over)?;
        let locals = self.locals.len();
        if let Some(filter) = &looped.filter {
            let mut kept = Vec::new();
            for item in items.iter() {
                self.set(&looped.target, item)?;
                let keep = self.eval(filter)?.is_true();
                self.locals.truncate(locals);
                if keep {
                    self.meter.element(kept.len())?;
                    kept.push(item.clone());
                }
            }
            items = Arc::new(kept);
        }
        if items.is_empty() {
            return self.body(&looped.otherwise);
        }
        self.loops.push(LoopState { items: Arc::clone(&items), at: 0, changed: None });
        for (at, item) in items.iter().enumerate() {
            self.meter.steps(1)?;
            if let Some(own) = self.loops.last_mut() {
                own.at = at;
            }
            self.set(&looped.target, item)?;
            self.body(&looped.body)?;
            self.locals.truncate(locals);
        }
        self.loops.pop();
        Ok(())
    }

    fn set(&mut self, target: &LoopTarget, value: &Value) -> Result<(), Stop> {
        match target {
            LoopTarget::Name(name) => self.locals.push((Arc::clone(name), value.clone())),
            LoopTarget::Each(targets) => {
                let items = value.items(&mut self.meter)?;
                if items.len() != targets.len() {
                    return fault(format!("`for` has {} names for {} values", targets.len(), items.len()));
                }
                for (target, item) in targets.iter().zip(items.iter()) {
                    self.meter.steps(1)?;
                    self.set(target, item)?;
                }
            }
        }
        Ok(())
    }

    /// The elements that a loop over the expression visits.
    fn items(&mut self, expr: &Expr) -> Result<Arc<Vec<Value>>, Stop> {
        self.defined(expr)?.items(&mut self.meter)
    }

    /// The expression's value, which must be defined.
    pub(crate) fn defined(&mut self, expr: &Expr) -> Result<Value, Stop> {
        let value = self.eval(expr)?;
        if value.is_missing() { Err(Stop::Undefined(expr.source_excerpt())) } else { Ok(value) }
    }

    fn both(&mut self, two: &(Expr, Expr)) -> Result<(Value, Value), Stop> {
        Ok((self.defined(&two.0)?, self.defined(&two.1)?))
    }

    pub(crate) fn eval(&mut self, expr: &Expr) -> Result<Value, Stop> {
        self.meter.steps(1)?;
        Ok(match expr {
            Expr::Const(value) => value.clone(),
            Expr::Var(name) => self.lookup(name)?,
            Expr::Attr(of, name) => match &**of {
                Expr::Var(own) if &**own == "loop" && !self.loops.is_empty() => self.loop_variable(name),
                of => {
                    let name = Value::Text(Arc::clone(name), false);
                    self.defined(of)?.item(&mut self.meter, &name)?
                }
            },
            Expr::Item(two) => {
                let (of, key) = self.both(two)?;
                of.item(&mut self.meter, &key)?
            }
            Expr::Slice(of, bounds) => self.slice(of, bounds)?,
            Expr::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for item in items {
                    list.push(self.eval(item)?);
                }
                list.into()
            }
            Expr::Not(of) => Value::Bool(!self.eval(of)?.is_true()),
            Expr::Neg(of) => match self.defined(of)?.number() {
                Some(Number::Int(it)) => {
                    Value::Int(it.checked_neg().map_or_else(|| fault("a number too large"), Ok)?)
                }
                Some(Number::Float(it)) => Value::Float(-it),
                None => return fault("`-` is for numbers"),
            },
            Expr::And(two) => match self.eval(&two.0)? {
                left if left.is_true() => self.eval(&two.1)?,
                left => left,
            },
            Expr::Or(two) => match self.eval(&two.0)? {
                left if left.is_true() => left,
                _ => self.eval(&two.1)?,
            },
            Expr::Math(how, two) => {
                let (left, right) = self.both(two)?;
                self.arithmetic(*how, &left, &right)?
            }
            Expr::Concat(two) => {
                let (left, right) = self.both(two)?;
                let mut whole = BoundedText::value();
                left.write(&mut self.meter, &mut whole, false)?;
                right.write(&mut self.meter, &mut whole, false)?;
                Value::Text(whole.text.into(), false)
            }
            Expr::Compare(first, ops) => {
                let mut left = self.defined(first)?;
                for (how, right) in ops {
                    let right = self.defined(right)?;
                    if !self.compare(*how, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Value::Bool(true)
            }
            Expr::If(parts) => {
                let (condition, then, otherwise) = &**parts;
                match (self.eval(condition)?.is_true(), otherwise) {
                    (true, _) => self.eval(then)?,
                    (false, Some(otherwise)) => self.eval(otherwise)?,
                    (false, None) => Value::Undefined { silent: true },
                }
            }
            Expr::Filter(filter, on, args) => {
                let on = if filter.lenient { self.eval(on)? } else { self.defined(on)? };
                let given = self.given(args)?;
                (filter.apply)(self, &on, &given)?
            }
            Expr::Test(test, on, args) => {
                let on = self.eval(on)?;
                let given = self.given(args)?;
                Value::Bool((test.holds)(self, &on, &given)?)
            }
            Expr::Range(args) => self.range(args)?,
            Expr::Cycle(args) => {
                let given = self.given(args)?;
                let at = self.loops.last().map_or(0, |own| own.at);
                given.positional.get(at % given.positional.len().max(1)).cloned().unwrap_or(UNDEFINED)
            }
            Expr::Changed(args) => Value::Bool(self.changed(args)?),
        })
    }

    fn given(&mut self, args: &Args) -> Result<CallArguments, Stop> {
        let mut given = CallArguments::default();
        for expr in &args.positional {
            given.positional.push(self.eval(expr)?);
        }
        for (name, expr) in &args.named {
            given.named.push((Arc::clone(name), self.eval(expr)?));
        }
        Ok(given)
    }

    fn lookup(&mut self, name: &Name) -> Result<Value, Stop> {
        for (known, value) in self.locals.iter().rev() {
            self.meter.steps(1)?;
            if known == name {
                return Ok(value.clone());
            }
        }
        self.data.item(&mut self.meter, &Value::Text(Arc::clone(name), false))
    }

    fn loop_variable(&self, name: &str) -> Value {
        let Some(own) = self.loops.last() else { return UNDEFINED };
        let (at, len) = (own.at, own.items.len());
        match name {
            "index" => Value::from(at + 1),
            "index0" => Value::from(at),
            "length" => Value::from(len),
            "revindex" => Value::from(len - at),
            "revindex0" => Value::from(len - at - 1),
            "first" => Value::Bool(at == 0),
            "last" => Value::Bool(at + 1 == len),
            "depth" => Value::from(self.loops.len()),
            "depth0" => Value::from(self.loops.len() - 1),
            "previtem" => at.checked_sub(1).and_then(|at| own.items.get(at)).cloned().unwrap_or(UNDEFINED),
            "nextitem" => own.items.get(at + 1).cloned().unwrap_or(UNDEFINED),
            _ => UNDEFINED,
        }
    }

    fn changed(&mut self, args: &Args) -> Result<bool, Stop> {
        let now = self.given(args)?.positional;
        let Some(own) = self.loops.last_mut() else { return fault("`loop.changed` is for loops") };
        let before = own.changed.take();
        let same = match before {
            Some(before) if before.len() == now.len() => {
                let mut same = true;
                for (a, b) in before.iter().zip(&now) {
                    same = same && equal(&mut self.meter, a, b)?;
                }
                same
            }
            _ => false,
        };
        own.changed = Some(now);
        Ok(!same)
    }

    fn range(&mut self, args: &Args) -> Result<Value, Stop> {
        let given = self.given(args)?;
        let mut numbers = Vec::new();
        for value in &given.positional {
            match value.int() {
                Some(number) => numbers.push(number),
                None => return fault("`range` is of integers"),
            }
        }
        let (mut at, end, step) = match numbers[..] {
            [end] => (0, end, 1),
            [start, end] => (start, end, 1),
            [start, end, step] if step != 0 => (start, end, step),
            _ => return fault("`range` needs an end, and a step that is not 0"),
        };
        let mut items = Vec::new();
        while if step > 0 { at < end } else { at > end } {
            self.meter.element(items.len())?;
            items.push(Value::Int(at));
            at = at.saturating_add(step);
        }
        Ok(items.into())
    }

    /// `left + right` and the like.
    pub(crate) fn arithmetic(&mut self, how: Arithmetic, left: &Value, right: &Value) -> Result<Value, Stop> {
        match (how, left, right) {
            (Arithmetic::Add, Value::Text(a, _), Value::Text(b, _)) => {
                let mut whole = BoundedText::value();
                whole.push(&mut self.meter, a)?;
                whole.push(&mut self.meter, b)?;
                return Ok(Value::Text(whole.text.into(), false));
            }
            (Arithmetic::Add, Value::List(a), Value::List(b)) => {
                let mut whole = Vec::new();
                for item in a.iter().chain(b.iter()) {
                    self.meter.element(whole.len())?;
                    whole.push(item.clone());
                }
                return Ok(whole.into());
            }
            _ => {}
        }
        let (Some(a), Some(b)) = (left.number(), right.number()) else {
            return fault(format!("there is no `{}` of {} and {}", sign(how), left.kind(), right.kind()));
        };
        numbers(how, a, b)
            .map_or_else(|| fault(format!("`{}` of these numbers has no result", sign(how))), Ok)
    }

    fn compare(&mut self, how: CompareOp, left: &Value, right: &Value) -> Result<bool, Stop> {
        let meter = &mut self.meter;
        Ok(match how {
            CompareOp::Eq => equal(meter, left, right)?,
            CompareOp::Ne => !equal(meter, left, right)?,
            CompareOp::Lt => order(meter, left, right, false)?.is_lt(),
            CompareOp::Lte => order(meter, left, right, false)?.is_le(),
            CompareOp::Gt => order(meter, left, right, false)?.is_gt(),
            CompareOp::Gte => order(meter, left, right, false)?.is_ge(),
            CompareOp::In => jinja_tests::contains(meter, right, left)?,
            CompareOp::NotIn => !jinja_tests::contains(meter, right, left)?,
        })
    }

    fn slice(&mut self, of: &Expr, bounds: &[Option<Expr>; 3]) -> Result<Value, Stop> {
        let of = self.defined(of)?;
        let mut numbers = [None; 3];
        for (number, bound) in numbers.iter_mut().zip(bounds) {
            let Some(bound) = bound else { continue };
            *number = match self.defined(bound)? {
                Value::None => None,
                value => Some(value.int().map_or_else(|| fault("a slice is of integers"), Ok)?),
            };
        }
        let step = numbers[2].unwrap_or(1);
        if step == 0 {
            return fault("a slice's step is not 0");
        }
        let text = of.text().is_some();
        if !text && !matches!(of, Value::List(_)) {
            return fault(format!("a {} can't be sliced", of.kind()));
        }
        let items = of.items(&mut self.meter)?;
        let mut kept = Vec::new();
        let len = i128::try_from(items.len()).unwrap_or(i128::MAX);
        // As in Python, negative bounds count from the back, and bounds are clamped to the length.
        let cut = |bound: i128, least: i128, most: i128| {
            (if bound < 0 { bound.saturating_add(len) } else { bound }).clamp(least, most)
        };
        let (mut at, end) = if step > 0 {
            (numbers[0].map_or(0, |it| cut(it, 0, len)), numbers[1].map_or(len, |it| cut(it, 0, len)))
        } else {
            (
                numbers[0].map_or(len - 1, |it| cut(it, -1, len - 1)),
                numbers[1].map_or(-1, |it| cut(it, -1, len - 1)),
            )
        };
        while if step > 0 { at < end } else { at > end } {
            self.meter.element(kept.len())?;
            kept.extend(usize::try_from(at).ok().and_then(|at| items.get(at)).cloned());
            at = at.saturating_add(step);
        }
        if !text {
            return Ok(kept.into());
        }
        let mut whole = BoundedText::value();
        for char in &kept {
            whole.push(&mut self.meter, char.text().unwrap_or_default())?;
        }
        Ok(Value::Text(whole.text.into(), false))
    }
}

fn sign(how: Arithmetic) -> &'static str {
    match how {
        Arithmetic::Add => "+",
        Arithmetic::Sub => "-",
        Arithmetic::Div => "/",
        Arithmetic::FloorDiv => "//",
        Arithmetic::Rem => "%",
    }
}

/// `None` if there is no result: a division by zero, or a number that is too large.
#[allow(clippy::cast_precision_loss, reason = "as MiniJinja divides")]
fn numbers(how: Arithmetic, a: Number, b: Number) -> Option<Value> {
    let float = |it: Number| match it {
        Number::Int(it) => it as f64,
        Number::Float(it) => it,
    };
    if let (Number::Int(a), Number::Int(b)) = (a, b) {
        return match how {
            Arithmetic::Add => a.checked_add(b).map(Value::Int),
            Arithmetic::Sub => a.checked_sub(b).map(Value::Int),
            Arithmetic::Div if b == 0 => None,
            Arithmetic::Div => Some(Value::Float(a as f64 / b as f64)),
            Arithmetic::FloorDiv => {
                let (whole, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
                Some(Value::Int(if rest != 0 && (rest < 0) != (b < 0) { whole - 1 } else { whole }))
            }
            Arithmetic::Rem => {
                let rest = a.checked_rem(b)?;
                Some(Value::Int(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }))
            }
        };
    }
    let (a, b) = (float(a), float(b));
    match how {
        Arithmetic::Add => Some(Value::Float(a + b)),
        Arithmetic::Sub => Some(Value::Float(a - b)),
        _ if b == 0.0 => None,
        Arithmetic::Div => Some(Value::Float(a / b)),
        Arithmetic::FloorDiv => Some(Value::Float((a / b).floor())),
        Arithmetic::Rem => Some(Value::Float(a - b * (a / b).floor())),
    }
}

/// A value as text, escaped for HTML.
pub(crate) fn escaped(meter: &mut Meter<'_>, value: &Value) -> Result<Arc<str>, Stop> {
    let text = value.to_text(meter)?;
    let mut out = BoundedText::value();
    let mut rest = &*text;
    while let Some(at) = rest.find(['<', '>', '&', '"', '\'', '/']) {
        out.push(meter, &rest[..at])?;
        out.push(
            meter,
            match rest.as_bytes()[at] {
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'&' => "&amp;",
                b'"' => "&quot;",
                b'\'' => "&#x27;",
                _ => "&#x2f;",
            },
        )?;
        rest = &rest[at + 1..];
    }
    out.push(meter, rest)?;
    Ok(out.text.into())
}

/// Writes a text as part of a JSON string (RFC 8259, section 7), without its quotes.
fn escaped_json(meter: &mut Meter<'_>, out: &mut BoundedText, text: &str) -> Result<(), Stop> {
    let mut rest = text;
    while let Some(at) = rest.find(|it: char| matches!(it, '"' | '\\') || it.is_control()) {
        out.push(meter, &rest[..at])?;
        let Some(char) = rest[at..].chars().next() else { break };
        match char {
            '"' => out.push(meter, "\\\"")?,
            '\\' => out.push(meter, "\\\\")?,
            '\n' => out.push(meter, "\\n")?,
            other => out.push(meter, &format!("\\u{:04x}", u32::from(other)))?,
        }
        rest = &rest[at + char.len_utf8()..];
    }
    out.push(meter, rest)
}
