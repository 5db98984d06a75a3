//! The alerts are a function of the records, whatever the split into commits, the order of partitions, the replays
//! and the conflicts.
//!
//! Clause E1 of docs/semantics.md.

use std::collections::BTreeMap;

use domain::Cause;
use proptest::prelude::*;
use protocol::messages::{Count, Entry};

use crate::bed::*;

const PARTITIONS: usize = 3;
const SECONDS: i64 = 90;

/// Records by partition, as (second, service).
type Records = Vec<Vec<(i64, u8)>>;

fn records() -> impl Strategy<Value = Records> {
    let record = (0..3_i64, 0..2_u8);
    prop::collection::vec(prop::collection::vec(record, 0..40), PARTITIONS).prop_map(|partitions| {
        let partition = |steps: Vec<(i64, u8)>| {
            let mut second = 0;
            let mut records = Vec::new();
            for (step, service) in steps {
                second = (second + step).min(SECONDS - 1);
                records.push((second, service));
            }
            records
        };
        partitions.into_iter().map(partition).collect()
    })
}

/// What a plain walk over all boundaries expects, as (service, kind, boundary, count).
fn brute_force(records: &Records) -> Vec<(String, String, i64, i64)> {
    let mut told = Vec::new();
    for service in 0..2_u8 {
        let times: Vec<i64> =
            records.iter().flatten().filter(|(_, of)| *of == service).map(|(second, _)| *second).collect();
        let (mut firing, mut quiet_since) = (false, None);
        for boundary in 1..=SECONDS + 60 {
            let sum =
                times.iter().filter(|second| (boundary - 10..boundary).contains(*second)).count() as i64;
            match (firing, sum >= 3) {
                (false, true) => {
                    (firing, quiet_since) = (true, None);
                    told.push((format!("s{service}"), "firing".to_owned(), boundary, sum));
                }
                (true, true) => quiet_since = None,
                (true, false) => {
                    let since = *quiet_since.get_or_insert(boundary);
                    if boundary >= since + 10 {
                        (firing, quiet_since) = (false, None);
                        told.push((format!("s{service}"), "resolved".to_owned(), boundary, sum));
                    }
                }
                (false, false) => {}
            }
        }
    }
    told.sort();
    told
}

/// One commit for a partition: how many records it has, and what goes wrong.
#[derive(Debug, Clone)]
struct Step {
    partition: usize,
    take: usize,
    trouble: u8,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..PARTITIONS, 1..12_usize, 0..4_u8).prop_map(|(partition, take, trouble)| Step {
        partition,
        take,
        trouble,
    });
    prop::collection::vec(step, 0..40)
}

fn fold(partition: usize, from: usize, records: &[(i64, u8)]) -> Entry {
    let mut counts: BTreeMap<(u8, i64), Count> = BTreeMap::new();
    for (at, (second, service)) in records.iter().enumerate() {
        let here = sample(partition as i32, (from + at) as i64, *second);
        let held = counts.entry((*service, *second)).or_insert_with(|| Count {
            count: 0,
            first: here.clone(),
            last: here.clone(),
            ..count(&format!("s{service}"), *second, 0)
        });
        held.count += 1;
        held.last = here;
    }
    let entry = Entry {
        counts: counts.into_values().collect(),
        ..entry(partition as i32, from as i64, (from + records.len()) as i64)
    };
    match records.last() {
        Some((second, _)) => until(entry, *second),
        None => entry,
    }
}

/// `step` groups are decided at once; `waits` says whether a commit waits for what it left.
async fn run(records: &Records, steps: &[Step], step: usize, waits: bool) -> Vec<(String, String, i64, i64)> {
    let bed = Bed::with(|options| in_steps(options, step, waits)).await;
    bed.put(vec![hook(), three()]).await;
    bed.open(PARTITIONS).await;
    let mut done = [0; PARTITIONS];
    let rest = (0..PARTITIONS).map(|partition| Step { partition, take: 1_000, trouble: 0 });
    for step in steps.iter().cloned().chain(rest) {
        let all = &records[step.partition];
        let from = done[step.partition];
        let to = (from + step.take).min(all.len());
        let entry = fold(step.partition, from, &all[from..to]);
        let result = bed.commit(vec![entry.clone()], 1_000).await;
        assert!(result.entries[0].is_accepted());
        done[step.partition] = to;
        match step.trouble {
            // The answer was lost, so the commit is sent again.
            1 if to > from => assert!(!bed.commit(vec![entry], 1_000).await.entries[0].is_accepted()),
            // Another consumer thinks that it owns the partition.
            2 if to > 0 => {
                let stale = fold(step.partition, to - 1, &all[to - 1..to]);
                assert!(!bed.commit(vec![stale], 1_000).await.entries[0].is_accepted());
            }
            _ => {}
        }
    }
    for partition in 0..PARTITIONS {
        let at_end = all_len(records, partition);
        let end = until(entry(partition as i32, at_end, at_end), SECONDS + 60);
        bed.commit(vec![end], 1_000).await;
    }
    bed.ledger.wait_until_decided().await;
    let mut told: Vec<_> = bed
        .stories()
        .await
        .into_iter()
        .map(|story| {
            let Cause::Alert { alert, .. } = story.notification.cause else { panic!("an alert") };
            let kind = alert.kind.name();
            let boundary = (alert.window_end.as_millisecond() - ms(0)) / 1_000;
            (story.notification.group["service"].clone(), kind.to_owned(), boundary, alert.count)
        })
        .collect();
    told.sort();
    let counts = bed.ledger.totals().await.unwrap();
    let all: usize = records.iter().map(Vec::len).sum();
    assert_eq!((counts.matched, counts.late), (all as i64, 0));
    bed.ledger.clone().close().await;
    bed.accounts_are_right().await;
    told
}

fn all_len(records: &Records, partition: usize) -> i64 {
    records[partition].len() as i64
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_alerts_are_a_function_of_the_records(
        records in records(),
        steps in steps(),
        (step, waits) in (1..4_usize, prop::bool::ANY),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let told = runtime.block_on(run(&records, &steps, step, waits));
        prop_assert_eq!(told, brute_force(&records));
    }
}
