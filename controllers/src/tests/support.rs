//! A mock of API server and hub that records the requests, and objects to begin with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::guarded::Guarded;
use crds::{AlertRule, BookableResource, NotificationChannel, Schedule};
use domain::{Digest, Plan};
use http::{Request, Response};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use kube::client::Body;
use protocol::messages::{ObjectProblem, ObjectStatus, StatusBody};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::cache::Cache;
use crate::children::Settings;
use crate::cluster::Cluster;
use crate::context::Context;
use crate::hub::Hub;
use crate::metrics::Metrics;

/// 2026-11-20T00:00:00Z.
pub(super) fn now() -> Timestamp {
    "2026-11-20T00:00:00Z".parse().unwrap()
}

pub(super) fn settings() -> Settings {
    Settings {
        image: "example.com/belfry:1".to_owned(),
        command: "/belfry-worker".to_owned(),
        pull_policy: "IfNotPresent".to_owned(),
        pull_secrets: vec!["pull".to_owned()],
        hub_url: "https://belfry-hub.belfry-system.svc:8443".to_owned(),
        hub_ca: "PEM".to_owned(),
        audience: "belfry-hub".to_owned(),
        deny_private: false,
        denied_ranges: Vec::new(),
        allowed_ranges: Vec::new(),
        memory_limit: "256Mi".to_owned(),
        log: "info".to_owned(),
    }
}

/// One request to the API server.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) code: u16,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) body: Value,
}

/// API server, hub and context of a scenario.
pub(super) struct Bed {
    pub(super) context: Arc<Context>,
    pub(super) client: Client,
    pub(super) hub_server: MockServer,
    api: Arc<Mutex<Api>>,
}

