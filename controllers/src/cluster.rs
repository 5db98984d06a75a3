//! All writes to the cluster: server-side apply with one field manager for each controller, pruning by owner, and
//! status and events once for each change.
//!
//! Nothing is written that the caches already show, so a resync without changes writes nothing. Each write of a child
//! names the uid of the object that it changes, or says that none may exist. If somebody else creates or replaces the
//! object meanwhile, the API server refuses the write instead of overwriting. This module reads no Secret, writes to
//! nothing that none of our objects owns, and makes no update without a field manager.

mod events;
mod owned;

use std::collections::HashMap;
use std::error::Error as _;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use domain::Digest;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub use owned::{Owners, Whose, whose};

use crate::children::{Child, ChildKind};
use crate::conditions::reasons;
use crate::metrics::Metrics;

/// Which step of a reconcile failed, and why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A child could not be written.
    #[error("apply {child}")]
    Apply {
        /// Kind and name.
        child: String,
        /// The API server's answer.
        source: kube::Error,
    },
    /// Somebody else's object has a child's name.
    #[error(
        "{child} of this namespace was not made by Belfry, and is left as it is; Belfry needs that name here: delete the object or give it another name, and this goes on within a minute"
    )]
    Taken {
        /// Kind and name.
        child: String,
    },
    /// An earlier child of that name still exists, and its owners are gone.
    #[error(
        "an earlier {child} is still there; it is made anew once Kubernetes has collected that, whose owner is gone"
    )]
    Left {
        /// Kind and name.
        child: String,
    },
    /// A child that is no longer wanted could not be deleted.
    #[error("prune {child}")]
    Prune {
        /// Kind and name.
        child: String,
        /// The API server's answer.
        source: kube::Error,
    },
    /// A status could not be written.
    #[error("report status of {object}")]
    Report {
        /// Kind and name.
        object: String,
        /// The API server's answer.
        source: kube::Error,
    },
    /// Plans could not be sent.
    #[error("send plans")]
    Hub(#[from] protocol::Error),
}

impl Error {
    /// The reason, a stable word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Apply { .. } | Self::Left { .. } => reasons::APPLY_FAILED,
            Self::Taken { .. } => reasons::NAME_TAKEN,
            Self::Prune { .. } => "PruneFailed",
            Self::Report { .. } => "ReportFailed",
            Self::Hub(_) => "SendPlansFailed",
        }
    }

    /// The error and what caused it, in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            // kube formats an answer of the API server twice, as text and as a Rust value; only the text is kept.
            if let Some(kube::Error::Api(answer)) = error.downcast_ref() {
                let _ = write!(text, ": {} ({} {})", answer.message, answer.code, answer.reason);
                break;
            }
            let _ = write!(text, ": {error}");
            source = error.source();
        }
        text
    }
}

/// What was applied last.
#[derive(Debug, Clone, PartialEq)]
struct Applied {
    uid: Option<String>,
    digest: Digest,
    generation: Option<i64>,
}

/// An object whose status is to be written.
pub struct Reported<'a> {
    /// Its kind.
    pub kind: &'a str,
    /// Its metadata, from the cache.
    pub meta: &'a ObjectMeta,
    /// The status that the cache shows.
    pub shown: Value,
    /// Its conditions before the change.
    pub before: &'a [Condition],
    /// Its conditions after the change.
    pub after: &'a [Condition],
    /// The whole new status.
    pub status: Value,
}

/// The cluster, for one controller.
pub struct Cluster {
    client: Client,
    manager: String,
    name: &'static str,
    instance: String,
    applied: Mutex<HashMap<(ChildKind, String, String), Applied>>,
    statuses: Mutex<HashMap<String, (Value, Option<String>)>>,
    metrics: Metrics,
}

impl Cluster {
    /// `instance` is the operator's pod.
    pub fn new(client: Client, name: &'static str, instance: String, metrics: Metrics) -> Self {
        Self {
            client,
            manager: format!("belfry-{name}"),
            name,
            instance,
            applied: Mutex::default(),
            statuses: Mutex::default(),
            metrics,
        }
    }

