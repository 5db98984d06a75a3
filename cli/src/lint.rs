//! `belfry lint`: checks manifests as the operator would.

use std::path::PathBuf;

use anyhow::bail;
use controllers::lint::{Finding, Level, is_ours, lint};
use serde_json::{Value, json};

use crate::manifests::{self, Manifest, NotYaml};
use crate::{Output, terminal};

/// Lints files and folders; returns whether there is no error.
pub(crate) fn run(paths: &[PathBuf], output: Output, now: jiff::Timestamp) -> anyhow::Result<bool> {
    let (manifests, not_yaml) = manifests::read_yaml(paths)?;
    for unread in &not_yaml {
        report_not_yaml(unread, output);
    }
    let unread = not_yaml.iter().filter(|it| !it.is_template).count();
    let values: Vec<Value> = manifests.iter().map(|manifest| manifest.value.clone()).collect();
    let ours = values.iter().filter(|value| is_ours(value)).count();
    if ours == 0 && unread == 0 {
        bail!("none of the {} manifests is of belfry.dev", values.len());
    }
    let findings = lint(&values, now).findings;
    for finding in &findings {
        report(finding, &manifests[finding.manifest], output);
    }
    let errors = findings.iter().filter(|finding| finding.level == Level::Error).count();
    let warnings = findings.len() - errors + not_yaml.len() - unread;
    let errors = errors + unread;
    if output == Output::Text {
        terminal::line(format_args!("{ours} objects: {errors} errors, {warnings} warnings"));
    }
    Ok(errors == 0)
}

/// Reports a file that is not YAML. The other files are linted all the same.
fn report_not_yaml(unread: &NotYaml, output: Output) {
    let NotYaml { file, is_template, why } = unread;
    let (level, why) = if *is_template { ("warning", manifests::TEMPLATE) } else { ("error", why.as_str()) };
    match output {
        Output::Text => {
            let head = format!("{file}: {level}: NotYaml: ");
            terminal::indented(&format!("{}{why}", domain::plain(&head))).for_each(terminal::line);
        }
        Output::Json => terminal::json(&json!({
            "file": file, "document": null, "object": null, "level": level, "reason": "NotYaml", "message": why
        })),
    }
}

fn report(finding: &Finding, manifest: &Manifest, output: Output) {
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
