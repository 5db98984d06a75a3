//! The controller of `Schedule`s: it sends plans to the hub, makes CronJobs that start a `remind` pod when a reminder
//! falls due, and makes a Job for a reminder for which no CronJob's pod was started in time.
//!
//! Clause S4 of docs/semantics.md.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use calendar::CronLine;
use crds::Schedule;
use domain::{CatchUpPolicy, Plan, PlanBody};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use protocol::messages::StatusBody;
use uuid::Uuid;

use crate::calls::Calls;
use crate::children::{self, Child, ChildKind, Owner};
use crate::cluster::{Cluster, Error, Owners};
use crate::conflicts::{Found, ScheduleFinding};
use crate::context::Context;
use crate::hub::View;
use crate::queue::Reconciler;
use crate::status::{self, Facts, Times};
use crate::steps::{self, Item};
use crate::validate::ValidSchedule;

const KIND: &str = "Schedule";
const COMPONENTS: [&str; 1] = ["remind"];
/// How long a CronJob's pod may take to report to the hub what fell due, before a Job is made.
const LATE: SignedDuration = SignedDuration::from_mins(1);
/// After what time a reminder counts as overdue, since neither a CronJob's pod nor a Job's has reported it.
const OVERDUE: SignedDuration = SignedDuration::from_mins(3);

/// The controller.
pub struct Schedules {
    context: Arc<Context>,
    cluster: Cluster,
    calls: Calls,
    timed: Arc<TimesOf>,
    /// By schedule: the last reminder for which a Job was made.
    started: Mutex<HashMap<Uuid, Timestamp>>,
}

/// By the schedule's uid, with the generation that the times belong to.
type TimesOf = Mutex<HashMap<Uuid, (i64, Arc<Timed>)>>;
type ScheduleItem = Item<Schedule, ValidSchedule>;

/// The times of a schedule, until they change by themselves.
struct Timed {
    times: Times,
    lines: Vec<CronLine>,
    until: Timestamp,
}

/// A schedule with its times, its plan and its conflicts.
struct Known {
    event: ScheduleItem,
    timed: Option<Arc<Timed>>,
    /// The plan that the hub gets. It is also suspended while an older schedule has the slot.
    plan: Option<Plan>,
    found: ScheduleFinding,
}

impl Reconciler for Schedules {
    const NAME: &'static str = "schedule";

    async fn reconcile(&self, namespace: String) -> Result<Option<Duration>, Error> {
        let now = (self.context.now)();
        let names = self.context.channel_names(&namespace);
        let (known, until) = self.weigh(&namespace, now).await;
        let children = self.build(&namespace, &known);
        let (mut errors, again) = self.apply(&namespace, &known, &children).await;
        let (late, look) = self.late(&known, now);
        errors.extend(self.start(&late, &self.context.owners(&namespace)).await);
        errors.extend(self.report(&known, &names, &errors, now).await);
        let until = until.into_iter().chain(look).min().map(|until| wait(now, until));
        steps::end(errors, until.into_iter().chain(again).min())
    }
}

/// How long to wait until `until` is past, with a second to spare.
fn wait(now: Timestamp, until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or_default() + Duration::from_secs(1)
}

impl Schedules {
    /// `cluster` has this controller's field manager.
    pub fn new(context: Arc<Context>, cluster: Cluster) -> Self {
        Self { context, cluster, calls: Calls::default(), timed: Arc::default(), started: Mutex::default() }
    }

