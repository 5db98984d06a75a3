//! `remind`: tells the hub which reminders of one schedule fell due, and exits.
//!
//! It asks the hub up to when reminders are settled, computes those that fell due since, and posts them. The hub gives each
//! reminder its id, so each is recorded once, even if a run comes twice, late, or after a missed one. While the hub can't be
//! reached it tries again until the catch-up window ends. It keeps no state.
//!
//! Clause S2 of docs/semantics.md.

mod text;

use std::time::Duration;

use calendar::{
    CatchUp, CatchUpPolicy, ClockEffect, Recurrence, RecurrenceError, RecurrenceSpec, Reminder, ReminderError,
};
use domain::{Plan, PlanBody, SchedulePlan, Severity};
use jiff::{SignedDuration, Timestamp};
use protocol::Error;
use protocol::messages::{ClockCounts, ReminderDue, ReminderState, Reminders};
use uuid::Uuid;

use crate::context::Context;

/// How long to try while the schedule's own window is not known: the default of `catchUp.window`.
const WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// The shortest and the longest wait between tries.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));
/// The most reminders in one round.
const LIMIT: usize = 10_000;

/// The result of a round.
enum RoundResult {
    /// All due reminders are recorded, or there are none.
    Done,
    /// More are due than one round takes, or the plan changed meanwhile.
    Again,
}

