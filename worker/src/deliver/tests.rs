//! Tests the loops against a hub that the test plays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use clap::Parser as _;
use domain::{
    Cause, ChannelPlan, DeliveryPolicy, Digest, EmailPlan, FileKind, FileRef, Millis, Notification,
    OnUnknown, Outcome, RetryPolicy, Severity, SlackPlan, TemplateText, WebhookFormat, WebhookPlan,
};
use prometheus_client::registry::Registry;
use protocol::messages::{
    Alive, AttemptOutcome, ChannelEntry, ChannelsPlan, ClaimRequest, Claimed, Outcomes, Report, Task,
};
use protocol::{Client, ClientConfig, TokenSource};
use tokio::task::JoinHandle;
use uuid::Uuid;
use wiremock::matchers::{method, path_regex};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::*;
use crate::config::Config;
use crate::health::Health;

const CHANNEL: Uuid = Uuid::from_u128(0xc);

/// A hub that hands out each task once and keeps what it is told.
struct Hub {
    server: MockServer,
    down: Arc<AtomicBool>,
    taken: Arc<std::sync::Mutex<Vec<AttemptOutcome>>>,
}

fn entry(url: &str, timeout: i64) -> ChannelEntry {
    let plan = ChannelPlan {
        time_zone: None,
        target: WebhookPlan::post(
            url,
            Some(FileRef { kind: FileKind::Secret, name: "notify".to_owned(), key: "signing".to_owned() }),
            WebhookFormat::Json,
        )
        .into(),
        ca_bundle: None,
        template: TemplateText::default(),
        delivery: DeliveryPolicy {
            rate_limit: None,
            retry: RetryPolicy {
                max_attempts: 8,
                initial_delay: Millis::from_secs(10),
                max_delay: Millis::from_secs(60),
            },
            timeout: Millis(timeout),
            expires_after: Millis::from_secs(3600),
            on_unknown: OnUnknown::Resend,
        },
    };
    ChannelEntry { name: "hook".to_owned(), revision: Digest::of(&plan), plan }
}

fn task(n: u128) -> Task {
    Task {
        delivery: Uuid::from_u128(n),
        attempt: 1,
        channel: CHANNEL,
        recipient: "oncall@example.com".to_owned(),
        lease: Millis::from_secs(16),
        notification: Notification {
            id: Uuid::from_u128(n),
            namespace: "payments".to_owned(),
            cause: Cause::Test { channel: CHANNEL, name: "hook".to_owned(), request: "x".to_owned() },
            severity: Severity::Info,
            title: "a test".to_owned(),
            summary: String::new(),
            group: BTreeMap::new(),
            ordering_key: n.to_string(),
            created: jiff::Timestamp::UNIX_EPOCH,
        },
    }
}

