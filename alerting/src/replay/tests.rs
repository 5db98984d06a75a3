use domain::{
    AlertKind, AlertPolicy, Condition, EventTime, Format, Millis, Resolve, RulePlan, Severity, Source,
    StartFrom, TimeForm,
};
use uuid::Uuid;

use super::*;
use crate::record::MAX_AHEAD;

const RULE: Uuid = Uuid::from_u128(1);

pub(super) fn plan(condition: Condition) -> RulePlan {
    RulePlan {
        source: Source { bootstrap_servers: vec![], ..Source::default() },
        topics: vec!["t".into()],
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

fn told(events: &[ReplayEvent]) -> Vec<(i64, &str, Option<AlertKind>, i64)> {
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
        replay.push(&raw(0, offset, second * 1_000, &format!("{{\"g\":\"{group}\"}}"))).decoded().unwrap();
    }
    let mut events = replay.finish(None);
    assert_eq!(told(&events), [(5, "b", Some(AlertKind::Firing), 2), (6, "a", Some(AlertKind::Firing), 2)]);
    let offsets = |event: &ReplayEvent| {
        (event.first.as_ref().unwrap().at.offset, event.last.as_ref().unwrap().at.offset)
    };
    assert_eq!(offsets(&events[0]), (0, 2));
    events = replay.finish(Some(100_000));
    let resolved = Some(AlertKind::Resolved);
    assert_eq!(told(&events), [(24, "a", resolved, 0), (24, "b", resolved, 0)]);
    assert_eq!(replay.tally(RULE), Some(RuleTally { matched: 4, late: 0 }));
}

#[test]
fn a_partition_holds_the_others_back_until_it_moves_on() {
    let plan = frequency();
    let (mut replay, _) = Replay::new([(RULE, &plan)]);
    replay.add_partition("t", 1);
    for (offset, second) in [(0, 3), (1, 4), (2, 60)] {
        let record = raw(0, offset, second * 1_000, "{\"g\":\"a\"}");
        replay.push_appended(&record, Some(second * 1_000)).decoded().unwrap();
    }
    assert_eq!(replay.decide(), []);
    replay.advance_partition("t", 1, 5_000);
    assert_eq!(told(&replay.decide()), [(5, "a", Some(AlertKind::Firing), 2)]);
    replay.push(&raw(1, 0, 3_000, "{\"g\":\"a\"}")).decoded().unwrap();
    assert_eq!(told(&replay.finish(None)).len(), 1);
    assert_eq!(replay.tally(RULE), Some(RuleTally { matched: 4, late: 1 }));
}

#[test]
fn any_tells_of_each_record_and_what_is_not_counted_has_a_reason() {
    let each = RulePlan { resolve: None, ..plan(Condition::Any) };
    let (mut replay, _) = Replay::new([(RULE, &each)]);
    for (offset, value) in [(0, "{\"g\":\"a\"}"), (1, "{}"), (2, "{\"g\":\"b\"}")] {
        replay.push(&raw(0, offset, offset * 1_000, value)).decoded().unwrap();
    }
    assert!(replay.push(&raw(0, 3, 4_000, "{")).undecodable.is_some());
    assert_eq!(told(&replay.decide()), [(0, "a", None, 1), (2, "b", None, 1)]);
    let dropped: Vec<_> = replay.dropped().iter().map(|((rule, why), n)| (*rule, why.name(), *n)).collect();
    assert_eq!(dropped, [(RULE, "GroupMissing", 1), (RULE, "Undecodable", 1)]);
}

fn timed(form: TimeForm) -> Reading {
    Reading { event_time: Some(EventTime { path: "record.at".to_owned(), form }), ..Reading::default() }
}

fn read_as(reading: Reading, plan: RulePlan) -> RulePlan {
    RulePlan { source: Source { reading: Box::new(reading), ..plan.source.clone() }, ..plan }
}

#[test]
fn a_record_counts_at_the_time_that_it_says_not_at_its_timestamp() {
    let condition = Condition::Frequency { count: 2, window: Millis::from_secs(10) };
    let plan = read_as(timed(TimeForm::UnixSeconds), plan(condition));
    let (mut replay, _) = Replay::new([(RULE, &plan)]);
    let clock = 1_000_000;
    let mut push = |offset, value: &str| {
        let record = RawRecord { clock_ms: clock, ..raw(0, offset, clock, value) };
        replay.push(&record).time_ms
    };
    assert_eq!(push(0, r#"{"g":"a","at":101}"#), Some(101_000));
    assert_eq!(push(1, r#"{"g":"a","at":102.5}"#), Some(102_500));
    // Records far ahead, or without a time, advance nothing.
    assert_eq!(push(2, r#"{"g":"a","at":1001}"#), Some(1_001_000));
    assert_eq!(push(3, r#"{"g":"a","at":9999999}"#), None);
    assert_eq!(push(4, r#"{"g":"a"}"#), None);
    assert_eq!(push(5, r#"{"g":"a","at":"soon"}"#), None);
    assert_eq!(push(6, "{"), None, "it can't be looked into");
    let events = replay.finish(Some(200_000));
    assert_eq!(replay.tally(RULE), Some(RuleTally { matched: 3, late: 0 }));
    assert_eq!(told(&events)[0], (103, "a", Some(AlertKind::Firing), 2));
    let first = events[0].first.as_ref().unwrap();
    assert_eq!(first.at.time.as_millisecond(), 101_000);
    let dropped: Vec<_> = replay.dropped().iter().map(|((_, why), n)| (why.name(), *n)).collect();
    assert_eq!(dropped, [("TimeAhead", 1), ("TimeMissing", 2), ("Undecodable", 1)]);
}

#[test]
fn a_record_of_the_far_future_does_not_make_those_of_the_past_late() {
    let condition = Condition::Frequency { count: 2, window: Millis::from_secs(10) };
    let (mut replay, _) = Replay::new([(RULE, &plan(condition))]);
    let clock = 50_000_000;
    for (offset, at) in [(0, 1_000), (1, clock + MAX_AHEAD + 1), (2, 2_000)] {
        let record = RawRecord { clock_ms: clock, ..raw(0, offset, at, "{\"g\":\"a\"}") };
        replay.push(&record).decoded().unwrap();
        replay.decide();
    }
    assert_eq!(told(&replay.finish(None))[0], (3, "a", Some(AlertKind::Firing), 2));
    assert_eq!(replay.tally(RULE).unwrap().late, 0);
}

#[test]
fn rules_that_read_the_same_topic_otherwise_do_not_disturb_each_other() {
    const LOGFMT: Uuid = Uuid::from_u128(8);
    let each = RulePlan { resolve: None, ..plan(Condition::Any) };
    let logfmt = read_as(Reading { format: Format::Logfmt, event_time: None }, each.clone());
    let (mut replay, problems) = Replay::new([(RULE, &each), (LOGFMT, &logfmt)]);
    assert_eq!(problems, []);
    assert!(replay.push(&raw(0, 0, 1_000, "{\"g\": \"a\"}")).undecodable.is_some(), "a quote in a name");
    assert!(replay.push(&raw(0, 1, 2_000, "g=b n=1")).undecodable.is_some(), "not JSON");
    replay.push(&RawRecord { value: None, ..raw(0, 2, 3_000, "") }).decoded().unwrap();
    let events = replay.decide();
    let told: Vec<_> = events.iter().map(|event| (event.rule, event.group["g"].as_str())).collect();
    assert_eq!(told, [(RULE, "a"), (LOGFMT, "b")]);
    assert_eq!(events[1].last.as_ref().unwrap().value, serde_json::json!({"g": "b", "n": "1"}));
    let dropped: Vec<_> = replay.dropped().iter().map(|((rule, why), n)| (*rule, why.name(), *n)).collect();
    assert_eq!(
        dropped,
        [
            (RULE, "Tombstone", 1),
            (RULE, "Undecodable", 1),
            (LOGFMT, "Tombstone", 1),
            (LOGFMT, "Undecodable", 1)
        ]
    );
}

#[test]
fn what_can_not_be_read_stops_its_own_rules_and_says_why() {
    let pattern = Format::Text { pattern: "(".to_owned() };
    let event_time = timed(TimeForm::Pattern { pattern: "%H".to_owned(), time_zone: None }).event_time;
    let bad = read_as(Reading { format: pattern, event_time }, plan(Condition::Any));
    let (_, problems) = Replay::new([(RULE, &bad)]);
    let said: Vec<String> = problems[0].errors.iter().map(ToString::to_string).collect();
    assert!(
        said[0].starts_with("source: text.pattern: ") && said[1].starts_with("source: eventTime: pattern")
    );
}
