//! Measures consuming and counting a million JSON records of about 270 bytes, of which 1 % match, compared with a
//! librdkafka consumer that does nothing.

use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;

use super::process::{find, usage};
use crate::kafka::{create_topic, producer};
use crate::tenant::Tenant;

const RECORDS: usize = 1_000_000;
/// The only rule of each of our turns: one needs a text that most records don't contain, the other has to look into
/// each record.
const RULES: [(&str, &str); 2] =
    [("a rule with a text", r#"record.level == "ERROR""#), ("one with numbers only", "record.status >= 500")];
/// Turns of each side. A turn takes only a second, and something else may run in it.
const TURNS: usize = 5;

/// Sends all values without waiting for each.
pub async fn produce_all(producer: &FutureProducer, topic: &str, values: &[String]) {
    for value in values {
        loop {
            match producer.send_result(FutureRecord::<(), str>::to(topic).payload(value)) {
                Ok(_) => break,
                // The queue is full: let it drain.
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
    producer.flush(Duration::from_mins(2)).expect("flushed");
}

/// Reads a whole topic of `KAFKA_BOOTSTRAP`, does nothing with it, and prints the seconds and the microseconds of
/// processor time.
pub fn run_bare_consumer(topic: &str) {
    let bootstrap = std::env::var("KAFKA_BOOTSTRAP").expect("KAFKA_BOOTSTRAP");
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "bare")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..6 {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&list).expect("assigned");
    let (mut seen, mut mark) = (0, None);
    let me = std::process::id();
    while seen < RECORDS {
        if matches!(consumer.poll(Duration::from_secs(10)), Some(Ok(_))) {
            seen += 1;
        }
        // For both sides the time starts when a tenth is read.
        if seen == RECORDS / 10 && mark.is_none() {
            mark = Some((Instant::now(), usage(me).map_or(0, |usage| usage.cpu_us)));
        }
    }
    let (start, cpu) = mark.expect("a tenth was read");
    println!("{} {}", start.elapsed().as_secs_f64(), usage(me).map_or(0, |usage| usage.cpu_us) - cpu);
}

/// Prints both rates, their ratio, and the processor time for each record.
pub async fn print() {
    let tenant = Tenant::new("b-consume").await;
    let topic = tenant.topic("logs");
    create_topic(&tenant.cluster.kafka, &topic, 6).await;
    let pad = "x".repeat(136);
    let values: Vec<String> = (0..RECORDS)
        .map(|n| {
            let (level, status) = if n % 100 == 0 { ("ERROR", 503) } else { ("INFO", 200) };
            json!({"time": "2026-01-05T10:00:00.000Z", "level": level, "service": "payments-api", "key": format!("k{}", n % 50),
                   "n": n, "status": status, "message": format!("request handled {pad}")})
            .to_string()
        })
        .collect();
    println!("consume: {RECORDS} records of {} bytes, 1 % matching", values[1].len());
    produce_all(&producer(&tenant.cluster.kafka), &topic, &values).await;
    drop(values);

    let (mut theirs, mut ours) = (Vec::new(), [Vec::new(), Vec::new()]);
    for turn in 0..TURNS {
        theirs.push(bare_turn(&topic).await);
        for (at, (kind, expression)) in RULES.iter().enumerate() {
            // A namespace that has read the topic before would continue at its end.
            let namespace = Tenant::new(&format!("b-consume-{turn}-{at}")).await;
            let figures = belfry_turn(&namespace, &topic, expression).await;
            println!("  Belfry's consumer, {kind}: {figures}");
            ours[at].push(figures);
            // Its consumer must be gone before the next turn.
            namespace
                .cluster
                .kubectl(&["-n", &namespace.ns, "delete", "alr,nch", "--all", "--wait=true"])
                .await;
            namespace.leave().await;
            wait_until_no_consumer_runs().await;
        }
    }
    let bare = Figures::median(&theirs);
    println!("bare librdkafka, median of {TURNS}: {bare}");
    measure_python(&topic, bare.rate).await;
    for ((kind, _), (turns, bar)) in RULES.iter().zip(ours.iter().zip([1.15, 1.5])) {
        let belfry = Figures::median(turns);
        println!("Belfry's consumer, {kind}, median of {TURNS}: {belfry}");
        println!(
            "consume ratio, {kind}: {:.2} of bare librdkafka's rate (bar 0.70), {:.2} of its processor time (bar {bar})",
            belfry.rate / bare.rate,
            belfry.cpu / bare.cpu
        );
    }
    tenant.leave().await;
}

/// Waits until no consumer runs: one from the last turn would disturb the next.
async fn wait_until_no_consumer_runs() {
    let begun = Instant::now();
    while !find(&["belfry-worker", "consume"]).is_empty() {
        assert!(begun.elapsed() < Duration::from_mins(1), "a consumer still runs");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Records per second, and microseconds of processor time per record.
#[derive(Debug, Clone, Copy)]
struct Figures {
    rate: f64,
    cpu: f64,
}

impl Figures {
    /// The median of each figure.
    fn median(turns: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| {
            let mut all: Vec<f64> = turns.iter().map(figure).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        Self { rate: of(|turn| turn.rate), cpu: of(|turn| turn.cpu) }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} records a second, {:.2} us of processor a record", self.rate, self.cpu)
    }
}

/// Runs a librdkafka consumer that does nothing, in its own process.
async fn bare_turn(topic: &str) -> Figures {
    let me = std::env::current_exe().expect("own path");
    let text = crate::cluster::run_command(me.to_str().expect("UTF-8"), &["bare", topic], "")
        .await
        .expect("the bare consumer");
    let figures: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let rest = RECORDS as f64 * 0.9;
    let figures = Figures { rate: rest / figures[0], cpu: figures[1] / rest };
    println!("  bare librdkafka: {figures}");
    figures
}

/// Measures a namespace with one rule, which reads the topic from its beginning.
async fn belfry_turn(tenant: &Tenant, topic: &str, expression: &str) -> Figures {
    let manifest = super::channel_and_rule(&tenant.url("hook"), topic, "{}")
        .replace(
            "condition: {type: Any}",
            "condition: {type: Frequency, frequency: {count: 1000000, window: 1m}}",
        )
        .replace(RULES[0].1, expression);
    tenant.apply(&manifest).await;
    // Look the address up once: each kubectl would take processor time from the measured processes.
    let address = loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if let Some(address) = pod_ip(tenant).await {
            break address;
        }
    };
    let mut mark = None;
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let Some((pid, read)) = consumer_progress(&address).await else { continue };
        let used = usage(pid).map_or(0, |usage| usage.cpu_us);
        if mark.is_none() && read >= RECORDS as f64 / 10.0 {
            mark = Some((Instant::now(), used, read));
        }
        if let (Some((start, cpu, from)), true) = (mark, read >= RECORDS as f64) {
            let (rate, cpu) =
                ((read - from) / start.elapsed().as_secs_f64(), (used - cpu) as f64 / (read - from));
            break Figures { rate, cpu };
        }
    }
}

/// What most people would write: Python with confluent-kafka and json. Skipped if Debian's package is not
/// installed.
async fn measure_python(topic: &str, bare_rate: f64) {
    let bootstrap = std::env::var("KAFKA_BOOTSTRAP").expect("KAFKA_BOOTSTRAP");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/receivers/consume.py");
    let records = RECORDS.to_string();
    let args = [script, &bootstrap, topic, "6", &records];
    match crate::cluster::run_command("/usr/bin/python3", &args, "").await {
        Err(error) => println!("Python's confluent-kafka with json: left out: {error}"),
        Ok(text) => {
            let figures: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            assert_eq!(figures.get(2), Some(&(RECORDS as f64 / 100.0)), "it counted: {text}");
            let rate = figures[0].recip();
            println!(
                "Python's confluent-kafka with json: {rate:.0} records a second, {:.2} us of processor a record, {:.2} of bare \
                 librdkafka's rate",
                figures[1],
                rate / bare_rate
            );
        }
    }
}

/// The address of the consumer's pod, once it runs.
async fn pod_ip(tenant: &Tenant) -> Option<String> {
    let selector = "app.kubernetes.io/component=consume";
    let jsonpath = "jsonpath={.items[0].status.podIP}";
    let ip = tenant
        .cluster
        .try_kubectl(&["-n", &tenant.ns, "get", "pods", "-l", selector, "-o", jsonpath])
        .await
        .ok()?;
    (!ip.trim().is_empty()).then(|| ip.trim().to_owned())
}

/// The consumer's process id, and how many records it has read.
async fn consumer_progress(address: &str) -> Option<(u32, f64)> {
    let text = reqwest::get(format!("http://{address}:9090/metrics")).await.ok()?.text().await.ok()?;
    let read = text
        .lines()
        .filter(|line| line.starts_with("belfry_worker_records_read_total"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    Some((*find(&["belfry-worker", "consume"]).last()?, read))
}
