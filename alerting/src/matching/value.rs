//! The values of expressions. They are copied, and point into the record, the program or the memory of the evaluation.

use std::cmp::Ordering;

use crate::document::{Fields, Items, Node, NodeData, same};

use super::fault::ValueType;
use super::time::Time;

/// A value of an expression.
#[derive(Debug, Clone, Copy)]
pub(super) enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// A list in the record.
    Items(Node<'a>),
    /// A list that the expression built.
    List(&'a [Val<'a>]),
    /// A list literal of the expression.
    Written(&'a [Constant]),
    /// A map in the record.
    Fields(Node<'a>),
    /// The headers, sorted by name, each name once.
    Headers(&'a [(&'a str, Option<&'a str>)]),
    /// A map that the expression built, sorted by [`key_order`], each key once.
    Map(&'a [(Val<'a>, Val<'a>)]),
    Time(Time),
    /// A duration in nanoseconds.
    Span(i64),
    Type(ValueType),
    Optional(Option<&'a Val<'a>>),
}

/// A constant of an expression.
#[derive(Debug, Clone)]
pub(super) enum Constant {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
    List(Box<[Constant]>),
    Time(Time),
    Span(i64),
    Type(ValueType),
}

impl Constant {
    #[inline]
    pub(super) fn val(&self) -> Val<'_> {
        match self {
            Self::Null => Val::Null,
            Self::Bool(it) => Val::Bool(*it),
            Self::Int(it) => Val::Int(*it),
            Self::Uint(it) => Val::Uint(*it),
            Self::Double(it) => Val::Double(*it),
            Self::Text(it) => Val::Text(it),
            Self::Bytes(it) => Val::Bytes(it),
            Self::List(it) => Val::Written(it),
            Self::Time(it) => Val::Time(*it),
            Self::Span(it) => Val::Span(*it),
            Self::Type(it) => Val::Type(*it),
        }
    }

    /// Whether a value in the record equals the constant.
    #[inline]
    pub(super) fn is(&self, node: Node<'_>) -> bool {
        match (node.data(), self) {
            (NodeData::Text(a), Self::Text(b)) => same(a.as_bytes(), b.as_bytes()),
            (NodeData::Int(a), Self::Int(b)) => a == *b,
            (NodeData::Bool(a), Self::Bool(b)) => a == *b,
            (NodeData::Text(_) | NodeData::Null, Self::Int(_) | Self::Double(_) | Self::Bool(_))
            | (NodeData::Int(_) | NodeData::Double(_) | NodeData::Null, Self::Text(_)) => false,
            _ => Val::from_node(node).equals(&self.val()),
        }
    }

    /// How a value in the record compares to the constant; `None` if they do not compare.
    #[inline]
    pub(super) fn order(&self, node: Node<'_>) -> Option<Ordering> {
        match (node.data(), self) {
            (NodeData::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (NodeData::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (NodeData::Int(a), Self::Double(b)) => int_and_double(a, *b),
            _ => Val::from_node(node).compare(&self.val()),
        }
    }

    /// The value as a constant; `None` if it points into the record, or is an optional.
    pub(super) fn from_val(value: &Val<'_>) -> Option<Self> {
        Some(match value {
            Val::Null => Self::Null,
            Val::Bool(it) => Self::Bool(*it),
            Val::Int(it) => Self::Int(*it),
            Val::Uint(it) => Self::Uint(*it),
            Val::Double(it) => Self::Double(*it),
            Val::Text(it) => Self::Text((*it).into()),
            Val::Bytes(it) => Self::Bytes((*it).into()),
            Val::Time(it) => Self::Time(*it),
            Val::Span(it) => Self::Span(*it),
            Val::Type(it) => Self::Type(*it),
            Val::Written(_) | Val::List(_) => {
                Self::List(value.items()?.map(|item| Self::from_val(&item)).collect::<Option<_>>()?)
            }
            Val::Items(_) | Val::Fields(_) | Val::Headers(_) | Val::Map(_) | Val::Optional(_) => return None,
        })
    }
}

impl<'a> Val<'a> {
    #[inline]
    pub(super) fn from_node(node: Node<'a>) -> Self {
        match node.data() {
            NodeData::Null => Self::Null,
            NodeData::Bool(it) => Self::Bool(it),
            NodeData::Int(it) => Self::Int(it),
            NodeData::Uint(it) => Self::Uint(it),
            NodeData::Double(it) => Self::Double(it),
            NodeData::Text(it) => Self::Text(it),
            NodeData::List(_) => Self::Items(node),
            NodeData::Map(_) => Self::Fields(node),
        }
    }

    pub(super) fn kind(&self) -> ValueType {
        match self {
            Self::Null => ValueType::Null,
            Self::Bool(_) => ValueType::Bool,
            Self::Int(_) => ValueType::Int,
            Self::Uint(_) => ValueType::Uint,
            Self::Double(_) => ValueType::Double,
            Self::Text(_) => ValueType::Text,
            Self::Bytes(_) => ValueType::Bytes,
            Self::Items(_) | Self::List(_) | Self::Written(_) => ValueType::List,
            Self::Fields(_) | Self::Headers(_) | Self::Map(_) => ValueType::Map,
            Self::Time(_) => ValueType::Time,
            Self::Span(_) => ValueType::Span,
            Self::Type(_) => ValueType::Type,
            Self::Optional(_) => ValueType::Optional,
        }
    }

    /// The elements of a list.
    pub(super) fn items(&self) -> Option<ListElements<'a>> {
        Some(match self {
            Self::Items(node) => match node.data() {
                NodeData::List(list) => ListElements::Items(list.items()),
                _ => return None,
            },
            Self::List(list) => ListElements::List(list.iter()),
            Self::Written(list) => ListElements::Written(list.iter()),
            _ => return None,
        })
    }

    /// The list's element at the index.
    pub(super) fn item(&self, index: usize) -> Option<Val<'a>> {
        match self {
            Self::Items(node) => match node.data() {
                NodeData::List(list) => list.get(index).map(Val::from_node),
                _ => None,
            },
            Self::List(list) => list.get(index).copied(),
            Self::Written(list) => list.get(index).map(Constant::val),
            _ => None,
        }
    }

    /// The keys and values of a map.
    pub(super) fn entries(&self) -> Option<MapEntries<'a>> {
        Some(match self {
            Self::Fields(node) => match node.data() {
                NodeData::Map(map) => MapEntries::Fields(map.fields()),
                _ => return None,
            },
            Self::Headers(headers) => MapEntries::Headers(headers.iter()),
            Self::Map(map) => MapEntries::Map(map.iter()),
            _ => return None,
        })
    }

    /// How many elements a list or a map has.
    pub(super) fn len(&self) -> Option<usize> {
        Some(match self {
            Self::Items(node) | Self::Fields(node) => match node.data() {
                NodeData::List(list) => list.len(),
                NodeData::Map(map) => map.len(),
                _ => return None,
            },
            Self::List(list) => list.len(),
            Self::Written(list) => list.len(),
            Self::Headers(headers) => headers.len(),
            Self::Map(map) => map.len(),
            _ => return None,
        })
    }

    /// The value of a key of a map; an error with the own type if it is no map.
    pub(super) fn entry(&self, key: &Val<'_>) -> Result<Option<Val<'a>>, ValueType> {
        Ok(match (self, key) {
            (Self::Fields(node), Val::Text(name)) => match node.data() {
                NodeData::Map(map) => map.get_text(name).map(Val::from_node),
                _ => None,
            },
            (Self::Headers(headers), Val::Text(name)) => {
                let found = headers.binary_search_by(|(header, _)| (*header).cmp(name)).ok();
                found.and_then(|at| headers.get(at)).map(|(_, text)| text_or_null(*text))
            }
            (Self::Map(map), key) if key.is_key() => {
                let found = map.binary_search_by(|(its, _)| key_order(its, key)).ok();
                // The binary search matches NaN with any key.
                found.and_then(|at| map.get(at)).filter(|(its, _)| its.equals(key)).map(|(_, value)| *value)
            }
            // The keys of a record's maps, and of headers, are texts.
            (Self::Map(_) | Self::Fields(_) | Self::Headers(_), _) => None,
            _ => return Err(self.kind()),
        })
    }

    /// Whether it has a type that map keys can have.
    pub(super) fn is_key(&self) -> bool {
        matches!(self, Self::Bool(_) | Self::Int(_) | Self::Uint(_) | Self::Double(_) | Self::Text(_))
    }

    /// Roughly how many bytes a comparison reads; a text counts a sixteenth.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Text(it) => it.len() / 16,
            Self::Bytes(it) => it.len() / 16,
            Self::Items(node) | Self::Fields(node) => 16 * node.entries(),
            Self::List(list) => list.iter().map(|it| 16 + it.weight()).sum(),
            Self::Map(map) => map.iter().map(|(_, it)| 32 + it.weight()).sum(),
            Self::Written(list) => 16 * list.len(),
            Self::Headers(headers) => 32 * headers.len(),
            _ => 1,
        }
    }

    /// Whether it is its type's zero value: false, 0, an empty text, list or map, null.
    pub(super) fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(it) => !it,
            Self::Int(it) | Self::Span(it) => *it == 0,
            Self::Uint(it) => *it == 0,
            Self::Double(it) => *it == 0.0,
            Self::Text(it) => it.is_empty(),
            Self::Bytes(it) => it.is_empty(),
            Self::Optional(it) => it.is_none(),
            Self::Time(_) | Self::Type(_) => false,
            _ => self.len() == Some(0),
        }
    }

    pub(super) fn equals(&self, other: &Val<'_>) -> bool {
        match (self, other) {
            (Val::Text(a), Val::Text(b)) => same(a.as_bytes(), b.as_bytes()),
            (Val::Null, Val::Null) => true,
            (Val::Bool(a), Val::Bool(b)) => a == b,
            (Val::Bytes(a), Val::Bytes(b)) => a == b,
            (Val::Time(a), Val::Time(b)) => a.instant() == b.instant(),
            (Val::Span(a), Val::Span(b)) => a == b,
            (Val::Type(a), Val::Type(b)) => a == b,
            (Val::Optional(a), Val::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => a.equals(b),
                (None, None) => true,
                _ => false,
            },
            _ => self.number(other) == Some(Ordering::Equal) || self.alike(other),
        }
    }

    /// Whether two lists or two maps are equal.
    fn alike(&self, other: &Val<'_>) -> bool {
        if self.len() != other.len() {
            return false;
        }
        if let (Some(a), Some(mut b)) = (self.items(), other.items()) {
            return a.into_iter().all(|a| b.next().is_some_and(|b| a.equals(&b)));
        }
        if let (Some(mut entries), Some(_)) = (self.entries(), other.entries()) {
            return entries.all(|(key, value)| {
                other.entry(&key).ok().flatten().is_some_and(|theirs| value.equals(&theirs))
            });
        }
        false
    }

    /// How two numbers compare, exactly; `None` if one is no number, or NaN.
    #[inline]
    fn number(&self, other: &Val<'_>) -> Option<Ordering> {
        match (self, other) {
            (Val::Int(a), Val::Int(b)) => Some(a.cmp(b)),
            (Val::Uint(a), Val::Uint(b)) => Some(a.cmp(b)),
            (Val::Double(a), Val::Double(b)) => a.partial_cmp(b),
            (Val::Int(a), Val::Double(b)) => int_and_double(*a, *b),
            (Val::Double(a), Val::Int(b)) => int_and_double(*b, *a).map(Ordering::reverse),
            (Val::Uint(a), Val::Double(b)) => uint_and_double(*a, *b),
            (Val::Double(a), Val::Uint(b)) => uint_and_double(*b, *a).map(Ordering::reverse),
            (Val::Int(a), Val::Uint(b)) => Some(u64::try_from(*a).map_or(Ordering::Less, |a| a.cmp(b))),
            (Val::Uint(a), Val::Int(b)) => Some(i64::try_from(*a).map_or(Ordering::Greater, |a| a.cmp(b))),
            _ => None,
        }
    }

    /// How the two compare; `None` if they do not compare.
    #[inline]
    pub(super) fn compare(&self, other: &Val<'_>) -> Option<Ordering> {
        match (self, other) {
            (Val::Text(a), Val::Text(b)) => Some(a.cmp(b)),
            (Val::Bool(a), Val::Bool(b)) => Some(a.cmp(b)),
            (Val::Bytes(a), Val::Bytes(b)) => Some(a.cmp(b)),
            (Val::Time(a), Val::Time(b)) => Some(a.instant().cmp(&b.instant())),
            (Val::Span(a), Val::Span(b)) => Some(a.cmp(b)),
            _ => self.number(other),
        }
    }
}

