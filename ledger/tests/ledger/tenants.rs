//! Namespaces don't share dead letters, channels or bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::{DropReason, Outcome, Plan};
use ledger::{Database, Error, Ledger};
use protocol::messages::{
    ChannelAction, ChannelRequest, Commit, CommitResult, DeadLetter, DeadLetterQuery, Entry, Pool,
    PositionsRequest, StoredDeadLetter, TopicEnds,
};
use sqlx::{query, query_as, query_scalar, raw_sql};
use uuid::Uuid;

use crate::bed::*;

pub(crate) const OTHER: &str = "search";
const OTHER_RULE: Uuid = Uuid::from_u128(200);
const OTHER_HOOK: Uuid = Uuid::from_u128(201);
const WEEK: domain::Millis = domain::Millis::from_secs(7 * 86_400);

pub(crate) fn of(namespace: &str, uid: Uuid, plan: Plan) -> Plan {
    Plan { namespace: namespace.to_owned(), uid, ..plan }
}

/// Both namespaces read the same topic.
async fn two(set: impl FnOnce(&mut ledger::Options)) -> Bed {
    let bed = Bed::with(set).await;
    bed.put(vec![hook(), any(), of(OTHER, OTHER_HOOK, hook()), of(OTHER, OTHER_RULE, any())]).await;
    for namespace in [NS, OTHER] {
        open(&bed.ledger, namespace).await;
    }
    bed
}

async fn open(ledger: &Ledger, namespace: &str) {
    let ends = TopicEnds { topic: TOPIC.into(), topic_id: TOPIC_ID.into(), partitions: vec![(0, 0)] };
    let request = PositionsRequest { topics: vec![ends] };
    ledger.positions(namespace, &source(), request).await.unwrap();
}

pub(crate) async fn commit(
    ledger: &Ledger,
    namespace: &str,
    entries: Vec<Entry>,
    now: i64,
) -> Result<CommitResult, Error> {
    let plan = ledger.source_plan(namespace, &source()).unwrap();
    let rules = plan.rules.iter().map(|(uid, rule)| (*uid, rule.state.clone())).collect();
    let commit = Commit { revision: plan.revision.clone(), rules, survey: None, entries };
    ledger.commit(namespace, &source(), commit, at(now)).await
}

pub(crate) fn letter(offset: i64, value: &str) -> DeadLetter {
    DeadLetter {
        offset,
        reason: "not JSON".into(),
        key: None,
        value: value.into(),
        length: value.len() as i64,
    }
}

async fn letters(bed: &Bed, namespace: &str, (from, to): (i64, i64), value: &str) {
    let dead_letters = (from..to).map(|offset| letter(offset, value)).collect();
    let entries = vec![Entry { dead_letters, ..entry(0, from, to) }];
    assert!(commit(&bed.ledger, namespace, entries, from).await.unwrap().entries[0].is_accepted());
}

/// All dead letters, newest first, and in how many pages they came.
async fn held(ledger: &Ledger, namespace: &str) -> (Vec<StoredDeadLetter>, usize) {
    let mut query = DeadLetterQuery { limit: Some(500), after: None };
    let (mut all, mut pages) = (Vec::new(), 0);
    loop {
        let list = ledger.dead_letters(namespace, query.clone()).await.unwrap();
        let bytes = serde_json::to_string(&list).unwrap().len();
        assert!(bytes < 2 * 1024 * 1024, "a page of {bytes} bytes");
        all.extend(list.items);
        pages += 1;
        if list.next.is_none() {
            return (all, pages);
        }
        query.after = list.next;
    }
}

async fn offsets(bed: &Bed, namespace: &str) -> Vec<i64> {
    let mut offsets: Vec<i64> =
        held(&bed.ledger, namespace).await.0.iter().map(|held| held.letter.offset).collect();
    offsets.reverse();
    offsets
}

