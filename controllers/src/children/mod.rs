//! Builds what the operator makes in a tenant's namespace: pure functions from plans to manifests.
//!
//! Building cannot fail. A user's text never reaches a command line, an image or one of our paths. Names stay within
//! Kubernetes' limits: 63 characters, 52 for CronJobs. No manifest has the value of a Secret or a rule of RBAC.

mod cron;
mod pod;
mod workers;

pub use cron::{cron_job_name, late_reminder, reminders};
pub use pod::Settings;
pub use workers::{consumer, senders};

use domain::{Digest, Plan};
use serde_json::{Value, json};

/// The service account of all workers of a namespace.
pub const SERVICE_ACCOUNT: &str = "belfry-worker";
/// Label that all children carry; the watches select by it. Only owner references say whose an object is.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub const BELFRY: &str = "belfry";
/// Label that says what a child does.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Label with a consumer's source, eight hex digits.
pub const SOURCE: &str = "belfry.dev/source";
/// Label with a CronJob's schedule, its uid.
pub const SCHEDULE: &str = "belfry.dev/schedule";

/// All labels that children carry.
pub const LABELS: [&str; 5] = [MANAGED_BY, NAME, COMPONENT, SOURCE, SCHEDULE];
const NAME: &str = "app.kubernetes.io/name";

/// Kinds of children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChildKind {
    /// v1.
    ServiceAccount,
    /// apps/v1.
    Deployment,
    /// batch/v1.
    CronJob,
}

/// One manifest to apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// Its kind.
    pub kind: ChildKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it does: a value of [`COMPONENT`], empty for the service account, which serves all.
    pub component: &'static str,
    /// The whole manifest, for server-side apply.
    pub body: Value,
}

impl Child {
    /// The hash of the manifest.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.body)
    }
}

/// An owner reference for garbage collection. If there are several owners, none of them is the controller.
fn owner(plan: &Owner) -> Value {
    json!({
        "apiVersion": "belfry.dev/v1alpha1",
        "kind": plan.kind,
        "name": plan.name,
        "uid": plan.uid,
    })
}

/// An object that owns a child.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// `NotificationChannel`, `AlertRule` or `Schedule`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Owner {
    /// The object of a plan, as an owner.
    pub fn for_plan(plan: &Plan) -> Self {
        Self { kind: plan.kind().name(), name: plan.name.clone(), uid: plan.uid.to_string() }
    }
}

fn owners(of: &[Owner]) -> Value {
    let mut sorted: Vec<&Owner> = of.iter().collect();
    sorted.sort_by(|a, b| a.uid.cmp(&b.uid));
    sorted.into_iter().map(owner).collect()
}

fn labels(component: &str, more: &[(&str, &str)]) -> Value {
    let mut labels = json!({
        MANAGED_BY: BELFRY,
        NAME: "belfry-worker",
        COMPONENT: component,
    });
    for (name, value) in more {
        labels[*name] = json!(value);
    }
    labels
}

/// The account under which all workers of a namespace run. It has no rights; the hub knows the workers by its name.
pub fn service_account(namespace: &str, of: &[Owner]) -> Child {
    Child {
        kind: ChildKind::ServiceAccount,
        namespace: namespace.to_owned(),
        name: SERVICE_ACCOUNT.to_owned(),
        component: "",
        body: json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {
                "name": SERVICE_ACCOUNT,
                "namespace": namespace,
                "labels": {MANAGED_BY: BELFRY, NAME: "belfry-worker"},
                "ownerReferences": owners(of),
            },
            "automountServiceAccountToken": false,
        }),
    }
}
