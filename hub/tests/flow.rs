//! The way through the hub: plans, commits and reports come in; tasks and statuses go out; waiting callers are woken.
#![allow(clippy::expect_used, clippy::panic, reason = "this is a test")]

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::{TestHub, channel, commit_of_one, rule, schedule, source, status_code, topic_ends, wait_until};
use domain::{DeliveryState, Digest, Millis, Outcome, Plan, ReminderTime, Severity};
use protocol::Client;
use protocol::messages::{
    AttemptOutcome, ClaimRequest, Claimed, CommitResult, DeadLetter, DeadLetterQuery, EntryResult,
    LiveObjects, NotificationQuery, ObjectProblem, Outcomes, Pool, ReminderDue, Reminders, Report,
    SourcePlan, StatusBody,
};
use uuid::Uuid;

const NO_WAIT: Duration = Duration::ZERO;
const LONG_WAIT: Duration = Duration::from_secs(20);
/// The longest that a change may take to reach a caller that waits for it: a second, and what a busy machine adds.
const SOON: Duration = Duration::from_secs(3);

async fn source_plan(worker: &Client, ns: &str) -> SourcePlan {
    let plan = worker.source_plan(ns, source().key().as_str(), "", NO_WAIT).await;
    plan.expect("a plan").expect("it is new")
}

async fn claim(worker: &Client, ns: &str, pool: Pool, wait: Duration) -> Claimed {
    let wait_ms = u64::try_from(wait.as_millis()).expect("short");
    let request = ClaimRequest { wait_ms, ..ClaimRequest::new(pool, "worker-1", 10) };
    worker.claim(ns, &request).await.expect("an answer")
}

/// Stores a channel and a rule with this title, and asks for the positions of the rule's topic. Returns the namespace's worker, the
/// rule, and the revision of the source's plan.
async fn ready(hub: &TestHub, ns: &str, uid: u128, title: &str) -> (Client, Plan, Digest) {
    let rule = rule(ns, "errors", uid, title);
    hub.put_plans(&[&channel(ns, "hook", uid + 1), &rule]).await;
    let worker = hub.worker(ns);
    let plan = source_plan(&worker, ns).await;
    let positions = worker.positions(ns, source().key().as_str(), &topic_ends()).await.expect("positions");
    assert_eq!(positions.topics["payments"], [0]);
    (worker, rule, plan.revision)
}

async fn commit(worker: &Client, rule: &Plan, revision: &Digest, offset: i64) -> CommitResult {
    let commit = commit_of_one(rule, revision.clone(), offset);
    let ns = &rule.namespace;
    worker.commit(ns, source().key().as_str(), &commit).await.expect("an answer")
}

