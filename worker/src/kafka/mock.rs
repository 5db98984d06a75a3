//! Helpers for tests against librdkafka's mock cluster.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::types::RDKafkaRespErr;

/// All errors that a broker can answer with: the positive codes. Negative codes are the client's own.
pub fn errors() -> Vec<RDKafkaRespErr> {
    // The last member of the enumeration is not an error.
    let is_end = |code: &RDKafkaRespErr| *code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_END_ALL;
    (1..1_000).filter_map(|code| RDKafkaRespErr::try_from(code).ok()).filter(|code| !is_end(code)).collect()
}

/// How many records the first partition of a topic has.
pub async fn held(servers: &str, topic: &str) -> i64 {
    let config = ClientConfig::new().set("bootstrap.servers", servers).clone();
    let topic = topic.to_owned();
    let ask = move || {
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.fetch_watermarks(&topic, 0, Duration::from_secs(30)).unwrap().1
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}
