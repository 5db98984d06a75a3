//! Counts ten million random events, and checks the counts against a plain map.

use std::collections::BTreeMap;

use alerting::fold::PartitionFold;
use domain::RecordRef;

use crate::records::{Dice, raw};
use crate::rules::engine;

const EVENTS: u64 = 10_000_000;
const GROUPS: u64 = 20_000;
/// The bucket width of a window of 5 min.
const WIDTH: i64 = 5_000;

#[derive(Clone, Copy)]
struct GroupCount {
    count: i64,
    first: (i64, i64),
    last: (i64, i64),
}

pub(crate) fn figures() {
    let engine = engine(["record.n > 0".to_owned()], &[("user", "record.user")]);
    let mut partition = PartitionFold::default();
    let mut expected: BTreeMap<(String, i64), GroupCount> = BTreeMap::new();
    let dice = &mut Dice(11);
    for offset in 0..EVENTS as i64 {
        let (user, n) = (dice.below(GROUPS), dice.below(3));
        let at = dice.below(60_000) as i64;
        let value = format!("{{\"user\":\"u{user}\",\"n\":{n}}}");
        engine.add(&mut partition, &raw(value.as_bytes(), offset, at)).decoded().unwrap();
        if n > 0 {
            let key = (format!("u{user}"), at.div_euclid(WIDTH) * WIDTH);
            let seen = expected.entry(key).or_insert(GroupCount {
                count: 0,
                first: (at, offset),
                last: (at, offset),
            });
            seen.count += 1;
            seen.first = seen.first.min((at, offset));
            seen.last = seen.last.max((at, offset));
        }
    }
    let counts = partition.take().counts;
    let at = |record: &RecordRef| (record.time.as_millisecond(), record.offset);
    let mut wrong = usize::from(counts.len() != expected.len());
    for count in &counts {
        let seen = expected.get(&(count.group["user"].clone(), count.bucket_ms));
        let same = seen.is_some_and(|seen| {
            (seen.count, seen.first, seen.last) == (count.count, at(&count.first.at), at(&count.last.at))
                && count.first.value["user"] == count.group["user"].as_str()
                && count.last.value["user"] == count.group["user"].as_str()
        });
        wrong += usize::from(!same);
    }
    println!(
        "{EVENTS} random events: {} counts, {wrong} of them other than brute force has them",
        counts.len()
    );
    assert_eq!(wrong, 0);
}
