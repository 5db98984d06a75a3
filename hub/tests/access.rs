//! What workers, the operator, people and callers without a valid token may do over HTTP.

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{TestHub, YEAR_2100, channel, jwt, jwt_for, logs, status_code};
use protocol::messages::{ClaimRequest, DeadLetterQuery, NotificationQuery, Pool};

const NO_WAIT: Duration = Duration::ZERO;

fn query() -> NotificationQuery {
    NotificationQuery::default()
}

#[tokio::test]
async fn a_worker_of_another_namespace_is_refused_everywhere() {
    let mut hub = TestHub::new("other-namespace", &[]).await;
    let worker = hub.worker("a");
    hub.put_plans(&[&channel("a", "hook", 1), &channel("b", "hook", 2)]).await;
    assert_eq!(status_code(worker.channels_plan("a", "", NO_WAIT).await), 200);
    assert_eq!(status_code(worker.channels_plan("b", "", NO_WAIT).await), 403);
    assert_eq!(status_code(worker.source_plan("b", "s", "", NO_WAIT).await), 403);
    let claim = ClaimRequest::new(Pool::Send, "x", 1);
    assert_eq!(status_code(worker.claim("b", &claim).await), 403);
    assert_eq!(status_code(worker.notifications("b", &query()).await), 403);
    assert_eq!(status_code(worker.revisions().await), 403);
    hub.stop().await;
}

#[tokio::test]
async fn junk_and_expired_tokens_are_refused() {
    let mut hub = TestHub::new("junk", &[]).await;
    for junk in ["junk", "a.b.c", &jwt("nobody", YEAR_2100)] {
        assert_eq!(status_code(hub.client(junk).channels_plan("a", "", NO_WAIT).await), 401, "{junk}");
    }
    let expired = jwt("expired", 1_700_000_000);
    hub.accept_token(&expired, "system:serviceaccount:a:belfry-worker");
    assert_eq!(status_code(hub.client(&expired).channels_plan("a", "", NO_WAIT).await), 401);
    let (code, body) = hub.get(format!("{}/v1/namespaces/a/channels/plan", hub.url)).await;
    assert_eq!(code, 401);
    assert!(body.contains("\"reason\":\"Unauthorized\""), "{body}");
    hub.stop().await;
}

#[tokio::test]
async fn a_person_may_read_where_the_review_allows_it_and_do_nothing_else() {
    let mut hub = TestHub::new("person", &[]).await;
    let token = hub.person_token("ann", &["a"]);
    let person = hub.client(&token);
    assert_eq!(status_code(person.notifications("a", &query()).await), 200);
    assert_eq!(status_code(person.notifications("b", &query()).await), 403);
    assert_eq!(status_code(person.dead_letters("a", &DeadLetterQuery::default()).await), 200);
    assert_eq!(status_code(person.dead_letters("b", &DeadLetterQuery::default()).await), 403);
    assert_eq!(status_code(person.channels_plan("a", "", NO_WAIT).await), 403);
    assert_eq!(status_code(person.revisions().await), 403);
    // A person's request needs no version of the protocol.
    let url = format!("{}/v1/namespaces/a/notifications", hub.url);
    let answer = reqwest::Client::new().get(url).bearer_auth(&token).send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(answer.headers()[protocol::HEADER], protocol::VERSION.to_string());
    hub.stop().await;
}

#[tokio::test]
async fn a_version_too_far_apart_is_refused_with_a_message() {
    let mut hub = TestHub::new("version", &[]).await;
    let token = hub.worker_token("a");
    let url = format!("{}/v1/namespaces/a/channels/plan", hub.url);
    for (version, expected) in [(Some("1.0"), 200), (Some("1.1"), 200), (Some("2.0"), 426), (None, 426)] {
        let mut request = reqwest::Client::new().get(&url).bearer_auth(&token);
        if let Some(version) = version {
            request = request.header(protocol::HEADER, version);
        }
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), expected, "{version:?}");
        if expected == 426 {
            let body = answer.text().await.expect("a text");
            assert!(body.contains("\"reason\":\"Version\"") && body.contains("upgrade"), "{body}");
        }
    }
    hub.stop().await;
}

