//! Tests the law against a twin that is written from the definitions: at each boundary it computes everything anew from
//! the full set of records.
//!
//! Clauses of docs/semantics.md: E1, E9.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    AlertKind, AlertPolicy, Condition, ExtremeDirection, Limit, Millis, Resolve, RulePlan, SpikeDirection,
};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use uuid::Uuid;

use super::tests::{plan, raw};
use super::*;
use crate::record;

const RULE: Uuid = Uuid::from_u128(1);
const PARTITIONS: usize = 3;
const START: i64 = 100_000;
/// How far a record's event time may be before its append, ms; also the allowed lateness.
const DISORDER: i64 = 3_000;
/// How far a record's event time may be after its append, ms.
const AHEAD: i64 = 20_000;
/// Windows of whole seconds up to a minute have buckets of a second.
const WIDTH: i64 = 1_000;

#[derive(Debug, Clone)]
struct TestRecord {
    partition: usize,
    offset: i64,
    at: i64,
    /// When the broker appended it.
    appended: i64,
    group: String,
    value: String,
    number: i64,
    of: bool,
}

impl TestRecord {
    fn text(&self) -> String {
        format!(
            "{{\"g\":\"{}\",\"v\":\"{}\",\"n\":{},\"of\":{}}}",
            self.group, self.value, self.number, self.of
        )
    }
}

fn records() -> impl Strategy<Value = Vec<TestRecord>> {
    let off = prop_oneof![6 => -DISORDER..=0_i64, 1 => 1..AHEAD];
    let one = (0..PARTITIONS, 0..2_500_i64, off, 0..3_u8, 0..5_u8, -3..9_i64, any::<bool>());
    prop::collection::vec(one, 1..80).prop_map(|list| {
        let mut clocks = [START; PARTITIONS];
        let mut offsets = [0; PARTITIONS];
        list.into_iter()
            .map(|(partition, step, off, group, value, number, of)| {
                clocks[partition] += step;
                offsets[partition] += 1;
                TestRecord {
                    partition,
                    offset: offsets[partition],
                    at: clocks[partition] + off,
                    appended: clocks[partition],
                    group: format!("g{group}"),
                    value: format!("v{value}"),
                    number,
                    of,
                }
            })
            .collect()
    })
}

fn conditions() -> impl Strategy<Value = Condition> {
    let window = || (1..12_i64).prop_map(Millis::from_secs);
    let limit = |most: i64| {
        (0..most, any::<bool>())
            .prop_map(|(at, above)| if above { Limit::Above(at) } else { Limit::Below(at + 1) })
    };
    let way = prop_oneof![Just(SpikeDirection::Up), Just(SpikeDirection::Down), Just(SpikeDirection::Both)];
    let end = prop_oneof![Just(ExtremeDirection::Highest), Just(ExtremeDirection::Lowest)];
    prop_oneof![
        Just(Condition::Any),
        (1..5_i64, window()).prop_map(|(count, window)| Condition::Frequency { count, window }),
        (1_001..4_000_i64, window(), 1..4_i64, way).prop_map(|(ratio, window, min_count, direction)| {
            Condition::Spike { ratio, window, min_count, direction }
        }),
        (1..4_i64, window(), any::<bool>()).prop_map(|(below, window, named)| {
            let group = |name: &str| BTreeMap::from([("g".to_owned(), name.to_owned())]);
            let groups = if named { vec![group("g0"), group("never")] } else { vec![] };
            Condition::Flatline { below, window, groups }
        }),
        (0..8_i64).prop_map(|learn| {
            Condition::NewValue { path: "record.v".into(), learn_for: Millis::from_secs(learn) }
        }),
        (window(), limit(5)).prop_map(|(window, limit)| Condition::Cardinality {
            path: "record.v".into(),
            window,
            limit
        }),
        Just(Condition::Change { path: "record.v".into() }),
        end.prop_map(|direction| Condition::Extreme { path: "record.n".into(), direction }),
        (window(), 1..4_i64, limit(100_000)).prop_map(|(window, min_count, limit)| {
            Condition::Ratio { of: "record.of".into(), window, min_count, limit }
        }),
    ]
}

