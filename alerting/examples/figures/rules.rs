//! Compares many rules on one topic with one rule.

use std::collections::BTreeMap;
use std::hint::black_box;

use alerting::fold::{PartitionFold, RuleSet};
use domain::{Condition, Millis, Reading, RulePlan, Severity, Source, StartFrom};
use uuid::Uuid;

use crate::records::{lines, raw};
use crate::{allocations, medians, verdict};

pub(crate) fn plan(matches: &str, group_by: &[(&str, &str)]) -> RulePlan {
    RulePlan {
        source: Source { bootstrap_servers: vec![], ..Source::default() },
        topics: vec!["logs".into()],
        start_from: StartFrom::Latest,
        dead_letter_topic: None,
        matches: matches.into(),
        group_by: group_by
            .iter()
            .map(|(label, path)| ((*label).into(), (*path).into()))
            .collect::<BTreeMap<_, _>>(),
        condition: Condition::Frequency { count: 5, window: Millis::from_secs(300) },
        severity: Severity::Info,
        title: String::new(),
        summary: String::new(),
        notify: vec![],
        repeat_interval: None,
        resolve: None,
        allowed_lateness: Millis::from_secs(2),
        policy: domain::AlertPolicy::default(),
    }
}

pub(crate) fn engine(expressions: impl IntoIterator<Item = String>, group_by: &[(&str, &str)]) -> RuleSet {
    let plans: Vec<(Uuid, RulePlan)> = expressions
        .into_iter()
        .enumerate()
        .map(|(at, matches)| (Uuid::from_u128(at as u128 + 1), plan(&matches, group_by)))
        .collect();
    let (engine, problems) = RuleSet::new(&Reading::default(), plans.iter().map(|(uid, plan)| (*uid, plan)));
    assert!(problems.is_empty(), "{problems:?}");
    engine
}

/// A form of rules, and the rule of each number.
type RuleForm = (&'static str, fn(usize) -> String);

const KINDS: [RuleForm; 6] = [
    ("record.service == \"svc-<n>\"", |n| format!("record.service == \"svc-{n}\"")),
    ("level in [..] && service.startsWith(\"pay-<n>\")", |n| {
        format!("record.level in [\"WARN\", \"ERROR\"] && record.service.startsWith(\"pay-{n}\")")
    }),
    ("service.startsWith(\"pay-<n>\")", |n| format!("record.service.startsWith(\"pay-{n}\")")),
    ("record.amount >= 517.0 + <n>", |n| format!("record.amount >= {}.0", 517 + n)),
    ("record.amount >= <n>.0 && record.amount < <n + 1>.0", |n| {
        format!("record.amount >= {n}.0 && record.amount < {}.0", n + 1)
    }),
    ("record.message.contains(\"word<n>\")", |n| format!("record.message.contains(\"word{n}\")")),
];

pub(crate) fn figures() {
    let lines = lines(500);
    println!("rules, ns a record (decode, match, count)             1 rule   1,000 rules   ratio");
    for (kind, rule) in KINDS {
        let (one, many) = (engine([rule(7)], &[]), engine((0..1_000).map(rule), &[]));
        let run = |engine: &RuleSet, partition: &mut PartitionFold| {
            for (offset, line) in lines.iter().enumerate() {
                black_box(engine.add(partition, &raw(line, offset as i64, 1_000)).decoded().unwrap());
            }
        };
        let (mut of_one, mut of_many) = (PartitionFold::default(), PartitionFold::default());
        let [one_ns, many_ns] =
            medians(201, lines.len(), [&mut || run(&one, &mut of_one), &mut || run(&many, &mut of_many)]);
        let made = allocations(|| run(&one, &mut of_one));
        println!(
            "  {kind:51} {one_ns:7.0} {many_ns:13.0} {:7.2}   {} (allocations of one rule in {} records: {made})",
            many_ns / one_ns,
            verdict(many_ns <= 3.0 * one_ns),
            lines.len(),
        );
    }
}
