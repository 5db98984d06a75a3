//! What became of the notifications of a rule or schedule: the condition `Delivered` and the fields beside it, the same
//! for both kinds.

use crds::common::{LastNotification, Undelivered};
use domain::DeliveryState;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use protocol::messages::DeliverySummary;

use crate::conditions::{Conditions, Is, cut, find, reasons, types};

/// Sets the condition `Delivered`.
pub(super) fn delivered(conditions: &mut Conditions, facts: &super::Facts<'_>, told: &DeliverySummary) {
    if !told.undelivered.is_empty() {
        let expired = told.undelivered.iter().all(|it| it.state == DeliveryState::Expired);
        let reason = if expired { reasons::EXPIRED } else { reasons::DEAD };
        conditions.set(types::DELIVERED, Is::False, reason, &nobody_got(told));
        return;
    }
    let was_true = find(facts.before, types::DELIVERED).is_some_and(|before| before.status == "True");
    let outcome = told.last.as_ref().map(|last| last.outcome.split(':').next().unwrap_or_default());
    let (is, reason, message) = match outcome {
        None => (Is::Unknown, reasons::NOTHING_SENT, "nothing was sent yet"),
        Some("Delivered") => (Is::True, reasons::DELIVERED, "the last message arrived"),
        // A message on its way does not change the condition.
        Some("Pending") if was_true => (Is::True, reasons::DELIVERED, "the last message that ended arrived"),
        Some("Pending") => (Is::Unknown, reasons::PENDING, "the last message is on its way"),
        Some(_) => {
            let message =
                "the last message was not sent, and is not wanted any more: status.lastNotification";
            (Is::Unknown, reasons::SUPPRESSED, message)
        }
    };
    conditions.set(types::DELIVERED, is, reason, message);
}

fn nobody_got(told: &DeliverySummary) -> String {
    let channels: Vec<String> = told
        .undelivered
        .iter()
        .map(|it| {
            let messages = if it.count == 1 { "message" } else { "messages" };
            let (count, channel, since) = (it.count, &it.channel, seconds(it.since));
            format!("{count} {messages} by channel {channel} since {since}: {}", cut(&reason(it), 300))
        })
        .collect();
    let last = told.last.as_ref().map(|last| format!("belfry ask {} tells more; ", last.id));
    format!(
        "nobody got {}; {}belfry.dev/resend on the channel sends what is dead again, and this ends when a later one arrives",
        channels.join("; "),
        last.unwrap_or_default()
    )
}

fn seconds(at: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn reason(undelivered: &protocol::messages::Undelivered) -> String {
    match undelivered.reason.as_str() {
        "" => undelivered.state.name().to_owned(),
        reason => format!("{}: {reason}", undelivered.state.name()),
    }
}

/// As status shows it.
pub(super) fn last(told: &DeliverySummary) -> Option<LastNotification> {
    let last = told.last.as_ref()?;
    Some(LastNotification {
        id: last.id.to_string(),
        time: Time(last.time),
        outcome: cut(&domain::plain_document(&last.outcome), 500),
    })
}

/// As status shows it.
pub(super) fn undelivered(told: &DeliverySummary) -> Vec<Undelivered> {
    let one = |it: &protocol::messages::Undelivered| Undelivered {
        channel: cut(&it.channel, 62),
        count: it.count,
        since: Time(it.since),
        reason: cut(&domain::plain_document(&reason(it)), 500),
    };
    told.undelivered.iter().take(5).map(one).collect()
}
