//! The functions that an expression can call.

use std::fmt::Write;

use bumpalo::collections::{String as Text, Vec as Made};

use crate::document::same;

use super::eval::Eval;
use super::fault::{EvalFault, Op};
use super::math;
use super::time::{Time, parse_span, write_span};
use super::value::Val;

/// The names of all functions outside of namespaces.
pub(super) const NAMES: [&str; 40] = [
    "size",
    "matches",
    "contains",
    "startsWith",
    "endsWith",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "bytes",
    "type",
    "dyn",
    "timestamp",
    "duration",
    "getFullYear",
    "getMonth",
    "getDayOfYear",
    "getDayOfMonth",
    "getDate",
    "getDayOfWeek",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
    "value",
    "hasValue",
    "or",
    "orValue",
    "charAt",
    "indexOf",
    "lastIndexOf",
    "join",
    "lowerAscii",
    "upperAscii",
    "trim",
    "replace",
    "split",
    "substring",
    "reverse",
];

/// The function of that name; `on_target` if it is called as a method.
pub(super) fn named(name: &str, on_target: bool) -> Option<Op> {
    Some(match (name, on_target) {
        ("size", _) => Op::Size,
        ("matches", _) => Op::Matches,
        ("contains", true) => Op::Contains,
        ("startsWith", true) => Op::StartsWith,
        ("endsWith", true) => Op::EndsWith,
        ("string", false) => Op::ToString,
        ("int", false) => Op::ToInt,
        ("uint", false) => Op::ToUint,
        ("double", false) => Op::ToDouble,
        ("bool", false) => Op::ToBool,
        ("bytes", false) => Op::ToBytes,
        ("type", false) => Op::TypeOf,
        ("dyn", false) => Op::Dyn,
        ("timestamp", false) => Op::Timestamp,
        ("duration", false) => Op::Duration,
        ("getFullYear", true) => Op::FullYear,
        ("getMonth", true) => Op::Month,
        ("getDayOfYear", true) => Op::DayOfYear,
        ("getDayOfMonth", true) => Op::DayOfMonth,
        ("getDate", true) => Op::Date,
        ("getDayOfWeek", true) => Op::DayOfWeek,
        ("getHours", true) => Op::Hours,
        ("getMinutes", true) => Op::Minutes,
        ("getSeconds", true) => Op::Seconds,
        ("getMilliseconds", true) => Op::Milliseconds,
        ("value", true) => Op::Value,
        ("hasValue", true) => Op::HasValue,
        ("or", true) => Op::OrOptional,
        ("orValue", true) => Op::OrValue,
        ("charAt", true) => Op::CharAt,
        ("indexOf", true) => Op::IndexOf,
        ("lastIndexOf", true) => Op::LastIndexOf,
        ("join", true) => Op::Join,
        ("lowerAscii", true) => Op::LowerAscii,
        ("upperAscii", true) => Op::UpperAscii,
        ("trim", true) => Op::Trim,
        ("replace", true) => Op::Replace,
        ("split", true) => Op::Split,
        ("substring", true) => Op::Substring,
        ("reverse", true) => Op::Reverse,
        _ => return None,
    })
}

/// The function of that name in a namespace, such as `math.abs`.
pub(super) fn namespaced(namespace: &str, name: &str) -> Option<Op> {
    Some(match (namespace, name) {
        ("math", name) => return math(name),
        ("optional", "of") => Op::OptionalOf,
        ("optional", "ofNonZeroValue") => Op::OfNonZero,
        ("optional", "none") => Op::OptionalNone,
        ("strings", "quote") => Op::Quote,
        _ => return None,
    })
}

fn math(name: &str) -> Option<Op> {
    Some(match name {
        "greatest" => Op::Greatest,
        "least" => Op::Least,
        "ceil" => Op::Ceil,
        "floor" => Op::Floor,
        "round" => Op::Round,
        "trunc" => Op::Trunc,
        "abs" => Op::Abs,
        "sign" => Op::Sign,
        "sqrt" => Op::Sqrt,
        "isInf" => Op::IsInf,
        "isNaN" => Op::IsNan,
        "isFinite" => Op::IsFinite,
        "bitAnd" => Op::BitAnd,
        "bitOr" => Op::BitOr,
        "bitXor" => Op::BitXor,
        "bitNot" => Op::BitNot,
        "bitShiftLeft" => Op::ShiftLeft,
        "bitShiftRight" => Op::ShiftRight,
        _ => return None,
    })
}

