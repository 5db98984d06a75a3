//! References to missing objects: a status condition names what is missing, and the object heals by itself when that appears.

use std::time::Duration;

use e2e::cluster::{condition, eventually};
use e2e::kafka::create_topic;
use e2e::tenant::Tenant;

use super::{channel, object};
use crate::golden;
use crate::support::{any_rule, webhook};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_channel_is_named_by_the_rule_and_the_schedule_that_name_it_until_it_appears() {
    let tenant = Tenant::new("t-bad-channel").await;
    let topic = tenant.topic("logs");
    create_topic(&tenant.cluster.kafka, &topic, 1).await;
    let schedule = object(
        "Schedule",
        "standup",
        "title: Stand-up\ntimeZone: Asia/Seoul\nstart: \"2035-01-01T10:00:00\"\nduration: 15m\nreminders: [{before: 10m, notify: [{channelRef: {name: slakc}}]}]",
    );
    tenant.apply(&(any_rule("event", &topic, "slakc") + &schedule)).await;
    for what in ["alr/event", "sch/standup"] {
        let object = tenant.condition(what, "Ready", "False", "ChannelNotFound", 30).await;
        let (_, _, message) = condition(&object, "Ready").expect("it is there");
        assert!(message.contains("slakc"), "{message}");
        assert!(condition(&object, "Stalled").is_none(), "it heals by itself: {}", object["status"]);
    }
    // The rule's consumer reads already. Its notifications wait for the channel.
    eventually("the consumer is there", Duration::from_mins(1), async || {
        let rule = tenant.get("alr/event").await.ok_or("not there")?;
        if rule["status"]["partitions"] == 1 { Ok(()) } else { Err(rule["status"].to_string()) }
    })
    .await;
    let files =
        [("reference-channel-of-a-rule", "alr/event"), ("reference-channel-of-a-schedule", "sch/standup")];
    golden::assert_shown(&tenant, &files).await;
    tenant.apply(&webhook(&tenant, "slakc", "{}")).await;
    for what in ["alr/event", "sch/standup"] {
        tenant.ready(what).await;
    }
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_key_or_certificate_is_named_until_it_appears() {
    let tenant = Tenant::new("t-bad-secret").await;
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: notify, namespace: $NS}\nstringData: {signing: not-base64!}\n---\n";
    let hook = |name: &str, more: &str| {
        channel(name, &format!("type: Webhook\nwebhook:\n  url: \"{}\"\n{more}", tenant.url(name)))
    };
    let slack = channel("slack", "type: Slack\nslack: {webhookUrlSecretRef: {name: notfy, key: slack-url}}");
    let no_key =
        channel("no-key", "type: Slack\nslack: {webhookUrlSecretRef: {name: notify, key: slack-url}}");
    let bad_key = hook("bad-key", "  signingSecretRef: {name: notify, key: signing}\n");
    let authority = hook("authority", "tls: {caBundle: {configMapRef: {name: private-ca, key: ca.crt}}}\n");
    tenant.apply(&[secret, &slack, &no_key, &bad_key, &authority].concat()).await;
    for (what, reason, says) in [
        ("nch/slack", "SecretKeyNotFound", ["notfy", "slack-url"]),
        ("nch/no-key", "SecretKeyNotFound", ["notify", "slack-url"]),
        ("nch/bad-key", "SecretKeyInvalid", ["notify", "signing"]),
        ("nch/authority", "ConfigMapKeyNotFound", ["private-ca", "ca.crt"]),
    ] {
        let object = tenant.condition(what, "Ready", "False", reason, 60).await;
        let (_, _, message) = condition(&object, "Ready").expect("it is there");
        assert!(says.iter().all(|words| message.contains(words)), "{message}");
        assert!(!object["status"].to_string().contains("not-base64!"), "the value is not shown");
        assert!(condition(&object, "Stalled").is_none(), "it heals by itself: {}", object["status"]);
    }
    let files = [
        ("reference-secret", "nch/slack"),
        ("reference-secret-key", "nch/no-key"),
        ("reference-secret-value", "nch/bad-key"),
        ("reference-config-map", "nch/authority"),
    ];
    golden::assert_shown(&tenant, &files).await;
    let mended = "apiVersion: v1\nkind: Secret\nmetadata: {name: notify, namespace: $NS}\nstringData: {signing: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, slack-url: \"http://sink.$NS.svc:8080/slack\"}\n---\n";
    tenant.apply(mended).await;
    // The kubelet looks at optional Secrets about once a minute.
    for what in ["nch/no-key", "nch/bad-key"] {
        eventually(&format!("{what} heals"), Duration::from_mins(3), async || {
            let object = tenant.get(what).await.ok_or("not there")?;
            match condition(&object, "Ready") {
                Some((status, _, _)) if status == "True" => Ok(()),
                seen => Err(format!("{seen:?}")),
            }
        })
        .await;
    }
    tenant.leave().await;
}
