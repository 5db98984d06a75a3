//! `belfry match`: one line a record: `true`, `false`, or `false: why`.

use std::io::Write as _;
use std::path::Path;

use alerting::decode::{Decoded, Decoder};
use alerting::document::Document;
use alerting::matching::Matcher;
use alerting::record::Record;
use anyhow::anyhow;
use domain::Format;

use crate::records::{self, Line};

/// Runs it; the answer is always yes.
pub(crate) fn run(expression: &str, file: &Path) -> anyhow::Result<bool> {
    let matcher = Matcher::compile(expression).map_err(|error| anyhow!("{error}"))?;
    let mut document = Document::default();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    records::each(file, None, |line| Ok(writeln!(out, "{}", answer(&matcher, &line, &mut document))?))?;
    out.flush()?;
    Ok(true)
}

fn answer(matcher: &Matcher, line: &Line, document: &mut Document) -> String {
    let topic = line.topic.as_deref().unwrap_or_default();
    let at = (topic, line.offset.unwrap_or(0), line.time_ms.unwrap_or(0));
    line.with_raw(at, |raw| {
        let view = match Decoder::new(Format::Json).decode(raw.value, document) {
            Ok(Decoded::Value(view)) => view,
            Ok(Decoded::Tombstone) => return "false: a tombstone".to_owned(),
            Err(error) => return format!("false: {error}"),
        };
        match matcher.matches(&Record { raw: *raw, value: view.root() }) {
            Ok(answer) => answer.to_string(),
            Err(failure) => format!("false: {failure}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_is_matched_or_not_and_it_is_said_why() {
        let matcher = Matcher::compile("record.a > 1 && key == \"k\"").unwrap();
        let mut document = Document::default();
        let mut told = |fields: serde_json::Value| {
            let line = records::record(fields.as_object().unwrap(), 1).unwrap();
            answer(&matcher, &line, &mut document)
        };
        assert_eq!(told(json!({"key": "k", "value": {"a": 2}})), "true");
        assert_eq!(told(json!({"key": "k", "value": {"a": 1}})), "false");
        assert_eq!(told(json!({"key": "k", "value": {"b": 1}})), "false");
        assert!(told(json!({"key": "k", "value": {"a": "x"}})).starts_with("false: MatchWrongType: "));
        assert_eq!(told(json!({"value": null})), "false: a tombstone");
        assert!(told(json!({"raw": "{"})).starts_with("false: Truncated: "));
    }
}
