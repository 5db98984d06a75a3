//! `groupBy`: paths into a record, and the labels that they give.
//!
//! A path is `record`, `headers`, `key`, `topic` or `partition`; the first two are followed by `.name`, `["any name"]`
//! or `[index]`. A label's value is a text as it is, or a number or bool as JSON writes it. A missing value, null, a
//! list or an object gives no label, and the rule does not count the record. 1, 1.0 and 1e0 are one value, written `1`.
//!
//! Invariant: a label has at most [`MAX_LABEL`] bytes. A longer value is cut and ends in a hash of the whole, so that
//! distinct values stay in distinct groups.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use domain::Digest;
use serde_json::Number;

use crate::document::{FieldName, NodeData};
use crate::record::Record;

/// The longest label value, bytes.
pub const MAX_LABEL: usize = 256;
/// The longest path, bytes.
pub const MAX_PATH: usize = 512;

/// A compiled path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Root);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Root {
    Record(Vec<Segment>),
    Header(String),
    Key,
    Topic,
    Partition,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Name(FieldName),
    Index(usize),
}

/// Why a text is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?}, column {column}: {message}")]
pub struct PathError {
    /// The path as written.
    pub path: String,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong, in words.
    pub message: String,
}

impl Path {
    /// Compiles a path such as `record.service`, `record.a.b`, `record["a.b"]`, `key`, `headers.x`, `topic`, `partition`.
    pub fn compile(path: &str) -> Result<Self, PathError> {
        let error = |at: usize, message: &str| PathError {
            path: path.chars().take(80).collect(),
            column: path.get(..at).unwrap_or(path).chars().count() + 1,
            message: message.to_owned(),
        };
        if path.len() > MAX_PATH {
            return Err(error(0, "longer than 512 bytes"));
        }
        let name = &path[..path.find(['.', '[']).unwrap_or(path.len())];
        let segments = segments(path, name.len()).map_err(|(at, message)| error(at, message))?;
        let alone = |root| {
            if segments.is_empty() {
                Ok(Self(root))
            } else {
                Err(error(name.len(), "only record and headers have parts"))
            }
        };
        match name {
            "record" => Ok(Self(Root::Record(segments))),
            "headers" => match <[Segment; 1]>::try_from(segments) {
                Ok([Segment::Name(header)]) => Ok(Self(Root::Header(header.as_str().to_owned()))),
                _ => Err(error(name.len(), "say which header, as in headers.name or headers[\"a name\"]")),
            },
            "key" => alone(Root::Key),
            "topic" => alone(Root::Topic),
            "partition" => alone(Root::Partition),
            _ => Err(error(0, "a path begins with record, key, headers, topic or partition")),
        }
    }

    /// The value at the path.
    pub(crate) fn data<'r>(&self, record: &Record<'r>) -> Option<NodeData<'r>> {
        let raw = &record.raw;
        match &self.0 {
            Root::Record(segments) => {
                let value = segments.iter().try_fold(record.value, |value, segment| {
                    match (value.data(), segment) {
                        (NodeData::Map(map), Segment::Name(name)) => map.get(name),
                        (NodeData::List(list), Segment::Index(index)) => list.get(*index),
                        _ => None,
                    }
                })?;
                Some(value.data())
            }
            Root::Header(name) => raw.header_text(name).map(NodeData::Text),
            Root::Key => raw.key_text().map(NodeData::Text),
            Root::Topic => Some(NodeData::Text(raw.topic)),
            Root::Partition => Some(NodeData::Int(i64::from(raw.partition))),
        }
    }

    /// The value as a label; `None` for a missing value, null, a list or an object. Allocates only for a number and for
    /// a text longer than [`MAX_LABEL`].
    pub fn text<'r>(&self, record: &Record<'r>) -> Option<Cow<'r, str>> {
        Some(match self.data(record)? {
            NodeData::Text(text) => bounded(text),
            NodeData::Int(it) => it.to_string().into(),
            NodeData::Uint(it) => it.to_string().into(),
            NodeData::Double(it) => number(it)?.to_string().into(),
            NodeData::Bool(it) => if it { "true" } else { "false" }.into(),
            NodeData::Null | NodeData::List(_) | NodeData::Map(_) => return None,
        })
    }

    /// The value at the path, if it is a number.
    pub fn number(&self, record: &Record<'_>) -> Option<f64> {
        match self.data(record)? {
            NodeData::Int(it) => Some(it as f64),
            NodeData::Uint(it) => Some(it as f64),
            NodeData::Double(it) => Some(it),
            _ => None,
        }
    }

    /// Appends the label's value; appends nothing and returns false if there is none.
    fn append(&self, record: &Record<'_>, into: &mut Vec<u8>) -> bool {
        match self.data(record) {
            Some(NodeData::Text(text)) if text.len() <= MAX_LABEL => into.extend_from_slice(text.as_bytes()),
            // Writing to a vector does not fail.
            Some(NodeData::Int(it)) => drop(write!(into, "{it}")),
            _ => match self.text(record) {
                Some(text) => into.extend_from_slice(text.as_bytes()),
                None => return false,
            },
        }
        true
    }
}

