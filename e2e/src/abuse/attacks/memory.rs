//! What a tenant can make operator and hub keep: objects that are large once they are understood, and answers that nobody
//! takes.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{Attacker, rule};
use crate::cluster::eventually;

/// How long an answer is left untaken.
const UNTAKEN: Duration = Duration::from_secs(10);

impl Attacker {
    /// Schedules whose runs share no pattern, each with eight rooms, then rules of 200 KB.
    pub(super) async fn objects(&self) -> Result<String, String> {
        let schedules = self.many(30, 400);
        let rules = self.many(45, 310);
        let mut manifest = String::new();
        for n in 0..schedules {
            let _ = writeln!(manifest, "{}\n---", irregular(n));
        }
        self.tenant.try_apply(&manifest).await?;
        for chunk in (0..rules).collect::<Vec<_>>().chunks(25) {
            let large: String = chunk.iter().map(|n| large(&format!("large-{n}"), "large")).collect();
            self.tenant.try_apply(&large).await?;
        }
        // More than the share of a kind: somebody is told.
        let told = eventually("each has been judged", Duration::from_mins(5), async || {
            let all = ["-n", &self.tenant.ns, "get", "sch,alr", "-o", "json"];
            let text = self.tenant.cluster.try_kubectl(&all).await?;
            let list: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            let items = list["items"].as_array().cloned().unwrap_or_default();
            let unjudged = items.iter().filter(|object| object["status"]["conditions"].is_null()).count();
            if unjudged > 0 {
                return Err(format!("{unjudged} of {} have no conditions", items.len()));
            }
            let over =
                |object: &&Value| object["status"]["conditions"].to_string().contains("take more than");
            Ok(items.iter().filter(over).count())
        })
        .await;
        let all = ["-n", &self.tenant.ns, "delete", "sch,alr", "--all", "--wait=false"];
        self.tenant.cluster.kubectl(&all).await;
        if told == 0 {
            return Err("nothing was told that there is no room for it".to_owned());
        }
        Ok(format!("{told} of {} objects are over their namespace's share", schedules + rules))
    }

    /// Many questions whose long answers are not read.
    pub(super) async fn unread(&self) -> Result<String, String> {
        let names: Vec<String> = (0..self.many(8, 30)).map(|n| format!("unread-{n}")).collect();
        let manifest: String = names.iter().map(|name| large(name, "unread")).collect();
        self.tenant.try_apply(&manifest).await?;
        let source = eventually("the rules' consumer is there", Duration::from_mins(1), async || {
            let args = "jsonpath={.items[*].spec.template.spec.containers[0].args}";
            let text = self
                .tenant
                .cluster
                .try_kubectl(&["-n", &self.tenant.ns, "get", "deploy", "-o", args])
                .await?;
            let source = text.split('"').find(|word| word.len() == 32);
            source.map(str::to_owned).ok_or(text)
        })
        .await;
        let (_, address, authority) = self.tenant.cluster.hub().await;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&authority) {
            let certificate = certificate.map_err(|error| error.to_string())?;
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let tls = TlsConnector::from(std::sync::Arc::new(config));
        let request = format!(
            "GET /v1/namespaces/{}/sources/{source}/plan?revision=x HTTP/1.1\r\nhost: belfry-hub\r\n\
             authorization: Bearer {}\r\nbelfry-protocol: 1.0\r\n\r\n",
            self.tenant.ns, self.token
        );
        let mut open = Vec::new();
        for _ in 0..self.many(60, 400) {
            let socket = TcpSocket::new_v4().map_err(|error| error.to_string())?;
            socket.set_recv_buffer_size(4096).map_err(|error| error.to_string())?;
            let connect = async {
                let stream = socket.connect(address).await?;
                let name =
                    ServerName::try_from("belfry-hub.belfry-system.svc").map_err(std::io::Error::other)?;
                let mut stream = tls.connect(name, stream).await?;
                stream.write_all(request.as_bytes()).await?;
                std::io::Result::Ok(stream)
            };
            // One that is turned away at the door is what is asked for.
            if let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_secs(2), connect).await {
                open.push(stream);
            }
        }
        tokio::time::sleep(UNTAKEN).await;
        let asked = open.len();
        drop(open);
        self.forget("alr", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        if asked == 0 {
            return Err("no question came through".to_owned());
        }
        Ok(format!("{asked} questions for a plan of {} rules of 200 KB, untaken for 10 s", names.len()))
    }
}

/// A daily series of 240 runs a day that no two others share, in eight rooms of its own.
fn irregular(n: usize) -> Value {
    let list = |numbers: &mut dyn Iterator<Item = usize>| {
        numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(",")
    };
    let minutes = list(&mut [0, 2, 5, 9, 14, 20, 27, 35, 44, 54].into_iter().map(|minute| (minute + n) % 60));
    let hours = list(&mut (0..24));
    json!({
        "apiVersion": "belfry.dev/v1alpha1", "kind": "Schedule",
        "metadata": {"name": format!("irregular-{n}"), "namespace": "$NS"},
        "spec": {
            "title": "t", "timeZone": "Europe/Berlin", "start": "2026-12-01T00:00:00", "duration": "1m",
            "recurrence": {"rrule": format!("FREQ=DAILY;BYHOUR={hours};BYMINUTE={minutes}")}, "conflictPolicy": "Warn",
            "resources": (0..8).map(|room| format!("room-{n}-{room}")).collect::<Vec<_>>(),
        },
    })
}

/// A rule of 200 KB: a hundred expected groups with eight long labels.
fn large(name: &str, topic: &str) -> String {
    let labels: Vec<String> = (0..8).map(|label| format!("l{label}")).collect();
    let by: Vec<String> = labels.iter().map(|label| format!("{label}: record.{label}")).collect();
    let groups: Vec<Value> = (0..100)
        .map(|group| {
            labels.iter().map(|label| (label.clone(), format!("{group:03}{}", "x".repeat(240)))).collect()
        })
        .collect();
    let condition =
        format!("{{type: Flatline, flatline: {{below: 1, window: 1h, groups: {}}}}}", Value::Array(groups));
    rule(name, &format!("$NS-{topic}"), &condition, "x", "")
        .replace("groupBy: {key: record.key}", &format!("groupBy: {{{}}}", by.join(", ")))
}
