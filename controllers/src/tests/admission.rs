//! What the webhook answers, asked as the API server asks it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::support::{Bed, rule, schedule, slack};
use crate::admission::{Admission, Answer, Question};
use crate::metrics::Metrics;

pub(super) fn asked(operation: &str, object: &Value, old: &Value) -> Question {
    let kind = object["kind"].clone();
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "a", "name": object["metadata"]["name"].as_str().unwrap_or_default(),
            "namespace": object["metadata"]["namespace"].as_str().unwrap_or("payments"), "operation": operation,
            "kind": {"group": "belfry.dev", "version": "v1alpha1", "kind": kind},
            "resource": {"group": "belfry.dev", "version": "v1alpha1", "resource": "x"},
            "userInfo": {}, "object": object, "oldObject": old, "dryRun": false,
        },
    });
    Question::read(review.to_string().as_bytes()).unwrap()
}

pub(super) fn value<K: serde::Serialize>(object: crate::guarded::Guarded<K>) -> Value {
    serde_json::to_value(object.0.ok().unwrap()).unwrap()
}

pub(super) struct Asking(pub(super) Bed, pub(super) Admission);

impl Asking {
    pub(super) async fn new() -> Self {
        let bed = Bed::new().await;
        let admission = Admission::new(Arc::clone(&bed.context), Metrics::new());
        Self(bed, admission)
    }

    pub(super) fn create(&self, object: &Value) -> Answer {
        self.1.review(&asked("CREATE", object, &Value::Null))
    }
}

#[tokio::test]
async fn what_can_work_is_allowed_and_what_can_not_is_denied_with_reason_and_place() {
    let asking = Asking::new().await;
    for good in [value(slack("s", 1)), value(rule("r", 2, &json!({}))), value(schedule("c", 3, &json!({})))] {
        assert!(asking.create(&good).allowed);
    }
    for (bad, says) in [
        (value(rule("r", 2, &json!({"match": "record.x == ("}))), "InvalidMatch: match: line 1"),
        (value(schedule("c", 3, &json!({"timeZone": "Asia/Soul"}))), "InvalidRecurrence: "),
    ] {
        let answer = asking.create(&bad);
        assert!(!answer.allowed && answer.message.starts_with(says), "{answer:?}");
    }
}

#[tokio::test]
async fn what_would_cost_too_much_is_denied_by_the_name_of_the_bound() {
    let asking = Asking::new().await;
    let each = |pattern: &dyn Fn(usize) -> String, count: usize| {
        (0..count).map(|at| format!("key.matches(r'{}')", pattern(at))).collect::<Vec<_>>().join("||")
    };
    let large = each(&|at| format!("\\w{{9}}{at}"), 150);
    let source = json!({"kafka": {"bootstrapServers": ["k:1"], "topics": ["t"], "format": "Text",
        "text": {"pattern": "(?<a>\\w{1000})"}}});
    let overrides = vec![json!({"recurrenceId": "2026-01-01"}); 9_000];
    let dates = vec!["2026-01-01T00:00:00".to_owned(); 50_000];
    for (bad, says) in [
        (rule("r", 2, &json!({"match": large})), "InvalidMatch: match: line 1, column "),
        (rule("r", 2, &json!({"match": large})), "too large a regular expression: compiled, one takes"),
        (rule("r", 2, &json!({"match": each(&|at| format!("^{at}"), 40)})), "more than 32 different"),
        (rule("r", 2, &json!({"source": source})), "too large a regular expression"),
    ] {
        let answer = asking.create(&value(bad));
        assert!(!answer.allowed && answer.message.contains(says), "{answer:?}");
    }
    for (recurrence, says) in [
        (json!({"overrides": overrides}), "InvalidSpec: spec: 18"),
        (json!({"dates": dates}), "bytes; at most 524288"),
    ] {
        let mut bad = value(schedule("c", 3, &json!({})));
        bad["spec"]["recurrence"] = recurrence;
        let answer = asking.create(&bad);
        assert!(!answer.allowed && answer.message.contains(says), "{answer:?}");
        // As it was, it is not refused, however large.
        assert!(asking.1.review(&asked("UPDATE", &bad, &bad)).allowed);
    }
}

#[tokio::test]
async fn one_without_identity_yet_is_judged_too() {
    let asking = Asking::new().await;
    let mut generated = value(schedule("c", 3, &json!({})));
    generated["metadata"] = json!({"generateName": "c-"});
    assert!(asking.create(&generated).allowed);
    asking.0.context.schedules.insert(schedule("other", 4, &json!({})));
    assert!(!asking.create(&generated).allowed);
}

#[tokio::test]
async fn what_was_stored_is_never_stuck() {
    let asking = Asking::new().await;
    let broken = value(rule("r", 2, &json!({"match": "record.x == ("})));
    let mut labelled = broken.clone();
    labelled["metadata"]["labels"] = json!({"team": "a"});
    assert!(asking.1.review(&asked("UPDATE", &labelled, &broken)).allowed);
    let mut going = value(rule("r", 2, &json!({"match": "also ("})));
    going["metadata"]["deletionTimestamp"] = json!("2026-11-02T00:00:00Z");
    assert!(asking.1.review(&asked("UPDATE", &going, &broken)).allowed);
    let worse = value(rule("r", 2, &json!({"match": "also ("})));
    assert!(!asking.1.review(&asked("UPDATE", &worse, &broken)).allowed);
}

#[tokio::test]
async fn a_clash_is_denied_or_warned_of_as_the_policy_says() {
    let asking = Asking::new().await;
    asking.0.context.schedules.insert(schedule("standup", 1, &json!({})));
    for (policy, allowed, warned) in [("Reject", false, false), ("Warn", true, true), ("Allow", true, false)]
    {
        let answer = asking.create(&value(schedule("other", 2, &json!({"conflictPolicy": policy}))));
        assert_eq!((answer.allowed, !answer.warnings.is_empty()), (allowed, warned), "{policy}");
        let said = answer.warnings.into_iter().chain([answer.message]).collect::<String>();
        assert_eq!(
            said.contains("schedule standup has minji@example.com, room-3f-a"),
            policy != "Allow",
            "{said}"
        );
    }
    let elsewhere = json!({"resources": ["room-4"], "participants": []});
    assert!(asking.create(&value(schedule("other", 2, &elsewhere))).allowed);
    // It does not stand in its own way.
    let moved = value(schedule("standup", 1, &json!({"start": "2026-01-05T10:05:00"})));
    let before = value(schedule("standup", 1, &json!({})));
    assert!(asking.1.review(&asked("UPDATE", &moved, &before)).allowed);
}
