//! Reading a namespace with much data: in bounded pages, and nothing else waits for it.

use domain::DeliveryState;
use protocol::messages::{DeadLetterQuery, NotificationQuery, NotificationStory};
use sqlx::{query, raw_sql};
use uuid::Uuid;

use crate::bed::*;
use crate::tenants::notification;

const ALERTS: i64 = 500;
const RECEIVERS: i64 = 16;
const ATTEMPTS: i64 = 12;

/// Makes alerts whose deliveries are all dead, each with many attempts.
async fn filled(alerts: i64, receivers: i64, attempts: i64) -> Bed {
    let bed = Bed::new().await;
    bed.put(vec![hook(), any()]).await;
    bed.ledger.clone().close().await;
    let mut conn = raw(&bed.database()).await;
    raw_sql("BEGIN").execute(&mut conn).await.unwrap();
    for n in 1..=alerts {
        let id = Uuid::from_u128(10_000 + u128::from(n.unsigned_abs()));
        query("INSERT INTO notifications (n, id, namespace, object, created, settled, dead, body) VALUES ($1, $2, $3, $4, $5, $5, 1, $6)")
            .bind(n)
            .bind(id.to_string())
            .bind(NS)
            .bind(RULE.to_string())
            .bind(ms(n))
            .bind(serde_json::to_string(&notification(id, NS, n)).unwrap())
            .execute(&mut conn)
            .await
            .unwrap();
    }
    query(
        "WITH RECURSIVE d(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM d WHERE i + 1 < $1 * $2) \
         INSERT INTO deliveries (d, n, c, namespace, channel, recipient, lane, place, head, state, reason, made, numbered, \
         due, expires) SELECT i + 1, i / $2 + 1, 1, $4, 'hook', 'receiver' || (i % $2), i, i, 0, 2, 'given up', $3, $3, \
         0, 0 FROM d",
    )
    .bind(alerts)
    .bind(receivers)
    .bind(attempts)
    .bind(NS)
    .execute(&mut conn)
    .await
    .unwrap();
    query(
        "WITH RECURSIVE a(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM a WHERE i < $1) \
         INSERT INTO attempts (d, number, instance, started, state, ended, outcome, reason) SELECT d.d, a.i, 'send-1', 0, 1, 1, \
         'Refused', $2 FROM deliveries d, a",
    )
    .bind(attempts)
    .bind("why ".repeat(100))
    .execute(&mut conn)
    .await
    .unwrap();
    raw_sql("COMMIT").execute(&mut conn).await.unwrap();
    drop(conn);
    let options = bed.options.clone();
    let ledger = ledger::Ledger::open(bed.database(), options, std::sync::Arc::new(Plain)).await.unwrap();
    Bed { ledger, ..bed }
}

/// Reads pages until there are this many stories. Returns how many pages it took.
async fn list(bed: &Bed, mut query: NotificationQuery, most: usize) -> (Vec<NotificationStory>, usize) {
    let (mut all, mut pages) = (Vec::new(), 0);
    loop {
        query.limit = Some((most - all.len()) as i64);
        let page = bed.ledger.notifications(NS, query.clone()).await.unwrap();
        let bytes = serde_json::to_string(&page).unwrap().len();
        assert!(bytes < 2 * 1024 * 1024, "a page of {bytes} bytes");
        all.extend(page.items);
        pages += 1;
        if page.next.is_none() || all.len() >= most {
            return (all, pages);
        }
        assert_ne!(page.next, query.after, "it goes on");
        query.after = page.next;
    }
}

#[tokio::test]
async fn three_hundred_alerts_with_sixteen_dead_receivers_of_twelve_attempts_come_whole_and_in_pages() {
    let bed = filled(ALERTS, RECEIVERS, ATTEMPTS).await;
    let (stories, pages) = list(&bed, NotificationQuery::default(), 300).await;
    let titles: Vec<_> = stories.iter().map(|story| story.notification.title.clone()).collect();
    assert_eq!(titles, (201..=500).rev().map(|n| format!("title {n}")).collect::<Vec<_>>());
    for story in &stories {
        assert_eq!((story.deliveries.len(), story.deliveries_left_out), (16, 0));
        assert!(story.deliveries.iter().all(|delivery| delivery.attempts.len() == 12));
        assert!(story.deliveries.iter().all(|delivery| delivery.attempts_left_out == 0));
    }
    assert!((10..100).contains(&pages), "{pages}");
}

#[tokio::test]
async fn a_query_with_few_matches_reads_a_bounded_page_and_has_a_cursor() {
    let bed = filled(1_200, 1, 1).await;
    let of = |state, object| NotificationQuery { state, object, ..NotificationQuery::default() };
    let (none, pages) = list(&bed, of(Some(DeliveryState::Pending), None), 500).await;
    assert_eq!((none.len(), pages), (0, 3));
    for (object, most) in [(RULE, 1_200), (HOOK, 1_200), (Uuid::from_u128(9), 0)] {
        let (all, _) = list(&bed, of(Some(DeliveryState::Dead), Some(object)), 10_000).await;
        assert_eq!(all.len(), most);
    }
    let gone = NotificationQuery { after: Some(Uuid::from_u128(9)), ..NotificationQuery::default() };
    let error = bed.ledger.notifications(NS, gone).await.unwrap_err();
    assert!(error.to_string().contains("begin anew"), "{error}");
}

