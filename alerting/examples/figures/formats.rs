//! Compares the decoders of other formats than JSON with what a user would take: the crate `logfmt`, the crate `regex`
//! with its groups put into a map, and `serde_json::Value` for a structured event.

use std::collections::HashMap;
use std::hint::black_box;

use alerting::decode::Decoder;
use alerting::document::Document;
use alerting::record::{Header, RawRecord};
use domain::Format;
use regex::Regex;

use crate::records::lines;
use crate::{allocations, medians};

const PATTERN: &str =
    r"^(?<time>\S+) (?<level>[A-Z]+) \[(?<service>[^\]]+)\] (?<user>\S+) (?<status>\d{3}) (?<message>.*)$";

fn fields(line: &[u8]) -> HashMap<String, serde_json::Value> {
    serde_json::from_slice(line).unwrap()
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The records' lines in another format.
fn written(as_text: impl Fn(&HashMap<String, serde_json::Value>) -> String) -> Vec<String> {
    lines(500).iter().map(|line| as_text(&fields(line))).collect()
}

fn compare(
    name: &str,
    format: &Format,
    lines: &[String],
    headers: &[Header<'_>],
    peer: (&str, &mut dyn FnMut(&str)),
) {
    let (decoder, mut document) = (Decoder::new(format).unwrap(), Document::default());
    let mut ours = || {
        for line in lines {
            let record = RawRecord { value: Some(line.as_bytes()), headers, ..RawRecord::default() };
            black_box(decoder.decode(&record, &mut document).unwrap());
        }
    };
    ours();
    let allocated = allocations(&mut ours);
    let (peer_name, peer) = peer;
    let mut theirs = || lines.iter().for_each(|line| peer(line));
    let [ours_ns, theirs_ns] = medians(401, lines.len(), [&mut ours, &mut theirs]);
    let bytes = lines.iter().map(String::len).sum::<usize>() as f64 / lines.len() as f64;
    println!(
        "decode {name}, {bytes:.0} bytes: {ours_ns:.0} ns, {:.0} MB/s, {:.1} allocations; {peer_name} {theirs_ns:.0} ns; ratio {:.2}",
        bytes / ours_ns * 1e3,
        allocated as f64 / lines.len() as f64,
        ours_ns / theirs_ns
    );
}

pub(crate) fn figures() {
    let names = ["time", "level", "service", "status", "amount", "user", "path", "ok", "trace", "message"];
    let logfmt = written(|fields| {
        let pair = |name: &&str| {
            let value = text(&fields[*name]);
            if *name == "message" { format!("{name}=\"{value} of it\"") } else { format!("{name}={value}") }
        };
        names.iter().map(pair).collect::<Vec<_>>().join(" ")
    });
    compare(
        "Logfmt",
        &Format::Logfmt,
        &logfmt,
        &[],
        ("crate logfmt", &mut |line| {
            black_box(logfmt::parse(line));
        }),
    );
    let plain = written(|fields| {
        let [time, level, service, user, status, message] =
            ["time", "level", "service", "user", "status", "message"].map(|name| text(&fields[name]));
        format!("{time} {level} [{service}] {user} {status} {message}")
    });
    let regex = Regex::new(PATTERN).unwrap();
    let pattern = Format::Text { pattern: PATTERN.to_owned() };
    compare(
        "Text",
        &pattern,
        &plain,
        &[],
        ("crate regex into a map", &mut |line| {
            let captures = regex.captures(line).unwrap();
            let names = regex.capture_names().flatten();
            black_box(
                names
                    .filter_map(|name| Some((name, captures.name(name)?.as_str())))
                    .collect::<HashMap<_, _>>(),
            );
        }),
    );
    let mut json = |line: &str| {
        black_box(serde_json::from_str::<serde_json::Value>(line).unwrap());
    };
    let events = written(|fields| {
        let data = serde_json::to_string(fields).unwrap();
        format!(
            "{{\"specversion\":\"1.0\",\"id\":\"{}\",\"source\":\"/shop\",\"type\":\"dev.shop.log\",\"data\":{data}}}",
            text(&fields["trace"])
        )
    });
    let headers: [Header<'_>; 1] = [("content-type", Some(b"application/cloudevents+json"))];
    compare(
        "CloudEvents, structured",
        &Format::CloudEvents,
        &events,
        &headers,
        ("serde_json::Value", &mut json),
    );
    let data = written(|fields| serde_json::to_string(fields).unwrap());
    let headers: [Header<'_>; 5] = [
        ("ce_specversion", Some(b"1.0")),
        ("ce_id", Some(b"7")),
        ("ce_source", Some(b"/shop")),
        ("ce_type", Some(b"dev.shop.log")),
        ("content-type", Some(b"application/json")),
    ];
    compare(
        "CloudEvents, binary",
        &Format::CloudEvents,
        &data,
        &headers,
        ("serde_json::Value of the data alone", &mut json),
    );
}
