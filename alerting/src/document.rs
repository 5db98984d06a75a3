//! A decoded value as a tape: a flat list of entries that point into the record's bytes.
//!
//! A map's entry is followed by its names and values, a list's entry by its elements; each of the two says where it
//! ends. A text is a range of the record's bytes, or of the document's own buffer if the record does not contain the
//! text as it is (escapes, other formats). The buffers are reused for the next record, so a warm decoder allocates
//! nothing.
//!
//! Each format in [`crate::decode`] builds its documents with a [`Builder`].
//!
//! Invariants: if a name occurs twice in a map, the last entry counts; an integer is [`NodeData::Int`] if an `i64`
//! holds it, else [`NodeData::Uint`]; a [`NodeData::Double`] is finite. A text that the record holds as it is, is not
//! copied.

mod build;

use serde_json::{Map as JsonMap, Number, Value};

pub use build::{Builder, OpenMap};

/// Maps with more names than this are searched through a sorted list, smaller ones name by name.
const SMALL: u32 = 32;
/// This bit of a text's `start` says that the text is in the document's own buffer.
const OWNED: u32 = 1 << 31;
/// Buffers are shrunk to this many entries or bytes before the next record.
const KEPT: usize = 1 << 16;

/// The buffers of a decoded value.
#[derive(Debug, Default)]
pub struct Document {
    entries: Vec<TapeEntry>,
    texts: String,
    /// For each large map the indices of its names, sorted by name.
    sorted: Vec<u32>,
    /// A decoder's buffer for building a text.
    pub(crate) scratch: String,
}

#[derive(Debug, Clone, Copy)]
enum TapeEntry {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text {
        start: u32,
        len: u32,
    },
    List {
        len: u32,
        end: u32,
    },
    /// `sorted` is where the map's names begin in [`Document::sorted`], if the map is large.
    Map {
        len: u32,
        end: u32,
        sorted: u32,
    },
    Name {
        tag: u32,
        start: u32,
        len: u32,
    },
    /// A name that occurs again later in the same map.
    Shadowed,
}

/// A field name, prepared for lookups.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldName {
    text: Box<str>,
    tag: u32,
}

impl FieldName {
    /// Prepares a name.
    pub fn new(text: &str) -> Self {
        Self { tag: tag(text.as_bytes()), text: text.into() }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// A cheap hash of a name: its length, and its first, middle and last byte.
#[inline]
fn tag(name: &[u8]) -> u32 {
    match (name.first(), name.get(name.len() / 2), name.last()) {
        (Some(first), Some(middle), Some(last)) => {
            u32::from_le_bytes([name.len() as u8, *first, *middle, *last])
        }
        _ => 0,
    }
}

/// Whether two short texts are equal, without a call.
#[inline]
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match (a.first_chunk::<8>(), b.first_chunk::<8>(), a.last_chunk::<8>(), b.last_chunk::<8>()) {
        // Up to 16 bytes, both ends cover the whole text.
        (Some(a_head), Some(b_head), Some(a_tail), Some(b_tail)) => {
            a_head == b_head && a_tail == b_tail && (a.len() <= 16 || a == b)
        }
        _ => match (a.first_chunk::<4>(), b.first_chunk::<4>(), a.last_chunk::<4>(), b.last_chunk::<4>()) {
            (Some(a_head), Some(b_head), Some(a_tail), Some(b_tail)) => a_head == b_head && a_tail == b_tail,
            _ => a.iter().zip(b).all(|(a, b)| a == b),
        },
    }
}

/// A document together with the bytes that it points into.
#[derive(Debug, Clone, Copy)]
pub struct DocumentView<'d> {
    document: &'d Document,
    source: &'d str,
}

/// A value of a document.
#[derive(Debug, Clone, Copy)]
pub struct Node<'d> {
    view: &'d DocumentView<'d>,
    at: u32,
}

/// A value by its type.
#[derive(Debug, Clone, Copy)]
pub enum NodeData<'d> {
    /// Null.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer beyond `i64`.
    Uint(u64),
    /// Any other number.
    Double(f64),
    /// A text.
    Text(&'d str),
    /// A list.
    List(List<'d>),
    /// A map by names.
    Map(Map<'d>),
}

/// A list of values.
#[derive(Debug, Clone, Copy)]
pub struct List<'d> {
    node: Node<'d>,
    len: u32,
    end: u32,
}

/// The elements of a list.
#[derive(Debug, Clone)]
pub struct Items<'d> {
    node: Node<'d>,
    end: u32,
}

