//! What objects with the largest annotations cost the operator: resident memory before and after a watch has cached them.
//!
//! `cargo run -p belfry-controllers --example annotations [OBJECTS]`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;

use controllers::cache::{Cache, follow};
use controllers::guarded::Guarded;
use crds::AlertRule;
use http::{Request, Response};
use kube::client::Body;
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::json;

/// An API server's listing of so many rules, in pages as asked for; then a watch in which nothing happens.
fn answer(query: &str, objects: usize) -> Vec<u8> {
    if query.contains("watch=true") {
        return Vec::new();
    }
    let number = |key: &str| -> Option<usize> {
        query.split('&').find_map(|pair| pair.strip_prefix(key))?.parse().ok()
    };
    let from = number("continue=").unwrap_or(0);
    let to = (from + number("limit=").unwrap_or(objects)).min(objects);
    let next = if to < objects { to.to_string() } else { String::new() };
    let head = json!({"resourceVersion": "1", "continue": next});
    // As text, so that the mock takes no more memory than what it sends.
    let mut list = format!(
        "{{\"apiVersion\":\"belfry.dev/v1alpha1\",\"kind\":\"AlertRuleList\",\"metadata\":{head},\"items\":["
    );
    let config = "x".repeat(255 << 10);
    let spec = json!({
        "source": {"kafka": {"bootstrapServers": ["kafka:9092"], "topics": ["t"]}},
        "match": "true", "condition": {"type": "Any"}, "title": "t", "notify": [{"channelRef": {"name": "c"}}],
    });
    for number in from..to {
        list += if number == from { "" } else { "," };
        write!(
            list,
            "{{\"apiVersion\":\"belfry.dev/v1alpha1\",\"kind\":\"AlertRule\",\"spec\":{spec},\"metadata\":{{\"name\":\"rule-{number}\",\"namespace\":\"payments\",\"uid\":\"{number}\",\"generation\":1,\"annotations\":{{\"kubectl.kubernetes.io/last-applied-configuration\":\""
        )
        .unwrap();
        list += &config;
        list += "\"}}}";
    }
    list += "]}";
    list.into_bytes()
}

fn memory(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let objects: usize = std::env::args().nth(1).map_or(200, |objects| objects.parse().unwrap());
    let service = tower::service_fn(move |request: Request<Body>| {
        let body = answer(request.uri().query().unwrap_or_default(), objects);
        async move { Ok::<_, Infallible>(Response::new(Body::from(body))) }
    });
    let api = Api::<Guarded<AlertRule>>::all(Client::new(service, "default"));
    let cache = Cache::new(1);
    let before = memory("VmRSS");
    let config = watcher::Config::default();
    let following = tokio::spawn(follow(api, config, None, Arc::clone(&cache), |_| (), |_| ()));
    cache.synced().await;
    following.abort();
    let (after, most) = (memory("VmRSS"), memory("VmHWM"));
    println!(
        "{} objects of 255 KiB annotations: {before} MiB before, {after} MiB after, {most} MiB at most (a page of the listing is in it twice)",
        cache.in_namespace("payments").len()
    );
}
