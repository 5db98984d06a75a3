//! Kafka.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kafka::{self, KafkaSasl, KafkaTls};

/// A Kafka topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [kafka::no_cleartext_login()]))]
pub struct KafkaTarget {
    /// Bootstrap brokers, host:port each.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 3, max = 259), regex(pattern = r"^[A-Za-z0-9.\[\]:_-]+:[0-9]{1,5}$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub bootstrap_servers: Vec<String>,
    /// The topic; it must exist. Records carry the ordering key as their key.
    #[schemars(length(min = 1, max = 249), regex(pattern = r"^[a-zA-Z0-9._-]+$"))]
    pub topic: String,
    /// TLS to the brokers; plain text when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// Login by SASL; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
}
