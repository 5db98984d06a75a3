use serde_json::json;

use super::*;
use crate::soak::rules::Resolve;

fn rule(condition: Condition, repeat_ms: Option<i64>, resolve: Option<Resolve>) -> Rule {
    Rule {
        name: "r",
        cel: "",
        matches: |value| value["bad"] == true,
        group: &["g"],
        condition,
        repeat_ms,
        resolve,
        channels: &["c"],
    }
}

fn frequency(count: i64, window_ms: i64) -> Condition {
    Condition::Frequency { count, window_ms }
}

fn bad(time_ms: i64, group: &str) -> Seen {
    Seen { partition: 0, offset: time_ms, time_ms, value: json!({"bad": true, "g": group, "n": time_ms}) }
}

fn told(rule: &Rule, records: &[Seen]) -> Vec<(String, i64, i64)> {
    recount(std::slice::from_ref(rule), records)
        .into_iter()
        .map(|one| match one.what {
            What::Alert { end_ms, kind, .. } => (kind, end_ms, one.count),
            What::Record { offset, .. } => ("record".to_owned(), offset, one.count),
        })
        .collect()
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
    let all = recount(&[rule(frequency(2, 5_000), None, None)], &records);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].group, "g=b");
}

#[test]
fn order_of_arrival_does_not_matter() {
    let mut records = [bad(4_500, "a"), bad(1_100, "a"), bad(2_200, "a"), bad(9_000, "a")];
    let policy =
        rule(frequency(2, 3_000), Some(2_000), Some(Resolve { after_ms: Some(1_000), notify: true }));
    let forward = told(&policy, &records);
    records.reverse();
    assert_eq!(forward, told(&policy, &records));
}

#[test]
fn it_repeats_while_it_holds_and_resolves_after_it_was_false_for_long_enough() {
    // Two within 5 s hold at the boundaries 3 s to 6 s (window of records 1.1 s and 2.2 s).
    let records = [bad(1_100, "a"), bad(2_200, "a")];
    let policy =
        rule(frequency(2, 5_000), Some(2_000), Some(Resolve { after_ms: Some(3_000), notify: true }));
    assert_eq!(
        told(&policy, &records),
        [say("firing", 3_000, 2), say("repeat 1", 5_000, 2), say("resolved", 10_000, 0)]
    );
}

#[test]
fn a_condition_that_holds_again_in_time_keeps_the_alert_open() {
    let records = [bad(1_100, "a"), bad(1_200, "a"), bad(4_100, "a"), bad(4_200, "a")];
    let policy = rule(frequency(2, 1_000), None, Some(Resolve { after_ms: Some(3_000), notify: true }));
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
    let policy = rule(frequency(1, 4_000), None, Some(Resolve { after_ms: None, notify: true }));
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
    let ninety = Alert::of(&rule(frequency(1, 90_000), None, None));
    assert_eq!((ninety.width, ninety.buckets), (1_500, 60));
    let odd = Alert::of(&rule(frequency(1, 61_000), None, None));
    assert_eq!((odd.width, odd.buckets), (1_016, 60));
}
