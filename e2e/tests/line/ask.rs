//! The 3 a.m. question, over HTTP: who may ask, and what is answered.

use e2e::tenant::Tenant;
use serde_json::Value;

use crate::support::{annotate, field, webhook};

async fn token(tenant: &Tenant, ns: &str, account: &str, audience: &[&str]) -> String {
    let mut args = vec!["-n", ns, "create", "token", account];
    args.extend(audience);
    tenant.cluster.kubectl(&args).await.trim().to_owned()
}

async fn ask(client: &reqwest::Client, url: &str, token: &str) -> (u16, Value) {
    let answer = client.get(url).bearer_auth(token).send().await.expect("the hub answers");
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

/// The account `person` may read.
const READER: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: $NS}
rules: [{apiGroups: [belfry.dev], resources: [alertrules], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: $NS}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: person, namespace: $NS}]
";

/// Makes the account `person`, lets it read, and waits until it may: its token.
async fn reader(tenant: &Tenant, client: &reqwest::Client, url: &str) -> String {
    tenant.cluster.kubectl(&["-n", &tenant.ns, "create", "serviceaccount", "person"]).await;
    tenant.apply(READER).await;
    let person = token(tenant, &tenant.ns, "person", &["--audience", "belfry-hub"]).await;
    e2e::cluster::eventually("the role is heeded", std::time::Duration::from_secs(30), async || {
        match ask(client, url, &person).await {
            (200, _) => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await;
    person
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_made_again_shows_nothing_of_the_one_before_to_its_new_reader() {
    let tenant = Tenant::new("t-ask-again").await;
    let (client, hub) = tenant.cluster.hub_client().await;
    let url = format!("{hub}/v1/namespaces/{}/notifications", tenant.ns);
    tenant.apply(&webhook(&tenant, "hook", "{}")).await;
    tenant.ready("nch/hook").await;
    annotate(&tenant, "nch/hook", "belfry.dev/send-test=one").await;
    tenant.arrived("hook", 1, 60).await;
    let person = reader(&tenant, &client, &url).await;
    let (_, list) = ask(&client, &url, &person).await;
    let id = list["items"][0]["notification"]["id"].as_str().expect("a notification").to_owned();

    // The same name, another namespace; nothing of ours is in it yet.
    let tenant = Tenant::new("t-ask-again").await;
    let person = reader(&tenant, &client, &url).await;
    let (status, list) = ask(&client, &url, &person).await;
    assert_eq!((status, list["items"].as_array().map(Vec::len)), (200, Some(0)), "{list}");
    assert_eq!(ask(&client, &format!("{url}/{id}"), &person).await.0, 404);
    // And it works as any other.
    tenant.apply(&webhook(&tenant, "hook", "{}")).await;
    tenant.ready("nch/hook").await;
    annotate(&tenant, "nch/hook", "belfry.dev/send-test=two").await;
    tenant.arrived("hook", 1, 60).await;
    let (_, list) = ask(&client, &url, &person).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_of_a_notification_is_told_to_its_namespace_and_to_whom_rbac_allows() {
    let tenant = Tenant::new("t-ask").await;
    tenant.apply(&webhook(&tenant, "hook", "{}")).await;
    tenant.ready("nch/hook").await;
    annotate(&tenant, "nch/hook", "belfry.dev/send-test=one").await;
    let received = tenant.arrived("hook", 1, 60).await;
    field(&tenant, "nch/hook", "/status/lastTest/result", serde_json::json!("Delivered")).await;
    let delivery = &received[0].headers["webhook-id"];
    let (client, hub) = tenant.cluster.hub_client().await;
    let url = format!("{hub}/v1/namespaces/{}/notifications/{delivery}", tenant.ns);

    let worker = token(&tenant, &tenant.ns, "belfry-worker", &["--audience", "belfry-hub"]).await;
    let (status, story) = ask(&client, &url, &worker).await;
    assert_eq!(status, 200, "{story}");
    assert_eq!(story["notification"]["cause"]["type"], "Test");
    assert_eq!(story["deliveries"][0]["state"], "Delivered");
    assert_eq!(story["deliveries"][0]["attempts"][0]["outcome"], "Delivered");

    tenant.cluster.kubectl(&["-n", &tenant.ns, "create", "serviceaccount", "person"]).await;
    let person = token(&tenant, &tenant.ns, "person", &["--audience", "belfry-hub"]).await;
    assert_eq!(ask(&client, &url, &person).await.0, 403, "no role yet");
    let elsewhere = token(&tenant, &tenant.ns, "person", &[]).await;
    let (status, told) = ask(&client, &url, &elsewhere).await;
    assert_eq!(status, 401, "a token for the API server");
    assert!(told["message"].as_str().is_some_and(|told| told.contains("--audience=belfry-hub")), "{told}");
    tenant.apply(READER).await;
    tenant.cluster.kubectl(&["-n", &tenant.ns, "create", "serviceaccount", "other"]).await;
    e2e::cluster::eventually("the role is heeded", std::time::Duration::from_secs(30), async || {
        match ask(&client, &url, &person).await {
            (200, _) => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await;
    let other = token(&tenant, &tenant.ns, "other", &["--audience", "belfry-hub"]).await;
    assert_eq!(ask(&client, &url, &other).await.0, 403);
    assert_eq!(ask(&client, &url, "junk").await.0, 401);
    let foreign = Tenant::new("t-ask-other").await;
    foreign.apply(&webhook(&foreign, "hook", "{}")).await;
    foreign.ready("nch/hook").await;
    let stranger = token(&foreign, &foreign.ns, "belfry-worker", &["--audience", "belfry-hub"]).await;
    assert_eq!(ask(&client, &url, &stranger).await.0, 403, "a worker of another namespace");
    foreign.leave().await;
    tenant.leave().await;
}
