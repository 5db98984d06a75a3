//! What is said of clashes. Never: who it is, of a schedule of another namespace.

use std::collections::HashMap;

use calendar::{Clash, Clashes, FreeTime, FreeTimes, SearchExtent};
use crds::resource::ResourceRef;
use domain::Millis;
use jiff::{SignedDuration, Timestamp};

use super::index::{COMPARING, Key};
use crate::status::local;
use crate::validate::{Need, ValidSchedule};

/// Whose something is, where the name is not for this namespace.
pub(crate) const NOT_NAMED: &str = "a schedule of another namespace";
/// What is told of a list that may be long.
const SHOWN: usize = 5;

/// That resources may not be booked. The same words whether one is there or not: that is its owner's to tell.
pub(crate) fn not_permitted(references: &[ResourceRef], namespace: &str) -> Option<String> {
    let names: Vec<String> =
        references.iter().map(|reference| format!("{}/{}", reference.namespace, reference.name)).collect();
    (!names.is_empty()).then(|| {
        format!(
            "sharedResources: {} can't be booked from namespace {namespace}: there is no such BookableResource, or its sharedWith does not list {namespace}",
            names.join(", ")
        )
    })
}

/// What of a list of needs is told in a namespace.
pub(super) fn needs(needs: &[Need], namespace: &str) -> Vec<String> {
    needs.iter().take(SHOWN).map(|need| need.seen_from(namespace)).collect()
}

/// That it can't be told now.
pub(super) const BUSY: &str =
    "schedules that share something with it are still being compared with each other: try again";

/// That one has more to compare than is allowed.
pub(super) fn too_much(until: Timestamp, schedule: &ValidSchedule) -> String {
    let until = local(until, schedule.recurrence.zone());
    format!(
        "its occurrences with all that it needs are too many to compare: a comparison ends after {COMPARING} steps, here before {until}; allowed are fewer occurrences (a longer interval, COUNT or UNTIL), or fewer participants and resources"
    )
}

/// That what starts from some instant on was not compared.
pub(crate) fn not_compared(until: &str) -> String {
    format!("what starts from {until} on was not compared: a comparison ends after {COMPARING} steps")
}

/// How far a search for free times did not come. None if it looked at all that was asked for.
pub(super) fn not_looked_at(looked: SearchExtent, steps: u64) -> Option<String> {
    let far = match looked.within {
        _ if !looked.is_short => None,
        None => Some(format!(
            "no start was looked at, for what is held is too much for a search of {steps} steps"
        )),
        Some(within) => Some(format!(
            "only starts up to {} away were looked at: a search ends after 20000 starts or {steps} steps",
            shown(within)
        )),
    };
    let moved = looked.occurrences.map(|count| format!("only its first {count} occurrences were looked at"));
    let all: Vec<String> = far.into_iter().chain(moved).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn shown(length: SignedDuration) -> Millis {
    Millis(length.as_millis().try_into().unwrap_or(i64::MAX))
}

/// Why a schedule is not let in. `names` are those that may be told.
pub(super) fn refusal(
    clashes: &Clashes<Key, Need>,
    names: &HashMap<Key, String>,
    free: &FreeTimes<FreeTime>,
    schedule: &ValidSchedule,
) -> String {
    let (zone, namespace) = (schedule.recurrence.zone(), &schedule.plan.namespace);
    let told = |clash: &Clash<Key, Need>| {
        let mut with: Vec<String> = Vec::new();
        for holder in &clash.with {
            let whose =
                names.get(&holder.key).map_or(NOT_NAMED.to_owned(), |name| format!("schedule {name}"));
            let text = format!("{whose} has {}", needs(&holder.needs, namespace).join(", "));
            if with.contains(&text) {
                continue;
            }
            if with.len() == SHOWN {
                with.push("others".to_owned());
                break;
            }
            with.push(text);
        }
        format!("{}: {}", local(clash.occurrence.start, zone), with.join(" and "))
    };
    let first: Vec<String> = clashes.first.iter().map(told).collect();
    let until = local(clashes.checked_until, zone);
    let of = if clashes.total == 1 { "occurrence clashes" } else { "occurrences clash" };
    format!("{} {of} before {until}; {}; {}", clashes.total, first.join("; "), other_times(free, schedule))
}

fn other_times(free: &FreeTimes<FreeTime>, schedule: &ValidSchedule) -> String {
    let zone = schedule.recurrence.zone();
    let times: Vec<String> = free.times.iter().map(|time| local(time.first.start, zone)).collect();
    let farther = |within| format!("; times more than {} away were not looked at", shown(within));
    match (times.is_empty(), free.looked.within, free.looked.is_short) {
        (_, None, _) => {
            "no free times were looked for, since what is held is too much for a quick search".to_owned()
        }
        (true, Some(within), false) => format!("no time within {} is free for all of it", days(within)),
        (true, Some(within), true) => {
            format!("no time within {} is free for all of it{}", shown(within), farther(within))
        }
        (false, Some(within), is_short) => {
            let farther = if is_short { farther(within) } else { String::new() };
            let order = if schedule.suggest.is_some() { "best" } else { "nearest" };
            format!("free for all of it, {order} first: {}{farther}", times.join(", "))
        }
    }
}

/// `14 days`, or the length as a manifest has it where that is not whole days.
fn days(length: SignedDuration) -> String {
    let hours = length.as_hours();
    if hours > 0 && hours % 24 == 0 && length.as_secs() % 3_600 == 0 {
        format!("{} days", hours / 24)
    } else {
        shown(length).to_string()
    }
}

/// What a change of a resource takes from schedules.
pub(super) fn taken(too_many: usize, all: bool, capacity: u32, not_served: usize) -> Option<String> {
    let mut told = Vec::new();
    let least = if all { "" } else { "at least " };
    if too_many > 0 {
        let schedules = if too_many == 1 { "schedule" } else { "schedules" };
        told.push(format!(
            "capacity {capacity} is less than what is booked: {least}{too_many} {schedules} that had a slot will clash with older ones"
        ));
    }
    if not_served > 0 {
        let schedules = if not_served == 1 { "schedule" } else { "schedules" };
        told.push(format!(
            "{not_served} {schedules} of namespaces that sharedWith does not list any more will not have it"
        ));
    }
    (!told.is_empty()).then(|| told.join("; "))
}
