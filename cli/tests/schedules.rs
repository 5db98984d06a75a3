//! `belfry schedule import`, `export`, `preview` and `free` as a user runs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panics")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

struct Ran {
    code: i32,
    out: String,
    told: String,
}

/// Runs it in the folder of calendars.
fn schedule(arguments: &[&str], input: &[u8]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_belfry"))
        .arg("schedule")
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/ical"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command that reads nothing closes its end.
    let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), told: text(output.stderr) }
}

fn import(file: &str) -> Ran {
    schedule(&["import", file, "--notify", "slack"], b"")
}

fn documents(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).unwrap()
}

/// What of a value breaks a bound of the definition's schema.
fn breaches(path: &str, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |what: &str| found.push(format!("{path}: {what}"));
    let bound = |name: &str| schema[name].as_u64().map(|it| it as usize);
    if let Some(text) = value.as_str() {
        let length = text.chars().count();
        if bound("minLength").is_some_and(|least| length < least)
            || bound("maxLength").is_some_and(|most| length > most)
        {
            say("length");
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            say("enum");
        }
    }
    if let Some(items) = value.as_array() {
        if bound("maxItems").is_some_and(|most| items.len() > most)
            || bound("minItems").is_some_and(|least| items.len() < least)
        {
            say("items");
        }
        if schema["x-kubernetes-list-type"] == "set"
            && (1..items.len()).any(|at| items[..at].contains(&items[at]))
        {
            say("twice in a set");
        }
        found.extend(
            items
                .iter()
                .enumerate()
                .flat_map(|(at, item)| breaches(&format!("{path}[{at}]"), &schema["items"], item)),
        );
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let place = format!("{path}.{name}");
        let known = &schema["properties"][name];
        if known.is_null() {
            found.push(format!("{place}: unknown"));
        } else {
            found.extend(breaches(&place, known, field));
        }
    }
    found
}

fn fits(yaml: &str) {
    let definitions = crds::definitions();
    let schedule = definitions.iter().find(|it| it.json["spec"]["names"]["kind"] == "Schedule").unwrap();
    let schema = schedule.json.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
    for document in documents(yaml) {
        assert_eq!(breaches("spec", schema, &document["spec"]), Vec::<String>::new(), "{document}");
    }
}

#[test]
fn an_import_from_google_reports_what_it_leaves_out() {
    let Ran { code, out, told } = import("google.ics");
    assert_eq!(code, 0, "{told}");
    fits(&out);
    let all = documents(&out);
    let spec = &all[0]["spec"];
    assert_eq!(spec["timeZone"], "Europe/Berlin");
    assert_eq!(
        spec["recurrence"]["exceptDates"],
        serde_json::json!(["2026-04-06T10:00:00", "2026-05-01T10:00:00"])
    );
    assert_eq!(spec["recurrence"]["overrides"][1]["cancelled"], true, "named in UTC");
    let names: Vec<&str> =
        spec["participants"].as_array().unwrap().iter().map(|it| it["email"].as_str().unwrap()).collect();
    assert_eq!(names, ["jonas@example.com", "minji@example.com"], "Ana has declined");
    assert_eq!(spec["resources"], serde_json::json!(["Room 3F A (8)"]));
    assert_eq!(spec["reminders"][0]["before"], "10m");
    assert_eq!(
        (&spec["description"], &spec["location"]),
        (
            &"What did you do, what will you do?\n\nLink: https://meet.example.com/abc".into(),
            &"Room 3F A (8)".into()
        )
    );
    assert_eq!(all[1]["spec"]["recurrence"]["overrides"][0]["duration"], "120h", "five whole days");
    assert!(told.contains("  line 39: ATTENDEE: Ana has declined: not taken\n"), "{told}");
    assert!(told.ends_with("2 events: 2 taken (1 with remarks), 0 left out, 0 refused\n"), "{told}");
}

