//! Tests the consumer against librdkafka's mock cluster and a hub in this process.

mod errors;
mod hub;
mod sources;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use clap::Parser as _;
use domain::{Condition, Digest, DropReason, Millis, RulePlan, Severity, Source, StartFrom};
use protocol::messages::{SourcePlan, SourceRule};
use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::*;
use crate::config::Config;
use hub::{Hub, Mode};

/// 900 kB that are not JSON.
static LARGE: LazyLock<String> = LazyLock::new(|| "not json ".repeat(100_000));
/// Longest wait for a condition.
const PATIENCE: Duration = Duration::from_secs(45);
const SOURCE: &str = "source";
const EACH: Uuid = Uuid::from_u128(1);
const OFTEN: Uuid = Uuid::from_u128(2);

struct Bench {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: FutureProducer,
    hub: Hub,
    running: Vec<(Context, JoinHandle<anyhow::Result<()>>)>,
}

impl Bench {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // `BELFRY_LOG=debug cargo test ...` shows the log of a failed test. Otherwise another test captures the log.
        if std::env::var_os("BELFRY_LOG").is_some() {
            let filter = tracing_subscriber::EnvFilter::from_env("BELFRY_LOG");
            let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        }
        let cluster = MockCluster::new(1).unwrap();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("allow.auto.create.topics", "false")
            .create()
            .unwrap();
        Self { cluster, producer, hub: Hub::start().await, running: Vec::new() }
    }

    fn plan(&self, rules: &[(Uuid, &str)]) {
        self.plan_with(rules, |_, _| ());
    }

    /// The same, with changes to the source and to each rule.
    fn plan_with(&self, rules: &[(Uuid, &str)], change: impl Fn(&mut Source, &mut RulePlan)) {
        let mut source = Source::default();
        let servers = vec![self.cluster.bootstrap_servers()];
        let rules: BTreeMap<Uuid, SourceRule> = rules
            .iter()
            .map(|(uid, matches)| {
                let condition = if *uid == EACH {
                    Condition::Any
                } else {
                    Condition::Frequency { count: 3, window: Millis::from_secs(60) }
                };
                let mut plan = rule(servers.clone(), matches, condition);
                source = plan.source.clone();
                change(&mut source, &mut plan);
                let rule = SourceRule {
                    name: uid.to_string(),
                    revision: Digest::of(&plan),
                    state: plan.counting_hash(),
                    plan,
                };
                (*uid, rule)
            })
            .collect();
        let revision = Digest::of(&rules);
        let topics = vec!["logs".to_owned()];
        self.hub.ledger().plan = Some(SourcePlan { revision, source, rules, topics });
    }

    fn consume(&mut self, instance: &str) {
        self.consume_with(instance, "/nonexistent");
    }

    fn consume_with(&mut self, instance: &str, files: &str) {
        let config = Config::parse_from([
            "belfry-worker",
            "consume",
            "--source",
            SOURCE,
            "--hub-url",
            &self.hub.url,
            "--namespace",
            "payments",
            "--instance",
            instance,
            "--files",
            files,
            "--allowed-ranges",
            "127.0.0.0/8",
            "--token-file",
            concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/token"),
        ]);
        let context = Context::new(config).unwrap();
        self.running.push((context.clone(), tokio::spawn(run(context, SOURCE.to_owned()))));
    }

    /// Stops the consumer that was started first, and says how long it took.
    async fn stop(&mut self) -> Duration {
        let (context, handle) = self.running.remove(0);
        let begun = Instant::now();
        context.stop.cancel();
        handle.await.unwrap().unwrap();
        begun.elapsed()
    }

    async fn produce(&self, partition: i32, value: &str) -> i64 {
        let record = FutureRecord::<[u8], str>::to("logs").partition(partition).payload(value);
        self.producer.send(record, PATIENCE).await.unwrap().offset
    }

    /// The same to the first partition, with a timestamp of the producer.
    async fn produce_at(&self, time_ms: i64, value: &str) -> i64 {
        let record = FutureRecord::<[u8], str>::to("logs").partition(0).timestamp(time_ms).payload(value);
        self.producer.send(record, PATIENCE).await.unwrap().offset
    }

    async fn produce_many(&self, partitions: i32, count: i64) {
        let sent = (0..count).map(|n| async move {
            let value = format!("{{\"n\":{n},\"level\":\"{}\"}}", if n % 10 == 0 { "ERROR" } else { "INFO" });
            self.produce(n as i32 % partitions, &value).await
        });
        futures::future::join_all(sent).await;
    }

    async fn until(&self, what: &str, mut holds: impl FnMut(&mut hub::Ledger) -> bool) {
        let begun = Instant::now();
        while !holds(&mut self.hub.ledger()) {
            assert!(begun.elapsed() < PATIENCE, "waited for: {what}; {:#?}", self.hub.ledger());
            assert!(self.running.iter().all(|(_, handle)| !handle.is_finished()), "the consumer ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_read(&self, count: i64) {
        self.until(&format!("{count} records read"), |ledger| total(ledger) >= count).await;
    }

    fn each_once(&self, expected: usize) {
        let ledger = self.hub.ledger();
        assert!(ledger.records.values().all(|times| *times == 1), "{:?}", ledger.records);
        assert_eq!(ledger.records.len(), expected);
    }
}

fn total(ledger: &hub::Ledger) -> i64 {
    ledger.topics.get("logs").map_or(0, |(_, next)| next.iter().sum())
}

pub fn rule(servers: Vec<String>, matches: &str, condition: Condition) -> RulePlan {
    RulePlan {
        source: Source { bootstrap_servers: servers, ..Source::default() },
        topics: vec!["logs".to_owned()],
        start_from: StartFrom::Earliest,
        dead_letter_topic: None,
        matches: matches.to_owned(),
        group_by: BTreeMap::new(),
        condition,
        severity: Severity::Info,
        title: "t".to_owned(),
        summary: String::new(),
        notify: Vec::new(),
        repeat_interval: None,
        resolve: None,
        allowed_lateness: Millis(2_000),
        policy: domain::AlertPolicy::default(),
    }
}

const ERRORS: &str = "record.level == \"ERROR\"";

fn held(health: &crate::health::Health) -> usize {
    let metrics = health.metrics();
    let line = metrics.lines().find(|line| line.starts_with("belfry_worker_held_bytes "));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap()
}

/// The number of rebalances.
fn shared_out(health: &crate::health::Health) -> u64 {
    let metrics = health.metrics();
    let line = metrics.lines().find(|line| line.starts_with("belfry_worker_rebalances_total "));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap()
}

fn letters(bench: &Bench, count: usize) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bench.cluster.bootstrap_servers())
        .set("group.id", "test")
        .create()
        .unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset("logs.DLT", 0, rdkafka::Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let begun = Instant::now();
    let mut letters = Vec::new();
    while letters.len() < count {
        assert!(begun.elapsed() < PATIENCE, "{} letters", letters.len());
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            letters.push(message.detach());
        }
    }
    letters
}

