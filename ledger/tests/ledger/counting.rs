//! Clauses of docs/semantics.md: R2, R4, R5, R6, R8, E5, E11, E13.

use domain::{AlertKind, Cause, DropReason, Millis};
use ledger::Error;
use protocol::messages::{Commit, Entry, EntryResult, PositionsRequest, Survey, TopicEnds};

use crate::bed::*;

#[tokio::test]
async fn an_entry_from_another_offset_than_the_stored_one_is_refused_and_the_others_are_accepted() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), any()]).await;
    bed.open(2).await;
    let entries = vec![
        entry(0, 3, 5),
        Entry { records: vec![], ..entry(1, 0, 4) },
        entry(7, 0, 1),
        Entry { topic_id: "BBBB".into(), ..entry(0, 0, 1) },
    ];
    let result = bed.commit(entries, 1).await;
    assert_eq!(
        result.entries,
        [EntryResult::Elsewhere(0), EntryResult::Accepted(4), EntryResult::Unknown, EntryResult::Unknown]
    );
    // As consumers of the previous release read them.
    let on_the_wire = serde_json::to_string(&result.entries[..3]).unwrap();
    let each =
        [r#"{"status":409,"offset":0}"#, r#"{"status":200,"offset":4}"#, r#"{"status":404,"offset":0}"#];
    assert_eq!(on_the_wire, format!("[{}]", each.join(",")));
}

#[tokio::test]
async fn a_commit_sent_again_after_a_lost_answer_counts_nothing_twice() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), any()]).await;
    bed.open(1).await;
    assert!(bed.records(0, 3, 1).await.entries[0].is_accepted());
    let again = bed.records(0, 3, 2).await.entries[0];
    assert_eq!(again, EntryResult::Elsewhere(3));
    assert_eq!(bed.stories().await.len(), 3);
}

#[tokio::test]
async fn an_entry_that_reads_nothing_and_counts_is_refused_as_a_whole() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), any()]).await;
    bed.open(1).await;
    let plan = bed.ledger.source_plan(NS, &source()).unwrap();
    let rules = plan.rules.iter().map(|(uid, rule)| (*uid, rule.state.clone())).collect();
    let entries = vec![Entry { records: vec![matched(0, "pay")], ..entry(0, 0, 0) }];
    let commit = Commit { revision: plan.revision.clone(), rules, survey: None, entries };
    let error = bed.ledger.commit(NS, &source(), commit, at(1)).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
}

#[tokio::test]
async fn a_bucket_is_decided_when_every_partition_has_passed_it() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), three()]).await;
    bed.open(2).await;
    let counts = vec![count("pay", 5, 2)];
    bed.commit(vec![until(Entry { counts, ..entry(0, 0, 2) }, 60)], 61).await;
    assert_eq!(bed.titles().await.len(), 0, "the other partition has said nothing");
    let counts = vec![count("pay", 6, 1)];
    bed.commit(vec![until(Entry { counts, ..entry(1, 0, 1) }, 6)], 62).await;
    assert_eq!(bed.titles().await.len(), 0, "the bucket that ends at 7 is not decided");
    bed.commit(vec![until(entry(1, 1, 1), 7)], 63).await;
    assert_eq!(bed.titles().await, ["three firing 3"]);
    bed.commit(vec![until(entry(1, 1, 1), 60)], 64).await;
    assert_eq!(bed.titles().await, ["three firing 3", "three resolved 0"]);
}

#[tokio::test]
async fn a_rule_is_decided_no_further_than_it_is_known_which_partitions_its_topics_have() {
    let bed = Bed::new().await;
    let both = changed(three(), |rule| rule.topics = vec![TOPIC.into(), "later".into()]);
    bed.put(vec![hook(), both]).await;
    bed.open(1).await;
    let survey = |second, topics: &[&str]| {
        let topics = topics.iter().map(ToString::to_string).collect();
        Some(Survey { at_ms: at(second).as_millisecond(), topics })
    };
    let counts = vec![count("pay", 5, 2)];
    let told = until(Entry { counts, ..entry(0, 0, 2) }, 60);
    bed.commit_surveyed(vec![told], survey(60, &[TOPIC]), 61).await;
    assert_eq!(bed.ledger.totals().await.unwrap().groups, 1, "nobody asked for the other topic");
    bed.commit_surveyed(vec![until(entry(0, 2, 2), 60)], survey(5, &[TOPIC, "later"]), 62).await;
    // The other topic's record came a second later, and in time.
    let topic = TopicEnds { topic: "later".into(), topic_id: "ID".into(), partitions: vec![(0, 0)] };
    let request = PositionsRequest { topics: vec![topic] };
    bed.ledger.positions(NS, &source(), request).await.unwrap();
    let counts = vec![count("pay", 6, 1)];
    let later = Entry { topic: "later".into(), topic_id: "ID".into(), counts, ..entry(0, 0, 1) };
    bed.commit_surveyed(vec![until(later, 60)], survey(60, &[TOPIC, "later"]), 63).await;
    assert_eq!(bed.titles().await, ["three firing 3", "three resolved 0"]);
    assert_eq!(bed.ledger.totals().await.unwrap().late, 0);
}

