//! Records from a file or a pipe, one JSON text a line.
//!
//! A line is either a record, an object with `value` (or `raw`, a text of bytes that need not be JSON) and any of
//! `timestamp` (RFC 3339, or Unix milliseconds), `key`, `headers` (an object of texts), `topic`, `partition` and `offset`;
//! or, with a time path, a bare value whose time is at that path (RFC 3339, Unix seconds, or from 10^11 on milliseconds).
//! Without a time path an object without `value` and `raw` is a bare value without a time. Where values are no JSON but lines
//! of text, any other line is a bare value as it is.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context as _, bail};
use domain::Format;
use jiff::Timestamp;
use serde_json::{Map, Value};

use alerting::record::RawRecord;

/// From here on a number at a time path is milliseconds: as seconds it would be the year 5138.
const MILLISECONDS: f64 = 1e11;

/// A record as a line gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// From 1; 0 where it is no line of a file.
    pub(crate) number: usize,
    pub(crate) topic: Option<String>,
    pub(crate) partition: i32,
    pub(crate) offset: Option<i64>,
    pub(crate) time_ms: Option<i64>,
    pub(crate) key: Option<String>,
    pub(crate) headers: Vec<(String, Option<String>)>,
    /// None for a tombstone.
    pub(crate) value: Option<Vec<u8>>,
}

/// Where the time of a bare value is.
#[derive(Debug, Clone)]
pub(crate) struct TimePath(Vec<String>);

impl TimePath {
    /// `record.a.b`, or `a.b`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let names: Vec<String> =
            text.strip_prefix("record.").unwrap_or(text).split('.').map(str::to_owned).collect();
        if names.iter().any(String::is_empty) {
            return Err(format!("{text:?} is not a path such as record.time"));
        }
        Ok(Self(names))
    }

    fn time(&self, value: &Value) -> Result<i64, String> {
        let place = || self.0.join(".");
        let found = self.0.iter().try_fold(value, |value, name| value.get(name));
        let found = found.ok_or_else(|| format!("there is nothing at {}", place()))?;
        let number = found.as_f64().map(|it| if it.abs() < MILLISECONDS { it * 1_000.0 } else { it });
        match (number, found.as_str()) {
            (Some(ms), _) => Ok(ms as i64),
            (None, Some(text)) => instant(text),
            (None, None) => Err(format!("{} is no time", place())),
        }
    }
}

fn instant(text: &str) -> Result<i64, String> {
    let parsed = text.parse::<Timestamp>();
    parsed
        .map(Timestamp::as_millisecond)
        .map_err(|_| format!("{text:?} is not a time such as 2026-01-05T10:00:00Z"))
}

/// What the lines of a file are.
#[derive(Debug, Default, Clone)]
pub(crate) struct Lines {
    /// Bare values are lines of text, not JSON.
    pub(crate) are_text: bool,
    /// Where the time of a bare value is.
    pub(crate) time_path: Option<TimePath>,
}

/// Whether values of the format are lines of text.
pub(crate) fn is_text(format: &Format) -> bool {
    matches!(format, Format::Logfmt | Format::Text { .. })
}

/// Calls `take` with each record of the file, or of standard input for `-`. An error says which line.
pub(crate) fn each(
    file: &Path,
    lines: &Lines,
    mut take: impl FnMut(Line) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let input: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        let opened = std::fs::File::open(file).with_context(|| format!("reading {}", file.display()))?;
        Box::new(BufReader::new(opened))
    };
    for (at, line) in input.lines().enumerate() {
        let place = || format!("{}, line {}", file.display(), at + 1);
        let line = line.with_context(place)?;
        if line.trim().is_empty() {
            continue;
        }
        match parse(&line, at + 1, lines) {
            Ok(record) => take(record).with_context(place)?,
            Err(why) => bail!("{}: {why}", place()),
        }
    }
    Ok(())
}

fn parse(line: &str, number: usize, lines: &Lines) -> Result<Line, String> {
    let time_path = lines.time_path.as_ref();
    let value = match serde_json::from_str::<Value>(line) {
        Ok(Value::Object(fields))
            if time_path.is_none() && (fields.contains_key("value") || fields.contains_key("raw")) =>
        {
            return record(&fields, number);
        }
        Ok(value) => value,
        Err(_) if lines.are_text => Value::Null,
        Err(error) => {
            return Err(format!(
                "not a JSON text ({error}); bytes that are none go in as {{\"raw\": \"...\"}}"
            ));
        }
    };
    let record = if lines.are_text { line } else { line.trim() }.as_bytes().to_vec();
    let time_ms = time_path.map(|path| path.time(&value)).transpose()?;
    let (topic, offset, key, headers) = (None, None, None, Vec::new());
    Ok(Line { number, topic, partition: 0, offset, time_ms, key, headers, value: Some(record) })
}

/// Reads a record's fields.
pub(crate) fn record(fields: &Map<String, Value>, number: usize) -> Result<Line, String> {
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
        Some(Value::String(text)) => Some(instant(text)?),
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
    Ok(Line {
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

impl Line {
    /// As the engine takes it. No timestamp is too far ahead, for there is no clock; a time in the record is by the record's
    /// timestamp, if it has one.
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

    fn line(text: &str) -> Line {
        parse(text, 1, &Lines::default()).unwrap()
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
        let path = Lines { time_path: TimePath::parse("record.meta.at").ok(), ..Lines::default() };
        for (text, ms) in [
            (r#"{"meta":{"at":"1970-01-01T00:00:01.5Z"}}"#, 1_500),
            (r#"{"meta":{"at":1767607200}}"#, 1_767_607_200_000),
            (r#"{"meta":{"at":1767607200123},"value":2}"#, 1_767_607_200_123),
        ] {
            let it = parse(text, 1, &path).unwrap();
            assert_eq!((it.time_ms, it.value.as_deref()), (Some(ms), Some(text.as_bytes())));
        }
        assert!(parse("{}", 1, &path).unwrap_err().contains("nothing at meta.at"));
        assert_eq!(line(r#"{"level":"ERROR"}"#).time_ms, None);
    }

    #[test]
    fn a_line_of_text_is_a_value_as_it_is_unless_it_is_a_record() {
        let lines = Lines { are_text: true, ..Lines::default() };
        for text in ["level=error msg=\"x\"", "2026-01-05 ERROR {", "{\"a\":1}", " 7 "] {
            let it = parse(text, 1, &lines).unwrap();
            assert_eq!((it.time_ms, it.value.as_deref()), (None, Some(text.as_bytes())), "{text}");
        }
        let it = parse("{\"timestamp\":5,\"raw\":\"level=error\"}", 1, &lines).unwrap();
        assert_eq!((it.time_ms, it.value.as_deref()), (Some(5), Some(b"level=error".as_slice())));
    }

    #[test]
    fn what_is_no_record_says_what_is_allowed() {
        for (text, part) in [
            ("nonsense", "{\"raw\": \"...\"}"),
            (r#"{"value":1,"time":2}"#, "it has timestamp, key"),
            (r#"{"value":1,"raw":"x"}"#, "either value or raw"),
            (r#"{"value":1,"timestamp":"noon"}"#, "2026-01-05T10:00:00Z"),
            (r#"{"value":1,"partition":"x"}"#, "whole number"),
            (r#"{"value":1,"headers":[1]}"#, "object of texts"),
        ] {
            let why = parse(text, 1, &Lines::default()).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
