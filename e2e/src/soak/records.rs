//! The records of a run: a function of the settings and the record's number, so that what was produced is known without
//! asking anybody.
//!
//! Groups are hot and cold in turns, so that alerts begin and end; some records come out of order, by at most
//! [`MAX_DISORDER_MS`], some late, by hours, and some from a clock that is ahead, by more than records may be late. Never here: a
//! clock. Event times count from the run's start.

use serde_json::{Value, json};

use super::Settings;
use super::chance::{Chance, mix};

/// How far a record's event time lies behind those before it, at most, unless it is late.
pub const MAX_DISORDER_MS: i64 = 4_000;
/// Partitions that each topic begins with.
pub const PARTITIONS: [i32; 3] = [4, 4, 4];
/// Late records come from here on, ms from the start.
const LATE_FROM_MS: i64 = 10_000;
/// How far a late record's event time lies behind the start: longer than any outage could hide.
const LATE_BY_MS: (i64, i64) = (3_600_000, 7_200_000);
/// How far a record from a clock that is ahead lies beyond what records may be late: others behind it would be late if it moved
/// its partition's event time.
const AHEAD_BY_MS: (i64, i64) = (5_000, 25_000);
/// Records go to new partitions so long after these were asked for.
pub const GROWN_AFTER_MS: i64 = 4_000;

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
const TERMINALS: u64 = 6;
const CLUSTERS: u64 = 5;
const AUCTIONS: u64 = 4;

/// A record to produce.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its number, from 0.
    pub n: u64,
    /// Which of the topics it goes to.
    pub topic: usize,
    /// Its partition there.
    pub partition: i32,
    /// When it is produced, ms from the start.
    pub at_ms: i64,
    /// Its event time, ms from the start: `at_ms`, before it where it is out of order or late, after it where it is ahead.
    pub time_ms: i64,
    /// Its value.
    pub value: Value,
}

/// A topic gets more partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// When, ms from the start.
    pub at_ms: i64,
    /// Which topic.
    pub topic: usize,
    /// How many it has then.
    pub partitions: i32,
}

/// What is added under way, clear of the broker's outages.
pub fn growth(settings: &Settings) -> [Growth; 2] {
    let at = |percent: i64| settings.length_ms() * percent / 100;
    [
        Growth { at_ms: at(42), topic: 1, partitions: PARTITIONS[1] + 2 },
        Growth { at_ms: at(52), topic: 1, partitions: PARTITIONS[1] + 3 },
    ]
}

/// How many partitions a topic has for records of this instant.
fn partitions(settings: &Settings, topic: usize, at_ms: i64) -> i32 {
    let grown = growth(settings).into_iter().filter(|one| one.topic == topic);
    grown
        .filter(|one| at_ms >= one.at_ms + GROWN_AFTER_MS)
        .map(|one| one.partitions)
        .fold(PARTITIONS[topic], i32::max)
}

/// All partitions that there are in the end, as (topic, partition).
pub fn places(settings: &Settings) -> Vec<(usize, i32)> {
    (0..PARTITIONS.len())
        .flat_map(|topic| (0..partitions(settings, topic, i64::MAX)).map(move |partition| (topic, partition)))
        .collect()
}

/// How many users there are: so many that each has a little more than one record a second.
pub fn users(rate: u64) -> u64 {
    (rate * 4 / 5).max(1)
}

/// Record number `n` of a run with these settings.
pub fn record(settings: &Settings, n: u64) -> Record {
    let mut chance = Chance::new(settings.seed, 1_000 + n);
    let at_ms = (n * 1000 / settings.rate) as i64;
    let behind = if chance.happens(0.15) { chance.between(0, MAX_DISORDER_MS) } else { 0 };
    let late = at_ms >= LATE_FROM_MS && chance.happens(0.003);
    let time_ms = if late { -chance.between(LATE_BY_MS.0, LATE_BY_MS.1) } else { (at_ms - behind).max(0) };
    let time_ms = ahead(settings, n, at_ms).filter(|_| !late).unwrap_or(time_ms);
    let topic = chance.below(PARTITIONS.len() as u64) as usize;
    let partition = chance.below(partitions(settings, topic, at_ms) as u64) as i32;
    let value = Maker { seed: settings.seed, time_ms, chance }.value(settings, n);
    Record { n, topic, partition, at_ms, time_ms, value }
}

