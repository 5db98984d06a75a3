//! The webhook asked over sockets, as API servers and strangers do.

use std::net::Ipv4Addr;
use std::sync::mpsc;

use controllers::children::Settings as Workers;
use controllers::context::Context;
use controllers::hub::Hub;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::review_pool::THREADS;
use super::*;

/// Longer than anything here takes; only a hang lasts so long.
const HANG: Duration = Duration::from_mins(1);
const MEMORY: usize = 48 << 20;

fn context() -> Arc<Context> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let hub = protocol::Client::new(protocol::ClientConfig {
        url: "http://127.0.0.1:1".to_owned(),
        ca: None,
        server_name: None,
        token: protocol::TokenSource::Fixed("token".to_owned()),
    });
    let workers = Workers {
        image: String::new(),
        command: String::new(),
        pull_policy: String::new(),
        pull_secrets: Vec::new(),
        hub_url: String::new(),
        hub_ca: String::new(),
        audience: String::new(),
        deny_private: false,
        denied_ranges: Vec::new(),
        allowed_ranges: Vec::new(),
        memory_limit: String::new(),
        log: String::new(),
    };
    let hub = Hub::new(hub.unwrap(), Metrics::new());
    let now = || "2026-11-20T00:00:00Z".parse().unwrap();
    Arc::new(Context::new(1, hub, workers, jiff::SignedDuration::from_hours(24), now))
}

async fn started() -> (SocketAddr, Arc<ReviewHandler>) {
    let admission = Arc::new(Admission::new(context(), Metrics::new()));
    let handler =
        ReviewHandler::new(admission, Metrics::new(), &Settings { clients: None, memory: MEMORY }).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serving::serve(
        listener,
        None,
        CAPS,
        router(Arc::clone(&handler)),
        CancellationToken::new(),
    ));
    (address, handler)
}

async fn from(host: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((IpAddr::from(Ipv4Addr::new(127, 0, 0, host)), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// A review of a rule, filled up to that many bytes by what is around the object.
fn review(matches: &str, size: usize) -> String {
    let spec = json!({
        "source": {"kafka": {"bootstrapServers": ["kafka:9092"], "topics": ["t"]}},
        "match": matches, "condition": {"type": "Any"}, "title": "t", "notify": [{"channelRef": {"name": "hook"}}],
    });
    let review = |filler: &str| {
        // As API servers write it: the uid is in the beginning.
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"u-1","kind":{{"group":
            "belfry.dev","version":"v1alpha1","kind":"AlertRule"}},"namespace":"a","operation":"CREATE","userInfo":
            {{"groups":[{filler}]}},"object":{{"metadata":{{"name":"r","namespace":"a"}},"spec":{spec}}}}}}}"#
        )
    };
    let bare = review("").len();
    review(vec!["0"; size.saturating_sub(bare) / 2].join(",").as_str())
}

/// The answer to what was announced to be that long.
async fn ask(stream: &mut TcpStream, path: &str, body: &str) -> (u16, Value) {
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            if status != 200 {
                return (status, Value::Null);
            }
            if let Ok(review) = serde_json::from_str::<Value>(body) {
                assert_eq!(review["response"]["uid"], "u-1");
                return (status, review["response"].clone());
            }
        }
        let read = tokio::time::timeout(HANG, stream.read_buf(&mut answer)).await.expect("an answer");
        assert!(read.unwrap() > 0, "no answer: {text}");
    }
}

const GOOD: &str = "record.level == 'ERROR'";

#[tokio::test]
async fn what_can_work_is_allowed_what_can_not_is_denied_and_junk_is_no_review() {
    let (address, handler) = started().await;
    let mut stream = from(1, address).await;
    for size in [0, 200 << 10] {
        assert_eq!(ask(&mut stream, "/admit", &review(GOOD, size)).await.1["allowed"], true, "{size}");
        let denied = ask(&mut stream, "/admit?timeout=5s", &review("record.x == (", size)).await.1;
        let message = denied["status"]["message"].as_str().unwrap();
        assert!(message.starts_with("InvalidMatch: match: line 1"), "{message}");
        assert_eq!(denied["status"]["code"], Value::Null);
    }
    for junk in ["", "{}", "[]", "null", &review(GOOD, 0)[..300]] {
        assert_eq!(ask(&mut from(1, address).await, "/admit", junk).await.0, 400, "{junk}");
    }
    assert_eq!(handler.memory.taken(), 0);
}

#[tokio::test]
async fn a_review_that_is_too_long_is_denied_by_name_and_none_of_it_is_kept() {
    let (address, handler) = started().await;
    let denied = ask(&mut from(1, address).await, "/admit", &review(GOOD, MAX_BODY + 1_000)).await.1;
    assert_eq!(denied["allowed"], false);
    let told = "InvalidSpec: the review is longer than 3145728 bytes";
    assert_eq!(denied["status"]["message"], told);
    assert_eq!(ask(&mut from(1, address).await, "/admit", &review(GOOD, 3_000_000)).await.1["allowed"], true);
    assert_eq!(handler.memory.taken(), 0);
}

