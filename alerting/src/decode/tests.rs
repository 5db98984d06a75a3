use serde_json::{Value, json};

use super::*;
use crate::record::Header;

fn raw<'r>(value: Option<&'r [u8]>, headers: &'r [Header<'r>]) -> RawRecord<'r> {
    RawRecord { value, headers, ..RawRecord::default() }
}

fn decode(format: &Format, value: &[u8], headers: &[Header<'_>]) -> Result<Value, DecodeError> {
    let mut document = Document::default();
    match Decoder::new(format).unwrap().decode(&raw(Some(value), headers), &mut document)? {
        Decoded::Value(view) => {
            let json = view.root().to_json();
            assert_eq!(serde_json::to_value(view.root()).unwrap(), json, "both ways to JSON say the same");
            Ok(json)
        }
        Decoded::Tombstone => panic!("not null"),
    }
}

fn reason(value: &[u8]) -> DecodeReason {
    decode(&Format::Json, value, &[]).unwrap_err().reason
}

fn text(pattern: &str) -> Format {
    Format::Text { pattern: pattern.to_owned() }
}

#[test]
fn null_is_a_tombstone_and_an_empty_value_is_not() {
    for format in [Format::Json, Format::Logfmt, text("(?<a>.*)"), Format::CloudEvents] {
        let mut document = Document::default();
        let decoded = Decoder::new(&format).unwrap().decode(&raw(None, &[]), &mut document).unwrap();
        assert!(matches!(decoded, Decoded::Tombstone));
        let empty = decode(&format, b"", &[]).unwrap_err();
        assert_eq!(empty.reason, DecodeReason::Empty, "{format:?}");
        let large = decode(&format, &vec![b' '; MAX_VALUE + 1], &[]).unwrap_err();
        assert_eq!(large.reason, DecodeReason::TooLarge, "{format:?}");
    }
}

#[test]
fn what_is_not_json_says_why() {
    assert_eq!(reason(b"{\"a\":"), DecodeReason::Truncated);
    assert_eq!(reason(b"hello"), DecodeReason::Malformed);
    assert_eq!(reason(b"{} {}"), DecodeReason::Malformed);
    assert_eq!(reason(b"{\"a\":1e999}"), DecodeReason::Malformed);
    assert_eq!(reason(b"\"\xff\xfe\""), DecodeReason::Malformed);
    assert_eq!(reason("[".repeat(100_000).as_bytes()), DecodeReason::TooDeep);
}

#[test]
fn the_message_does_not_quote_the_record() {
    for (format, value) in [
        (Format::Json, "{\"secret\": hunter2}"),
        (Format::Logfmt, "secret=\"hunter2\"hunter2"),
        (text("^(?<a>[0-9]+)$"), "hunter2"),
        (
            Format::CloudEvents,
            "{\"specversion\":\"hunter2\",\"id\":\"hunter2\",\"source\":\"/\",\"type\":\"t\"}",
        ),
    ] {
        let error = decode(&format, value.as_bytes(), &[]).unwrap_err();
        assert!(error.reason == DecodeReason::Malformed && !error.to_string().contains("hunter"), "{error}");
    }
}

#[test]
fn ten_megabytes_of_json_decode() {
    let value = format!("{{\"text\":\"{}\"}}", "x".repeat(10 << 20));
    let decoded = decode(&Format::Json, value.as_bytes(), &[]).unwrap();
    assert_eq!(decoded, serde_json::from_str::<Value>(&value).unwrap());
}

#[test]
fn a_line_of_logfmt_is_its_pairs() {
    for (line, value) in [
        (
            "level=error msg=\"no such file\" retried",
            json!({"level": "error", "msg": "no such file", "retried": true}),
        ),
        ("a=b=c url=/x?y=1", json!({"a": "b=c", "url": "/x?y=1"})),
        ("a= b=\"\" c", json!({"a": "", "b": "", "c": true})),
        ("  a=1\t b=2  ", json!({"a": "1", "b": "2"})),
        ("n=007 t=true x=1e5", json!({"n": "007", "t": "true", "x": "1e5"})),
        (r#"q="say \"hi\"\n\u00e9\ud83d\ude00\\" r=1"#, json!({"q": "say \"hi\"\né😀\\", "r": "1"})),
        // Escapes as Go's %q writes them.
        (
            r#"m="\x1b[31mred\x1b[0m\a\v\U0001f600\u00e9" r=1"#,
            json!({"m": "\u{1b}[31mred\u{1b}[0m\u{7}\u{b}😀é", "r": "1"}),
        ),
        (
            r#"m="\xc3\xa9 \xff \xe2\x82 \xe2\x82\xac \xc3x""#,
            json!({"m": "é \u{fffd} \u{fffd}\u{fffd} € \u{fffd}x"}),
        ),
        ("a=1 a=2", json!({"a": "2"})),
        ("größe=L ort=münchen", json!({"größe": "L", "ort": "münchen"})),
        ("a=1\n", json!({"a": "1"})),
        ("a=1\r\n", json!({"a": "1"})),
        ("   ", json!({})),
        ("msg=\"two\nlines\"", json!({"msg": "two\nlines"})),
    ] {
        assert_eq!(decode(&Format::Logfmt, line.as_bytes(), &[]).unwrap(), value, "{line:?}");
    }
}

#[test]
fn what_is_not_logfmt_says_what_and_where() {
    for (line, reason, part) in [
        ("=1", DecodeReason::Malformed, "a = without a name before it at byte 0"),
        ("a=1 =2", DecodeReason::Malformed, "at byte 4"),
        ("a\"b=1", DecodeReason::Malformed, "a quote in a name at byte 1"),
        ("a=b\"c\"", DecodeReason::Malformed, "a quote in a value"),
        ("a=\"b\"c", DecodeReason::Malformed, "right behind a closing quote at byte 5"),
        ("a=\"\\x\"", DecodeReason::Malformed, "an escape that there is not"),
        ("a=\"\\x1g\"", DecodeReason::Malformed, "an escape that there is not"),
        ("a=\"\\xc3\\x\"", DecodeReason::Malformed, "an escape that there is not"),
        ("a=\"\\U00110000\"", DecodeReason::Malformed, "an escape that there is not"),
        ("a=\"\\q\"", DecodeReason::Malformed, "an escape that there is not"),
        ("a=\"\\ud83d\"", DecodeReason::Malformed, "an escape that there is not"),
        ("a=\"b", DecodeReason::Truncated, "not closed"),
        ("a=\"b\\", DecodeReason::Malformed, "an escape that there is not"),
        ("a=1\nb=2", DecodeReason::Malformed, "a second line at byte 3"),
        ("a\u{1}=1", DecodeReason::Malformed, "a control character"),
    ] {
        let error = decode(&Format::Logfmt, line.as_bytes(), &[]).unwrap_err();
        assert!(error.reason == reason && error.message.contains(part), "{line:?}: {error}");
    }
    assert!(
        decode(&Format::Logfmt, b"a=\xff", &[]).unwrap_err().message.contains("not UTF-8 from byte 2 on")
    );
}

#[test]
fn a_text_is_taken_apart_by_the_named_groups_that_took_part() {
    let nginx = text(
        r#"^(?<client>\S+) - (?:-|(?<user>\S+)) \[(?<time>[^\]]+)\] "(?<request>[^"]*)" (?<status>\d{3})$"#,
    );
    let line = "10.0.0.7 - - [05/Jan/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 502\n";
    assert_eq!(
        decode(&nginx, line.as_bytes(), &[]).unwrap(),
        json!({"client": "10.0.0.7", "time": "05/Jan/2026:10:00:00 +0000", "request": "GET / HTTP/1.1", "status": "502"})
    );
    let error = decode(&nginx, b"Traceback (most recent call last):", &[]).unwrap_err();
    assert_eq!(
        (error.reason, error.message.as_str()),
        (DecodeReason::Malformed, "the pattern is not found in it")
    );
    // The pattern is not anchored.
    assert_eq!(decode(&text("(?P<n>[0-9]+)"), b"a 12 b 34", &[]).unwrap(), json!({"n": "12"}));
}

#[test]
fn a_pattern_that_gives_no_fields_or_too_much_work_is_refused() {
    let error = |pattern: &str| Decoder::new(&text(pattern)).unwrap_err().to_string();
    assert!(error("^ERROR (.*)$").contains("no group has a name, such as (?<level>[A-Z]+)"));
    assert!(error("(?<a>").contains("unclosed group"));
    assert!(error(r"(?<a>\w{1000}{1000})").contains("too large a regular expression"));
    assert!(error(&format!("(?<a>{})", "x".repeat(2_048))).contains("at most 2048"));
    // A pattern that would take a backtracking engine forever takes this one no time.
    let slow = text("^(?<a>(x+x+)+)y$");
    assert!(decode(&slow, "x".repeat(100_000).as_bytes(), &[]).is_err());
}

#[test]
fn a_text_that_a_pattern_would_take_too_long_for_is_told_before_it_begins() {
    let error = Decoder::new(&text("^(?<g>[a-z]+)$|(a{1,100}){1,100}b")).unwrap_err().to_string();
    assert!(error.contains("too much work") && error.contains("16 KiB"), "{error}");
    let heavy = text("(?<g>(a{1,25}){1,30})b");
    assert_eq!(
        decode(&heavy, "a".repeat(1_000).as_bytes(), &[]).unwrap_err().reason,
        DecodeReason::Malformed
    );
    let error = decode(&heavy, "a".repeat(800_000).as_bytes(), &[]).unwrap_err();
    assert_eq!(error.reason, DecodeReason::TooLarge);
    assert!(error.message.starts_with("800000 bytes; by this pattern at most "), "{error}");
    // A pattern that takes one step per byte has no such bound, and gives the same fields.
    let line = text(r"^(?<client>\S+) (?<word>[a-z]{2,80})(?<none>[0-9])? (?<rest>.*)$");
    let long = format!("10.0.0.7 get {}", "é/".repeat(500_000));
    assert_eq!(
        decode(&line, long.as_bytes(), &[]).unwrap(),
        json!({"client": "10.0.0.7", "word": "get", "rest": "é/".repeat(500_000)})
    );
    assert_eq!(
        decode(&line, b"10.0.0.7 get x", &[]).unwrap(),
        json!({"client": "10.0.0.7", "word": "get", "rest": "x"})
    );
}

fn headers<'h>(list: &[(&'h str, &'h str)]) -> Vec<Header<'h>> {
    list.iter().map(|(name, value)| (*name, Some(value.as_bytes()))).collect()
}

const BINARY: [(&str, &str); 5] = [
    ("ce_specversion", "1.0"),
    ("ce_id", "7"),
    ("ce_source", "/shop"),
    ("ce_type", "dev.shop.order"),
    ("ce_tenant", "a"),
];

#[test]
fn an_event_is_the_same_in_both_modes() {
    let event = json!({
        "specversion": "1.0", "id": "7", "source": "/shop", "type": "dev.shop.order", "tenant": "a",
        "datacontenttype": "application/json", "data": {"total": 12.5, "items": [1, 2]},
    });
    let structured = headers(&[("content-type", "application/cloudevents+json; charset=UTF-8")]);
    let value = event.to_string();
    assert_eq!(decode(&Format::CloudEvents, value.as_bytes(), &structured).unwrap(), event);
    assert_eq!(
        decode(&Format::CloudEvents, value.as_bytes(), &[]).unwrap(),
        event,
        "the header was left out"
    );
    let mut binary = headers(&BINARY);
    binary.push(("content-type", Some(b"application/json")));
    binary.push(("traceparent", Some(b"00-1-2-00")));
    let data = event["data"].to_string();
    assert_eq!(decode(&Format::CloudEvents, data.as_bytes(), &binary).unwrap(), event);
}

#[test]
fn data_is_json_a_text_or_bytes_by_its_type_and_may_be_left_out() {
    let data = |media_type: Option<&str>, value: Option<&[u8]>| {
        let mut list = headers(&BINARY);
        list.extend(media_type.map(|it| ("content-type", Some(it.as_bytes()))));
        let mut document = Document::default();
        let raw = raw(value, &list);
        match Decoder::CloudEvents.decode(&raw, &mut document)? {
            Decoded::Value(view) => Ok(view.root().to_json()),
            Decoded::Tombstone => panic!("an event without data"),
        }
    };
    let of = |media_type, value| data(media_type, Some(value)).unwrap();
    assert_eq!(of(None, b"[1]")["data"], json!([1]), "JSON unless it says otherwise");
    assert_eq!(of(Some("application/problem+json"), b"{\"a\":1}")["data"], json!({"a": 1}));
    assert_eq!(of(Some("Text/Plain; charset=utf-8"), b"caf\xc3\xa9")["data"], json!("café"));
    assert_eq!(of(Some("image/png"), b"\x89PNG")["data_base64"], json!("iVBORw=="));
    let none: Result<_, DecodeError> = data(Some("application/json"), None);
    assert!(none.unwrap().as_object().is_some_and(|it| !it.contains_key("data") && it["id"] == "7"));
    for (media_type, value, reason) in [
        ("application/json", b"{".as_slice(), DecodeReason::Truncated),
        ("application/json", b"", DecodeReason::Empty),
        ("application/json", b"nope", DecodeReason::Malformed),
        ("text/plain", b"\xff", DecodeReason::Malformed),
    ] {
        assert_eq!(data(Some(media_type), Some(value)).unwrap_err().reason, reason, "{media_type} {value:?}");
    }
}

#[test]
fn what_is_no_event_says_what_is_missing() {
    let structured = |value: &str, media_type: &str| {
        let headers = headers(&[("content-type", media_type)]);
        decode(&Format::CloudEvents, value.as_bytes(), &headers).unwrap_err().message
    };
    let json = "application/cloudevents+json";
    for (value, media_type, part) in [
        ("[]", json, "is no object"),
        ("{\"id\":\"1\"}", json, "source is missing"),
        ("{\"id\":\"\",\"source\":\"/\"}", json, "id is empty"),
        ("{\"id\":1}", json, "id is no text"),
        ("{\"id\":\"1\",\"source\":\"/\",\"specversion\":\"0.3\"}", json, "specversion is not 1.0"),
        ("{", json, "EOF"),
        ("[]", "application/cloudevents-batch+json", "a record holds one event"),
        ("x", "application/cloudevents+avro", "not application/cloudevents+json"),
    ] {
        let message = structured(value, media_type);
        assert!(message.contains(part), "{value}: {message}");
    }
    for left_out in ["ce_id", "ce_source", "ce_specversion", "ce_type"] {
        let list: Vec<_> = headers(&BINARY).into_iter().filter(|(name, _)| *name != left_out).collect();
        let message = decode(&Format::CloudEvents, b"1", &list).unwrap_err().message;
        assert!(message.contains(&format!("header {left_out} is missing")), "{message}");
    }
    let mut list = headers(&BINARY);
    list.push(("ce_id", Some(b"\xff")));
    assert!(decode(&Format::CloudEvents, b"1", &list).unwrap_err().message.contains("ce_id is not UTF-8"));
}

proptest::proptest! {
    #[test]
    fn no_bytes_stop_a_decoder_and_what_logfmt_writes_it_reads(
        bytes in proptest::collection::vec(0..=255_u8, 0..64),
        noise in "[a=\"\\\\ \n\t\u{e9}u0d8]{0,32}",
        pairs in proptest::collection::vec(("[a-zé_.-]{1,6}", "\\PC{0,12}"), 0..6),
    ) {
        for format in [Format::Json, Format::Logfmt, text("(?<a>a+)|(?<b>.)"), Format::CloudEvents] {
            for value in [bytes.as_slice(), noise.as_bytes()] {
                let _ = decode(&format, value, &[]);
                let _ = decode(&format, value, &headers(&BINARY));
            }
        }
        let line: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{name}={}", Value::from(value.as_str()))).collect();
        let expected: serde_json::Map<String, Value> =
            pairs.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        if !line.is_empty() {
            let read = decode(&Format::Logfmt, line.join(" ").as_bytes(), &[]);
            proptest::prop_assert_eq!(read, Ok(Value::Object(expected)));
        }
    }
}

/// The result of both parsers for a text.
fn both(text: &[u8]) -> (Option<Value>, Option<Value>) {
    let mut document = Document::default();
    let ours = std::str::from_utf8(text).ok().and_then(|text| {
        let parsed = json::parse(text, &mut document.build(), &mut String::new());
        parsed.then(|| document.view(text).root().to_json())
    });
    (ours, serde_json::from_slice(text).ok())
}

#[test]
fn our_parser_accepts_what_serde_json_accepts_with_the_same_value() {
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let mut texts: Vec<String> = [
        "null",
        " true ",
        "false",
        "tru",
        "nul",
        "-",
        "-0",
        "0",
        "00",
        "01",
        "-01",
        "1.",
        ".5",
        "1.5",
        "-1.5e3",
        "1e",
        "1e+",
        "1e5",
        "1E-5",
        "1e999",
        "-1e999",
        "1e-999",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "18446744073709551616",
        "123456789012345678901234567890",
        "0.1",
        "123456.789",
        "1.0",
        "-0.0",
        "\"\"",
        "\"a\"",
        "\"a",
        "\"\\\"",
        "\"\\u00e9\\n\\/\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "\"\\ude00\"",
        "\"\\ud83dx\"",
        "\"\\ud83d\\u0041\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\u{1}\"",
        "\"\n\"",
        "\"\u{7f}é\u{10ffff}\"",
        "[]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1,2",
        "[ 1 , 2 ]",
        "{}",
        "{\"a\":1}",
        "{\"a\" : 1 , \"b\":[{}]}",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":{\"x\":1},\"b\":2,\"a\":[3]}",
        "{\"\":0,\"\":1}",
        "{\"a\":1,\"\\u0061\":2}",
        "{\"abcdefgh\":\"0123456789\\t\"}",
        "1 2",
        "{} {}",
        "\u{feff}1",
        "",
        " ",
        "]",
        "{]",
        "[}",
    ]
    .map(str::to_owned)
    .into();
    texts.extend([deep(126), deep(127), deep(128), deep(129)]);
    let many = |count: usize, twice: usize| {
        let fields = (0..count).map(|n| format!("\"field{}\":{n}", n % twice)).collect::<Vec<_>>();
        format!("{{{},\"field0\":-1}}", fields.join(","))
    };
    texts.extend([many(5, 4), many(31, 31), many(32, 32), many(33, 40), many(100, 30), many(1_000, 900)]);
    for text in texts {
        let (ours, theirs) = both(text.as_bytes());
        assert_eq!(ours, theirs, "{}", &text[..text.len().min(80)]);
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_and_any_cut_of_json_are_judged_as_serde_json_judges_them(
        noise in "[\\[\\]{}:,\" \\\\aub019.eE+\\-\u{e9}]{0,24}",
        bytes in proptest::collection::vec(0..=255_u8, 0..12),
        value in values(), at in 0..200_usize, by in 0..=255_u8,
    ) {
        let (ours, theirs) = both(noise.as_bytes());
        proptest::prop_assert_eq!(ours, theirs);
        let (ours, theirs) = both(&bytes);
        proptest::prop_assert_eq!(ours, theirs);
        for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
            let (ours, theirs) = both(text.as_bytes());
            proptest::prop_assert_eq!(&ours, &theirs);
            proptest::prop_assert_eq!(ours.as_ref(), Some(&value));
            let mut changed = text.into_bytes();
            changed.truncate(at.max(1));
            let (ours, theirs) = both(&changed);
            proptest::prop_assert_eq!(ours, theirs);
            let last = changed.len() - 1;
            changed[last] = by;
            let (ours, theirs) = both(&changed);
            proptest::prop_assert_eq!(ours, theirs);
        }
    }
}

/// Values with numbers that are the same in both parsers.
fn values() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1_000_000..1_000_000_i64).prop_map(|it| Value::from(it as f64 / 64.0)),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map("[a-d\"\\\\é]{0,3}", inner, 0..8)
                .prop_map(|it| Value::Object(it.into_iter().collect())),
        ]
    })
}