impl<'d> Iterator for Items<'d> {
    type Item = Node<'d>;

    fn next(&mut self) -> Option<Node<'d>> {
        let node = (self.node.at < self.end).then_some(self.node)?;
        self.node.at = node.view.document.after(node.at);
        Some(node)
    }
}

/// The names of a map and their values.
#[derive(Debug, Clone)]
pub struct Fields<'d> {
    node: Node<'d>,
    end: u32,
}

impl<'d> Iterator for Fields<'d> {
    type Item = (&'d str, Node<'d>);

    fn next(&mut self) -> Option<(&'d str, Node<'d>)> {
        let document = self.node.view.document;
        while self.node.at < self.end {
            let name = document.entries.get(self.node.at as usize)?;
            let value = Node { at: self.node.at + 1, ..self.node };
            self.node.at = document.after(value.at);
            if let TapeEntry::Name { start, len, .. } = name {
                return Some((value.text(*start, *len), value));
            }
        }
        None
    }
}

/// A map from names to values.
#[derive(Debug, Clone, Copy)]
pub struct Map<'d> {
    node: Node<'d>,
    len: u32,
    end: u32,
}

impl Document {
    /// Views the document with the bytes that it was built from.
    pub fn view<'d>(&'d self, source: &'d str) -> DocumentView<'d> {
        DocumentView { document: self, source }
    }

    /// Builds a document from a JSON value.
    pub fn from_json(value: &Value) -> Self {
        let mut document = Self::default();
        document.build().value(value);
        document
    }

    /// Empties the document, and frees what one large record made its buffers take.
    fn clear(&mut self) {
        self.entries.clear();
        self.texts.clear();
        self.sorted.clear();
        self.entries.shrink_to(KEPT);
        self.texts.shrink_to(KEPT);
        self.sorted.shrink_to(KEPT);
        self.scratch.shrink_to(KEPT);
    }

    fn text<'d>(&'d self, source: &'d str, start: u32, len: u32) -> &'d str {
        let (from, start) = if start & OWNED == 0 {
            (source, start as usize)
        } else {
            (self.texts.as_str(), (start & !OWNED) as usize)
        };
        from.get(start..start + len as usize).unwrap_or_default()
    }

    /// Like [`Document::text`], for callers that need no `str`.
    #[inline]
    fn bytes<'d>(&'d self, source: &'d str, start: u32, len: u32) -> &'d [u8] {
        let (from, start) = if start & OWNED == 0 {
            (source, start as usize)
        } else {
            (self.texts.as_str(), (start & !OWNED) as usize)
        };
        from.as_bytes().get(start..start + len as usize).unwrap_or_default()
    }

    /// The index of the entry after the value at `at`.
    #[inline]
    fn after(&self, at: u32) -> u32 {
        match self.entries.get(at as usize) {
            Some(TapeEntry::List { end, .. } | TapeEntry::Map { end, .. }) => *end,
            _ => at + 1,
        }
    }
}

impl<'d> DocumentView<'d> {
    /// The whole value.
    pub fn root(&'d self) -> Node<'d> {
        Node { view: self, at: 0 }
    }
}

impl<'d> Node<'d> {
    #[inline]
    fn entry(&self) -> TapeEntry {
        self.view.document.entries.get(self.at as usize).copied().unwrap_or(TapeEntry::Null)
    }

    fn text(&self, start: u32, len: u32) -> &'d str {
        self.view.document.text(self.view.source, start, len)
    }