#[tokio::test]
async fn bodies_that_do_not_end_take_their_senders_share_alone_and_it_is_told_to_try_again() {
    let (address, handler) = started().await;
    let body = review(GOOD, 3_000_000);
    let mut slow = Vec::new();
    for _ in 0..60 {
        let mut stream = from(1, address).await;
        let head = format!("POST /admit HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        // No more is read of reviews for which there is no memory.
        let _ = tokio::time::timeout(Duration::from_millis(5), stream.write_all(&body.as_bytes()[..1 << 20]))
            .await;
        slow.push(stream);
        assert!(handler.memory.taken() + handler.short.taken() <= MEMORY / 3);
    }
    assert!(handler.memory.taken() > MEMORY / 6, "{}", handler.memory.taken());
    let (same, other) = tokio::join!(
        async { ask(&mut from(1, address).await, "/admit?timeout=1s", &review(GOOD, 1 << 20)).await.1 },
        async { ask(&mut from(2, address).await, "/admit", &review(GOOD, 1 << 20)).await.1 },
    );
    assert_eq!(other["allowed"], true);
    assert_eq!((&same["allowed"], &same["status"]["code"]), (&json!(false), &json!(429)));
    let told =
        "denied: try again: reviews under way of this API server take 15379114 bytes, and may not take more";
    assert_eq!(same["status"]["message"], told);
    // Their time ends, and their memory is released.
    while handler.memory.taken() + handler.short.taken() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An update of a rule's metadata alone.
fn same(size: usize) -> String {
    let same = review(GOOD, size).replace("\"CREATE\"", "\"UPDATE\"");
    let (before, object) = same.split_once("\"object\":").unwrap();
    let object = object.trim_end_matches('}');
    let closed = format!("{object}{}", "}".repeat(object.matches('{').count() - object.matches('}').count()));
    format!("{before}\"object\":{closed},\"oldObject\":{closed}}}}}")
}

#[tokio::test]
async fn an_update_of_metadata_alone_is_let_through_while_the_memory_for_reviews_is_spent() {
    let (address, handler) = started().await;
    let peer = IpAddr::from([127, 0, 0, 1]);
    let all = (MEMORY - MEMORY / 12) / 3;
    let held = handler.memory.charge(peer, all, Instant::now() + HANG).await.unwrap();
    assert_eq!(
        ask(&mut from(1, address).await, "/admit?timeout=1s", &same(30 << 10)).await.1["allowed"],
        true
    );
    let news = ask(&mut from(1, address).await, "/admit?timeout=1s", &review(GOOD, 30 << 10)).await.1;
    assert_eq!(news["status"]["code"], 429, "what is to be looked at is not");
    drop(held);
    assert_eq!((handler.memory.taken(), handler.short.taken()), (0, 0));
}

#[tokio::test]
async fn one_that_waits_behind_a_long_look_is_denied_in_time_and_another_namespace_is_not() {
    let (address, handler) = started().await;
    let (begun, begins) = mpsc::channel();
    let mut held = Vec::new();
    let until = Instant::now() + HANG;
    let peer = IpAddr::from([127, 0, 0, 1]);
    for number in 0..THREADS - 1 {
        let (go, gone) = mpsc::channel::<()>();
        let (handler, begun) = (Arc::clone(&handler), begun.clone());
        held.push(go);
        tokio::spawn(async move {
            let look = move || {
                let _ = begun.send(());
                let _ = gone.recv();
            };
            handler.pool.run(peer, &format!("n{number}"), until, look).await
        });
    }
    tokio::task::spawn_blocking(move || {
        for _ in 0..THREADS - 1 {
            begins.recv_timeout(HANG).unwrap();
        }
    })
    .await
    .unwrap();
    let denied = ask(&mut from(1, address).await, "/admit?timeout=1s", &review(GOOD, 0)).await.1;
    let message = denied["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("denied: try again: it was not looked at in time"), "{message}");
    assert_eq!(ask(&mut from(2, address).await, "/admit", &review(GOOD, 0)).await.1["allowed"], true);
    // A spec that does not change is not checked and not refused.
    assert_eq!(ask(&mut from(1, address).await, "/admit?timeout=1s", &same(0)).await.1["allowed"], true);
    drop(held);
    assert_eq!(ask(&mut from(1, address).await, "/admit", &review(GOOD, 0)).await.1["allowed"], true);
}

#[test]
fn an_answer_comes_before_the_api_server_gives_up() {
    assert_eq!(patience("timeout=5s"), Duration::from_secs(4));
    assert_eq!(patience("a=b&timeout=2s"), Duration::from_millis(1_600));
    for other in ["", "timeout=30s", "timeout=1m", "timeout=-1s", "timeout"] {
        assert_eq!(patience(other), ANSWERS, "{other}");
    }
}

#[test]
fn the_uid_is_read_from_the_beginning_of_a_review_alone() {
    assert_eq!(uid(review(GOOD, 0).as_bytes()).as_deref(), Some("u-1"));
    assert_eq!(uid(br#"{"request" : {"uid" : "7a-0", "kind"#).as_deref(), Some("7a-0"));
    for other in
        ["", "{}", r#"{"uid": "a"}"#, r#"{"request": {"uid": ""}}"#, r#"{"request": {"uid": "a b"}}"#]
    {
        assert_eq!(uid(other.as_bytes()), None, "{other}");
    }
}
