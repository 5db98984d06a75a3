//! Questions to the broker, asked from a thread that may wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::types::RDKafkaErrorCode;

use domain::Isolation;

use super::native::{self, End};
use super::{Fault, Watch};

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(8);

/// What the broker says of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topic {
    /// Its id in base64, and how many partitions it has.
    There {
        /// Kafka's topic UUID in base64.
        id: String,
        /// How many partitions.
        partitions: i32,
    },
    /// There is no such topic.
    Missing,
    /// It may not be read by us, or by anybody, until somebody changes that.
    Barred(String),
    /// It can't be told now.
    Failed(String),
}

/// First kept offset and next offset to be written, by (topic, partition); those without an answer are absent.
pub type Ends = BTreeMap<(String, i32), (i64, i64)>;

/// Asks the broker. Cheap to clone; every call blocks.
#[derive(Clone)]
pub struct Broker(Arc<BaseConsumer<Watch>>, Isolation);

impl Broker {
    pub(super) fn new(consumer: Arc<BaseConsumer<Watch>>, isolation: Isolation) -> Self {
        Self(consumer, isolation)
    }

    /// What is known of topics. An error means that no broker answered.
    pub fn topics(&self, names: &[String]) -> Result<BTreeMap<String, Topic>, Fault> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let described =
            native::describe(self.0.client(), names, TIMEOUT).map_err(|code| self.0.context().why(code))?;
        self.0.context().answered();
        Ok(described
            .into_iter()
            .map(|(name, answer)| {
                let topic = match answer {
                    Ok((id, partitions)) => Topic::There { id, partitions: partitions.len() as i32 },
                    Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                        Topic::Missing
                    }
                    Err(
                        code @ (RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::InvalidTopic),
                    ) => Topic::Barred(code.to_string()),
                    Err(code) => Topic::Failed(code.to_string()),
                };
                (name, topic)
            })
            .collect())
    }

    /// Where partitions begin and end, by asking their leaders now.
    pub fn ends(&self, partitions: &[(String, i32)]) -> Result<Ends, String> {
        if partitions.is_empty() {
            return Ok(Ends::new());
        }
        let ask = |end| {
            native::ends(self.0.client(), partitions, end, self.1, TIMEOUT).map_err(|code| code.to_string())
        };
        let mut first: BTreeMap<(String, i32), i64> = ask(End::First)?
            .into_iter()
            .map(|(topic, partition, offset)| ((topic, partition), offset))
            .collect();
        Ok(ask(End::Last)?
            .into_iter()
            .filter_map(|(topic, partition, last)| {
                let key = (topic, partition);
                let first = first.remove(&key)?;
                Some((key, (first, last)))
            })
            .collect())
    }
}
