//! A mock of API server and hub that records what is asked of it, and objects to begin with.

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
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::world::World;

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
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) body: Value,
}

/// API server, hub and world of a scenario.
pub(super) struct Bed {
    pub(super) world: Arc<World>,
    pub(super) client: Client,
    pub(super) hub_server: MockServer,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Bed {
    /// With a hub that is there and holds nothing.
    pub(super) async fn new() -> Self {
        let bed = Self::without_hub().await;
        Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&bed.hub_server).await;
        bed.world.hub.greet(Uuid::from_u128(9), std::collections::HashMap::new());
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
        let (client, asked) = api();
        let hub = Hub::new(hub, Metrics::new());
        let world = Arc::new(World::new(1, hub, settings(), calendar::HORIZON, now));
        Self { world, client, hub_server, asked }
    }

    pub(super) fn cluster(&self, name: &'static str) -> Cluster {
        Cluster::new(self.client.clone(), name, "pod".to_owned(), Metrics::new())
    }

    /// What was asked of the API server since the last time.
    pub(super) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
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
        for asked in self.asked.lock().unwrap().iter() {
            self.hear(asked);
        }
    }

    fn hear(&self, asked: &Asked) {
        let mut body = asked.body.clone();
        if asked.method != "PATCH" {
            return;
        }
        if asked.path.ends_with("/status") {
            let (namespace, name) = (text(&body["metadata"]["namespace"]), text(&body["metadata"]["name"]));
            let status = body["status"].take();
            match body["kind"].as_str() {
                Some("NotificationChannel") => with_status(&self.world.channels, &namespace, &name, status),
                Some("AlertRule") => with_status(&self.world.rules, &namespace, &name, status),
                Some("Schedule") => with_status(&self.world.schedules, &namespace, &name, status),
                other => panic!("status of {other:?}"),
            }
            return;
        }
        body["metadata"]["generation"] = json!(1);
        for owner in body["metadata"]["ownerReferences"].as_array_mut().into_iter().flatten() {
            owner["controller"] = json!(false);
        }
        match body["kind"].as_str() {
            Some("Deployment") => {
                body["status"] = json!({"availableReplicas": 1});
                let mut object: Deployment = serde_json::from_value(body).unwrap();
                object.spec = None;
                self.world.deployments.insert(object);
            }
            Some("CronJob") => {
                self.world.cron_jobs.insert(serde_json::from_value(body).unwrap());
            }
            Some("ServiceAccount") => {
                self.world.accounts.insert(serde_json::from_value(body).unwrap());
            }
            other => panic!("{other:?}"),
        }
    }

    /// The hub tells that a worker runs the plan.
    pub(super) fn runs(&self, plan: &Plan, problems: &[(&str, &str)], body: StatusBody) {
        self.world.hub.hear(&[ObjectStatus {
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

/// A client of an API server that takes whatever it is given.
fn api() -> (Client, Arc<Mutex<Vec<Asked>>>) {
    let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let record = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Body>| {
        let record = Arc::clone(&record);
        async move {
            let (head, body) = request.into_parts();
            let bytes = body.collect_bytes().await.unwrap();
            let mut body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            record.lock().unwrap().push(Asked {
                method: head.method.to_string(),
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                body: body.clone(),
            });
            if head.method == "DELETE" {
                body = json!({"kind": "Status", "apiVersion": "v1", "status": "Success"});
            } else {
                body["metadata"]["generation"] = json!(1);
            }
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            Ok::<_, std::convert::Infallible>(Response::builder().status(200).body(body).unwrap())
        }
    });
    (Client::new(service, "default"), asked)
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
