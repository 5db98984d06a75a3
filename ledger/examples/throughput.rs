//! Prints how many notifications a second the ledger makes, hands out and completes, in three commits a set, and how many
//! buckets of groups it counts and decides: with SQLite on the disk of the folder given as the first argument (default: the
//! system's folder for temporary files), or with PostgreSQL, where the argument is a database's URL; it makes others beside it.
//!
//! Run: `cargo run -p belfry-ledger --example throughput -- <folder or URL>`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool that stops at the first fault and prints"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use domain::{
    ChannelPlan, Condition, Count, DeliveryPolicy, Millis, OnUnknown, Outcome, Plan, PlanBody, RecordRef,
    RetryPolicy, RulePlan, Severity, Source, StartFrom, TemplateText, WebhookFormat, WebhookPlan,
};
use jiff::Timestamp;
use ledger::{Database, Ledger, Options, Render, Rendered};
use protocol::messages::{
    AttemptOutcome, ClaimRequest, Commit, Entry, Matched, Pool, PositionsRequest, Sample, TopicEnds,
};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

const NS: &str = "bench";
const RULE: Uuid = Uuid::from_u128(2);

struct Plain;

impl Render for Plain {
    fn alert(&self, alert: &domain::AlertData<'_>, _: Instant) -> Rendered {
        Rendered { title: format!("{} is failing", alert.rule), summary: String::new() }
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn plans(condition: Condition) -> Vec<Plan> {
    let channel = ChannelPlan {
        time_zone: None,
        target: WebhookPlan::post("http://sink", None, WebhookFormat::Json).into(),
        ca_bundle: None,
        template: TemplateText::default(),
        delivery: DeliveryPolicy {
            rate_limit: None,
            retry: RetryPolicy { max_attempts: 8, initial_delay: Millis(1), max_delay: Millis(1) },
            timeout: Millis::from_secs(10),
            expires_after: Millis::from_secs(86_400),
            on_unknown: OnUnknown::Resend,
        },
    };
    let rule = RulePlan {
        source: Source { bootstrap_servers: vec!["kafka:9092".into()], ..Source::default() },
        topics: vec!["orders".into()],
        start_from: StartFrom::Earliest,
        dead_letter_topic: None,
        matches: "true".into(),
        group_by: BTreeMap::new(),
        condition,
        severity: Severity::Warning,
        title: "t".into(),
        summary: String::new(),
        notify: vec!["hook".into()],
        repeat_interval: None,
        resolve: None,
        allowed_lateness: Millis(0),
        policy: domain::AlertPolicy::default(),
    };
    let plan = |uid, name: &str, body| Plan {
        namespace: NS.into(),
        name: name.into(),
        uid,
        generation: 1,
        created: now(),
        suspended: false,
        body,
    };
    vec![
        plan(Uuid::from_u128(1), "hook", PlanBody::NotificationChannel(channel)),
        plan(RULE, "errors", PlanBody::AlertRule(rule)),
    ]
}

fn source() -> String {
    let source = Source { bootstrap_servers: vec!["kafka:9092".into()], ..Source::default() };
    source.key().as_str().to_owned()
}

/// Makes an empty database; a file's folder is removed when the second value is dropped.
async fn database(place: &str) -> (Database, Option<tempfile::TempDir>) {
    static MADE: AtomicU32 = AtomicU32::new(0);
    if !place.starts_with("postgres") {
        let dir = tempfile::tempdir_in(place).unwrap();
        return (Database::Sqlite(dir.path().join("ledger.db")), Some(dir));
    }
    let name = format!("bench_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
    let mut conn = PgConnection::connect(place).await.unwrap();
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::raw_sql(create).execute(&mut conn).await.unwrap();
    let (server, _) = place.rsplit_once('/').unwrap();
    (Database::Postgres(format!("{server}/{name}")), None)
}

/// Opens a ledger with the plans and an open topic.
async fn open(database: &Database, condition: Condition) -> Ledger {
    let options = Options::new(Uuid::from_u128(9));
    let ledger = Ledger::open(database.clone(), options, Arc::new(Plain)).await.unwrap();
    ledger.put_plans(plans(condition), now()).await.unwrap();
    let ends = TopicEnds { topic: "orders".into(), topic_id: "A".into(), partitions: vec![(0, 0)] };
    ledger.positions(NS, &source(), PositionsRequest { topics: vec![ends] }).await.unwrap();
    ledger
}

fn commit(ledger: &Ledger, entry: Entry) -> Commit {
    let plan = ledger.source_plan(NS, &source()).unwrap();
    let rules = plan.rules.iter().map(|(uid, rule)| (*uid, rule.state.clone())).collect();
    Commit { revision: plan.revision.clone(), rules, survey: None, entries: vec![entry] }
}

/// This many matched records, each of a group of its own.
fn records(from: i64, size: i64) -> Entry {
    let record = |offset: i64| Matched {
        rule: RULE,
        group: BTreeMap::from([("service".into(), format!("service-{offset}"))]),
        sample: Sample {
            at: RecordRef { time: now(), topic: "orders".into(), partition: 0, offset },
            value: serde_json::json!({"message": "payment declined", "code": offset}),
        },
    };
    Entry { records: (from..from + size).map(record).collect(), ..entry(from, size, now().as_millisecond()) }
}

/// One record for each of this many groups, all in the same second.
fn counts(from: i64, size: i64, at_ms: i64) -> Entry {
    let count = |group: i64| {
        let time = Timestamp::from_millisecond(at_ms).unwrap();
        let at = RecordRef { time, topic: "orders".into(), partition: 0, offset: from + group };
        let sample = Sample { at, value: serde_json::json!({"message": "payment declined", "code": group}) };
        Count {
            rule: RULE,
            group: BTreeMap::from([("service".into(), format!("service-{group}"))]),
            bucket_ms: at_ms,
            count: 1,
            first: sample.clone(),
            last: sample,
            extras: None,
            top: BTreeMap::new(),
        }
    };
    Entry { counts: (0..size).map(count).collect(), ..entry(from, size, at_ms + 1_000) }
}

fn entry(from: i64, size: i64, progress_ms: i64) -> Entry {
    Entry {
        topic: "orders".into(),
        topic_id: "A".into(),
        partition: 0,
        from,
        to: from + size,
        progress_ms: Some(progress_ms),
        end: from + size,
        counts: vec![],
        records: vec![],
        dropped: vec![],
        since_ms: None,
        dead_letters: vec![],
    }
}

/// Measures buckets of groups: each second of event time is one commit that counts and decides them. No group fires.
async fn deciding(place: &str, groups: i64) {
    let (database, _dir) = database(place).await;
    let condition = Condition::Frequency { count: 1_000, window: Millis::from_secs(60) };
    let ledger = open(&database, condition).await;
    let (mut from, mut at, mut timed, mut decided) = (0, now().as_millisecond(), Duration::ZERO, 0);
    // Fill a whole window first, so that each measured decision looks at as many buckets as it ever will.
    for second in 0.. {
        let what = commit(&ledger, counts(from, groups, at));
        let start = Instant::now();
        ledger.commit(NS, &source(), what, Timestamp::from_millisecond(at + 1_000).unwrap()).await.unwrap();
        if second >= 60 {
            timed += start.elapsed();
            decided += groups;
        }
        (from, at) = (from + groups, at + 1_000);
        if timed > Duration::from_secs(3) {
            break;
        }
    }
    let seconds = timed.as_secs_f64();
    println!(
        "{groups:5} groups, 60 buckets each: {:.0} (group, bucket) a second counted and decided, {:.1} us each",
        decided as f64 / seconds,
        seconds * 1e6 / decided as f64
    );
    ledger.close().await;
}

#[tokio::main]
async fn main() {
    let temporary = || std::env::temp_dir().display().to_string();
    let place = std::env::args().nth(1).unwrap_or_else(temporary);
    for size in [10, 100, 500] {
        let (database, _dir) = database(&place).await;
        let ledger = open(&database, Condition::Any).await;
        let (begun, before) = (Instant::now(), ledger.writer_metrics());
        let (mut done, mut parts) = (0, [Duration::ZERO; 3]);
        while begun.elapsed() < Duration::from_secs(3) {
            let start = Instant::now();
            let records = commit(&ledger, records(done, size));
            ledger.commit(NS, &source(), records, now()).await.unwrap();
            parts[0] += start.elapsed();
            let start = Instant::now();
            let request = ClaimRequest::new(Pool::Send, "bench", size as i32);
            let tasks = ledger.claim(NS, request, now()).await.unwrap().tasks;
            assert_eq!(tasks.len() as i64, size);
            parts[1] += start.elapsed();
            let start = Instant::now();
            let outcomes = tasks
                .iter()
                .map(|task| {
                    let (delivery, attempt) = (task.delivery, task.attempt);
                    (AttemptOutcome { delivery, attempt, outcome: Outcome::Delivered }, 0.5)
                })
                .collect();
            ledger.record_outcomes(NS, outcomes, now()).await.unwrap();
            parts[2] += start.elapsed();
            done += size;
        }
        let seconds = begun.elapsed().as_secs_f64();
        let commits = ledger.writer_metrics().commits - before.commits;
        let micros = parts.map(|part| part.as_secs_f64() * 1e6 / done as f64);
        println!(
            "sets of {size:3}: {:6.0} notifications/s, {:.4} commits a notification; \
             us a notification: make {:.1}, hand out {:.1}, complete {:.1}",
            done as f64 / seconds,
            commits as f64 / done as f64,
            micros[0],
            micros[1],
            micros[2],
        );
        ledger.close().await;
    }
    for groups in [100, 1_000] {
        deciding(&place, groups).await;
    }
}
