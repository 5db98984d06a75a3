//! Claims tasks from the hub, as many as there are permits, and starts their attempts.
//!
//! A claim waits at the hub until there is work. The permits bound the claimed tasks to what can be begun within a fraction
//! of a second, since a slot goes to the next task when its attempt ends or is slow.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use protocol::messages::{ClaimRequest, Pool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use super::attempt::{AttemptPermits, make_attempt};
use super::metrics::ByResult;
use super::reporter::OutcomeSender;
use super::{DeliveryLimits, Tools, error_chain, retry_pause};
use crate::context::Context;

/// How long a claim waits at the hub.
const WAIT: Duration = Duration::from_secs(20);
/// The same while a channel lacks a file.
const SOON: Duration = Duration::from_secs(2);
/// How long to wait for more permits, so that a busy worker claims many tasks at once and not single ones.
const GATHER: Duration = Duration::from_millis(5);
/// If an empty answer comes sooner, the hub did not wait.
const AT_ONCE: Duration = Duration::from_millis(50);
/// The most that one claim may ask for.
const MOST: usize = 500;

/// Runs until [`Context::stop`].
pub(super) async fn claim_tasks(
    context: &Context,
    pool: Pool,
    limits: DeliveryLimits,
    tools: &Arc<Tools>,
    attempts: &TaskTracker,
    outcomes: OutcomeSender,
) {
    let beat = context.health.watch("claims", crate::health::LONG);
    let claimable = Arc::new(Semaphore::new(limits.max_claimed));
    let slots = Arc::new(Semaphore::new(limits.slots));
    let mut failures = 0;
    loop {
        beat.beat();
        let free = tokio::select! {
            free = free_permits(&claimable, limits.max_claimed) => free,
            () = context.stop.cancelled() => return,
        };
        let Some(mut free) = free else { continue };
        let lacking = tools.channels_lacking_files().clone();
        // Shorter while a file is missing: it may come at any moment.
        let wait = if lacking.is_empty() { WAIT } else { SOON };
        let request = ClaimRequest {
            pool,
            instance: context.config.instance.clone(),
            session: Some(tools.session),
            without: lacking,
            max: i32::try_from(free.num_permits().min(MOST)).unwrap_or(1),
            wait_ms: wait.as_millis() as u64,
        };
        let asked = Instant::now();
        let claimed = tokio::select! {
            claimed = context.hub.claim(&context.config.namespace, &request) => claimed,
            () = context.stop.cancelled() => return,
        };
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(error) => {
                let wait = failed(context, tools, &mut failures, &error);
                tokio::select! {
                    () = tokio::time::sleep(wait) => continue,
                    () = context.stop.cancelled() => return,
                }
            }
        };
        if failures > 0 {
            tracing::info!(failures, "the hub answers again");
        }
        failures = 0;
        context.health.missing("hub", None);
        let result = if claimed.tasks.is_empty() { "empty" } else { "work" };
        tools.metrics.claims.get_or_create(&ByResult { result }).inc();
        if claimed.tasks.is_empty() && asked.elapsed() < AT_ONCE {
            // The hub did not wait: don't ask it in a busy loop.
            tokio::time::sleep(AT_ONCE).await;
        }
        tools.unreported.fetch_add(claimed.tasks.len(), Ordering::Relaxed);
        let channels = Arc::new(claimed.channels);
        for task in claimed.tasks {
            // If the hub hands out more than was asked for, its tasks wait for permits.
            let permit = match free.split(1) {
                Some(permit) => permit,
                None => match Arc::clone(&claimable).acquire_owned().await {
                    Ok(permit) => permit,
                    Err(_) => return,
                },
            };
            let permits =
                AttemptPermits { claimed: permit, slots: Arc::clone(&slots), slow_after: limits.slow_after };
            attempts.spawn(make_attempt(
                Arc::clone(tools),
                Arc::clone(&channels),
                task,
                permits,
                outcomes.clone(),
            ));
        }
    }
}

/// Takes note of a failed claim; returns how long to wait before the next.
fn failed(context: &Context, tools: &Tools, failures: &mut u32, error: &protocol::Error) -> Duration {
    tools.metrics.claims.get_or_create(&ByResult { result: "failed" }).inc();
    context.health.missing("hub", Some(error_chain(error)));
    if *failures == 0 {
        tracing::warn!(error = error_chain(error), "can't claim work, trying again");
    }
    *failures += 1;
    retry_pause(*failures, error)
}

/// Takes all free permits, at least one; under load it first waits 5 ms for a quarter of them. `None` if none is free for
/// 10 s.
async fn free_permits(claimable: &Arc<Semaphore>, all: usize) -> Option<OwnedSemaphorePermit> {
    let quarter = u32::try_from((all / 4).max(1)).unwrap_or(1);
    let first = match timeout(GATHER, Arc::clone(claimable).acquire_many_owned(quarter)).await {
        Ok(permits) => permits.ok()?,
        Err(_) => timeout(Duration::from_secs(10), Arc::clone(claimable).acquire_owned()).await.ok()?.ok()?,
    };
    let mut free = first;
    while let Ok(one) = Arc::clone(claimable).try_acquire_owned() {
        free.merge(one);
    }
    Some(free)
}
