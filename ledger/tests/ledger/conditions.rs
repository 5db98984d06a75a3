//! Compares every condition in the ledger with the engine in memory, whose own tests compare it with the definitions.

use std::collections::BTreeMap;

use alerting::fold::{PartitionFold, RuleSet};
use alerting::record::RawRecord;
use alerting::replay::Replay;
use domain::{
    AlertKind, Cause, Condition, DropReason, ExtremeDirection, Limit, Millis, Plan, PlanBody, Reading,
    Resolve, RulePlan, SpikeDirection,
};
use proptest::prelude::*;
use protocol::messages::Entry;

use crate::bed::*;

const PARTITIONS: usize = 2;

/// The records of each partition in order, as (second, service, value).
type Records = Vec<Vec<(i64, u8, i64)>>;

fn records() -> impl Strategy<Value = Records> {
    let record = (0..4_i64, 0..2_u8, 0..6_i64);
    prop::collection::vec(prop::collection::vec(record, 1..25), PARTITIONS).prop_map(|partitions| {
        let partition = |steps: Vec<(i64, u8, i64)>| {
            let mut second = 0;
            let mut records = Vec::new();
            for (step, service, value) in steps {
                second += step;
                records.push((second, service, value));
            }
            records
        };
        partitions.into_iter().map(partition).collect()
    })
}

fn conditions() -> Vec<Condition> {
    let window = Millis::from_secs(5);
    let path = || "record.v".to_owned();
    let never = BTreeMap::from([("service".to_owned(), "never".to_owned())]);
    vec![
        Condition::Frequency { count: 3, window },
        Condition::Spike { ratio: 2_000, window, min_count: 2, direction: SpikeDirection::Both },
        Condition::Flatline { below: 2, window, groups: vec![never] },
        Condition::NewValue { path: path(), learn_for: Millis::from_secs(3) },
        Condition::Cardinality { path: path(), window, limit: Limit::Above(2) },
        Condition::Cardinality { path: path(), window, limit: Limit::Below(2) },
        Condition::Change { path: path() },
        Condition::Extreme { path: path(), direction: ExtremeDirection::Highest },
        Condition::Extreme { path: path(), direction: ExtremeDirection::Lowest },
        Condition::Ratio { of: "record.v > 2".into(), window, min_count: 2, limit: Limit::Above(50_000) },
    ]
}

/// A rule with everything that its condition needs.
fn of(condition: Condition) -> Plan {
    rule(RULE, "rule", |rule| {
        let windowed = condition.window().is_some();
        rule.condition = condition;
        rule.policy.top_values = BTreeMap::from([("v".to_owned(), "record.v".to_owned())]);
        if windowed {
            rule.policy.hold = Millis::from_secs(2);
            rule.resolve = Some(Resolve { after: Some(Millis::from_secs(2)), notify: true, below: None });
            rule.repeat_interval = Some(Millis::from_secs(4));
            rule.policy.repeat_factor = 2_000;
        }
    })
}

fn alert_rule(plan: &Plan) -> &RulePlan {
    let PlanBody::AlertRule(rule) = &plan.body else { panic!("a rule") };
    rule
}

fn raw(partition: usize, offset: usize, second: i64, text: &str) -> RawRecord<'_> {
    RawRecord {
        topic: TOPIC,
        partition: partition as i32,
        offset: offset as i64,
        timestamp_ms: ms(second),
        clock_ms: ms(second),
        key: None,
        value: Some(text.as_bytes()),
        headers: &[],
    }
}

fn text((_, service, value): (i64, u8, i64)) -> String {
    format!("{{\"service\":\"s{service}\",\"v\":{value}}}")
}

/// What an alert says: time, service, kind, count, and what the condition saw.
type Told = (i64, String, AlertKind, i64, String);

fn in_memory(plan: &Plan, records: &Records, until: i64) -> Vec<Told> {
    let (mut replay, problems) = Replay::new([(RULE, alert_rule(plan))]);
    assert_eq!(problems, []);
    for (partition, records) in records.iter().enumerate() {
        for (offset, record) in records.iter().enumerate() {
            replay.push(&raw(partition, offset, record.0, &text(*record))).decoded().unwrap();
        }
    }
    let mut told: Vec<Told> = replay
        .finish(Some(ms(until)))
        .into_iter()
        .map(|event| {
            let decision = event.decision.unwrap();
            let seen = decision.seen.unwrap_or_default();
            let value = (!seen.value.is_empty()).then_some(seen.value.as_str());
            let saw = saw(value, seen.previous.as_deref(), &seen.values, &event.top);
            (decision.at_ms, event.group["service"].clone(), decision.kind, decision.count, saw)
        })
        .collect();
    told.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    told
}

