//! All plans in memory, and what is derived from them for workers. Opening rebuilds it from the database; the writer
//! replaces it after a change of a plan is durable.
//!
//! It holds only what is in the tables `plans` and `namespaces`, or follows from them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use domain::{ChannelPlan, Digest, ObjectKind, Plan, PlanBody, RulePlan, Source};
use protocol::messages::{ChannelEntry, ChannelsPlan, SourcePlan, SourceRule};
use uuid::Uuid;

use crate::namespaces::KnownNamespace;

/// An object, with what is derived from its plan.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) plan: Plan,
    pub(crate) revision: Digest,
    /// Row of the table `channels` or `rules`; 0 for schedules.
    pub(crate) row: i64,
    pub(crate) resumed: Option<i64>,
    pub(crate) absent: Option<i64>,
    /// About how many bytes its plan takes.
    pub(crate) weight: usize,
    /// A rule's [`RulePlan::counting_hash`].
    pub(crate) state: Option<Digest>,
    /// The key of a rule's source.
    pub(crate) source: Option<Digest>,
}

impl Object {
    pub(crate) fn new(plan: Plan, row: i64, resumed: Option<i64>, absent: Option<i64>) -> Self {
        let (state, source) = match &plan.body {
            PlanBody::AlertRule(rule) => (Some(rule.counting_hash()), Some(rule.source.key())),
            _ => (None, None),
        };
        let weight = 512 + serde_json::to_vec(&plan).map_or(0, |json| json.len());
        Self { revision: plan.revision(), plan, row, resumed, absent, weight, state, source }
    }

    pub(crate) fn channel(&self) -> Option<&ChannelPlan> {
        match &self.plan.body {
            PlanBody::NotificationChannel(channel) => Some(channel),
            _ => None,
        }
    }

    pub(crate) fn rule(&self) -> Option<&RulePlan> {
        match &self.plan.body {
            PlanBody::AlertRule(rule) => Some(rule),
            _ => None,
        }
    }

    /// Whether it is neither suspended nor absent.
    pub(crate) fn is_active(&self) -> bool {
        !self.plan.suspended && self.absent.is_none()
    }
}

/// What is derived from the plans of one namespace.
#[derive(Debug)]
pub(crate) struct NamespacePlans {
    pub(crate) sources: BTreeMap<String, Arc<SourcePlan>>,
    pub(crate) channels: Arc<ChannelsPlan>,
    /// Channels that exist, by name.
    pub(crate) names: BTreeMap<String, Uuid>,
    /// Every channel's object, absent ones included.
    pub(crate) all_channels: Vec<Arc<Object>>,
}

/// All plans.
#[derive(Debug, Default, Clone)]
pub(crate) struct Catalog {
    pub(crate) objects: BTreeMap<Uuid, Arc<Object>>,
    namespaces: BTreeMap<String, BTreeSet<Uuid>>,
    spaces: HashMap<String, Arc<NamespacePlans>>,
    channel_rows: HashMap<i64, Uuid>,
    /// Which namespace is meant by a name.
    pub(crate) known_namespaces: BTreeMap<String, KnownNamespace>,
}

impl Catalog {
    pub(crate) fn get(&self, uid: Uuid) -> Option<&Arc<Object>> {
        self.objects.get(&uid)
    }

    pub(crate) fn in_namespace(&self, uid: Uuid, namespace: &str) -> Option<&Arc<Object>> {
        self.objects.get(&uid).filter(|object| object.plan.namespace == namespace)
    }

    pub(crate) fn channel_at(&self, row: i64) -> Option<&Arc<Object>> {
        self.objects.get(self.channel_rows.get(&row)?)
    }

    pub(crate) fn namespace(&self, namespace: &str) -> Option<&Arc<NamespacePlans>> {
        self.spaces.get(namespace)
    }

    pub(crate) fn namespaces(&self) -> impl Iterator<Item = (&String, &Arc<NamespacePlans>)> {
        self.spaces.iter()
    }

    pub(crate) fn channel_named(&self, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.objects.get(self.spaces.get(namespace)?.names.get(name)?)
    }

