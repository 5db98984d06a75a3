//! A static interval tree. Finding the intervals that contain a number takes the logarithm of their number, plus one
//! step for each that is found.

/// Closed intervals of numbers, each with a rule.
#[derive(Debug, Default)]
pub(super) struct IntervalTree {
    /// Sorted by their lower ends.
    ranges: Vec<Interval>,
    /// The largest upper end in each interval's subtree. A (sub)tree's root is the middle of its list; the two halves
    /// are its children.
    furthest: Vec<f64>,
}

#[derive(Debug, Clone, Copy)]
struct Interval {
    from: f64,
    to: f64,
    rule: u32,
}

impl IntervalTree {
    /// Adds a rule's interval; call [`IntervalTree::build`] after the last one.
    pub(super) fn add(&mut self, from: f64, to: f64, rule: u32) {
        self.ranges.push(Interval { from, to, rule });
    }

    /// Builds the tree from the added intervals.
    pub(super) fn build(&mut self) {
        self.ranges.sort_by(|a, b| a.from.total_cmp(&b.from));
        self.furthest = vec![f64::NEG_INFINITY; self.ranges.len()];
        furthest(&self.ranges, &mut self.furthest);
    }

    /// Appends the rules whose intervals contain the number.
    pub(super) fn find_containing(&self, number: f64, into: &mut Vec<u32>) {
        find_containing(&self.ranges, &self.furthest, number, into);
    }
}

fn furthest(ranges: &[Interval], into: &mut [f64]) -> f64 {
    let middle = ranges.len() / 2;
    let (Some(range), Some((before, rest))) = (ranges.get(middle), into.split_at_mut_checked(middle)) else {
        return f64::NEG_INFINITY;
    };
    let Some((own, after)) = rest.split_first_mut() else { return f64::NEG_INFINITY };
    let sides = furthest(&ranges[..middle], before).max(furthest(&ranges[middle + 1..], after));
    *own = sides.max(range.to);
    *own
}

fn find_containing(ranges: &[Interval], furthest: &[f64], number: f64, into: &mut Vec<u32>) {
    let middle = ranges.len() / 2;
    let (Some(range), Some(furthest_to)) = (ranges.get(middle), furthest.get(middle)) else { return };
    if *furthest_to < number {
        return;
    }
    find_containing(&ranges[..middle], &furthest[..middle], number, into);
    if range.from <= number {
        if number <= range.to {
            into.push(range.rule);
        }
        find_containing(&ranges[middle + 1..], &furthest[middle + 1..], number, into);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn exactly_the_ranges_that_hold_a_number_are_found(
            ends in prop::collection::vec((-20..20_i32, -20..20_i32), 0..60), number in -25..25_i32,
        ) {
            let mut ranges = IntervalTree::default();
            let infinite = |end: i32, to: f64| if end.abs() > 18 { to } else { f64::from(end) };
            let ends: Vec<(f64, f64)> = ends
                .iter()
                .map(|(from, to)| (infinite(*from, f64::NEG_INFINITY), infinite(*to, f64::INFINITY)))
                .collect();
            for (rule, (from, to)) in ends.iter().enumerate() {
                ranges.add(*from, *to, rule as u32);
            }
            ranges.build();
            let mut found = Vec::new();
            ranges.find_containing(f64::from(number), &mut found);
            found.sort_unstable();
            let holds = |(rule, (from, to)): (usize, &(f64, f64))| {
                (*from..=*to).contains(&f64::from(number)).then_some(rule as u32)
            };
            let expected: Vec<u32> = ends.iter().enumerate().filter_map(holds).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
