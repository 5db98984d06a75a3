//! The values that a template works with. None is lazy, because nobody would charge for what is computed later. Copies
//! are cheap, because values are shared.
//!
//! They compare and print as in MiniJinja 3 (numbers by value, kinds in an order; `1.0`, `['a', 1]`), except that true,
//! false and null are written as JSON writes them, as in a rule's labels.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::meter::{BoundedText, Meter, Stop, fault};

/// A value.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Not there. `silent` for `x if y` without `else`, which gives an empty text instead of an error.
    Undefined {
        silent: bool,
    },
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    /// A text, and whether it is marked `safe`.
    Text(Arc<str>, bool),
    List(Arc<Vec<Value>>),
    Map(Arc<BTreeMap<Arc<str>, Value>>),
}

pub(crate) const UNDEFINED: Value = Value::Undefined { silent: false };

/// A number, for arithmetic and comparison.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Number {
    Int(i128),
    Float(f64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into(), false)
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::List(Arc::new(items))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Int(i128::try_from(number).unwrap_or(i128::MAX))
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::None,
            Json::Bool(it) => Self::Bool(it),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(it), _) => Self::Int(it.into()),
                (None, Some(it)) => Self::Int(it.into()),
                (None, None) => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::Text(text.into(), false),
            Json::Array(items) => items.into_iter().map(Self::from).collect::<Vec<_>>().into(),
            Json::Object(map) => {
                Self::Map(Arc::new(map.into_iter().map(|(key, value)| (key.into(), value.into())).collect()))
            }
        }
    }
}

