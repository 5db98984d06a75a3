//! Tests against librdkafka's mock cluster.

use delivery::Http;
use domain::Guard;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::kafka::mock;

fn record() -> KafkaRecord {
    let headers = vec![("ce_id".to_owned(), "7".to_owned())];
    KafkaRecord { key: "the key".to_owned(), headers, value: r#"{"title":"a test"}"#.to_owned() }
}

async fn deliver(servers: &str, topic: &str, timeout: Duration) -> Outcome {
    let tokens = KafkaTokens::new(Arc::new(Http::new(Guard::allowing_loopback_in_tests(false))));
    let producers = Producers::new(tokens, Files::new("/nonexistent"));
    let plan = KafkaPlan {
        bootstrap_servers: vec![servers.to_owned()],
        topic: topic.to_owned(),
        security: KafkaSecurity::default(),
    };
    producers.write(&plan, record(), timeout).await
}

#[tokio::test]
async fn a_record_arrives_with_its_key_its_headers_and_its_value() {
    let cluster = MockCluster::<DefaultProducerContext>::new(1).unwrap();
    cluster.create_topic("events", 3, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    let outcome = deliver(&servers, "events", Duration::from_secs(20)).await;
    assert_eq!(outcome, Outcome::Delivered);

    let record = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("group.id", "test")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        consumer.subscribe(&["events"]).unwrap();
        loop {
            if let Some(Ok(record)) = consumer.poll(Duration::from_secs(1)) {
                return record.detach();
            }
        }
    })
    .await
    .unwrap();
    assert_eq!(record.key(), Some(&b"the key"[..]));
    let header = record.headers().unwrap().get(0);
    assert_eq!((header.key, header.value), ("ce_id", Some(&b"7"[..])));
    assert_eq!(record.payload(), Some(&br#"{"title":"a test"}"#[..]));
}

#[tokio::test]
async fn a_broker_that_can_not_be_reached_is_later() {
    let outcome = deliver("127.0.0.1:1", "events", Duration::from_secs(1)).await;
    assert!(
        matches!(&outcome, Outcome::Later { reason, .. } if reason.contains("127.0.0.1:1")),
        "{outcome:?}"
    );
}

/// Answers produce requests with each error in turn, and compares the outcome with what the topic holds.
async fn answered_with(codes: &[RDKafkaRespErr]) {
    let cluster = MockCluster::<DefaultProducerContext>::new(1).unwrap();
    cluster.create_topic("events", 1, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    let mut held = 0;
    for code in codes {
        cluster.request_errors(RDKafkaApiKey::Produce, &[*code]);
        let outcome = deliver(&servers, "events", Duration::from_secs(4)).await;
        cluster.clear_request_errors(RDKafkaApiKey::Produce);
        let before = std::mem::replace(&mut held, mock::held(&servers, "events").await);
        match outcome {
            // With this error the broker says that it has the message, which is not true here.
            Outcome::Delivered if *code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER => {}
            Outcome::Delivered => assert_eq!(held - before, 1, "{code:?}"),
            Outcome::Unknown { .. } => assert!(held - before <= 1, "{code:?}"),
            refused => assert_eq!(held, before, "{code:?} {refused:?}"),
        }
    }
}

#[tokio::test]
async fn whatever_the_broker_answers_the_outcome_is_true() {
    let codes = mock::errors();
    futures::future::join_all(codes.chunks(12).map(answered_with)).await;
}

#[test]
fn errors_are_told_apart() {
    let of = |code| outcome(&KafkaError::MessageProduction(code));
    assert!(matches!(of(Code::UnknownTopicOrPartition), Outcome::Later { .. }));
    assert!(matches!(of(Code::MessageSizeTooLarge), Outcome::Refused { .. }));
    assert!(matches!(of(Code::MessageTimedOut), Outcome::Unknown { .. }));
}
