//! Builds the events for a change of an object's status, one for each change. It writes nothing.
//!
//! Never here: a write.

use domain::Digest;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, ObjectMeta, Time};
use serde_json::Value;

use super::Reported;
use crate::conditions::{cut, find, reasons, types};

/// The events of a change: a new status or reason of Ready (unless work is under way), and flips of the kind's own
/// conditions.
pub(super) fn for_report(object: &Reported<'_>, instance: &str, now: Timestamp) -> Vec<Event> {
    let told = |type_: &str| {
        let after = find(object.after, type_)?;
        let before = find(object.before, type_);
        let same = before.is_some_and(|before| {
            before.status == after.status
                && before.reason == after.reason
                && (type_ != types::READY || after.status == "True" || before.message == after.message)
        });
        (!same).then_some(after)
    };
    let was_undelivered =
        find(object.before, types::DELIVERED).is_some_and(|before| before.status == "False");
    let quiet = |condition: &Condition| {
        [reasons::PROGRESSING, reasons::WORKER_BEHIND, reasons::WORKER_UNAVAILABLE, reasons::NOTHING_SENT]
            .contains(&condition.reason.as_str())
            // The condition of this name has its own event.
            || (condition.type_ == types::READY && condition.reason == reasons::UNMATCHED)
            || (condition.type_ == types::DELIVERED && !was_undelivered && condition.status != "False")
    };
    let good_at_first = |condition: &Condition| {
        condition.type_ != types::READY
            && find(object.before, &condition.type_).is_none()
            && [reasons::NO_CONFLICT, reasons::QUIET, reasons::DELIVERING, reasons::COUNTED]
                .contains(&condition.reason.as_str())
    };
    [types::READY, types::HEALTHY, types::FIRING, types::CONFLICTING, types::DELIVERED, types::UNMATCHED]
        .into_iter()
        .filter_map(told)
        .filter(|condition| !quiet(condition) && !good_at_first(condition))
        .map(|condition| event(object, condition, instance, now))
        .chain(forgotten(object, now).map(|lost| event(object, &lost, instance, now)))
        .chain(more_undelivered(object, now).map(|more| event(object, &more, instance, now)))
        .chain(irregular(object, now).map(|left| event(object, &left, instance, now)))
        .collect()
}

/// Counts that only grow.
const GROWING: [(&str, &str); 2] = [("/deliveries/delivered", "delivered"), ("/matched", "matched")];

/// A lost ledger, which shows by a count that has shrunk: the hub's database was lost, or an older one was restored.
fn forgotten(object: &Reported<'_>, now: Timestamp) -> Option<Condition> {
    let count = |status: &Value, path| status.pointer(path).and_then(Value::as_i64);
    GROWING.iter().find_map(|(path, what)| {
        let (before, after) = (count(&object.shown, path)?, count(&object.status, path)?);
        (after < before).then(|| Condition {
            type_: types::READY.to_owned(),
            status: "False".to_owned(),
            reason: reasons::LEDGER_LOST.to_owned(),
            message: format!(
                "the hub's database was lost, or is an older one: {before} were {what}, it knows of {after}; what was pending or dead is gone, topics are read again from where it knows, and what is told again has the same ids"
            ),
            last_transition_time: Time(now),
            observed_generation: None,
        })
    })
}

/// An event when the number of undelivered messages has doubled, so that a flood of them is a few events.
fn more_undelivered(object: &Reported<'_>, now: Timestamp) -> Option<Condition> {
    let count = |status: &Value| -> i64 {
        let channels = status.pointer("/undelivered").and_then(Value::as_array);
        channels.into_iter().flatten().filter_map(|it| it["count"].as_i64()).sum()
    };
    let (before, after) = (count(&object.shown), count(&object.status));
    if before < 1 || after.checked_ilog2() <= before.checked_ilog2() {
        return None;
    }
    let condition = find(object.after, types::DELIVERED)?;
    Some(Condition { last_transition_time: Time(now), ..condition.clone() })
}

/// Counts of a schedule whose growth makes an event, with its reason and text.
const IRREGULAR: [(&str, &str, &str); 4] = [
    ("/skippedReminders", reasons::REMINDERS_SKIPPED, "reminders were missed, and left out by catchUp"),
    (
        "/clockChanges/shifted",
        reasons::CLOCKS_CHANGED,
        "occurrences were later than the rule says: their local time did not exist",
    ),
    (
        "/clockChanges/skipped",
        reasons::CLOCKS_CHANGED,
        "occurrences did not happen: their local time did not exist",
    ),
    (
        "/clockChanges/doubled",
        reasons::CLOCKS_CHANGED,
        "occurrences happened twice: their local time existed twice",
    ),
];

/// Events for occurrences and reminders that did not happen as the rule says.
fn irregular(object: &Reported<'_>, now: Timestamp) -> impl Iterator<Item = Condition> {
    let count = |status: &Value, path| status.pointer(path).and_then(Value::as_i64).unwrap_or(0);
    IRREGULAR.iter().filter_map(move |(path, reason, what)| {
        let after = count(&object.status, path);
        let more = after - count(&object.shown, path);
        (more > 0).then(|| Condition {
            type_: types::READY.to_owned(),
            status: "False".to_owned(),
            reason: (*reason).to_owned(),
            message: format!("{more} {what} ({after} ever)"),
            last_transition_time: Time(now),
            observed_generation: None,
        })
    })
}

