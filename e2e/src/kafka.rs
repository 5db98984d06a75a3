//! Topics and records for tests.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

/// A producer that keeps order and makes no duplicates.
pub fn producer(bootstrap: &str) -> FutureProducer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("message.max.bytes", "20000000")
        .set("linger.ms", "2");
    FutureProducer::from_config(&config).expect("a producer")
}

/// Makes a topic, empty; it is there when this returns.
pub async fn create_topic(bootstrap: &str, topic: &str, partitions: i32) {
    create_topic_with(bootstrap, topic, partitions, &[]).await;
}

/// Makes a topic with settings.
pub async fn create_topic_with(bootstrap: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (name, value) in settings {
        new = new.set(name, value);
    }
    let admin = admin(bootstrap);
    loop {
        let results = admin.create_topics([&new], &AdminOptions::new()).await.expect("the broker answers");
        match results.into_iter().next() {
            Some(Ok(_)) => return,
            // An earlier run's: its records are not this test's. The broker deletes in the background.
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
                delete_topic(bootstrap, topic).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            other => panic!("topic {topic}: {other:?}"),
        }
    }
}

/// Deletes a topic.
pub async fn delete_topic(bootstrap: &str, topic: &str) {
    let _ = admin(bootstrap).delete_topics(&[topic], &AdminOptions::new()).await;
}

fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    AdminClient::from_config(&config).expect("an admin client")
}

/// Produces one record and waits until the broker has it; its partition and offset.
pub async fn produce(
    producer: &FutureProducer,
    topic: &str,
    key: Option<&str>,
    value: Option<&[u8]>,
    time_ms: Option<i64>,
) -> (i32, i64) {
    let mut record = FutureRecord::<str, [u8]>::to(topic);
    record.key = key;
    record.payload = value;
    record.timestamp = time_ms;
    record.headers = Some(OwnedHeaders::new().insert(Header { key: "from", value: Some("test") }));
    match producer.send(record, Duration::from_mins(1)).await {
        Ok(delivery) => (delivery.partition, delivery.offset),
        Err((error, _)) => panic!("produce to {topic}: {error}"),
    }
}

/// Waits until all that was produced is with the broker.
pub fn flush(producer: &FutureProducer) {
    producer.flush(Duration::from_mins(1)).expect("flushed");
}

/// Everything that a topic holds now, partition by partition.
pub fn read_all(bootstrap: &str, topic: &str) -> Vec<OwnedMessage> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "belfry-test-reader")
        .set("enable.auto.commit", "false")
        .set("fetch.message.max.bytes", "20000000");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let Ok(metadata) = consumer.fetch_metadata(Some(topic), Duration::from_secs(20)) else {
        return Vec::new();
    };
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    let (mut list, mut expected) = (TopicPartitionList::new(), 0);
    for partition in 0..partitions as i32 {
        let (low, high) =
            consumer.fetch_watermarks(topic, partition, Duration::from_secs(20)).expect("watermarks");
        expected += high - low;
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&list).expect("assigned");
    let mut records = Vec::new();
    while (records.len() as i64) < expected {
        match consumer.poll(Duration::from_secs(20)) {
            Some(Ok(message)) => records.push(message.detach()),
            Some(Err(error)) => panic!("read {topic}: {error}"),
            None => break,
        }
    }
    records
}
