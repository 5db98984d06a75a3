//! Attacks on the hub by one tenant, or by somebody without a token. Commits and reads of others go on meanwhile.
#![allow(clippy::expect_used, clippy::panic, reason = "this is a test")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{
    TestHub, YEAR_2100, channel, commit_of_one, jwt, jwt_for, logs, rule, source, status_code, topic_ends,
    wait_until,
};
use domain::{Digest, Outcome, Plan, PlanBody};
use protocol::messages::{
    AttemptOutcome, ClaimRequest, Commit, DeadLetterQuery, Matched, NotificationQuery, ObjectProblem,
    Outcomes, Pool, Problem, Report, StatusBody,
};
use protocol::{Client, weight};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

const NO_WAIT: Duration = Duration::ZERO;

/// A worker whose namespace has a channel and a rule, and that has asked for the positions of the rule's topic.
struct TenantWorker {
    rule: Plan,
    worker: Client,
    token: String,
    revision: Digest,
}

impl TenantWorker {
    async fn new(hub: &TestHub, ns: &str, uid: u128) -> Self {
        let rule = rule(ns, "errors", uid, "x");
        hub.put_plans(&[&channel(ns, "hook", uid + 1), &rule]).await;
        let (worker, token) = (hub.worker(ns), hub.worker_token(ns));
        let key = source().key();
        let plan =
            worker.source_plan(ns, key.as_str(), "", NO_WAIT).await.expect("an answer").expect("a plan");
        worker.positions(ns, key.as_str(), &topic_ends()).await.expect("positions");
        Self { rule, worker, token, revision: plan.revision }
    }

    fn commit(&self, offset: i64) -> Commit {
        commit_of_one(&self.rule, self.revision.clone(), offset)
    }

    /// Commits one record at this offset, which must be the next one; the hub must accept it at the first try.
    async fn assert_commits(&self, offset: i64) {
        let answer =
            self.worker.commit(&self.rule.namespace, source().key().as_str(), &self.commit(offset)).await;
        assert!(answer.expect("an answer").entries[0].is_accepted(), "record {offset}");
    }

    fn commits_url(&self, hub: &TestHub) -> String {
        format!("{}/v1/namespaces/{}/sources/{}/commits", hub.url, self.rule.namespace, source().key())
    }
}

/// Posts a body as it is. Returns the answer's status and problem.
async fn post(url: &str, token: &str, body: reqwest::Body) -> (u16, Problem) {
    let request =
        reqwest::Client::new().post(url).bearer_auth(token).header("content-type", "application/json");
    let answer = request.header("belfry-protocol", "1.0").body(body).send().await.expect("an answer");
    let status = answer.status().as_u16();
    let problem = answer.json().await.unwrap_or(Problem { reason: String::new(), message: String::new() });
    (status, problem)
}

/// Posts a body in chunks, without a content length. Returns the beginning of the answer, up to 4 KiB.
async fn in_pieces(url: &str, token: &str, body: &str) -> String {
    let (address, path) = url.trim_start_matches("http://").split_once('/').expect("a path");
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let (mut answers, mut requests) = stream.split();
    let send = async {
        let head = format!(
            "POST /{path} HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {token}\r\nbelfry-protocol: 1.0\r\n\
             transfer-encoding: chunked\r\n\r\n"
        );
        requests.write_all(head.as_bytes()).await?;
        for piece in body.as_bytes().chunks(64 * 1024) {
            requests.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
            requests.write_all(piece).await?;
            requests.write_all(b"\r\n").await?;
        }
        requests.write_all(b"0\r\n\r\n").await
    };
    let answer = async {
        let mut answer = vec![0; 4_096];
        let read = answers.read(&mut answer).await.unwrap_or(0);
        String::from_utf8_lossy(&answer[..read]).into_owned()
    };
    // The hub may refuse the body before all of it was sent.
    let (_, answer) = tokio::join!(send, answer);
    answer
}

