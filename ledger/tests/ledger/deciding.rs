//! A namespace's work in the writer is bounded, takes turns with others', and runs no templates.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use domain::{AlertData, AlertKind, Cause, Condition, DropReason, Millis, Plan};
use ledger::{Error, Ledger, Options, Render, Rendered};
use protocol::messages::{
    ClaimRequest, Commit, CommitResult, Entry, NotificationQuery, Pool, PositionsRequest, TopicEnds,
};
use uuid::Uuid;

use crate::bed::*;

const OTHER: &str = "billing";
/// Longer than anything here takes, so that a test that hangs ends.
const HANG: Duration = Duration::from_mins(1);

/// Blocks rendering for the namespace [`NS`] until it is opened.
#[derive(Default)]
struct Gate {
    /// Whether it is open, and how many calls have come.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn open(&self) {
        self.state.lock().unwrap().0 = true;
        self.changed.notify_all();
    }

    fn come(&self) -> usize {
        self.state.lock().unwrap().1
    }
}

/// Opens it on drop, so that the runtime can end too.
struct Opens(Arc<Gate>);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}

struct Stuck(Arc<Gate>);

impl Render for Stuck {
    fn alert(&self, alert: &AlertData<'_>, deadline: Instant) -> Rendered {
        if alert.namespace == NS {
            let mut state = self.0.state.lock().unwrap();
            state.1 += 1;
            drop(self.0.changed.wait_while(state, |(open, _)| !*open).unwrap());
        }
        Plain.alert(alert, deadline)
    }
}

fn other(plan: Plan) -> Plan {
    Plan { namespace: OTHER.into(), uid: Uuid::from_u128(plan.uid.as_u128() + 1_000), ..plan }
}

fn other_entry(mut entry: Entry) -> Entry {
    for count in &mut entry.counts {
        count.rule = Uuid::from_u128(count.rule.as_u128() + 1_000);
    }
    for record in &mut entry.records {
        record.rule = Uuid::from_u128(record.rule.as_u128() + 1_000);
    }
    entry
}

async fn try_commit(ledger: &Ledger, ns: &str, entries: Vec<Entry>, now: i64) -> Result<CommitResult, Error> {
    let plan = ledger.source_plan(ns, &source()).unwrap();
    let rules = plan.rules.iter().map(|(uid, rule)| (*uid, rule.state.clone())).collect();
    let commit = Commit { revision: plan.revision.clone(), rules, survey: None, entries };
    tokio::time::timeout(HANG, ledger.commit(ns, &source(), commit, at(now))).await.expect("it ends")
}

async fn commit(ledger: &Ledger, ns: &str, entries: Vec<Entry>, now: i64) -> Vec<bool> {
    let result = try_commit(ledger, ns, entries, now).await.unwrap();
    result.entries.iter().map(|entry| entry.is_accepted()).collect()
}

async fn titles(ledger: &Ledger, ns: &str) -> Vec<String> {
    let query = NotificationQuery { limit: Some(500), ..NotificationQuery::default() };
    let items = ledger.notifications(ns, query).await.unwrap().items;
    items.into_iter().rev().map(|story| story.notification.title).collect()
}

/// Two namespaces with this rule and an open topic.
async fn both(store: &Store, rule: Plan, options: Options, render: Arc<dyn Render>) -> Ledger {
    let ledger = Ledger::open(store.database.clone(), options, render).await.unwrap();
    let plans = vec![hook(), rule.clone(), other(hook()), other(rule)];
    ledger.put_plans(plans, at(0)).await.unwrap();
    for ns in [NS, OTHER] {
        let ends = TopicEnds { topic: TOPIC.into(), topic_id: TOPIC_ID.into(), partitions: vec![(0, 0)] };
        let request = PositionsRequest { topics: vec![ends] };
        ledger.positions(ns, &source(), request).await.unwrap();
    }
    ledger
}

fn impatient() -> Options {
    let mut options = Options::new(Uuid::from_u128(42));
    (options.text_time, options.texts_time) = (Millis(50), Millis(200));
    options
}