#[test]
fn an_import_from_outlook_refuses_an_unknown_zone() {
    let Ran { code, out, told } = import("outlook.ics");
    assert_eq!(code, 1, "{told}");
    fits(&out);
    let all = documents(&out);
    let zones: Vec<&str> = all.iter().map(|it| it["spec"]["timeZone"].as_str().unwrap()).collect();
    assert_eq!(zones, ["Europe/Berlin", "America/New_York"]);
    assert_eq!(all[0]["spec"]["resources"], serde_json::json!(["Board room"]));
    assert!(
        told.contains("no IANA zone has the offsets of its VTIMEZONE from 2026-03-08 to 2026-03-08"),
        "{told}"
    );
}

#[test]
fn in_an_import_from_apple_floating_times_need_a_zone() {
    let Ran { code, out, told } = import("apple.ics");
    assert_eq!(code, 1, "{told}");
    fits(&out);
    let spec = &documents(&out)[0]["spec"];
    let before: Vec<&str> =
        spec["reminders"].as_array().unwrap().iter().map(|it| it["before"].as_str().unwrap()).collect();
    assert_eq!(before, ["15m", "-1h5m"], "the second is after the end");
    assert_eq!(spec["recurrence"]["overrides"][0]["range"], "ThisAndFuture");
    assert_eq!(spec["url"], "https://example.com/handover");
    let exported = schedule(&["export", "-f", "-"], out.as_bytes()).out;
    assert_eq!(
        exported.matches("\r\nURL:https://example.com/handover\r\n").count(),
        2,
        "in the override too: {exported}"
    );
    assert!(
        told.contains("apple.ics:69: left out: \"Buy paper\"\n  line 69: a VTODO is no event\n"),
        "{told}"
    );
    let zoned = schedule(&["import", "apple.ics", "--time-zone", "Korea Standard Time"], b"");
    assert_eq!(zoned.code, 0, "{}", zoned.told);
    assert_eq!(documents(&zoned.out)[1]["spec"]["timeZone"], "Asia/Seoul");
    assert!(zoned.told.contains("say which with --notify"), "{}", zoned.told);
}

#[test]
fn a_broken_event_is_reported_and_the_others_are_imported() {
    let Ran { code, out, told } = schedule(&["import", "broken.ics", "--report", "json"], b"");
    assert_eq!(code, 1);
    assert_eq!(documents(&out).len(), 1);
    let outcomes: Vec<(String, u64, String)> = told
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|it| it["outcome"] != "note")
        .map(|it| {
            (
                it["outcome"].as_str().unwrap().to_owned(),
                it["reason"]["line"].as_u64().unwrap_or(0),
                it["uid"].to_string(),
            )
        })
        .collect();
    let expected = [
        ("taken", 0, "whole-1"),
        ("refused", 17, "rule-broken"),
        ("refused", 23, "open-1"),
        ("refused", 23, "no-start"),
        ("refused", 32, "bad-rule"),
        ("refused", 37, "zone-1"),
        ("refused", 40, "long-1"),
        ("left out", 46, "gone-1"),
        ("refused", 52, "whole-1"),
        ("refused", 60, "last-1"),
    ]
    .map(|(outcome, line, uid)| (outcome.to_owned(), line, format!("{uid:?}")));
    assert_eq!(outcomes, expected);
    let latin = import("latin1.ics");
    assert_eq!(documents(&latin.out)[0]["spec"]["title"], "Café", "{}", latin.told);
}

#[test]
fn a_file_is_written_whole_or_not_at_all_and_nothing_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("made.yaml");
    let path = file.to_str().unwrap();
    assert_eq!(schedule(&["import", "google.ics", "-o", path, "--strict"], b"").code, 1);
    assert_eq!(documents(&std::fs::read_to_string(&file).unwrap()).len(), 1, "one has no remark");
    let nowhere = folder.path().join("no/such/folder.yaml");
    assert_eq!(schedule(&["import", "google.ics", "-o", nowhere.to_str().unwrap()], b"").code, 2);
    assert_eq!(schedule(&["import", "-"], b"hello").code, 2);
    assert_eq!(schedule(&["import", "nowhere.ics"], b"").code, 2);
    assert_eq!(schedule(&["import", "google.ics", "--time-zone", "Mars"], b"").code, 2);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["made.yaml"]);
}

