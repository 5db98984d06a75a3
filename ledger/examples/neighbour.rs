//! Prints how long a namespace's commits take while another one's rule has so many groups to count and to decide, all at one
//! boundary: half of them, nine of ten, the worst; alone and with that neighbour.
//!
//! Run: `cargo run -p belfry-ledger --example neighbour -- <groups> <bytes of a key> <folder>` (default: 100,000 groups,
//! 400 bytes, the system's folder for temporary files).
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool that stops at the first fault and prints"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::{Condition, Count, Millis, Plan, PlanBody, RecordRef, RulePlan, Severity, Source, StartFrom};
use jiff::Timestamp;
use ledger::{Ledger, Options, Render, Rendered};
use protocol::messages::{Commit, Entry, PositionsRequest, Sample, TopicEnds};
use uuid::Uuid;

const BUSY: &str = "busy";
const QUIET: &str = "quiet";

struct Plain;

impl Render for Plain {
    fn alert(&self, alert: &domain::AlertData<'_>, _: Instant) -> Rendered {
        Rendered { title: format!("{} is failing", alert.rule), summary: String::new() }
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn rule_of(namespace: &str) -> Uuid {
    Uuid::from_u128(if namespace == BUSY { 1 } else { 2 })
}

fn plan(namespace: &str) -> Plan {
    let policy = domain::AlertPolicy { max_groups: 100_000, ..domain::AlertPolicy::default() };
    let rule = RulePlan {
        source: Source { bootstrap_servers: vec!["kafka:9092".into()], ..Source::default() },
        topics: vec!["orders".into()],
        start_from: StartFrom::Earliest,
        dead_letter_topic: None,
        matches: "true".into(),
        group_by: BTreeMap::new(),
        condition: Condition::Frequency { count: 1_000, window: Millis::from_secs(60) },
        severity: Severity::Warning,
        title: "t".into(),
        summary: String::new(),
        notify: vec![],
        repeat_interval: None,
        resolve: None,
        allowed_lateness: Millis(0),
        policy,
    };
    let body = PlanBody::AlertRule(rule);
    let (uid, namespace) = (rule_of(namespace), namespace.to_owned());
    Plan { namespace, name: "errors".into(), uid, generation: 1, created: now(), suspended: false, body }
}

fn source() -> String {
    let source = Source { bootstrap_servers: vec!["kafka:9092".into()], ..Source::default() };
    source.key().as_str().to_owned()
}

/// Counts of these groups in the first second, with progress up to `until`.
fn entry(namespace: &str, groups: std::ops::Range<i64>, from: i64, key: usize, until: i64) -> Entry {
    let count = |group: i64| {
        let at = RecordRef { time: now(), topic: "orders".into(), partition: 0, offset: group };
        let sample = Sample { at, value: serde_json::json!({"message": "payment declined"}) };
        Count {
            rule: rule_of(namespace),
            group: BTreeMap::from([("key".into(), format!("{group:0key$}"))]),
            bucket_ms: now().as_millisecond(),
            count: 1,
            first: sample.clone(),
            last: sample,
            extras: None,
            top: BTreeMap::new(),
        }
    };
    let to = from + (groups.end - groups.start).max(1);
    Entry {
        topic: "orders".into(),
        topic_id: "A".into(),
        partition: 0,
        from,
        to,
        progress_ms: Some(now().as_millisecond() + until),
        end: to,
        counts: groups.map(count).collect(),
        records: vec![],
        dropped: vec![],
        since_ms: None,
        dead_letters: vec![],
    }
}

async fn commit(ledger: &Ledger, namespace: &str, entry: Entry) -> Duration {
    let plan = ledger.source_plan(namespace, &source()).unwrap();
    let rules = plan.rules.iter().map(|(uid, rule)| (*uid, rule.state.clone())).collect();
    let commit = Commit { revision: plan.revision.clone(), rules, survey: None, entries: vec![entry] };
    let begun = Instant::now();
    let result = ledger.commit(namespace, &source(), commit, now()).await.unwrap();
    assert!(result.entries[0].is_accepted());
    begun.elapsed()
}

/// Measures the neighbour's commits until the other namespace is done.
async fn neighbour(ledger: &Ledger, offset: &mut i64, done: impl Fn() -> bool) -> Vec<Duration> {
    let mut waits = Vec::new();
    while !done() || waits.len() < 50 {
        let next = entry(QUIET, *offset % 10..*offset % 10 + 1, *offset, 20, 0);
        waits.push(commit(ledger, QUIET, next).await);
        *offset += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    waits.sort_unstable();
    waits
}

fn told(what: &str, waits: &[Duration]) {
    let at = |share: usize| waits[waits.len() * share / 100];
    println!(
        "{what:40} {:5} commits: half in {:.1?}, nine of ten in {:.1?}, all in {:.1?}",
        waits.len(),
        at(50),
        at(90),
        waits[waits.len() - 1]
    );
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let groups: i64 = args.next().map_or(100_000, |text| text.parse().unwrap());
    let key: usize = args.next().map_or(400, |text| text.parse().unwrap());
    let folder = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(folder).unwrap();
    let mut options = Options::new(Uuid::from_u128(9));
    // Only time is measured, so the quotas are lifted.
    (options.max_groups, options.max_state_bytes) = (groups + 100, i64::MAX);
    let ledger = Ledger::open(&dir.path().join("ledger.db"), options, Arc::new(Plain)).await.unwrap();
    ledger.put_plans(vec![plan(BUSY), plan(QUIET)], now()).await.unwrap();
    for namespace in [BUSY, QUIET] {
        let ends = TopicEnds { topic: "orders".into(), topic_id: "A".into(), partitions: vec![(0, 0)] };
        let request = PositionsRequest { topics: vec![ends] };
        ledger.positions(namespace, &source(), request).await.unwrap();
    }
    let mut offset = 0;
    told("alone", &neighbour(&ledger, &mut offset, || true).await);
    let counting = tokio::spawn({
        let ledger = ledger.clone();
        async move {
            let mut from = 0;
            while from < groups {
                let to = (from + 500).min(groups);
                commit(&ledger, BUSY, entry(BUSY, from..to, from, key, 0)).await;
                from = to;
            }
        }
    });
    told(
        "while the other's groups are counted",
        &neighbour(&ledger, &mut offset, || counting.is_finished()).await,
    );
    let boundaries = [("while all are decided at one boundary", 2_000), ("while all are forgotten", 120_000)];
    for (from, (what, until)) in (groups..).zip(boundaries) {
        let begun = Instant::now();
        commit(&ledger, BUSY, entry(BUSY, 0..0, from, key, until)).await;
        let deciding = tokio::spawn({
            let ledger = ledger.clone();
            async move { ledger.wait_until_decided().await }
        });
        told(what, &neighbour(&ledger, &mut offset, || deciding.is_finished()).await);
        println!("{:40} took {:.1?}", "", begun.elapsed());
    }
    ledger.close().await;
}