    /// Applies a child unless it is as wanted already. `seen` is its metadata in the cache, `owners` are our objects of
    /// its namespace. An object that none of them owns is not changed.
    pub async fn apply(
        &self,
        child: &Child,
        seen: Option<&ObjectMeta>,
        owners: &Owners,
    ) -> Result<(), Error> {
        let key = (child.kind, child.namespace.clone(), child.name.clone());
        let digest = child.digest();
        let last = self.applied.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let (Some(last), Some(seen)) = (&last, seen)
            && last.digest == digest
            && last.uid == seen.uid
            && !was_changed(last, seen, &child.body)
        {
            return Ok(());
        }
        let at = match seen {
            Some(seen) => Some(ours(child, seen, owners)?),
            None => last.and_then(|last| last.uid),
        };
        let meta = match child.kind {
            ChildKind::ServiceAccount => self.write::<ServiceAccount>(child, at, owners).await,
            ChildKind::Deployment => self.write::<Deployment>(child, at, owners).await,
            ChildKind::CronJob => self.write::<CronJob>(child, at, owners).await,
        }?;
        self.metrics.wrote(self.name, "child");
        tracing::info!(controller = self.name, namespace = child.namespace, name = child.name, kind = ?child.kind, "applied");
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        applied.insert(key, Applied { uid: meta.uid, digest, generation: meta.generation });
        Ok(())
    }

