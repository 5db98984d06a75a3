//! One tenant does its worst while another works: what the other's commits, reads and admission take meanwhile, beside
//! what they take when it is quiet.
//!
//! The worst is done with the rights that any developer has in one namespace: manifests, records, the namespace's own
//! tokens, connections. It must end with operator and hub not started anew, no `HubUnreachable`, and the neighbour served.
//! Never here: a right that a tenant does not have.

pub mod attacks;
pub mod neighbour;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use self::attacks::Attacker;
use self::neighbour::{Neighbour, Times};
use crate::cluster::Cluster;

const SYSTEM: &str = "belfry-system";
/// How many times its quiet p99 the neighbour may wait.
pub const MOST: f64 = 5.0;
const TOGETHER: &str = "all of them side by side";

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Minutes: `make test`.
    Small,
    /// As it was found: `make soak ABUSE=1`.
    Full,
}

/// What one attack did to the neighbour.
#[derive(Debug)]
pub struct Outcome {
    /// The attack.
    pub attack: &'static str,
    /// What the attacker was told.
    pub told: String,
    /// The neighbour's times meanwhile.
    pub times: Times,
}

/// What a run showed.
#[derive(Debug)]
pub struct Report {
    /// The neighbour's times before any of it.
    pub quiet: Times,
    /// One for each attack.
    pub outcomes: Vec<Outcome>,
    /// What must not be: restarts, objects that say `HubUnreachable`, questions without an answer.
    pub faults: Vec<String>,
}

impl Report {
    /// Where a p99 of the neighbour's is more than so many times the quiet one. Below 50 ms there is only the machine to see.
    pub fn slower_than(&self, times: f64) -> Vec<String> {
        let floor = Duration::from_millis(50);
        let quiet = self.quiet.p99().map(|time| time.max(floor).as_secs_f64());
        let mut slower = Vec::new();
        for outcome in &self.outcomes {
            let kinds = ["commits", "reads", "admission"].into_iter().zip(outcome.times.p99()).zip(quiet);
            for ((kind, time), quiet) in kinds {
                let ratio = time.as_secs_f64() / quiet;
                if ratio > times {
                    slower.push(format!("{}: p99 of {kind} {ratio:.1} times the quiet one", outcome.attack));
                }
            }
        }
        slower
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "quiet: {}", self.quiet)?;
        for outcome in &self.outcomes {
            writeln!(f, "{}: {}", outcome.attack, outcome.times)?;
        }
        let slower = self.slower_than(MOST);
        if slower.is_empty() {
            return write!(f, "no p99 of the neighbour's was more than {MOST} times the quiet one");
        }
        write!(f, "{}", slower.join("\n"))
    }
}

/// Runs the attacks whose name has these words one after the other; in full, then all of them together, which counts as an
/// attack of the name [`TOGETHER`].
pub async fn run_attacks(size: Size, words: &str) -> Report {
    let neighbour = Neighbour::new("a-neighbour").await;
    let attacker = Attacker::new("a-attacker", size).await;
    let cluster = &attacker.tenant.cluster;
    let before = restarts(cluster).await;
    let quiet = neighbour.measure(async { tokio::time::sleep(Duration::from_secs(15)).await }).await.1;
    println!("   -> quiet: {quiet}");
    let mut outcomes = Vec::new();
    let mut faults = Vec::new();
    for attack in attacks::all().into_iter().filter(|attack| attack.name.contains(words)) {
        let (told, times) = neighbour.measure(attacker.launch(&attack)).await;
        outcomes.push(note(attack.name, told, times, &mut faults));
    }
    if size == Size::Full && TOGETHER.contains(words) {
        let (told, times) = neighbour.measure(attacker.all()).await;
        outcomes.push(note(TOGETHER, Ok(told), times, &mut faults));
    }
    let after = restarts(cluster).await;
    if before != after {
        faults.push(format!("containers were started anew: {before:?} became {after:?}"));
    }
    faults.extend(neighbour.unreachable().await);
    neighbour.leave().await;
    attacker.tenant.leave().await;
    Report { quiet, outcomes, faults }
}

fn note(
    attack: &'static str,
    told: Result<String, String>,
    times: Times,
    faults: &mut Vec<String>,
) -> Outcome {
    let told = told.unwrap_or_else(|fault| {
        faults.push(format!("{attack}: {fault}"));
        fault
    });
    println!("   -> {attack}: {times}; told: {}", told.replace('\n', " "));
    faults.extend(times.faults.iter().map(|fault| format!("{attack}: {fault}")));
    Outcome { attack, told, times }
}

/// Restarts by pod of Belfry's own namespace; a pod that was replaced shows, too.
async fn restarts(cluster: &Cluster) -> BTreeMap<String, u64> {
    let text = cluster.kubectl(&["-n", SYSTEM, "get", "pods", "-o", "json"]).await;
    let list: Value = serde_json::from_str(&text).expect("pods");
    let pods = list["items"].as_array().into_iter().flatten();
    let of = |pod: &Value| {
        let count = pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0);
        (pod["metadata"]["name"].as_str().unwrap_or_default().to_owned(), count)
    };
    pods.map(of).collect()
}
