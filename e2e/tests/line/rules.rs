//! Rules: what they count, when they fire, and what a change of a rule does.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use e2e::cluster::eventually;
use e2e::kafka::{create_topic, delete_topic, produce, producer, read_all};
use e2e::tenant::Tenant;
use rdkafka::Message as _;
use serde_json::json;

use crate::support::{any_rule, body, field, rule, webhook};

/// `delivery` with quick retries.
const QUICK_RETRIES: &str = "{retry: {maxAttempts: 4, initialDelay: 1s, maxDelay: 2s}, timeout: 3s}";

#[allow(clippy::disallowed_methods, reason = "a test owns its clock")]
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

fn record(kind: &str, key: &str) -> Vec<u8> {
    json!({"kind": kind, "key": key}).to_string().into_bytes()
}

/// The consumers of the namespace, as `uid:restarts`.
async fn consumers(tenant: &Tenant) -> Vec<String> {
    let text = tenant
        .cluster
        .kubectl(&[
            "-n",
            &tenant.ns,
            "get",
            "pods",
            "-l",
            "app.kubernetes.io/component=consume",
            "-o",
            "jsonpath={range .items[*]}{.metadata.uid}:{.status.containerStatuses[0].restartCount} {end}",
        ])
        .await;
    text.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_fires_repeats_and_resolves_per_group_with_exact_counts_and_its_top_values() {
    let tenant = Tenant::new("t-frequency").await;
    let topic = tenant.topic("logs");
    create_topic(&tenant.cluster.kafka, &topic, 3).await;
    let more = "  repeatInterval: 4s
  resolve: {after: 3s, notify: true}
  allowedLateness: 3s
  topValues: {host: record.host}
  summary: \"{% for it in topValues.host %}{{ it.value }}:{{ it.count }} {% endfor %}{{ firstRecord.host }}\"
";
    let frequency = "{type: Frequency, frequency: {count: 5, window: 10s}}";
    let manifest = rule("errors", &topic, "hook", "record.kind == \"bad\"", frequency, more);
    tenant.apply(&(webhook(&tenant, "hook", QUICK_RETRIES) + &manifest)).await;
    tenant.ready("alr/errors").await;
    let producer = producer(&tenant.cluster.kafka);
    produce(&producer, &topic, None, Some(&record("fine", "a")), None).await;
    // All records are in one bucket, that of the next second, and on all partitions. It is decided 3 s after its end, when all have come.
    let second = now_ms() / 1000 * 1000 + 1000;
    for (number, host) in (0..).zip(["h1", "h0", "h2", "h0", "h1", "h0", "h0"]) {
        let bad = json!({"kind": "bad", "key": "a", "host": host}).to_string();
        let key = format!("p{number}");
        produce(&producer, &topic, Some(&key), Some(bad.as_bytes()), Some(second + number)).await;
        produce(&producer, &topic, None, Some(&record("fine", "a")), Some(second)).await;
    }
    for _ in 0..4 {
        produce(&producer, &topic, None, Some(&record("bad", "b")), Some(second)).await;
    }
    let first = body(&tenant.arrived("hook", 1, 60).await[0]);
    assert_eq!(first["data"]["title"], "errors a 7", "{first}");
    assert_eq!(first["data"]["body"], "h0:4 h1:2 h2:1 h1", "{first}");
    let all = eventually("the resolved notice", Duration::from_mins(1), async || {
        let all = tenant.received("hook").await;
        if all.iter().any(|one| one.body.contains("resolved")) {
            Ok(all)
        } else {
            Err(format!("{} arrived", all.len()))
        }
    })
    .await;
    // The rule fires at the end of that second and repeats after 4 s and 8 s, while the window of 10 s still has all seven.
    let titles: Vec<_> = all.iter().map(|one| body(one)["data"]["title"].clone()).collect();
    assert_eq!(titles.len(), 4, "firing, two repeats, resolved: {titles:?}");
    for repeat in &titles[1..3] {
        let title = repeat.as_str().unwrap_or_default();
        assert!(
            title.starts_with("Still firing since ") && title.ends_with(" UTC: errors a 7"),
            "{titles:?}"
        );
    }
    let last = body(&all[3])["data"].clone();
    assert!(last["title"].as_str().is_some_and(|title| title.starts_with("Resolved: errors a ")), "{last}");
    assert_eq!(last["first"], first["data"]["notification"], "what is over names what it ends");
    field(&tenant, "alr/errors", "/status/matched", json!(11)).await;
    field(&tenant, "alr/errors", "/status/firingCount", json!(0)).await;
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_come_and_change_within_5_s_without_a_restart_and_share_one_consumer() {
    let tenant = Tenant::new("t-change").await;
    let topic = tenant.topic("events");
    create_topic(&tenant.cluster.kafka, &topic, 2).await;
    tenant.apply(&(webhook(&tenant, "hook", QUICK_RETRIES) + &any_rule("one", &topic, "hook"))).await;
    tenant.ready("alr/one").await;
    let pods = consumers(&tenant).await;
    assert_eq!(pods.len(), 1, "{pods:?}");
    let producer = producer(&tenant.cluster.kafka);

    let start = Instant::now();
    tenant.apply(&any_rule("two", &topic, "hook")).await;
    tenant.ready("alr/two").await;
    println!("a rule added: ready after {:?}", start.elapsed());
    produce(&producer, &topic, None, Some(&record("two", "x")), None).await;
    produce(&producer, &topic, None, Some(&record("one", "x")), None).await;
    tenant.arrived("hook", 2, 30).await;

    let changed = any_rule("one", &topic, "hook").replace("record.kind == \"one\"", "record.kind == \"uno\"");
    let start = Instant::now();
    tenant.apply(&changed).await;
    tenant.ready("alr/one").await;
    println!("a rule changed: ready after {:?}", start.elapsed());
    produce(&producer, &topic, None, Some(&record("one", "y")), None).await;
    produce(&producer, &topic, None, Some(&record("uno", "y")), None).await;
    produce(&producer, &topic, None, Some(&record("two", "y")), None).await;
    tenant.arrived("hook", 4, 30).await;
    tenant.cluster.kubectl(&["-n", &tenant.ns, "delete", "alr", "two"]).await;
    field(&tenant, "alr/one", "/status/lag", json!(0)).await;
    let titles: Vec<String> = tenant
        .received("hook")
        .await
        .iter()
        .map(|one| body(one)["data"]["title"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(titles.len(), 4, "{titles:?}");
    assert_eq!(titles.iter().filter(|title| title.starts_with("one y")).count(), 1, "{titles:?}");
    assert_eq!(consumers(&tenant).await, pods, "the consumer was not restarted");
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_decoded_goes_to_the_dead_letter_topic_and_the_consumer_goes_on() {
    let tenant = Tenant::new("t-dlt").await;
    let topic = tenant.topic("events");
    create_topic(&tenant.cluster.kafka, &topic, 1).await;
    delete_topic(&tenant.cluster.kafka, &format!("{topic}.DLT")).await;
    tenant.apply(&(webhook(&tenant, "hook", QUICK_RETRIES) + &any_rule("event", &topic, "hook"))).await;
    tenant.ready("alr/event").await;
    let producer = producer(&tenant.cluster.kafka);
    let mut large = br#"{"kind": "other", "pad": ""#.to_vec();
    large.resize(10_000_000, b'x');
    large.extend_from_slice(br#""}"#);
    let wrong_types = br#"{"kind": {"a": 1}, "key": []}"#.to_vec();
    for value in [
        Some(b"not json".to_vec()),
        Some(Vec::new()),
        None,
        Some(large),
        Some(wrong_types),
        Some(b"[1]".to_vec()),
    ] {
        produce(&producer, &topic, Some("k"), value.as_deref(), None).await;
    }
    produce(&producer, &topic, None, Some(&record("event", "after")), None).await;
    tenant.arrived("hook", 1, 60).await;
    field(&tenant, "alr/event", "/status/deadLettered", json!(2)).await;
    field(&tenant, "alr/event", "/status/matched", json!(1)).await;
    let dead = read_all(&tenant.cluster.kafka, &format!("{topic}.DLT"));
    let values: Vec<&[u8]> = dead.iter().map(|record| record.payload().unwrap_or_default()).collect();
    assert_eq!(values, [b"not json".as_slice(), b""], "whole values, in order");
    assert!(dead.iter().all(|record| record.key() == Some(b"k")));
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_on_a_topic_that_appears_later_says_so_and_starts_by_itself() {
    let tenant = Tenant::new("t-later").await;
    let topic = tenant.topic("events");
    delete_topic(&tenant.cluster.kafka, &topic).await;
    tenant.apply(&any_rule("event", &topic, "hook")).await;
    let object = tenant.condition("alr/event", "Ready", "False", "", 60).await;
    let seen = object["status"]["conditions"].to_string();
    assert!(seen.contains("hook") || seen.contains(&topic), "names what is missing: {seen}");
    tenant.apply(&webhook(&tenant, "hook", QUICK_RETRIES)).await;
    let object = tenant.condition("alr/event", "Ready", "False", "TopicNotFound", 40).await;
    assert!(object["status"]["conditions"].to_string().contains(&topic));
    create_topic(&tenant.cluster.kafka, &topic, 2).await;
    let start = Instant::now();
    tenant.ready("alr/event").await;
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
    let producer = producer(&tenant.cluster.kafka);
    produce(&producer, &topic, None, Some(&record("event", "x")), None).await;
    tenant.arrived("hook", 1, 30).await;
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_rule_is_stalled_with_the_place_and_its_neighbour_goes_on() {
    let tenant = Tenant::unchecked("t-broken").await;
    let topic = tenant.topic("events");
    create_topic(&tenant.cluster.kafka, &topic, 1).await;
    let broken = any_rule("broken", &topic, "hook").replace("record.kind == \"broken\"", "record.kind == (");
    let unfinished = any_rule("unfinished", &topic, "hook").replace("{{ count }}", "{{ count");
    tenant
        .apply(
            &(webhook(&tenant, "hook", QUICK_RETRIES)
                + &any_rule("event", &topic, "hook")
                + &broken
                + &unfinished),
        )
        .await;
    tenant.condition("alr/broken", "Stalled", "True", "InvalidMatch", 30).await;
    tenant.condition("alr/unfinished", "Stalled", "True", "InvalidTemplate", 30).await;
    tenant.ready("alr/event").await;
    let producer = producer(&tenant.cluster.kafka);
    produce(&producer, &topic, None, Some(&record("event", "x")), None).await;
    tenant.arrived("hook", 1, 30).await;
    tenant.leave().await;
}
