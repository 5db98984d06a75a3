//! Manifests from files, folders and standard input.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use controllers::lint::{Level, lint};
use domain::{Plan, PlanBody};
use serde_json::Value;

/// A manifest and where it stands.
pub(crate) struct Manifest {
    /// The file's name.
    pub(crate) file: String,
    /// From 1.
    pub(crate) document: usize,
    pub(crate) value: Value,
}

/// All manifests of files and folders.
pub(crate) fn all(paths: &[PathBuf]) -> anyhow::Result<Vec<Manifest>> {
    let mut manifests = Vec::new();
    for path in paths {
        for file in files(path)? {
            manifests.extend(read(&file)?);
        }
    }
    Ok(manifests)
}

/// The plans of the AlertRules among manifests, in their order. One that is wrong is an error.
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

/// The file itself, or all manifests below the folder, in the order of their names.
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

/// The text of a file, or of standard input for `-`.
pub(crate) fn text(file: &Path) -> anyhow::Result<String> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    text.with_context(|| format!("reading {}", file.display()))
}

/// The documents of a file; a `List` is its items.
fn read(file: &Path) -> anyhow::Result<Vec<Manifest>> {
    let name = file.display().to_string();
    // The reader's own bounds, 1,024 documents among them, are for what strangers send.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 200_000,
            max_nodes: 20_000_000,
            max_events: 40_000_000,
        },
    };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(&text(file)?, options)
        .with_context(|| format!("{name} is not YAML"))?;
    let mut manifests = Vec::new();
    for (at, value) in documents.into_iter().enumerate() {
        let values = match value["items"].as_array() {
            Some(items) if value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => items.clone(),
            _ => vec![value],
        };
        let manifest = |value| Manifest { file: name.clone(), document: at + 1, value };
        manifests.extend(values.into_iter().map(manifest));
    }
    Ok(manifests)
}
