//! Asks each condition about a window: whether it holds, and what it saw.
//!
//! Invariant: the answer is a function of the window and of the values of the buckets before it, in order of event
//! time. Comparisons are of whole numbers and without division, except that `Extreme` compares the numbers in records.

use domain::{Condition, Extras, ExtremeDirection, Limit, SHARE, SpikeDirection};

use super::{Bucket, GroupState, SeenValues};
use crate::decide::walk::WindowSums;
use crate::values::text_to_number;

/// How many values `NewValue` remembers of a group. Above that, the values not seen for the longest time are forgotten.
pub const SEEN_KEPT: usize = 1_000;
/// How many new values one notification names.
const TOLD: usize = 10;

/// A condition's question about a window. `below` is always `resolve.below`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowTest {
    /// `count` records or more.
    Frequency {
        /// At least this many.
        count: i64,
        /// Hysteresis.
        below: Option<i64>,
    },
    /// Compares the window with the one before it.
    Spike {
        /// In thousandths.
        ratio: i64,
        /// At least this many records in the larger window.
        min_count: i64,
        /// The direction.
        direction: SpikeDirection,
    },
    /// Fewer than `below` records.
    Flatline {
        /// Fewer than this many.
        below: i64,
    },
    /// The newest bucket has a value that the group never had before.
    NewValue {
        /// How long after the group's first bucket values are only learned, ms.
        learn_for: i64,
    },
    /// Compares the number of distinct values with a limit.
    Cardinality {
        /// The limit.
        limit: Limit,
        /// Hysteresis.
        below: Option<i64>,
    },
    /// The newest bucket has a value that differs from the one before it.
    Change,
    /// The newest bucket has a number beyond all before it.
    Extreme {
        /// The direction.
        direction: ExtremeDirection,
    },
    /// Compares the share of records for which `of` is true with a limit.
    Ratio {
        /// At least this many records.
        min_count: i64,
        /// In thousandths of a percent.
        limit: Limit,
        /// Hysteresis.
        below: Option<i64>,
    },
}

/// A condition's answer at a boundary.
#[derive(Debug, Default)]
pub(super) struct ConditionResult {
    /// Whether it holds.
    pub(super) holds: bool,
    /// Whether an open alert goes on.
    pub(super) stays: bool,
    /// What texts may say of it.
    pub(super) seen: Option<Box<SeenValues>>,
}

impl WindowTest {
    pub(super) fn from_condition(condition: &Condition, below: Option<i64>) -> Self {
        match *condition {
            Condition::Any => Self::Frequency { count: 1, below: None },
            Condition::Frequency { count, .. } => Self::Frequency { count: count.max(1), below },
            Condition::Spike { ratio, min_count, direction, .. } => {
                Self::Spike { ratio: ratio.max(1_000), min_count: min_count.max(1), direction }
            }
            Condition::Flatline { below, .. } => Self::Flatline { below: below.max(1) },
            Condition::NewValue { learn_for, .. } => Self::NewValue { learn_for: learn_for.0 },
            Condition::Cardinality { limit, .. } => Self::Cardinality { limit, below },
            Condition::Change { .. } => Self::Change,
            Condition::Extreme { direction, .. } => Self::Extreme { direction },
            Condition::Ratio { min_count, limit, .. } => {
                Self::Ratio { min_count: min_count.max(1), limit, below }
            }
        }
    }

    /// How many windows it looks back over.
    pub(super) fn windows(self) -> i64 {
        if matches!(self, Self::Spike { .. }) { 2 } else { 1 }
    }

    pub(super) fn needs_extras(self) -> bool {
        !matches!(self, Self::Frequency { .. } | Self::Spike { .. } | Self::Flatline { .. })
    }

    pub(super) fn counts_values(self) -> bool {
        matches!(self, Self::Cardinality { .. })
    }

    pub(super) fn needs_observed(self) -> bool {
        self.watches() || matches!(self, Self::Spike { .. })
    }

    pub(super) fn watches(self) -> bool {
        matches!(self, Self::Flatline { .. } | Self::Cardinality { limit: Limit::Below(_), .. })
    }

    /// Answers for the window, and remembers in `state` what later windows need of its newest bucket.
    pub(super) fn evaluate(self, state: &mut GroupState, window: &WindowSums<'_>) -> ConditionResult {
        if let (Some(newest), true) = (window.newest, self.watches() && !state.expected) {
            state.first_ms.get_or_insert(newest.start_ms);
        }
        match self {
            Self::Frequency { count, below } => {
                let holds = window.count >= count;
                ConditionResult { holds, stays: stays(holds, window.count, below), seen: None }
            }
            Self::Spike { ratio, min_count, direction } => {
                let holds = window.ready && spikes(window, ratio, min_count, direction);
                say(holds, holds, window.count.to_string(), Some(window.before.to_string()))
            }
            Self::Flatline { below } => {
                let holds = window.ready && window.count < below;
                ConditionResult { holds, stays: holds, seen: None }
            }
            Self::Cardinality { limit, below } => {
                let distinct = window.distinct;
                let holds = match limit {
                    Limit::Above(limit) => distinct > limit,
                    Limit::Below(limit) => window.ready && distinct < limit,
                };
                say(holds, stays(holds, distinct, below), distinct.to_string(), None)
            }
            Self::Ratio { min_count, limit, below } => {
                let enough = window.count >= min_count;
                let beyond = |limit: i64| {
                    (i128::from(window.of) * i128::from(SHARE))
                        .cmp(&(i128::from(limit) * i128::from(window.count)))
                };
                let holds = enough
                    && match limit {
                        Limit::Above(limit) => beyond(limit).is_gt(),
                        Limit::Below(limit) => beyond(limit).is_lt(),
                    };
                let stays = holds || below.is_some_and(|below| enough && beyond(below).is_ge());
                say(holds, stays, share(window.of, window.count), None)
            }
            Self::NewValue { learn_for } => window.newest.map_or_else(ConditionResult::default, |bucket| {
                new_value(state, bucket, window.end, learn_for)
            }),
            Self::Change => {
                window.newest.map_or_else(ConditionResult::default, |bucket| change(state, bucket))
            }
            Self::Extreme { direction } => window
                .newest
                .map_or_else(ConditionResult::default, |bucket| extreme(state, bucket, direction)),
        }
    }
}

