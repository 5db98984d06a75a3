//! Checks one manifest, as the controllers would check the object that the API server makes of it.

use std::sync::LazyLock;

use crds::GROUP;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::NAMESPACE;
use crate::conditions::reasons;
use crate::schema_check::{self, CheckedSpec};
use crate::validate::{self, Faults, Invalid, ValidResource, ValidSchedule};

const VERSION: &str = "v1alpha1";
/// An upper bound of the number of manifests.
const LAST: i64 = 10_000_000;

/// Checks one Schedule alone, with an identity as the API server would give it. Clashes are not looked at.
pub fn schedule(at: usize, manifest: &Value) -> Result<ValidSchedule, Invalid> {
    checked(at, manifest, validate::schedule)
}

/// Checks one BookableResource alone, in the same way.
pub fn resource(at: usize, manifest: &Value) -> Result<ValidResource, Invalid> {
    checked(at, manifest, validate::resource)
}

static SCHEMAS: LazyLock<Vec<crds::Definition>> = LazyLock::new(|| crds::definitions().into());

/// Reads and validates one object, with an identity as the API server would give it.
pub(super) fn checked<K, V>(
    at: usize,
    manifest: &Value,
    check: impl FnOnce(&K) -> Result<V, Invalid>,
) -> Result<V, Invalid>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let version = format!("{GROUP}/{VERSION}");
    if manifest["apiVersion"] != version.as_str() {
        return Err(unreadable(format!("apiVersion is {}; it must be {version}", manifest["apiVersion"])));
    }
    if manifest.pointer("/metadata/name").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err(unreadable("metadata.name is missing".to_owned()));
    }
    let kind = K::kind(&());
    let schema = SCHEMAS
        .iter()
        .find(|definition| definition.json["spec"]["names"]["kind"] == kind.as_ref())
        .and_then(|definition| definition.json.pointer("/spec/versions/0/schema/openAPIV3Schema"));
    if manifest["spec"].is_null() {
        return Err(unreadable(format!("spec is missing: it says what the {kind} is to do")));
    }
    let size = crate::admission::size(&manifest["spec"].to_string());
    size.map_err(|message| Invalid::new(reasons::INVALID_SPEC, message))?;
    let shape = schema.map(|schema| CheckedSpec::new(&schema["properties"]["spec"], &manifest["spec"]));
    let shape = shape.unwrap_or_default();
    let mut faults = Faults::default();
    for fault in &shape.unreadable {
        faults.add(unreadable(fault.to_string()));
    }
    let mut manifest = manifest.clone();
    manifest["spec"] = shape.readable.clone();
    let object = match serde_path_to_error::deserialize::<_, K>(&manifest) {
        Ok(object) => Some(object),
        Err(error) => {
            let place = error.path().to_string();
            if shape.unreadable.is_empty() || !place.starts_with("spec") {
                faults.add(unreadable(format!("{place}: {}", error.into_inner())));
            }
            None
        }
    };
    let checked = object.and_then(|object| {
        let checked = validate::guarded(|| check(&identified(at, object)));
        let told = checked.as_ref().err().cloned().map(Invalid::all).unwrap_or_default();
        let told: Vec<Invalid> = told.into_iter().filter(|it| !shape.is_of_a_blank(&it.message)).collect();
        let is_told = |place: &str| told.iter().any(|it| schema_check::starts_with_place(&it.message, place));
        let refused = shape.refused.iter().filter(|fault| !is_told(&fault.place));
        let refused: Vec<Invalid> =
            refused.map(|fault| Invalid::new(reasons::INVALID_SPEC, fault.to_string())).collect();
        told.into_iter().chain(refused).for_each(|invalid| faults.add(invalid));
        checked.ok()
    });
    faults.end(checked)
}

/// Gives the object an identity, as the API server would.
fn identified<K: Resource<DynamicType = ()>>(at: usize, mut object: K) -> K {
    let kind = K::kind(&());
    let meta = object.meta_mut();
    let namespace = meta.namespace.get_or_insert_with(|| NAMESPACE.to_owned());
    let name = format!("{kind}/{namespace}/{}", meta.name.as_deref().unwrap_or_default());
    if meta.uid.as_deref().is_none_or(|uid| uid.parse::<Uuid>().is_err()) {
        meta.uid = Some(Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string());
    }
    // Of two clashing schedules the older one keeps the slot. Objects that are in no cluster yet count as younger, in
    // the manifests' order.
    let later = || Timestamp::MAX.checked_sub(SignedDuration::from_secs(LAST - at as i64));
    meta.creation_timestamp.get_or_insert_with(|| Time(later().unwrap_or(Timestamp::MAX)));
    object
}

pub(super) fn unreadable(message: String) -> Invalid {
    Invalid::new(reasons::UNREADABLE, message)
}
