//! A cache of the objects of one kind, by namespace and name, as the watches last showed them.
//!
//! Several watches, one for each namespace, may fill one cache. An object that can't be read as its kind is kept with
//! its metadata alone: it must not stop its neighbours, and must not be taken for deleted. Of the metadata only what
//! the controllers read is kept, since anybody may write up to 256 KiB of annotations and labels into an object. The
//! objects of one kind in one namespace have a share of memory ([`SHARE`]); an object that exceeds it is kept without
//! its spec, and read again once there is room. The cache never writes to the API server.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::children::LABELS;

/// Annotations that a controller reads.
const ANNOTATIONS: [&str; 2] = [crds::RESEND, crds::SEND_TEST];

/// One object that came, changed or went.
pub struct ObjectChange<K> {
    /// Its namespace.
    pub namespace: String,
    /// The object before; `None` if it is new.
    pub before: Option<Arc<K>>,
    /// The object now; `None` if it is gone.
    pub after: Option<Arc<K>>,
}

/// How much memory an object takes, and what is kept of it when there is no room.
pub trait Weighed: Sized {
    /// About how many bytes of it a tenant can choose.
    fn weight(&self) -> usize {
        0
    }

    /// The object without its spec; `why` is shown instead.
    #[must_use]
    fn without_spec(self, _why: &str) -> Self {
        self
    }
}

impl<K> Weighed for PartialObjectMeta<K> {}
impl Weighed for Deployment {}

/// The most memory for the objects of one kind in one namespace, in bytes, weighed as JSON values.
pub const SHARE: usize = 8 << 20;

/// The objects of a namespace.
struct NamespaceObjects<K> {
    objects: BTreeMap<String, Arc<K>>,
    bytes: usize,
    /// Objects that are kept without their spec, with the bytes that they would take.
    over: BTreeMap<String, usize>,
}

impl<K> Default for NamespaceObjects<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), bytes: 0, over: BTreeMap::new() }
    }
}

/// Is called with each change of a cache, before anybody else hears of it.
type Observer<K> = Box<dyn Fn(&ObjectChange<K>) + Send + Sync>;

/// The objects of one kind.
pub struct Cache<K> {
    objects: Mutex<HashMap<String, NamespaceObjects<K>>>,
    synced: watch::Sender<usize>,
    scopes: usize,
    observer: Observer<K>,
}

impl<K: Resource<DynamicType = ()> + Clone + Weighed> Cache<K> {
    /// An empty cache that `scopes` watches will fill.
    pub fn new(scopes: usize) -> Arc<Self> {
        Self::observed(scopes, |_| {})
    }

    /// The same, with an observer that is called with each change.
    pub fn observed(scopes: usize, observer: impl Fn(&ObjectChange<K>) + Send + Sync + 'static) -> Arc<Self> {
        let (objects, synced) = (Mutex::default(), watch::Sender::new(0));
        Arc::new(Self { objects, synced, scopes, observer: Box::new(observer) })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, NamespaceObjects<K>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until every watch has finished its first listing.
    pub async fn synced(&self) {
        let mut synced = self.synced.subscribe();
        // The sender lives as long as this cache does.
        let _ = synced.wait_for(|count| *count >= self.scopes).await;
    }

    /// Whether every watch has finished its first listing.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow() >= self.scopes
    }