/// Waits until somebody renders for [`NS`].
async fn until_come(gate: &Gate, times: usize) {
    let come = async {
        while gate.come() < times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(HANG, come).await.expect("it is rendered");
}

/// Checks that another namespace's commits, and the hub's loops, make progress.
async fn others_go_on(ledger: &Ledger) {
    let records = vec![matched(0, "pay")];
    let entry = other_entry(Entry { records, ..entry(0, 0, 1) });
    assert_eq!(commit(ledger, OTHER, vec![entry], 1).await, [true]);
    let request = ClaimRequest::new(Pool::Send, "s", 10);
    let claim = ledger.claim(OTHER, request, at(2));
    assert_eq!(tokio::time::timeout(HANG, claim).await.expect("it ends").unwrap().tasks.len(), 1);
    let ended = tokio::time::timeout(HANG, ledger.expire_leases(at(10_000), 0.5)).await.expect("it ends");
    assert_eq!(ended, Ok(1));
    assert_eq!(titles(ledger, OTHER).await, ["any record 1"]);
}

#[tokio::test]
async fn a_template_that_does_not_end_stops_nobody_else_and_its_record_gets_the_fallback() {
    let (store, gate) = (Store::new().await, Arc::new(Gate::default()));
    let _opens = Opens(gate.clone());
    let mut options = impatient();
    // Long enough for the neighbour to commit; this answer waits.
    options.texts_time = Millis::from_secs(2);
    let ledger = both(&store, any(), options, Arc::new(Stuck(gate.clone()))).await;
    let stuck = {
        let ledger = ledger.clone();
        let entry = Entry { records: vec![matched(0, "pay"), matched(1, "pay")], ..entry(0, 0, 2) };
        tokio::spawn(async move { commit(&ledger, NS, vec![entry], 1).await })
    };
    until_come(&gate, 1).await;
    others_go_on(&ledger).await;
    assert_eq!(gate.come(), 1, "one job of a namespace at a time");
    assert_eq!(stuck.await.unwrap(), [true]);
    let told = titles(&ledger, NS).await;
    assert_eq!(told.len(), 2);
    for title in told {
        let expected = "any (service=pay): title template failed: not rendered within 2000 ms";
        assert!(title.starts_with(expected), "{title}");
    }
    let entry = Entry { records: vec![matched(0, "pay"), matched(1, "pay")], ..entry(0, 0, 2) };
    assert_eq!(commit(&ledger, NS, vec![entry], 2).await, [false], "it was taken");
    assert_eq!(gate.come(), 1, "while the first is stuck, no thread is given to another");
}

#[tokio::test]
async fn a_decision_whose_texts_do_not_end_is_told_with_the_fallback() {
    let (store, gate) = (Store::new().await, Arc::new(Gate::default()));
    let _opens = Opens(gate.clone());
    let ledger = both(&store, three(), impatient(), Arc::new(Stuck(gate.clone()))).await;
    let entry = until(Entry { counts: vec![count("pay", 5, 3)], ..entry(0, 0, 3) }, 60);
    assert_eq!(commit(&ledger, NS, vec![entry], 60).await, [true]);
    let told = titles(&ledger, NS).await;
    assert_eq!(told.len(), 2, "{told:?}");
    for (title, begin) in told.iter().zip(["", domain::RESOLVED]) {
        let wanted = format!("{begin}three (service=pay): title template failed: not rendered");
        assert!(title.starts_with(&wanted), "{title}");
    }
}

/// A rule whose groups each fire with their first record.
fn each() -> Plan {
    changed(three(), |rule| {
        rule.condition = Condition::Frequency { count: 1, window: Millis::from_secs(10) };
    })
}

fn many(groups: i64, second: i64) -> Vec<protocol::messages::Count> {
    (0..groups).map(|n| count(&format!("s{n:05}"), second, 1)).collect()
}

#[tokio::test]
async fn many_due_groups_are_decided_in_steps_between_which_others_commit() {
    let mut options = Options::new(Uuid::from_u128(42));
    in_steps(&mut options, 2, false);
    let store = Store::new().await;
    let ledger = both(&store, each(), options, Arc::new(Plain)).await;
    let busy = until(Entry { counts: many(400, 5), ..entry(0, 0, 400) }, 7);
    assert_eq!(commit(&ledger, NS, vec![busy], 7).await, [true]);
    for second in 5..8 {
        let before = ledger.writer_metrics().commands;
        let entry = Entry { counts: vec![count("pay", second, 1)], ..entry(0, second - 5, second - 4) };
        assert_eq!(commit(&ledger, OTHER, vec![other_entry(entry)], second).await, [true]);
        let between = ledger.writer_metrics().commands - before;
        assert!(between <= 4, "{between} commands for one of the neighbour's");
    }
    assert!(titles(&ledger, NS).await.len() < 400, "the neighbour came between");
    tokio::time::timeout(HANG, ledger.wait_until_decided()).await.expect("it ends");
    assert_eq!(titles(&ledger, NS).await.len(), 400);
}

#[tokio::test]
async fn what_was_left_to_decide_is_decided_after_a_restart() {
    let bed = Bed::with(|options| in_steps(options, 3, false)).await;
    bed.put(vec![hook(), each()]).await;
    bed.open(1).await;
    bed.commit(vec![until(Entry { counts: many(20, 5), ..entry(0, 0, 20) }, 7)], 7).await;
    let bed = bed.reopen().await;
    assert!(bed.titles().await.len() < 20);
    bed.ledger.resume_deciding(at(8)).await.unwrap();
    bed.ledger.wait_until_decided().await;
    assert_eq!(bed.titles().await.len(), 20);
    // A count for a bucket that is due is late, whether or not it is decided.
    bed.commit(vec![until(Entry { counts: many(1, 5), ..entry(0, 20, 21) }, 7)], 8).await;
    assert_eq!(bed.ledger.totals().await.unwrap().late, 1);
}

#[tokio::test]
async fn a_count_of_a_bucket_that_is_due_is_late_before_it_is_decided_too() {
    let bed = Bed::with(|options| in_steps(options, 1, false)).await;
    bed.put(vec![hook(), three()]).await;
    bed.open(1).await;
    let counts =
        many(30, 5).into_iter().map(|count| protocol::messages::Count { count: 2, ..count }).collect();
    bed.commit(vec![until(Entry { counts, ..entry(0, 0, 60) }, 7)], 7).await;
    bed.commit(vec![until(Entry { counts: many(30, 5), ..entry(0, 60, 90) }, 7)], 7).await;
    bed.ledger.wait_until_decided().await;
    assert_eq!(bed.titles().await.len(), 0);
    assert_eq!(bed.ledger.totals().await.unwrap().late, 30);
}

#[tokio::test]
async fn a_changed_rule_with_many_open_alerts_closes_them_in_steps_before_it_fires_anew() {
    let bed = Bed::with(|options| in_steps(options, 2, true)).await;
    bed.put(vec![hook(), each()]).await;
    bed.open(1).await;
    bed.commit(vec![until(Entry { counts: many(7, 5), ..entry(0, 0, 7) }, 7)], 7).await;
    bed.ledger.wait_until_decided().await;
    // The commit doesn't wait.
    bed.ledger
        .put_plans(vec![changed(each(), |rule| rule.matches = "record.x".into())], at(8))
        .await
        .unwrap();
    let plan = changed(changed(each(), |_| {}), |rule| rule.matches = "record.x".into());
    bed.ledger.put_plans(vec![plan], at(8)).await.unwrap();
    bed.commit(vec![until(Entry { counts: many(7, 8), ..entry(0, 7, 14) }, 10)], 10).await;
    bed.ledger.wait_until_decided().await;
    let mut kinds = Vec::new();
    for story in bed.stories().await {
        let Cause::Alert { alert, .. } = story.notification.cause else { panic!("an alert") };
        kinds.push((alert.kind, alert.closed));
    }
    let firing = || (AlertKind::Firing, None);
    let closed = || (AlertKind::Resolved, Some("RuleChanged".to_owned()));
    let expected = [firing, closed, firing].map(|of| (0..7).map(move |_| of())).into_iter().flatten();
    assert_eq!(kinds, expected.collect::<Vec<_>>());
    assert_eq!(bed.ledger.totals().await.unwrap().groups, 7);
    bed.ledger.clone().close().await;
    bed.accounts_are_right().await;
}

#[tokio::test]
async fn an_entry_with_more_than_is_taken_at_once_is_refused_in_words_unless_it_is_of_one_record() {
    let bed = Bed::with(|options| options.max_groups = 100_000).await;
    bed.put(vec![hook(), three()]).await;
    bed.open(3).await;
    let entries = vec![entry(1, 0, 1), Entry { counts: many(1_001, 5), ..entry(0, 0, 1_001) }];
    let error = try_commit(&bed.ledger, NS, entries, 7).await.unwrap_err();
    let words =
        "orders/0 holds 1001 counts and records, and at most 1000 are taken at once: send less at once";
    assert_eq!(error.to_string(), words);
    let entries = vec![
        // Nothing of the refused commit was taken.
        entry(1, 0, 1),
        Entry { counts: many(1_001, 5), ..entry(0, 0, 1) },
        Entry { counts: many(900, 5), ..entry(2, 0, 900) },
    ];
    assert_eq!(commit(&bed.ledger, NS, entries, 8).await, [true; 3]);
    assert_eq!(bed.ledger.totals().await.unwrap().matched, 1_901);
}

#[tokio::test]
async fn over_the_quota_of_bytes_new_groups_are_counted_as_such_and_old_ones_go_on() {
    let bed = Bed::with(|options| options.max_state_bytes = 20_000).await;
    bed.put(vec![hook(), three()]).await;
    bed.open(1).await;
    for (round, from) in [0, 400, 800].into_iter().enumerate() {
        let second = 100 * round as i64;
        let mut offset = from;
        for batch in 0..5 {
            let counts = (0..10).map(|n| count(&format!("s{}", batch * 10 + n), second, 1)).collect();
            bed.commit(vec![Entry { counts, ..entry(0, offset, offset + 10) }], second).await;
            offset += 10;
        }
        let held = bed.ledger.totals().await.unwrap();
        let fit = held.groups;
        assert!((20..50).contains(&fit), "{fit}");
        // The groups of a round, and their bytes, are gone before the next round.
        assert_eq!(held.unmatched.get(&DropReason::StateFull), Some(&((round as i64 + 1) * (50 - fit))));
        bed.commit(
            vec![Entry { counts: vec![count("s0", second + 1, 2)], ..entry(0, offset, offset + 2) }],
            second,
        )
        .await;
        let empty = entry(0, offset + 2, from + 400);
        bed.commit(vec![until(empty, second + 90)], second + 90).await;
        bed.ledger.wait_until_decided().await;
        let told = bed.titles().await;
        assert_eq!(told.len(), 2 * (round + 1), "{told:?}");
        assert_eq!(bed.ledger.totals().await.unwrap().groups, 0);
    }
    bed.ledger.clone().close().await;
    bed.accounts_are_right().await;
}

#[tokio::test]
async fn what_waited_for_a_channel_is_released_in_steps_before_what_is_decided_meanwhile() {
    let bed = Bed::new().await;
    bed.put(vec![any()]).await;
    bed.open(1).await;
    bed.records(0, 450, 5).await;
    // The commit doesn't wait.
    bed.ledger.put_plans(vec![hook()], at(6)).await.unwrap();
    bed.records(450, 452, 6).await;
    bed.ledger.wait_until_decided().await;
    assert_eq!(bed.ledger.totals().await.unwrap().waiting, 0);
    for offset in 0..452 {
        // All are of one group, so they are handed out one after the other.
        let tasks = bed.claim(Pool::Send, 10).await;
        let [task] = &tasks[..] else { panic!("{} tasks at {offset}", tasks.len()) };
        let Cause::Record { record, .. } = &task.notification.cause else { panic!("a record") };
        assert_eq!(record.offset, offset);
        bed.told(&tasks, &domain::Outcome::Delivered, 10).await;
    }
}

#[tokio::test]
async fn deleting_a_channel_with_many_deliveries_ends_all_of_them() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), any()]).await;
    bed.open(1).await;
    for from in [0, 800, 1_600] {
        bed.records(from, from + 800, 0).await;
    }
    let before = bed.ledger.writer_metrics().commits;
    bed.ledger.put_live(vec![RULE], at(10)).await.unwrap();
    assert_eq!(bed.collect(200).await, 1);
    assert!(bed.ledger.writer_metrics().commits - before > 3, "in parts");
    let stories = bed.stories().await;
    let pending = stories.iter().filter(|story| story.deliveries[0].state == domain::DeliveryState::Pending);
    assert_eq!(pending.count(), 0);
}

