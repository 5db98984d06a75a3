//! The time spans of occurrences, and their short form: runs of equally spaced events.
//!
//! A series at a fixed local time is one run for each weekday and each stretch of one UTC offset: two years of a
//! weekly series are five runs. Two runs that never meet are told apart by their phases alone. Runs stand for
//! exactly the starts of the series.

const DAY: i64 = crate::days::DAY;
/// The spacing of a series is searched among this many neighbours: the days of a week, and one more.
const NEIGHBOURS: usize = 8;

/// The time of an event: Unix seconds, `end` exclusive, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) start: i64,
    pub(crate) end: i64,
}

impl Span {
    pub(crate) fn length(self) -> i64 {
        self.end - self.start
    }
}

/// Seconds that a booking needs before and after each event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Buffers {
    pub(crate) before: u32,
    pub(crate) after: u32,
}

impl Buffers {
    /// The span of the event and its buffers.
    pub(crate) fn around(self, event: Span) -> Span {
        Span { start: event.start - i64::from(self.before), end: event.end + i64::from(self.after) }
    }
}

/// Events of the same length, each `step` seconds after the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventRun {
    pub(crate) first: i64,
    /// 0 for a run of one event.
    pub(crate) step: u32,
    pub(crate) count: u32,
    pub(crate) length: u32,
}

impl EventRun {
    /// A run of one event.
    pub(crate) fn one(event: Span) -> Self {
        Self { first: event.start, step: 0, count: 1, length: event.length() as u32 }
    }

    pub(crate) fn last(self) -> i64 {
        self.first + i64::from(self.step) * i64::from(self.count - 1)
    }

    /// The events that start after `low` and before `high`.
    pub(crate) fn starting_within(self, low: i64, high: i64) -> impl Iterator<Item = Span> {
        let step = i64::from(self.step).max(1);
        let from = (low - self.first).div_euclid(step).saturating_add(1).clamp(0, self.count.into());
        let to = (high - 1 - self.first).div_euclid(step).saturating_add(1).clamp(from, self.count.into());
        (from..to).map(move |index| {
            let start = self.first + index * i64::from(self.step);
            Span { start, end: start + i64::from(self.length) }
        })
    }

    /// Whether an event of `other` may start more than `low` and less than `high` seconds after one of this run,
    /// judged by phase and covered time. False is certain.
    pub(crate) fn may_meet(self, other: Self, low: i64, high: i64) -> bool {
        other.first - self.last() < high
            && other.last() - self.first > low
            && meets_in_phase(other.first - self.first, gcd(self.step.into(), other.step.into()), low, high)
    }
}

/// Whether `distance` plus a multiple of `period` lies between `low` and `high`, both exclusive.
pub(crate) fn meets_in_phase(distance: i64, period: i64, low: i64, high: i64) -> bool {
    if period == 0 {
        return low < distance && distance < high;
    }
    low + 1 + (distance - low - 1).rem_euclid(period) < high
}

pub(crate) fn gcd(a: i64, b: i64) -> i64 {
    match b {
        0 => a,
        // Nearly always both are a week.
        _ if a == b => a,
        _ => gcd(b, a % b),
    }
}

/// The runs of `spans`, and for each span the index of its run. The spans must be in order, with different starts.
pub(crate) fn runs(spans: &[Span]) -> (Vec<EventRun>, Vec<u32>) {
    if let [only] = spans {
        return (vec![EventRun::one(*only)], vec![0]);
    }
    let step = steps(spans).min_by_key(|step| (count(spans, *step), *step)).unwrap_or(0);
    let mut runs: Vec<EventRun> = Vec::new();
    let mut run_of = Vec::with_capacity(spans.len());
    each(spans, step, |index, before| {
        let run = before.map_or(runs.len() as u32, |before| run_of[before]);
        if let Some(run) = runs.get_mut(run as usize) {
            run.count += 1;
            run.step = step as u32;
        } else {
            runs.push(EventRun::one(spans[index]));
        }
        run_of.push(run);
    });
    (runs, run_of)
}

