//! What the steps of the three controllers have in common.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::children::{Child, ChildKind, Owner};
use crate::cluster::{Cluster, Error, Reported};
use crate::guarded::Guarded;
use crate::validate::Invalid;
use crate::world::World;

/// An object on its way through the steps.
pub(crate) struct Item<K, V> {
    /// As the cache has it.
    pub(crate) object: Arc<Guarded<K>>,
    /// What it says, checked.
    pub(crate) valid: Result<Arc<V>, Invalid>,
}

impl<K: Resource<DynamicType = ()>, V> Item<K, V> {
    pub(crate) fn meta(&self) -> &ObjectMeta {
        self.object.meta()
    }

    pub(crate) fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }

    pub(crate) fn generation(&self) -> i64 {
        self.meta().generation.unwrap_or(0)
    }

    /// As an owner of children, while it is not being deleted.
    pub(crate) fn owner(&self, kind: &'static str) -> Option<Owner> {
        let alive = self.meta().deletion_timestamp.is_none();
        alive.then(|| Owner { kind, name: self.object.name_any(), uid: self.uid().to_owned() })
    }
}

/// Applies every child, then deletes our children of these components that are not among them. One that fails stops no
/// other.
pub(crate) async fn apply(
    world: &World,
    cluster: &Cluster,
    namespace: &str,
    components: &[&str],
    children: &[Child],
) -> Vec<Error> {
    let mut errors = Vec::new();
    for child in children {
        let seen = world.seen(child.kind, &child.namespace, &child.name);
        errors.extend(cluster.apply(child, seen.as_ref()).await.err());
    }
    for (kind, seen) in world.children(namespace, components) {
        let wanted = |child: &Child| child.kind == kind && Some(&child.name) == seen.name.as_ref();
        if !children.iter().any(wanted) {
            errors.extend(cluster.prune(kind, &seen).await.err());
        }
    }
    errors
}

/// What keeps this child from being written, for the objects that need it.
pub(crate) fn trouble(errors: &[Error], needs: impl Fn(&str) -> bool) -> Option<String> {
    errors.iter().find(|error| matches!(error, Error::Apply { child, .. } if needs(child))).map(Error::chain)
}

/// How [`Error::Apply`] names a child.
pub(crate) fn child_name(kind: ChildKind, name: &str) -> String {
    format!("{kind:?} {name}")
}

/// The status that an object is known to show, as it is typed and as it is written.
pub(crate) fn shown<S: Serialize + DeserializeOwned + Default>(
    cluster: &Cluster,
    meta: &ObjectMeta,
    status: Option<&S>,
) -> (Value, S) {
    let cached = status.and_then(|status| serde_json::to_value(status).ok()).unwrap_or_default();
    let known = cluster.known_status(meta, cached);
    let typed = serde_json::from_value(known.clone()).unwrap_or_default();
    (known, typed)
}

/// Writes a status where it differs.
pub(crate) async fn report<K>(
    cluster: &Cluster,
    meta: &ObjectMeta,
    shown: Value,
    (before, after): (&[Condition], &[Condition]),
    status: &impl Serialize,
    now: jiff::Timestamp,
) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    if meta.deletion_timestamp.is_some() {
        return Ok(());
    }
    let kind = K::kind(&());
    let status = serde_json::to_value(status).unwrap_or_default();
    let object = Reported { kind: kind.as_ref(), meta, shown, before, after, status };
    cluster.report::<K>(&object, now).await
}

/// The first error ends the reconcile as failed; it comes again.
pub(crate) fn first(errors: Vec<Error>) -> Result<(), Error> {
    errors.into_iter().next().map_or(Ok(()), Err)
}
