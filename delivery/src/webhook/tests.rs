use domain::{
    Outcome, WebhookAuth, WebhookFormat, WebhookHeader, WebhookMethod, WebhookPlan, WebhookUrl, WebhookValue,
};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::{KeyFault, percent_encoded, sign};
use crate::cloud_event::{CloudEvent, MAX_BYTES};
use crate::fixtures::{alert, kit, message, plan, secret, webhook};
use crate::{Message, Payload};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn sent(message: &Message, format: WebhookFormat, keys: Option<&str>) -> (Outcome, Vec<Request>) {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    let (_files, kit) = kit(&keys.map(|keys| ("signing", keys)).into_iter().collect::<Vec<_>>());
    let signing = keys.map(|_| secret("signing"));
    let plan = plan(webhook(server.uri() + "/hook", signing, format));
    let outcome = kit.channel(&plan).deliver(message).await;
    (outcome, server.received_requests().await.unwrap())
}

/// Method, our headers and the body, in readable form.
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
    for (name, notification) in crate::fixtures::all() {
        let (_, requests) = sent(&message(notification, ""), WebhookFormat::CloudEventsBinary, None).await;
        all.push(format!("# {name}, CloudEventsBinary\n{}", shown(&requests[0])));
    }
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
    let target = webhook("http://example.com/", Some(secret("signing")), WebhookFormat::Json);
    let told: Vec<String> = kit.problems(&plan(target)).await.iter().map(ToString::to_string).collect();
    assert_eq!(told, [wanted]);
}

#[tokio::test]
async fn files_that_can_not_be_used_are_found_before_anything_is_sent() {
    let (_files, kit) = kit(&[("signing", "whsec_%%canary"), ("ca", "canary")]);
    let mut plan = plan(webhook("http://example.com/", Some(secret("signing")), WebhookFormat::Json));
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
    for body in [CloudEvent::new(&message).structured(), CloudEvent::new(&message).plain()] {
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

/// Sends a message to a receiver that answers `answer`, with these keys in the Secret and this change of the plan; returns
/// the outcome and the requests.
async fn with(
    answer: ResponseTemplate,
    keys: &[(&str, &str)],
    payload: Option<Payload>,
    change: impl FnOnce(&mut WebhookPlan),
) -> (Outcome, Vec<Request>) {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let url = server.uri() + "/services/T00canary";
    let keys: Vec<(&str, &str)> =
        keys.iter().map(|(key, value)| (*key, if *key == "url" { url.as_str() } else { *value })).collect();
    let (_files, kit) = kit(&keys);
    let mut webhook = WebhookPlan::post(url.clone(), None, WebhookFormat::Json);
    webhook.allow_cleartext_login = true;
    change(&mut webhook);
    let plan = plan(webhook.into());
    let outcome = kit.channel(&plan).deliver(&Message { payload, ..message(alert(), "") }).await;
    let told: Vec<String> = kit.problems(&plan).await.iter().map(ToString::to_string).collect();
    let all = format!("{outcome:?} {told:?}");
    assert!(!all.contains("canary") && !all.contains("Y2FuYXJ5"), "{all}");
    (outcome, server.received_requests().await.unwrap_or_default())
}

fn header(name: &str, key: &str) -> WebhookHeader {
    WebhookHeader { name: name.to_owned(), value: WebhookValue::Secret(secret(key)) }
}

fn value<'a>(request: &'a Request, name: &str) -> &'a str {
    request.headers.get(name).unwrap_or_else(|| panic!("{name}")).to_str().unwrap()
}