/// Compares the stored numbers with the rows.
pub(crate) async fn counted_is_right(database: &Database) {
    type Usage = Vec<(String, String, i64, i64)>;
    let mut conn = raw(database).await;
    let counted: Usage = query_as("SELECT namespace, kind, bytes, items FROM usage ORDER BY 1, 2")
        .fetch_all(&mut conn)
        .await
        .unwrap();
    let there: Usage = query_as(
        "SELECT namespace, 'letters', CAST(sum(bytes) AS BIGINT), count(*) FROM dead_letters GROUP BY 1 UNION ALL \
         SELECT namespace, CASE WHEN settled IS NULL THEN 'pending' ELSE 'finished' END, \
         CAST(sum(CASE WHEN bytes > 0 THEN bytes ELSE 512 + octet_length(body) END) AS BIGINT), count(*) \
         FROM notifications GROUP BY 1, 2 ORDER BY 1, 2",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert_eq!(counted, there);
    let finished: Vec<(i64, i64)> = query_as(
        "SELECT n.bytes, CAST(512 + octet_length(n.body) + (SELECT coalesce(sum(256 + octet_length(d.reason) \
         + octet_length(d.recipient)), 0) FROM deliveries d WHERE d.n = n.n) \
         + (SELECT coalesce(sum(128 + octet_length(a.reason)), 0) FROM deliveries d JOIN attempts a ON a.d = d.d \
         WHERE d.n = n.n) AS BIGINT) FROM notifications n WHERE n.settled IS NOT NULL AND n.bytes > 0",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert!(finished.iter().all(|(counted, there)| counted == there), "{finished:?}");
    let groups: Vec<(i64, i64)> =
        query_as("SELECT groups, (SELECT count(*) FROM groups g WHERE g.r = rules.r) FROM rules")
            .fetch_all(&mut conn)
            .await
            .unwrap();
    assert!(groups.iter().all(|(counted, there)| counted == there), "{groups:?}");
}

#[tokio::test]
async fn two_namespaces_that_read_one_topic_each_have_all_its_dead_letters() {
    let bed = two(|_| {}).await;
    letters(&bed, NS, (0, 4), "ours").await;
    letters(&bed, OTHER, (0, 6), "theirs").await;
    letters(&bed, NS, (4, 6), "ours").await;
    for (namespace, value) in [(NS, "ours"), (OTHER, "theirs")] {
        let (held, _) = held(&bed.ledger, namespace).await;
        assert_eq!(held.iter().map(|held| held.letter.offset).collect::<Vec<_>>(), [5, 4, 3, 2, 1, 0]);
        assert!(held.iter().all(|held| held.letter.value == value), "{namespace}");
    }
    counted_is_right(&bed.database()).await;
}

#[tokio::test]
async fn dead_letters_over_a_namespaces_bytes_push_out_its_oldest_and_nobody_elses() {
    let bed = two(|options| options.max_dead_letter_bytes = 20_000).await;
    letters(&bed, OTHER, (0, 10), "theirs").await;
    for from in (0..400).step_by(20) {
        letters(&bed, NS, (from, from + 20), "ours").await;
        counted_is_right(&bed.database()).await;
    }
    let kept = offsets(&bed, NS).await;
    assert_eq!(kept, (400 - kept.len() as i64..400).collect::<Vec<_>>(), "the newest");
    let size = 20_000 / kept.len();
    assert!((200..500).contains(&size), "{size} bytes each");
    assert_eq!(offsets(&bed, OTHER).await.len(), 10);
    let counts = bed.ledger.totals().await.unwrap();
    assert_eq!(counts.unmatched.get(&DropReason::LettersDropped), Some(&(400 - kept.len() as i64)));
    assert!(counts.most["letters"] <= 20_000, "{:?}", counts.most);
    assert_eq!(bed.ledger.writer_metrics().letters_dropped, 400 - kept.len() as u64);
}

#[tokio::test]
async fn one_commit_with_more_dead_letters_than_fit_leaves_its_newest() {
    let bed = two(|options| options.max_dead_letter_bytes = 5_000).await;
    letters(&bed, NS, (0, 400), "ours").await;
    let kept = offsets(&bed, NS).await;
    assert!((5..20).contains(&kept.len()), "{kept:?}");
    assert_eq!(kept.last(), Some(&399));
    counted_is_right(&bed.database()).await;
}

#[tokio::test]
async fn a_dead_letter_is_cut_whatever_a_worker_sent_and_a_page_has_a_bound() {
    let bed = two(|_| {}).await;
    letters(&bed, NS, (0, 200), &"A".repeat(100_000)).await;
    let (held, pages) = held(&bed.ledger, NS).await;
    assert_eq!(held.len(), 200);
    assert!(held.iter().all(|held| held.letter.value.len() == 21_848 && held.letter.length == 100_000));
    assert!((4..10).contains(&pages), "{pages}");
}

#[tokio::test]
async fn a_lowered_quota_is_reached_in_batches_that_take_turns() {
    let bed = two(|_| {}).await;
    for namespace in [NS, OTHER] {
        letters(&bed, namespace, (0, 900), "x").await;
    }
    bed.ledger.clone().close().await;
    let options = ledger::Options { max_dead_letter_bytes: 10_000, ..bed.options.clone() };
    let ledger = Ledger::open(bed.database(), options, Arc::new(Plain)).await.unwrap();
    let (mut batches, mut left) = (0, (900, 900));
    loop {
        let pruned = ledger.prune(at(1_000), WEEK, WEEK).await.unwrap();
        assert!(pruned.letters <= 200, "{pruned:?}");
        let now = (held(&ledger, NS).await.0.len(), held(&ledger, OTHER).await.0.len());
        assert!(now.0.abs_diff(now.1) <= 200, "{now:?}");
        if !pruned.more {
            break;
        }
        assert!(now <= left && batches < 100);
        (left, batches) = (now, batches + 1);
    }
    assert!(batches >= 8, "{batches}");
    assert!(left.0 > 10 && left.0 < 60 && left.0 == left.1, "{left:?}");
    counted_is_right(&bed.database()).await;
}

async fn delivered(bed: &Bed, namespace: &str, rule: Uuid, (from, to): (i64, i64)) {
    for offset in from..to {
        let record = protocol::messages::Matched { rule, ..matched(offset, "pay") };
        let entries = vec![Entry { records: vec![record], ..entry(0, offset, offset + 1) }];
        commit(&bed.ledger, namespace, entries, offset).await.unwrap();
        let request = protocol::messages::ClaimRequest::new(Pool::Send, "send-1", 10);
        let handed = bed.ledger.claim(namespace, request, at(offset)).await.unwrap();
        let told = |delivery, attempt| {
            (protocol::messages::AttemptOutcome { delivery, attempt, outcome: Outcome::Delivered }, 1.0)
        };
        let outcomes = handed.tasks.iter().map(|task| told(task.delivery, task.attempt)).collect();
        bed.ledger.record_outcomes(namespace, outcomes, at(offset)).await.unwrap();
    }
}

#[tokio::test]
async fn finished_notifications_over_a_namespaces_bytes_go_oldest_first_and_its_rules_say_so() {
    let bed = two(|options| options.max_finished_bytes = 30_000).await;
    delivered(&bed, OTHER, OTHER_RULE, (0, 5)).await;
    delivered(&bed, NS, RULE, (0, 60)).await;
    counted_is_right(&bed.database()).await;
    let mut runs = 0;
    while bed.ledger.prune(at(100), WEEK, WEEK).await.unwrap().more {
        runs += 1;
        assert!(runs < 100);
    }
    counted_is_right(&bed.database()).await;
    let left: Vec<_> = bed.stories().await.iter().map(|story| story.notification.created).collect();
    assert!((5..50).contains(&left.len()), "{}", left.len());
    assert_eq!(left, (60 - left.len() as i64..60).map(at).collect::<Vec<_>>(), "the newest");
    assert_eq!(bed.stories_of(OTHER).await.len(), 5);
    let counts = bed.ledger.totals().await.unwrap();
    assert_eq!(counts.unmatched.get(&DropReason::HistoryDropped), Some(&(60 - left.len() as i64)));
    bed.ledger.publish_statuses(Arc::default(), at(100)).await.unwrap();
    let told = |uid: Uuid, feed: &protocol::messages::Feed| {
        feed.objects.iter().find(|status| status.uid == uid).map(|status| status.body.clone())
    };
    let feed = bed.ledger.feed(0).await.unwrap();
    let Some(protocol::messages::StatusBody::NotificationChannel(channel)) = told(HOOK, &feed) else {
        panic!()
    };
    assert_eq!(channel.history_dropped, 60 - left.len() as i64);
    let Some(protocol::messages::StatusBody::NotificationChannel(other)) = told(OTHER_HOOK, &feed) else {
        panic!()
    };
    assert_eq!(other.history_dropped, 0);
    assert!(counts.most["finished"] <= 30_000, "{:?}", counts.most);
}

#[tokio::test]
async fn rules_over_a_namespaces_activations_are_told_and_become_active_when_there_is_room() {
    let bed = Bed::with(|options| options.max_activations = 10).await;
    let rules: Vec<Plan> = (0..3).map(|n| rule(Uuid::from_u128(400 + n), &format!("r{n}"), |_| {})).collect();
    bed.put(
        rules
            .iter()
            .cloned()
            .chain([hook(), of(OTHER, OTHER_RULE, any()), of(OTHER, OTHER_HOOK, hook())])
            .collect(),
    )
    .await;
    bed.open(4).await;
    open(&bed.ledger, OTHER).await;
    for round in 0..2 {
        let entries = (0..4).map(|p| entry(p, round, round + 1)).collect();
        let result = bed.commit(entries, round).await;
        assert!(result.entries.iter().all(|entry| entry.is_accepted()));
    }
    commit(&bed.ledger, OTHER, vec![entry(0, 0, 1)], 1).await.unwrap();
    let activations = async |now| {
        bed.ledger.publish_statuses(Arc::default(), at(now)).await.unwrap();
        let feed = bed.ledger.feed(0).await.unwrap();
        let rules = feed.objects.into_iter().filter_map(|status| match status.body {
            protocol::messages::StatusBody::AlertRule(rule) => Some((
                status.uid,
                rule.activation.len(),
                rule.unmatched.get(&DropReason::ActivationsFull).copied(),
            )),
            _ => None,
        });
        let mut rules: Vec<_> = rules.collect();
        rules.sort();
        rules
    };
    let told = activations(10).await;
    let held: usize = told.iter().filter(|(uid, ..)| *uid != OTHER_RULE).map(|(_, held, _)| held).sum();
    assert_eq!(held, 10, "{told:?}");
    let full: i64 = told.iter().filter_map(|(.., full)| *full).sum();
    assert_eq!(full, 4, "two rows at each commit: {told:?}");
    assert!(told.contains(&(OTHER_RULE, 1, None)), "{told:?}");
    // Once one is gone, there is room for the others.
    bed.ledger
        .put_live(vec![rules[1].uid, rules[2].uid, HOOK, OTHER_RULE, OTHER_HOOK], at(20))
        .await
        .unwrap();
    bed.collect(200).await;
    bed.commit((0..4).map(|p| entry(p, 2, 3)).collect(), 201).await;
    let told = activations(300).await;
    assert!(told.iter().filter(|(uid, ..)| *uid != OTHER_RULE).all(|(_, held, _)| *held == 4), "{told:?}");
}

#[tokio::test]
async fn a_namespace_has_no_more_partitions_than_it_may_and_another_its_own() {
    let bed = two(|options| options.max_partitions = 5).await;
    let ends = |partitions| {
        let (topic, topic_id) = (TOPIC.into(), TOPIC_ID.into());
        PositionsRequest { topics: vec![TopicEnds { topic, topic_id, partitions: vec![(0, 0); partitions] }] }
    };
    let refused = bed.ledger.positions(NS, &source(), ends(6)).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "namespace payments is over its quota of 5 partitions that its rules read"
    );
    for namespace in [NS, OTHER] {
        bed.ledger.positions(namespace, &source(), ends(5)).await.unwrap();
    }
}

#[tokio::test]
async fn plans_of_deleted_objects_count_and_the_longest_gone_make_room() {
    let bed = Bed::with(|options| options.max_absent_bytes = 50_000).await;
    let large =
        |n: u128| rule(Uuid::from_u128(500 + n), &format!("r{n}"), |rule| rule.summary = "s".repeat(10_000));
    let live = [of(OTHER, OTHER_RULE, any()), of(OTHER, OTHER_HOOK, hook())];
    let there: Vec<Uuid> = live.iter().map(|plan| plan.uid).collect();
    bed.put(live.to_vec()).await;
    bed.ledger.put_live(there.clone(), at(0)).await.unwrap();
    for n in 0..20 {
        bed.put(vec![large(n)]).await;
        bed.ledger.put_live(there.clone(), at(n as i64)).await.unwrap();
    }
    let left: Vec<u128> = (0..20).filter(|n| bed.ledger.has_object(Uuid::from_u128(500 + n))).collect();
    assert_eq!(left, [16, 17, 18, 19], "of 10,000 bytes and some each");
    assert!(there.iter().all(|uid| bed.ledger.has_object(*uid)));
}

#[tokio::test]
async fn what_was_pruned_makes_room_in_a_file_that_is_full() {
    if is_postgres() {
        return; // Of a file.
    }
    let bed = two(|_| {}).await;
    delivered(&bed, NS, RULE, (0, 200)).await;
    bed.ledger.limit_pages(1).await.unwrap();
    let records = |to| {
        let records = (200..to).map(|offset| matched(offset, "pay")).collect();
        commit(&bed.ledger, NS, vec![Entry { records, ..entry(0, 200, to) }], 201)
    };
    let error = records(600).await.unwrap_err();
    assert!(matches!(error, Error::StorageFull(_)), "{error}");
    while bed.ledger.prune(at(8 * 86_400), WEEK, WEEK).await.unwrap().more {}
    assert!(bed.stories().await.is_empty());
    assert!(records(300).await.unwrap().entries[0].is_accepted());
    counted_is_right(&bed.database()).await;
}

#[tokio::test]
async fn a_namespace_with_too_many_bytes_pending_is_told_to_wait_and_another_is_not() {
    let bed = two(|options| options.max_pending_bytes = 10_000).await;
    bed.records(0, 20, 1).await;
    let error = commit(&bed.ledger, NS, vec![entry(0, 20, 21)], 2).await.unwrap_err();
    assert!(
        matches!(error, Error::OverQuota { what: "bytes of pending notifications", limit: 10_000, .. }),
        "{error}"
    );
    commit(&bed.ledger, OTHER, vec![entry(0, 0, 1)], 2).await.unwrap();
    counted_is_right(&bed.database()).await;
}

#[tokio::test]
async fn a_new_channel_has_no_dead_deliveries_of_a_deleted_one() {
    let bed = two(|_| {}).await;
    bed.records(0, 2, 1).await;
    for now in [2, 3] {
        let tasks = bed.claim(Pool::Send, now).await;
        bed.told(&tasks, &Outcome::Refused { reason: "410".into() }, now).await;
    }
    // The newest channel is theirs. When it and ours are gone, nobody's next channel may get its row.
    bed.ledger.put_live(vec![OTHER_RULE], at(10)).await.unwrap();
    bed.collect(200).await;
    let bed = bed.reopen().await;
    let uids: Vec<Uuid> = (300..310).map(Uuid::from_u128).collect();
    for (at, uid) in uids.iter().enumerate() {
        bed.put(vec![of(OTHER, *uid, channel(*uid, &format!("hook{at}"), |_| {}))]).await;
    }
    for channel in uids {
        let request = ChannelRequest { channel, request: "all@1".into(), action: ChannelAction::Resend };
        let status = bed.ledger.handle_request(request, at(300)).await.unwrap();
        assert_eq!((status.count, status.result.as_str()), (0, "there is no dead delivery"));
    }
}

#[tokio::test]
async fn dead_letters_are_removed_with_the_last_rule_that_reads_their_topic() {
    let bed = two(|_| {}).await;
    for namespace in [NS, OTHER] {
        letters(&bed, namespace, (0, 700), "x").await;
    }
    bed.ledger.put_live(vec![OTHER_RULE, OTHER_HOOK], at(1_000)).await.unwrap();
    bed.collect(1_200).await;
    assert_eq!(offsets(&bed, NS).await.len(), 700, "the topic has a grace of its own");
    bed.collect(1_400).await;
    assert_eq!(offsets(&bed, NS).await.len(), 0);
    assert_eq!(offsets(&bed, OTHER).await.len(), 700);
    counted_is_right(&bed.database()).await;
}

pub(crate) fn notification(id: Uuid, namespace: &str, now: i64) -> domain::Notification {
    domain::Notification {
        id,
        namespace: namespace.to_owned(),
        cause: domain::Cause::Test { channel: HOOK, name: "hook".into(), request: "x".into() },
        severity: domain::Severity::Info,
        title: format!("title {now}"),
        summary: "summary".into(),
        group: BTreeMap::new(),
        ordering_key: "k".into(),
        created: at(now),
    }
}

/// A ledger as the previous version left it.
async fn before(database: &Database) {
    let mut conn = raw(database).await;
    for migration in [
        include_str!("../../migrations/0001.sql"),
        include_str!("../../migrations/0002.sql"),
        include_str!("../../migrations/0003.sql"),
        include_str!("../../migrations/0004.sql"),
    ] {
        raw_sql(migration).execute(&mut conn).await.unwrap();
    }
    raw_sql("PRAGMA user_version = 4").execute(&mut conn).await.unwrap();
    let plans = [hook(), any(), of(OTHER, OTHER_HOOK, hook()), of(OTHER, OTHER_RULE, any())];
    for plan in &plans {
        query("INSERT INTO plans (uid, body) VALUES ($1, $2)")
            .bind(plan.uid.to_string())
            .bind(serde_json::to_string(plan).unwrap())
            .execute(&mut conn)
            .await
            .unwrap();
    }
    for (c, namespace, uid) in [(1, NS, HOOK), (2, OTHER, OTHER_HOOK)] {
        query("INSERT INTO channels (c, uid, namespace, delivered, dead) VALUES ($1, $2, $3, 7, 1)")
            .bind(c)
            .bind(uid.to_string())
            .bind(namespace)
            .execute(&mut conn)
            .await
            .unwrap();
    }
    for (r, namespace, uid) in [(1, NS, RULE), (2, OTHER, OTHER_RULE)] {
        query("INSERT INTO rules (r, uid, namespace) VALUES ($1, $2, $3)")
            .bind(r)
            .bind(uid.to_string())
            .bind(namespace)
            .execute(&mut conn)
            .await
            .unwrap();
    }
    let other = Entry { dead_letters: Vec::new(), ..entry(0, 0, 0) };
    raw_sql(
        "INSERT INTO groups (r, labels, state) VALUES (1, '{\"a\":\"b\"}', '{}'), (1, '{\"a\":\"c\"}', '{}');
         INSERT INTO sources (s, namespace, key) VALUES (1, 'payments', 'x');
         INSERT INTO topics (t, s, name, topic_id) VALUES (1, 1, 'orders', 'AAAA');",
    )
    .execute(&mut conn)
    .await
    .unwrap();
    // Dead letters of one topic, some of one namespace and some of the other, and of a topic that nobody reads.
    for position in 0..6 {
        let (namespace, topic) = match position {
            0..4 => (NS, TOPIC),
            4 => (OTHER, TOPIC),
            _ => (NS, "gone"),
        };
        query("INSERT INTO dead_letters (topic_id, p, position, namespace, topic, stored, body) VALUES ($1, 0, $2, $3, $4, $5, $6)")
            .bind(&other.topic_id)
            .bind(position)
            .bind(namespace)
            .bind(topic)
            .bind(ms(10 - position))
            .bind(serde_json::to_string(&letter(position, "x")).unwrap())
            .execute(&mut conn)
            .await
            .unwrap();
    }
    // A dead delivery of ours with a channel's row that is now theirs, one of theirs, and one of ours that waits.
    for (n, namespace, c, state, settled) in
        [(1, NS, 2, 2, Some(ms(1))), (2, OTHER, 2, 2, Some(ms(2))), (3, NS, 1, 0, None)]
    {
        let id = Uuid::from_u128(1_000 + n);
        let body = serde_json::to_string(&notification(id, namespace, n as i64)).unwrap();
        query(
            "INSERT INTO notifications (n, id, namespace, object, created, settled, dead, body) \
             VALUES ($1, $2, $3, $4, $5, $6, $6 IS NOT NULL, $7)",
        )
        .bind(n as i64)
        .bind(id.to_string())
        .bind(namespace)
        .bind(HOOK.to_string())
        .bind(ms(n as i64))
        .bind(settled)
        .bind(body)
        .execute(&mut conn)
        .await
        .unwrap();
        query(
            "INSERT INTO deliveries (d, id, n, c, namespace, channel, recipient, lane, place, head, state, reason, \
             made, numbered, due, expires) VALUES ($1, $2, $1, $3, $4, 'hook', '', $1, $1, 1, $5, '', 1, 1, 0, $6)",
        )
        .bind(n as i64)
        .bind(Uuid::from_u128(2_000 + n).to_string())
        .bind(c)
        .bind(namespace)
        .bind(state)
        .bind(ms(80_000))
        .execute(&mut conn)
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn a_ledger_of_the_version_before_keeps_its_rows_and_what_they_count_is_known() {
    if is_postgres() {
        return; // The first version there is no longer than this one.
    }
    let store = Store::new().await;
    let database = store.database.clone();
    before(&database).await;
    let options = ledger::Options::new(Uuid::from_u128(42));
    let ledger = Ledger::open(database.clone(), options.clone(), Arc::new(Plain)).await.unwrap();
    counted_is_right(&database).await;
    let seen = async |namespace: &str| {
        let (held, _) = held(&ledger, namespace).await;
        held.iter().map(|held| held.letter.offset).collect::<Vec<_>>()
    };
    assert_eq!(seen(NS).await, [0, 1, 2, 3, 5], "the last stored first");
    assert_eq!(seen(OTHER).await, [4]);
    let stories: BTreeMap<_, _> = [(NS, 2), (OTHER, 1)].into();
    for (namespace, count) in stories {
        let query = protocol::messages::NotificationQuery::default();
        assert_eq!(ledger.notifications(namespace, query).await.unwrap().items.len(), count);
    }
    let resend = async |channel| {
        let request = ChannelRequest { channel, request: "all@1".into(), action: ChannelAction::Resend };
        ledger.handle_request(request, at(100)).await.unwrap().count
    };
    assert_eq!((resend(OTHER_HOOK).await, resend(HOOK).await), (1, 0), "each its own");
    let counts = ledger.totals().await.unwrap();
    assert_eq!((counts.groups, counts.deliveries[&("Webhook", "delivered")]), (2, 14));
    // Dead letters of a topic that nobody reads are removed. The other topic is theirs too, although their source
    // isn't known yet.
    let mut last = String::new();
    while let Some(namespace) = ledger.run_chore(&last, at(101)).await.unwrap() {
        last = namespace;
    }
    assert_eq!(seen(NS).await, [0, 1, 2, 3]);
    open(&ledger, OTHER).await;
    let dead_letters = (0..6).map(|offset| letter(offset, "theirs")).collect();
    commit(&ledger, OTHER, vec![Entry { dead_letters, ..entry(0, 0, 6) }], 102).await.unwrap();
    assert_eq!(seen(OTHER).await.len(), 6);
    assert_eq!(seen(NS).await, [0, 1, 2, 3]);
    counted_is_right(&database).await;
    let found: i64 = query_scalar("PRAGMA user_version").fetch_one(&mut raw(&database).await).await.unwrap();
    assert!(found >= 5);
    ledger.close().await;
    Ledger::open(database.clone(), options, Arc::new(Plain)).await.expect("once more");
}
