//! All that the operator would say about manifests, without a cluster: for a command line and for pipelines.
//!
//! The same validation as the controllers' ([`crate::validate`]), and what they say of objects beside each other: channels
//! that are not there, schedules that clash. Pure; the clock is an argument. Never: a Secret, or a question to anybody.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use crds::GROUP;
use crds::resource::ResourceRef;
use domain::{Plan, PlanBody};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::conditions::reasons;
use crate::conflicts::{Conflicts, Found, NOT_NAMED, not_compared, not_permitted};
use crate::validate::{self, Faults, Invalid, ValidResource, ValidSchedule};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The object would not work.
    Error,
    /// The object would wait for something, or is not what was meant.
    Warning,
}

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Index of the manifest.
    pub manifest: usize,
    /// `AlertRule payments/chargeback`.
    pub object: String,
    /// How bad it is.
    pub level: Level,
    /// From [`crate::conditions::reasons`].
    pub reason: &'static str,
    /// The place, and what is allowed.
    pub message: String,
}

/// The namespace of a manifest that names none.
const NAMESPACE: &str = "default";
const VERSION: &str = "v1alpha1";
/// More manifests than are ever linted.
const LAST: i64 = 10_000_000;

/// Whether a manifest is of one of our kinds, whatever its version.
pub fn is_ours(manifest: &Value) -> bool {
    let version = manifest["apiVersion"].as_str().unwrap_or_default();
    version.split_once('/').is_some_and(|(group, _)| group == GROUP)
}

/// What there is to say of manifests.
#[derive(Debug, Default)]
pub struct Linted {
    /// What is wrong, in the manifests' order.
    pub findings: Vec<Finding>,
    /// The plans of those that are right, with the index of the manifest.
    pub plans: Vec<(usize, Plan)>,
}

/// Lints manifests. Those that are not ours ([`is_ours`]) are passed over.
pub fn lint(manifests: &[Value], now: Timestamp) -> Linted {
    let mut lint = Lint::default();
    for (at, manifest) in manifests.iter().enumerate().filter(|(_, manifest)| is_ours(manifest)) {
        lint.object(at, manifest);
    }
    lint.references();
    lint.clashes(now);
    lint.findings.sort_by_key(|finding| (finding.manifest, finding.level));
    Linted { findings: lint.findings, plans: lint.plans }
}

/// One Schedule alone, with the identity that the API server would give it; what it clashes with is not looked at.
pub fn schedule(at: usize, manifest: &Value) -> Result<ValidSchedule, Invalid> {
    checked(at, manifest, validate::schedule)
}

/// One BookableResource alone, likewise.
pub fn resource(at: usize, manifest: &Value) -> Result<ValidResource, Invalid> {
    checked(at, manifest, validate::resource)
}

#[derive(Default)]
struct Lint {
    findings: Vec<Finding>,
    /// Index of the manifest by `kind namespace/name`.
    seen: HashMap<String, usize>,
    uids: BTreeSet<String>,
    channels: BTreeSet<(String, String)>,
    plans: Vec<(usize, Plan)>,
    schedules: Vec<(usize, ValidSchedule)>,
    resources: Vec<ValidResource>,
    /// Resources that are among the manifests, right or wrong.
    declared: BTreeSet<ResourceRef>,
}

impl Lint {
    fn object(&mut self, at: usize, manifest: &Value) {
        let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (kind, name) = (text("/kind"), text("/metadata/name"));
        let namespace = Some(text("/metadata/namespace")).filter(|it| !it.is_empty()).unwrap_or(NAMESPACE);
        let object = format!("{kind} {namespace}/{name}");
        if let Some(first) = self.seen.get(&object) {
            let message = format!("declared twice: manifest {} has the same name", first + 1);
            self.find(at, &object, Level::Error, Invalid::new(reasons::INVALID_SPEC, message));
            return;
        }
        self.seen.insert(object.clone(), at);
        // A copy that was given another name keeps the uid of what it was copied from.
        let uid = text("/metadata/uid");
        let copy = (!uid.is_empty() && !self.uids.insert(uid.to_owned())).then(|| {
            let mut copy = manifest.clone();
            copy["metadata"]["uid"] = Value::Null;
            copy["metadata"]["creationTimestamp"] = Value::Null;
            copy
        });
        let manifest = copy.as_ref().unwrap_or(manifest);
        if kind == "NotificationChannel" {
            // One that is wrong is there all the same.
            self.channels.insert((namespace.to_owned(), name.to_owned()));
        }
        if kind == "BookableResource" {
            self.declared.insert(ResourceRef { namespace: namespace.to_owned(), name: name.to_owned() });
        }
        let checked = match kind {
            "NotificationChannel" => {
                checked(at, manifest, validate::channel).map(|plan| self.plans.push((at, plan)))
            }
            "AlertRule" => checked(at, manifest, validate::rule).map(|plan| self.plans.push((at, plan))),
            "Schedule" => schedule(at, manifest).map(|valid| {
                self.plans.push((at, valid.plan.clone()));
                self.schedules.push((at, valid));
            }),
            "BookableResource" => resource(at, manifest).map(|valid| self.resources.push(valid)),
            _ => Err(unreadable(format!(
                "{GROUP} has no kind {kind:?}; it has NotificationChannel, AlertRule, Schedule and BookableResource"
            ))),
        };
        if let Err(invalid) = checked {
            self.find(at, &object, Level::Error, invalid);
        }
    }

