//! How far a partition's event time has come.
//!
//! Invariant: a record that comes in time (its event time is at most `allowedLateness` before it is appended) is never
//! behind the progress, whatever producers' clocks say and whenever records are read. So it is counted the same live,
//! from a backlog, after a crash and in a backtest. Therefore only facts about the log advance the progress, never the
//! clock at which a record is read:
//!
//! - a record of a topic with `LogAppendTime` advances it to the record's event time, capped at the broker's timestamp:
//!   all later records were appended later;
//! - with producers' timestamps, every [`MANY`] records advance it to the time that more than nine tenths of them have
//!   reached, minus [`SKEW`]. This keeps a long backlog from being held in memory whole. A few records from the future
//!   cannot advance it, and the late ones among the records do not hinder it;
//! - a clock reading taken before the broker was asked for the partition's end advances it, once all records before
//!   that end are read.
//!
//! What is late is decided in [`crate::decide`].
//!
//! Clauses of docs/semantics.md: E3, E6.

/// The number of records of a partition that are looked at together.
pub const MANY: usize = 1_000;
/// How many of them may be behind the time that the others have reached: fewer than a tenth.
const BEHIND: usize = MANY / 10 - 1;
/// How far ahead nearly all producers' clocks may be, ms.
pub const SKEW: i64 = 60_000;

/// How far a partition's event time has come.
#[derive(Debug, Default, Clone)]
pub struct Progress {
    at: Option<i64>,
    /// Event times of the newest records, fewer than [`MANY`].
    newest: Vec<i64>,
}

impl Progress {
    /// The event time reached, Unix ms; `None` before anything is known.
    pub fn at(&self) -> Option<i64> {
        self.at
    }

    /// Notes a record's event time, and when the broker appended it if the broker's timestamps say so, Unix ms. Call it
    /// in the order of offsets.
    pub fn record(&mut self, time_ms: i64, appended_ms: Option<i64>) {
        if let Some(appended) = appended_ms {
            return self.advance_to(time_ms.min(appended));
        }
        self.newest.push(time_ms);
        if self.newest.len() >= MANY {
            let (_, reached, _) = self.newest.select_nth_unstable(BEHIND);
            let reached = reached.saturating_sub(SKEW);
            self.newest.clear();
            self.advance_to(reached);
        }
    }

    /// Notes that all records appended before this instant have been read, Unix ms.
    pub fn advance_to(&mut self, at_ms: i64) {
        self.at = self.at.max(Some(at_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_225_600_000;
    const YEARS: i64 = 10 * 365 * 86_400_000;

    #[test]
    fn the_brokers_timestamp_bounds_a_record_of_its_own_time() {
        let mut progress = Progress::default();
        progress.record(NOW - 5, Some(NOW));
        assert_eq!(progress.at(), Some(NOW - 5));
        progress.record(NOW + YEARS, Some(NOW + 1));
        assert_eq!(progress.at(), Some(NOW + 1));
        progress.record(NOW - YEARS, Some(NOW + 2));
        assert_eq!(progress.at(), Some(NOW + 1), "it never goes back");
    }

    #[test]
    fn producers_move_it_only_together() {
        let mut progress = Progress::default();
        let many = MANY as i64;
        // Of a thousand, 99 are late and 899 from the future.
        for n in 0..many {
            let time = match n {
                _ if n % 10 == 9 && n > 10 => NOW - YEARS,
                500 | 501 => NOW,
                _ => NOW + YEARS,
            };
            assert_eq!(progress.at(), None);
            progress.record(time, None);
        }
        assert_eq!(progress.at(), Some(NOW - SKEW), "as far as the ones in time let it");
        for n in 0..many {
            progress.record(if n % 2 == 0 { NOW + n } else { NOW + YEARS }, None);
        }
        let reached = progress.at().unwrap();
        assert!((NOW..NOW + many).contains(&(reached + SKEW)), "half of them may be years ahead: {reached}");
    }

    #[test]
    fn nine_of_ten_that_are_ahead_are_not_believed_and_more_are() {
        for (in_time, reached) in [(MANY / 10, NOW), (MANY / 10 - 1, NOW + YEARS)] {
            let mut progress = Progress::default();
            for n in 0..MANY {
                let is_in_time = n % 10 == 0 && n / 10 < in_time;
                progress.record(if is_in_time { NOW } else { NOW + YEARS }, None);
            }
            assert_eq!(progress.at(), Some(reached - SKEW), "{in_time} in time");
        }
    }

    #[test]
    fn a_thousand_begins_anew_after_each() {
        let mut progress = Progress::default();
        for n in 0..2 * MANY as i64 {
            progress.record(NOW + n, None);
        }
        assert_eq!(progress.at(), Some(NOW + (MANY + BEHIND) as i64 - SKEW));
        assert!(progress.newest.is_empty());
    }
}
