//! Measures creating a Schedule while their number grows to 10,000, compared with creating a ConfigMap, which no
//! webhook sees.
//!
//! Both take turns, so other load on the machine affects both. Objects are created one at a time through `kubectl
//! proxy`, since a process for each would take longer than what is measured.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::cluster::Cluster;

const COUNT: usize = 10_000;
const NAMESPACES: usize = 20;
/// Schedules of one room, each an hour at another time.
const ROOM: usize = 20;
/// The last creates, when nearly all objects exist, are also reported separately.
const LAST: usize = 1_000;

/// Prints p50 and p99 of both kinds, over all creates and over the last ones.
pub async fn print() {
    // Installing it again returns an error that doesn't matter: there is a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cluster = Cluster::from_env();
    let spaces: Vec<String> = (0..NAMESPACES).map(|n| format!("b-admission-{n}")).collect();
    let manifests: Vec<String> = spaces
        .iter()
        .map(|name| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"))
        .collect();
    cluster.apply(&manifests.join("---\n")).await;
    let (proxy, api_server) = proxy().await;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let create = async |path: String, object: &Value| {
        let start = Instant::now();
        let answer = http
            .post(format!("{api_server}{path}"))
            .json(object)
            .send()
            .await
            .expect("the API server answers");
        let (took, status) = (start.elapsed(), answer.status());
        assert!(status.is_success(), "{path}: {status} {}", answer.text().await.unwrap_or_default());
        took
    };
    let (mut checked, mut unseen) = (Vec::with_capacity(COUNT), Vec::with_capacity(COUNT));
    for n in 0..COUNT {
        let space = &spaces[n / ROOM % NAMESPACES];
        let schedule = schedule(n);
        // The ConfigMap is of about the same size.
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("map-{n}")},
            "data": {"spec": schedule["spec"].to_string()},
        });
        unseen.push(create(format!("/api/v1/namespaces/{space}/configmaps"), &map).await);
        checked
            .push(create(format!("/apis/belfry.dev/v1alpha1/namespaces/{space}/schedules"), &schedule).await);
    }
    let last = |times: &[Duration]| times[times.len() - LAST..].to_vec();
    println!("{COUNT} creates of Schedules: {}", percentiles(checked.clone()));
    println!("{COUNT} creates of ConfigMaps, in turns: {}", percentiles(unseen.clone()));
    println!(
        "of these the last {LAST}: Schedules {}; ConfigMaps {}",
        percentiles(last(&checked)),
        percentiles(last(&unseen))
    );
    drop(proxy);
    let mut delete = vec!["delete", "namespace", "--wait=false"];
    delete.extend(spaces.iter().map(String::as_str));
    cluster.kubectl(&delete).await;
}

/// A Schedule that clashes with no other: each of a room's is at another time.
fn schedule(n: usize) -> Value {
    let slot = n % ROOM;
    json!({
        "apiVersion": "belfry.dev/v1alpha1", "kind": "Schedule", "metadata": {"name": format!("schedule-{n}")},
        "spec": {
            "title": format!("Meeting {n}"), "timeZone": "Europe/Berlin", "duration": "1h", "conflictPolicy": "Reject",
            "start": format!("2027-01-{:02}T{:02}:00:00", 4 + slot % 5, 9 + slot / 5 * 2),
            "recurrence": {"rrule": "FREQ=WEEKLY"}, "resources": [format!("room-{}", n / ROOM)],
        },
    })
}

/// An address of the API server that needs no certificate, as long as the returned process is kept.
pub(crate) async fn proxy() -> (Child, String) {
    let mut child = Command::new("kubectl")
        .args(["proxy", "--port=0"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("kubectl runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let line = lines.next_line().await.expect("it can be read").expect("it says where it listens");
    let address = line.rsplit(' ').next().expect("an address");
    (child, format!("http://{address}"))
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    format!("p50 {:.1} ms, p99 {:.1} ms", at(0.5), at(0.99))
}
