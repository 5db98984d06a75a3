//! The built children: golden manifests, names, and that no user's text reaches a command line.

use std::collections::BTreeSet;

use domain::{Digest, FileKind, FileRef};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::support::{rule, schedule, settings, slack};
use crate::children::{self, Child, ChildKind, Owner, Settings};
use crate::validate;

fn owner(name: &str) -> Owner {
    Owner { kind: "NotificationChannel", name: name.to_owned(), uid: format!("uid-of-{name}") }
}

fn file(kind: FileKind, name: &str, key: &str) -> FileRef {
    FileRef { kind, name: name.to_owned(), key: key.to_owned() }
}

fn reminders() -> Vec<Child> {
    reminders_of(&json!({}))
}

fn reminders_of(changes: &Value) -> Vec<Child> {
    let object = schedule("standup", 5, changes);
    let valid = validate::schedule(object.0.as_ref().unwrap()).unwrap();
    let lines = calendar::cron_lines(&valid.recurrence, &valid.reminders, super::support::now());
    children::reminders(&settings(), &valid.plan, &lines)
}

#[test]
fn the_send_deployment() {
    let files = [
        file(FileKind::Secret, "payments-notify", "slack-url"),
        file(FileKind::Secret, "payments-notify", "signing"),
        file(FileKind::ConfigMap, "ca", "ca.crt"),
    ];
    let [send, _] = children::senders(&settings(), "payments", &[owner("b"), owner("a")], &files.into());
    insta::assert_yaml_snapshot!(send.body);
}

#[test]
fn the_consume_deployment() {
    let source = Digest::from("0123456789abcdef0123456789abcdef".to_owned());
    let child = children::consumer(&settings(), "payments", &source, &[owner("a")], 3, &BTreeSet::new());
    insta::assert_yaml_snapshot!(child.body);
}

#[test]
fn the_administrators_ranges_reach_a_worker_when_there_are_any() {
    let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let settings = Settings {
        denied_ranges: ranges(&["8.8.8.8", "fd12::/16"]),
        allowed_ranges: ranges(&["198.18.0.0/15"]),
        ..settings()
    };
    let source = Digest::from("0123456789abcdef0123456789abcdef".to_owned());
    let child = children::consumer(&settings, "payments", &source, &[owner("a")], 1, &BTreeSet::new());
    let env = &child.body["spec"]["template"]["spec"]["containers"][0]["env"];
    let value = |name: &str| {
        env.as_array().unwrap().iter().find(|it| it["name"] == name).map(|it| it["value"].clone())
    };
    assert_eq!(value("BELFRY_DENIED_RANGES"), Some(json!("8.8.8.8/32,fd12::/16")));
    assert_eq!(value("BELFRY_ALLOWED_RANGES"), Some(json!("198.18.0.0/15")));
}

#[test]
fn a_consumer_mounts_the_secrets_of_its_source_as_optional_files() {
    let source = Digest::from("0123456789abcdef0123456789abcdef".to_owned());
    let files = [file(FileKind::Secret, "alerts", "password"), file(FileKind::ConfigMap, "ca", "ca.crt")];
    let child = children::consumer(&settings(), "payments", &source, &[owner("a")], 1, &files.into());
    let volumes = &child.body["spec"]["template"]["spec"]["volumes"];
    let found = volumes.as_array().unwrap().iter().find(|volume| volume["name"] == "files").unwrap();
    assert_eq!(
        found["projected"]["sources"],
        json!([
            {"secret": {"name": "alerts", "optional": true, "items": [{"key": "password", "path": "secrets/alerts/password"}]}},
            {"configMap": {"name": "ca", "optional": true, "items": [{"key": "ca.crt", "path": "configmaps/ca/ca.crt"}]}},
        ])
    );
}

#[test]
fn the_reminder_cron_job() {
    let children = reminders();
    assert_eq!(children.len(), 1);
    insta::assert_yaml_snapshot!(children[0].body);
}

#[test]
fn the_service_account() {
    insta::assert_yaml_snapshot!(children::service_account("payments", &[owner("a")]).body);
}

