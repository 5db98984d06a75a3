//! Questions to the broker. Every call blocks, so it needs a thread that may wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::types::RDKafkaErrorCode;

use domain::Isolation;

use super::native::{self, PartitionEnd};
use super::{BrokerFault, ClientMonitor};

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(8);

/// The broker's answer about a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicState {
    /// The topic exists.
    Exists {
        /// Kafka's topic UUID in base64.
        id: String,
        /// How many partitions.
        partitions: i32,
    },
    /// There is no such topic.
    Missing,
    /// It can't be read until a person changes something: the user may not read it, or its name is invalid.
    Forbidden(String),
    /// The broker can't tell now, for this reason.
    Unknown(String),
}

/// First kept offset and next offset to be written, by (topic, partition). Partitions without an answer are left out.
pub type PartitionEnds = BTreeMap<(String, i32), (i64, i64)>;

/// Asks the broker. Cheap to clone; every call blocks.
#[derive(Clone)]
pub struct Broker(Arc<BaseConsumer<ClientMonitor>>, Isolation);

impl Broker {
    pub(super) fn new(consumer: Arc<BaseConsumer<ClientMonitor>>, isolation: Isolation) -> Self {
        Self(consumer, isolation)
    }

    /// The state of each topic. Fails if no broker answers.
    pub fn topics(&self, names: &[String]) -> Result<BTreeMap<String, TopicState>, BrokerFault> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let described = native::describe_topics(self.0.client(), names, TIMEOUT)
            .map_err(|code| self.0.context().worst_fault(code))?;
        self.0.context().answered();
        Ok(described
            .into_iter()
            .map(|(name, answer)| {
                let topic = match answer {
                    Ok((id, partitions)) => TopicState::Exists { id, partitions: partitions.len() as i32 },
                    Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                        TopicState::Missing
                    }
                    Err(
                        code @ (RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::InvalidTopic),
                    ) => TopicState::Forbidden(code.to_string()),
                    Err(code) => TopicState::Unknown(code.to_string()),
                };
                (name, topic)
            })
            .collect())
    }

    /// Asks the leaders where partitions begin and end.
    pub fn ends(&self, partitions: &[(String, i32)]) -> Result<PartitionEnds, String> {
        if partitions.is_empty() {
            return Ok(PartitionEnds::new());
        }
        let ask = |end| {
            native::partition_ends(self.0.client(), partitions, end, self.1, TIMEOUT)
                .map_err(|code| code.to_string())
        };
        let mut first: BTreeMap<(String, i32), i64> = ask(PartitionEnd::First)?
            .into_iter()
            .map(|(topic, partition, offset)| ((topic, partition), offset))
            .collect();
        Ok(ask(PartitionEnd::Last)?
            .into_iter()
            .filter_map(|(topic, partition, last)| {
                let key = (topic, partition);
                let first = first.remove(&key)?;
                Some((key, (first, last)))
            })
            .collect())
    }
}
