//! `belfry match`: prints a line for each record: `true`, `false`, or `false: why`.

use std::collections::BTreeMap;
use std::path::Path;

use alerting::decode::{DecodeReason, Decoded, Decoder};
use alerting::document::Document;
use alerting::matching::Matcher;
use alerting::record::Record;
use anyhow::{anyhow, bail};

use crate::records::{self, LineFormat, RecordLine};
use crate::terminal;

/// A record format, as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FormatName {
    Json,
    Logfmt,
    Text,
    #[value(name = "cloudevents")]
    CloudEvents,
}

impl FormatName {
    /// The format with its pattern. An error if the format needs one and has none, or the reverse.
    pub(crate) fn with_pattern(self, pattern: Option<String>) -> anyhow::Result<domain::Format> {
        Ok(match (self, pattern) {
            (Self::Text, Some(pattern)) => domain::Format::Text { pattern },
            (Self::Text, None) => bail!("--format text needs --pattern"),
            (_, Some(_)) => bail!("--pattern is for --format text"),
            (Self::Json, None) => domain::Format::Json,
            (Self::Logfmt, None) => domain::Format::Logfmt,
            (Self::CloudEvents, None) => domain::Format::CloudEvents,
        })
    }
}

/// Prints whether each record matches; always returns true.
pub(crate) fn run(expression: &str, file: &Path, format: &domain::Format) -> anyhow::Result<bool> {
    let matcher = Matcher::compile(expression).map_err(|error| {
        let all: Vec<String> = Matcher::check(expression).iter().map(ToString::to_string).collect();
        if all.is_empty() { anyhow!("{error}") } else { anyhow!("{}", all.join("\n")) }
    })?;
    let decoder = Decoder::new(format).map_err(|error| anyhow!("--pattern: {error}"))?;
    let lines = LineFormat::new(std::slice::from_ref(&decoder), None);
    let mut document = Document::default();
    let mut out = terminal::lines();
    let (mut read, mut undecodable) = (0_u64, BTreeMap::new());
    records::for_each(file, &lines, |line| {
        let (answer, reason) = answer(&matcher, &decoder, &line, &mut document);
        read += 1;
        if let Some(reason) = reason {
            *undecodable.entry(reason.name()).or_insert(0_u64) += 1;
        }
        Ok(out.line(answer)?)
    })?;
    out.finish()?;
    if !undecodable.is_empty() {
        terminal::note(format_args!("{read} records read, {}", records::describe_undecodable(&undecodable)));
    }
    Ok(true)
}

/// The line for a record, and the reason if the record can't be decoded.
fn answer(
    matcher: &Matcher,
    decoder: &Decoder,
    line: &RecordLine,
    document: &mut Document,
) -> (String, Option<DecodeReason>) {
    let topic = line.topic.as_deref().unwrap_or_default();
    let at = (topic, line.offset.unwrap_or(0), line.time_ms.unwrap_or(0));
    line.with_raw(at, |raw| {
        let view = match decoder.decode(raw, document) {
            Ok(Decoded::Value(view)) => view,
            Ok(Decoded::Tombstone) => return ("false: a tombstone".to_owned(), None),
            Err(error) => return (format!("false: {error}"), Some(error.reason)),
        };
        let answer = match matcher.matches(&Record { raw: *raw, value: view.root() }) {
            Ok(answer) => answer.to_string(),
            Err(failure) => format!("false: {failure}"),
        };
        (answer, None)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_record_gets_true_or_false_with_a_reason() {
        let matcher = Matcher::compile("record.a > 1 && key == \"k\"").unwrap();
        let mut document = Document::default();
        let mut told = |fields: serde_json::Value| {
            let line = records::parse_record(fields.as_object().unwrap(), 1).unwrap();
            answer(&matcher, &Decoder::Json, &line, &mut document).0
        };
        assert_eq!(told(json!({"key": "k", "value": {"a": 2}})), "true");
        assert_eq!(told(json!({"key": "k", "value": {"a": 1}})), "false");
        assert_eq!(told(json!({"key": "k", "value": {"b": 1}})), "false");
        assert!(told(json!({"key": "k", "value": {"a": "x"}})).starts_with("false: MatchWrongType: "));
        assert_eq!(told(json!({"value": null})), "false: a tombstone");
        assert!(told(json!({"raw": "{"})).starts_with("false: Truncated: "));
    }
}
