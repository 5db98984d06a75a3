//! Tokens that the hub must refuse, such as expired ones, junk, and those of another namespace: it answers 401 or 403 and logs the refusal
//! without the token.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use e2e::cluster::eventually;
use e2e::tenant::Tenant;
use serde_json::{Value, json};

use crate::golden;
use crate::support::webhook;

async fn worker_token(tenant: &Tenant, more: &[&str]) -> String {
    let mut args = vec!["-n", &tenant.ns, "create", "token", "belfry-worker"];
    args.extend(more);
    tenant.cluster.kubectl(&args).await.trim().to_owned()
}

/// The token with changed claims, so that its signature is wrong.
fn forged(token: &str, change: impl Fn(&mut Value)) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let claims = URL_SAFE_NO_PAD.decode(parts[1]).expect("base64");
    let mut claims: Value = serde_json::from_slice(&claims).expect("JSON");
    change(&mut claims);
    format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2])
}

/// The token with times 10,000 s earlier, so that it has expired. On the test bed it is signed with the cluster's own key; elsewhere its
/// signature is wrong as well.
async fn expired(tenant: &Tenant, token: &str) -> String {
    let past = forged(token, |claims| {
        for name in ["exp", "iat", "nbf"] {
            claims[name] = json!(claims[name].as_i64().expect("seconds") - 10_000);
        }
    });
    let key = format!("{}/pki/sa.key", tenant.cluster.folder);
    if tenant.cluster.folder.is_empty() || !std::path::Path::new(&key).exists() {
        return past;
    }
    let (signed, _) = past.rsplit_once('.').expect("a JWT");
    let script = "openssl dgst -sha256 -sign \"$0\" | base64 -w0 | tr '+/' '-_' | tr -d '='";
    let signature =
        e2e::cluster::run_command("sh", &["-c", script, &key], signed).await.expect("openssl signs");
    format!("{signed}.{signature}")
}

/// Status and body of the hub's answer.
async fn answer(client: &reqwest::Client, url: &str, token: Option<&str>) -> (u16, String) {
    let mut request = client.get(url).header("belfry-protocol", "1.0");
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.expect("the hub answers");
    (answer.status().as_u16(), answer.text().await.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_valid_here_is_refused_and_logged_without_the_token() {
    let tenant = Tenant::new("t-bad-tokens").await;
    let other = Tenant::new("t-bad-tokens-2").await;
    for tenant in [&tenant, &other] {
        tenant.apply(&webhook(tenant, "hook", "{}")).await;
        tenant.ready("nch/hook").await;
    }
    let audience = ["--audience", "belfry-hub"];
    let worker = worker_token(&tenant, &audience).await;
    let foreign = worker_token(&other, &audience).await;
    let no_audience = worker_token(&tenant, &[]).await;
    tenant.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: bound, namespace: $NS}\n").await;
    let bound = ["--audience", "belfry-hub", "--bound-object-kind", "Secret", "--bound-object-name", "bound"];
    let revoked = worker_token(&tenant, &bound).await;
    tenant.cluster.kubectl(&["-n", &tenant.ns, "delete", "secret", "bound"]).await;
    let expired = expired(&tenant, &worker).await;
    let forged = forged(&foreign, |claims| {
        claims["sub"] = json!(format!("system:serviceaccount:{}:belfry-worker", tenant.ns));
    });

    let (client, base) = tenant.cluster.hub_client().await;
    let plan = format!("{base}/v1/namespaces/{}/channels/plan", tenant.ns);
    let revisions = format!("{base}/v1/operator/revisions");
    assert_eq!(answer(&client, &plan, Some(&worker)).await.0, 200, "the namespace's own worker");
    let mut told = Vec::new();
    for (what, url, token, status) in [
        ("no token", &plan, None, 401),
        ("junk", &plan, Some("junk-f3c1"), 401),
        ("an expired token", &plan, Some(expired.as_str()), 401),
        ("a token with forged claims", &plan, Some(&forged), 401),
        ("a token whose object was deleted", &plan, Some(&revoked), 401),
        ("a worker of another namespace", &plan, Some(&foreign), 403),
        ("a token for another audience", &plan, Some(&no_audience), 401),
        ("a worker on the operator's path", &revisions, Some(&worker), 403),
    ] {
        let (seen, body) = answer(&client, url, token).await;
        assert_eq!(seen, status, "{what}: {body}");
        told.push(format!("{what}\n  {seen} {body}"));
    }
    golden::assert_same("tokens-answers", &told.join("\n"));

    let tokens = [&worker, &foreign, &no_audience, &revoked, &expired, &forged];
    let lines = eventually("the refusals are logged", Duration::from_secs(20), async || {
        let args = ["-n", "belfry-system", "logs", "deploy/belfry-hub", "--tail=-1"];
        let log = tenant.cluster.kubectl(&args).await;
        for token in tokens {
            for part in token.split('.').skip(1) {
                assert!(!log.contains(part), "a part of a token is in the hub's log");
            }
        }
        assert!(!log.contains("junk-f3c1"), "the junk is in the hub's log");
        let lines: Vec<String> = log
            .lines()
            .filter(|line| line.contains("\"refused\""))
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|line| {
                line["path"]
                    .as_str()
                    .is_some_and(|path| path.contains("t-bad-tokens/") || path.contains("/operator/"))
            })
            .filter(|line| {
                line["who"].as_str().is_some_and(|who| who == "unknown" || who.contains("t-bad-tokens"))
            })
            .map(|mut line| {
                for varies in ["timestamp", "peer", "target"] {
                    line.as_object_mut().expect("an object").remove(varies);
                }
                line.to_string()
            })
            .collect();
        if lines.len() >= 8 {
            Ok(lines)
        } else {
            Err(log.lines().rev().take(20).collect::<Vec<_>>().join("\n"))
        }
    })
    .await;
    golden::assert_same("tokens-log", &lines[lines.len() - 8..].join("\n"));
    tenant.leave().await;
    other.leave().await;
}
