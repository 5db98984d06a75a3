//! What a tenant can do, each as it was found to stop, fill or read the others before there were bounds.
//!
//! Each says what the attacker was told; an answer that is neither a refusal that names a bound nor a condition is a fault.

mod memory;

use std::cell::Cell;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::FutureExt as _;
use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::{SYSTEM, Size};
use crate::cluster::eventually;
use crate::kafka::{create_topic, flush, producer};
use crate::sink::Behaviour;
use crate::tenant::Tenant;

/// An attack goes on for so long.
const AT_LEAST: Duration = Duration::from_secs(8);
/// All of them side by side go on for so long.
const SIDE_BY_SIDE: Duration = Duration::from_mins(5);

/// One attack.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// What it is, in words.
    pub name: &'static str,
    kind: AttackKind,
}

#[derive(Debug, Clone, Copy)]
enum AttackKind {
    Schedules,
    Templates,
    Bodies,
    Reviews,
    Groups,
    Dead,
    Letters,
    Connections,
    Tokens,
    Objects,
    Unread,
}

/// All of them.
pub fn all() -> [Attack; 11] {
    [
        Attack { name: "Schedules that ask for free times", kind: AttackKind::Schedules },
        Attack { name: "templates that split and sort", kind: AttackKind::Templates },
        Attack { name: "commits full of zeros", kind: AttackKind::Bodies },
        Attack { name: "reviews from anybody", kind: AttackKind::Reviews },
        Attack { name: "a new group in every record", kind: AttackKind::Groups },
        Attack { name: "dead deliveries, and lists of them", kind: AttackKind::Dead },
        Attack { name: "records that can't be decoded, with a forged mark", kind: AttackKind::Letters },
        Attack { name: "silent connections", kind: AttackKind::Connections },
        Attack { name: "tokens that nobody gave", kind: AttackKind::Tokens },
        Attack { name: "objects that take much memory", kind: AttackKind::Objects },
        Attack { name: "long answers that nobody takes", kind: AttackKind::Unread },
    ]
}

/// The attacker's namespace, with a channel that works.
pub struct Attacker {
    /// The namespace.
    pub tenant: Tenant,
    size: Size,
    producer: FutureProducer,
    client: reqwest::Client,
    hub: String,
    token: String,
}

impl Attacker {
    /// Makes it.
    pub async fn new(ns: &str, size: Size) -> Self {
        let tenant = Tenant::new(ns).await;
        let url = tenant.url("hook");
        tenant.apply(&channel("hook", &url, "{}")).await;
        tenant.ready("nch/hook").await;
        let producer = producer(&tenant.cluster.kafka);
        let (client, hub) = tenant.cluster.hub_client().await;
        let token = ["-n", ns, "create", "token", "belfry-worker", "--audience=belfry-hub"];
        let token = tenant.cluster.kubectl(&token).await.trim().to_owned();
        Self { tenant, size, producer, client, hub: hub.to_owned(), token }
    }

    fn many(&self, small: usize, full: usize) -> usize {
        if self.size == Size::Small { small } else { full }
    }

    /// Runs one, again and again until the neighbour has been asked for a while; what the attacker was told, or what should
    /// not be.
    pub async fn launch(&self, attack: &Attack) -> Result<String, String> {
        let begun = Instant::now();
        loop {
            let told = self.once(attack).await?;
            if begun.elapsed() >= AT_LEAST {
                return Ok(told);
            }
        }
    }

    async fn once(&self, attack: &Attack) -> Result<String, String> {
        match attack.kind {
            AttackKind::Schedules => self.schedules().await,
            AttackKind::Templates => self.templates().await,
            AttackKind::Bodies => self.bodies().await,
            AttackKind::Reviews => self.reviews().await,
            AttackKind::Groups => self.groups().await,
            AttackKind::Dead => self.dead().await,
            AttackKind::Letters => self.letters().await,
            AttackKind::Connections => self.connections().await,
            AttackKind::Tokens => self.tokens().await,
            AttackKind::Objects => self.objects().await,
            AttackKind::Unread => self.unread().await,
        }
    }