    /// Channels that are named and not among the manifests.
    fn references(&mut self) {
        let mut found = Vec::new();
        for (at, plan) in &self.plans {
            let named: BTreeSet<&String> = match &plan.body {
                PlanBody::AlertRule(rule) => rule.notify.iter().collect(),
                PlanBody::Schedule(schedule) => {
                    schedule.reminders.iter().flat_map(|reminder| &reminder.notify).collect()
                }
                PlanBody::NotificationChannel(_) => BTreeSet::new(),
            };
            let here = |name: &String| self.channels.contains(&(plan.namespace.clone(), name.clone()));
            let missing: Vec<&str> =
                named.into_iter().filter(|name| !here(name)).map(String::as_str).collect();
            if !missing.is_empty() {
                let message = format!(
                    "no NotificationChannel {} among these manifests in namespace {}",
                    missing.join(", "),
                    plan.namespace
                );
                found.push((*at, object(plan), Invalid::new(reasons::CHANNEL_NOT_FOUND, message)));
            }
        }
        for (at, object, invalid) in found {
            self.find(at, &object, Level::Warning, invalid);
        }
    }

    /// Schedules that need the same person or thing at the same time, in two years from `now` on, or name a resource that
    /// they may not book.
    fn clashes(&mut self, now: Timestamp) {
        let conflicts = Conflicts::new(calendar::HORIZON, now);
        for resource in std::mem::take(&mut self.resources) {
            conflicts.lend(resource);
        }
        let mut schedules = Vec::new();
        for (at, mut valid) in std::mem::take(&mut self.schedules) {
            // Its owner's manifests may be elsewhere.
            let elsewhere: Vec<ResourceRef> = valid.shared.difference(&self.declared).cloned().collect();
            valid.shared.retain(|reference| self.declared.contains(reference));
            for ResourceRef { namespace, name } in elsewhere {
                let message = format!(
                    "no BookableResource {name} of namespace {namespace} among these manifests: whether it may be booked is not known"
                );
                let invalid = Invalid::new(reasons::REF_NOT_PERMITTED, message);
                self.find(at, &object(&valid.plan), Level::Warning, invalid);
            }
            let valid = Arc::new(valid);
            conflicts.put(&valid, now);
            schedules.push((at, valid));
        }
        let mut spaces: HashMap<String, Found> = HashMap::new();
        for (at, valid) in schedules {
            let plan = &valid.plan;
            let space = spaces.entry(plan.namespace.clone());
            let space = space.or_insert_with(|| conflicts.find(&plan.namespace, now));
            let Some(found) = space.findings.remove(&plan.uid) else { continue };
            if let Some(message) = not_permitted(&found.not_permitted, &plan.namespace) {
                let invalid = Invalid::new(reasons::REF_NOT_PERMITTED, message);
                self.find(at, &object(plan), Level::Error, invalid);
            }
            let rejects = valid.policy == crds::schedule::ConflictPolicy::Reject;
            let level = if rejects { Level::Error } else { Level::Warning };
            if let Some(until) = found.compared_until {
                let message = not_compared(&until.to_string());
                self.find(at, &object(plan), level, Invalid::new(reasons::CONFLICTING, message));
            }
            let Some(clash) = found.clashes.first() else { continue };
            let whose =
                clash.schedule.as_ref().map_or(NOT_NAMED.to_owned(), |name| format!("schedule {name}"));
            let message = format!("needs {} at {}, as {whose} does", clash.shared.join(", "), clash.start);
            self.find(at, &object(plan), level, Invalid::new(reasons::CONFLICTING, message));
        }
    }

