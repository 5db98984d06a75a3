use domain::{Outcome, Target, WebhookFormat};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::{KeyFault, percent_encoded, sign};
use crate::sample::{alert, kit, message, plan, reminder, secret};
use crate::{Event, MAX_BYTES, Message};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn sent(message: &Message, format: WebhookFormat, keys: Option<&str>) -> (Outcome, Vec<Request>) {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    let (_files, kit) = kit(&keys.map(|keys| ("signing", keys)).into_iter().collect::<Vec<_>>());
    let signing = keys.map(|_| secret("signing"));
    let plan = plan(Target::Webhook { url: server.uri() + "/hook", signing, format });
    let outcome = kit.channel(&plan).unwrap().deliver(message).await;
    (outcome, server.received_requests().await.unwrap())
}

/// Method, headers that are ours, and the body, made readable.
fn shown(request: &Request) -> String {
    let mut lines: Vec<String> = request
        .headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "host" | "accept" | "user-agent"))
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    format!("{}\n{}\n\n{}\n", request.method, lines.join("\n"), serde_json::to_string_pretty(&body).unwrap())
}

#[test]
fn the_signature_is_that_of_the_specifications_vector() {
    let body = br#"{"test": 2432232314}"#;
    let signature = sign(KEY, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body).unwrap();
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn each_key_signs_and_a_line_that_is_no_key_is_named_by_its_number() {
    let both =
        sign(&format!("{KEY}\n\n  whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX  \n"), "id", "1", b"x").unwrap();
    assert_eq!(both.split(' ').count(), 2);
    assert!(both.split(' ').all(|one| one.starts_with("v1,")));
    assert_eq!(
        sign(&format!("{KEY}\nwhsec_not base64"), "id", "1", b"x"),
        Err(KeyFault::NotBase64 { line: 2 })
    );
    assert_eq!(sign("whsec_", "id", "1", b"x"), Err(KeyFault::Short { line: 1, bytes: 0 }));
    assert_eq!(sign("\n", "id", "1", b"x"), Err(KeyFault::NotBase64 { line: 1 }));
    let short = format!("{KEY}\nwhsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRY=");
    assert_eq!(sign(&short, "id", "1", b"x"), Err(KeyFault::Short { line: 2, bytes: 23 }));
}

#[tokio::test]
async fn every_format_is_sent_as_documented() {
    let mut all = Vec::new();
    for format in
        [WebhookFormat::Json, WebhookFormat::CloudEventsStructured, WebhookFormat::CloudEventsBinary]
    {
        let (outcome, requests) = sent(&message(alert(), ""), format, None).await;
        assert_eq!(outcome, Outcome::Delivered);
        all.push(format!("# {format:?}\n{}", shown(&requests[0])));
    }
    let (_, requests) = sent(&message(reminder(), ""), WebhookFormat::CloudEventsBinary, None).await;
    all.push(format!("# a reminder, CloudEventsBinary\n{}", shown(&requests[0])));
    insta::assert_snapshot!(all.join("\n"));
}

#[tokio::test]
async fn the_signature_covers_id_timestamp_and_the_body_that_was_sent() {
    let (_, requests) = sent(&message(alert(), ""), WebhookFormat::Json, Some(KEY)).await;
    let header = |name: &str| requests[0].headers.get(name).unwrap().to_str().unwrap();
    assert_eq!(header("webhook-id"), header("idempotency-key"));
    let signature = sign(KEY, header("webhook-id"), header("webhook-timestamp"), &requests[0].body).unwrap();
    assert_eq!(header("webhook-signature"), signature);
    assert_eq!(header("webhook-timestamp"), "1800000000");
}

#[tokio::test]
async fn the_body_is_the_same_for_every_attempt() {
    let first = message(alert(), "");
    let again = Message { attempt: 2, now: first.now + jiff::SignedDuration::from_secs(60), ..first.clone() };
    let (_, one) = sent(&first, WebhookFormat::CloudEventsStructured, None).await;
    let (_, two) = sent(&again, WebhookFormat::CloudEventsStructured, None).await;
    assert_eq!(one[0].body, two[0].body);
}

#[tokio::test]
async fn nothing_is_sent_unsigned_where_a_signature_was_asked_for() {
    for keys in ["", "whsec_%%canary%%"] {
        let (outcome, requests) = sent(&message(alert(), ""), WebhookFormat::Json, Some(keys)).await;
        assert!(outcome.reason().starts_with("SecretKeyInvalid: key \"signing\""), "{outcome:?}");
        assert!(!outcome.reason().contains("canary"));
        assert!(requests.is_empty());
    }
}

#[tokio::test]
async fn a_key_that_can_be_guessed_is_refused_by_name_when_it_is_looked_at_and_when_it_is_used() {
    let wanted = "SecretKeyInvalid: key \"signing\" of Secret \"notify\" is too short a signing key in line 1: 16 bytes, \
        at least 24 are needed (Standard Webhooks: 24 to 64)";
    let short = "whsec_AAECAwQFBgcICQoLDA0ODw==";
    let (outcome, requests) = sent(&message(alert(), ""), WebhookFormat::Json, Some(short)).await;
    assert_eq!((outcome.reason(), requests.len()), (wanted, 0));
    let (_files, kit) = kit(&[("signing", short)]);
    let target = Target::Webhook {
        url: "http://example.com/".to_owned(),
        signing: Some(secret("signing")),
        format: WebhookFormat::Json,
    };
    let told: Vec<String> = kit.problems(&plan(target)).await.iter().map(ToString::to_string).collect();
    assert_eq!(told, [wanted]);
}

#[tokio::test]
async fn files_that_can_not_be_used_are_found_before_anything_is_sent() {
    let (_files, kit) = kit(&[("signing", "whsec_%%canary"), ("ca", "canary")]);
    let mut plan = plan(Target::Webhook {
        url: "http://example.com/".to_owned(),
        signing: Some(secret("signing")),
        format: WebhookFormat::Json,
    });
    plan.ca_bundle = Some(secret("ca"));
    let told: Vec<String> = kit.problems(&plan).await.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "SecretKeyInvalid: key \"ca\" of Secret \"notify\" holds no certificates (PEM)",
            "SecretKeyInvalid: key \"signing\" of Secret \"notify\" is no signing key in line 1: whsec_ and base64 is needed",
        ]
    );
}

#[test]
fn a_body_over_its_bound_is_cut_with_a_mark() {
    let mut message = message(alert(), "");
    message.title = "t".repeat(10_000);
    message.body = "\n\"".repeat(400_000);
    for body in [Event::of(&message).structured(), Event::of(&message).plain()] {
        assert!(body.len() <= MAX_BYTES);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert!(body["data"]["body"].as_str().unwrap().contains("… [cut: 800000 of at most"));
        assert!(body["data"]["title"].as_str().unwrap().contains("… [cut: 10000 of at most 4096"));
    }
}

#[test]
fn values_of_headers_are_percent_encoded() {
    assert_eq!(percent_encoded("a=1, \"b\"=50%\r\nx: 회"), "a=1,%20%22b%22=50%25%0D%0Ax:%20%ED%9A%8C");
}
