//! Compares decoding with `serde_json::Value`.

use std::hint::black_box;

use alerting::decode::Decoder;
use alerting::document::Document;
use alerting::fold::PartitionFold;
use alerting::record::RawRecord;

use crate::records::lines;
use crate::rules::engine;
use crate::{allocations, medians};

fn record(value: &[u8]) -> RawRecord<'_> {
    RawRecord { value: Some(value), ..RawRecord::default() }
}

pub(crate) fn figures() {
    let lines = lines(500);
    let bytes: usize = lines.iter().map(Vec::len).sum();
    let mut document = Document::default();
    let mut ours = || {
        for line in &lines {
            black_box(Decoder::Json.decode(&record(line), &mut document).unwrap());
        }
    };
    let engine = engine([r#"record.level == "NONE""#.to_owned()], &[]);
    let mut held = PartitionFold::default();
    let mut lacking = || {
        for line in &lines {
            let record = RawRecord { topic: "logs", ..record(line) };
            assert!(black_box(engine.add(&mut held, &record)).undecodable.is_none());
        }
    };
    let [ours_ns, lacking_ns, theirs_ns, utf8_ns, skip_ns] = medians(
        401,
        lines.len(),
        [
            &mut ours,
            &mut lacking,
            &mut || {
                for line in &lines {
                    black_box(serde_json::from_slice::<serde_json::Value>(line).unwrap());
                }
            },
            &mut || {
                for line in &lines {
                    black_box(std::str::from_utf8(line).unwrap());
                }
            },
            &mut || {
                for line in &lines {
                    black_box(serde_json::from_slice::<serde::de::IgnoredAny>(line).unwrap());
                }
            },
        ],
    );
    let mut document = Document::default();
    let mut once = || {
        for line in &lines {
            black_box(Decoder::Json.decode(&record(line), &mut document).unwrap());
        }
    };
    once();
    let rate = |ns: f64| bytes as f64 / lines.len() as f64 / ns * 1e3;
    println!("decode, lines of {} bytes", bytes / lines.len());
    println!("  ours                    {ours_ns:7.0} ns  {:6.0} MB/s", rate(ours_ns));
    println!("  a rule's text not in it {lacking_ns:7.0} ns  {:6.0} MB/s", rate(lacking_ns));
    println!("  serde_json::Value       {theirs_ns:7.0} ns  {:6.0} MB/s", rate(theirs_ns));
    println!("  serde_json, skipping    {skip_ns:7.0} ns  {:6.0} MB/s", rate(skip_ns));
    println!("  UTF-8 alone             {utf8_ns:7.0} ns  {:6.0} MB/s", rate(utf8_ns));
    println!(
        "  ratio to serde_json::Value {:.2}; allocations in {} records: {}",
        ours_ns / theirs_ns,
        lines.len(),
        allocations(once)
    );
}