#[tokio::test]
async fn without_the_api_server_a_known_worker_goes_on_and_a_new_one_is_told_to_wait() {
    let mut hub = TestHub::new("api-server-down", &[]).await;
    let known = hub.worker("a");
    assert_eq!(status_code(known.channels_plan("a", "", NO_WAIT).await), 200);
    hub.reviewer.down.store(true, Ordering::Relaxed);
    assert_eq!(status_code(known.channels_plan("a", "", NO_WAIT).await), 200);
    let error = hub.worker("b").channels_plan("b", "", NO_WAIT).await.expect_err("refused");
    assert_eq!(error.status().map(|status| status.as_u16()), Some(503));
    assert!(matches!(error, protocol::Error::Refused { retry_after: Some(_), .. }), "{error:?}");
    hub.reviewer.down.store(false, Ordering::Relaxed);
    assert_eq!(status_code(hub.worker("b").channels_plan("b", "", NO_WAIT).await), 200);
    hub.stop().await;
}

#[tokio::test]
async fn tokens_are_in_no_log_and_refusals_are_in_it_with_who_and_where() {
    let mut hub = TestHub::new("canaries", &[]).await;
    let canary = "canary-4f1d9e";
    assert_eq!(status_code(hub.client(canary).channels_plan("canary-ns", "", NO_WAIT).await), 401);
    let worker = jwt("canary-worker-77", YEAR_2100);
    hub.accept_token(&worker, "system:serviceaccount:canary-home:belfry-worker");
    let client = hub.client(&worker);
    assert_eq!(status_code(client.channels_plan("canary-home", "", NO_WAIT).await), 200);
    assert_eq!(status_code(client.channels_plan("canary-ns", "", NO_WAIT).await), 403);
    hub.put_plans(&[&channel("canary-home", "hook", 0xca)]).await;
    hub.stop().await;
    // The other tests of this process log too, and none of their tokens may show either.
    let text = logs();
    assert!(text.contains("/v1/namespaces/canary-ns/channels/plan"), "{text}");
    assert!(text.contains("system:serviceaccount:canary-home:belfry-worker"), "{text}");
    assert!(text.contains("127.0.0.1:"), "{text}");
    for secret in [canary, worker.as_str(), "c2lnbmF0dXJl"] {
        assert!(!text.contains(secret), "a token in the log: {text}");
    }
}

/// Sends a request on a connection that stays open. Returns the first line of the answer.
#[allow(clippy::expect_used, reason = "this is a test")]
async fn ask(stream: &mut tokio::net::TcpStream, request: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_request_through_the_tunnel_needs_a_token_like_any_other_and_reads_what_the_token_grants() {
    let account = "system:serviceaccount:belfry-system:belfry-people";
    let mut hub = TestHub::new("tunnel", &[&format!("--people-account={account}")]).await;
    #[allow(clippy::disallowed_methods, reason = "the hub under test has the real clock")]
    let soon = jiff::Timestamp::now().as_second() + 600;
    let granted = jwt_for("belfry-hub/a/ann", "granted", soon);
    hub.accept_token(&granted, account);
    assert_eq!(status_code(hub.client(&granted).notifications("a", &query()).await), 200);
    assert_eq!(status_code(hub.client(&granted).notifications("b", &query()).await), 403);
    let address = hub.url.strip_prefix("http://").expect("http").to_owned();
    for (token, expected) in [(granted.as_str(), "HTTP/1.1 200 OK"), ("junk", "HTTP/1.1 401 Unauthorized")] {
        let mut stream = tokio::net::TcpStream::connect(&address).await.expect("a connection");
        let upgrade =
            "GET /v1/tunnel HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: belfry-tunnel\r\n\r\n";
        assert_eq!(ask(&mut stream, upgrade).await, "HTTP/1.1 101 Switching Protocols");
        let request = format!(
            "GET /v1/namespaces/a/notifications HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        assert_eq!(ask(&mut stream, &request).await, expected);
    }
    hub.stop().await;
}
