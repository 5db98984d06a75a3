use std::collections::BTreeMap;

use domain::{AlertPolicy, Resolve, Severity, Source, StartFrom};
use proptest::prelude::*;

use super::*;

fn plan(condition: Condition, repeat: Option<&str>, resolve: Option<Resolve>) -> RulePlan {
    RulePlan {
        source: Source { bootstrap_servers: vec![], ..Source::default() },
        topics: vec!["t".into()],
        start_from: StartFrom::Latest,
        dead_letter_topic: None,
        matches: "true".into(),
        group_by: BTreeMap::new(),
        condition,
        severity: Severity::Info,
        title: String::new(),
        summary: String::new(),
        notify: vec![],
        repeat_interval: repeat.map(|text| Millis::parse(text).unwrap()),
        resolve,
        allowed_lateness: Millis::from_secs(2),
        policy: AlertPolicy::default(),
    }
}

fn frequency(count: i64, window: &str, repeat: Option<&str>, after: Option<&str>) -> RuleParams {
    let window = Millis::parse(window).unwrap();
    let resolve =
        Resolve { after: after.map(|text| Millis::parse(text).unwrap()), notify: true, below: None };
    RuleParams::from_plan(&plan(Condition::Frequency { count, window }, repeat, Some(resolve))).unwrap()
}

fn counts(buckets: &[(i64, i64)]) -> Vec<Bucket> {
    buckets
        .iter()
        .map(|(start_ms, count)| Bucket { start_ms: *start_ms, count: *count, extras: None })
        .collect()
}

/// The decisions' kinds, boundaries (seconds) and counts.
fn told(params: &RuleParams, buckets: &[(i64, i64)], to: i64) -> Vec<(AlertKind, i64, i64)> {
    let mut state = GroupState::default();
    advance(params, &mut state, &counts(buckets), None, 0, to)
        .iter()
        .map(|it| (it.kind, it.at_ms / 1000, it.count))
        .collect()
}

const FIRING: AlertKind = AlertKind::Firing;
const RESOLVED: AlertKind = AlertKind::Resolved;

#[test]
fn it_fires_at_the_end_of_the_bucket_that_reaches_the_count() {
    let params = frequency(20, "1m", None, None);
    assert_eq!(told(&params, &[(10_000, 19)], 200_000), vec![]);
    assert_eq!(told(&params, &[(10_000, 19), (40_000, 1)], 41_000), vec![(FIRING, 41, 20)]);
    assert_eq!(told(&params, &[(10_000, 19), (40_000, 1)], 40_999), vec![]);
}

#[test]
fn the_window_is_its_newest_whole_buckets() {
    let params = frequency(2, "1m", None, None);
    // At 71 s the window is 11 s to 71 s.
    assert_eq!(told(&params, &[(10_000, 1), (70_000, 1)], 300_000), vec![]);
    assert_eq!(told(&params, &[(11_000, 1), (70_000, 1)], 71_000), vec![(FIRING, 71, 2)]);
}

#[test]
fn an_episode_knows_its_first_bucket_and_its_window() {
    let params = frequency(1, "1m", None, None);
    let decision = &advance(&params, &mut GroupState::default(), &counts(&[(70_000, 3)]), None, 0, 71_000)[0];
    assert_eq!((decision.first_bucket_ms, decision.since_ms), (70_000, 71_000));
    assert_eq!((decision.window_start_ms, decision.window_end_ms), (11_000, 71_000));
}

#[test]
fn it_resolves_one_window_after_the_condition_became_false() {
    let params = frequency(1, "1m", None, None);
    // In the window from 11 s to 70 s; first false at 71 s; resolved at 131 s.
    assert_eq!(told(&params, &[(10_000, 1)], 400_000), vec![(FIRING, 11, 1), (RESOLVED, 131, 0)]);
    let params = frequency(1, "1m", None, Some("5m"));
    assert_eq!(told(&params, &[(10_000, 1)], 400_000), vec![(FIRING, 11, 1), (RESOLVED, 371, 0)]);
    let params = frequency(1, "1m", None, Some("0s"));
    assert_eq!(told(&params, &[(10_000, 1)], 400_000), vec![(FIRING, 11, 1), (RESOLVED, 71, 0)]);
}

