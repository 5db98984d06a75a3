//! What statuses say of alerts that nobody got, of records that can't be counted, and of notifications of a deleted rule.

use std::time::Duration;

use e2e::cluster::eventually;
use e2e::kafka::{create_topic, produce, producer};
use e2e::sink::Behaviour;
use e2e::tenant::Tenant;
use serde_json::{Value, json};

use crate::support::{annotate, any_rule, field, rule, webhook};

fn record(key: &str) -> String {
    json!({"kind": "event", "key": key, "status": 500}).to_string()
}

/// The Kubernetes Events of type Warning about an object with this reason.
async fn warnings(tenant: &Tenant, object: &str, reason: &str) -> Vec<Value> {
    let about = format!("regarding.name={object},reason={reason}");
    let args = ["-n", &tenant.ns, "get", "events.events.k8s.io", "--field-selector", &about, "-o", "json"];
    let events: Value = serde_json::from_str(&tenant.cluster.kubectl(&args).await).expect("JSON");
    let all = events["items"].as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|event| event["type"] == "Warning").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_that_nobody_got_shows_at_its_rule_until_it_is_sent_again() {
    let tenant = Tenant::new("t-nobody-got").await;
    let topic = tenant.topic("events");
    create_topic(&tenant.cluster.kafka, &topic, 1).await;
    tenant.behave("hook", Behaviour { status: 410, ..Default::default() }).await;
    tenant.apply(&(webhook(&tenant, "hook", "{}") + &any_rule("event", &topic, "hook"))).await;
    tenant.ready("alr/event").await;
    let producer = producer(&tenant.cluster.kafka);
    produce(&producer, &topic, None, Some(record("a").as_bytes()), None).await;
    let object = tenant.condition("alr/event", "Delivered", "False", "Dead", 60).await;
    let status = &object["status"];
    assert_eq!(status["undelivered"][0]["channel"], "hook", "{status}");
    assert_eq!(status["undelivered"][0]["count"], 1, "{status}");
    let outcome = status["lastNotification"]["outcome"].as_str().unwrap_or_default();
    assert!(outcome.starts_with("Dead") && outcome.contains("410"), "{status}");
    let table = tenant.cluster.kubectl(&["-n", &tenant.ns, "get", "alr", "event"]).await;
    assert!(table.contains("DELIVERED") && table.contains("False"), "{table}");
    eventually("one warning", Duration::from_secs(20), async || {
        let warnings = warnings(&tenant, "event", "Dead").await;
        if warnings.len() == 1 { Ok(()) } else { Err(format!("{warnings:?}")) }
    })
    .await;
    tenant.behave("hook", Behaviour::default()).await;
    annotate(&tenant, "nch/hook", "belfry.dev/resend=all@mended").await;
    tenant.condition("alr/event", "Delivered", "True", "Delivered", 30).await;
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_compares_numbers_with_a_text_says_so_with_one_of_the_records() {
    let tenant = Tenant::new("t-no-match").await;
    let topic = tenant.topic("events");
    create_topic(&tenant.cluster.kafka, &topic, 1).await;
    let manifest = rule("texts", &topic, "hook", "record.status >= \"500\"", "{type: Any}", "");
    tenant.apply(&(webhook(&tenant, "hook", "{}") + &manifest)).await;
    tenant.ready("alr/texts").await;
    let producer = producer(&tenant.cluster.kafka);
    for key in ["a", "b", "c"] {
        produce(&producer, &topic, None, Some(record(key).as_bytes()), None).await;
    }
    let object = tenant.condition("alr/texts", "Unmatched", "True", "MatchWrongType", 60).await;
    let (_, _, message) = e2e::cluster::condition(&object, "Unmatched").expect("it is there");
    assert!(message.starts_with("100% of the records that came lately"), "{message}");
    assert!(message.contains("does not take int and string"), "{message}");
    assert!(message.contains(&format!("{topic}/0 offset ")), "{message}");
    field(&tenant, "alr/texts", "/status/unmatchedTotal", json!(3)).await;
    let table = tenant.cluster.kubectl(&["-n", &tenant.ns, "get", "alr", "texts", "-o", "wide"]).await;
    assert!(table.contains("UNMATCHED"), "{table}");
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_of_a_deleted_rule_are_not_sent_when_their_channel_appears() {
    let tenant = Tenant::new("t-not-sent").await;
    let topic = tenant.topic("events");
    create_topic(&tenant.cluster.kafka, &topic, 1).await;
    tenant.apply(&(webhook(&tenant, "other", "{}") + &any_rule("event", &topic, "hook"))).await;
    tenant.condition("alr/event", "Ready", "False", "ChannelNotFound", 60).await;
    let producer = producer(&tenant.cluster.kafka);
    for key in ["a", "b", "c"] {
        produce(&producer, &topic, None, Some(record(key).as_bytes()), None).await;
    }
    field(&tenant, "alr/event", "/status/matched", json!(3)).await;
    tenant.cluster.kubectl(&["-n", &tenant.ns, "delete", "alr", "event"]).await;
    tenant.apply(&webhook(&tenant, "hook", "{}")).await;
    tenant.ready("nch/hook").await;
    // This test message is due after the notifications of the deleted rule. So when it has arrived, they would have too.
    annotate(&tenant, "nch/hook", "belfry.dev/send-test=one").await;
    let received = tenant.arrived("hook", 1, 60).await;
    assert!(received.iter().all(|one| one.body.contains("Test of channel")), "{:?}", received[0].body);
    // Their deliveries end as suppressed when the hub's grace of two minutes is over.
    eventually("they are suppressed", Duration::from_mins(5), async || {
        let channel = tenant.get("nch/hook").await.ok_or("not there")?;
        let suppressed = channel.pointer("/status/deliveries/suppressed").cloned();
        if suppressed == Some(json!(3)) { Ok(()) } else { Err(format!("{suppressed:?}")) }
    })
    .await;
    assert_eq!(tenant.received("hook").await.len(), 1);
    tenant.leave().await;
}