/// An entry of the records from `from` to `to`, folded as a worker folds them.
fn entry_of(plan: &Plan, partition: usize, records: &[(i64, u8, i64)], from: usize, to: usize) -> Entry {
    let (engine, _) = RuleSet::new(&Reading::default(), [(RULE, alert_rule(plan))]);
    let mut fold = PartitionFold::default();
    for (offset, record) in records.iter().enumerate().take(to).skip(from) {
        engine.add(&mut fold, &raw(partition, offset, record.0, &text(*record))).decoded().unwrap();
    }
    let taken = fold.take();
    let here = entry(partition as i32, from as i64, to as i64);
    Entry {
        counts: taken.counts,
        dropped: taken.dropped,
        since_ms: records.get(from).filter(|_| to > from).map(|(second, ..)| ms(*second)),
        progress_ms: records[..to].last().map(|(second, ..)| ms(*second)),
        ..here
    }
}

async fn in_the_ledger(
    plan: &Plan,
    records: &Records,
    steps: &[(usize, usize)],
    until: i64,
    (step, waits): (usize, bool),
) -> Vec<Told> {
    let mut bed = Bed::with(|options| in_steps(options, step, waits)).await;
    bed.put(vec![hook(), plan.clone()]).await;
    bed.open(PARTITIONS).await;
    let mut done = [0; PARTITIONS];
    let rest = (0..PARTITIONS).map(|partition| (partition, 1_000));
    for (at, (partition, take)) in steps.iter().copied().chain(rest).enumerate() {
        let to = (done[partition] + take).min(records[partition].len());
        let entry = entry_of(plan, partition, &records[partition], done[partition], to);
        assert!(bed.commit(vec![entry], 1_000).await.entries[0].is_accepted());
        done[partition] = to;
        if at == 3 {
            bed = bed.reopen().await;
        }
    }
    let ends = (0..PARTITIONS).map(|partition| {
        let at = records[partition].len() as i64;
        until_ms(entry(partition as i32, at, at), until)
    });
    bed.commit(ends.collect(), 1_000).await;
    bed.ledger.resume_deciding(at(1_000)).await.unwrap();
    bed.ledger.wait_until_decided().await;
    let mut told: Vec<Told> = bed
        .stories()
        .await
        .into_iter()
        .map(|story| {
            let Cause::Alert { alert, .. } = story.notification.cause else { panic!("an alert") };
            let service = story.notification.group["service"].clone();
            let within = |time| (alert.window_start..alert.window_end).contains(&time);
            assert!(alert.records.iter().all(|record| within(record.time)), "{alert:?}");
            assert_eq!(alert.records.is_empty(), alert.count == 0, "{alert:?}");
            (alert.window_end.as_millisecond(), service, alert.kind, alert.count, story.notification.summary)
        })
        .collect();
    assert_eq!(bed.ledger.totals().await.unwrap().late, 0);
    bed.ledger.clone().close().await;
    bed.accounts_are_right().await;
    told.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    told
}

fn until_ms(entry: Entry, second: i64) -> Entry {
    until(entry, second)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Splits the records over commits in any way, and restarts in between.
    #[test]
    fn every_condition_comes_out_of_the_ledger_as_it_is_in_memory(
        records in records(),
        steps in prop::collection::vec((0..PARTITIONS, 1..9_usize), 0..12),
        at_once in (1..4_usize, prop::bool::ANY),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for condition in conditions() {
            let plan = of(condition);
            let told = runtime.block_on(in_the_ledger(&plan, &records, &steps, 200, at_once));
            prop_assert_eq!(told, in_memory(&plan, &records, 200), "{:?}", alert_rule(&plan).condition);
        }
    }
}

fn flatline(below: i64, groups: &[&str]) -> Plan {
    let groups = groups.iter().map(|name| group(name)).collect();
    rule(RULE, "flat", |rule| {
        rule.condition = Condition::Flatline { below, window: Millis::from_secs(10), groups };
        rule.resolve = Some(Resolve { after: Some(Millis::from_secs(1)), notify: true, below: None });
    })
}

