use serde_json::json;

use super::*;
use crate::soak::rules::Resolve;

fn rule(condition: Condition, repeat_ms: Option<i64>, resolve: Option<Resolve>) -> SoakRule {
    SoakRule {
        name: "r",
        topics: &[0],
        cel: "",
        matches: |value| value["bad"] == true,
        group: &["g"],
        condition,
        hold_ms: 0,
        repeat_ms,
        repeat_factor: 1,
        resolve,
        channels: &["c"],
    }
}

fn frequency(count: i64, window_ms: i64) -> Condition {
    Condition::Frequency { count, window_ms }
}

fn after(ms: i64) -> Resolve {
    Resolve { after_ms: Some(ms), notify: true, below: None }
}

fn bad(time_ms: i64, group: &str) -> Seen {
    let value = json!({"bad": true, "g": group, "n": time_ms});
    Seen { topic: 0, partition: 0, offset: time_ms, time_ms, value }
}

/// A record of group `a` with a value.
fn with(time_ms: i64, value: Value) -> Seen {
    let mut seen = bad(time_ms, "a");
    seen.value["v"] = value;
    seen
}

fn told(rule: &SoakRule, records: &[Seen]) -> Vec<(String, i64, i64)> {
    recount(std::slice::from_ref(rule), records, 0)
        .into_iter()
        .map(|one| match one.what {
            What::Alert { end_ms, kind, .. } => (kind, end_ms, one.count),
            What::Record { offset, .. } => ("record".to_owned(), offset, one.count),
        })
        .collect()
}

/// Boundaries and titles.
fn titles(rule: &SoakRule, records: &[Seen], observed_ms: i64) -> Vec<(i64, String)> {
    recount(std::slice::from_ref(rule), records, observed_ms)
        .into_iter()
        .map(|one| match one.what {
            What::Alert { end_ms, .. } => (end_ms, one.title),
            What::Record { offset, .. } => (offset, one.title),
        })
        .collect()
}

fn title(end_ms: i64, title: &str) -> (i64, String) {
    (end_ms, title.to_owned())
}

fn say(kind: &str, end_ms: i64, count: i64) -> (String, i64, i64) {
    (kind.to_owned(), end_ms, count)
}

#[test]
fn each_matching_record_is_told_once_and_others_are_not() {
    let good = Seen { value: json!({"bad": false, "g": "a"}), ..bad(7, "a") };
    let all = told(&rule(Condition::Any, None, None), &[bad(5, "a"), good, bad(9, "a")]);
    assert_eq!(all, [say("record", 5, 1), say("record", 9, 1)]);
}

#[test]
fn it_fires_at_the_end_of_the_bucket_that_completes_the_count() {
    let records = [bad(1_100, "a"), bad(2_200, "a"), bad(3_999, "a")];
    assert_eq!(told(&rule(frequency(3, 10_000), None, None), &records), [say("firing", 4_000, 3)]);
    assert_eq!(told(&rule(frequency(4, 10_000), None, None), &records), []);
}

#[test]
fn a_window_is_half_open_so_a_record_on_the_boundary_belongs_to_the_next_bucket() {
    let records = [bad(1_000, "a"), bad(2_000, "a")];
    assert_eq!(told(&rule(frequency(2, 2_000), None, None), &records), [say("firing", 3_000, 2)]);
    assert_eq!(told(&rule(frequency(2, 1_000), None, None), &records), []);
}

#[test]
fn groups_count_apart() {
    let records = [bad(1_100, "a"), bad(1_200, "b"), bad(1_300, "b")];
    let all = recount(&[rule(frequency(2, 5_000), None, None)], &records, 0);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].group, "g=b");
}

#[test]
fn order_of_arrival_does_not_matter() {
    let mut records = [bad(4_500, "a"), bad(1_100, "a"), bad(2_200, "a"), bad(9_000, "a")];
    let policy = rule(frequency(2, 3_000), Some(2_000), Some(after(1_000)));
    let forward = told(&policy, &records);
    records.reverse();
    assert_eq!(forward, told(&policy, &records));
}

#[test]
fn it_repeats_while_it_holds_and_resolves_after_it_was_false_for_long_enough() {
    // Two within 5 s hold at the boundaries 3 s to 6 s (window of records 1.1 s and 2.2 s).
    let records = [bad(1_100, "a"), bad(2_200, "a")];
    let policy = rule(frequency(2, 5_000), Some(2_000), Some(after(3_000)));
    assert_eq!(
        told(&policy, &records),
        [say("firing", 3_000, 2), say("repeat 1", 5_000, 2), say("resolved", 10_000, 0)]
    );
}

