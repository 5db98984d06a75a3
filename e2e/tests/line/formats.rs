//! What records may be: formats, compression, event time, and a hundred thousand records that can't be decoded.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::bench::process;
use e2e::cluster::eventually;
use e2e::kafka::{create_topic, delete_topic, read_all};
use e2e::sink::Received;
use e2e::tenant::Tenant;
use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use serde_json::{Value, json};

use crate::support::{field, webhook};

/// How many records that can't be decoded are sent in each of the four formats, unless the variable `MALFORMED` says how many.
const MALFORMED: usize = 25_000;

/// In how many rounds they are sent.
const ROUNDS: usize = 4;

/// The formats: a name for rule and topic, and the source's fields as YAML in flow style.
const FORMATS: [(&str, &str); 4] = [
    ("json", "format: Json"),
    ("logfmt", "format: Logfmt"),
    ("text", "format: Text, text: {pattern: '^(?<level>[A-Z]+) (?<at>[0-9-]+ [0-9:.]+) (?<n>[0-9]+)$'}"),
    ("events", "format: CloudEvents"),
];

fn producer(kafka: &str, codec: &str) -> ThreadedProducer<DefaultProducerContext> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", kafka)
        .set("enable.idempotence", "true")
        .set("linger.ms", "20")
        .set("compression.type", codec);
    config.create().expect("a producer")
}

fn send(
    producer: &ThreadedProducer<DefaultProducerContext>,
    topic: &str,
    value: &[u8],
    headers: &[(&str, &str)],
) {
    let mut all = OwnedHeaders::new();
    for (key, value) in headers {
        all = all.insert(Header { key, value: Some(*value) });
    }
    let mut record = BaseRecord::<[u8], [u8]>::to(topic).payload(value).headers(all);
    while let Err((error, again)) = producer.send(record) {
        assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
        std::thread::sleep(Duration::from_millis(10));
        record = again;
    }
}