    /// All objects of a namespace, by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.lock().get(namespace).map(|space| space.objects.values().cloned().collect()).unwrap_or_default()
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.lock().get(namespace)?.objects.get(name).cloned()
    }

    /// All uids.
    pub fn uids(&self) -> Vec<String> {
        let objects = self.lock();
        objects.values().flat_map(|space| space.objects.values()).filter_map(|object| object.uid()).collect()
    }

    /// All namespaces with an object.
    pub fn namespaces(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Stores an object that a watch showed. If its namespace is over its share, the object is stored without its spec.
    pub fn insert(&self, mut object: K) -> ObjectChange<K> {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let mut objects = self.lock();
        let space = objects.entry(namespace.clone()).or_default();
        let others = space.bytes - space.objects.get(&name).map_or(0, |before| before.weight());
        space.over.remove(&name);
        if others + object.weight() > SHARE {
            space.over.insert(name.clone(), object.weight());
            object = object.without_spec(&format!(
                "the objects of this kind in the namespace take more than {SHARE} bytes of memory: make them smaller or fewer; this one is read as soon as there is room"
            ));
        }
        space.bytes = others + object.weight();
        let after = Arc::new(object);
        let before = space.objects.insert(name, Arc::clone(&after));
        drop(objects);
        let change = ObjectChange { namespace, before, after: Some(after) };
        (self.observer)(&change);
        change
    }

    /// Stores an object for which there was no room before. The change says that it is new, since its generation was
    /// known already and would look unchanged.
    fn insert_anew(&self, object: K) -> ObjectChange<K> {
        ObjectChange { before: None, ..self.insert(object) }
    }

    pub(crate) fn remove(&self, namespace: &str, name: &str) -> Option<ObjectChange<K>> {
        let mut objects = self.lock();
        let space = objects.get_mut(namespace)?;
        let before = space.objects.remove(name);
        space.over.remove(name);
        space.bytes -= before.as_ref().map_or(0, |before| before.weight());
        if space.objects.is_empty() {
            objects.remove(namespace);
        }
        drop(objects);
        let change = ObjectChange { namespace: namespace.to_owned(), before: Some(before?), after: None };
        (self.observer)(&change);
        Some(change)
    }

    /// At most `most` objects that were kept without their spec and for which there is room now: the smallest of each
    /// namespace, beginning with the namespace after `after`.
    fn room_for(&self, after: &str, most: usize) -> Vec<(String, String)> {
        let objects = self.lock();
        let of = |(namespace, space): (&String, &NamespaceObjects<K>)| {
            let (name, _) = space
                .over
                .iter()
                .min_by_key(|(_, weight)| **weight)
                .filter(|(_, weight)| space.bytes + **weight <= SHARE)?;
            Some((namespace.clone(), name.clone()))
        };
        let mut found: Vec<(String, String)> = objects.iter().filter_map(of).collect();
        drop(objects);
        found.sort_by(|a, b| (a.0.as_str() <= after, a).cmp(&(b.0.as_str() <= after, b)));
        found.truncate(most);
        found
    }

    /// Removes the objects that a new listing of a namespace, or of all, has not shown.
    fn keep(&self, scope: Option<&str>, seen: &HashSet<(String, String)>) -> Vec<ObjectChange<K>> {
        let gone: Vec<(String, String)> = self
            .lock()
            .iter()
            .filter(|(namespace, _)| scope.is_none_or(|scope| scope == namespace.as_str()))
            .flat_map(|(namespace, space)| space.objects.keys().map(|name| (namespace.clone(), name.clone())))
            .filter(|key| !seen.contains(key))
            .collect();
        gone.iter().filter_map(|(namespace, name)| self.remove(namespace, name)).collect()
    }
}

/// Objects in one page of a listing. All of a page are in memory at once, with all their contents: with annotations of
/// 255 KiB that is 18 MiB, for 200 objects as for 3,000 (`examples/annotations.rs`). kube's default of 500 would take
/// 25 times as much.
const PAGE: u32 = 20;
/// How many characters of an annotation are kept: one more than is ever passed on, so that a longer text can be
/// recognized.
const MAX_ANNOTATION: usize = 257;

/// How often objects without their spec are read again where there is room, how many at a time, and how long one read
/// may take.
const LOOK: Duration = Duration::from_secs(1);
const AT_ONCE: usize = 8;
const TAKES: Duration = Duration::from_secs(5);

/// Keeps only the metadata that the controllers read, so that others can't make it grow.
fn slim_metadata(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    meta.finalizers = None;
    let annotations = meta.annotations.take().unwrap_or_default();
    let mut annotations: BTreeMap<String, String> =
        annotations.into_iter().filter(|(name, _)| ANNOTATIONS.contains(&name.as_str())).collect();
    for value in annotations.values_mut() {
        if let Some((end, _)) = value.char_indices().nth(MAX_ANNOTATION) {
            *value = value[..end].to_owned();
        }
    }
    meta.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    if let Some(labels) = &mut meta.labels {
        labels.retain(|name, _| LABELS.contains(&name.as_str()));
    }
    if let Some(owners) = &mut meta.owner_references {
        owners.retain(|owner| owner.api_version.starts_with("belfry.dev/"));
    }
}

