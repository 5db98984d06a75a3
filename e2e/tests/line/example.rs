//! `examples/payments.yaml` works unchanged.

use std::time::Duration;

use e2e::cluster::eventually;
use e2e::kafka::{create_topic, produce, producer};
use e2e::sink::Received;
use e2e::tenant::{SINK_CONTROL, Tenant};
use serde_json::json;

use crate::support::{assert_signed, body, field, mail};

const EXAMPLE: &str = include_str!("../../../examples/payments.yaml");

/// The first request that the receiver got at this path.
async fn received_at(tenant: &Tenant, path: &str) -> Result<Received, String> {
    let url = format!("http://{}:{SINK_CONTROL}/received", tenant.cluster.node_ip);
    let answer = reqwest::get(url).await.map_err(|error| error.to_string())?;
    let all: Vec<Received> = answer.json().await.map_err(|error| error.to_string())?;
    all.into_iter().find(|one| one.path == path).ok_or_else(|| "nothing".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_applies_unchanged_and_does_what_it_says() {
    let tenant = Tenant::new("payments").await;
    tenant.cluster.apply(EXAMPLE).await;
    let kafka = tenant.cluster.kafka.clone();
    create_topic(&kafka, "service-logs", 6).await;
    create_topic(&kafka, "payment-events", 6).await;
    for what in [
        "nch/slack",
        "nch/mail",
        "nch/hook",
        "alr/payment-errors",
        "alr/chargeback",
        "sch/standup",
        "sch/month-close",
    ] {
        tenant.ready(what).await;
    }
    let producer = producer(&kafka);
    for number in 0..25 {
        let record =
            json!({"level": "ERROR", "service": "pay-api", "message": format!("card declined {number}")});
        produce(&producer, "service-logs", Some("pay-api"), Some(record.to_string().as_bytes()), None).await;
        let other = json!({"level": "ERROR", "service": "search", "message": "slow"});
        produce(&producer, "service-logs", Some("search"), Some(other.to_string().as_bytes()), None).await;
    }
    let chargeback = json!({"type": "chargeback", "amount": 150, "accountId": "a-1"});
    produce(&producer, "payment-events", Some("a-1"), Some(chargeback.to_string().as_bytes()), None).await;

    let hook = eventually("the chargeback at the hook", Duration::from_mins(1), async || {
        received_at(&tenant, "/hook").await
    })
    .await;
    assert_signed(&hook);
    let event = body(&hook);
    assert_eq!(event["specversion"], "1.0", "{event}");
    assert_eq!(event["id"].as_str(), hook.headers.get("webhook-id").map(String::as_str));
    assert!(hook.body.contains("Chargeback on a-1"), "{}", hook.body);

    let slack = eventually("the alert at Slack", Duration::from_mins(1), async || {
        received_at(&tenant, "/slack").await
    })
    .await;
    assert!(slack.body.contains("[critical] pay-api: "), "{}", slack.body);
    assert!(slack.body.contains("bad log lines in 1m"), "{}", slack.body);
    assert!(slack.body.contains("Last: card declined"), "{}", slack.body);
    assert!(!slack.body.contains("search"), "{}", slack.body);
    let mail = mail("mail", "payments-oncall@example.com", "pay-api: ").await;
    assert_eq!(mail["login"], "belfry");
    assert!(mail["parts"]["text/plain"].is_string() && mail["parts"]["text/html"].is_string(), "{mail}");

    field(&tenant, "alr/payment-errors", "/status/firing/0/group", json!({"service": "pay-api"})).await;
    let schedule = tenant.get("sch/month-close").await.expect("the schedule");
    assert_eq!(schedule["status"]["nextOccurrences"].as_array().map(Vec::len), Some(5), "{schedule}");
    tenant.leave().await;
}
