//! Produces the records at their times, and reads back what the topic holds.
//!
//! Never: a duplicate or a changed order within a partition (idempotent producer), nor an end before the broker has all.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::config::FromClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::Value;
use tokio::sync::mpsc;

use super::records::{Record, last_words, record};
use super::recount::Seen;
use super::{Settings, now_ms, sleep_until};

/// When the broker said that it has a record, Unix ms, by the record's number.
pub type Acknowledged = BTreeMap<u64, i64>;

fn producer(bootstrap: &str) -> FutureProducer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "600000")
        .set("queue.buffering.max.messages", "2000000")
        .set("reconnect.backoff.max.ms", "300")
        .set("linger.ms", "5");
    FutureProducer::from_config(&config).expect("a producer")
}

/// Produces all records of a run, the first one at `start_ms`; their acknowledgements.
pub async fn all(bootstrap: &str, topic: &str, settings: &Settings, start_ms: i64) -> Acknowledged {
    let producer = producer(bootstrap);
    let (done, mut ends) = mpsc::unbounded_channel();
    for n in 0..settings.records {
        let record = record(settings.seed, settings.rate, n);
        if start_ms + record.at_ms > now_ms() + 5 {
            sleep_until(start_ms + record.at_ms).await;
        }
        send(&producer, topic, &record, start_ms + record.time_ms, &done);
        if n % (settings.rate * 30) == 0 {
            println!("      {n} of {} records produced", settings.records);
        }
    }
    drop(done);
    collect(&mut ends, settings.records as usize).await
}

/// Produces the last words, all with the event time of now; their acknowledgements.
pub async fn last(bootstrap: &str, topic: &str, settings: &Settings) -> Acknowledged {
    let producer = producer(bootstrap);
    let (done, mut ends) = mpsc::unbounded_channel();
    let words = last_words(settings.records);
    let time = now_ms();
    for record in &words {
        send(&producer, topic, record, time, &done);
    }
    drop(done);
    collect(&mut ends, words.len()).await
}

type Ends = mpsc::UnboundedSender<Result<(u64, i64), String>>;

fn send(producer: &FutureProducer, topic: &str, record: &Record, time_ms: i64, done: &Ends) {
    let (key, value) = (record.n.to_string(), record.value.to_string());
    let message =
        FutureRecord::to(topic).partition(record.partition).timestamp(time_ms).key(&key).payload(&value);
    let sent = producer.send_result(message).map_err(|(error, _)| error.to_string());
    let (n, done) = (record.n, done.clone());
    tokio::spawn(async move {
        let end = match sent {
            Ok(delivery) => match delivery.await {
                Ok(Ok(_)) => Ok((n, now_ms())),
                Ok(Err((error, _))) => Err(error.to_string()),
                Err(canceled) => Err(canceled.to_string()),
            },
            Err(error) => Err(error),
        };
        // The receiver goes away only when the run has failed.
        let _ = done.send(end);
    });
}

async fn collect(
    ends: &mut mpsc::UnboundedReceiver<Result<(u64, i64), String>>,
    count: usize,
) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    while acknowledged.len() < count {
        let end = tokio::time::timeout(Duration::from_mins(2), ends.recv()).await;
        match end {
            Ok(Some(Ok((n, at)))) => acknowledged.insert(n, at),
            Ok(Some(Err(error))) => panic!("the broker did not take a record: {error}"),
            Ok(None) => panic!("a record has no end"),
            Err(elapsed) => {
                panic!(
                    "{} of {count} records are with the broker after 2 minutes: {elapsed}",
                    acknowledged.len()
                )
            }
        };
    }
    acknowledged
}

/// What the topic holds, which must be what was produced: each number once, with its contents, time and partition.
pub fn read_back(
    bootstrap: &str,
    topic: &str,
    settings: &Settings,
    start_ms: i64,
) -> Result<Vec<Seen>, String> {
    let mut numbers = BTreeMap::new();
    let mut all = Vec::new();
    for message in crate::kafka::read_all(bootstrap, topic) {
        let value: Value =
            serde_json::from_slice(message.payload().unwrap_or_default()).map_err(|e| e.to_string())?;
        let n = value["n"].as_u64().ok_or("a record without a number")?;
        let seen = Seen {
            partition: message.partition(),
            offset: message.offset(),
            time_ms: message.timestamp().to_millis().unwrap_or(-1),
            value,
        };
        if let Some(other) = numbers.insert(n, seen.offset) {
            return Err(format!("the topic holds record {n} twice, at offsets {other} and {}", seen.offset));
        }
        if n < settings.records {
            let made = record(settings.seed, settings.rate, n);
            let same = (made.partition, start_ms + made.time_ms, &made.value);
            if same != (seen.partition, seen.time_ms, &seen.value) {
                return Err(format!("the topic holds {seen:?} where {made:?} was produced at {start_ms}"));
            }
        }
        all.push(seen);
    }
    if (numbers.len() as u64) < settings.records {
        return Err(format!("the topic holds {} of {} records", numbers.len(), settings.records));
    }
    Ok(all)
}
