use std::collections::BTreeMap;

use domain::{AlertPolicy, Condition, Count, Dropped, Millis, Resolve, Severity, Source, StartFrom};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::decide::{self, Bucket, Decision, GroupState};
use crate::record::MAX_AHEAD;
use crate::values::VALUES_KEPT;

pub(super) fn plan(matches: &str, group: &[(&str, &str)], condition: Condition) -> RulePlan {
    RulePlan {
        source: Source { bootstrap_servers: vec![], ..Source::default() },
        topics: vec!["logs".into()],
        start_from: StartFrom::Latest,
        dead_letter_topic: None,
        matches: matches.into(),
        group_by: group.iter().map(|(label, path)| ((*label).into(), (*path).into())).collect(),
        condition,
        severity: Severity::Info,
        title: String::new(),
        summary: String::new(),
        notify: vec![],
        repeat_interval: None,
        resolve: Some(Resolve { after: None, notify: true, below: None }),
        allowed_lateness: Millis::from_secs(2),
        policy: AlertPolicy::default(),
    }
}

pub(super) fn merge(into: &mut Count, other: Count) {
    let mut held = Aggregate::from(into.clone());
    held.merge(other.into(), VALUES_KEPT);
    (into.count, into.first, into.last) = (held.count, held.first, held.last);
}

pub(super) fn frequency(count: i64) -> Condition {
    Condition::Frequency { count, window: Millis::from_secs(10) }
}

pub(super) fn raw(offset: i64, at: i64, value: &[u8]) -> RawRecord<'_> {
    RawRecord {
        topic: "logs",
        partition: 0,
        offset,
        timestamp_ms: at,
        clock_ms: at,
        key: None,
        value: Some(value),
        headers: &[],
    }
}

/// The result for a record of that time that no rule counts.
fn uncounted_at(at: i64) -> Folded {
    Folded { time_ms: Some(at), ..Folded::default() }
}

const BAD: Uuid = Uuid::from_u128(1);
const GOOD: Uuid = Uuid::from_u128(2);

