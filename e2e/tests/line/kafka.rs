//! Kafka: ways to log in, credentials that change, and what may happen to a topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::cluster::{condition, eventually};
use e2e::kafka::{
    Secured, add_partitions, create_topic, delete_topic, produce, produce_in_transaction, producer, read_all,
};
use e2e::sink::Received;
use e2e::tenant::Tenant;
use rdkafka::Message as _;
use rdkafka::producer::FutureRecord;
use serde_json::{Value, json};

use crate::support::{annotate, any_rule, field, webhook};

/// How long it may take until a kubelet has brought a changed Secret to a pod and the worker uses it, in seconds.
const SECRET_WITHIN: u64 = 150;

fn record(kind: &str, key: &str) -> Vec<u8> {
    json!({"kind": kind, "key": key}).to_string().into_bytes()
}

/// The manifest of a Secret.
fn secret(tenant: &Tenant, name: &str, data: &Value) -> String {
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": tenant.ns},
        "stringData": data,
    });
    format!("{object}\n---\n")
}

/// The manifest of the ConfigMap `kafka-ca` with the authority of the broker's certificate.
fn authority(tenant: &Tenant, ca: &str) -> String {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kafka-ca", "namespace": tenant.ns},
        "data": {"ca.crt": ca},
    });
    format!("{object}\n---\n")
}

const TLS: &str = "{caBundle: {configMapRef: {name: kafka-ca, key: ca.crt}}}";

/// A rule that counts records with `kind == "event"` and never fires; `kafka` is YAML in flow style.
fn counting_rule(name: &str, kafka: &str) -> String {
    format!(
        "apiVersion: belfry.dev/v1alpha1
kind: AlertRule
metadata: {{name: {name}, namespace: $NS}}
spec:
  source: {{kafka: {{{kafka}, format: Json, startFrom: Earliest}}}}
  match: record.kind == \"event\"
  condition: {{type: Frequency, frequency: {{count: 1000000, window: 1m}}}}
  title: many
  notify: [{{channelRef: {{name: hook}}}}]
---
"
    )
}

/// A Kafka channel; `kafka` is YAML in flow style.
fn kafka_channel(name: &str, kafka: &str) -> String {
    format!(
        "apiVersion: belfry.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: {name}, namespace: $NS}}
spec:
  type: Kafka
  kafka: {{{kafka}}}
  delivery: {{retry: {{maxAttempts: 20, initialDelay: 1s, maxDelay: 2s}}}}
---
"
    )
}

/// Waits until the rule's status shows that so many records matched.
async fn await_matched(tenant: &Tenant, what: &str, expected: i64) {
    field(tenant, what, "/status/matched", json!(expected)).await;
}

/// Changes all pods of the namespace, so that the kubelet brings a changed Secret to them at once.
async fn hurry_secrets(tenant: &Tenant, word: &str) {
    let annotation = format!("test.belfry.dev/nudge={word}");
    tenant
        .cluster
        .kubectl(&["-n", &tenant.ns, "annotate", "--overwrite", "pods", "--all", &annotation])
        .await;
}

