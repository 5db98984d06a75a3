//! Kafka clients: the only modules that know librdkafka, besides the producer of Kafka channels in `deliver/kafka.rs`.
//!
//! They know neither what a record means nor what the ledger holds.

mod access;
mod broker;
mod consumer;
mod dead_letters;
#[cfg(test)]
pub mod mock;
mod monitor;
mod native;
mod tokens;

pub use access::{ClusterAccess, unusable};
pub use broker::{Broker, PartitionEnds, TopicState};
pub use consumer::{ConsumerNotice, GroupConsumer, Rebalance};
pub use dead_letters::{DeadLetterRecord, DeadLetterWriter, MAX_HOPS};
pub use monitor::{BrokerFault, ClientMonitor, FaultKind, NO_ANSWER};
pub use native::{Fetched, FetchedRecord};
pub use tokens::{KafkaToken, KafkaTokens};

/// Settings that every client shares: a broker that comes back is noticed within seconds.
fn client_config(access: &ClusterAccess, name: &str) -> rdkafka::ClientConfig {
    let mut config = access.config();
    config
        .set("client.id", name)
        .set("socket.keepalive.enable", "true")
        .set("socket.connection.setup.timeout.ms", "5000")
        .set("socket.timeout.ms", "20000")
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "2000")
        .set("topic.metadata.refresh.interval.ms", "5000")
        .set("allow.auto.create.topics", "false");
    config
}

/// Forwards librdkafka's log. Lines that say why a connection failed (`FAIL`) get the level debug: a tenant can read the
/// pod's log, and at its usual level it must not tell what the status condition hides (see [`monitor`]).
fn log(level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
    use rdkafka::config::RDKafkaLogLevel::{Alert, Critical, Emerg, Error, Warning};
    log_line(matches!(level, Emerg | Alert | Critical | Error | Warning), facility, message);
}

fn log_line(warning: bool, facility: &str, message: &str) {
    if warning && facility != "FAIL" {
        tracing::warn!(target: "librdkafka", facility, "{message}");
    } else {
        tracing::debug!(target: "librdkafka", facility, "{message}");
    }
}
