//! Reads the Schedules of manifests and validates each as the operator does. Only valid ones are returned.

use std::path::PathBuf;

use anyhow::bail;
use controllers::lint;
use controllers::validate::{ValidResource, ValidSchedule};
use serde_json::Value;

use crate::{manifests, terminal};

/// A valid Schedule and its manifest.
pub(crate) struct CheckedSchedule {
    pub(crate) value: Value,
    pub(crate) valid: ValidSchedule,
}

/// The Schedules of some manifests.
pub(crate) struct Schedules {
    pub(crate) valid: Vec<CheckedSchedule>,
    /// The BookableResources among the manifests.
    pub(crate) resources: Vec<ValidResource>,
    /// How many objects are not valid. The reasons have been printed.
    pub(crate) refused: usize,
}

/// Reads the Schedules of files and folders. Other kinds are skipped; if there is no Schedule, that is an error.
pub(crate) fn read_schedules(paths: &[PathBuf]) -> anyhow::Result<Schedules> {
    let mut schedules = Schedules { valid: Vec::new(), resources: Vec::new(), refused: 0 };
    let manifests = manifests::read_all(paths)?;
    let count = manifests.len();
    for (at, it) in manifests.into_iter().enumerate().filter(|(_, it)| lint::is_ours(&it.value)) {
        let (file, document) = (it.file, it.document);
        let kind = it.value["kind"].as_str().unwrap_or_default().to_owned();
        let name = it.value["metadata"]["name"].as_str().unwrap_or("without a name").to_owned();
        let read = match kind.as_str() {
            "Schedule" => lint::schedule(at, &it.value)
                .map(|valid| schedules.valid.push(CheckedSchedule { value: it.value, valid })),
            "BookableResource" => lint::resource(at, &it.value).map(|valid| schedules.resources.push(valid)),
            _ => Ok(()),
        };
        if let Err(invalid) = read {
            schedules.refused += 1;
            let (reason, message) = (invalid.reason, invalid.message);
            let told = format!("{file}, document {document}: {kind} {name}: refused: {reason}: {message}");
            terminal::note(told);
        }
    }
    if schedules.valid.is_empty() && schedules.refused == 0 {
        bail!("there is no Schedule among the {count} manifests");
    }
    Ok(schedules)
}