/// Runs a watch for ever and calls `changed` with each change. `scope` is the namespace that it watches; `None` means
/// all.
pub async fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    scope: Option<String>,
    cache: Arc<Cache<K>>,
    slim: impl Fn(&mut K) + Send + 'static,
    changed: impl Fn(&ObjectChange<K>) + Send,
) where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + DeserializeOwned + Debug + Weighed + Send + Sync + 'static,
{
    let client = api.clone().into_client();
    let slim = move |object: &mut K| {
        slim_metadata(object.meta_mut());
        slim(object);
    };
    let mut events = watcher::watcher(api, config.page_size(PAGE)).default_backoff().boxed();
    let mut seen = HashSet::new();
    let (mut first, mut listing) = (true, true);
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = String::new();
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = looks.tick() => {
                // A listing shows all objects anyway.
                if !listing {
                    for (namespace, name) in cache.room_for(&last, AT_ONCE) {
                        if scope.as_ref().is_none_or(|scope| *scope == namespace)
                            && let Some(mut object) = look(&client, &namespace, &name).await
                        {
                            slim(&mut object);
                            changed(&cache.insert_anew(object));
                        }
                        last = namespace;
                    }
                }
                continue;
            }
        };
        let Some(event) = event else { return };
        let event = event.map(|event| slimmed(event, &slim));
        listing = matches!(event, Ok(Event::Init | Event::InitApply(_)));
        match event {
            Ok(Event::Init) => seen.clear(),
            Ok(Event::InitApply(object)) => {
                seen.insert((object.namespace().unwrap_or_default(), object.name_any()));
                changed(&cache.insert(object));
            }
            Ok(Event::InitDone) => {
                cache.keep(scope.as_deref(), &seen).iter().for_each(&changed);
                seen = HashSet::new();
                if std::mem::take(&mut first) {
                    cache.synced.send_modify(|count| *count += 1);
                }
            }
            Ok(Event::Apply(object)) => changed(&cache.insert(object)),
            Ok(Event::Delete(object)) => {
                let gone = cache.remove(&object.namespace().unwrap_or_default(), &object.name_any());
                gone.iter().for_each(&changed);
            }
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), %error, "watch broke off; it goes on by itself");
            }
        }
    }
}

fn slimmed<K>(mut event: Event<K>, slim: impl Fn(&mut K)) -> Event<K> {
    if let Event::InitApply(object) | Event::Apply(object) = &mut event {
        slim(object);
    }
    event
}

/// Reads an object again. `None` if it is gone, which the watch will report, or if there is no answer in time; then it
/// is tried again later.
async fn look<K>(client: &Client, namespace: &str, name: &str) -> Option<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    tokio::time::timeout(TAKES, api.get_opt(name)).await.ok()?.ok()?
}

