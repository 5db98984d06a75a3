//! A run from an empty namespace to its figures.
//!
//! Never: a wait for a while. Each wait is for a condition, has a bound, and says what it saw last.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use super::arrivals::{Arrival, HUNG};
use super::audit::audit;
use super::compare::{Figures, Wanted, compare};
use super::faults::{Done, Faults};
use super::hub::{Hub, of_rule};
use super::manifests::channels;
use super::produce::{self, Acknowledged};
use super::recount::{Expected, Seen, What, last_boundary, recount};
use super::rules::{FIRST, LAST, SoakRule, rules};
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
    /// How often partitions were shared out anew.
    pub rebalances: usize,
    /// Records produced, the first and last words included.
    pub records: usize,
    /// Of these, late ones.
    pub late: usize,
    /// What arrived, for the logs.
    pub arrivals: Vec<Arrival>,
    /// What was wanted, for the logs.
    pub wanted: Vec<Wanted>,
}

/// What is the same throughout a run.
pub struct Run<'a> {
    /// Its settings.
    pub settings: &'a Settings,
    /// Its rules.
    pub rules: Vec<SoakRule>,
    /// The names of its topics.
    pub topics: Vec<String>,
    /// Since when, by event time, the rules have seen all records: the time of the first words.
    pub observed_ms: i64,
}

/// Runs. Logs of pods that are removed on the way are kept in `logs`.
pub async fn run_soak(settings: &Settings, logs: &Path) -> Report {
    let tenant = Tenant::new(NAMESPACE).await;
    let topics = (0..records::PARTITIONS.len()).map(|topic| format!("soak-{}-{topic}", now_ms())).collect();
    let mut run = Run { settings, rules: rules(settings), topics, observed_ms: 0 };
    let mut acknowledged = prepare(&tenant, &mut run).await;
    let sink = Sink::new(&tenant.cluster).await;

    // On a multiple of all widths of buckets, and so is the first words' time: the same seed gives the same alerts, whenever
    // it runs.
    let start = (run.observed_ms + 30_000).max((now_ms() + 11_999) / 10_000 * 10_000);
    say(&format!("producing {} records at {} a second, with faults", settings.records, settings.rate));
    let faults = Faults::new(&tenant.cluster, NAMESPACE, logs);
    let kafka = tenant.cluster.kafka.clone();
    let (mut acknowledged_too, done, ()) = tokio::join!(
        produce::all(&kafka, &run.topics, settings, start),
        faults.make(settings, start),
        change_behaviour(&tenant, start + settings.length_ms() / 2),
    );
    acknowledged.append(&mut acknowledged_too);

    let quiet = last_boundary(&run.rules, start + settings.length_ms());
    say(&format!("all produced; the last alert ends within {} s", (quiet - now_ms()).max(0) / 1000));
    sleep_until(quiet).await;
    acknowledged.append(&mut produce::last(&kafka, &run.topics, settings).await);
    let seen =
        produce::read_back(&kafka, &run.topics, settings, start).unwrap_or_else(|error| panic!("{error}"));
    let wanted = wanted(&run, &seen, &acknowledged);
    say(&format!(
        "{} notifications should arrive; waiting for them, at most lateness and 5 minutes",
        wanted.len()
    ));

    let requests = settle(&sink, &run, &wanted).await;
    let mut faults_seen = Vec::new();
    let arrivals = read_arrivals(&requests, &run.topics, &mut faults_seen);
    let mut figures = compare(&wanted, &arrivals);
    figures.extra += faults_seen.len();
    figures.faults.append(&mut faults_seen);
    audit(&tenant, &run, &seen, &mut figures).await;
    let late = seen.iter().filter(|record| record.time_ms < run.observed_ms).count();
    let rebalances = faults.rebalances(start);
    Report { figures, done, rebalances, records: seen.len(), late, arrivals, wanted }
}

fn say(text: &str) {
    println!("   -> {text}");
}