#[test]
fn imported_schedules_pass_lint_and_export_to_the_same_events() {
    for file in ["google.ics", "outlook.ics", "apple.ics"] {
        let first = import(file).out;
        let exported = schedule(&["export", "-f", "-"], first.as_bytes());
        assert_eq!(exported.code, 0, "{}", exported.told);
        let again = schedule(&["import", "-", "--notify", "slack"], exported.out.as_bytes());
        assert_eq!(again.code, 0, "{}", again.told);
        let preview = |yaml: &str| {
            let arguments =
                ["preview", "-f", "-", "-o", "json", "--from", "2025-12-01T00:00:00Z", "--limit", "300"];
            let ran = schedule(&arguments, yaml.as_bytes());
            assert_eq!(ran.code, 0, "{}", ran.told);
            ran.out
        };
        assert_eq!(preview(&again.out), preview(&first), "{file}");
        let uid = |yaml: &str| documents(yaml)[0]["metadata"].clone();
        assert_eq!(uid(&again.out), uid(&first), "{file}");
    }
}

#[test]
fn calendars_of_other_programs_import_as_valid_schedules_and_export_to_the_same_events() {
    for (file, zone) in [
        ("exchange", "Europe/London"),
        ("outlook", "UTC"),
        ("apple", "Europe/Berlin"),
        ("google", "Europe/Berlin"),
        ("thunderbird", "America/New_York"),
        ("zimbra", "UTC"),
        ("lotus", "UTC"),
    ] {
        let path = format!("../../../calendar/tests/calendar/corpus/{file}.ics");
        let first = schedule(&["import", &path, "--time-zone", zone], b"");
        assert!(first.code < 2, "{}", first.told);
        fits(&first.out);
        assert!(documents(&first.out).len() > 2, "{file}: {}", first.told);
        let exported = schedule(&["export", "-f", "-"], first.out.as_bytes());
        assert_eq!(exported.code, 0, "{}", exported.told);
        let again = schedule(&["import", "-"], exported.out.as_bytes());
        assert_eq!(again.code, 0, "{}", again.told);
        let preview = |yaml: &str| {
            let ran =
                schedule(&["preview", "-f", "-", "-o", "json", "--from", "2026-12-01"], yaml.as_bytes());
            assert_eq!(ran.code, 0, "{}", ran.told);
            ran.out
        };
        assert_eq!(preview(&again.out), preview(&first.out), "{file}");
    }
}

#[test]
fn an_export_reads_a_list_as_kubectl_writes_it() {
    let object = r#"{"apiVersion":"belfry.dev/v1alpha1","kind":"Schedule",
        "metadata":{"name":"s","namespace":"a","uid":"5d1c9c4e-8f0e-4a52-9d57-0a9f3b6d7c11","generation":3},
        "spec":{"title":"Stand-up","start":"2026-01-05T10:00:00","timeZone":"Asia/Seoul","duration":"15m"}}"#;
    let list = format!(r#"{{"apiVersion":"v1","kind":"List","items":[{object}]}}"#);
    let Ran { code, out, told } = schedule(&["export", "-f", "-"], list.as_bytes());
    assert_eq!(code, 0, "{told}");
    let expected = "BEGIN:VTIMEZONE\r\nTZID:Asia/Seoul\r\nX-LIC-LOCATION:Asia/Seoul\r\nBEGIN:STANDARD\r\nDTSTART:19881009T030000\r\n\
        TZOFFSETFROM:+1000\r\nTZOFFSETTO:+0900\r\nTZNAME:KST\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\n";
    assert!(out.contains(expected), "{out}");
    for line in [
        "UID:5d1c9c4e-8f0e-4a52-9d57-0a9f3b6d7c11",
        "SEQUENCE:2",
        "DTSTART;TZID=Asia/Seoul:20260105T100000",
        "DURATION:PT15M",
    ] {
        assert!(out.contains(&format!("{line}\r\n")), "{line}: {out}");
    }
    let wrong = list.replace("Asia/Seoul", "Mars/Olympus");
    assert_eq!(schedule(&["export", "-f", "-"], wrong.as_bytes()).code, 2, "there is nothing to write");
}