#[tokio::test]
async fn each_record_is_counted_once_and_told_at_once_and_event_time_goes_on_when_idle() {
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 4, 1).unwrap();
    bench.plan(&[(EACH, ERRORS), (OFTEN, ERRORS)]);
    bench.produce_many(4, 400).await;
    bench.consume("a");
    bench.until_read(400).await;
    bench.each_once(40);
    assert_eq!(bench.hub.ledger().counts[&OFTEN], 40);

    let begun = Instant::now();
    bench.produce(1, "{\"level\":\"ERROR\"}").await;
    bench.until("the notification", |ledger| ledger.records.len() == 41).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let clock = events::now_ms();
    bench
        .until("all partitions have come as far as the clock", |ledger| {
            ledger.progress.len() == 4 && ledger.progress.values().all(|progress| *progress > clock)
        })
        .await;
    bench
        .until("what it runs is reported", |ledger| {
            ledger.reports.get("a").is_some_and(|report| {
                report.owned.len() == 4 && report.running.len() == 2 && report.problems.is_empty()
            })
        })
        .await;
}

#[tokio::test]
async fn a_record_ahead_of_the_clock_makes_no_record_of_a_backlog_late() {
    // On a busy machine the whole backlog may be read before the first commit ends, which proves nothing: try again.
    for _ in 0..10 {
        if a_commit_ended_within_the_backlog().await {
            return;
        }
    }
    panic!("no commit ended between");
}

