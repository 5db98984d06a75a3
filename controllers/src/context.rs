//! What the controllers share: the caches, the hub, the settings of workers, and the clock. Also [`Memo`], which keeps
//! the results of validation.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use crds::{AlertRule, BookableResource, NotificationChannel, Schedule};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::core::PartialObjectMeta;
use kube::{Resource, ResourceExt as _};

use crate::cache::Cache;
use crate::children::{COMPONENT, ChildKind, Settings};
use crate::cluster::{Owners, Whose, whose};
use crate::conditions::{find, reasons, types};
use crate::conflicts::Conflicts;
use crate::guarded::Guarded;
use crate::hub::Hub;
use crate::status::{Stuck, Workers};
use crate::validate::{Invalid, guarded};

/// What the controllers share.
pub struct Context {
    /// All channels.
    pub channels: Arc<Cache<Guarded<NotificationChannel>>>,
    /// All rules.
    pub rules: Arc<Cache<Guarded<AlertRule>>>,
    /// All schedules.
    pub schedules: Arc<Cache<Guarded<Schedule>>>,
    /// All resources.
    pub resources: Arc<Cache<Guarded<BookableResource>>>,
    /// Our Deployments, without their specs.
    pub deployments: Arc<Cache<Deployment>>,
    /// Metadata of our CronJobs.
    pub cron_jobs: Arc<Cache<PartialObjectMeta<CronJob>>>,
    /// Metadata of our service accounts.
    pub accounts: Arc<Cache<PartialObjectMeta<ServiceAccount>>>,
    /// Which schedules clash, kept up to date by the caches of schedules and resources.
    pub conflicts: Arc<Conflicts>,
    /// The hub.
    pub hub: Hub,
    /// What the flags say of workers.
    pub settings: Settings,
    /// The clock, given by the process.
    pub now: fn() -> Timestamp,
}

impl Context {
    /// Starts with empty caches. `scopes` watches will fill each cache; `conflict_horizon` says how far ahead clashes
    /// are looked for.
    pub fn new(
        scopes: usize,
        hub: Hub,
        settings: Settings,
        conflict_horizon: SignedDuration,
        now: fn() -> Timestamp,
    ) -> Self {
        let conflicts = Arc::new(Conflicts::new(conflict_horizon, now()));
        let (schedules, resources) = (Arc::clone(&conflicts), Arc::clone(&conflicts));
        Self {
            channels: Cache::new(scopes),
            rules: Cache::new(scopes),
            schedules: Cache::observed(scopes, move |change| schedules.schedule_changed(change, now())),
            resources: Cache::observed(scopes, move |change| resources.resource_changed(change)),
            deployments: Cache::new(scopes),
            cron_jobs: Cache::new(scopes),
            accounts: Cache::new(scopes),
            conflicts,
            hub,
            settings,
            now,
        }
    }

    /// Whether all caches have been filled once.
    pub fn is_synced(&self) -> bool {
        self.channels.is_synced()
            && self.rules.is_synced()
            && self.schedules.is_synced()
            && self.resources.is_synced()
            && self.deployments.is_synced()
            && self.cron_jobs.is_synced()
            && self.accounts.is_synced()
    }

    /// Waits until all caches have been filled once.
    pub async fn synced(&self) {
        self.channels.synced().await;
        self.rules.synced().await;
        self.schedules.synced().await;
        self.resources.synced().await;
        self.deployments.synced().await;
        self.cron_jobs.synced().await;
        self.accounts.synced().await;
    }

    /// The names of the channels of a namespace.
    pub fn channel_names(&self, namespace: &str) -> BTreeSet<String> {
        self.channels.in_namespace(namespace).iter().map(|channel| channel.name_any()).collect()
    }