#[test]
fn names_stay_within_what_kubernetes_allows() {
    let source = validate::source_of(rule("x", 1, &json!({})).0.as_ref().unwrap()).unwrap().key();
    let consumer = children::consumer(&settings(), "n", &source, &[], 1, &BTreeSet::new());
    let all = children::senders(&settings(), "n", &[], &BTreeSet::new());
    for child in all.iter().chain([&consumer]).chain(&reminders()) {
        let most = if child.kind == ChildKind::CronJob { 52 } else { 63 };
        assert!(child.name.len() <= most, "{}", child.name);
    }
}

/// Everything that a shell, a kubelet or an image puller would act on.
fn acted_on(body: &Value) -> Vec<String> {
    let mut texts = Vec::new();
    for pod in [&body["spec"]["template"]["spec"], &body["spec"]["jobTemplate"]["spec"]["template"]["spec"]] {
        for container in pod["containers"].as_array().into_iter().flatten() {
            for key in ["command", "args", "env", "image", "volumeMounts", "name"] {
                texts.push(container[key].to_string());
            }
        }
        texts.push(pod["serviceAccountName"].to_string());
    }
    texts
}

/// Kubernetes cuts names of Jobs at 63 characters and adds 11 to a CronJob's; a deadline below 10 s may never be met; more
/// than a hundred missed starts are told as too many, and one is made, which is enough: the pod asks what is due; Jobs
/// that failed are kept for ever unless they have an end.
#[test]
fn the_limits_of_cron_jobs_are_kept_whatever_the_schedule_says() {
    let window = |text: &str| json!({"catchUp": {"policy": "All", "window": text}});
    for (changes, deadline) in [
        (json!({}), 3_600),
        (json!({"catchUp": {"policy": "None"}}), 120),
        (window("1m"), 60),
        (window("168h"), 604_800),
        (json!({"recurrence": {"rrule": "FREQ=MINUTELY"}}), 3_600),
        (json!({"recurrence": {"rrule": "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1"}}), 3_600),
    ] {
        let children = reminders_of(&changes);
        assert!((1..=calendar::MAX_CRON_LINES).contains(&children.len()), "{changes}");
        for Child { name, body, .. } in children {
            assert!(name.len() <= 52, "{name}");
            let spec = &body["spec"];
            assert_eq!(spec["startingDeadlineSeconds"], deadline, "{changes}");
            assert_eq!(spec["concurrencyPolicy"], "Forbid");
            assert_eq!(spec["timeZone"], "Etc/UTC");
            let job = &spec["jobTemplate"]["spec"];
            assert_eq!(job["ttlSecondsAfterFinished"], 3_600);
            assert_eq!(job["activeDeadlineSeconds"], deadline + 300);
        }
    }
}

const MARK: &str = "HOSTILE";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_of_a_user_reaches_a_command_line_an_image_or_a_path_of_ours(text in ".{0,20}") {
        let text = format!("{MARK}{text}");
        let changes = json!({
            "title": text, "resources": [text], "participants": [{"name": text}],
            "reminders": [{"before": "10m", "notify": [{"channelRef": {"name": text}}]}],
        });
        let mut built = Vec::new();
        if let Ok(valid) = validate::schedule(schedule("s", 5, &changes).0.as_ref().unwrap()) {
            let lines = calendar::cron_lines(&valid.recurrence, &valid.reminders, super::support::now());
            built.extend(children::reminders(&settings(), &valid.plan, &lines));
        }
        let kafka = json!({"source": {"kafka": {"bootstrapServers": [format!("{text}:1")], "topics": [text]}}});
        if let Ok(source) = validate::source_of(rule("r", 6, &kafka).0.as_ref().unwrap()) {
            let files: BTreeSet<FileRef> = source.security.files().into_iter().cloned().collect();
            built.push(children::consumer(&settings(), "n", &source.key(), &[], 1, &files));
        }
        let mut channel = slack("c", 7);
        if let Some(slack) = channel.0.as_mut().unwrap().spec.slack.as_mut() {
            slack.webhook_url_secret_ref.name.clone_from(&text);
            slack.webhook_url_secret_ref.key.clone_from(&text);
        }
        let files: BTreeSet<FileRef> = validate::files_of(channel.0.as_ref().unwrap()).into_iter().collect();
        prop_assert!(files.iter().all(|file| !file.path().contains("..") || !file.path().contains("/../")));
        built.extend(children::senders(&settings(), "n", &[], &files));
        for child in built {
            for text in acted_on(&child.body) {
                prop_assert!(!text.contains(MARK), "{text}");
            }
        }
    }
}