/// Everything that a person may read of the namespace, where no secret may show: objects, events and logs.
async fn readable(tenant: &Tenant) -> String {
    let ns = &tenant.ns;
    let objects =
        tenant.cluster.kubectl(&["-n", ns, "get", "nch,alr,deploy,pods,events", "-o", "yaml"]).await;
    let selector = "app.kubernetes.io/managed-by=belfry";
    let logs = ["-n", ns, "logs", "-l", selector, "--tail=-1", "--prefix", "--max-log-requests=20"];
    objects + &tenant.cluster.kubectl(&logs).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_read_and_channels_write_over_tls_with_each_way_to_log_in() {
    let Some(secured) = Secured::from_env() else { return };
    let tenant = Tenant::new("t-sasl").await;
    let (topic, out) = (tenant.topic("logs"), tenant.topic("out"));
    for name in [&topic, &out] {
        create_topic(&tenant.cluster.kafka, name, 1).await;
    }
    let mut manifest = authority(&tenant, &secured.ca)
        + &secret(&tenant, "user", &json!({"password": secured.password, "name": secured.user}))
        + &webhook(&tenant, "hook", "{}");
    let ways = [("plain", "Plain"), ("scram-256", "ScramSha256"), ("scram-512", "ScramSha512")];
    for (name, mechanism) in ways {
        let access = format!(
            "bootstrapServers: [\"{}\"], tls: {TLS}, sasl: {{mechanism: {mechanism}, username: {}, passwordSecretRef: {{name: user}}}}",
            secured.sasl, secured.user
        );
        manifest += &counting_rule(name, &format!("{access}, topics: [{topic}]"));
        let by_reference = access
            .replace(&format!("username: {}", secured.user), "usernameSecretRef: {name: user, key: name}");
        manifest += &kafka_channel(name, &format!("{by_reference}, topic: {out}"));
    }
    tenant.apply(&manifest).await;
    for (name, _) in ways {
        tenant.ready(&format!("alr/{name}")).await;
        tenant.ready(&format!("nch/{name}")).await;
        annotate(&tenant, &format!("nch/{name}"), "belfry.dev/send-test=one").await;
    }
    let producer = producer(&tenant.cluster.kafka);
    for _ in 0..10 {
        produce(&producer, &topic, None, Some(&record("event", "a")), None).await;
    }
    for (name, _) in ways {
        await_matched(&tenant, &format!("alr/{name}"), 10).await;
        field(&tenant, &format!("nch/{name}"), "/status/deliveries/delivered", json!(1)).await;
    }
    assert_eq!(read_all(&tenant.cluster.kafka, &out).len(), ways.len());
    let deployments = tenant.cluster.kubectl(&["-n", &tenant.ns, "get", "deploy", "-o", "name"]).await;
    assert_eq!(deployments.matches("belfry-consume-").count(), 3, "a consumer for each login: {deployments}");
    assert!(!readable(&tenant).await.contains(&secured.password), "the password is shown");
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_shows_its_certificate_and_does_not_trust_a_broker_of_another_authority() {
    let Some(secured) = Secured::from_env() else { return };
    let tenant = Tenant::new("t-mtls").await;
    let (topic, out) = (tenant.topic("logs"), tenant.topic("out"));
    for name in [&topic, &out] {
        create_topic(&tenant.cluster.kafka, name, 1).await;
    }
    // The Secret has the keys of Strimzi's KafkaUser.
    let (certificate, key) = &secured.client;
    let user =
        secret(&tenant, "user", &json!({"ca.crt": secured.ca, "user.crt": certificate, "user.key": key}));
    let other = secret(&tenant, "other", &json!({"ca.crt": certificate}));
    let tls = |authority: &str| {
        format!(
            "bootstrapServers: [\"{}\"], tls: {{caBundle: {{secretRef: {{name: {authority}, key: ca.crt}}}}, certificateRef: {{name: user}}}}",
            secured.mtls
        )
    };
    let bare = format!(
        "bootstrapServers: [\"{}\"], tls: {{caBundle: {{secretRef: {{name: user, key: ca.crt}}}}}}",
        secured.mtls
    );
    let manifest = user
        + &other
        + &webhook(&tenant, "hook", "{}")
        + &counting_rule("good", &format!("{}, topics: [{topic}]", tls("user")))
        + &counting_rule("bare", &format!("{bare}, topics: [{topic}]"))
        + &counting_rule("misled", &format!("{}, topics: [{topic}]", tls("other")))
        + &kafka_channel("bus", &format!("{}, topic: {out}", tls("user")));
    tenant.apply(&manifest).await;
    tenant.ready("alr/good").await;
    tenant.ready("nch/bus").await;
    annotate(&tenant, "nch/bus", "belfry.dev/send-test=one").await;
    let producer = producer(&tenant.cluster.kafka);
    produce(&producer, &topic, None, Some(&record("event", "a")), None).await;
    await_matched(&tenant, "alr/good", 1).await;
    field(&tenant, "nch/bus", "/status/deliveries/delivered", json!(1)).await;
    for rule in ["alr/misled", "alr/bare"] {
        let object = tenant.condition(rule, "Ready", "False", "KafkaTlsFailed", 90).await;
        println!("{rule}: {:?}", condition(&object, "Ready"));
    }
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_and_a_wrong_password_are_reported_and_heal_when_the_secret_is_mended() {
    const CANARY: &str = "canary-kafka-5b7e";
    let Some(secured) = Secured::from_env() else { return };
    let tenant = Tenant::new("t-password").await;
    let (topic, out) = (tenant.topic("logs"), tenant.topic("out"));
    for name in [&topic, &out] {
        create_topic(&tenant.cluster.kafka, name, 1).await;
    }
    let access = format!(
        "bootstrapServers: [\"{}\"], tls: {TLS}, sasl: {{mechanism: ScramSha512, username: {}, passwordSecretRef: {{name: user}}}}",
        secured.sasl, secured.user
    );
    let manifest = authority(&tenant, &secured.ca)
        + &webhook(&tenant, "hook", "{}")
        + &counting_rule("event", &format!("{access}, topics: [{topic}]"))
        + &kafka_channel("bus", &format!("{access}, topic: {out}"));
    tenant.apply(&manifest).await;
    for what in ["alr/event", "nch/bus"] {
        let object = tenant.condition(what, "Ready", "False", "SecretKeyNotFound", 90).await;
        let (_, _, message) = condition(&object, "Ready").expect("it is there");
        assert!(message.contains("\"password\"") && message.contains("\"user\""), "{message}");
        assert!(condition(&object, "Stalled").is_none(), "it heals by itself: {}", object["status"]);
    }
    tenant.apply(&secret(&tenant, "user", &json!({"password": CANARY}))).await;
    hurry_secrets(&tenant, "wrong").await;
    let object =
        tenant.condition("alr/event", "Ready", "False", "KafkaAuthenticationFailed", SECRET_WITHIN).await;
    let (_, _, message) = condition(&object, "Ready").expect("it is there");
    assert!(message.contains(&secured.sasl) && message.contains("credentials"), "{message}");
    tenant.ready("nch/bus").await;
    annotate(&tenant, "nch/bus", "belfry.dev/send-test=one").await;
    let object = tenant.condition("nch/bus", "Healthy", "False", "", SECRET_WITHIN).await;
    let error = object["status"]["lastError"].as_str().unwrap_or_default();
    assert!(error.contains("do not accept the credentials"), "{error}");
    let seen = readable(&tenant).await;
    assert!(seen.contains("credentials"), "logs are read");
    assert!(!seen.contains(CANARY), "the password is shown");

    tenant.apply(&secret(&tenant, "user", &json!({"password": secured.password}))).await;
    hurry_secrets(&tenant, "right").await;
    tenant.condition("alr/event", "Ready", "True", "", SECRET_WITHIN).await;
    let producer = producer(&tenant.cluster.kafka);
    produce(&producer, &topic, None, Some(&record("event", "a")), None).await;
    await_matched(&tenant, "alr/event", 1).await;
    field(&tenant, "nch/bus", "/status/deliveries/delivered", json!(1)).await;
    assert!(!readable(&tenant).await.contains(&secured.password), "the password is shown");
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_changed_while_records_come_loses_none_and_counts_none_twice() {
    let Some(secured) = Secured::from_env() else { return };
    let tenant = Tenant::new("t-rotate").await;
    let (kafka, topic) = (tenant.cluster.kafka.clone(), tenant.topic("logs"));
    create_topic(&kafka, &topic, 4).await;
    let login = async |password: &str| {
        tenant.cluster.bed("kafka-user", &["rotating", password]).await;
        tenant.apply(&secret(&tenant, "user", &json!({"password": password}))).await;
    };
    login("first").await;
    let access = format!(
        "bootstrapServers: [\"{}\"], tls: {TLS}, sasl: {{mechanism: ScramSha512, username: rotating, passwordSecretRef: {{name: user}}}}",
        secured.sasl
    );
    let manifest = authority(&tenant, &secured.ca)
        + &webhook(&tenant, "hook", "{}")
        + &counting_rule("event", &format!("{access}, topics: [{topic}]"));
    tenant.apply(&manifest).await;
    tenant.ready("alr/event").await;

    let stop = Arc::new(AtomicBool::new(false));
    let producing = tokio::spawn({
        let (stop, topic) = (Arc::clone(&stop), topic.clone());
        async move {
            let (producer, mut count) = (producer(&kafka), 0);
            while !stop.load(Ordering::Relaxed) {
                produce(&producer, &topic, None, Some(&record("event", "a")), None).await;
                count += 1;
            }
            count
        }
    });
    let consumer = "app.kubernetes.io/component=consume";
    let changed = async |times: usize| {
        eventually("the new password is used", Duration::from_secs(SECRET_WITHIN), async || {
            let log = tenant.cluster.kubectl(&["-n", &tenant.ns, "logs", "-l", consumer, "--tail=-1"]).await;
            let seen = log.matches("the credentials changed").count();
            if seen == times { Ok(()) } else { Err(format!("{seen} times")) }
        })
        .await;
    };
    for (times, password) in ["second", "third"].into_iter().enumerate() {
        login(password).await;
        hurry_secrets(&tenant, password).await;
        changed(times + 1).await;
    }
    // The consumer goes on with the third password: records that come now are counted.
    let before = tenant.get("alr/event").await.expect("the rule")["status"]["matched"].clone();
    eventually("counting goes on", Duration::from_mins(1), async || {
        let now = tenant.get("alr/event").await.ok_or("not there")?["status"]["matched"].clone();
        if now == before { Err(now.to_string()) } else { Ok(()) }
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let count: i64 = producing.await.expect("produced");
    println!("{count} records while the password changed twice");
    await_matched(&tenant, "alr/event", count).await;
    field(&tenant, "alr/event", "/status/lag", json!(0)).await;
    await_matched(&tenant, "alr/event", count).await;
    let restarts = "jsonpath={.items[*].status.containerStatuses[0].restartCount}";
    let restarts =
        tenant.cluster.kubectl(&["-n", &tenant.ns, "get", "pods", "-l", consumer, "-o", restarts]).await;
    assert_eq!(restarts.trim(), "0", "one pod, which was not restarted");
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_while_records_come_and_a_wrong_secret_is_reported() {
    const CANARY: &str = "canary-client-91c2";
    let Some(secured) = Secured::from_env() else { return };
    let tenant = Tenant::new("t-token").await;
    let (kafka, topic, out) = (tenant.cluster.kafka.clone(), tenant.topic("logs"), tenant.topic("out"));
    for name in [&topic, &out] {
        create_topic(&kafka, name, 2).await;
    }
    let access = |secret: &str| {
        format!(
            "bootstrapServers: [\"{}\"], tls: {TLS}, sasl: {{mechanism: OAuthBearer, oauth: {{tokenEndpoint: \"{}\", clientId: alerts, \
             clientSecretRef: {{name: {secret}, key: secret}}, audience: kafka, caBundle: {{configMapRef: {{name: kafka-ca, key: ca.crt}}}}}}}}",
            secured.oauth, secured.token_endpoint
        )
    };
    let manifest = authority(&tenant, &secured.ca)
        + &secret(&tenant, "client", &json!({"secret": secured.client_secret}))
        + &secret(&tenant, "wrong", &json!({"secret": CANARY}))
        + &webhook(&tenant, "hook", "{}")
        + &counting_rule("event", &format!("{}, topics: [{topic}]", access("client")))
        + &counting_rule("refused", &format!("{}, topics: [{topic}]", access("wrong")))
        + &kafka_channel("bus", &format!("{}, topic: {out}", access("client")));
    tenant.apply(&manifest).await;
    tenant.ready("alr/event").await;
    let object = tenant.condition("alr/refused", "Ready", "False", "KafkaTokenRefused", 90).await;
    let (_, _, message) = condition(&object, "Ready").expect("it is there");
    assert!(message.contains("401") && message.contains("invalid_client"), "{message}");

    let (producer, mut count) = (producer(&kafka), 0);
    let tokens = secured.tokens_granted();
    // The consumer and the channel's producer each ask for a token every 7 s. The broker ends connections whose token has expired.
    while secured.tokens_granted() < tokens + 8 {
        produce(&producer, &topic, None, Some(&record("event", "a")), None).await;
        count += 1;
        if count % 100 == 1 {
            annotate(&tenant, "nch/bus", &format!("belfry.dev/send-test=at-{count}")).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    produce(&producer, &topic, None, Some(b"{"), None).await;
    println!("{count} records over {} tokens", secured.tokens_granted() - tokens);
    await_matched(&tenant, "alr/event", count).await;
    let sent = (count + 99) / 100;
    field(&tenant, "nch/bus", "/status/deliveries/delivered", json!(sent)).await;
    assert_eq!(read_all(&kafka, &out).len() as i64, sent);
    // The consumer made the dead letter topic, and wrote to it, with a token too.
    eventually("a dead letter", Duration::from_mins(1), async || {
        match read_all(&kafka, &format!("{topic}.DLT")).len() {
            1 => Ok(()),
            count => Err(format!("{count} dead letters")),
        }
    })
    .await;
    let seen = readable(&tenant).await;
    assert!(!seen.contains(CANARY) && !seen.contains(&secured.client_secret), "the secret is shown");
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_added_and_a_topic_made_again_are_read_from_their_first_record() {
    let tenant = Tenant::new("t-topics").await;
    let (kafka, topic) = (tenant.cluster.kafka.clone(), tenant.topic("logs"));
    create_topic(&kafka, &topic, 1).await;
    // With Latest. Records in a new partition, or in a new topic of the same name, must count even if they come before it is noticed.
    let rule = any_rule("event", &topic, "hook").replace("Earliest", "Latest");
    tenant.apply(&(webhook(&tenant, "hook", "{}") + &rule)).await;
    tenant.ready("alr/event").await;
    let send = async |records: usize| {
        let producer = producer(&kafka);
        for number in 0..records {
            let (key, value) = (format!("k{number}"), record("event", &format!("k{number}")));
            produce(&producer, &topic, Some(&key), Some(&value), None).await;
        }
    };
    send(5).await;
    await_matched(&tenant, "alr/event", 5).await;
    add_partitions(&kafka, &topic, 4).await;
    send(40).await;
    field(&tenant, "alr/event", "/status/partitions", json!(4)).await;
    await_matched(&tenant, "alr/event", 45).await;

    delete_topic(&kafka, &topic).await;
    create_topic(&kafka, &topic, 2).await;
    send(20).await;
    await_matched(&tenant, "alr/event", 65).await;
    tenant.ready("alr/event").await;
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_come_with_a_new_partition_or_topic_are_in_time() {
    let tenant = Tenant::new("t-grows").await;
    let (kafka, topic, other) = (tenant.cluster.kafka.clone(), tenant.topic("logs"), tenant.topic("later"));
    create_topic(&kafka, &topic, 1).await;
    delete_topic(&kafka, &other).await;
    let rule = format!(
        "apiVersion: belfry.dev/v1alpha1
kind: AlertRule
metadata: {{name: burst, namespace: $NS}}
spec:
  source:
    kafka: {{bootstrapServers: [\"$KAFKA\"], topics: [\"{topic}\", \"{other}\"], format: Json, startFrom: Earliest}}
  match: has(record.key)
  groupBy: {{key: record.key}}
  condition: {{type: Frequency, frequency: {{count: 5, window: 5s}}}}
  title: \"{{{{ group.key }}}} {{{{ count }}}}\"
  notify: [{{channelRef: {{name: hook}}}}]
"
    );
    tenant.apply(&(webhook(&tenant, "hook", "{}") + &rule)).await;
    tenant.condition("alr/burst", "Ready", "False", "TopicNotFound", 60).await;
    let send = async |topic: &str, partition: i32, key: &str, many: usize| {
        // A new producer, which learns the topic's partitions as they are now.
        let producer = producer(&kafka);
        for _ in 0..many {
            let value = record("event", key);
            let record = FutureRecord::<str, [u8]>::to(topic).partition(partition).payload(&value);
            producer.send(record, Duration::from_secs(10)).await.expect("taken");
        }
    };
    // One record a second, so that event time follows the clock.
    let steady = async |seconds: usize| {
        for _ in 0..seconds {
            send(&topic, 0, "steady", 1).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    steady(6).await;
    add_partitions(&kafka, &topic, 2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    send(&topic, 1, "partition", 10).await;
    steady(8).await;
    create_topic(&kafka, &other, 1).await;
    send(&other, 0, "topic", 10).await;
    steady(8).await;
    eventually("both are told of", Duration::from_mins(1), async || {
        let told: Vec<String> = tenant.received("hook").await.iter().map(Received::title).collect();
        let all = ["partition ", "topic "].iter().all(|group| told.iter().any(|it| it.starts_with(group)));
        if all { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    field(&tenant, "alr/burst", "/status/late", json!(0)).await;
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aborted_records_count_only_where_isolation_says_so_and_dead_letters_go_where_the_rule_says() {
    let tenant = Tenant::new("t-isolation").await;
    let (kafka, topic, dead) = (tenant.cluster.kafka.clone(), tenant.topic("logs"), tenant.topic("dead"));
    create_topic(&kafka, &topic, 1).await;
    delete_topic(&kafka, &dead).await;
    let source = format!("bootstrapServers: [\"$KAFKA\"], topics: [{topic}]");
    let manifest = webhook(&tenant, "hook", "{}")
        + &counting_rule("committed", &format!("{source}, deadLetterTopic: {dead}"))
        + &counting_rule(
            "all",
            &format!("{source}, isolation: ReadUncommitted, deadLetterTopic: {dead}-all"),
        );
    tenant.apply(&manifest).await;
    for rule in ["alr/committed", "alr/all"] {
        tenant.ready(rule).await;
    }
    for commit in [false, true] {
        produce_in_transaction(&kafka, &topic, &record("event", "a"), commit).await;
    }
    produce(&producer(&kafka), &topic, None, Some(b"not json"), None).await;
    await_matched(&tenant, "alr/committed", 1).await;
    await_matched(&tenant, "alr/all", 2).await;
    field(&tenant, "alr/committed", "/status/deadLettered", json!(1)).await;
    let dead_letters = read_all(&kafka, &dead);
    assert_eq!(
        dead_letters.iter().map(|record| record.payload()).collect::<Vec<_>>(),
        [Some(&b"not json"[..])]
    );
    assert!(read_all(&kafka, &format!("{topic}.DLT")).is_empty(), "only where the rules say");
    tenant.leave().await;
}
