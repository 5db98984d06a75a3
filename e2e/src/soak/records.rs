//! The records of a run: a function of the seed and the record's number, so that what was produced is known without
//! asking anybody.
//!
//! Groups are hot and cold in turns, so that alerts begin and end; some records come out of order, by at most
//! [`MAX_DISORDER_MS`]. Never here: a clock. Event times count from the run's start.

use serde_json::{Value, json};

use super::chance::{Chance, mix};

/// How far a record's event time lies behind those before it, at most.
pub const MAX_DISORDER_MS: i64 = 4_000;
/// Partitions of the topic.
pub const PARTITIONS: i32 = 6;

const SERVICES: [&str; 12] = [
    "pay-card",
    "pay-bank",
    "pay-wallet",
    "cart",
    "catalog",
    "search",
    "login",
    "mail",
    "stock",
    "tax",
    "tour",
    "web",
];
const ZONES: [&str; 3] = ["a", "b", "c"];
const HOSTS: u64 = 8;

/// A record to produce.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its number, from 0.
    pub n: u64,
    /// Where it goes.
    pub partition: i32,
    /// When it is produced, ms from the start.
    pub at_ms: i64,
    /// Its event time, ms from the start: not after `at_ms`, and before it where it is out of order.
    pub time_ms: i64,
    /// Its value.
    pub value: Value,
}

/// How many users there are: so many that each has a little more than one record a second.
pub fn users(rate: u64) -> u64 {
    (rate * 4 / 5).max(1)
}

/// Record number `n` of a run with this seed and rate (records a second).
pub fn record(seed: u64, rate: u64, n: u64) -> Record {
    let mut chance = Chance::new(seed, 1_000 + n);
    let at_ms = (n * 1000 / rate) as i64;
    let behind = if chance.happens(0.15) { chance.between(0, MAX_DISORDER_MS) } else { 0 };
    let time_ms = (at_ms - behind).max(0);
    let service = chance.below(SERVICES.len() as u64);
    let zone = chance.below(ZONES.len() as u64);
    let user = chance.below(users(rate));
    let host = chance.below(HOSTS);
    let is_hot = |what: u64, member: u64, slot_ms: i64, one_in: u64| {
        let slot = (time_ms / slot_ms) as u64;
        mix(seed ^ mix(what) ^ mix(member * 1_000_003 + slot)).is_multiple_of(one_in)
    };
    let level = if chance.happens(0.008) {
        "FATAL"
    } else if chance.happens(if is_hot(1, user, 10_000, 25) { 0.9 } else { 0.04 }) {
        "WARN"
    } else if chance.happens(if is_hot(2, service * 3 + zone, 20_000, 3) { 0.3 } else { 0.02 }) {
        "ERROR"
    } else {
        "INFO"
    };
    let dear = if is_hot(3, 0, 30_000, 2) { 0.5 } else { 0.1 };
    let amount =
        if chance.happens(dear) { 100.0 + chance.below(900) as f64 } else { chance.below(100) as f64 };
    let probe = chance.happens(0.06);
    let ok = !(probe && is_hot(4, host, 12_000, 4));
    let value = json!({
        "n": n, "kind": if probe { "probe" } else { "log" }, "level": level, "ok": ok,
        "service": SERVICES[service as usize], "zone": ZONES[zone as usize],
        "user": format!("u{user}"), "host": format!("h{host}"), "amount": amount,
        "message": format!("{level} number {n} of {}, said in about as many words as a log line has", SERVICES[service as usize]),
    });
    Record { n, partition: chance.below(PARTITIONS as u64) as i32, at_ms, time_ms, value }
}

/// The last records, one a partition: their arrival as one alert proves that all before them were read and decided.
pub fn last_words(first: u64) -> Vec<Record> {
    (0..PARTITIONS)
        .map(|partition| {
            let n = first + partition as u64;
            Record { n, partition, at_ms: 0, time_ms: 0, value: json!({"n": n, "kind": "end"}) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_function_of_seed_rate_and_number() {
        assert_eq!(record(3, 500, 77), record(3, 500, 77));
        assert_ne!(record(3, 500, 77).value, record(4, 500, 77).value);
    }

    #[test]
    fn event_times_lie_behind_by_at_most_the_bound_and_some_do() {
        let all: Vec<Record> = (0..5000).map(|n| record(1, 500, n)).collect();
        assert!(all.iter().all(|one| one.time_ms <= one.at_ms && one.at_ms - one.time_ms <= MAX_DISORDER_MS));
        assert!(all.windows(2).any(|pair| pair[1].time_ms < pair[0].time_ms));
    }

    #[test]
    fn every_partition_level_and_kind_occurs() {
        let all: Vec<Record> = (0..5000).map(|n| record(1, 500, n)).collect();
        for partition in 0..PARTITIONS {
            assert!(all.iter().any(|one| one.partition == partition));
        }
        for level in ["FATAL", "ERROR", "WARN", "INFO"] {
            assert!(all.iter().any(|one| one.value["level"] == level), "{level}");
        }
        assert!(all.iter().any(|one| one.value["kind"] == "probe" && one.value["ok"] == false));
    }
}