#[tokio::test]
async fn a_receiver_gets_its_own_form_headers_and_login() {
    let payload = Payload {
        content_type: "application/json; charset=utf-8".to_owned(),
        text: r#"{"text":"x"}"#.to_owned(),
    };
    let keys = [("url", ""), ("key", "canary-key\n"), ("user", "belfry"), ("password", "canary")];
    let (outcome, requests) = with(ResponseTemplate::new(200), &keys, Some(payload), |webhook| {
        webhook.url = WebhookUrl::Secret(secret("url"));
        webhook.method = WebhookMethod::Put;
        let plain = WebhookValue::Plain("payments".to_owned());
        webhook.headers =
            vec![header("x-api-key", "key"), WebhookHeader { name: "x-team".to_owned(), value: plain }];
        let (username, password) = (secret("user"), secret("password"));
        webhook.auth = Some(WebhookAuth::Basic { username, password });
    })
    .await;
    assert_eq!(outcome, Outcome::Delivered);
    let request = &requests[0];
    assert_eq!((request.method.as_str(), request.url.path()), ("PUT", "/services/T00canary"));
    assert_eq!(request.body, br#"{"text":"x"}"#);
    for (name, wanted) in [
        ("content-type", "application/json; charset=utf-8"),
        ("x-api-key", "canary-key"),
        ("x-team", "payments"),
        ("authorization", "Basic YmVsZnJ5OmNhbmFyeQ=="),
        ("webhook-id", "00000000-0000-0000-0000-00000000000d"),
        ("x-belfry-notification", &alert().id.to_string()),
    ] {
        assert_eq!(value(request, name), wanted);
    }
    let bearer =
        |webhook: &mut WebhookPlan| webhook.auth = Some(WebhookAuth::Bearer { token: secret("token") });
    let (_, requests) = with(ResponseTemplate::new(200), &[("token", "canary.token")], None, bearer).await;
    assert_eq!(value(&requests[0], "authorization"), "Bearer canary.token");
    assert_eq!(value(&requests[0], "content-type"), "application/json");
}

#[tokio::test]
async fn secrets_that_a_receiver_repeats_are_in_no_reason() {
    let echo =
        "no such hook T00canary for canary-key and canary.token or Basic YmVsZnJ5OmNhbmFyeQ== of canary";
    let keys = [
        ("url", ""),
        ("key", "canary-key"),
        ("user", "belfry"),
        ("password", "canary"),
        ("token", "canary.token"),
    ];
    for basic in [true, false] {
        let answer = ResponseTemplate::new(403).set_body_string(if basic {
            echo.replace("canary.token", "you")
        } else {
            echo.replace("Basic YmVsZnJ5OmNhbmFyeQ== of canary", "nobody")
        });
        let (outcome, requests) = with(answer, &keys, None, |webhook| {
            webhook.url = WebhookUrl::Secret(secret("url"));
            webhook.headers = vec![header("x-api-key", "key")];
            webhook.auth = Some(if basic {
                WebhookAuth::Basic { username: secret("user"), password: secret("password") }
            } else {
                WebhookAuth::Bearer { token: secret("token") }
            });
        })
        .await;
        assert_eq!(requests.len(), 1);
        assert!(outcome.reason().contains("no such hook ***"), "{outcome:?}");
    }
}

/// The reason if a receiver answers `echo` to a request with these secrets; checks that it holds nothing of `shown`.
async fn repeated(echo: &str, headers: &[&str], shown: &[&str]) -> String {
    let keys: Vec<(String, &str)> =
        headers.iter().enumerate().map(|(at, value)| (format!("key{at}"), *value)).collect();
    let keys: Vec<(&str, &str)> = keys.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let answer = ResponseTemplate::new(503).set_body_string(echo);
    let (outcome, _) = with(answer, &keys, None, |webhook| {
        webhook.headers = keys.iter().map(|(key, _)| header(&format!("x-{key}"), key)).collect();
    })
    .await;
    for part in shown {
        assert!(!outcome.reason().contains(part), "{outcome:?}");
    }
    outcome.reason().split_once("Unavailable: ").unwrap().1.to_owned()
}

#[tokio::test]
async fn one_secret_leaves_nothing_of_another_whatever_their_order() {
    let long = "tok-REALLYSECRET1234";
    for headers in [["tok", long], [long, "tok"]] {
        assert_eq!(repeated(&format!("x-b: {long}"), &headers, &["REALLY"]).await, "x-b: ***");
    }
    let told =
        repeated("aa/services/T00CANARYSECRET99", &["aa/services/T00CANARYSECRET99"], &["SECRET"]).await;
    assert_eq!(told, "***", "the URL's path is a part of it");
}

#[tokio::test]
async fn a_secret_is_in_no_reason_however_the_receiver_writes_it() {
    let secret = "ab\"cd\\EFGHSECRET12/=&<";
    for echo in [
        serde_json::json!({ "you": { "sent": secret } }).to_string(),
        "ab%22cd%5CEFGHSECRET12%2F%3D%26%3C".to_owned(),
        "ab%22cd%5cEFGHSECRET12%2f%3d%26%3c".to_owned(),
        "ab&quot;cd\\EFGHSECRET12&#x2F;=&amp;&lt;".to_owned(),
        "AB\"CD\\EFGHSECRET12/=&<".to_owned(),
        "YWIiY2RcRUZHSFNFQ1JFVDEyLz0mPA==".to_owned(),
    ] {
        let told = repeated(&echo, &[secret], &["SECRET", "EFGH", "cd", "Y2Rc"]).await;
        assert!(told.contains("***"), "{echo}: {told}");
    }
}

#[tokio::test]
async fn the_host_of_a_redirect_repeats_no_secret() {
    for (token, host, named) in [
        ("CANARYabcdef123456", "canaryabcdef123456.nowhere.invalid", "***.nowhere.invalid"),
        ("CANARYabcdef123456", "elsewhere.invalid", "elsewhere.invalid"),
    ] {
        let server = MockServer::start().await;
        let to = format!("http://{host}/");
        let answer = ResponseTemplate::new(307).insert_header("location", to.as_str());
        Mock::given(any()).respond_with(answer).mount(&server).await;
        let (_files, kit) = kit(&[("url", &format!("{}/tohost/{token}", server.uri()))]);
        let mut webhook = WebhookPlan::post("", None, WebhookFormat::Json);
        webhook.url = WebhookUrl::Secret(secret("url"));
        let plans = [plan(webhook.into()), plan(domain::SlackPlan { webhook_url: secret("url") }.into())];
        for plan in plans {
            let outcome = kit.channel(&plan).deliver(&message(alert(), "")).await;
            let told = outcome.reason();
            assert!(told.starts_with(&format!("{named} could not be connected to")), "{told}");
        }
    }
}

#[tokio::test]
async fn headers_and_logins_go_to_no_address_that_the_user_did_not_name() {
    let elsewhere = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&elsewhere).await;
    let redirect = || ResponseTemplate::new(308).insert_header("location", elsewhere.uri().as_str());
    let (outcome, _) = with(redirect(), &[("key", "canary")], None, |webhook| {
        webhook.headers = vec![header("x-api-key", "key")];
    })
    .await;
    assert!(outcome.reason().contains("a redirect that is not followed"), "{outcome:?}");
    let (outcome, _) = with(redirect(), &[("token", "canary")], None, |webhook| {
        webhook.auth = Some(WebhookAuth::Bearer { token: secret("token") });
    })
    .await;
    assert!(outcome.reason().contains("a redirect that is not followed"), "{outcome:?}");
    assert!(elsewhere.received_requests().await.unwrap().is_empty());
    let (outcome, _) = with(redirect(), &[], None, |_| {}).await;
    assert_eq!(outcome, Outcome::Delivered, "what shows no credential follows as before");
}

