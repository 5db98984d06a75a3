//! Who may do what, over HTTP.

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{Bed, LONG, channel, jwt, jwt_for, logs, status};
use protocol::messages::{ClaimRequest, DeadLetterQuery, NotificationQuery, Pool};

const SOON: Duration = Duration::ZERO;

fn query() -> NotificationQuery {
    NotificationQuery::default()
}

#[tokio::test]
async fn a_worker_of_another_namespace_is_refused_everywhere() {
    let mut bed = Bed::new("other-namespace", &[]).await;
    let worker = bed.worker("a");
    bed.put(&[&channel("a", "hook", 1), &channel("b", "hook", 2)]).await;
    assert_eq!(status(worker.channels_plan("a", "", SOON).await), 200);
    assert_eq!(status(worker.channels_plan("b", "", SOON).await), 403);
    assert_eq!(status(worker.source_plan("b", "s", "", SOON).await), 403);
    let claim = ClaimRequest::new(Pool::Send, "x", 1);
    assert_eq!(status(worker.claim("b", &claim).await), 403);
    assert_eq!(status(worker.notifications("b", &query()).await), 403);
    assert_eq!(status(worker.revisions().await), 403);
    bed.stop().await;
}

#[tokio::test]
async fn junk_and_expired_tokens_are_refused() {
    let mut bed = Bed::new("junk", &[]).await;
    for junk in ["junk", "a.b.c", &jwt("nobody", LONG)] {
        assert_eq!(status(bed.client(junk).channels_plan("a", "", SOON).await), 401, "{junk}");
    }
    let expired = jwt("expired", 1_700_000_000);
    bed.know(&expired, "system:serviceaccount:a:belfry-worker");
    assert_eq!(status(bed.client(&expired).channels_plan("a", "", SOON).await), 401);
    let (code, body) = bed.get(format!("{}/v1/namespaces/a/channels/plan", bed.url)).await;
    assert_eq!(code, 401);
    assert!(body.contains("\"reason\":\"Unauthorized\""), "{body}");
    bed.stop().await;
}

#[tokio::test]
async fn a_person_may_read_where_the_review_allows_it_and_do_nothing_else() {
    let mut bed = Bed::new("person", &[]).await;
    let token = bed.person_token("ann", &["a"]);
    let person = bed.client(&token);
    assert_eq!(status(person.notifications("a", &query()).await), 200);
    assert_eq!(status(person.notifications("b", &query()).await), 403);
    assert_eq!(status(person.dead_letters("a", &DeadLetterQuery::default()).await), 200);
    assert_eq!(status(person.dead_letters("b", &DeadLetterQuery::default()).await), 403);
    assert_eq!(status(person.channels_plan("a", "", SOON).await), 403);
    assert_eq!(status(person.revisions().await), 403);
    // People need not say a version.
    let url = format!("{}/v1/namespaces/a/notifications", bed.url);
    let answer = reqwest::Client::new().get(url).bearer_auth(&token).send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(answer.headers()[protocol::HEADER], protocol::VERSION.to_string());
    bed.stop().await;
}

#[tokio::test]
async fn a_version_too_far_apart_is_refused_with_a_message() {
    let mut bed = Bed::new("version", &[]).await;
    let token = bed.worker_token("a");
    let url = format!("{}/v1/namespaces/a/channels/plan", bed.url);
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
    bed.stop().await;
}

#[tokio::test]
async fn without_the_api_server_a_known_worker_goes_on_and_a_new_one_is_told_to_wait() {
    let mut bed = Bed::new("api-server-down", &[]).await;
    let known = bed.worker("a");
    assert_eq!(status(known.channels_plan("a", "", SOON).await), 200);
    bed.book.down.store(true, Ordering::Relaxed);
    assert_eq!(status(known.channels_plan("a", "", SOON).await), 200);
    let error = bed.worker("b").channels_plan("b", "", SOON).await.expect_err("refused");
    assert_eq!(error.status().map(|status| status.as_u16()), Some(503));
    assert!(matches!(error, protocol::Error::Refused { retry_after: Some(_), .. }), "{error:?}");
    bed.book.down.store(false, Ordering::Relaxed);
    assert_eq!(status(bed.worker("b").channels_plan("b", "", SOON).await), 200);
    bed.stop().await;
}

#[tokio::test]
async fn tokens_are_in_no_log_and_refusals_are_in_it_with_who_and_where() {
    let mut bed = Bed::new("canaries", &[]).await;
    let canary = "canary-4f1d9e";
    assert_eq!(status(bed.client(canary).channels_plan("canary-ns", "", SOON).await), 401);
    let worker = jwt("canary-worker-77", LONG);
    bed.know(&worker, "system:serviceaccount:canary-home:belfry-worker");
    let client = bed.client(&worker);
    assert_eq!(status(client.channels_plan("canary-home", "", SOON).await), 200);
    assert_eq!(status(client.channels_plan("canary-ns", "", SOON).await), 403);
    bed.put(&[&channel("canary-home", "hook", 0xca)]).await;
    bed.stop().await;
    // Other tests of this process log too; none of them may show a token either.
    let text = logs();
    assert!(text.contains("/v1/namespaces/canary-ns/channels/plan"), "{text}");
    assert!(text.contains("system:serviceaccount:canary-home:belfry-worker"), "{text}");
    assert!(text.contains("127.0.0.1:"), "{text}");
    for secret in [canary, worker.as_str(), "c2lnbmF0dXJl"] {
        assert!(!text.contains(secret), "a token in the log: {text}");
    }
}

/// The first line of the answer to a request on a connection that goes on.
#[allow(clippy::expect_used, reason = "this is a test")]
async fn answered(stream: &mut tokio::net::TcpStream, request: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn who_comes_by_a_tunnel_is_asked_for_a_token_as_anybody_and_reads_what_it_grants() {
    let account = "system:serviceaccount:belfry-system:belfry-people";
    let mut bed = Bed::new("tunnel", &[&format!("--people-account={account}")]).await;
    #[allow(clippy::disallowed_methods, reason = "the hub under test has the real clock")]
    let soon = jiff::Timestamp::now().as_second() + 600;
    let granted = jwt_for("belfry-hub/a/ann", "granted", soon);
    bed.know(&granted, account);
    assert_eq!(status(bed.client(&granted).notifications("a", &query()).await), 200);
    assert_eq!(status(bed.client(&granted).notifications("b", &query()).await), 403);
    let address = bed.url.strip_prefix("http://").expect("http").to_owned();
    for (token, expected) in [(granted.as_str(), "HTTP/1.1 200 OK"), ("junk", "HTTP/1.1 401 Unauthorized")] {
        let mut stream = tokio::net::TcpStream::connect(&address).await.expect("a connection");
        let upgrade =
            "GET /v1/tunnel HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: belfry-tunnel\r\n\r\n";
        assert_eq!(answered(&mut stream, upgrade).await, "HTTP/1.1 101 Switching Protocols");
        let ask = format!(
            "GET /v1/namespaces/a/notifications HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        assert_eq!(answered(&mut stream, &ask).await, expected);
    }
    bed.stop().await;
}
