//! Tells whether a rule can count the records that came recently.
//!
//! Invariants: the numbers cover about the last 1,000 records, weighted towards newer ones, and start anew when the
//! rule's state hash changes. The sample stays as long as its reason does, so that the status doesn't change all the
//! time. It never holds a value of a record.

use domain::DropReason;
use protocol::messages::{DropSample, Entry, Uncountable};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The number of records after which all numbers are halved.
pub(crate) const HALVED_AFTER: i64 = 1_000;
/// With fewer failed records than this, nothing is reported.
const MIN_RECORDS: i64 = 3;
/// How long the status reports that a quota was met, ms.
pub(crate) const QUOTA_MET_MS: i64 = 3_600_000;

/// Numbers of the records that came recently.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct RecentRecords {
    #[sqlx(rename = "lately_read")]
    pub(crate) read: i64,
    /// Records that could not be decoded, or for which `match` gave no answer.
    #[sqlx(rename = "lately_failed")]
    pub(crate) failed: i64,
    /// Records that matched and could not be counted.
    #[sqlx(rename = "lately_lost")]
    pub(crate) lost: i64,
    #[sqlx(rename = "lately_counted")]
    pub(crate) counted: i64,
}

/// A record that could not be counted, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredDropSample {
    reason: DropReason,
    partition: String,
    offset: i64,
    detail: String,
}

impl StoredDropSample {
    pub(crate) fn reason(&self) -> DropReason {
        self.reason
    }

    pub(crate) fn new(reason: DropReason, entry: &Entry, sample: Option<&DropSample>) -> Self {
        let within = |text: &str, most: usize| text.chars().take(most).collect();
        Self {
            reason,
            partition: sample.map(|_| format!("{}/{}", entry.topic, entry.partition)).unwrap_or_default(),
            offset: sample.map_or(0, |sample| sample.offset),
            detail: sample.map(|sample| within(&sample.detail, 200)).unwrap_or_default(),
        }
    }
}

impl RecentRecords {
    /// Adds records that were left out for a reason. Returns whether they say anything about the rule.
    pub(crate) fn add_dropped(&mut self, reason: DropReason, count: i64) -> bool {
        if reason == DropReason::Tombstone {
            // A tombstone says nothing about the rule.
            self.read -= count;
            return false;
        }
        if reason.is_after_match() {
            self.lost += count;
        } else if reason == DropReason::Undecodable || reason.is_of_match() {
            self.failed += count;
        } else {
            return false;
        }
        true
    }

    /// The share of records that can't be counted, in per cent, rounded down to tens, and whether it is a share of
    /// the matched records. `None` below one half.
    pub(crate) fn uncountable_share(self) -> Option<(i32, bool)> {
        let tens = |part: i64, of: i64| i32::try_from(part * 10 / of.max(part).max(1) * 10).unwrap_or(100);
        if self.failed >= MIN_RECORDS && self.failed * 2 >= self.read {
            return Some((tens(self.failed, self.read), false));
        }
        let matched = self.lost + self.counted;
        (self.lost >= MIN_RECORDS && self.lost * 2 >= matched).then(|| (tens(self.lost, matched), true))
    }
}

/// What the status says about a rule that can't count at least half of its records.
pub(crate) fn uncountable_status(
    recent: RecentRecords,
    sample: Option<&str>,
) -> Result<Option<Uncountable>, Error> {
    let Some((share, matched)) = recent.uncountable_share() else { return Ok(None) };
    let sample: Option<StoredDropSample> = sample.map(serde_json::from_str).transpose()?;
    let fits = sample.filter(|sample| sample.reason.is_after_match() == matched);
    let unknown = || StoredDropSample {
        reason: if matched { DropReason::GroupMissing } else { DropReason::MatchFailed },
        partition: String::new(),
        offset: 0,
        detail: String::new(),
    };
    let StoredDropSample { reason, partition, offset, detail } = fits.unwrap_or_else(unknown);
    Ok(Some(Uncountable { reason, share, matched, partition, offset, detail }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_said_from_half_on_and_only_of_all_as_all() {
        let of =
            |read, failed, lost, counted| RecentRecords { read, failed, lost, counted }.uncountable_share();
        assert_eq!(of(3, 3, 0, 0), Some((100, false)));
        assert_eq!(of(1_000, 999, 0, 1), Some((90, false)));
        assert_eq!(of(6, 3, 0, 3), Some((50, false)));
        assert_eq!(of(7, 3, 0, 4), None);
        assert_eq!(of(2, 2, 0, 0), None, "too few to tell");
        assert_eq!(of(1_000, 0, 3, 0), Some((100, true)), "few match, and none of them counts");
        assert_eq!(of(1_000, 0, 3, 4), None);
        assert_eq!(of(0, 0, 0, 0), None);
    }
}
