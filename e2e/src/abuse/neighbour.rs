//! The neighbour: a namespace that works as always, and how long it waits.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::producer::FutureProducer;
use serde_json::json;
use tokio::process::Child;

use crate::bench::admission::proxy;
use crate::cluster::{condition, eventually};
use crate::kafka::{create_topic, produce, producer};
use crate::tenant::Tenant;

/// A question that takes longer has no answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two questions of a kind.
const PACE: Duration = Duration::from_millis(100);

/// The neighbour.
pub struct Neighbour {
    tenant: Tenant,
    topic: String,
    api: Api,
    hub: (reqwest::Client, String, String),
    producer: FutureProducer,
    produced: AtomicU64,
    /// The number of the last request that was looked for and found.
    heard: AtomicU64,
}

/// A door to the API server.
struct Api {
    client: reqwest::Client,
    url: String,
    _proxy: Child,
}

/// How long the neighbour waited.
#[derive(Debug, Clone, Default)]
pub struct Times {
    /// From a record to its receiver's request: consumer, commit, decision, delivery.
    pub commits: Vec<Duration>,
    /// A list of its notifications, asked of the hub.
    pub reads: Vec<Duration>,
    /// A Schedule, created as a dry run.
    pub admission: Vec<Duration>,
    /// Questions that were not answered as they are when it is quiet.
    pub faults: Vec<String>,
}

impl Times {
    /// The p99 of the three kinds.
    pub fn p99(&self) -> [Duration; 3] {
        [&self.commits, &self.reads, &self.admission].map(|times| at(times, 0.99))
    }
}

fn at(times: &[Duration], share: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get((sorted.len().saturating_sub(1) as f64 * share) as usize).copied().unwrap_or_default()
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [("commits", &self.commits), ("reads", &self.reads), ("admission", &self.admission)];
        let shown = kinds.map(|(name, times)| {
            let ms = |share| at(times, share).as_secs_f64() * 1e3;
            format!("{name} {} p50 {:.0} ms p99 {:.0} ms", times.len(), ms(0.5), ms(0.99))
        });
        f.write_str(&shown.join(", "))
    }
}

impl Neighbour {
    /// A namespace with one rule and one channel, which works before this returns.
    pub async fn new(ns: &str) -> Self {
        let tenant = Tenant::new(ns).await;
        let topic = tenant.topic("events");
        create_topic(&tenant.cluster.kafka, &topic, 2).await;
        tenant.apply(&crate::bench::channel_and_rule(&tenant.url("hook"), &topic, "{}")).await;
        tenant.ready("nch/hook").await;
        tenant.ready("alr/event").await;
        let producer = producer(&tenant.cluster.kafka);
        let (proxy, url) = proxy().await;
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
        let (hub, hub_url) = tenant.cluster.hub_client().await;
        let token = ["-n", ns, "create", "token", "belfry-worker", "--audience=belfry-hub"];
        let token = tenant.cluster.kubectl(&token).await.trim().to_owned();
        let neighbour = Self {
            tenant,
            topic,
            api: Api { client, url, _proxy: proxy },
            hub: (hub, hub_url.to_owned(), token),
            producer,
            produced: AtomicU64::new(0),
            heard: AtomicU64::new(0),
        };
        // The first of each kind opens connections.
        let stop = Arc::new(AtomicBool::new(true));
        let (commits, reads, admission) =
            tokio::join!(neighbour.commits(&stop), neighbour.reads(&stop), neighbour.admission(&stop));
        let faults: Vec<String> = [commits.1, reads.1, admission.1].concat();
        assert!(faults.is_empty(), "the neighbour works before it is disturbed: {faults:?}");
        neighbour
    }

    /// How long its questions take while something else goes on.
    pub async fn measure<T>(&self, meanwhile: impl Future<Output = T>) -> (T, Times) {
        let stop = Arc::new(AtomicBool::new(false));
        let ends = async {
            let done = meanwhile.await;
            stop.store(true, Ordering::Relaxed);
            done
        };
        let (done, commits, reads, admission) =
            tokio::join!(ends, self.commits(&stop), self.reads(&stop), self.admission(&stop));
        let faults = [commits.1, reads.1, admission.1].concat();
        (done, Times { commits: commits.0, reads: reads.0, admission: admission.0, faults })
    }