#[tokio::test]
async fn counts_are_merged_with_a_bounded_number_of_stored_bytes_at_once() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), three()]).await;
    bed.open(2).await;
    let large = |count: protocol::messages::Count| {
        let mut first = count.first.clone();
        first.value = serde_json::json!({"text": "x".repeat(16_000)});
        protocol::messages::Count { first: first.clone(), last: first, ..count }
    };
    let counts = many(300, 5).into_iter().map(large).collect();
    bed.commit(vec![Entry { counts, ..entry(0, 0, 300) }], 7).await;
    let entries = vec![Entry { counts: many(300, 5), ..entry(0, 300, 600) }];
    let error = try_commit(&bed.ledger, NS, entries, 8).await.unwrap_err();
    assert!(error.to_string().ends_with("at most 8388608 are taken at once: send less at once"), "{error}");
    // Entries that are too large together are taken one by one.
    let half = |part: usize| many(300, 5).into_iter().skip(part * 150).take(150).collect();
    let entries =
        vec![Entry { counts: half(0), ..entry(0, 300, 450) }, Entry { counts: half(1), ..entry(1, 0, 150) }];
    assert_eq!(commit(&bed.ledger, NS, entries, 9).await, [true; 2]);
    assert_eq!(bed.ledger.totals().await.unwrap().matched, 600);
}

#[tokio::test]
async fn partitions_are_bounded_whatever_a_worker_says() {
    let bed = Bed::new().await;
    bed.put(vec![hook(), three()]).await;
    bed.open(1).await;
    let ends = TopicEnds { topic: TOPIC.into(), topic_id: TOPIC_ID.into(), partitions: vec![(0, 0); 5_001] };
    let request = PositionsRequest { topics: vec![ends] };
    let error = bed.ledger.positions(NS, &source(), request).await.unwrap_err();
    assert!(error.to_string().contains("holds 5001 partitions, and at most 5000"), "{error}");
}