impl Hub {
    async fn start(tasks: u128, entry: ChannelEntry) -> Self {
        let server = MockServer::start().await;
        let down = Arc::new(AtomicBool::new(false));
        let channels = BTreeMap::from([(CHANNEL, entry)]);
        let left = Arc::new(std::sync::Mutex::new((1..=tasks).map(task).collect::<Vec<_>>()));
        let back = Arc::clone(&left);
        let known = channels.clone();
        let claim = move |request: &Request| {
            let wanted: ClaimRequest = serde_json::from_slice(&request.body).unwrap();
            let mut left = left.lock().unwrap();
            let most =
                if wanted.without.contains(&CHANNEL) { 0 } else { left.len().min(wanted.max as usize) };
            let tasks: Vec<Task> = left.drain(..most).collect();
            let delay = Duration::from_millis(if tasks.is_empty() { 200 } else { 0 });
            let claimed = Claimed { tasks, channels: known.clone() };
            ResponseTemplate::new(200).set_body_json(claimed).set_delay(delay)
        };
        let taken = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (is_down, ledger) = (Arc::clone(&down), Arc::clone(&taken));
        let outcomes = move |request: &Request| {
            if is_down.load(Ordering::SeqCst) {
                return ResponseTemplate::new(503);
            }
            let told: Outcomes = serde_json::from_slice(&request.body).unwrap();
            // Answers at once, as the ledger does.
            let not_sent =
                told.outcomes.iter().filter(|told| matches!(told.outcome, Outcome::NotSent { .. }));
            back.lock().unwrap().extend(not_sent.map(|told| task(told.delivery.as_u128())));
            ledger.lock().unwrap().extend(told.outcomes);
            ResponseTemplate::new(204)
        };
        let plan = ChannelsPlan { revision: Digest::of("plan"), channels };
        let held = plan.revision.to_string();
        let plan = move |request: &Request| {
            if request.url.query().unwrap_or_default().contains(&held) {
                ResponseTemplate::new(204).set_delay(Duration::from_millis(500))
            } else {
                ResponseTemplate::new(200).set_body_json(&plan)
            }
        };
        for mock in [
            Mock::given(method("POST")).and(path_regex("/claim$")).respond_with(claim),
            Mock::given(method("POST")).and(path_regex("/outcomes$")).respond_with(outcomes),
            Mock::given(method("POST")).and(path_regex("/alive$")).respond_with(ResponseTemplate::new(204)),
            Mock::given(method("GET")).and(path_regex("/plan$")).respond_with(plan),
            Mock::given(method("PUT")).and(path_regex("/reports$")).respond_with(ResponseTemplate::new(204)),
        ] {
            mock.mount(&server).await;
        }
        Self { server, down, taken }
    }

    async fn told<T: serde::de::DeserializeOwned>(&self, path: &str) -> Vec<T> {
        let all = self.server.received_requests().await.unwrap();
        let asked = all.iter().filter(|request| request.url.path().ends_with(path));
        asked.map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
    }

    /// The outcomes that the hub took.
    fn outcomes(&self) -> Vec<AttemptOutcome> {
        self.taken.lock().unwrap().clone()
    }
}

struct Worker {
    _files: tempfile::TempDir,
    context: Context,
    task: JoinHandle<()>,
}

fn worker(hub: &Hub, limits: DeliveryLimits, signing: Option<&str>) -> Worker {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let files = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(files.path().join("secrets/notify")).unwrap();
    if let Some(signing) = signing {
        std::fs::write(files.path().join("secrets/notify/signing"), signing).unwrap();
    }
    let root = files.path().to_str().unwrap();
    let config = Config::parse_from([
        "belfry-worker",
        "send",
        "--namespace",
        "payments",
        "--instance",
        "pod",
        "--files",
        root,
    ]);
    let hub = Client::new(ClientConfig {
        url: hub.server.uri(),
        ca: None,
        server_name: None,
        token: TokenSource::Fixed("token".to_owned()),
    });
    let context = Context {
        config: Arc::new(config),
        hub: hub.unwrap(),
        health: Health::new(Registry::default()),
        stop: CancellationToken::new(),
    };
    let guard = Guard::allowing_loopback_in_tests(false);
    let task = tokio::spawn(run_with(context.clone(), Pool::Send, guard, limits));
    Worker { _files: files, context, task }
}

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const FEW: DeliveryLimits = DeliveryLimits {
    max_claimed: 8,
    slots: 4,
    slow_after: Duration::from_secs(1),
    grace: Duration::from_secs(10),
    report_reserve: Duration::from_secs(5),
};

/// Waits until `there` holds. The time limit is far above what it takes.
async fn until(mut there: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !there().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(30), waited).await.expect("it never came");
}

