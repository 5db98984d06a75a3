//! Starts the reader and its tasks once the credentials can be read, and replaces them when the credentials change or the
//! Kafka client stalls.
//!
//! Invariants: a replaced reader commits what it has read first, as one that stops does, and the next one reads on where the
//! ledger says, so nothing is lost or counted twice. Credentials that can't be read stop no running reader.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use delivery::{Files, Http};
use domain::Digest;
use protocol::messages::{ObjectProblem, SourcePlan};
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::oneshot;

use super::events::{Ended, ReaderEvent, ReaderRequests};
use super::metrics::ConsumerMetrics;
use super::plan::CompiledPlan;
use super::reader::SourceReader;
use super::stalls::{StallDetector, StallTimeout};
use super::status::ConsumerStatus;
use super::{commits, lookups};
use crate::context::Context;
use crate::kafka::{ClusterAccess, DeadLetterWriter, GroupConsumer, KafkaTokens, unusable};

/// How long the reader may take to commit and end.
const LEAVE: Duration = Duration::from_millis(8_500);

/// A running reader.
struct RunningReader {
    events: mpsc::Sender<ReaderEvent>,
    end: oneshot::Receiver<anyhow::Result<Ended>>,
    /// The fingerprint of its credentials.
    credentials: Digest,
}

/// Owns at most one reader; see the module.
pub struct ReaderSupervisor<'a> {
    context: &'a Context,
    source: &'a str,
    status: &'a ConsumerStatus,
    metrics: ConsumerMetrics,
    files: Files,
    tokens: KafkaTokens,
    plan: Option<SourcePlan>,
    running: Option<RunningReader>,
    stall_timeout: StallTimeout,
}

impl<'a> ReaderSupervisor<'a> {
    /// Starts nothing before the first plan.
    pub fn new(context: &'a Context, source: &'a str, status: &'a ConsumerStatus) -> Self {
        let metrics = ConsumerMetrics::new(&context.health);
        let files = Files::new(&context.config.files);
        let tokens = KafkaTokens::new(Arc::new(Http::new(context.config.guard())));
        Self {
            context,
            source,
            status,
            metrics,
            files,
            tokens,
            plan: None,
            running: None,
            stall_timeout: StallTimeout::default(),
        }
    }

