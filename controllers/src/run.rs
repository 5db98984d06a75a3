//! Connects everything: the watches fill the caches and wake the controllers, the hub's feed wakes them too, and the
//! hub is told which objects exist.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::hub::Deletions;
use crds::{NotificationChannel, Schedule};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt as _};
use protocol::messages::StatusBody;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::cache::{Cache, ObjectChange, Weighed, follow};
use crate::channels::Channels;
use crate::children::{BELFRY, COMPONENT, MANAGED_BY, Settings};
use crate::cluster::Cluster;
use crate::context::{Context, standing};
use crate::guarded::Guarded;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::queue::{self, Reconciler, Waker, queue};
use crate::resources::Resources;
use crate::rules::Rules;
use crate::schedules::Schedules;

/// How often the hub gets the live set when nothing was deleted.
const LIVE_EVERY: Duration = Duration::from_mins(1);

/// What the process gives the controllers.
pub struct Options {
    /// The API server.
    pub client: Client,
    /// The hub.
    pub hub: protocol::Client,
    /// What the flags say of workers.
    pub settings: Settings,
    /// Namespaces to watch; all when empty.
    pub namespaces: Vec<String>,
    /// This pod.
    pub instance: String,
    /// The clock.
    pub now: fn() -> Timestamp,
    /// How far ahead schedules are compared.
    pub conflict_horizon: SignedDuration,
    /// Where to count.
    pub metrics: Metrics,
}

/// The running watches, and the controllers once this replica leads. They stop when this is dropped.
pub struct Running {
    /// What they share.
    pub context: Arc<Context>,
    /// Set when this replica leads; before that nobody is woken.
    wakers: Arc<OnceLock<Wakers>>,
    tasks: JoinSet<()>,
}

impl Running {
    /// Waits until one of the tasks ends; none should.
    pub async fn ended(&mut self) {
        let _ = self.tasks.join_next().await;
    }
}

#[derive(Clone)]
struct Wakers {
    channels: Waker,
    rules: Waker,
    schedules: Waker,
    resources: Waker,
    deleted: Arc<Deletions>,
}

impl Wakers {
    /// Wakes the controllers for every namespace with one of our objects, or only with children that are left.
    fn all(&self, context: &Context) {
        let children =
            [context.deployments.namespaces(), context.cron_jobs.namespaces(), context.accounts.namespaces()];
        let children = children.concat();
        for namespace in context.channels.namespaces().iter().chain(&children) {
            self.channels.wake(namespace);
        }
        for namespace in context.rules.namespaces().iter().chain(&children) {
            self.rules.wake(namespace);
        }
        for namespace in context.schedules.namespaces().iter().chain(&children) {
            self.schedules.wake(namespace);
        }
        for namespace in context.resources.namespaces() {
            self.resources.wake(&namespace);
        }
    }

    /// Wakes the controller of resources for the namespaces whose resources a schedule names.
    fn booked(&self, change: &ObjectChange<Guarded<Schedule>>) {
        self.resources.wake(&change.namespace);
        for object in change.before.iter().chain(&change.after).filter_map(|object| object.0.as_ref().ok()) {
            for shared in &object.spec.shared_resources {
                self.resources.wake(&shared.namespace);
            }
        }
    }

    /// Wakes the controller that makes this kind of child.
    fn child(&self, namespace: &str, component: Option<&str>) {
        match component {
            Some("send" | "retry") => self.channels.wake(namespace),
            Some("consume") => self.rules.wake(namespace),
            Some("remind") => self.schedules.wake(namespace),
            _ => {
                self.channels.wake(namespace);
                self.rules.wake(namespace);
                self.schedules.wake(namespace);
            }
        }
    }
}

/// Starts the watches. Every replica does, since admission answers from the caches.
pub fn watch(options: &Options) -> Running {
    let scopes = options.namespaces.len().max(1);
    let hub = Hub::new(options.hub.clone(), options.metrics.clone());
    let context = Context::new(scopes, hub, options.settings.clone(), options.conflict_horizon, options.now);
    let context = Arc::new(context);
    let wakers = Arc::new(OnceLock::new());
    let mut tasks = JoinSet::new();
    follow_all(&mut tasks, options, &context, &wakers);
    Running { context, wakers, tasks }
}

