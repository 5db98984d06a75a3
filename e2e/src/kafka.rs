//! Topics and records for tests.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};

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
    try_add_partitions(bootstrap, topic, partitions).await.unwrap_or_else(|error| panic!("{topic}: {error}"));
}

/// The same; what the broker said, or that it said nothing.
pub async fn try_add_partitions(bootstrap: &str, topic: &str, partitions: usize) -> Result<(), String> {
    let more = NewPartitions::new(topic, partitions);
    let results = admin(bootstrap).create_partitions([&more], &AdminOptions::new()).await;
    if matches!(results.as_deref(), Ok([Ok(_)])) { Ok(()) } else { Err(format!("{results:?}")) }
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
    /// TLS with a token, `host:port`.
    pub oauth: String,
    /// Where client `alerts` gets tokens for audience `kafka`.
    pub token_endpoint: String,
    /// The secret of client `alerts`.
    pub client_secret: String,
    /// What the endpoint wrote down.
    token_log: String,
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
            oauth: var("KAFKA_OAUTH_BOOTSTRAP"),
            token_endpoint: var("KAFKA_TOKEN_ENDPOINT"),
            client_secret: file("KAFKA_CLIENT_SECRET_FILE").trim().to_owned(),
            token_log: format!("{}/tokens.jsonl", var("RECEIVED")),
            user: var("KAFKA_USER"),
            password: file("KAFKA_PASSWORD_FILE").trim().to_owned(),
            ca: file("KAFKA_CA"),
            client: (file("KAFKA_CLIENT_CERTIFICATE"), file("KAFKA_CLIENT_KEY")),
        })
    }

    /// How many tokens were given by now.
    pub fn tokens_granted(&self) -> usize {
        let log = std::fs::read_to_string(&self.token_log).unwrap_or_default();
        log.matches("\"granted\": true").count()
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
        .set("enable.partition.eof", "true")
        .set("fetch.message.max.bytes", "20000000");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let Ok(metadata) = consumer.fetch_metadata(Some(topic), Duration::from_secs(20)) else {
        return Vec::new();
    };
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions as i32 {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&list).expect("assigned");
    // Offsets may have gaps: transactions, compaction.
    let (mut records, mut ended) = (Vec::new(), BTreeSet::new());
    while ended.len() < partitions {
        match consumer.poll(Duration::from_secs(20)) {
            Some(Ok(message)) => records.push(message.detach()),
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
            Some(Err(error)) => panic!("read {topic}: {error}"),
            None => break,
        }
    }
    records
}

/// The generations of the consumer group whose name begins so that were settled since then: each is a time that partitions
/// were shared out anew. The broker writes down each of them, with the group's name in the key.
pub fn generations(bootstrap: &str, group: &str, since_ms: i64) -> BTreeSet<i32> {
    let written = read_all(bootstrap, "__consumer_offsets");
    let since = written.iter().filter(|one| one.timestamp().to_millis().is_some_and(|at| at >= since_ms));
    since.filter_map(|one| generation(group, one.key()?, one.payload()?)).collect()
}

/// Of a record that is about a group as a whole (type 2): two bytes, then the name; in the value two bytes, the kind of
/// protocol, the generation, and the protocol, which a group without members has none of. Texts begin with their length.
fn generation(group: &str, key: &[u8], value: &[u8]) -> Option<i32> {
    let (kind, name) = key.split_first_chunk::<2>()?;
    let (length, name) = name.split_first_chunk::<2>()?;
    if *kind != [0, 2] || usize::from(u16::from_be_bytes(*length)) != name.len() {
        return None;
    }
    let (length, rest) = value.get(2..)?.split_first_chunk::<2>()?;
    let rest = rest.get(usize::from(u16::from_be_bytes(*length))..)?;
    let (generation, protocol) = rest.split_first_chunk::<4>()?;
    let has_members = protocol.first_chunk::<2>() != Some(&[0xff, 0xff]);
    (name.starts_with(group.as_bytes()) && has_members).then(|| i32::from_be_bytes(*generation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_read_of_the_group_as_a_whole_while_it_has_members() {
        let key = b"\0\x02\0\x03abc";
        let value = b"\0\x03\0\x08consumer\0\0\0\x07\0\x06sticky and more";
        assert_eq!(generation("ab", key, value), Some(7));
        assert_eq!(generation("abd", key, value), None);
        assert_eq!(generation("abc", b"\0\x01\0\x03abc", value), None);
        assert_eq!(generation("abc", key, b"\0\x03\0\x08consumer\0\0\0\x08\xff\xff"), None);
        assert_eq!(generation("abc", key, b"\0"), None);
    }
}
