//! The values of a bucket: how many are kept, and which.
//!
//! Invariant: of more values than the bound, those that [`rank`] lowest are kept with exact numbers, and the others are counted
//! together. A value that is kept in the end was kept all along, because it ranks as low among fewer.

use std::collections::BTreeMap;

use domain::{Condition, Limit, Values};

/// Values of one of the `topValues` that are kept in a bucket.
pub const TOP_KEPT: usize = 100;
/// Values that a condition keeps in a bucket where it does not need more.
pub const VALUES_KEPT: usize = 1_000;
/// Distinct values that `Cardinality` can be asked to tell apart.
pub const MAX_CARDINALITY: i64 = 9_999;

/// How many values of a bucket a condition keeps: `Cardinality` one more than its limit, so that crossing it is exact.
pub fn values_kept(condition: &Condition) -> usize {
    match condition {
        Condition::Cardinality { limit: Limit::Above(limit) | Limit::Below(limit), .. } => {
            usize::try_from(limit.clamp(&100, &MAX_CARDINALITY) + 1).unwrap_or(VALUES_KEPT)
        }
        _ => VALUES_KEPT,
    }
}

/// Adds the numbers of the same values, within the bound.
pub(crate) fn merge_values(into: &mut Values, more: Values, kept: usize) {
    for (value, count) in more.counts {
        *into.counts.entry(value).or_default() += count;
    }
    into.others += more.others;
    trim(into, kept);
}

/// Adds the values of `topValues`, by name.
pub fn merge_top(into: &mut BTreeMap<String, Values>, more: BTreeMap<String, Values>) {
    for (name, more) in more {
        merge_values(into.entry(name).or_default(), more, TOP_KEPT);
    }
}

/// Keeps the values that rank lowest.
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

/// A value's place among all values: FNV-1a, mixed so that its high bits depend on all bytes. The same in every process
/// and version, because worker and hub must keep the same values.
pub(crate) fn rank(value: &str) -> u64 {
    let hash = value.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

/// A number as a text that reads back to it: `20`, `0.5`, `1e300`.
pub(crate) fn number_to_text(number: f64) -> String {
    let plain = number == 0.0 || (1e-6..1e15).contains(&number.abs());
    if plain { number.to_string() } else { format!("{number:e}") }
}

/// What [`text`] wrote.
pub(crate) fn text_to_number(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
}