/// The number as JSON, an integer if it is whole: 1 and 1.0 are one value.
fn number(it: f64) -> Option<Number> {
    // The ends of the ranges of `i64` and `u64`: 2^63 and 2^64.
    const ENDS: (f64, f64) = (9_223_372_036_854_775_808.0, 18_446_744_073_709_551_616.0);
    if it.fract() == 0.0 && it >= -ENDS.0 && it < ENDS.0 {
        Some((it as i64).into())
    } else if it.fract() == 0.0 && it > 0.0 && it < ENDS.1 {
        Some((it as u64).into())
    } else {
        Number::from_f64(it)
    }
}

/// Parses the segments from byte `at` on. An error has its byte and a message.
fn segments(path: &str, mut at: usize) -> Result<Vec<Segment>, (usize, &'static str)> {
    let mut segments = Vec::new();
    while let Some(rest) = path.get(at..).filter(|rest| !rest.is_empty()) {
        if let Some(rest) = rest.strip_prefix('.') {
            let length = rest
                .find(|it: char| !(it.is_alphanumeric() || matches!(it, '_' | '-')))
                .unwrap_or(rest.len());
            if length == 0 {
                return Err((at + 1, "a name is missing; one with other characters is written [\"...\"]"));
            }
            segments.push(Segment::Name(FieldName::new(&rest[..length])));
            at += 1 + length;
        } else if let Some(rest) = rest.strip_prefix("[\"") {
            let length = rest.find("\"]").ok_or((at, "[\" is not closed by \"]"))?;
            segments.push(Segment::Name(FieldName::new(&rest[..length])));
            at += length + 4;
        } else if let Some(rest) = rest.strip_prefix('[') {
            let length = rest.find(']').ok_or((at, "[ is not closed"))?;
            let index = rest[..length].parse().map_err(|_| (at + 1, "not an index or a name in quotes"))?;
            segments.push(Segment::Index(index));
            at += length + 2;
        } else {
            return Err((at, "expected . or ["));
        }
    }
    Ok(segments)
}

/// The text, or its beginning followed by a hash of the whole.
fn bounded(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_LABEL {
        return text.into();
    }
    let hash = Digest::of(text);
    let room = MAX_LABEL - "…#".len() - hash.as_str().len();
    let end = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…#{hash}", &text[..end]).into()
}

/// A rule's compiled `groupBy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupBy {
    names: Arc<[String]>,
    paths: Box<[Path]>,
}

impl GroupBy {
    /// Compiles all paths; the error names the label whose path is wrong.
    pub fn compile(group_by: &BTreeMap<String, String>) -> Result<Self, (String, PathError)> {
        let paths = group_by
            .iter()
            .map(|(label, path)| Path::compile(path).map_err(|error| (label.clone(), error)))
            .collect::<Result<_, _>>()?;
        Ok(Self { names: group_by.keys().cloned().collect(), paths })
    }

    /// The labels' names, sorted.
    pub(crate) fn names(&self) -> &Arc<[String]> {
        &self.names
    }

    /// Appends the labels' values in the order of their names, each after its length; false if one is missing.
    pub(crate) fn append(&self, record: &Record<'_>, into: &mut Vec<u8>) -> bool {
        self.paths.iter().all(|path| {
            let at = into.len();
            into.extend_from_slice(&[0; 2]);
            let found = path.append(record, into);
            // A length is at most MAX_LABEL, so two bytes hold it.
            let length = (into.len() - at - 2) as u16;
            if let Some(length_bytes) = into.get_mut(at..at + 2) {
                length_bytes.copy_from_slice(&length.to_le_bytes());
            }
            found
        })
    }
}

