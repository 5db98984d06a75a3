//! Reads records from a file or a pipe, one per line.
//!
//! A line is either a record, that is an object with `value` (or `raw`, a text of bytes that need not be JSON) and any of
//! `timestamp` (RFC 3339, or Unix milliseconds), `key`, `headers` (an object of texts), `topic`, `partition` and `offset`;
//! or, with a time path, a bare value whose time is at that path (RFC 3339, Unix seconds, or milliseconds from 10^11 on). Without
//! a time path, an object without `value` and `raw` is a bare value without a time. Any other line is a bare value too, whatever
//! its bytes are. The engine decodes values, so a value that can't be decoded doesn't end the reading.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use alerting::decode::{Decoded, Decoder};
use alerting::document::Document;
use alerting::record::RawRecord;
use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde_json::{Map, Value};

/// From this number on, a number at a time path means milliseconds: as seconds it would be in the year 5138.
const FIRST_MILLISECONDS: f64 = 1e11;

/// The record of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordLine {
    /// The number of the line, from 1; 0 if the record is not from a file.
    pub(crate) number: usize,
    pub(crate) topic: Option<String>,
    pub(crate) partition: i32,
    pub(crate) offset: Option<i64>,
    pub(crate) time_ms: Option<i64>,
    pub(crate) key: Option<String>,
    pub(crate) headers: Vec<(String, Option<String>)>,
    /// `None` for a tombstone.
    pub(crate) value: Option<Vec<u8>>,
}

/// The path of the time in a bare value.
#[derive(Debug, Clone)]
pub(crate) struct TimePath(Vec<String>);

impl TimePath {
    /// Parses `record.a.b` or `a.b`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let names: Vec<String> =
            text.strip_prefix("record.").unwrap_or(text).split('.').map(str::to_owned).collect();
        if names.iter().any(String::is_empty) {
            return Err(format!("{text:?} is not a path such as record.time"));
        }
        Ok(Self(names))
    }

    /// The time at the path, Unix ms; `None` if there is none.
    fn time_in(&self, value: &Value) -> Option<i64> {
        let found = self.0.iter().try_fold(value, |value, name| value.get(name))?;
        let text = found.as_str();
        // In formats of text, numbers are texts.
        let number = found.as_f64().or_else(|| text?.parse().ok()).filter(|it: &f64| it.is_finite());
        let ms = number.map(|it| if it.abs() < FIRST_MILLISECONDS { it * 1_000.0 } else { it } as i64);
        ms.or_else(|| parse_time_ms(text?).ok())
    }
}

fn parse_time_ms(text: &str) -> Result<i64, String> {
    let parsed = text.parse::<Timestamp>();
    parsed
        .map(Timestamp::as_millisecond)
        .map_err(|_| format!("{text:?} is not a time such as 2026-01-05T10:00:00Z"))
}

/// How to read the lines of a file.
#[derive(Debug, Default, Clone)]
pub(crate) struct LineFormat {
    /// The decoders of bare values that are lines of text; empty if bare values are JSON.
    pub(crate) text: Vec<Decoder>,
    /// The path of the time in a bare value.
    pub(crate) time_path: Option<TimePath>,
}

impl LineFormat {
    /// For values in the formats of `decoders`.
    pub(crate) fn new(decoders: &[Decoder], time_path: Option<TimePath>) -> Self {
        let is_text = |it: &Decoder| matches!(it, Decoder::Logfmt | Decoder::Text(_));
        let text = if decoders.iter().all(is_text) { decoders.to_vec() } else { Vec::new() };
        Self { text, time_path }
    }

    /// The time of a bare value, Unix ms.
    fn time_of(&self, line: &RecordLine, value: Option<&Value>) -> Option<i64> {
        let path = self.time_path.as_ref()?;
        if self.text.is_empty() {
            return path.time_in(value?);
        }
        let mut document = Document::default();
        self.text.iter().find_map(|decoder| {
            line.with_raw(("", 0, 0), |raw| match decoder.decode(raw, &mut document) {
                Ok(Decoded::Value(view)) => path.time_in(&view.root().to_json()),
                _ => None,
            })
        })
    }
}

