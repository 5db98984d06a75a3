//! Topics and records for tests.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
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

/// Gives a topic more partitions.
pub async fn add_partitions(bootstrap: &str, topic: &str, partitions: usize) {
    let more = NewPartitions::new(topic, partitions);
    let results = admin(bootstrap).create_partitions([&more], &AdminOptions::new()).await;
    assert!(matches!(results.as_deref(), Ok([Ok(_)])), "{topic}: {results:?}");
}

/// Writes a record in a transaction of its own, and commits or aborts it.
pub async fn produce_in_transaction(bootstrap: &str, topic: &str, value: &[u8], commit: bool) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("transactional.id", format!("{topic}-{commit}"));
    let producer: FutureProducer = FutureProducer::from_config(&config).expect("a producer");
    let limit = Duration::from_mins(1);
    producer.init_transactions(limit).expect("a coordinator");
    producer.begin_transaction().expect("begun");
    produce(&producer, topic, None, Some(value), None).await;
    let ended = if commit { producer.commit_transaction(limit) } else { producer.abort_transaction(limit) };
    ended.expect("ended");
}

/// The listeners of the test bed's broker that ask who comes.
pub struct Secured {
    /// TLS with a login, `host:port`.
    pub sasl: String,
    /// TLS with a client's certificate, `host:port`.
    pub mtls: String,
    /// Who may log in, by SCRAM and PLAIN.
    pub user: String,
    /// The password.
    pub password: String,
    /// The authority of the broker's certificate (PEM).
    pub ca: String,
    /// The client's certificate and key (PEM).
    pub client: (String, String),
}

impl Secured {
    /// As `testbed env` says; none on another cluster, which need not have such listeners.
    pub fn from_env() -> Option<Self> {
        std::env::var_os("TESTBED")?;
        let var =
            |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by the test bed"));
        let file =
            |name: &str| std::fs::read_to_string(var(name)).unwrap_or_else(|_| panic!("{name} is a file"));
        Some(Self {
            sasl: var("KAFKA_SASL_BOOTSTRAP"),
            mtls: var("KAFKA_MTLS_BOOTSTRAP"),
            user: var("KAFKA_USER"),
            password: file("KAFKA_PASSWORD_FILE").trim().to_owned(),
            ca: file("KAFKA_CA"),
            client: (file("KAFKA_CLIENT_CERTIFICATE"), file("KAFKA_CLIENT_KEY")),
        })
    }
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