/// A commit whose sample has this JSON text as its value.
fn with_value(tenant: &TenantWorker, value: &str) -> String {
    let mut commit = serde_json::to_value(tenant.commit(0)).expect("JSON");
    *commit.pointer_mut("/entries/0/records/0/sample/value").expect("a value") = Value::from("HERE");
    commit.to_string().replace("\"HERE\"", value)
}

#[tokio::test]
async fn a_body_that_takes_many_times_its_bytes_is_refused_by_name_while_others_commit() {
    let mut hub = TestHub::new("heavy", &[]).await;
    let (busy, calm) =
        (TenantWorker::new(&hub, "busy", 0x10).await, TenantWorker::new(&hub, "calm", 0x20).await);
    let list = |part: &str, most: usize| format!("[{}]", vec![part; most / (part.len() + 1)].join(","));
    let heavy: Vec<(String, &str)> = vec![
        (with_value(&busy, &list("0", 7 << 20)), "of memory"),
        (with_value(&busy, &list("{\"\":0}", 7 << 20)), "of memory"),
        (with_value(&busy, &list("[[0]]", 7 << 20)), "of memory"),
        (with_value(&busy, &format!("{}0{}", "[".repeat(120), "]".repeat(120))), "nested deeper"),
        (with_value(&busy, &format!("\"{}\"", "x".repeat(weight::MAX_BODY))), "longer than"),
    ];
    let url = busy.commits_url(&hub);
    let attacks = heavy.into_iter().map(|(body, named)| {
        let (url, token) = (url.clone(), busy.token.clone());
        tokio::spawn(async move {
            // First in pieces without a length, then whole with its length.
            let answer = in_pieces(&url, &token, &body).await;
            assert!(answer.contains(" 413 ") && answer.contains("\"TooLarge\""), "{answer}");
            assert!(answer.contains(named), "{answer}");
            let (status, problem) = post(&url, &token, body.into()).await;
            assert_eq!((status, problem.reason.as_str()), (413, "TooLarge"), "{}", problem.message);
            assert!(problem.message.contains(named), "{}", problem.message);
        })
    });
    let attacks: Vec<_> = attacks.collect();
    for offset in 0..50 {
        calm.assert_commits(offset).await;
    }
    for attack in attacks {
        attack.await.expect("refused");
    }
    busy.assert_commits(0).await;
    hub.stop().await;
}

#[tokio::test]
async fn a_large_commit_of_an_honest_worker_is_accepted() {
    let mut hub = TestHub::new("honest", &[]).await;
    let tenant = TenantWorker::new(&hub, "a", 0x10).await;
    let mut commit = tenant.commit(0);
    let record = commit.entries[0].records[0].clone();
    let value = json!({"message": "x".repeat(200), "level": "error", "request": {"path": "/pay", "code": 500}, "tags": ["a", "b"]});
    commit.entries[0].records.clear();
    let sample = domain::Sample { value, ..record.sample };
    commit.entries[0].counts = (0..2_500)
        .map(|n| domain::Count {
            rule: record.rule,
            group: BTreeMap::from([("account".to_owned(), format!("account-{n:06}"))]),
            bucket_ms: 0,
            count: 2,
            first: sample.clone(),
            last: sample.clone(),
            extras: None,
            top: BTreeMap::new(),
        })
        .collect();
    let body = serde_json::to_vec(&commit).expect("JSON");
    assert!(body.len() > 2 << 20 && weight::fits(&body), "{} {:?}", body.len(), weight::weigh(&body));
    let (status, problem) = post(&tenant.commits_url(&hub), &tenant.token, body.into()).await;
    assert_eq!(status, 200, "{}", problem.message);
    // Samples that take eighty times their bytes in memory: the client leaves them out, and the hub takes the rest.
    let mut heavy = tenant.commit(1);
    let value = Value::from(vec![json!({"": 0}); 2_000]);
    let record = &heavy.entries[0].records[0];
    let sample = domain::Sample { value, ..record.sample.clone() };
    heavy.entries[0].records =
        (0..60).map(|_| Matched { sample: sample.clone(), ..record.clone() }).collect();
    assert!(!weight::fits(&serde_json::to_vec(&heavy).expect("JSON")));
    let answer = tenant.worker.commit("a", source().key().as_str(), &heavy).await.expect("an answer");
    assert!(answer.entries[0].is_accepted());
    hub.stop().await;
}

