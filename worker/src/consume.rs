//! `consume`: reads one Kafka source, matches and counts its records, and commits the counts to the hub.
//!
//! One thread reads and folds ([`reader`]). Tasks beside it poll for the plan, send commits, ask the broker, and report.
//! [`supervisor`] starts reader and tasks with the present credentials, and again when these change.
//! Invariant: only the ledger knows where to read on and what was counted.

mod commits;
mod events;
mod lookups;
mod metrics;
mod offsets;
mod plan;
mod reader;
mod stalls;
mod status;
mod supervisor;
mod survey;

use std::time::Duration;

use anyhow::Context as _;
use protocol::messages::SourcePlan;
use tokio::sync::mpsc::unbounded_channel;

use crate::context::Context;
use events::Ended;
use status::ConsumerStatus;
use supervisor::ReaderSupervisor;

/// How long a poll for the plan may wait.
const PLAN_WAIT: Duration = Duration::from_secs(30);
/// How often an unchanged report is repeated; the hub forgets it after a minute.
const REPORT_EVERY: Duration = Duration::from_secs(20);
/// After this long in one round the reader is reported as stuck. Liveness restarts the pod later, at the same record.
const STUCK: Duration = Duration::from_mins(1);
/// How often the files with the source's credentials are checked for changes.
const CHECK_FILES: Duration = Duration::from_secs(2);

/// Runs until [`Context::stop`].
pub async fn run(context: Context, source: String) -> anyhow::Result<()> {
    let status = ConsumerStatus::default();
    let (plans, mut planned) = unbounded_channel();
    let poller = tokio::spawn(poll_plans(context.clone(), source.clone(), plans));
    let reporter = tokio::spawn(report(context.clone(), source.clone(), status.clone()));
    let mut supervisor = ReaderSupervisor::new(&context, &source, &status);
    let mut check_files = tokio::time::interval(CHECK_FILES);
    loop {
        tokio::select! {
            plan = planned.recv() => supervisor.set_plan(plan.context("the poll for the plan ended")?).await,
            ended = supervisor.reader_ended() => match ended? {
                Ended::Stalled => supervisor.restart_reader().await?,
                Ended::Stopped => return Err(anyhow::anyhow!("the reader ended")),
            },
            _ = check_files.tick(), if supervisor.has_files() => { supervisor.check_credentials().await; }
            () = context.stop.cancelled() => break,
        }
    }
    poller.abort();
    reporter.abort();
    let left = supervisor.shut_down().await;
    let report = status.report(&context.config.instance, &source, true);
    let _ =
        tokio::time::timeout(Duration::from_secs(1), context.hub.report(&context.config.namespace, &report))
            .await;
    left
}

/// Polls the hub for the plan; sends each new one to `plans`, and `None` when no rule reads the source.
async fn poll_plans(
    context: Context,
    source: String,
    plans: tokio::sync::mpsc::UnboundedSender<Option<SourcePlan>>,
) {
    let beat = context.health.watch("plan", 3 * PLAN_WAIT);
    let mut held = String::new();
    let mut backoff = Duration::from_millis(200);
    loop {
        beat.beat();
        let answer = context.hub.source_plan(&context.config.namespace, &source, &held, PLAN_WAIT).await;
        let news = match answer {
            Ok(None) => None,
            Ok(Some(plan)) => {
                plan.revision.as_str().clone_into(&mut held);
                Some(Some(plan))
            }
            Err(error) if error.status().is_some_and(|status| status.as_u16() == 404) => {
                held.clear();
                backoff = Duration::from_secs(1);
                Some(None)
            }
            Err(error) => {
                context.health.missing("hub", Some(error.to_string()));
                tracing::warn!(%error, "no plan from the hub; asking again");
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(Duration::from_secs(5));
                continue;
            }
        };
        context.health.missing("hub", None);
        let gone = matches!(news, Some(None));
        if news.is_some_and(|news| plans.send(news).is_err()) {
            return;
        }
        if gone {
            tokio::time::sleep(backoff).await;
        } else {
            backoff = Duration::from_millis(200);
        }
    }
}

/// Reports on every change, and every 20 s.
async fn report(context: Context, source: String, status: ConsumerStatus) {
    loop {
        status.set_stuck(context.health.silent("reader").is_some_and(|silent| silent > STUCK));
        let report = status.report(&context.config.instance, &source, false);
        let mut again = REPORT_EVERY;
        if let Err(error) = context.hub.report(&context.config.namespace, &report).await {
            tracing::warn!(%error, "the report did not reach the hub");
            again = Duration::from_secs(2);
        }
        let _ = tokio::time::timeout(again, status.changed()).await;
        // Changes come in bursts: one report tells several.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod stall_tests;
#[cfg(test)]
mod tests;