    /// Runs all attacks side by side for [`SIDE_BY_SIDE`], each again and again. Here they only load: what each must be told is
    /// judged when it runs alone, since together they slow down their own namespace most.
    pub async fn all(&self) -> String {
        let attacks = all();
        let rounds: Vec<Cell<usize>> = attacks.iter().map(|_| Cell::new(0)).collect();
        let load = attacks.iter().zip(&rounds).map(async |(attack, rounds)| {
            loop {
                // A wait that runs out panics; here it only ends the round.
                match AssertUnwindSafe(self.once(attack)).catch_unwind().await {
                    Ok(Ok(_)) => rounds.set(rounds.get() + 1),
                    Ok(Err(_)) | Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
                }
            }
        });
        // Ends what is under way; the namespace is deleted afterwards.
        let _ = tokio::time::timeout(SIDE_BY_SIDE, join_all(load)).await;
        let told = attacks
            .iter()
            .zip(&rounds)
            .map(|(attack, rounds)| format!("{}: {} times", attack.name, rounds.get()));
        told.collect::<Vec<_>>().join("; ")
    }

    /// Free times of a series of a hundred people and 32 things, each minute of a month tried; and an hourly one that clashes.
    async fn schedules(&self) -> Result<String, String> {
        let people: Vec<String> = (0..100).map(|n| format!("person-{n}")).collect();
        let things: Vec<String> = (0..32).map(|n| format!("room-{n}")).collect();
        let spec = |rrule: &str, policy: &str| {
            json!({
                "title": "Everybody", "timeZone": "Europe/Berlin", "duration": "1h", "conflictPolicy": policy,
                "start": "2027-01-04T09:00:00", "recurrence": {"rrule": rrule},
                "participants": people.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(), "resources": things,
                "suggest": {"within": "720h", "grid": "1m", "count": 10},
            })
        };
        let mut told = String::new();
        for (name, rrule, policy) in [
            ("first", "FREQ=DAILY", "Allow"),
            ("second", "FREQ=DAILY", "Warn"),
            ("hourly", "FREQ=HOURLY", "Reject"),
        ] {
            let object = json!({
                "apiVersion": "belfry.dev/v1alpha1", "kind": "Schedule",
                "metadata": {"name": name, "namespace": self.tenant.ns}, "spec": spec(rrule, policy),
            });
            match self.tenant.try_apply(&object.to_string()).await {
                Ok(_) if policy == "Reject" => return Err("an hourly clash was let in".to_owned()),
                Ok(_) => {}
                Err(refusal) => {
                    let start: String = refusal.chars().take(300).collect();
                    let _ = write!(told, "{name} refused: {start} ");
                }
            }
        }
        // Long enough for the search to have been begun again and again.
        let seen = eventually("the second is judged", Duration::from_mins(2), async || {
            let Some(object) = self.tenant.get("sch/second").await else {
                return Ok("it was refused".to_owned());
            };
            let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            let shown = object["status"].to_string();
            if current { Ok(shown) } else { Err(shown) }
        })
        .await;
        self.forget("sch", &["first", "second", "hourly"]).await;
        let start: String = seen.chars().take(400).collect();
        Ok(format!("{told}{start}"))
    }

    /// Chains of filters over one large record.
    async fn templates(&self) -> Result<String, String> {
        let topic = self.topic("texts", 1).await;
        let nasty = "{{ record.text|split('')|list|sort|join|split('')|list|sort|join|split('')|list|sort|join|length }}";
        let loops = "{% for a in record.text|split('')|list %}{{ record.text|split('')|list|sort|join|length }}{% endfor %}";
        let mut rules = String::new();
        for (name, title) in [("chains", nasty), ("loops", loops)] {
            rules += &rule(name, &topic, "{type: Any}", title, "");
        }
        self.rules(&rules, &["chains", "loops"]).await?;
        let text: String = (0..16_000).map(|n| char::from(b'a' + (n * 7 % 26) as u8)).collect();
        for n in 0..self.many(3, 200) {
            self.send(&topic, json!({"kind": "x", "key": n, "text": text}).to_string().as_bytes(), None)
                .await;
        }
        flush(&self.producer);
        let told = self.shown("alr/loops", "TemplateFailed").await;
        self.forget("alr", &["chains", "loops"]).await;
        told
    }

    /// As a worker of its own namespace: bodies whose values take many times their bytes.
    async fn bodies(&self) -> Result<String, String> {
        let url = format!("{}/v1/namespaces/{}/sources/none/commits", self.hub, self.tenant.ns);
        let zeros = |bytes: usize| {
            let values = "0,".repeat(bytes / 2);
            format!(
                "{{\"revision\":\"x\",\"rules\":{{}},\"entries\":[{{\"topic\":\"t\",\"topicId\":\"i\",\"partition\":0,\"from\":0,\"to\":1,\"end\":1,\"counts\":[],\
                 \"records\":[{{\"value\":[{values}0]}}],\"dropped\":[],\"deadLetters\":[]}}]}}"
            )
        };
        let mut answers = FuturesUnordered::new();
        for bytes in [31 << 20, 8 << 20, 3 << 20, 1 << 20] {
            for _ in 0..self.many(2, 8) {
                let request = self.client.post(&url).bearer_auth(&self.token);
                let request =
                    request.header("belfry-protocol", "1.0").header("content-type", "application/json");
                let request = request.body(zeros(bytes));
                answers.push(async move { request.send().await });
            }
        }
        self.refusals(&mut answers).await
    }

