//! What the hub's tests share: a hub in the test's process, with a ledger in its own folder, and a fake of the API server's reviews.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::expect_used, clippy::panic, reason = "this is a test")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Parser as _;
use domain::{
    CatchUp, CatchUpPolicy, ChannelPlan, Condition, DeliveryPolicy, Digest, Millis, OnUnknown, Plan,
    PlanBody, RecordRef, RecurrenceSpec, ReminderPlan, ReminderTime, RetryPolicy, RulePlan, Sample,
    SchedulePlan, Severity, Source, StartFrom, Target, TemplateText, WebhookFormat, WebhookPlan,
};
use futures::future::BoxFuture;
use hub::auth::{Identity, ReviewError, Reviewer};
use hub::{Chance, Config, Hub, Start};
use jiff::{SignedDuration, Timestamp};
use ledger::NamespaceIdentity;
use protocol::messages::{Commit, Entry, Matched, PositionsRequest, PutPlans, TopicEnds};
use protocol::{Client, ClientConfig, TokenSource};
use uuid::Uuid;

pub(crate) const OPERATOR: &str = "system:serviceaccount:belfry-system:belfry-operator";
/// When objects were created and records written: 2026-11-21.
pub(crate) const THEN: Timestamp = Timestamp::constant(1_795_220_000, 0);

/// Stands in for the API server's reviews. It knows tokens by their text, and can be `down`.
#[derive(Default)]
pub(crate) struct FakeReviewer {
    /// Tokens for the audience `belfry-hub`, with their user names.
    hub: Mutex<BTreeMap<String, String>>,
    /// Tokens for the API server, with their user names.
    cluster: Mutex<BTreeMap<String, String>>,
    /// (user name, namespace): who may read where.
    readers: Mutex<Vec<(String, String)>>,
    namespaces: Mutex<BTreeMap<String, NamespaceIdentity>>,
    pub down: AtomicBool,
    /// How many reviews of tokens and rights were asked for.
    pub asked: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeReviewer {
    fn answer<T>(&self, answer: T) -> Result<T, ReviewError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.down.load(Ordering::Relaxed) { Err(ReviewError("down".to_owned())) } else { Ok(answer) }
    }
}

impl Reviewer for FakeReviewer {
    fn token<'a>(
        &'a self,
        token: &'a str,
        audience: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<Identity>, ReviewError>> {
        let for_hub = audience.is_some_and(|audience| audience.starts_with("belfry-hub"));
        let book = if for_hub { &self.hub } else { &self.cluster };
        let who = lock(book).get(token).cloned();
        let who = who.map(|username| Identity { username, ..Identity::default() });
        Box::pin(async move { self.answer(who) })
    }

    fn namespace<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<NamespaceIdentity>, ReviewError>> {
        let known = lock(&self.namespaces).get(name).copied();
        let made =
            known.unwrap_or(NamespaceIdentity { uid: Uuid::from_u128(1), created: Timestamp::UNIX_EPOCH });
        let down = self.down.load(Ordering::Relaxed);
        Box::pin(async move { if down { Err(ReviewError("down".to_owned())) } else { Ok(Some(made)) } })
    }

    fn may_read<'a>(&'a self, who: &'a Identity, ns: &'a str) -> BoxFuture<'a, Result<bool, ReviewError>> {
        let may = lock(&self.readers).contains(&(who.username.clone(), ns.to_owned()));
        Box::pin(async move { self.answer(may) })
    }
}

/// A token for the hub that expires at this Unix second. Each text gives another token.
pub(crate) fn jwt(text: &str, exp: i64) -> String {
    jwt_for("belfry-hub", text, exp)
}

