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
fn an_expression_may_begin_with_a_minus() {
    for arguments in [
        &["match", "-1 < 0", "--records", "-"][..],
        &["match", "--records", "-", "-1 < 0"],
        &["match", "--records", "-", "--", "-1 < 0"],
    ] {
        assert_eq!(belfry(arguments, "{}\n"), (0, "true\n".to_owned()), "{arguments:?}");
    }
    assert_eq!(belfry(&["match", "--recrods", "-"], "{}\n").0, 2, "an option that there isn't is none");
}

#[test]
fn with_several_rules_the_output_names_those_that_match() {
    let rule = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/rule.yaml")).unwrap();
    let second = rule.replace("payment-errors", "second").replace("[\"WARN\", \"ERROR\"]", "[\"WARN\"]");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yaml");
    std::fs::write(&file, format!("{rule}\n---\n{second}")).unwrap();
    let records = errors(1) + "\n" + &errors(1).replace("ERROR", "WARN");
    let (code, text) = belfry(&["rule", "try", "-f", file.to_str().unwrap(), "--records", "-"], &records);
    assert_eq!(code, 0, "{text}");
    let lines: Vec<&str> = text.lines().take(2).collect();
    assert_eq!(lines, ["line 1 matches payment-errors", "line 2 matches payment-errors, second"]);
    let (_, text) = belfry(&["rule", "try", "-f", "rule.yaml", "--records", "-"], &records);
    assert!(text.starts_with("line 1 matches\n"), "{text}");
}

#[test]
fn a_repeat_moves_the_event_time_within_the_value() {
    let rule = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/rule.yaml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let timed = rule
        .replace("topics: [\"service-logs\"]", "topics: [\"service-logs\"], eventTime: {path: record.time}");
    std::fs::write(folder.path().join("rule.yaml"), &timed).unwrap();
    let value = "{level: ERROR, service: pay, time: \"2026-01-05T10:00:00Z\"}";
    let tests = format!(
        "rules: [rule.yaml]\ntests: [{{name: t, start: 2026-01-05T10:00:00Z, records: [{{at: 0s, repeat: {{count: 10, every: 1s}}, value: {value}}}], \
         expect: [{{at: 10s, count: 10}}]}}]\n"
    );
    let file = folder.path().join("test.yaml");
    std::fs::write(&file, tests).unwrap();
    let (code, told) = belfry(&["rule", "test", file.to_str().unwrap()], "");
    assert_eq!((code, told.as_str()), (0, "ok    t\n1 passed, 0 failed\n"), "{timed}");
}

#[test]
fn help_shows_options_of_the_hub_with_commands_that_ask_it_and_they_may_come_first() {
    for command in [&["match"][..], &["lint"], &["rule", "try"], &["schedule", "preview"], &[]] {
        let (_, help) = belfry(&[command, &["--help"]].concat(), "");
        assert!(!help.contains("--hub") && !help.contains("kubeconfig"), "{help}");
    }
    for command in ["ask", "list", "dead-letters"] {
        let (_, help) = belfry(&[command, "--help"], "");
        assert!(help.contains("--hub-ca-file") && help.contains("--namespace"), "{help}");
    }
    let (_, help) = belfry(&["schedule", "import", "--help"], "");
    assert!(help.contains("--namespace") && !help.contains("--hub"), "{help}");
}

#[test]
fn completions_and_a_manual_know_all_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (code, text) = belfry(&["completions", shell], "");
        assert!(code == 0 && text.contains("dead-letters"), "{shell}");
        let offers = text.contains("suppressed") || matches!(shell, "powershell" | "elvish");
        assert!(offers, "{shell} offers the values of --state");
    }
    let (code, page) = belfry(&["man"], "");
    assert!(code == 0 && page.contains(".TH belfry 1") && page.contains("schedule"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(belfry(&["man", "--folder", folder.path().to_str().unwrap()], "").0, 0);
    let pages: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    for (name, usage) in [
        ("belfry.1", "<COMMAND>"),
        ("belfry-ask.1", "[OPTIONS] <ID|KIND/NAME>"),
        ("belfry-rule-backtest.1", "\\-\\-filename <FILENAME>"),
    ] {
        assert!(pages.iter().any(|page| page == name), "{name} in {pages:?}");
        let page = std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(page.contains(usage) && page.contains("EXIT STATUS"), "{page}");
    }
}

#[test]
fn as_a_plugin_the_help_says_kubectl_belfry() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-belfry");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_belfry"), &plugin).unwrap();
    let output = Command::new(&plugin).args(["list", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("Usage: kubectl belfry list"), "{help}");
}

#[test]
fn the_error_of_a_bad_id_says_what_is_allowed() {
    for (arguments, allowed) in [
        (&["list", "--object", "hook"][..], "KIND/NAME"),
        (&["ask", "nonsense"], "36 characters"),
        (&["list", "--state", "gone"], "suppressed"),
        (&["list", "--since", "yesterday"], "2h or 7d"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_belfry")).args(arguments).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && told.contains(allowed), "{told}");
    }
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

#[test]
fn the_errors_of_a_missing_object_and_a_hub_without_tls_say_what_to_do() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            use std::io::Read as _;
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let body =
                json!({"reason": "NotFound", "message": "AlertRule \"nope\" of namespace a does not exist"})
                    .to_string();
            let head =
                format!("HTTP/1.1 404 X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    let told = |hub: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_belfry"))
            .args(["ask", "rule/nope", "-n", "a", "--token", "t", "--hub", hub])
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = told(&format!("http://{address}"));
    assert_eq!(code, 2);
    let expected = "AlertRule \"nope\" of namespace a does not exist: say another namespace with -n; one that was removed is \
                    asked for by its uid";
    assert!(text.contains(expected), "{text}");
    let (code, text) = told(&format!("https://{address}"));
    assert!(code == 2 && text.contains("no TLS is spoken there: is http:// meant"), "{text}");
}