#[tokio::test]
async fn bodies_that_never_arrive_hold_no_memory_and_time_out() {
    let mut hub = TestHub::new("slow", &[]).await;
    let calm = TenantWorker::new(&hub, "calm", 0x10).await;
    let address = hub.url.trim_start_matches("http://").to_owned();
    let mut slow = Vec::new();
    for n in 0..4_u128 {
        let ns = format!("busy-{n}");
        hub.put_plans(&[&channel(&ns, "hook", 0x100 + n)]).await;
        let token = hub.worker_token(&ns);
        for _ in 0..100 {
            let mut stream = TcpStream::connect(&address).await.expect("connected");
            let head = format!(
                "POST /v1/namespaces/{ns}/sources/s/commits HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {token}\r\n\
                 belfry-protocol: 1.0\r\ncontent-length: {}\r\n\r\n{{\"revision\":",
                weight::MAX_BODY
            );
            stream.write_all(head.as_bytes()).await.expect("sent");
            slow.push(stream);
        }
    }
    wait_until("all are under way", || async {
        let (_, text) = hub.get(format!("{}/metrics", hub.metrics_url)).await;
        let allowed =
            text.lines().find_map(|line| line.strip_prefix("belfry_hub_auth_total{result=\"allowed\"} "));
        allowed.is_some_and(|count| count.parse().unwrap_or(0) >= 400)
    })
    .await;
    for offset in 0..20 {
        calm.assert_commits(offset).await;
    }
    let mut answer = vec![0; 1_024];
    let read = tokio::time::timeout(Duration::from_secs(40), slow[0].read(&mut answer)).await;
    let read = read.expect("an end").expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("too slowly"), "{answer}");
    hub.stop().await;
}

#[tokio::test]
async fn one_person_in_many_threads_leaves_others_reads_and_commits_alone() {
    let mut hub = TestHub::new("threads", &[]).await;
    let calm = TenantWorker::new(&hub, "a", 0x10).await;
    let greedy = hub.client(&hub.person_token("greedy", &["a"]));
    let bob = hub.client(&hub.person_token("bob", &["a"]));
    let (stop, limited) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let query = NotificationQuery { limit: Some(500), ..NotificationQuery::default() };
    let threads: Vec<_> = (0..120)
        .map(|_| {
            let (greedy, query) = (greedy.clone(), query.clone());
            let (stop, limited) = (stop.clone(), limited.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let seen = status_code(greedy.notifications("a", &query).await);
                    assert!([200, 429, 503].contains(&seen), "{seen}");
                    limited.fetch_or(seen == 429, Ordering::Relaxed);
                }
            })
        })
        .collect();
    wait_until("one person is told to wait", || async { limited.load(Ordering::Relaxed) }).await;
    for offset in 0..27 {
        calm.assert_commits(offset).await;
        assert_eq!(status_code(bob.notifications("a", &query).await), 200);
        assert_eq!(status_code(bob.dead_letters("a", &DeadLetterQuery::default()).await), 200);
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.await.expect("an answer each time");
    }
    hub.stop().await;
}

/// Paths of the API with their methods; those of workers and readers are in this namespace.
fn paths(ns: &str) -> Vec<(reqwest::Method, String)> {
    use reqwest::Method;
    let within = |path: &str| format!("/v1/namespaces/{ns}/{path}");
    vec![
        (Method::GET, within("sources/s/plan")),
        (Method::POST, within("sources/s/positions")),
        (Method::POST, within("sources/s/commits")),
        (Method::GET, within("channels/plan")),
        (Method::POST, within("deliveries/claim")),
        (Method::POST, within("deliveries/outcomes")),
        (Method::GET, within("schedules/00000000-0000-0000-0000-000000000001")),
        (Method::POST, within("schedules/00000000-0000-0000-0000-000000000001/reminders")),
        (Method::PUT, within("reports")),
        (Method::GET, within("notifications")),
        (Method::GET, within("notifications/00000000-0000-0000-0000-000000000001")),
        (Method::GET, within("dead-letters")),
        (Method::POST, "/v1/operator/plans".to_owned()),
        (Method::GET, "/v1/operator/revisions".to_owned()),
        (Method::PUT, "/v1/operator/live".to_owned()),
        (Method::GET, "/v1/operator/feed".to_owned()),
        (Method::POST, "/v1/operator/requests".to_owned()),
    ]
}

