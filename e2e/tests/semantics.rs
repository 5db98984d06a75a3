//! Checks that each clause of docs/semantics.md that code or documents name exists, and each test that this page names too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panics")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../docs/semantics.md");

/// Path and text of all Rust and Markdown files of the workspace.
fn texts() -> Vec<(PathBuf, String)> {
    let mut texts = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let (path, name) = (entry.path(), entry.file_name());
            let hidden = name.to_string_lossy().starts_with('.') || name == "target";
            let kind = entry.file_type().expect("its type");
            if kind.is_dir() && !hidden {
                folders.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|it| it == "rs" || it == "md") {
                let text = std::fs::read_to_string(&path).expect("a text");
                texts.push((path, text));
            }
        }
    }
    texts
}

/// The words of a line that look like the number of a clause, such as `P12`.
fn clauses(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| {
        let (letter, number) = word.split_at(usize::from(word.starts_with(['P', 'R', 'E', 'D', 'S'])));
        !letter.is_empty() && number.parse::<u8>().is_ok()
    })
}

#[test]
fn every_clause_that_is_named_exists() {
    let known: BTreeSet<&str> =
        PAGE.lines().filter_map(|line| line.strip_prefix("- **")?.split_once(".**")).map(|it| it.0).collect();
    assert!(known.len() > 50 && known.iter().all(|id| clauses(id).eq([*id])), "{known:?}");
    let mut named = 0;
    for (path, text) in texts() {
        for line in text.lines().filter(|line| line.contains("docs/semantics.md")) {
            for clause in clauses(line) {
                named += 1;
                assert!(known.contains(clause), "{}: there is no clause {clause}: {line}", path.display());
            }
        }
    }
    assert!(named > 0, "nothing is named: this looks in the wrong place");
    for clause in clauses(PAGE) {
        assert!(known.contains(clause), "the page names {clause}, which isn't there");
    }
}

#[test]
fn every_test_that_the_page_names_exists() {
    let (_, table) = PAGE.split_once("## Which tests hold them").expect("the table");
    let tests: Vec<&str> =
        table.split('`').skip(1).step_by(2).filter(|name| !name.contains(['/', '.'])).collect();
    assert!(tests.len() > 50, "{tests:?}");
    let files = texts();
    for test in tests {
        let head = format!("fn {test}(");
        assert!(files.iter().any(|(_, text)| text.contains(&head)), "there is no test {test}");
    }
}