/// Spacings worth a try: a day, a week, and the distances between neighbours. It takes these from the middle, where
/// dates added to a rule are unlikely.
fn steps(spans: &[Span]) -> impl Iterator<Item = i64> {
    let middle = spans.len() / 3;
    let near = spans.iter().skip(middle).take(NEIGHBOURS + 1);
    let from = near.clone().next().map_or(0, |span| span.start);
    near.skip(1)
        .map(move |span| span.start - from)
        .chain([DAY, 7 * DAY])
        .filter(|step| u32::try_from(*step).is_ok())
}

fn count(spans: &[Span], step: i64) -> usize {
    let mut count = 0;
    each(spans, step, |_, before| count += usize::from(before.is_none()));
    count
}

/// Tells for each span which span of the same length lies exactly one step before it.
fn each(spans: &[Span], step: i64, mut tell: impl FnMut(usize, Option<usize>)) {
    let mut behind = 0;
    for (index, span) in spans.iter().enumerate() {
        while spans[behind].start < span.start - step {
            behind += 1;
        }
        let before = spans[behind];
        let follows = behind < index && before.start == span.start - step && before.length() == span.length();
        tell(index, follows.then_some(behind));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(runs: &[EventRun]) -> Vec<Span> {
        let mut spans: Vec<Span> =
            runs.iter().flat_map(|run| run.starting_within(i64::MIN / 4, i64::MAX / 4)).collect();
        spans.sort_unstable();
        spans
    }

    fn spans() -> impl Strategy<Value = Vec<Span>> {
        let gap = prop_oneof![Just(1), Just(5), Just(5), 1..20i64];
        prop::collection::vec((gap, prop_oneof![Just(3), 1..9i64]), 0..80).prop_map(|steps| {
            let mut start = -40;
            let spans = steps.into_iter().map(|(gap, length)| {
                start += gap;
                Span { start, end: start + length }
            });
            spans.collect()
        })
    }

    proptest! {
        #[test]
        fn runs_are_the_series_and_nothing_else(spans in spans(), low in -50..400i64, width in 0..50i64) {
            let (runs, run_of) = runs(&spans);
            prop_assert_eq!(all(&runs), spans.clone());
            for (span, run) in spans.iter().zip(run_of) {
                let found = runs[run as usize].starting_within(span.start - 1, span.start + 1).next();
                prop_assert_eq!(found, Some(*span));
            }
            for run in runs {
                let inside = |span: &&Span| span.start > low && span.start < low + width;
                let want: Vec<Span> = all(&[run]).iter().filter(inside).copied().collect();
                prop_assert_eq!(run.starting_within(low, low + width).collect::<Vec<_>>(), want);
            }
        }

        #[test]
        fn runs_that_meet_are_never_told_apart(
            a in (0..50i64, 0..12u32, 1..20u32), b in (0..50i64, 0..12u32, 1..20u32), low in -30..0i64, width in 1..30i64,
        ) {
            let run = |(first, step, count): (i64, u32, u32)| {
                let count = if step == 0 { 1 } else { count };
                EventRun { first, step, count, length: 1 }
            };
            let (a, b) = (run(a), run(b));
            let meets = all(&[a]).iter().any(|a| {
                all(&[b]).iter().any(|b| b.start - a.start > low && b.start - a.start < low + width)
            });
            prop_assert!(!meets || a.may_meet(b, low, low + width));
        }
    }

    #[test]
    fn two_years_of_office_rules_are_a_few_runs() {
        let hour = 3600;
        let weekly: Vec<Span> = (0..104)
            .map(|week| week * 7 * DAY - if (13..43).contains(&(week % 52)) { hour } else { 0 })
            .map(|start| Span { start, end: start + hour })
            .collect();
        assert_eq!(runs(&weekly).0.len(), 5);
        let workdays: Vec<Span> = (0..730)
            .filter(|day| day % 7 < 5)
            .map(|day| Span { start: day * DAY, end: day * DAY + hour })
            .collect();
        assert_eq!(runs(&workdays).0.len(), 5);
    }
}
