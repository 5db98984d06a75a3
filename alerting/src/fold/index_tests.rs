//! Tests that an engine with an index says what each of its rules says alone.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::{frequency, plan, raw};
use super::*;

/// Rules of every form that the index knows, of forms that it does not know, and of both.
const RULES: [&str; 34] = [
    "record.s == \"a\"",
    "record.s == \"b\"",
    "record.s == \"\"",
    "\"ab\" == record.s",
    "record.s in [\"a\", \"b\", 1, 2.5]",
    "record.s == \"a\" || record.s == \"ab\"",
    "record.s == \"a\" || record.n == 1",
    "record.n == 1",
    "record.n == 1.0",
    "record.n == 2.5",
    "record.n == 0",
    "record.n in [1, 2, 9007199254740993]",
    "record.n == 9007199254740993",
    "record.n == -0.0",
    "record.n > 1",
    "record.n >= 1 && record.n < 2.5",
    "1 < record.n && record.n <= 9007199254740993",
    "record.n < 0",
    "record.n >= 18446744073709551615u",
    "record.s.startsWith(\"a\")",
    "record.s.startsWith(\"ab\")",
    "record.s.startsWith(\"\")",
    "record.s.contains(\"b\")",
    "record.s.endsWith(\"ab\")",
    "record.s.contains(\"\")",
    "record.s == \"a\" && record.n > 1",
    "record.n > 1 && record.s == \"a\"",
    "record.s == \"a\" && record.t == \"x\"",
    "record.s == \"a\" && !(record.t in [\"x\"]) && has(record.n)",
    "record.s in [\"a\", \"b\"] && record.t.startsWith(\"x\")",
    "record.m.k == \"v\" && record.s == \"b\"",
    "record.l.all(x, record.l.all(y, x == y)) && record.s == \"a\"",
    "record.l[0] == 1 && record.s != \"a\"",
    "record.s != \"a\"",
];

fn values() -> impl Strategy<Value = Value> {
    let text = || prop::sample::select(vec!["", "a", "ab", "b", "bab", "x", "v"]);
    let number = prop_oneof![
        (-1..4_i64).prop_map(Value::from),
        prop::sample::select(vec![
            json!(1.0),
            json!(2.5),
            json!(-0.0),
            json!(u64::MAX),
            json!(9_007_199_254_740_993_i64),
            json!(9_007_199_254_740_992.0),
            json!(1e300),
        ]),
    ];
    let any = prop_oneof![
        3 => text().prop_map(Value::from),
        3 => number,
        1 => prop::sample::select(vec![
            json!(null), json!(true), json!([]), json!([1]), json!([1, 1]), json!({}), json!({"k": "v"}), json!({"k": 1}),
        ]),
    ];
    prop_oneof![
        9 => prop::collection::btree_map(prop::sample::select(vec!["s", "n", "t", "m", "l"]), any.clone(), 0..5)
            .prop_map(|it| Value::Object(it.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())),
        1 => any,
    ]
}

/// Folds the records; `whole` forces each of them to be decoded.
fn folded(rules: &[usize], records: &[Value], whole: bool) -> Aggregates {
    let plans: Vec<_> = rules
        .iter()
        .map(|rule| (Uuid::from_u128(*rule as u128 + 1), plan(RULES[*rule], &[], frequency(1))))
        .collect();
    let (mut engine, problems) =
        RuleSet::new(&Reading::default(), plans.iter().map(|(uid, plan)| (*uid, plan)));
    assert_eq!(problems, []);
    if whole {
        engine.topics.values_mut().for_each(|readers| readers.texts = None);
    }
    let mut partition = PartitionFold::default();
    for (offset, record) in records.iter().enumerate() {
        let value = serde_json::to_vec(record).unwrap();
        engine.add(&mut partition, &raw(offset as i64, 1_000, &value)).decoded().unwrap();
    }
    partition.take()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn an_engine_with_an_index_says_what_each_rule_says_alone(
        records in prop::collection::vec(values(), 1..12),
        rules in prop::sample::subsequence((0..RULES.len()).collect::<Vec<_>>(), 4..RULES.len()),
    ) {
        let together = folded(&rules, &records, false);
        let alone = rules.iter().map(|rule| folded(&[*rule], &records, true));
        let (mut counts, mut dropped) = (Vec::new(), Vec::new());
        for one in alone {
            counts.extend(one.counts);
            dropped.extend(one.dropped);
        }
        prop_assert_eq!(together.counts, counts);
        prop_assert_eq!(together.dropped, dropped);
    }
}