    /// Every object of a namespace.
    pub(crate) fn objects_of<'a>(&'a self, namespace: &str) -> impl Iterator<Item = &'a Arc<Object>> {
        self.namespaces.get(namespace).into_iter().flatten().filter_map(|uid| self.objects.get(uid))
    }

    /// The row of the last delivery that belongs to an earlier namespace of this name; 0 for none.
    pub(crate) fn deliveries_before(&self, namespace: &str) -> i64 {
        self.known_namespaces.get(namespace).map_or(0, |origin| origin.d)
    }

    /// The object of a kind that has this name now; the newest if there are several.
    pub(crate) fn named(&self, namespace: &str, kind: ObjectKind, name: &str) -> Option<&Arc<Object>> {
        let named = self
            .objects_of(namespace)
            .filter(|it| it.plan.kind() == kind && it.plan.name == name && it.absent.is_none());
        named.max_by_key(|it| (it.plan.created, it.plan.uid))
    }

    /// Every rule of a source that isn't absent, suspended ones included.
    pub(crate) fn rules_of<'a>(
        &'a self,
        namespace: &str,
        source: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        self.namespaces.get(namespace).into_iter().flatten().filter_map(|uid| self.objects.get(uid)).filter(
            move |object| {
                object.absent.is_none() && object.source.as_ref().is_some_and(|key| key.as_str() == source)
            },
        )
    }

    /// Whether any object of the namespace is absent.
    pub(crate) fn is_any_absent(&self, namespace: &str) -> bool {
        let uids = self.namespaces.get(namespace).into_iter().flatten();
        uids.filter_map(|uid| self.objects.get(uid)).any(|object| object.absent.is_some())
    }

    /// Inserts or replaces an object. Call [`Self::rebuild`] for its namespace afterwards.
    pub(crate) fn put(&mut self, object: Object) {
        let uid = object.plan.uid;
        if object.plan.kind() == ObjectKind::NotificationChannel {
            self.channel_rows.insert(object.row, uid);
        }
        self.namespaces.entry(object.plan.namespace.clone()).or_default().insert(uid);
        self.objects.insert(uid, Arc::new(object));
    }

    /// Removes an object. Call [`Self::rebuild`] for its namespace afterwards.
    pub(crate) fn remove(&mut self, uid: Uuid) -> Option<Arc<Object>> {
        let object = self.objects.remove(&uid)?;
        if object.plan.kind() == ObjectKind::NotificationChannel {
            self.channel_rows.remove(&object.row);
        }
        if let Some(uids) = self.namespaces.get_mut(&object.plan.namespace) {
            uids.remove(&uid);
            if uids.is_empty() {
                self.namespaces.remove(&object.plan.namespace);
            }
        }
        Some(object)
    }

    pub(crate) fn rebuild_all(&mut self) {
        let namespaces: Vec<String> = self.namespaces.keys().cloned().collect();
        for namespace in namespaces {
            self.rebuild(&namespace);
        }
    }

    /// Derives a namespace's part anew.
    pub(crate) fn rebuild(&mut self, namespace: &str) {
        let Some(uids) = self.namespaces.get(namespace) else {
            self.spaces.remove(namespace);
            return;
        };
        // If two objects have one name, the one created later exists; the other waits to be collected.
        let mut latest: BTreeMap<(ObjectKind, &str), &Arc<Object>> = BTreeMap::new();
        let present =
            uids.iter().filter_map(|uid| self.objects.get(uid)).filter(|object| object.absent.is_none());
        for object in present {
            let key = |object: &Object| (object.plan.created, object.plan.uid);
            let place = latest.entry((object.plan.kind(), &object.plan.name)).or_insert(object);
            if key(object) > key(place) {
                *place = object;
            }
        }
        let mut all_channels = Vec::new();
        let mut channels = BTreeMap::new();
        for object in uids.iter().filter_map(|uid| self.objects.get(uid)) {
            let Some(plan) = object.channel() else { continue };
            let entry = ChannelEntry {
                name: object.plan.name.clone(),
                revision: object.revision.clone(),
                plan: plan.clone(),
            };
            channels.insert(object.plan.uid, entry);
            all_channels.push(Arc::clone(object));
        }
        let revisions: Vec<_> = channels.iter().map(|(uid, entry)| (uid, &entry.revision)).collect();
        let revision = Digest::of(&revisions);
        let names = latest
            .iter()
            .filter(|((kind, _), _)| *kind == ObjectKind::NotificationChannel)
            .map(|((_, name), object)| ((*name).to_owned(), object.plan.uid))
            .collect();
        let space = NamespacePlans {
            sources: source_plans(latest.values().copied()),
            channels: Arc::new(ChannelsPlan { revision, channels }),
            names,
            all_channels,
        };
        self.spaces.insert(namespace.to_owned(), Arc::new(space));
    }
}

/// A source that is being put together.
#[derive(Default)]
struct SourceBuilder {
    source: Source,
    rules: BTreeMap<Uuid, SourceRule>,
    topics: BTreeSet<String>,
}

/// The plans of the sources that these objects' rules read. A suspended rule's topics are included, so that its
/// records are read and passed over.
fn source_plans<'a>(objects: impl Iterator<Item = &'a Arc<Object>>) -> BTreeMap<String, Arc<SourcePlan>> {
    let mut sources: BTreeMap<String, SourceBuilder> = BTreeMap::new();
    for object in objects {
        let (Some(rule), Some(key), Some(state)) = (object.rule(), &object.source, &object.state) else {
            continue;
        };
        let source = sources.entry(key.as_str().to_owned()).or_default();
        source.source.clone_from(&rule.source);
        source.topics.extend(rule.topics.iter().cloned());
        if !object.plan.suspended {
            let rule = SourceRule {
                name: object.plan.name.clone(),
                revision: object.revision.clone(),
                state: state.clone(),
                plan: rule.clone(),
            };
            source.rules.insert(object.plan.uid, rule);
        }
    }
    let plan = |(key, source): (String, SourceBuilder)| {
        let SourceBuilder { source, rules, topics } = source;
        let topics: Vec<String> = topics.into_iter().collect();
        let revisions: Vec<_> = rules.iter().map(|(uid, rule)| (uid, &rule.revision)).collect();
        let revision = Digest::of(&(&source.bootstrap_servers, &revisions, &topics));
        (key, Arc::new(SourcePlan { revision, source, rules, topics }))
    };
    sources.into_iter().map(plan).collect()
}
