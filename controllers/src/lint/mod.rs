//! Reports all that the operator would say about manifests, without a cluster: for the command line and for pipelines.
//!
//! It runs the controllers' validation ([`crate::validate`]) on each manifest, and also reports what concerns several of
//! them: channels that are missing, schedules that clash. `manifest` checks one manifest, `across` checks them together.
//! It is pure: the clock is an argument, it reads no Secret and asks nobody.

mod across;
mod manifest;
#[cfg(test)]
mod tests;

use crds::GROUP;
use domain::Plan;
use jiff::Timestamp;
use serde_json::Value;

use self::across::ManifestSet;
pub use self::manifest::{resource, schedule};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The object would not work.
    Error,
    /// The object would wait for something, or is not what was probably meant.
    Warning,
}

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Index of the manifest.
    pub manifest: usize,
    /// `AlertRule payments/chargeback`.
    pub object: String,
    /// How bad it is.
    pub level: Level,
    /// From [`crate::conditions::reasons`].
    pub reason: &'static str,
    /// The field, and what is allowed.
    pub message: String,
}

/// The namespace of a manifest that names none.
const NAMESPACE: &str = "default";

/// Whether a manifest is of one of our kinds, whatever its version.
pub fn is_ours(manifest: &Value) -> bool {
    let version = manifest["apiVersion"].as_str().unwrap_or_default();
    version.split_once('/').is_some_and(|(group, _)| group == GROUP)
}

/// The result of linting.
#[derive(Debug, Default)]
pub struct Linted {
    /// The findings, in the manifests' order.
    pub findings: Vec<Finding>,
    /// The plans of the valid manifests, with the index of the manifest.
    pub plans: Vec<(usize, Plan)>,
}

/// Lints manifests. Those of other kinds ([`is_ours`]) are skipped.
pub fn lint(manifests: &[Value], now: Timestamp) -> Linted {
    let mut set = ManifestSet::default();
    for (at, manifest) in manifests.iter().enumerate().filter(|(_, manifest)| is_ours(manifest)) {
        set.check_object(at, manifest);
    }
    set.check_references();
    set.check_clashes(now);
    set.findings.sort_by_key(|finding| (finding.manifest, finding.level));
    Linted { findings: set.findings, plans: set.plans }
}
