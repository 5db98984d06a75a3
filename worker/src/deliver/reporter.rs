//! Reports the outcomes of attempts to the hub, many in one call, until it has taken each.
//!
//! While the hub can't be reached, outcomes wait in a bounded queue. If it is full, attempts keep their permits, so that no
//! more is claimed. An outcome is given up only long after its lease ended, when the hub has decided without it; that loss is
//! logged and counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use protocol::messages::{AttemptOutcome, Outcomes};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::metrics::ByResult;
use super::{Tools, error_chain, retry_pause};
use crate::context::Context;

/// The most outcomes that wait, besides those of the call under way.
const QUEUE: usize = 4_096;
/// The most outcomes in one call.
const SET: usize = 1_000;
/// How long a call waits for more outcomes to go with the first.
const GATHER: Duration = Duration::from_millis(5);
/// How long after its lease an outcome is still reported: a hub that was away has not handed the task out again.
const LATE: Duration = Duration::from_mins(10);

/// An attempt's outcome, and when the lease of its task ends.
#[derive(Debug, Clone)]
pub(super) struct FinishedAttempt {
    pub(super) outcome: AttemptOutcome,
    pub(super) lease_ends: Instant,
}

/// The end of the queue where attempts put their outcomes.
#[derive(Clone)]
pub(super) struct OutcomeSender(mpsc::Sender<(Instant, FinishedAttempt)>);

impl OutcomeSender {
    /// Waits while the queue is full.
    pub(super) async fn send(&self, done: FinishedAttempt) {
        if let Err(mpsc::error::SendError((_, done))) = self.0.send((Instant::now(), done)).await {
            tracing::error!(delivery = %done.outcome.delivery, attempt = done.outcome.attempt, outcome = done.outcome.outcome.name(), "outcome lost: the worker has stopped reporting");
        }
    }
}

/// The reporter's task.
pub(super) struct Reporter {
    task: JoinHandle<()>,
}

impl Reporter {
    /// Waits until everything is reported, at most until `end`.
    pub(super) async fn finish(self, end: Instant) {
        let abort = self.task.abort_handle();
        if timeout_at(end, self.task).await.is_err() {
            abort.abort();
            tracing::error!(
                "outcomes could not be reported before the end: their leases will end them unknown"
            );
        }
    }
}

/// Starts the reporter. It ends once all senders are dropped and everything is reported.
pub(super) fn start(context: Context, tools: Arc<Tools>) -> (OutcomeSender, Reporter) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let task = tokio::spawn(report_outcomes(context, tools, receiver));
    (OutcomeSender(sender), Reporter { task })
}

async fn report_outcomes(
    context: Context,
    tools: Arc<Tools>,
    mut waiting: mpsc::Receiver<(Instant, FinishedAttempt)>,
) {
    let mut set = Vec::new();
    while waiting.recv_many(&mut set, SET).await > 0 {
        let first = Instant::now();
        while set.len() < SET {
            let room = SET - set.len();
            match timeout_at(first + GATHER, waiting.recv_many(&mut set, room)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        let oldest = set.iter().map(|(at, _)| at.elapsed()).max().unwrap_or_default();
        tools.metrics.oldest_report.set(oldest.as_secs_f64());
        report_until_taken(&context, &tools, set.drain(..).map(|(_, done)| done).collect()).await;
    }
}

/// Reports outcomes again and again until the hub has taken them or it is too late.
async fn report_until_taken(context: &Context, tools: &Tools, set: Vec<FinishedAttempt>) {
    let mut sets = vec![set];
    let mut failures = 0;
    while let Some(mut set) = sets.pop() {
        let (late, timely): (Vec<_>, Vec<_>) =
            set.drain(..).partition(|done| done.lease_ends.elapsed() > LATE);
        note_lost(tools, &late, "its lease ended long ago");
        if timely.is_empty() {
            continue;
        }
        let outcomes = Outcomes { outcomes: timely.iter().map(|done| done.outcome.clone()).collect() };
        let call = context.hub.outcomes(&context.config.namespace, &outcomes);
        let Err(error) = call.await else {
            tools.metrics.reports.get_or_create(&ByResult { result: "taken" }).inc();
            tools.unreported.fetch_sub(timely.len(), Ordering::Relaxed);
            if failures > 0 {
                tracing::info!(failures, "outcomes are reported again");
            }
            failures = 0;
            continue;
        };
        tools.metrics.reports.get_or_create(&ByResult { result: "failed" }).inc();
        if error.is_transient() {
            if failures == 0 {
                tracing::warn!(
                    error = error_chain(&error),
                    outcomes = timely.len(),
                    "can't report outcomes, trying again"
                );
            }
            failures += 1;
            tokio::time::sleep(retry_pause(failures, &error)).await;
            sets.push(timely);
        } else if timely.len() > 1 {
            // Halves the set, so that an outcome that the hub refuses does not keep the others back.
            let (left, right) = timely.split_at(timely.len() / 2);
            sets.extend([right.to_vec(), left.to_vec()]);
        } else {
            note_lost(tools, &timely, &error_chain(&error));
        }
    }
}

fn note_lost(tools: &Tools, lost: &[FinishedAttempt], why: &str) {
    tools.unreported.fetch_sub(lost.len(), Ordering::Relaxed);
    for FinishedAttempt { outcome, .. } in lost {
        tools.metrics.lost.inc();
        tracing::error!(delivery = %outcome.delivery, attempt = outcome.attempt, outcome = outcome.outcome.name(), why, "outcome not reported");
    }
}

/// Makes a short call to the hub; fails after 2 s.
pub(super) async fn call_briefly(
    call: impl Future<Output = Result<(), protocol::Error>>,
) -> Result<(), String> {
    match timeout(Duration::from_secs(2), call).await {
        Ok(answer) => answer.map_err(|error| error_chain(&error)),
        Err(_) => Err("no answer within 2 s".to_owned()),
    }
}
