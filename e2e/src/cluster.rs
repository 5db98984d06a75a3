//! How a test talks to the cluster: through kubectl, as a user does.
//!
//! Never: a wait for a while. [`eventually`] waits for a condition and says what it saw last.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

const HUB_NAME: &str = "belfry-hub.belfry-system.svc";
const HUB: &str = "https://belfry-hub.belfry-system.svc:8443";

/// The cluster of this run, as the test bed or the user's KUBECONFIG tells.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The address at which receivers and brokers beside the cluster are reached, by pods and by the test.
    pub node_ip: String,
    /// The broker, `host:port`.
    pub kafka: String,
    /// The test bed's command and the cluster's name in it, for faults; absent on another cluster.
    pub testbed: Option<(String, String)>,
    /// The test bed's folder of this cluster: its `log/` holds the components' JSON logs and the audit log.
    pub folder: String,
}

impl Cluster {
    /// Reads `BELFRY_NODE_IP`, `KAFKA_BOOTSTRAP` and, on the test bed, what `testbed env` prints and `BELFRY_TESTBED`, its
    /// command.
    pub fn from_env() -> Self {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let must = |name: &str| {
            var(name).unwrap_or_else(|| {
                panic!("{name} is not set: run these tests by `make test`, which brings up the cluster")
            })
        };
        must("KUBECONFIG");
        Self {
            node_ip: must("BELFRY_NODE_IP"),
            kafka: must("KAFKA_BOOTSTRAP"),
            testbed: var("BELFRY_TESTBED").zip(var("BELFRY_CLUSTER")),
            folder: var("TESTBED").unwrap_or_default(),
        }
    }

    /// Runs kubectl; its output, or its error text.
    pub async fn try_kubectl(&self, args: &[&str]) -> Result<String, String> {
        run_command("kubectl", args, "").await
    }

    /// Runs kubectl, which must succeed.
    pub async fn kubectl(&self, args: &[&str]) -> String {
        self.try_kubectl(args).await.unwrap_or_else(|error| panic!("kubectl {}: {error}", args.join(" ")))
    }

    /// `kubectl apply -f -`; what it printed, or its error text.
    pub async fn try_apply(&self, manifest: &str) -> Result<String, String> {
        run_command("kubectl", &["apply", "-f", "-"], manifest).await
    }

    /// `kubectl apply -f -`, which must succeed.
    pub async fn apply(&self, manifest: &str) {
        if let Err(error) = self.try_apply(manifest).await {
            panic!("kubectl apply: {error}\n{manifest}");
        }
    }

    /// An object as JSON, if it is there.
    pub async fn get(&self, namespace: &str, what: &str) -> Option<Value> {
        let text = self.try_kubectl(&["-n", namespace, "get", what, "-o", "json"]).await.ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Where the hub is, and how to trust it: its URL, its address, and its authority (PEM).
    pub async fn hub(&self) -> (&'static str, SocketAddr, Vec<u8>) {
        let system = ["-n", "belfry-system", "get"];
        let address = ["svc", "belfry-hub", "-o", "jsonpath={.spec.clusterIP}"];
        let authority = ["configmap", "belfry-ca", "-o", "jsonpath={.data.ca\\.crt}"];
        let address = self.kubectl(&[&system[..], &address].concat()).await;
        let authority = self.kubectl(&[&system[..], &authority].concat()).await;
        let address = address.trim().parse().expect("an IP address");
        (HUB, SocketAddr::new(address, 8443), authority.into_bytes())
    }

    /// A client of the hub, and the hub's URL.
    pub async fn hub_client(&self) -> (reqwest::Client, &'static str) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (url, address, authority) = self.hub().await;
        let roots = reqwest::Certificate::from_pem_bundle(&authority).expect("PEM");
        let client = reqwest::Client::builder().no_proxy().tls_certs_only(roots).resolve(HUB_NAME, address);
        (client.build().expect("a client"), url)
    }

    /// The test bed's command, which must succeed; the name of the cluster follows the verb.
    pub async fn bed(&self, verb: &str, args: &[&str]) -> String {
        let (command, name) =
            self.testbed.as_ref().expect("this test breaks things: it needs the test bed's own cluster");
        let mut all = vec![verb, name];
        all.extend(args);
        run_command(command, &all, "")
            .await
            .unwrap_or_else(|error| panic!("{command} {}: {error}", all.join(" ")))
    }
}

/// Runs a command with a text on its standard input.
pub async fn run_command(command: &str, args: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new(command)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{command}: {error}"))?;
    let mut stdin = child.stdin.take().expect("piped");
    let text = input.to_owned();
    let writing = tokio::spawn(async move { stdin.write_all(text.as_bytes()).await });
    let output = child.wait_with_output().await.map_err(|error| error.to_string())?;
    // A command that does not read its input closes it: no failure of ours.
    let _ = writing.await;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// A condition's `status`, `reason` and `message` in an object.
pub fn condition(object: &Value, kind: &str) -> Option<(String, String, String)> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}

/// Asks again and again until there is an answer; fails with what was asked for and what was seen last.
pub async fn eventually<T, F>(what: &str, within: Duration, mut ask: F) -> T
where
    F: AsyncFnMut() -> Result<T, String>,
{
    let start = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(seen) if start.elapsed() > within => {
                panic!("{what}: not within {within:?}; last seen: {seen}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