    /// The value by its type.
    #[inline]
    pub fn data(&self) -> NodeData<'d> {
        match self.entry() {
            TapeEntry::Null | TapeEntry::Name { .. } | TapeEntry::Shadowed => NodeData::Null,
            TapeEntry::Bool(it) => NodeData::Bool(it),
            TapeEntry::Int(it) => NodeData::Int(it),
            TapeEntry::Uint(it) => NodeData::Uint(it),
            TapeEntry::Double(it) => NodeData::Double(it),
            TapeEntry::Text { start, len } => NodeData::Text(self.text(start, len)),
            TapeEntry::List { len, end } => NodeData::List(List { node: *self, len, end }),
            TapeEntry::Map { len, end, .. } => NodeData::Map(Map { node: *self, len, end }),
        }
    }

    /// The number of tape entries that the value takes.
    pub(crate) fn entries(&self) -> usize {
        (self.view.document.after(self.at) - self.at) as usize
    }

    /// The value as a serde_json value.
    pub fn to_json(&self) -> Value {
        match self.data() {
            NodeData::Null => Value::Null,
            NodeData::Bool(it) => Value::from(it),
            NodeData::Int(it) => Value::from(it),
            NodeData::Uint(it) => Value::from(it),
            NodeData::Double(it) => Number::from_f64(it).map_or(Value::Null, Value::Number),
            NodeData::Text(it) => Value::from(it),
            NodeData::List(list) => list.items().map(|item| item.to_json()).collect(),
            NodeData::Map(map) => Value::Object(
                map.fields()
                    .map(|(name, value)| (name.to_owned(), value.to_json()))
                    .collect::<JsonMap<_, _>>(),
            ),
        }
    }
}

impl serde::Serialize for Node<'_> {
    /// Serialises like [`Node::to_json`], without building that value.
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.data() {
            NodeData::Null => to.serialize_unit(),
            NodeData::Bool(it) => to.serialize_bool(it),
            NodeData::Int(it) => to.serialize_i64(it),
            NodeData::Uint(it) => to.serialize_u64(it),
            NodeData::Double(it) => to.serialize_f64(it),
            NodeData::Text(it) => to.serialize_str(it),
            NodeData::List(list) => to.collect_seq(list.items()),
            NodeData::Map(map) => to.collect_map(map.fields()),
        }
    }
}

impl<'d> List<'d> {
    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its elements.
    pub fn items(&self) -> Items<'d> {
        Items { node: Node { at: self.node.at + 1, ..self.node }, end: self.end }
    }

    /// The element of that index, from 0.
    pub fn get(&self, index: usize) -> Option<Node<'d>> {
        if index >= self.len() {
            return None;
        }
        let first = self.node.at + 1;
        if self.end - first == self.len {
            // Every element is a single entry.
            return Some(Node { at: first + index as u32, ..self.node });
        }
        self.items().nth(index)
    }
}

impl<'d> Map<'d> {
    /// How many names it has.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its names and their values.
    pub fn fields(&self) -> Fields<'d> {
        Fields { node: Node { at: self.node.at + 1, ..self.node }, end: self.end }
    }

    /// The value of that name.
    #[inline]
    pub fn get(&self, name: &FieldName) -> Option<Node<'d>> {
        if self.len > SMALL {
            return self.search(&name.text);
        }
        self.scan(&name.text, name.tag)
    }

    /// Like [`Map::get`], for a name that was not prepared.
    pub fn get_text(&self, name: &str) -> Option<Node<'d>> {
        if self.len > SMALL {
            return self.search(name);
        }
        self.scan(name, tag(name.as_bytes()))
    }

    #[inline]
    fn scan(&self, name: &str, tag: u32) -> Option<Node<'d>> {
        let view = self.node.view;
        let mut at = self.node.at + 1;
        while at < self.end {
            let [entry, value] = view.document.entries.get(at as usize..)?.first_chunk::<2>()?;
            if let TapeEntry::Name { tag: its, start, len } = entry
                && *its == tag
                && same(view.document.bytes(view.source, *start, *len), name.as_bytes())
            {
                return Some(Node { at: at + 1, ..self.node });
            }
            at = match value {
                TapeEntry::List { end, .. } | TapeEntry::Map { end, .. } => *end,
                _ => at + 2,
            };
        }
        None
    }

    fn search(&self, name: &str) -> Option<Node<'d>> {
        let document = self.node.view.document;
        let TapeEntry::Map { sorted, len, .. } = self.node.entry() else { return None };
        let names = document.sorted.get(sorted as usize..(sorted + len) as usize)?;
        let text = |at: u32| match document.entries.get(at as usize) {
            Some(TapeEntry::Name { start, len, .. }) => self.node.text(*start, *len),
            _ => "",
        };
        let found = names.binary_search_by(|at| text(*at).cmp(name)).ok()?;
        Some(Node { at: names.get(found)? + 1, ..self.node })
    }
}

#[cfg(test)]
mod tests;