/// The labels, from their names and the values that [`GroupBy::append`] wrote.
pub(crate) fn labels(names: &[String], mut values: &[u8]) -> BTreeMap<String, String> {
    names
        .iter()
        .map_while(|name| {
            let (length, rest) = values.split_first_chunk::<2>()?;
            let (value, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
            values = rest;
            Some((name.clone(), String::from_utf8_lossy(value).into_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::document::Document;
    use crate::record::RawRecord;

    fn label(path: &str, value: &Value) -> Option<String> {
        let document = Document::from_json(value);
        let view = document.view("");
        let raw = RawRecord {
            topic: "logs",
            partition: 3,
            offset: 0,
            timestamp_ms: 0,
            clock_ms: 0,
            key: Some(b"k"),
            value: None,
            headers: &[("x-env", Some(b"test")), ("x-env", Some(b"prod")), ("bin", Some(b"\xff"))],
        };
        let record = Record { raw, value: view.root() };
        let text = Path::compile(path).unwrap().text(&record).map(Cow::into_owned);
        let group_by = GroupBy::compile(&BTreeMap::from([("l".to_owned(), path.to_owned())])).unwrap();
        let mut values = Vec::new();
        let appended = group_by.append(&record, &mut values).then(|| labels(group_by.names(), &values));
        assert_eq!(appended.map(|it| it["l"].clone()), text, "{path}");
        text
    }

    #[test]
    fn a_number_is_one_whatever_its_type() {
        let value = json!({"i": -1, "u": u64::MAX, "f": 0.5, "t": "1", "l": [7]});
        let document = Document::from_json(&value);
        let view = document.view("");
        let raw = RawRecord {
            topic: "logs",
            partition: 3,
            offset: 0,
            timestamp_ms: 0,
            clock_ms: 0,
            key: None,
            value: None,
            headers: &[],
        };
        let record = Record { raw, value: view.root() };
        for (path, number) in [
            ("record.i", Some(-1.0)),
            ("record.u", Some(u64::MAX as f64)),
            ("record.f", Some(0.5)),
            ("record.l[0]", Some(7.0)),
            ("partition", Some(3.0)),
            ("record.t", None),
            ("record.none", None),
        ] {
            assert_eq!(Path::compile(path).unwrap().number(&record), number, "{path}");
        }
    }

    #[test]
    fn a_path_gives_texts_numbers_and_bools() {
        let value =
            json!({"a": {"b": "x", "c.d": 1}, "n": 1.5, "yes": true, "l": [{"k": "v"}], "größe": "L"});
        for (path, expected) in [
            ("record.a.b", "x"),
            ("record.a[\"c.d\"]", "1"),
            ("record[\"a\"].b", "x"),
            ("record.n", "1.5"),
            ("record.yes", "true"),
            ("record.l[0].k", "v"),
            ("record.größe", "L"),
            ("key", "k"),
            ("topic", "logs"),
            ("partition", "3"),
            ("headers.x-env", "prod"),
            ("headers[\"x-env\"]", "prod"),
        ] {
            assert_eq!(label(path, &value).as_deref(), Some(expected), "{path}");
        }
        assert_eq!(label("record", &json!("whole")).as_deref(), Some("whole"));
    }

    #[test]
    fn numbers_that_are_equal_are_one_value() {
        for (value, expected) in [
            (json!(1), "1"),
            (json!(1.0), "1"),
            (json!(-0.0), "0"),
            (json!(-2.0), "-2"),
            (json!(0.1), "0.1"),
            (json!(1e18), "1000000000000000000"),
            (json!(9_223_372_036_854_775_808_u64), "9223372036854775808"),
            (json!(9_223_372_036_854_775_808.0), "9223372036854775808"),
            (json!(1e300), "1e+300"),
        ] {
            assert_eq!(label("record", &value).as_deref(), Some(expected), "{value}");
        }
    }

    #[test]
    fn what_is_missing_null_or_not_one_value_gives_no_label() {
        let value = json!({"a": {"b": null}, "l": [1]});
        for path in [
            "record.a",
            "record.a.b",
            "record.a.b.c",
            "record.x",
            "record.l",
            "record.l[1]",
            "headers.no",
            "headers.bin",
        ] {
            assert_eq!(label(path, &value), None, "{path}");
        }
    }

    #[test]
    fn a_path_that_is_none_says_where_and_why() {
        for (path, column, part) in [
            ("", 1, "begins with record"),
            ("service", 1, "begins with record"),
            ("record.", 8, "a name is missing"),
            ("record..a", 8, "a name is missing"),
            ("record.a b", 9, "expected . or ["),
            ("record[x]", 8, "not an index"),
            ("record[\"x]", 7, "not closed"),
            ("record[0", 7, "not closed"),
            ("key.x", 4, "only record and headers"),
            ("headers", 8, "say which header"),
            ("headers.a.b", 8, "say which header"),
        ] {
            let error = Path::compile(path).unwrap_err();
            assert!(error.column == column && error.message.contains(part), "{path}: {error}");
        }
        assert!(Path::compile(&"é".repeat(300)).is_err());
    }

    #[test]
    fn long_values_are_cut_and_stay_distinct() {
        let (one, other) = (format!("{}1", "é".repeat(300)), format!("{}2", "é".repeat(300)));
        let (one, other) = (label("record.a", &json!({"a": one})), label("record.a", &json!({"a": other})));
        assert_ne!(one, other);
        let one = one.unwrap();
        assert!(one.len() <= MAX_LABEL && one.contains('…'), "{one}");
        let fits = "x".repeat(MAX_LABEL);
        assert_eq!(label("record.a", &json!({"a": fits})), Some(fits));
    }
}
