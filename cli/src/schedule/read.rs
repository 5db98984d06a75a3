//! The Schedules of manifests, each checked as the operator checks it.
//!
//! Never: one that is not valid handed on.

use std::path::PathBuf;

use anyhow::bail;
use controllers::validate::ValidSchedule;
use serde_json::Value;

use crate::manifests;

/// One Schedule.
pub(crate) struct Read {
    pub(crate) value: Value,
    pub(crate) valid: ValidSchedule,
}

/// All Schedules.
pub(crate) struct Schedules {
    pub(crate) valid: Vec<Read>,
    /// How many are not valid; why has been told.
    pub(crate) refused: usize,
}

/// Those of files and folders. Other kinds are passed over; without any Schedule it is an error.
pub(crate) fn schedules(paths: &[PathBuf]) -> anyhow::Result<Schedules> {
    let mut schedules = Schedules { valid: Vec::new(), refused: 0 };
    let manifests = manifests::all(paths)?;
    let count = manifests.len();
    let is_schedule = |value: &Value| value["kind"] == "Schedule" && controllers::lint::is_ours(value);
    for (at, it) in manifests.into_iter().enumerate().filter(|(_, it)| is_schedule(&it.value)) {
        match controllers::lint::schedule(at, &it.value) {
            Ok(valid) => schedules.valid.push(Read { value: it.value, valid }),
            Err(invalid) => {
                schedules.refused += 1;
                let name = it.value["metadata"]["name"].as_str().unwrap_or("without a name");
                eprintln!(
                    "{}, document {}: Schedule {name}: refused: {}: {}",
                    it.file, it.document, invalid.reason, invalid.message
                );
            }
        }
    }
    if schedules.valid.is_empty() && schedules.refused == 0 {
        bail!("there is no Schedule among the {count} manifests");
    }
    Ok(schedules)
}
