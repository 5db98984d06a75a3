//! What a Kafka client says of itself: its log, and why a broker can't be reached.
//!
//! librdkafka's codes only say that a transport failed; its texts say whether the name is unknown, nobody listens or the
//! time ran out. Invariants: texts are kept by broker and without what varies from try to try, so that a condition made
//! of them stays the same. Never here: what follows from it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::Token;

/// Brokers of which a text is kept.
const BROKERS: usize = 16;

/// Takes note of what a client says, and shows its token to brokers. Cheap to clone.
#[derive(Clone, Default)]
pub struct Watch {
    faults: Arc<Mutex<BTreeMap<String, Fault>>>,
    token: Option<Token>,
}

/// Why a broker can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind of fault, the worst last.
    pub kind: FaultKind,
    /// In librdkafka's words.
    pub why: String,
}

/// Kinds of faults; what a person must mend comes after what may pass by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// It can't be connected to.
    Unreachable,
    /// One side does not accept the other's certificate.
    Tls,
    /// It does not accept the credentials.
    Authentication,
}

impl FaultKind {
    /// The reason of a condition.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unreachable => "BrokerUnreachable",
            Self::Tls => "KafkaTlsFailed",
            Self::Authentication => "KafkaAuthenticationFailed",
        }
    }
}

impl Watch {
    /// With the token that the client logs in with, if it does by one.
    pub fn new(token: Option<Token>) -> Self {
        Self { token, ..Self::default() }
    }

    /// Takes note of an error of the client's own.
    pub fn note(&self, code: RDKafkaErrorCode, text: &str) {
        use RDKafkaErrorCode::{Authentication, BrokerTransportFailure, Resolve, SSL};
        let kind = match code {
            Authentication => FaultKind::Authentication,
            SSL => FaultKind::Tls,
            // How a broker says that it wants a client's certificate, or does not like it.
            BrokerTransportFailure if text.contains(":SSL routines:") => FaultKind::Tls,
            BrokerTransportFailure | Resolve => FaultKind::Unreachable,
            _ => return,
        };
        let Some((broker, why)) = text.split_once(": ") else { return };
        // "(after 3ms in state CONNECT)"
        let why = why.split(" (after ").next().unwrap_or(why);
        // What follows speaks of settings that nobody here can set.
        let why = why.split(": verify that ssl.ca.location").next().unwrap_or(why);
        let why = why.split(", verify that ssl.ca.location").next().unwrap_or(why);
        let mut faults = self.lock();
        if faults.len() < BROKERS || faults.contains_key(broker) {
            faults.insert(broker.to_owned(), Fault { kind, why: why.chars().take(200).collect() });
        }
    }

    /// Why the brokers can't be used: the worst that was said of one of them; `code` where nothing was said.
    pub fn why(&self, code: impl std::fmt::Display) -> Fault {
        let faults = self.lock();
        // The first of the worst, so that the text stays the same.
        let worst = faults.values().rev().max_by_key(|fault| fault.kind).cloned();
        worst.unwrap_or_else(|| Fault { kind: FaultKind::Unreachable, why: code.to_string() })
    }

    /// A broker answered: what was said before is over.
    pub fn answered(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Watch {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let token = self.token.as_ref().ok_or("this client has no token")?;
        Ok(token.show()?)
    }

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
        assert_eq!(watch.why("code").why, "code");
        for took in ["3ms", "7ms"] {
            let text = format!(
                "b.svc:9/bootstrap: Failed to resolve 'b.svc:9': Name or service not known (after {took} in state CONNECT)"
            );
            watch.note(RDKafkaErrorCode::Resolve, &text);
            watch.note(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
            assert_eq!(watch.why("code").why, "Failed to resolve 'b.svc:9': Name or service not known");
        }
        watch.answered();
        assert_eq!(watch.why("code").why, "code");
    }

    #[test]
    fn what_a_person_must_mend_is_told_before_what_may_pass_by_itself() {
        let watch = Watch::default();
        watch.note(RDKafkaErrorCode::Authentication, "b:1/1: SASL authentication error: invalid credentials");
        watch.note(RDKafkaErrorCode::BrokerTransportFailure, "a:1/bootstrap: Connection refused");
        let fault = watch.why("code");
        assert_eq!(fault.kind.reason(), "KafkaAuthenticationFailed");
        assert_eq!(fault.why, "SASL authentication error: invalid credentials");
    }
}
