//! Measures counting with a million live groups, compared with the memory accesses alone, and with so few groups that
//! memory costs nothing.

use std::hint::black_box;

use alerting::fold::{PartitionFold, RuleSet};

use crate::records::{Dice, raw};
use crate::rules::engine;
use crate::{held, medians, verdict};

const FEW: usize = 1_000;
const MANY: usize = 1_000_000;
const LABEL: usize = "user-000000".len();
/// Records per turn, and the number of turns.
const TURN: usize = 4_800;
const TURNS: usize = 201;
/// Records whose memory is fetched at the same time.
const TOGETHER: usize = 64;

fn value(group: u64, text: usize) -> Vec<u8> {
    format!("{{\"user\":\"user-{group:06}\",\"text\":\"{}\"}}", "x".repeat(text)).into_bytes()
}

pub(crate) fn figures() {
    println!("count, a random group each record");
    for text in [10, 237] {
        measure(FEW, text);
        measure(MANY, text);
    }
}

fn measure(groups: usize, text: usize) {
    let matching = engine(["true".to_owned()], &[("user", "record.user")]);
    // The same decoding and matching, without counting.
    let other = engine(["record.user == ''".to_owned()], &[("user", "record.user")]);
    let dice = &mut Dice(3);
    let (mut partition, mut uncounted) = (PartitionFold::default(), PartitionFold::default());
    let before = held();
    let fill = |partition: &mut PartitionFold, from: usize| {
        for group in 0..groups {
            add(&matching, partition, &value(group as u64, text), from + group);
        }
    };
    fill(&mut partition, 0);
    let bytes = held() - before;
    // From now on each group has a first and a last record.
    fill(&mut partition, groups);
    let records: Vec<Vec<u8>> =
        (0..TURN * (TURNS + 1)).map(|_| value(dice.below(groups as u64), text)).collect();
    let size = value(0, text).len();
    let mut memory = MemoryTraffic::new(groups, size, dice);
    // Not the same groups in the same turn: the second task would find them in the processor's cache.
    let (mut counted, mut passed) = (records.chunks(TURN), records.chunks(TURN).rev());
    let mut offset = 2 * groups;
    let [all, without, limit] = medians(
        TURNS,
        TURN,
        [
            &mut || {
                for record in counted.next().unwrap() {
                    offset += 1;
                    add(&matching, &mut partition, record, offset);
                }
            },
            &mut || {
                for record in passed.next().unwrap() {
                    add(&other, &mut uncounted, record, 0);
                }
            },
            &mut || memory.write(dice),
        ],
    );
    println!(
        "  {groups} groups, records of {size} bytes: {:.0} ns a matched record to count ({all:.0} with decoding and \
         matching, {without:.0} for a record that does not match): {}",
        all - without,
        verdict(all - without <= 100.0),
    );
    println!(
        "    the limit: {limit:.0} ns to read a random place of a table and to write as many bytes to where it says"
    );
    if groups == MANY {
        let (each, key) = (bytes / groups, LABEL + 2 + 12);
        let beyond = each - size - key;
        println!(
            "    memory after one record a group: {each} bytes a group: {size} for the record kept as a sample, {key} for the \
             key, {beyond} beyond them: {}",
            verdict(beyond <= 64),
        );
    }
}

fn add(engine: &RuleSet, partition: &mut PartitionFold, value: &[u8], offset: usize) {
    black_box(engine.add(partition, &raw(value, offset as i64, 1_000)).decoded().unwrap());
}

/// As much memory as the groups take, without the groups: a table of places (eight bytes each, more than twice as many
/// as groups), and at each place the bytes of a record, a key and nine numbers.
struct MemoryTraffic {
    table: Vec<u64>,
    bytes: Vec<u8>,
    each: usize,
}

impl MemoryTraffic {
    fn new(groups: usize, size: usize, dice: &mut Dice) -> Self {
        let each = (size + LABEL + 2 + 12 + 36).next_multiple_of(8);
        let table = (0..(2 * groups).next_power_of_two()).map(|_| dice.below(groups as u64)).collect();
        Self { table, bytes: vec![1; groups * each], each }
    }

    /// Writes as many bytes as an entry has to random places, as many places at a time as the engine does.
    fn write(&mut self, dice: &mut Dice) {
        let entry = vec![2; self.each];
        let (slots, mut places) = (self.table.len() as u64, [0; TOGETHER]);
        for _ in 0..TURN / TOGETHER {
            for place in &mut places {
                *place = self.table[dice.below(slots) as usize] as usize * self.each;
            }
            let mut read = places.iter().fold(0, |read, place| read ^ self.bytes[*place]);
            for place in places {
                let lines = self.bytes[place..place + self.each].chunks(64);
                read ^= lines.fold(0, |read, line| read ^ line[0]);
            }
            black_box(read);
            for place in places {
                self.bytes[place..place + self.each].copy_from_slice(&entry);
            }
        }
    }
}