    /// Without a token, at the webhook.
    async fn reviews(&self) -> Result<String, String> {
        let address = ["-n", SYSTEM, "get", "svc", "belfry-webhook", "-o", "jsonpath={.spec.clusterIP}"];
        let address = self.tenant.cluster.kubectl(&address).await;
        let (_, _, authority) = self.tenant.cluster.hub().await;
        let roots = reqwest::Certificate::from_pem_bundle(&authority).map_err(|error| error.to_string())?;
        let name = format!("belfry-webhook.{SYSTEM}.svc");
        let socket = format!("{}:443", address.trim()).parse().map_err(|_| "no address".to_owned())?;
        let client = reqwest::Client::builder().no_proxy().tls_certs_only(roots).resolve(&name, socket);
        let client = client.timeout(Duration::from_secs(20)).build().map_err(|error| error.to_string())?;
        let zeros = "0,".repeat(1 << 20);
        let review = format!(
            "{{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\",\"request\":{{\"uid\":\"u\",\
             \"kind\":{{\"group\":\"belfry.dev\",\"version\":\"v1alpha1\",\"kind\":\"Schedule\"}},\"resource\":{{\"group\":\"belfry.dev\",\"version\":\"v1alpha1\",\"resource\":\"schedules\"}},\
             \"name\":\"n\",\"namespace\":\"{}\",\"operation\":\"CREATE\",\"userInfo\":{{}},\"object\":{{\"apiVersion\":\"belfry.dev/v1alpha1\",\"kind\":\"Schedule\",\
             \"metadata\":{{\"name\":\"n\"}},\"spec\":{{\"x\":[{zeros}0]}}}}}}}}",
            self.tenant.ns
        );
        let mut answers = FuturesUnordered::new();
        for _ in 0..self.many(10, 60) {
            let request = client.post(format!("https://{name}/admit"));
            let request = request.header("content-type", "application/json").body(review.clone());
            answers.push(async move { request.send().await });
        }
        let mut told = std::collections::BTreeMap::<String, usize>::new();
        while let Some(answer) = answers.next().await {
            let said = match answer {
                Ok(answer) => {
                    let status = answer.status();
                    let body: Value = answer.json().await.unwrap_or_default();
                    if body["response"]["allowed"] == true {
                        return Err("a review full of zeros was let in".to_owned());
                    }
                    let message = body["response"]["status"]["message"].as_str().unwrap_or_default();
                    format!("{} {}", status.as_u16(), message.chars().take(80).collect::<String>())
                }
                Err(_) => "no answer".to_owned(),
            };
            *told.entry(said).or_default() += 1;
        }
        Ok(format!("{told:?}"))
    }

    /// Long keys, each another one.
    async fn groups(&self) -> Result<String, String> {
        let topic = self.topic("groups", 2).await;
        let many = rule(
            "many",
            &topic,
            "{type: Frequency, frequency: {count: 2, window: 5s}}",
            "{{ group.key }}",
            "  maxGroups: 100000\n",
        );
        self.rules(&many, &["many"]).await?;
        let count = self.many(15_000, 150_000);
        for n in 0..count {
            let record = json!({"kind": "x", "key": format!("{n:0400}")}).to_string();
            self.send(&topic, record.as_bytes(), None).await;
        }
        flush(&self.producer);
        let seen = eventually("all are read", Duration::from_mins(10), async || {
            let object = self.tenant.get("alr/many").await.ok_or("not there")?;
            let status = &object["status"];
            let unmatched: u64 = status["unmatched"]
                .as_object()
                .map_or(0, |reasons| reasons.values().filter_map(Value::as_u64).sum());
            let matched = status["matched"].as_u64().unwrap_or(0);
            if matched.max(unmatched) >= count as u64 || matched + unmatched >= count as u64 {
                Ok(status.to_string())
            } else {
                Err(status.to_string())
            }
        })
        .await;
        self.forget("alr", &["many"]).await;
        Ok(seen.chars().take(300).collect())
    }

