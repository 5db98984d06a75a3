//! Addresses to which no channel may lead a worker: admission refuses them, or, if only the worker can see the address, the status says
//! why nothing was sent.

use e2e::sink::Behaviour;
use e2e::tenant::Tenant;
use serde_json::json;

use super::{assert_refused, channel};
use crate::golden;
use crate::support::{annotate, any_rule, field};

/// The worker's own port for health and metrics. It answers there, so a failure of the guard shows.
const OWN: &str = "127.0.0.1:9090";

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_to_loopback_or_cloud_metadata_is_refused_and_says_why() {
    let tenant = Tenant::new("t-bad-address").await;
    for (path, to) in
        [("to-loopback", format!("http://{OWN}/")), ("to-metadata", "http://169.254.169.254/".to_owned())]
    {
        let headers = [("location".to_owned(), to)].into();
        tenant.behave(path, Behaviour { status: 307, headers, ..Default::default() }).await;
    }
    let hook = |name: &str, url: &str| channel(name, &format!("type: Webhook\nwebhook: {{url: \"{url}\"}}"));
    let mail = "type: Email\nemail: {host: 127.0.0.1, port: 9090, tls: None, from: b@example.com, to: [a@example.com]}";
    let broker = "type: Kafka\nkafka: {bootstrapServers: [\"127.0.0.1:9090\"], topic: out}";
    let (loopback, metadata) = (tenant.url("to-loopback"), tenant.url("to-metadata"));
    // Admission refuses an address that the manifest names.
    for (name, manifest, says) in [
        ("metadata", hook("metadata", "http://169.254.169.254/latest/meta-data"), "169.254.169.254"),
        ("loopback", hook("loopback", &format!("http://{OWN}/metrics")), "127.0.0.1"),
        ("name", hook("name", "http://localhost:9090/metrics"), "localhost is the worker itself"),
        ("six", hook("six", "http://[::ffff:127.0.0.1]:9090/metrics"), "loopback"),
        ("unspecified", hook("unspecified", "http://0.0.0.0:9090/metrics"), "unspecified"),
        ("mail", channel("mail", mail), "127.0.0.1"),
        ("number", hook("number", "http://2130706433:9090/metrics"), "127.0.0.1"),
        ("azure", hook("azure", "http://168.63.129.16/"), "cloud metadata"),
        ("broker", channel("broker", broker), "127.0.0.1"),
        (
            "source",
            any_rule("source", "logs", "hook").replace("$KAFKA", "[fd00:ec2::254]:9092"),
            "cloud metadata",
        ),
    ] {
        let says = ["ForbiddenAddress", says];
        assert_refused(&tenant, &format!("address-{name}"), &manifest, &says).await;
    }
    // An address that shows only in a redirect is refused by the worker.
    let cases = [
        ("redirect", hook("redirect", &loopback), "redirect: address 127.0.0.1"),
        ("redirect-metadata", hook("redirect-metadata", &metadata), "redirect: address 169.254.169.254"),
    ];
    let manifests: Vec<&str> = cases.iter().map(|(_, manifest, _)| manifest.as_str()).collect();
    tenant.apply(&manifests.concat()).await;
    for (name, ..) in &cases {
        tenant.ready(&format!("nch/{name}")).await;
        annotate(&tenant, &format!("nch/{name}"), "belfry.dev/send-test=one").await;
    }
    for (name, _, says) in &cases {
        let what = format!("nch/{name}");
        field(&tenant, &what, "/status/deliveries/dead", json!(1)).await;
        let object = tenant.get(&what).await.expect("the channel");
        let error = object["status"]["lastError"].as_str().unwrap_or_default();
        assert!(error.contains("is not allowed") && error.contains(says), "{name}: {error:?}");
    }
    golden::assert_shown(&tenant, &[("address-redirect", "nch/redirect")]).await;
    tenant.leave().await;
}