impl Value {
    pub(crate) fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined { .. })
    }

    /// Whether using it is an error.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Undefined { silent: false })
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text, _) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Undefined { .. } => "undefined",
            Self::None => "none",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Float(_) => "number",
            Self::Text(..) => "string",
            Self::List(_) => "sequence",
            Self::Map(_) => "map",
        }
    }

    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Undefined { .. } | Self::None => false,
            Self::Bool(it) => *it,
            Self::Int(it) => *it != 0,
            Self::Float(it) => *it != 0.0,
            Self::Text(text, _) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(map) => !map.is_empty(),
        }
    }

    /// As a number; true is 1.
    pub(crate) fn number(&self) -> Option<Number> {
        match self {
            Self::Bool(it) => Some(Number::Int((*it).into())),
            Self::Int(it) => Some(Number::Int(*it)),
            Self::Float(it) => Some(Number::Float(*it)),
            _ => None,
        }
    }

    pub(crate) fn int(&self) -> Option<i128> {
        match self.number()? {
            Number::Int(it) => Some(it),
            Number::Float(_) => None,
        }
    }

    /// The element with this key or index; undefined if there is none.
    pub(crate) fn item(&self, meter: &mut Meter<'_>, key: &Value) -> Result<Value, Stop> {
        let found = match (self, key) {
            (Self::Map(map), Self::Text(key, _)) => {
                meter.bytes(key.len())?;
                map.get(&**key).cloned()
            }
            (Self::List(items), key) => key.int().and_then(|at| items.get(index(at, items.len())?)).cloned(),
            (Self::Text(text, safe), key) => {
                meter.bytes(text.len())?;
                key.int()
                    .and_then(|at| text.chars().nth(index(at, text.chars().count())?))
                    .map(|found| Self::Text(found.to_string().into(), *safe))
            }
            _ => None,
        };
        Ok(found.unwrap_or(UNDEFINED))
    }

    /// What a path of names and indices leads to (`payment.items.0`); undefined if it leads nowhere.
    pub(crate) fn path(&self, meter: &mut Meter<'_>, path: &str) -> Result<Value, Stop> {
        let mut at = self.clone();
        for part in path.split('.') {
            meter.bytes(part.len())?;
            let key = match (part.parse::<i128>(), &at) {
                (Ok(index), Self::List(_)) => Self::Int(index),
                _ => Self::from(part),
            };
            at = at.item(meter, &key)?;
        }
        Ok(at)
    }

    /// The elements, keys or characters that a loop over it visits.
    pub(crate) fn items(&self, meter: &mut Meter<'_>) -> Result<Arc<Vec<Value>>, Stop> {
        let mut items = Vec::new();
        match self {
            Self::List(items) => return Ok(Arc::clone(items)),
            Self::Undefined { silent: true } | Self::None => {}
            Self::Text(text, _) => {
                for char in text.chars() {
                    meter.element(items.len())?;
                    items.push(Self::Text(char.to_string().into(), false));
                }
            }
            Self::Map(map) => {
                for key in map.keys() {
                    meter.element(items.len())?;
                    items.push(Self::Text(Arc::clone(key), false));
                }
            }
            Self::Undefined { silent: false } => return Err(Stop::Undefined(String::new())),
            other => return fault(format!("{} is not iterable", other.kind())),
        }
        Ok(Arc::new(items))
    }

    /// Writes it as in the output, or, if `inside`, as an element of a list.
    pub(crate) fn write(
        &self,
        meter: &mut Meter<'_>,
        out: &mut BoundedText,
        inside: bool,
    ) -> Result<(), Stop> {
        match self {
            Self::Undefined { .. } if inside => out.push(meter, "undefined"),
            Self::Undefined { .. } => Ok(()),
            Self::None => out.push(meter, "null"),
            Self::Bool(true) => out.push(meter, "true"),
            Self::Bool(false) => out.push(meter, "false"),
            Self::Int(it) => out.push(meter, &it.to_string()),
            Self::Float(it) => out.push(meter, &float(*it)),
            Self::Text(text, _) if !inside => out.push(meter, text),
            Self::Text(text, _) => quoted(meter, out, text),
            Self::List(items) => {
                out.push(meter, "[")?;
                for (at, item) in items.iter().enumerate() {
                    out.push(meter, if at == 0 { "" } else { ", " })?;
                    item.write(meter, out, true)?;
                }
                out.push(meter, "]")
            }
            Self::Map(map) => {
                out.push(meter, "{")?;
                for (at, (key, value)) in map.iter().enumerate() {
                    out.push(meter, if at == 0 { "" } else { ", " })?;
                    quoted(meter, out, key)?;
                    out.push(meter, ": ")?;
                    value.write(meter, out, true)?;
                }
                out.push(meter, "}")
            }
        }
    }

    /// Writes it as JSON. Characters that are special in HTML are written as escapes, so the result may stand in HTML.
    pub(crate) fn write_json(&self, meter: &mut Meter<'_>, out: &mut BoundedText) -> Result<(), Stop> {
        match self {
            Self::Undefined { .. } => out.push(meter, "null"),
            // JSON has neither NaN nor infinity.
            Self::Float(it) if !it.is_finite() => out.push(meter, "null"),
            Self::Float(it) => {
                let number = serde_json::Number::from_f64(*it).map(|it| it.to_string());
                out.push(meter, &number.unwrap_or_default())
            }
            Self::Text(text, _) => json_text(meter, out, text),
            Self::List(items) => {
                out.push(meter, "[")?;
                for (at, item) in items.iter().enumerate() {
                    out.push(meter, if at == 0 { "" } else { "," })?;
                    item.write_json(meter, out)?;
                }
                out.push(meter, "]")
            }
            Self::Map(map) => {
                out.push(meter, "{")?;
                for (at, (key, value)) in map.iter().enumerate() {
                    out.push(meter, if at == 0 { "" } else { "," })?;
                    json_text(meter, out, key)?;
                    out.push(meter, ":")?;
                    value.write_json(meter, out)?;
                }
                out.push(meter, "}")
            }
            Self::None | Self::Bool(_) | Self::Int(_) => self.write(meter, out, false),
        }
    }

    /// As a text.
    pub(crate) fn to_text(&self, meter: &mut Meter<'_>) -> Result<Arc<str>, Stop> {
        match self {
            Self::Text(text, _) => Ok(Arc::clone(text)),
            Self::Undefined { silent: false } => Err(Stop::Undefined(String::new())),
            other => {
                let mut out = BoundedText::value();
                other.write(meter, &mut out, false)?;
                Ok(out.text.into())
            }
        }
    }
}

/// An index from the front, or from the back if negative.
fn index(at: i128, len: usize) -> Option<usize> {
    let at = if at < 0 { i128::try_from(len).ok()? + at } else { at };
    usize::try_from(at).ok()
}

fn float(it: f64) -> String {
    if it.is_nan() {
        return "NaN".to_owned();
    }
    if it.is_infinite() {
        return if it < 0.0 { "-inf" } else { "inf" }.to_owned();
    }
    let mut text = it.to_string();
    if !text.contains('.') {
        text.push_str(".0");
    }
    text
}

fn json_text(meter: &mut Meter<'_>, out: &mut BoundedText, text: &str) -> Result<(), Stop> {
    // Each byte becomes at most six.
    meter.bytes(6 * text.len())?;
    let quoted = serde_json::to_string(text).unwrap_or_default();
    let mut rest = &*quoted;
    while let Some(at) = rest.find(['<', '>', '&', '\'']) {
        out.push(meter, &rest[..at])?;
        out.push(meter, &format!("\\u{:04x}", rest.as_bytes()[at]))?;
        rest = &rest[at + 1..];
    }
    out.push(meter, rest)
}