#[test]
fn a_condition_that_holds_again_in_time_keeps_the_alert_open() {
    let records = [bad(1_100, "a"), bad(1_200, "a"), bad(4_100, "a"), bad(4_200, "a")];
    let policy = rule(frequency(2, 1_000), None, Some(after(3_000)));
    assert_eq!(told(&policy, &records), [say("firing", 2_000, 2), say("resolved", 9_000, 0)]);
}

#[test]
fn without_a_wish_to_hear_of_it_the_end_is_silent_and_the_next_alert_is_a_new_one() {
    let records = [bad(1_100, "a"), bad(20_500, "a")];
    let policy = rule(frequency(1, 1_000), None, None);
    assert_eq!(told(&policy, &records), [say("firing", 2_000, 1), say("firing", 21_000, 1)]);
}

#[test]
fn by_default_an_alert_is_over_after_one_window() {
    let records = [bad(1_100, "a")];
    let policy = rule(frequency(1, 4_000), None, Some(Resolve { after_ms: None, notify: true, below: None }));
    // It holds at 2 to 5 s, is false from 6 s on, for 4 s.
    assert_eq!(told(&policy, &records), [say("firing", 2_000, 1), say("resolved", 10_000, 0)]);
}

#[test]
fn any_with_a_repeat_is_an_alert_that_ends_after_the_repeat_interval() {
    let records = [bad(1_100, "a"), bad(3_100, "a"), bad(3_200, "a"), bad(30_000, "a")];
    let policy = rule(Condition::Any, Some(2_000), None);
    assert_eq!(
        told(&policy, &records),
        [say("firing", 2_000, 1), say("repeat 1", 4_000, 2), say("firing", 31_000, 1)]
    );
}

#[test]
fn buckets_grow_with_the_window_up_to_five_seconds_and_then_with_720_of_them() {
    for (window, width) in
        [(1_000, 1_000), (60_000, 1_000), (120_000, 2_000), (3_600_000, 5_000), (7_200_000, 10_000)]
    {
        assert_eq!(bucket_width(window), width, "{window}");
    }
}

#[test]
fn a_window_that_is_no_multiple_of_its_buckets_is_made_of_whole_ones() {
    // 90 s: buckets of 1.5 s, 60 of them. 61 s: buckets of 1,016 ms, 60 of them.
    let ninety = Lengths::from_rule(&rule(frequency(1, 90_000), None, None));
    assert_eq!((ninety.width, ninety.span), (1_500, 90_000));
    let odd = Lengths::from_rule(&rule(frequency(1, 61_000), None, None));
    assert_eq!((odd.width, odd.span), (1_016, 60_960));
}

#[test]
fn only_records_of_the_rules_topics_count() {
    let elsewhere = Seen { topic: 1, ..bad(5, "a") };
    assert_eq!(told(&rule(Condition::Any, None, None), &[bad(7, "a"), elsewhere]), [say("record", 7, 1)]);
}

#[test]
fn a_late_record_changes_nothing_but_numbers_and_is_told_by_a_rule_that_speaks_for_each() {
    let records = [bad(1_100, "a"), bad(9_200, "a"), bad(9_300, "a")];
    let pair = rule(frequency(1, 1_000), None, None);
    let all = recount(std::slice::from_ref(&pair), &records, 5_000);
    assert_eq!(all.len(), 1);
    assert_eq!(numbers(&pair, &records, 5_000), Numbers { matched: 3, late: 1, without_value: 0 });
    let each = rule(Condition::Any, None, None);
    assert_eq!(recount(&[each], &records, 5_000).len(), 3);
    assert_eq!(numbers(&each, &records, 5_000).late, 0);
}

#[test]
fn a_condition_must_hold_for_so_long_without_a_break_and_began_when_it_began_to_hold() {
    // One within 3 s holds at 2, 3 and 4 s, and at 10 to 13 s.
    let held = SoakRule { hold_ms: 3_000, ..rule(frequency(1, 3_000), None, None) };
    assert_eq!(told(&held, &[bad(1_100, "a")]), []);
    let all = recount(&[held], &[bad(1_100, "a"), bad(9_100, "a"), bad(10_100, "a")], 0);
    assert_eq!(all.len(), 1);
    let what = What::Alert { end_ms: 13_000, kind: "firing".to_owned(), since_ms: 10_000 };
    assert_eq!((&all[0].what, all[0].count), (&what, 1));
}

