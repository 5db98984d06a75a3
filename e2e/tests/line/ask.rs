//! What became of a notification, asked over HTTP and with `belfry ask`: who may ask, and what the hub answers.

use e2e::tenant::Tenant;
use serde_json::Value;

use crate::support::{annotate, field, webhook};

/// A token of a service account; `audience` are further flags of `kubectl create token`.
async fn token(tenant: &Tenant, ns: &str, account: &str, audience: &[&str]) -> String {
    let mut args = vec!["-n", ns, "create", "token", account];
    args.extend(audience);
    tenant.cluster.kubectl(&args).await.trim().to_owned()
}

async fn ask(client: &reqwest::Client, url: &str, token: &str) -> (u16, Value) {
    let answer = client.get(url).bearer_auth(token).send().await.expect("the hub answers");
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

/// Lets the account `person` get AlertRules, and with that read notifications.
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

/// Makes the account `person`, lets it read, and waits until the hub allows it. Returns its token.
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

    // Another namespace with the same name. It has no object of our kinds yet.
    let tenant = Tenant::new("t-ask-again").await;
    let person = reader(&tenant, &client, &url).await;
    let (status, list) = ask(&client, &url, &person).await;
    assert_eq!((status, list["items"].as_array().map(Vec::len)), (200, Some(0)), "{list}");
    assert_eq!(ask(&client, &format!("{url}/{id}"), &person).await.0, 404);
    // The new namespace works like any other.
    tenant.apply(&webhook(&tenant, "hook", "{}")).await;
    tenant.ready("nch/hook").await;
    annotate(&tenant, "nch/hook", "belfry.dev/send-test=two").await;
    tenant.arrived("hook", 1, 60).await;
    let (_, list) = ask(&client, &url, &person).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_notification_is_shown_to_its_namespace_and_to_whom_rbac_allows_it() {
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

/// Runs `belfry` as a person does, with a kubeconfig and nothing else. Returns exit code, standard output and standard error.
async fn belfry(kubeconfig: &std::path::Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = tokio::process::Command::new(built("belfry"))
        .args(args)
        .env("KUBECONFIG", kubeconfig)
        .output()
        .await
        .expect("belfry runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The path of a binary of the workspace, which cargo built beside this test.
fn built(name: &str) -> std::path::PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    test.ancestors().nth(2).expect("target/.../debug").join(name)
}

/// Writes the kubeconfig of this run with another user, a service account with its token for the API server, and with the tenant's
/// namespace. Returns the file.
async fn kubeconfig_of(tenant: &Tenant, account: &str, folder: &std::path::Path) -> std::path::PathBuf {
    let token = token(tenant, &tenant.ns, account, &[]).await;
    let text = tenant.cluster.kubectl(&["config", "view", "--raw", "--minify", "-o", "json"]).await;
    let mut config: Value = serde_json::from_str(&text).expect("a kubeconfig");
    config["users"] = serde_json::json!([{"name": account, "user": {"token": token}}]);
    config["contexts"][0]["context"]["user"] = account.into();
    config["contexts"][0]["context"]["namespace"] = tenant.ns.as_str().into();
    let file = folder.join(account);
    std::fs::write(&file, config.to_string()).expect("it is written");
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_kubeconfig_alone_whoever_may_get_alert_rules_asks_the_hub_and_nobody_else() {
    let tenant = Tenant::new("t-ask-kubeconfig").await;
    tenant.apply(&webhook(&tenant, "hook", "{}")).await;
    tenant.ready("nch/hook").await;
    annotate(&tenant, "nch/hook", "belfry.dev/send-test=one").await;
    let received = tenant.arrived("hook", 1, 60).await;
    field(&tenant, "nch/hook", "/status/lastTest/result", serde_json::json!("Delivered")).await;
    let delivery = received[0].headers["webhook-id"].clone();
    for account in ["person", "other"] {
        tenant.cluster.kubectl(&["-n", &tenant.ns, "create", "serviceaccount", account]).await;
    }
    let role = ["create", "role", "reader", "--verb=get", "--resource=alertrules.belfry.dev"];
    tenant.cluster.kubectl(&[&["-n", &tenant.ns][..], &role].concat()).await;
    let person = format!("--serviceaccount={}:person", tenant.ns);
    tenant
        .cluster
        .kubectl(&["-n", &tenant.ns, "create", "rolebinding", "reader", "--role=reader", &person])
        .await;
    let folder = std::env::temp_dir().join(format!("belfry-ask-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let person = kubeconfig_of(&tenant, "person", &folder).await;

    // Without `-n`, the namespace is that of the kubeconfig's context.
    let (code, story, told) =
        e2e::cluster::eventually("the role is heeded", std::time::Duration::from_secs(30), async || {
            match belfry(&person, &["ask", &delivery]).await {
                answer @ (Some(0), ..) => Ok(answer),
                (code, out, told) => Err(format!("{code:?} {out} {told}")),
            }
        })
        .await;
    assert!(
        story.contains("NotificationChannel hook") && story.contains("Delivered"),
        "{code:?} {story} {told}"
    );
    let (code, list, told) = belfry(&person, &["list", "--channel", "hook", "--since", "1h"]).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(list.starts_with("DECIDED") && list.contains("channel/hook"), "{list}");
    let (code, _, told) = belfry(&person, &["list", "-n", "default"]).await;
    assert!(
        code == Some(2) && told.contains("right to get alertrules"),
        "another namespace: {code:?} {told}"
    );
    let other = kubeconfig_of(&tenant, "other", &folder).await;
    let (code, _, told) = belfry(&other, &["list"]).await;
    assert!(
        code == Some(2) && told.contains("right to get alertrules"),
        "without the right: {code:?} {told}"
    );

    // A token made by hand does not get around this: for another namespace, in another's name, for the API server, or for longer.
    let file = person.to_str().expect("UTF-8");
    let as_person = ["--kubeconfig", file, "-n", "belfry-system", "create", "token", "belfry-people"];
    let user = format!("system:serviceaccount:{}:person", tenant.ns);
    let good = format!("--audience=belfry-hub/{}/{user}", tenant.ns);
    tenant.cluster.kubectl(&[&as_person[..], &[good.as_str()]].concat()).await;
    let elsewhere = format!("--audience=belfry-hub/default/{user}");
    let nobody = format!("--audience=belfry-hub/{}/somebody", tenant.ns);
    for wrong in [
        &[elsewhere.as_str()][..],
        &[&nobody],
        &["--audience=belfry-hub"],
        &["--audience=https://kubernetes.default.svc"],
        &[],
        &[&good, &elsewhere],
        &[&good, "--duration=2h"],
    ] {
        let refusal =
            tenant.cluster.try_kubectl(&[&as_person[..], wrong].concat()).await.expect_err("refused");
        assert!(refusal.contains("ValidatingAdmissionPolicy"), "{wrong:?}: {refusal}");
    }
    let _ = std::fs::remove_dir_all(&folder);
    tenant.leave().await;
}
