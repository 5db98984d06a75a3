//! Records that can't be decoded, or that don't have what a rule expects: each goes where docs/semantics.md (R9, R11, R12) says, and the
//! consumer goes on.

use e2e::kafka::{create_topic, delete_topic, produce, producer, read_all};
use e2e::tenant::Tenant;
use rdkafka::Message as _;
use rdkafka::message::Headers as _;
use serde_json::json;

use crate::golden;
use crate::support::{field, rule, webhook};

/// Ten million bytes that begin like this.
fn huge(begins: &str) -> Vec<u8> {
    let mut bytes = begins.as_bytes().to_vec();
    bytes.resize(10_000_000, b'x');
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rule_can_not_count_is_counted_by_its_reason_and_the_consumer_goes_on() {
    let tenant = Tenant::new("t-bad-records").await;
    let (kafka, topic) = (tenant.cluster.kafka.clone(), tenant.topic("payments"));
    create_topic(&kafka, &topic, 1).await;
    // Removes the dead letters of an earlier run.
    delete_topic(&kafka, &format!("{topic}.DLT")).await;
    let manifest = rule("large", &topic, "hook", "record.amount > 100", "{type: Any}", "");
    tenant.apply(&(webhook(&tenant, "hook", "{}") + &manifest)).await;
    tenant.ready("alr/large").await;
    let mut large = huge(r#"{"amount": 500, "key": "huge", "pad": ""#);
    large.extend_from_slice(br#""}"#);
    let junk = huge("not json ");
    let producer = producer(&kafka);
    // Most records are fine, so the share of unmatched ones stays below what `Unmatched` reports.
    for _ in 0..12 {
        produce(&producer, &topic, Some("k"), Some(br#"{"amount": 1, "key": "fine"}"#), None).await;
    }
    for value in [
        Some(b"not json".to_vec()),
        Some(Vec::new()),
        None,
        Some(large),
        Some(junk.clone()),
        Some(br#"{"amount": "many", "key": "a"}"#.to_vec()),
        Some(br#"{"amount": 500}"#.to_vec()),
        Some(br#"{"amount": 500, "key": null}"#.to_vec()),
        Some(b"[500]".to_vec()),
        Some(b"null".to_vec()),
        Some(br#"{"amount": 500, "key": "after"}"#.to_vec()),
    ] {
        produce(&producer, &topic, Some("k"), value.as_deref(), None).await;
    }
    let received = tenant.arrived("hook", 2, 60).await;
    assert!(
        received[0].body.contains("large huge 1") && received[0].body.len() < 300_000,
        "cut to its bounds"
    );
    assert!(received[1].body.contains("large after 1"), "{}", received[1].body);
    field(&tenant, "alr/large", "/status/matched", json!(2)).await;
    field(&tenant, "alr/large", "/status/deadLettered", json!(3)).await;
    golden::assert_shown(&tenant, &[("records", "alr/large")]).await;

    let dead = read_all(&kafka, &format!("{topic}.DLT"));
    let described: Vec<String> = dead
        .iter()
        .map(|record| {
            let headers: Vec<String> = record
                .headers()
                .expect("headers")
                .iter()
                .filter(|header| header.key != "belfry-timestamp")
                .map(|header| {
                    format!("{}: {}", header.key, String::from_utf8_lossy(header.value.unwrap_or_default()))
                })
                .collect();
            format!("{} bytes\n  {}\n", record.payload().map_or(0, <[u8]>::len), headers.join("\n  "))
        })
        .collect();
    golden::assert_same("records-dead-letters", &described.join("\n"));
    assert_eq!(dead[2].payload(), Some(junk.as_slice()), "ten million bytes, whole");
    tenant.leave().await;
}
