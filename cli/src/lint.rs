//! `belfry lint`: what the operator would say about manifests.

use std::path::PathBuf;

use anyhow::bail;
use controllers::lint::{Finding, Level, is_ours, lint};
use serde_json::{Value, json};

use crate::manifests::{self, Manifest};
use crate::{Output, terminal};

/// Lints files and folders; whether there is no error.
pub(crate) fn run(paths: &[PathBuf], output: Output, now: jiff::Timestamp) -> anyhow::Result<bool> {
    let manifests = manifests::all(paths)?;
    let values: Vec<Value> = manifests.iter().map(|manifest| manifest.value.clone()).collect();
    let ours = values.iter().filter(|value| is_ours(value)).count();
    if ours == 0 {
        bail!("none of the {} manifests is of belfry.dev", values.len());
    }
    let findings = lint(&values, now).findings;
    for finding in &findings {
        tell(finding, &manifests[finding.manifest], output);
    }
    let errors = findings.iter().filter(|finding| finding.level == Level::Error).count();
    if output == Output::Text {
        terminal::line(format_args!("{ours} objects: {errors} errors, {} warnings", findings.len() - errors));
    }
    Ok(errors == 0)
}

fn tell(finding: &Finding, manifest: &Manifest, output: Output) {
    let Finding { object, reason, message, .. } = finding;
    let level = match finding.level {
        Level::Error => "error",
        Level::Warning => "warning",
    };
    let Manifest { file, document, .. } = manifest;
    match output {
        Output::Text => {
            let head = format!("{file}, document {document}: {object}: {level}: {reason}: ");
            terminal::indented(&format!("{}{message}", domain::plain(&head))).for_each(terminal::line);
        }
        Output::Json => terminal::json(&json!({
            "file": file, "document": document, "object": object, "level": level, "reason": reason, "message": message
        })),
    }
}