fn plans() -> impl Strategy<Value = RulePlan> {
    let resolve = (prop::option::of(0..9_000_i64), any::<bool>(), prop::option::of(0..4_i64));
    let policy = (0..4_000_i64, prop_oneof![Just(1_000_i64), Just(1_500), Just(3_000)]);
    (conditions(), prop::option::of(500..9_000_i64), prop::option::of(resolve), policy).prop_map(
        |(condition, repeat, resolve, (hold, repeat_factor))| {
            let shares = matches!(condition, Condition::Ratio { .. });
            let hysteresis = matches!(
                condition,
                Condition::Frequency { .. }
                    | Condition::Cardinality { limit: Limit::Above(_), .. }
                    | Condition::Ratio { limit: Limit::Above(_), .. }
            );
            let resolve = resolve.map(|(after, notify, below)| Resolve {
                after: after.map(Millis),
                notify,
                below: below.filter(|_| hysteresis).map(|below| if shares { below * 10_000 } else { below }),
            });
            let hold = if condition.window().is_some() { hold } else { 0 };
            RulePlan {
                repeat_interval: repeat.map(Millis),
                resolve,
                allowed_lateness: Millis(DISORDER),
                policy: AlertPolicy {
                    hold: Millis(hold),
                    repeat_factor,
                    top_values: BTreeMap::from([("v".into(), "record.v".into())]),
                    ..AlertPolicy::default()
                },
                ..plan(condition)
            }
        },
    )
}

/// A notification: time, group, kind, since, count, value, previous, top values.
type ToldAlert = (i64, String, AlertKind, i64, i64, Option<String>, Option<String>, BTreeMap<String, i64>);

/// A condition's answer: whether it holds, whether an open alert goes on, value, previous.
type ConditionView = (bool, bool, Option<String>, Option<String>);

/// One group of the twin.
struct GroupTwin<'a> {
    plan: &'a RulePlan,
    /// Sorted by event time.
    records: Vec<&'a TestRecord>,
    expected: bool,
    observed: i64,
}

