//! Kafka: writes a message to a topic, in CloudEvents binary mode (headers `ce_...`), keyed by the ordering key.
//!
//! The worker has the Kafka client and passes it in as a [`Producer`], which decides the outcomes.

use std::time::Duration;

use domain::KafkaPlan;

use crate::Kit;
use crate::cloud_event::CloudEvent;
use crate::message::{Channel, Message, OutcomeFuture};

/// A record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaRecord {
    /// Records with the same key arrive in order.
    pub key: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The value, JSON.
    pub value: String,
}

/// Writes records to Kafka.
pub trait Producer: Send + Sync {
    /// Makes one attempt to write a record to the plan's topic, within `timeout`. Whatever happens becomes an outcome.
    fn write<'a>(&'a self, plan: &'a KafkaPlan, record: KafkaRecord, timeout: Duration) -> OutcomeFuture<'a>;
}

/// The Kafka channel.
pub(crate) struct Kafka<'a> {
    pub(crate) kit: &'a Kit,
    pub(crate) plan: &'a KafkaPlan,
}

impl Channel for Kafka<'_> {
    fn deliver<'a>(&'a self, message: &'a Message) -> OutcomeFuture<'a> {
        self.kit.kafka.write(self.plan, record(message), message.timeout)
    }
}

fn record(message: &Message) -> KafkaRecord {
    let event = CloudEvent::new(message);
    let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    headers.extend(event.attributes().map(|(name, value)| (format!("ce_{name}"), value.to_owned())));
    KafkaRecord {
        key: message.notification.ordering_key.clone(),
        headers,
        value: String::from(Box::<str>::from(event.data)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use domain::{KafkaSecurity, Outcome};

    use super::*;
    use crate::fixtures::{self, alert, message, plan};

    #[tokio::test]
    async fn a_record_has_the_ordering_key_the_event_in_headers_and_its_data() {
        let written = Arc::new(fixtures::WrittenRecords::default());
        let (_files, kit) = fixtures::kit_writing_to(Arc::clone(&written));
        let plan = plan(
            KafkaPlan {
                bootstrap_servers: vec!["kafka:9092".to_owned()],
                topic: "events".to_owned(),
                security: KafkaSecurity::default(),
            }
            .into(),
        );
        let outcome = kit.channel(&plan).deliver(&message(alert(), "")).await;
        assert_eq!(outcome, Outcome::Delivered);
        let (topic, record) = written.0.lock().unwrap().remove(0);
        assert_eq!((topic.as_str(), record.key), ("events", alert().ordering_key));
        let headers: Vec<String> =
            record.headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let wanted = [
            "content-type: application/json",
            "ce_specversion: 1.0",
            "ce_id: 00000000-0000-0000-0000-00000000000d",
            "ce_source: /belfry/namespaces/payments/alertrules/payment-errors",
            "ce_type: dev.belfry.notification.firing",
            "ce_time: 2027-01-15T08:00:00Z",
            "ce_subject: service=pay",
            "ce_partitionkey: 55a9ad51fc11ce4653943df9e57ca3ab",
        ];
        assert_eq!(headers, wanted);
        let data: serde_json::Value = serde_json::from_str(&record.value).unwrap();
        assert_eq!(data["title"], alert().title);
    }
}
