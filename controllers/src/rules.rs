//! The controller of `AlertRule`s: plans to the hub, and one `consume` Deployment for each source that the rules of a
//! namespace read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crds::AlertRule;
use domain::{Digest, FileRef, Plan, PlanBody, Source};

use crate::calls::Calls;
use crate::children::{self, Child, ChildKind, Owner};
use crate::cluster::{Cluster, Error};
use crate::context::{Context, Memo};
use crate::queue::Reconciler;
use crate::status::{self, Facts, Stuck};
use crate::steps::{self, Item};
use crate::validate;

const KIND: &str = "AlertRule";
const COMPONENTS: [&str; 1] = ["consume"];

/// The controller.
pub struct Rules {
    context: Arc<Context>,
    cluster: Cluster,
    calls: Calls,
    memo: Memo<Plan>,
}

type RuleItem = Item<AlertRule, Plan>;

/// What the rules of one source need of its consumer: its owners, the largest number of pods that one asks for, and the
/// files to mount.
#[derive(Default)]
struct Consumer {
    owners: Vec<Owner>,
    replicas: i32,
    files: BTreeSet<FileRef>,
}

impl Reconciler for Rules {
    const NAME: &'static str = "alertrule";

    async fn reconcile(&self, namespace: String) -> Result<Option<Duration>, Error> {
        let objects = self.context.rules.in_namespace(&namespace);
        let names = self.context.channel_names(&namespace);
        let rules: Vec<RuleItem> = objects
            .into_iter()
            .map(|object| Item { valid: self.memo.validate(&object, validate::rule), object })
            .collect();
        let children = self.build(&namespace, &rules);
        let (mut errors, again) = self.apply(&namespace, &rules, &children).await;
        errors.extend(self.report(&namespace, &rules, &names, &errors).await);
        steps::end(errors, again)
    }
}

impl Rules {
    /// `cluster` has this controller's field manager.
    pub fn new(context: Arc<Context>, cluster: Cluster) -> Self {
        Self { context, cluster, calls: Calls::default(), memo: Memo::default() }
    }

    fn build(&self, namespace: &str, rules: &[RuleItem]) -> Vec<Child> {
        let mut consumers: BTreeMap<Digest, Consumer> = BTreeMap::new();
        for rule in rules {
            let Some(owner) = rule.owner(KIND) else { continue };
            let Some(source) = source(rule) else { continue };
            let consumer = consumers.entry(source.key()).or_default();
            consumer.files = source.security.files().into_iter().cloned().collect();
            consumer.owners.push(owner);
            let asked = rule.object.0.as_ref().ok().and_then(|object| object.spec.consumers);
            consumer.replicas = consumer.replicas.max(asked.map_or(1, |asked| asked.replicas)).max(1);
        }
        let owners: Vec<Owner> = consumers.values().flat_map(|consumer| consumer.owners.clone()).collect();
        let account = (!owners.is_empty()).then(|| children::service_account(namespace, &owners));
        let deployments = consumers.iter().map(|(source, consumer)| {
            let (settings, Consumer { owners, replicas, files }) = (&self.context.settings, consumer);
            children::consumer(settings, namespace, source, owners, *replicas, files)
        });
        account.into_iter().chain(deployments).collect()
    }

    async fn apply(
        &self,
        namespace: &str,
        rules: &[RuleItem],
        children: &[Child],
    ) -> (Vec<Error>, Option<Duration>) {
        let mut errors = steps::apply(&self.context, &self.cluster, namespace, &COMPONENTS, children).await;
        let plans: Vec<Plan> =
            rules.iter().filter_map(|rule| Some(rule.valid.as_ref().ok()?.as_ref().clone())).collect();
        let (failed, again) = self.calls.send(&self.context, namespace, plans).await;
        errors.extend(failed);
        (errors, again)
    }

    async fn report(
        &self,
        namespace: &str,
        rules: &[RuleItem],
        channels: &BTreeSet<String>,
        errors: &[Error],
    ) -> Vec<Error> {
        let mut failed = Vec::new();
        let now = (self.context.now)();
        for rule in rules {
            let status = rule.object.0.as_ref().ok().and_then(|object| object.status.as_ref());
            let (shown, before) = steps::shown(&self.cluster, rule.meta(), status);
            let consumer = source(rule).map(|source| format!("belfry-consume-{}", source.key().short()));
            let child = consumer.as_ref().map(|name| steps::child_name(ChildKind::Deployment, name));
            let facts = Facts {
                generation: rule.generation(),
                before: &before.conditions,
                plan: rule.valid.as_deref(),
                hub: Some(match &rule.valid {
                    Ok(plan) => self.context.hub.view(plan),
                    Err(_) => self.context.hub.view_without_plan(rule.uid()),
                }),
                apply_error: steps::trouble(errors, |name| {
                    name.starts_with("ServiceAccount") || child.as_deref() == Some(name)
                }),
                workers: consumer.iter().map(|name| self.context.workers(namespace, name)).collect(),
                wants_running: true,
                missing_channels: missing(rule.valid.as_ref().ok(), channels),
                stuck_channels: stuck(&self.context, rule.valid.as_ref().ok()),
                hub_url: &self.context.settings.hub_url,
                now,
            };
            let status = status::rule(&facts, &before);
            let conditions = (before.conditions.as_slice(), status.conditions.as_slice());
            let written =
                steps::report::<AlertRule>(&self.cluster, rule.meta(), shown, conditions, &status, now);
            failed.extend(written.await.err());
        }
        failed
    }

    /// Forgets objects that are gone.
    pub fn forget(&self, is_alive: &impl Fn(&str) -> bool) {
        self.memo.forget(is_alive);
        self.cluster.forget(is_alive);
    }
}

/// The source that a rule reads, whatever else is wrong with it: an edit that does not compile must not stop the consumer,
/// which goes on with the rule's last valid plan.
fn source(rule: &RuleItem) -> Option<Source> {
    validate::source_of(rule.object.0.as_ref().ok()?).ok()
}

fn stuck(context: &Context, plan: Option<&Arc<Plan>>) -> Vec<Stuck> {
    match plan.map(|plan| (plan, &plan.body)) {
        Some((plan, PlanBody::AlertRule(rule))) => context.stuck(&plan.namespace, &rule.notify),
        _ => Vec::new(),
    }
}

fn missing(plan: Option<&Arc<Plan>>, channels: &BTreeSet<String>) -> Vec<String> {
    match plan.map(|plan| &plan.body) {
        Some(PlanBody::AlertRule(rule)) => {
            rule.notify.iter().filter(|name| !channels.contains(*name)).cloned().collect()
        }
        _ => Vec::new(),
    }
}
