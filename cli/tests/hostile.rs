//! Every command gets texts that would act on a terminal. Its output contains no such character and no forged line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panics")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};

/// Sets a window's title, clears the screen, goes back a line, turns letters around, forges a line.
const EVIL: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}1A\u{202e}evil\u{2066}\u{200f}\u{61c}\u{2028}\u{200b}\u{7f}\r\nFORGED all is well";
const ID: &str = "a17dbef1-601d-5bcc-806b-b0e6bf808605";

struct Ran {
    code: i32,
    out: String,
    told: String,
}

fn belfry(arguments: &[&str], input: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_belfry"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing closes its end.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), told: text(output.stderr) }
}

/// Nothing in either stream that a terminal acts on, and the hostile text in a form that can be seen.
fn assert_plain(what: &str, ran: &Ran) {
    let both = format!("{}{}", ran.out, ran.told);
    for text in [&ran.out, &ran.told] {
        let hidden: Vec<char> = text.chars().filter(|char| domain::hides(*char) && *char != '\n').collect();
        assert!(hidden.is_empty(), "{what}: {hidden:?} in {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("FORGED")), "{what}: {text}");
    }
    assert!(both.contains("FORGED"), "{what} shows the text: {both}");
}

fn schedule() -> Value {
    json!({
        "apiVersion": "belfry.dev/v1alpha1", "kind": "Schedule",
        "metadata": {"name": "weekly", "namespace": "payments"},
        "spec": {
            "title": EVIL, "timeZone": "Europe/Berlin", "start": "2026-01-05T10:00:00", "duration": "15m",
            "recurrence": {"rrule": "FREQ=WEEKLY"}, "participants": [{"name": EVIL}], "resources": [EVIL],
            "reminders": [{"before": "10m", "notify": [{"channelRef": {"name": "slack"}}]}],
        },
    })
}

fn rule() -> Value {
    json!({
        "apiVersion": "belfry.dev/v1alpha1", "kind": "AlertRule",
        "metadata": {"name": "errors", "namespace": "payments"},
        "spec": {
            "source": {"kafka": {"bootstrapServers": ["kafka:9092"], "topics": ["logs"]}},
            "match": "true", "groupBy": {"service": "record.service"}, "condition": {"type": "Any"},
            "severity": "critical", "title": "{{ group.service }}", "summary": "{{ group.service }}",
            "notify": [{"channelRef": {"name": "slack"}}],
        },
    })
}

/// A manifest in a form that YAML's readers take: with escapes.
fn yaml(value: &Value) -> String {
    domain::plain_yaml(&value.to_string()).into_owned()
}

fn records() -> String {
    json!({"timestamp": 1_767_607_200_000_i64, "value": {"service": EVIL}}).to_string()
}

/// Writes it into a folder, and says where.
fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn rules_are_tried_and_tested_without_a_control_character() {
    let folder = tempfile::tempdir().unwrap();
    let rule = file(&folder, "rule.yaml", &yaml(&rule()));
    for output in ["text", "json"] {
        let ran = belfry(&["rule", "try", "-f", &rule, "--records", "-", "-o", output], &records());
        assert_eq!(ran.code, 0, "{}", ran.told);
        assert_plain(&format!("rule try {output}"), &ran);
        if output == "json" {
            let notice: Value = serde_json::from_str(ran.out.lines().next().unwrap()).unwrap();
            assert_eq!(notice["group"]["service"], EVIL, "a program reads what was there");
        }
    }
    let tests = json!({
        "rules": ["rule.yaml"],
        "tests": [
            {"name": format!("passes {EVIL}"), "records": [{"at": "0s", "value": {"service": "x"}}], "expect": [{}]},
            {"name": "fails", "records": [{"at": "0s", "value": {"service": EVIL}}], "expect": [{"title": EVIL, "count": 7}]},
            {"name": "lacks", "records": [], "expect": [{"title": EVIL}]},
            {"name": "has", "records": [{"at": "0s", "value": {"service": EVIL}}], "expect": []},
        ],
    });
    let tests = file(&folder, "tests.yaml", &yaml(&tests));
    let ran = belfry(&["rule", "test", &tests], "");
    assert_eq!(ran.code, 1, "{}", ran.told);
    assert_plain("rule test", &ran);
    assert_eq!(ran.out.lines().filter(|line| line.starts_with("FAILED")).count(), 3, "{}", ran.out);
    let xml = belfry(&["rule", "test", &tests, "-o", "junit"], "").out;
    assert!(!xml.contains(domain::hides_in_document), "{xml:?}");
}

#[test]
fn a_match_says_why_not_in_one_line() {
    let pattern = ["match", "record.a > 1", "--records", "-"];
    let evil = json!({"value": {"a": 2, EVIL: EVIL}}).to_string();
    let ran = belfry(&pattern, &format!("{evil}\n"));
    assert_eq!((ran.code, ran.out.as_str()), (0, "true\n"));
    let ran = belfry(&["match", &format!("record.{EVIL}"), "--records", "-"], &evil);
    assert_eq!(ran.code, 2);
    assert!(!ran.told.contains(domain::hides_in_document), "{:?}", ran.told);
}

#[test]
fn manifests_are_linted_without_a_control_character() {
    let mut broken = rule();
    broken["spec"]["match"] = json!(EVIL);
    broken["metadata"]["name"] = json!(EVIL);
    for output in ["text", "json"] {
        let ran = belfry(&["lint", "-f", "-", "-o", output], &yaml(&broken));
        assert_eq!(ran.code, 1, "{}", ran.told);
        assert_plain(&format!("lint {output}"), &ran);
    }
    let ran = belfry(&["rule", "try", "-f", "-", "--records", "/dev/null"], &yaml(&broken));
    assert_eq!(ran.code, 2);
    assert_plain("an error", &ran);
}

#[test]
fn schedules_are_previewed_compared_and_refused_without_a_control_character() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(&folder, "good.yaml", &yaml(&schedule()));
    let mut broken = schedule();
    broken["metadata"]["name"] = json!(EVIL);
    broken["spec"]["timeZone"] = json!(EVIL);
    let broken = file(&folder, "broken.yaml", &yaml(&broken));
    let times = ["--from", "2026-03-01T00:00:00Z", "--to", "2026-03-10T00:00:00Z"];
    for output in ["text", "json"] {
        for command in ["preview", "free"] {
            let mut arguments = vec!["schedule", command, "-f", &good, &broken, "-o", output];
            arguments.extend(times);
            let ran = belfry(&arguments, "");
            assert_eq!(ran.code, 1, "one is refused: {}", ran.told);
            assert_plain(&format!("schedule {command} {output}"), &ran);
        }
    }
    for request in
        [json!({"rrule": EVIL}), json!({"dtstart": EVIL}), json!({"tzid": EVIL, "dtstart": "2026-01-05"})]
    {
        let ran = belfry(&["schedule", "expand"], &request.to_string());
        assert!(ran.out.starts_with("{\"error\":") && ran.out.lines().count() == 1, "{}", ran.out);
        assert!(!ran.out.contains(domain::hides_in_document), "{:?}", ran.out);
    }

    // A calendar has no escapes for direction marks: in a file or a pipe it is as it is, but has no controls of a terminal.
    let ran = belfry(&["schedule", "export", "-f", &good], "");
    assert_eq!(ran.code, 0, "{}", ran.told);
    let control = |char: char| char.is_control() && char != '\r' && char != '\n';
    assert!(!ran.out.contains(control), "{:?}", ran.out);
    assert!(!ran.told.contains(domain::hides_in_document), "{:?}", ran.told);
    assert!(!ran.out.lines().any(|line| line.starts_with("FORGED")), "{}", ran.out);
}

