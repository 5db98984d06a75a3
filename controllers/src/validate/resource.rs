//! `BookableResource` → how many schedules may have it at once, and of which namespaces.

use std::collections::BTreeSet;

use crds::resource::{BookableResource, ResourceRef};
use kube::ResourceExt as _;

use super::{Invalid, Need};

/// A resource that cannot be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidResource {
    /// Its namespace and name.
    pub reference: ResourceRef,
    /// How many may have it at the same time.
    pub capacity: u32,
    with_all: bool,
    with: BTreeSet<String>,
}

impl ValidResource {
    /// Whether the schedules of a namespace may book it.
    pub fn serves(&self, namespace: &str) -> bool {
        self.with_all || namespace == self.reference.namespace || self.with.contains(namespace)
    }

    /// The resource as schedules need it.
    pub fn need(&self) -> Need {
        Need::from(&self.reference)
    }
}

/// Validates a resource.
pub fn resource(object: &BookableResource) -> Result<ValidResource, Invalid> {
    let namespace = object.namespace().ok_or_else(|| Invalid::spec("metadata.namespace is missing"))?;
    let capacity = object.spec.capacity;
    let capacity = u32::try_from(capacity).ok().filter(|capacity| (1..=10_000).contains(capacity));
    Ok(ValidResource {
        reference: ResourceRef { namespace, name: object.name_any() },
        capacity: capacity.ok_or_else(|| {
            Invalid::spec(format!("capacity: {} is not from 1 to 10000", object.spec.capacity))
        })?,
        with_all: object.spec.shared_with.iter().any(|namespace| namespace == "*"),
        with: object.spec.shared_with.iter().cloned().collect(),
    })
}