#[test]
fn a_preview_shows_what_clock_changes_do() {
    let backup = r#"{"apiVersion":"belfry.dev/v1alpha1","kind":"Schedule","metadata":{"name":"backup"},
        "spec":{"title":"Backup","start":"2026-01-01T02:30:00","timeZone":"Europe/Berlin","duration":"30m",
        "recurrence":{"rrule":"FREQ=DAILY","dst":{"gap":"Skip","fold":"Both"}},
        "reminders":[{"before":"10m","notify":[{"channelRef":{"name":"slack"}}]}]}}"#;
    let arguments = [
        "preview",
        "-f",
        "-",
        "--from",
        "2026-03-27",
        "--to",
        "2026-11-01",
        "--limit",
        "3",
        "-o",
        "json",
        "--zone",
        "Asia/Seoul",
    ];
    let Ran { code, out, told } = schedule(&arguments, backup.as_bytes());
    assert_eq!(code, 0, "{told}");
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(shown["occurrences"][2]["start"], "2026-03-30T02:30:00+02:00", "the 29th is skipped");
    assert_eq!(shown["occurrences"][0]["startInZone"], "2026-03-27T10:30:00+09:00");
    assert_eq!(shown["reminders"][0]["due"], "2026-03-27T02:20:00+01:00");
    assert!(!shown["cronLines"].as_array().unwrap().is_empty());
    let kinds: Vec<&str> =
        shown["shifts"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["skipped", "utc", "doubled", "utc"], "{}", shown["shifts"]);
    let shifted = backup.replace("Skip", "ShiftForward").replace("Both", "Last");
    let Ran { out, .. } = schedule(&arguments, shifted.as_bytes());
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(shown["shifts"][0]["text"], "2026-03-29T02:30:00 does not exist: it is at 03:30");
    assert_eq!(shown["shifts"][1]["text"], "from 2026-03-30 on it is at 00:30 UTC, before at 01:30 UTC");
    let text =
        schedule(&["preview", "-f", "-", "--from", "2026-03-27", "--limit", "1"], backup.as_bytes()).out;
    let wanted = "Schedule default/backup: Backup\n  START (Europe/Berlin)        LASTS  ID\n  Fri 2026-03-27 02:30 +01:00  30m\n";
    assert!(text.starts_with(wanted), "{text}");
}

#[test]
fn the_commands_print_what_the_documentation_shows() {
    let text = include_str!("../../docs/icalendar.md");
    let block = |begin: &str| -> &str {
        let from = text.find(begin).unwrap() + begin.len();
        text[from..].split("```").next().unwrap()
    };
    let yaml = block("```yaml\n");
    let command = "$ belfry schedule preview -f backup.yaml --from 2026-03-27 --limit 1\n";
    let Ran { out, .. } =
        schedule(&["preview", "-f", "-", "--from", "2026-03-27", "--limit", "1"], yaml.as_bytes());
    let shown = block(command);
    assert_eq!(out, shown);
    let told = import("google.ics").told;
    let report = block("which, with lines of the file:\n\n```\n");
    assert_eq!(
        report.lines().filter(|line| !told.contains(*line)).collect::<Vec<_>>(),
        Vec::<&str>::new(),
        "{told}"
    );
}

