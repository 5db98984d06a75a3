//! A ledger in a folder of its own, and short ways to make its inputs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use domain::{
    AlertData, ChannelPlan, Condition, DeliveryPolicy, Digest, FileKind, FileRef, Millis, OnUnknown, Outcome,
    Plan, PlanBody, RecordRef, Resolve, RetryPolicy, RulePlan, Severity, Source, StartFrom, TemplateText,
    Values, WebhookFormat, WebhookPlan,
};
use jiff::Timestamp;
use ledger::{Database, Ledger, Options, Render, Rendered};
use protocol::messages::{
    AttemptOutcome, ClaimRequest, Commit, CommitResult, Count, Entry, Matched, NotificationQuery,
    NotificationStory, Pool, PositionsRequest, Sample, Survey, Task, TopicEnds,
};
use sqlx::{AnyConnection, Connection as _, PgConnection, raw_sql};
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const NS: &str = "payments";
pub(crate) const TOPIC: &str = "orders";
pub(crate) const TOPIC_ID: &str = "AAAA";
pub(crate) const HOOK: Uuid = Uuid::from_u128(1);
pub(crate) const RULE: Uuid = Uuid::from_u128(100);
const START: i64 = 1_800_000_000;

/// The time this many seconds after the start of the test's time.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(START + seconds).unwrap()
}

pub(crate) fn ms(seconds: i64) -> i64 {
    at(seconds).as_millisecond()
}

pub(crate) struct Plain;

impl Render for Plain {
    fn alert(&self, alert: &AlertData<'_>, _: std::time::Instant) -> Rendered {
        let title = format!("{} {} {}", alert.rule, alert.word(), alert.count);
        Rendered {
            title: if alert.plan.summary == TITLED { alert.with_status_prefix(title) } else { title },
            summary: saw(alert.value, alert.previous, alert.values, alert.top),
        }
    }
}

/// A rule with this summary gets titles like a hub's.
pub(crate) const TITLED: &str = "titled";

/// What a condition saw, and the top values, as text; empty for a rule that only counts.
pub(crate) fn saw(
    value: Option<&str>,
    previous: Option<&str>,
    values: &[String],
    top: &BTreeMap<String, Values>,
) -> String {
    if value.is_none() && top.is_empty() {
        return String::new();
    }
    format!("{value:?} {previous:?} {values:?} {top:?}")
}

/// The URL of a database on the server on which each test makes a database of its own. If it isn't set, a test has a file.
const POSTGRES: &str = "BELFRY_TEST_POSTGRES";

/// Whether tests run on PostgreSQL.
pub(crate) fn is_postgres() -> bool {
    std::env::var_os(POSTGRES).is_some()
}

/// A database for one test.
pub(crate) struct Store {
    pub(crate) dir: TempDir,
    pub(crate) database: Database,
}

impl Store {
    /// A file, whatever else tests run on.
    pub(crate) fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(dir.path().join("ledger.db"));
        Self { dir, database }
    }

    #[allow(clippy::disallowed_methods, reason = "tests that run at once need databases of different names")]
    pub(crate) async fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let Ok(server) = std::env::var(POSTGRES) else { return Self::sqlite() };
        let dir = tempfile::tempdir().unwrap();
        let name = format!("test_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let mut conn = PgConnection::connect(&server).await.unwrap();
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        raw_sql(create).execute(&mut conn).await.unwrap();
        let (server, _) = server.rsplit_once('/').unwrap();
        Self { dir, database: Database::Postgres(format!("{server}/{name}")) }
    }
}

/// Connects to a database without its ledger.
pub(crate) async fn raw(database: &Database) -> AnyConnection {
    sqlx::any::install_default_drivers();
    let url = match database {
        Database::Sqlite(path) => format!("sqlite://{}?mode=rwc", path.display()),
        Database::Postgres(url) => url.clone(),
        Database::PostgresUrlFile(_) => unreachable!("tests have URLs"),
    };
    AnyConnection::connect(&url).await.unwrap()
}

pub(crate) struct Bed {
    pub(crate) store: Store,
    pub(crate) ledger: Ledger,
    pub(crate) options: Options,
}

