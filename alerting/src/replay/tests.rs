use domain::{
    AlertKind, AlertPolicy, Condition, Format, Millis, Resolve, RulePlan, Severity, Source, StartFrom,
};
use uuid::Uuid;

use super::*;

const RULE: Uuid = Uuid::from_u128(1);

pub(super) fn plan(condition: Condition) -> RulePlan {
    RulePlan {
        source: Source { bootstrap_servers: vec![], ..Source::default() },
        topics: vec!["t".into()],
        format: Format::Json,
        start_from: StartFrom::Earliest,
        dead_letter_topic: None,
        matches: "true".into(),
        group_by: BTreeMap::from([("g".into(), "record.g".into())]),
        condition,
        severity: Severity::Info,
        title: String::new(),
        summary: String::new(),
        notify: vec![],
        repeat_interval: None,
        resolve: Some(Resolve { after: None, notify: true, below: None }),
        allowed_lateness: Millis(0),
        policy: AlertPolicy::default(),
    }
}

pub(super) fn raw(partition: i32, offset: i64, timestamp_ms: i64, value: &str) -> RawRecord<'_> {
    RawRecord {
        topic: "t",
        partition,
        offset,
        timestamp_ms,
        clock_ms: timestamp_ms,
        key: None,
        value: Some(value.as_bytes()),
        headers: &[],
    }
}

fn frequency() -> RulePlan {
    plan(Condition::Frequency { count: 2, window: Millis::from_secs(10) })
}

fn told(events: &[Event]) -> Vec<(i64, &str, Option<AlertKind>, i64)> {
    events
        .iter()
        .map(|event| {
            let decision = event.decision.as_ref();
            let count = decision.map_or(1, |decision| decision.count);
            (event.time_ms / 1000, event.group["g"].as_str(), decision.map(|it| it.kind), count)
        })
        .collect()
}

#[test]
fn a_frequency_fires_and_resolves_in_the_order_of_event_time() {
    let plan = frequency();
    let (mut replay, problems) = Replay::new([(RULE, &plan)]);
    assert!(problems.is_empty());
    for (offset, second, group) in [(0, 3, "b"), (1, 3, "a"), (2, 4, "b"), (3, 5, "a")] {
        replay.push(&raw(0, offset, second * 1_000, &format!("{{\"g\":\"{group}\"}}"))).unwrap();
    }
    let mut events = replay.finish(None);
    assert_eq!(told(&events), [(5, "b", Some(AlertKind::Firing), 2), (6, "a", Some(AlertKind::Firing), 2)]);
    let offsets =
        |event: &Event| (event.first.as_ref().unwrap().at.offset, event.last.as_ref().unwrap().at.offset);
    assert_eq!(offsets(&events[0]), (0, 2));
    events = replay.finish(Some(100_000));
    let resolved = Some(AlertKind::Resolved);
    assert_eq!(told(&events), [(24, "a", resolved, 0), (24, "b", resolved, 0)]);
    assert_eq!(replay.tally(RULE), Some(Tally { matched: 4, late: 0 }));
}

#[test]
fn a_partition_holds_the_others_back_until_it_moves_on() {
    let plan = frequency();
    let (mut replay, _) = Replay::new([(RULE, &plan)]);
    replay.open("t", 1);
    for (offset, second) in [(0, 3), (1, 4), (2, 60)] {
        replay.push(&raw(0, offset, second * 1_000, "{\"g\":\"a\"}")).unwrap();
    }
    assert_eq!(replay.decide(), []);
    replay.progress("t", 1, 5_000);
    assert_eq!(told(&replay.decide()), [(5, "a", Some(AlertKind::Firing), 2)]);
    replay.push(&raw(1, 0, 3_000, "{\"g\":\"a\"}")).unwrap();
    assert_eq!(told(&replay.finish(None)).len(), 1);
    assert_eq!(replay.tally(RULE), Some(Tally { matched: 4, late: 1 }));
}

#[test]
fn any_tells_of_each_record_and_what_is_not_counted_has_a_reason() {
    let each = RulePlan { resolve: None, ..plan(Condition::Any) };
    let (mut replay, _) = Replay::new([(RULE, &each)]);
    for (offset, value) in [(0, "{\"g\":\"a\"}"), (1, "{}"), (2, "{\"g\":\"b\"}")] {
        replay.push(&raw(0, offset, offset * 1_000, value)).unwrap();
    }
    assert!(replay.push(&raw(0, 3, 4_000, "{")).is_err());
    assert_eq!(told(&replay.decide()), [(0, "a", None, 1), (2, "b", None, 1)]);
    let dropped: Vec<_> = replay.dropped().iter().map(|((rule, why), n)| (*rule, why.as_str(), *n)).collect();
    assert_eq!(dropped, [(None, "Undecodable", 1), (Some(RULE), "GroupMissing", 1)]);
}