#[tokio::test]
async fn junk_tokens_on_every_path_ask_the_api_server_little_and_known_callers_go_on() {
    let mut hub = TestHub::new("junk-flood", &[]).await;
    let calm = TenantWorker::new(&hub, "a", 0x10).await;
    let bob = hub.client(&hub.person_token("bob", &["a"]));
    assert_eq!(status_code(bob.notifications("a", &NotificationQuery::default()).await), 200);
    let before = hub.reviewer.asked.load(Ordering::Relaxed);
    let http = reqwest::Client::new();
    let mut seen: BTreeMap<u16, usize> = BTreeMap::new();
    for n in 0..60 {
        let tokens = [
            jwt(&format!("flood-{n}"), YEAR_2100),
            jwt_for("another", &format!("flood-{n}"), YEAR_2100),
            jwt(&format!("flood-{n}"), 1_700_000_000),
            format!("canary-junk-{n}"),
            format!("{}.{}.{}", "A".repeat(100), "B".repeat(100), "C".repeat(100)),
        ];
        for token in tokens {
            let (method, path) = paths("a")[n % 17].clone();
            let answer = http.request(method, format!("{}{path}", hub.url)).bearer_auth(&token);
            let answer = answer.header("belfry-protocol", "1.0").send().await.expect("an answer");
            let status = answer.status().as_u16();
            *seen.entry(status).or_default() += 1;
            let body = answer.text().await.expect("a text");
            assert!(!body.contains(&token) && !body.contains("flood-"), "{body}");
            assert!([401, 429].contains(&status), "{status} {body}");
        }
        calm.assert_commits(n as i64).await;
        assert_eq!(status_code(bob.notifications("a", &NotificationQuery::default()).await), 200);
    }
    let asked = hub.reviewer.asked.load(Ordering::Relaxed) - before;
    assert!(asked <= 60, "{asked} questions: {seen:?}");
    // These are 500 different tokens that look right: most of them the hub does not even send to the API server.
    let flood = (0..500).map(|n| {
        let client = hub.client(&jwt(&format!("more-{n}"), YEAR_2100));
        // The hub closes connections above the bound of one address.
        tokio::spawn(async move {
            match client.channels_plan("a", "", NO_WAIT).await {
                Err(error) => error.status().map_or(429, |status| status.as_u16()),
                Ok(_) => 200,
            }
        })
    });
    let flood: Vec<_> = flood.collect();
    calm.assert_commits(60).await;
    let mut limited = 0;
    for one in flood {
        let status = one.await.expect("an answer");
        assert!([401, 429].contains(&status), "{status}");
        limited += usize::from(status == 429);
    }
    assert!(limited > 250, "{limited} of 500");
    calm.assert_commits(61).await;
    hub.stop().await;
    assert!(!logs().contains("canary-junk"), "a token in the log");
}