    fn find(&mut self, manifest: usize, object: &str, level: Level, invalid: Invalid) {
        for Invalid { reason, message, .. } in invalid.all() {
            self.findings.push(Finding { manifest, object: object.to_owned(), level, reason, message });
        }
    }
}

static SCHEMAS: LazyLock<Vec<crds::Definition>> = LazyLock::new(|| crds::definitions().into());

/// Reads and validates one object, with an identity that the API server would give it.
fn checked<K, V>(
    at: usize,
    manifest: &Value,
    check: impl FnOnce(&K) -> Result<V, Invalid>,
) -> Result<V, Invalid>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let version = format!("{GROUP}/{VERSION}");
    if manifest["apiVersion"] != version.as_str() {
        return Err(unreadable(format!("apiVersion is {}; it must be {version}", manifest["apiVersion"])));
    }
    if manifest.pointer("/metadata/name").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err(unreadable("metadata.name is missing".to_owned()));
    }
    let kind = K::kind(&());
    let schema = SCHEMAS
        .iter()
        .find(|definition| definition.json["spec"]["names"]["kind"] == kind.as_ref())
        .and_then(|definition| definition.json.pointer("/spec/versions/0/schema/openAPIV3Schema"));
    let unknown = schema.map(|schema| unknown("spec", &schema["properties"]["spec"], &manifest["spec"]));
    let mut faults = Faults::default();
    for field in unknown.into_iter().flatten() {
        faults.take::<()>(Err(unreadable(field)));
    }
    let size = crate::admission::size(&manifest["spec"].to_string());
    size.map_err(|message| Invalid::new(reasons::INVALID_SPEC, message))?;
    let object = serde_path_to_error::deserialize(manifest).map_err(|error| {
        let place = error.path().to_string();
        unreadable(format!("{place}: {}", error.into_inner()))
    });
    let Some(mut object): Option<K> = faults.take(object) else { return faults.end(None) };
    let meta = object.meta_mut();
    let namespace = meta.namespace.get_or_insert_with(|| NAMESPACE.to_owned());
    let name = format!("{kind}/{namespace}/{}", meta.name.as_deref().unwrap_or_default());
    if meta.uid.as_deref().is_none_or(|uid| uid.parse::<Uuid>().is_err()) {
        meta.uid = Some(Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string());
    }
    // Which of two clashing schedules is older is told by when they were created; what is in no cluster yet comes after, in
    // the manifests' order.
    let later = || Timestamp::MAX.checked_sub(SignedDuration::from_secs(LAST - at as i64));
    meta.creation_timestamp.get_or_insert_with(|| Time(later().unwrap_or(Timestamp::MAX)));
    let checked = faults.take(validate::guarded(|| check(&object)));
    faults.end(checked)
}

fn unreadable(message: String) -> Invalid {
    Invalid::new(reasons::UNREADABLE, message)
}

fn object(plan: &Plan) -> String {
    format!("{} {}/{}", plan.kind().name(), plan.namespace, plan.name)
}

/// The fields that the schema does not have; the API server refuses them, or drops them.
fn unknown(path: &str, schema: &Value, value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, field)| {
                let place = format!("{path}.{name}");
                match (&schema["properties"][name], &schema["additionalProperties"]) {
                    (known @ Value::Object(_), _) | (_, known @ Value::Object(_)) => {
                        unknown(&place, known, field)
                    }
                    _ => {
                        let names = schema["properties"].as_object().into_iter().flat_map(|all| all.keys());
                        let names: Vec<&str> = names.map(String::as_str).collect();
                        vec![format!("{place}: there is no such field; {path} has {}", names.join(", "))]
                    }
                }
            })
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(at, item)| unknown(&format!("{path}[{at}]"), &schema["items"], item))
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifests(yaml: &str) -> Vec<Value> {
        serde_saphyr::from_multiple(yaml).unwrap()
    }

    fn told(yaml: &str) -> Vec<String> {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        lint(&manifests(yaml), now)
            .findings
            .into_iter()
            .map(|found| format!("{} {:?} {} {}", found.object, found.level, found.reason, found.message))
            .collect()
    }

    const RULE: &str = "