impl GroupTwin<'_> {
    fn within(&self, from: i64, to: i64) -> Vec<&TestRecord> {
        self.records.iter().copied().filter(|rec| (from..to).contains(&rec.at)).collect()
    }

    fn ready(&self, end: i64, look_back: i64, watched: bool) -> bool {
        let from = match (watched && !self.expected, self.records.first()) {
            (false, _) => self.observed,
            (true, Some(first)) => self.observed.max(first.at.div_euclid(WIDTH) * WIDTH),
            (true, None) => return false,
        };
        // A group is unknown before the end of its first bucket.
        let seen = self.expected
            || !watched
            || self.records.first().is_some_and(|first| first.at.div_euclid(WIDTH) * WIDTH + WIDTH <= end);
        seen && end - look_back >= from
    }

    fn saw(&self, end: i64) -> ConditionView {
        let span = self.plan.condition.window().map_or(WIDTH, |window| window.0);
        let window = self.within(end - span, end);
        let count = window.len() as i64;
        let below = self.plan.resolve.and_then(|resolve| resolve.below);
        let stays = |holds: bool, measured: i64| holds || below.is_some_and(|below| measured >= below);
        match &self.plan.condition {
            Condition::Any => (count >= 1, count >= 1, None, None),
            Condition::Frequency { count: least, .. } => {
                let holds = count >= *least;
                (holds, stays(holds, count), None, None)
            }
            Condition::Spike { ratio, min_count, direction, .. } => {
                let before = self.within(end - 2 * span, end - span).len() as i64;
                let is = |large: i64, small: i64| {
                    large >= *min_count && large as f64 >= *ratio as f64 / 1_000.0 * small as f64 - 1e-9
                };
                let (up, down) = (is(count, before), is(before, count));
                let holds = self.ready(end, 2 * span, false)
                    && match direction {
                        SpikeDirection::Up => up,
                        SpikeDirection::Down => down,
                        SpikeDirection::Both => up || down,
                    };
                (holds, holds, Some(count.to_string()), Some(before.to_string()))
            }
            Condition::Flatline { below, .. } => {
                let holds = self.ready(end, span, true) && count < *below;
                (holds, holds, None, None)
            }
            Condition::Cardinality { limit, .. } => {
                let distinct = window.iter().map(|rec| &rec.value).collect::<BTreeSet<_>>().len() as i64;
                let holds = match limit {
                    Limit::Above(limit) => distinct > *limit,
                    Limit::Below(limit) => self.ready(end, span, true) && distinct < *limit,
                };
                (holds, stays(holds, distinct), Some(distinct.to_string()), None)
            }
            Condition::Ratio { min_count, limit, .. } => {
                let of = window.iter().filter(|rec| rec.of).count() as i64;
                let enough = count >= *min_count;
                let share = of * 100_000;
                let holds = enough
                    && match limit {
                        Limit::Above(limit) => share > limit * count,
                        Limit::Below(limit) => share < limit * count,
                    };
                let stays = holds || below.is_some_and(|below| enough && share >= below * count);
                let nearest = if count == 0 { 0 } else { (2 * share + count) / (2 * count) };
                let thousandths = match of {
                    0 => 0,
                    _ if of == count => 100_000,
                    _ => nearest.clamp(1, 99_999),
                };
                let text = format!("{}%", thousandths as f64 / 1_000.0);
                (holds, stays, Some(text), None)
            }
            Condition::NewValue { learn_for, .. } => {
                let before: BTreeSet<_> =
                    self.within(i64::MIN, end - WIDTH).iter().map(|rec| &rec.value).collect();
                let new: BTreeSet<_> =
                    window.iter().map(|rec| &rec.value).filter(|value| !before.contains(value)).collect();
                let first = self.records.first().map_or(0, |first| first.at.div_euclid(WIDTH) * WIDTH);
                let holds = !new.is_empty() && end > first + learn_for.0;
                (holds, holds, new.first().filter(|_| holds).map(|value| (*value).clone()), None)
            }
            Condition::Change { .. } => {
                let pairs = self.records.windows(2);
                let holds = pairs
                    .filter(|pair| (end - WIDTH..end).contains(&pair[1].at))
                    .any(|pair| pair[0].value != pair[1].value);
                let before = self.within(i64::MIN, end - WIDTH);
                let previous = before.last().or(window.first()).map(|rec| rec.value.clone());
                let value = window.last().map(|rec| rec.value.clone());
                (holds, holds, value.filter(|_| holds), previous.filter(|_| holds))
            }
            Condition::Extreme { direction, .. } => {
                let sign = if *direction == ExtremeDirection::Highest { 1 } else { -1 };
                let all: Vec<(i64, i64)> =
                    self.records.iter().map(|rec| (rec.at, rec.number * sign)).collect();
                let beyond = (1..all.len()).any(|at| {
                    (end - WIDTH..end).contains(&all[at].0)
                        && all[..at].iter().all(|(_, number)| *number < all[at].1)
                });
                let best =
                    |list: &[&TestRecord]| list.iter().map(|rec| rec.number * sign).max().map(|it| it * sign);
                let before = best(&self.within(i64::MIN, end - WIDTH));
                let previous = before.or(window.first().map(|rec| rec.number));
                let text = |number: Option<i64>| number.filter(|_| beyond).map(|number| number.to_string());
                (beyond, beyond, text(best(&window)), text(previous))
            }
        }
    }

    fn tell(&self, group: &str, from: i64, to: i64) -> Vec<ToldAlert> {
        let plan = self.plan;
        let span = plan.condition.window().map_or(WIDTH, |window| window.0);
        let windowless = plan.condition.window().is_none();
        let each = windowless
            && plan.condition != Condition::Any
            && plan.repeat_interval.is_none()
            && plan.resolve.is_none();
        let repeat = plan.repeat_interval.map(|interval| interval.0);
        let lasts = if windowless { repeat.unwrap_or(300_000) } else { span };
        let after = plan.resolve.and_then(|resolve| resolve.after).map_or(lasts, |after| after.0);
        let mut told = Vec::new();
        let mut pending: Option<i64> = None;
        // Since, last notification, wait for the next repeat, repeats.
        let mut open: Option<(i64, i64, f64, i64)> = None;
        let mut quiet: Option<i64> = None;
        let mut end = from;
        while end <= to {
            let (holds, stays, value, previous) = self.saw(end);
            let window = self.within(end - span, end);
            let mut top = BTreeMap::new();
            for rec in &window {
                *top.entry(rec.value.clone()).or_insert(0) += 1;
            }
            let mut say = |kind, since| {
                let group = group.to_owned();
                told.push((
                    end,
                    group,
                    kind,
                    since,
                    window.len() as i64,
                    value.clone(),
                    previous.clone(),
                    top.clone(),
                ));
            };
            match &mut open {
                None => {
                    pending = if holds { pending.or(Some(end)) } else { None };
                    if let Some(since) = pending.filter(|since| end - since >= plan.policy.hold.0) {
                        say(AlertKind::Firing, since);
                        pending = None;
                        quiet = None;
                        if !each {
                            open = Some((since, end, repeat.unwrap_or(0) as f64, 0));
                        }
                    }
                }
                Some((since, last, wait, repeats)) if stays => {
                    quiet = None;
                    if repeat.is_some() && (end - *last) as f64 >= wait.floor() {
                        *repeats += 1;
                        *last = end;
                        *wait = (wait.floor() * plan.policy.repeat_factor as f64 / 1_000.0).min(86_400_000.0);
                        say(AlertKind::Repeat { n: *repeats }, *since);
                    }
                }
                Some((since, ..)) => {
                    let first = *quiet.get_or_insert(end);
                    if end - first >= after {
                        if plan.resolve.is_some_and(|resolve| resolve.notify) {
                            say(AlertKind::Resolved, *since);
                        }
                        open = None;
                    }
                }
            }
            end += WIDTH;
        }
        told
    }
}

