//! Checks the "never on" column of the table of crates in ARCHITECTURE.md against `cargo tree`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panics")]

use std::collections::BTreeSet;
use std::process::Command;

/// Each crate with the crates on which it must not depend, directly or indirectly.
const NEVER: [(&str, &[&str]); 12] = [
    ("belfry-domain", PURE),
    ("belfry-calendar", PURE),
    ("belfry-alerting", PURE),
    ("belfry-templates", PURE),
    ("belfry-crds", &["belfry-domain", "tokio"]),
    ("belfry-controllers", &["sqlx", "redis", "rdkafka"]),
    ("belfry-delivery", &["kube", "sqlx"]),
    ("belfry-serving", &["belfry-domain", "kube", "sqlx", "rdkafka", "reqwest", "h2"]),
    ("belfry-ledger", &["kube", "reqwest", "rdkafka"]),
    ("belfry-hub", &["rdkafka", "belfry-crds"]),
    ("belfry-worker", &["kube", "belfry-crds", "sqlx"]),
    ("belfry", &["sqlx"]),
];
const PURE: &[&str] = &["tokio", "kube", "sqlx", "rdkafka", "reqwest"];

/// The names of the crate itself and of all its dependencies, direct and indirect, without those of its tests.
fn dependencies_of(name: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "-p",
            name,
        ])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo tree runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn no_crate_depends_on_what_its_row_of_the_table_forbids() {
    for (name, never) in NEVER {
        let all = dependencies_of(name);
        assert!(all.contains(name), "{name} lists itself, so the tree was read");
        for forbidden in never {
            assert!(!all.contains(*forbidden), "{name} depends on {forbidden}");
        }
    }
}

/// The folders of the workspace's members.
fn members() -> Vec<String> {
    let manifest =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")).expect("the manifest");
    let members =
        manifest.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).expect("members").0;
    members.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_table_names_every_library_and_binary_of_the_workspace() {
    // The operator puts the other crates together, all crates share the protocol, e2e and fuzz are tests.
    let free = ["operator", "protocol", "e2e", "fuzz"];
    let named: BTreeSet<String> = NEVER.iter().map(|(name, _)| (*name).to_owned()).collect();
    for member in members().into_iter().filter(|member| !free.contains(&member.as_str())) {
        let package = if member == "cli" { "belfry".to_owned() } else { format!("belfry-{member}") };
        assert!(named.contains(&package), "{package} has no row");
    }
}

#[test]
fn tilt_hands_every_member_of_the_workspace_to_the_build() {
    let tiltfile =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Tiltfile")).expect("the Tiltfile");
    for member in members() {
        assert!(tiltfile.contains(&format!("'{member}'")), "the Tiltfile does not name {member}");
    }
}