/// The event time of one from a clock that is ahead: within the run, so that this does not last longer for it.
fn ahead(settings: &Settings, n: u64, at_ms: i64) -> Option<i64> {
    let mut chance = Chance::new(!settings.seed, 1_000 + n);
    let time = at_ms + settings.lateness_ms() + chance.between(AHEAD_BY_MS.0, AHEAD_BY_MS.1);
    (chance.happens(0.01) && time < settings.length_ms()).then_some(time)
}

/// Makes a record's value.
struct Maker {
    seed: u64,
    time_ms: i64,
    chance: Chance,
}

impl Maker {
    /// The same for all records of a member whose event times are in the same slot.
    fn slot(&self, what: u64, member: u64, slot_ms: i64) -> u64 {
        let slot = self.time_ms.div_euclid(slot_ms) as u64;
        mix(self.seed ^ mix(what) ^ mix((member * 1_000_003).wrapping_add(slot)))
    }

    fn is_hot(&self, what: u64, member: u64, slot_ms: i64, one_in: u64) -> bool {
        self.slot(what, member, slot_ms).is_multiple_of(one_in)
    }

    fn value(mut self, settings: &Settings, n: u64) -> Value {
        let service = self.chance.below(SERVICES.len() as u64);
        let zone = self.chance.below(ZONES.len() as u64);
        let user = self.chance.below(users(settings.rate));
        let host = self.chance.below(HOSTS);
        let warn = if self.is_hot(1, user, 10_000, 25) { 0.9 } else { 0.04 };
        let error = if self.is_hot(2, service * 3 + zone, 20_000, 3) { 0.3 } else { 0.02 };
        let level = if self.chance.happens(0.008) {
            "FATAL"
        } else if self.chance.happens(warn) {
            "WARN"
        } else if self.chance.happens(error) {
            "ERROR"
        } else {
            "INFO"
        };
        let dear = if self.is_hot(3, 0, 30_000, 2) { 0.5 } else { 0.1 };
        let amount = if self.chance.happens(dear) {
            100.0 + self.chance.below(900) as f64
        } else {
            self.chance.below(100) as f64
        };
        let mut value = json!({
            "n": n, "level": level, "ok": true, "service": SERVICES[service as usize], "zone": ZONES[zone as usize],
            "user": format!("u{user}"), "host": format!("h{host}"), "amount": amount,
            "message": format!("{level} number {n}, said in about as many words as a log line has"),
        });
        let kind = match self.chance.below(100) {
            0..6 => {
                value["ok"] = json!(!self.is_hot(4, host, 12_000, 4));
                "probe"
            }
            6..12 => self.beat(&mut value),
            12..20 => {
                self.login(&mut value, zone);
                "login"
            }
            20..26 => {
                self.bid(&mut value);
                "bid"
            }
            26..30 => {
                self.vote(&mut value);
                "vote"
            }
            _ => {
                let tried = if self.is_hot(9, zone, 12_000, 3) { 0.3 } else { 0.03 };
                value["retry"] = json!(self.chance.happens(tried));
                "log"
            }
        };
        value["kind"] = json!(kind);
        value
    }

    /// Terminals are silent now and then.
    fn beat(&mut self, value: &mut Value) -> &'static str {
        let terminal = self.chance.below(TERMINALS);
        if self.is_hot(5, terminal, 12_000, 4) {
            return "log";
        }
        value["terminal"] = json!(format!("till-{terminal}"));
        "beat"
    }

    /// There are ever more countries, and a hot zone has many devices. Some say no country.
    fn login(&mut self, value: &mut Value, zone: u64) {
        let countries = 6 + self.time_ms.max(0) as u64 / 10_000;
        let devices = if self.is_hot(6, zone, 20_000, 2) { 60 } else { 6 };
        value["device"] = json!(format!("d{}", self.chance.below(devices)));
        if self.chance.happens(0.95) {
            value["country"] = json!(format!("c{}", self.chance.below(countries)));
        }
    }

    /// Bids of an auction rise; some are no number.
    fn bid(&mut self, value: &mut Value) {
        let (auction, length_ms) = (self.chance.below(AUCTIONS), 25_000);
        let (turn, into) = (self.time_ms.div_euclid(length_ms), self.time_ms.rem_euclid(length_ms));
        let bid = 100 + into / 250 + self.chance.between(0, 40);
        value["auction"] = json!(format!("{auction}-{turn}"));
        value["bid"] = if self.chance.happens(0.03) { json!("none") } else { json!(bid) };
    }

    /// Each cluster has a leader for some seconds; a few see another one.
    fn vote(&mut self, value: &mut Value) {
        let cluster = self.chance.below(CLUSTERS);
        let leader = self.slot(7, cluster, 7_000) % 3;
        value["cluster"] = json!(format!("k{cluster}"));
        value["leader"] = match self.chance.below(100) {
            0 => json!("nobody"),
            1..4 => Value::Null,
            _ => json!(leader),
        };
    }
}