/// The same for another audience.
pub(crate) fn jwt_for(audience: &str, text: &str, exp: i64) -> String {
    let payload = format!("{{\"aud\":[\"{audience}\"],\"exp\":{exp},\"sub\":\"{text}\"}}");
    format!("e30.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(payload))
}

/// The beginning of the year 2100, Unix seconds: when tokens of tests expire.
pub(crate) const YEAR_2100: i64 = 4_102_444_800;

/// A hub that a test starts, stops and starts again on the same folder.
pub(crate) struct TestHub {
    /// `None` while it is stopped.
    pub running: Option<Hub>,
    pub reviewer: Arc<FakeReviewer>,
    pub url: String,
    pub metrics_url: String,
    pub folder: PathBuf,
    flags: Vec<String>,
}

impl TestHub {
    /// Starts a hub for the test of this name, on an empty folder. `flags` are added to its command line.
    pub(crate) async fn new(name: &str, flags: &[&str]) -> Self {
        // Another test of the process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        capture_logs();
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("hub-{name}"));
        let _ = std::fs::remove_dir_all(&folder);
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        let (url, metrics_url) = (String::new(), String::new());
        let mut hub = Self { running: None, reviewer: Arc::default(), url, metrics_url, folder, flags };
        hub.start().await;
        hub
    }

    /// Starts the hub, for the first time or after a stop.
    pub(crate) async fn start(&mut self) {
        let mut args = vec![
            "belfry-hub".to_owned(),
            "--listen=127.0.0.1:0".to_owned(),
            "--metrics-listen=127.0.0.1:0".to_owned(),
            format!("--data-dir={}", self.folder.display()),
        ];
        args.extend(self.flags.iter().cloned());
        let start = Start {
            config: Config::parse_from(args),
            reviewer: self.reviewer.clone(),
            new_ledger: Uuid::from_u128(1),
            chance: Chance::new(7),
        };
        let hub = Hub::start(start).await.expect("the hub starts");
        self.url = format!("http://{}", hub.api);
        self.metrics_url = format!("http://{}", hub.metrics);
        self.running = Some(hub);
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(hub) = self.running.take() {
            hub.stop().await;
        }
    }

    pub(crate) fn client(&self, token: &str) -> Client {
        let token = TokenSource::Fixed(token.to_owned());
        Client::new(ClientConfig { url: self.url.clone(), ca: None, server_name: None, token })
            .expect("a client")
    }

    pub(crate) fn operator(&self) -> Client {
        let token = jwt("operator", YEAR_2100);
        lock(&self.reviewer.hub).insert(token.clone(), OPERATOR.to_owned());
        self.client(&token)
    }

    pub(crate) fn worker_token(&self, ns: &str) -> String {
        let token = jwt(&format!("worker of {ns}"), YEAR_2100);
        let name = format!("system:serviceaccount:{ns}:belfry-worker");
        lock(&self.reviewer.hub).insert(token.clone(), name);
        token
    }

    pub(crate) fn worker(&self, ns: &str) -> Client {
        self.client(&self.worker_token(ns))
    }

    /// A person's token, with the right to read in these namespaces. Another call for the same name adds namespaces.
    pub(crate) fn person_token(&self, name: &str, reads: &[&str]) -> String {
        let token = jwt(name, YEAR_2100);
        lock(&self.reviewer.hub).insert(token.clone(), name.to_owned());
        lock(&self.reviewer.readers).extend(reads.iter().map(|&ns| (name.to_owned(), ns.to_owned())));
        token
    }

    /// From now on the API server says that the namespace was deleted and created again.
    pub(crate) fn recreate_namespace(&self, ns: &str) {
        let made = NamespaceIdentity { uid: Uuid::from_u128(2), created: Timestamp::constant(1_000, 0) };
        lock(&self.reviewer.namespaces).insert(ns.to_owned(), made);
    }

    /// A token for the API server, which the hub takes only with `--accept-api-server-tokens`.
    pub(crate) fn cluster_token(&self, name: &str) -> String {
        let token = jwt_for("https://kubernetes.default.svc", name, YEAR_2100);
        lock(&self.reviewer.cluster).insert(token.clone(), name.to_owned());
        token
    }

    /// Makes the reviewer know a token for the hub.
    pub(crate) fn accept_token(&self, token: &str, username: &str) {
        lock(&self.reviewer.hub).insert(token.to_owned(), username.to_owned());
    }

    pub(crate) async fn get(&self, url: String) -> (u16, String) {
        let answer = reqwest::Client::new().get(url).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a text"))
    }

    /// Stores plans as the operator does.
    pub(crate) async fn put_plans(&self, plans: &[&Plan]) {
        let plans = PutPlans { plans: plans.iter().map(|&plan| plan.clone()).collect() };
        self.operator().put_plans(&plans).await.expect("plans are stored");
    }
}

/// The status of an answer; 200 if it was no error.
pub(crate) fn status_code<T: std::fmt::Debug>(result: Result<T, protocol::Error>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(error) => error.status().unwrap_or_else(|| panic!("no status: {error}")).as_u16(),
    }
}

/// Waits for a condition, at most 20 s, which is enough on a very busy machine.
pub(crate) async fn wait_until<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let begun = Instant::now();
    while !check().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

// ---- plans and commits ----

