//! Kafka.

use serde::{Deserialize, Serialize};

use super::Receiver;
use crate::{FileRef, KafkaSecurity};

/// A Kafka topic. Records are CloudEvents in binary mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaPlan {
    /// `host:port` each.
    pub bootstrap_servers: Vec<String>,
    /// The topic; it must exist.
    pub topic: String,
    /// TLS and login.
    #[serde(default, skip_serializing_if = "KafkaSecurity::is_plain")]
    pub security: KafkaSecurity,
}

impl Receiver for KafkaPlan {
    fn files(&self) -> Vec<&FileRef> {
        self.security.files()
    }
}
