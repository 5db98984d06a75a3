//! Makes one attempt of a delivery and hands its outcome to the reporter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use delivery::Message;
use domain::Outcome;
use protocol::messages::{AttemptOutcome, ChannelEntry, Task};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use uuid::Uuid;

use super::metrics::{Attempted, ByChannel};
use super::reporter::{FinishedAttempt, OutcomeSender};
use super::{Tools, now};

/// How much longer than its timeout an attempt may take before it is ended here. Channels keep their timeout themselves;
/// this is for one that does not.
const MARGIN: Duration = Duration::from_secs(3);

/// The permits of one attempt: its share of the claimed tasks, held until the outcome is handed over, and the slots, of
/// which it takes one.
pub(super) struct AttemptPermits {
    pub(super) claimed: OwnedSemaphorePermit,
    pub(super) slots: Arc<Semaphore>,
    /// After this long the attempt gives its slot back.
    pub(super) slow_after: Duration,
}

/// Makes the attempt of a task, once it has a slot, and hands its outcome to the reporter.
pub(super) async fn make_attempt(
    tools: Arc<Tools>,
    channels: Arc<BTreeMap<Uuid, ChannelEntry>>,
    task: Task,
    permits: AttemptPermits,
    outcomes: OutcomeSender,
) {
    let lease_ends = Instant::now() + task.lease.std();
    // Fair: tasks get slots in the order of the claim. The semaphore is never closed.
    let slot = permits.slots.acquire_owned().await;
    let begun = Instant::now();
    let (delivery, number, channel) = (task.delivery, task.attempt, task.channel);
    let entry = channels.get(&channel);
    let kind = entry.map_or("None", |entry| entry.plan.target.name());
    tools.metrics.in_flight.inc();
    let outcome = if let Some(entry) = entry {
        release_when_slow(slot, permits.slow_after, bounded(&tools, entry, task)).await
    } else {
        let reason = "the hub handed it out without its channel".to_owned();
        Outcome::Later { reason, wait: None, channel_wide: false }
    };
    tools.metrics.in_flight.dec();
    if matches!(outcome, Outcome::NotSent { .. }) {
        tools.channels_lacking_files().insert(channel);
    }
    tools
        .metrics
        .seconds
        .get_or_create(&ByChannel { channel_type: kind })
        .observe(begun.elapsed().as_secs_f64());
    tools.metrics.attempts.get_or_create(&Attempted { channel_type: kind, outcome: outcome.name() }).inc();
    if outcome == Outcome::Delivered {
        tracing::debug!(%delivery, attempt = number, "delivered");
    } else {
        let name = entry.map_or("", |entry| entry.name.as_str());
        tracing::info!(%delivery, attempt = number, channel = name, outcome = outcome.name(), reason = outcome.reason(), "not delivered");
    }
    let outcome = AttemptOutcome { delivery, attempt: number, outcome };
    // The permit is kept until the reporter's queue has room: that slows claiming down, and nothing piles up.
    outcomes.send(FinishedAttempt { outcome, lease_ends }).await;
    drop(permits.claimed);
}

/// Runs an attempt. Releases its slot at its end, or after `slow_after` if it takes longer.
async fn release_when_slow<S>(slot: S, slow_after: Duration, work: impl Future<Output = Outcome>) -> Outcome {
    tokio::pin!(work);
    tokio::select! {
        outcome = &mut work => return outcome,
        () = tokio::time::sleep(slow_after) => drop(slot),
    }
    work.await
}

/// Makes the attempt; ends it as unknown if it outlasts its timeout or the worker must stop.
async fn bounded(tools: &Tools, entry: &ChannelEntry, task: Task) -> Outcome {
    let timeout = entry.plan.delivery.timeout.std();
    let unknown = |why: &str| Outcome::Unknown { reason: why.to_owned() };
    tokio::select! {
        outcome = deliver(tools, entry, task) => outcome,
        () = tokio::time::sleep(timeout + MARGIN) => unknown("the attempt did not end in time"),
        () = tools.give_up.cancelled() => unknown("the worker had to stop before an answer"),
    }
}

async fn deliver(tools: &Tools, entry: &ChannelEntry, task: Task) -> Outcome {
    let (texts, notification) =
        tools.renderer.texts(task.channel, entry, task.notification, &task.recipient).await;
    tools.note_faults(task.channel, &entry.plan.template, &texts);
    let message = Message {
        delivery: task.delivery,
        channel: task.channel,
        attempt: task.attempt,
        recipient: task.recipient,
        title: texts.title,
        body: texts.body,
        payload: texts.payload,
        notification,
        now: now(),
        timeout: entry.plan.delivery.timeout.std(),
    };
    tools.kit.channel(&entry.plan).deliver(&message).await
}