#[tokio::test]
async fn what_is_asked_for_by_name_time_and_state_is_found_and_nothing_else() {
    let bed = filled(1_200, 1, 1).await;
    bed.put(vec![channel(Uuid::from_u128(7), "other", |_| {}), rule(Uuid::from_u128(8), "quiet", |_| {})])
        .await;
    let names = any().name;
    let text = |name: &str| Some(name.to_owned());
    let none = NotificationQuery::default;
    for (what, query, found) in [
        ("rule", NotificationQuery { rule: text(&names), ..none() }, 1_200),
        ("another rule", NotificationQuery { rule: text("quiet"), ..none() }, 0),
        ("channel", NotificationQuery { channel: text("hook"), ..none() }, 1_200),
        ("another channel", NotificationQuery { channel: text("other"), ..none() }, 0),
        ("since", NotificationQuery { since: Some(at(1_101)), ..none() }, 100),
        (
            "all of them",
            NotificationQuery {
                rule: text(&names),
                channel: text("hook"),
                since: Some(at(1_101)),
                state: Some(DeliveryState::Dead),
                object: Some(RULE),
                ..none()
            },
            100,
        ),
        (
            "a state of another channel's delivery",
            NotificationQuery { channel: text("other"), state: Some(DeliveryState::Dead), ..none() },
            0,
        ),
        ("two causes", NotificationQuery { rule: text("quiet"), object: Some(RULE), ..none() }, 0),
    ] {
        let (stories, pages) = list(&bed, query, 10_000).await;
        assert_eq!(stories.len(), found, "{what}");
        assert!(what != "since" || pages == 1, "it ends where older ones begin: {pages}");
    }
    for query in [
        NotificationQuery { rule: text("nowhere"), ..none() },
        NotificationQuery { schedule: text(&names), ..none() },
        NotificationQuery { channel: text("nowhere"), ..none() },
    ] {
        let error = bed.ledger.notifications(NS, query).await.unwrap_err();
        assert!(error.to_string().contains("of namespace payments"), "{error}");
    }
    let error = bed.ledger.notifications("other", NotificationQuery { rule: text(&names), ..none() }).await;
    assert!(error.is_err(), "a name is of its namespace");
}

#[tokio::test]
async fn a_list_of_dead_letters_says_which_topics_have_others() {
    let bed = Bed::new().await;
    let letters = |topic: &str| {
        let topic = topic.to_owned();
        move |rule: &mut domain::RulePlan| rule.dead_letter_topic = Some(topic)
    };
    bed.put(vec![
        rule(Uuid::from_u128(7), "one", letters("a-dead")),
        rule(Uuid::from_u128(8), "two", letters("b-dead")),
        rule(Uuid::from_u128(9), "three", |_| {}),
    ])
    .await;
    let list = bed.ledger.dead_letters(NS, DeadLetterQuery::default()).await.unwrap();
    let told: Vec<_> = list.topics.iter().map(|it| (it.rule.as_str(), it.topic.as_str())).collect();
    let default = format!("{TOPIC}.DLT");
    assert_eq!(told, [("one", "a-dead"), ("three", default.as_str()), ("two", "b-dead")]);
    assert!(list.items.is_empty());
    assert!(bed.ledger.dead_letters("other", DeadLetterQuery::default()).await.unwrap().topics.is_empty());
}

#[tokio::test]
async fn a_story_that_is_too_long_is_cut_and_says_so() {
    let bed = filled(1, 700, 40).await;
    let (stories, _) = list(&bed, NotificationQuery::default(), 1).await;
    let story = &stories[0];
    assert_eq!((story.deliveries.len(), story.deliveries_left_out), (500, 200));
    for delivery in &story.deliveries {
        let numbers: Vec<i32> = delivery.attempts.iter().map(|attempt| attempt.number).collect();
        assert_eq!((numbers, delivery.attempts_left_out), (vec![37, 38, 39, 40], 36), "the last ones");
    }
}

#[tokio::test]
async fn the_feed_comes_in_pages_of_bytes() {
    let bed = Bed::new().await;
    bed.ledger.clone().close().await;
    let mut conn = raw(&bed.database()).await;
    let status = protocol::messages::ObjectStatus {
        uid: HOOK,
        namespace: NS.into(),
        name: "x".repeat(100_000),
        revision: hook().revision(),
        generation: 1,
        running: 0,
        problems: Vec::new(),
        body: protocol::messages::StatusBody::Schedule(protocol::messages::ScheduleStatus::default()),
    };
    for version in 1..=100 {
        query("INSERT INTO statuses (uid, version, published, body) VALUES ($1, $1, 0, $2)")
            .bind(version)
            .bind(serde_json::to_string(&status).unwrap())
            .execute(&mut conn)
            .await
            .unwrap();
    }
    drop(conn);
    let options = bed.options.clone();
    let ledger = ledger::Ledger::open(bed.database(), options, std::sync::Arc::new(Plain)).await.unwrap();
    let (mut after, mut sizes) = (0, Vec::new());
    loop {
        let feed = ledger.feed(after).await.unwrap();
        if feed.objects.is_empty() {
            assert_eq!(feed.version, 100);
            break;
        }
        sizes.push(feed.objects.len());
        after = feed.version;
    }
    assert_eq!(sizes, [41, 41, 18]);
}
