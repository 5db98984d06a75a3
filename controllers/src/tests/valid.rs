//! What validation refuses, and the messages.

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
    let channel: &crate::guarded::Guarded<crds::NotificationChannel> = &channel;
    insta::assert_yaml_snapshot!(validate::channel(channel.0.as_ref().unwrap()).unwrap());
    insta::assert_yaml_snapshot!(of_rule(&json!({})).unwrap());
}

/// A condition of that type with that member.
#[allow(clippy::needless_pass_by_value, reason = "json! gives a value")]
fn with(type_: &str, member: Value) -> Value {
    let name = format!("{}{}", type_[..1].to_lowercase(), &type_[1..]);
    json!({"condition": {"type": type_, name: member}})
}

#[test]
fn every_example_of_the_documents_is_valid_and_every_condition_has_one() {
    let text = include_str!("../../../docs/alertrule.md");
    let mut types = std::collections::BTreeSet::new();
    for example in text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        let mut object: crds::AlertRule = serde_saphyr::from_str(example).unwrap();
        object.metadata.namespace = Some("payments".to_owned());
        object.metadata.uid = Some("00000000-0000-0000-0000-000000000001".to_owned());
        let plan = validate::rule(&object).unwrap_or_else(|invalid| panic!("{invalid}\n{example}"));
        let domain::PlanBody::AlertRule(plan) = plan.body else { panic!("a rule") };
        types.insert(plan.condition.name());
    }
    assert_eq!(types.len(), 9, "{types:?}");
}

#[test]
fn numbers_are_read_as_they_are_written() {
    let of = |changes: &Value| match of_rule(changes).unwrap().body {
        domain::PlanBody::AlertRule(plan) => plan,
        other => panic!("{other:?}"),
    };
    let spike = of(&with("Spike", json!({"ratio": "2.5", "window": "1m"})));
    let window = domain::Millis::from_secs(60);
    let direction = domain::SpikeDirection::Up;
    assert_eq!(spike.condition, domain::Condition::Spike { ratio: 2_500, window, min_count: 10, direction });
    let ratio = of(&with("Ratio", json!({"of": "true", "window": "1m", "minCount": 1, "below": "99.95%"})));
    let (of_, limit) = ("true".to_owned(), domain::Limit::Below(99_950));
    assert_eq!(ratio.condition, domain::Condition::Ratio { of: of_, window, min_count: 1, limit });
    let plan =
        of(&json!({"for": "2m", "repeatInterval": "1h", "repeatFactor": "1.5", "resolve": {"below": "5"}}));
    assert_eq!((plan.policy.hold.0, plan.policy.repeat_factor), (120_000, 1_500));
    assert_eq!(plan.resolve.unwrap().below, Some(5));
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
        (
            with("Spike", json!({"ratio": "1", "window": "1m"})),
            "InvalidSpec",
            "spike.ratio: 1 is not above 1",
        ),
        (with("Spike", json!({"ratio": "2,5", "window": "1m"})), "InvalidSpec", "such as 2 or 2.5"),
        (with("Flatline", json!({"window": "1m", "groups": [{"a": "x"}]})), "InvalidSpec", "groups[0]"),
        (with("NewValue", json!({"path": "country"})), "InvalidSpec", "a path begins with record"),
        (with("Cardinality", json!({"path": "key", "window": "1m"})), "InvalidSpec", "exactly one of"),
        (with("Cardinality", json!({"path": "key", "window": "1m", "above": 10_000})), "InvalidSpec", "9999"),
        (
            with("Ratio", json!({"of": "record.a ==", "window": "1m", "above": "5%"})),
            "InvalidMatch",
            "ratio.of",
        ),
        (with("Ratio", json!({"of": "true", "window": "1m", "above": "0.05"})), "InvalidSpec", "percentage"),
        (with("Ratio", json!({"of": "true", "window": "1m", "above": "100%"})), "InvalidSpec", "no share"),
        (json!({"condition": {"type": "Any"}, "for": "1m"}), "InvalidSpec", "for: Any is about single"),
        (json!({"repeatFactor": "2", "repeatInterval": null}), "InvalidSpec", "repeatInterval"),
        (json!({"repeatFactor": "11", "repeatInterval": "1m"}), "InvalidSpec", "from 1 to 10"),
        (json!({"resolve": {"below": "21"}}), "InvalidSpec", "must not end while"),
        (json!({"condition": {"type": "Any"}, "resolve": {"below": "1"}}), "InvalidSpec", "only Frequency"),
        (json!({"topValues": {"host": "host"}}), "InvalidSpec", "topValues.host"),
        (json!({"maxGroups": 0}), "InvalidSpec", "maxGroups"),
        (json!({"notify": []}), "InvalidSpec", "notify"),
    ] {
        let invalid = of_rule(&changes).unwrap_err();
        assert_eq!(invalid.reason, reason, "{invalid}");
        assert!(invalid.message.contains(place), "{invalid}");
    }
}

