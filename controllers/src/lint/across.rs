//! Checks the manifests together: names that are declared twice, channels that are missing, schedules that clash.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crds::GROUP;
use crds::resource::ResourceRef;
use domain::{Plan, PlanBody};
use jiff::Timestamp;
use serde_json::Value;

use super::manifest::{checked, resource, schedule, unreadable};
use super::{Finding, Level, NAMESPACE};
use crate::conditions::reasons;
use crate::conflicts::{Conflicts, Found, NOT_NAMED, not_compared, not_permitted};
use crate::validate::{self, Invalid, ValidResource, ValidSchedule};

#[derive(Default)]
pub(super) struct ManifestSet {
    pub(super) findings: Vec<Finding>,
    /// Index of the manifest by `kind namespace/name`.
    seen: HashMap<String, usize>,
    uids: BTreeSet<String>,
    channels: BTreeSet<(String, String)>,
    pub(super) plans: Vec<(usize, Plan)>,
    schedules: Vec<(usize, ValidSchedule)>,
    resources: Vec<ValidResource>,
    /// Resources that are among the manifests, valid or not.
    declared: BTreeSet<ResourceRef>,
}

impl ManifestSet {
    pub(super) fn check_object(&mut self, at: usize, manifest: &Value) {
        let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (kind, name) = (text("/kind"), text("/metadata/name"));
        let namespace = Some(text("/metadata/namespace")).filter(|it| !it.is_empty()).unwrap_or(NAMESPACE);
        let object = format!("{kind} {namespace}/{name}");
        if let Some(first) = self.seen.get(&object) {
            let message = format!("declared twice: manifest {} has the same name", first + 1);
            self.report(at, &object, Level::Error, Invalid::new(reasons::INVALID_SPEC, message));
            return;
        }
        self.seen.insert(object.clone(), at);
        // A copied manifest with another name may still have the uid of its original.
        let uid = text("/metadata/uid");
        let copy = (!uid.is_empty() && !self.uids.insert(uid.to_owned())).then(|| {
            let mut copy = manifest.clone();
            copy["metadata"]["uid"] = Value::Null;
            copy["metadata"]["creationTimestamp"] = Value::Null;
            copy
        });
        let manifest = copy.as_ref().unwrap_or(manifest);
        if kind == "NotificationChannel" {
            // An invalid channel exists all the same.
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
            self.report(at, &object, Level::Error, invalid);
        }
    }

    /// Reports channels that are named and are not among the manifests.
    pub(super) fn check_references(&mut self) {
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
                found.push((*at, object_name(plan), Invalid::new(reasons::CHANNEL_NOT_FOUND, message)));
            }
        }
        for (at, object, invalid) in found {
            self.report(at, &object, Level::Warning, invalid);
        }
    }

    /// Reports schedules that need the same person or resource at the same time, in the two years from `now` on, or
    /// that name a resource that they may not book.
    pub(super) fn check_clashes(&mut self, now: Timestamp) {
        let conflicts = Conflicts::new(calendar::HORIZON, now);
        for resource in std::mem::take(&mut self.resources) {
            conflicts.lend(resource);
        }
        let mut schedules = Vec::new();
        for (at, mut valid) in std::mem::take(&mut self.schedules) {
            // The manifests of the resource's owner may be elsewhere.
            let elsewhere: Vec<ResourceRef> = valid.shared.difference(&self.declared).cloned().collect();
            valid.shared.retain(|reference| self.declared.contains(reference));
            for ResourceRef { namespace, name } in elsewhere {
                let message = format!(
                    "no BookableResource {name} of namespace {namespace} among these manifests: whether it may be booked is not known"
                );
                let invalid = Invalid::new(reasons::REF_NOT_PERMITTED, message);
                self.report(at, &object_name(&valid.plan), Level::Warning, invalid);
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
                self.report(at, &object_name(plan), Level::Error, invalid);
            }
            let rejects = valid.policy == crds::schedule::ConflictPolicy::Reject;
            let level = if rejects { Level::Error } else { Level::Warning };
            if let Some(until) = found.compared_until {
                let message = not_compared(&until.to_string());
                self.report(at, &object_name(plan), level, Invalid::new(reasons::CONFLICTING, message));
            }
            let Some(clash) = found.clashes.first() else { continue };
            let whose =
                clash.schedule.as_ref().map_or(NOT_NAMED.to_owned(), |name| format!("schedule {name}"));
            let message = format!("needs {} at {}, as {whose} does", clash.shared.join(", "), clash.start);
            self.report(at, &object_name(plan), level, Invalid::new(reasons::CONFLICTING, message));
        }
    }

    fn report(&mut self, manifest: usize, object: &str, level: Level, invalid: Invalid) {
        for Invalid { reason, message, .. } in invalid.all() {
            self.findings.push(Finding { manifest, object: object.to_owned(), level, reason, message });
        }
    }
}

fn object_name(plan: &Plan) -> String {
    format!("{} {}/{}", plan.kind().name(), plan.namespace, plan.name)
}
