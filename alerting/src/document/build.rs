//! Builds documents.

use serde_json::Value;

use super::{Document, OWNED, SMALL, TapeEntry, tag};

/// Appends values to a document: one at its root, any number in a list, and in a map one after each name.
///
/// To close a container, pass what its opening call returned to [`Builder::close_list`] or [`Builder::close_map`].
#[derive(Debug)]
pub struct Builder<'d> {
    document: &'d mut Document,
}

/// A map that is not closed yet.
#[derive(Debug)]
pub struct OpenMap {
    at: usize,
    len: u32,
    /// A Bloom filter of its names' tags.
    seen: [u64; 4],
    /// Whether a name may have occurred twice.
    twice: bool,
}

impl Document {
    /// Begins a new value.
    pub fn build(&mut self) -> Builder<'_> {
        self.clear();
        Builder { document: self }
    }
}

impl Builder<'_> {
    #[inline]
    fn push(&mut self, entry: TapeEntry) {
        self.document.entries.push(entry);
    }

    /// Appends null.
    pub fn null(&mut self) {
        self.push(TapeEntry::Null);
    }

    /// Appends true or false.
    pub fn bool(&mut self, it: bool) {
        self.push(TapeEntry::Bool(it));
    }

    /// Appends an integer.
    #[inline]
    pub fn int(&mut self, it: i64) {
        self.push(TapeEntry::Int(it));
    }

    /// Appends a non-negative integer.
    pub fn uint(&mut self, it: u64) {
        self.push(i64::try_from(it).map_or(TapeEntry::Uint(it), TapeEntry::Int));
    }

    /// Appends a number, or null if it is not finite.
    pub fn double(&mut self, it: f64) {
        self.push(if it.is_finite() { TapeEntry::Double(it) } else { TapeEntry::Null });
    }

    /// Appends a text that the record does not contain as it is.
    pub fn text(&mut self, text: &str) {
        let (start, len) = self.own(text);
        self.push(TapeEntry::Text { start, len });
    }

    /// Appends a text that is a range of the record's bytes.
    #[inline]
    pub fn source_text(&mut self, start: usize, len: usize) {
        self.push(TapeEntry::Text { start: start as u32, len: len as u32 });
    }

    fn own(&mut self, text: &str) -> (u32, u32) {
        let start = self.document.texts.len() as u32 | OWNED;
        self.document.texts.push_str(text);
        (start, text.len() as u32)
    }

    /// Begins a list.
    pub fn open_list(&mut self) -> usize {
        self.push(TapeEntry::List { len: 0, end: 0 });
        self.document.entries.len() - 1
    }

    /// Ends the list; it has `len` elements.
    pub fn close_list(&mut self, open: usize, len: u32) {
        let end = self.document.entries.len() as u32;
        if let Some(entry) = self.document.entries.get_mut(open) {
            *entry = TapeEntry::List { len, end };
        }
    }

    /// Begins a map.
    pub fn open_map(&mut self) -> OpenMap {
        self.push(TapeEntry::Map { len: 0, end: 0, sorted: 0 });
        OpenMap { at: self.document.entries.len() - 1, len: 0, seen: [0; 4], twice: false }
    }

    /// Appends the next value's name, which the record does not contain as it is.
    pub fn name(&mut self, map: &mut OpenMap, name: &str) {
        let (start, len) = self.own(name);
        self.named(map, name.as_bytes(), start, len);
    }

    /// Appends the next value's name, a range of the record's bytes.
    #[inline]
    pub fn source_name(&mut self, map: &mut OpenMap, name: &[u8], start: usize) {
        self.named(map, name, start as u32, name.len() as u32);
    }

    #[inline]
    fn named(&mut self, map: &mut OpenMap, name: &[u8], start: u32, len: u32) {
        let tag = tag(name);
        let hash = (tag.wrapping_mul(0x9E37_79B1) >> 24) as u8;
        let (word, bit) = (usize::from(hash >> 6), 1 << (hash & 63));
        if let Some(seen) = map.seen.get_mut(word) {
            if *seen & bit != 0 && !map.twice {
                map.twice = map.len > SMALL || self.has_tag(map.at, tag);
            }
            *seen |= bit;
        }
        map.len += 1;
        self.push(TapeEntry::Name { tag, start, len });
    }

    #[cold]
    fn has_tag(&self, map: usize, tag: u32) -> bool {
        let document = &*self.document;
        let mut at = map as u32 + 1;
        while let Some(entry) = document.entries.get(at as usize) {
            if matches!(entry, TapeEntry::Name { tag: its, .. } if *its == tag) {
                return true;
            }
            at = document.after(at + 1);
        }
        false
    }

    /// Ends a map. `source` is the record's text.
    #[inline]
    pub fn close_map(&mut self, map: &OpenMap, source: &str) {
        let end = self.document.entries.len() as u32;
        if let Some(entry) = self.document.entries.get_mut(map.at) {
            *entry = TapeEntry::Map { len: map.len, end, sorted: 0 };
        }
        if map.twice || map.len > SMALL {
            self.resolve_duplicates(map, end, source);
        }
    }

    /// Shadows all but the last of equal names, and sorts the names of a large map.
    #[cold]
    fn resolve_duplicates(&mut self, map: &OpenMap, end: u32, source: &str) {
        let document = &mut *self.document;
        let mut names = Vec::with_capacity(map.len as usize);
        let mut at = map.at as u32 + 1;
        while at < end {
            names.push(at);
            at = document.after(at + 1);
        }
        let text = |at: u32| match document.entries.get(at as usize) {
            Some(TapeEntry::Name { start, len, .. }) => document.text(source, *start, *len),
            _ => "",
        };
        names.sort_by(|a, b| text(*a).cmp(text(*b)).then(a.cmp(b)));
        let (kept, shadowed): (Vec<_>, Vec<_>) = names
            .iter()
            .enumerate()
            .partition(|(index, at)| names.get(index + 1).is_none_or(|next| text(*next) != text(**at)));
        let (len, sorted) = (kept.len() as u32, document.sorted.len() as u32);
        let shadowed: Vec<u32> = shadowed.into_iter().map(|(_, at)| *at).collect();
        if len > SMALL {
            document.sorted.extend(kept.into_iter().map(|(_, at)| *at));
        }
        for at in shadowed {
            if let Some(entry) = document.entries.get_mut(at as usize) {
                *entry = TapeEntry::Shadowed;
            }
        }
        if let Some(entry) = document.entries.get_mut(map.at) {
            *entry = TapeEntry::Map { len, end, sorted };
        }
    }

    /// Appends a JSON value.
    pub fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.null(),
            Value::Bool(it) => self.bool(*it),
            Value::Number(it) => match (it.as_i64(), it.as_u64()) {
                (Some(int), _) => self.int(int),
                (None, Some(uint)) => self.uint(uint),
                (None, None) => self.double(it.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(it) => self.text(it),
            Value::Array(items) => {
                let open = self.open_list();
                for item in items {
                    self.value(item);
                }
                self.close_list(open, items.len() as u32);
            }
            Value::Object(fields) => {
                let mut open = self.open_map();
                for (name, field) in fields {
                    self.name(&mut open, name);
                    self.value(field);
                }
                self.close_map(&open, "");
            }
        }
    }
}