/// Says how many records can't be decoded, by reason.
pub(crate) fn describe_undecodable(undecodable: &BTreeMap<&'static str, u64>) -> String {
    let reasons: Vec<String> =
        undecodable.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let all: u64 = undecodable.values().sum();
    if all == 0 { "0 undecodable".to_owned() } else { format!("{all} undecodable: {}", reasons.join(", ")) }
}

/// Calls `take` with each record of the file, or of standard input for `-`. An error names the line.
pub(crate) fn for_each(
    file: &Path,
    lines: &LineFormat,
    mut take: impl FnMut(RecordLine) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut input: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        let opened = std::fs::File::open(file).with_context(|| format!("reading {}", file.display()))?;
        Box::new(BufReader::new(opened))
    };
    let mut line = Vec::new();
    for number in 1.. {
        let place = || format!("{}, line {number}", file.display());
        line.clear();
        if input.read_until(b'\n', &mut line).with_context(place)? == 0 {
            break;
        }
        if line.last() == Some(&b'\n') {
            line.truncate(line.len() - if line.ends_with(b"\r\n") { 2 } else { 1 });
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match parse(&line, number, lines) {
            Ok(record) => take(record).with_context(place)?,
            Err(why) => bail!("{}: {why}", place()),
        }
    }
    Ok(())
}

fn parse(line: &[u8], number: usize, lines: &LineFormat) -> Result<RecordLine, String> {
    let value = serde_json::from_slice::<Value>(line).ok();
    if let Some(Value::Object(fields)) = &value
        && lines.time_path.is_none()
        && (fields.contains_key("value") || fields.contains_key("raw"))
    {
        return parse_record(fields, number);
    }
    let bytes = if lines.text.is_empty() { line.trim_ascii() } else { line }.to_vec();
    let (topic, offset, key, headers) = (None, None, None, Vec::new());
    let mut line =
        RecordLine { number, topic, partition: 0, offset, time_ms: None, key, headers, value: Some(bytes) };
    line.time_ms = lines.time_of(&line, value.as_ref());
    Ok(line)
}

/// Parses the fields of a record.
pub(crate) fn parse_record(fields: &Map<String, Value>, number: usize) -> Result<RecordLine, String> {
    const KNOWN: [&str; 8] = ["timestamp", "key", "headers", "topic", "partition", "offset", "value", "raw"];
    if let Some(unknown) = fields.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(format!("a record has no {unknown:?}; it has {}", KNOWN.join(", ")));
    }
    let text = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("{name} must be a text")),
    };
    let whole = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_i64().map(Some).ok_or_else(|| format!("{name} must be a whole number")),
    };
    let time_ms = match fields.get("timestamp") {
        Some(Value::String(text)) => Some(parse_time_ms(text)?),
        _ => whole("timestamp")?,
    };
    let headers: BTreeMap<String, Option<String>> = match fields.get("headers") {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(headers) => serde_json::from_value(headers.clone())
            .map_err(|_| "headers must be an object of texts".to_owned())?,
    };
    let value = match (fields.get("value"), text("raw")?) {
        (Some(_), Some(_)) => return Err("a record has either value or raw".to_owned()),
        (_, Some(raw)) => Some(raw.into_bytes()),
        (None | Some(Value::Null), None) => None,
        (Some(value), None) => Some(value.to_string().into_bytes()),
    };
    let partition = whole("partition")?.unwrap_or(0);
    Ok(RecordLine {
        number,
        topic: text("topic")?,
        partition: i32::try_from(partition).map_err(|_| format!("{partition} is no partition"))?,
        offset: whole("offset")?,
        time_ms,
        key: text("key")?,
        headers: headers.into_iter().collect(),
        value,
    })
}