apiVersion: belfry.dev/v1alpha1
kind: AlertRule
metadata: {name: r, namespace: a}
spec:
  source: {kafka: {bootstrapServers: [\"kafka:9092\"], topics: [t]}}
  match: record.level == \"ERROR\"
  condition: {type: Any}
  title: t
  notify: [{channelRef: {name: hook}}]
";

    const HOOK: &str = "
---
apiVersion: belfry.dev/v1alpha1
kind: NotificationChannel
metadata: {name: hook, namespace: a}
spec: {type: Webhook, webhook: {url: \"http://sink.a.svc/hook\"}}
";

    const ROOM: &str = "
---
apiVersion: belfry.dev/v1alpha1
kind: Schedule
metadata: {name: NAME}
spec: {title: t, timeZone: UTC, start: \"2026-02-02T10:00:00\", duration: 1h, resources: [room], conflictPolicy: Reject}
";

    #[test]
    fn the_examples_have_nothing_wrong() {
        let yaml = include_str!("../../examples/payments.yaml");
        assert_eq!(told(yaml), Vec::<String>::new());
    }

    #[test]
    fn what_the_operator_would_say_is_said_with_the_place() {
        let broken = RULE.replace("== \"ERROR\"", "== (");
        let told = told(&(broken + HOOK));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("AlertRule a/r Error InvalidMatch match: line 1, column "), "{told:?}");
    }

    #[test]
    fn a_field_that_is_not_there_is_told_with_those_that_are() {
        let told = told(&(RULE.replace("  title: t", "  titel: t") + HOOK));
        assert!(told[0].contains("spec.titel: there is no such field; spec has "), "{told:?}");
        assert!(told[0].contains(", title, "), "{told:?}");
    }

    #[test]
    fn a_wrong_type_is_told_with_its_path() {
        let told = told(&(RULE.replace("topics: [t]", "topics: t") + HOOK));
        assert!(told[0].contains("spec.source.kafka.topics: invalid type: string"), "{told:?}");
    }

    #[test]
    fn a_channel_that_is_not_among_the_manifests_is_a_warning() {
        let told = told(RULE);
        let expected = "AlertRule a/r Warning ChannelNotFound no NotificationChannel hook among these manifests in \
                        namespace a";
        assert_eq!(told, [expected]);
    }

    #[test]
    fn of_two_schedules_that_clash_the_later_one_is_told() {
        let told = told(&(ROOM.replace("NAME", "one") + &ROOM.replace("NAME", "two")));
        let expected =
            "Schedule default/two Error Conflicting needs room at 2026-02-02T10:00:00Z, as schedule one does";
        assert_eq!(told, [expected]);
    }

    #[test]
    fn of_two_that_clash_in_a_cluster_the_one_created_later_is_told_and_what_is_in_none_comes_after() {
        let stored = |name: &str, uid: u8, created: &str| {
            let meta = format!(
                "{name}, creationTimestamp: \"{created}\", uid: 00000000-0000-0000-0000-0000000000{uid:02x}"
            );
            ROOM.replace("NAME", &meta)
        };
        let of = |clashing: &str, holder: &str| {
            format!(
                "Schedule default/{clashing} Error Conflicting needs room at 2026-02-02T10:00:00Z, as schedule {holder} does"
            )
        };
        // As `kubectl get -o yaml` lists them: by name.
        let (late, early) =
            (stored("alpha", 1, "2026-01-02T00:00:00Z"), stored("beta", 2, "2026-01-01T00:00:00Z"));
        assert_eq!(told(&(late.clone() + &early)), [of("alpha", "beta")]);
        assert_eq!(told(&(ROOM.replace("NAME", "new") + &late)), [of("new", "alpha")]);
        let twin = stored("alpha", 3, "2026-01-02T00:00:00Z");
        let other = stored("beta", 2, "2026-01-02T00:00:00Z");
        assert_eq!(
            told(&(twin + &other)),
            [of("alpha", "beta")],
            "of the same second the lesser uid is older"
        );
        let copy = stored("copy", 1, "2026-01-02T00:00:00Z");
        assert_eq!(told(&(late + &copy)), [of("copy", "alpha")], "a copy with its model's uid is new");
    }

    #[test]
    fn all_that_is_wrong_with_an_object_is_told() {
        let broken = RULE
            .replace("== \"ERROR\"", "== (")
            .replace(
                "title: t\n",
                "title: \"{{ grop.a }}{{ group.b }}\"\n  summary: \"{{ oops\"\n  colour: red\n  shape: 3\n",
            )
            .replace("topics: [t]", "topics: [\"a b\"]")
            .replace("{type: Any}", "{type: Any}\n  for: 1m\n  repeatInterval: 1ms");
        let told = told(&(broken + HOOK));
        for part in [
            "Unreadable spec.colour: there is no such field",
            "Unreadable spec.shape: there is no such field",
            "InvalidMatch match: line 1",
            "InvalidTemplate title: line 1, column 4: there is no `grop`; a rule's texts have ",
            "InvalidTemplate title: line 1, column 16: there is no `group.b`; the rule has no groupBy",
            "InvalidTemplate summary: line 1, column 1: the tag isn't closed by `}}`",
            "InvalidSpec source.kafka.topics: \"a b\" is not a topic",
            "InvalidSpec repeatInterval: 1ms is not from 1s to 168h",
            "InvalidSpec for: Any is about single records",
        ] {
            assert_eq!(told.iter().filter(|told| told.contains(part)).count(), 1, "{part}: {told:#?}");
        }
        assert_eq!(told.len(), 9, "{told:#?}");
        let hook = HOOK.replace(
            "{url:",
            "{url: \"ftp://x\", format: Json}, timeZone: Mars, template: {title: \"{{ ticket }}\"}, x: {url:",
        );
        let said = self::told(&hook);
        let reasons = [
            "webhook.url: must begin",
            "timeZone: \"Mars\"",
            "template.title: line 1, column 4: there is no `ticket`",
        ];
        assert!(reasons.iter().all(|part| said.iter().any(|told| told.contains(part))), "{said:#?}");
        let schedule = ROOM.replace(
            "start: \"2026-02-02T10:00:00\"",
            "start: \"2026-02-02T10:00:00Z\", jitter: 2h, buffer: {before: 25h}",
        );
        let said = self::told(&schedule.replace("NAME", "s"));
        assert_eq!(said.len(), 3, "{said:#?}");
        assert!(said[0].contains("the local time without one"), "{said:#?}");
    }

    const HALL: &str = "
---
apiVersion: belfry.dev/v1alpha1
kind: BookableResource
metadata: {name: hall, namespace: rooms}
spec: {sharedWith: [a]}
";

    fn guest(namespace: &str, name: &str) -> String {
        let shared = "resources: [], sharedResources: [{namespace: rooms, name: hall}]";
        let room = ROOM.replace("{name: NAME}", &format!("{{name: {name}, namespace: {namespace}}}"));
        room.replace("resources: [room]", shared)
    }

    #[test]
    fn a_room_of_another_namespace_is_judged_if_it_is_among_the_manifests() {
        let [one, two, other] = [guest("a", "one"), guest("a", "two"), guest("b", "other")];
        let expected = [
            "Schedule a/two Error Conflicting needs rooms/hall at 2026-02-02T10:00:00Z, as schedule one does",
            "Schedule b/other Error RefNotPermitted sharedResources: rooms/hall can't be booked from namespace b: there is \
             no such BookableResource, or its sharedWith does not list b",
        ];
        assert_eq!(told(&format!("{HALL}{one}{two}{other}")), expected);
        let all = HALL.replace("[a]", "[\"*\"], capacity: 2");
        assert_eq!(
            told(&format!("{all}{one}{two}{other}")),
            [
                "Schedule b/other Error Conflicting needs rooms/hall at 2026-02-02T10:00:00Z, as a schedule of another \
              namespace does"
            ]
        );
        let missing = "Schedule a/one Warning RefNotPermitted no BookableResource hall of namespace rooms among these \
                       manifests: whether it may be booked is not known";
        assert_eq!(told(&one), [missing]);
        assert!(
            told(&HALL.replace("[a]", "[a], capacity: 0"))[0].contains("capacity: 0 is not from 1 to 10000")
        );
    }

    #[test]
    fn the_example_of_a_shared_room_has_nothing_wrong() {
        let text = include_str!("../../docs/conflicts.md");
        let examples = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let yaml: Vec<&str> = examples.collect();
        assert!(yaml.concat().contains("sharedResources"), "{yaml:?}");
        assert_eq!(told(&yaml.join("---\n")), Vec::<String>::new());
    }

    #[test]
    fn other_kinds_are_passed_over_and_ours_must_be_known() {
        let other = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
        assert_eq!(told(other), Vec::<String>::new());
        let ours = "apiVersion: belfry.dev/v1alpha1\nkind: Alert\nmetadata: {name: s}\n";
        assert!(told(ours)[0].contains("has no kind \"Alert\""), "{:?}", told(ours));
        let old = RULE.replace("v1alpha1", "v1");
        assert!(told(&old)[0].contains("it must be belfry.dev/v1alpha1"), "{:?}", told(&old));
    }

    #[test]
    fn a_name_that_is_declared_twice_is_told() {
        let told = told(&format!("{RULE}---{RULE}{HOOK}"));
        assert_eq!(told, ["AlertRule a/r Error InvalidSpec declared twice: manifest 1 has the same name"]);
    }
}
