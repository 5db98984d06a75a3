//! The pod that every worker runs in: Pod Security `restricted`, no API-server token, files by reference.

use std::collections::{BTreeMap, BTreeSet};

use domain::{AddressRange, Digest, FileKind, FileRef};
use serde_json::{Value, json};

use super::SERVICE_ACCOUNT;

/// Folder of the token that the worker shows the hub.
const TOKEN: &str = "/var/run/belfry/token";
/// Folder of referenced Secrets and ConfigMaps.
const FILES: &str = "/var/run/belfry/files";
/// Folder of the hub's certificate authority.
const HUB: &str = "/var/run/belfry/hub";
/// Pod annotation with the authority. A ConfigMap in each namespace would need another right.
const HUB_CA: &str = "belfry.dev/hub-ca";

/// The operator's flags for workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Image of the worker.
    pub image: String,
    /// The worker's binary in it.
    pub command: String,
    /// `Always`, `IfNotPresent` or `Never`; Kubernetes' default when empty.
    pub pull_policy: String,
    /// Names of image pull secrets in the tenant's namespace.
    pub pull_secrets: Vec<String>,
    /// URL of the hub.
    pub hub_url: String,
    /// PEM of the hub's private authority.
    pub hub_ca: String,
    /// Audience of the workers' tokens.
    pub audience: String,
    /// Refuse receivers at private addresses.
    pub deny_private: bool,
    /// More ranges of addresses that workers refuse.
    pub denied_ranges: Vec<AddressRange>,
    /// Ranges of addresses that workers connect to although they are refused otherwise.
    pub allowed_ranges: Vec<AddressRange>,
    /// Memory limit of a worker, such as `128Mi`; none when empty.
    pub memory_limit: String,
    /// Log filter of workers.
    pub log: String,
}

/// What differs between workers.
pub(super) struct Worker<'a> {
    /// Arguments; none comes from a user.
    pub(super) args: Vec<String>,
    /// Labels of the pod.
    pub(super) labels: Value,
    /// Files that it reads.
    pub(super) files: &'a BTreeSet<FileRef>,
    /// Whether it serves probes. A Job's pod ends before they would matter.
    pub(super) probes: bool,
    /// `Always` or `Never`.
    pub(super) restart: &'static str,
}

/// The pod template.
pub(super) fn template(settings: &Settings, worker: &Worker<'_>) -> Value {
    let mut pod = json!({
        "serviceAccountName": SERVICE_ACCOUNT,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "restartPolicy": worker.restart,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": 65_532,
            "runAsGroup": 65_532,
            "fsGroup": 65_532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container(settings, worker)],
        "volumes": volumes(settings, worker.files),
    });
    if !settings.pull_secrets.is_empty() {
        pod["imagePullSecrets"] = settings.pull_secrets.iter().map(|name| json!({"name": name})).collect();
    }
    let metadata = json!({"labels": worker.labels, "annotations": {HUB_CA: settings.hub_ca}});
    json!({"metadata": metadata, "spec": pod})
}

fn container(settings: &Settings, worker: &Worker<'_>) -> Value {
    let mut mounts = vec![
        json!({"name": "token", "mountPath": TOKEN, "readOnly": true}),
        json!({"name": "hub", "mountPath": HUB, "readOnly": true}),
    ];
    if !worker.files.is_empty() {
        mounts.push(json!({"name": "files", "mountPath": FILES, "readOnly": true}));
    }
    let mut container = json!({
        "name": "worker",
        "image": settings.image,
        "command": [settings.command],
        "args": worker.args,
        "env": env(settings, worker.files),
        "volumeMounts": mounts,
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
    });
    if !settings.memory_limit.is_empty() {
        container["resources"]["limits"] = json!({"memory": settings.memory_limit});
    }
    if !settings.pull_policy.is_empty() {
        container["imagePullPolicy"] = json!(settings.pull_policy);
    }
    if worker.probes {
        container["ports"] = json!([{"name": "http", "containerPort": 9090, "protocol": "TCP"}]);
        container["livenessProbe"] = json!({
            "httpGet": {"path": "/healthz", "port": 9090},
            "initialDelaySeconds": 5, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6,
        });
        container["readinessProbe"] = json!({
            "httpGet": {"path": "/readyz", "port": 9090},
            "periodSeconds": 3, "timeoutSeconds": 3, "failureThreshold": 3,
        });
    }
    container
}

fn env(settings: &Settings, files: &BTreeSet<FileRef>) -> Value {
    // By hash, so that no name from a user gets into the environment.
    let mounted: Vec<String> = files.iter().map(|file| Digest::of(&file.path()).short().to_owned()).collect();
    let mut env = json!([
        {"name": "BELFRY_HUB_URL", "value": settings.hub_url},
        {"name": "BELFRY_HUB_CA_FILE", "value": format!("{HUB}/ca.crt")},
        {"name": "BELFRY_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "BELFRY_INSTANCE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "BELFRY_TOKEN_FILE", "value": format!("{TOKEN}/token")},
        {"name": "BELFRY_FILES", "value": FILES},
        // A pod that is being replaced must not report files as missing that it never mounted.
        {"name": "BELFRY_MOUNTED", "value": mounted.join(",")},
        {"name": "BELFRY_LOG", "value": settings.log},
        {"name": "BELFRY_DENY_PRIVATE", "value": settings.deny_private.to_string()},
    ]);
    let ranges = [
        ("BELFRY_DENIED_RANGES", &settings.denied_ranges),
        ("BELFRY_ALLOWED_RANGES", &settings.allowed_ranges),
    ];
    for (name, ranges) in ranges.into_iter().filter(|(_, ranges)| !ranges.is_empty()) {
        let list: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        env.as_array_mut()
            .into_iter()
            .for_each(|env| env.push(json!({"name": name, "value": list.join(",")})));
    }
    env
}

fn volumes(settings: &Settings, files: &BTreeSet<FileRef>) -> Value {
    let token = json!({
        "name": "token",
        "projected": {"sources": [{"serviceAccountToken": {
            "audience": settings.audience,
            "expirationSeconds": 3_600,
            "path": "token",
        }}]},
    });
    let hub = json!({"name": "hub", "downwardAPI": {"items": [{
        "path": "ca.crt",
        "fieldRef": {"fieldPath": format!("metadata.annotations['{HUB_CA}']")},
    }]}});
    let mut volumes = vec![token, hub];
    if !files.is_empty() {
        volumes.push(json!({"name": "files", "projected": {"sources": sources(files)}}));
    }
    Value::Array(volumes)
}

/// Each Secret and ConfigMap once, with only the keys that are referenced. They are optional: if one is missing, the
/// pod starts without the file and the worker reports it.
fn sources(files: &BTreeSet<FileRef>) -> Value {
    let mut by_object: BTreeMap<(FileKind, &str), Vec<Value>> = BTreeMap::new();
    for file in files {
        let items = by_object.entry((file.kind, &file.name)).or_default();
        items.push(json!({"key": file.key, "path": file.path()}));
    }
    by_object
        .into_iter()
        .map(|((kind, name), items)| {
            let source = json!({"name": name, "items": items, "optional": true});
            match kind {
                FileKind::Secret => json!({"secret": source}),
                FileKind::ConfigMap => json!({"configMap": source}),
            }
        })
        .collect()
}
