//! Writes the records of Kafka channels.
//!
//! | observation | outcome |
//! | --- | --- |
//! | all in-sync replicas have it | `Delivered` |
//! | a referenced Secret is missing, there is no token, TLS or the login fails, before it was sent | `Later` |
//! | no broker can be reached, the topic or partition is not known or not allowed, before it was sent | `Later` |
//! | the queue to the brokers is full | `Later` |
//! | the broker or the client finds it too large or invalid | `Refused` |
//! | not confirmed in time, the producer failed for good, any other error | `Unknown` |
//!
//! Invariants: producers are idempotent, with `acks=all`; there is one for each cluster, its present credentials, and
//! timeout. The client gives a message up when the attempt does, so the message can't arrive after a later one. Clients
//! connect only where the guard allows, also to brokers that the cluster itself names.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use delivery::{Files, KafkaRecord, OutcomeFuture, Producer};
use domain::{Digest, KafkaPlan, KafkaSecurity, Outcome};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use tokio::time::Instant;

use crate::kafka::{ClientMonitor, ClusterAccess, FaultKind, KafkaTokens, NO_ANSWER, unusable};

/// How many producers are kept.
const KEPT: usize = 16;
/// How long a topic that was seen is taken to exist.
const SEEN: Duration = Duration::from_secs(30);

/// Producers of Kafka channels, cached because a new one connects to every broker.
pub(super) struct Producers {
    tokens: KafkaTokens,
    files: Files,
    kept: Mutex<Vec<Arc<CachedProducer>>>,
}

struct CachedProducer {
    servers: String,
    security: KafkaSecurity,
    /// The fingerprint of the cluster and the credentials that it was made with.
    access: Digest,
    timeout: Duration,
    producer: FutureProducer<ClientMonitor>,
    monitor: ClientMonitor,
    /// Topics that were seen, and when last.
    seen: Mutex<Vec<(String, Instant)>>,
}

impl Producer for Producers {
    fn write<'a>(&'a self, plan: &'a KafkaPlan, record: KafkaRecord, timeout: Duration) -> OutcomeFuture<'a> {
        Box::pin(async move { self.attempt(plan, &record, timeout).await.unwrap_or_else(|outcome| outcome) })
    }
}

fn later(reason: String) -> Outcome {
    Outcome::Later { reason, wait: None, channel_wide: false }
}

impl Producers {
    /// Reads credentials from `files`, and gets tokens from `tokens` for clusters that want one.
    pub(super) fn new(tokens: KafkaTokens, files: Files) -> Self {
        Self { tokens, files, kept: Mutex::default() }
    }

    async fn attempt(
        &self,
        plan: &KafkaPlan,
        record: &KafkaRecord,
        timeout: Duration,
    ) -> Result<Outcome, Outcome> {
        let KafkaPlan { bootstrap_servers, topic, security } = plan;
        let access = ClusterAccess::read(bootstrap_servers, security, &self.files, &self.tokens).await?;
        let kept = self.get(security, &access, timeout)?;
        let look = tokio::time::timeout(timeout, kept.check_topic(topic)).await;
        look.map_err(|_| later(format!("no broker of {} answers: {NO_ANSWER}", kept.servers)))??;
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (name, value) in &record.headers {
            headers = headers.insert(Header { key: name, value: Some(value) });
        }
        let record = FutureRecord::to(topic).key(&record.key).payload(&record.value).headers(headers);
        match kept.producer.send(record, Duration::ZERO).await {
            Ok(_) => {
                kept.remember_topic(topic);
                Ok(Outcome::Delivered)
            }
            Err((error, _)) => {
                kept.forget_topic(topic);
                Ok(outcome(&error))
            }
        }
    }

