//! The command line as a user runs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panics")]

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};

/// Runs it in the folder of test data; exit code and standard output.
fn belfry(arguments: &[&str], input: &str) -> (i32, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_belfry"))
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing closes its end.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// Errors of a service, one a second.
fn errors(count: i64) -> String {
    let line = |n: i64| {
        let time_ms = 1_767_607_200_000_i64 + n * 1_000;
        json!({"timestamp": time_ms, "value": {"level": "ERROR", "service": "pay-api", "message": n.to_string()}})
            .to_string()
    };
    (0..count).map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_rules_tests_pass_and_the_exit_code_says_so() {
    let (code, text) = belfry(&["rule", "test", "rule-test.yaml"], "");
    assert_eq!(code, 0, "{text}");
    assert!(text.ends_with("2 passed, 0 failed\n"), "{text}");
    let (code, xml) = belfry(&["rule", "test", "rule-test.yaml", "-o", "junit"], "");
    assert_eq!(code, 0);
    assert!(xml.contains("tests=\"2\" failures=\"0\""), "{xml}");
}

#[test]
fn a_test_that_fails_says_what_came_instead_and_exits_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.yaml");
    let rule = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/rule.yaml");
    let records = "[{at: 0s, repeat: {count: 10, every: 1s}, value: {level: ERROR, service: pay}}]";
    let yaml =
        format!("rules: [{rule}]\ntests: [{{name: t, records: {records}, expect: [{{count: 11}}]}}]\n");
    std::fs::write(&file, yaml).unwrap();
    let (code, told) = belfry(&["rule", "test", file.to_str().unwrap()], "");
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("count is 10, not 11"), "{told}");
}

#[test]
fn a_rule_is_tried_on_a_pipe_and_notifications_are_json_lines() {
    let arguments = ["rule", "try", "-f", "rule.yaml", "--records", "-", "-o", "json"];
    let (code, text) = belfry(&arguments, &errors(12));
    assert_eq!(code, 0);
    let notices: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = json!({
        "rule": "payment-errors", "kind": "firing", "group": {"service": "pay-api"}, "count": 10,
        "windowStart": "2026-01-05T09:59:10Z", "windowEnd": "2026-01-05T10:00:10Z", "time": "2026-01-05T10:00:10Z",
        "severity": "critical", "title": "pay-api: 10 bad log lines in 1m", "summary": "Last: 9",
    });
    assert_eq!(notices, [expected]);
}

#[test]
fn a_match_answers_each_record_in_its_line() {
    let input = "{\"a\": 2}\n{\"a\": \"x\"}\n{\"b\": 1}\n";
    let (code, text) = belfry(&["match", "record.a > 1", "--records", "-"], input);
    assert_eq!(code, 0);
    let lines: Vec<&str> = text.lines().collect();
    assert!(matches!(lines.as_slice(), ["true", wrong, "false"] if wrong.starts_with("false: ")), "{text}");
}

#[test]
fn lint_exits_with_1_for_an_error_and_with_2_when_it_can_not_read() {
    assert_eq!(belfry(&["lint", "-f", "rule.yaml"], "").0, 0, "a channel that is elsewhere is a warning");
    let broken = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/rule.yaml")).unwrap();
    let (code, text) = belfry(&["lint", "-f", "-"], &broken.replace("record.level in", "record.level on"));
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("InvalidMatch: match: line 1, column "), "{text}");
    assert_eq!(belfry(&["lint", "-f", "nowhere.yaml"], "").0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backtest_reads_a_topics_past_to_its_end_and_leaves_nothing_behind() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("service-logs", 3, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let begun = 1_767_607_200_000_i64;
    for n in 0..12_i64 {
        let value = json!({"level": "ERROR", "service": "pay-api", "message": n.to_string()}).to_string();
        let record = FutureRecord::<str, str>::to("service-logs").payload(&value);
        let record = record.partition((n % 2) as i32).timestamp(begun + n * 1_000);
        producer.send(record, Duration::from_secs(20)).await.unwrap();
    }
    let arguments =
        ["rule", "backtest", "-f", "rule.yaml", "--from-offset", "0", "--brokers", &brokers, "-o", "json"];
    let (code, text) = tokio::task::block_in_place(|| belfry(&arguments, ""));
    assert_eq!(code, 0, "{text}");
    let notices: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        notices.iter().map(|it| (it["kind"].as_str().unwrap(), &it["count"], &it["time"])).collect();
    assert_eq!(
        told,
        [
            ("firing", &json!(10), &json!("2026-01-05T10:00:10Z")),
            ("resolved", &json!(0), &json!("2026-01-05T10:06:03Z"))
        ]
    );
}