/// A rule over a topic; `source` is YAML in flow style.
fn rule(name: &str, topic: &str, source: &str, rest: &str) -> String {
    format!(
        "apiVersion: belfry.dev/v1alpha1
kind: AlertRule
metadata: {{name: {name}, namespace: $NS}}
spec:
  source: {{kafka: {{bootstrapServers: [\"$KAFKA\"], topics: [{topic}], startFrom: Earliest, {source}}}}}
  notify: [{{channelRef: {{name: hook}}}}]
{rest}---
"
    )
}

const EVENT: [(&str, &str); 5] = [
    ("ce_specversion", "1.0"),
    ("ce_id", "7"),
    ("ce_source", "/test"),
    ("ce_type", "dev.test.seen"),
    ("content-type", "application/json"),
];

/// Each format with each codec of compression. The titles show what was read from the value.
#[tokio::test(flavor = "multi_thread")]
async fn each_format_is_read_from_each_codec() {
    let tenant = Tenant::new("t-formats").await;
    let kafka = tenant.cluster.kafka.clone();
    let mut manifest = webhook(&tenant, "hook", "{}");
    for (name, source) in FORMATS {
        let topic = tenant.topic(name);
        create_topic(&kafka, &topic, 2).await;
        let (matches, title) = match name {
            "json" => ("record.n > 0", "json {{ record.n }}"),
            "logfmt" => {
                ("int(record.n) > 0 && record.level == \"error\"", "logfmt {{ record.n }} {{ record.msg }}")
            }
            "text" => ("int(record.n) > 0 && record.level.startsWith(\"ERR\")", "text {{ record.n }}"),
            _ => (
                "record.type == \"dev.test.seen\" && record.data.n > 0",
                "events {{ record.data.n }} {{ record.id }}",
            ),
        };
        let rest = format!("  match: '{matches}'\n  condition: {{type: Any}}\n  title: \"{title}\"\n");
        manifest += &rule(name, &topic, source, &rest);
    }
    tenant.apply(&manifest).await;
    for (name, _) in FORMATS {
        tenant.ready(&format!("alr/{name}")).await;
    }
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    let mut expected = Vec::new();
    for (at, codec) in codecs.iter().enumerate() {
        let (producer, n) = (producer(&kafka, codec), at + 1);
        send(&producer, &tenant.topic("json"), json!({"n": n}).to_string().as_bytes(), &[]);
        send(&producer, &tenant.topic("logfmt"), format!("level=error n={n} msg=\"a b\"\n").as_bytes(), &[]);
        send(&producer, &tenant.topic("text"), format!("ERROR 2026-01-05 10:00:00 {n}").as_bytes(), &[]);
        send(&producer, &tenant.topic("events"), json!({"n": n}).to_string().as_bytes(), &EVENT);
        let event = json!({
            "specversion": "1.0", "id": "8", "source": "/test", "type": "dev.test.seen", "data": {"n": n},
        });
        let structured = [("content-type", "application/cloudevents+json")];
        send(&producer, &tenant.topic("events"), event.to_string().as_bytes(), &structured);
        producer.flush(Duration::from_mins(1)).expect("flushed");
        expected.extend([
            format!("json {n}"),
            format!("logfmt {n} a b"),
            format!("text {n}"),
            format!("events {n} 7"),
            format!("events {n} 8"),
        ]);
    }
    let arrived = tenant.arrived("hook", expected.len(), 90).await;
    let mut titles: Vec<String> = arrived.iter().map(Received::title).collect();
    titles.sort();
    expected.sort();
    assert_eq!(titles, expected);
    tenant.leave().await;
}

/// Windows are made of the records' own times. A record whose time is wrong does not disturb those around it.
#[tokio::test(flavor = "multi_thread")]
async fn event_time_is_where_the_source_says_and_records_without_one_are_counted() {
    let tenant = Tenant::new("t-event-time").await;
    let (kafka, topic) = (tenant.cluster.kafka.clone(), tenant.topic("logs"));
    create_topic(&kafka, &topic, 1).await;
    let producer = producer(&kafka, "zstd");
    // Three warnings within a minute of a morning long ago, out of order, with other records between them. They are written before the
    // rule exists: once a partition has been read to its end, its event time goes on by the clock, and they would be late.
    for line in [
        "WARN 2026-01-05 11:00:40.250 1",
        "WARN 2026-01-05 11:00:10 2",
        "INFO 2026-01-05 11:00:20 3",
        "WARN 2999-01-01 00:00:00 4",
        "WARN 2026-99-99 11:00:20 5",
        "WARN 2026-01-05 11:00:20 6",
    ] {
        send(&producer, &topic, line.as_bytes(), &[]);
    }
    producer.flush(Duration::from_mins(1)).expect("flushed");
    let counting = "  match: 'true'
  groupBy: {level: record.level}
  condition: {type: Frequency, frequency: {count: 3, window: 1m}}
  allowedLateness: 1m
  title: \"{{ group.level }} {{ count }}\"
";
    let source = format!(
        "{}, eventTime: {{path: record.at, format: Pattern, pattern: \"%Y-%m-%d %H:%M:%S%.f\", timeZone: Europe/Berlin}}",
        FORMATS[2].1
    );
    tenant.apply(&(webhook(&tenant, "hook", "{}") + &rule("timed", &topic, &source, counting))).await;
    tenant.ready("alr/timed").await;
    let arrived = tenant.arrived("hook", 1, 60).await;
    let body: Value = serde_json::from_str(&arrived[0].body).expect("JSON");
    let told = &body["data"]["cause"]["alert"];
    assert_eq!(told["count"], 3, "{told}");
    assert_eq!(told["windowEnd"], "2026-01-05T10:00:41Z", "{told}");
    field(&tenant, "alr/timed", "/status/unmatched", json!({"TimeAhead": 1, "TimeMissing": 1})).await;
    field(&tenant, "alr/timed", "/status/matched", json!(4)).await;
    tenant.leave().await;
}

/// The n-th record that can't be decoded, one of many kinds: value, headers, and the reason that its dead letter must have.
fn malformed(format: &str, n: usize) -> (Vec<u8>, Vec<(&'static str, &'static str)>, &'static str) {
    let event = EVENT.to_vec();
    let structured = vec![("content-type", "application/cloudevents+json")];
    let deep = || "[".repeat(200 + n % 300).into_bytes();
    let json = |n: usize| match n % 7 {
        0 => (format!("{{\"n\":{n},\"text\":\"cut").into_bytes(), "Truncated"),
        1 => (deep(), "TooDeep"),
        2 => (format!("{{\"n\":{n}e999}}").into_bytes(), "Malformed"),
        3 => ([format!("{{\"n\":{n},\"bad\":\"").as_bytes(), b"\xff\xc0\"}"].concat(), "Malformed"),
        4 => (Vec::new(), "Empty"),
        5 => (format!("ERROR {n} no json").into_bytes(), "Malformed"),
        _ => (format!("{{\"n\":{n}}}{{\"n\":{n}}}").into_bytes(), "Malformed"),
    };
    let (value, headers, reason) = match format {
        "json" => {
            let (value, reason) = json(n);
            (value, Vec::new(), reason)
        }
        "logfmt" => {
            let (value, reason): (Vec<u8>, _) = match n % 6 {
                0 => (format!("n={n} msg=\"cut").into_bytes(), "Truncated"),
                1 => (format!("n={n} =x").into_bytes(), "Malformed"),
                2 => ([format!("n={n} bad=").as_bytes(), b"\xff\xfe"].concat(), "Malformed"),
                3 => (format!("n={n}\nn={n}").into_bytes(), "Malformed"),
                4 => (b"\n".to_vec(), "Empty"),
                _ => (format!("n={n} msg=\"\\u12\"").into_bytes(), "Malformed"),
            };
            (value, Vec::new(), reason)
        }
        "text" => {
            let (value, reason): (Vec<u8>, _) = match n % 4 {
                0 => (format!("  at frame {n} of a trace").into_bytes(), "Malformed"),
                1 => ([format!("ERROR {n} ").as_bytes(), b"\xf0\x28"].concat(), "Malformed"),
                2 => (Vec::new(), "Empty"),
                _ => ("A".repeat(5_000).into_bytes(), "Malformed"),
            };
            (value, Vec::new(), reason)
        }
        _ => match n % 5 {
            0 => (format!("{{\"id\":\"{n}\"}}").into_bytes(), structured, "Malformed"),
            1 => (format!("{{\"n\":{n}}}").into_bytes(), event[1..].to_vec(), "Malformed"),
            2 => (b"[]".to_vec(), vec![("content-type", "application/cloudevents-batch+json")], "Malformed"),
            3 => {
                let (value, reason) = json(n);
                (value, structured, reason)
            }
            _ => {
                let (value, reason) = json(n);
                (value, event, reason)
            }
        },
    };
    (value, headers, reason)
}

/// The resident memory of each consumer of the namespace by its pod, in bytes. Fails if a consumer was restarted.
async fn resident_bytes(tenant: &Tenant) -> BTreeMap<String, u64> {
    let args = ["-n", &tenant.ns, "get", "pods", "-l", "app.kubernetes.io/component=consume", "-o", "json"];
    let pods: Value = serde_json::from_str(&tenant.cluster.kubectl(&args).await).expect("pods");
    let mut all = BTreeMap::new();
    for pod in pods["items"].as_array().into_iter().flatten() {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0, "{name}");
        let source = pod["spec"]["containers"][0]["args"][2].as_str().expect("its source").to_owned();
        let usages = process::find(&["consume", &source]).into_iter().filter_map(process::usage);
        all.insert(name, usages.map(|usage| usage.resident).max().unwrap_or(0));
    }
    all
}

/// The dead letters of a topic, as (value, name of the reason), sorted.
fn dead_letters(kafka: &str, topic: &str) -> Vec<(Vec<u8>, String)> {
    let mut all: Vec<_> = read_all(kafka, &format!("{topic}.DLT"))
        .into_iter()
        .map(|record| {
            let reason = record.headers().and_then(|headers| {
                let found = headers.iter().find(|header| header.key == "belfry-reason")?;
                Some(String::from_utf8_lossy(found.value?).split(':').next()?.to_owned())
            });
            (record.payload().unwrap_or_default().to_vec(), reason.unwrap_or_default())
        })
        .collect();
    all.sort();
    all
}

/// No record stops the consumer, makes it grow without bound, or gets lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_malformed_records_are_dead_letters_with_their_reasons() {
    let tenant = Tenant::new("t-malformed").await;
    let kafka = tenant.cluster.kafka.clone();
    let mut manifest = webhook(&tenant, "hook", "{}");
    for (name, source) in FORMATS {
        let topic = tenant.topic(name);
        create_topic(&kafka, &topic, 2).await;
        delete_topic(&kafka, &format!("{topic}.DLT")).await;
        manifest += &rule(
            name,
            &topic,
            source,
            "  match: 'true'\n  condition: {type: Any}\n  title: \"{{ kind }}\"\n",
        );
    }
    tenant.apply(&manifest).await;
    for (name, _) in FORMATS {
        tenant.ready(&format!("alr/{name}")).await;
    }
    let producer = producer(&kafka, "lz4");
    let mut expected: BTreeMap<&str, Vec<(Vec<u8>, String)>> = BTreeMap::new();
    let mut resident = Vec::new();
    let each =
        std::env::var("MALFORMED").map_or(MALFORMED, |each| each.parse().expect("MALFORMED is a number"));
    for round in 0..ROUNDS {
        let (from, to) = (round * each / ROUNDS, (round + 1) * each / ROUNDS);
        for (name, _) in FORMATS {
            for n in from..to {
                let (value, headers, reason) = malformed(name, n);
                send(&producer, &tenant.topic(name), &value, &headers);
                expected.entry(name).or_default().push((value, reason.to_owned()));
            }
        }
        producer.flush(Duration::from_mins(1)).expect("flushed");
        for (name, _) in FORMATS {
            eventually(&format!("{to} dead letters of {name}"), Duration::from_mins(4), async || {
                let object = tenant.get(&format!("alr/{name}")).await.ok_or("not there")?;
                let dead = object["status"]["deadLettered"].as_u64();
                if dead == Some(to as u64) { Ok(()) } else { Err(format!("{dead:?}")) }
            })
            .await;
        }
        resident.push(resident_bytes(&tenant).await);
    }
    println!("resident bytes after each of {ROUNDS} rounds, {each} records of each format: {resident:?}");
    // What the allocator keeps of a burst differs from run to run and levels off (ADR 11). If the consumer kept the values of all rounds,
    // it would be more than this bound.
    let last = resident.last().expect("rounds");
    assert_eq!(last.len(), FORMATS.len());
    for (pod, now) in last {
        assert!(*now < 96 << 20, "{pod} has {now} bytes resident");
        assert!(resident[0].contains_key(pod), "{pod} was restarted");
    }
    for (name, mut sent) in expected {
        sent.sort();
        let found = dead_letters(&kafka, &tenant.topic(name));
        assert_eq!(found.len(), sent.len(), "{name}");
        let wrong = found.iter().zip(&sent).find(|(found, sent)| found != sent);
        assert!(wrong.is_none(), "{name}: {wrong:?}");
    }
    assert!(tenant.received("hook").await.is_empty(), "no rule counted any");
    tenant.leave().await;
}