impl Bed {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(set: impl FnOnce(&mut Options)) -> Self {
        Self::on(Store::new().await, set).await
    }

    pub(crate) async fn on(store: Store, set: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::new(Uuid::from_u128(42));
        set(&mut options);
        let ledger = Ledger::open(store.database.clone(), options.clone(), Arc::new(Plain)).await.unwrap();
        Self { store, ledger, options }
    }

    pub(crate) fn database(&self) -> Database {
        self.store.database.clone()
    }

    /// A hub of its own over the same database, which must be PostgreSQL's.
    pub(crate) async fn another(&self) -> Self {
        let store = Store { dir: tempfile::tempdir().unwrap(), database: self.database() };
        let ledger = Ledger::open(self.database(), self.options.clone(), Arc::new(Plain)).await.unwrap();
        Self { store, ledger, options: self.options.clone() }
    }

    pub(crate) async fn reopen(self) -> Self {
        self.ledger.close().await;
        let ledger =
            Ledger::open(self.store.database.clone(), self.options.clone(), Arc::new(Plain)).await.unwrap();
        Self { ledger, ..self }
    }

    /// Checks the stored numbers of groups and bytes against the rows. The ledger must be closed.
    pub(crate) async fn accounts_are_right(&self) {
        let mut conn = raw(&self.store.database).await;
        let wrong: Vec<(i64, i64, i64)> = sqlx::query_as(
            "SELECT g, bytes, CAST(taken AS BIGINT) FROM (SELECT g.g, g.bytes, 120 + 2 * octet_length(g.labels) \
             + octet_length(g.state) + coalesce(octet_length(g.sample), 0) + coalesce(octet_length(g.\"window\"), 0) \
             + (SELECT coalesce(sum(60 + octet_length(b.first) + octet_length(b.last) \
             + coalesce(octet_length(b.extras), 0) + coalesce(octet_length(b.top), 0)), 0) FROM buckets b \
             WHERE b.g = g.g) AS taken FROM groups g) g WHERE bytes <> taken",
        )
        .fetch_all(&mut conn)
        .await
        .unwrap();
        assert_eq!(wrong, [], "(group, bytes as counted, bytes as taken)");
        let wrong: Vec<(i64, i64, i64, i64)> = sqlx::query_as(
            "SELECT r, groups, bytes, CAST(taken AS BIGINT) FROM (SELECT r.r, r.groups, r.bytes, (SELECT coalesce(sum(bytes), 0) \
             FROM groups g WHERE g.r = r.r) AS taken, (SELECT count(*) FROM groups g WHERE g.r = r.r) AS there \
             FROM (SELECT r, groups, bytes FROM rules UNION ALL SELECT r, groups, bytes FROM leaving) r) r \
             WHERE bytes <> taken OR groups <> there",
        )
        .fetch_all(&mut conn)
        .await
        .unwrap();
        assert_eq!(wrong, [], "(rule, groups and bytes as counted, bytes as taken)");
    }

    pub(crate) async fn put(&self, plans: Vec<Plan>) {
        self.ledger.put_plans(plans, at(0)).await.unwrap();
        self.ledger.wait_until_decided().await;
    }

    /// Opens the topic with this many empty partitions.
    pub(crate) async fn open(&self, partitions: usize) {
        let ends = TopicEnds {
            topic: TOPIC.into(),
            topic_id: TOPIC_ID.into(),
            partitions: vec![(0, 0); partitions],
        };
        let request = PositionsRequest { topics: vec![ends] };
        self.ledger.positions(NS, &source(), request).await.unwrap();
    }

    pub(crate) async fn commit(&self, entries: Vec<Entry>, now: i64) -> CommitResult {
        self.commit_surveyed(entries, None, now).await
    }

    /// Commits with a survey, which says up to when all partitions are known.
    pub(crate) async fn commit_surveyed(
        &self,
        entries: Vec<Entry>,
        survey: Option<Survey>,
        now: i64,
    ) -> CommitResult {
        let plan = self.ledger.source_plan(NS, &source()).unwrap();
        let rules = plan.rules.iter().map(|(uid, rule)| (*uid, rule.state.clone())).collect();
        let commit = Commit { revision: plan.revision.clone(), rules, survey, entries };
        self.ledger.commit(NS, &source(), commit, at(now)).await.unwrap()
    }

