//! Measures what a user waits for: from apply to Ready, and from a record to the receiver's request.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::cluster::eventually;
use crate::kafka::{create_topic, produce, producer};
use crate::sink::Received;
use crate::tenant::Tenant;

#[allow(clippy::disallowed_methods, reason = "a benchmark owns its clock")]
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Prints both times.
pub async fn print() {
    let tenant = Tenant::new("b-latency").await;
    let topic = tenant.topic("events");
    create_topic(&tenant.cluster.kafka, &topic, 6).await;
    let manifest = super::channel_and_rule(&tenant.url("hook"), &topic, "{}");
    let start = Instant::now();
    tenant.apply(&manifest).await;
    tenant.ready("alr/event").await;
    println!(
        "from apply to Ready, the namespace's first rule (its pods start): {:.1} s",
        start.elapsed().as_secs_f64()
    );
    let mut times: Vec<f64> = Vec::new();
    for n in 0..10 {
        let manifest = super::channel_and_rule(&tenant.url("hook"), &topic, "{}")
            .replace("name: event,", &format!("name: event-{n},"));
        let start = Instant::now();
        tenant.apply(&manifest.replace("ERROR", "NEVER")).await;
        tenant.ready(&format!("alr/event-{n}")).await;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    println!(
        "from apply to Ready, a further rule of the source: p50 {:.2} s, slowest of 10 {:.2} s",
        times[5], times[9]
    );

    let producer = producer(&tenant.cluster.kafka);
    let mut times: Vec<f64> = Vec::new();
    for n in 0..5 {
        let (level, key) = (format!("TURN{n}"), format!("turn {n}"));
        let changed = manifest.replace("name: event,", "name: event-0,").replace("ERROR", &level);
        let record = json!({"level": level, "key": key}).to_string();
        tenant.apply(&changed).await;
        let start = Instant::now();
        while !tenant.received("hook").await.iter().any(|one| one.title() == key) {
            produce(&producer, &topic, None, Some(record.as_bytes()), None).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    println!(
        "from apply of a changed rule to the first alert by it: p50 {:.2} s, slowest of 5 {:.2} s (to be below 5 s)",
        times[2], times[4]
    );

    let mut sent = Vec::new();
    for n in 0..200 {
        let record = json!({"level": "ERROR", "key": format!("{n}")}).to_string();
        sent.push(now_ms());
        produce(&producer, &topic, None, Some(record.as_bytes()), None).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut waits = eventually("all arrive", Duration::from_mins(1), async || {
        let all = tenant.received("hook").await;
        let waited = |one: &Received| {
            let n: usize = one.title().parse().ok()?;
            Some(one.time_ms.saturating_sub(*sent.get(n)?))
        };
        let waits: Vec<u64> = all.iter().filter_map(waited).collect();
        if waits.len() >= sent.len() { Ok(waits) } else { Err(format!("{} arrived", waits.len())) }
    })
    .await;
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    println!(
        "from produce to the receiver's request, Any, 20 a second: p50 {} ms, p99 {} ms",
        at(0.5),
        at(0.99)
    );
    tenant.leave().await;
}
