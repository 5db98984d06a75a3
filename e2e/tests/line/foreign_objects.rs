//! Other people's objects that have names or labels of ours: Belfry leaves them alone, and a status says that a name is taken.

use std::time::Duration;

use e2e::cluster::{condition, eventually};
use e2e::tenant::Tenant;
use serde_json::{Value, json};

use crate::support::webhook;

fn deployment(name: &str, labels: &Value) -> String {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "$NS", "labels": labels},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"app": "mine"}},
            "template": {
                "metadata": {"labels": {"app": "mine"}},
                "spec": {"containers": [{"name": "mine", "image": "example.com/mine:1"}]},
            },
        },
    });
    format!("{object}\n---\n")
}

/// The fields of an object that Belfry must not change: its uid and everything that its author wrote.
async fn authored_fields(tenant: &Tenant, what: &str) -> Value {
    let object = tenant.get(what).await.unwrap_or_else(|| panic!("{what} is gone"));
    let meta = &object["metadata"];
    json!([
        meta["uid"],
        meta["labels"],
        meta["ownerReferences"],
        object["spec"],
        object["automountServiceAccountToken"]
    ])
}

/// Waits until the channel's status says that this object's name is taken.
async fn await_name_taken(tenant: &Tenant, name: &str) {
    eventually(&format!("the channel says that {name} is taken"), Duration::from_mins(1), async || {
        let object = tenant.get("nch/hook").await.ok_or("not there")?;
        match condition(&object, "Ready") {
            Some((_, reason, message)) if reason == "NameTaken" && message.contains(name) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_peoples_objects_with_our_names_or_labels_are_left_alone_and_reported() {
    let tenant = Tenant::new("t-names").await;
    let ours = json!({"app.kubernetes.io/managed-by": "belfry", "app.kubernetes.io/component": "send"});
    let account =
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: belfry-worker, namespace: $NS}\n---\n";
    let theirs =
        account.to_owned() + &deployment("belfry-retry", &json!({})) + &deployment("labelled", &ours);
    tenant.apply(&theirs).await;
    let names = ["serviceaccount/belfry-worker", "deployment/belfry-retry", "deployment/labelled"];
    let mut before = Vec::new();
    for name in names {
        before.push(authored_fields(&tenant, name).await);
    }
    tenant.apply(&webhook(&tenant, "hook", "{}")).await;
    await_name_taken(&tenant, "ServiceAccount belfry-worker").await;
    assert!(
        tenant.get("deployment/belfry-send").await.is_none(),
        "no pod runs under an account that isn't ours"
    );
    for (name, before) in names.iter().zip(&before) {
        assert_eq!(&authored_fields(&tenant, name).await, before, "{name}");
    }
    let delete = |what: &'static str| {
        let (cluster, ns) = (tenant.cluster.clone(), tenant.ns.clone());
        async move { cluster.kubectl(&["-n", &ns, "delete", what]).await }
    };
    delete("serviceaccount/belfry-worker").await;
    await_name_taken(&tenant, "Deployment belfry-retry").await;
    assert_eq!(authored_fields(&tenant, "deployment/belfry-retry").await, before[1]);
    delete("deployment/belfry-retry").await;
    tenant.ready("nch/hook").await;

    delete("nch/hook").await;
    eventually("our children are gone", Duration::from_mins(1), async || {
        match tenant.get("deployment/belfry-send").await {
            None => Ok(()),
            Some(_) => Err("belfry-send".to_owned()),
        }
    })
    .await;
    assert_eq!(authored_fields(&tenant, "deployment/labelled").await, before[2], "labels make nothing ours");
    tenant.leave().await;
}
