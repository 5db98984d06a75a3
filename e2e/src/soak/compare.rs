//! Holds what arrived against what should have: the figures of a run.
//!
//! A notification is compared by its meaning (channel, rule, group, what), never by its id, so that an engine that makes
//! up ids is found out. Never here: I/O.

use std::collections::{BTreeMap, BTreeSet};

use super::arrivals::Arrival;
use super::recount::{Expected, What};

/// A notification that should come over one channel.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The channel.
    pub channel: &'static str,
    /// The notification.
    pub expected: Expected,
    /// When it could be decided at the earliest, Unix ms.
    pub decidable_ms: i64,
}

/// What came of the comparison.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Notifications that should come, over all channels.
    pub expected: usize,
    /// Of these, how many did.
    pub arrived: usize,
    /// Of these, how many did not; and records that were not counted.
    pub lost: usize,
    /// What came and should not have.
    pub extra: usize,
    /// Notifications that counted more records than there are; and records counted again.
    pub counted_twice: usize,
    /// Notifications that came before one of the same ordering key that they should follow.
    pub out_of_order: usize,
    /// Ids beyond the first under which the same notification came.
    pub new_id: usize,
    /// Times beyond the first that the receiver took the same id.
    pub same_id: usize,
    /// The longest from when it could be decided to its arrival, ms.
    pub slowest_ms: i64,
    /// The same of each that went to the receiver that always answers, ms, in order of length.
    pub waits_ms: Vec<i64>,
    /// What is wrong, in words, one line each.
    pub faults: Vec<String>,
}

/// The channel whose receiver always answers.
const STEADY: &str = "steady";

impl Figures {
    /// Of those that went to the receiver that always answers, so many thousandths waited no longer, ms.
    pub fn wait_ms(&self, thousandths: usize) -> i64 {
        let at = (self.waits_ms.len() * thousandths / 1_000).min(self.waits_ms.len().saturating_sub(1));
        self.waits_ms.get(at).copied().unwrap_or(0)
    }

    /// Whether all five are 0.
    pub fn good(&self) -> bool {
        self.lost + self.extra + self.counted_twice + self.out_of_order + self.new_id == 0
    }
}

type Key = (String, String, String, What);
/// Channel, rule, group and, for records, topic and partition: what has an order.
type Lane = (String, String, String, Option<(usize, i32)>);

/// Compares. Arrivals are in the order in which they came, refused ones included.
pub fn compare(wanted: &[Wanted], arrivals: &[Arrival]) -> Figures {
    let mut by_key: BTreeMap<Key, Vec<&Arrival>> = BTreeMap::new();
    for arrival in arrivals {
        let key =
            (arrival.channel.clone(), arrival.rule.clone(), arrival.group.clone(), arrival.what.clone());
        by_key.entry(key).or_default().push(arrival);
    }
    let mut figures = Figures { expected: wanted.len(), ..Figures::default() };
    let mut lanes: BTreeMap<Lane, Vec<(Key, &[&Arrival])>> = BTreeMap::new();
    let mut expected_keys = BTreeSet::new();
    for want in wanted {
        let key = key_of(want);
        expected_keys.insert(key.clone());
        let came = by_key.get(&key).map_or(&[][..], Vec::as_slice);
        one(&mut figures, want, &key, came);
        // Records of one group come from several partitions: only those of the same one have an order.
        let place = match key.3 {
            What::Record { topic, partition, .. } => Some((topic, partition)),
            What::Alert { .. } => None,
        };
        lanes.entry((key.0.clone(), key.1.clone(), key.2.clone(), place)).or_default().push((key, came));
    }
    for (key, came) in &by_key {
        if !expected_keys.contains(key) {
            figures.extra += 1;
            figures.faults.push(format!("extra: {key:?}, count {}, {} times", came[0].count, came.len()));
        }
    }
    for lane in lanes.values() {
        order(&mut figures, lane);
    }
    figures.waits_ms.sort_unstable();
    figures
}

fn key_of(want: &Wanted) -> Key {
    let expected = &want.expected;
    (want.channel.to_owned(), expected.rule.to_owned(), expected.group.clone(), expected.what.clone())
}

fn one(figures: &mut Figures, want: &Wanted, key: &Key, came: &[&Arrival]) {
    let taken: Vec<&&Arrival> = came.iter().filter(|arrival| arrival.taken()).collect();
    if came.iter().any(|arrival| arrival.acknowledged()) {
        figures.arrived += 1;
    } else {
        figures.lost += 1;
        let statuses: Vec<u16> = came.iter().map(|arrival| arrival.status).collect();
        figures.faults.push(format!("lost: {key:?}; attempts seen: {statuses:?}"));
    }
    let ids: BTreeSet<&str> = came.iter().map(|arrival| arrival.id.as_str()).collect();
    if ids.len() > 1 {
        figures.new_id += ids.len() - 1;
        figures.faults.push(format!("under {} ids: {key:?}: {ids:?}", ids.len()));
    }
    for id in &ids {
        figures.same_id += taken.iter().filter(|arrival| arrival.id == **id).count().saturating_sub(1);
    }
    if let Some(first) = taken.first() {
        let waited = first.time_ms - want.decidable_ms;
        figures.slowest_ms = figures.slowest_ms.max(waited);
        if want.channel == STEADY {
            figures.waits_ms.push(waited);
        }
    }
    let count = want.expected.count;
    if let Some(other) = came.iter().find(|arrival| arrival.count != count) {
        let (word, figure) = if other.count > count {
            ("counted twice", &mut figures.counted_twice)
        } else {
            ("lost records", &mut figures.lost)
        };
        *figure += 1;
        figures.faults.push(format!("{word}: {key:?}: {} instead of {count}", other.count));
    } else if let Some(other) = came.iter().find(|arrival| arrival.title != want.expected.title) {
        figures.extra += 1;
        figures.faults.push(format!("says {:?} instead of {:?}: {key:?}", other.title, want.expected.title));
    }
}

