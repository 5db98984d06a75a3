//! Measures sizes: binaries, image, and resident memory when idle.

use super::process::{find, usage};
use crate::kafka::create_topic;
use crate::tenant::Tenant;

const MIB: f64 = 1024.0 * 1024.0;

/// Prints the sizes of the image's binaries and the memory of each idle process.
pub async fn print() {
    let mut image = 0;
    for part in ["operator", "hub", "worker"] {
        let file = format!("target/image/belfry-{part}");
        let bytes = std::fs::metadata(&file).map_or(0, |meta| meta.len());
        image += bytes;
        println!("size of belfry-{part}: {:.1} MiB (bar 15)", bytes as f64 / MIB);
    }
    let roots = std::fs::metadata("/etc/ssl/certs/ca-certificates.crt").map_or(0, |meta| meta.len());
    println!("size of the image: {:.1} MiB", (image + roots) as f64 / MIB);

    let tenant = Tenant::new("b-idle").await;
    let topic = tenant.topic("idle");
    create_topic(&tenant.cluster.kafka, &topic, 6).await;
    tenant.apply(&super::channel_and_rule(&tenant.url("hook"), &topic, "{}")).await;
    tenant.ready("alr/event").await;
    tenant.ready("nch/hook").await;
    // Idle means half a minute without work after the start.
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    for (what, words, bar) in [
        ("operator", ["belfry-operator", "--hub-url"], 25),
        ("hub", ["belfry-hub", "--data-dir"], 25),
        ("worker consume", ["belfry-worker", "consume"], 10),
        ("worker send", ["belfry-worker", "send"], 10),
        ("worker retry", ["belfry-worker", "retry"], 10),
    ] {
        let all: Vec<f64> =
            find(&words).into_iter().filter_map(usage).map(|usage| usage.resident as f64 / MIB).collect();
        let largest = all.iter().copied().fold(0.0, f64::max);
        println!("resident, idle, {what}: {largest:.1} MiB, the largest of {} (bar {bar})", all.len());
    }
    tenant.leave().await;
}