    /// Asks at its pace until told to stop, at least once.
    async fn ask<F>(stop: &AtomicBool, what: &str, question: F) -> (Vec<Duration>, Vec<String>)
    where
        F: AsyncFn() -> Result<(), String>,
    {
        let (mut times, mut faults) = (Vec::new(), Vec::new());
        loop {
            let start = Instant::now();
            match tokio::time::timeout(PATIENCE, question()).await {
                Ok(Ok(())) => times.push(start.elapsed()),
                Ok(Err(fault)) => faults.push(format!("{what}: {fault}")),
                Err(_) => faults.push(format!("{what}: no answer within {PATIENCE:?}")),
            }
            if stop.load(Ordering::Relaxed) {
                return (times, faults);
            }
            tokio::time::sleep(PACE).await;
        }
    }

    async fn commits(&self, stop: &AtomicBool) -> (Vec<Duration>, Vec<String>) {
        Self::ask(stop, "a record to its receiver", async || {
            let key = format!("n{}", self.produced.fetch_add(1, Ordering::Relaxed));
            let record = json!({"level": "ERROR", "key": key}).to_string();
            produce(&self.producer, &self.topic, None, Some(record.as_bytes()), None).await;
            loop {
                // Only what is new is asked for: else the question grows with all that was received.
                let new = self.tenant.received_after("hook", self.heard.load(Ordering::Relaxed)).await;
                if let Some(one) = new.iter().find(|one| one.title() == key) {
                    self.heard.store(one.number, Ordering::Relaxed);
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    async fn reads(&self, stop: &AtomicBool) -> (Vec<Duration>, Vec<String>) {
        let (client, hub, token) = &self.hub;
        let url = format!("{hub}/v1/namespaces/{}/notifications?limit=20", self.tenant.ns);
        Self::ask(stop, "a list of notifications", async || {
            let answer = client.get(&url).bearer_auth(token).send().await;
            let answer = answer.map_err(|error| error.to_string())?;
            if answer.status().is_success() { Ok(()) } else { Err(answer.status().to_string()) }
        })
        .await
    }

    async fn admission(&self, stop: &AtomicBool) -> (Vec<Duration>, Vec<String>) {
        let url = format!(
            "{}/apis/belfry.dev/v1alpha1/namespaces/{}/schedules?dryRun=All",
            self.api.url, self.tenant.ns
        );
        let schedule = json!({
            "apiVersion": "belfry.dev/v1alpha1", "kind": "Schedule", "metadata": {"name": "weekly"},
            "spec": {
                "title": "Weekly", "timeZone": "Europe/Berlin", "duration": "1h", "conflictPolicy": "Reject",
                "start": "2027-01-04T10:00:00", "recurrence": {"rrule": "FREQ=WEEKLY"}, "resources": ["room"],
            },
        });
        // With failurePolicy Ignore the API server lets in what nobody judged: that it was judged is seen by a refusal.
        let mut wrong = schedule.clone();
        wrong["spec"]["timeZone"] = json!("Europe/Nowhere");
        Self::ask(stop, "a Schedule's admission", async || {
            for (object, expected) in [(&schedule, true), (&wrong, false)] {
                let answer = self.api.client.post(&url).json(object).send().await;
                let answer = answer.map_err(|error| error.to_string())?;
                let status = answer.status();
                if status.is_success() != expected {
                    let text = answer.text().await.unwrap_or_default();
                    let start: String = text.chars().take(300).collect();
                    return Err(format!("{status} where it should be otherwise: {start}"));
                }
            }
            Ok(())
        })
        .await
    }

    /// Its objects that are not Ready.
    pub async fn unreachable(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for what in ["nch/hook", "alr/event"] {
            let object = self.tenant.get(what).await.unwrap_or_default();
            match condition(&object, "Ready") {
                Some((status, ..)) if status == "True" => {}
                other => faults.push(format!("{what}: {other:?}")),
            }
        }
        let events = self.tenant.cluster.try_kubectl(&["-n", &self.tenant.ns, "get", "events"]).await;
        if events.as_ref().is_ok_and(|events| events.contains("HubUnreachable")) {
            faults.push(format!("the neighbour was told HubUnreachable: {}", events.unwrap_or_default()));
        }
        faults
    }

    /// Waits until all that was produced has arrived, once: nothing is lost by it all.
    pub async fn all_arrived(&self) {
        let produced = self.produced.load(Ordering::Relaxed) as usize;
        eventually(&format!("{produced} arrive"), Duration::from_mins(2), async || {
            let all = self.tenant.received("hook").await;
            let titles: std::collections::BTreeSet<String> =
                all.iter().map(crate::sink::Received::title).collect();
            if titles.len() == produced { Ok(()) } else { Err(format!("{} arrived", titles.len())) }
        })
        .await;
    }

    /// Deletes the namespace.
    pub async fn leave(self) {
        self.all_arrived().await;
        self.tenant.leave().await;
    }
}