    /// Many dead deliveries with many attempts each, then lists as large as they get.
    async fn dead(&self) -> Result<String, String> {
        const RECEIVERS: usize = 16;
        let topic = self.topic("dead", 1).await;
        let mut manifest = String::new();
        for n in 0..RECEIVERS {
            let path = format!("dead-{n}");
            self.tenant.behave(&path, Behaviour { status: 500, ..Behaviour::default() }).await;
            let delivery = "{retry: {maxAttempts: 12, initialDelay: 1s, maxDelay: 1s}}";
            manifest += &channel(&path, &self.tenant.url(&path), delivery);
        }
        let refs: Vec<String> =
            (0..RECEIVERS).map(|n| format!("{{channelRef: {{name: dead-{n}}}}}")).collect();
        manifest += &rule("dead", &topic, "{type: Any}", "{{ group.key }}", "")
            .replace("{channelRef: {name: hook}}", &refs.join(", "));
        self.rules(&manifest, &["dead"]).await?;
        for n in 0..self.many(20, 500) {
            let record = json!({"kind": "x", "key": format!("{n}"), "text": "x".repeat(500)}).to_string();
            self.send(&topic, record.as_bytes(), None).await;
        }
        flush(&self.producer);
        let mut answers = FuturesUnordered::new();
        for path in
            ["notifications?limit=500", "dead-letters?limit=500", "notifications?limit=300&state=Dead"]
        {
            for _ in 0..self.many(20, 60) {
                let url = format!("{}/v1/namespaces/{}/{path}", self.hub, self.tenant.ns);
                let request = self.client.get(url).bearer_auth(&self.token);
                answers.push(async move { request.send().await });
            }
        }
        let mut told = std::collections::BTreeMap::<u16, usize>::new();
        while let Some(answer) = answers.next().await {
            let answer = answer.map_err(|error| error.to_string())?;
            let status = answer.status().as_u16();
            let _ = answer.bytes().await;
            *told.entry(status).or_default() += 1;
        }
        if told.keys().any(|status| *status >= 500 && *status != 503) || !told.contains_key(&200) {
            return Err(format!("lists were answered with {told:?}"));
        }
        let names: Vec<String> = (0..RECEIVERS).map(|n| format!("dead-{n}")).collect();
        self.forget("alr", &["dead"]).await;
        self.forget("nch", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        Ok(format!("{told:?}"))
    }

    /// A header that only our own dead letters had is no way around the dead-letter topic.
    async fn letters(&self) -> Result<String, String> {
        let topic = self.topic("letters", 1).await;
        self.rules(&rule("letters", &topic, "{type: Any}", "x", ""), &["letters"]).await?;
        let headers = OwnedHeaders::new().insert(Header { key: "belfry-reason", value: Some("Undecodable") });
        let broken = format!("{{{}", "x".repeat(20_000));
        let count = self.many(300, 16_000);
        for _ in 0..count {
            self.send(&topic, broken.as_bytes(), Some(headers.clone())).await;
        }
        flush(&self.producer);
        eventually("all are counted", Duration::from_mins(10), async || {
            let object = self.tenant.get("alr/letters").await.ok_or("not there")?;
            let seen = &object["status"]["deadLettered"];
            if seen.as_u64().unwrap_or(0) >= count as u64 {
                Ok(())
            } else {
                Err(object["status"].to_string())
            }
        })
        .await;
        let kept = self.get("dead-letters?limit=500").await?;
        let kept = kept["items"].as_array().map_or(0, Vec::len);
        self.forget("alr", &["letters"]).await;
        if kept > 0 {
            return Err(format!("{kept} forged letters went into the ledger instead of the topic"));
        }
        Ok(format!("{count} are in {topic}.DLT, none in the ledger"))
    }

    /// Connections that say nothing.
    async fn connections(&self) -> Result<String, String> {
        let (_, address, _) = self.tenant.cluster.hub().await;
        let mut open = Vec::new();
        for _ in 0..self.many(1_500, 12_000) {
            // The kernel's own bounds end it early: what is open by then is enough.
            match tokio::time::timeout(Duration::from_secs(2), TcpStream::connect(address)).await {
                Ok(Ok(stream)) => open.push(stream),
                _ => break,
            }
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (mut closed, all) = (0, open.len());
        for stream in &mut open {
            let read = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut [0; 1])).await;
            closed += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
        }
        Ok(format!("of {all} silent connections {closed} were closed within seconds"))
    }

