//! A run from an empty namespace to its figures.
//!
//! Never: a wait for a while. Each wait is for a condition, has a bound, and says what it saw last.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use domain::DeliveryState;
use protocol::messages::{NotificationQuery, ObjectStatus, StatusBody};
use protocol::{Client, ClientConfig, TokenSource};
use uuid::Uuid;

use super::arrivals::{Arrival, HUNG};
use super::compare::{Figures, Wanted, compare};
use super::faults::{Done, Faults};
use super::produce::{self, Acknowledged};
use super::recount::{Expected, Seen, What, last_boundary, matched, recount};
use super::rules::{LAST, Rule, channels, rules};
use super::{Settings, now_ms, records, sleep_until};
use crate::cluster::{Cluster, eventually};
use crate::kafka;
use crate::sink::{Behaviour, Received};
use crate::tenant::{SINK_CONTROL, Tenant};

/// The namespace of the run.
pub const NAMESPACE: &str = "soak";

/// What came of a run.
pub struct Report {
    /// The comparison.
    pub figures: Figures,
    /// The faults that were made.
    pub done: Done,
    /// Records produced, the last words included.
    pub records: usize,
    /// What arrived, for the logs.
    pub arrivals: Vec<Arrival>,
    /// What was wanted, for the logs.
    pub wanted: Vec<Wanted>,
}

/// Runs. Logs of pods that are removed on the way are kept in `logs`.
pub async fn run(settings: &Settings, logs: &Path) -> Report {
    let tenant = Tenant::new(NAMESPACE).await;
    let rules = rules(settings);
    let topic = format!("soak-{}", now_ms());
    prepare(&tenant, &rules, &topic, settings).await;
    let sink = Sink::new(&tenant.cluster).await;

    // On a multiple of all widths of buckets: the same seed gives the same alerts, whenever it runs.
    let start = (now_ms() + 11_999) / 10_000 * 10_000;
    say(&format!("producing {} records at {} a second, with faults", settings.records, settings.rate));
    let faults = Faults::new(&tenant.cluster, NAMESPACE, logs);
    let kafka = tenant.cluster.kafka.clone();
    let (mut acknowledged, done, ()) = tokio::join!(
        produce::all(&kafka, &topic, settings, start),
        faults.make(settings, start),
        change_behaviour(&tenant, start + settings.length_ms() / 2),
    );

    let seen = produce::read_back(&kafka, &topic, settings, start).unwrap_or_else(|error| panic!("{error}"));
    let quiet = last_boundary(&rules, &seen);
    say(&format!("all produced; the last alert ends within {} s", (quiet - now_ms()).max(0) / 1000));
    sleep_until(quiet).await;
    acknowledged.append(&mut produce::last(&kafka, &topic, settings).await);
    let seen = produce::read_back(&kafka, &topic, settings, start).unwrap_or_else(|error| panic!("{error}"));
    let wanted = wanted(&rules, &seen, &acknowledged, settings);
    say(&format!(
        "{} notifications should arrive; waiting for them, at most lateness and 5 minutes",
        wanted.len()
    ));

    let requests = settle(&sink, &wanted, settings).await;
    let mut faults_seen = Vec::new();
    let arrivals = read(&requests, &mut faults_seen);
    let mut figures = compare(&wanted, &arrivals);
    figures.extra += faults_seen.len();
    figures.faults.append(&mut faults_seen);
    audit(&tenant, &rules, &seen, &topic, &mut figures).await;
    Report { figures, done, records: seen.len(), arrivals, wanted }
}

fn say(text: &str) {
    println!("   -> {text}");
}

async fn prepare(tenant: &Tenant, rules: &[Rule], topic: &str, settings: &Settings) {
    say("namespace, topic, channels and rules");
    kafka::create_topic(&tenant.cluster.kafka, topic, records::PARTITIONS).await;
    behave(tenant, 503).await;
    let mut objects = channels(NAMESPACE);
    objects.extend(rules.iter().map(|rule| rule.manifest(NAMESPACE, topic, settings.lateness_ms())));
    let texts: Vec<String> = objects.iter().map(ToString::to_string).collect();
    tenant.apply(&texts.join("\n---\n")).await;
    for object in &objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        tenant.ready(&format!("{kind}/{}", object["metadata"]["name"].as_str().unwrap_or_default())).await;
    }
}

/// The receivers' manners, which are part of the run.
async fn behave(tenant: &Tenant, flaky: u16) {
    let after = |seconds: &str| BTreeMap::from([("retry-after".to_owned(), seconds.to_owned())]);
    tenant.behave("flaky", Behaviour { status: flaky, every: 4, ..Behaviour::default() }).await;
    tenant
        .behave("busy", Behaviour { status: 429, headers: after("1"), every: 9, ..Behaviour::default() })
        .await;
    tenant
        .behave("hanging", Behaviour { status: HUNG, hang_ms: 4_000, every: 11, ..Behaviour::default() })
        .await;
}