/// Makes all that a run needs, in an order that leaves nothing to chance: while the rules come the consumers reach no
/// broker; then each partition has its first word before any of them is read. So every rule counts from the first record on,
/// and has seen all records since the first words' time. The acknowledgements of the first words.
async fn prepare(tenant: &Tenant, run: &mut Run<'_>) -> Acknowledged {
    say("namespace, topics, channels and rules");
    let (cluster, settings) = (&tenant.cluster, run.settings);
    for (topic, partitions) in run.topics.iter().zip(records::PARTITIONS) {
        kafka::create_topic(&cluster.kafka, topic, partitions).await;
    }
    behave(tenant, 503).await;
    cluster.kubectl(&["-n", NAMESPACE, "delete", "endpointslice/kafka"]).await;
    let mut objects = channels(NAMESPACE);
    let (lateness_ms, consumers) = (settings.lateness_ms(), settings.consumers());
    let rules = run.rules.iter().map(|rule| rule.manifest(NAMESPACE, &run.topics, lateness_ms, consumers));
    objects.extend(rules);
    let texts: Vec<String> = objects.iter().map(ToString::to_string).collect();
    tenant.apply(&texts.join("\n---\n")).await;
    for rule in &run.rules {
        let name = format!("alertrule/{}", rule.name);
        tenant.condition(&name, "Ready", "False", "BrokerUnreachable", 90).await;
    }

    run.observed_ms = now_ms() / 10_000 * 10_000;
    let acknowledged = produce::first(&cluster.kafka, &run.topics, settings, run.observed_ms).await;
    tenant.expose().await;
    for object in &objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        tenant.ready(&format!("{kind}/{}", object["metadata"]["name"].as_str().unwrap_or_default())).await;
    }
    // Then all that is older than the first words is decided: later records of that time are late.
    let (hub, first) = (Hub::find().await, acknowledged.len() as i64);
    eventually("the first words to be counted", Duration::from_mins(1), async || {
        let statuses = hub.statuses().await;
        let counted = of_rule(&statuses, FIRST).map_or(0, |status| status.matched);
        if counted == first { Ok(()) } else { Err(format!("{counted} of {first}")) }
    })
    .await;
    acknowledged
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
fn wanted(run: &Run<'_>, seen: &[Seen], acknowledged: &Acknowledged) -> Vec<Wanted> {
    let numbers: HashMap<(usize, i32, i64), u64> = seen
        .iter()
        .map(|one| ((one.topic, one.partition, one.offset), one.value["n"].as_u64().unwrap_or(0)))
        .collect();
    let decidable = |expected: &Expected| match expected.what {
        What::Record { topic, partition, offset } => {
            let number = numbers.get(&(topic, partition, offset));
            number.and_then(|n| acknowledged.get(n)).copied().unwrap_or(i64::MAX)
        }
        What::Alert { end_ms, .. } => end_ms + run.settings.lateness_ms(),
    };
    let mut wanted = Vec::new();
    for rule in &run.rules {
        for expected in recount(std::slice::from_ref(rule), seen, run.observed_ms) {
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
async fn settle(sink: &Sink, run: &Run<'_>, wanted: &[Wanted]) -> Vec<Received> {
    const LEASE_MS: i64 = 30_000;
    let hub = Hub::find().await;
    let deadline = now_ms() + run.settings.lateness_ms() + 300_000;
    let mut requests: Vec<Received> = Vec::new();
    let (mut news, mut said) = (now_ms(), now_ms());
    loop {
        let after = requests.last().map_or(sink.from, |last| last.number);
        let new: Vec<Received> = sink.after(after).await;
        if new.iter().any(is_ours) {
            news = now_ms();
        }
        requests.extend(new);
        let arrivals = read_arrivals(&requests, &run.topics, &mut Vec::new());
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

fn read_arrivals(requests: &[Received], topics: &[String], faults: &mut Vec<String>) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    for request in requests.iter().filter(|request| is_ours(request)) {
        match Arrival::from_request(request, topics) {
            Ok(arrival) => arrivals.push(arrival),
            Err(error) => faults.push(format!("unreadable: request {}: {error}", request.number)),
        }
    }
    arrivals
}