#[test]
fn a_calendar_is_imported_as_manifests_that_hide_nothing_and_say_the_same() {
    let title = "\u{1b}[2J\u{202e}evil\u{9b}1A\\nFORGED";
    let event = |uid: &str, more: &str| {
        format!(
            "BEGIN:VEVENT\r\nUID:{uid}\r\nSUMMARY:{title}\r\nDTSTART:20260105T100000Z\r\nDTEND:20260105T110000Z\r\n{more}END:VEVENT\r\n"
        )
    };
    let bad = event("bad", &format!("RRULE:FREQ={title}\r\n"));
    let calendar = format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:{title}\r\n{}{bad}END:VCALENDAR\r\n",
        event("good", "")
    );
    for report in ["text", "json"] {
        let ran = belfry(&["schedule", "import", "-", "--report", report], &calendar);
        assert_eq!(ran.code, 1, "{}{}", ran.out, ran.told);
        assert_plain(&format!("schedule import {report}"), &ran);
        let manifest: Value = serde_saphyr::from_str(&ran.out).unwrap();
        let read = manifest["spec"]["title"].as_str().unwrap();
        assert!(read.contains('\u{202e}'), "the manifest says what the calendar said: {read:?}");
    }
}

/// A hub that has one story, refuses some, and closes each connection.
fn hub() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut first = String::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            lines.read_line(&mut first).unwrap();
            let mut line = String::from("x");
            while line.trim() != "" {
                line.clear();
                lines.read_line(&mut line).unwrap();
            }
            let (status, body) = answer(&first);
            let body = body.to_string();
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    url
}

