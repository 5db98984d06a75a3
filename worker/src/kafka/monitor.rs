//! Monitors a Kafka client: forwards its log, remembers why a broker can't be used, and gives the client its token.
//!
//! librdkafka's codes only say that a transport failed; its texts say whether the name is unknown, or the certificate or the
//! login was refused. Invariants:
//! - texts are kept for each broker, without parts that vary from try to try, so that a status condition stays the same;
//! - one and the same text tells that an address is not allowed, that nobody listens or answers, or that something other than
//!   Kafka answers: tenants could use the difference to scan ports from where the worker runs;
//! - logs and kept texts hold none of the credentials that the broker got.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use delivery::Mask;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::KafkaToken;

/// The most brokers whose fault is kept.
const BROKERS: usize = 16;
/// The only text for a broker that did not answer by Kafka's protocol.
pub const NO_ANSWER: &str = "nobody listens there, what listens is no Kafka broker with these tls and sasl settings, or the address is not allowed";

/// The context of a Kafka client. Cheap to clone.
#[derive(Clone, Default)]
pub struct ClientMonitor {
    faults: Arc<Mutex<BTreeMap<String, BrokerFault>>>,
    token: Option<KafkaToken>,
    /// Hides the secrets that brokers get.
    mask: Arc<Mask>,
    /// The latest two tokens that brokers got: an answer to the older one may come after the newer one.
    shown: Arc<Mutex<[String; 2]>>,
}

/// Why a broker can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerFault {
    /// What kind of fault it is.
    pub kind: FaultKind,
    /// librdkafka's text, or [`NO_ANSWER`].
    pub why: String,
}

/// Kinds of faults, the worst last: those that a person must mend come after one that may pass by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The broker can't be connected to.
    Unreachable,
    /// One side does not accept the other's certificate.
    Tls,
    /// The broker does not accept the credentials.
    Authentication,
}

impl FaultKind {
    /// The reason of the status condition.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unreachable => "BrokerUnreachable",
            Self::Tls => "KafkaTlsFailed",
            Self::Authentication => "KafkaAuthenticationFailed",
        }
    }
}

impl ClientMonitor {
    /// `token` is what the client logs in with, if by a token; `mask` hides the other secrets that brokers get.
    pub fn new(token: Option<KafkaToken>, mask: Mask) -> Self {
        Self { token, mask: Arc::new(mask), ..Self::default() }
    }

    /// A text of the client, without the secrets that brokers get.
    pub fn masked(&self, text: &str) -> String {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if shown.iter().all(String::is_empty) {
            return self.mask.apply(text);
        }
        let mut mask = Mask::clone(&self.mask);
        for token in &shown {
            mask.hide(token);
        }
        mask.apply(text)
    }

    /// Remembers an error of the client, if it says why a broker can't be used.
    pub fn note_error(&self, code: RDKafkaErrorCode, text: &str) {
        use RDKafkaErrorCode::{Authentication, BrokerTransportFailure, Resolve, SSL};
        let kind = match code {
            Authentication => FaultKind::Authentication,
            // A broker that wants a client certificate, or refuses it, shows as `BrokerTransportFailure`.
            SSL | BrokerTransportFailure if speaks_tls(text) => FaultKind::Tls,
            SSL | BrokerTransportFailure | Resolve => FaultKind::Unreachable,
            _ => return,
        };
        let Some((broker, why)) = text.split_once(": ") else { return };
        // Cuts off "(after 3ms in state CONNECT)".
        let why = why.split(" (after ").next().unwrap_or(why);
        // Cuts off advice about settings that users can't set.
        let why = why.split(": verify that ssl.ca.location").next().unwrap_or(why);
        let why = why.split(", verify that ssl.ca.location").next().unwrap_or(why);
        let why = if kind == FaultKind::Unreachable && code != Resolve { NO_ANSWER } else { why };
        let mut faults = self.lock();
        if faults.len() < BROKERS || faults.contains_key(broker) {
            let why = self.masked(why).chars().take(200).collect();
            faults.insert(broker.to_owned(), BrokerFault { kind, why });
        }
    }