#[test]
fn each_repeat_waits_so_many_times_longer_than_the_one_before() {
    let records: Vec<Seen> = (1..20).map(|second| bad(second * 1_000, "a")).collect();
    let rule = SoakRule { repeat_factor: 2, ..rule(frequency(1, 1_000), Some(2_000), None) };
    let all: Vec<i64> = told(&rule, &records).into_iter().map(|(_, at, _)| at).collect();
    assert_eq!(all, [2_000, 4_000, 8_000, 16_000]);
}

#[test]
fn an_open_alert_goes_on_until_the_count_is_below() {
    // Within 2 s: three at 2 and 3 s, one at 4 and 5 s, none from 6 s on.
    let records = [bad(1_100, "a"), bad(1_200, "a"), bad(1_300, "a"), bad(3_100, "a")];
    let resolve = |below| Some(Resolve { after_ms: Some(1_000), notify: true, below });
    let plain = rule(frequency(3, 2_000), None, resolve(None));
    assert_eq!(told(&plain, &records), [say("firing", 2_000, 3), say("resolved", 5_000, 1)]);
    let slow = rule(frequency(3, 2_000), None, resolve(Some(1)));
    assert_eq!(told(&slow, &records), [say("firing", 2_000, 3), say("resolved", 7_000, 0)]);
}

#[test]
fn a_spike_is_a_window_with_so_many_times_as_many_as_the_one_before_or_the_other_way_round() {
    // Windows of 2 s. One record in [0, 2), four in [2, 4), none after.
    let records = [bad(500, "a"), bad(2_100, "a"), bad(2_200, "a"), bad(2_300, "a"), bad(2_400, "a")];
    let spike = rule(Condition::Spike { ratio: 3, window_ms: 2_000, min_count: 4 }, None, Some(after(1_000)));
    assert_eq!(
        titles(&spike, &records, 0),
        [
            // At 4 s 4 after 1, at 5 s 0 after 4 (the newest is [3, 5)), at 6 s too; at 7 s nothing any more.
            title(4_000, "firing 4: 4 after 1"),
            title(8_000, "resolved 0"),
        ]
    );
    let few = SoakRule { condition: Condition::Spike { ratio: 5, window_ms: 2_000, min_count: 4 }, ..spike };
    assert_eq!(titles(&few, &records, 0)[0], title(5_000, "firing 0: 0 after 4"));
}

#[test]
fn nothing_is_told_of_a_spike_before_two_windows_were_seen() {
    let records = [bad(2_100, "a"), bad(2_200, "a"), bad(3_100, "a"), bad(3_200, "a")];
    let spike = rule(Condition::Spike { ratio: 2, window_ms: 1_000, min_count: 2 }, None, None);
    assert_eq!(titles(&spike, &records, 0)[0].0, 3_000);
    assert_eq!(titles(&spike, &records, 1_500)[0].0, 5_000);
}

fn flatline(named: &'static [&'static str]) -> SoakRule {
    rule(Condition::Flatline { below: 1, window_ms: 3_000, named }, None, Some(after(1_000)))
}

#[test]
fn silence_is_told_of_a_group_that_was_seen_once_a_window_without_it_has_passed() {
    // Seen at 2.5 s: its first bucket begins at 2 s. Silent in [3, 6), until 7.5 s.
    let records = [bad(2_500, "a"), bad(7_500, "a")];
    let all = titles(&flatline(&[]), &records, 0);
    let first = [title(6_000, "firing 0"), title(9_000, "resolved 1"), title(11_000, "firing 0")];
    assert_eq!(all, first);
}

#[test]
fn silence_of_a_named_group_counts_from_when_the_rule_began_to_see() {
    let said = recount(&[flatline(&["a", "never"])], &[bad(2_500, "a")], 1_200);
    let firing: Vec<(&str, &What)> = said.iter().map(|one| (one.group.as_str(), &one.what)).collect();
    let at = |end_ms| What::Alert { end_ms, kind: "firing".to_owned(), since_ms: end_ms };
    assert_eq!(firing, [("g=a", &at(6_000)), ("g=never", &at(5_000))]);
}

#[test]
fn a_rule_without_groups_watches_its_one() {
    let one = SoakRule { group: &[], ..flatline(&[]) };
    assert_eq!(titles(&one, &[], 0), [title(3_000, "firing 0")]);
}

