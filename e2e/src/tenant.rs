//! A tenant's namespace for one test, with the services that its manifests name: `kafka`, `sink`, `smtp`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, condition, eventually};
use crate::sink::{Behaviour, Received};

/// Port of the sink's control.
pub const SINK_CONTROL: u16 = 8090;

/// A namespace of one test.
pub struct Tenant {
    /// The cluster.
    pub cluster: Cluster,
    /// The namespace.
    pub ns: String,
    http: reqwest::Client,
    /// How many requests the sink had received before this test began.
    before: usize,
}

impl Tenant {
    /// Makes the namespace anew, with services to the receivers and the broker beside the cluster.
    pub async fn new(ns: &str) -> Self {
        Self::labelled(ns, "").await
    }

    /// The same, but what could not work is stored: the webhook is not asked, as when no operator answers it.
    pub async fn unchecked(ns: &str) -> Self {
        Self::labelled(ns, ", belfry.dev/admission: disabled").await
    }

    async fn labelled(ns: &str, label: &str) -> Self {
        // A second call answers with an error that does not matter: the provider is there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = Cluster::from_env();
        let _ = cluster.try_kubectl(&["delete", "namespace", ns, "--ignore-not-found", "--wait=true"]).await;
        cluster
            .apply(&format!(
                "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {ns}\n  labels: {{pod-security.kubernetes.io/enforce: restricted{label}}}\n"
            ))
            .await;
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let mut tenant = Self { cluster, ns: ns.to_owned(), http, before: 0 };
        let count = tenant.http.get(tenant.control("/count")).send().await.expect("the sink answers");
        tenant.before = count.json().await.expect("a number");
        tenant.expose().await;
        tenant
    }

    /// Makes the services `kafka`, `sink` and `smtp` in the namespace.
    pub async fn expose(&self) {
        let (ns, ip) = (&self.ns, &self.cluster.node_ip);
        for (name, ports) in [("kafka", vec![9092]), ("sink", vec![8080]), ("smtp", vec![2525, 2526])] {
            let ports: Vec<Value> =
                ports.iter().map(|port| json!({"name": format!("p{port}"), "port": port})).collect();
            let service = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": ns},
                "spec": {"ports": ports},
            });
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": name, "namespace": ns, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4", "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}], "ports": ports,
            });
            self.cluster.apply(&format!("{service}\n---\n{slice}\n")).await;
        }
    }

    /// A name for a topic of this test alone.
    pub fn topic(&self, name: &str) -> String {
        format!("{}-{name}", self.ns)
    }

    /// Applies manifests; `$NS` in them is the namespace, `$KAFKA` the broker.
    pub async fn apply(&self, manifest: &str) {
        self.cluster.apply(&self.fill(manifest)).await;
    }

    /// The same; the error text where it is refused.
    pub async fn try_apply(&self, manifest: &str) -> Result<String, String> {
        self.cluster.try_apply(&self.fill(manifest)).await
    }

    fn fill(&self, manifest: &str) -> String {
        manifest.replace("$NS", &self.ns).replace("$KAFKA", &format!("kafka.{}.svc:9092", self.ns))
    }

    /// An object of the namespace, such as `alr/errors`.
    pub async fn get(&self, what: &str) -> Option<Value> {
        self.cluster.get(&self.ns, what).await
    }

    /// Waits until an object's condition has this status and, unless empty, this reason.
    pub async fn condition(&self, what: &str, kind: &str, status: &str, reason: &str, within: u64) -> Value {
        eventually(&format!("{what} {kind}={status} {reason}"), Duration::from_secs(within), async || {
            let object = self.get(what).await.ok_or("not there")?;
            match condition(&object, kind) {
                Some((seen, why, _)) if seen == status && (reason.is_empty() || why == reason) => Ok(object),
                _ => Err(object["status"]["conditions"].to_string()),
            }
        })
        .await
    }

    /// Waits until an object is Ready at its current generation.
    pub async fn ready(&self, what: &str) -> Value {
        eventually(&format!("{what} ready"), Duration::from_secs(90), async || {
            let object = self.get(what).await.ok_or("not there")?;
            let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            match condition(&object, "Ready") {
                Some((status, _, _)) if status == "True" && current => Ok(object),
                _ => Err(object["status"].to_string()),
            }
        })
        .await
    }

    fn control(&self, path: &str) -> String {
        format!("http://{}:{SINK_CONTROL}{path}", self.cluster.node_ip)
    }

    /// Tells the sink how this namespace's path answers; `path` is below `/<namespace>`.
    pub async fn behave(&self, path: &str, behaviour: Behaviour) {
        let body = json!({ self.path(path): behaviour });
        let answer =
            self.http.put(self.control("/behaviours")).json(&body).send().await.expect("the sink answers");
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// The path of this namespace at the sink.
    pub fn path(&self, path: &str) -> String {
        format!("/{}/{path}", self.ns)
    }

    /// The URL that a channel of this namespace points at.
    pub fn url(&self, path: &str) -> String {
        format!("http://sink.{}.svc:8080{}", self.ns, self.path(path))
    }

    /// What the sink received at a path of this namespace.
    pub async fn received(&self, path: &str) -> Vec<Received> {
        self.received_after(path, self.before as u64).await
    }

    /// The same of what came after the request with this number.
    pub async fn received_after(&self, path: &str, number: u64) -> Vec<Received> {
        let what = format!("/received?after={number}&path={}", self.path(path));
        match self.http.get(self.control(&what)).send().await {
            Ok(answer) => answer.json().await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// Waits until at least `count` requests came to a path.
    pub async fn arrived(&self, path: &str, count: usize, within: u64) -> Vec<Received> {
        eventually(&format!("{count} at {path}"), Duration::from_secs(within), async || {
            let seen = self.received(path).await;
            if seen.len() >= count { Ok(seen) } else { Err(format!("{} arrived", seen.len())) }
        })
        .await
    }

    /// Deletes the namespace.
    pub async fn leave(self) {
        let _ = self.cluster.try_kubectl(&["delete", "namespace", &self.ns, "--wait=false"]).await;
    }
}
