//! Channels: what arrives at receivers of each type, and what happens when a receiver fails.

use std::time::Duration;

use e2e::cluster::eventually;
use e2e::kafka::{create_topic, produce, producer, read_all};
use e2e::sink::Behaviour;
use e2e::tenant::Tenant;
use rdkafka::Message as _;
use rdkafka::message::Headers as _;
use serde_json::{Value, json};

use crate::support::{SECRET, annotate, any_rule, assert_signed, body, field, mail, webhook};

/// `delivery` with quick retries.
const QUICK_RETRIES: &str = "{retry: {maxAttempts: 4, initialDelay: 1s, maxDelay: 2s}, timeout: 3s}";

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_first_is_tried_again_under_the_same_id() {
    let tenant = Tenant::new("t-retry").await;
    tenant.behave("hook", Behaviour { status: 500, times: 2, ..Default::default() }).await;
    tenant.apply(&webhook(&tenant, "hook", QUICK_RETRIES)).await;
    tenant.ready("nch/hook").await;
    annotate(&tenant, "nch/hook", "belfry.dev/send-test=one").await;
    let received = tenant.arrived("hook", 3, 60).await;
    let ids: Vec<_> = received.iter().map(|one| one.headers["webhook-id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    field(&tenant, "nch/hook", "/status/lastTest/result", json!("Delivered")).await;
    field(&tenant, "nch/hook", "/status/deliveries/delivered", json!(1)).await;
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_answers_410_is_never_tried_again() {
    let tenant = Tenant::new("t-gone").await;
    tenant.behave("hook", Behaviour { status: 410, ..Default::default() }).await;
    tenant.apply(&webhook(&tenant, "hook", QUICK_RETRIES)).await;
    tenant.ready("nch/hook").await;
    annotate(&tenant, "nch/hook", "belfry.dev/send-test=one").await;
    field(&tenant, "nch/hook", "/status/deliveries/dead", json!(1)).await;
    assert_eq!(tenant.received("hook").await.len(), 1);
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_always_answers_500_leaves_the_delivery_dead_and_resend_sends_it_again_once() {
    let tenant = Tenant::new("t-dead").await;
    tenant.behave("hook", Behaviour { status: 500, ..Default::default() }).await;
    tenant.apply(&webhook(&tenant, "hook", QUICK_RETRIES)).await;
    tenant.ready("nch/hook").await;
    annotate(&tenant, "nch/hook", "belfry.dev/send-test=one").await;
    field(&tenant, "nch/hook", "/status/deliveries/dead", json!(1)).await;
    assert_eq!(tenant.received("hook").await.len(), 4);
    let channel = tenant.get("nch/hook").await.expect("the channel");
    assert!(channel["status"]["lastError"].as_str().is_some_and(|text| text.contains("500")), "{channel}");

    tenant.behave("hook", Behaviour::default()).await;
    annotate(&tenant, "nch/hook", "belfry.dev/resend=all@mended").await;
    field(&tenant, "nch/hook", "/status/deliveries/delivered", json!(1)).await;
    field(&tenant, "nch/hook", "/status/deliveries/dead", json!(0)).await;
    field(&tenant, "nch/hook", "/status/lastResend/request", json!("all@mended")).await;
    field(&tenant, "nch/hook", "/status/lastResend/count", json!(1)).await;
    let received = tenant.received("hook").await;
    assert_eq!(received.len(), 5);
    assert_eq!(received[0].headers["webhook-id"], received[4].headers["webhook-id"]);
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_of_429_makes_the_whole_channel_wait() {
    let tenant = Tenant::new("t-429").await;
    let topic = tenant.topic("events");
    create_topic(&tenant.cluster.kafka, &topic, 1).await;
    let headers = [("retry-after".to_owned(), "8".to_owned())].into();
    tenant.behave("hook", Behaviour { status: 429, times: 1, headers, ..Default::default() }).await;
    tenant.apply(&(webhook(&tenant, "hook", QUICK_RETRIES) + &any_rule("event", &topic, "hook"))).await;
    tenant.ready("alr/event").await;
    let producer = producer(&tenant.cluster.kafka);
    let record = |key: &str| json!({"kind": "event", "key": key}).to_string();
    produce(&producer, &topic, None, Some(record("a").as_bytes()), None).await;
    let first = tenant.arrived("hook", 1, 60).await[0].time_ms;
    produce(&producer, &topic, None, Some(record("b").as_bytes()), None).await;
    let received = tenant.arrived("hook", 3, 60).await;
    for later in &received[1..] {
        assert!(later.time_ms >= first + 7_900, "{} ms after the 429", later.time_ms - first);
    }
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_ends_unknown_and_on_unknown_decides() {
    let tenant = Tenant::new("t-hang").await;
    for path in ["again", "held"] {
        tenant.behave(path, Behaviour { hang_ms: 20_000, times: 1, ..Default::default() }).await;
    }
    let held = "{retry: {maxAttempts: 4, initialDelay: 1s, maxDelay: 2s}, timeout: 2s, onUnknown: Hold}";
    let again = "{retry: {maxAttempts: 4, initialDelay: 1s, maxDelay: 2s}, timeout: 2s, onUnknown: Resend}";
    tenant.apply(&(webhook(&tenant, "again", again) + &webhook(&tenant, "held", held))).await;
    for channel in ["nch/again", "nch/held"] {
        tenant.ready(channel).await;
        annotate(&tenant, channel, "belfry.dev/send-test=one").await;
    }
    field(&tenant, "nch/again", "/status/deliveries/delivered", json!(1)).await;
    field(&tenant, "nch/held", "/status/deliveries/dead", json!(1)).await;
    assert_eq!(tenant.received("again").await.len(), 2);
    assert_eq!(tenant.received("held").await.len(), 1);
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_out_by_starttls_with_login_one_recipient_a_message() {
    let tenant = Tenant::new("t-channels").await;
    let folder = std::env::var("RECEIVED").expect("RECEIVED");
    let certificate = std::fs::read_to_string(format!("{folder}/smtp.crt")).expect("the certificate");
    let bundle = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "smtp-ca", "namespace": tenant.ns},
        "data": {"ca.crt": certificate},
    });
    let channel = "
apiVersion: belfry.dev/v1alpha1
kind: NotificationChannel
metadata: {name: mail, namespace: $NS}
spec:
  type: Email
  email:
    host: smtp.$NS.svc
    port: 2526
    tls: StartTls
    usernameSecretRef: {name: notify, key: user}
    passwordSecretRef: {name: notify, key: password}
    from: Belfry <belfry@example.com>
    to: [a@example.com, dead-b@example.com]
  tls: {caBundle: {configMapRef: {name: smtp-ca, key: ca.crt}}}
  delivery: {retry: {maxAttempts: 3, initialDelay: 1s, maxDelay: 2s}}
";
    tenant.apply(&format!("{SECRET}{bundle}\n---{channel}")).await;
    tenant.ready("nch/mail").await;
    annotate(&tenant, "nch/mail", "belfry.dev/send-test=starttls").await;
    let mail = mail("mail-tls", "a@example.com", "").await;
    assert_eq!((mail["tls"].clone(), mail["login"].clone()), (json!(true), json!("belfry")), "{mail}");
    assert_eq!(mail["to"], json!(["a@example.com"]));
    // One mailbox that is refused does not keep mail from the others.
    field(&tenant, "nch/mail", "/status/deliveries/delivered", json!(1)).await;
    field(&tenant, "nch/mail", "/status/deliveries/dead", json!(1)).await;
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_channel_writes_cloud_events_keyed_by_the_ordering_key() {
    let tenant = Tenant::new("t-kafka").await;
    let (kafka, out) = (tenant.cluster.kafka.clone(), tenant.topic("out"));
    create_topic(&kafka, &out, 3).await;
    let channel = format!(
        "
apiVersion: belfry.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: bus, namespace: $NS}}
spec:
  type: Kafka
  kafka: {{bootstrapServers: [\"$KAFKA\"], topic: \"{out}\"}}
"
    );
    tenant.apply(&channel).await;
    tenant.ready("nch/bus").await;
    annotate(&tenant, "nch/bus", "belfry.dev/send-test=one").await;
    field(&tenant, "nch/bus", "/status/deliveries/delivered", json!(1)).await;
    let records = read_all(&kafka, &out);
    assert_eq!(records.len(), 1);
    assert!(records[0].key().is_some_and(|key| !key.is_empty()));
    let headers = records[0].headers().expect("headers");
    let names: Vec<&str> = headers.iter().map(|header| header.key).collect();
    for name in ["ce_specversion", "ce_id", "ce_source", "ce_type"] {
        assert!(names.contains(&name), "{names:?}");
    }
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_cloud_events_and_a_template_arrive_and_the_rate_limit_holds() {
    let tenant = Tenant::new("t-rate").await;
    let topic = tenant.topic("events");
    create_topic(&tenant.cluster.kafka, &topic, 1).await;
    let channel = format!(
        "
apiVersion: belfry.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: hook, namespace: $NS}}
spec:
  type: Webhook
  webhook: {{url: \"{}\", signingSecretRef: {{name: notify, key: signing}}, format: CloudEventsStructured}}
  delivery: {{rateLimit: {{perMinute: 60, burst: 2}}}}
  template: {{title: \"<{{{{ severity }}}}> {{{{ title }}}}\", body: \"key={{{{ group.key }}}}\"}}
---
",
        tenant.url("hook")
    );
    tenant.apply(&format!("{SECRET}{channel}{}", any_rule("event", &topic, "hook"))).await;
    tenant.ready("alr/event").await;
    let producer = producer(&tenant.cluster.kafka);
    for key in 0..8 {
        let record = json!({"kind": "event", "key": format!("k{key}")}).to_string();
        produce(&producer, &topic, None, Some(record.as_bytes()), None).await;
    }
    let received = tenant.arrived("hook", 8, 60).await;
    assert_signed(&received[0]);
    assert!(
        received[0].body.contains("<warning> event k") && received[0].body.contains("key=k"),
        "{}",
        received[0].body
    );
    // Two at once, then one a second: eight take six seconds. The test asks for five, so that coarse clocks don't matter.
    let took = received[7].time_ms - received[0].time_ms;
    assert!(took >= 5_000, "{took} ms for eight at one a second after a burst of two");
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_named_and_heals_when_it_appears() {
    let tenant = Tenant::new("t-secret").await;
    let channel = webhook(&tenant, "hook", "{}")
        .replace("webhook: {url:", "webhook: {signingSecretRef: {name: notify, key: signing}, url:");
    tenant.apply(&channel).await;
    let object = tenant.condition("nch/hook", "Ready", "False", "SecretKeyNotFound", 60).await;
    let message = object["status"]["conditions"].to_string();
    assert!(message.contains("notify") && message.contains("signing"), "{message}");
    tenant.apply(SECRET).await;
    // The kubelet looks at optional Secrets about once a minute.
    eventually("ready after the Secret appeared", Duration::from_mins(3), async || {
        let object: Value = tenant.get("nch/hook").await.ok_or("not there")?;
        match e2e::cluster::condition(&object, "Ready") {
            Some((status, _, _)) if status == "True" => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await;
    annotate(&tenant, "nch/hook", "belfry.dev/send-test=one").await;
    let received = tenant.arrived("hook", 1, 60).await;
    assert_signed(&received[0]);
    assert_eq!(body(&received[0])["data"]["severity"], "info", "{}", received[0].body);
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_was_not_written_for_belfry_gets_its_own_form_with_what_secrets_hold() {
    let tenant = Tenant::new("t-own-form").await;
    let topic = tenant.topic("events");
    create_topic(&tenant.cluster.kafka, &topic, 1).await;
    let manifest = format!(
        "
apiVersion: v1
kind: Secret
metadata: {{name: chat, namespace: $NS}}
stringData: {{url: \"{}\", key: canary-of-a-key, user: belfry, password: canary-of-a-password}}
---
apiVersion: belfry.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: chat, namespace: $NS}}
spec:
  type: Webhook
  webhook:
    urlSecretRef: {{name: chat, key: url}}
    allowCleartextLogin: true
    headers:
      - {{name: X-Team, value: payments}}
      - {{name: X-Api-Key, secretKeyRef: {{name: chat, key: key}}}}
    basicAuth: {{usernameSecretRef: {{name: chat, key: user}}, passwordSecretRef: {{name: chat, key: password}}}}
    body: {{template: '{{\"text\": \"{{{{ text }}}}\", \"ask\": \"{{{{ ask }}}}\"}}'}}
---
",
        tenant.url("chat")
    );
    let rule = any_rule("event", &topic, "chat");
    tenant.apply(&(manifest + &rule)).await;
    for what in ["nch/chat", "alr/event"] {
        tenant.ready(what).await;
    }
    let record = json!({"kind": "event", "key": "a \"quoted\" \\ key"}).to_string();
    produce(&producer(&tenant.cluster.kafka), &topic, None, Some(record.as_bytes()), None).await;
    let received = tenant.arrived("chat", 1, 60).await.remove(0);
    let told = body(&received);
    assert!(told["text"].as_str().is_some_and(|text| text.contains("a \"quoted\" \\ key")), "{told}");
    assert_eq!(
        told["ask"],
        format!("belfry ask {} -n {}", received.headers["x-belfry-notification"], tenant.ns)
    );
    for (name, value) in [
        ("x-team", "payments"),
        ("x-api-key", "canary-of-a-key"),
        ("authorization", "Basic YmVsZnJ5OmNhbmFyeS1vZi1hLXBhc3N3b3Jk"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(received.headers[name], value, "{name}");
    }
    let shown = tenant.get("nch/chat").await.expect("the channel").to_string();
    assert!(!shown.contains("canary"), "{shown}");
    let refused = tenant.try_apply(
        "apiVersion: belfry.dev/v1alpha1
kind: NotificationChannel
metadata: {name: wrong, namespace: $NS}
spec: {type: Webhook, webhook: {url: 'https://example.com/', headers: [{name: Host, value: example.org}]}}
",
    );
    let why = refused.await.expect_err("a header of HTTP's own");
    assert!(
        why.contains("webhook.headers[0]: Host belongs to HTTP itself, which sets it: leave it out"),
        "{why}"
    );
    tenant.leave().await;
}