type Change<'a> = &'a dyn Fn(&mut WebhookPlan);

#[tokio::test]
async fn a_secret_that_does_not_fit_its_use_is_reported_and_nothing_is_sent() {
    let bearer = Some(WebhookAuth::Bearer { token: secret("token") });
    let basic = Some(WebhookAuth::Basic { username: secret("user"), password: secret("user") });
    let plans: [(&str, &str, Change<'_>); 5] = [
        ("key", "canary\r\nx: y", &|webhook| webhook.headers = vec![header("x-api-key", "key")]),
        ("token", "canary\u{0}", &|webhook| webhook.auth.clone_from(&bearer)),
        ("user", "can:ary", &|webhook| webhook.auth.clone_from(&basic)),
        ("bad", "gopher://canary", &|webhook| webhook.url = WebhookUrl::Secret(secret("bad"))),
        ("none", "", &|webhook| webhook.url = WebhookUrl::Secret(secret("none"))),
    ];
    for (key, value, change) in plans {
        let (outcome, requests) = with(ResponseTemplate::new(200), &[(key, value)], None, change).await;
        assert!(matches!(outcome, Outcome::NotSent { .. }), "{outcome:?}");
        assert!(outcome.reason().starts_with(&format!("SecretKeyInvalid: key \"{key}\"")), "{outcome:?}");
        assert!(requests.is_empty());
    }
}

#[tokio::test]
async fn the_guard_checks_a_url_from_a_secret_when_it_is_read_and_when_it_is_used() {
    let (_files, kit) = crate::fixtures::kit_with_guard(
        domain::Guard::new(false),
        &[("inside", "http://169.254.169.254/canary"), ("bare", "http://example.com/canary"), ("token", "x")],
    );
    let of = |key: &str, auth: Option<WebhookAuth>| {
        let mut webhook = WebhookPlan::post("", None, WebhookFormat::Json);
        webhook.url = WebhookUrl::Secret(secret(key));
        webhook.auth = auth;
        plan(webhook.into())
    };
    let inside = of("inside", None);
    let told: Vec<String> = kit.problems(&inside).await.iter().map(ToString::to_string).collect();
    assert!(
        told.len() == 1 && told[0].contains("leads where nobody may: ") && !told[0].contains("canary"),
        "{told:?}"
    );
    let outcome = kit.channel(&inside).deliver(&message(alert(), "")).await;
    assert!(
        matches!(&outcome, Outcome::Refused { reason } if reason.contains("is not allowed")),
        "{outcome:?}"
    );
    let bare = of("bare", Some(WebhookAuth::Bearer { token: secret("token") }));
    let outcome = kit.channel(&bare).deliver(&message(alert(), "")).await;
    assert!(outcome.reason().contains("everybody on the way reads the credentials"), "{outcome:?}");
}