/// Whether a commit ended while the backlog was read. Checks that no record of the backlog is late.
async fn a_commit_ended_within_the_backlog() -> bool {
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 1, 1).unwrap();
    bench.plan(&[(EACH, ERRORS), (OFTEN, "record.level == \"FATAL\"")]);
    // As if nobody had read for ten seconds.
    let then = events::now_ms() - 10_000;
    bench.produce_at(then + 8_000, "{\"level\":\"INFO\"}").await;
    // A notification is committed at once, so a commit ends with it.
    bench.produce_at(then, "{\"level\":\"ERROR\"}").await;
    let others = (0..9_000).map(|_| bench.produce_at(then + 500, "{\"level\":\"INFO\"}"));
    futures::future::join_all(others).await;
    let hit = bench.produce_at(then + 1_000, "{\"level\":\"FATAL\"}").await;
    bench.consume("a");
    bench.until_read(hit + 1).await;
    let ledger = bench.hub.ledger();
    assert_eq!((ledger.records.len(), ledger.counts[&OFTEN]), (1, 1));
    let before: Vec<_> = ledger.taken.iter().filter(|(to, _)| (1..=hit).contains(to)).collect();
    let late = |told: &Option<i64>| told.is_some_and(|told| told > then + 1_000);
    assert!(!before.iter().any(|(_, told)| late(told)), "{before:?} of {then}");
    !before.is_empty()
}

#[tokio::test]
async fn nothing_is_decided_past_the_records_of_a_topic_that_comes_later() {
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 1, 1).unwrap();
    let both = || vec!["logs".to_owned(), "more".to_owned()];
    bench.plan_with(&[(OFTEN, "true")], |_, rule| rule.topics = both());
    bench.hub.ledger().plan.as_mut().unwrap().topics = both();
    bench.consume("a");
    bench.produce(0, "{}").await;
    let begun = events::now_ms();
    let so_far = |ledger: &hub::Ledger| ledger.bounds.last().is_some_and(|(bound, _)| *bound > begun);
    bench.until("it is decided by the clock", |ledger| so_far(ledger)).await;
    bench.cluster.create_topic("more", 1, 1).unwrap();
    for _ in 0..10 {
        bench.produce(0, "{}").await;
        let record = FutureRecord::<[u8], str>::to("more").partition(0).payload("{}");
        bench.producer.send(record, PATIENCE).await.unwrap();
    }
    let produced = events::now_ms();
    let read = |ledger: &hub::Ledger| ledger.topics.get("more").is_some_and(|(_, next)| next[0] == 10);
    bench
        .until("it is read and decided", |ledger| {
            read(ledger) && ledger.bounds.last().is_some_and(|(bound, open)| *open == 2 && *bound > produced)
        })
        .await;
    let ledger = bench.hub.ledger();
    let past: Vec<_> = ledger.bounds.iter().filter(|(bound, open)| *open < 2 && *bound > produced).collect();
    assert_eq!(past, [] as [&(i64, usize); 0], "the records lie before {produced}");
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_or_that_is_not_taken_counts_once() {
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 2, 1).unwrap();
    bench.plan(&[(EACH, ERRORS), (OFTEN, ERRORS)]);
    bench.consume("a");
    bench.produce_many(2, 100).await;
    bench.until_read(100).await;
    for mode in [Mode::Mute, Mode::Down, Mode::Mute] {
        bench.hub.ledger().mode = mode;
        let muted = bench.hub.ledger().muted;
        bench.produce_many(2, 100).await;
        if mode == Mode::Mute {
            bench.until("a taken commit is sent again", |ledger| ledger.muted >= muted + 2).await;
        }
        bench.hub.ledger().mode = Mode::Up;
    }
    bench.until_read(400).await;
    bench.each_once(40);
    assert_eq!(bench.hub.ledger().counts[&OFTEN], 40);
    assert!(bench.hub.ledger().refused > 0, "the retries of taken commits were refused");
}