#[test]
fn a_name_that_a_rules_messages_never_have_is_refused() {
    let any = json!({"type": "Any"});
    for (changes, part) in [
        (
            json!({"title": "{{ grop.service }}"}),
            "title: line 1, column 4: there is no `grop`; a rule's texts have count",
        ),
        (
            json!({"summary": "{{ group.host }}"}),
            "summary: line 1, column 4: there is no `group.host`; groupBy has ",
        ),
        (json!({"title": "{{ topValues.x[0] }}"}), "there is no `topValues.x`; the rule has no topValues"),
        (json!({"title": "{{ window }}", "condition": any}), "`window` is not always there"),
    ] {
        let invalid = of_rule(&changes).unwrap_err();
        assert_eq!(invalid.reason, "InvalidTemplate", "{invalid}");
        assert!(invalid.message.contains(part), "{invalid}");
    }
    of_rule(&json!({"title": "{{ record.grop.service }}{{ endsAt|default('') }}"})).unwrap();
    let channel = |title: &str| {
        let spec =
            json!({"type": "Webhook", "webhook": {"url": "http://a.b.svc/"}, "template": {"title": title}});
        let object: std::sync::Arc<crate::guarded::Guarded<crds::NotificationChannel>> =
            object("c", 1, spec).into();
        validate::channel(object.0.as_ref().unwrap()).map(drop).map_err(|invalid| invalid.message)
    };
    assert!(
        channel("{{ ticket }}")
            .unwrap_err()
            .starts_with("template.title: line 1, column 4: there is no `ticket`")
    );
    assert_eq!(channel("{{ title }} {{ group.ticket|default('-') }}"), Ok(()));
}

/// What admission lets through is what a rule's messages have: each of their names, and no other.
#[test]
fn the_names_of_a_rules_texts_are_those_of_its_messages() {
    use domain::{AlertData, PlanBody, RecordRef, Values};
    let changes = json!({"condition": {"type": "Spike", "spike": {"ratio": "2", "window": "1m", "minCount": 1}},
        "title": "t", "topValues": {"host": "record.host"}});
    let PlanBody::AlertRule(plan) = of_rule(&changes).unwrap().body else { panic!("a rule") };
    let (group, at) = (std::collections::BTreeMap::new(), jiff::Timestamp::UNIX_EPOCH);
    let top = std::collections::BTreeMap::from([("host".to_owned(), Values::default())]);
    let (value, record) = (json!({}), RecordRef { topic: "t".into(), partition: 0, offset: 0, time: at });
    let alert = AlertData {
        namespace: "a",
        rule: "r",
        uid: uuid::Uuid::nil(),
        plan: &plan,
        severity: plan.severity,
        group: &group,
        count: 1,
        window_start: at,
        window_end: at,
        since: at,
        kind: Some(domain::AlertKind::Resolved),
        closed: false,
        record: Some((&value, &record)),
        first: Some((&value, &record)),
        value: None,
        previous: Some("1"),
        values: &[],
        top: &top,
    };
    let data = serde_json::to_value(templates::rule_texts::RuleTextData::new(&alert)).unwrap();
    let seen: Vec<&str> = data.as_object().unwrap().keys().map(String::as_str).collect();
    let of = templates::names::RuleFields {
        group_by: &plan.group_by,
        top_values: &plan.policy.top_values,
        condition: &plan.condition,
    };
    let told = templates::names::Names::for_rule(of).check("{{ nothing }}").remove(0).message;
    let mut listed: Vec<&str> = told.split_once("texts have ").unwrap().1.split(", ").collect();
    listed.sort_unstable();
    let mut seen_sorted = seen.clone();
    seen_sorted.sort_unstable();
    assert_eq!(listed, seen_sorted);
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
            "reminders[0]: before has seconds",
        ),
        (
            json!({"reminders": [
                {"before": "60m", "notify": [{"channelRef": {"name": "x"}}]},
                {"before": "1h", "notify": [{"channelRef": {"name": "y"}}]},
            ]}),
            "InvalidReminder",
            "reminders[1]: its time is there already",
        ),
        (json!({"start": "2026-01-05T10:00:00Z"}), "InvalidRecurrence", "write the local time without one"),
        (json!({"start": "2026-01-05T10:00:00+01:00"}), "InvalidRecurrence", "its zone is in timeZone"),
        (json!({"duration": null}), "InvalidSpec", "duration"),
        (
            json!({"recurrence": {"rrule": "FREQ=DAILY", "overrides": [{"recurrenceId": "2026-01-05T11:00:00", "cancelled": true}]}}),
            "InvalidRecurrence",
            "overrides[0]",
        ),
        (
            json!({"recurrence": {"rrule": "FREQ=DAILY", "overrides": [{"recurrenceId": "2026-01-05T10:00:00"}]}}),
            "InvalidSpec",
            "recurrence.overrides[0]: either cancelled",
        ),
        (
            json!({"recurrence": {"rrule": "FREQ=DAILY", "rrules": ["FREQ=DAILY", "FREQ=WEEKLY"]}}),
            "InvalidSpec",
            "either rrule or rrules",
        ),
        (json!({"recurrence": {"rrules": ["FREQ=DAILY"]}}), "InvalidSpec", "2 to 8 rules in rrules"),
        (
            json!({"recurrence": {"rrule": "FREQ=DAILY", "exceptRrules": vec!["FREQ=WEEKLY"; 9]}}),
            "InvalidSpec",
            "recurrence.exceptRrules: at most 8",
        ),
        (
            json!({"recurrence": {"rrules": ["FREQ=DAILY", "FREQ=FORTNIGHTLY"]}}),
            "InvalidRecurrence",
            "FORTNIGHTLY",
        ),
        (json!({"buffer": {"before": "25h"}}), "InvalidSpec", "buffer.before"),
        (json!({"suggest": {"count": 11}}), "InvalidSpec", "suggest.count"),
        (
            json!({"participants": [{"name": "a", "workingHours": {"timeZone": "Mars/Olympus"}}]}),
            "InvalidSpec",
            "participants[0].workingHours.timeZone \"Mars/Olympus\"",
        ),
    ] {
        let invalid = of_schedule(&changes);
        assert_eq!(invalid.reason, reason, "{invalid}");
        assert!(invalid.message.contains(word), "{invalid}");
    }
}

