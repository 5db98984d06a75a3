//! Tests the table at the module's head, row by row, through a plain webhook channel.

use domain::{Guard, Millis, Outcome, WebhookFormat};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wiremock::matchers::{any, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::fixtures::{alert, kit, kit_with_guard, message, plan, webhook};
use crate::{Kit, Message};

const PATH: &str = "/hook/canary-in-the-path?token=canary";

async fn deliver(kit: &Kit, url: &str, message: &Message) -> Outcome {
    let plan = plan(webhook(url, None, WebhookFormat::Json));
    let outcome = kit.channel(&plan).deliver(message).await;
    assert!(!format!("{outcome:?}").contains("canary"), "{outcome:?}");
    outcome
}

async fn answered(answer: ResponseTemplate) -> Outcome {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let (_files, kit) = kit(&[]);
    deliver(&kit, &(server.uri() + PATH), &message(alert(), "")).await
}

fn waits(outcome: &Outcome) -> (Option<i64>, bool) {
    match outcome {
        Outcome::Later { wait, channel_wide, .. } => (wait.map(|Millis(ms)| ms / 1000), *channel_wide),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn success_is_delivered_and_gone_is_refused() {
    for status in [200, 201, 202, 204] {
        assert_eq!(answered(ResponseTemplate::new(status)).await, Outcome::Delivered);
    }
    let gone = answered(ResponseTemplate::new(410).set_body_string("no more\nof this")).await;
    assert!(
        matches!(&gone, Outcome::Refused { reason } if reason.ends_with("answered 410 Gone: no more of this"))
    );
}

#[tokio::test]
async fn retry_after_is_honoured_and_only_429_pauses_the_channel() {
    for (status, header, wait, channel_wide) in [
        (429, Some("30"), Some(30), true),
        (429, None, None, true),
        (503, Some("7"), Some(7), false),
        (502, Some("Fri, 15 Jan 2027 08:00:20 GMT"), Some(20), false),
        (500, None, None, false),
        (408, Some("1"), Some(1), false),
        (404, Some("30"), None, false),
        (401, None, None, false),
        (302, None, None, false),
    ] {
        let mut answer = ResponseTemplate::new(status);
        if let Some(header) = header {
            answer = answer.insert_header("retry-after", header);
        }
        assert_eq!(waits(&answered(answer).await), (wait, channel_wide), "{status} {header:?}");
    }
}

#[tokio::test]
async fn a_receiver_that_echoes_the_url_does_not_get_it_into_the_reason() {
    let echo =
        ResponseTemplate::new(404).set_body_string("no /hook/canary-in-the-path with token=canary here");
    let outcome = answered(echo).await;
    assert!(outcome.reason().ends_with("404 Not Found: no *** with *** here"), "{outcome:?}");
}

#[tokio::test]
async fn a_permanent_redirect_keeps_the_post_and_is_followed_three_times() {
    let server = MockServer::start().await;
    for (from, to) in [("/1", "/2"), ("/2", "/3"), ("/3", "/4"), ("/0", "/1")] {
        Mock::given(path(from))
            .respond_with(ResponseTemplate::new(308).insert_header("location", to))
            .mount(&server)
            .await;
    }
    Mock::given(path("/4")).respond_with(ResponseTemplate::new(204)).expect(1).mount(&server).await;
    let (_files, kit) = kit(&[]);
    let message = message(alert(), "");
    assert_eq!(deliver(&kit, &(server.uri() + "/1"), &message).await, Outcome::Delivered);
    let requests = server.received_requests().await.unwrap();
    assert!(requests.iter().all(|request| request.method == "POST" && request.body == requests[0].body));
    let outcome = deliver(&kit, &(server.uri() + "/0"), &message).await;
    assert!(outcome.reason().contains("more than 3 times"), "{outcome:?}");
}

#[tokio::test]
async fn a_redirect_to_an_address_that_is_not_allowed_is_refused() {
    for (to, class) in [
        ("http://169.254.169.254/latest/meta-data", "link-local"),
        ("http://[::ffff:169.254.169.254]/", "link-local"),
        ("http://[fe80::1]/", "link-local"),
        ("http://0.0.0.0/", "unspecified"),
        ("http://168.63.129.16/", "cloud metadata"),
        ("http://[FD00:EC2::254]/", "cloud metadata"),
        ("http://[64:ff9b::808:808]/", "NAT64"),
        ("http://0xc6120001/", "for benchmarks"),
    ] {
        let outcome = answered(ResponseTemplate::new(307).insert_header("location", to)).await;
        assert!(
            matches!(&outcome, Outcome::Refused { reason }
                if reason.starts_with("redirect: address") && reason.contains(class)),
            "{to}: {outcome:?}"
        );
    }
    let outcome = answered(ResponseTemplate::new(307).insert_header("location", "file:///etc/passwd")).await;
    assert!(outcome.reason().contains("no http or https URL"), "{outcome:?}");
}

#[tokio::test]
async fn loopback_is_refused_by_address_and_by_name_before_anything_is_sent() {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).expect(0).mount(&server).await;
    let port = server.address().port();
    let (_files, kit) = kit_with_guard(Guard::new(false), &[]);
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"] {
        let outcome =
            deliver(&kit, &format!("http://{host}:{port}/hook/canary"), &message(alert(), "")).await;
        assert!(
            matches!(&outcome, Outcome::Refused { reason } if reason.ends_with("is not allowed: loopback")),
            "{host}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn private_networks_are_refused_when_the_setting_says_so() {
    let (_files, kit) = kit_with_guard(Guard::new(true), &[]);
    let outcome = deliver(&kit, "http://10.0.0.1/", &message(alert(), "")).await;
    assert!(
        matches!(&outcome, Outcome::Refused { reason } if reason.contains("private network")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn when_nothing_was_sent_it_is_later() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let (_files, kit) = kit(&[]);
    for url in [format!("http://127.0.0.1:{free}{PATH}"), format!("http://no-such-host.invalid{PATH}")] {
        let outcome = deliver(&kit, &url, &message(alert(), "")).await;
        assert_eq!(waits(&outcome), (None, false), "{url}");
        assert!(outcome.reason().contains("could not be connected to"), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_receiver_without_tls_behind_https_is_later() {
    let server = MockServer::start().await;
    let (_files, kit) = kit(&[]);
    let url = format!("https://{}{PATH}", server.address());
    let outcome = deliver(&kit, &url, &message(alert(), "")).await;
    assert_eq!(waits(&outcome), (None, false), "{outcome:?}");
}

/// A receiver that takes the request and then does `then`.
async fn takes_and(then: impl AsyncFn(&mut tokio::net::TcpStream)) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{PATH}", listener.local_addr().unwrap());
    let (_files, kit) = kit(&[]);
    let mut message = message(alert(), "");
    message.timeout = std::time::Duration::from_millis(300);
    let receiver = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 64 * 1024];
        let _ = stream.read(&mut buffer).await.unwrap();
        then(&mut stream).await;
    };
    tokio::pin!(receiver);
    let channel = deliver(&kit, &url, &message);
    tokio::pin!(channel);
    tokio::select! {
        outcome = &mut channel => outcome,
        () = &mut receiver => channel.await,
    }
}

#[tokio::test]
async fn a_receiver_that_takes_it_and_hangs_or_breaks_leaves_it_unknown() {
    let hung = takes_and(async |_| std::future::pending().await).await;
    assert!(
        matches!(&hung, Outcome::Unknown { reason } if reason.contains("did not answer within 300ms")),
        "{hung:?}"
    );
    let broken = takes_and(async |stream| stream.shutdown().await.unwrap()).await;
    assert!(
        matches!(&broken, Outcome::Unknown { reason } if reason.contains("the connection broke")),
        "{broken:?}"
    );
}

#[tokio::test]
async fn a_status_decides_even_when_the_body_never_ends() {
    let outcome = takes_and(async |stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nok").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    assert_eq!(outcome, Outcome::Delivered);
}

#[tokio::test]
async fn only_the_beginning_of_a_long_response_is_read() {
    let outcome = answered(ResponseTemplate::new(500).set_body_string("x".repeat(5_000_000))).await;
    assert!(outcome.reason().len() < 300, "{}", outcome.reason().len());
}

#[tokio::test]
async fn a_bundle_without_certificates_is_named() {
    let (_files, kit) = kit(&[("ca", "not a certificate")]);
    let mut plan = plan(webhook("http://127.0.0.1:1/", None, WebhookFormat::Json));
    plan.ca_bundle = Some(crate::fixtures::secret("ca"));
    let outcome = kit.channel(&plan).deliver(&message(alert(), "")).await;
    assert_eq!(
        outcome.reason(),
        "SecretKeyInvalid: key \"ca\" of Secret \"notify\" holds no certificates (PEM)"
    );
}