/// Writes a text quoted as in Python.
fn quoted(meter: &mut Meter<'_>, out: &mut BoundedText, text: &str) -> Result<(), Stop> {
    meter.bytes(text.len())?;
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut whole = String::with_capacity(text.len() + 2);
    whole.push(quote);
    for char in text.chars() {
        match char {
            '\n' => whole.push_str("\\n"),
            '\r' => whole.push_str("\\r"),
            '\t' => whole.push_str("\\t"),
            '\\' => whole.push_str("\\\\"),
            it if it == quote => {
                whole.push('\\');
                whole.push(it);
            }
            it if it.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(whole, "\\x{:02x}", u32::from(it));
            }
            it => whole.push(it),
        }
    }
    whole.push(quote);
    out.push(meter, &whole)
}

/// Whether two values are equal; charges for what is compared.
pub(crate) fn equal(meter: &mut Meter<'_>, a: &Value, b: &Value) -> Result<bool, Stop> {
    meter.steps(1)?;
    match (a, b) {
        (Value::None, Value::None) | (Value::Undefined { .. }, Value::Undefined { .. }) => Ok(true),
        (Value::Text(a, _), Value::Text(b, _)) => {
            meter.bytes(a.len().min(b.len()))?;
            Ok(a == b)
        }
        (Value::List(a), Value::List(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (a, b) in a.iter().zip(b.iter()) {
                if !equal(meter, a, b)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Value::Map(a), Value::Map(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for ((key, a), (other, b)) in a.iter().zip(b.iter()) {
                meter.bytes(key.len().min(other.len()))?;
                if key != other || !equal(meter, a, b)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(match (a.number(), b.number()) {
            (Some(a), Some(b)) => numbers(a, b) == Some(Ordering::Equal),
            _ => false,
        }),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Undefined { .. } => 0,
        Value::None => 1,
        Value::Bool(_) => 2,
        Value::Int(_) | Value::Float(_) => 3,
        Value::Text(..) => 4,
        Value::List(_) => 5,
        Value::Map(_) => 6,
    }
}

#[allow(clippy::cast_precision_loss, reason = "an order that people expect needs no more")]
fn numbers(a: Number, b: Number) -> Option<Ordering> {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => Some(a.cmp(&b)),
        (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b),
        (Number::Int(a), Number::Float(b)) => (a as f64).partial_cmp(&b),
        (Number::Float(a), Number::Int(b)) => a.partial_cmp(&(b as f64)),
    }
}

/// The order of two values; charges for what is compared. If `folded`, ASCII letters of texts compare without case.
pub(crate) fn order(meter: &mut Meter<'_>, a: &Value, b: &Value, folded: bool) -> Result<Ordering, Stop> {
    meter.steps(1)?;
    Ok(match (a, b) {
        (Value::Text(a, _), Value::Text(b, _)) => {
            meter.bytes(a.len().min(b.len()))?;
            if folded {
                let lower = |text: &Arc<str>| {
                    let text = Arc::clone(text);
                    (0..text.len()).map(move |at| text.as_bytes()[at].to_ascii_lowercase())
                };
                lower(a).cmp(lower(b))
            } else {
                a.cmp(b)
            }
        }
        (Value::List(a), Value::List(b)) => {
            for (a, b) in a.iter().zip(b.iter()) {
                let found = order(meter, a, b, false)?;
                if found.is_ne() {
                    return Ok(found);
                }
            }
            a.len().cmp(&b.len())
        }
        (Value::Map(a), Value::Map(b)) => {
            for ((key, a), (other, b)) in a.iter().zip(b.iter()) {
                meter.bytes(key.len().min(other.len()))?;
                let found = match key.cmp(other) {
                    Ordering::Equal => order(meter, a, b, false)?,
                    found => found,
                };
                if found.is_ne() {
                    return Ok(found);
                }
            }
            a.len().cmp(&b.len())
        }
        _ => rank(a).cmp(&rank(b)).then_with(|| match (a.number(), b.number()) {
            (Some(a), Some(b)) => numbers(a, b).unwrap_or(Ordering::Equal),
            _ => Ordering::Equal,
        }),
    })
}

/// Compares two elements.
pub(crate) type CompareFn<'c, T> = &'c mut dyn FnMut(&T, &T) -> Result<Ordering, Stop>;

/// Sorts with a comparison that may fail, in n log n comparisons, stably. The standard library's sort can't stop, and
/// panics if the comparison is not an order.
pub(crate) fn sorted<T>(mut items: Vec<T>, compare: CompareFn<'_, T>) -> Result<Vec<T>, Stop> {
    if items.len() < 2 {
        return Ok(items);
    }
    let back = items.split_off(items.len() / 2);
    let mut merged = Vec::with_capacity(items.len() + back.len());
    let mut front = sorted(items, compare)?.into_iter().peekable();
    let mut back = sorted(back, compare)?.into_iter().peekable();
    while let (Some(a), Some(b)) = (front.peek(), back.peek()) {
        let next = if compare(a, b)?.is_gt() { back.next() } else { front.next() };
        merged.extend(next);
    }
    merged.extend(front);
    merged.extend(back);
    Ok(merged)
}