    /// Writes to the object with uid `at`, or creates one. If another object has the name, or somebody else wrote at
    /// the same time, it checks whose that object is and tries again.
    async fn write<K>(
        &self,
        child: &Child,
        mut at: Option<String>,
        owners: &Owners,
    ) -> Result<ObjectMeta, Error>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let failed = |source| Error::Apply { child: described(child), source };
        let api = Api::<K>::namespaced(self.client.clone(), &child.namespace);
        for _ in 0..LOOKS {
            // 409: an object exists where none may be, or it has another version, or is gone. 422: an object with
            // another uid exists; among other causes.
            let error = match self.patch(&api, child, at.as_deref()).await {
                Err(error) if is_status(&error, 409) || is_status(&error, 422) => error,
                other => return other.map_err(failed),
            };
            let there =
                api.get_metadata_opt(&child.name).await.map_err(failed)?.map(|object| object.metadata);
            let now = there.as_ref().map(|there| ours(child, there, owners)).transpose()?;
            if now == at && is_status(&error, 422) {
                return Err(failed(error));
            }
            at = now;
        }
        self.patch(&api, child, at.as_deref()).await.map_err(failed)
    }

    async fn patch<K>(&self, api: &Api<K>, child: &Child, at: Option<&str>) -> kube::Result<ObjectMeta>
    where
        K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let mut body = child.body.clone();
        match at {
            Some(uid) => body["metadata"]["uid"] = json!(uid),
            None => body["metadata"]["resourceVersion"] = json!(NONE_THERE),
        }
        let params = PatchParams::apply(&self.manager).force();
        Ok(api.patch_metadata(&child.name, &params, &Patch::Apply(&body)).await?.metadata)
    }

    /// Creates a Job unless it exists already. It runs once and is deleted some time after.
    pub async fn start(&self, job: &Value, owners: &Owners) -> Result<(), Error> {
        let (namespace, name) = (text(&job["metadata"]["namespace"]), text(&job["metadata"]["name"]));
        let api = Api::<Job>::namespaced(self.client.clone(), namespace);
        let params = PostParams { field_manager: Some(self.manager.clone()), ..PostParams::default() };
        let request = serde_json::to_vec(job).map_err(kube::Error::SerdeError).and_then(|body| {
            let request = kube::core::Request::new(api.resource_url());
            request.create(&params, body).map_err(kube::Error::BuildRequest)
        });
        let answer = match request {
            Ok(request) => self.client.request::<Value>(request).await.map(drop),
            Err(error) => Err(error),
        };
        match answer {
            Err(error) if is_status(&error, 409) => {
                let failed = |source| Error::Apply { child: format!("Job {name}"), source };
                match api.get_metadata_opt(name).await.map_err(failed)? {
                    Some(there) if whose(&there.metadata, owners) == Whose::Foreign => {
                        Err(Error::Taken { child: format!("Job {name}") })
                    }
                    _ => Ok(()),
                }
            }
            Err(source) => Err(Error::Apply { child: format!("Job {name}"), source }),
            Ok(()) => {
                self.metrics.wrote(self.name, "job");
                tracing::warn!(
                    controller = self.name,
                    namespace,
                    name,
                    "no CronJob started in time; a Job does now"
                );
                Ok(())
            }
        }
    }

    /// Deletes a child that is no longer wanted, exactly as the cache shows it. One that has changed since is looked at
    /// again first.
    pub async fn prune(&self, kind: ChildKind, seen: &ObjectMeta) -> Result<(), Error> {
        let (namespace, name) =
            (seen.namespace.clone().unwrap_or_default(), seen.name.clone().unwrap_or_default());
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: seen.uid.clone(),
                resource_version: seen.resource_version.clone(),
            }),
            ..DeleteParams::background()
        };
        let answer = match kind {
            ChildKind::ServiceAccount => return Ok(()),
            ChildKind::Deployment => {
                let api = Api::<Deployment>::namespaced(self.client.clone(), &namespace);
                api.delete(&name, &params).await.map(drop)
            }
            ChildKind::CronJob => {
                let api = Api::<CronJob>::namespaced(self.client.clone(), &namespace);
                api.delete(&name, &params).await.map(drop)
            }
        };
        match answer {
            Err(error) if is_status(&error, 404) || is_status(&error, 409) => {}
            Err(source) => return Err(Error::Prune { child: format!("{kind:?} {name}"), source }),
            Ok(()) => {
                self.metrics.wrote(self.name, "delete");
                tracing::info!(controller = self.name, namespace, name, ?kind, "pruned");
            }
        }
        let key = (kind, namespace, name);
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        Ok(())
    }

    /// The status that the object shows: the cached one, or the one written last if the cache does not show that write
    /// yet.
    pub fn known_status(&self, meta: &ObjectMeta, shown: Value) -> Value {
        let statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        match meta.uid.as_ref().and_then(|uid| statuses.get(uid)) {
            Some((written, before)) if *before == meta.resource_version => written.clone(),
            _ => shown,
        }
    }

    /// Writes a status that differs from the known one, then writes events for the changes.
    pub async fn report<K>(&self, object: &Reported<'_>, now: Timestamp) -> Result<(), Error>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        if object.shown == object.status {
            return Ok(());
        }
        let (namespace, name) =
            (object.meta.namespace.clone().unwrap_or_default(), object.meta.name.clone().unwrap_or_default());
        let api = Api::<K>::namespaced(self.client.clone(), &namespace);
        let body = json!({
            "apiVersion": "belfry.dev/v1alpha1",
            "kind": object.kind,
            // With the uid the write fails instead of changing another object of the same name.
            "metadata": {"name": name, "namespace": namespace, "uid": object.meta.uid},
            "status": object.status,
        });
        let params = PatchParams::apply(&self.manager).force();
        // The answer is not parsed as the object's kind, since the object may be unreadable.
        let request = api.patch_metadata_status(&name, &params, &body).await;
        match request {
            Err(error) if is_status(&error, 404) || is_status(&error, 409) => return Ok(()),
            Err(source) => {
                return Err(Error::Report { object: format!("{} {name}", object.kind), source });
            }
            Ok(()) => {}
        }
        self.metrics.wrote(self.name, "status");
        if let Some(uid) = &object.meta.uid {
            let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
            statuses.insert(uid.clone(), (object.status.clone(), object.meta.resource_version.clone()));
        }
        for event in events::for_report(object, &self.instance, now) {
            let api = Api::<Event>::namespaced(self.client.clone(), &namespace);
            match api.create(&PostParams::default(), &event).await {
                Ok(_) => self.metrics.wrote(self.name, "event"),
                // The event for this change exists already.
                Err(error) if is_status(&error, 409) => {}
                Err(error) => {
                    tracing::warn!(controller = self.name, namespace, name, %error, "event not written");
                }
            }
        }
        Ok(())
    }

    /// Forgets what was written for objects that are gone.
    pub fn forget(&self, is_alive: impl Fn(&str) -> bool) {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| is_alive(uid));
    }
}