    /// Requests with tokens that nobody made, each another one.
    async fn tokens(&self) -> Result<String, String> {
        let url = format!("{}/v1/namespaces/{}/notifications", self.hub, self.tenant.ns);
        let mut told = std::collections::BTreeMap::<u16, usize>::new();
        for round in 0..self.many(10, 60) {
            let requests = (0..50).map(|n| {
                // It looks as one of this cluster does, and has yet to end.
                let claims = json!({
                    "aud": ["belfry-hub"], "iss": "https://kubernetes.default.svc", "exp": 4_000_000_000_i64,
                    "sub": format!("system:serviceaccount:{}:n{round}-{n}", self.tenant.ns),
                });
                let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
                let token =
                    format!("{}.{claims}.c2ln", URL_SAFE_NO_PAD.encode("{\"alg\":\"RS256\",\"kid\":\"k\"}"));
                self.client.get(&url).bearer_auth(token).send()
            });
            for answer in join_all(requests).await {
                *told.entry(answer.map_err(|error| error.to_string())?.status().as_u16()).or_default() += 1;
            }
        }
        if told.keys().any(|status| ![401, 429, 503].contains(status)) {
            return Err(format!("{told:?}"));
        }
        Ok(format!("{told:?}"))
    }

    async fn refusals<F>(&self, answers: &mut FuturesUnordered<F>) -> Result<String, String>
    where
        F: Future<Output = reqwest::Result<reqwest::Response>>,
    {
        let mut told = std::collections::BTreeMap::<String, usize>::new();
        while let Some(answer) = answers.next().await {
            // One that was refused before it was sent whole has no answer at this end.
            let Ok(answer) = answer else {
                *told.entry("refused while sending".to_owned()).or_default() += 1;
                continue;
            };
            let status = answer.status();
            if status.is_success() {
                return Err("such a body was taken".to_owned());
            }
            let text = answer.text().await.unwrap_or_default();
            let start: String = text.chars().take(120).collect();
            *told.entry(format!("{} {start}", status.as_u16())).or_default() += 1;
        }
        Ok(format!("{told:?}"))
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        let url = format!("{}/v1/namespaces/{}/{path}", self.hub, self.tenant.ns);
        let answer = self.client.get(url).bearer_auth(&self.token).send().await;
        let answer = answer.map_err(|error| error.to_string())?;
        answer.json().await.map_err(|error| error.to_string())
    }

    async fn topic(&self, name: &str, partitions: i32) -> String {
        let topic = self.tenant.topic(name);
        create_topic(&self.tenant.cluster.kafka, &topic, partitions).await;
        topic
    }

    /// Applies rules and waits until they are read.
    async fn rules(&self, manifest: &str, names: &[&str]) -> Result<(), String> {
        self.tenant.try_apply(manifest).await?;
        for name in names {
            self.tenant.ready(&format!("alr/{name}")).await;
        }
        Ok(())
    }

    async fn send(&self, topic: &str, value: &[u8], headers: Option<OwnedHeaders>) {
        let mut record = FutureRecord::<str, [u8]>::to(topic).payload(value);
        record.headers = headers;
        loop {
            match self.producer.send_result(record) {
                Ok(_) => return,
                Err((_, again)) => record = again,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until an object's conditions say this.
    async fn shown(&self, what: &str, reason: &str) -> Result<String, String> {
        let shown = eventually(&format!("{what} says {reason}"), Duration::from_mins(1), async || {
            let object = self.tenant.get(what).await.ok_or("not there")?;
            let conditions = object["status"]["conditions"].to_string();
            if conditions.contains(reason) { Ok(conditions) } else { Err(conditions) }
        })
        .await;
        Ok(shown.chars().take(300).collect())
    }

    async fn forget(&self, kind: &str, names: &[&str]) {
        let mut args = vec!["-n", &self.tenant.ns, "delete", kind, "--ignore-not-found", "--wait=false"];
        args.extend(names);
        self.tenant.cluster.kubectl(&args).await;
    }
}

fn channel(name: &str, url: &str, delivery: &str) -> String {
    format!(
        "apiVersion: belfry.dev/v1alpha1
kind: NotificationChannel
metadata: {{name: {name}, namespace: $NS}}
spec:
  type: Webhook
  webhook: {{url: \"{url}\"}}
  delivery: {delivery}
---
"
    )
}

fn rule(name: &str, topic: &str, condition: &str, title: &str, more: &str) -> String {
    format!(
        "apiVersion: belfry.dev/v1alpha1
kind: AlertRule
metadata: {{name: {name}, namespace: $NS}}
spec:
  source:
    kafka: {{bootstrapServers: [\"$KAFKA\"], topics: [\"{topic}\"], format: Json, startFrom: Earliest}}
  match: record.kind == \"x\"
  groupBy: {{key: record.key}}
  condition: {condition}
  severity: info
  title: \"{title}\"
  notify: [{{channelRef: {{name: hook}}}}]
{more}---
"
    )
}