#[tokio::test]
async fn an_alert_tells_its_window_and_the_records_it_rests_on() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), three()]).await;
    bed.open(1).await;
    let counts = vec![count("pay", 5, 2), count("pay", 8, 1)];
    bed.commit(vec![until(Entry { counts, ..entry(0, 0, 3) }, 9)], 10).await;
    let story = bed.stories().await.remove(0);
    let Cause::Alert { alert, .. } = story.notification.cause else { panic!("{story:?}") };
    assert_eq!(alert.kind, AlertKind::Firing);
    assert_eq!((alert.window_start, alert.window_end, alert.since), (at(-1), at(9), at(9)));
    assert_eq!(alert.records.iter().map(|record| record.offset).collect::<Vec<_>>(), [5, 8]);
    assert_eq!(story.notification.group, group("pay"));
}

#[tokio::test]
async fn a_record_after_its_bucket_was_decided_is_late_and_changes_nothing() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), three()]).await;
    bed.open(1).await;
    bed.commit(vec![until(Entry { counts: vec![count("pay", 5, 2)], ..entry(0, 0, 2) }, 20)], 21).await;
    bed.commit(vec![until(Entry { counts: vec![count("pay", 5, 1)], ..entry(0, 2, 3) }, 40)], 41).await;
    assert_eq!(bed.titles().await.len(), 0);
    let counts = bed.ledger.totals().await.unwrap();
    assert_eq!((counts.matched, counts.late, counts.groups), (3, 1, 0));
}

#[tokio::test]
async fn allowed_lateness_holds_a_bucket_open() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), changed(three(), |rule| rule.allowed_lateness = Millis::from_secs(4))]).await;
    bed.open(1).await;
    bed.commit(vec![until(Entry { counts: vec![count("pay", 5, 2)], ..entry(0, 0, 2) }, 9)], 9).await;
    bed.commit(vec![until(Entry { counts: vec![count("pay", 5, 1)], ..entry(0, 2, 3) }, 10)], 10).await;
    assert_eq!(bed.titles().await, ["three firing 3"]);
}

#[tokio::test]
async fn counts_of_a_rule_or_a_state_that_is_not_in_the_plan_are_dropped() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), three()]).await;
    bed.open(1).await;
    let plan = bed.ledger.source_plan(NS, &source()).unwrap();
    let old = plan.rules.iter().map(|(uid, rule)| (*uid, rule.state.clone())).collect();
    bed.put(vec![changed(three(), |rule| rule.matches = "false".into())]).await;
    let entries = vec![until(Entry { counts: vec![count("pay", 5, 3)], ..entry(0, 0, 3) }, 60)];
    let commit = Commit { revision: plan.revision.clone(), rules: old, survey: None, entries };
    let result = bed.ledger.commit(NS, &source(), commit, at(61)).await.unwrap();
    assert!(result.entries[0].is_accepted());
    assert_ne!(result.revision, plan.revision);
    assert_eq!(bed.ledger.totals().await.unwrap().matched, 0);
    assert_eq!(bed.titles().await.len(), 0);
}

#[tokio::test]
async fn a_changed_condition_closes_open_alerts_with_that_reason_and_starts_anew() {
    let bed = Bed::new().await;
    let titled = || changed(three(), |rule| rule.summary = TITLED.into());
    bed.put(vec![hook(), titled()]).await;
    bed.open(1).await;
    bed.commit(vec![until(Entry { counts: vec![count("pay", 5, 3)], ..entry(0, 0, 3) }, 7)], 7).await;
    let mut other = changed(titled(), |rule| rule.matches = "record.x".into());
    other.generation += 1;
    bed.put(vec![other]).await;
    let stories = bed.stories().await;
    let Cause::Alert { alert, .. } = &stories[1].notification.cause else { panic!("{stories:?}") };
    assert_eq!((alert.kind, alert.closed.as_deref()), (AlertKind::Resolved, Some("RuleChanged")));
    let Cause::Alert { alert: fired, .. } = &stories[0].notification.cause else { panic!("{stories:?}") };
    assert_eq!((fired.episode, stories[0].notification.id), (alert.episode, alert.first()));
    // Nobody knows whether the alert is over.
    assert_eq!(stories[1].notification.title, "Closed, its rule was changed: three closed 3");
    assert_eq!(bed.ledger.totals().await.unwrap().groups, 0);
}

