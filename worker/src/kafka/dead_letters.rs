//! Writes records that can't be decoded to their dead-letter topics.
//!
//! Invariants: a dead letter counts as written once all in-sync replicas have it; key and value are whole unless the broker's
//! limit forces a cut, which a header then tells. It may be written twice, never lost. Anybody can write headers, so the worst
//! that a header can do is to keep its record in its topic. The caller decides what happens to a dead letter that can't be
//! written.
//!
//! Clauses of docs/semantics.md: R9, R10.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;

use super::{ClientMonitor, ClusterAccess, native, unusable};

/// How long a dead letter may wait for the broker.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Lengths to which key and value are cut if the broker refuses the whole, bytes.
const CUTS: [usize; 2] = [512 * 1024, 16 * 1024];
/// After this time an unused producer is dropped, and a topic that could not be created is tried again.
const KEEP: Duration = Duration::from_mins(1);

/// A record that can't be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterRecord {
    /// The topic that it was read from.
    pub topic: String,
    /// Its partition there.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its timestamp, Unix ms.
    pub timestamp: Option<i64>,
    /// Why it can't be decoded, without its content.
    pub reason: String,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Vec<u8>,
    /// How often it was a dead letter before: [`DeadLetterRecord::hops`].
    pub hops: u8,
    /// The topics to write it to.
    pub to: Vec<String>,
}

/// Header of every dead letter: why it is one.
const REASON: &str = "belfry-reason";
/// Header: how often a record was a dead letter, if more than once.
const HOPS: &str = "belfry-hops";
/// A record that was a dead letter this often is not written again. Rules of several sources may read each other's
/// dead-letter topics, which would go on for ever.
pub const MAX_HOPS: u8 = 2;

/// Writes to the dead-letter topics of one source.
pub struct DeadLetterWriter {
    access: ClusterAccess,
    name: String,
    producer: Option<(FutureProducer<ClientMonitor>, Instant)>,
    topics: BTreeSet<String>,
    refused: BTreeMap<String, (String, Instant)>,
}

impl DeadLetterRecord {
    /// How often a record was a dead letter before, by its headers; [`MAX_HOPS`] if the header is not a number.
    pub fn hops(headers: &[(&str, Option<&[u8]>)]) -> u8 {
        let find = |wanted: &str| headers.iter().find(|(name, _)| *name == wanted);
        match (find(HOPS), find(REASON)) {
            (Some((_, value)), _) => {
                let text = value.and_then(|value| std::str::from_utf8(value).ok());
                text.and_then(|text| text.parse().ok()).unwrap_or(MAX_HOPS)
            }
            (None, Some(_)) => 1,
            (None, None) => 0,
        }
    }

    fn headers(&self, cut: bool) -> OwnedHeaders {
        let header = |headers: OwnedHeaders, key: &str, value: &str| {
            headers.insert(Header { key, value: Some(value) })
        };
        let mut headers = OwnedHeaders::new_with_capacity(7);
        headers = header(headers, REASON, &self.reason);
        headers = header(headers, "belfry-topic", &self.topic);
        headers = header(headers, "belfry-partition", &self.partition.to_string());
        headers = header(headers, "belfry-offset", &self.offset.to_string());
        if let Some(timestamp) = self.timestamp {
            headers = header(headers, "belfry-timestamp", &timestamp.to_string());
        }
        if self.hops > 0 {
            headers = header(headers, HOPS, &(self.hops.saturating_add(1)).to_string());
        }
        if cut {
            headers = header(headers, "belfry-truncated", &self.value.len().to_string());
        }
        headers
    }
}

impl DeadLetterWriter {
    /// Connects when the first dead letter comes. `name` is the client's id.
    pub fn new(access: ClusterAccess, name: String) -> Self {
        Self { access, name, producer: None, topics: BTreeSet::new(), refused: BTreeMap::new() }
    }

    /// Drops the producer if it was not used for a minute.
    pub fn drop_idle_producer(&mut self) {
        if self.producer.as_ref().is_some_and(|(_, used)| used.elapsed() > KEEP) {
            self.producer = None;
            self.topics.clear();
        }
    }