    /// Finds times and conflicts, and when these change by themselves, on a blocking thread.
    async fn weigh(&self, namespace: &str, now: Timestamp) -> (Vec<Known>, Option<Timestamp>) {
        let (context, timed) = (Arc::clone(&self.context), Arc::clone(&self.timed));
        let namespace = namespace.to_owned();
        match tokio::task::spawn_blocking(move || weigh(&context, &timed, &namespace, now)).await {
            Ok(weighed) => weighed,
            // A panic fails this run. The task is cancelled only when the process ends.
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn build(&self, namespace: &str, known: &[Known]) -> Vec<Child> {
        let mut owners: Vec<Owner> = Vec::new();
        let mut children = Vec::new();
        for known in known {
            let (Some(owner), Some(plan), Some(timed)) = (known.event.owner(KIND), &known.plan, &known.timed)
            else {
                continue;
            };
            if !timed.lines.is_empty() {
                owners.push(owner);
                children.extend(children::reminders(&self.context.settings, plan, &timed.lines));
            }
        }
        if !owners.is_empty() {
            children.insert(0, children::service_account(namespace, &owners));
        }
        children
    }

    async fn apply(
        &self,
        namespace: &str,
        known: &[Known],
        children: &[Child],
    ) -> (Vec<Error>, Option<Duration>) {
        let mut errors = steps::apply(&self.context, &self.cluster, namespace, &COMPONENTS, children).await;
        let plans: Vec<Plan> = known.iter().filter_map(|known| known.plan.clone()).collect();
        let (failed, again) = self.calls.send(&self.context, namespace, plans).await;
        errors.extend(failed);
        (errors, again)
    }

    /// The first reminder that fell due and was not reported to the hub, and since when a pod could have reported it.
    fn waiting(&self, known: &Known, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let (Some(plan), Ok(valid), Some(_)) = (&known.plan, &known.event.valid, known.event.owner(KIND))
        else {
            return None;
        };
        let answering = self.context.hub.answering_since()?.elapsed();
        let answering = now - SignedDuration::try_from(answering).unwrap_or_default();
        let due = untold(&self.context.hub.view(plan), valid, plan, now).filter(|_| !plan.suspended)?;
        Some((due, due.max(answering)))
    }

    /// Reminders for which to make a Job, and after what time to look again.
    ///
    /// If the CronJob existed when the reminder fell due, it gets a minute. If it was made later, nothing else would
    /// start a pod, so the Job is made at once.
    fn late<'a>(
        &self,
        known: &'a [Known],
        now: Timestamp,
    ) -> (Vec<(&'a Plan, Timestamp)>, Option<Timestamp>) {
        let (mut late, mut look) = (Vec::new(), None);
        let started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        for known in known {
            let (Some(plan), Some((due, since))) = (&known.plan, self.waiting(known, now)) else { continue };
            let seen =
                self.context.seen(ChildKind::CronJob, &plan.namespace, &children::cron_job_name(plan, 0));
            let made = seen.and_then(|seen| Some(seen.creation_timestamp?.0));
            let is_late = made.is_none_or(|made| made > due) || since + LATE <= now;
            if is_late && started.get(&plan.uid) != Some(&due) {
                late.push((plan, due));
            }
            let next = [since + LATE, since + OVERDUE].into_iter().find(|at| *at > now);
            look = look.into_iter().chain(next).min();
        }
        (late, look)
    }

    async fn start(&self, late: &[(&Plan, Timestamp)], owners: &Owners) -> Vec<Error> {
        let mut errors = Vec::new();
        for (plan, due) in late {
            let job = children::late_reminder(&self.context.settings, plan, *due);
            match self.cluster.start(&job, owners).await {
                Ok(()) => {
                    let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
                    started.insert(plan.uid, *due);
                }
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    async fn report(
        &self,
        known: &[Known],
        channels: &BTreeSet<String>,
        errors: &[Error],
        now: Timestamp,
    ) -> Vec<Error> {
        let mut failed = Vec::new();
        for known in known {
            let event = &known.event;
            let status = event.object.0.as_ref().ok().and_then(|object| object.status.as_ref());
            let (shown, before) = steps::shown(&self.cluster, event.meta(), status);
            // This includes errors of CronJobs.
            let job = format!("Job belfry-remind-{}-", event.uid().get(..8).unwrap_or_default());
            let facts = Facts {
                generation: event.generation(),
                before: &before.conditions,
                plan: event.valid.as_ref().map(|valid| known.plan.as_ref().unwrap_or(&valid.plan)),
                hub: Some(match &known.plan {
                    Some(plan) => self.context.hub.view(plan),
                    None => self.context.hub.view_without_plan(event.uid()),
                }),
                apply_error: steps::trouble(errors, |name| {
                    name.starts_with("ServiceAccount") || name.contains(&job)
                }),
                workers: Vec::new(),
                wants_running: false,
                missing_channels: missing(known.plan.as_ref(), channels),
                stuck_channels: known
                    .plan
                    .as_ref()
                    .map(|plan| self.context.stuck(&plan.namespace, named(plan)))
                    .unwrap_or_default(),
                hub_url: &self.context.settings.hub_url,
                now,
            };
            let times = known.timed.as_ref().map(|timed| &timed.times);
            let namespace = event.meta().namespace.as_deref().unwrap_or_default();
            let overdue = self.waiting(known, now).filter(|(_, since)| *since + OVERDUE <= now);
            let overdue = overdue.map(|(due, _)| due);
            let status = status::schedule(&facts, &before, times, namespace, &known.found, overdue);
            let conditions = (before.conditions.as_slice(), status.conditions.as_slice());
            let written =
                steps::report::<Schedule>(&self.cluster, event.meta(), shown, conditions, &status, now);
            failed.extend(written.await.err());
        }
        failed
    }

    /// Forgets objects that are gone.
    pub fn forget(&self, is_alive: &impl Fn(&str) -> bool) {
        self.cluster.forget(is_alive);
        let mut timed = self.timed.lock().unwrap_or_else(PoisonError::into_inner);
        timed.retain(|uid, _| is_alive(&uid.to_string()));
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        started.retain(|uid, _| is_alive(&uid.to_string()));
    }
}

fn weigh(
    context: &Context,
    timed: &TimesOf,
    namespace: &str,
    now: Timestamp,
) -> (Vec<Known>, Option<Timestamp>) {
    let objects = context.schedules.in_namespace(namespace);
    let events: Vec<ScheduleItem> =
        objects.into_iter().map(|object| Item { valid: context.conflicts.valid(&object), object }).collect();
    let Found { mut findings, until } = context.conflicts.find(namespace, now);
    let known: Vec<Known> = events
        .into_iter()
        .map(|event| {
            let Ok(valid) = &event.valid else {
                return Known { event, timed: None, plan: None, found: ScheduleFinding::default() };
            };
            let found = findings.remove(&valid.plan.uid).unwrap_or_default();
            let mut plan = valid.plan.clone();
            plan.suspended |= found.rejected;
            let timed = Some(kept(timed, valid, now));
            Known { timed, plan: Some(plan), found, event }
        })
        .collect();
    let next = known.iter().filter_map(|known| Some(known.timed.as_ref()?.until)).min();
    (known, next.map(|next| next.min(until)))
}

/// The kept times of a schedule; they are computed again once they have changed.
fn kept(held: &TimesOf, valid: &ValidSchedule, now: Timestamp) -> Arc<Timed> {
    let known = |held: &HashMap<Uuid, (i64, Arc<Timed>)>| {
        let (generation, timed) = held.get(&valid.plan.uid)?;
        (*generation == valid.plan.generation && now < timed.until).then(|| Arc::clone(timed))
    };
    if let Some(timed) = known(&held.lock().unwrap_or_else(PoisonError::into_inner)) {
        return timed;
    }
    // Computed without the lock, so that others don't wait.
    let timed = Arc::new(timed(valid, now));
    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
    held.insert(valid.plan.uid, (valid.plan.generation, Arc::clone(&timed)));
    timed
}

/// The times of a schedule, until the next of them passes or the month ends, for which its cron lines are made.
fn timed(valid: &ValidSchedule, now: Timestamp) -> Timed {
    let next: Vec<_> = valid.recurrence.occurrences(now).take(5).collect();
    let next_reminder = calendar::next_reminder(&valid.recurrence, &valid.reminders, now).map(|due| due.due);
    // To remove a CronJob is to remove its running pod, so it stays as long as that pod may have something to send.
    let lately = now.checked_sub(patience(&valid.plan)).unwrap_or(Timestamp::MIN);
    let kept_until = calendar::next_reminder(&valid.recurrence, &valid.reminders, lately)
        .and_then(|due| due.due.checked_add(patience(&valid.plan)).ok());
    let month = now.to_zoned(TimeZone::UTC).date().last_of_month().tomorrow().ok();
    let month_end = month.and_then(|first| Some(first.to_zoned(TimeZone::UTC).ok()?.timestamp()));
    let until = next
        .first()
        .map(|first| first.start)
        .into_iter()
        .chain(next_reminder)
        .chain(kept_until)
        .chain(month_end)
        .min()
        .unwrap_or(Timestamp::MAX);
    Timed {
        lines: cron_lines(valid, now),
        times: Times {
            zone: valid.recurrence.zone().clone(),
            next,
            next_reminder,
            reminds: !valid.reminders.is_empty(),
        },
        until,
    }
}

/// The first reminder that fell due, may still be sent, and was not reported to the hub, although the hub has the plan.
fn untold(view: &View, valid: &ValidSchedule, plan: &Plan, now: Timestamp) -> Option<Timestamp> {
    let Some(StatusBody::Schedule(told)) = view.status.as_ref().map(|status| &status.body) else {
        return None;
    };
    if !view.holds {
        return None;
    }
    let lately = now.checked_sub(patience(plan)).unwrap_or(Timestamp::MIN);
    let from = told.through.unwrap_or(Timestamp::MIN).max(plan.created).max(lately);
    let next = calendar::next_reminder(&valid.recurrence, &valid.reminders, from)?;
    (next.due <= now).then_some(next.due)
}

/// The lines of a schedule's CronJobs, in UTC.
pub fn cron_lines(valid: &ValidSchedule, now: Timestamp) -> Vec<calendar::CronLine> {
    let lately = now.checked_sub(patience(&valid.plan)).unwrap_or(Timestamp::MIN);
    calendar::cron_lines(&valid.recurrence, &valid.reminders, lately)
}

/// How long after its time a reminder may still be sent, with a minute for the pod to end.
fn patience(plan: &Plan) -> SignedDuration {
    let window = match &plan.body {
        PlanBody::Schedule(schedule) if schedule.catch_up.policy != CatchUpPolicy::None => {
            schedule.catch_up.window.0
        }
        _ => 0,
    };
    SignedDuration::from_millis(window.max(60_000) + 60_000)
}

/// The channels that its reminders name.
fn named(plan: &Plan) -> BTreeSet<&String> {
    let PlanBody::Schedule(schedule) = &plan.body else { return BTreeSet::new() };
    schedule.reminders.iter().flat_map(|reminder| &reminder.notify).collect()
}

fn missing(plan: Option<&Plan>, channels: &BTreeSet<String>) -> Vec<String> {
    let Some(plan) = plan else { return Vec::new() };
    named(plan).into_iter().filter(|name| !channels.contains(*name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn timed_at(now: &str) -> Timed {
        let object: Schedule = serde_json::from_value(json!({
            "apiVersion": "belfry.dev/v1alpha1", "kind": "Schedule",
            "metadata": {
                "name": "once", "namespace": "payments", "uid": Uuid::from_u128(5).to_string(), "generation": 1,
                "creationTimestamp": "2026-11-01T00:00:00Z",
            },
            "spec": {
                "title": "Once", "timeZone": "Etc/UTC", "start": "2026-11-21T10:10:00", "duration": "15m",
                "catchUp": {"policy": "All", "window": "5m"},
                "reminders": [{"before": "10m", "notify": [{"channelRef": {"name": "slack"}}]}],
            },
        }))
        .unwrap();
        timed(&crate::validate::schedule(&object).unwrap(), now.parse().unwrap())
    }

    #[test]
    fn a_cron_job_stays_until_its_last_reminder_can_no_longer_be_caught_up() {
        let due = timed_at("2026-11-21T10:00:01Z");
        assert!(due.times.next_reminder.is_none());
        assert_eq!((due.lines.len(), due.until), (1, "2026-11-21T10:06:00Z".parse().unwrap()));
        assert_eq!(timed_at("2026-11-21T10:06:00Z").lines.len(), 0);
    }
}