impl<'a> Eval<'a> {
    /// Applies a function to its target, if it has one, and its arguments.
    pub(super) fn apply(&mut self, op: Op, given: &[Val<'a>]) -> Result<Val<'a>, EvalFault> {
        match op {
            Op::CharAt
            | Op::IndexOf
            | Op::LastIndexOf
            | Op::Join
            | Op::LowerAscii
            | Op::UpperAscii
            | Op::Trim
            | Op::Replace
            | Op::Split
            | Op::Substring
            | Op::Reverse
            | Op::Quote => return self.on_text(op, given),
            Op::Ceil
            | Op::Floor
            | Op::Round
            | Op::Trunc
            | Op::Abs
            | Op::Sign
            | Op::Sqrt
            | Op::IsInf
            | Op::IsNan
            | Op::IsFinite
            | Op::BitAnd
            | Op::BitOr
            | Op::BitXor
            | Op::BitNot
            | Op::ShiftLeft
            | Op::ShiftRight => return math::apply(op, given),
            Op::OptionalOf | Op::OfNonZero | Op::OptionalNone => return self.optional(op, given),
            _ => {}
        }
        match *given {
            [of] => self.unary(op, of),
            [of, with] => binary(op, of, with),
            _ => Err(EvalFault::Arguments(op)),
        }
    }

    fn optional(&mut self, op: Op, given: &[Val<'a>]) -> Result<Val<'a>, EvalFault> {
        match (op, given) {
            (Op::OptionalNone, []) => Ok(Val::Optional(None)),
            (Op::OfNonZero, [of]) if of.is_zero() => Ok(Val::Optional(None)),
            (Op::OptionalOf | Op::OfNonZero, [of]) => self.keep(*of).map(|of| Val::Optional(Some(of))),
            _ => Err(EvalFault::Arguments(op)),
        }
    }

    fn unary(&mut self, op: Op, of: Val<'a>) -> Result<Val<'a>, EvalFault> {
        let value = match op {
            Op::Size => match of {
                Val::Text(it) => Some(it.chars().count()),
                Val::Bytes(it) => Some(it.len()),
                _ => of.len(),
            }
            .map(|len| Val::Int(len as i64)),
            Op::ToString => return self.string(of),
            Op::ToInt | Op::ToUint | Op::ToDouble | Op::ToBool => return number(op, of),
            Op::ToBytes => match of {
                Val::Text(it) => Some(Val::Bytes(it.as_bytes())),
                Val::Bytes(_) => Some(of),
                _ => None,
            },
            Op::TypeOf => Some(Val::Type(of.kind())),
            Op::Dyn => Some(of),
            Op::Timestamp => match of {
                Val::Text(it) => Some(Val::Time(Time::parse(it).ok_or(EvalFault::Value(op))?)),
                Val::Int(it) => Some(Val::Time(Time::from_seconds(it).ok_or(EvalFault::Value(op))?)),
                Val::Time(_) => Some(of),
                _ => None,
            },
            Op::Duration => match of {
                Val::Text(it) => Some(Val::Span(parse_span(it).ok_or(EvalFault::Value(op))?)),
                Val::Span(_) => Some(of),
                _ => None,
            },
            Op::HasValue | Op::Value => match of {
                Val::Optional(it) if op == Op::HasValue => Some(Val::Bool(it.is_some())),
                Val::Optional(it) => Some(*it.ok_or(EvalFault::Value(op))?),
                _ => None,
            },
            _ => match of {
                Val::Time(time) => time.part(op).map(Val::Int),
                Val::Span(span) => span_part(span, op).map(Val::Int),
                _ => None,
            },
        };
        value.ok_or(EvalFault::Type(op, of.kind()))
    }

    fn string(&mut self, of: Val<'a>) -> Result<Val<'a>, EvalFault> {
        if let Val::Text(_) = of {
            return Ok(of);
        }
        let mut text = Text::new_in(self.memory());
        // Writing to a string does not fail.
        let _ = match of {
            Val::Bool(it) => write!(text, "{it}"),
            Val::Int(it) => write!(text, "{it}"),
            Val::Uint(it) => write!(text, "{it}"),
            Val::Double(it) => write!(text, "{it}"),
            Val::Bytes(it) => {
                return std::str::from_utf8(it).map(Val::Text).map_err(|_| EvalFault::Value(Op::ToString));
            }
            Val::Time(it) => {
                it.write(&mut text);
                Ok(())
            }
            Val::Span(it) => {
                write_span(&mut text, it);
                Ok(())
            }
            _ => return Err(EvalFault::Type(Op::ToString, of.kind())),
        };
        self.charge_memory(text.len())?;
        Ok(Val::Text(text.into_bump_str()))
    }

    pub(super) fn arithmetic(&mut self, op: Op, left: Val<'a>, right: Val<'a>) -> Result<Val<'a>, EvalFault> {
        let wrong = || EvalFault::Types(op, left.kind(), right.kind());
        match (left, right) {
            (Val::Int(a), Val::Int(b)) => {
                let value = match op {
                    Op::Add => a.checked_add(b),
                    Op::Subtract => a.checked_sub(b),
                    Op::Multiply => a.checked_mul(b),
                    Op::Divide | Op::Remainder if b == 0 => return Err(EvalFault::Zero),
                    Op::Divide => a.checked_div(b),
                    _ => a.checked_rem(b),
                };
                value.map(Val::Int).ok_or(EvalFault::Overflow(op))
            }
            (Val::Uint(a), Val::Uint(b)) => {
                let value = match op {
                    Op::Add => a.checked_add(b),
                    Op::Subtract => a.checked_sub(b),
                    Op::Multiply => a.checked_mul(b),
                    Op::Divide | Op::Remainder if b == 0 => return Err(EvalFault::Zero),
                    Op::Divide => a.checked_div(b),
                    _ => a.checked_rem(b),
                };
                value.map(Val::Uint).ok_or(EvalFault::Overflow(op))
            }
            (Val::Double(a), Val::Double(b)) => Ok(Val::Double(match op {
                Op::Add => a + b,
                Op::Subtract => a - b,
                Op::Multiply => a * b,
                Op::Divide => a / b,
                _ => return Err(wrong()),
            })),
            _ => match op {
                Op::Add => self.add(left, right)?.ok_or_else(wrong),
                Op::Subtract => subtract(left, right)?.ok_or_else(wrong),
                _ => Err(wrong()),
            },
        }
    }

    fn add(&mut self, left: Val<'a>, right: Val<'a>) -> Result<Option<Val<'a>>, EvalFault> {
        Ok(Some(match (left, right) {
            (Val::Text(a), Val::Text(b)) => {
                self.charge_memory(a.len() + b.len())?;
                let mut text = Text::with_capacity_in(a.len() + b.len(), self.memory());
                text.push_str(a);
                text.push_str(b);
                Val::Text(text.into_bump_str())
            }
            (Val::Bytes(a), Val::Bytes(b)) => {
                self.charge_memory(a.len() + b.len())?;
                let mut bytes = Made::with_capacity_in(a.len() + b.len(), self.memory());
                bytes.extend_from_slice(a);
                bytes.extend_from_slice(b);
                Val::Bytes(bytes.into_bump_slice())
            }
            (Val::Time(time), Val::Span(span)) | (Val::Span(span), Val::Time(time)) => {
                Val::Time(time.plus(span).ok_or(EvalFault::Overflow(Op::Add))?)
            }
            (Val::Span(a), Val::Span(b)) => Val::Span(a.checked_add(b).ok_or(EvalFault::Overflow(Op::Add))?),
            _ => match (left.items(), right.items()) {
                (Some(a), Some(b)) => {
                    let len = left.len().unwrap_or(0) + right.len().unwrap_or(0);
                    self.charge_memory(len * size_of::<Val<'_>>())?;
                    let mut list = Made::with_capacity_in(len, self.memory());
                    list.extend(a.chain(b));
                    Val::List(list.into_bump_slice())
                }
                _ => return Ok(None),
            },
        }))
    }
}

fn subtract<'a>(left: Val<'a>, right: Val<'a>) -> Result<Option<Val<'a>>, EvalFault> {
    let overflow = EvalFault::Overflow(Op::Subtract);
    Ok(Some(match (left, right) {
        (Val::Time(time), Val::Span(span)) => Val::Time(time.minus(span).ok_or(overflow)?),
        (Val::Time(a), Val::Time(b)) => Val::Span(a.since(b).ok_or(overflow)?),
        (Val::Span(a), Val::Span(b)) => Val::Span(a.checked_sub(b).ok_or(overflow)?),
        _ => return Ok(None),
    }))
}

fn binary<'a>(op: Op, of: Val<'a>, with: Val<'a>) -> Result<Val<'a>, EvalFault> {
    let wrong = || EvalFault::Types(op, of.kind(), with.kind());
    match (op, of, with) {
        (Op::Contains | Op::StartsWith | Op::EndsWith, Val::Text(text), Val::Text(part)) => {
            Ok(Val::Bool(holds(op, text, part)))
        }
        (Op::OrOptional, Val::Optional(it), _) => Ok(if it.is_some() { of } else { with }),
        (Op::OrValue, Val::Optional(it), _) => Ok(it.copied().unwrap_or(with)),
        (_, Val::Time(time), Val::Text(zone)) if time.part(op).is_some() => {
            let told = time.in_zone(zone).ok_or(EvalFault::Value(op))?;
            told.part(op).map(Val::Int).ok_or_else(wrong)
        }
        (
            Op::Contains
            | Op::StartsWith
            | Op::EndsWith
            | Op::OrOptional
            | Op::OrValue
            | Op::FullYear
            | Op::Month
            | Op::DayOfYear
            | Op::DayOfMonth
            | Op::Date
            | Op::DayOfWeek
            | Op::Hours
            | Op::Minutes
            | Op::Seconds
            | Op::Milliseconds,
            ..,
        ) => Err(wrong()),
        _ => Err(EvalFault::Arguments(op)),
    }
}

/// Whether the text contains, begins with or ends with the part.
#[inline]
pub(super) fn holds(op: Op, text: &str, part: &str) -> bool {
    match op {
        Op::Contains => memchr::memmem::find(text.as_bytes(), part.as_bytes()).is_some(),
        Op::StartsWith => text.as_bytes().get(..part.len()).is_some_and(|it| same(it, part.as_bytes())),
        _ => text
            .len()
            .checked_sub(part.len())
            .and_then(|start| text.as_bytes().get(start..))
            .is_some_and(|it| same(it, part.as_bytes())),
    }
}

fn span_part(span: i64, getter: Op) -> Option<i64> {
    let unit = match getter {
        Op::Hours => 3_600_000_000_000,
        Op::Minutes => 60_000_000_000,
        Op::Seconds => 1_000_000_000,
        Op::Milliseconds => 1_000_000,
        _ => return None,
    };
    Some(span / unit)
}

/// `int`, `uint`, `double` and `bool`.
fn number(op: Op, of: Val<'_>) -> Result<Val<'_>, EvalFault> {
    let value = match (op, of) {
        (Op::ToInt, Val::Int(_))
        | (Op::ToUint, Val::Uint(_))
        | (Op::ToDouble, Val::Double(_))
        | (Op::ToBool, Val::Bool(_)) => Some(of),
        (Op::ToInt, Val::Uint(it)) => i64::try_from(it).ok().map(Val::Int),
        // Both ends are excluded: doubles at the ends may be rounded from beyond them.
        (Op::ToInt, Val::Double(it)) => {
            (it > i64::MIN as f64 && it < i64::MAX as f64).then_some(Val::Int(it as i64))
        }
        (Op::ToInt, Val::Text(it)) => it.parse().ok().map(Val::Int),
        (Op::ToInt, Val::Time(it)) => Some(Val::Int(it.seconds())),
        (Op::ToUint, Val::Int(it)) => u64::try_from(it).ok().map(Val::Uint),
        (Op::ToUint, Val::Double(it)) => (it >= 0.0 && it < u64::MAX as f64).then_some(Val::Uint(it as u64)),
        (Op::ToUint, Val::Text(it)) => it.parse().ok().map(Val::Uint),
        (Op::ToDouble, Val::Int(it)) => Some(Val::Double(it as f64)),
        (Op::ToDouble, Val::Uint(it)) => Some(Val::Double(it as f64)),
        (Op::ToDouble, Val::Text(it)) => it.parse().ok().map(Val::Double),
        (Op::ToBool, Val::Text(it)) => match it {
            "1" | "t" | "true" | "TRUE" | "True" => Some(Val::Bool(true)),
            "0" | "f" | "false" | "FALSE" | "False" => Some(Val::Bool(false)),
            _ => None,
        },
        _ => return Err(EvalFault::Type(op, of.kind())),
    };
    value.ok_or(EvalFault::Value(op))
}
