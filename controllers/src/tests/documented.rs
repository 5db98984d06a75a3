//! `docs/reasons.md` has every reason that the operator gives, and no other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/reasons.md")).unwrap()
}

/// Texts between two marks.
fn between(text: &str, mark: char) -> BTreeSet<String> {
    text.split(mark).skip(1).step_by(2).map(str::to_owned).collect()
}

/// The Rust of the parts that give words.
fn source(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_reason_and_condition_of_the_operator_is_in_the_page_of_reasons() {
    let words = include_str!("../conditions.rs");
    let constants = words.lines().filter(|line| line.trim_start().starts_with("pub const "));
    let given: BTreeSet<String> = constants.flat_map(|line| between(line, '"')).collect();
    assert!(given.len() > 30, "{given:?}");
    let told = between(&page(), '`');
    let untold: Vec<_> = given.difference(&told).collect();
    assert!(untold.is_empty(), "docs/reasons.md lacks {untold:?}");
}

#[test]
fn the_page_of_reasons_has_no_word_that_nobody_gives() {
    let mut code = String::new();
    for part in
        ["alerting", "controllers", "crds", "delivery", "domain", "hub", "ledger", "protocol", "worker"]
    {
        source(&root().join(part).join("src"), &mut code);
    }
    let is_part = |letter: char| !letter.is_ascii_alphanumeric();
    let given: BTreeSet<&str> = code.split(is_part).collect();
    let rows = page();
    let rows = rows.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let told: BTreeSet<String> = rows.flat_map(|cell| between(&format!("`{cell}"), '`')).collect();
    assert!(told.len() > 60, "{told:?}");
    let unknown: Vec<_> = told.iter().filter(|word| !given.contains(word.as_str())).collect();
    assert!(unknown.is_empty(), "docs/reasons.md tells of {unknown:?}");
}