impl RecordLine {
    /// Calls `take` with the record in the engine's form. Without a clock no timestamp is too far in the future; an event time
    /// within the value is compared with the record's timestamp, if there is one.
    pub(crate) fn with_raw<T>(
        &self,
        (topic, offset, time_ms): (&str, i64, i64),
        take: impl FnOnce(&RawRecord<'_>) -> T,
    ) -> T {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref().map(str::as_bytes)))
            .collect();
        take(&RawRecord {
            topic,
            partition: self.partition,
            offset,
            timestamp_ms: time_ms,
            clock_ms: self.time_ms.unwrap_or(i64::MAX),
            key: self.key.as_deref().map(str::as_bytes),
            value: self.value.as_deref(),
            headers: &headers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> RecordLine {
        parse(text.as_bytes(), 1, &LineFormat::default()).unwrap()
    }

    #[test]
    fn a_record_may_carry_all_that_kafka_has() {
        let text = r#"{"timestamp":"2026-01-05T10:00:00Z","key":"k","headers":{"x":"1"},"topic":"t","partition":3,"offset":7,"value":{"a":1}}"#;
        let it = line(text);
        assert_eq!(
            (it.topic.as_deref(), it.partition, it.offset, it.time_ms),
            (Some("t"), 3, Some(7), Some(1_767_607_200_000))
        );
        assert_eq!((it.key.as_deref(), it.value.as_deref()), (Some("k"), Some(br#"{"a":1}"#.as_slice())));
        assert_eq!(it.headers, [("x".to_owned(), Some("1".to_owned()))]);
        assert_eq!(line(r#"{"timestamp":1500,"value":null}"#).value, None, "a tombstone");
        assert_eq!(
            line(r#"{"timestamp":1500,"raw":"no json"}"#).value.as_deref(),
            Some(b"no json".as_slice())
        );
    }

    #[test]
    fn a_bare_value_has_its_time_at_the_path() {
        let path = LineFormat { time_path: TimePath::parse("record.meta.at").ok(), ..LineFormat::default() };
        for (text, ms) in [
            (r#"{"meta":{"at":"1970-01-01T00:00:01.5Z"}}"#, 1_500),
            (r#"{"meta":{"at":1767607200}}"#, 1_767_607_200_000),
            (r#"{"meta":{"at":1767607200123},"value":2}"#, 1_767_607_200_123),
        ] {
            let it = parse(text.as_bytes(), 1, &path).unwrap();
            assert_eq!((it.time_ms, it.value.as_deref()), (Some(ms), Some(text.as_bytes())));
        }
        assert_eq!(parse(b"{}", 1, &path).unwrap().time_ms, None);
        assert_eq!(line(r#"{"level":"ERROR"}"#).time_ms, None);
    }

    #[test]
    fn a_line_of_text_is_a_bare_value_unless_it_is_a_record() {
        let lines = LineFormat::new(&[Decoder::Logfmt], None);
        for text in ["level=error msg=\"x\"", "2026-01-05 ERROR {", "{\"a\":1}", " 7 "] {
            let it = parse(text.as_bytes(), 1, &lines).unwrap();
            assert_eq!((it.time_ms, it.value.as_deref()), (None, Some(text.as_bytes())), "{text}");
        }
        let it = parse(b"{\"timestamp\":5,\"raw\":\"level=error\"}", 1, &lines).unwrap();
        assert_eq!((it.time_ms, it.value.as_deref()), (Some(5), Some(b"level=error".as_slice())));
    }

    #[test]
    fn a_line_of_text_has_its_time_at_the_path_too() {
        let lines = LineFormat::new(&[Decoder::Logfmt], TimePath::parse("record.ts").ok());
        for (text, ms) in [
            ("ts=1970-01-01T00:00:01.5Z level=error", Some(1_500)),
            ("level=error ts=1767607200", Some(1_767_607_200_000)),
            ("ts=\"1767607200123\"", Some(1_767_607_200_123)),
            ("level=error", None),
            ("ts=noon", None),
            ("=broken", None),
        ] {
            let it = parse(text.as_bytes(), 1, &lines).unwrap();
            assert_eq!((it.time_ms, it.value.as_deref()), (ms, Some(text.as_bytes())), "{text}");
        }
    }

    #[test]
    fn the_error_of_a_bad_record_says_what_is_allowed() {
        for (text, part) in [
            (r#"{"value":1,"time":2}"#, "it has timestamp, key"),
            (r#"{"value":1,"raw":"x"}"#, "either value or raw"),
            (r#"{"value":1,"timestamp":"noon"}"#, "2026-01-05T10:00:00Z"),
            (r#"{"value":1,"partition":"x"}"#, "whole number"),
            (r#"{"value":1,"headers":[1]}"#, "object of texts"),
        ] {
            let why = parse(text.as_bytes(), 1, &LineFormat::default()).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