#[tokio::test]
async fn records_of_a_commit_that_is_too_large_are_read_again_in_smaller_parts() {
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 2, 1).unwrap();
    bench.plan(&[(EACH, ERRORS), (OFTEN, ERRORS)]);
    bench.hub.ledger().limit = Some(7);
    bench.produce_many(2, 1_000).await;
    bench.consume("a");
    bench.until_read(1_000).await;
    bench.each_once(100);
    let ledger = bench.hub.ledger();
    assert_eq!(ledger.counts[&OFTEN], 100);
    assert!((1..60).contains(&ledger.too_large), "{} commits held too much", ledger.too_large);
}

#[tokio::test]
async fn a_second_consumer_and_one_that_leaves_neither_lose_nor_repeat_a_record() {
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 6, 1).unwrap();
    bench.plan(&[(EACH, ERRORS), (OFTEN, ERRORS)]);
    bench.consume("a");
    bench.produce_many(6, 600).await;
    bench.until_read(600).await;
    bench.consume("b");
    for _ in 0..20 {
        bench.produce_many(6, 60).await;
    }
    bench
        .until("both own some", |ledger| {
            ["a", "b"]
                .iter()
                .all(|name| ledger.reports.get(*name).is_some_and(|report| report.owned.len() == 3))
        })
        .await;
    bench.produce_many(6, 600).await;
    let took = bench.stop().await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(bench.hub.ledger().reports["a"].leaving);
    bench.produce_many(6, 600).await;
    bench.until_read(3000).await;
    bench.each_once(300);
    assert_eq!(bench.hub.ledger().counts[&OFTEN], 300);
}

#[tokio::test]
async fn a_rule_added_while_running_starts_where_the_source_stands_and_nothing_is_recounted() {
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 2, 1).unwrap();
    bench.plan(&[(EACH, ERRORS)]);
    bench.consume("a");
    bench.produce_many(2, 200).await;
    bench.until_read(200).await;
    bench.plan(&[(EACH, ERRORS), (OFTEN, ERRORS), (Uuid::from_u128(3), "record.level ==")]);
    let begun = Instant::now();
    let revision = bench.hub.ledger().plan.as_ref().unwrap().revision.clone();
    bench
        .until("the new plan is in force", |ledger| {
            ledger.activated.contains_key(&(revision.clone(), 0))
                && ledger.activated.contains_key(&(revision.clone(), 1))
        })
        .await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    bench.produce_many(2, 200).await;
    bench.until_read(400).await;
    bench.each_once(40);
    assert_eq!(bench.hub.ledger().counts[&OFTEN], 20);
    bench
        .until("the broken rule is reported", |ledger| {
            let report = &ledger.reports["a"];
            report.running.len() == 2 && report.problems[&Uuid::from_u128(3)][0].reason == "RuleInvalid"
        })
        .await;

    bench.hub.ledger().plan = None;
    bench.until("it lets go", |ledger| ledger.reports["a"].owned.is_empty()).await;
    bench.produce_many(2, 10).await;
    bench.plan(&[(EACH, ERRORS)]);
    bench.until_read(410).await;
    bench.each_once(41);
}

#[tokio::test]
async fn a_ledger_at_another_offset_is_followed() {
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 1, 1).unwrap();
    bench.plan(&[(EACH, ERRORS)]);
    bench.consume("a");
    bench.produce_many(1, 100).await;
    bench.until_read(100).await;
    // As if another consumer had committed: first less, then more than we have read.
    {
        let mut ledger = bench.hub.ledger();
        ledger.topics.get_mut("logs").unwrap().1[0] = 50;
        ledger.records.clear();
    }
    bench.produce_many(1, 10).await;
    bench.until_read(110).await;
    bench.each_once(6);
    bench.hub.ledger().topics.get_mut("logs").unwrap().1[0] = 115;
    bench.produce_many(1, 10).await;
    bench.until_read(120).await;
    bench.each_once(6);
}