fn answer(request: &str) -> (u16, Value) {
    let story = json!({
        "notification": {
            "id": ID, "namespace": "payments", "severity": "critical", "title": EVIL, "summary": EVIL,
            "group": {EVIL: EVIL}, "orderingKey": "k", "created": "2026-01-05T01:00:00Z",
            "cause": {"type": "Record", "rule": ID, "name": EVIL,
                      "record": {"time": "2026-01-05T00:59:59Z", "topic": EVIL, "partition": 3, "offset": 42}},
        },
        "deliveries": [{
            "id": ID, "channel": EVIL, "recipient": EVIL, "state": "Dead", "reason": EVIL,
            "expires": "2026-01-06T01:00:00Z",
            "attempts": [{"number": 1, "started": "2026-01-05T01:00:01Z", "ended": "2026-01-05T01:00:02Z",
                          "outcome": "Refused", "reason": EVIL}],
        }],
    });
    let letter = json!({
        "topic": EVIL, "partition": 0, "stored": "2026-01-05T01:00:00Z",
        "offset": 1, "reason": EVIL, "length": 3, "key": null, "value": "eA==",
    });
    if request.contains("dead-letters") {
        (200, json!({"items": [letter]}))
    } else if request.contains(ID) {
        (200, story)
    } else if request.contains("refused") {
        (403, json!({"error": EVIL, "message": EVIL}))
    } else {
        (200, json!({"items": [story]}))
    }
}

#[test]
fn what_the_hub_tells_is_shown_without_a_control_character() {
    let hub = hub();
    let asked = |arguments: &[&str]| {
        belfry(&[&["--hub", &hub, "--token", "t", "-n", "payments"], arguments].concat(), "")
    };
    for arguments in [
        &["ask", ID][..],
        &["ask", ID, "-o", "json"],
        &["list"],
        &["list", "-o", "wide"],
        &["list", "-o", "json"],
        &["dead-letters"],
        &["dead-letters", "-o", "json"],
    ] {
        let ran = asked(arguments);
        assert_eq!(
            ran.code,
            i32::from(arguments[0] == "ask"),
            "a dead delivery is a no: {arguments:?}: {}",
            ran.told
        );
        assert_plain(&arguments.join(" "), &ran);
    }
    let lines = asked(&["list"]).out.lines().count();
    assert_eq!(lines, 2, "a header, and a line for a delivery, whatever is in it");
    let ran = belfry(&["--hub", &hub, "--token", "t", "-n", "refused", "list"], "");
    assert_eq!(ran.code, 2);
    assert!(!ran.told.contains(domain::hides_in_document), "{:?}", ran.told);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backtest_tells_without_a_control_character() {
    let folder = tempfile::tempdir().unwrap();
    let rule = file(&folder, "rule.yaml", &yaml(&rule()));
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("logs", 1, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let value = json!({"service": EVIL}).to_string();
    let record = FutureRecord::<str, str>::to("logs").payload(&value).partition(0);
    producer.send(record, Duration::from_secs(20)).await.unwrap();
    for output in ["text", "json"] {
        let arguments =
            ["rule", "backtest", "-f", &rule, "--from-offset", "0", "--brokers", &brokers, "-o", output];
        let ran = tokio::task::block_in_place(|| belfry(&arguments, ""));
        assert_eq!(ran.code, 0, "{}", ran.told);
        assert_plain(&format!("rule backtest {output}"), &ran);
    }
}
