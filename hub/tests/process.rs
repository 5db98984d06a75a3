//! The hub as a process: probes, metrics, limits of requests, stop and restart, a full disk, certificates.
#![allow(clippy::expect_used, clippy::panic, reason = "this is a test")]

mod common;

use std::time::{Duration, Instant};

use common::{TestHub, YEAR_2100, channel, jwt, status_code, wait_until};
use protocol::messages::{ClaimRequest, Pool};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const NO_WAIT: Duration = Duration::ZERO;

#[tokio::test]
async fn probes_and_metrics_need_no_token_and_are_not_on_the_apis_port() {
    let mut hub = TestHub::new("probes", &[]).await;
    for path in ["healthz", "readyz"] {
        assert_eq!(hub.get(format!("{}/{path}", hub.metrics_url)).await.0, 200);
        assert_eq!(hub.get(format!("{}/{path}", hub.url)).await.0, 404);
    }
    let _ = hub.client("junk").channels_plan("secret-namespace", "", NO_WAIT).await;
    wait_until("counted", || async {
        let (_, text) = hub.get(format!("{}/metrics", hub.metrics_url)).await;
        assert!(!text.contains("secret-namespace"), "an unbounded label: {text}");
        text.contains("belfry_hub_auth_total{result=\"unauthorized\"} 1")
            && text.contains("route=\"/v1/namespaces/{ns}/channels/plan\",status=\"401\"} 1")
    })
    .await;
    hub.stop().await;
}

#[tokio::test]
#[cfg_attr(not(target_os = "linux"), ignore = "what a process uses is read from Linux's /proc")]
async fn the_release_the_process_and_what_is_free_on_the_volume_are_told_in_plain_text() {
    let mut hub = TestHub::new("volume", &[]).await;
    wait_until("measured", || async {
        let (_, text) = hub.get(format!("{}/metrics", hub.metrics_url)).await;
        let number = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            line.parse::<f64>().ok()
        };
        assert!(text.contains("belfry_build_info{component=\"hub\",version=\""), "{text}");
        assert!(
            text.contains("# TYPE belfry_hub_commits_total counter\n") && !text.contains("# EOF"),
            "{text}"
        );
        let (free, whole) = (number("belfry_hub_volume_free_bytes"), number("belfry_hub_volume_bytes"));
        free.zip(whole).is_some_and(|(free, whole)| 0.0 < free && free <= whole)
            && number("process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6)
    })
    .await;
    hub.stop().await;
}

#[tokio::test]
async fn a_hub_whose_writer_has_ended_is_not_healthy() {
    let mut hub = TestHub::new("ended", &[]).await;
    let health = format!("{}/healthz", hub.metrics_url);
    assert_eq!(hub.get(health.clone()).await.0, 200);
    hub.running.as_ref().expect("running").ledger().clone().close().await;
    wait_until("it is found", || async {
        hub.get(health.clone()).await == (503, "no progress: the writer has ended\n".to_owned())
    })
    .await;
    hub.stop().await;
}

#[tokio::test]
async fn a_peer_with_many_silent_connections_does_not_keep_itself_or_others_from_being_answered() {
    let mut hub = TestHub::new("silent", &["--max-connections=128", "--max-connections-per-peer=128"]).await;
    let address = hub.url.trim_start_matches("http://").to_owned();
    let mut silent = Vec::new();
    for _ in 0..500 {
        silent.push(TcpStream::connect(&address).await.expect("a connection"));
    }
    hub.put_plans(&[&channel("a", "hook", 1)]).await;
    assert!(hub.worker("a").channels_plan("a", "", NO_WAIT).await.expect("an answer").is_some());
    drop(silent);
    hub.stop().await;
}

