//! Tests the cases of `cases.txt`: what CEL's standard and its extensions say, modelled on the public conformance
//! tests.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers")]

use alerting::document::Document;
use alerting::matching::Matcher;
use alerting::record::{Header, RawRecord, Record};
use serde_json::{Value, json};

const HEADERS: [Header<'static>; 1] = [("x-env", Some(b"prod"))];

fn answer(expression: &str, value: &Value) -> &'static str {
    let raw = RawRecord {
        topic: "logs",
        partition: 3,
        offset: 7,
        timestamp_ms: 0,
        clock_ms: 0,
        key: None,
        value: None,
        headers: &HEADERS,
    };
    let Ok(matcher) = Matcher::compile(expression) else { return "refused" };
    let (document, opposite) =
        (Document::from_json(value), Matcher::compile(&format!("!({expression})")).unwrap());
    let view = document.view("");
    let record = Record { raw, value: view.root() };
    match (matcher.matches(&record), opposite.matches(&record)) {
        (Ok(true), Ok(false)) => "true",
        (Ok(false), Ok(true)) => "false",
        (Ok(false), Ok(false)) => "missing",
        (Err(_), Err(_)) => "fails",
        answers => panic!("{expression}: {answers:?}"),
    }
}

#[test]
fn what_the_standard_says_is_what_a_rule_says() {
    let value = json!({
        "l": [10, 20], "m": {"a": 1, "b": 2}, "t": "Payments", "n": 1, "content-type": "text/html", "a.b": 1,
        "deep": {"a": {"b": 5}}, "names": ["x", "y"], "big": 9_007_199_254_740_993_i64,
    });
    let mut cases = 0;
    let mut wrong = Vec::new();
    for line in include_str!("cases.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (expected, expression) = line.split_once('|').unwrap_or_else(|| panic!("no answer: {line}"));
        let got = answer(expression.trim(), &value);
        if got != expected.trim() {
            wrong.push(format!("{got}, not {}: {}", expected.trim(), expression.trim()));
        }
        cases += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases > 90, "{cases}");
}