/// Starts the controllers, on the replica that leads.
pub fn lead(running: &mut Running, options: &Options) {
    let (context, tasks) = (&running.context, &mut running.tasks);
    let cluster =
        |name| Cluster::new(options.client.clone(), name, options.instance.clone(), options.metrics.clone());
    let channels = Arc::new(Channels::new(Arc::clone(context), cluster(Channels::NAME)));
    let rules = Arc::new(Rules::new(Arc::clone(context), cluster(Rules::NAME)));
    let schedules = Arc::new(Schedules::new(Arc::clone(context), cluster(Schedules::NAME)));
    let resources = Arc::new(Resources::new(Arc::clone(context), cluster(Resources::NAME)));
    let wakers = Wakers {
        resources: control(tasks, context, Arc::clone(&resources), &options.metrics),
        channels: control(tasks, context, Arc::clone(&channels), &options.metrics),
        rules: control(tasks, context, Arc::clone(&rules), &options.metrics),
        schedules: control(tasks, context, Arc::clone(&schedules), &options.metrics),
        deleted: Arc::clone(&context.hub.deletions),
    };
    let _ = running.wakers.set(wakers.clone());
    tasks.spawn(feed(Arc::clone(context), wakers.clone()));
    tasks.spawn(stir(Arc::clone(context), wakers.schedules.clone()));
    tasks.spawn(Arc::clone(&context.conflicts).answer());
    tasks.spawn(report_live_objects(Arc::clone(context), move |is_alive| {
        channels.forget(&is_alive);
        rules.forget(&is_alive);
        schedules.forget(&is_alive);
        resources.forget(&is_alive);
    }));
    // Covers the changes that came before the wakers were set.
    let context = Arc::clone(context);
    tasks.spawn(async move {
        context.synced().await;
        wakers.all(&context);
        std::future::pending::<()>().await;
    });
}

/// Runs a controller once all caches are filled: before that, an object that is missing may only not have been listed
/// yet.
fn control<R: Reconciler>(
    tasks: &mut JoinSet<()>,
    context: &Arc<Context>,
    reconciler: Arc<R>,
    metrics: &Metrics,
) -> Waker {
    let (waker, woken) = queue();
    let (context, metrics) = (Arc::clone(context), metrics.clone());
    tasks.spawn(async move {
        context.synced().await;
        queue::run(reconciler, woken, metrics).await;
    });
    waker
}

fn follow_all(
    tasks: &mut JoinSet<()>,
    options: &Options,
    context: &Arc<Context>,
    wakers: &Arc<OnceLock<Wakers>>,
) {
    let ours = || watcher::Config::default().labels(&format!("{MANAGED_BY}={BELFRY}"));
    let each = Each { client: &options.client, namespaces: &options.namespaces };
    let wake = Arc::clone(wakers);
    each.spawn(
        tasks,
        &context.channels,
        watcher::Config::default,
        |_| {},
        move |change| {
            let Some(wake) = wake.get() else { return };
            if is_news(change) {
                wake.channels.wake(&change.namespace);
            }
            // Wakes the rules and schedules that name a channel, if it appears, goes, can't send any more, or can send
            // again.
            if change.before.is_none()
                || change.after.is_none()
                || is_stuck(change.before.as_deref()) != is_stuck(change.after.as_deref())
            {
                wake.rules.wake(&change.namespace);
                wake.schedules.wake(&change.namespace);
            }
            told_deleted(wake, change);
        },
    );
    let wake = Arc::clone(wakers);
    each.spawn(
        tasks,
        &context.rules,
        watcher::Config::default,
        |_| {},
        move |change| {
            let Some(wake) = wake.get() else { return };
            if is_news(change) {
                wake.rules.wake(&change.namespace);
            }
            told_deleted(wake, change);
        },
    );
    let wake = Arc::clone(wakers);
    each.spawn(
        tasks,
        &context.schedules,
        watcher::Config::default,
        |_| {},
        move |change| {
            let Some(wake) = wake.get() else { return };
            if is_news(change) {
                wake.schedules.wake(&change.namespace);
                wake.booked(change);
            }
            told_deleted(wake, change);
        },
    );
    let wake = Arc::clone(wakers);
    each.spawn(
        tasks,
        &context.resources,
        watcher::Config::default,
        |_| {},
        move |change| {
            // The reconcile looks at the schedules that name it, in whatever namespace.
            if let Some(wake) = wake.get().filter(|_| is_news(change)) {
                wake.schedules.wake(&change.namespace);
                wake.resources.wake(&change.namespace);
            }
        },
    );
    let wake = Arc::clone(wakers);
    each.spawn(
        tasks,
        &context.deployments,
        ours,
        |deployment: &mut Deployment| deployment.spec = None,
        move |change| woken_by_child(&wake, change),
    );
    let wake = Arc::clone(wakers);
    each.spawn(tasks, &context.cron_jobs, ours, |_| {}, move |change| woken_by_child(&wake, change));
    let wake = Arc::clone(wakers);
    each.spawn(tasks, &context.accounts, ours, |_| {}, move |change| woken_by_child(&wake, change));
}

/// Why a channel can't send, as its own status says.
fn is_stuck(channel: Option<&Guarded<NotificationChannel>>) -> Option<(&str, bool)> {
    standing(&channel?.0.as_ref().ok()?.status.as_ref()?.conditions)
}

/// One watch for each namespace, or one for all.
struct Each<'a> {
    client: &'a Client,
    namespaces: &'a [String],
}