#[tokio::test]
async fn stopping_answers_long_polls_at_once_and_another_start_finds_what_was_stored() {
    let mut hub = TestHub::new("restart", &[]).await;
    hub.put_plans(&[&channel("a", "hook", 1)]).await;
    let worker = hub.worker("a");
    let plan = worker.channels_plan("a", "", NO_WAIT).await.expect("an answer").expect("a plan");
    let revisions = hub.operator().revisions().await.expect("revisions");
    let held = plan.revision.to_string();
    let poll = {
        let worker = worker.clone();
        tokio::spawn(async move { worker.channels_plan("a", &held, Duration::from_secs(50)).await })
    };
    let claim = tokio::spawn(async move {
        let request = ClaimRequest { wait_ms: 30_000, ..ClaimRequest::new(Pool::Send, "x", 1) };
        worker.claim("a", &request).await
    });
    wait_until("both are under way", || async {
        let (_, text) = hub.get(format!("{}/metrics", hub.metrics_url)).await;
        text.contains("belfry_hub_ledger_call_duration_seconds_count{kind=\"claim\"} 1")
            && text.contains("belfry_hub_auth_total{result=\"allowed\"} 5")
    })
    .await;
    let begun = Instant::now();
    hub.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(poll.await.expect("ended").expect("an answer").is_none(), "unchanged");
    assert!(claim.await.expect("ended").expect("an answer").tasks.is_empty());

    hub.start().await;
    let again = hub.operator().revisions().await.expect("revisions");
    assert_eq!(again.ledger, revisions.ledger);
    assert_eq!(again.objects, revisions.objects);
    hub.stop().await;
}