/// One lane: whatever comes first of a notification comes after the receiver acknowledged the one before it.
fn order(figures: &mut Figures, lane: &[(Key, &[&Arrival])]) {
    for pair in lane.windows(2) {
        let [(before, came_before), (after, came_after)] = pair else { continue };
        let acknowledged = came_before.iter().find(|arrival| arrival.acknowledged());
        // What did not arrive at all is counted as lost.
        let (Some(acknowledged), Some(first)) = (acknowledged, came_after.first()) else { continue };
        if first.number < acknowledged.number {
            figures.out_of_order += 1;
            figures.faults.push(format!(
                "out of order: {after:?} came as number {}, {before:?} was taken as number {}",
                first.number, acknowledged.number
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::arrivals::HUNG;

    fn want(end_ms: i64) -> Wanted {
        let what = What::Alert { end_ms, kind: "firing".to_owned(), since_ms: end_ms };
        let expected =
            Expected { rule: "r", group: "g=a".to_owned(), what, count: 3, title: "firing 3".to_owned() };
        Wanted { channel: "steady", expected, decidable_ms: end_ms }
    }

    fn came(number: u64, end_ms: i64, id: &str, status: u16) -> Arrival {
        Arrival {
            number,
            time_ms: end_ms + 500,
            channel: "steady".to_owned(),
            id: id.to_owned(),
            status,
            rule: "r".to_owned(),
            group: "g=a".to_owned(),
            what: want(end_ms).expected.what,
            count: 3,
            title: "firing 3".to_owned(),
        }
    }

    fn two() -> [Wanted; 2] {
        [want(1_000), want(2_000)]
    }

    #[test]
    fn all_that_came_once_in_order_is_good() {
        let figures = compare(&two(), &[came(1, 1_000, "a", 200), came(2, 2_000, "b", 200)]);
        assert!(figures.good(), "{figures:?}");
        assert_eq!((figures.expected, figures.arrived, figures.slowest_ms), (2, 2, 500));
        assert_eq!((figures.wait_ms(500), figures.wait_ms(990)), (500, 500));
    }

    #[test]
    fn refused_attempts_are_neither_arrivals_nor_duplicates() {
        let all = [came(1, 1_000, "a", 503), came(2, 1_000, "a", 200), came(3, 2_000, "b", 429)];
        let figures = compare(&two(), &all);
        assert_eq!((figures.arrived, figures.lost, figures.same_id), (1, 1, 0), "{figures:?}");
    }

    #[test]
    fn what_hung_and_was_sent_again_is_a_duplicate_under_the_same_id_and_no_disorder() {
        let all = [came(1, 1_000, "a", HUNG), came(2, 1_000, "a", 200), came(3, 2_000, "b", 200)];
        let figures = compare(&two(), &all);
        assert!(figures.good(), "{figures:?}");
        assert_eq!(figures.same_id, 1);
    }

    #[test]
    fn one_that_overtakes_the_acknowledgement_of_the_one_before_is_out_of_order() {
        let all = [came(1, 1_000, "a", 503), came(2, 2_000, "b", 200), came(3, 1_000, "a", 200)];
        assert_eq!(compare(&two(), &all).out_of_order, 1);
    }

    #[test]
    fn a_late_repetition_of_the_first_is_no_disorder() {
        let all = [came(1, 1_000, "a", 200), came(2, 2_000, "b", 200), came(3, 1_000, "a", 200)];
        let figures = compare(&two(), &all);
        assert!(figures.good() && figures.same_id == 1, "{figures:?}");
    }

    #[test]
    fn the_same_meaning_under_another_id_is_a_duplicate_under_a_new_id() {
        let all = [came(1, 1_000, "a", 200), came(2, 1_000, "c", 200), came(3, 2_000, "b", 200)];
        let figures = compare(&two(), &all);
        assert_eq!((figures.new_id, figures.same_id), (1, 0));
        assert!(!figures.good());
    }

    #[test]
    fn what_nobody_expected_is_extra() {
        let all = [came(1, 1_000, "a", 200), came(2, 2_000, "b", 200), came(3, 9_000, "c", 200)];
        assert_eq!(compare(&two(), &all).extra, 1);
    }

    #[test]
    fn a_higher_count_is_counted_twice_a_lower_one_is_lost_and_another_text_is_extra() {
        let with = |change: fn(&mut Arrival)| {
            let mut second = came(2, 2_000, "b", 200);
            change(&mut second);
            compare(&two(), &[came(1, 1_000, "a", 200), second])
        };
        assert_eq!(with(|arrival| arrival.count = 4).counted_twice, 1);
        assert_eq!(with(|arrival| arrival.count = 2).lost, 1);
        assert_eq!(with(|arrival| "title template failed".clone_into(&mut arrival.title)).extra, 1);
    }
}