    /// Those of the named channels whose status says that they can't send. A channel that is only being set up doesn't
    /// count.
    pub fn stuck<'a>(&self, namespace: &str, names: impl IntoIterator<Item = &'a String>) -> Vec<Stuck> {
        let stuck = |name: &String| {
            let held = self.channels.get(namespace, name)?;
            let conditions = &held.0.as_ref().ok()?.status.as_ref()?.conditions;
            let (reason, stalled) = standing(conditions)?;
            let message = find(conditions, types::READY)?.message.clone();
            Some(Stuck { name: name.clone(), reason: reason.to_owned(), message, stalled })
        };
        names.into_iter().filter_map(stuck).collect()
    }

    /// The metadata of a child, as the cache has it.
    pub fn seen(&self, kind: ChildKind, namespace: &str, name: &str) -> Option<ObjectMeta> {
        match kind {
            ChildKind::ServiceAccount => Some(self.accounts.get(namespace, name)?.metadata.clone()),
            ChildKind::Deployment => Some(self.deployments.get(namespace, name)?.metadata.clone()),
            ChildKind::CronJob => Some(self.cron_jobs.get(namespace, name)?.metadata.clone()),
        }
    }

    /// The uids of our objects of a namespace, for which children are made.
    pub fn owners(&self, namespace: &str) -> Owners {
        let mut owners = Owners::new();
        owners.extend(self.channels.in_namespace(namespace).iter().filter_map(|object| object.uid()));
        owners.extend(self.rules.in_namespace(namespace).iter().filter_map(|object| object.uid()));
        owners.extend(self.schedules.in_namespace(namespace).iter().filter_map(|object| object.uid()));
        owners
    }

    /// The children of these components that one of `owners` owns. The component's label only says which controller
    /// looks after a child.
    pub fn children(
        &self,
        namespace: &str,
        components: &[&str],
        owners: &Owners,
    ) -> Vec<(ChildKind, ObjectMeta)> {
        let mine = |meta: &ObjectMeta| {
            let component = meta.labels.as_ref().and_then(|labels| labels.get(COMPONENT));
            component.is_some_and(|component| components.contains(&component.as_str()))
                && whose(meta, owners) == Whose::Ours
        };
        let deployments = self.deployments.in_namespace(namespace);
        let cron_jobs = self.cron_jobs.in_namespace(namespace);
        deployments
            .iter()
            .map(|object| (ChildKind::Deployment, object.meta()))
            .chain(cron_jobs.iter().map(|object| (ChildKind::CronJob, object.meta())))
            .filter(|(_, meta)| mine(meta))
            .map(|(kind, meta)| (kind, meta.clone()))
            .collect()
    }

    /// Whether one of our Deployments has available pods, and if not, why.
    pub fn workers(&self, namespace: &str, name: &str) -> Workers {
        let status = self.deployments.get(namespace, name).and_then(|object| object.status.clone());
        let available = status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
        let trouble = status.and_then(|status| status.conditions).into_iter().flatten().find(|condition| {
            (condition.type_ == "ReplicaFailure" && condition.status == "True")
                || (condition.type_ == "Progressing" && condition.status == "False")
        });
        Workers { name: name.to_owned(), available, trouble: trouble.and_then(|condition| condition.message) }
    }
}

/// The reason why an object is not ready, and whether only a person can help. `None` if it is ready or on its way
/// there.
pub(crate) fn standing(conditions: &[Condition]) -> Option<(&str, bool)> {
    let is_true = |type_| find(conditions, type_).is_some_and(|condition| condition.status == "True");
    let ready = find(conditions, types::READY)?;
    (ready.status == "False" && !is_true(types::RECONCILING))
        .then(|| (ready.reason.as_str(), is_true(types::STALLED)))
}

/// The generation that was validated, and the result.
type CachedResult<V> = (Option<i64>, Result<Arc<V>, Invalid>);

/// Results of validation by uid, so that an unchanged object is not validated again.
pub struct Memo<V> {
    results: Mutex<HashMap<String, CachedResult<V>>>,
}

impl<V> Default for Memo<V> {
    fn default() -> Self {
        Self { results: Mutex::default() }
    }
}

impl<V> Memo<V> {
    /// Validates the object, or returns the kept result if its generation is the same. An object that can't be read is
    /// invalid.
    pub fn validate<K: Resource<DynamicType = ()>>(
        &self,
        object: &Guarded<K>,
        check: impl FnOnce(&K) -> Result<V, Invalid>,
    ) -> Result<Arc<V>, Invalid> {
        let read = object.0.as_ref().map_err(|error| {
            let message = format!(
                "this object can't be read as a {}: {}; does the definition in the cluster belong to this release?",
                K::kind(&()),
                error.error
            );
            Invalid::new(reasons::UNREADABLE, message)
        })?;
        let meta = object.meta();
        let uid = meta.uid.clone().unwrap_or_default();
        let held = self.results.lock().unwrap_or_else(PoisonError::into_inner).get(&uid).cloned();
        if let Some((generation, result)) = held
            && generation == meta.generation
        {
            return result;
        }
        let result = guarded(|| check(read)).map(Arc::new);
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        results.insert(uid, (meta.generation, result.clone()));
        result
    }

    /// Forgets one object.
    pub fn remove(&self, uid: &str) {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Forgets objects that are gone.
    pub fn forget(&self, is_alive: impl Fn(&str) -> bool) {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| is_alive(uid));
    }
}
