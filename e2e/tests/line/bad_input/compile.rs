//! Expressions and templates that don't compile, which the schema can't see. The object is Stalled, with reason and place. Other objects
//! go on, and so does the last version of this object that compiled.

use e2e::cluster::condition;
use e2e::kafka::{create_topic, produce, producer};
use e2e::tenant::Tenant;
use serde_json::json;

use super::channel;
use crate::golden;
use crate::support::{annotate, any_rule, body, rule, webhook};

/// Waits until the object is Stalled for this reason, and checks that the message contains all of `says`.
async fn assert_stalled(tenant: &Tenant, what: &str, reason: &str, says: &[&str]) {
    let object = tenant.condition(what, "Stalled", "True", reason, 30).await;
    let (_, _, message) = condition(&object, "Stalled").expect("it is there");
    for words in says {
        assert!(message.contains(words), "{what} does not say {words:?}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expression_or_template_that_does_not_compile_is_stalled_with_its_place() {
    let tenant = Tenant::unchecked("t-bad-compile").await;
    let topic = tenant.topic("logs");
    create_topic(&tenant.cluster.kafka, &topic, 1).await;
    let any = "{type: Any}";
    let rules = [
        rule("cut-off", &topic, "hook", "record.level == (", any, ""),
        rule("unknown-name", &topic, "hook", "event.level == \"ERROR\"", any, ""),
        rule("path", &topic, "hook", "true", any, "").replace("record.key}", "record..key}"),
        rule("title", &topic, "hook", "true", any, "").replace("{{ count }}", "{{ count"),
        rule("summary", &topic, "hook", "true", any, "  summary: \"first\\n{% for x in %}\"\n"),
    ];
    let broken = channel(
        "broken",
        &format!(
            "type: Webhook\nwebhook: {{url: \"{}\"}}\ntemplate: {{title: \"{{{{ title | shout }}}}\"}}",
            tenant.url("broken")
        ),
    );
    tenant.apply(&(webhook(&tenant, "hook", "{}") + &broken + &rules.join(""))).await;
    assert_stalled(&tenant, "alr/cut-off", "InvalidMatch", &["match:", "line 1, column"]).await;
    assert_stalled(&tenant, "alr/unknown-name", "InvalidMatch", &["line 1, column 1", "event", "record"])
        .await;
    assert_stalled(&tenant, "alr/path", "InvalidGroupBy", &["groupBy.key"]).await;
    assert_stalled(&tenant, "alr/title", "InvalidTemplate", &["title:", "line 1"]).await;
    assert_stalled(&tenant, "alr/summary", "InvalidTemplate", &["summary:", "line 2"]).await;
    assert_stalled(&tenant, "nch/broken", "InvalidTemplate", &["template.title:", "shout"]).await;
    let files = [
        ("compile-cut-off", "alr/cut-off"),
        ("compile-unknown-name", "alr/unknown-name"),
        ("compile-path", "alr/path"),
        ("compile-title", "alr/title"),
        ("compile-summary", "alr/summary"),
        ("compile-channel", "nch/broken"),
    ];
    golden::assert_shown(&tenant, &files).await;
    // The channel beside it goes on.
    tenant.ready("nch/hook").await;
    annotate(&tenant, "nch/hook", "belfry.dev/send-test=one").await;
    tenant.arrived("hook", 1, 60).await;
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_does_not_compile_is_stalled_and_the_version_before_goes_on() {
    let tenant = Tenant::unchecked("t-bad-edit").await;
    let topic = tenant.topic("logs");
    create_topic(&tenant.cluster.kafka, &topic, 1).await;
    let good = any_rule("event", &topic, "hook");
    tenant.apply(&(webhook(&tenant, "hook", "{}") + &good)).await;
    tenant.ready("alr/event").await;
    tenant.apply(&good.replace("record.kind == \"event\"", "record.kind = \"event\"")).await;
    assert_stalled(&tenant, "alr/event", "InvalidMatch", &["line 1, column"]).await;
    let producer = producer(&tenant.cluster.kafka);
    let record = json!({"kind": "event", "key": "x"}).to_string();
    produce(&producer, &topic, None, Some(record.as_bytes()), None).await;
    let received = tenant.arrived("hook", 1, 30).await;
    assert_eq!(body(&received[0])["data"]["title"], "event x 1", "{}", received[0].body);
    crate::support::field(&tenant, "alr/event", "/status/matched", json!(1)).await;
    golden::assert_shown(&tenant, &[("compile-edit", "alr/event")]).await;
    tenant.leave().await;
}