    /// Writes dead letters; returns for each why it was not written, or `None` if it was. Takes at most about 30 s.
    pub async fn write(&mut self, letters: &[&DeadLetterRecord]) -> Vec<Option<String>> {
        let producer = match self.producer() {
            Ok(producer) => producer,
            Err(error) => return vec![Some(unusable(&error)); letters.len()],
        };
        let wanted: BTreeSet<String> = letters.iter().flat_map(|letter| letter.to.iter().cloned()).collect();
        self.refused.retain(|_, (_, at)| at.elapsed() < KEEP);
        self.make_topics(&producer, &wanted).await;
        let refused = &self.refused;
        let sent = letters.iter().map(|letter| write_all(&producer, letter, refused));
        let failures = futures::future::join_all(sent).await;
        for (letter, failure) in letters.iter().zip(&failures) {
            if failure.is_some() {
                // The topic may have been deleted: check it next time, and create it again.
                self.topics.retain(|topic| !letter.to.contains(topic));
            }
        }
        failures
    }

    fn producer(&mut self) -> Result<FutureProducer<ClientMonitor>, KafkaError> {
        let producer = if let Some((producer, _)) = self.producer.take() {
            producer
        } else {
            let mut config = super::client_config(&self.access, &self.name);
            config
                .set("acks", "all")
                .set("message.timeout.ms", TIMEOUT.as_millis().to_string())
                .set("message.max.bytes", "134217728")
                .set("batch.size", "65536")
                .set("linger.ms", "5")
                .set("compression.type", "lz4");
            self.access.client(&config, self.access.monitor())?
        };
        self.producer = Some((producer.clone(), Instant::now()));
        Ok(producer)
    }

    /// Creates the topics that don't exist; remembers which can't be created, and why.
    async fn make_topics(&mut self, producer: &FutureProducer<ClientMonitor>, wanted: &BTreeSet<String>) {
        let unknown: Vec<String> = wanted
            .iter()
            .filter(|name| !self.topics.contains(*name) && !self.refused.contains_key(*name))
            .cloned()
            .collect();
        if unknown.is_empty() {
            return;
        }
        let asker = producer.clone();
        let described =
            tokio::task::spawn_blocking(move || native::describe_topics(asker.client(), &unknown, TIMEOUT))
                .await;
        // If no broker answers, no topic is created: producing will say what is wrong.
        let Ok(Ok(described)) = described else { return };
        for (name, answer) in described {
            match answer {
                Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                    match self.make_topic(&name).await {
                        Ok(()) => drop(self.topics.insert(name)),
                        Err(why) => drop(self.refused.insert(name, (why, Instant::now()))),
                    }
                }
                _ => drop(self.topics.insert(name)),
            }
        }
    }

    async fn make_topic(&self, name: &str) -> Result<(), String> {
        let config = super::client_config(&self.access, &self.name);
        let admin: AdminClient<ClientMonitor> =
            self.access.client(&config, self.access.monitor()).map_err(|error| unusable(&error))?;
        native::set_token(admin.inner());
        // -1: the broker's defaults.
        let topic = NewTopic::new(name, -1, TopicReplication::Fixed(-1));
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
        let failed = |why: String| format!("dead-letter topic {name:?} can't be created: {why}");
        let made =
            admin.create_topics([&topic], &options).await.map_err(|error| failed(error.to_string()))?;
        match made.into_iter().next() {
            Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => {
                Err(failed(code.to_string()))
            }
            _ => Ok(()),
        }
    }
}

/// Writes a dead letter to each of its topics; returns why the first failed, if one did.
async fn write_all(
    producer: &FutureProducer<ClientMonitor>,
    letter: &DeadLetterRecord,
    refused: &BTreeMap<String, (String, Instant)>,
) -> Option<String> {
    let written = letter.to.iter().map(|topic| write_one(producer, letter, topic, refused));
    futures::future::join_all(written).await.into_iter().flatten().next()
}