#[tokio::test]
async fn only_workers_of_namespaces_with_plans_are_heard_and_before_their_body_is_read() {
    let mut hub = TestHub::new("no-plans", &[]).await;
    hub.put_plans(&[&channel("a", "hook", 1)]).await;
    let token = hub.worker_token("stranger");
    let address = hub.url.trim_start_matches("http://").to_owned();
    for (method, path) in paths("stranger")
        .into_iter()
        .filter(|(method, path)| *method != reqwest::Method::GET && !path.contains("operator"))
    {
        let mut stream = TcpStream::connect(&address).await.expect("connected");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {token}\r\nbelfry-protocol: 1.0\r\n\
             content-length: 1000000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = vec![0; 1_024];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut answer)).await;
        let read = read.expect("answered before the body").expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("\"NoPlans\""), "{path}: {answer}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_workers_long_texts_are_cut_before_they_are_stored() {
    let mut hub = TestHub::new("texts", &[]).await;
    let tenant = TenantWorker::new(&hub, "a", 0x10).await;
    tenant.assert_commits(0).await;
    let claim = ClaimRequest { wait_ms: 10_000, ..ClaimRequest::new(Pool::Send, "w", 10) };
    let task = tenant.worker.claim("a", &claim).await.expect("an answer").tasks.remove(0);
    let outcome = AttemptOutcome {
        delivery: task.delivery,
        attempt: task.attempt,
        outcome: Outcome::Refused { reason: "r".repeat(1_000_000) },
    };
    tenant.worker.outcomes("a", &Outcomes { outcomes: vec![outcome] }).await.expect("taken");
    let problem = ObjectProblem { reason: "Broken".to_owned(), message: "m".repeat(900_000) };
    let report = Report {
        instance: "w".to_owned(),
        running: BTreeMap::new(),
        problems: BTreeMap::from([(tenant.rule.uid, vec![problem])]),
        owned: vec![],
        source: Some(source().key()),
        leaving: false,
    };
    tenant.worker.report("a", &report).await.expect("taken");
    let operator = hub.operator();
    let (error, told) = (AtomicBool::new(false), AtomicBool::new(false));
    wait_until("both are in the feed", || async {
        let feed = operator.feed(0, NO_WAIT).await.expect("a feed");
        for object in feed.objects {
            assert!(serde_json::to_string(&object).expect("JSON").len() < 8_000, "{object:?}");
            told.fetch_or(object.problems.iter().any(|it| it.reason == "Broken"), Ordering::Relaxed);
            if let StatusBody::NotificationChannel(status) = &object.body {
                error.fetch_or(status.last_error.is_some(), Ordering::Relaxed);
            }
        }
        error.load(Ordering::Relaxed) && told.load(Ordering::Relaxed)
    })
    .await;
    let person = hub.client(&hub.person_token("ann", &["a"]));
    let story = person.notification("a", task.delivery).await.expect("a story");
    let reason = &story.deliveries[0].attempts[0].reason;
    assert!(reason.len() <= 1_024 && reason.ends_with('…'), "{}", reason.len());
    hub.stop().await;
}

#[tokio::test]
async fn tokens_for_the_api_server_are_refused_with_what_to_do_unless_the_settings_take_them() {
    for (name, flags, expected) in
        [("audience", &[][..], 401), ("any-audience", &["--accept-api-server-tokens"][..], 200)]
    {
        let mut hub = TestHub::new(name, flags).await;
        let person = hub.cluster_token("ann");
        hub.person_token("ann", &["a"]);
        let url = format!("{}/v1/namespaces/a/notifications", hub.url);
        let answer = reqwest::Client::new().get(url).bearer_auth(&person).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), expected);
        let body = answer.text().await.expect("a text");
        assert!(expected == 200 || body.contains("--audience=belfry-hub"), "{body}");
        let worker = hub.cluster_token("system:serviceaccount:a:belfry-worker");
        let seen = status_code(hub.client(&worker).channels_plan("a", "", NO_WAIT).await);
        assert_eq!(seen, if expected == 200 { 403 } else { 401 }, "for the API server it is no worker");
        hub.stop().await;
    }
}