#[tokio::test]
async fn a_matched_record_becomes_a_task_with_its_text_and_a_story_with_its_outcome() {
    let mut hub = TestHub::new("line", &[]).await;
    let (worker, rule, revision) = ready(&hub, "a", 0xa0, "{{ rule }} saw {{ record.message }}").await;
    // The worker waits before there is anything to do.
    let waiting = {
        let worker = worker.clone();
        tokio::spawn(async move { (claim(&worker, "a", Pool::Send, LONG_WAIT).await, Instant::now()) })
    };
    tokio::task::yield_now().await;
    let result = commit(&worker, &rule, &revision, 0).await;
    let committed = Instant::now();
    assert!(result.entries[0].is_accepted());
    let (claimed, woken) = waiting.await.expect("the claim ends");
    assert!(woken.saturating_duration_since(committed) < SOON, "{woken:?}");
    assert_eq!(claimed.tasks.len(), 1);
    let task = &claimed.tasks[0];
    assert_eq!(task.notification.title, "errors saw boom");
    assert_eq!(claimed.channels[&task.channel].name, "hook");

    let outcome =
        AttemptOutcome { delivery: task.delivery, attempt: task.attempt, outcome: Outcome::Delivered };
    worker.outcomes("a", &Outcomes { outcomes: vec![outcome] }).await.expect("recorded");
    let person = hub.client(&hub.person_token("ann", &["a"]));
    for id in [task.notification.id, task.delivery] {
        let story = person.notification("a", id).await.expect("a story");
        assert_eq!(story.deliveries.len(), 1);
        assert_eq!(story.deliveries[0].state, DeliveryState::Delivered);
        assert_eq!(story.deliveries[0].attempts[0].outcome.as_deref(), Some("Delivered"));
    }
    let query = NotificationQuery { object: Some(rule.uid), ..NotificationQuery::default() };
    assert_eq!(person.notifications("a", &query).await.expect("a list").items.len(), 1);
    assert_eq!(status_code(person.notification("a", Uuid::nil()).await), 404);

    // The hub takes the same commit for another consumer's the second time: it refuses it and counts nothing twice.
    let again = commit(&worker, &rule, &revision, 0).await;
    assert_eq!(again.entries, [EntryResult::Elsewhere(1)]);
    assert!(claim(&worker, "a", Pool::Send, NO_WAIT).await.tasks.is_empty());

    let (_, metrics) = hub.get(format!("{}/metrics", hub.metrics_url)).await;
    for line in [
        "belfry_hub_records_read_total 1",
        "belfry_hub_records_matched_total 1",
        "belfry_hub_commit_entries_refused_total 1",
        "belfry_hub_attempts_total{channel_type=\"Webhook\",outcome=\"Delivered\"} 1",
        "belfry_hub_rule_decisions_total{kind=\"record\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_record_that_no_dead_letter_topic_took_can_be_read_back() {
    let mut hub = TestHub::new("dead-letters", &[]).await;
    let (worker, rule, revision) = ready(&hub, "a", 0xaf0, "x").await;
    let dead_letter = |offset| DeadLetter {
        offset,
        reason: "Malformed".to_owned(),
        key: None,
        value: "bm90IEpTT04=".to_owned(),
        length: 8,
    };
    for offset in 0..2 {
        let mut read = commit_of_one(&rule, revision.clone(), offset);
        read.entries[0].dead_letters = vec![dead_letter(offset)];
        // The second time it is refused, and nothing is stored twice.
        for accepted in [true, false] {
            let answer = worker.commit("a", source().key().as_str(), &read).await.expect("an answer");
            assert_eq!(answer.entries[0].is_accepted(), accepted);
        }
    }
    let person = hub.client(&hub.person_token("ann", &["a", "b"]));
    let query = |limit| DeadLetterQuery { limit, after: None };
    let listed = person.dead_letters("a", &query(None)).await.expect("a list").items;
    let seen: Vec<_> = listed.iter().map(|it| (it.topic.as_str(), it.partition, &it.letter)).collect();
    assert_eq!(seen, [("payments", 0, &dead_letter(1)), ("payments", 0, &dead_letter(0))], "newest first");
    let first = person.dead_letters("a", &query(Some(1))).await.expect("a list");
    assert_eq!(first.items, listed[..1]);
    let next = DeadLetterQuery { limit: Some(1), after: first.next };
    let second = person.dead_letters("a", &next).await.expect("the next page");
    assert_eq!((second.items.as_slice(), second.next), (&listed[1..], None));
    let lost = DeadLetterQuery { limit: None, after: Some("0.9.nowhere".to_owned()) };
    assert!(person.dead_letters("a", &lost).await.expect_err("gone").to_string().contains("begin anew"));
    assert!(person.dead_letters("b", &query(None)).await.expect("a list").items.is_empty());
    hub.stop().await;
}

#[tokio::test]
async fn a_failed_attempt_comes_to_a_waiting_retry_when_it_is_due() {
    let mut hub = TestHub::new("retry", &[]).await;
    let (worker, rule, revision) = ready(&hub, "a", 0xab0, "x").await;
    commit(&worker, &rule, &revision, 0).await;
    let first = claim(&worker, "a", Pool::Send, LONG_WAIT).await.tasks.remove(0);
    let waiting = {
        let worker = worker.clone();
        tokio::spawn(async move { claim(&worker, "a", Pool::Retry, LONG_WAIT).await })
    };
    let outcome = Outcome::Later { reason: "503".to_owned(), wait: Some(Millis(300)), channel_wide: false };
    let outcome = AttemptOutcome { delivery: first.delivery, attempt: first.attempt, outcome };
    let told = Instant::now();
    worker.outcomes("a", &Outcomes { outcomes: vec![outcome] }).await.expect("recorded");
    let second = waiting.await.expect("the claim ends").tasks.remove(0);
    assert_eq!((second.delivery, second.attempt), (first.delivery, 2));
    assert!((Duration::from_millis(295)..SOON).contains(&told.elapsed()), "{:?}", told.elapsed());
    hub.stop().await;
}

#[tokio::test]
async fn a_reminder_becomes_a_task_and_one_found_by_an_old_plan_is_refused() {
    let mut hub = TestHub::new("reminder", &[]).await;
    let office = schedule("a", "office", 0xac0);
    hub.put_plans(&[&channel("a", "hook", 0xac1), &office]).await;
    let worker = hub.worker("a");
    let state = worker.schedule("a", office.uid).await.expect("a state");
    assert_eq!(state.plan, office);
    assert_eq!(
        status_code(hub.worker("b").schedule("b", office.uid).await),
        404,
        "it is of another namespace"
    );
    let occurrence = state.through + jiff::SignedDuration::from_mins(30);
    let due = ReminderDue {
        occurrence,
        end: occurrence + jiff::SignedDuration::from_hours(1),
        time: ReminderTime::Before { before_minutes: 10 },
        due: occurrence - jiff::SignedDuration::from_mins(10),
        title: "Office hour at 9".to_owned(),
        summary: String::new(),
        severity: Severity::Info,
    };
    let mut reminders = Reminders {
        revision: Digest::of("old"),
        through: due.due,
        reminders: vec![due],
        skipped: 0,
        clock: protocol::messages::ClockCounts::default(),
    };
    assert_eq!(status_code(worker.reminders("a", office.uid, &reminders).await), 409);
    reminders.revision = office.revision();
    worker.reminders("a", office.uid, &reminders).await.expect("recorded");
    worker.reminders("a", office.uid, &reminders).await.expect("recorded before");
    let claimed = claim(&worker, "a", Pool::Send, LONG_WAIT).await;
    assert_eq!(claimed.tasks.len(), 1, "each reminder once");
    assert_eq!(claimed.tasks[0].notification.title, "Office hour at 9");
    hub.stop().await;
}

#[tokio::test]
async fn a_changed_rule_wakes_its_waiting_consumer_at_once() {
    let mut hub = TestHub::new("plan-poll", &[]).await;
    let (worker, rule, revision) = ready(&hub, "a", 0xb0, "one").await;
    let key = source().key();
    let held = revision.to_string();
    assert!(worker.source_plan("a", key.as_str(), &held, NO_WAIT).await.expect("an answer").is_none());
    let waiting = tokio::spawn(async move {
        let plan = worker.source_plan("a", key.as_str(), &held, LONG_WAIT).await;
        (plan.expect("an answer").expect("it is new"), Instant::now())
    });
    tokio::task::yield_now().await;
    let mut changed = rule.clone();
    changed.suspended = true;
    hub.put_plans(&[&changed]).await;
    let put = Instant::now();
    let (plan, woken) = waiting.await.expect("the poll ends");
    assert!(woken.saturating_duration_since(put) < SOON);
    assert!(plan.rules.is_empty(), "a suspended rule is not evaluated");
    assert_eq!(plan.topics, ["payments"], "its records are passed over");
    hub.stop().await;
}

#[tokio::test]
async fn channels_wake_their_workers_and_an_unknown_source_is_not_found() {
    let mut hub = TestHub::new("channels-poll", &[]).await;
    let worker = hub.worker("a");
    let empty = worker.channels_plan("a", "", NO_WAIT).await.expect("an answer").expect("a plan");
    let held = empty.revision.to_string();
    let waiting = {
        let worker = worker.clone();
        tokio::spawn(async move { worker.channels_plan("a", &held, LONG_WAIT).await })
    };
    hub.put_plans(&[&channel("a", "hook", 0xc0)]).await;
    let plan = waiting.await.expect("the poll ends").expect("an answer").expect("it is new");
    assert_eq!(plan.channels.len(), 1);
    assert_eq!(status_code(worker.source_plan("a", "nothing", "", LONG_WAIT).await), 404);
    hub.stop().await;
}

#[tokio::test]
async fn the_feed_has_counters_and_the_problems_that_workers_report() {
    let mut hub = TestHub::new("feed", &[]).await;
    let operator = hub.operator();
    let (worker, rule, revision) = ready(&hub, "a", 0xd0, "x").await;
    let other = hub.worker("b");
    hub.put_plans(&[&channel("b", "hook", 0xdf)]).await;
    // What a worker of another namespace reports on this rule is ignored.
    let problem =
        |reason: &str| vec![ObjectProblem { reason: reason.to_owned(), message: "words".to_owned() }];
    let report = |reason: &str| Report {
        instance: "consume-1".to_owned(),
        running: BTreeMap::from([(rule.uid, rule.revision())]),
        problems: BTreeMap::from([(rule.uid, problem(reason))]),
        owned: vec![("payments".to_owned(), "topic-id".to_owned(), 0)],
        source: Some(source().key()),
        leaving: false,
    };
    other.report("b", &report("Slander")).await.expect("taken");
    worker.report("a", &report("TopicNotFound")).await.expect("taken");
    commit(&worker, &rule, &revision, 0).await;

    let seen = std::sync::Mutex::new((0, None));
    wait_until("the rule's status", || async {
        let after = seen.lock().expect("unpoisoned").0;
        let feed = operator.feed(after, SOON).await.expect("a feed");
        let mut seen = seen.lock().expect("unpoisoned");
        seen.0 = feed.version;
        for object in feed.objects {
            assert!(object.problems.iter().all(|problem| problem.reason != "Slander"), "{object:?}");
            if object.uid == rule.uid {
                seen.1 = Some(object);
            }
        }
        seen.1.as_ref().is_some_and(|object| {
            let StatusBody::AlertRule(status) = &object.body else { return false };
            object.running == 1 && !object.problems.is_empty() && status.matched == 1
        })
    })
    .await;
    let object = seen.into_inner().expect("unpoisoned").1.expect("seen");
    assert_eq!(object.problems[0].reason, "TopicNotFound");
    assert_eq!(object.revision, rule.revision());
    hub.stop().await;
}

#[tokio::test]
async fn a_deleted_object_stops_at_once() {
    let mut hub = TestHub::new("deleted", &[]).await;
    let (worker, rule, revision) = ready(&hub, "a", 0xe0, "x").await;
    commit(&worker, &rule, &revision, 0).await;
    hub.operator().put_live(&LiveObjects { uids: vec![] }).await.expect("taken");
    wait_until("the source is gone", || async {
        matches!(worker.source_plan("a", source().key().as_str(), "", NO_WAIT).await, Err(error) if error.status().is_some_and(|status| status == 404))
    })
    .await;
    hub.stop().await;
}

#[tokio::test]
async fn a_namespace_that_sends_too_much_is_refused_alone() {
    let mut hub = TestHub::new("bytes-quota", &["--max-bytes-per-second=2000"]).await;
    let (busy, calm) = (hub.worker("busy"), hub.worker("calm"));
    hub.put_plans(&[&channel("busy", "hook", 1), &channel("calm", "hook", 2)]).await;
    let big = Report {
        instance: "i".to_owned(),
        running: BTreeMap::new(),
        problems: BTreeMap::new(),
        owned: vec![("t".repeat(200), "id".to_owned(), 0); 95],
        source: None,
        leaving: false,
    };
    let small = Report { owned: vec![], ..big.clone() };
    busy.report("busy", &big).await.expect("taken, once");
    let error = busy.report("busy", &small).await.expect_err("over its quota");
    let protocol::Error::Refused { status, problem, retry_after } = error else { panic!("{error}") };
    assert_eq!((status.as_u16(), problem.reason.as_str()), (429, "OverQuota"));
    assert!(retry_after.is_some_and(|wait| (5..=10).contains(&wait.as_secs())), "{retry_after:?}");
    calm.report("calm", &small).await.expect("another namespace goes on");
    // Reads do not count against the quota.
    assert_eq!(common::status_code(busy.channels_plan("busy", "", NO_WAIT).await), 200);
    hub.stop().await;
}

#[tokio::test]
async fn a_namespace_with_too_many_pending_deliveries_is_refused_alone() {
    let mut hub = TestHub::new("pending-quota", &["--max-pending=2"]).await;
    let (busy, rule, revision) = ready(&hub, "busy", 0xf0, "x").await;
    let mut refused = None;
    for offset in 0..5 {
        let commit = commit_of_one(&rule, revision.clone(), offset);
        if let Err(error) = busy.commit("busy", source().key().as_str(), &commit).await {
            refused = Some((offset, error));
            break;
        }
    }
    let (offset, error) = refused.expect("over its quota");
    assert_eq!(error.status().map(|status| status.as_u16()), Some(429), "{error}");
    assert!((2..5).contains(&offset), "{offset}");
    let (calm, rule, revision) = ready(&hub, "calm", 0x1f0, "x").await;
    assert!(commit(&calm, &rule, &revision, 0).await.entries[0].is_accepted());
    hub.stop().await;
}

#[tokio::test]
async fn deliveries_of_a_killed_worker_go_on_when_the_next_process_of_its_pod_claims_work() {
    let mut hub = TestHub::new("killed", &[]).await;
    let (worker, rule, revision) = ready(&hub, "a", 0xe0, "t").await;
    commit(&worker, &rule, &revision, 0).await;
    let ask = async |pool, session: u128, wait_ms| {
        let session = Some(Uuid::from_u128(session));
        let request = ClaimRequest { session, wait_ms, ..ClaimRequest::new(pool, "send-1", 10) };
        worker.claim("a", &request).await.expect("an answer").tasks
    };
    let killed = ask(Pool::Send, 1, 20_000).await;
    assert_eq!(killed.len(), 1);
    assert!(ask(Pool::Send, 2, 0).await.is_empty(), "nobody else's in the same key");
    // The lease would last 25 s; this channel's first retry waits at most 100 ms.
    let begun = Instant::now();
    let retried = ask(Pool::Retry, 3, 20_000).await;
    assert_eq!((retried.len(), retried[0].attempt), (1, 2));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    hub.stop().await;
}

#[tokio::test]
async fn a_namespace_made_again_shows_nothing_of_the_one_before_to_its_reader_or_worker() {
    let mut hub = TestHub::new("made-again", &[]).await;
    let (worker, rule, revision) = ready(&hub, "a", 0xf0, "secret of before").await;
    commit(&worker, &rule, &revision, 0).await;
    let before = hub.client(&hub.person_token("ann", &["a"]));
    let query = NotificationQuery::default;
    let told = before.notifications("a", &query()).await.expect("a list").items;
    assert_eq!(told.len(), 1);
    hub.recreate_namespace("a");
    // A new reader asks before the operator has sent any plan of the new namespace.
    let reader = hub.client(&hub.person_token("eve", &["a"]));
    assert!(reader.notifications("a", &query()).await.expect("a list").items.is_empty());
    assert_eq!(status_code(reader.notification("a", told[0].notification.id).await), 404);
    assert!(before.notifications("a", &query()).await.expect("a list").items.is_empty(), "for nobody");
    // In namespace b, the operator sends plans of the new namespace before anybody has read.
    let (worker, rule, revision) = ready(&hub, "b", 0x1f0, "secret of before").await;
    commit(&worker, &rule, &revision, 0).await;
    hub.recreate_namespace("b");
    hub.put_plans(&[&channel("b", "hook", 0x2f0)]).await;
    let mine = hub.client(&hub.person_token("joe", &["b"]));
    assert!(mine.notifications("b", &query()).await.expect("a list").items.is_empty());
    assert!(claim(&worker, "b", Pool::Send, NO_WAIT).await.tasks.is_empty());
    hub.stop().await;
}

#[tokio::test]
async fn new_objects_wait_while_the_namespaces_identity_is_unknown_and_known_objects_do_not() {
    let mut hub = TestHub::new("nobody-says", &[]).await;
    let (operator, known) = (hub.operator(), channel("a", "hook", 0x51));
    hub.put_plans(&[&known]).await;
    hub.reviewer.down.store(true, std::sync::atomic::Ordering::Relaxed);
    let plans = |plans: Vec<Plan>| protocol::messages::PutPlans { plans };
    let new = operator.put_plans(&plans(vec![channel("a", "other", 0x52)])).await;
    assert_eq!(status_code(new), 503);
    assert_eq!(status_code(operator.put_plans(&plans(vec![known])).await), 200);
    hub.stop().await;
}

#[tokio::test]
async fn a_rules_template_that_failed_is_still_told_after_a_start_of_the_hub() {
    let mut hub = TestHub::new("template-failed", &[]).await;
    let (worker, rule, revision) = ready(&hub, "a", 0x3e0, "{{ record.nothing }}").await;
    commit(&worker, &rule, &revision, 0).await;
    let told = async |hub: &TestHub| {
        let feed = hub.operator().feed(0, NO_WAIT).await.expect("a feed");
        let status = feed.objects.into_iter().find(|status| status.uid == rule.uid);
        status.is_some_and(|it| {
            it.problems.iter().any(|problem| problem.reason == ObjectProblem::TEMPLATE_FAILED)
        })
    };
    wait_until("it is told", async || told(&hub).await).await;
    hub.stop().await;
    hub.start().await;
    // Waits until a later change is published, so that everything from before it was published too.
    let before = hub.operator().feed(0, NO_WAIT).await.expect("a feed").version;
    hub.put_plans(&[&channel("b", "hook", 0x3f0)]).await;
    wait_until("something else is published", async || {
        hub.operator()
            .feed(before, NO_WAIT)
            .await
            .expect("a feed")
            .objects
            .iter()
            .any(|it| it.namespace == "b")
    })
    .await;
    assert!(told(&hub).await);
    hub.stop().await;
}