async fn write_one(
    producer: &FutureProducer<ClientMonitor>,
    letter: &DeadLetterRecord,
    topic: &str,
    refused: &BTreeMap<String, (String, Instant)>,
) -> Option<String> {
    if let Some((why, _)) = refused.get(topic) {
        return Some(why.clone());
    }
    let mut why = String::new();
    for limit in [usize::MAX].into_iter().chain(CUTS) {
        let value = &letter.value[..letter.value.len().min(limit)];
        let key = letter.key.as_deref().map(|key| &key[..key.len().min(limit)]);
        let cut =
            value.len() < letter.value.len() || key.map(<[u8]>::len) < letter.key.as_ref().map(Vec::len);
        if limit < usize::MAX && !cut {
            break;
        }
        let mut record = FutureRecord::<[u8], [u8]>::to(topic).payload(value).headers(letter.headers(cut));
        if let Some(key) = key {
            record = record.key(key);
        }
        match producer.send(record, TIMEOUT).await {
            Ok(_) => return None,
            Err((error, _)) => {
                why = format!("dead-letter topic {topic:?} can't be written: {error}");
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::MessageSizeTooLarge) {
                    break;
                }
            }
        }
    }
    Some(why)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use delivery::{Files, Http};
    use domain::{Guard, KafkaSecurity};
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;
    use crate::kafka::{KafkaTokens, mock};

    /// Answers produce requests with each error in turn, and compares the writer's result with what the topic holds.
    async fn answered_with(codes: &[RDKafkaRespErr]) {
        let cluster = MockCluster::<DefaultProducerContext>::new(1).unwrap();
        cluster.create_topic("logs.DLT", 1, 1).unwrap();
        let servers = cluster.bootstrap_servers();
        let tokens = KafkaTokens::new(Arc::new(Http::new(Guard::allowing_loopback_in_tests(false))));
        let (security, files) = (KafkaSecurity::default(), Files::new("/nonexistent"));
        let Ok(access) =
            ClusterAccess::read(std::slice::from_ref(&servers), &security, &files, &tokens).await
        else {
            panic!("no access is needed")
        };
        let mut letters = DeadLetterWriter::new(access, "test".to_owned());
        let letter = DeadLetterRecord {
            topic: "logs".to_owned(),
            partition: 0,
            offset: 7,
            timestamp: None,
            reason: "Malformed".to_owned(),
            key: None,
            value: b"not json".to_vec(),
            hops: 0,
            to: vec!["logs.DLT".to_owned()],
        };
        let mut held = 0;
        for code in codes {
            cluster.request_errors(RDKafkaApiKey::Produce, &[*code]);
            let failure = letters.write(&[&letter]).await.remove(0);
            cluster.clear_request_errors(RDKafkaApiKey::Produce);
            let before = std::mem::replace(&mut held, mock::held(&servers, "logs.DLT").await);
            match failure {
                None => assert!(held > before, "{code:?}: it is nowhere"),
                Some(why) => assert!(why.contains("\"logs.DLT\" can't be written"), "{code:?}: {why}"),
            }
        }
    }

    #[tokio::test]
    async fn whatever_the_broker_answers_a_dead_letter_that_counts_as_written_is_there() {
        let codes = mock::errors();
        futures::future::join_all(codes.chunks(12).map(answered_with)).await;
    }

    #[test]
    fn headers_say_how_often_a_record_was_a_dead_letter() {
        for (headers, hops) in [
            (&[("reason", None)][..], 0),
            (&[("belfry-reason", Some(&b"Malformed"[..]))], 1),
            (&[("belfry-reason", None), ("belfry-hops", Some(b"2"))], 2),
            (&[("belfry-hops", Some(b"0"))], 0),
            (&[("belfry-hops", Some(b"300"))], MAX_HOPS),
            (&[("belfry-hops", None)], MAX_HOPS),
        ] {
            assert_eq!(DeadLetterRecord::hops(headers), hops, "{headers:?}");
        }
    }
}
