use serde_json::{Value, json};

use super::*;
use crate::document::Document;
use crate::record::{Header, RawRecord};

fn on(expression: &str, value: &Value) -> Result<bool, DropReason> {
    let headers: [Header<'_>; 3] =
        [("x-env", Some(b"test")), ("x-env", Some(b"prod")), ("bin", Some(b"\xff"))];
    let raw = RawRecord {
        topic: "logs",
        partition: 3,
        offset: 7,
        timestamp_ms: 1_767_225_600_000,
        clock_ms: 1_767_225_600_000,
        key: Some(b"k1"),
        value: None,
        headers: &headers,
    };
    let matcher = Matcher::compile(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    let document = Document::from_json(value);
    let view = document.view("");
    matcher.matches(&Record { raw, value: view.root() }).map_err(|failure| failure.reason)
}

fn wrong(expression: &str) -> String {
    Matcher::compile(expression).expect_err(expression).to_string()
}

#[test]
fn the_examples_match_what_they_say() {
    let bad = r#"record.level in ["WARN", "ERROR"] && record.service.startsWith("pay")"#;
    assert_eq!(on(bad, &json!({"level": "WARN", "service": "payments"})), Ok(true));
    assert_eq!(on(bad, &json!({"level": "INFO", "service": "payments"})), Ok(false));
    let chargeback = r#"record.type == "chargeback" && record.amount >= 100.0"#;
    for amount in [json!(150), json!(100), json!(100.0), json!(100.5), json!(u64::MAX)] {
        assert_eq!(on(chargeback, &json!({"type": "chargeback", "amount": amount})), Ok(true), "{amount}");
    }
    assert_eq!(on(chargeback, &json!({"type": "chargeback", "amount": 99})), Ok(false));
}

#[test]
fn numbers_compare_across_their_types() {
    for expression in [
        "record.i == 150.0",
        "record.f == 2",
        "record.i > 149.5",
        "record.f < 3",
        "150.0 == record.i",
        "record.i in [150.0]",
    ] {
        assert_eq!(on(expression, &json!({"i": 150, "f": 2.0})), Ok(true), "{expression}");
    }
}

#[test]
fn all_variables_are_there() {
    for expression in [
        r#"key == "k1""#,
        r#"headers["x-env"] == "prod""#,
        "headers.bin == null",
        r#"topic == "logs" && partition == 3"#,
        r#"timestamp == timestamp("2026-01-01T00:00:00Z")"#,
        r#"timestamp - duration("1h") < timestamp"#,
        "timestamp.getFullYear() == 2026",
        "type(record) == map && type(record.n) == int",
    ] {
        assert_eq!(on(expression, &json!({"n": 1})), Ok(true), "{expression}");
    }
}

#[test]
fn a_field_that_is_not_there_makes_the_match_false() {
    let record = json!({"a": {"b": null}, "list": [1], "yes": true});
    for expression in [
        "record.x == 1",
        "record.x != 1",
        "!(record.x == 1)",
        "record.x.y.z == 1",
        "record.a.b.c == 1",
        "record.list[5] == 1",
        "record.x && record.yes",
        r#"headers.none == "a""#,
        r#"record["x"].startsWith("a")"#,
        "has(record.x)",
        "has(record.x.y)",
        "record.x in [1]",
    ] {
        assert_eq!(on(expression, &record), Ok(false), "{expression}");
    }
    for expression in
        ["record.x == 1 || record.yes", "!has(record.x)", "record.a.b == null", r#"!("x" in record)"#]
    {
        assert_eq!(on(expression, &record), Ok(true), "{expression}");
    }
}

#[test]
fn wrong_types_are_a_failure_with_a_reason() {
    let record = json!({"text": "a", "n": 1, "zero": 0, "big": i64::MAX, "list": [1], "map": {}});
    for (expression, reason) in [
        ("record.text > 1", DropReason::MatchWrongType),
        ("record.n.startsWith(\"a\")", DropReason::MatchWrongType),
        ("record.text.field == 1", DropReason::MatchWrongType),
        ("record.text + 1 == 2", DropReason::MatchWrongType),
        ("record.n in record.text", DropReason::MatchWrongType),
        ("record.list in record.map", DropReason::MatchFailed),
        ("record.n && true", DropReason::MatchWrongType),
        ("record.n / record.zero == 1", DropReason::MatchArithmetic),
        ("record.big + 1 > 0", DropReason::MatchArithmetic),
        ("record.n", DropReason::MatchNotBoolean),
        ("record", DropReason::MatchNotBoolean),
        ("int(record.text) == 1", DropReason::MatchFailed),
        ("record.text.matches(\"a\") == 1 || record.n", DropReason::MatchWrongType),
    ] {
        let got = on(expression, &record);
        assert!(got.is_err(), "{expression}: {got:?}");
        if reason != DropReason::MatchFailed {
            assert_eq!(got, Err(reason), "{expression}");
        }
    }
    for value in [json!(null), json!(1), json!("x"), json!([]), json!(true)] {
        assert_ne!(on("record.a == 1", &value), Ok(true), "{value}");
    }
}

#[test]
fn a_failure_does_not_quote_the_record() {
    let record = json!({"secret": "hunter2", "n": 1});
    for expression in [
        "record.secret > 1",
        "record.secret + 1 == 2",
        "int(record.secret) == 1",
        "record.secret",
        "record.n[record.secret]",
    ] {
        let matcher = Matcher::compile(expression).unwrap();
        let raw = RawRecord {
            topic: "",
            partition: 0,
            offset: 0,
            timestamp_ms: 0,
            clock_ms: 0,
            key: None,
            value: None,
            headers: &[],
        };
        let document = Document::from_json(&record);
        let view = document.view("");
        let failure = matcher.matches(&Record { raw, value: view.root() }).unwrap_err();
        assert!(!failure.to_string().contains("hunter"), "{failure}");
    }
}

#[test]
fn maps_and_lists_compare_whichever_side_they_stand_on() {
    let record =
        json!({"a": {"x": 1, "y": ["t"]}, "b": {"y": ["t"], "x": 1.0}, "l": ["t", "u"], "n": [{"k": 1}]});
    for expression in [
        "record.a == record.b",
        "record.a == {\"x\": 1, \"y\": [\"t\"]}",
        "{\"x\": 1, \"y\": [\"t\"]} == record.a",
        "record.l == [\"t\", \"u\"]",
        "[\"t\", \"u\"] == record.l",
        "record.a in [{\"x\": 1, \"y\": [\"t\"]}]",
        "record.a in [record.b]",
        "record.n == [{\"k\": 1}]",
        "record.n[0] == record.n[0]",
        "record.a != record.n[0]",
        "size(record.a) == 2 && \"x\" in record.a && record.a[\"x\"] == 1",
        "record.n.exists(it, it.k == 1) && record.l.all(it, it != \"x\")",
        "record.exists(name, name == \"l\")",
        "record.l.map(it, it + \"!\") == [\"t!\", \"u!\"] && record.l.filter(it, it == \"t\") == [\"t\"]",
        "record.l.exists_one(it, it == \"t\")",
    ] {
        assert_eq!(on(expression, &record), Ok(true), "{expression}");
    }
}

#[test]
fn patterns_are_compiled_once_and_run_in_linear_time() {
    let record = json!({"text": "a".repeat(100_000), "list": ["ab", "cd"]});
    assert_eq!(
        on("record.text.matches(\"^(a+)+$\") && !record.text.matches(\"(a*)*b$\")", &record),
        Ok(true)
    );
    assert_eq!(on("matches(record.text, \"^a\")", &record), Ok(true));
    assert_eq!(on("record.list.exists(it, it.matches(\"^c\"))", &record), Ok(true));
    assert_eq!(on("record.none.matches(\"a\")", &record), Ok(false));
    assert!(wrong("record.text.matches(record.pattern)").contains("written out"));
    let bad = wrong("record.text.matches(\"(\")");
    assert!(bad.starts_with("line 1, column 21: not a regular expression: unclosed group"), "{bad}");
    assert!(
        wrong("record.text.matches(\"((((a{1000}){1000}){1000}){1000})\")").contains("regular expression")
    );
}

#[test]
fn what_does_not_compile_says_where_and_why() {
    for (expression, place, part) in [
        ("rec.a == 1", "line 1, column 1:", "unknown variable `rec`; there are record, key, headers"),
        ("record.x == \"\u{1F600}é\" &&\n  foo", "line 2, column 3:", "unknown variable `foo`"),
        ("record.x == \"\u{1F600}é\" && foo", "line 1, column 21:", "unknown variable `foo`"),
        ("record.a.startswith(\"x\")", "", "unknown function `startswith`"),
        ("lower(record.a)", "", "unknown function `lower`"),
        ("record.a ==", "line 1, column 12:", "end of the expression"),
        ("record.a = 1", "line 1, column 10:", "`=` is not expected here; equality is `==`"),
        ("record.a == (", "line 1, column 14:", "end of the expression, but something is missing"),
        ("record.a == 1)", "line 1, column 14:", "`)` is not expected here"),
        ("record.path.startsWith(\"/api)", "line 1, column 24:", "a string isn't closed: \" is missing"),
        ("record.path == '/api", "line 1, column 16:", "a string isn't closed: ' is missing"),
        ("", "line 1,", "an expression is missing"),
        ("record.a + 1", "", "can't be true or false"),
        ("\"text\"", "line 1, column 1:", "can't be true or false"),
        ("A{b: 1} == record", "line 1,", "message types"),
        ("record.l.exists(x, y == x)", "", "unknown variable `y`"),
        ("record.a.exists(x, x.b.exists(y, y.c.exists(z, z == 1)))", "", "nested more than 2 deep"),
        ("@tick", "line 1,", ""),
    ] {
        let error = wrong(expression);
        assert!(error.starts_with(place) && error.contains(part), "{expression}: {error}");
    }
}

#[test]
fn all_that_is_wrong_with_an_expression_is_told_once_each() {
    let told = |expression: &str| -> Vec<String> {
        let all = Matcher::check(expression);
        assert_eq!(all.first(), Matcher::compile(expression).err().as_ref(), "{expression}");
        all.iter().map(ToString::to_string).collect()
    };
    let all = told(
        "rec.a == 1 && rec.b == 2 && record.text.matches('(') && math.power(rcord) > 1 && record.l.exists(x, lower(x) == y)",
    );
    for part in [
        "column 1: unknown variable `rec`; there are record, ",
        "not a regular expression",
        "unknown function `math.power`",
        "unknown variable `rcord`",
        "unknown function `lower`; CEL has `x.lowerAscii()`",
        "unknown variable `y`",
    ] {
        assert!(all.iter().any(|told| told.contains(part)), "{part}: {all:#?}");
    }
    assert_eq!(all.len(), 6, "{all:#?}");
    assert!(told("strings.size() == 1")[0].contains("unknown variable `strings`"));
    for (expression, hint) in [
        ("record.a.startswith('x')", "CEL has `x.startsWith(...)`"),
        ("record.a.to_lower() == 'x'", "CEL has `x.lowerAscii()`"),
        ("len(record.a) > 1", "CEL has `size(x)`"),
        ("startsWith(record.a, 'x')", "CEL has `x.startsWith(...)`"),
        ("record.a.int() == 1", "CEL has `int(x)`"),
        ("record.t < now()", "there is no clock"),
        ("record.a and record.b or not record.c", "`and` is not expected here; and is `&&`"),
    ] {
        assert!(told(expression)[0].contains(hint), "{expression}: {:?}", told(expression));
    }
    assert_eq!(told("record.a and record.b or not record.c").len(), 3);
    assert_eq!(told("record.a == 1"), Vec::<String>::new());
    // Every suggested function exists.
    for name in super::functions::NAMES {
        let is_one = |on| super::functions::named(name, on).is_some();
        assert!(is_one(true) || is_one(false), "{name}");
    }
}

#[test]
fn long_and_deep_expressions_are_refused_before_they_recurse() {
    let chains = ["+", "<", "==", "-", "?a:", "*", "/", "%", "!="];
    let mut odd: Vec<String> =
        chains.iter().map(|it| format!("key{}", format!("{it}key").repeat(600))).collect();
    odd.extend(
        ["(", "[", "{1:", "key[", "size(", "!", "-", "[1].exists(x,"].map(|it| it.repeat(4096 / it.len())),
    );
    odd.extend(["r\"\\\"", "'''a'b'''", "r'''\\'''"].map(|it| format!("{it}{}", "+key".repeat(600))));
    odd.push(format!("\"{}", "+key".repeat(600)));
    // A quote in a comment or in backticks must not begin a string that hides what follows.
    odd.push(format!("// \"\nkey{} // \"", "+key".repeat(600)));
    odd.push(format!("record.`\"`{} == '\"'", "+key".repeat(600)));
    odd.push("x".repeat(5000));
    // A test's thread has a stack of 2 MiB, like a worker's.
    for expression in odd {
        assert!(Matcher::compile(&expression).is_err(), "{}", &expression[..40]);
    }
}

#[test]
fn what_is_allowed_runs_on_a_small_stack() {
    let expressions = [
        format!("1{} == 1", " + 1".repeat(MAX_OPERATORS - 2)),
        format!("{}true", "!".repeat(MAX_OPERATORS - 1)),
        format!("record{} == 1", ".a".repeat(MAX_OPERATORS - 1)),
        format!("record.a == 1{}", " || record.a == 1".repeat(200)),
        format!("{}true{}", "(".repeat(30), ")".repeat(30)),
        format!("record{} == 1", "[0]".repeat(MAX_OPERATORS - 1)),
    ];
    std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(move || {
            for expression in expressions {
                assert_ne!(
                    on(&expression, &json!({"a": 1})),
                    Err(DropReason::MatchFailed),
                    "{}",
                    &expression[..20]
                );
            }
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn one_record_costs_a_bounded_number_of_steps() {
    let record = json!({"list": (0..2_000).collect::<Vec<_>>()});
    for expression in [
        "record.list.all(x, record.list.all(y, x + y >= 0))",
        "record.list.exists(x, record.list.exists(y, x + y < 0)) || true",
        "record.list.map(x, record.list.map(y, x)).size() == 1",
        "record.list.filter(x, record.list.filter(y, y == x).size() == 1).size() == 1",
        "record.list.exists_one(x, record.list.exists_one(y, y < x))",
    ] {
        assert_eq!(on(expression, &record), Err(DropReason::MatchTooCostly), "{expression}");
    }
    assert_eq!(on("record.list.map(x, x + 1).filter(x, x > 1).all(x, x > 1)", &record), Ok(true));
}

#[test]
fn what_functions_read_and_make_is_bounded_for_one_record() {
    let list: Vec<usize> = (0..2_000).collect();
    let many: Vec<usize> = (0..50_000).collect();
    let record = json!({"list": list, "many": many, "text": "a".repeat(4 << 20)});
    for expression in [
        // Expressions that read much.
        "record.list.all(x, record.text.indexOf('b') == -1)",
        "record.list.all(i, v, record.text.charAt(i) == 'a')",
        "record.list.all(x, !record.text.contains('b'))",
        "record.list.all(x, !record.text.matches('b$'))",
        "record.list.all(x, record.text == record.text)",
        "record.list.all(x, x in record.many)",
        "record.many.all(x, record.list == record.list)",
        "record.list.all(x, size(record.text) > x)",
        // Expressions that build much.
        "record.text.replace('', record.text) != ''",
        "record.list.map(x, record.text.upperAscii()).size() == 2",
        "record.list.transformMap(i, v, record.text.split('')).size() == 2",
        "record.list.map(x, record.text).join(record.text) != ''",
        "record.list.transformList(i, v, record.list.transformList(j, w, w)).size() == 1",
    ] {
        assert_eq!(on(expression, &record), Err(DropReason::MatchTooCostly), "{expression}");
    }
    assert_eq!(on("record.list.all(x, x in record.list)", &record), Ok(true));
    assert_eq!(
        on("record.text.split('b').size() == 1 && record.text.replace('a', 'b').size() > 0", &record),
        Ok(true)
    );
}

#[test]
fn patterns_look_into_large_records_and_what_would_take_too_long_is_no_match() {
    let error = wrong("record.s.matches(\"(a{1,100}){1,100}b\")");
    assert!(error.starts_with("line 1, column 18: too much work: a byte may take it"), "{error}");
    let record = json!({"s": "a".repeat(1 << 20), "short": "aaa", "list": vec!["a".repeat(50); 20_000]});
    for expression in [
        "record.s.matches('(a{1,30}){1,30}b')",
        // No other part of the expression decides instead.
        "record.s.matches('(a{1,30}){1,30}b') || true",
        "!record.s.matches('(a{1,30}){1,30}b') && record.short == 'b'",
        "record.list.exists(x, x.matches('(a{1,30}){1,30}b'))",
    ] {
        assert_eq!(on(expression, &record), Err(DropReason::MatchTooCostly), "{expression}");
    }
    for expression in [
        "record.short.matches('(a{1,30}){1,30}b')",
        "record.s.matches('(?i)timeout|connection (refused|reset)|broken pipe')",
        "record.s.matches('[a-z]+@[a-z]+[.](com|org)') || record.s.matches('a+b$') || record.s.matches('^b')",
        "record.list.exists(x, x.matches('^[b-z]+-[0-9]+$'))",
    ] {
        assert_eq!(on(expression, &record), Ok(false), "{expression}");
    }
}

#[test]
fn what_is_constant_is_not_blown_up_before_a_record_comes() {
    let tens = ".replace('', 'aaaaaaaaaa')".repeat(9);
    let matcher = Matcher::compile(&format!("'a'{tens} != ''")).unwrap();
    let written = format!("{:?}", matcher.program);
    assert!(written.len() < 200_000, "{}", written.len());
    assert_eq!(on(&format!("'a'{tens} != ''"), &json!({})), Err(DropReason::MatchTooCostly));
}
