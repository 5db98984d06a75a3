//! The fault run: produces records with known contents while it kills every kind of process with SIGKILL, takes the broker
//! away, changes the number of consumers and adds partitions, then holds what arrived against a plain recount of what was
//! produced.
//!
//! Read [`records`] (what is produced), [`rules`] (what is applied) and [`recount`] (what should come of it) first, then
//! [`run`]. Never here: crate `alerting`; the recount is written apart from the engine so that it can find its faults.

pub mod arrivals;
pub mod audit;
pub mod chance;
pub mod compare;
mod database;
pub mod faults;
pub mod hub;
pub mod manifests;
pub mod produce;
pub mod records;
pub mod recount;
pub mod rules;
pub mod run;

use std::time::{SystemTime, UNIX_EPOCH};

/// What a run is made of. With the same settings the same records are produced and the same faults are made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many records.
    pub records: u64,
    /// Records a second.
    pub rate: u64,
    /// What chance comes from.
    pub seed: u64,
    /// How many processes must be killed, or the run shows nothing.
    pub kills: usize,
    /// How often the consumers' group must share out partitions anew, or the run shows nothing.
    pub rebalances: usize,
    /// Short windows and outages.
    pub short: bool,
    /// How many hubs there are. With several, the database fails too.
    pub hubs: usize,
}

impl Settings {
    /// The short run of `make test`. Its kills come faster than a group without a member notices it, so that only one
    /// rebalance, after the last of them, is sure.
    pub fn short(seed: u64) -> Self {
        Self { records: 45_000, rate: 500, seed, kills: 25, rebalances: 1, short: true, hubs: 1 }
    }

    /// How long records are produced, ms.
    pub fn length_ms(&self) -> i64 {
        (self.records * 1000 / self.rate) as i64
    }

    /// `allowedLateness` of the rules: longer than any outage of the broker, so that no record is late but those that are
    /// hours behind.
    pub fn lateness_ms(&self) -> i64 {
        if self.short { 40_000 } else { 90_000 }
    }

    /// How many consumers there are in the beginning.
    pub fn consumers(&self) -> i32 {
        if self.short { 2 } else { 4 }
    }
}

/// Unix milliseconds.
#[allow(clippy::disallowed_methods, reason = "the run owns its clock")]
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Sleeps until an instant, Unix ms.
pub async fn sleep_until(at_ms: i64) {
    let wait = (at_ms - now_ms()).max(0) as u64;
    tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use recount::{Seen, What, numbers, recount};
    use rules::{Condition, SoakRule};

    /// The records of a run as they would be read back, and since when rules have seen them.
    fn produced(settings: &Settings) -> (Vec<Seen>, i64) {
        let start = 1_000_000_000;
        let seen = |made: records::Record, time_ms: i64| Seen {
            topic: made.topic,
            partition: made.partition,
            offset: made.n as i64,
            time_ms,
            value: made.value,
        };
        let observed = start - 40_000;
        let mut all: Vec<Seen> =
            records::first_words(settings).into_iter().map(|made| seen(made, observed)).collect();
        all.extend((0..settings.records).map(|n| {
            let made = records::record(settings, n);
            let time = start + made.time_ms;
            seen(made, time)
        }));
        let end = start + settings.length_ms() + 120_000;
        all.extend(records::last_words(settings).into_iter().map(|made| seen(made, end)));
        (all, observed)
    }

    fn says(rule: &SoakRule, seen: &[Seen], observed: i64) {
        let said = recount(std::slice::from_ref(rule), seen, observed);
        let of = |word: &str| {
            let is = |what: &What| matches!(what, What::Alert { kind, .. } if kind.starts_with(word));
            said.iter().filter(|one| is(&one.what)).count()
        };
        let (firing, repeat, resolved) = (of("firing"), of("repeat"), of("resolved"));
        println!("{}: {} ({firing} firing, {repeat} repeat, {resolved} resolved)", rule.name, said.len());
        if rule.speaks_for_each_record() {
            assert!(said.len() > 100, "{}", rule.name);
        } else if rule.name == rules::LAST {
            assert_eq!((firing, said.len()), (1, 1));
        } else {
            assert!(firing > 0 && (repeat > 0) == rule.repeat_ms.is_some(), "{}", rule.name);
            let silent = matches!(rule.condition, Condition::Flatline { .. });
            assert!(if rule.resolve.is_some() { resolved > 0 } else { resolved == 0 }, "{}", rule.name);
            assert!(resolved == firing || rule.resolve.is_none() || silent, "{}", rule.name);
        }
        let numbers = numbers(rule, seen, observed);
        println!("    {numbers:?}");
        assert!(numbers.late == 0 || !rule.speaks_for_each_record());
        assert!(numbers.matched > 2 * numbers.late, "{}: {numbers:?}", rule.name);
    }

    #[test]
    fn in_a_short_run_every_rule_speaks_and_alerts_fire_repeat_and_resolve() {
        let settings = Settings::short(20_260);
        let (seen, observed) = produced(&settings);
        for rule in rules::rules(&settings) {
            says(&rule, &seen, observed);
        }
    }

    #[test]
    fn what_is_said_does_not_depend_on_the_order_in_which_records_are_read_back() {
        let settings = Settings { records: 10_000, ..Settings::short(3) };
        let (mut seen, observed) = produced(&settings);
        let rules = rules::rules(&settings);
        let forward = recount(&rules, &seen, observed);
        seen.reverse();
        assert_eq!(forward, recount(&rules, &seen, observed));
    }
}