#[test]
fn holding_again_before_it_resolves_is_the_same_episode() {
    let params = frequency(1, "1m", None, None);
    let decisions = told(&params, &[(10_000, 1), (100_000, 1)], 400_000);
    assert_eq!(decisions, vec![(FIRING, 11, 1), (RESOLVED, 221, 0)]);
}

#[test]
fn it_repeats_while_it_holds_and_counts_its_repeats() {
    let params = frequency(1, "1m", Some("20s"), None);
    assert_eq!(
        told(&params, &[(10_000, 1)], 400_000),
        vec![
            (FIRING, 11, 1),
            (AlertKind::Repeat { n: 1 }, 31, 1),
            (AlertKind::Repeat { n: 2 }, 51, 1),
            (RESOLVED, 131, 0)
        ]
    );
}

#[test]
fn a_repeat_that_falls_due_while_it_does_not_hold_comes_when_it_holds_again() {
    let params = frequency(1, "1m", Some("80s"), None);
    assert_eq!(
        told(&params, &[(10_000, 1), (100_000, 1)], 400_000),
        vec![(FIRING, 11, 1), (AlertKind::Repeat { n: 1 }, 101, 1), (RESOLVED, 221, 0)]
    );
}

#[test]
fn after_it_is_resolved_it_may_fire_again() {
    let params = frequency(1, "1m", None, Some("1s"));
    assert_eq!(
        told(&params, &[(10_000, 1), (80_000, 2)], 400_000),
        vec![(FIRING, 11, 1), (RESOLVED, 72, 0), (FIRING, 81, 2), (RESOLVED, 142, 0)]
    );
}

#[test]
fn a_resolution_is_silent_unless_the_rule_wants_to_hear_of_it() {
    let condition = Condition::Frequency { count: 1, window: Millis::from_secs(60) };
    let params = RuleParams::from_plan(&plan(condition, None, None)).unwrap();
    let decisions = advance(&params, &mut GroupState::default(), &counts(&[(10_000, 1)]), None, 0, 400_000);
    assert_eq!(decisions.iter().map(|it| it.notify).collect::<Vec<_>>(), vec![true, false]);
}

#[test]
fn any_is_an_alert_only_with_a_repeat_or_a_resolution() {
    assert_eq!(RuleParams::from_plan(&plan(Condition::Any, None, None)), None);
    let params = RuleParams::from_plan(&plan(Condition::Any, Some("1h"), None)).unwrap();
    assert_eq!(told(&params, &[(10_000, 1)], 10_000_000), vec![(FIRING, 11, 1), (RESOLVED, 12 + 3600, 0)]);
    let resolve = Resolve { after: None, notify: true, below: None };
    let params = RuleParams::from_plan(&plan(Condition::Any, None, Some(resolve))).unwrap();
    assert_eq!(
        told(&params, &[(10_000, 1), (300_000, 5)], 10_000_000),
        vec![(FIRING, 11, 1), (RESOLVED, 302 + 300, 0)]
    );
}

#[test]
fn the_watermark_decides_whole_buckets_after_the_allowed_lateness() {
    let params = frequency(1, "1m", None, None);
    assert_eq!(params.decided_to(13_999), 11_000);
    assert_eq!(params.decided_to(12_999), 10_000);
    assert!(params.is_late(9_000, Some(10_000)));
    assert!(!params.is_late(10_000, Some(10_000)));
    // At the next boundary, 11 s, the window begins at -49 s.
    assert_eq!(params.keep_from(10_000), -49_000);
}

