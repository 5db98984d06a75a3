//! The fault run: produces records with known contents while it kills every kind of process with SIGKILL and takes the
//! broker away, then holds what arrived against a plain recount of what was produced.
//!
//! Read [`records`] (what is produced), [`rules`] (what is applied) and [`recount`] (what should come of it) first, then
//! [`run`]. Never here: crate `alerting`; the recount is written apart from the engine so that it can find its faults.

pub mod arrivals;
pub mod chance;
pub mod compare;
pub mod faults;
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
    /// Short windows and outages.
    pub short: bool,
}

impl Settings {
    /// The short run of `make test`.
    pub fn short(seed: u64) -> Self {
        Self { records: 45_000, rate: 500, seed, short: true }
    }

    /// How long records are produced, ms.
    pub fn length_ms(&self) -> i64 {
        (self.records * 1000 / self.rate) as i64
    }

    /// `allowedLateness` of the rules: longer than any outage of the broker, so that no record is late and the recount
    /// needs no notion of lateness.
    pub fn lateness_ms(&self) -> i64 {
        if self.short { 40_000 } else { 90_000 }
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
    use recount::{Seen, What, recount};

    #[test]
    fn in_a_short_run_every_rule_speaks_and_alerts_fire_repeat_and_resolve() {
        let settings = Settings::short(20_260);
        let mut seen: Vec<Seen> = (0..settings.records)
            .map(|n| {
                let made = records::record(settings.seed, settings.rate, n);
                Seen { partition: made.partition, offset: n as i64, time_ms: made.time_ms, value: made.value }
            })
            .collect();
        let time_ms = settings.length_ms() + 120_000;
        seen.extend(records::last_words(settings.records).into_iter().map(|made| Seen {
            partition: made.partition,
            offset: made.n as i64,
            time_ms,
            value: made.value,
        }));
        for rule in rules::rules(&settings) {
            let said = recount(std::slice::from_ref(&rule), &seen);
            let of = |word: &str| {
                said.iter()
                    .filter(|one| matches!(&one.what, What::Alert { kind, .. } if kind.starts_with(word)))
                    .count()
            };
            let (firing, repeat, resolved) = (of("firing"), of("repeat"), of("resolved"));
            println!("{}: {} ({firing} firing, {repeat} repeat, {resolved} resolved)", rule.name, said.len());
            if rule.speaks_for_each_record() {
                assert!(said.len() > 100, "{}", rule.name);
            } else if rule.name == rules::LAST {
                assert_eq!((firing, said.len()), (1, 1));
            } else {
                assert!(firing > 0 && (repeat > 0) == rule.repeat_ms.is_some(), "{}", rule.name);
                assert_eq!(resolved, if rule.resolve.is_some() { firing } else { 0 }, "{}", rule.name);
            }
        }
    }
}
