//! Counting with a million live groups.

use std::hint::black_box;
use std::time::Instant;

use alerting::fold::{Engine, Partition};

use crate::records::{Dice, raw};
use crate::rules::engine;
use crate::{held, verdict};

const GROUPS: usize = 1_000_000;
const LABEL: usize = "user-000000".len();

fn value(group: u64, text: usize) -> Vec<u8> {
    format!("{{\"user\":\"user-{group:06}\",\"text\":\"{}\"}}", "x".repeat(text)).into_bytes()
}

pub(crate) fn figures() {
    println!("count, a million live groups, a random one each record");
    for text in [10, 237] {
        measure(text);
    }
}

fn measure(text: usize) {
    let matching = engine(["true".to_owned()], &[("user", "record.user")]);
    // The same decoding and matching, and nothing to count.
    let other = engine(["record.user == ''".to_owned()], &[("user", "record.user")]);
    let dice = &mut Dice(3);
    let mut partition = Partition::default();
    let before = held();
    for group in 0..GROUPS {
        add(&matching, &mut partition, &value(group as u64, text), group);
    }
    let bytes = held() - before;
    let records: Vec<Vec<u8>> = (0..GROUPS).map(|_| value(dice.below(GROUPS as u64), text)).collect();
    let mut times: Vec<(f64, f64)> = (0..7)
        .map(|turn| {
            let offset = (turn + 1) * GROUPS;
            let counted = time(&matching, &mut partition, &records, offset);
            (counted, time(&other, &mut Partition::default(), &records, offset))
        })
        .collect();
    times.remove(0);
    let median = |mut of: Vec<f64>| {
        of.sort_by(f64::total_cmp);
        of[of.len() / 2]
    };
    let all = median(times.iter().map(|it| it.0).collect());
    let without = median(times.iter().map(|it| it.1).collect());
    let size = value(0, text).len();
    println!(
        "  records of {size} bytes: {:.0} ns a matched record to count ({all:.0} with decoding and matching, {without:.0} \
         for a record that does not match): {}",
        all - without,
        verdict(all - without <= 100.0),
    );
    // The record is kept behind its room and its length, rounded up.
    let (sample, key) = (8 + size.next_multiple_of(16), LABEL + 2 + 12);
    println!(
        "  memory after one record a group: {} bytes a group: {sample} for the record kept as a sample, {key} for the key, \
         {} beyond them: {}",
        bytes / GROUPS,
        bytes / GROUPS - sample - key,
        verdict(bytes / GROUPS <= sample + key + 64),
    );
}

fn time(engine: &Engine, partition: &mut Partition, records: &[Vec<u8>], offset: usize) -> f64 {
    let start = Instant::now();
    for (at, record) in records.iter().enumerate() {
        add(engine, partition, record, offset + at);
    }
    start.elapsed().as_secs_f64() * 1e9 / records.len() as f64
}

fn add(engine: &Engine, partition: &mut Partition, value: &[u8], offset: usize) {
    black_box(engine.add(partition, &raw(value, offset as i64, 1_000)).decoded().unwrap());
}
