//! Measures durable webhook dispatch through hub and `send`, compared with Debian's Alertmanager sending one alert
//! per webhook.

use std::time::{Duration, Instant};

use serde_json::json;

use super::process::{find, usage};
use crate::cluster::{Cluster, eventually};
use crate::kafka::{create_topic, producer};
use crate::tenant::Tenant;

const PORT: u16 = 8085;
const CONTROL: u16 = 8095;
const MESSAGES: usize = 20_000;
/// Concurrent requests of the client that only sends; more don't make it faster on this machine.
const AT_ONCE: usize = 64;

/// Prints both rates, their ratio, and the hub's commits per notification.
pub async fn print() {
    let tenant = Tenant::new("b-dispatch").await;
    let cluster = tenant.cluster.clone();
    let sink = format!("{}/belfry-sink", std::env::var("BELFRY_BIN").expect("BELFRY_BIN is set by bench.sh"));
    let (listen, control) = (format!("0.0.0.0:{PORT}"), format!("0.0.0.0:{CONTROL}"));
    cluster
        .bed("run", &["--as", "sink-bench", "--", &sink, "--listen", &listen, "--control", &control])
        .await;
    let url = format!("http://{}:{PORT}/bench", cluster.node_ip);

    let belfry = measure_belfry(&tenant, &url).await;
    let peer = measure_alertmanager(&cluster, &url).await;
    let bare = measure_bare_client(&cluster, &url).await;
    println!("dispatch ratio Belfry / bare client: {:.2}", belfry / bare);
    println!("dispatch ratio Belfry / Alertmanager: {:.1} (bar 10)", belfry / peer);
    tenant.leave().await;
}

async fn arrived_count(cluster: &Cluster) -> usize {
    let url = format!("http://{}:{CONTROL}/count", cluster.node_ip);
    match reqwest::get(url).await {
        Ok(answer) => answer.json().await.unwrap_or(0),
        Err(_) => 0,
    }
}

