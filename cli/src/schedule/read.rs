//! The Schedules of manifests, each checked as the operator checks it.
//!
//! Never: one that is not valid handed on.

use std::path::PathBuf;

use anyhow::bail;
use controllers::lint;
use controllers::validate::{ValidResource, ValidSchedule};
use serde_json::Value;

use crate::{manifests, terminal};

/// One Schedule.
pub(crate) struct Read {
    pub(crate) value: Value,
    pub(crate) valid: ValidSchedule,
}

/// All Schedules.
pub(crate) struct Schedules {
    pub(crate) valid: Vec<Read>,
    /// What they may book, as far as it is among the manifests.
    pub(crate) resources: Vec<ValidResource>,
    /// How many are not valid; why has been told.
    pub(crate) refused: usize,
}

/// Those of files and folders. Other kinds are passed over; without any Schedule it is an error.
pub(crate) fn schedules(paths: &[PathBuf]) -> anyhow::Result<Schedules> {
    let mut schedules = Schedules { valid: Vec::new(), resources: Vec::new(), refused: 0 };
    let manifests = manifests::all(paths)?;
    let count = manifests.len();
    for (at, it) in manifests.into_iter().enumerate().filter(|(_, it)| lint::is_ours(&it.value)) {
        let (file, document) = (it.file, it.document);
        let kind = it.value["kind"].as_str().unwrap_or_default().to_owned();
        let name = it.value["metadata"]["name"].as_str().unwrap_or("without a name").to_owned();
        let read = match kind.as_str() {
            "Schedule" => lint::schedule(at, &it.value)
                .map(|valid| schedules.valid.push(Read { value: it.value, valid })),
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