#[tokio::test]
async fn a_record_that_is_not_json_is_in_the_dead_letter_topic_before_it_is_passed_over() {
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 1, 1).unwrap();
    bench.cluster.create_topic("logs.DLT", 1, 1).unwrap();
    bench.plan(&[(EACH, ERRORS)]);
    bench.consume("a");
    bench.produce(0, "{\"level\":\"ERROR\"}").await;
    bench.produce(0, "not json").await;
    let empty = FutureRecord::<str, str>::to("logs").partition(0).key("k").payload("");
    bench.producer.send(empty, PATIENCE).await.unwrap();
    let tombstone = FutureRecord::<str, str>::to("logs").partition(0).key("k");
    bench.producer.send(tombstone, PATIENCE).await.unwrap();
    bench.produce(0, "{\"level\":\"ERROR\"}").await;
    bench.until_read(5).await;
    bench.each_once(2);
    let letters = letters(&bench, 2);
    assert_eq!(letters[0].payload(), Some(&b"not json"[..]));
    assert_eq!((letters[1].payload(), letters[1].key()), (Some(&b""[..]), Some(&b"k"[..])));
    let headers = letters[0].headers().unwrap();
    let header = |name: &str| {
        let found = headers.iter().find(|header| header.key == name).unwrap();
        String::from_utf8(found.value.unwrap().to_vec()).unwrap()
    };
    assert!(header("belfry-reason").starts_with("Malformed"), "{}", header("belfry-reason"));
    assert_eq!(
        (header("belfry-topic"), header("belfry-partition"), header("belfry-offset")),
        ("logs".into(), "0".into(), "1".into())
    );
    let ledger = bench.hub.ledger();
    assert!(ledger.dead_letters.is_empty(), "{:?}", ledger.dead_letters);
    let reasons: BTreeMap<DropReason, i64> =
        ledger.dropped.iter().map(|dropped| (dropped.reason, dropped.count)).collect();
    assert!(
        reasons.contains_key(&DropReason::Undecodable) && reasons.contains_key(&DropReason::Tombstone),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn a_dead_letter_that_no_topic_takes_is_in_the_ledger() {
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 1, 1).unwrap();
    bench.plan(&[(EACH, ERRORS)]);
    bench.consume("a");
    bench.produce(0, "not json").await;
    bench.until_read(1).await;
    let ledger = bench.hub.ledger();
    assert_eq!(ledger.dead_letters.len(), 1);
    assert_eq!((ledger.dead_letters[0].offset, ledger.dead_letters[0].length), (0, 8));
}

/// Produces records that can't be decoded, with these headers, as a worker writes them.
async fn forge(bench: &Bench, topic: &str, count: usize, headers: &[(&str, &str)]) {
    let sent = (0..count).map(|_| {
        let headers = headers.iter().fold(rdkafka::message::OwnedHeaders::new(), |all, (key, value)| {
            all.insert(rdkafka::message::Header { key, value: Some(*value) })
        });
        let record = FutureRecord::<str, str>::to(topic).partition(0).payload("not json").headers(headers);
        async { bench.producer.send(record, PATIENCE).await.unwrap() }
    });
    futures::future::join_all(sent).await;
}

#[tokio::test]
async fn forged_headers_put_no_record_into_the_ledger_and_stop_no_later_dead_letter() {
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 1, 1).unwrap();
    bench.cluster.create_topic("logs.DLT", 1, 1).unwrap();
    bench.plan(&[(EACH, ERRORS)]);
    bench.consume("a");
    let reason = ("belfry-reason", "Malformed");
    forge(&bench, "logs", 20, &[reason]).await;
    bench.until_read(20).await;
    let forged = letters(&bench, 20);
    assert_eq!(forged.len(), 20);
    assert!(forged[0].headers().unwrap().iter().any(|header| header.key == "belfry-hops"));
    // A header that says that the record was a dead letter before only keeps it where it is.
    for hops in ["2", "255", "x"] {
        forge(&bench, "logs", 20, &[reason, ("belfry-hops", hops)]).await;
    }
    bench.until_read(80).await;
    bench.produce(0, "not json").await;
    bench.until_read(81).await;
    assert_eq!(letters(&bench, 21).len(), 21);
    let ledger = bench.hub.ledger();
    assert!(ledger.dead_letters.is_empty(), "{:?}", ledger.dead_letters);
    let undecodable = ledger.dropped.iter().filter(|dropped| dropped.reason == DropReason::Undecodable);
    assert_eq!(undecodable.map(|dropped| dropped.count).sum::<i64>(), 81, "each is counted");
}

