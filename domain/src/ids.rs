//! Makes ids. Each id is a UUID v5 (RFC 9562) of what it names, so every process makes the same id for the same thing.
//!
//! The length of each part precedes it, so no two lists of parts give the same id. A separator could occur in a part.
//!
//! Clause D1 of docs/semantics.md.

use calendar::ReminderTime;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{AlertKind, Digest};

/// The UUID namespace of all ids of Belfry.
const BELFRY: Uuid = Uuid::from_u128(0x7c2f_6f0e_31cf_5a3e_9b1d_0be1_f4a7_5e01);

fn id(parts: &[&[u8]]) -> Uuid {
    let mut name = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        name.extend_from_slice(&(part.len() as u64).to_be_bytes());
        name.extend_from_slice(part);
    }
    Uuid::new_v5(&BELFRY, &name)
}

/// The id of an episode: (rule, [`crate::RulePlan::counting_hash`], group, start of the bucket in which it began).
pub fn episode(rule: Uuid, counting_hash: &Digest, group: &str, first_bucket_ms: i64) -> Uuid {
    id(&[
        b"episode",
        rule.as_bytes(),
        counting_hash.as_str().as_bytes(),
        group.as_bytes(),
        &first_bucket_ms.to_be_bytes(),
    ])
}

/// The id of an episode's notification: firing, n-th repeat, or resolved.
pub fn alert_notification(episode: Uuid, kind: AlertKind) -> Uuid {
    let n = if let AlertKind::Repeat { n } = kind { n } else { 0 };
    id(&[b"alert", episode.as_bytes(), kind.name().as_bytes(), &n.to_be_bytes()])
}

/// The id of the notification of one record that a rule with condition `Any` matched.
pub fn record_notification(rule: Uuid, topic_id: &str, partition: i32, offset: i64) -> Uuid {
    id(&[b"record", rule.as_bytes(), topic_id.as_bytes(), &partition.to_be_bytes(), &offset.to_be_bytes()])
}

/// The id of the notification of one reminder of one occurrence.
pub fn reminder_notification(schedule: Uuid, occurrence: Timestamp, time: ReminderTime) -> Uuid {
    let occurrence = occurrence.as_millisecond().to_be_bytes();
    let parts: [&[u8]; 3] = [b"reminder", schedule.as_bytes(), &occurrence];
    match time {
        ReminderTime::Before { before_minutes } => {
            id(&[parts[0], parts[1], parts[2], &before_minutes.to_be_bytes()])
        }
        ReminderTime::At { at, days_before } => {
            let time = [at.hour().to_be_bytes(), at.minute().to_be_bytes()].concat();
            id(&[parts[0], parts[1], parts[2], &time, &days_before.to_be_bytes()])
        }
    }
}

/// The id of the test notification that one value of the annotation `belfry.dev/send-test` requests.
pub fn test_notification(channel: Uuid, request: &str) -> Uuid {
    id(&[b"test", channel.as_bytes(), request.as_bytes()])
}

/// The id of the delivery of a notification to one recipient of one channel.
pub fn delivery(notification: Uuid, channel: Uuid, recipient: &str) -> Uuid {
    id(&[b"delivery", notification.as_bytes(), channel.as_bytes(), recipient.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_would_join_to_the_same_text_give_different_ids() {
        assert_ne!(id(&[b"ab", b"c"]), id(&[b"a", b"bc"]));
    }

    #[test]
    fn the_same_thing_always_has_the_same_id() {
        let rule = Uuid::from_u128(1);
        assert_eq!(record_notification(rule, "t", 0, 7).to_string(), "a17dbef1-601d-5bcc-806b-b0e6bf808605");
    }
}
