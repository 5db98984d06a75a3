//! Compares the matcher with the `cel` crate's interpreter: random expressions on random records must have the same
//! answer.
//!
//! `BELFRY_CASES` is the number of answers to compare, twenty records for each expression; a million is
//! `BELFRY_CASES=1000000 cargo test --release -p belfry-alerting --test twin -- --nocapture`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers")]

mod dice;
mod interpreter;

use alerting::document::Document;
use alerting::matching::Matcher;
use alerting::record::{Header, RawRecord, Record};
use domain::DropReason;
use serde_json::{Value, json};

use dice::Dice;
use interpreter::Interpreter;

/// An expression's answer for a record.
type Answer = Result<bool, DropReason>;

const HEADERS: [Header<'static>; 4] =
    [("x-env", Some(b"test")), ("x-env", Some(b"prod")), ("bin", Some(b"\xff")), ("none", None)];

fn raw(dice: &mut Dice) -> RawRecord<'static> {
    RawRecord {
        topic: "logs",
        partition: 3,
        offset: 7,
        timestamp_ms: [1_767_225_600_123, 0, -1, 951_782_400_000][dice.below(4)],
        clock_ms: 0,
        key: [Some(&b"k1"[..]), None, Some(b"\xff")][dice.below(3)],
        value: None,
        headers: &HEADERS,
    }
}

