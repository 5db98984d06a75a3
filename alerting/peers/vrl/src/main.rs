//! Compares the engine with the `vrl` crate in a loop: both filter and count the records of the benchmark "consume and
//! count".
//!
//! Both get the same lines from memory, in alternating turns; the median turn counts.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use alerting::fold::{RuleSet, PartitionFold};
use alerting::record::RawRecord;
use domain::{AlertPolicy, Condition, Millis, Reading, RulePlan, Severity, Source, StartFrom};
use serde_json::json;
use uuid::Uuid;
use vrl::compiler::state::RuntimeState;
use vrl::compiler::{Context, Program, TargetValueRef, TimeZone};
use vrl::value::{Secrets, Value};

const TURN: usize = 2_000;
const TURNS: usize = 201;

fn main() {
    let lines = lines();
    let program = vrl::compiler::compile(r#".level == "ERROR""#, &[]).expect("a program").program;
    let engine = engine();
    let mut partition = PartitionFold::default();
    let (mut ours, mut theirs, mut offset) = (Vec::new(), Vec::new(), 0);
    let mut matched = (0, 0);
    for _ in 0..TURNS {
        let start = Instant::now();
        for line in &lines {
            offset += 1;
            matched.0 += engine.add(&mut partition, &raw(line, offset)).matched;
        }
        ours.push(start.elapsed());
        let start = Instant::now();
        for line in &lines {
            matched.1 += usize::from(holds(&program, line));
        }
        theirs.push(start.elapsed());
    }
    assert_eq!(matched.0, matched.1);
    assert_eq!(matched.0, TURNS * TURN / 100);
    black_box(partition.take());
    let [ours, theirs] = [ours, theirs].map(|mut times| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e9 / TURN as f64
    });
    println!("filter and count, {} bytes a record, 1 % matching, ns a record", lines[1].len());
    println!("  a loop over vrl {theirs:.0}, the engine {ours:.0}: {:.3} of it", ours / theirs);
}

/// Decodes the line into `vrl`'s values, and runs the program on it.
fn holds(program: &Program, line: &[u8]) -> bool {
    let Ok(mut value) = serde_json::from_slice::<Value>(line) else { return false };
    let (mut metadata, mut secrets) = (Value::Object(BTreeMap::new()), Secrets::default());
    let mut target = TargetValueRef { value: &mut value, metadata: &mut metadata, secrets: &mut secrets };
    let (mut state, zone) = (RuntimeState::default(), TimeZone::default());
    program.resolve(&mut Context::new(&mut target, &mut state, &zone)) == Ok(Value::Boolean(true))
}

/// The lines of `e2e/src/bench/consume.rs`.
fn lines() -> Vec<Vec<u8>> {
    let pad = "x".repeat(150);
    (100_000..100_000 + TURN)
        .map(|n| {
            let level = if n % 100 == 0 { "ERROR" } else { "INFO" };
            json!({"time": "2026-01-05T10:00:00.000Z", "level": level, "service": "payments-api",
                   "key": format!("k{}", n % 50), "n": n, "message": format!("request handled {pad}")})
            .to_string()
            .into_bytes()
        })
        .collect()
}

/// The benchmark's rule with a condition that counts, so that neither side keeps each matched record.
fn engine() -> RuleSet {
    let plan = RulePlan {
        source: Source { bootstrap_servers: vec![], ..Source::default() },
        topics: vec!["logs".into()],
        start_from: StartFrom::Latest,
        dead_letter_topic: None,
        matches: r#"record.level == "ERROR""#.into(),
        group_by: BTreeMap::from([("key".into(), "record.key".into())]),
        condition: Condition::Frequency { count: 5, window: Millis::from_secs(300) },
        severity: Severity::Info,
        title: String::new(),
        summary: String::new(),
        notify: vec![],
        repeat_interval: None,
        resolve: None,
        allowed_lateness: Millis::from_secs(2),
        policy: AlertPolicy::default(),
    };
    let (engine, problems) = RuleSet::new(&Reading::default(), [(Uuid::from_u128(1), &plan)]);
    assert!(problems.is_empty(), "{problems:?}");
    engine
}

fn raw(value: &[u8], offset: i64) -> RawRecord<'_> {
    RawRecord {
        topic: "logs",
        offset,
        timestamp_ms: 1_000,
        clock_ms: 1_000,
        value: Some(value),
        ..RawRecord::default()
    }
}
