//! The one way to write to the cluster: server-side apply, one field manager per controller; pruning by label; status and
//! events once per change.
//!
//! Invariant: nothing is written that is already so, as far as the caches tell; a resync without changes writes nothing.
//! Never: a read of a Secret, a write to what does not carry our label, an update without a field manager.

use std::collections::HashMap;
use std::error::Error as _;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use domain::Digest;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ObjectReference, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, ObjectMeta, Time};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::children::{Child, ChildKind};
use crate::conditions::{cut, find, reasons, types};
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
        for event in events(object, &self.instance, now) {
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

/// What is worth an event: a new status or reason of Ready (other than work under way), and flips of the kind's own
/// conditions.
fn events(object: &Reported<'_>, instance: &str, now: Timestamp) -> Vec<Event> {
    let told = |type_: &str| {
        let after = find(object.after, type_)?;
        let before = find(object.before, type_);
        let same = before.is_some_and(|before| {
            before.status == after.status
                && before.reason == after.reason
                && (type_ != types::READY || after.status == "True" || before.message == after.message)
        });
        (!same).then_some(after)
    };
    let quiet = |condition: &Condition| {
        [reasons::PROGRESSING, reasons::WORKER_BEHIND, reasons::WORKER_UNAVAILABLE, reasons::NOTHING_SENT]
            .contains(&condition.reason.as_str())
    };
    let good_at_first = |condition: &Condition| {
        condition.type_ != types::READY
            && find(object.before, &condition.type_).is_none()
            && [reasons::NO_CONFLICT, reasons::QUIET, reasons::DELIVERING]
                .contains(&condition.reason.as_str())
    };
    [types::READY, types::HEALTHY, types::FIRING, types::CONFLICTING]
        .into_iter()
        .filter_map(told)
        .filter(|condition| !quiet(condition) && !good_at_first(condition))
        .map(|condition| event(object, condition, instance, now))
        .chain(forgotten(object, now).map(|lost| event(object, &lost, instance, now)))
        .chain(irregular(object, now).map(|left| event(object, &left, instance, now)))
        .collect()
}

/// Counts that only grow.
const GROWING: [(&str, &str); 2] = [("/deliveries/delivered", "delivered"), ("/matched", "matched")];

/// What the hub forgot, where such a count has shrunk: its database was lost, or an older one is back.
fn forgotten(object: &Reported<'_>, now: Timestamp) -> Option<Condition> {
    let count = |status: &Value, path| status.pointer(path).and_then(Value::as_i64);
    GROWING.iter().find_map(|(path, what)| {
        let (before, after) = (count(&object.shown, path)?, count(&object.status, path)?);
        (after < before).then(|| Condition {
            type_: types::READY.to_owned(),
            status: "False".to_owned(),
            reason: reasons::LEDGER_LOST.to_owned(),
            message: format!(
                "the hub's database was lost, or is an older one: {before} were {what}, it knows of {after}; what was pending or dead is gone, topics are read again from where it knows, and what is told again has the same ids"
            ),
            last_transition_time: Time(now),
            observed_generation: None,
        })
    })
}

/// Counts of a schedule whose growth is told, with what has happened to how many.
const IRREGULAR: [(&str, &str, &str); 4] = [
    ("/skippedReminders", reasons::REMINDERS_SKIPPED, "reminders were missed, and left out by catchUp"),
    (
        "/clockChanges/shifted",
        reasons::CLOCKS_CHANGED,
        "occurrences were later than the rule says: their local time did not exist",
    ),
    (
        "/clockChanges/skipped",
        reasons::CLOCKS_CHANGED,
        "occurrences did not happen: their local time did not exist",
    ),
    (
        "/clockChanges/doubled",
        reasons::CLOCKS_CHANGED,
        "occurrences happened twice: their local time existed twice",
    ),
];

/// What of a schedule was not as its rule says, since the last look.
fn irregular(object: &Reported<'_>, now: Timestamp) -> impl Iterator<Item = Condition> {
    let count = |status: &Value, path| status.pointer(path).and_then(Value::as_i64).unwrap_or(0);
    IRREGULAR.iter().filter_map(move |(path, reason, what)| {
        let after = count(&object.status, path);
        let more = after - count(&object.shown, path);
        (more > 0).then(|| Condition {
            type_: types::READY.to_owned(),
            status: "False".to_owned(),
            reason: (*reason).to_owned(),
            message: format!("{more} {what} ({after} ever)"),
            last_transition_time: Time(now),
            observed_generation: None,
        })
    })
}

fn event(object: &Reported<'_>, condition: &Condition, instance: &str, now: Timestamp) -> Event {
    let good = match condition.type_.as_str() {
        _ if condition.reason == reasons::TEMPLATE_FAILED => false,
        types::READY | types::HEALTHY => condition.status == "True" || condition.reason == reasons::SUSPENDED,
        _ => condition.status == "False",
    };
    let name = object.meta.name.clone().unwrap_or_default();
    // The same change makes the same name, whoever tells it: it exists once.
    let identity = Digest::of(&(
        &object.meta.uid,
        &condition.type_,
        &condition.status,
        &condition.reason,
        &condition.message,
        condition.last_transition_time.0.as_second(),
        object.meta.generation,
    ));
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{}", name.get(..200).unwrap_or(&name), &identity.as_str()[..16])),
            namespace: object.meta.namespace.clone(),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some(if good { "Normal" } else { "Warning" }.to_owned()),
        reason: Some(cut(&condition.reason, 120)),
        action: Some("Reconcile".to_owned()),
        note: Some(cut(&condition.message, 300)),
        regarding: Some(ObjectReference {
            api_version: Some("belfry.dev/v1alpha1".to_owned()),
            kind: Some(object.kind.to_owned()),
            name: object.meta.name.clone(),
            namespace: object.meta.namespace.clone(),
            uid: object.meta.uid.clone(),
            resource_version: object.meta.resource_version.clone(),
            ..ObjectReference::default()
        }),
        reporting_controller: Some("belfry.dev/operator".to_owned()),
        reporting_instance: Some(cut(instance, 120)),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_count_that_shrinks_is_told_as_a_lost_ledger() {
        let meta = ObjectMeta::default();
        let told = |before: Value, after: Value| {
            let object = Reported {
                kind: "AlertRule",
                meta: &meta,
                shown: before,
                before: &[],
                after: &[],
                status: after,
            };
            let told = events(&object, "pod", Timestamp::UNIX_EPOCH);
            told.into_iter().filter_map(|event| Some((event.reason?, event.note?))).collect::<Vec<_>>()
        };
        let delivered = |count: i64| json!({"deliveries": {"delivered": count}});
        assert!(told(delivered(5), delivered(5)).is_empty());
        assert!(told(json!({}), delivered(5)).is_empty(), "it was not known before");
        let lost = told(delivered(5), delivered(0));
        assert_eq!(lost[0].0, "LedgerLost");
        assert!(lost[0].1.contains("5 were delivered, it knows of 0"), "{}", lost[0].1);
        assert_eq!(told(json!({"matched": 7}), json!({"matched": 6})).len(), 1);
    }
}