fn ours(expression: &str, raw: RawRecord<'_>, value: &Value) -> Answer {
    let matcher = Matcher::compile(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    let document = Document::from_json(value);
    let view = document.view("");
    matcher.matches(&Record { raw, value: view.root() }).map_err(|failure| failure.reason)
}

fn theirs(expression: &str, raw: &RawRecord<'_>, value: &Value) -> Answer {
    Interpreter::compile(expression).answer(raw, value)
}

#[test]
fn random_expressions_have_the_same_answer_as_in_the_cel_crate() {
    let cases = std::env::var("BELFRY_CASES").ok().and_then(|it| it.parse().ok()).unwrap_or(20_000_u64);
    let (mut compared, mut yes, mut no, mut failed) = (0_u64, 0_u64, 0_u64, 0_u64);
    for case in 0.. {
        if compared >= cases {
            break;
        }
        let dice = &mut Dice::new(case);
        let expression = dice.boolean(3);
        let Ok(matcher) = Matcher::compile(&expression) else { continue };
        let interpreter = Interpreter::compile(&expression);
        for _ in 0..20 {
            let (raw, value) = (raw(dice), dice.record());
            let document = Document::from_json(&value);
            let view = document.view("");
            let ours = matcher.matches(&Record { raw, value: view.root() }).map_err(|failure| failure.reason);
            let theirs = interpreter.answer(&raw, &value);
            assert_eq!(ours, theirs, "case {case}: {expression}\n{value}");
            compared += 1;
            match ours {
                Ok(true) => yes += 1,
                Ok(false) => no += 1,
                Err(_) => failed += 1,
            }
        }
    }
    println!("{compared} answers compared: {yes} true, {no} false, {failed} failed");
    assert!(yes > cases / 10 && no > cases / 10 && failed > 0);
}

#[test]
fn what_the_standard_defines_has_the_same_answer_too() {
    let value = json!({
        "t": "payments", "i": 42, "f": 1.5, "b": true, "n": null, "l": [1, 2.0, "x", null], "m": {"x": 1, "y": {"z": "q"}},
        "when": "2026-01-01T00:00:00.5+05:30", "span": "1h30m", "zone": "Europe/Berlin",
    });
    for expression in [
        "string(record.i) == '42' && string(record.f) == '1.5' && string(1.0) == '1' && string(true) == 'true'",
        "int('12') == 12 && int(1.9) == 1 && int(-1.9) == -1 && uint('3') == 3u && double('1.5') == 1.5",
        "bool('true') && !bool('f') && bytes('a') == b'a' && string(b'a') == 'a' && size(b'abc') == 3",
        "int('x') == 1",
        "int(9223372036854775808.0) == 1",
        "uint(-1) == 1u",
        "timestamp(record.when) < timestamp('2026-01-01T00:00:00Z') && int(timestamp(record.when)) == 1767205800",
        "timestamp(record.when).getHours() == 0 && timestamp(record.when).getMilliseconds() == 500",
        "timestamp(record.when).getHours(record.zone) == 19 && timestamp(record.when).getDayOfWeek(record.zone) == 3",
        "timestamp(record.when).getHours('-03:30') == 15 && timestamp(record.when).getHours('') == 18",
        "timestamp('2026-12-31T23:00:00Z').getDayOfYear() == 364 && timestamp('2026-12-31T23:00:00Z').getMonth() == 11",
        "timestamp('2026-12-31T23:00:00Z').getDate() == 31 && timestamp('2026-12-31T23:00:00Z').getDayOfMonth() == 30",
        "timestamp(0).getFullYear('Mars/Base') == 1",
        "timestamp(0).getFullYear('24:00') == 1",
        "timestamp('2026-13-01T00:00:00Z') == timestamp(0)",
        "timestamp('2026-01-01') == timestamp(0)",
        "timestamp('9999-12-31T23:59:59Z') + duration('1s') > timestamp(0)",
        "timestamp('9999-12-31T23:59:59Z') - timestamp('0001-01-01T00:00:00Z') > duration('1s')",
        "timestamp(253402300800) > timestamp(0)",
        "duration(record.span) == duration('90m') && duration(record.span).getMinutes() == 90",
        "duration('-1.5s').getMilliseconds() == -1500 && string(duration('-1.5s')) == '-1.5s'",
        "string(timestamp(record.when)) == '2025-12-31T18:30:00.5Z' && string(duration('0')) == '0s'",
        "duration('x') == duration('1s')",
        "duration('320000000000s') == duration('1s')",
        "duration('1h') - duration('1m') == duration('59m') && duration('1h') + timestamp(0) == timestamp(3600)",
        "type(record.l) == list && type(record.m) == map && type(record.n) == null_type && type(1u) == uint",
        "type(type(1)) == type && type(timestamp) == type(timestamp(0)) && dyn(1) == 1.0",
        "record.l[1u] == 2 && record.l[2.0] == 'x' && record.l[-1] == 1 || true",
        "record.l[0.5] == 1",
        "record.m['y'].z == 'q' && record['m']['y']['z'] == 'q' && has(record.m.y.z) && !has(record.m.y.w)",
        "has(record.t.x)",
        "has(record.n.x)",
        "record.?none.orValue('d') == 'd' && record.?t.orValue('d') == 'payments' && record.m.?x.value() == 1",
        "record.?none.hasValue() || record[?'t'].hasValue() && record.l[?9].orValue(5) == 5",
        "record.?m.y.z.orValue('') == 'q' && record.?m.w.orValue('') == ''",
        "record.?none.or(record.?i).value() == 42 && record.?t.or(record.?i).value() == 'payments'",
        "record.?none.value() == 1",
        "record.?t.x.orValue(1) == 1",
        "[?record.?t, ?record.?none].size() == 1 && {?'a': record.?none}.size() == 0",
        "{1: 'a', 2u: 'b', true: 'c', 'k': 'd'}[1.0] == 'a' && 2 in {2u: 1} && !(3 in {2u: 1})",
        "{1: 'a', 1u: 'b'} == {}",
        "{1.5: 'a'} == {}",
        "record.m == {'y': {'z': 'q'}, 'x': 1.0} && record.l == [1.0, 2, 'x', null]",
        "record.l.exists(x, x == 'x') && record.l.exists_one(x, x == 1) && record.m.all(k, k in ['x', 'y'])",
        "record.l.all(x, x > 0)",
        "record.l.exists(x, x > 1)",
        "record.l.map(x, string(x) != '', x) == []",
        "[1, 2, 3].map(x, x % 2 == 1, x * 10) == [10, 30] && [1, 2, 3].filter(x, x > 1) == [2, 3]",
        "[[1, 2], [3]].exists(l, l.exists(x, x == 3)) && [1] + [2] == [1, 2] && b'a' + b'b' == b'ab'",
        "headers['x-env'] == 'prod' && headers.bin == null && !has(headers.nope) && size(headers) == 3",
        "headers.exists(h, h == 'bin') && 'none' in headers && headers.nope == 'x'",
        "headers == {'x-env': 'prod', 'bin': null, 'none': null}",
        "key == 'k1' || key == null",
        "record.i / 0 == 1",
        "record.i % 0 == 1",
        "-(-9223372036854775807 - 1) == 1",
        "9223372036854775807 * 2 == 1",
        "1u - 2u == 1u",
        "-record.t == 1",
        "!record.t",
        "record.t ? true : false",
        "(record.t ? true : false) || record.none == 1",
        "record.none == 1 || record.t",
        "record.t || record.none == 1",
        "record.t && false",
        "record.t.contains('') && 'é'.size() == 1 && record.t.endsWith('ments') && ''.startsWith('')",
        "record.t.matches('^pay') && !matches(record.t, 'x$')",
        "record.i.matches('a')",
        "record.t.contains(record.i)",
        "record.t.size(1) == 1",
        "record.t < 'q' && false < true && b'a' < b'b'",
        "record.t < 1",
        "double('NaN') < 1.0",
        "double('NaN') == double('NaN') || 1 in [1.0, 2.0]",
        "1 in record.t",
        "record.none in [1]",
        "dyn == 1",
    ] {
        let raw = raw(&mut Dice::new(0));
        assert_eq!(ours(expression, raw, &value), theirs(expression, &raw, &value), "{expression}");
    }
}

/// Each difference is listed at the head of the matcher's documentation.
#[test]
fn where_the_answers_differ_it_is_on_purpose() {
    let value = json!({"l": [1], "m": {"a": 1}, "t": "x".repeat(9 << 20)});
    for (expression, our_answer, their_answer) in [
        ("9007199254740993 == 9007199254740992.0", Ok(false), Ok(true)),
        ("double(9223372036854775807) > 9223372036854775807", Ok(true), Ok(false)),
        ("record.l + record.m == [1, 'a']", Err(DropReason::MatchWrongType), Ok(true)),
        ("duration('1h and more') == duration('1h')", Err(DropReason::MatchFailed), Ok(true)),
        ("duration('1e3s') == duration('1000s')", Err(DropReason::MatchFailed), Ok(true)),
        ("timestamp(0).getHours('europe/berlin') == 1", Ok(true), Err(DropReason::MatchFailed)),
        ("timestamp('2016-12-31T23:59:60Z') > timestamp(0)", Err(DropReason::MatchFailed), Ok(true)),
        ("timestamp('9999-12-31T23:00:00Z').getFullYear('Asia/Tokyo') == 9999", Ok(true), Ok(false)),
        (
            "(record.t + record.t + record.t + record.t + record.t + record.t + record.t + record.t).size() > 0",
            Err(DropReason::MatchTooCostly),
            Ok(true),
        ),
    ] {
        let raw = raw(&mut Dice::new(0));
        assert_eq!(ours(expression, raw, &value), our_answer, "{expression}");
        assert_eq!(theirs(expression, &raw, &value), their_answer, "{expression}");
    }
}