async fn change_behaviour(tenant: &Tenant, at_ms: i64) {
    sleep_until(at_ms).await;
    behave(tenant, 500).await;
}

/// What should come over which channel, and since when it could.
fn wanted(rules: &[Rule], seen: &[Seen], acknowledged: &Acknowledged, settings: &Settings) -> Vec<Wanted> {
    let numbers: HashMap<(i32, i64), u64> =
        seen.iter().map(|one| ((one.partition, one.offset), one.value["n"].as_u64().unwrap_or(0))).collect();
    let decidable = |expected: &Expected| match expected.what {
        What::Record { partition, offset } => {
            numbers.get(&(partition, offset)).and_then(|n| acknowledged.get(n)).copied().unwrap_or(i64::MAX)
        }
        What::Alert { end_ms, .. } => end_ms + settings.lateness_ms(),
    };
    let mut wanted = Vec::new();
    for rule in rules {
        for expected in recount(std::slice::from_ref(rule), seen) {
            for channel in rule.channels {
                let decidable_ms = decidable(&expected);
                wanted.push(Wanted { channel, expected: expected.clone(), decidable_ms });
            }
        }
    }
    wanted
}

/// The sink's control, read bit by bit.
struct Sink {
    http: reqwest::Client,
    url: String,
    from: u64,
}

impl Sink {
    async fn new(cluster: &Cluster) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let url = format!("http://{}:{SINK_CONTROL}/received", cluster.node_ip);
        let mut sink = Self { http, url, from: 0 };
        // What an earlier run received is none of ours.
        sink.from = sink.after(0).await.last().map_or(0, |last| last.number);
        sink
    }

    async fn after(&self, number: u64) -> Vec<Received> {
        let answer =
            self.http.get(format!("{}?after={number}", self.url)).send().await.expect("the sink answers");
        answer.json().await.expect("a list")
    }
}