#[tokio::test]
async fn another_namespace_is_reached_by_no_spelling_and_a_body_by_no_encoding() {
    let mut hub = TestHub::new("spellings", &[]).await;
    let (mine, other) =
        (TenantWorker::new(&hub, "mine", 0x10).await, TenantWorker::new(&hub, "other", 0x20).await);
    let address = hub.url.trim_start_matches("http://").to_owned();
    let ask = async |head: String| {
        let mut stream = TcpStream::connect(&address).await.expect("connected");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = vec![0; 4_096];
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut answer)).await;
        let read = read.expect("an end").unwrap_or(0);
        String::from_utf8_lossy(&answer[..read]).into_owned()
    };
    let with = format!("host: hub\r\nauthorization: Bearer {}\r\nbelfry-protocol: 1.0\r\n", mine.token);
    for spelling in [
        "other",
        "%6fther",
        "OTHER",
        "other%00",
        "mine%2f..%2fother",
        "mine/../other",
        "other.",
        "other%20",
        "other/",
        "./other",
        "mine%00other",
        "%252fother",
        "oth%C3%A9r",
        "*",
        "",
        "mine,other",
        "mine;other",
    ] {
        for path in ["channels/plan", "notifications", "dead-letters", "deliveries/claim"] {
            let answer = ask(format!("GET /v1/namespaces/{spelling}/{path} HTTP/1.1\r\n{with}\r\n")).await;
            let is_refused = ["400", "403", "404", "405"]
                .iter()
                .any(|code| answer.starts_with(&format!("HTTP/1.1 {code}")));
            assert!(is_refused, "{spelling}/{path}: {answer}");
        }
    }
    let body = serde_json::to_string(&mine.commit(0)).expect("JSON");
    let commits = mine.commits_url(&hub).replace(&hub.url, "");
    for more in [
        "content-encoding: gzip\r\ncontent-length: 3\r\n\r\n\u{1f}\u{8b}".to_owned(),
        format!("content-length: {}\r\ncontent-length: 3\r\n\r\n{body}", body.len()),
        format!("transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\nzz\r\n{body}\r\n0\r\n\r\n"),
        "transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n".to_owned(),
        "content-length: -1\r\n\r\n".to_owned(),
        "content-length: 4\r\n\r\n\"\u{e9}\"".to_owned(),
    ] {
        let answer = ask(format!("POST {commits} HTTP/1.1\r\n{with}{more}")).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{more:?}: {answer}");
    }
    mine.assert_commits(0).await;
    other.assert_commits(0).await;
    hub.stop().await;
}

#[tokio::test]
async fn long_answers_that_nobody_reads_hold_their_memory_until_their_reader_goes() {
    let mut hub = TestHub::new("untaken", &[]).await;
    let (busy, calm) =
        (TenantWorker::new(&hub, "busy", 0x10).await, TenantWorker::new(&hub, "calm", 0x20).await);
    // A plan of 7 MB for one source: more than a socket's buffers hold.
    let large: Vec<Plan> = (0..30)
        .map(|n| {
            let mut plan = rule("busy", &format!("large-{n}"), 0x100 + n, "x");
            let PlanBody::AlertRule(rule) = &mut plan.body else { panic!("a rule") };
            rule.matches = format!("record.level == '{}'", "x".repeat(230_000));
            plan
        })
        .collect();
    for some in large.chunks(10) {
        hub.put_plans(&some.iter().collect::<Vec<_>>()).await;
    }
    let address = hub.url.trim_start_matches("http://").to_owned();
    let request = format!(
        "GET /v1/namespaces/busy/sources/{}/plan?revision=x HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {}\r\n\
         belfry-protocol: 1.0\r\n\r\n",
        source().key(),
        busy.token
    );
    let (mut given, mut refused) = (Vec::new(), 0);
    for _ in 0..20 {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("a small buffer");
        let mut stream = socket.connect(address.parse().expect("an address")).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.expect("an answer");
        match &head {
            b"HTTP/1.1 200" => given.push(stream),
            b"HTTP/1.1 503" => refused += 1,
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
    // A namespace may hold 24 MiB of answers, and what is queued at a connection counts.
    assert!((2..=4).contains(&given.len()) && refused == 20 - given.len(), "{} given", given.len());
    calm.assert_commits(0).await;
    drop(given);
    let key = source().key();
    wait_until("there is room again", async || {
        busy.worker.source_plan("busy", key.as_str(), "", NO_WAIT).await.is_ok_and(|plan| plan.is_some())
    })
    .await;
    hub.stop().await;
}
