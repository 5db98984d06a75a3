//! `belfry lint`: reads manifests and says what the operator would say.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use controllers::lint::{Finding, Level, is_ours, lint};
use serde_json::{Value, json};

/// How findings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// A line for each, for people.
    Text,
    /// A JSON object in a line for each, for programs.
    Json,
}

/// A manifest and where it stands.
struct Manifest {
    file: String,
    /// From 1.
    document: usize,
    value: Value,
}

/// Lints files and folders; whether there is no error.
pub(crate) fn run(paths: &[PathBuf], output: Output, now: jiff::Timestamp) -> anyhow::Result<bool> {
    let mut manifests = Vec::new();
    for path in paths {
        for file in files(path)? {
            manifests.extend(read(&file)?);
        }
    }
    let values: Vec<Value> = manifests.iter().map(|manifest| manifest.value.clone()).collect();
    let ours = values.iter().filter(|value| is_ours(value)).count();
    if ours == 0 {
        bail!("none of the {} manifests is of belfry.dev", values.len());
    }
    let findings = lint(&values, now);
    for finding in &findings {
        println!("{}", line(finding, &manifests[finding.manifest], output));
    }
    let errors = findings.iter().filter(|finding| finding.level == Level::Error).count();
    if output == Output::Text {
        println!("{ours} objects: {errors} errors, {} warnings", findings.len() - errors);
    }
    Ok(errors == 0)
}

fn line(finding: &Finding, manifest: &Manifest, output: Output) -> String {
    let Finding { object, reason, message, .. } = finding;
    let level = match finding.level {
        Level::Error => "error",
        Level::Warning => "warning",
    };
    let Manifest { file, document, .. } = manifest;
    match output {
        Output::Text => format!("{file}, document {document}: {object}: {level}: {reason}: {message}"),
        Output::Json => json!({
            "file": file, "document": document, "object": object, "level": level, "reason": reason, "message": message
        })
        .to_string(),
    }
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

/// The documents of a file; a `List` is its items.
fn read(file: &Path) -> anyhow::Result<Vec<Manifest>> {
    let name = file.display().to_string();
    let text = if name == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.with_context(|| format!("reading {name}"))?;
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).with_context(|| format!("{name} is not YAML"))?;
    let mut manifests = Vec::new();
    for (at, value) in documents.into_iter().enumerate() {
        let values = match value["items"].as_array() {
            Some(items) if value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => items.clone(),
            _ => vec![value],
        };
        manifests.extend(values.into_iter().map(|value| Manifest {
            file: name.clone(),
            document: at + 1,
            value,
        }));
    }
    Ok(manifests)
}
