//! Manifests that break the schema: `kubectl apply` refuses them, and the message says what is allowed.

use e2e::tenant::Tenant;

use super::{assert_refused, channel, object};
use crate::support::rule;

const HOOK: &str = "type: Webhook\nwebhook: {url: \"https://receiver.example.com/belfry\"}\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_the_schema_can_not_accept_is_refused_and_told_what_is_allowed() {
    let tenant = Tenant::new("t-bad-schema").await;
    let with = |more: &str| channel("hook", &format!("{HOOK}{more}"));
    let mailboxes: Vec<String> = (0..51).map(|n| format!("\"p{n}@example.com\"")).collect();
    let mail = format!(
        "type: Email\nemail: {{host: smtp.example.com, port: 25, tls: None, from: b@example.com, to: [{}]}}",
        mailboxes.join(", ")
    );
    for (file, manifest, says) in [
        (
            "schema-no-member",
            channel("hook", "type: Webhook"),
            &["type Webhook needs the member webhook, and none of slack"][..],
        ),
        (
            "schema-two-members",
            with("slack: {webhookUrlSecretRef: {name: notify, key: slack}}"),
            &["and none of slack, email, kafka"],
        ),
        (
            "schema-member-of-another-type",
            channel("hook", "type: Slack\nwebhook: {url: \"https://receiver.example.com/belfry\"}"),
            &["type Slack needs the member slack"],
        ),
        (
            "schema-unknown-type",
            channel("hook", "type: Pigeon"),
            &["\"Slack\", \"Email\", \"Webhook\", \"Kafka\""],
        ),
        ("schema-bad-duration", with("delivery: {timeout: 5 minutes}"), &["spec.delivery.timeout"]),
        ("schema-duration-out-of-bounds", with("delivery: {timeout: 10m}"), &["from 1s to 5m"]),
        ("schema-duration-units-twice", with("delivery: {timeout: 1m1m}"), &["each unit at most once"]),
        (
            "schema-list-too-long",
            channel("mail", &mail),
            &["spec.email.to: Too many: 51: must have at most 50 items"],
        ),
        ("schema-unknown-field", with("colour: red"), &["unknown field \"spec.colour\""]),
        (
            "schema-url-of-another-scheme",
            channel("hook", "type: Webhook\nwebhook: {url: \"ftp://receiver.example.com/belfry\"}"),
            &["spec.webhook.url", "must be an http or https URL"],
        ),
        (
            "schema-login-without-password",
            channel(
                "mail",
                "type: Email\nemail:\n  host: smtp.example.com\n  port: 25\n  tls: None\n  from: b@example.com\n  to: [a@example.com]\n  usernameSecretRef: {name: notify, key: user}",
            ),
            &["go together"],
        ),
        (
            "schema-login-in-plain-text",
            channel(
                "mail",
                "type: Email\nemail:\n  host: smtp.example.com\n  port: 25\n  tls: None\n  from: b@example.com\n  to: [a@example.com]\n  usernameSecretRef: {name: notify, key: user}\n  passwordSecretRef: {name: notify, key: password}",
            ),
            &["everybody on the way reads the password", "allowCleartextLogin"],
        ),
    ] {
        assert_refused(&tenant, file, &manifest, says).await;
    }
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_or_schedule_that_the_schema_can_not_accept_is_refused_and_told_what_is_allowed() {
    let tenant = Tenant::new("t-bad-schema-2").await;
    let rule = |condition: &str, more: &str| {
        rule("errors", "t-bad-schema-2-logs", "hook", "record.level == \"ERROR\"", condition, more)
    };
    let topics: Vec<String> = (0..33).map(|n| format!("\"logs-{n}\"")).collect();
    let schedule = |more: &str| {
        let spec = "title: Stand-up\ntimeZone: Asia/Seoul\nstart: \"2027-01-04T10:00:00\"\n";
        object("Schedule", "standup", &format!("{spec}{more}"))
    };
    for (file, manifest, says) in [
        (
            "schema-condition-without-member",
            rule("{type: Frequency}", ""),
            &["type Frequency needs the member frequency"][..],
        ),
        (
            "schema-condition-with-a-strange-member",
            rule("{type: Any, frequency: {count: 1, window: 1m}}", ""),
            &["type Any has no member: leave out frequency"],
        ),
        ("schema-unknown-condition", rule("{type: Often}", ""), &["\"Any\", \"Frequency\""]),
        (
            "schema-window-too-short",
            rule("{type: Frequency, frequency: {count: 1, window: 10ms}}", ""),
            &["from 1s to 168h"],
        ),
        (
            "schema-unknown-severity",
            rule("{type: Any}", "").replace("severity: warning", "severity: urgent"),
            &["\"info\", \"warning\", \"critical\""],
        ),
        (
            "schema-topics-too-many",
            rule("{type: Any}", "").replace("\"t-bad-schema-2-logs\"", &topics.join(", ")),
            &["Too many: 33: must have at most 32 items"],
        ),
        (
            "schema-label-name",
            rule("{type: Any}", "").replace("{key: record.key}", "{\"my key\": record.key}"),
            &["a label name has"],
        ),
        ("schema-no-duration", schedule(""), &["exactly one of duration and allDay: true is needed"]),
        (
            "schema-all-day-with-a-time",
            schedule("allDay: true"),
            &["with allDay: true a date such as 2026-01-05"],
        ),
        (
            "schema-unknown-conflict-policy",
            schedule("duration: 15m\nconflictPolicy: Fight"),
            &["\"Reject\", \"Warn\", \"Allow\""],
        ),
        (
            "schema-empty-recurrence",
            schedule("duration: 15m\nrecurrence: {}"),
            &["rrule, rrules, dates or dst is needed"],
        ),
        (
            "schema-rrule-and-rrules",
            schedule(
                "duration: 15m\nrecurrence: {rrule: FREQ=DAILY, rrules: [FREQ=DAILY;COUNT=2, FREQ=WEEKLY]}",
            ),
            &["either rrule or rrules: put one rule in rrule, 2 to 8 rules in rrules"],
        ),
        (
            "schema-reminder-with-seconds",
            schedule("duration: 15m\nreminders: [{before: 90s, notify: [{channelRef: {name: hook}}]}]"),
            &["must be whole minutes from -720h to 720h"],
        ),
    ] {
        assert_refused(&tenant, file, &manifest, says).await;
    }
    tenant.leave().await;
}
