//! The hub, asked as the operator and as a worker of the namespace would.
//!
//! Never here: a judgement of what it says.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::DeliveryState;
use protocol::messages::{NotificationQuery, ObjectStatus, RuleStatus, StatusBody};
use protocol::{Client, ClientConfig, TokenSource};
use uuid::Uuid;

use super::now_ms;
use super::run::NAMESPACE;
use crate::cluster::{Cluster, eventually};

/// The hub.
pub struct Hub {
    operator: Client,
    worker: Client,
}

impl Hub {
    /// Finds it in the cluster, with tokens of both.
    pub async fn find() -> Self {
        let cluster = Cluster::from_env();
        let system = "belfry-system";
        let (url, address, authority) = cluster.hub().await;
        let name = url.trim_start_matches("https://").trim_end_matches(":8443");
        let token = async |ns: &str, account: &str| {
            let args = ["-n", ns, "create", "token", account, "--audience=belfry-hub"];
            TokenSource::Fixed(cluster.kubectl(&args).await.trim().to_owned())
        };
        let client = |token| {
            let config = ClientConfig {
                url: format!("https://{address}"),
                ca: Some(authority.clone()),
                server_name: Some(name.to_owned()),
                token,
            };
            Client::new(config).expect("a client")
        };
        Self {
            operator: client(token(system, "belfry-operator").await),
            worker: client(token(NAMESPACE, "belfry-worker").await),
        }
    }

    /// How many deliveries are pending, at most 500.
    pub async fn pending(&self) -> Result<usize, String> {
        let query =
            NotificationQuery { state: Some(DeliveryState::Pending), limit: Some(500), ..Default::default() };
        let list = self.worker.notifications(NAMESPACE, &query).await.map_err(|error| error.to_string())?;
        Ok(list.items.len())
    }

    /// All statuses of the namespace, once they are so, or as they are after a minute: counters are told up to half a
    /// minute late.
    pub async fn settled(
        &self,
        so: impl Fn(&BTreeMap<String, ObjectStatus>) -> bool,
    ) -> BTreeMap<String, ObjectStatus> {
        let deadline = now_ms() + 60_000;
        loop {
            let statuses = self.statuses().await;
            if so(&statuses) || now_ms() > deadline {
                return statuses;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// All statuses of the namespace by name. Names of rules and channels differ.
    pub async fn statuses(&self) -> BTreeMap<String, ObjectStatus> {
        eventually("the hub's statuses", Duration::from_mins(1), async || {
            let (mut after, mut all, mut ledger) = (0, BTreeMap::<Uuid, ObjectStatus>::new(), None);
            loop {
                let feed =
                    self.operator.feed(after, Duration::ZERO).await.map_err(|error| error.to_string())?;
                if *ledger.get_or_insert(feed.ledger) != feed.ledger {
                    return Err("the ledger changed".to_owned());
                }
                let end = feed.objects.is_empty() || feed.version == after;
                all.extend(feed.objects.into_iter().map(|status| (status.uid, status)));
                if end {
                    let ours = all.into_values().filter(|status| status.namespace == NAMESPACE);
                    return Ok(ours.map(|status| (status.name.clone(), status)).collect());
                }
                after = feed.version;
            }
        })
        .await
    }
}

/// A rule's status among them.
pub fn of_rule<'a>(statuses: &'a BTreeMap<String, ObjectStatus>, name: &str) -> Option<&'a RuleStatus> {
    match statuses.get(name).map(|status| &status.body) {
        Some(StatusBody::AlertRule(status)) => Some(status),
        _ => None,
    }
}