/// Integers up to this are exact as `f64`.
const EXACT: u64 = 1 << 53;
/// 2^63.
const INT_END: f64 = 9_223_372_036_854_775_808.0;

/// Compares an integer with a double exactly, even if no `f64` equals the integer.
#[inline]
fn int_and_double(a: i64, b: f64) -> Option<Ordering> {
    if a.unsigned_abs() <= EXACT {
        return (a as f64).partial_cmp(&b);
    }
    if b.is_nan() {
        return None;
    }
    if b >= INT_END {
        return Some(Ordering::Less);
    }
    if b < -INT_END {
        return Some(Ordering::Greater);
    }
    // A double this large has no fraction, and the fraction of a smaller one does not decide.
    Some(a.cmp(&(b as i64)))
}

/// Compares an unsigned integer with a double exactly.
fn uint_and_double(a: u64, b: f64) -> Option<Ordering> {
    match i64::try_from(a) {
        Ok(a) => int_and_double(a, b),
        Err(_) if b.is_nan() => None,
        Err(_) if b < INT_END => Some(Ordering::Greater),
        Err(_) if b >= 2.0 * INT_END => Some(Ordering::Less),
        // From 2^63 on, every double is an integer.
        Err(_) => Some(a.cmp(&(b as u64))),
    }
}