#[test]
fn several_rules_and_rules_left_out_reach_the_recurrence() {
    let changes = json!({
        "timeZone": "UTC", "start": "2026-01-05T10:00:00",
        "recurrence": {
            "rrules": ["FREQ=WEEKLY;COUNT=3", "FREQ=MONTHLY;BYMONTHDAY=7;COUNT=1"],
            "exceptRrules": ["FREQ=WEEKLY;INTERVAL=2;COUNT=1"],
        },
    });
    let valid = validate::schedule(schedule("s", 1, &changes).0.as_ref().unwrap()).unwrap();
    let starts: Vec<String> = valid.recurrence.all().map(|it| it.start.to_string()).collect();
    assert_eq!(starts, ["2026-01-07T10:00:00Z", "2026-01-12T10:00:00Z", "2026-01-19T10:00:00Z"]);
}

#[test]
fn the_seconds_of_a_local_time_may_be_left_out() {
    let of = |seconds: &str| {
        let at = |day: u8| format!("2026-01-{day:02}T10:00{seconds}");
        let changes = json!({
            "timeZone": "UTC", "start": at(5),
            "recurrence": {
                "rrule": "FREQ=DAILY;COUNT=5", "dates": [at(20)], "exceptDates": [at(6)],
                "overrides": [{"recurrenceId": at(7), "start": at(8)}],
            },
        });
        validate::schedule(schedule("s", 1, &changes).0.as_ref().unwrap()).unwrap().plan
    };
    assert_eq!(of(""), of(":00"));
}

#[test]
fn overrides_and_the_policy_for_changes_of_clocks_reach_the_recurrence() {
    let changes = json!({
        "timeZone": "Europe/Berlin", "start": "2026-03-27T02:30:00",
        "recurrence": {
            "rrule": "FREQ=DAILY;COUNT=5", "dst": {"gap": "Skip"},
            "overrides": [
                {"recurrenceId": "2026-03-28T02:30:00", "start": "2026-03-28T05:00:00", "duration": "1h"},
                {"recurrenceId": "2026-03-30T02:30:00", "cancelled": true},
            ],
        },
    });
    let valid = validate::schedule(schedule("s", 1, &changes).0.as_ref().unwrap()).unwrap();
    let starts: Vec<String> = valid.recurrence.all().map(|it| it.start.to_string()).collect();
    // The 29th has no such time, and isn't counted.
    let expected =
        ["2026-03-27T01:30:00Z", "2026-03-28T04:00:00Z", "2026-03-31T00:30:00Z", "2026-04-01T00:30:00Z"];
    assert_eq!(starts, expected);
    let domain::PlanBody::Schedule(plan) = &valid.plan.body else { panic!("a schedule") };
    let sent: domain::RecurrenceSpec =
        serde_json::from_str(&serde_json::to_string(&plan.recurrence).unwrap()).unwrap();
    let read: Vec<_> = calendar::Recurrence::new(&sent).unwrap().all().collect();
    assert_eq!(read, valid.recurrence.all().collect::<Vec<_>>(), "the worker reads what the operator meant");
}

#[test]
fn a_reminder_may_come_after_the_start() {
    let notify = json!([{"channelRef": {"name": "x"}}]);
    let changes =
        json!({"reminders": [{"before": "-1h30m", "notify": notify}, {"before": "10m", "notify": notify}]});
    let valid = validate::schedule(schedule("s", 1, &changes).0.as_ref().unwrap()).unwrap();
    let now = "2026-01-05T01:05:00Z".parse().unwrap();
    let due = calendar::next_reminder(&valid.recurrence, &valid.reminders, now).unwrap();
    assert_eq!(due.due.to_string(), "2026-01-05T02:30:00Z", "it began at 01:00");
}
