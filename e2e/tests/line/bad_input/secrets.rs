//! Secrets that the receiver refuses: the owner sees which secret it is, and nobody sees its value.

use e2e::sink::Behaviour;
use e2e::tenant::Tenant;
use serde_json::json;

use super::channel;
use crate::golden;
use crate::support::{annotate, field};

const CANARIES: [&str; 2] = ["canary-slack-0c41", "canary-password-88ea"];

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_the_receiver_refuses_is_not_shown() {
    let tenant = Tenant::new("t-bad-canary").await;
    let [path, password] = CANARIES;
    tenant.behave(path, Behaviour { status: 404, ..Default::default() }).await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "notify", "namespace": tenant.ns},
        "stringData": {"slack": tenant.url(path), "user": "belfry", "password": password},
    });
    let slack = channel("slack", "type: Slack\nslack: {webhookUrlSecretRef: {name: notify, key: slack}}");
    let mail = channel(
        "mail",
        "type: Email
email:
  host: smtp.$NS.svc
  port: 2525
  tls: None
  allowCleartextLogin: true
  usernameSecretRef: {name: notify, key: user}
  passwordSecretRef: {name: notify, key: password}
  from: b@example.com
  to: [a@example.com]
delivery: {retry: {maxAttempts: 2, initialDelay: 1s, maxDelay: 1s}}",
    );
    tenant.apply(&format!("{secret}\n---\n{slack}{mail}")).await;
    for what in ["nch/slack", "nch/mail"] {
        tenant.ready(what).await;
        annotate(&tenant, what, "belfry.dev/send-test=one").await;
    }
    for what in ["nch/slack", "nch/mail"] {
        field(&tenant, what, "/status/deliveries/dead", json!(1)).await;
        let shown = tenant.cluster.kubectl(&["-n", &tenant.ns, "describe", what]).await;
        assert!(CANARIES.iter().all(|canary| !shown.contains(canary)), "{what} shows a secret");
    }
    golden::assert_shown(&tenant, &[("secret-slack", "nch/slack"), ("secret-mail", "nch/mail")]).await;
    tenant.leave().await;
}