/// The first records, one for each partition that there is in the beginning: they are there before anything reads, so a
/// rule has seen all records since their event time.
pub fn first_words(settings: &Settings) -> Vec<Record> {
    let first = settings.records + 1_000;
    let places = (0..PARTITIONS.len()).flat_map(|topic| (0..PARTITIONS[topic]).map(move |p| (topic, p)));
    words(places, first, &json!({"kind": "beat", "terminal": "first"}))
}

/// The last records, one for each partition: their arrival as one alert proves that all before them were read and decided.
pub fn last_words(settings: &Settings) -> Vec<Record> {
    words(places(settings).into_iter(), settings.records, &json!({"kind": "end"}))
}

fn words(places: impl Iterator<Item = (usize, i32)>, first: u64, value: &Value) -> Vec<Record> {
    let numbered = (first..).zip(places);
    numbered
        .map(|(n, (topic, partition))| {
            let mut value = value.clone();
            value["n"] = json!(n);
            Record { n, topic, partition, at_ms: 0, time_ms: 0, value }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Vec<Record> {
        (0..45_000).map(|n| record(&Settings::short(1), n)).collect()
    }

    #[test]
    fn a_record_is_a_function_of_settings_and_number() {
        assert_eq!(record(&Settings::short(3), 77), record(&Settings::short(3), 77));
        assert_ne!(record(&Settings::short(3), 77).value, record(&Settings::short(4), 77).value);
    }

    #[test]
    fn event_times_lie_behind_by_at_most_the_bound_or_by_hours_or_ahead_of_what_may_be_late_and_some_do() {
        let (late, others): (Vec<Record>, Vec<Record>) = some().into_iter().partition(|one| one.time_ms < 0);
        let (ahead, others): (Vec<Record>, Vec<Record>) =
            others.into_iter().partition(|one| one.time_ms > one.at_ms);
        let lateness = Settings::short(1).lateness_ms();
        assert!(ahead.len() > 50 && ahead.len() < 500, "{}", ahead.len());
        assert!(ahead.iter().all(|one| one.time_ms > one.at_ms + lateness));
        assert!(ahead.iter().all(|one| one.time_ms < Settings::short(1).length_ms()));
        assert!(others.iter().all(|one| (0..=MAX_DISORDER_MS).contains(&(one.at_ms - one.time_ms))));
        assert!(others.windows(2).any(|pair| pair[1].time_ms < pair[0].time_ms));
        assert!(late.len() > 50 && late.len() < 500, "{}", late.len());
        assert!(late.iter().all(|one| one.time_ms <= -LATE_BY_MS.0 && one.at_ms >= LATE_FROM_MS));
    }

    #[test]
    fn every_partition_level_and_kind_occurs_and_new_partitions_only_once_they_are_there() {
        let (all, settings) = (some(), Settings::short(1));
        for (topic, partition) in places(&settings) {
            let first = all.iter().find(|one| (one.topic, one.partition) == (topic, partition)).unwrap();
            let grown =
                growth(&settings).into_iter().find(|one| one.topic == topic && partition < one.partitions);
            if let Some(grown) = grown.filter(|_| partition >= PARTITIONS[topic]) {
                assert!(first.at_ms >= grown.at_ms + GROWN_AFTER_MS);
            }
        }
        assert_eq!(places(&settings).len(), 15);
        for level in ["FATAL", "ERROR", "WARN", "INFO"] {
            assert!(all.iter().any(|one| one.value["level"] == level), "{level}");
        }
        for kind in ["log", "probe", "beat", "login", "bid", "vote"] {
            assert!(all.iter().any(|one| one.value["kind"] == kind), "{kind}");
        }
        assert!(all.iter().any(|one| one.value["kind"] == "probe" && one.value["ok"] == false));
    }
}
