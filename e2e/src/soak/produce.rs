//! Produces the records at their times, adds partitions under way, and reads back what the topics hold.
//!
//! Never: a duplicate or a changed order within a partition (idempotent producer), nor an end before the broker has all.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::config::FromClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::records::{GROWN_AFTER_MS, Growth, Record, first_words, growth, last_words, record};
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
        .set("topic.metadata.refresh.interval.ms", "1000")
        .set("linger.ms", "5");
    FutureProducer::from_config(&config).expect("a producer")
}

/// Produces all records of a run, the first one at `start_ms`; their acknowledgements.
pub async fn all(bootstrap: &str, topics: &[String], settings: &Settings, start_ms: i64) -> Acknowledged {
    let producer = producer(bootstrap);
    let mut growing = Vec::new();
    for one in growth(settings) {
        let task = tokio::spawn(grow(producer.clone(), bootstrap.to_owned(), topics.to_vec(), one, start_ms));
        growing.push((one.at_ms + GROWN_AFTER_MS, Some(task)));
    }
    let (done, mut ends) = mpsc::unbounded_channel();
    for n in 0..settings.records {
        let record = record(settings, n);
        if start_ms + record.at_ms > now_ms() + 5 {
            sleep_until(start_ms + record.at_ms).await;
        }
        await_growth(&mut growing, record.at_ms).await;
        send(&producer, topics, &record, start_ms + record.time_ms, &done);
        if n % (settings.rate * 30) == 0 {
            println!("      {n} of {} records produced", settings.records);
        }
    }
    drop(done);
    collect(&mut ends, settings.records as usize).await
}

/// Adds partitions at their time, and waits until the producer knows them.
async fn grow(
    producer: FutureProducer,
    bootstrap: String,
    topics: Vec<String>,
    growth: Growth,
    start_ms: i64,
) {
    let topic = &topics[growth.topic];
    sleep_until(start_ms + growth.at_ms).await;
    let (deadline, partitions) = (now_ms() + 60_000, growth.partitions as usize);
    let mut answer = Err(String::new());
    loop {
        if answer.is_err() {
            answer = crate::kafka::try_add_partitions(&bootstrap, topic, partitions).await;
        }
        let (asker, name) = (producer.clone(), topic.clone());
        let known = tokio::task::spawn_blocking(move || {
            let metadata = asker.client().fetch_metadata(Some(&name), Duration::from_secs(5)).ok()?;
            metadata.topics().first().map(|topic| topic.partitions().len())
        });
        if known.await.expect("the broker is asked").unwrap_or(0) >= partitions {
            break;
        }
        assert!(now_ms() < deadline, "{topic} has no {partitions} partitions within a minute: {answer:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("      topic {} has {} partitions", growth.topic, growth.partitions);
}

/// Records that may go to new partitions wait until these are there.
async fn await_growth(growing: &mut [(i64, Option<JoinHandle<()>>)], at_ms: i64) {
    for (from_ms, task) in growing {
        if at_ms >= *from_ms
            && let Some(task) = task.take()
        {
            task.await.expect("partitions are added");
        }
    }
}

/// Produces the first words, all with this event time; their acknowledgements.
pub async fn first(bootstrap: &str, topics: &[String], settings: &Settings, time_ms: i64) -> Acknowledged {
    words(bootstrap, topics, &first_words(settings), time_ms).await
}

/// Produces the last words, all with the event time of now; their acknowledgements.
pub async fn last(bootstrap: &str, topics: &[String], settings: &Settings) -> Acknowledged {
    words(bootstrap, topics, &last_words(settings), now_ms()).await
}

async fn words(bootstrap: &str, topics: &[String], words: &[Record], time_ms: i64) -> Acknowledged {
    let producer = producer(bootstrap);
    let (done, mut ends) = mpsc::unbounded_channel();
    for record in words {
        send(&producer, topics, record, time_ms, &done);
    }
    drop(done);
    collect(&mut ends, words.len()).await
}

type Ends = mpsc::UnboundedSender<Result<(u64, i64), String>>;

fn send(producer: &FutureProducer, topics: &[String], record: &Record, time_ms: i64, done: &Ends) {
    let (key, value) = (record.n.to_string(), record.value.to_string());
    let message = FutureRecord::to(&topics[record.topic])
        .partition(record.partition)
        .timestamp(time_ms)
        .key(&key)
        .payload(&value);
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

/// What the topics hold, which must be what was produced: each number once, with its contents, time and place.
pub fn read_back(
    bootstrap: &str,
    topics: &[String],
    settings: &Settings,
    start_ms: i64,
) -> Result<Vec<Seen>, String> {
    let mut numbers = BTreeMap::new();
    let mut all = Vec::new();
    for (topic, name) in topics.iter().enumerate() {
        for message in crate::kafka::read_all(bootstrap, name) {
            let value: Value =
                serde_json::from_slice(message.payload().unwrap_or_default()).map_err(|e| e.to_string())?;
            let n = value["n"].as_u64().ok_or("a record without a number")?;
            let (partition, offset) = (message.partition(), message.offset());
            let time_ms = message.timestamp().to_millis().unwrap_or(-1);
            let seen = Seen { topic, partition, offset, time_ms, value };
            if let Some(other) = numbers.insert(n, (topic, partition, offset)) {
                return Err(format!("the topics hold record {n} twice, at {other:?} and in {seen:?}"));
            }
            if n < settings.records {
                let made = record(settings, n);
                let same = (made.topic, made.partition, start_ms + made.time_ms, &made.value);
                if same != (seen.topic, seen.partition, seen.time_ms, &seen.value) {
                    return Err(format!(
                        "the topics hold {seen:?} where {made:?} was produced at {start_ms}"
                    ));
                }
            }
            all.push(seen);
        }
    }
    let words = first_words(settings).len() + last_words(settings).len();
    if numbers.len() != settings.records as usize + words {
        return Err(format!("the topics hold {} of {} records", numbers.len(), settings.records));
    }
    Ok(all)
}