impl Bed {
    /// With a hub that is there and holds nothing.
    pub(super) async fn new() -> Self {
        let bed = Self::without_hub().await;
        Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&bed.hub_server).await;
        bed.context.hub.greet(Uuid::from_u128(9), std::collections::HashMap::new());
        bed
    }

    pub(super) async fn without_hub() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let hub_server = MockServer::start().await;
        let hub = protocol::Client::new(protocol::ClientConfig {
            url: hub_server.uri(),
            ca: None,
            server_name: None,
            token: protocol::TokenSource::Fixed("token".to_owned()),
        })
        .unwrap();
        let (client, api) = api();
        let hub = Hub::new(hub, Metrics::new());
        let context = Arc::new(Context::new(1, hub, settings(), calendar::HORIZON, now));
        Self { context, client, hub_server, api }
    }

    pub(super) fn cluster(&self, name: &'static str) -> Cluster {
        Cluster::new(self.client.clone(), name, "pod".to_owned(), Metrics::new())
    }

    /// What was asked of the API server since the last time.
    pub(super) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.api.lock().unwrap().asked)
    }

    /// Puts an object into the API server, as somebody else than the operator would; `plural` as in `apps/v1/deployments`.
    pub(super) fn put(&self, plural: &str, mut object: Value) -> Value {
        let path = child_path(plural, &text(&object["metadata"]["name"]));
        let mut api = self.api.lock().unwrap();
        api.stamp(&mut object, None);
        api.objects.insert(path, object.clone());
        object
    }

    /// What the API server holds of it.
    pub(super) fn there(&self, plural: &str, name: &str) -> Option<Value> {
        self.api.lock().unwrap().objects.get(&child_path(plural, name)).cloned()
    }

    /// Somebody deletes it.
    pub(super) fn delete(&self, plural: &str, name: &str) {
        self.api.lock().unwrap().objects.remove(&child_path(plural, name)).unwrap();
    }

    /// Plans that the hub got, by name.
    pub(super) async fn plans(&self) -> Vec<Value> {
        let requests = self.hub_server.received_requests().await.unwrap_or_default();
        requests
            .iter()
            .filter(|request| request.url.path() == protocol::paths::PLANS)
            .flat_map(|request| {
                let body: Value = serde_json::from_slice(&request.body).unwrap();
                body["plans"].as_array().cloned().unwrap_or_default()
            })
            .collect()
    }

    /// Lets the caches hear of everything that was written, as the watches would.
    pub(super) fn settle(&self) {
        let api = self.api.lock().unwrap();
        for asked in api.asked.iter().filter(|asked| asked.code < 300) {
            self.hear(asked, api.objects.get(&asked.path));
        }
    }

    fn hear(&self, asked: &Asked, held: Option<&Value>) {
        let mut body = asked.body.clone();
        if asked.method != "PATCH" {
            return;
        }
        if asked.path.ends_with("/status") {
            let (namespace, name) = (text(&body["metadata"]["namespace"]), text(&body["metadata"]["name"]));
            let status = body["status"].take();
            match body["kind"].as_str() {
                Some("NotificationChannel") => with_status(&self.context.channels, &namespace, &name, status),
                Some("AlertRule") => with_status(&self.context.rules, &namespace, &name, status),
                Some("Schedule") => with_status(&self.context.schedules, &namespace, &name, status),
                Some("BookableResource") => with_status(&self.context.resources, &namespace, &name, status),
                other => panic!("status of {other:?}"),
            }
            return;
        }
        let Some(held) = held else { return };
        body["metadata"] = held["metadata"].clone();
        for owner in body["metadata"]["ownerReferences"].as_array_mut().into_iter().flatten() {
            owner["controller"] = json!(false);
        }
        match body["kind"].as_str() {
            Some("Deployment") => {
                body["status"] = json!({"availableReplicas": 1});
                let mut object: Deployment = serde_json::from_value(body).unwrap();
                object.spec = None;
                self.context.deployments.insert(object);
            }
            Some("CronJob") => {
                self.context.cron_jobs.insert(serde_json::from_value(body).unwrap());
            }
            Some("ServiceAccount") => {
                self.context.accounts.insert(serde_json::from_value(body).unwrap());
            }
            other => panic!("{other:?}"),
        }
    }

    /// The hub tells that a worker runs the plan.
    pub(super) fn runs(&self, plan: &Plan, problems: &[(&str, &str)], body: StatusBody) {
        self.context.hub.hear(&[ObjectStatus {
            uid: plan.uid,
            namespace: plan.namespace.clone(),
            name: plan.name.clone(),
            revision: plan.revision(),
            generation: plan.generation,
            running: 1,
            problems: problems
                .iter()
                .map(|(reason, message)| ObjectProblem {
                    reason: (*reason).to_owned(),
                    message: (*message).to_owned(),
                })
                .collect(),
            body,
        }]);
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn with_status<K>(cache: &Cache<Guarded<K>>, namespace: &str, name: &str, status: Value)
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + serde::Serialize,
{
    let held = cache.get(namespace, name).unwrap();
    let Ok(object) = &held.0 else { return };
    let mut json = serde_json::to_value(object).unwrap();
    json["status"] = status;
    let version: i64 = json["metadata"]["resourceVersion"].as_str().unwrap_or("0").parse().unwrap();
    json["metadata"]["resourceVersion"] = json!((version + 1).to_string());
    cache.insert(serde_json::from_value(json).unwrap());
}

/// The path of a child.
fn child_path(plural: &str, name: &str) -> String {
    let (group, plural) = plural.rsplit_once('/').unwrap();
    let root = if group == "v1" { "api" } else { "apis" };
    format!("/{root}/{group}/namespaces/payments/{plural}/{name}")
}

/// An API server that keeps children as the real one does: who they are, and what preconditions say.
#[derive(Default)]
struct Api {
    asked: Vec<Asked>,
    objects: BTreeMap<String, Value>,
    version: u64,
}

const CHILDREN: [&str; 4] = ["serviceaccounts", "deployments", "cronjobs", "jobs"];

impl Api {
    /// Gives it a new version, and an identity if it is new.
    fn stamp(&mut self, object: &mut Value, before: Option<&Value>) {
        self.version += 10;
        let uid = before.map_or_else(
            || json!(Uuid::from_u128(u128::from(self.version)).to_string()),
            |before| before["metadata"]["uid"].clone(),
        );
        object["metadata"]["uid"] = uid;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        object["metadata"]["generation"] = json!(1);
    }

    fn answer(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let parts: Vec<&str> = path.split('/').collect();
        let is_child =
            |at: usize| parts.get(parts.len() - at).is_some_and(|plural| CHILDREN.contains(plural));
        let mut body = body.clone();
        let path = match method {
            "POST" if is_child(1) => format!("{path}/{}", text(&body["metadata"]["name"])),
            _ if is_child(2) => path.to_owned(),
            _ => {
                body["metadata"]["generation"] = json!(1);
                return (200, body);
            }
        };
        let held = self.objects.get(&path).cloned();
        let differs = |wanted: &Value, key: &str| {
            !wanted.is_null() && held.as_ref().is_some_and(|held| held["metadata"][key] != *wanted)
        };
        let (uid, version) = (&body["metadata"]["uid"], &body["metadata"]["resourceVersion"]);
        let conditions = &body["preconditions"];
        let code = match (method, &held) {
            ("GET" | "DELETE", None) => 404,
            ("POST", Some(_)) => 409,
            ("PATCH", None) if !uid.is_null() => 409,
            ("PATCH", Some(_)) if differs(version, "resourceVersion") => 409,
            ("PATCH", Some(_)) if differs(uid, "uid") => 422,
            ("DELETE", _)
                if differs(&conditions["uid"], "uid")
                    || differs(&conditions["resourceVersion"], "resourceVersion") =>
            {
                409
            }
            _ => 200,
        };
        match (code, method, held) {
            (200, "GET", Some(held)) => (200, held),
            (200, "DELETE", _) => {
                self.objects.remove(&path);
                (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
            }
            (200, _, held) => {
                self.stamp(&mut body, held.as_ref());
                self.objects.insert(path, body.clone());
                (200, body)
            }
            (code, ..) => {
                let reason = if code == 404 { "NotFound" } else { "Conflict" };
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "no"});
                (code, status)
            }
        }
    }
}

