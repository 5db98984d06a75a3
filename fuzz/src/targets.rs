//! The fuzz targets: what must hold for any bytes.

use alerting::decode::{DecodeReason, Decoded, Decoder};
use alerting::document::Document;
use alerting::fold::CompiledRule;
use alerting::matching::Matcher;
use alerting::record::{Header, RawRecord, Record};
use alerting::replay::Replay;
use domain::{Format, Plan, PlanBody, RulePlan};
use serde_json::Value;

/// Decodes a record twice with the same buffers; both results must be equal.
fn decode_twice(decoder: &Decoder, record: &RawRecord<'_>) -> Option<Value> {
    let mut document = Document::default();
    let mut once = || match decoder.decode(record, &mut document) {
        Ok(Decoded::Value(view)) => {
            let value = view.root().to_json();
            assert_eq!(serde_json::to_value(view.root()).unwrap(), value, "both ways to JSON");
            Ok(Some(value))
        }
        Ok(Decoded::Tombstone) => Ok(None),
        Err(error) => {
            assert!(error.message.len() < 300, "{error}");
            Err(error)
        }
    };
    let first = once();
    assert_eq!(first, once(), "with buffers that were used before");
    first.ok().flatten()
}

fn raw_record<'r>(value: &'r [u8], headers: &'r [Header<'r>]) -> RawRecord<'r> {
    RawRecord { topic: "t", value: Some(value), headers, ..RawRecord::default() }
}

/// JSON: our decoder accepts what serde_json accepts, with the same value.
pub fn json(data: &[u8]) {
    let ours = decode_twice(&Decoder::Json, &raw_record(data, &[]));
    let theirs = serde_json::from_slice::<Value>(data).ok();
    assert_eq!(ours.is_some(), theirs.is_some(), "whether it is JSON");
    // serde_json rounds doubles of many digits differently, so only values without them are compared.
    if let (Some(ours), Some(theirs)) = (ours, theirs)
        && !data.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E'))
    {
        assert_eq!(ours, theirs);
    }
}

/// logfmt: values are texts or true, and pairs that are written again are read as the same.
pub fn logfmt(data: &[u8]) {
    let Some(value) = decode_twice(&Decoder::Logfmt, &raw_record(data, &[])) else { return };
    let pairs = value.as_object().expect("a map");
    let mut line = String::new();
    for (name, value) in pairs {
        match value {
            Value::String(_) => line.extend([name.as_str(), "=", &value.to_string(), " "]),
            Value::Bool(true) => line.extend([name.as_str(), " "]),
            other => panic!("{name} is {other}"),
        }
    }
    if !line.is_empty() {
        assert_eq!(
            decode_twice(&Decoder::Logfmt, &raw_record(line.as_bytes(), &[])),
            Some(value.clone()),
            "{line:?}"
        );
    }
}

/// Text: the bytes before the first newline are the pattern, the rest is the text that it searches.
pub fn text(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (pattern, text) = data.split_at(at);
    let Ok(pattern) = std::str::from_utf8(pattern) else { return };
    let Ok(decoder) = Decoder::new(&Format::Text { pattern: pattern.to_owned() }) else { return };
    let text = text.get(1..).unwrap_or_default();
    if let Some(value) = decode_twice(&decoder, &raw_record(text, &[])) {
        let text = std::str::from_utf8(text).expect("what was decoded is UTF-8");
        for (name, field) in value.as_object().expect("a map") {
            assert!(text.contains(field.as_str().expect("a text")), "{name}");
        }
    }
}

/// CloudEvents: lines of `name:value` up to a line without a colon are headers; the rest is the value.
pub fn cloud_events(data: &[u8]) {
    let mut headers: Vec<(&str, Option<&[u8]>)> = Vec::new();
    let mut rest = data;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
        let Ok(name) = std::str::from_utf8(&line[..colon]) else { return };
        headers.push((name, line.get(colon + 1..)));
    }
    if let Some(event) = decode_twice(&Decoder::CloudEvents, &raw_record(rest, &headers)) {
        for name in ["id", "source", "specversion", "type"] {
            assert!(event[name].as_str().is_some_and(|it| !it.is_empty()), "{name} of {event}");
        }
    }
}

/// Matcher: an expression compiles or says where it is wrong, and answers for any record in bounded work.
pub fn matcher(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Matcher::compile(text) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(matcher) => {
            let mut document = Document::default();
            for value in [
                br#"{"a":1,"b":"x","c":[1,2.5,null,{"d":true}],"t":"2026-01-05T10:00:00Z","e":{}}"#
                    .as_slice(),
                b"7",
                b"[]",
            ] {
                let raw = raw_record(value, &[("h", Some(b"v"))]);
                let Ok(Decoded::Value(view)) = Decoder::Json.decode(&raw, &mut document) else {
                    panic!("JSON")
                };
                let answer = matcher.matches(&Record { raw, value: view.root() });
                let again = matcher.matches(&Record { raw, value: view.root() });
                assert_eq!(format!("{answer:?}"), format!("{again:?}"));
            }
        }
    }
}

/// Plan: a plan that can be read can be written and read again, and its rule runs or says why not.
pub fn plan(data: &[u8]) {
    let Ok(plan) = serde_json::from_slice::<Plan>(data) else { return };
    let text = serde_json::to_string(&plan).expect("a plan is written");
    let again: Plan = serde_json::from_str(&text).expect("and read");
    assert_eq!(again.revision(), plan.revision(), "{text}");
    if let PlanBody::AlertRule(rule) = &plan.body {
        replay_rule(&plan, rule);
    }
}

fn replay_rule(plan: &Plan, rule: &RulePlan) {
    if let Err(errors) = CompiledRule::compile(plan.uid, rule) {
        assert!(!errors.is_empty());
    }
    let (mut replay, _) = Replay::new([(plan.uid, rule)]);
    for topic in rule.topics.iter().take(3) {
        for (offset, value) in [b"{\"a\":1}".as_slice(), b"a=1", b"", b"\xff"].into_iter().enumerate() {
            let at = 1_000 * offset as i64;
            let record = RawRecord {
                topic,
                offset: offset as i64,
                timestamp_ms: at,
                clock_ms: at,
                value: Some(value),
                ..RawRecord::default()
            };
            let folded = replay.push(&record);
            if let Some(error) = folded.undecodable {
                assert!(error.reason != DecodeReason::TooLarge);
            }
        }
    }
}