#[test]
fn free_times_clash_with_nobody_and_are_within_everybodys_working_hours() {
    let two = r#"
apiVersion: belfry.dev/v1alpha1
kind: Schedule
metadata: {name: one}
spec:
  title: One
  start: "2026-01-05T09:00:00"
  timeZone: Europe/Berlin
  duration: 2h
  buffer: {after: 30m}
  participants: [{name: Jonas, email: Jonas@example.com}]
  resources: [room]
---
apiVersion: belfry.dev/v1alpha1
kind: Schedule
metadata: {name: two}
spec:
  title: Two
  start: "2026-01-05T13:00:00"
  timeZone: Europe/Berlin
  duration: 1h
  participants: [{name: Minji, email: minji@example.com, workingHours: {from: "10:00", to: "15:00"}}]
---
apiVersion: belfry.dev/v1alpha1
kind: Schedule
metadata: {name: three}
spec: {title: Three, start: "2026-01-05", timeZone: Europe/Berlin, allDay: true, transparency: Transparent, participants: [{name: Minji, email: minji@example.com}]}
"#;
    let common = [
        "free",
        "-f",
        "-",
        "--from",
        "2026-01-05",
        "--to",
        "2026-01-06",
        "--zone",
        "Europe/Berlin",
        "-o",
        "json",
    ];
    let run = |more: &[&str]| -> Value {
        let arguments: Vec<&str> = common.iter().chain(more).copied().collect();
        let Ran { code, out, told } = schedule(&arguments, two.as_bytes());
        assert_eq!(code, 0, "{told}");
        serde_json::from_str(&out).unwrap()
    };
    let times = |it: &Value| -> Vec<String> {
        let hour = |it: &Value| it.as_str().unwrap()[11..16].to_owned();
        it["free"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| format!("{}-{}", hour(&it["start"]), hour(&it["end"])))
            .collect()
    };
    assert_eq!(times(&run(&["--within-working-hours"])), ["11:30-13:00", "14:00-15:00"]);
    assert_eq!(times(&run(&["--within-working-hours", "--duration", "90m"])), ["11:30-13:00"]);
    assert_eq!(times(&run(&["--for", "Minji"])), ["00:00-13:00", "14:00-00:00"]);
    assert_eq!(
        run(&["--for", "room"])["all"][0]["busy"][0]["end"],
        "2026-01-05T11:30:00+01:00",
        "with its buffer"
    );
    let arguments: Vec<&str> = common.iter().copied().chain(["--for", "Ana"]).collect();
    let ran = schedule(&arguments, two.as_bytes());
    assert!(ran.code == 2 && ran.told.contains("--for Ana: no Schedule names them"), "{}", ran.told);
}

#[test]
fn ten_thousand_events_are_imported_and_each_is_reported() {
    let event = |number: usize| {
        let zone = if number % 100 == 99 { "Mars" } else { "Europe/Berlin" };
        format!(
            "BEGIN:VEVENT\r\nUID:{number}\r\nSUMMARY:Event\r\nDTSTART;TZID={zone}:20260105T100000\r\nDURATION:PT1H\r\n\
             RRULE:FREQ=WEEKLY;BYDAY=MO\r\nEND:VEVENT\r\n"
        )
    };
    let text = (0..10_000).map(event).collect::<Vec<_>>().concat();
    let text = format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{text}");
    let Ran { code, out, told } =
        schedule(&["import", "-", "--report", "json"], (text + "END:VCALENDAR\r\n").as_bytes());
    assert_eq!((code, told.lines().count()), (1, 10_000));
    let names: std::collections::HashSet<&str> =
        out.lines().filter(|line| line.starts_with("  name: ")).collect();
    assert_eq!(names.len(), 9_900);
    let exported = schedule(&["export", "-f", "-"], out.as_bytes());
    assert_eq!(
        (exported.code, exported.out.matches("BEGIN:VEVENT\r\n").count()),
        (0, 9_900),
        "{}",
        exported.told
    );
}
