//! `rule try`, `match`, `rule test` and `lint` accept what users have: lines that are not records, templates among manifests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panics")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs it; exit code, standard output and standard error.
fn belfry(arguments: &[&str], folder: &Path, input: &[u8]) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_belfry"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing closes its end.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn testdata() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata"))
}

/// Lines that are no JSON text, each in another way, among some that are.
const LINES: &[u8] = b"{\"a\":2}\n\
    no json\n\
    \xef\xbb\xbf{\"a\":2}\n\
    {\"a\":\"\\ud800\"}\n\
    {\"a\":1e400}\n\
    {\"a\":\"caf\xe9\"}\n\
    {\"a\":\r\n\
    \n\
    {\"a\":3}";

#[test]
fn a_line_that_can_not_be_decoded_is_reported_as_a_dead_letter_and_the_next_one_is_read() {
    let (code, text, notes) = belfry(&["match", "record.a > 1", "--records", "-"], testdata(), LINES);
    assert_eq!(code, 0, "{notes}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 8, "{text}");
    assert_eq!((lines[0], lines[7]), ("true", "true"));
    for line in &lines[1..6] {
        assert!(line.starts_with("false: Malformed: "), "{line}");
    }
    assert!(lines[6].starts_with("false: Truncated: "), "{}", lines[6]);
    assert!(!text.contains("caf"), "no content: {text}");
    assert!(notes.contains("8 records read, 6 undecodable: 5 Malformed, 1 Truncated"), "{notes}");
}

#[test]
fn a_rule_is_tried_on_all_lines_and_its_summary_counts_those_that_can_not_be_decoded() {
    let good =
        "{\"timestamp\": 1767607200000, \"value\": {\"level\": \"ERROR\", \"service\": \"pay-api\"}}\n";
    let input = [
        b"no json\n",
        good.repeat(10).as_bytes(),
        b"{\"x\":\"\\udfff\"}\n{\"timestamp\": 5, \"raw\": \"[\"}\n",
    ]
    .concat();
    let (code, text, notes) =
        belfry(&["rule", "try", "-f", "rule.yaml", "--records", "-"], testdata(), &input);
    assert_eq!(code, 0, "{text}{notes}");
    assert!(text.starts_with("line 1 is a dead letter: Malformed: not a JSON text"), "{text}");
    assert!(
        text.contains("line 12 is a dead letter: Malformed: ")
            && text.contains("line 13 is a dead letter: Truncated: "),
        "{text}"
    );
    assert!(text.contains("firing payment-errors"), "{text}");
    assert!(text.contains("13 records read, 3 undecodable: 2 Malformed, 1 Truncated"), "{text}");
    assert!(text.contains("payment-errors: 3 not counted: Undecodable"), "{text}");
}

const LOGFMT: &str = "apiVersion: belfry.dev/v1alpha1
kind: AlertRule
metadata: {name: logs}
spec:
  source: {kafka: {bootstrapServers: [\"kafka.streams.svc:9092\"], topics: [logs], format: Logfmt}}
  match: record.level == 'error'
  condition: {type: Frequency, frequency: {count: 3, window: 1m}}
  title: '{{ count }} errors'
  notify: [{channelRef: {name: slack}}]
";

#[test]
fn a_rule_without_times_over_lines_of_text_says_what_to_do_and_that_works() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rule.yaml"), LOGFMT).unwrap();
    let line = |n: u8| format!("ts=2026-01-05T10:00:0{n}Z level=error msg=\"a\\x1b\"\n");
    let lines = [0, 1, 2, 3].map(line).concat();
    let arguments = ["rule", "try", "-f", "rule.yaml", "--records", "-"];
    let (code, _, notes) = belfry(&arguments, folder.path(), lines.as_bytes());
    assert_eq!(code, 2);
    assert!(notes.contains("--time-path record.time") && notes.contains("eventTime"), "{notes}");
    let with_path = [&arguments[..], &["--time-path", "record.ts"]].concat();
    let lines = format!("{lines}level=info msg=late\n");
    let (code, text, notes) = belfry(&with_path, folder.path(), lines.as_bytes());
    assert_eq!(code, 0, "{notes}");
    assert!(text.contains("firing logs") && text.contains("3 errors"), "{text}");
    assert!(text.contains("1 without a time, so not counted"), "{text}");
    // The other way that it tells of.
    let source = "source: {kafka: {eventTime: {path: record.ts}, bootstrapServers";
    let rule = LOGFMT.replace("source: {kafka: {bootstrapServers", source);
    std::fs::write(folder.path().join("rule.yaml"), rule).unwrap();
    let (code, text, notes) = belfry(&arguments, folder.path(), lines.as_bytes());
    assert_eq!(code, 0, "{notes}");
    assert!(text.contains("firing logs") && text.contains("3 errors"), "{text}");
}

#[test]
fn a_helm_template_in_a_folder_does_not_stop_lint_for_the_other_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.yaml", "{{- if .Values.on }}\nkind: {{ .Values.kind }}\n{{- end }}\n");
    write("b.yaml", &LOGFMT.replace("'error'", "error"));
    write("c.yaml", LOGFMT);
    let (code, text, _) = belfry(&["lint", "-f", "."], folder.path(), b"");
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("a.yaml: warning: NotYaml: a template, not YAML; give what `helm template`"),
        "{text}"
    );
    assert!(text.contains("b.yaml, document 1: AlertRule default/logs: error: InvalidMatch"), "{text}");
    std::fs::remove_file(folder.path().join("b.yaml")).unwrap();
    let (code, text, _) = belfry(&["lint", "-f", "."], folder.path(), b"");
    assert_eq!(code, 0, "a warning: {text}");
    let (code, text, notes) =
        belfry(&["rule", "try", "-f", ".", "--time-path", "record.ts", "--records", "-"], folder.path(), b"");
    assert_eq!(code, 0, "{text}{notes}");
    assert!(notes.contains("a.yaml is passed over: a template"), "{notes}");
    // What is no template is a mistake, and does not hide the others' either.
    write("a.yaml", "kind: [\n");
    write("b.yaml", &LOGFMT.replace("'error'", "error"));
    let (code, text, _) = belfry(&["lint", "-f", "."], folder.path(), b"");
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("a.yaml: error: NotYaml: ") && text.contains("InvalidMatch"), "{text}");
    assert!(text.contains("2 objects: 3 errors"), "{text}");
}

#[test]
fn a_file_of_tests_without_tests_says_so_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rule.yaml"), LOGFMT).unwrap();
    for tests in ["rules: [rule.yaml]\ntests: []\n", "rules: [rule.yaml]\n"] {
        std::fs::write(folder.path().join("test.yaml"), tests).unwrap();
        let (code, text, _) = belfry(&["rule", "test", "test.yaml"], folder.path(), b"");
        assert_eq!(code, 1, "{text}");
        assert!(
            text.contains("there are no `tests` in test.yaml") && text.contains("0 passed, 1 failed"),
            "{text}"
        );
    }
}