fn twin(plan: &RulePlan, records: &[TestRecord], until: i64) -> Vec<ToldAlert> {
    let since = |partition: usize| {
        records.iter().filter(|rec| rec.partition == partition).min_by_key(|rec| rec.offset).map(|rec| rec.at)
    };
    let observed = (0..PARTITIONS).filter_map(since).max().unwrap_or(START);
    let mut named: BTreeSet<String> = BTreeSet::new();
    if let Condition::Flatline { groups, .. } = &plan.condition {
        named.extend(groups.iter().map(|group| group["g"].clone()));
    }
    let groups: BTreeSet<String> = records.iter().map(|rec| rec.group.clone()).chain(named.clone()).collect();
    let mut told = Vec::new();
    for group in groups {
        let mut ours: Vec<&TestRecord> = records.iter().filter(|rec| rec.group == group).collect();
        ours.sort_by_key(|rec| (rec.at, rec.partition, rec.offset));
        let expected = named.contains(&group);
        let twin = GroupTwin { plan, records: ours, expected, observed };
        let to = (until - plan.allowed_lateness.0).div_euclid(WIDTH) * WIDTH;
        told.extend(twin.tell(&group, (START - DISORDER).div_euclid(WIDTH) * WIDTH, to));
    }
    told.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    told
}

/// How records are read: the partition of the next one, what then reports the partition's progress, and how long after
/// its append it is read, ms.
type ReadOrder = Vec<(usize, ProgressSource, i64)>;

/// What a partition's progress comes from.
#[derive(Debug, Clone, Copy)]
enum ProgressSource {
    /// Only producers' timestamps: it is read from a backlog.
    Nothing,
    /// The broker's timestamp.
    Append,
    /// A clock: all of the partition is read, and the next record comes at once.
    End,
}

fn reads() -> impl Strategy<Value = ReadOrder> {
    let known = prop_oneof![3 => Just(ProgressSource::Nothing), 1 => Just(ProgressSource::Append), 1 => Just(ProgressSource::End)];
    prop::collection::vec((0..PARTITIONS, known, 0..3 * AHEAD), 1..30)
}

