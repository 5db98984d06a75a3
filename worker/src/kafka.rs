//! Kafka: the only place for rdkafka in the consumer.
//!
//! Never here: what a record means, or what the ledger holds.

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
pub use broker::{Broker, Ends, TopicState};
pub use consumer::{Consumer, ConsumerNotice, Rebalance};
pub use dead_letters::{DeadLetterRecord, DeadLetterWriter, MAX_HOPS};
pub use monitor::{BrokerFault, ClientMonitor, FaultKind, NO_ANSWER};
pub use native::{Fetched, FetchedRecord};
pub use tokens::{Token, Tokens};

/// Settings that every client shares: small buffers, and a broker that comes back is noticed in seconds.
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

/// Forwards librdkafka's log. Why a connection failed is for who debugs: a tenant reads the pod's log, and what a condition
/// does not tell (see [`monitor`]) the log at its usual level does not tell either.
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
