//! Makes attempts of deliveries: `send` the first ones, `retry` the others.
//!
//! ```text
//! claims  --tasks-->  attempts (up to 512 in hand)  --outcomes-->  reporter --> hub
//! channels: long poll of the channels' plan --> checks the files they name --> reports
//! ```
//!
//! Invariants: each task that was claimed ends in one outcome, and each outcome is reported, or its loss is logged and
//! counted. An attempt ends within its channel's timeout. A slow receiver doesn't keep others waiting: an attempt that
//! takes longer than a few milliseconds gives its slot to the next task. So all that is in hand is begun within a fraction
//! of a second, and no lease is used up by waiting. On SIGTERM nothing more is claimed, what is in hand is
//! finished within the grace, reported, and the hub is told that this instance leaves. As long as something is in hand the hub
//! hears every 2 s that this process is there, so that what a killed one had in hand goes on soon.
//!
//! Never: a retry decided here, a secret in a log, an unbounded queue.

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

use delivery::{Files, Http, Kit, Texts};
use domain::{Guard, TemplateText};
use protocol::messages::Pool;
use templates::Failures;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::context::Context;
use crate::kafka::Tokens;
use kafka::Producers;
use metrics::Metrics;

/// How much is done at once, and for how long on the way out.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Tasks in hand: more than slots, so that there is work while the hub makes further leases and outcomes durable.
    hand: usize,
    /// Attempts at once that are not slow: few, since what they use then stays in the processor's cache.
    slots: usize,
    /// When an attempt is slow, and gives its slot back.
    slow: Duration,
    /// From SIGTERM to the end; less than the pod's 30 s.
    grace: Duration,
    /// The part of the grace that is kept for the last reports.
    last: Duration,
}

const LIMITS: Limits = Limits {
    hand: 512,
    slots: 64,
    slow: Duration::from_millis(5),
    grace: Duration::from_secs(25),
    last: Duration::from_secs(5),
};

/// What the attempts share.
struct Tools {
    kit: Kit,
    renderer: render::Renderer,
    /// Channels' templates that failed lately.
    failures: Mutex<Failures<Uuid>>,
    metrics: Metrics,
    /// Channels that can send nothing here for want of a file. Their work is left to others, or waits.
    lacking: Mutex<BTreeSet<Uuid>>,
    /// This process, by which the hub tells it from the one before it in the same pod.
    session: Uuid,
    /// Attempts that were claimed and of which the hub has not been told.
    open: AtomicUsize,
    /// Cancelled when the grace is nearly over: attempts that still run end `Unknown`.
    cut: CancellationToken,
}

impl Tools {
    fn note_faults(&self, channel: Uuid, template: &TemplateText, texts: &Texts) {
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

    fn lacking(&self) -> MutexGuard<'_, BTreeSet<Uuid>> {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Channels' templates that failed lately, in words.
    fn faults(&self) -> Vec<(Uuid, String)> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.recent(std::time::Instant::now()).collect()
    }
}

/// Runs until [`Context::stop`], and then until what is in hand is finished and reported.
pub async fn run(context: Context, pool: Pool) -> anyhow::Result<()> {
    let guard = context.config.guard();
    run_with(context, pool, guard, LIMITS).await;
    Ok(())
}

async fn run_with(context: Context, pool: Pool, guard: Guard, limits: Limits) {
    let metrics = context.health.register(Metrics::register);
    let (http, files) = (Arc::new(Http::new(guard)), Files::new(&context.config.files));
    let producers = Producers::new(Tokens::new(Arc::clone(&http)), files.clone());
    let tools = Arc::new(Tools {
        kit: Kit::new(http, files, Box::new(producers)),
        renderer: render::Renderer::default(),
        failures: Mutex::default(),
        metrics,
        lacking: Mutex::default(),
        session: session(),
        open: AtomicUsize::new(0),
        cut: CancellationToken::new(),
    });
    let (outcomes, reporter) = reporter::start(context.clone(), Arc::clone(&tools));
    let channels = tokio::spawn(channels::watch(context.clone(), Arc::clone(&tools)));
    let alive = tokio::spawn(alive::say(context.clone(), pool, Arc::clone(&tools)));
    let attempts = TaskTracker::new();

    claims::run(&context, pool, limits, &tools, &attempts, outcomes).await;

    let end = Instant::now() + limits.grace;
    attempts.close();
    if timeout_at(end - limits.last, attempts.wait()).await.is_err() {
        tracing::warn!(attempts = attempts.len(), "the time to stop is nearly over: attempts end unknown");
        tools.cut.cancel();
        let _ = timeout_at(end, attempts.wait()).await;
    }
    // The senders are gone with the attempts: the reporter ends when all is told.
    reporter.finish(end).await;
    alive.abort();
    let _ = timeout(Duration::from_secs(3), channels).await;
}

/// An id that no other process has.
#[allow(clippy::disallowed_methods, reason = "nothing names a process but chance")]
fn session() -> Uuid {
    Uuid::new_v4()
}

/// The time of day, for stamps and dates in messages.
#[allow(clippy::disallowed_methods, reason = "this loop owns the clock of the attempts")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Waits before the n-th call in a row that fails: 0.1 s doubling to 5 s, or as long as the hub asks (up to 60 s).
fn pause(failures: u32, error: &protocol::Error) -> Duration {
    let step = Duration::from_millis(100 << failures.min(6)).min(Duration::from_secs(5));
    match error {
        protocol::Error::Refused { retry_after: Some(asked), .. } => {
            step.max((*asked).min(Duration::from_mins(1)))
        }
        _ => step,
    }
}

/// An error with its causes, in one line.
fn told(error: &protocol::Error) -> String {
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
