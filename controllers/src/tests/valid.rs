//! What validation refuses, in words.

use serde_json::{Value, json};

use super::support::{object, rule, schedule};
use crate::validate::{self, Invalid};

fn of_rule(changes: &Value) -> Result<domain::Plan, Invalid> {
    validate::rule(rule("r", 1, changes).0.as_ref().unwrap())
}

fn of_schedule(changes: &Value) -> Invalid {
    validate::schedule(schedule("s", 1, changes).0.as_ref().unwrap()).unwrap_err()
}

#[test]
fn the_defaults_are_those_of_the_documents() {
    let channel =
        object("c", 1, json!({"type": "Webhook", "webhook": {"url": "http://sink.payments.svc:8080/hook"}}));
    let channel: &kube::core::DeserializeGuard<crds::NotificationChannel> = &channel;
    insta::assert_yaml_snapshot!(validate::channel(channel.0.as_ref().unwrap()).unwrap());
    insta::assert_yaml_snapshot!(of_rule(&json!({})).unwrap());
}

#[test]
fn a_rule_that_can_not_work_is_refused_with_place_and_reason() {
    for (changes, reason, place) in [
        (json!({"match": "record.level =="}), "InvalidMatch", "match: line 1"),
        (json!({"groupBy": {"a": "record..b"}}), "InvalidGroupBy", "groupBy.a"),
        (json!({"title": "{{ group.service"}), "InvalidTemplate", "title"),
        (json!({"summary": "{% for %}"}), "InvalidTemplate", "summary"),
        (json!({"repeatInterval": "1m1h"}), "InvalidSpec", "repeatInterval"),
        (json!({"allowedLateness": "2h"}), "InvalidSpec", "allowedLateness"),
        (json!({"condition": {"type": "Frequency"}}), "InvalidSpec", "condition"),
        (json!({"notify": []}), "InvalidSpec", "notify"),
    ] {
        let invalid = of_rule(&changes).unwrap_err();
        assert_eq!(invalid.reason, reason, "{invalid}");
        assert!(invalid.message.contains(place), "{invalid}");
    }
}

#[test]
fn a_schedule_that_can_not_work_is_refused_in_words() {
    for (changes, reason, word) in [
        (json!({"timeZone": "Mars/Olympus"}), "InvalidRecurrence", "Mars/Olympus"),
        (
            json!({"recurrence": {"rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=31"}}),
            "InvalidRecurrence",
            "never happens",
        ),
        (json!({"recurrence": {"rrule": "FREQ=DAILY;UNTIL=20200101T000000Z"}}), "InvalidRecurrence", "UNTIL"),
        (
            json!({"reminders": [{"before": "90s", "notify": [{"channelRef": {"name": "x"}}]}]}),
            "InvalidReminder",
            "reminders[0].before",
        ),
        (
            json!({"reminders": [
                {"before": "60m", "notify": [{"channelRef": {"name": "x"}}]},
                {"before": "1h", "notify": [{"channelRef": {"name": "y"}}]},
            ]}),
            "InvalidReminder",
            "reminders[1].before",
        ),
        (json!({"duration": null}), "InvalidSpec", "duration"),
    ] {
        let invalid = of_schedule(&changes);
        assert_eq!(invalid.reason, reason, "{invalid}");
        assert!(invalid.message.contains(word), "{invalid}");
    }
}