#[test]
fn an_episode_closed_for_another_reason_ends_once() {
    let params = frequency(1, "1m", None, None);
    let mut state = GroupState::default();
    advance(&params, &mut state, &counts(&[(10_000, 4)]), None, 0, 20_000);
    let closed = state.close(25_000).unwrap();
    assert_eq!((closed.kind, closed.first_bucket_ms, closed.count), (RESOLVED, 10_000, 4));
    assert!(state.is_quiet() && state.close(26_000).is_none());
}

#[test]
fn the_state_is_small_and_reads_back() {
    assert_eq!(serde_json::to_string(&GroupState::default()).unwrap(), "{}");
    let params = frequency(1, "1m", None, None);
    let mut state = GroupState::default();
    advance(&params, &mut state, &counts(&[(10_000, 4)]), None, 0, 75_000);
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<GroupState>(&text).unwrap(), state);
    assert!(text.len() < 200, "{text}");
}

/// Three or more records in a minute, with changes to the rest of the plan.
fn three(change: impl FnOnce(&mut RulePlan)) -> RuleParams {
    let mut plan = plan(Condition::Frequency { count: 3, window: Millis::from_secs(60) }, None, None);
    plan.resolve = Some(Resolve { after: Some(Millis(0)), notify: true, below: None });
    change(&mut plan);
    RuleParams::from_plan(&plan).unwrap()
}

#[test]
fn it_fires_when_it_has_held_as_long_as_for_says_and_since_is_when_it_began_to_hold() {
    let params = three(|plan| plan.policy.hold = Millis::from_secs(30));
    let decisions = advance(&params, &mut GroupState::default(), &counts(&[(10_000, 3)]), None, 0, 400_000);
    let told: Vec<_> =
        decisions.iter().map(|it| (it.kind, it.at_ms, it.since_ms, it.first_bucket_ms)).collect();
    assert_eq!(told, [(FIRING, 41_000, 11_000, 10_000), (RESOLVED, 71_000, 11_000, 10_000)]);
}

#[test]
fn a_break_while_it_is_pending_begins_anew() {
    let params = three(|plan| plan.policy.hold = Millis::from_secs(61));
    // It holds from 11 s to 70 s, and from 101 s on for longer.
    let buckets = [(10_000, 3), (100_000, 3), (140_000, 3)];
    assert_eq!(told(&params, &buckets, 400_000), vec![(FIRING, 162, 3), (RESOLVED, 201, 0)]);
    let mut state = GroupState::default();
    advance(&params, &mut state, &counts(&buckets[..1]), None, 0, 50_000);
    assert_eq!(state.pending_ms, Some(11_000));
    advance(&params, &mut state, &counts(&buckets[..1]), None, 50_000, 71_000);
    assert!(state.is_blank());
}

#[test]
fn an_open_alert_goes_on_until_what_is_measured_is_below_the_hysteresis() {
    let params = three(|plan| plan.resolve.as_mut().unwrap().below = Some(2));
    // Five at 41 s, two at 71 s when the first three have left, none at 101 s.
    assert_eq!(
        told(&params, &[(10_000, 3), (40_000, 2)], 400_000),
        vec![(FIRING, 11, 3), (RESOLVED, 101, 0)]
    );
    assert_eq!(told(&params, &[(10_000, 2)], 400_000), vec![], "it fires at the count as before");
}

#[test]
fn each_repeat_waits_longer_than_the_one_before_up_to_a_day() {
    let params = three(|plan| {
        plan.repeat_interval = Some(Millis::from_secs(10));
        plan.policy.repeat_factor = 2_000;
    });
    let repeats = told(&params, &[(10_000, 3)], 70_000);
    assert_eq!(repeats.iter().map(|it| it.1).collect::<Vec<_>>(), [11, 21, 41]);
    let waits: Vec<_> = [0, 1, 2, 3, 60, i64::MAX].into_iter().map(|n| params.wait(n).unwrap()).collect();
    assert_eq!(waits, [10_000, 20_000, 40_000, 80_000, MAX_REPEAT, MAX_REPEAT]);
    let weekly = three(|plan| {
        plan.repeat_interval = Some(Millis::from_secs(7 * 86_400));
        plan.policy.repeat_factor = 10_000;
    });
    assert_eq!(weekly.wait(5), Some(7 * 86_400_000), "never sooner than repeatInterval");
}