#[test]
fn a_new_value_is_one_that_no_bucket_before_had_and_values_are_only_remembered_at_first() {
    let records = [
        with(1_100, json!("x")),
        with(2_100, json!("y")),
        with(4_100, json!("y")),
        with(4_200, json!("w")),
        with(4_300, json!(7)),
        with(5_200, json!("w")),
        with(5_300, Value::Null),
    ];
    let new = rule(Condition::NewValue { field: "v", learn_ms: 2_000 }, None, None);
    assert_eq!(titles(&new, &records, 0), [title(5_000, "firing 3: 7 w")]);
    assert_eq!(numbers(&new, &records, 0), Numbers { matched: 6, late: 0, without_value: 1 });
    // At 3 s it is not later than 2 s after the start of the first bucket; at 2 s the first is new with nothing to learn.
    let all = rule(Condition::NewValue { field: "v", learn_ms: 0 }, None, None);
    assert_eq!(titles(&all, &records, 0).len(), 3);
}

#[test]
fn distinct_values_are_counted_and_an_open_alert_goes_on_until_there_are_fewer() {
    let records = [
        with(1_100, json!("x")),
        with(1_200, json!("x")),
        with(1_300, json!("y")),
        with(2_100, json!("z")),
        with(3_100, json!("z")),
    ];
    let resolve = Some(Resolve { after_ms: Some(1_000), notify: true, below: Some(1) });
    let many = Condition::Cardinality { field: "v", window_ms: 2_000, above: 2 };
    // Distinct within 2 s: 2, 3, 1, 1, 0 at 2 to 6 s.
    assert_eq!(
        titles(&rule(many, None, resolve), &records, 0),
        [title(3_000, "firing 4: 3"), title(7_000, "resolved 0")]
    );
}

#[test]
fn a_change_is_in_the_order_of_time_topic_partition_and_offset() {
    let change = rule(Condition::Change { field: "v" }, None, None);
    let records =
        [with(1_100, json!(1)), with(1_500, json!(1)), with(3_100, json!(2)), with(3_200, json!(1))];
    // It goes and comes back within one bucket.
    assert_eq!(titles(&change, &records, 0), [title(4_000, "firing 2: 1 after 1")]);
    let mut same_time = [with(1_100, json!("b")), with(1_100, json!("a"))];
    same_time[0].partition = 1;
    assert_eq!(titles(&change, &same_time, 0), [title(2_000, "firing 2: b after a")]);
}

#[test]
fn an_extreme_is_beyond_all_before_and_the_first_record_that_has_it_is_told() {
    let highest = rule(Condition::Extreme { field: "v" }, None, None);
    let records = [
        with(1_100, json!(5)),
        with(2_100, json!(5)),
        with(2_200, json!(4)),
        with(3_100, json!(9)),
        with(3_200, json!(7)),
        with(3_300, json!(9)),
        with(3_400, json!("12")),
    ];
    assert_eq!(titles(&highest, &records, 0), [title(4_000, "firing 3: 9 after 5 in 3100")]);
    let once = [with(1_100, json!(5)), with(1_200, json!(6))];
    assert_eq!(titles(&highest, &once, 0), [title(2_000, "firing 2: 6 after 5 in 1200")]);
}

#[test]
fn a_share_is_of_enough_records_and_more_than_the_limit() {
    let of = |value: &Value| value["v"] == 1;
    let ratio =
        |above_percent| Condition::Ratio { cel: "", of, window_ms: 2_000, min_count: 3, above_percent };
    let records =
        [with(1_100, json!(1)), with(1_200, json!(0)), with(2_100, json!(0)), with(2_200, Value::Null)];
    let resolve = Some(Resolve { after_ms: Some(1_000), notify: true, below: None });
    // At 2 s there are two; at 3 s one of four; at 4 s two again.
    assert_eq!(
        titles(&rule(ratio(24), None, resolve), &records, 0),
        [title(3_000, "firing 4: 25%"), title(5_000, "resolved 0")]
    );
    assert_eq!(titles(&rule(ratio(25), None, resolve), &records, 0), []);
    let third = &records[..3];
    assert_eq!(titles(&rule(ratio(1), None, None), third, 0), [title(3_000, "firing 3: 33.333%")]);
}

#[test]
fn after_the_last_boundary_nothing_can_change() {
    let hold = SoakRule { hold_ms: 2_000, ..rule(frequency(1, 10_000), None, Some(after(4_000))) };
    let each = rule(Condition::Change { field: "v" }, None, None);
    let of = |rule: SoakRule| last_boundary(&[rule], 1_000_000) - 1_000_000;
    let spike = Condition::Spike { ratio: 2, window_ms: 10_000, min_count: 1 };
    assert_eq!((of(hold), of(SoakRule { condition: spike, ..hold }), of(each)), (19_000, 29_000, 4_000));
}
