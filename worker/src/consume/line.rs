//! The reader and what it asks, with one set of credentials: started when these can be read, ended and started anew when
//! they change.
//!
//! Invariants: a reader that is replaced commits what it holds first, as one that stops does; where the next one reads on
//! is the ledger's, so nothing is lost or counted twice. Credentials that can't be read stop nothing that runs. Never here:
//! a value of a Secret.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::Context as _;
use delivery::{Files, Http};
use domain::Digest;
use protocol::messages::{ObjectProblem, SourcePlan};
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::oneshot;

use super::metrics::Metrics;
use super::plan::Compiled;
use super::problems::Standing;
use super::reader::{Asks, Event, Reader};
use super::{asks, commits};
use crate::context::Context;
use crate::kafka::{Access, Consumer, Letters, Tokens, unusable};

/// How long the reader may take to leave.
const LEAVE: Duration = Duration::from_millis(8_500);

/// What runs.
struct Running {
    events: mpsc::Sender<Event>,
    end: oneshot::Receiver<anyhow::Result<()>>,
    /// The credentials that it has.
    credentials: Digest,
}

/// See the module.
pub struct Line<'a> {
    context: &'a Context,
    source: &'a str,
    standing: &'a Standing,
    metrics: Metrics,
    files: Files,
    tokens: Tokens,
    plan: Option<SourcePlan>,
    running: Option<Running>,
}

impl<'a> Line<'a> {
    /// Nothing runs before the first plan.
    pub fn new(context: &'a Context, source: &'a str, standing: &'a Standing) -> Self {
        let metrics = Metrics::new(&context.health);
        let files = Files::new(&context.config.files);
        let tokens = Tokens::new(Arc::new(Http::new(context.config.guard())));
        Self { context, source, standing, metrics, files, tokens, plan: None, running: None }
    }

    /// Whether the source's security has files that may change.
    pub fn has_files(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| !plan.source.security.files().is_empty())
    }

    /// The plan is this one from now on; with `None`, no rule reads the source.
    pub async fn plan(&mut self, plan: Option<SourcePlan>) {
        self.plan = plan;
        // One that is started now gets the plan with that.
        if !self.look().await {
            self.tell();
        }
    }

    /// Looks at the credentials: starts the reader when they are there, and anew when they changed. Whether it did.
    pub async fn look(&mut self) -> bool {
        let Some(plan) = self.plan.clone() else { return false };
        let (servers, security) = (&plan.source.bootstrap_servers, &plan.source.security);
        let started = match Access::read(servers, security, &self.files, &self.tokens).await {
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
        self.standing.credentials(&plan, problem);
        started.unwrap_or(false)
    }

    fn runs_with(&self, access: &Access) -> bool {
        self.running.as_ref().is_some_and(|running| running.credentials == *access.fingerprint())
    }

    /// Hands the plan to the reader.
    fn tell(&self) {
        let event = match &self.plan {
            Some(plan) => Event::Plan(Box::new(Compiled::new(plan))),
            None => Event::NoPlan,
        };
        if let Some(running) = &self.running {
            // A reader that ended says why by its end.
            let _ = running.events.send(event);
        }
    }

    fn start(&mut self, access: &Access, plan: &SourcePlan) -> Result<(), (&'static str, String)> {
        let group = format!("belfry.{}.{}", self.context.config.namespace, self.source);
        let consumer = Consumer::new(access, plan.source.isolation, &group, &self.context.config.instance)
            .map_err(|error| {
                ("KafkaClientRefused", format!("no Kafka client can be made: {}", unusable(&error)))
            })?;
        let running =
            self.start_reader(consumer, access).map_err(|error| ("KafkaClientRefused", error.to_string()))?;
        self.running = Some(running);
        self.tell();
        Ok(())
    }

    fn start_reader(&self, consumer: Consumer, access: &Access) -> anyhow::Result<Running> {
        let broker = consumer.broker();
        let (events, happening) = mpsc::channel();
        let (commits, outgoing) = unbounded_channel();
        let (positions, wanted) = unbounded_channel();
        let (ends, looked) = unbounded_channel();
        let letters = Letters::new(access.clone(), self.context.config.instance.clone());
        let (hub, key, metrics) = (self.context.clone(), self.source.to_owned(), self.metrics.clone());
        let standing = self.standing.clone();
        tokio::spawn(commits::run(
            hub.clone(),
            key.clone(),
            outgoing,
            events.clone(),
            letters,
            (metrics.clone(), standing.clone()),
        ));
        tokio::spawn(asks::positions(hub, key, broker.clone(), wanted, events.clone()));
        tokio::spawn(asks::ends(broker.clone(), looked, events.clone()));
        tokio::spawn(asks::topics(broker, standing.clone(), access.servers(), events.clone()));
        let asks = Asks { commits, positions, ends };
        let reader = Reader::new(consumer, happening, asks, standing, metrics);
        let beat = self.context.health.watch("reader", crate::health::LONG);
        let (done, end) = oneshot::channel();
        std::thread::Builder::new()
            .name("reader".to_owned())
            .spawn(move || {
                let ended = reader.run(&beat);
                // Before the next reader's begins.
                drop(beat);
                let _ = done.send(ended);
            })
            .context("can't start the reader")?;
        Ok(Running { events, end, credentials: access.fingerprint().clone() })
    }

    /// Waits for the reader's end; for ever when there is none.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        match &mut self.running {
            Some(running) => {
                (&mut running.end).await.unwrap_or_else(|_| Err(anyhow::anyhow!("the reader broke off")))
            }
            None => std::future::pending().await,
        }
    }

    /// Lets the reader commit what it holds and leave; says how it ended, if it did in time.
    async fn stop(&mut self) -> Option<anyhow::Result<()>> {
        let _ = self.running.as_ref()?.events.send(Event::Stop);
        let ended = tokio::time::timeout(LEAVE, self.ended()).await.ok();
        if ended.is_none() {
            tracing::warn!("the reader did not leave in time");
        }
        self.running = None;
        ended
    }

    /// The end of all.
    pub async fn leave(mut self) -> anyhow::Result<()> {
        self.stop().await.unwrap_or(Ok(()))
    }
}