#[test]
fn what_new_value_remembers_is_bounded_and_what_was_not_seen_for_longest_goes() {
    let condition = Condition::NewValue { path: "record.v".into(), learn_for: Millis(0) };
    let params = RuleParams::from_plan(&plan(condition, None, None)).unwrap();
    let bucket = |second: i64, value: String| Bucket {
        start_ms: second * 1_000,
        count: 1,
        extras: Some(Box::new(Extras::Values(domain::Values {
            counts: BTreeMap::from([(value, 1)]),
            others: 0,
        }))),
    };
    let kept = SEEN_KEPT as i64;
    let mut buckets: Vec<Bucket> = (0..kept).map(|n| bucket(n, format!("v{n}"))).collect();
    // The first value is seen again, so the second is forgotten for the new one.
    buckets.extend([
        bucket(kept, "v0".into()),
        bucket(kept + 1, "other".into()),
        bucket(kept + 2, "v0".into()),
    ]);
    buckets.push(bucket(kept + 3, "v1".into()));
    let mut state = GroupState::default();
    let decisions = advance(&params, &mut state, &buckets, None, 0, (kept + 10) * 1_000);
    assert_eq!(state.values.len(), SEEN_KEPT);
    assert!(state.is_quiet(), "without repeatInterval and resolve there is no state of alert");
    let new: Vec<_> =
        decisions.iter().filter_map(|it| it.seen.as_ref()).map(|seen| seen.value.as_str()).collect();
    assert_eq!(new[new.len() - 2..], ["other", "v1"]);
    assert_eq!(decisions.len() as i64, kept + 2);
}

/// The definitions, literally: every boundary, with every window summed anew.
fn brute(params: &RuleParams, buckets: &BTreeMap<i64, i64>, from: i64, to: i64) -> Vec<Decision> {
    let (width, n) = (params.buckets.width(), params.buckets.count());
    let (mut decisions, mut firing, mut false_since) = (Vec::new(), None::<(i64, i64, i64)>, None);
    let mut boundary = from + width;
    while boundary <= to {
        let count: i64 = (1..=n).filter_map(|back| buckets.get(&(boundary - back * width))).sum();
        let WindowTest::Frequency { count: least, .. } = params.test else { panic!("a frequency") };
        let holds = count >= least;
        let mut tell = |kind, since: i64| {
            decisions.push(Decision {
                kind,
                at_ms: boundary,
                first_bucket_ms: since - width,
                since_ms: since,
                count,
                window_start_ms: boundary - n * width,
                window_end_ms: boundary,
                notify: kind != AlertKind::Resolved || params.notify_resolved,
                seen: None,
            });
        };
        match (&mut firing, holds) {
            (None, false) => {}
            (None, true) => {
                firing = Some((boundary, boundary, 0));
                false_since = None;
                tell(AlertKind::Firing, boundary);
            }
            (Some((since, told, repeats)), true) => {
                false_since = None;
                if params.repeat.is_some_and(|interval| boundary - *told >= interval) {
                    *told = boundary;
                    *repeats += 1;
                    tell(AlertKind::Repeat { n: *repeats }, *since);
                }
            }
            (Some((since, ..)), false) => {
                let first = *false_since.get_or_insert(boundary);
                if boundary - first >= params.resolve_after {
                    tell(AlertKind::Resolved, *since);
                    firing = None;
                }
            }
        }
        boundary += width;
    }
    decisions
}