#[tokio::test]
async fn sources_that_read_each_others_dead_letters_do_not_loop() {
    let mut bench = Bench::start().await;
    for topic in ["logs", "back"] {
        bench.cluster.create_topic(topic, 1, 1).unwrap();
    }
    // Each of two sources reads what the other writes. Here one source stands for both, with the plan of each in turn.
    let plan = |bench: &Bench, from: &str, to: &str| {
        bench.plan_with(&[(EACH, ERRORS)], |_, rule| {
            rule.topics = vec![from.to_owned()];
            rule.dead_letter_topic = Some(to.to_owned());
        });
        bench.hub.ledger().plan.as_mut().unwrap().topics = vec![from.to_owned()];
    };
    bench.produce(0, "not json").await;
    let read = |ledger: &hub::Ledger, topic: &str| ledger.topics.get(topic).map_or(0, |(_, next)| next[0]);
    for (from, to, count) in [("logs", "back", 1), ("back", "logs", 1), ("logs", "back", 2)] {
        plan(&bench, from, to);
        bench.consume(from);
        bench.until("it is read", |ledger| read(ledger, from) == count).await;
        bench.stop().await;
    }
    let servers = bench.cluster.bootstrap_servers();
    assert_eq!(crate::kafka::mock::held(&servers, "logs").await, 2);
    assert_eq!(crate::kafka::mock::held(&servers, "back").await, 1, "the second time it stays");
    assert!(bench.hub.ledger().dead_letters.is_empty());
}

#[tokio::test]
async fn a_source_that_reads_its_own_dead_letter_topic_does_not_write_to_it_again() {
    let mut bench = Bench::start().await;
    for topic in ["logs", "logs.DLT"] {
        bench.cluster.create_topic(topic, 1, 1).unwrap();
    }
    let both = || vec!["logs".to_owned(), "logs.DLT".to_owned()];
    bench.plan_with(&[(EACH, ERRORS)], |_, rule| rule.topics = both());
    bench.hub.ledger().plan.as_mut().unwrap().topics = both();
    bench.consume("a");
    forge(&bench, "logs", 1, &[]).await;
    forge(&bench, "logs.DLT", 30, &[]).await;
    let read = |ledger: &hub::Ledger, topic: &str| ledger.topics.get(topic).map_or(0, |(_, next)| next[0]);
    bench.until("all is read", |ledger| read(ledger, "logs") == 1 && read(ledger, "logs.DLT") == 31).await;
    assert!(bench.hub.ledger().dead_letters.is_empty());
}

#[tokio::test]
async fn the_ledger_takes_a_bounded_number_of_dead_letters_a_minute_and_the_rest_is_reported() {
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 1, 1).unwrap();
    bench.plan(&[(EACH, ERRORS)]);
    bench.consume("a");
    forge(&bench, "logs", 600, &[]).await;
    bench.until_read(600).await;
    let told = |ledger: &hub::Ledger| {
        let problems = ledger.reports.get("a")?.problems.get(&EACH)?;
        problems.iter().find(|problem| problem.reason == "DeadLettersNotKept").map(|it| it.message.clone())
    };
    bench.until("it is told", |ledger| told(ledger).is_some()).await;
    let ledger = bench.hub.ledger();
    // A minute may have begun meanwhile.
    assert!((256..=512).contains(&ledger.dead_letters.len()), "{}", ledger.dead_letters.len());
    let message = told(&ledger).unwrap();
    assert!(message.contains("of logs: dead-letter topic \"logs.DLT\" can't be"), "{message}");
}

#[tokio::test]
async fn while_the_hub_is_down_records_over_the_bound_wait_in_the_topic_and_are_read_afterwards() {
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 4, 1).unwrap();
    bench.plan(&[(EACH, ERRORS)]);
    bench.consume("a");
    bench.produce(0, "{}").await;
    bench.until_read(1).await;
    bench.hub.ledger().mode = Mode::Down;
    // The mock cluster keeps 5 MiB of a partition.
    for n in 0..16 {
        bench.produce(n % 4, &LARGE).await;
    }
    let health = bench.running[0].0.health.clone();
    let begun = Instant::now();
    while held(&health) < reader::MAX_UNCOMMITTED {
        assert!(begun.elapsed() < PATIENCE, "{}", held(&health));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bench.hub.ledger().mode = Mode::Up;
    bench.until_read(17).await;
    assert!(held(&health) < 2 * reader::MAX_UNCOMMITTED);
    let ledger = bench.hub.ledger();
    assert_eq!(ledger.dead_letters.len(), 16);
    assert_eq!(ledger.topics["logs"].1, [5, 4, 4, 4]);
}

