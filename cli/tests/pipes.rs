//! The reader closes the pipe early, as `head` does. No command treats that as an error.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panics")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::json;

const ID: &str = "a17dbef1-601d-5bcc-806b-b0e6bf808605";

/// A hub that tells much.
fn hub() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().unwrap().unwrap();
            let _ = lines.find(|line| line.as_ref().is_ok_and(String::is_empty));
            let story = format!(
                "{{\"notification\":{{\"id\":\"{ID}\",\"namespace\":\"a\",\"severity\":\"critical\",\"title\":\"t\",\"summary\":\"{}\",\
                 \"group\":{{}},\"orderingKey\":\"k\",\"created\":\"2026-01-05T01:00:00Z\",\"cause\":{{\"type\":\"Test\",\
                 \"channel\":\"{ID}\",\"name\":\"c\",\"request\":\"1\"}}}},\"deliveries\":[]}}",
                "x".repeat(200_000)
            );
            let letter = "{\"topic\":\"t\",\"partition\":0,\"stored\":\"2026-01-05T01:00:00Z\",\"offset\":1,\"reason\":\"r\",\"length\":3,\"value\":\"eA==\"}";
            let body = match () {
                () if first.contains("dead-letters") => format!("{{\"items\":[{letter}]}}"),
                () if first.contains(ID) => story,
                () => format!("{{\"items\":[{story}]}}"),
            };
            let head =
                format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    url
}

#[test]
fn every_command_ends_quietly_when_nobody_reads_what_it_prints() {
    let hub = hub();
    let record = |n: i64| {
        let service = format!("s{}", n % 500);
        json!({"timestamp": 1_767_607_200_000_i64 + n, "value": {"level": "ERROR", "service": service}})
            .to_string()
    };
    let records = (0..20_000).map(record).collect::<Vec<_>>().join("\n") + "\n";
    let ask = ["--hub", &hub, "--token", "t", "-n", "a"];
    let commands: Vec<Vec<&str>> = vec![
        vec!["--help"],
        vec!["--version"],
        vec!["lint", "-f", "rule.yaml"],
        vec!["lint", "-f", "rule.yaml", "-o", "json"],
        vec!["match", "true", "--records", "-"],
        vec!["rule", "try", "-f", "rule.yaml", "--records", "-"],
        vec!["rule", "try", "-f", "rule.yaml", "--records", "-", "-o", "json"],
        vec!["rule", "test", "rule-test.yaml"],
        vec!["rule", "test", "rule-test.yaml", "-o", "junit"],
        vec!["rule", "backtest", "--help"],
        vec!["schedule", "expand"],
        vec!["schedule", "import", "ical/google.ics"],
        vec!["schedule", "export", "-f", "schedule.yaml"],
        vec!["schedule", "preview", "-f", "schedule.yaml"],
        vec!["schedule", "preview", "-f", "schedule.yaml", "-o", "json"],
        vec![
            "schedule",
            "free",
            "-f",
            "schedule.yaml",
            "--from",
            "2026-03-01T00:00:00Z",
            "--to",
            "2026-03-10T00:00:00Z",
        ],
        [&ask[..], &["ask", ID]].concat(),
        [&ask[..], &["ask", ID, "-o", "json"]].concat(),
        [&ask[..], &["list"]].concat(),
        [&ask[..], &["list", "-o", "json"]].concat(),
        [&ask[..], &["dead-letters"]].concat(),
        vec!["completions", "bash"],
        vec!["man"],
    ];
    for arguments in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = Command::new(env!("CARGO_BIN_EXE_belfry"))
            .args(&arguments)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata"))
            .stdin(Stdio::piped())
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let text = if arguments.contains(&"expand") {
            "{\"dtstart\":\"2026-01-05\"}\n".repeat(1_000)
        } else {
            records.clone()
        };
        // It may go before it has read all.
        let writing = std::thread::spawn(move || drop(input.write_all(text.as_bytes())));
        let output = child.wait_with_output().unwrap();
        writing.join().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 1)), "{arguments:?} ends with {code:?}: {told}");
        for word in ["panicked", "pipe", "backtrace"] {
            assert!(!told.to_lowercase().contains(word), "{arguments:?}: {told}");
        }
    }
}