fn params() -> impl Strategy<Value = RuleParams> {
    (
        1..6_i64,
        prop_oneof![
            Just(500_i64),
            Just(1_000),
            1_000..20_000_i64,
            Just(60_000),
            Just(61_000),
            Just(4_000_000)
        ],
        prop::option::of(0..40_000_i64),
        prop::option::of(0..90_000_i64),
        any::<bool>(),
    )
        .prop_map(|(count, window, repeat, after, notify)| {
            let mut plan = plan(Condition::Frequency { count, window: Millis(window) }, None, None);
            plan.repeat_interval = repeat.map(Millis);
            plan.resolve = Some(Resolve { after: after.map(Millis), notify, below: None });
            RuleParams::from_plan(&plan).unwrap()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// In whatever steps a group is decided (also steps that end after some decisions), whatever is forgotten on the
    /// way, and whether or not the group is looked at when nothing is due: the decisions are those of the definitions.
    #[test]
    fn deciding_in_any_steps_is_as_if_every_boundary_were_visited(
        params in params(),
        records in prop::collection::vec((0..150_i64, 1..4_i64), 0..40),
        steps in prop::collection::vec(1..60_i64, 0..20),
        lazy in any::<bool>(),
        most in 1..4_usize,
    ) {
        let width = params.buckets.width();
        let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
        for (bucket, count) in &records {
            *counts.entry(bucket * width).or_default() += count;
        }
        let end = (150 + 3 * params.buckets.count() + 200) * width;
        let expected = brute(&params, &counts, 0, end);

        // `stood` is where the group was left; `from` is up to where all is decided.
        let (mut state, mut decisions, mut from, mut stood) = (GroupState::default(), Vec::new(), 0, 0);
        let mut known: BTreeMap<i64, i64> = BTreeMap::new();
        let boundaries = steps.iter().scan(0, |at, step| { *at += step * width; Some(*at) });
        for to in boundaries.filter(|to| *to < end).chain([end]) {
            // The counts of the buckets that are decided next arrive only now, perhaps with some ahead of them.
            known.extend(counts.range(from..to + 3 * width).map(|(start, count)| (*start, *count)));
            let slice: Vec<(i64, i64)> = known.iter().map(|(start, count)| (*start, *count)).collect();
            let slice = super::tests::counts(&slice);
            let due = next_due(&params, &state, &slice, None, from);
            if !lazy || due.is_some_and(|due| due <= to) {
                while stood < to {
                    let (some, at) = advance_at_most(&params, &mut state, &slice, None, (stood, to), most);
                    prop_assert!(some.len() <= most && at > stood);
                    decisions.extend(some);
                    stood = at;
                }
            }
            from = to;
            known = known.split_off(&params.keep_from(stood));
        }
        prop_assert_eq!(&decisions, &expected);
    }

    /// `next_due` is the first boundary at which the state changes or a notification is due.
    #[test]
    fn what_is_next_due_is_neither_early_nor_late(
        params in params(),
        records in prop::collection::vec((0..60_i64, 1..4_i64), 0..20),
        at in 0..120_i64,
    ) {
        let width = params.buckets.width();
        let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
        for (bucket, count) in &records {
            *counts.entry(bucket * width).or_default() += count;
        }
        let slice: Vec<(i64, i64)> = counts.into_iter().collect();
        let slice = super::tests::counts(&slice);
        let mut state = GroupState::default();
        advance(&params, &mut state, &slice, None, 0, at * width);
        let mut after = state.clone();
        if let Some(due) = next_due(&params, &state, &slice, None, at * width) {
            prop_assert!(due > at * width && due % width == 0);
            prop_assert!(advance(&params, &mut after, &slice, None, at * width, due - width).is_empty());
            prop_assert_eq!(&after, &state);
            let told = advance(&params, &mut after, &slice, None, at * width, due);
            prop_assert!(!told.is_empty() || after != state);
        } else {
            prop_assert!(advance(&params, &mut after, &slice, None, at * width, i64::MAX / 4).is_empty());
            prop_assert_eq!(after, state);
        }
    }
}
