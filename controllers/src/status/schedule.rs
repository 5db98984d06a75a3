//! The status of a schedule.

use calendar::{Occurrence, Stretch};
use crds::schedule::{self as wire, ScheduleStatus};
use domain::Plan;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use protocol::messages::{ClockCounts, StatusBody};

use super::{Facts, deliveries, history, moment, under_way};
use crate::children::SCHEDULE;
use crate::conditions::{Conditions, Is, Standing, reasons, types};
use crate::conflicts::{NOT_NAMED, ScheduleFinding, Suggested, not_compared, not_permitted};

/// The times of a schedule that its status shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Times {
    /// The zone to show it in.
    pub zone: TimeZone,
    /// The next occurrences.
    pub next: Vec<Occurrence>,
    /// When the next reminder is due.
    pub next_reminder: Option<Timestamp>,
    /// Whether it has reminders at all.
    pub reminds: bool,
}

/// An occurrence at which an older schedule needs the same person or resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// Start of this schedule's occurrence.
    pub start: Timestamp,
    /// The older schedule's name; `None` if it is of another namespace.
    pub schedule: Option<String>,
    /// What both need.
    pub shared: Vec<String>,
}

/// The status of a schedule. `before` is what it shows now, `overdue` a reminder for which no pod was started in time.
pub fn schedule(
    facts: &Facts<'_>,
    before: &ScheduleStatus,
    times: Option<&Times>,
    namespace: &str,
    ScheduleFinding { not_permitted: refused, clashes, suggested: other, compared_until, rejected }: &ScheduleFinding,
    overdue: Option<Timestamp>,
) -> ScheduleStatus {
    let mut conditions = Conditions::new(facts.before, facts.generation, facts.now);
    let known = match facts.hub_status().map(|told| &told.body) {
        Some(StatusBody::Schedule(told)) => Some(told),
        _ => None,
    };
    let conflict = clashes.first().map(|first| conflict(first, times, *rejected));
    let silence = if *rejected { "; no reminder is sent until then (conflictPolicy: Reject)" } else { "" };
    let refused = not_permitted(refused, namespace).map(|why| format!("{why}{silence}"));
    let stalled = |reason: &str, why: String| Standing::Stalled { reason: reason.to_owned(), message: why };
    let standing = match (refused, &conflict) {
        (Some(why), _) if facts.plan.is_ok() => stalled(reasons::REF_NOT_PERMITTED, why),
        (None, Some(why)) if *rejected && facts.plan.is_ok() => stalled(reasons::CONFLICTING, why.clone()),
        _ => facts.trouble().or_else(|| Some(unwoken(overdue?, times, facts.plan.ok()?))).unwrap_or_else(
            || ready(facts, times, conflict.as_deref(), known.map_or(0, |told| told.history_dropped)),
        ),
    };
    conditions.stand(&standing);
    if times.is_some() {
        let none = "no older schedule needs the same at the same time";
        let message = told(conflict.as_deref().unwrap_or(none), *compared_until, other, times);
        match &conflict {
            Some(_) => conditions.set(types::CONFLICTING, Is::True, reasons::CONFLICTING, &message),
            None => conditions.set(types::CONFLICTING, Is::False, reasons::NO_CONFLICT, &message),
        }
    }
    match known {
        Some(told) => deliveries::delivered(&mut conditions, facts, &told.told),
        None => conditions.keep(types::DELIVERED),
    }
    let silent = *rejected || facts.plan.map_or(true, |plan| plan.suspended);
    ScheduleStatus {
        observed_generation: facts.generation,
        conditions: conditions.finish(),
        next_occurrences: times.map(occurrences).unwrap_or_default(),
        next_reminder_time: times
            .filter(|_| !silent)
            .and_then(|times| times.next_reminder.map(|at| local(at, &times.zone))),
        suggestions: times.map(|times| suggested(&other.times, &times.zone)).unwrap_or_default(),
        last_reminder_time: known
            .map_or_else(|| before.last_reminder_time.clone(), |told| moment(told.last_reminder)),
        last_notification: known
            .map_or_else(|| before.last_notification.clone(), |told| deliveries::last(&told.told)),
        undelivered: known
            .map_or_else(|| before.undelivered.clone(), |told| deliveries::undelivered(&told.told)),
        skipped_reminders: known.map_or(before.skipped_reminders, |told| Some(told.skipped)),
        clock_changes: known.map_or_else(|| before.clock_changes.clone(), |told| clock(told.clock)),
        conflicts: clashes
            .iter()
            .take(5)
            .map(|clash| wire::Conflict {
                start: times.map(|times| local(clash.start, &times.zone)).unwrap_or_default(),
                schedule: clash.schedule.clone().unwrap_or_else(|| NOT_NAMED.to_owned()),
                shared: clash.shared.iter().take(5).cloned().collect(),
            })
            .collect(),
    }
}