fn stays(holds: bool, measured: i64, below: Option<i64>) -> bool {
    holds || below.is_some_and(|below| measured >= below)
}

fn say(holds: bool, stays: bool, value: String, previous: Option<String>) -> ConditionResult {
    ConditionResult {
        holds,
        stays,
        seen: Some(Box::new(SeenValues { value, previous, ..SeenValues::default() })),
    }
}

fn spikes(window: &WindowSums<'_>, ratio: i64, min_count: i64, direction: SpikeDirection) -> bool {
    let times = |more: i64, less: i64| {
        more >= min_count && i128::from(more) * 1_000 >= i128::from(less) * i128::from(ratio)
    };
    let (up, down) = (times(window.count, window.before), times(window.before, window.count));
    match direction {
        SpikeDirection::Up => up,
        SpikeDirection::Down => down,
        SpikeDirection::Both => up || down,
    }
}

/// Writes a share such as `12.5%`, to the nearest thousandth of a percent. Only none is 0%, and only all is 100%.
fn share(of: i64, count: i64) -> String {
    let (of, count) = (i128::from(of), i128::from(count.max(1)));
    let share = (2 * of * i128::from(SHARE) + count) / (2 * count);
    let share = if of == 0 || of >= count { share } else { share.clamp(1, i128::from(SHARE) - 1) };
    let (whole, rest) = (share / 1_000, share % 1_000);
    let text = format!("{whole}.{rest:03}");
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

fn new_value(state: &mut GroupState, bucket: &Bucket, end: i64, learn_for: i64) -> ConditionResult {
    let Some(Extras::Values(values)) = bucket.extras.as_deref() else { return ConditionResult::default() };
    let first = *state.first_ms.get_or_insert(bucket.start_ms);
    let mut new = Vec::new();
    for value in values.counts.keys() {
        if state.values.insert(value.clone(), bucket.start_ms).is_none() {
            new.push(value.clone());
        }
    }
    let over = state.values.len().saturating_sub(SEEN_KEPT);
    if over > 0 {
        let mut oldest: Vec<(i64, String)> =
            state.values.iter().map(|(value, last)| (*last, value.clone())).collect();
        oldest.sort_unstable();
        for (_, value) in oldest.into_iter().take(over) {
            state.values.remove(&value);
        }
    }
    if new.is_empty() || end <= first.saturating_add(learn_for) {
        return ConditionResult::default();
    }
    new.truncate(TOLD);
    let seen = SeenValues { value: new[0].clone(), values: new, ..SeenValues::default() };
    ConditionResult { holds: true, stays: true, seen: Some(Box::new(seen)) }
}

fn change(state: &mut GroupState, bucket: &Bucket) -> ConditionResult {
    let Some(Extras::Ends(ends)) = bucket.extras.as_deref() else { return ConditionResult::default() };
    let before = state.value.replace(ends.last.value.clone());
    let changed = ends.mixed || before.as_ref().is_some_and(|before| *before != ends.last.value);
    if !changed {
        return ConditionResult::default();
    }
    let previous = Some(before.unwrap_or_else(|| ends.first.value.clone()));
    say(true, true, ends.last.value.clone(), previous)
}

fn extreme(state: &mut GroupState, bucket: &Bucket, direction: ExtremeDirection) -> ConditionResult {
    let Some(Extras::Highest(best) | Extras::Lowest(best)) = bucket.extras.as_deref() else {
        return ConditionResult::default();
    };
    let new = text_to_number(&best.value);
    let beyond = |mark: &str| match direction {
        ExtremeDirection::Highest => new > text_to_number(mark),
        ExtremeDirection::Lowest => new < text_to_number(mark),
    };
    // The first number sets the mark.
    let mark = state.value.as_ref().unwrap_or(&best.first.value);
    if !beyond(mark) {
        state.value.get_or_insert_with(|| best.value.clone());
        return ConditionResult::default();
    }
    let seen = SeenValues {
        value: best.value.clone(),
        previous: Some(mark.clone()),
        values: Vec::new(),
        sample: Some(best.sample.clone()),
    };
    state.value = Some(best.value.clone());
    ConditionResult { holds: true, stays: true, seen: Some(Box::new(seen)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_to_a_thousandth_and_is_all_or_nothing_only_when_it_is() {
        assert_eq!(share(2, 31), "6.452%", "6.4516...");
        assert_eq!(share(1, 3), "33.333%");
        assert_eq!(share(1, 8), "12.5%");
        assert_eq!(share(2, 3), "66.667%");
        assert_eq!([share(0, 5), share(5, 5), share(0, 0)], ["0%", "100%", "0%"]);
        let most = 1_000_000_000;
        assert_eq!([share(1, most), share(most - 1, most)], ["0.001%", "99.999%"]);
    }
}