/// Replays the records: within a partition in order, otherwise as `reads` says; decides after every `every` records.
fn replay_records(
    plan: &RulePlan,
    records: &[TestRecord],
    reads: &ReadOrder,
    every: usize,
    until: i64,
) -> Vec<ToldAlert> {
    let (mut replay, problems) = Replay::new([(RULE, plan)]);
    assert_eq!(problems, []);
    let mut queues: Vec<Vec<&TestRecord>> = (0..PARTITIONS)
        .map(|partition| records.iter().rev().filter(|rec| rec.partition == partition).collect())
        .collect();
    for (partition, queue) in queues.iter().enumerate() {
        replay.add_partition("t", partition as i32);
        if queue.is_empty() {
            replay.advance_partition("t", partition as i32, i64::MIN / 4);
        }
    }
    let mut events = Vec::new();
    let mut reads = reads.iter().cycle();
    for step in 0..records.len() {
        let (wanted, known, stall) = *reads.next().unwrap();
        let partition = (0..PARTITIONS)
            .map(|shift| (wanted + shift) % PARTITIONS)
            .find(|partition| !queues[*partition].is_empty())
            .unwrap();
        let rec = queues[partition].pop().unwrap();
        let text = rec.text();
        let raw = RawRecord {
            clock_ms: record::clock_ms(rec.at, false, rec.appended + stall),
            ..raw(partition as i32, rec.offset, rec.at, &text)
        };
        let appended = matches!(known, ProgressSource::Append).then_some(rec.appended);
        replay.push_appended(&raw, appended).decoded().unwrap();
        if matches!(known, ProgressSource::End) {
            let next = queues[partition].last().map_or(rec.appended, |next| next.appended);
            replay.advance_partition("t", partition as i32, next);
        }
        if step % every == 0 {
            events.extend(replay.decide());
        }
    }
    events.extend(replay.finish(Some(until)));
    assert_eq!(replay.tally(RULE), Some(RuleTally { matched: records.len() as i64, late: 0 }));
    assert!(replay.dropped().is_empty());
    events
        .into_iter()
        .map(|event| {
            let decision = event.decision.unwrap();
            assert_eq!(decision.first_bucket_ms, decision.since_ms - WIDTH);
            let (value, previous) =
                decision.seen.map_or((None, None), |seen| (Some(seen.value), seen.previous));
            let top = event.top.into_values().flat_map(|values| values.counts).collect();
            (
                decision.at_ms,
                event.group["g"].clone(),
                decision.kind,
                decision.since_ms,
                decision.count,
                value,
                previous,
                top,
            )
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    /// For any split over partitions, any order across them, any commits, producers whose clocks are ahead, and any
    /// stall of the reader, the alerts are those of the definitions, and no record is late.
    #[test]
    fn the_alerts_are_what_the_definitions_say_of_the_set_of_records(
        plan in plans(),
        records in records(),
        reads in reads(),
        every in 1..20_usize,
        quiet in 0..90_i64,
    ) {
        let each = plan.condition == Condition::Any && plan.repeat_interval.is_none() && plan.resolve.is_none();
        prop_assume!(!each);
        let last = records.iter().map(|rec| rec.at).max().unwrap();
        let until = last + DISORDER + WIDTH + quiet * 1_000;
        let mut told = replay_records(&plan, &records, &reads, every, until);
        // For one instant, the groups' order depends on the calls.
        told.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        prop_assert_eq!(told, twin(&plan, &records, until));
    }
}

/// The generated rules and records reach every state of every condition, so the test of the law covers them.
#[test]
fn the_generated_rules_and_records_make_every_condition_fire_repeat_and_resolve() {
    let mut runner = TestRunner::deterministic();
    let strategy = (plans(), records());
    let mut reached: BTreeMap<&'static str, BTreeSet<&'static str>> = BTreeMap::new();
    for _ in 0..1_500 {
        let (plan, records) = strategy.new_tree(&mut runner).unwrap().current();
        let until = records.iter().map(|rec| rec.at).max().unwrap() + 60_000;
        let states = reached.entry(plan.condition.name()).or_default();
        for (_, _, kind, since, ..) in twin(&plan, &records, until) {
            states.insert(kind.name());
            assert!(since <= until);
        }
    }
    assert_eq!(reached.len(), 9, "{reached:?}");
    assert!(reached.values().all(|states| states.len() == 3), "{reached:?}");
}

#[test]
fn a_flatline_without_any_record_speaks_after_one_observed_window() {
    let condition = Condition::Flatline { below: 1, window: Millis::from_secs(10), groups: vec![] };
    let plan = RulePlan { group_by: BTreeMap::new(), ..plan(condition) };
    let (mut replay, _) = Replay::new([(RULE, &plan)]);
    replay.advance_partition("t", 0, 3_500);
    replay.advance_partition("t", 0, 13_499);
    assert_eq!(replay.decide(), []);
    replay.advance_partition("t", 0, 60_000);
    let events = replay.decide();
    assert_eq!(events.iter().map(|event| event.time_ms).collect::<Vec<_>>(), [14_000]);
}