#[test]
fn a_rule_that_does_not_compile_is_told_and_the_others_run() {
    let bad = plan("record.a ==", &[("x", "service")], frequency(1));
    let good = plan("record.a == 1", &[], frequency(1));
    let (engine, problems) = RuleSet::new(&Reading::default(), [(BAD, &bad), (GOOD, &good)]);
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].rule, problems[0].errors.len()), (BAD, 2));
    assert!(problems[0].errors[0].to_string().starts_with("match: line 1"), "{}", problems[0].errors[0]);
    assert!(
        problems[0].errors[1].to_string().starts_with("groupBy \"x\": \"service\""),
        "{}",
        problems[0].errors[1]
    );
    let mut partition = PartitionFold::default();
    assert_eq!(
        engine.add(&mut partition, &raw(0, 1_000, br#"{"a":1}"#)),
        Folded { matched: 1, ..uncounted_at(1_000) }
    );
}

#[test]
fn records_are_counted_by_group_and_bucket_with_their_first_and_last() {
    let plan = plan("record.n > 0", &[("service", "record.s")], frequency(1));
    let (engine, _) = RuleSet::new(&Reading::default(), [(GOOD, &plan)]);
    let mut partition = PartitionFold::default();
    for (offset, at, value) in [
        (0, 1_500, br#"{"n":1,"s":"pay"}"#),
        (1, 1_200, br#"{"n":2,"s":"pay"}"#),
        (2, 1_900, br#"{"n":3,"s":"pay"}"#),
        (3, 2_000, br#"{"n":4,"s":"pay"}"#),
        (4, 1_000, br#"{"n":5,"s":"log"}"#),
        (5, 1_000, br#"{"n":0,"s":"log"}"#),
    ] {
        engine.add(&mut partition, &raw(offset, at, value)).decoded().unwrap();
    }
    assert!(partition.weight() > 0);
    let counts = partition.take().counts;
    let told: Vec<_> = counts
        .iter()
        .map(|it| {
            (it.group["service"].as_str(), it.bucket_ms, it.count, it.first.at.offset, it.last.at.offset)
        })
        .collect();
    assert_eq!(told, vec![("log", 1_000, 1, 4, 4), ("pay", 1_000, 3, 1, 2), ("pay", 2_000, 1, 3, 3)]);
    assert_eq!(counts[1].last.value, json!({"n": 3, "s": "pay"}));
    assert!(partition.is_empty() && partition.weight() == 0);
}

#[test]
fn what_is_not_counted_has_a_reason() {
    let plan = plan("record.n > 0", &[("service", "record.s")], frequency(1));
    let (engine, _) = RuleSet::new(&Reading::default(), [(GOOD, &plan)]);
    let mut partition = PartitionFold::default();
    for value in [&b"{\"n\":1}"[..], b"{\"n\":\"x\",\"s\":\"pay\"}", b"{\"n\":1,\"s\":null}", b"{}"] {
        assert_eq!(engine.add(&mut partition, &raw(0, 0, value)), uncounted_at(0));
    }
    assert!(engine.add(&mut partition, &raw(0, 0, b"not json")).undecodable.is_some());
    assert!(engine.add(&mut partition, &raw(0, 0, b"")).undecodable.is_some());
    let tombstone = RawRecord { value: None, ..raw(0, 0, b"") };
    assert_eq!(engine.add(&mut partition, &tombstone), uncounted_at(0));
    let of_nobody = RawRecord { topic: "other", ..raw(0, 0, b"not json") };
    assert_eq!(engine.add(&mut partition, &of_nobody), uncounted_at(0));
    let dropped: Vec<_> =
        partition.take().dropped.into_iter().map(|it| (it.rule, it.reason, it.count)).collect();
    let expected: Vec<(Option<Uuid>, DropReason, i64)> = vec![
        (None, DropReason::Tombstone, 1),
        (None, DropReason::Undecodable, 2),
        (Some(GOOD), DropReason::GroupMissing, 2),
        (Some(GOOD), DropReason::MatchWrongType, 1),
    ];
    assert_eq!(dropped, expected);
}

#[test]
fn any_speaks_for_each_record_unless_it_repeats_or_resolves() {
    let alert = plan("true", &[], Condition::Any);
    let each = RulePlan { resolve: None, ..alert.clone() };
    let (engine, _) = RuleSet::new(&Reading::default(), [(BAD, &alert), (GOOD, &each)]);
    let mut partition = PartitionFold::default();
    for offset in 0..3 {
        engine.add(&mut partition, &raw(offset, 1_000, b"1")).decoded().unwrap();
    }
    let taken = partition.take();
    assert_eq!(
        taken.records.iter().map(|it| (it.rule, it.sample.at.offset)).collect::<Vec<_>>(),
        vec![(GOOD, 0), (GOOD, 1), (GOOD, 2)]
    );
    assert_eq!((taken.counts.len(), taken.counts[0].rule, taken.counts[0].count), (1, BAD, 3));
}

#[test]
fn the_weight_follows_what_is_held() {
    let plan = plan("true", &[], frequency(1));
    let (engine, _) = RuleSet::new(&Reading::default(), [(GOOD, &plan)]);
    let mut partition = PartitionFold::default();
    let value = serde_json::to_vec(&json!({"text": "x".repeat(10_000)})).unwrap();
    for offset in 0..1_000 {
        engine.add(&mut partition, &raw(offset, 1_000, &value)).decoded().unwrap();
    }
    // The first, the last, and a few that are still queued.
    assert!((20_000..80_000).contains(&partition.weight()), "{}", partition.weight());
}

#[test]
fn whatever_time_a_record_claims_it_is_counted() {
    let plan = plan("true", &[], frequency(1));
    let (engine, _) = RuleSet::new(&Reading::default(), [(GOOD, &plan)]);
    let mut partition = PartitionFold::default();
    for at in [i64::MIN, -1, 0, i64::MAX] {
        engine.add(&mut partition, &raw(0, at, b"1")).decoded().unwrap();
    }
    assert_eq!(partition.take().counts.iter().map(|it| it.count).sum::<i64>(), 4);
}

/// All decisions, by group, from merged counts.
fn decisions(
    plan: &RulePlan,
    counts: Vec<Count>,
    steps: &[i64],
) -> Vec<(BTreeMap<String, String>, Vec<Decision>)> {
    let params = RuleParams::from_plan(plan).unwrap();
    let mut groups: BTreeMap<BTreeMap<String, String>, BTreeMap<i64, Count>> = BTreeMap::new();
    for count in counts {
        match groups.entry(count.group.clone()).or_default().entry(count.bucket_ms) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(count);
            }
            std::collections::btree_map::Entry::Occupied(mut held) => merge(held.get_mut(), count),
        }
    }
    groups
        .into_iter()
        .map(|(group, buckets)| {
            let buckets: Vec<Bucket> = buckets
                .values()
                .map(|it| Bucket { start_ms: it.bucket_ms, count: it.count, extras: None })
                .collect();
            let (mut state, mut from, mut told) = (GroupState::default(), 0, Vec::new());
            for step in steps.iter().chain([&1_000_000]) {
                told.extend(decide::advance(&params, &mut state, &buckets, None, from, from + step * 1_000));
                from += step * 1_000;
            }
            (group, told)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The law: for any split over partitions, any order within them, any commits and any steps the decisions are the
    /// same.
    #[test]
    fn the_alerts_are_a_function_of_the_set_of_records(
        records in prop::collection::vec((0..60_000_i64, 0..3_u8, 0..5_i64), 1..120)
            .prop_flat_map(|records| (Just(records.clone()), Just(records).prop_shuffle())),
        partitions in 1..5_usize,
        commit_every in 1..20_usize,
        steps in prop::collection::vec(1..30_i64, 0..10),
    ) {
        let (records, shuffled) = records;
        let plan = plan("record.n > 0", &[("g", "record.g")], frequency(3));
        let (engine, _) = RuleSet::new(&Reading::default(), [(GOOD, &plan)]);
        let text = |group: u8, n: i64| format!("{{\"g\":\"g{group}\",\"n\":{n}}}");

        let mut one = PartitionFold::default();
        for (offset, (at, group, n)) in records.iter().enumerate() {
            engine.add(&mut one, &raw(offset as i64, *at, text(*group, *n).as_bytes())).decoded().unwrap();
        }
        let mut many: Vec<PartitionFold> = (0..partitions).map(|_| PartitionFold::default()).collect();
        let mut committed = Vec::new();
        for (index, (at, group, n)) in shuffled.iter().enumerate() {
            let partition = index % partitions;
            let text = text(*group, *n);
            let record = RawRecord { partition: partition as i32, ..raw(index as i64, *at, text.as_bytes()) };
            engine.add(&mut many[partition], &record).decoded().unwrap();
            if index % commit_every == 0 {
                committed.extend(many[partition].take().counts);
            }
        }
        committed.extend(many.iter_mut().flat_map(|it| it.take().counts));

        let at_once = decisions(&plan, one.take().counts, &[]);
        prop_assert_eq!(decisions(&plan, committed, &steps), at_once.clone());

        // The decisions are also those of the definitions.
        for (group, told) in at_once {
            let fired = told.iter().find(|it| it.kind == domain::AlertKind::Firing).map(|it| it.at_ms);
            let matched = |from: i64, to: i64| records.iter().filter(|(at, g, n)| {
                *n > 0 && group["g"] == format!("g{g}") && (from..to).contains(at)
            }).count();
            let expected = (1..=70).map(|second| second * 1_000).find(|end| matched(end - 10_000, *end) >= 3);
            prop_assert_eq!(fired, expected);
        }
    }

    /// Taking in parts and merging gives what taking once gives.
    #[test]
    fn taking_in_parts_loses_and_doubles_nothing(
        records in prop::collection::vec((0..5_000_i64, 0..3_u8), 1..60),
        every in 1..10_usize,
    ) {
        let plan = plan("true", &[("g", "record")], frequency(1));
        let (engine, _) = RuleSet::new(&Reading::default(), [(GOOD, &plan)]);
        let (mut whole, mut part, mut merged) = (PartitionFold::default(), PartitionFold::default(), BTreeMap::new());
        let mut commit = |part: &mut PartitionFold| for count in part.take().counts {
            match merged.entry((count.group.clone(), count.bucket_ms)) {
                std::collections::btree_map::Entry::Vacant(vacant) => { vacant.insert(count); }
                std::collections::btree_map::Entry::Occupied(mut held) => merge(held.get_mut(), count),
            }
        };
        for (offset, (at, group)) in records.iter().enumerate() {
            let text = group.to_string();
            let record = raw(offset as i64, *at, text.as_bytes());
            engine.add(&mut whole, &record).decoded().unwrap();
            engine.add(&mut part, &record).decoded().unwrap();
            if offset % every == 0 {
                commit(&mut part);
            }
        }
        commit(&mut part);
        prop_assert_eq!(merged.into_values().collect::<Vec<_>>(), whole.take().counts);
    }
}

#[test]
fn event_time_is_the_records_own_unless_it_is_too_far_ahead_of_the_clock() {
    let windowed = plan("record.a == 1", &[], frequency(1));
    let each = RulePlan { resolve: None, ..plan("record.a == 1", &[], Condition::Any) };
    let (engine, _) = RuleSet::new(&Reading::default(), [(GOOD, &windowed), (BAD, &each)]);
    let mut partition = PartitionFold::default();
    let clock_ms = 1_000_000;
    for (offset, ahead) in [(0, MAX_AHEAD), (1, MAX_AHEAD + 1), (2, i64::MAX - clock_ms)] {
        let record = RawRecord { clock_ms, ..raw(offset, clock_ms + ahead, br#"{"a":1}"#) };
        engine.add(&mut partition, &record).decoded().unwrap();
    }
    let aggregates = partition.take();
    let counts: Vec<_> = aggregates.counts.iter().map(|count| (count.bucket_ms, count.count)).collect();
    assert_eq!(counts, [(clock_ms + MAX_AHEAD, 1)]);
    let sample = Some(domain::DropSample { offset: 1, detail: String::new() });
    let dropped = Dropped { rule: Some(GOOD), reason: DropReason::TimeAhead, count: 2, sample };
    assert_eq!(aggregates.dropped, [dropped]);
    assert_eq!(aggregates.records.len(), 3, "what speaks for each record needs no time");
}

#[test]
fn the_first_record_that_match_can_not_decide_is_told_by_its_place_and_types_and_not_by_its_values() {
    let plan = plan(r#"record.status >= "500""#, &[], frequency(1));
    let (engine, _) = RuleSet::new(&Reading::default(), [(GOOD, &plan)]);
    let mut partition = PartitionFold::default();
    for (offset, status) in [(7, 501), (8, 502), (9, 503)] {
        let value = format!(r#"{{"status":{status}}}"#);
        engine.add(&mut partition, &raw(offset, 1_000, value.as_bytes())).decoded().unwrap();
    }
    let dropped = partition.take().dropped;
    let detail = "`>=` does not take int and string".to_owned();
    let sample = Some(domain::DropSample { offset: 7, detail });
    assert_eq!(dropped, [Dropped { rule: Some(GOOD), reason: DropReason::MatchWrongType, count: 3, sample }]);
}

/// Records that fit the compact form and records that do not are counted alike.
#[test]
fn records_of_other_places_and_of_far_offsets_are_counted_too() {
    let plan = RulePlan {
        topics: vec!["logs".into(), "other".into()],
        ..plan("true", &[("k", "key")], frequency(1))
    };
    let (engine, _) = RuleSet::new(&Reading::default(), [(GOOD, &plan)]);
    let mut partition = PartitionFold::default();
    let at = |topic: &'static str, partition, offset| RawRecord {
        topic,
        partition,
        key: Some(b"k"),
        ..raw(offset, 1_500, b"1")
    };
    for record in [
        at("logs", 1, 5),
        at("logs", 1, i64::MAX),
        at("logs", 1, 4),
        at("other", 0, 9),
        at("logs", 2, i64::MIN),
        at("logs", 1, 7),
    ] {
        engine.add(&mut partition, &record).decoded().unwrap();
    }
    let counts = partition.take().counts;
    assert_eq!((counts.len(), counts[0].count), (1, 6));
    assert_eq!(
        (&*counts[0].first.at.topic, counts[0].first.at.partition, counts[0].first.at.offset),
        ("logs", 1, 4)
    );
    assert_eq!((&*counts[0].last.at.topic, counts[0].last.at.offset), ("other", 9));
}

#[test]
fn a_bucket_of_months_counts_as_any_other() {
    let condition = Condition::Frequency { count: 1, window: Millis(i64::MAX / 4) };
    let plan = plan("true", &[], condition);
    let (engine, _) = RuleSet::new(&Reading::default(), [(GOOD, &plan)]);
    let mut partition = PartitionFold::default();
    for (offset, time) in [(0, 5), (1, 1_767_225_600_000), (2, 0)] {
        engine.add(&mut partition, &raw(offset, time, b"1")).decoded().unwrap();
    }
    let counts = partition.take().counts;
    assert_eq!((counts.len(), counts[0].count), (1, 3));
    assert_eq!((counts[0].first.at.offset, counts[0].last.at.offset), (2, 1));
}

#[test]
fn a_sample_that_does_not_fit_is_cut() {
    let plan = plan("true", &[], frequency(1));
    let (engine, _) = RuleSet::new(&Reading::default(), [(GOOD, &plan)]);
    let mut partition = PartitionFold::default();
    let value = serde_json::to_vec(&json!({"a": 1, "text": "x".repeat(100_000)})).unwrap();
    engine.add(&mut partition, &raw(0, 0, &value)).decoded().unwrap();
    let count = partition.take().counts.remove(0);
    assert_eq!(count.first.value["a"], 1);
    assert!(count.first.value["text"].as_str().unwrap().ends_with('…'));
}

#[test]
fn many_groups_are_counted_as_brute_force_counts_them() {
    let plan = plan("true", &[("g", "record.g"), ("h", "record.h")], frequency(1));
    let (engine, _) = RuleSet::new(&Reading::default(), [(GOOD, &plan)]);
    let (mut partition, mut expected) = (PartitionFold::default(), BTreeMap::new());
    let mut seed = 7_u64;
    for offset in 0..20_000_i64 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (g, h, at) = (seed >> 40 & 31, seed >> 50 & 7, (seed >> 30 & 4_095) as i64);
        let value = format!(
            "{{\"g\":\"{}\",\"h\":{h},\"pad\":\"{}\"}}",
            "g".repeat(g as usize),
            "p".repeat((seed >> 20 & 63) as usize)
        );
        engine.add(&mut partition, &raw(offset, at, value.as_bytes())).decoded().unwrap();
        let key = ("g".repeat(g as usize), h.to_string(), at / 1_000 * 1_000);
        let held = expected.entry(key).or_insert((0, (at, offset), (at, offset)));
        *held = (held.0 + 1, held.1.min((at, offset)), held.2.max((at, offset)));
    }
    let place = |sample: &domain::Sample| (sample.at.time.as_millisecond(), sample.at.offset);
    let counted: BTreeMap<_, _> = partition
        .take()
        .counts
        .into_iter()
        .map(|it| {
            assert_eq!(it.last.value["g"], it.group["g"].as_str());
            let key = (it.group["g"].clone(), it.group["h"].clone(), it.bucket_ms);
            (key, (it.count, place(&it.first), place(&it.last)))
        })
        .collect();
    assert_eq!(counted, expected);
}

#[test]
fn how_many_counts_and_records_are_held_is_known_before_they_are_taken() {
    let counted = plan("true", &[("n", "record.n")], frequency(1));
    let told = RulePlan { resolve: None, ..plan("true", &[], Condition::Any) };
    let (engine, _) = RuleSet::new(&Reading::default(), [(GOOD, &counted), (BAD, &told)]);
    let mut held = PartitionFold::default();
    for offset in 0..1_000 {
        let text = format!("{{\"n\":{}}}", offset % 300);
        let _ = engine.add(&mut held, &raw(offset, 0, text.as_bytes()));
    }
    // 1,000 records, and 300 groups without those that are still queued.
    let items = held.items();
    assert!((1_236..=1_300).contains(&items), "{items}");
    let taken = held.take();
    assert_eq!((taken.counts.len(), taken.records.len(), held.items()), (300, 1_000, 0));
}
