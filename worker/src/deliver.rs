//! `send` and `retry`: make attempts of deliveries, `send` the first ones and `retry` the others.
//!
//! ```text
//! claims  --tasks-->  attempts (up to 512 claimed)  --outcomes-->  reporter --> hub
//! channels: long poll of the channels' plan --> checks the files they name --> reports
//! ```
//!
//! Invariants:
//! - each claimed task ends in one outcome, and each outcome is reported, or its loss is logged and counted;
//! - an attempt ends within its channel's timeout;
//! - a slow receiver doesn't keep others waiting: an attempt that takes longer than a few milliseconds gives its slot to the
//!   next task. So every claimed task begins within a fraction of a second, and no lease is used up by waiting;
//! - on SIGTERM the worker claims nothing more, finishes and reports its claimed tasks within the grace, and tells the hub
//!   that this instance leaves;
//! - while tasks are claimed and not reported, the worker tells the hub every 2 s that it is alive, so that another one soon
//!   takes over the tasks of a killed process.
//!
//! The hub decides about retries. Queues are bounded, and no log holds a secret.

mod alive;
mod attempt;
mod channels;
mod claims;
mod kafka;
mod metrics;
mod render;
mod reporter;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use delivery::{Files, Http, Kit, MessageTexts};
use domain::{Guard, TemplateText};
use protocol::messages::Pool;
use templates::Failures;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::context::Context;
use crate::kafka::KafkaTokens;
use kafka::Producers;
use metrics::DeliveryMetrics;

/// How much is done at once, and how long stopping may take.
#[derive(Debug, Clone, Copy)]
struct DeliveryLimits {
    /// Tasks that may be claimed and not reported. More than slots, so that there is work while the hub makes leases and
    /// outcomes durable.
    max_claimed: usize,
    /// Attempts that may run at once, slow ones not counted. Few, so that what they use stays in the processor's cache.
    slots: usize,
    /// After this long an attempt is slow and gives its slot back.
    slow_after: Duration,
    /// From SIGTERM to the end; less than the pod's grace of 30 s.
    grace: Duration,
    /// The part of the grace that is kept for the last reports.
    report_reserve: Duration,
}

const DEFAULT_LIMITS: DeliveryLimits = DeliveryLimits {
    max_claimed: 512,
    slots: 64,
    slow_after: Duration::from_millis(5),
    grace: Duration::from_secs(25),
    report_reserve: Duration::from_secs(5),
};

/// What all attempts share.
struct Tools {
    kit: Kit,
    renderer: render::Renderer,
    /// The channels' templates that failed recently.
    failures: Mutex<Failures<Uuid>>,
    metrics: DeliveryMetrics,
    /// Channels for which a file is missing here. This worker claims nothing for them.
    lacking_files: Mutex<BTreeSet<Uuid>>,
    /// The id of this process, which tells the hub that it is not the one before it in the same pod.
    session: Uuid,
    /// Tasks that were claimed and whose outcome the hub has not taken yet.
    unreported: AtomicUsize,
    /// Cancelled when the grace is nearly over: attempts that still run then end `Unknown`.
    give_up: CancellationToken,
}

impl Tools {
    fn note_faults(&self, channel: Uuid, template: &TemplateText, texts: &MessageTexts) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let at = std::time::Instant::now();
        let payload = template.payload.as_ref().map(|payload| &payload.template);
        for (which, text, fault) in [
            ("title", template.title.as_ref(), &texts.title_fault),
            ("body", template.body.as_ref(), &texts.body_fault),
            ("webhook.body", payload, &texts.payload_fault),
        ] {
            failures.note(channel, which, text.map_or("", String::as_str), fault.as_deref(), at);
        }
    }

    fn channels_lacking_files(&self) -> MutexGuard<'_, BTreeSet<Uuid>> {
        self.lacking_files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The channels whose templates failed recently, with the fault in words.
    fn faults(&self) -> Vec<(Uuid, String)> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.recent(std::time::Instant::now()).collect()
    }
}

/// Runs until [`Context::stop`], and then until the claimed tasks are finished and reported.
pub async fn run(context: Context, pool: Pool) -> anyhow::Result<()> {
    let guard = context.config.guard();
    run_with(context, pool, guard, DEFAULT_LIMITS).await;
    Ok(())
}

async fn run_with(context: Context, pool: Pool, guard: Guard, limits: DeliveryLimits) {
    let metrics = context.health.register(DeliveryMetrics::register);
    let (http, files) = (Arc::new(Http::new(guard)), Files::new(&context.config.files));
    let producers = Producers::new(KafkaTokens::new(Arc::clone(&http)), files.clone());
    let tools = Arc::new(Tools {
        kit: Kit::new(http, files, Box::new(producers)),
        renderer: render::Renderer::default(),
        failures: Mutex::default(),
        metrics,
        lacking_files: Mutex::default(),
        session: session(),
        unreported: AtomicUsize::new(0),
        give_up: CancellationToken::new(),
    });
    let (outcomes, reporter) = reporter::start(context.clone(), Arc::clone(&tools));
    let channels = tokio::spawn(channels::watch(context.clone(), Arc::clone(&tools)));
    let alive = tokio::spawn(alive::say(context.clone(), pool, Arc::clone(&tools)));
    let attempts = TaskTracker::new();

    claims::claim_tasks(&context, pool, limits, &tools, &attempts, outcomes).await;

    let end = Instant::now() + limits.grace;
    attempts.close();
    if timeout_at(end - limits.report_reserve, attempts.wait()).await.is_err() {
        tracing::warn!(attempts = attempts.len(), "the time to stop is nearly over: attempts end unknown");
        tools.give_up.cancel();
        let _ = timeout_at(end, attempts.wait()).await;
    }
    // The attempts owned the senders: the reporter ends once it has reported everything.
    reporter.finish(end).await;
    alive.abort();
    let _ = timeout(Duration::from_secs(3), channels).await;
}

/// A random id for this process.
#[allow(clippy::disallowed_methods, reason = "nothing names a process but chance")]
fn session() -> Uuid {
    Uuid::new_v4()
}

/// The wall clock, for timestamps and dates in messages.
#[allow(clippy::disallowed_methods, reason = "this loop owns the clock of the attempts")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// How long to wait after the n-th failed call in a row: 0.1 s, doubling up to 5 s, or longer if the hub asks (up to 60 s).
fn retry_pause(failures: u32, error: &protocol::Error) -> Duration {
    let step = Duration::from_millis(100 << failures.min(6)).min(Duration::from_secs(5));
    match error {
        protocol::Error::Refused { retry_after: Some(asked), .. } => {
            step.max((*asked).min(Duration::from_mins(1)))
        }
        _ => step,
    }
}

/// An error with its causes, in one line.
fn error_chain(error: &protocol::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
