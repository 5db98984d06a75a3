//! What is said of clashes. Never: who it is, of a schedule of another namespace.

use calendar::{Clash, Clashes};
use crds::resource::ResourceRef;
use jiff::Timestamp;

use super::index::Key;
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

/// Why a schedule is not let in.
pub(super) fn refusal<'a>(
    clashes: &Clashes<Key, Need>,
    name_of: impl Fn(&Key) -> Option<&'a str>,
    free: &[Timestamp],
    schedule: &ValidSchedule,
) -> String {
    let (zone, namespace) = (schedule.recurrence.zone(), &schedule.plan.namespace);
    let told = |clash: &Clash<Key, Need>| {
        let mut with: Vec<String> = Vec::new();
        for holder in &clash.with {
            let whose = name_of(&holder.key).map_or(NOT_NAMED.to_owned(), |name| format!("schedule {name}"));
            let text = format!("{whose} has {}", needs(&holder.needs, namespace).join(", "));
            if !with.contains(&text) {
                with.push(text);
            }
        }
        format!("{}: {}", local(clash.occurrence.start, zone), with.join(" and "))
    };
    let first: Vec<String> = clashes.first.iter().map(told).collect();
    let until = local(clashes.checked_until, zone);
    let free: Vec<String> = free.iter().map(|start| local(*start, zone)).collect();
    let free = if free.is_empty() {
        "no time within 14 days is free for all of it".to_owned()
    } else {
        format!("free for all of it, nearest first: {}", free.join(", "))
    };
    let of = if clashes.total == 1 { "occurrence clashes" } else { "occurrences clash" };
    format!("{} {of} before {until}; {}; {free}", clashes.total, first.join("; "))
}

/// What a change of a resource takes from schedules.
pub(super) fn taken(too_many: usize, capacity: u32, not_served: usize) -> Option<String> {
    let mut told = Vec::new();
    if too_many > 0 {
        told.push(format!(
            "capacity {capacity} is less than what is booked: {too_many} schedules that had a slot will clash with older ones"
        ));
    }
    if not_served > 0 {
        told.push(format!(
            "{not_served} schedules of namespaces that sharedWith does not list any more will not have it"
        ));
    }
    (!told.is_empty()).then(|| told.join("; "))
}