/// A client of it.
fn api() -> (Client, Arc<Mutex<Api>>) {
    let api: Arc<Mutex<Api>> = Arc::default();
    let server = Arc::clone(&api);
    let service = tower::service_fn(move |request: Request<Body>| {
        let api = Arc::clone(&server);
        async move {
            let (head, body) = request.into_parts();
            let bytes = body.collect_bytes().await.unwrap();
            let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let (method, path) = (head.method.to_string(), head.uri.path().to_owned());
            let mut api = api.lock().unwrap();
            let (code, answer) = api.answer(&method, &path, &body);
            let query = head.uri.query().unwrap_or_default().to_owned();
            api.asked.push(Asked { code, method, path, query, body });
            let answer = Body::from(serde_json::to_vec(&answer).unwrap());
            Ok::<_, std::convert::Infallible>(Response::builder().status(code).body(answer).unwrap())
        }
    });
    (Client::new(service, "default"), api)
}

/// An object as the API server would give it.
#[allow(clippy::needless_pass_by_value, reason = "json! gives a value")]
pub(super) fn object<K>(name: &str, number: u128, spec: Value) -> Guarded<K>
where
    K: DeserializeOwned + kube::Resource<DynamicType = ()>,
{
    let object = json!({
        "apiVersion": "belfry.dev/v1alpha1",
        "kind": K::kind(&()),
        "metadata": {
            "name": name,
            "namespace": "payments",
            "uid": Uuid::from_u128(number << 96 | number).to_string(),
            "generation": 1,
            "resourceVersion": "1",
            "creationTimestamp": format!("2026-11-01T00:00:{:02}Z", number % 60),
        },
        "spec": spec,
        "status": {"observedGeneration": -1},
    });
    serde_json::from_value(object).unwrap()
}

pub(super) fn slack(name: &str, number: u128) -> Guarded<NotificationChannel> {
    object(
        name,
        number,
        json!({"type": "Slack", "slack": {"webhookUrlSecretRef": {"name": "payments-notify", "key": "slack-url"}}}),
    )
}

pub(super) fn rule(name: &str, number: u128, changes: &Value) -> Guarded<AlertRule> {
    let mut spec = json!({
        "source": {"kafka": {"bootstrapServers": ["kafka.payments.svc:9092"], "topics": ["service-logs"], "format": "Json"}},
        "match": "record.level == \"ERROR\"",
        "groupBy": {"service": "record.service"},
        "condition": {"type": "Frequency", "frequency": {"count": 20, "window": "1m"}},
        "severity": "critical",
        "title": "{{ group.service }}: {{ count }} bad log lines in {{ window }}",
        "notify": [{"channelRef": {"name": "slack"}}],
    });
    merge(&mut spec, changes);
    object(name, number, spec)
}

pub(super) fn schedule(name: &str, number: u128, changes: &Value) -> Guarded<Schedule> {
    let mut spec = json!({
        "title": "Payments stand-up",
        "timeZone": "Asia/Seoul",
        "start": "2026-01-05T10:00:00",
        "duration": "15m",
        "recurrence": {"rrule": "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"},
        "participants": [{"name": "Minji", "email": "minji@example.com"}],
        "resources": ["room-3f-a"],
        "conflictPolicy": "Reject",
        "reminders": [{"before": "10m", "notify": [{"channelRef": {"name": "slack"}}]}],
    });
    merge(&mut spec, changes);
    object(name, number, spec)
}

/// A resource `hall` of the namespace `rooms`.
pub(super) fn hall(spec: Value) -> Guarded<BookableResource> {
    moved(object("hall", 1, spec), "rooms")
}

/// The same object in another namespace.
pub(super) fn moved<K: kube::Resource<DynamicType = ()>>(
    mut object: Guarded<K>,
    namespace: &str,
) -> Guarded<K> {
    object.0.as_mut().unwrap().meta_mut().namespace = Some(namespace.to_owned());
    object
}

fn merge(into: &mut Value, changes: &Value) {
    for (key, value) in changes.as_object().into_iter().flatten() {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(key);
        } else {
            into[key] = value.clone();
        }
    }
}

/// The status written to an object, and the named condition in it.
pub(super) fn written(asked: &[Asked], name: &str) -> Value {
    let found = asked
        .iter()
        .rev()
        .find(|asked| asked.path.ends_with(&format!("/{name}/status")))
        .unwrap_or_else(|| panic!("no status of {name} in {asked:#?}"));
    found.body["status"].clone()
}

pub(super) fn condition(status: &Value, type_: &str) -> Value {
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == type_).unwrap_or_default()
}

/// `Ready` as `status/reason`.
pub(super) fn ready(status: &Value) -> String {
    let ready = condition(status, "Ready");
    format!("{}/{}", text(&ready["status"]), text(&ready["reason"]))
}

/// A digest for where none matters.
pub(super) fn digest() -> Digest {
    Digest::of("x")
}
