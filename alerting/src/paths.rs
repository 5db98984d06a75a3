//! `groupBy`: paths into a record, and the labels they give.
//!
//! A path is `record`, `headers`, `key`, `topic` or `partition`, followed for the first two by `.name`, `["any name"]` or
//! `[index]`. A label's value is a text as it is, or a number or bool as JSON writes it. Nothing, null, a list or an object
//! gives no label, and the record is not counted for the rule.
//!
//! Invariants: a label has at most [`MAX_LABEL`] bytes; one that was cut ends in a hash of the whole, so that distinct
//! values stay distinct. Never: two records of different values in one group.

use std::borrow::Cow;
use std::collections::BTreeMap;

use domain::Digest;
use serde_json::Value;

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
    Name(String),
    Index(usize),
}

/// Why a text is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?}, column {column}: {message}")]
pub struct PathError {
    /// The path as written.
    pub path: String,
    /// From 1, in characters.
    pub column: usize,
    /// In words.
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
                Ok([Segment::Name(header)]) => Ok(Self(Root::Header(header))),
                _ => Err(error(name.len(), "say which header, as in headers.name or headers[\"a name\"]")),
            },
            "key" => alone(Root::Key),
            "topic" => alone(Root::Topic),
            "partition" => alone(Root::Partition),
            _ => Err(error(0, "a path begins with record, key, headers, topic or partition")),
        }
    }

    /// The label's value; none where there is nothing, null, a list or an object.
    pub fn label(&self, record: &Record<'_>) -> Option<String> {
        self.text(record).map(|text| bounded(&text))
    }

    /// The value as a text, whole; none where there is nothing, null, a list or an object.
    pub fn text<'r>(&self, record: &Record<'r>) -> Option<Cow<'r, str>> {
        let raw = &record.raw;
        match &self.0 {
            Root::Record(segments) => match value_at(segments, record.value)? {
                Value::String(text) => Some(Cow::Borrowed(text)),
                Value::Number(number) => Some(number.to_string().into()),
                Value::Bool(it) => Some(it.to_string().into()),
                Value::Null | Value::Array(_) | Value::Object(_) => None,
            },
            Root::Header(name) => raw.header_text(name).map(|text| Cow::Owned(text.to_owned())),
            Root::Key => raw.key_text().map(|text| Cow::Owned(text.to_owned())),
            Root::Topic => Some(Cow::Borrowed(raw.topic)),
            Root::Partition => Some(raw.partition.to_string().into()),
        }
    }

    /// The number; none where there is nothing or something else. A text is not a number.
    pub fn number(&self, record: &Record<'_>) -> Option<f64> {
        match &self.0 {
            Root::Record(segments) => value_at(segments, record.value)?.as_f64(),
            Root::Partition => Some(f64::from(record.raw.partition)),
            Root::Header(_) | Root::Key | Root::Topic => None,
        }
    }
}

fn value_at<'v>(segments: &[Segment], value: &'v Value) -> Option<&'v Value> {
    segments.iter().try_fold(value, |value, segment| match segment {
        Segment::Name(name) => value.get(name),
        Segment::Index(index) => value.get(index),
    })
}

/// The segments from `at` on.
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
            segments.push(Segment::Name(rest[..length].to_owned()));
            at += 1 + length;
        } else if let Some(rest) = rest.strip_prefix("[\"") {
            let length = rest.find("\"]").ok_or((at, "[\" is not closed by \"]"))?;
            segments.push(Segment::Name(rest[..length].to_owned()));
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

/// The text, or its beginning and a hash of the whole.
pub(crate) fn bounded(text: &str) -> String {
    if text.len() <= MAX_LABEL {
        return text.to_owned();
    }
    let hash = Digest::of(text);
    let room = MAX_LABEL - "…#".len() - hash.as_str().len();
    let end = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…#{hash}", &text[..end])
}

/// A rule's compiled `groupBy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupBy {
    labels: Vec<(String, Path)>,
}

impl GroupBy {
    /// Compiles all paths; the error says which label's is wrong.
    pub fn compile(group_by: &BTreeMap<String, String>) -> Result<Self, (String, PathError)> {
        let labels = group_by
            .iter()
            .map(|(label, path)| {
                Path::compile(path).map(|path| (label.clone(), path)).map_err(|error| (label.clone(), error))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { labels })
    }

    /// The values, in the order of the labels' names; none where one is missing.
    pub fn values(&self, record: &Record<'_>) -> Option<Box<[String]>> {
        self.labels.iter().map(|(_, path)| path.label(record)).collect()
    }

    /// The labels with these values.
    pub fn labels(&self, values: &[String]) -> BTreeMap<String, String> {
        self.labels.iter().map(|(label, _)| label.clone()).zip(values.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::RawRecord;

    fn label(path: &str, value: &Value) -> Option<String> {
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
        Path::compile(path).unwrap().label(&Record { raw, value })
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