proptest! {
    #[test]
    fn a_record_that_is_not_decoded_would_have_been_counted_by_no_rule(
        records in prop::collection::vec(values(), 1..12),
        rules in prop::sample::subsequence((0..RULES.len()).collect::<Vec<_>>(), 1..4),
    ) {
        let (quick, whole) = (folded(&rules, &records, false), folded(&rules, &records, true));
        prop_assert_eq!(quick.counts, whole.counts);
        prop_assert_eq!(quick.dropped, whole.dropped);
    }
}

#[test]
fn only_what_is_an_object_without_the_texts_and_escapes_is_not_decoded() {
    let plan = plan(r#"record.level in ["WARN", "ERROR"] && record.n == 1"#, &[], frequency(1));
    let (engine, _) = RuleSet::new(&Reading::default(), [(Uuid::from_u128(1), &plan)]);
    let texts = engine.topics["logs"].texts.as_ref().unwrap();
    for (value, lacks) in [
        (r#"{"level":"INFO","n":1}"#, true),
        ("{}", true),
        (r#"{"level":"ERROR"}"#, false),
        (r#"{"message":"no ERRORS"}"#, false),
        (r#"{"level":"\u0045RROR"}"#, false),
        (r#"{"level":"INFO""#, false),
        ("[]", false),
        ("7", false),
        (" {}", false),
        ("", false),
    ] {
        assert_eq!(decode::is_object_without(value.as_bytes(), texts, &mut String::new()), lacks, "{value}");
    }
    for matches in [
        "record.n == 1",
        r#"record.level.startsWith("E")"#,
        r#"record.a.level == "E""#,
        r#"record.level == "a\nb""#,
        r#"record.level == """#,
        r#"record.level in ["E", 1]"#,
        r#"record.level == "E" && record.n > 1"#,
    ] {
        let plan = RulePlan { matches: matches.to_owned(), ..plan.clone() };
        let (engine, _) = RuleSet::new(&Reading::default(), [(Uuid::from_u128(1), &plan)]);
        assert!(engine.topics["logs"].texts.is_none(), "{matches}");
    }
}

#[test]
fn most_rules_are_passed_over() {
    let plans: Vec<_> = (0..1_000_u128)
        .map(|at| {
            let matches = match at % 4 {
                0 => format!("record.service == \"svc-{at}\" && record.level == \"ERROR\""),
                1 => format!(
                    "record.level in [\"WARN\", \"ERROR\"] && record.service.startsWith(\"pay-{at}-\")"
                ),
                2 => format!("record.amount >= {at}.0 && record.amount < {}.0", at + 1),
                _ => format!("record.message.contains(\"word {at}.\")"),
            };
            (Uuid::from_u128(at), plan(&matches, &[], frequency(1)))
        })
        .collect();
    let (engine, _) = RuleSet::new(&Reading::default(), plans.iter().map(|(uid, plan)| (*uid, plan)));
    let value =
        json!({"service": "svc-8", "level": "ERROR", "amount": 501, "message": "a word 7. and a word 77."});
    let document = crate::document::Document::from_json(&value);
    let view = document.view("");
    let mut candidates = Vec::new();
    engine.topics["logs"].index.candidates(view.root(), &mut candidates);
    assert_eq!(candidates, [7, 8]);
}