    /// Commits one record of partition 0 for each offset, all matched by the `Any` rule.
    pub(crate) async fn records(&self, from: i64, to: i64, now: i64) -> CommitResult {
        let records = (from..to).map(|offset| matched(offset, "pay")).collect();
        self.commit(vec![Entry { records, ..entry(0, from, to) }], now).await
    }

    pub(crate) async fn claim(&self, pool: Pool, now: i64) -> Vec<Task> {
        self.claim_up_to(pool, now, 500).await
    }

    pub(crate) async fn claim_up_to(&self, pool: Pool, now: i64, max: i32) -> Vec<Task> {
        let request = ClaimRequest::new(pool, "send-1", max);
        let handed = self.ledger.claim(NS, request, at(now)).await.unwrap();
        // Decode the answer as a worker does.
        serde_json::from_str(&serde_json::to_string(&handed.tasks).unwrap()).unwrap()
    }

    /// When the pool's next delivery is due.
    pub(crate) async fn next_claim(&self, pool: Pool) -> Option<Timestamp> {
        self.ledger.next_claim_at(NS, &ClaimRequest::new(pool, "send-1", 1)).await.unwrap()
    }

    pub(crate) async fn told(&self, tasks: &[Task], outcome: &Outcome, now: i64) {
        let outcomes = tasks
            .iter()
            .map(|task| {
                let outcome = outcome.clone();
                (AttemptOutcome { delivery: task.delivery, attempt: task.attempt, outcome }, 1.0)
            })
            .collect();
        self.ledger.record_outcomes(NS, outcomes, at(now)).await.unwrap();
    }

    /// Forgets what was absent, and does the chores that follow. Returns how many objects and topics.
    pub(crate) async fn collect(&self, now: i64) -> u64 {
        let count = self.ledger.collect(at(now)).await.unwrap();
        self.chores(now).await;
        count
    }

    /// Does all chores. Returns in how many batches.
    pub(crate) async fn chores(&self, now: i64) -> usize {
        let (mut last, mut batches) = (String::new(), 0);
        while let Some(namespace) = self.ledger.run_chore(&last, at(now)).await.unwrap() {
            (last, batches) = (namespace, batches + 1);
            assert!(batches < 10_000, "it does not end");
        }
        batches
    }

    /// All notifications, oldest first.
    pub(crate) async fn stories(&self) -> Vec<NotificationStory> {
        self.stories_of(NS).await
    }

    pub(crate) async fn stories_of(&self, namespace: &str) -> Vec<NotificationStory> {
        let mut query = NotificationQuery { limit: Some(500), ..NotificationQuery::default() };
        let mut items = Vec::new();
        loop {
            let list = self.ledger.notifications(namespace, query.clone()).await.unwrap();
            items.extend(list.items);
            query.after = list.next;
            if query.after.is_none() {
                items.reverse();
                return items;
            }
        }
    }

    pub(crate) async fn titles(&self) -> Vec<String> {
        self.stories().await.into_iter().map(|story| story.notification.title).collect()
    }
}

/// Decides `step` groups at once; `waits` says whether a commit waits for what it left.
pub(crate) fn in_steps(options: &mut Options, step: usize, waits: bool) {
    options.groups_per_step = step;
    options.decide_wait = Millis(if waits { 5_000 } else { 0 });
}

pub(crate) fn later() -> Outcome {
    Outcome::Later { reason: "503".into(), wait: None, channel_wide: false }
}

pub(crate) fn policy() -> DeliveryPolicy {
    DeliveryPolicy {
        rate_limit: None,
        retry: RetryPolicy {
            max_attempts: 3,
            initial_delay: Millis::from_secs(10),
            max_delay: Millis::from_secs(3_600),
        },
        timeout: Millis::from_secs(10),
        expires_after: Millis::from_secs(86_400),
        on_unknown: OnUnknown::Resend,
    }
}