#[tokio::test]
async fn a_request_that_is_too_large_or_malformed_is_refused_with_a_problem() {
    let mut hub = TestHub::new("bodies", &[]).await;
    hub.put_plans(&[&channel("a", "hook", 1)]).await;
    let token = hub.worker_token("a");
    let send = |path: &str, body: String| {
        let request = reqwest::Client::new().post(format!("{}{path}", hub.url)).bearer_auth(&token);
        request.header(protocol::HEADER, protocol::VERSION.to_string()).body(body).send()
    };
    let claim = "/v1/namespaces/a/deliveries/claim";
    for (body, expected, reason) in [
        ("{".to_owned(), 400, "Invalid"),
        ("[]".to_owned(), 400, "Invalid"),
        ("\u{0}".to_owned(), 400, "Invalid"),
        ("[".repeat(100_000), 413, "TooLarge"),
        (r#"{"pool":"Send","instance":"x","max":0,"waitMs":0}"#.to_owned(), 400, "Invalid"),
        (" ".repeat(1024 * 1024 + 1), 413, "TooLarge"),
    ] {
        let answer = send(claim, body).await.expect("an answer");
        assert_eq!(answer.status().as_u16(), expected);
        let problem: protocol::messages::Problem = answer.json().await.expect("a problem");
        assert_eq!(problem.reason, reason);
    }
    let answer = send("/v1/namespaces/a/nothing", String::new()).await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 404);
    let answer = send("/v1/namespaces/a/channels/plan", String::new()).await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 405);
    assert_eq!(status_code(hub.worker("a").channels_plan("a", "", NO_WAIT).await), 200);
    hub.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_long_poll_with_it() {
    let mut hub = TestHub::new("disconnect", &[]).await;
    let token = hub.worker_token("a");
    let address = hub.url.trim_start_matches("http://").to_owned();
    let plan = hub.worker("a").channels_plan("a", "", NO_WAIT).await.expect("an answer").expect("a plan");
    // More long polls than a namespace may have, each broken off. Afterwards one more must be taken.
    for _ in 0..600 {
        let mut stream = TcpStream::connect(&address).await.expect("connected");
        let request = format!(
            "GET /v1/namespaces/a/channels/plan?revision={}&waitMs=60000 HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {token}\r\nbelfry-protocol: 1.0\r\n\r\n",
            plan.revision
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
    }
    wait_until("places are free again", || async {
        hub.worker("a").channels_plan("a", "", NO_WAIT).await.is_ok()
    })
    .await;
    hub.stop().await;
}

#[tokio::test]
async fn headers_that_are_too_long_are_refused_and_the_hub_goes_on() {
    let mut hub = TestHub::new("headers", &[]).await;
    let address = hub.url.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.expect("connected");
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nx: ").await;
    let _ = stream.write_all(&vec![b'x'; 200_000]).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{answer:?}");
    assert_eq!(status_code(hub.client(&jwt("x", YEAR_2100)).channels_plan("a", "", NO_WAIT).await), 401);
    hub.stop().await;
}

#[tokio::test]
async fn a_full_disk_is_reported_reads_go_on_and_writes_recover_by_themselves() {
    let mut hub = TestHub::new("full", &[]).await;
    hub.put_plans(&[&channel("a", "hook", 1)]).await;
    let ledger = hub.running.as_ref().expect("running").ledger().clone();
    ledger.limit_pages(1).await.expect("limited");
    let operator = hub.operator();
    let mut refused = None;
    for uid in 2..400 {
        let plan = channel("a", &format!("hook-{uid}-{}", "x".repeat(200)), uid);
        let plans = protocol::messages::PutPlans { plans: vec![plan] };
        if let Err(error) = operator.put_plans(&plans).await {
            refused = Some(error);
            break;
        }
    }
    let Some(protocol::Error::Refused { status, problem, retry_after }) = refused else {
        panic!("never full: {refused:?}")
    };
    assert_eq!((status.as_u16(), problem.reason.as_str()), (507, "StorageFull"));
    assert!(retry_after.is_some());
    assert_eq!(common::status_code(hub.worker("a").channels_plan("a", "", NO_WAIT).await), 200);
    assert_eq!(
        common::status_code(operator.feed(0, NO_WAIT).await),
        507,
        "what statuses tell is out of date"
    );
    assert_eq!(hub.get(format!("{}/healthz", hub.metrics_url)).await.0, 200, "a restart would not help");
    ledger.limit_pages(0).await.expect("unlimited");
    let plans = protocol::messages::PutPlans { plans: vec![channel("a", "more", 9_999)] };
    wait_until("there is room again", || async { operator.put_plans(&plans).await.is_ok() }).await;
    wait_until("statuses are told again", || async { operator.feed(0, NO_WAIT).await.is_ok() }).await;
    hub.stop().await;
}

/// Makes an authority and its certificate for `localhost`, and writes certificate and key to the folder. Returns the authority (PEM).
fn certificate(folder: &std::path::Path) -> String {
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let authority = params.self_signed(&authority_key).expect("an authority").pem();
    let issuer = rcgen::Issuer::new(params, authority_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate").pem();
    std::fs::write(folder.join("tls.key"), key.serialize_pem()).expect("written");
    std::fs::write(folder.join("tls.crt"), certificate).expect("written");
    authority
}

#[tokio::test]
async fn the_api_is_served_over_tls_by_the_certificate_that_is_there_now() {
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("hub-tls-files");
    std::fs::create_dir_all(&folder).expect("a folder");
    let first = certificate(&folder);
    let (certificate_file, key_file) = (folder.join("tls.crt"), folder.join("tls.key"));
    let flags = [
        format!("--tls-cert-file={}", certificate_file.display()),
        format!("--tls-key-file={}", key_file.display()),
    ];
    let mut hub = TestHub::new("tls", &[&flags[0], &flags[1]]).await;
    let token = hub.worker_token("a");
    let address = hub.url.trim_start_matches("http://").to_owned();
    let ask = async |authority: &str, name: Option<&str>| {
        let config = protocol::ClientConfig {
            url: format!("https://{address}"),
            ca: Some(authority.as_bytes().to_vec()),
            server_name: name.map(str::to_owned),
            token: protocol::TokenSource::Fixed(token.clone()),
        };
        let client = protocol::Client::new(config).expect("a client");
        client.channels_plan("a", "", NO_WAIT).await
    };
    assert!(ask(&first, Some("localhost")).await.expect("an answer").is_some());
    for (name, what) in [(None, "an address that it is not for"), (Some("other.svc"), "another name")] {
        let error = ask(&first, name).await.expect_err(what);
        assert!(error.status().is_none(), "{what}: {error}");
    }
    let plain = reqwest::get(format!("http://{address}/v1/namespaces/a/channels/plan")).await;
    assert!(plain.is_err(), "in the clear: {plain:?}");

    // The hub does not use half of a new pair. Once both files are there, it soon uses them.
    let key = std::fs::read(&key_file).expect("a key");
    let second = certificate(&folder);
    let new_key = std::fs::read(&key_file).expect("a key");
    std::fs::write(&key_file, &key).expect("written");
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(ask(&first, Some("localhost")).await.is_ok(), "the old pair");
    std::fs::write(&key_file, &new_key).expect("written");
    wait_until("the new certificate is shown", || async { ask(&second, Some("localhost")).await.is_ok() })
        .await;
    assert!(ask(&first, Some("localhost")).await.is_err(), "the old authority");
    hub.stop().await;
}