    /// Whether the source's credentials come from files, which may change.
    pub fn has_files(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| !plan.source.security.files().is_empty())
    }

    /// Takes a new plan; with `None`, no rule reads the source.
    pub async fn set_plan(&mut self, plan: Option<SourcePlan>) {
        self.plan = plan;
        // A reader that is started now gets the plan at its start.
        if !self.check_credentials().await {
            self.send_plan();
        }
    }

    /// Reads the credentials; starts the reader if none runs with them, after ending one with others. Returns whether it
    /// started one.
    pub async fn check_credentials(&mut self) -> bool {
        let Some(plan) = self.plan.clone() else { return false };
        let (servers, security) = (&plan.source.bootstrap_servers, &plan.source.security);
        let started = match ClusterAccess::read(servers, security, &self.files, &self.tokens).await {
            Err(problem) => Err((problem.reason, problem.message)),
            Ok(access) if self.runs_with(&access) => Ok(false),
            Ok(access) => {
                if self.running.is_some() {
                    tracing::info!("the credentials changed: going on with the new ones");
                    self.stop().await;
                }
                self.start(&access, &plan).map(|()| true)
            }
        };
        if let Err((reason, why)) = &started {
            tracing::warn!(reason, why, "the credentials can't be used");
        }
        let problem = started.as_ref().err().map(|(reason, message)| ObjectProblem {
            reason: (*reason).to_owned(),
            message: message.clone(),
        });
        self.status.set_credentials(&plan, problem);
        started.unwrap_or(false)
    }

    fn runs_with(&self, access: &ClusterAccess) -> bool {
        self.running.as_ref().is_some_and(|running| running.credentials == *access.fingerprint())
    }

    /// Sends the plan to the reader.
    fn send_plan(&self) {
        let event = match &self.plan {
            Some(plan) => ReaderEvent::Plan(Box::new(CompiledPlan::new(plan))),
            None => ReaderEvent::NoPlan,
        };
        if let Some(running) = &self.running {
            // If the reader has ended, its result says why.
            let _ = running.events.send(event);
        }
    }

    fn start(&mut self, access: &ClusterAccess, plan: &SourcePlan) -> Result<(), (&'static str, String)> {
        let group = format!("belfry.{}.{}", self.context.config.namespace, self.source);
        let consumer =
            GroupConsumer::new(access, plan.source.isolation, &group, &self.context.config.instance)
                .map_err(|error| {
                    ("KafkaClientRefused", format!("no Kafka client can be made: {}", unusable(&error)))
                })?;
        let running =
            self.start_reader(consumer, access).map_err(|error| ("KafkaClientRefused", error.to_string()))?;
        self.running = Some(running);
        self.send_plan();
        Ok(())
    }

    fn start_reader(&self, consumer: GroupConsumer, access: &ClusterAccess) -> anyhow::Result<RunningReader> {
        let broker = consumer.broker();
        let (events, happening) = mpsc::channel();
        let (commits, outgoing) = unbounded_channel();
        let (positions, wanted) = unbounded_channel();
        let (surveys, survey_requests) = unbounded_channel();
        let dead_letters = DeadLetterWriter::new(access.clone(), self.context.config.instance.clone());
        let (hub, key, metrics) = (self.context.clone(), self.source.to_owned(), self.metrics.clone());
        let status = self.status.clone();
        tokio::spawn(commits::send_commits(
            hub.clone(),
            key.clone(),
            outgoing,
            events.clone(),
            dead_letters,
            (metrics.clone(), status.clone()),
        ));
        tokio::spawn(lookups::answer_position_requests(
            hub.clone(),
            key.clone(),
            broker.clone(),
            wanted,
            events.clone(),
        ));
        tokio::spawn(lookups::answer_survey_requests(
            hub,
            key,
            broker.clone(),
            survey_requests,
            events.clone(),
        ));
        tokio::spawn(lookups::watch_topics(broker, status.clone(), access.servers(), events.clone()));
        let requests = ReaderRequests { commits, positions, surveys };
        let stalls = StallDetector::new(self.stall_timeout.current());
        let reader = SourceReader::new(consumer, happening, requests, status, metrics, stalls);
        let beat = self.context.health.watch("reader", crate::health::LONG);
        let (done, end) = oneshot::channel();
        std::thread::Builder::new()
            .name("reader".to_owned())
            .spawn(move || {
                let ended = reader.read_until_stopped(&beat);
                // Dropping it ends the watch, which must happen before the next reader's begins.
                drop(beat);
                let _ = done.send(ended);
            })
            .context("can't start the reader")?;
        Ok(RunningReader { events, end, credentials: access.fingerprint().clone() })
    }

    /// Waits until the reader ends; for ever if there is none.
    pub async fn reader_ended(&mut self) -> anyhow::Result<Ended> {
        match &mut self.running {
            Some(running) => {
                (&mut running.end).await.unwrap_or_else(|_| Err(anyhow::anyhow!("the reader broke off")))
            }
            None => std::future::pending().await,
        }
    }

    /// Starts a reader with a new Kafka client, after the last one stalled.
    pub async fn restart_reader(&mut self) -> anyhow::Result<()> {
        self.running = None;
        self.stall_timeout.client_stalled(Instant::now());
        self.check_credentials().await;
        // Credentials from files are checked again every 2 s; others are not, so nothing would start the reader later.
        let waits = self.running.is_some() || self.plan.is_none() || self.has_files();
        if waits { Ok(()) } else { Err(anyhow::anyhow!("no new Kafka client can be made")) }
    }

    /// Lets the reader commit what it has read and leave the group; returns how it ended, if it did in time.
    async fn stop(&mut self) -> Option<anyhow::Result<Ended>> {
        let _ = self.running.as_ref()?.events.send(ReaderEvent::Stop);
        let ended = tokio::time::timeout(LEAVE, self.reader_ended()).await.ok();
        if ended.is_none() {
            tracing::warn!("the reader did not leave in time");
        }
        self.running = None;
        ended
    }

    /// Ends the reader for good.
    pub async fn shut_down(mut self) -> anyhow::Result<()> {
        self.stop().await.map_or(Ok(()), |ended| ended.map(drop))
    }
}