    fn get(
        &self,
        security: &KafkaSecurity,
        access: &ClusterAccess,
        timeout: Duration,
    ) -> Result<Arc<CachedProducer>, Outcome> {
        let servers = access.servers();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // A producer with a fatal error takes no more messages; one with old credentials would try them for ever.
        kept.retain(|one| {
            let same = one.servers == servers && one.security == *security;
            let outdated = same && one.access != *access.fingerprint();
            !outdated && one.producer.client().fatal_error().is_none()
        });
        if let Some(one) =
            kept.iter().find(|one| one.access == *access.fingerprint() && one.timeout == timeout)
        {
            return Ok(Arc::clone(one));
        }
        // The check of the topic may take the first quarter of an attempt.
        let millis = (timeout * 3 / 4).as_millis().clamp(750, 600_000).to_string();
        let monitor = access.monitor();
        let mut config = access.config();
        config
            .set("client.id", "belfry-worker")
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", &millis)
            .set("socket.keepalive.enable", "true")
            .set("linger.ms", "2")
            .set("compression.type", "none")
            .set("allow.auto.create.topics", "false")
            .set("queue.buffering.max.kbytes", "16384");
        let producer = access
            .client(&config, monitor.clone())
            .map_err(|error| later(format!("no producer for {servers}: {}", unusable(&error))))?;
        let made = Arc::new(CachedProducer {
            servers,
            security: security.clone(),
            access: access.fingerprint().clone(),
            timeout,
            producer,
            monitor,
            seen: Mutex::default(),
        });
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push(Arc::clone(&made));
        Ok(made)
    }
}

impl CachedProducer {
    /// Checks that the topic exists, unless it was seen in the last 30 s. So an unreachable broker is known before a message
    /// is handed to the client.
    async fn check_topic(self: &Arc<Self>, topic: &str) -> Result<(), Outcome> {
        let seen = |kept: &Self| kept.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if seen(self).iter().any(|(name, at)| name == topic && at.elapsed() < SEEN) {
            return Ok(());
        }
        let (kept, name, limit) =
            (Arc::clone(self), topic.to_owned(), (self.timeout / 4).min(Duration::from_secs(5)));
        let found = tokio::task::spawn_blocking(move || {
            let metadata = kept.producer.client().fetch_metadata(Some(&name), limit)?;
            let topic = metadata.topics().iter().find(|topic| topic.name() == name);
            Ok::<_, KafkaError>(
                topic.is_some_and(|topic| topic.error().is_none() && !topic.partitions().is_empty()),
            )
        })
        .await;
        match found {
            Ok(Ok(true)) => {
                self.monitor.answered();
                self.remember_topic(topic);
                Ok(())
            }
            Ok(Ok(false)) => Err(later(format!("topic {topic:?} does not exist, or may not be written to"))),
            Ok(Err(error)) => {
                let fault = self.monitor.worst_fault(error.rdkafka_error_code().unwrap_or(Code::Fail));
                let (servers, why) = (&self.servers, fault.why);
                Err(later(match fault.kind {
                    FaultKind::Unreachable => format!("no broker of {servers} answers: {why}"),
                    FaultKind::Tls => format!("no TLS connection to {servers}: {why}"),
                    FaultKind::Authentication => {
                        format!("the brokers of {servers} do not accept the credentials: {why}")
                    }
                }))
            }
            Err(_) => Err(later("the look at the topic did not end".to_owned())),
        }
    }

    fn remember_topic(&self, topic: &str) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|(name, at)| name != topic && at.elapsed() < SEEN);
        seen.push((topic.to_owned(), Instant::now()));
    }

    fn forget_topic(&self, topic: &str) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).retain(|(name, _)| name != topic);
    }
}

fn outcome(error: &KafkaError) -> Outcome {
    let reason = format!("Kafka: {error}");
    match error.rdkafka_error_code() {
        Some(
            Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::QueueFull
            | Code::NotEnoughReplicas
            | Code::PolicyViolation,
        ) => later(reason),
        Some(
            Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::InvalidRecord | Code::InvalidTopic,
        ) => Outcome::Refused { reason },
        _ => Outcome::Unknown { reason },
    }
}

#[cfg(test)]
mod tests;