    /// Why the brokers can't be used: the worst fault that is known, or else the text of `code`.
    pub fn worst_fault(&self, code: RDKafkaErrorCode) -> BrokerFault {
        use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, RequestTimedOut};
        let faults = self.lock();
        // The first among equally bad ones, so that the text stays the same.
        let worst = faults.values().rev().max_by_key(|fault| fault.kind).cloned();
        let why = || match code {
            AllBrokersDown | BrokerTransportFailure | OperationTimedOut | RequestTimedOut => {
                NO_ANSWER.to_owned()
            }
            code => code.to_string(),
        };
        worst.unwrap_or_else(|| BrokerFault { kind: FaultKind::Unreachable, why: why() })
    }

    /// Forgets all faults, since a broker answered.
    pub fn answered(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BrokerFault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a TLS error is about a certificate, or an alert of the other side. Other errors come from ports without TLS.
fn speaks_tls(text: &str) -> bool {
    text.contains("certificate") || (text.contains(":SSL routines:") && text.contains(" alert "))
}

impl ClientContext for ClientMonitor {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let token = self.token.as_ref().ok_or("this client has no token")?;
        let token = token.show()?;
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown[1] != token.token {
            *shown = [std::mem::take(&mut shown[1]), token.token.clone()];
        }
        Ok(token)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        super::log(level, facility, &self.masked(message));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason = self.masked(reason));
        if let Some(code) = error.rdkafka_error_code() {
            self.note_error(code, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_kept_without_varying_parts_until_a_broker_answers() {
        let monitor = ClientMonitor::default();
        assert_eq!(monitor.worst_fault(RDKafkaErrorCode::OperationTimedOut).why, NO_ANSWER);
        assert!(monitor.worst_fault(RDKafkaErrorCode::InvalidTopic).why.contains("topic"));
        for took in ["3ms", "7ms"] {
            let text = format!(
                "b.svc:9/bootstrap: Failed to resolve 'b.svc:9': Name or service not known (after {took} in state CONNECT)"
            );
            monitor.note_error(RDKafkaErrorCode::Resolve, &text);
            monitor.note_error(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
            assert_eq!(
                monitor.worst_fault(RDKafkaErrorCode::OperationTimedOut).why,
                "Failed to resolve 'b.svc:9': Name or service not known"
            );
        }
        monitor.answered();
        assert_eq!(monitor.worst_fault(RDKafkaErrorCode::OperationTimedOut).why, NO_ANSWER);
    }

    #[test]
    fn every_cause_of_a_failed_connection_has_the_same_text() {
        use RDKafkaErrorCode::{BrokerTransportFailure, SSL};
        for (code, text) in [
            (BrokerTransportFailure, "Failed to connect to broker at 127.0.0.1:1: Permission denied"),
            (BrokerTransportFailure, "Connect to ipv4#10.0.0.1:1 failed: Connection refused"),
            (BrokerTransportFailure, "Connection setup timed out in state CONNECT"),
            (BrokerTransportFailure, "Disconnected while requesting ApiVersion: might be caused by ..."),
            (
                SSL,
                "SSL handshake failed: error:0A00010B:SSL routines::wrong version number: connecting to a PLAINTEXT broker listener?",
            ),
            (SSL, "SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?"),
        ] {
            let monitor = ClientMonitor::default();
            monitor.note_error(code, &format!("b:1/bootstrap: {text} (after 3ms in state CONNECT)"));
            let fault = monitor.worst_fault(BrokerTransportFailure);
            assert_eq!((fault.kind, fault.why.as_str()), (FaultKind::Unreachable, NO_ANSWER), "{text}");
        }
        for text in [
            "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could not be verified",
            "SSL handshake failed: error:0A000410:SSL routines::ssl/tls alert handshake failure",
        ] {
            let monitor = ClientMonitor::default();
            monitor.note_error(SSL, &format!("b:1/bootstrap: {text}"));
            assert_eq!(monitor.worst_fault(BrokerTransportFailure).kind, FaultKind::Tls, "{text}");
        }
    }

    #[test]
    fn credentials_that_a_broker_repeats_are_masked() {
        let mut mask = Mask::default();
        for secret in ["CANARY-user", "CANARY\"key12"] {
            mask.hide(secret);
        }
        let monitor = ClientMonitor::new(None, mask);
        *monitor.shown.lock().unwrap() = [String::new(), "CANARY.token.abcdef".to_owned()];
        for (said, told) in [
            ("no CANARY-user", "no ***"),
            ("{\"password\":\"CANARY\\\"key12\"}", "{\"password\":\"***\"}"),
            (
                "{\"status\":\"invalid_token\",\"token\":\"CANARY.token.abcdef\"}",
                "{\"status\":\"invalid_token\",\"token\":\"***\"}",
            ),
        ] {
            let text = format!("b:1/1: SASL authentication error: {said} (after 3ms in state AUTH_REQ)");
            monitor.note_error(RDKafkaErrorCode::Authentication, &text);
            let why = monitor.worst_fault(RDKafkaErrorCode::OperationTimedOut).why;
            assert_eq!(why, format!("SASL authentication error: {told}"));
            assert!(!monitor.masked(&text).contains("CANARY"));
        }
    }

    #[test]
    fn a_fault_that_a_person_must_mend_is_told_before_one_that_may_pass_by_itself() {
        let monitor = ClientMonitor::default();
        monitor.note_error(
            RDKafkaErrorCode::Authentication,
            "b:1/1: SASL authentication error: invalid credentials",
        );
        monitor.note_error(RDKafkaErrorCode::BrokerTransportFailure, "a:1/bootstrap: Connection refused");
        let fault = monitor.worst_fault(RDKafkaErrorCode::OperationTimedOut);
        assert_eq!(fault.kind.reason(), "KafkaAuthenticationFailed");
        assert_eq!(fault.why, "SASL authentication error: invalid credentials");
    }
}
