//! What the steps of the controllers have in common.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::children::{Child, ChildKind, Owner};
use crate::cluster::{Cluster, Error, Reported};
use crate::conditions::Standing;
use crate::context::Context;
use crate::guarded::Guarded;
use crate::validate::Invalid;

/// An object that is being reconciled.
pub(crate) struct Item<K, V> {
    /// As the cache has it.
    pub(crate) object: Arc<Guarded<K>>,
    /// The result of its validation.
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

/// How often a taken name is tried again. No watch reports that somebody else's object is gone.
const TAKEN_AGAIN: Duration = Duration::from_secs(30);

/// Applies every child, then deletes our other children of these components. A failure of one does not stop the others,
/// but if the ServiceAccount belongs to somebody else, nothing more is applied: no worker must run under an account
/// that isn't ours.
pub(crate) async fn apply(
    context: &Context,
    cluster: &Cluster,
    namespace: &str,
    components: &[&str],
    children: &[Child],
) -> Vec<Error> {
    let mut errors = Vec::new();
    let owners = context.owners(namespace);
    for child in children {
        let seen = context.seen(child.kind, &child.namespace, &child.name);
        let error = cluster.apply(child, seen.as_ref(), &owners).await.err();
        let no_account =
            child.kind == ChildKind::ServiceAccount && matches!(error, Some(Error::Taken { .. }));
        errors.extend(error);
        if no_account {
            break;
        }
    }
    for (kind, seen) in context.children(namespace, components, &owners) {
        let wanted = |child: &Child| child.kind == kind && Some(&child.name) == seen.name.as_ref();
        if !children.iter().any(wanted) {
            errors.extend(cluster.prune(kind, &seen).await.err());
        }
    }
    errors
}

/// The first error about a child that `needs` names, as a standing of the objects that need it.
pub(crate) fn trouble(errors: &[Error], needs: impl Fn(&str) -> bool) -> Option<Standing> {
    errors.iter().find_map(|error| match error {
        Error::Taken { child } if needs(child) => {
            Some(Standing::Stalled { reason: error.reason().to_owned(), message: error.chain() })
        }
        Error::Apply { child, .. } | Error::Left { child } if needs(child) => {
            Some(Standing::UnderWay { reason: error.reason().to_owned(), message: error.chain() })
        }
        _ => None,
    })
}

/// The name of a child in errors.
pub(crate) fn child_name(kind: ChildKind, name: &str) -> String {
    format!("{kind:?} {name}")
}

/// The status that the object shows, as a value and as its type.
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

/// Writes the status if it differs.
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

/// The first error ends the reconcile as failed; it comes again. A name that is taken is no failure of ours: it is said in a
/// condition, and looked at again.
pub(crate) fn end(errors: Vec<Error>, again: Option<Duration>) -> Result<Option<Duration>, Error> {
    let mut taken = None;
    for error in errors {
        if !matches!(error, Error::Taken { .. }) {
            return Err(error);
        }
        taken = Some(TAKEN_AGAIN);
    }
    Ok(again.into_iter().chain(taken).min())
}