#[cfg(test)]
impl Weighed for k8s_openapi::api::core::v1::ConfigMap {}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(namespace: &str, name: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.namespace = Some(namespace.to_owned());
        object.metadata.name = Some(name.to_owned());
        object
    }

    #[test]
    fn of_metadata_only_what_is_read_is_kept() {
        let long = "é".repeat(1_000);
        let mut meta: ObjectMeta = serde_json::from_value(serde_json::json!({
            "name": "a", "uid": "u", "finalizers": ["x/y"],
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": long, crds::SEND_TEST: long, crds::RESEND: "all@1",
            },
            "labels": {"team": "a", "app.kubernetes.io/component": "send", "belfry.dev/source": "ab"},
            "managedFields": [{"manager": "kubectl"}],
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1"},
                {"apiVersion": "belfry.dev/v1alpha1", "kind": "Schedule", "name": "x", "uid": "2"},
            ],
        }))
        .unwrap();
        slim_metadata(&mut meta);
        let kept = serde_json::to_value(&meta).unwrap();
        assert_eq!(
            kept,
            serde_json::json!({
                "name": "a", "uid": "u",
                "annotations": {crds::SEND_TEST: "é".repeat(257), crds::RESEND: "all@1"},
                "labels": {"app.kubernetes.io/component": "send", "belfry.dev/source": "ab"},
                "ownerReferences": [{"apiVersion": "belfry.dev/v1alpha1", "kind": "Schedule", "name": "x", "uid": "2"}],
            })
        );
    }

    #[test]
    fn a_fresh_listing_of_one_namespace_leaves_the_others_alone() {
        let cache = Cache::new(2);
        for (namespace, name) in [("a", "1"), ("a", "2"), ("b", "1")] {
            cache.insert(object(namespace, name));
        }
        let gone = cache.keep(Some("a"), &HashSet::from([("a".to_owned(), "2".to_owned())]));
        assert_eq!(gone.len(), 1);
        assert!(cache.get("a", "1").is_none());
        assert_eq!(cache.in_namespace("b").len(), 1);
    }

    #[test]
    fn over_its_share_a_namespaces_objects_are_kept_without_what_they_say_and_others_whole() {
        type Rules = Cache<crate::guarded::Guarded<crds::AlertRule>>;
        let rule = |namespace: &str, name: &str, title: usize| {
            let notify: Vec<_> =
                (0..100).map(|n| serde_json::json!({"channelRef": {"name": format!("c{n}")}})).collect();
            serde_json::from_value(serde_json::json!({
                "apiVersion": "belfry.dev/v1alpha1", "kind": "AlertRule",
                "metadata": {"name": name, "namespace": namespace, "uid": name},
                "spec": {
                    "source": {"kafka": {"bootstrapServers": ["k:9092"], "topics": ["t"]}}, "match": "true",
                    "condition": {"type": "Any"}, "severity": "info", "title": "t".repeat(title), "notify": notify,
                },
            }))
            .unwrap()
        };
        let cache: Arc<Rules> = Cache::new(1);
        for n in 0..100 {
            cache.insert(rule("greedy", &format!("r{n:03}"), 200_000));
        }
        cache.insert(rule("calm", "r", 200_000));
        let whole =
            |namespace: &str| cache.in_namespace(namespace).iter().filter(|rule| rule.0.is_ok()).count();
        assert_eq!((cache.in_namespace("greedy").len(), whole("calm")), (100, 1));
        let kept = whole("greedy");
        assert!(kept * 200_000 <= SHARE && (kept + 2) * 250_000 > SHARE, "{kept}");
        let last = cache.get("greedy", "r099").unwrap();
        assert!(last.0.as_ref().unwrap_err().error.contains("take more than 8388608 bytes"), "{last:?}");
        assert!(cache.room_for("", 9).is_empty());
        // A deleted object makes room for one that waits, in each namespace in turn.
        let waits = |namespace: &str| {
            let first = cache.in_namespace(namespace).into_iter().find(|rule| rule.0.is_err());
            first.map(|rule| rule.meta().name.clone().unwrap_or_default()).unwrap()
        };
        cache.remove("greedy", "r000");
        cache.remove("greedy", "r001");
        for more in 0..2 {
            let next = waits("greedy");
            assert_eq!(cache.room_for("", 9), [("greedy".to_owned(), next.clone())]);
            cache.insert(rule("greedy", &next, 200_000));
            assert_eq!(whole("greedy"), kept - 1 + more);
        }
        assert!(cache.room_for("", 9).is_empty());
        for n in 0..100 {
            cache.insert(rule("another", &format!("r{n:03}"), 200_000));
        }
        for namespace in ["greedy", "another"] {
            cache.remove(namespace, "r002");
        }
        let next = |after: &str| cache.room_for(after, 1).remove(0).0;
        assert_eq!(
            (next(""), next("another"), next("greedy")),
            ("another".into(), "greedy".into(), "another".into())
        );
        // An object that is deleted while it waits is not waited for.
        for n in 0..100 {
            cache.remove("another", &format!("r{n:03}"));
        }
        assert_eq!(cache.room_for("", 9).len(), 1);
    }
}