impl Each<'_> {
    fn spawn<K>(
        &self,
        tasks: &mut JoinSet<()>,
        cache: &Arc<Cache<K>>,
        config: impl Fn() -> watcher::Config,
        slim: impl Fn(&mut K) + Clone + Send + 'static,
        changed: impl Fn(&ObjectChange<K>) + Clone + Send + 'static,
    ) where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug
            + Weighed
            + Send
            + Sync
            + 'static,
    {
        let all = || vec![(Api::<K>::all(self.client.clone()), None)];
        let some = || {
            let one = |namespace: &String| {
                (Api::<K>::namespaced(self.client.clone(), namespace), Some(namespace.clone()))
            };
            self.namespaces.iter().map(one).collect()
        };
        for (api, scope) in if self.namespaces.is_empty() { all() } else { some() } {
            let (cache, slim, changed) = (Arc::clone(cache), slim.clone(), changed.clone());
            tasks.spawn(follow(api, config(), scope, cache, slim, changed));
        }
    }
}

/// Whether more than the status changed. Our own writes of a status must not wake us.
fn is_news<K: Resource<DynamicType = ()>>(change: &ObjectChange<K>) -> bool {
    let (Some(before), Some(after)) = (&change.before, &change.after) else { return true };
    let (before, after) = (before.meta(), after.meta());
    before.uid != after.uid
        || before.generation != after.generation
        || before.annotations != after.annotations
        || before.deletion_timestamp != after.deletion_timestamp
}

fn told_deleted<K: Resource<DynamicType = ()>>(wake: &Wakers, change: &ObjectChange<K>) {
    let gone = match (&change.before, &change.after) {
        (Some(_), None) => true,
        (Some(before), Some(after)) => before.meta().uid != after.meta().uid,
        _ => false,
    };
    if gone {
        wake.deleted.add();
    }
}

fn woken_by_child<K: Resource<DynamicType = ()>>(wake: &OnceLock<Wakers>, change: &ObjectChange<K>) {
    let Some(wake) = wake.get() else { return };
    let version = |object: &Arc<K>| object.meta().resource_version.clone();
    if change.before.as_ref().map(version) == change.after.as_ref().map(version) {
        return;
    }
    let Some(object) = change.after.as_ref().or(change.before.as_ref()) else { return };
    wake.child(&change.namespace, object.labels().get(COMPONENT).map(String::as_str));
}

/// Follows the hub's feed once all caches are filled.
async fn feed(context: Arc<Context>, wakers: Wakers) {
    context.synced().await;
    let changed = |status: &protocol::messages::ObjectStatus| match status.body {
        StatusBody::NotificationChannel(_) => wakers.channels.wake(&status.namespace),
        StatusBody::AlertRule(_) => wakers.rules.wake(&status.namespace),
        StatusBody::Schedule(_) => wakers.schedules.wake(&status.namespace),
    };
    context.hub.follow(changed, || wakers.all(&context)).await;
}

/// Wakes the controller of schedules for namespaces that have new findings because of a change in another namespace.
async fn stir(context: Arc<Context>, schedules: Waker) {
    context.synced().await;
    loop {
        for namespace in context.conflicts.affected().await {
            schedules.wake(&namespace);
        }
    }
}

/// Sends the live set to the hub: at first, after deletions, and every minute.
async fn report_live_objects(context: Arc<Context>, forget: impl Fn(&dyn Fn(&str) -> bool) + Send) {
    context.synced().await;
    loop {
        context.hub.observe();
        let seen = context.hub.deletions.seen();
        let mut uids = context.channels.uids();
        uids.extend(context.rules.uids());
        uids.extend(context.schedules.uids());
        {
            let resources = context.resources.uids();
            let alive: HashSet<&str> = uids.iter().chain(&resources).map(String::as_str).collect();
            forget(&|uid| alive.contains(uid));
        }
        let again = send_live_objects(&context, &uids, seen).await;
        tokio::select! {
            // The deletion of a namespace deletes many objects; collect them.
            () = context.hub.deletions.news() => tokio::time::sleep(Duration::from_millis(300)).await,
            () = tokio::time::sleep(again) => {}
        }
    }
}

/// Sends the live set; returns after what time to send it again.
async fn send_live_objects(context: &Context, uids: &[String], seen: u64) -> Duration {
    if !context.hub.is_reachable() {
        return Duration::from_secs(2);
    }
    // An object whose uid could not be read would count as deleted.
    let Ok(uids) = uids.iter().map(|uid| uid.parse()).collect::<Result<Vec<Uuid>, _>>() else {
        tracing::error!("an object has a uid that is not a UUID: the hub is not told which objects live");
        return LIVE_EVERY;
    };
    match context.hub.live(uids).await {
        Ok(()) => {
            context.hub.deletions.mark_told(seen);
            LIVE_EVERY
        }
        Err(error) => {
            tracing::warn!(%error, "the hub was not told which objects live; it is told again soon");
            Duration::from_secs(5)
        }
    }
}
