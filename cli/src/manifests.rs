//! Reads manifests from files, folders and standard input.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use controllers::lint::{Level, lint};
use domain::{Plan, PlanBody};
use serde_json::Value;

use crate::terminal;

/// A manifest and where it was found.
pub(crate) struct Manifest {
    /// The file's name.
    pub(crate) file: String,
    /// The number of the document in the file, from 1.
    pub(crate) document: usize,
    pub(crate) value: Value,
}

/// A file that is not YAML.
pub(crate) struct NotYaml {
    /// The file's name.
    pub(crate) file: String,
    /// Whether it is in a folder and looks like a Helm template.
    pub(crate) is_template: bool,
    /// The error, with its position in the file.
    pub(crate) why: String,
}

/// Reads all manifests of files and folders. Skips templates in folders and says so; other files that are not YAML are an error.
pub(crate) fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Manifest>> {
    let (manifests, not_yaml) = read_yaml(paths)?;
    for NotYaml { file, is_template, why } in not_yaml {
        if !is_template {
            bail!("{file} is not YAML: {why}");
        }
        terminal::note(format_args!("{file} is passed over: {TEMPLATE}"));
    }
    Ok(manifests)
}

/// What a user should do about a template.
pub(crate) const TEMPLATE: &str = "a template, not YAML; give what `helm template` makes of it";

/// Reads all manifests of files and folders; also returns the files that are not YAML.
pub(crate) fn read_yaml(paths: &[PathBuf]) -> anyhow::Result<(Vec<Manifest>, Vec<NotYaml>)> {
    let (mut manifests, mut not_yaml) = (Vec::new(), Vec::new());
    for path in paths {
        for file in files(path)? {
            let text = read_text(&file)?;
            let name = file.display().to_string();
            match parse(&name, &text) {
                Ok(parsed) => manifests.extend(parsed),
                Err(why) => {
                    let is_template = file != *path && text.contains("{{");
                    not_yaml.push(NotYaml { file: name, is_template, why });
                }
            }
        }
    }
    Ok((manifests, not_yaml))
}

/// The plans of the AlertRules among the manifests, in the same order. An invalid rule is an error.
pub(crate) fn rules(manifests: &[Manifest], now: jiff::Timestamp) -> anyhow::Result<Vec<Plan>> {
    let values: Vec<Value> =
        manifests.iter().map(|it| it.value.clone()).filter(|it| it["kind"] == "AlertRule").collect();
    let linted = lint(&values, now);
    let errors: Vec<String> = linted
        .findings
        .iter()
        .filter(|finding| finding.level == Level::Error)
        .map(|finding| format!("{}: {}: {}", finding.object, finding.reason, finding.message))
        .collect();
    if !errors.is_empty() {
        bail!("{}", errors.join("\n"));
    }
    let is_rule = |plan: &Plan| matches!(plan.body, PlanBody::AlertRule(_));
    let rules: Vec<Plan> = linted.plans.into_iter().map(|(_, plan)| plan).filter(is_rule).collect();
    if rules.is_empty() {
        bail!("there is no AlertRule among the {} manifests", manifests.len());
    }
    Ok(rules)
}

/// The file itself, or all manifest files below a folder, in order of their names.
fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if path == Path::new("-") || !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut entries = entries.with_context(|| format!("reading {}", path.display()))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.path();
        let is_manifest = path
            .extension()
            .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known));
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if is_manifest {
            found.push(path);
        }
    }
    Ok(found)
}

/// Reads a file, or standard input for `-`.
pub(crate) fn read_text(file: &Path) -> anyhow::Result<String> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    text.with_context(|| format!("reading {}", file.display()))
}

/// Rewrites the parser's error for users: its advice is for programmers.
fn in_words(error: &str) -> String {
    const ADVICE: &str = ", set DuplicateKeyPolicy in Options if acceptable";
    let twice = error.split_once("duplicate mapping key: ").and_then(|(place, rest)| {
        let (key, rest) = rest.split_once(ADVICE)?;
        // The advice is also beside the line.
        Some((place, key, rest.replace(ADVICE, "")))
    });
    match twice {
        Some((place, key @ ("apiVersion" | "kind" | "metadata" | "spec"), rest)) => format!(
            "{place}{key} is there twice: where two objects stand one behind the other, a line --- goes between them{rest}"
        ),
        Some((place, key, rest)) => format!("{place}{key} is there twice{rest}"),
        None => error.to_owned(),
    }
}

/// Parses the documents of a file; a `List` becomes its items.
fn parse(name: &str, text: &str) -> Result<Vec<Manifest>, String> {
    // The parser's default bounds, such as 1,024 documents, are for input from strangers.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 200_000,
            max_nodes: 20_000_000,
            max_events: 40_000_000,
        },
    };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| in_words(&error.to_string()))?;
    let mut manifests = Vec::new();
    for (at, value) in documents.into_iter().enumerate() {
        let values = match value["items"].as_array() {
            Some(items) if value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => items.clone(),
            _ => vec![value],
        };
        let manifest = |value| Manifest { file: name.to_owned(), document: at + 1, value };
        manifests.extend(values.into_iter().map(manifest));
    }
    Ok(manifests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_two_objects_without_a_line_between_them_says_so() {
        let object = "apiVersion: belfry.dev/v1alpha1\nkind: Schedule\nmetadata: {name: a}\n";
        let told = parse("x", &format!("{object}{object}")).err().unwrap();
        assert!(told.contains("apiVersion is there twice: where two objects stand"), "{told}");
        assert!(!told.contains("DuplicateKeyPolicy"), "{told}");
        let told = parse("x", "a: {b: 1, b: 2}").err().unwrap();
        assert!(told.contains("b is there twice") && !told.contains("Options"), "{told}");
        assert_eq!(parse("x", &format!("---\n{object}---\n{object}")).ok().unwrap().len(), 2);
    }
}
