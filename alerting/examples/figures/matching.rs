//! Compares one match with the `cel` crate, whose context is built once.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use alerting::document::Document;
use alerting::matching::{Matcher, Memory};
use alerting::record::Record;
use cel::objects::{Key, Map};
use cel::{Context, Program, Value};

use crate::records::{lines, raw};
use crate::{allocations, medians, verdict};

const KINDS: [(&str, &str); 9] = [
    ("integer equality", "record.status == 404"),
    ("string equality", r#"record.level == "ERROR""#),
    ("range", "record.amount >= 100.0 && record.amount < 200.0"),
    ("set membership", r#"record.level in ["WARN", "ERROR", "FATAL"]"#),
    ("two fields", "record.status == record.amount"),
    ("contains", r#"record.message.contains("xyzw")"#),
    ("startsWith", r#"record.service.startsWith("pay")"#),
    ("membership and startsWith", r#"record.level in ["WARN", "ERROR"] && record.service.startsWith("pay")"#),
    (
        "four parts",
        r#"record.ok && record.status >= 500 && !(record.service == "svc-1") || record.user == "x""#,
    ),
];

pub(crate) fn figures() {
    let line = lines(2).swap_remove(1);
    let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
    let document = Document::from_json(&value);
    let view = document.view("");
    let record = Record { raw: raw(&line, 0, 0), value: view.root() };
    let mut context = Context::default();
    context.add_variable_from_value("record", convert(&value));
    let memory = Memory::default();
    let repeat = 500;
    println!("match, ns a record               ours     cel   ratio  allocations");
    for (kind, expression) in KINDS {
        let matcher = Matcher::compile(expression).unwrap();
        let program = Program::compile(expression).unwrap();
        let answer = matcher.matches(&record) == Ok(true);
        assert_eq!(program.execute(&context).unwrap(), Value::Bool(answer), "{expression}");
        let [ours, theirs] = medians(
            401,
            repeat,
            [
                &mut || {
                    for _ in 0..repeat {
                        let _ = black_box(black_box(&matcher).matches_in(black_box(&record), &memory));
                    }
                },
                &mut || {
                    for _ in 0..repeat {
                        let _ = black_box(black_box(&program).execute(black_box(&context)));
                    }
                },
            ],
        );
        let allocations = allocations(|| {
            for _ in 0..repeat {
                let _ = black_box(matcher.matches_in(&record, &memory));
            }
        });
        let holds = ours <= theirs / 10.0 && allocations == 0;
        println!(
            "  {kind:26} {ours:8.1} {theirs:7.0} {:7.3} {allocations:5}   {}",
            ours / theirs,
            verdict(holds)
        );
    }
}

fn convert(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(it) => Value::Bool(*it),
        serde_json::Value::Number(it) => {
            it.as_i64().map_or_else(|| Value::Float(it.as_f64().unwrap()), Value::Int)
        }
        serde_json::Value::String(it) => Value::from(it.as_str()),
        serde_json::Value::Array(items) => Value::List(Arc::new(items.iter().map(convert).collect())),
        serde_json::Value::Object(fields) => {
            let map: HashMap<Key, Value> =
                fields.iter().map(|(name, value)| (Key::from(name.as_str()), convert(value))).collect();
            Value::Map(Map { map: Arc::new(map) })
        }
    }
}