#[tokio::test]
async fn changed_texts_and_routes_keep_the_alerts_state() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), three()]).await;
    bed.open(1).await;
    bed.commit(vec![until(Entry { counts: vec![count("pay", 5, 3)], ..entry(0, 0, 3) }, 7)], 7).await;
    bed.put(vec![changed(three(), |rule| rule.title = "other".into())]).await;
    bed.commit(vec![until(entry(0, 3, 3), 60)], 60).await;
    assert_eq!(bed.titles().await, ["three firing 3", "three resolved 0"]);
}

#[tokio::test]
async fn a_suspended_rule_passes_over_its_records_and_keeps_its_place() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), any()]).await;
    bed.open(1).await;
    let mut plan = any();
    (plan.suspended, plan.generation) = (true, 2);
    bed.put(vec![plan]).await;
    let source_plan = bed.ledger.source_plan(NS, &source()).unwrap();
    assert!(source_plan.rules.is_empty() && source_plan.topics == [TOPIC]);
    assert!(bed.records(0, 3, 1).await.entries[0].is_accepted());
    assert_eq!(bed.stories().await.len(), 0);
}

#[tokio::test]
async fn a_topic_is_opened_once_where_start_from_says_and_a_later_partition_at_its_first_record() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), any()]).await;
    let ends = |id: &str, partitions: &[(i64, i64)]| PositionsRequest {
        topics: vec![
            TopicEnds { topic: TOPIC.into(), topic_id: id.into(), partitions: partitions.to_vec() },
            TopicEnds { topic: "nobody-reads-this".into(), topic_id: "x".into(), partitions: vec![(0, 9)] },
        ],
    };
    let ask = async |id: &str, partitions: &[(i64, i64)]| {
        let answer = bed.ledger.positions(NS, &source(), ends(id, partitions)).await.unwrap();
        assert_eq!(answer.topics.len(), 1);
        answer.topics[TOPIC].clone()
    };
    assert_eq!(ask(TOPIC_ID, &[(2, 7)]).await, [7]);
    assert_eq!(ask(TOPIC_ID, &[(2, 90), (0, 5)]).await, [7, 0]);
    assert_eq!(ask("BBBB", &[(1, 4), (0, 5)]).await, [1, 0], "a topic made again holds what nobody read");
    assert_eq!(ask("BBBB", &[(1, 40), (0, 50)]).await, [1, 0]);
}

#[tokio::test]
async fn a_topic_that_any_rule_wants_from_its_beginning_is_opened_there() {
    let bed = Bed::new().await;
    let early = rule(uuid::Uuid::from_u128(7), "early", |rule| {
        rule.start_from = domain::StartFrom::Earliest;
    });
    bed.put(vec![hook(), any(), early]).await;
    let ends = TopicEnds { topic: TOPIC.into(), topic_id: TOPIC_ID.into(), partitions: vec![(2, 7)] };
    let request = PositionsRequest { topics: vec![ends] };
    let positions = bed.ledger.positions(NS, &source(), request).await.unwrap();
    assert_eq!(positions.topics[TOPIC], [2]);
}

#[tokio::test]
async fn a_namespace_over_its_quota_is_told_to_wait_and_keeps_what_it_has() {
    let bed = Bed::with(|options| (options.max_pending, options.max_groups) = (3, 1)).await;
    bed.put(vec![hook(), any()]).await;
    bed.open(1).await;
    bed.records(0, 3, 1).await;
    let plan = bed.ledger.source_plan(NS, &source()).unwrap();
    let rules: std::collections::BTreeMap<_, _> =
        plan.rules.iter().map(|(uid, rule)| (*uid, rule.state.clone())).collect();
    let commit =
        |entries| Commit { revision: plan.revision.clone(), rules: rules.clone(), survey: None, entries };
    let error = bed.ledger.commit(NS, &source(), commit(vec![entry(0, 3, 4)]), at(2)).await.unwrap_err();
    assert!(matches!(error, Error::OverQuota { what: "pending deliveries", limit: 3, .. }), "{error}");
    let tasks = bed.claim(protocol::messages::Pool::Send, 3).await;
    bed.told(&tasks, &domain::Outcome::Delivered, 3).await;
    assert!(bed.records(3, 4, 4).await.entries[0].is_accepted(), "the refused commit left nothing behind");
}

#[tokio::test]
async fn groups_over_the_quota_are_counted_as_such_and_the_commit_is_taken() {
    let bed = Bed::with(|options| options.max_groups = 1).await;
    bed.put(vec![hook(), three()]).await;
    bed.open(1).await;
    let counts = vec![count("a", 6, 1), count("b", 5, 2)];
    let result = bed.commit(vec![Entry { counts, ..entry(0, 0, 3) }], 7).await;
    assert!(result.entries[0].is_accepted());
    let held = bed.ledger.totals().await.unwrap();
    assert_eq!((held.groups, held.matched, held.unmatched.get(&DropReason::GroupsFull)), (1, 3, Some(&2)));
}
