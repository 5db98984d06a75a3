//! Manifests and checks that several of these tests share.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::cluster::eventually;
use e2e::sink::Received;
use e2e::tenant::Tenant;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;

/// The signing key of [`SECRET`].
pub(crate) const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A Secret `notify` with the keys to which the tests' channels refer.
pub(crate) const SECRET: &str = "
apiVersion: v1
kind: Secret
metadata: {name: notify, namespace: $NS}
stringData:
  signing: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
  user: belfry
  password: not-a-real-password
---
";

/// A webhook channel that posts to the sink, at the path of the same name; `delivery` is YAML in flow style.
pub(crate) fn webhook(tenant: &Tenant, name: &str, delivery: &str) -> String {
    format!(
        "apiVersion: belfry.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: {name}, namespace: $NS}}
spec:
  type: Webhook
  webhook: {{url: \"{}\"}}
  delivery: {delivery}
---
",
        tenant.url(name)
    )
}

/// An AlertRule of condition `Any` that notifies of each record of a topic whose `kind` is the rule's name, grouped by `record.key`.
pub(crate) fn any_rule(name: &str, topic: &str, channel: &str) -> String {
    rule(name, topic, channel, &format!("record.kind == \"{name}\""), "{type: Any}", "")
}

/// An AlertRule; `more` is YAML at the level of `spec`, indented by two.
pub(crate) fn rule(
    name: &str,
    topic: &str,
    channel: &str,
    matches: &str,
    condition: &str,
    more: &str,
) -> String {
    format!(
        "apiVersion: belfry.dev/v1alpha1
kind: AlertRule
metadata: {{name: {name}, namespace: $NS}}
spec:
  source:
    kafka: {{bootstrapServers: [\"$KAFKA\"], topics: [\"{topic}\"], format: Json, startFrom: Earliest}}
  match: '{matches}'
  groupBy: {{key: record.key}}
  condition: {condition}
  severity: warning
  title: \"{name} {{{{ group.key }}}} {{{{ count }}}}\"
  notify: [{{channelRef: {{name: {channel}}}}}]
{more}---
"
    )
}

/// The body of a plain JSON webhook.
pub(crate) fn body(received: &Received) -> Value {
    serde_json::from_str(&received.body).unwrap_or_else(|error| panic!("{error}: {}", received.body))
}

/// Checks the signature by Standard Webhooks.
pub(crate) fn assert_signed(received: &Received) {
    let header = |name: &str| {
        received.headers.get(name).unwrap_or_else(|| panic!("no {name}: {:?}", received.headers))
    };
    let key = STANDARD.decode(SIGNING.trim_start_matches("whsec_")).expect("base64");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).expect("a key");
    mac.update(
        format!("{}.{}.{}", header("webhook-id"), header("webhook-timestamp"), received.body).as_bytes(),
    );
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert!(header("webhook-signature").split(' ').any(|one| one == expected), "{:?}", received.headers);
}

/// The mails that an SMTP receiver wrote to its file; `which` is `mail` or `mail-tls`.
pub(crate) fn mails(which: &str) -> Vec<Value> {
    let folder = std::env::var("RECEIVED").expect("RECEIVED is set by the script that starts the receivers");
    let text = std::fs::read_to_string(format!("{folder}/{which}.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits for a mail to this address whose subject contains this text.
pub(crate) async fn mail(which: &str, to: &str, subject: &str) -> Value {
    eventually(&format!("a mail to {to} about {subject}"), Duration::from_mins(1), async || {
        let all = mails(which);
        let found = all.iter().find(|mail| {
            mail["to"][0] == to
                && mail["headers"]["subject"].as_str().is_some_and(|text| text.contains(subject))
        });
        found.cloned().ok_or_else(|| format!("{} mails", all.len()))
    })
    .await
}

/// Sets an annotation.
pub(crate) async fn annotate(tenant: &Tenant, what: &str, annotation: &str) {
    tenant.cluster.kubectl(&["-n", &tenant.ns, "annotate", "--overwrite", what, annotation]).await;
}

/// Waits until a field of an object has this value.
pub(crate) async fn field(tenant: &Tenant, what: &str, pointer: &str, expected: Value) {
    eventually(&format!("{what} {pointer} = {expected}"), Duration::from_mins(1), async || {
        let object = tenant.get(what).await.ok_or("not there")?;
        match object.pointer(pointer) {
            Some(seen) if *seen == expected => Ok(()),
            seen => Err(format!("{seen:?} in {}", object["status"])),
        }
    })
    .await;
}