/// A receiver that answers after `delay`, and the most requests it ever had at once.
async fn receiver(delay: Duration) -> (String, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (current, peak) = (Arc::clone(&now), Arc::clone(&most));
    let app = axum::Router::new().fallback(async move || {
        peak.fetch_max(current.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(delay).await;
        current.fetch_sub(1, Ordering::SeqCst);
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, now, most)
}

#[tokio::test]
async fn each_task_is_attempted_and_reported_once_and_no_more_than_the_slots_run_at_once() {
    let (url, _, most) = receiver(Duration::from_millis(20)).await;
    let hub = Hub::start(30, entry(&url, 5_000)).await;
    let worker = worker(&hub, FEW, Some(KEY));
    until(async || hub.outcomes().len() == 30).await;
    assert_eq!(most.load(Ordering::SeqCst), 4);
    let mut ids: Vec<u128> = hub.outcomes().iter().map(|done| done.delivery.as_u128()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=30).collect::<Vec<_>>());
    assert!(hub.outcomes().iter().all(|done| done.outcome == Outcome::Delivered));
    let claims = hub.told::<ClaimRequest>("/claim").await;
    assert!(claims.iter().all(|claim| (1..=8).contains(&claim.max) && claim.instance == "pod"));
    worker.context.stop.cancel();
    worker.task.await.unwrap();
}

#[tokio::test]
async fn a_slow_receiver_does_not_keep_others_waiting() {
    let (url, now, _) = receiver(Duration::from_hours(1)).await;
    let hub = Hub::start(12, entry(&url, 60_000)).await;
    let limits = DeliveryLimits {
        max_claimed: 12,
        slow_after: Duration::from_millis(10),
        grace: Duration::from_secs(1),
        ..FEW
    };
    let worker =
        worker(&hub, DeliveryLimits { report_reserve: Duration::from_millis(900), ..limits }, Some(KEY));
    until(async || now.load(Ordering::SeqCst) == 12).await;
    worker.context.stop.cancel();
    worker.task.await.unwrap();
    let outcomes = hub.outcomes();
    assert_eq!(outcomes.len(), 12);
    assert!(outcomes.iter().all(|done| done.outcome.reason() == "the worker had to stop before an answer"));
}

#[tokio::test]
async fn a_channel_with_slow_texts_holds_up_nobody_and_its_messages_go_out_with_a_fallback() {
    let (url, _, _) = receiver(Duration::ZERO).await;
    let mut slow = entry(&url, 5_000);
    let text = "{% for a in range(9999) %}{% if title|list|sort == a %}{% endif %}{% endfor %}".to_owned();
    slow.plan.template = TemplateText { title: Some(text.clone()), body: Some(text), payload: None };
    let quick = {
        let mut quick = entry(&url, 5_000);
        quick.plan.template.title = Some("{{ title }}!".to_owned());
        quick
    };
    let renderer = Arc::new(render::Renderer::default());
    let (slow, quick) = (Arc::new(slow), Arc::new(quick));
    // More deliveries of the slow channel than there are threads, all before the quick channel's.
    let many: Vec<_> = (0..200)
        .map(|n| {
            let (renderer, slow) = (Arc::clone(&renderer), Arc::clone(&slow));
            tokio::spawn(async move { renderer.texts(Uuid::nil(), &slow, task(n).notification, "").await.0 })
        })
        .collect();
    tokio::task::yield_now().await;
    let (texts, _) = renderer.texts(CHANNEL, &quick, task(1).notification, "").await;
    assert_eq!((texts.title.as_str(), texts.title_fault), ("a test!", None));
    let done = many.iter().filter(|task| task.is_finished()).count();
    assert!(done < 100, "{done} of 200 were before it");
    for task in many {
        let texts = task.await.unwrap();
        assert!(texts.title.starts_with("a test: title template failed: "), "{}", texts.title);
        let why = texts.title_fault.unwrap();
        assert!(why == "more than 100000 steps" || why.starts_with("took longer than "), "{why}");
    }
}

#[tokio::test]
async fn a_receiver_that_hangs_is_unknown_at_the_channels_timeout() {
    let (url, _, _) = receiver(Duration::from_hours(1)).await;
    let hub = Hub::start(1, entry(&url, 100)).await;
    let worker = worker(&hub, FEW, Some(KEY));
    until(async || hub.outcomes().len() == 1).await;
    let outcome = hub.outcomes().remove(0).outcome;
    assert!(
        matches!(&outcome, Outcome::Unknown { reason } if reason.ends_with("did not answer within 100ms"))
    );
    worker.context.stop.cancel();
    worker.task.await.unwrap();
}

#[tokio::test]
async fn outcomes_wait_for_the_hub_and_are_reported_when_it_is_back() {
    let (url, _, _) = receiver(Duration::ZERO).await;
    let hub = Hub::start(8, entry(&url, 5_000)).await;
    hub.down.store(true, Ordering::SeqCst);
    let worker = worker(&hub, FEW, Some(KEY));
    until(async || hub.told::<Outcomes>("/outcomes").await.len() >= 3).await;
    hub.down.store(false, Ordering::SeqCst);
    until(async || hub.outcomes().len() == 8).await;
    worker.context.stop.cancel();
    worker.task.await.unwrap();
}

#[tokio::test]
async fn asked_to_stop_it_finishes_and_reports_its_claimed_tasks_and_leaves() {
    let (url, now, _) = receiver(Duration::from_millis(300)).await;
    let hub = Hub::start(100, entry(&url, 5_000)).await;
    let worker = worker(&hub, FEW, Some(KEY));
    until(async || now.load(Ordering::SeqCst) == 4).await;
    worker.context.stop.cancel();
    worker.task.await.unwrap();
    let outcomes = hub.outcomes();
    assert_eq!(outcomes.len(), 8);
    assert!(outcomes.iter().all(|done| done.outcome == Outcome::Delivered));
    assert!(hub.told::<Report>("/reports").await.last().unwrap().leaving);
}

#[tokio::test]
async fn a_worker_says_that_it_is_alive_while_tasks_are_claimed_and_not_reported() {
    let (url, now, _) = receiver(Duration::from_hours(1)).await;
    let hub = Hub::start(1, entry(&url, 60_000)).await;
    let limits =
        DeliveryLimits { grace: Duration::from_secs(1), report_reserve: Duration::from_millis(900), ..FEW };
    let busy = worker(&hub, limits, Some(KEY));
    until(async || now.load(Ordering::SeqCst) == 1 && hub.told::<Alive>("/alive").await.len() >= 2).await;
    let session = hub.told::<ClaimRequest>("/claim").await.remove(0).session;
    let said = hub.told::<Alive>("/alive").await;
    assert!(said.iter().all(|alive| Some(alive.session) == session && alive.instance == "pod"), "{said:?}");
    busy.context.stop.cancel();
    busy.task.await.unwrap();
    // Another process of the same pod has another session, and says nothing while it has no tasks.
    let said = hub.told::<Alive>("/alive").await.len();
    let claims = hub.told::<ClaimRequest>("/claim").await.len();
    let idle = worker(&hub, FEW, Some(KEY));
    until(async || hub.told::<ClaimRequest>("/claim").await.len() > claims + 15).await;
    assert_eq!(hub.told::<Alive>("/alive").await.len(), said);
    let other = hub.told::<ClaimRequest>("/claim").await.pop().unwrap().session;
    assert!(other.is_some() && other != session);
    idle.context.stop.cancel();
    idle.task.await.unwrap();
}

#[tokio::test]
async fn a_missing_key_is_reported_by_name_and_heals_by_itself() {
    let hub = Hub::start(0, entry("http://127.0.0.1:1/", 1_000)).await;
    let worker = worker(&hub, FEW, None);
    until(async || !hub.told::<Report>("/reports").await.is_empty()).await;
    let first = hub.told::<Report>("/reports").await.remove(0);
    assert_eq!(first.running.len(), 1);
    let problem = &first.problems[&CHANNEL][0];
    assert_eq!(problem.reason, "SecretKeyNotFound");
    assert_eq!(
        problem.message,
        "key \"signing\" of Secret \"notify\" is not there: the Secret is missing, or only the key in it"
    );
    std::fs::write(worker.context.config.files.join("secrets/notify/signing"), KEY).unwrap();
    until(async || hub.told::<Report>("/reports").await.last().unwrap().problems.is_empty()).await;
    worker.context.stop.cancel();
    worker.task.await.unwrap();
}

#[tokio::test]
async fn a_delivery_without_its_key_counts_no_attempt_and_goes_out_once_the_key_is_there() {
    let (url, ..) = receiver(Duration::ZERO).await;
    let hub = Hub::start(3, entry(&url, 1_000)).await;
    let worker = worker(&hub, FEW, None);
    let asked_without = async || {
        let claims = hub.told::<ClaimRequest>("/claim").await;
        claims.iter().rev().take_while(|claim| claim.without.contains(&CHANNEL)).count()
    };
    until(async || asked_without().await > 10).await;
    let told = hub.taken.lock().unwrap().clone();
    assert!(told.len() <= 3, "each was tried once at most, before the files were looked at: {told:?}");
    assert!(
        told.iter()
            .all(|told| matches!(&told.outcome, Outcome::NotSent { reason } if reason.contains("signing")))
    );
    std::fs::write(worker.context.config.files.join("secrets/notify/signing"), KEY).unwrap();
    let delivered =
        || hub.taken.lock().unwrap().iter().filter(|told| told.outcome == Outcome::Delivered).count();
    until(async || delivered() == 3).await;
    worker.context.stop.cancel();
    worker.task.await.unwrap();
}

/// Everything that is logged in this process, at the finest level.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A receiver that says `greeting`, then one of `answers` after each read.
async fn answers(greeting: &'static str, answers: &'static [&'static str]) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 64 * 1024];
            let _ = stream.write_all(greeting.as_bytes()).await;
            for answer in answers {
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    port
}

#[tokio::test]
async fn no_secret_is_logged_even_at_the_finest_level() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let slack = answers("", &["HTTP/1.1 500 Oops\r\ncontent-length: 2\r\n\r\nno"]).await;
    let smtp = answers("220 ready\r\n", &["250-here\r\n250 AUTH PLAIN\r\n", "535 wrong\r\n"]).await;
    let file = |key: &str| FileRef { kind: FileKind::Secret, name: "notify".to_owned(), key: key.to_owned() };
    let mut slack_entry = entry("http://127.0.0.1:1/", 5_000);
    slack_entry.plan.target = SlackPlan { webhook_url: file("slack-url") }.into();
    let mut mail_entry = entry("http://127.0.0.1:1/", 5_000);
    let mail = EmailPlan {
        host: "127.0.0.1".to_owned(),
        port: smtp,
        tls: domain::SmtpTls::None,
        username: Some(file("user")),
        password: Some(file("password")),
        from: "belfry@example.com".to_owned(),
        to: vec!["oncall@example.com".to_owned()],
    };
    mail_entry.plan.target = mail.into();
    let reports = [slack_entry, mail_entry].map(async |entry| {
        let hub = Hub::start(1, entry).await;
        let worker = worker(&hub, FEW, None);
        for (key, value) in [
            ("slack-url", format!("http://127.0.0.1:{slack}/services/T0/B0/CanarySlack")),
            ("user", "CanaryUser".to_owned()),
            ("password", "CanaryPassword".to_owned()),
        ] {
            std::fs::write(worker.context.config.files.join("secrets/notify").join(key), value).unwrap();
        }
        until(async || hub.outcomes().len() == 1).await;
        worker.context.stop.cancel();
        worker.task.await.unwrap();
        hub.outcomes().remove(0).outcome
    });
    for report in reports {
        let outcome = report.await;
        assert!(outcome.reason().contains("answered"), "{outcome:?}");
    }
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(log.contains("not delivered"), "the log was not taken");
    // "CanaryUser" and "\0CanaryUser\0CanaryPassword" in base64.
    for canary in ["Canary", "Q2FuYXJ5", "AENhbmFyeVVzZXIA"] {
        let line = log.lines().find(|line| line.contains(canary));
        assert_eq!(line, None);
    }
}
