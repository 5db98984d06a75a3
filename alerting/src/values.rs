//! The distinct values that a bucket keeps: how many, and which.
//!
//! Invariant: above the bound, the values with the lowest [`rank`] are kept with exact counts, and the others are
//! counted together. A value that is kept in the end was kept at every step before, because its rank among fewer values
//! was no higher.

use std::collections::BTreeMap;

use domain::{Condition, Limit, Values};

/// Values kept per bucket for each of the `topValues`.
pub const TOP_KEPT: usize = 100;
/// Values kept per bucket for a condition, unless it needs more.
pub const VALUES_KEPT: usize = 1_000;
/// The largest limit of `Cardinality`.
pub const MAX_CARDINALITY: i64 = 9_999;

/// How many values a condition keeps per bucket. `Cardinality` keeps one more than its limit, so that crossing it is
/// exact.
pub fn values_kept(condition: &Condition) -> usize {
    match condition {
        Condition::Cardinality { limit: Limit::Above(limit) | Limit::Below(limit), .. } => {
            usize::try_from(limit.clamp(&100, &MAX_CARDINALITY) + 1).unwrap_or(VALUES_KEPT)
        }
        _ => VALUES_KEPT,
    }
}

/// Adds the counts of `more`, then trims to `kept` values.
pub(crate) fn merge_values(into: &mut Values, more: Values, kept: usize) {
    for (value, count) in more.counts {
        *into.counts.entry(value).or_default() += count;
    }
    into.others += more.others;
    trim(into, kept);
}

/// Merges the values of `topValues`, by name.
pub fn merge_top(into: &mut BTreeMap<String, Values>, more: BTreeMap<String, Values>) {
    for (name, more) in more {
        merge_values(into.entry(name).or_default(), more, TOP_KEPT);
    }
}

/// Keeps the `kept` values with the lowest rank; counts the rest as others.
pub(crate) fn trim(values: &mut Values, kept: usize) {
    if values.counts.len() <= kept {
        return;
    }
    let mut ranks: Vec<(u64, &String)> = values.counts.keys().map(|value| (rank(value), value)).collect();
    let (_, (least, value), _) = ranks.select_nth_unstable(kept);
    let bound = (*least, (*value).clone());
    let mut others = 0;
    values.counts.retain(|value, count| {
        let stays = (rank(value), value) < (bound.0, &bound.1);
        others += if stays { 0 } else { *count };
        stays
    });
    values.others += others;
}

/// A value's rank: its FNV-1a hash, mixed so that the high bits depend on all bytes. The same in every process and
/// version, because worker and hub must keep the same values.
pub(crate) fn rank(value: &str) -> u64 {
    let hash = value.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

/// Writes a number as a text that parses back to the same number: `20`, `0.5`, `1e300`.
pub(crate) fn number_to_text(number: f64) -> String {
    let plain = number == 0.0 || (1e-6..1e15).contains(&number.abs());
    if plain { number.to_string() } else { format!("{number:e}") }
}

/// Parses what [`number_to_text`] wrote.
pub(crate) fn text_to_number(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
}