/// Reasons with which an object is ready although something is wrong.
const LIMPS: [&str; 5] = [
    reasons::TEMPLATE_FAILED,
    reasons::CHANNEL_NOT_READY,
    reasons::GROUPS_FULL,
    reasons::GROUPS_EVICTED,
    reasons::STATE_FULL,
];

fn event(object: &Reported<'_>, condition: &Condition, instance: &str, now: Timestamp) -> Event {
    let good = match condition.type_.as_str() {
        _ if LIMPS.contains(&condition.reason.as_str()) => false,
        types::READY | types::HEALTHY | types::DELIVERED => {
            condition.status == "True" || condition.reason == reasons::SUSPENDED
        }
        _ => condition.status == "False",
    };
    let name = object.meta.name.clone().unwrap_or_default();
    // The same change gets the same name, whichever replica writes it, so the event exists once.
    let identity = Digest::of(&(
        &object.meta.uid,
        &condition.type_,
        &condition.status,
        &condition.reason,
        &condition.message,
        condition.last_transition_time.0.as_second(),
        object.meta.generation,
    ));
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{}", name.get(..200).unwrap_or(&name), &identity.as_str()[..16])),
            namespace: object.meta.namespace.clone(),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some(if good { "Normal" } else { "Warning" }.to_owned()),
        reason: Some(cut(&condition.reason, 120)),
        action: Some("Reconcile".to_owned()),
        note: Some(cut(&condition.message, 300)),
        regarding: Some(ObjectReference {
            api_version: Some("belfry.dev/v1alpha1".to_owned()),
            kind: Some(object.kind.to_owned()),
            name: object.meta.name.clone(),
            namespace: object.meta.namespace.clone(),
            uid: object.meta.uid.clone(),
            resource_version: object.meta.resource_version.clone(),
            ..ObjectReference::default()
        }),
        reporting_controller: Some("belfry.dev/operator".to_owned()),
        reporting_instance: Some(cut(instance, 120)),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_death_is_told_at_once_and_more_of_them_each_time_they_have_doubled() {
        let meta = ObjectMeta::default();
        let condition = |is: &str, reason: &str| Condition {
            type_: types::DELIVERED.to_owned(),
            status: is.to_owned(),
            reason: reason.to_owned(),
            message: "nobody got it".to_owned(),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            observed_generation: None,
        };
        let status = |count: i64| json!({"undelivered": [{"count": count}]});
        let told = |before: (&[Condition], Value), after: (&[Condition], Value)| {
            let (before, shown) = before;
            let (after, status) = after;
            let object = Reported { kind: "AlertRule", meta: &meta, shown, before, after, status };
            let told = for_report(&object, "pod", Timestamp::UNIX_EPOCH);
            told.into_iter().map(|event| (event.type_.unwrap(), event.reason.unwrap())).collect::<Vec<_>>()
        };
        let (unknown, no, yes) = (
            [condition("Unknown", "Pending")],
            [condition("False", "Dead")],
            [condition("True", "Delivered")],
        );
        let dead = [("Warning".to_owned(), "Dead".to_owned())];
        assert_eq!(told((&unknown, json!({})), (&no, status(1))), dead);
        let mut events = 0;
        for count in 1..1_000 {
            events += told((&no, status(count)), (&no, status(count + 1))).len();
        }
        assert_eq!(events, 9, "a thousand deaths");
        assert_eq!(
            told((&no, status(3)), (&yes, json!({}))),
            [("Normal".to_owned(), "Delivered".to_owned())]
        );
        assert!(told((&unknown, json!({})), (&yes, json!({}))).is_empty(), "that it arrives is no event");
        assert!(told((&yes, json!({})), (&unknown, json!({}))).is_empty());
    }

    #[test]
    fn a_count_that_shrinks_is_told_as_a_lost_ledger() {
        let meta = ObjectMeta::default();
        let told = |before: Value, after: Value| {
            let object = Reported {
                kind: "AlertRule",
                meta: &meta,
                shown: before,
                before: &[],
                after: &[],
                status: after,
            };
            let told = for_report(&object, "pod", Timestamp::UNIX_EPOCH);
            told.into_iter().filter_map(|event| Some((event.reason?, event.note?))).collect::<Vec<_>>()
        };
        let delivered = |count: i64| json!({"deliveries": {"delivered": count}});
        assert!(told(delivered(5), delivered(5)).is_empty());
        assert!(told(json!({}), delivered(5)).is_empty(), "it was not known before");
        let lost = told(delivered(5), delivered(0));
        assert_eq!(lost[0].0, "LedgerLost");
        assert!(lost[0].1.contains("5 were delivered, it knows of 0"), "{}", lost[0].1);
        assert_eq!(told(json!({"matched": 7}), json!({"matched": 6})).len(), 1);
    }
}