/// Waits until this many more have arrived. Returns how many arrived per second after the first tenth.
async fn wait_for_rate(cluster: &Cluster, before: usize, count: usize) -> f64 {
    let mut first = None;
    loop {
        let now = arrived_count(cluster).await - before;
        if first.is_none() && now >= count / 10 {
            first = Some((Instant::now(), now));
        }
        if now >= count {
            let (start, from) = first.unwrap_or((Instant::now(), 0));
            return (now - from) as f64 / start.elapsed().as_secs_f64();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn measure_belfry(tenant: &Tenant, url: &str) -> f64 {
    let topic = tenant.topic("events");
    create_topic(&tenant.cluster.kafka, &topic, 6).await;
    tenant.apply(&super::channel_and_rule(url, &topic, "{retry: {maxAttempts: 3}}")).await;
    tenant.ready("alr/event").await;
    let suspend = async |value: bool| {
        let patch = json!({"spec": {"suspend": value}}).to_string();
        tenant.cluster.kubectl(&["-n", &tenant.ns, "patch", "nch/hook", "--type=merge", "-p", &patch]).await;
    };
    suspend(true).await;
    tenant.condition("nch/hook", "Ready", "False", "Suspended", 30).await;
    let producer = producer(&tenant.cluster.kafka);
    let values: Vec<String> =
        (0..MESSAGES).map(|n| json!({"level": "ERROR", "key": format!("{n}")}).to_string()).collect();
    super::consume::produce_all(&producer, &topic, &values).await;
    eventually("all deliveries are waiting", Duration::from_mins(5), async || {
        let channel = tenant.get("nch/hook").await.ok_or("not there")?;
        if channel["status"]["deliveries"]["pending"] == MESSAGES {
            Ok(())
        } else {
            Err(channel["status"].to_string())
        }
    })
    .await;
    let (before, commits) = (arrived_count(&tenant.cluster).await, hub_commits(&tenant.cluster).await);
    let cpu = cpu_times();
    suspend(false).await;
    let rate = wait_for_rate(&tenant.cluster, before, MESSAGES).await;
    let [hub, send, sink] =
        std::array::from_fn(|at| cpu_times()[at].saturating_sub(cpu[at]) as f64 / MESSAGES as f64);
    let commits = hub_commits(&tenant.cluster).await - commits;
    println!(
        "Belfry, hub and send, SQLite with full sync: {rate:.0} webhooks a second, {:.3} commits a notification",
        commits / MESSAGES as f64
    );
    println!("processor time a notification: hub {hub:.0} us, send {send:.0} us, the receiver {sink:.0} us");
    rate
}

/// The limit of this machine: a client with its requests in memory, against the same receiver.
async fn measure_bare_client(cluster: &Cluster, url: &str) -> f64 {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let body = json!({"type": "belfry.dev/alert.record", "data": {"title": "x", "summary": "y".repeat(300)}})
        .to_string();
    let before = arrived_count(cluster).await;
    let send = |n: usize| {
        let (client, url, body) = (client.clone(), url.to_owned(), body.clone());
        tokio::spawn(async move {
            for _ in (n..MESSAGES).step_by(AT_ONCE) {
                let request = client.post(&url).header("content-type", "application/json").body(body.clone());
                request.send().await.and_then(reqwest::Response::error_for_status).expect("taken");
            }
        })
    };
    let all: Vec<_> = (0..AT_ONCE).map(send).collect();
    let rate = wait_for_rate(cluster, before, MESSAGES).await;
    for one in all {
        one.await.expect("sent");
    }
    println!("a client that does nothing else, {AT_ONCE} at once: {rate:.0} webhooks a second");
    rate
}

/// Microseconds of processor time of the processes that take part: hub, send, receiver.
fn cpu_times() -> [u64; 3] {
    let sink = format!("0.0.0.0:{PORT}");
    [["belfry-hub", "--data-dir"], ["belfry-worker", "send"], ["belfry-sink", &sink]]
        .map(|words| find(&words).into_iter().filter_map(usage).map(|usage| usage.cpu_us).sum())
}

/// The hub updates this from the ledger every 10 s.
async fn hub_commits(cluster: &Cluster) -> f64 {
    tokio::time::sleep(Duration::from_secs(11)).await;
    let ip = cluster
        .kubectl(&["-n", "belfry-system", "get", "svc", "belfry-hub", "-o", "jsonpath={.spec.clusterIP}"])
        .await;
    let text = match reqwest::get(format!("http://{ip}:8081/metrics")).await {
        Ok(answer) => answer.text().await.unwrap_or_default(),
        Err(_) => String::new(),
    };
    let line = text.lines().find(|line| line.starts_with("belfry_hub_commits_total"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(f64::NAN)
}

async fn measure_alertmanager(cluster: &Cluster, url: &str) -> f64 {
    let folder = format!("{}/alertmanager", cluster.folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    let config = json!({
        "route": {"receiver": "hook", "group_by": ["..."], "group_wait": "0s", "group_interval": "1h", "repeat_interval": "4h"},
        "receivers": [{"name": "hook", "webhook_configs": [{"url": url, "send_resolved": false}]}],
    });
    std::fs::write(format!("{folder}/config.yml"), config.to_string()).expect("a file");
    let (file, storage) =
        (format!("--config.file={folder}/config.yml"), format!("--storage.path={folder}/data"));
    cluster
        .bed(
            "run",
            &[
                "--as",
                "alertmanager",
                "--",
                "prometheus-alertmanager",
                &file,
                &storage,
                "--web.listen-address=0.0.0.0:9193",
                "--cluster.listen-address=",
            ],
        )
        .await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let api = format!("http://{}:9193/api/v2/alerts", cluster.node_ip);
    eventually("Alertmanager answers", Duration::from_secs(30), async || {
        client.get(&api).send().await.map_err(|error| error.to_string())
    })
    .await;
    let before = arrived_count(cluster).await;
    let alerts: Vec<_> =
        (0..MESSAGES).map(|n| json!({"labels": {"alertname": "bench", "n": n.to_string()}})).collect();
    for some in alerts.chunks(500) {
        client.post(&api).json(&some).send().await.expect("Alertmanager takes alerts");
    }
    let rate = wait_for_rate(cluster, before, MESSAGES).await;
    println!("Alertmanager, one alert a webhook: {rate:.0} webhooks a second");
    rate
}