/// The order in which a map's keys are kept: booleans, numbers, texts. Equal keys are next to each other.
pub(super) fn key_order(a: &Val<'_>, b: &Val<'_>) -> Ordering {
    let class = |it: &Val<'_>| match it {
        Val::Bool(_) => 0,
        Val::Text(_) => 2,
        _ => 1,
    };
    a.compare(b).unwrap_or_else(|| class(a).cmp(&class(b)))
}

pub(super) fn text_or_null(text: Option<&str>) -> Val<'_> {
    text.map_or(Val::Null, Val::Text)
}

/// The elements of a list.
pub(super) enum ListElements<'a> {
    Items(Items<'a>),
    List(std::slice::Iter<'a, Val<'a>>),
    Written(std::slice::Iter<'a, Constant>),
}

impl<'a> Iterator for ListElements<'a> {
    type Item = Val<'a>;

    fn next(&mut self) -> Option<Val<'a>> {
        match self {
            Self::Items(items) => items.next().map(Val::from_node),
            Self::List(list) => list.next().copied(),
            Self::Written(list) => list.next().map(Constant::val),
        }
    }
}

/// The keys and values of a map.
pub(super) enum MapEntries<'a> {
    Fields(Fields<'a>),
    Headers(std::slice::Iter<'a, (&'a str, Option<&'a str>)>),
    Map(std::slice::Iter<'a, (Val<'a>, Val<'a>)>),
}

impl<'a> Iterator for MapEntries<'a> {
    type Item = (Val<'a>, Val<'a>);

    fn next(&mut self) -> Option<(Val<'a>, Val<'a>)> {
        match self {
            Self::Fields(fields) => fields.next().map(|(name, node)| (Val::Text(name), Val::from_node(node))),
            Self::Headers(headers) => {
                headers.next().map(|(name, text)| (Val::Text(name), text_or_null(*text)))
            }
            Self::Map(map) => map.next().copied(),
        }
    }
}