/// Records all due reminders of a schedule, in one or more rounds.
pub async fn run(context: Context, schedule: Uuid) -> anyhow::Result<()> {
    let begun = now();
    let mut window = WINDOW;
    let mut backoff = BACKOFF.0;
    loop {
        let error = match record_due_reminders(&context, schedule, &mut window).await {
            Ok(RoundResult::Done) => return Ok(()),
            Ok(RoundResult::Again) => continue,
            Err(RoundError::Hub(error)) if error.is_transient() => error,
            Err(RoundError::Hub(error)) => return Err(error.into()),
            Err(RoundError::Plan(why)) => anyhow::bail!(why),
        };
        if now().duration_since(begun) > window {
            return Err(anyhow::Error::from(error)
                .context("the hub did not answer until the catch-up window ended; the next run reminds of what is left"));
        }
        context.health.missing("hub", Some(error.to_string()));
        tracing::warn!(%error, ?backoff, "the hub did not answer; trying again");
        let told = match &error {
            Error::Refused { retry_after, .. } => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        tokio::select! {
            () = tokio::time::sleep(backoff.max(told).min(Duration::from_mins(1))) => {}
            () = context.stop.cancelled() => anyhow::bail!("stopped before the hub answered"),
        }
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

enum RoundError {
    Hub(Error),
    Plan(String),
}

async fn record_due_reminders(
    context: &Context,
    schedule: Uuid,
    window: &mut SignedDuration,
) -> Result<RoundResult, RoundError> {
    let namespace = &context.config.namespace;
    let state = match context.hub.schedule(namespace, schedule).await {
        Ok(state) => state,
        Err(error) if error.status().is_some_and(|status| status.as_u16() == 404) => {
            tracing::info!(%schedule, "the hub knows of no such schedule; nothing to remind of");
            return Ok(RoundResult::Done);
        }
        Err(error) => return Err(RoundError::Hub(error)),
    };
    if state.plan.suspended {
        tracing::info!(schedule = state.plan.name, "suspended; nothing to remind of");
        return Ok(RoundResult::Done);
    }
    let (reminders, whole) = find_due_reminders(&state, now(), window).map_err(RoundError::Plan)?;
    let (sent, skipped) = (reminders.reminders.len(), reminders.skipped);
    match context.hub.reminders(namespace, schedule, &reminders).await {
        Ok(()) => {
            tracing::info!(schedule = state.plan.name, sent, skipped, through = %reminders.through, "recorded");
            Ok(if whole { RoundResult::Done } else { RoundResult::Again })
        }
        Err(error) if error.status().is_some_and(|status| status.as_u16() == 409) => {
            tracing::info!(schedule = state.plan.name, "the schedule changed meanwhile; asking again");
            // Waits, so that this is no busy loop if hub and worker disagree for good.
            tokio::time::sleep(BACKOFF.0).await;
            Ok(RoundResult::Again)
        }
        Err(error) => Err(RoundError::Hub(error)),
    }
}

/// The reminders that fell due after the settled instant and up to `now`, and whether these are all. Sets `window` to the
/// schedule's catch-up window.
fn find_due_reminders(
    state: &ReminderState,
    now: Timestamp,
    window: &mut SignedDuration,
) -> Result<(Reminders, bool), String> {
    let (plan, schedule) = schedule_plan(&state.plan)?;
    let recurrence = Recurrence::new(&schedule.recurrence).map_err(|error| error.to_string())?;
    let reminders: Vec<Reminder> = schedule
        .reminders
        .iter()
        .map(|reminder| Ok(Reminder::from_time(reminder.time)?.delayed(schedule.delay_minutes)))
        .collect::<Result<_, ReminderError>>()
        .map_err(|error| error.to_string())?;
    let catch_up = CatchUp {
        policy: match schedule.catch_up.policy {
            domain::CatchUpPolicy::All => CatchUpPolicy::All,
            domain::CatchUpPolicy::Latest => CatchUpPolicy::Latest,
            domain::CatchUpPolicy::None => CatchUpPolicy::None,
        },
        window: SignedDuration::from_millis(schedule.catch_up.window.0),
    };
    *window = catch_up.window.max(calendar::NONE_TOLERANCE);
    let mut due = calendar::due(&recurrence, &reminders, state.through, now, LIMIT);
    let mut through = now;
    let whole = due.len() < LIMIT;
    if let (false, Some(last)) = (whole, due.last().map(|last| last.due)) {
        // More reminders may be due at the last instant: all of that instant belong to the next round.
        due.retain(|reminder| reminder.due < last);
        through = last - SignedDuration::from_secs(1);
    }
    let parted = calendar::plan_catch_up(due, now, catch_up);
    let texts = text::ReminderTexts::new(plan, schedule, now);
    let reminders = parted
        .to_send
        .iter()
        .map(|reminder| ReminderDue {
            occurrence: reminder.occurrence.start,
            end: reminder.occurrence.end,
            time: reminder.reminder.time(),
            due: reminder.due,
            title: texts.title(&reminder.occurrence),
            summary: texts.summary(&reminder.occurrence, reminder.due),
            severity: Severity::Info,
        })
        .collect();
    let skipped = parted.skipped.len() as i64;
    let clock = count_clock_changes(&schedule.recurrence, state.through, through)
        .map_err(|error| error.to_string())?;
    Ok((Reminders { revision: plan.revision(), through, reminders, skipped, clock }, whole))
}

/// Counts the occurrences that clock changes between `from` and `through` shifted, skipped or doubled.
fn count_clock_changes(
    recurrence: &RecurrenceSpec,
    from: Timestamp,
    through: Timestamp,
) -> Result<ClockCounts, RecurrenceError> {
    let mut counts = ClockCounts::default();
    for change in calendar::clock_changes(recurrence, from, through)? {
        match change.effect {
            ClockEffect::Shifted => counts.shifted += 1,
            ClockEffect::Skipped => counts.skipped += 1,
            ClockEffect::Doubled => counts.doubled += 1,
        }
    }
    Ok(counts)
}

fn schedule_plan(plan: &Plan) -> Result<(&Plan, &SchedulePlan), String> {
    match &plan.body {
        PlanBody::Schedule(schedule) => Ok((plan, schedule)),
        _ => Err(format!("the hub's plan of {} is of a {}", plan.uid, plan.kind().name())),
    }
}

/// The wall clock; only this module's loop reads it.
#[allow(clippy::disallowed_methods)]
fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests;
