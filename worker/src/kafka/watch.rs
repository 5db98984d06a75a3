//! What a Kafka client says of itself: its log, and why a broker can't be reached.
//!
//! librdkafka's codes only say that a transport failed; its texts say whether the name is unknown, nobody listens or the
//! time ran out. Invariants: texts are kept by broker and without what varies from try to try, so that a condition made
//! of them stays the same. Never here: what follows from it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

/// Brokers of which a text is kept.
const BROKERS: usize = 16;

/// Takes note of what a client says. Cheap to clone.
#[derive(Clone, Default)]
pub struct Watch(Arc<Mutex<BTreeMap<String, String>>>);

impl Watch {
    /// Takes note of an error of the client's own.
    pub fn note(&self, code: RDKafkaErrorCode, text: &str) {
        use RDKafkaErrorCode::{Authentication, BrokerTransportFailure, Resolve, SSL};
        if !matches!(code, Authentication | BrokerTransportFailure | Resolve | SSL) {
            return;
        }
        let Some((broker, why)) = text.split_once(": ") else { return };
        // "(after 3ms in state CONNECT)"
        let why = why.split(" (after ").next().unwrap_or(why);
        let mut faults = self.lock();
        if faults.len() < BROKERS || faults.contains_key(broker) {
            faults.insert(broker.to_owned(), why.chars().take(200).collect());
        }
    }

    /// Why the first of the brokers can't be reached, in words; `code` where nothing was said.
    pub fn why(&self, code: impl std::fmt::Display) -> String {
        self.lock().values().next().cloned().unwrap_or_else(|| code.to_string())
    }

    /// A broker answered: what was said before is over.
    pub fn answered(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        super::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason);
        if let Some(code) = error.rdkafka_error_code() {
            self.note(code, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fault_is_told_without_what_varies_until_a_broker_answers() {
        let watch = Watch::default();
        assert_eq!(watch.why("code"), "code");
        for took in ["3ms", "7ms"] {
            let text = format!(
                "b.svc:9/bootstrap: Failed to resolve 'b.svc:9': Name or service not known (after {took} in state CONNECT)"
            );
            watch.note(RDKafkaErrorCode::Resolve, &text);
            watch.note(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
            assert_eq!(watch.why("code"), "Failed to resolve 'b.svc:9': Name or service not known");
        }
        watch.answered();
        assert_eq!(watch.why("code"), "code");
    }
}
