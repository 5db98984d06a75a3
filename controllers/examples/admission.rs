//! Prints what a question of the API server costs with 10,000 Schedules in the caches, and the memory that they take.
//!
//! From the bytes of a review to the bytes of its answer, by what the webhook calls; without TLS and the network. Run:
//! `cargo run --release -p belfry-controllers --example admission`.
#![allow(clippy::print_stdout, reason = "a tool that prints")]

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use controllers::admission::{Admission, Question};
use controllers::children::Settings;
use controllers::context::Context;
use controllers::guarded::Guarded;
use controllers::hub::Hub;
use controllers::metrics::Metrics;
use crds::{BookableResource, Schedule};
use jiff::Timestamp;
use serde_json::{Value, json};

type Fault = Box<dyn Error>;

const SCHEDULES: u64 = 10_000;
const NAMESPACES: u64 = 100;
/// Schedules of a room, two hours each on five days.
const ROOM: u64 = 20;
/// One in so many meets in a hall that is shared by all namespaces, too.
const GUESTS: u64 = 50;
const ASKED: u64 = 2_000;
const RULES: [&str; 4] =
    ["FREQ=WEEKLY", "FREQ=WEEKLY;INTERVAL=2", "FREQ=WEEKLY;COUNT=52", "FREQ=WEEKLY;INTERVAL=3"];

fn now() -> Timestamp {
    Timestamp::constant(1_798_761_600, 0)
}

fn main() -> Result<(), Fault> {
    let context = Arc::new(context()?);
    let hall = json!({
        "apiVersion": "belfry.dev/v1alpha1", "kind": "BookableResource",
        "metadata": {"name": "hall", "namespace": "rooms", "uid": uid(u64::MAX), "generation": 1},
        "spec": {"capacity": 10_000, "sharedWith": ["*"]},
    });
    context.resources.insert(serde_json::from_value::<Guarded<BookableResource>>(hall)?);
    let begin = resident()?;
    let objects: Vec<Guarded<Schedule>> =
        (0..SCHEDULES).map(|n| serde_json::from_value(schedule(n, n))).collect::<Result<_, _>>()?;
    let read = resident()?;
    let start = Instant::now();
    for object in objects {
        context.schedules.insert(object);
    }
    let looked_at = context.conflicts.recheck(now());
    let built = start.elapsed();
    let held = resident()?;
    let each = |bytes: f64| bytes / SCHEDULES as f64 / 1000.0;
    println!(
        "{SCHEDULES} Schedules of {NAMESPACES} namespaces, a person and a room each, one in {GUESTS} a shared hall: {:.1} kB each as objects, \
         {:.1} kB validated and in the index; all held and compared ({looked_at}) in {:.2} s",
        each(read - begin),
        each(held - read),
        built.as_secs_f64()
    );
    let admission = Admission::new(Arc::clone(&context), Metrics::new());
    // Beside the rooms' last hours, and in the middle of others'.
    let (let_in, refused) = ask(&context, &admission, true)?;
    println!("a create that is let in, and held before the next one: {}", shown(let_in, refused.len()));
    let (let_in, refused) = ask(&context, &admission, false)?;
    println!("a create that is refused with three free times: {}", shown(refused, let_in.len()));
    Ok(())
}

/// Asks for creates at times that are free, or not; how long each took that was let in, and each that was refused.
fn ask(
    context: &Context,
    admission: &Admission,
    free: bool,
) -> Result<(Vec<Duration>, Vec<Duration>), Fault> {
    let (mut let_in, mut refused) = (Vec::new(), Vec::new());
    for n in 0..ASKED {
        // A hundred more rooms, or those that are there.
        let like = if free { SCHEDULES + n } else { n * 5 };
        let object = schedule(SCHEDULES + n, like);
        let review = serde_json::to_vec(&review(&object))?;
        let start = Instant::now();
        let question = Question::read(&review)?;
        let answer = admission.review(&question);
        let allowed = answer.allowed;
        let bytes = serde_json::to_vec(&question.answered(&answer))?;
        let took = start.elapsed();
        drop(bytes);
        if allowed {
            let_in.push(took);
            context.schedules.insert(serde_json::from_value(object)?);
        } else {
            refused.push(took);
        }
    }
    Ok((let_in, refused))
}

fn uid(n: u64) -> String {
    uuid::Uuid::from_u128(u128::from(n)).to_string()
}

/// Schedule `n`, at the room and the time of the one that is `like`.
fn schedule(n: u64, like: u64) -> Value {
    let (room, slot) = (like / ROOM, like % ROOM);
    let shared =
        if n.is_multiple_of(GUESTS) { json!([{"namespace": "rooms", "name": "hall"}]) } else { json!([]) };
    json!({
        "apiVersion": "belfry.dev/v1alpha1", "kind": "Schedule",
        "metadata": {
            "name": format!("schedule-{n}"), "namespace": format!("team-{}", room % NAMESPACES), "uid": uid(n + 1), "generation": 1,
            "resourceVersion": "1", "creationTimestamp": "2026-12-01T00:00:00Z",
        },
        "spec": {
            "title": format!("Meeting {n}"), "timeZone": "Europe/Berlin", "duration": "90m", "conflictPolicy": "Reject",
            "start": format!("2027-01-{:02}T{:02}:00:00", 4 + slot % 5, 9 + slot / 5 * 2),
            "recurrence": {"rrule": RULES[(n % 4) as usize]},
            "resources": [format!("room-{room}")], "sharedResources": shared,
            "participants": [{"name": "Minji", "email": format!("{room}@example.com")}],
            "reminders": [{"before": "10m", "notify": [{"channelRef": {"name": "slack"}}]}],
        },
    })
}

fn review(object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "a", "name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"], "operation": "CREATE",
            "kind": {"group": "belfry.dev", "version": "v1alpha1", "kind": "Schedule"},
            "resource": {"group": "belfry.dev", "version": "v1alpha1", "resource": "schedules"},
            "userInfo": {"username": "minji"}, "object": object, "oldObject": null, "dryRun": false,
        },
    })
}

fn context() -> Result<Context, Fault> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "another TLS provider is there")?;
    // Never asked: nothing here reconciles.
    let hub = protocol::Client::new(protocol::ClientConfig {
        url: "http://127.0.0.1:9".to_owned(),
        ca: None,
        server_name: None,
        token: protocol::TokenSource::Fixed("none".to_owned()),
    })?;
    let settings = Settings {
        image: "none".to_owned(),
        command: "none".to_owned(),
        pull_policy: "Never".to_owned(),
        pull_secrets: Vec::new(),
        hub_url: "http://127.0.0.1:9".to_owned(),
        hub_ca: String::new(),
        audience: "none".to_owned(),
        deny_private: false,
        denied_ranges: Vec::new(),
        allowed_ranges: Vec::new(),
        memory_limit: "none".to_owned(),
        log: "none".to_owned(),
    };
    Ok(Context::new(1, Hub::new(hub, Metrics::new()), settings, calendar::HORIZON, now))
}

fn shown(mut times: Vec<Duration>, others: usize) -> String {
    times.sort_unstable();
    let at = |share: f64| {
        times.get((times.len() as f64 * share) as usize).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    };
    format!("p50 {:.0} us, p99 {:.0} us, of {} ({} others)", at(0.5), at(0.99), times.len(), others)
}

/// Bytes of memory that the process takes.
fn resident() -> Result<f64, Fault> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse::<f64>()? * 1024.0)
}