#[tokio::test]
async fn records_removed_before_they_were_read_are_counted_in_a_problem_and_reading_goes_on() {
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 1, 1).unwrap();
    bench.plan(&[(EACH, ERRORS)]);
    bench.consume("a");
    bench.produce(0, "{}").await;
    bench.until_read(1).await;
    bench.stop().await;
    for _ in 0..10 {
        bench.produce(0, &LARGE).await;
    }
    bench.produce(0, "{\"level\":\"ERROR\"}").await;
    bench.consume("b");
    bench.until_read(12).await;
    bench.each_once(1);
    bench
        .until("the problem", |ledger| {
            let problems = ledger.reports.get("b").and_then(|report| report.problems.get(&EACH));
            problems.is_some_and(|problems| problems[0].reason == "OffsetsRemoved")
        })
        .await;
    // The mock cluster keeps 5 MiB of a partition: all but the last five large ones went.
    let message = bench.hub.ledger().reports["b"].problems[&EACH][0].message.clone();
    assert!(message.contains("of logs/0"), "{message}");
}

#[tokio::test]
async fn a_client_that_brings_nothing_of_what_is_there_is_replaced() {
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 1, 1).unwrap();
    bench.plan(&[(EACH, ERRORS), (OFTEN, ERRORS)]);
    bench.consume("a");
    bench.produce_many(1, 20).await;
    bench.until_read(20).await;
    // librdkafka does not tell of this error, and tries for ever.
    let outdated = RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH;
    bench.cluster.request_errors(RDKafkaApiKey::Fetch, &vec![outdated; 10_000]);
    bench.produce_many(1, 20).await;
    let health = bench.running[0].0.health.clone();
    let before = shared_out(&health);
    bench.until("another client is in the group", |_| shared_out(&health) > before).await;
    bench.cluster.clear_request_errors(RDKafkaApiKey::Fetch);
    bench.until_read(40).await;
    bench.each_once(4);
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_reported_and_read_when_it_does() {
    let mut bench = Bench::start().await;
    bench.plan(&[(EACH, ERRORS)]);
    bench.consume("a");
    let reason = |ledger: &hub::Ledger| {
        let report = ledger.reports.get("a")?;
        Some(report.problems.get(&EACH)?.first()?.reason.clone())
    };
    bench.until("the problem", |ledger| reason(ledger).as_deref() == Some("TopicNotFound")).await;
    bench.cluster.create_topic("logs", 2, 1).unwrap();
    let begun = Instant::now();
    bench.produce_many(2, 20).await;
    bench.until_read(20).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    bench.each_once(2);
    bench.until("it is healed", |ledger| reason(ledger).is_none()).await;
}

#[tokio::test]
async fn a_broker_that_is_down_is_reported_and_nothing_is_lost_when_it_is_back() {
    let mut bench = Bench::start().await;
    bench.cluster.create_topic("logs", 2, 1).unwrap();
    bench.plan(&[(EACH, ERRORS)]);
    bench.consume("a");
    bench.produce_many(2, 100).await;
    bench.until_read(100).await;
    bench.cluster.broker_down(1).unwrap();
    let reason =
        |ledger: &hub::Ledger| Some(ledger.reports.get("a")?.problems.get(&EACH)?.first()?.reason.clone());
    let begun = Instant::now();
    bench.until("the problem", |ledger| reason(ledger).as_deref() == Some("BrokerUnreachable")).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    bench.cluster.broker_up(1).unwrap();
    bench.produce_many(2, 100).await;
    bench.until_read(200).await;
    bench.until("it is healed", |ledger| reason(ledger).is_none()).await;
    bench.each_once(20);
}