fn clock(counts: ClockCounts) -> Option<wire::ClockChanges> {
    let ClockCounts { shifted, skipped, doubled } = counts;
    (counts != ClockCounts::default()).then_some(wire::ClockChanges { shifted, skipped, doubled })
}

fn ready(facts: &Facts<'_>, times: Option<&Times>, conflict: Option<&str>, dropped: i64) -> Standing {
    match (times, conflict) {
        (Some(times), None) if times.next.is_empty() => {
            Standing::Ready { reason: reasons::ENDED, message: "there is no further occurrence".to_owned() }
        }
        (Some(times), None) if !times.reminds => Standing::Ready {
            reason: reasons::READY,
            message: "the slot is held; there is nothing to remind of".to_owned(),
        },
        (Some(times), Some(conflict)) if !times.reminds => Standing::Ready {
            reason: reasons::READY,
            message: format!(
                "the slot is not this schedule's alone: {conflict}; there is nothing to remind of (conflictPolicy: Warn)"
            ),
        },
        (_, Some(conflict)) => {
            let message = format!("reminders will be sent, though {conflict} (conflictPolicy: Warn)");
            facts.ready(&history(&message, dropped))
        }
        _ => facts.ready(&history("reminders will be sent", dropped)),
    }
}

/// No pod has reported a due reminder to the hub.
fn unwoken(due: Timestamp, times: Option<&Times>, plan: &Plan) -> Standing {
    let due = times.map_or_else(|| due.to_string(), |times| local(due, &times.zone));
    let (label, uid, namespace) = (SCHEDULE, plan.uid, &plan.namespace);
    let why = format!(
        "no pod has told the hub of the reminder due at {due}; it is sent late, by catchUp, once one does: kubectl -n {namespace} get jobs,pods -l {label}={uid}"
    );
    under_way(reasons::REMINDER_OVERDUE, why)
}

fn conflict(first: &Clash, times: Option<&Times>, rejected: bool) -> String {
    let start = times.map(|times| local(first.start, &times.zone)).unwrap_or_default();
    let consequence = if rejected {
        "; no reminder is sent until one of the two is changed (conflictPolicy: Reject)"
    } else {
        ""
    };
    let whose = match &first.schedule {
        Some(name) => format!("the older schedule {name}"),
        None => "an older schedule of another namespace".to_owned(),
    };
    format!("{whose} needs {} at the same time, first at {start}{consequence}", first.shared.join(", "))
}

/// The message about conflicts, with what was not looked at.
fn told(what: &str, until: Option<Timestamp>, other: &Suggested, times: Option<&Times>) -> String {
    let mut message = what.to_owned();
    if let (Some(until), Some(times)) = (until, times) {
        message = format!("{message}; {}", not_compared(&local(until, &times.zone)));
    }
    if let Some(why) = &other.not_looked_at {
        message = format!("{message}; suggest: {why}");
    }
    message
}

fn suggested(times: &[Stretch], zone: &TimeZone) -> Vec<wire::Occurrence> {
    let one =
        |time: &Stretch| wire::Occurrence { start: local(time.start, zone), end: local(time.end, zone) };
    times.iter().map(one).collect()
}

fn occurrences(times: &Times) -> Vec<wire::Occurrence> {
    times
        .next
        .iter()
        .take(5)
        .map(|at| wire::Occurrence { start: local(at.start, &times.zone), end: local(at.end, &times.zone) })
        .collect()
}

/// RFC 3339 with the zone's offset at that instant.
pub(crate) fn local(at: Timestamp, zone: &TimeZone) -> String {
    at.display_with_offset(zone.to_offset(at)).to_string()
}
