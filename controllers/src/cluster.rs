//! The one way to write to the cluster: server-side apply, one field manager per controller; pruning by label; status and
//! events once per change.
//!
//! Invariant: nothing is written that is already so, as far as the caches tell; a resync without changes writes nothing.
//! Never: a read of a Secret, a write to what does not carry our label, an update without a field manager.

mod events;

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
    /// A child that is not wanted any more could not be deleted.
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
    /// A stable word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Apply { .. } => reasons::APPLY_FAILED,
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
            // kube shows an answer of the API server once in words and once as Rust writes it.
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
    /// Its conditions before, and from now on.
    pub before: &'a [Condition],
    /// From now on.
    pub after: &'a [Condition],
    /// The whole status from now on.
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
    /// For the controller of this name; `instance` is the operator's pod.
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

    /// Applies a child unless it is as wanted already. `seen` is what the cache shows of it.
    pub async fn apply(&self, child: &Child, seen: Option<&ObjectMeta>) -> Result<(), Error> {
        let key = (child.kind, child.namespace.clone(), child.name.clone());
        let digest = child.digest();
        let last = self.applied.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let (Some(last), Some(seen)) = (last, seen)
            && last.digest == digest
            && !was_changed(&last, seen, &child.body)
        {
            return Ok(());
        }
        let generation = match child.kind {
            ChildKind::ServiceAccount => self.patch::<ServiceAccount>(child).await,
            ChildKind::Deployment => self.patch::<Deployment>(child).await,
            ChildKind::CronJob => self.patch::<CronJob>(child).await,
        }
        .map_err(|source| Error::Apply { child: format!("{:?} {}", child.kind, child.name), source })?;
        self.metrics.wrote(self.name, "child");
        tracing::info!(controller = self.name, namespace = child.namespace, name = child.name, kind = ?child.kind, "applied");
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        applied.insert(key, Applied { digest, generation });
        Ok(())
    }

    async fn patch<K>(&self, child: &Child) -> kube::Result<Option<i64>>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let api = Api::<K>::namespaced(self.client.clone(), &child.namespace);
        let params = PatchParams::apply(&self.manager).force();
        let answer = api.patch_metadata(&child.name, &params, &Patch::Apply(&child.body)).await?;
        Ok(answer.metadata.generation)
    }

    /// Makes a Job, unless one of its name is there. It runs once, and is gone some time after.
    pub async fn start(&self, job: &Value) -> Result<(), Error> {
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
            Err(error) if is_status(&error, 409) => Ok(()),
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

    /// Deletes a child that is not wanted any more.
    pub async fn prune(&self, kind: ChildKind, seen: &ObjectMeta) -> Result<(), Error> {
        let (namespace, name) =
            (seen.namespace.clone().unwrap_or_default(), seen.name.clone().unwrap_or_default());
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: seen.uid.clone(), resource_version: None }),
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

    /// The status that the object shows, or the one written last where the cache has not heard of that write yet.
    pub fn known_status(&self, meta: &ObjectMeta, shown: Value) -> Value {
        let statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        match meta.uid.as_ref().and_then(|uid| statuses.get(uid)) {
            Some((written, before)) if *before == meta.resource_version => written.clone(),
            _ => shown,
        }
    }

    /// Writes a status that differs from the known one, then tells of what changed as events.
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
            // The uid makes it fail rather than write to another object of the same name.
            "metadata": {"name": name, "namespace": namespace, "uid": object.meta.uid},
            "status": object.status,
        });
        let params = PatchParams::apply(&self.manager).force();
        // The answer is not read as its kind: an object that can't be is told so too.
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
        for event in events::of(object, &self.instance, now) {
            let api = Api::<Event>::namespaced(self.client.clone(), &namespace);
            match api.create(&PostParams::default(), &event).await {
                Ok(_) => self.metrics.wrote(self.name, "event"),
                // The same change was told already.
                Err(error) if is_status(&error, 409) => {}
                Err(error) => {
                    tracing::warn!(controller = self.name, namespace, name, %error, "event not written");
                }
            }
        }
        Ok(())
    }

    /// Forgets what was written of objects that are gone.
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

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether somebody else has changed what was applied.
fn was_changed(last: &Applied, seen: &ObjectMeta, body: &Value) -> bool {
    // An older generation than the applied one is a cache that has not heard yet.
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
        let last = Applied { digest: Digest::of("x"), generation: Some(4) };
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
        assert!(was_changed(&last, &seen, &body), "somebody took the owner away");
    }
}
