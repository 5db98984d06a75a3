//! The Deployments: `send` and `retry` of a namespace, `consume` of each source.

use std::collections::BTreeSet;

use domain::{Digest, FileRef};
use serde_json::json;

use super::pod::{Settings, Worker, template};
use super::{Child, ChildKind, Owner, SOURCE, labels, owners};

/// The two Deployments that all channels of a namespace share.
pub fn senders(settings: &Settings, namespace: &str, of: &[Owner], files: &BTreeSet<FileRef>) -> [Child; 2] {
    ["send", "retry"].map(|component| {
        let worker = Worker {
            args: vec![component.to_owned()],
            labels: labels(component, &[]),
            files,
            probes: true,
            restart: "Always",
        };
        deployment(settings, namespace, format!("belfry-{component}"), component, of, 1, &worker)
    })
}

/// The Deployment that reads one source for all its rules.
pub fn consumer(
    settings: &Settings,
    namespace: &str,
    source: &Digest,
    of: &[Owner],
    replicas: i32,
    files: &BTreeSet<FileRef>,
) -> Child {
    let worker = Worker {
        args: vec!["consume".to_owned(), "--source".to_owned(), source.to_string()],
        labels: labels("consume", &[(SOURCE, source.short())]),
        files,
        probes: true,
        restart: "Always",
    };
    let name = format!("belfry-consume-{}", source.short());
    deployment(settings, namespace, name, "consume", of, replicas, &worker)
}

fn deployment(
    settings: &Settings,
    namespace: &str,
    name: String,
    component: &'static str,
    of: &[Owner],
    replicas: i32,
    worker: &Worker<'_>,
) -> Child {
    let body = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": worker.labels,
            "ownerReferences": owners(of),
        },
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": 120,
            "selector": {"matchLabels": worker.labels},
            // The new worker is ready before the old one ends, so no notification waits for a roll-out.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": template(settings, worker),
        },
    });
    Child { kind: ChildKind::Deployment, namespace: namespace.to_owned(), name, component, body }
}