pub(crate) fn channel(ns: &str, name: &str, uid: u128) -> Plan {
    let webhook = WebhookPlan::post("http://receiver.example/hook", None, WebhookFormat::Json);
    let target = Target::from(webhook);
    let retry = RetryPolicy { max_attempts: 3, initial_delay: Millis(100), max_delay: Millis::from_secs(1) };
    let delivery = DeliveryPolicy {
        rate_limit: None,
        retry,
        timeout: Millis::from_secs(10),
        expires_after: Millis::from_secs(86_400),
        on_unknown: OnUnknown::Resend,
    };
    let body =
        ChannelPlan { time_zone: None, target, ca_bundle: None, template: TemplateText::default(), delivery };
    plan(ns, name, uid, PlanBody::NotificationChannel(body))
}

pub(crate) fn source() -> Source {
    Source { bootstrap_servers: vec!["kafka:9092".to_owned()], ..Source::default() }
}

pub(crate) fn rule(ns: &str, name: &str, uid: u128, title: &str) -> Plan {
    let body = RulePlan {
        source: source(),
        topics: vec!["payments".to_owned()],
        start_from: StartFrom::Earliest,
        dead_letter_topic: None,
        matches: "record.level == 'error'".to_owned(),
        group_by: BTreeMap::new(),
        condition: Condition::Any,
        severity: Severity::Critical,
        title: title.to_owned(),
        summary: String::new(),
        notify: vec!["hook".to_owned()],
        repeat_interval: None,
        resolve: None,
        allowed_lateness: Millis(0),
        policy: domain::AlertPolicy::default(),
    };
    plan(ns, name, uid, PlanBody::AlertRule(body))
}

pub(crate) fn schedule(ns: &str, name: &str, uid: u128) -> Plan {
    let body = SchedulePlan {
        title: "Office hour".to_owned(),
        about: domain::ScheduleDetails::default(),
        summary: None,
        recurrence: RecurrenceSpec {
            start: "2026-11-23T09:00".to_owned(),
            time_zone: "Europe/Berlin".to_owned(),
            duration: Some(SignedDuration::from_hours(1)),
            rule: Some("FREQ=WEEKLY".to_owned()),
            ..RecurrenceSpec::default()
        },
        reminders: vec![ReminderPlan {
            time: ReminderTime::Before { before_minutes: 10 },
            notify: vec!["hook".to_owned()],
        }],
        time_zones: std::collections::BTreeMap::new(),
        delay_minutes: 0,
        catch_up: CatchUp { policy: CatchUpPolicy::All, window: Millis::from_secs(3_600) },
    };
    plan(ns, name, uid, PlanBody::Schedule(body))
}

fn plan(ns: &str, name: &str, uid: u128, body: PlanBody) -> Plan {
    Plan {
        namespace: ns.to_owned(),
        name: name.to_owned(),
        uid: Uuid::from_u128(uid),
        generation: 1,
        created: THEN,
        suspended: false,
        body,
    }
}

/// A request for the positions of topic `payments`, whose one partition is empty.
pub(crate) fn topic_ends() -> PositionsRequest {
    let topic =
        TopicEnds { topic: "payments".to_owned(), topic_id: "topic-id".to_owned(), partitions: vec![(0, 0)] };
    PositionsRequest { topics: vec![topic] }
}

/// A commit of one record that the rule matched, at this offset.
pub(crate) fn commit_of_one(rule: &Plan, revision: Digest, offset: i64) -> Commit {
    let PlanBody::AlertRule(body) = &rule.body else { panic!("a rule") };
    let at = RecordRef { time: THEN, topic: "payments".to_owned(), partition: 0, offset };
    let sample = Sample { at, value: serde_json::json!({ "message": "boom" }) };
    let entry = Entry {
        topic: "payments".to_owned(),
        topic_id: "topic-id".to_owned(),
        partition: 0,
        from: offset,
        to: offset + 1,
        progress_ms: Some(THEN.as_millisecond()),
        end: offset + 1,
        counts: vec![],
        records: vec![Matched { rule: rule.uid, group: BTreeMap::new(), sample }],
        dropped: vec![],
        since_ms: None,
        dead_letters: vec![],
    };
    Commit {
        revision,
        rules: BTreeMap::from([(rule.uid, body.counting_hash())]),
        survey: None,
        entries: vec![entry],
    }
}

// ---- logs ----

static LOGS: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Capture;

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&LOGS).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn capture_logs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .json()
            .with_env_filter("trace,reqwest=info,hyper_util=info")
            .with_writer(|| Capture)
            .init();
    });
}

/// Everything that this process has logged, at every level, except what the tests' HTTP client logs below `info`.
pub(crate) fn logs() -> String {
    String::from_utf8_lossy(&lock(&LOGS)).into_owned()
}