pub(crate) fn channel(uid: Uuid, name: &str, change: impl FnOnce(&mut ChannelPlan)) -> Plan {
    let mut channel = ChannelPlan {
        time_zone: None,
        target: WebhookPlan::post("http://sink", None, WebhookFormat::Json).into(),
        ca_bundle: None,
        template: TemplateText::default(),
        delivery: policy(),
    };
    change(&mut channel);
    plan(uid, name, PlanBody::NotificationChannel(channel))
}

pub(crate) fn plan(uid: Uuid, name: &str, body: PlanBody) -> Plan {
    Plan {
        namespace: NS.into(),
        name: name.into(),
        uid,
        generation: 1,
        created: at(-1_000),
        suspended: false,
        body,
    }
}

pub(crate) fn hook() -> Plan {
    channel(HOOK, "hook", |_| {})
}

pub(crate) fn secret(key: &str) -> FileRef {
    FileRef { kind: FileKind::Secret, name: "s".into(), key: key.into() }
}

fn kafka() -> Source {
    Source { bootstrap_servers: vec!["kafka:9092".into()], ..Source::default() }
}

pub(crate) fn source() -> String {
    kafka().key().as_str().to_owned()
}

pub(crate) fn rule(uid: Uuid, name: &str, change: impl FnOnce(&mut RulePlan)) -> Plan {
    let mut rule = RulePlan {
        source: kafka(),
        topics: vec![TOPIC.into()],
        start_from: StartFrom::Latest,
        dead_letter_topic: None,
        matches: "true".into(),
        group_by: BTreeMap::from([("service".into(), "record.service".into())]),
        condition: Condition::Any,
        severity: Severity::Critical,
        title: "t".into(),
        summary: String::new(),
        notify: vec!["hook".into()],
        repeat_interval: None,
        resolve: None,
        allowed_lateness: Millis(0),
        policy: domain::AlertPolicy::default(),
    };
    change(&mut rule);
    plan(uid, name, PlanBody::AlertRule(rule))
}

/// A rule that notifies of every record.
pub(crate) fn any() -> Plan {
    rule(RULE, "any", |_| {})
}

/// A rule that fires at three records in ten seconds, with buckets of a second, and notifies when ten quiet seconds
/// resolve it.
pub(crate) fn three() -> Plan {
    rule(RULE, "three", |rule| {
        rule.condition = Condition::Frequency { count: 3, window: Millis::from_secs(10) };
        rule.resolve = Some(Resolve { after: None, notify: true, below: None });
    })
}

/// A rule's plan after a change, one generation later.
pub(crate) fn changed(mut plan: Plan, change: impl FnOnce(&mut RulePlan)) -> Plan {
    plan.generation += 1;
    if let PlanBody::AlertRule(rule) = &mut plan.body {
        change(rule);
    }
    plan
}

pub(crate) fn group(service: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("service".into(), service.into())])
}

pub(crate) fn sample(partition: i32, offset: i64, seconds: i64) -> Sample {
    let at = RecordRef { time: at(seconds), topic: TOPIC.into(), partition, offset };
    Sample { at, value: serde_json::json!({"n": offset}) }
}

pub(crate) fn matched(offset: i64, service: &str) -> Matched {
    Matched { rule: RULE, group: group(service), sample: sample(0, offset, offset) }
}

/// A count of records of a service in this second.
pub(crate) fn count(service: &str, second: i64, count: i64) -> Count {
    Count {
        rule: RULE,
        group: group(service),
        bucket_ms: ms(second),
        count,
        first: sample(0, second, second),
        last: sample(0, second, second),
        extras: None,
        top: BTreeMap::new(),
    }
}

pub(crate) fn entry(partition: i32, from: i64, to: i64) -> Entry {
    Entry {
        topic: TOPIC.into(),
        topic_id: TOPIC_ID.into(),
        partition,
        from,
        to,
        progress_ms: None,
        end: to,
        counts: Vec::new(),
        records: Vec::new(),
        dropped: Vec::new(),
        since_ms: None,
        dead_letters: Vec::new(),
    }
}

/// The entry with its progress of event time.
pub(crate) fn until(entry: Entry, second: i64) -> Entry {
    Entry { progress_ms: Some(ms(second)), ..entry }
}

pub(crate) fn revision(plan: &Plan) -> Digest {
    plan.revision()
}