/// Waits until all is quiet: the last word has come, the hub has nothing pending, and whatever was wanted has come or
/// nothing new has for a time in which every lease runs out.
async fn settle(sink: &Sink, wanted: &[Wanted], settings: &Settings) -> Vec<Received> {
    const LEASE_MS: i64 = 30_000;
    let hub = Hub::find().await;
    let deadline = now_ms() + settings.lateness_ms() + 300_000;
    let mut requests: Vec<Received> = Vec::new();
    let (mut news, mut said) = (now_ms(), now_ms());
    loop {
        let after = requests.last().map_or(sink.from, |last| last.number);
        let new: Vec<Received> = sink.after(after).await;
        if new.iter().any(is_ours) {
            news = now_ms();
        }
        requests.extend(new);
        let arrivals = read(&requests, &mut Vec::new());
        let last = arrivals.iter().any(|arrival| arrival.rule == LAST && arrival.acknowledged());
        let figures = compare(wanted, &arrivals);
        let whole = figures.arrived == figures.expected || now_ms() > news + LEASE_MS;
        let pending = if last && whole { hub.pending().await } else { Ok(1) };
        if pending == Ok(0) || now_ms() > deadline {
            if now_ms() > deadline {
                println!("      not quiet in time: last word {last}, pending at the hub {pending:?}");
            }
            return requests;
        }
        if now_ms() > said + 10_000 {
            said = now_ms();
            println!("      {} of {} arrived", figures.arrived, figures.expected);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn is_ours(request: &Received) -> bool {
    request
        .path
        .strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .is_some_and(|(ns, _)| ns == NAMESPACE)
}

fn read(requests: &[Received], faults: &mut Vec<String>) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    for request in requests.iter().filter(|request| is_ours(request)) {
        match Arrival::read(request) {
            Ok(arrival) => arrivals.push(arrival),
            Err(error) => faults.push(format!("unreadable: request {}: {error}", request.number)),
        }
    }
    arrivals
}

/// The hub's own figures against the recount: every matching record counted once, none late, none dropped.
async fn audit(tenant: &Tenant, rules: &[Rule], seen: &[Seen], topic: &str, figures: &mut Figures) {
    let hub = Hub::find().await;
    let statuses = hub.settled(|statuses| {
        rules.iter().all(|rule| match statuses.get(rule.name).map(|status| &status.body) {
            Some(StatusBody::AlertRule(status)) => status.matched >= matched(rule, seen),
            _ => false,
        })
    });
    let statuses = statuses.await;
    for rule in rules {
        let Some(StatusBody::AlertRule(status)) = statuses.get(rule.name).map(|status| &status.body) else {
            figures.lost += 1;
            figures.faults.push(format!("the hub has no status of rule {}", rule.name));
            continue;
        };
        let right = matched(rule, seen);
        if status.matched > right {
            figures.counted_twice += (status.matched - right) as usize;
            figures
                .faults
                .push(format!("rule {} counted {} records instead of {right}", rule.name, status.matched));
        } else if status.matched < right {
            figures.lost += (right - status.matched) as usize;
            figures
                .faults
                .push(format!("rule {} counted {} records instead of {right}", rule.name, status.matched));
        }
        if status.late > 0 {
            figures.lost += status.late as usize;
            figures.faults.push(format!(
                "rule {}: {} records were late: the run shows nothing",
                rule.name, status.late
            ));
        }
        let begun = (0..records::PARTITIONS)
            .all(|partition| status.activation.get(&format!("{topic}/{partition}")) == Some(&0));
        if !begun {
            figures
                .faults
                .push(format!("rule {} did not count from the start: {:?}", rule.name, status.activation));
            figures.lost += 1;
        }
    }
    for channel in channels(NAMESPACE) {
        let name = channel["metadata"]["name"].as_str().unwrap_or_default();
        let Some(StatusBody::NotificationChannel(status)) = statuses.get(name).map(|status| &status.body)
        else {
            figures.lost += 1;
            figures.faults.push(format!("the hub has no status of channel {name}"));
            continue;
        };
        let ended = status.dead + status.expired + status.suppressed;
        if ended > 0 {
            figures.lost += ended as usize;
            figures.faults.push(format!("channel {name}: {ended} dead, expired or suppressed: {status:?}"));
        }
    }
    late_in_status(tenant, rules, figures).await;
}

/// What a user sees: `late` in the objects' status.
async fn late_in_status(tenant: &Tenant, rules: &[Rule], figures: &mut Figures) {
    for rule in rules {
        let object = tenant.get(&format!("alertrule/{}", rule.name)).await.unwrap_or_default();
        if object["status"]["late"].as_i64().unwrap_or(0) > 0 {
            figures.lost += 1;
            figures.faults.push(format!("rule {}: status.late is {}", rule.name, object["status"]["late"]));
        }
    }
}

/// The hub, asked as the operator and as a worker of the namespace would.
struct Hub {
    operator: Client,
    worker: Client,
}

impl Hub {
    async fn find() -> Self {
        let cluster = Cluster::from_env();
        let system = "belfry-system";
        let address = ["-n", system, "get", "svc", "belfry-hub", "-o", "jsonpath={.spec.clusterIP}"];
        let url = format!("http://{}:8080", cluster.kubectl(&address).await.trim());
        let token = async |ns: &str, account: &str| {
            let args = ["-n", ns, "create", "token", account, "--audience=belfry-hub"];
            TokenSource::Fixed(cluster.kubectl(&args).await.trim().to_owned())
        };
        let client =
            |token| Client::new(ClientConfig { url: url.clone(), ca: None, token }).expect("a client");
        Self {
            operator: client(token(system, "belfry-operator").await),
            worker: client(token(NAMESPACE, "belfry-worker").await),
        }
    }

    async fn pending(&self) -> Result<usize, String> {
        let query = NotificationQuery { state: Some(DeliveryState::Pending), limit: Some(500), object: None };
        let list = self.worker.notifications(NAMESPACE, &query).await.map_err(|error| error.to_string())?;
        Ok(list.items.len())
    }

    /// All statuses of the namespace, once they are so, or as they are after a minute: counters are told up to half a
    /// minute late.
    async fn settled(
        &self,
        so: impl Fn(&BTreeMap<String, ObjectStatus>) -> bool,
    ) -> BTreeMap<String, ObjectStatus> {
        let deadline = now_ms() + 60_000;
        loop {
            let statuses = self.statuses().await;
            if so(&statuses) || now_ms() > deadline {
                return statuses;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// All statuses of the namespace by name. Names of rules and channels differ.
    async fn statuses(&self) -> BTreeMap<String, ObjectStatus> {
        eventually("the hub's statuses", Duration::from_mins(1), async || {
            let (mut after, mut all, mut ledger) = (0, BTreeMap::<Uuid, ObjectStatus>::new(), None);
            loop {
                let feed =
                    self.operator.feed(after, Duration::ZERO).await.map_err(|error| error.to_string())?;
                if *ledger.get_or_insert(feed.ledger) != feed.ledger {
                    return Err("the ledger changed".to_owned());
                }
                let end = feed.objects.is_empty() || feed.version == after;
                all.extend(feed.objects.into_iter().map(|status| (status.uid, status)));
                if end {
                    let ours = all.into_values().filter(|status| status.namespace == NAMESPACE);
                    return Ok(ours.map(|status| (status.name.clone(), status)).collect());
                }
                after = feed.version;
            }
        })
        .await
    }
}
