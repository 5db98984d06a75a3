//! Texts that can't be rendered or are too long: the message is sent all the same, with a text that names the fault.

use e2e::kafka::{create_topic, produce, producer};
use e2e::tenant::Tenant;
use serde_json::{Value, json};

use super::channel;
use crate::golden;
use crate::support::{body, rule, webhook};

/// Replaces each run of more than 20 equal characters by its length, so that a reader of the golden file sees where the text was cut.
fn shorten_runs(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let runs = chars.chunk_by(|one, next| one == next).map(|run| match run.len() {
        0..=20 => run.iter().collect(),
        length => format!("<{length} times {}>", run[0]),
    });
    runs.collect::<Vec<String>>().concat()
}

fn text(value: &Value) -> String {
    shorten_runs(value.as_str().unwrap_or_else(|| panic!("a text: {value}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_fails_or_is_too_long_is_replaced_by_one_that_names_the_fault() {
    let tenant = Tenant::new("t-bad-texts").await;
    let topic = tenant.topic("logs");
    create_topic(&tenant.cluster.kafka, &topic, 1).await;
    let event = |name: &str| {
        rule(
            name,
            &topic,
            name,
            &format!("record.kind == \"{name}\""),
            "{type: Any}",
            "  summary: \"{{ record.text }}\"\n",
        )
    };
    let titled = |name: &str, title: &str| {
        event(name).replace(&format!("{name} {{{{ group.key }}}} {{{{ count }}}}"), title)
    };
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "notify", "namespace": tenant.ns},
        "stringData": {"slack": tenant.url("slack")},
    });
    let slack = channel("slack", "type: Slack\nslack: {webhookUrlSecretRef: {name: notify, key: slack}}");
    let own = channel(
        "own",
        &format!(
            "type: Webhook\nwebhook: {{url: \"{}\"}}\ntemplate:\n  title: \"{{{{ group.ticket }}}}\"\n  body: \"{{{{ group.region }}}}\"",
            tenant.url("own")
        ),
    );
    let manifests = [
        format!("{secret}\n---\n"),
        webhook(&tenant, "missing", "{}"),
        webhook(&tenant, "long", "{}"),
        own,
        slack,
        titled("missing", "{{ record.customer.name }}"),
        titled("long", "{{ record.text }}"),
        event("own"),
        event("slack"),
    ];
    tenant.apply(&manifests.concat()).await;
    for name in ["missing", "long", "own", "slack"] {
        tenant.ready(&format!("alr/{name}")).await;
    }
    let producer = producer(&tenant.cluster.kafka);
    for (kind, text) in [
        ("missing", "card declined".to_owned()),
        ("long", "l".repeat(2_000)),
        ("own", "card declined".to_owned()),
        ("slack", "s".repeat(9_000)),
    ] {
        let record = json!({"kind": kind, "key": "a", "text": text}).to_string();
        produce(&producer, &topic, None, Some(record.as_bytes()), None).await;
    }
    for name in ["missing", "long", "own"] {
        let data = body(&tenant.arrived(name, 1, 60).await[0])["data"].clone();
        golden::assert_same(
            &format!("text-{name}-received"),
            &format!("title: {}\n\n{}", text(&data["title"]), text(&data["body"])),
        );
    }
    let posted = body(&tenant.arrived("slack", 1, 60).await[0]);
    let blocks: Vec<String> = posted["blocks"]
        .as_array()
        .expect("blocks")
        .iter()
        .filter_map(|block| Some(shorten_runs(block.pointer("/text/text")?.as_str()?)))
        .collect();
    golden::assert_same(
        "text-slack-received",
        &format!("text: {}\n\nblocks:\n{}", text(&posted["text"]), blocks.join("\n\n")),
    );
    let files = [
        ("text-missing", "alr/missing"),
        ("text-long", "alr/long"),
        ("text-channel-own", "nch/own"),
        ("text-channel-slack", "nch/slack"),
    ];
    golden::assert_shown(&tenant, &files).await;
    tenant.leave().await;
}
