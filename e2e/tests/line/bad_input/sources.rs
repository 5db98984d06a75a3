//! Topics that don't exist yet and brokers that can't be reached: a status condition says so within 30 s, and the rule starts by itself
//! within 30 s after they appear.

use std::time::{Duration, Instant};

use e2e::kafka::{create_topic, delete_topic, produce, producer};
use e2e::tenant::Tenant;
use serde_json::json;

use super::channel;
use crate::golden;
use crate::support::{annotate, any_rule, field, webhook};

/// How long a status condition, and the start of a rule, may take.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_does_not_exist_yet_is_named_and_read_when_it_does() {
    let tenant = Tenant::new("t-bad-topic").await;
    let topic = tenant.topic("logs");
    delete_topic(&tenant.cluster.kafka, &topic).await;
    tenant.apply(&(webhook(&tenant, "hook", "{}") + &any_rule("event", &topic, "hook"))).await;
    tenant.condition("alr/event", "Ready", "False", "TopicNotFound", SOON.as_secs()).await;
    golden::assert_shown(&tenant, &[("source-topic", "alr/event")]).await;
    create_topic(&tenant.cluster.kafka, &topic, 2).await;
    let start = Instant::now();
    tenant.ready("alr/event").await;
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    let record = json!({"kind": "event", "key": "x"}).to_string();
    produce(&producer(&tenant.cluster.kafka), &topic, None, Some(record.as_bytes()), None).await;
    tenant.arrived("hook", 1, 30).await;
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_can_not_be_reached_is_named_and_read_when_it_can() {
    let tenant = Tenant::new("t-bad-broker").await;
    let topic = tenant.topic("logs");
    create_topic(&tenant.cluster.kafka, &topic, 1).await;
    // A broker can be out of reach in two ways: its name is unknown, or nobody listens at its port.
    let unknown = any_rule("unknown", &topic, "hook").replace("$KAFKA", "later.$NS.svc:9092");
    let silent = any_rule("silent", &topic, "hook").replace("$KAFKA", "kafka.$NS.svc:9");
    tenant.apply(&(webhook(&tenant, "hook", "{}") + &unknown + &silent)).await;
    for what in ["alr/unknown", "alr/silent"] {
        tenant.condition(what, "Ready", "False", "BrokerUnreachable", SOON.as_secs()).await;
    }
    let files = [("source-broker-unknown", "alr/unknown"), ("source-broker-silent", "alr/silent")];
    golden::assert_shown(&tenant, &files).await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "later", "namespace": tenant.ns},
        "spec": {"ports": [{"port": 9092}]},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "later", "namespace": tenant.ns, "labels": {"kubernetes.io/service-name": "later"}},
        "endpoints": [{"addresses": [tenant.cluster.node_ip], "conditions": {"ready": true}}],
        "ports": [{"port": 9092}],
    });
    tenant.apply(&format!("{service}\n---\n{slice}\n")).await;
    let start = Instant::now();
    tenant.ready("alr/unknown").await;
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    let record = json!({"kind": "unknown", "key": "x"}).to_string();
    produce(&producer(&tenant.cluster.kafka), &topic, None, Some(record.as_bytes()), None).await;
    tenant.arrived("hook", 1, 30).await;
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_to_a_topic_or_broker_that_is_not_there_says_so() {
    let tenant = Tenant::new("t-bad-bus").await;
    let fast = "delivery: {retry: {maxAttempts: 2, initialDelay: 1s, maxDelay: 1s}, timeout: 5s}";
    let bus = |name: &str, server: &str| {
        let topic = tenant.topic("out");
        channel(
            name,
            &format!("type: Kafka\nkafka: {{bootstrapServers: [\"{server}\"], topic: \"{topic}\"}}\n{fast}"),
        )
    };
    tenant.apply(&(bus("topic", "$KAFKA") + &bus("broker", "nowhere.$NS.svc:9092"))).await;
    for what in ["nch/topic", "nch/broker"] {
        tenant.ready(what).await;
        annotate(&tenant, what, "belfry.dev/send-test=one").await;
    }
    for what in ["nch/topic", "nch/broker"] {
        field(&tenant, what, "/status/deliveries/dead", json!(1)).await;
    }
    let files = [("source-channel-topic", "nch/topic"), ("source-channel-broker", "nch/broker")];
    golden::assert_shown(&tenant, &files).await;
    tenant.leave().await;
}