/// Server-side apply to `/status`, reading back nothing but metadata.
trait StatusApply {
    async fn patch_metadata_status(&self, name: &str, params: &PatchParams, body: &Value)
    -> kube::Result<()>;
}

impl<K> StatusApply for Api<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    async fn patch_metadata_status(
        &self,
        name: &str,
        params: &PatchParams,
        body: &Value,
    ) -> kube::Result<()> {
        let request = kube::core::Request::new(self.resource_url())
            .patch_subresource("status", name, params, &Patch::Apply(body))
            .map_err(kube::Error::BuildRequest)?;
        self.clone().into_client().request::<Value>(request).await.map(drop)
    }
}

/// No object has this version: it makes a server-side apply create or fail, never change what is there.
///
/// The API server compares an applied `resourceVersion` with that of the stored object and answers 409 where they differ;
/// where none is stored it creates one. A POST would do that too, but would leave the fields to a second manager (the same
/// name with operation `Update`), and what a later release no longer applies would stay for ever.
const NONE_THERE: &str = "1";

/// How often a write checks again what exists. Several controllers make the same ServiceAccount in a namespace.
const LOOKS: usize = 4;

/// The name of a child in errors.
pub(crate) fn described(child: &Child) -> String {
    format!("{:?} {}", child.kind, child.name)
}

/// The uid of the object that has a child's name, if it is ours.
fn ours(child: &Child, there: &ObjectMeta, owners: &Owners) -> Result<String, Error> {
    match whose(there, owners) {
        Whose::Ours => Ok(there.uid.clone().unwrap_or_default()),
        Whose::Left => Err(Error::Left { child: described(child) }),
        Whose::Foreign => Err(Error::Taken { child: described(child) }),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether somebody else has changed what was applied.
fn was_changed(last: &Applied, seen: &ObjectMeta, body: &Value) -> bool {
    // A generation older than the applied one means that the cache lags.
    if last.generation.zip(seen.generation).is_some_and(|(applied, seen)| seen > applied) {
        return true;
    }
    let wanted = &body["metadata"];
    let has_label = |(name, value): (&String, &Value)| {
        seen.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str) == value.as_str()
    };
    let has_owner = |owner: &Value| {
        seen.owner_references.iter().flatten().any(|seen| Some(seen.uid.as_str()) == owner["uid"].as_str())
    };
    !wanted["labels"].as_object().into_iter().flatten().all(has_label)
        || !wanted["ownerReferences"].as_array().into_iter().flatten().all(has_owner)
}

pub(crate) fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_the_api_server_is_told_in_its_words_alone() {
        let answer = kube::core::Status::failure("exceeded quota: pods=1", "Forbidden").with_code(403);
        let source = kube::Error::Api(answer.boxed());
        let error = Error::Apply { child: "Deployment belfry-send".to_owned(), source };
        assert_eq!(error.chain(), "apply Deployment belfry-send: exceeded quota: pods=1 (403 Forbidden)");
    }

    #[test]
    fn a_child_is_written_again_only_when_somebody_else_changed_it() {
        let last = Applied { uid: None, digest: Digest::of("x"), generation: Some(4) };
        let body = json!({"metadata": {"labels": {"a": "b"}, "ownerReferences": [{"uid": "u"}]}});
        let mut seen = ObjectMeta {
            generation: Some(4),
            labels: Some([("a".to_owned(), "b".to_owned())].into()),
            owner_references: serde_json::from_value(
                json!([{"uid": "u", "name": "n", "kind": "K", "apiVersion": "v1"}]),
            )
            .unwrap(),
            ..ObjectMeta::default()
        };
        assert!(!was_changed(&last, &seen, &body));
        seen.generation = Some(3);
        assert!(!was_changed(&last, &seen, &body), "a cache that lags");
        seen.generation = Some(5);
        assert!(was_changed(&last, &seen, &body), "somebody edited the spec");
        seen.generation = Some(4);
        seen.owner_references = None;
        assert!(was_changed(&last, &seen, &body), "somebody took an owner away");
    }
}