#[tokio::test]
async fn a_group_that_was_never_seen_is_told_after_a_whole_window_and_not_before_every_partition_has_been() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), flatline(1, &["pay"])]).await;
    bed.open(2).await;
    bed.commit(vec![until(entry(0, 0, 0), 30)], 30).await;
    assert_eq!(bed.titles().await.len(), 0, "nobody knows of the other partition");
    bed.commit(vec![until(entry(1, 0, 0), 34)], 34).await;
    bed.commit(vec![until(entry(0, 0, 0), 43), until(entry(1, 0, 0), 60)], 60).await;
    assert_eq!(bed.titles().await.len(), 0, "from 34 s on both are seen, and the window ends at 44 s");
    bed.commit(vec![until(entry(0, 0, 0), 44)], 61).await;
    assert_eq!(bed.titles().await, ["flat firing 0"]);
    let counts = vec![count("pay", 50, 1)];
    bed.commit(vec![until(Entry { counts, ..entry(0, 0, 1) }, 60)], 62).await;
    assert_eq!(bed.titles().await, ["flat firing 0", "flat resolved 1"]);
}

#[tokio::test]
async fn a_consumer_that_was_away_is_no_absence() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), flatline(1, &[])]).await;
    bed.open(1).await;
    let mut offset = 0;
    for second in [0, 5, 12, 20] {
        let counts = vec![count("pay", second, 1)];
        bed.commit(vec![until(Entry { counts, ..entry(0, offset, offset + 1) }, second)], second).await;
        offset += 1;
    }
    // An hour later by the clock, the consumer reads on from where it was.
    let counts = (3..360).map(|n| count("pay", n * 9, 1)).collect();
    bed.commit(vec![until(Entry { counts, ..entry(0, offset, offset + 357) }, 3_231)], 3_600).await;
    assert_eq!(bed.titles().await.len(), 0);
}

#[tokio::test]
async fn the_time_of_a_suspended_rule_is_not_seen() {
    let bed = Bed::new().await;
    let plan = flatline(1, &["pay"]);
    bed.put(vec![hook(), plan.clone()]).await;
    bed.open(1).await;
    let counts = vec![count("pay", 5, 1)];
    bed.commit(vec![until(Entry { counts, ..entry(0, 0, 1) }, 6)], 6).await;
    bed.put(vec![Plan { suspended: true, generation: 2, ..plan.clone() }]).await;
    bed.commit(vec![until(entry(0, 1, 50), 100)], 100).await;
    bed.put(vec![Plan { generation: 3, ..plan }]).await;
    // Records after 100 s may have been passed over, so the rule sees everything only from the first reported clock
    // on.
    bed.commit(vec![until(entry(0, 50, 50), 100)], 100).await;
    bed.commit(vec![until(entry(0, 50, 50), 101)], 101).await;
    bed.commit(vec![until(entry(0, 50, 50), 110)], 110).await;
    assert_eq!(bed.titles().await.len(), 0);
    bed.commit(vec![until(entry(0, 50, 50), 111)], 111).await;
    assert_eq!(bed.titles().await, ["flat firing 0"]);
}

#[tokio::test]
async fn over_its_bound_a_rule_evicts_the_quiet_groups_without_a_record_for_longest_and_counts_them() {
    let bed = Bed::new().await;
    let bounded = changed(three(), |rule| rule.policy.max_groups = 3);
    bed.put(vec![hook(), bounded]).await;
    bed.open(1).await;
    // One group fires; the others stay quiet.
    let counts = vec![count("loud", 1, 3), count("old", 2, 1), count("new", 3, 1)];
    bed.commit(vec![until(Entry { counts, ..entry(0, 0, 5) }, 4)], 4).await;
    let counts = vec![count("newer", 4, 1)];
    bed.commit(vec![until(Entry { counts, ..entry(0, 5, 6) }, 5)], 5).await;
    let held = bed.ledger.totals().await.unwrap();
    assert_eq!((held.groups, held.firing, held.unmatched.get(&DropReason::GroupsEvicted)), (3, 1, Some(&1)));
    // Group "old" was evicted, so it has only what comes now.
    let counts = vec![count("old", 5, 2), count("new", 5, 2)];
    bed.commit(vec![until(Entry { counts, ..entry(0, 6, 10) }, 6)], 6).await;
    assert_eq!(bed.titles().await, ["three firing 3", "three firing 3"]);
}

#[tokio::test]
async fn records_of_new_groups_are_counted_as_such_where_all_groups_are_firing() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), changed(three(), |rule| rule.policy.max_groups = 1)]).await;
    bed.open(1).await;
    bed.commit(vec![until(Entry { counts: vec![count("a", 1, 3)], ..entry(0, 0, 3) }, 2)], 2).await;
    bed.commit(vec![until(Entry { counts: vec![count("b", 2, 4)], ..entry(0, 3, 7) }, 3)], 3).await;
    let held = bed.ledger.totals().await.unwrap();
    assert_eq!((held.groups, held.unmatched.get(&DropReason::GroupsFull)), (1, Some(&4)));
    assert_eq!(bed.titles().await, ["three firing 3"]);
}
