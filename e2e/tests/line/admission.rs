//! Admission: `kubectl apply` refuses objects that can't work, and Schedules whose slot is taken.

use e2e::cluster::{condition, eventually, run_command};
use e2e::tenant::Tenant;
use serde_json::Value;
use std::time::Duration;

use crate::support::{rule, webhook};

fn schedule(name: &str, start: &str, more: &str) -> String {
    format!(
        "apiVersion: belfry.dev/v1alpha1
kind: Schedule
metadata: {{name: {name}, namespace: $NS}}
spec:
  title: {name}
  timeZone: Asia/Seoul
  start: \"{start}\"
  duration: 30m
{more}---
"
    )
}

const ROOM: &str = "  resources: [room-1]\n  conflictPolicy: Reject\n";
const WEEKLY: &str = "  recurrence: {rrule: FREQ=WEEKLY}\n";

/// Applies a manifest until it is refused, and returns the refusal. The operator knows stored objects from its watches; until these show
/// an object, the operator can't see a clash with it.
async fn refusal(tenant: &Tenant, manifest: &str) -> String {
    eventually("it is refused", Duration::from_secs(20), async || match tenant.try_apply(manifest).await {
        Err(refusal) => Ok(refusal),
        Ok(applied) => {
            tenant
                .cluster
                .kubectl(&["-n", &tenant.ns, "delete", "sch", "--all", "--wait=true", "-l", "asked"])
                .await;
            Err(applied)
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_can_not_work_is_refused_with_place_and_reason_and_is_not_stored() {
    let tenant = Tenant::new("t-refused").await;
    tenant.apply(&webhook(&tenant, "hook", "{}")).await;
    let any = "{type: Any}";
    let good = rule("fine", "logs", "hook", "record.level == \"ERROR\"", any, "");
    let broken = rule("broken", "logs", "hook", "record.level == (", any, "");
    let untitled = rule("broken", "logs", "hook", "true", any, "").replace("{{ count }}", "{{ count");
    let zone = schedule("broken", "2027-01-04T10:00:00", "").replace("Asia/Seoul", "Asia/Soul");
    let never = schedule(
        "broken",
        "2027-01-04T10:00:00",
        "  recurrence: {rrule: FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30}\n",
    );
    for (manifest, says) in [
        (&broken, &["InvalidMatch", "match: line 1, column"][..]),
        (&untitled, &["InvalidTemplate", "title:"]),
        (&zone, &["InvalidRecurrence", "Asia/Soul", "Europe/Berlin"]),
        (&never, &["InvalidRecurrence", "never happens"]),
    ] {
        let refusal = tenant.try_apply(manifest).await.expect_err("it can't work");
        assert!(refusal.contains("admission.belfry.dev"), "{refusal}");
        for words in says {
            assert!(refusal.contains(words), "it does not say {words:?}: {refusal}");
        }
    }
    let left = tenant.cluster.kubectl(&["-n", &tenant.ns, "get", "alr,sch", "-o", "name"]).await;
    assert_eq!(left.trim(), "");
    tenant.apply(&good).await;
    // A change that can't work is refused, and the stored rule stays as it was.
    let worse = good.replace("record.level ==", "record.level =");
    assert!(tenant.try_apply(&worse).await.expect_err("it can't work").contains("InvalidMatch"));
    let stored = tenant.get("alr/fine").await.expect("the rule");
    assert_eq!(stored["spec"]["match"], "record.level == \"ERROR\"");
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_object_that_was_stored_before_can_be_labelled_and_deleted() {
    let tenant = Tenant::unchecked("t-stored").await;
    tenant.apply(&rule("broken", "logs", "hook", "record.level == (", "{type: Any}", "")).await;
    tenant.condition("alr/broken", "Stalled", "True", "InvalidMatch", 30).await;
    tenant.cluster.kubectl(&["label", "namespace", &tenant.ns, "belfry.dev/admission-"]).await;
    let another = rule("another", "logs", "hook", "record.level == (", "{type: Any}", "");
    eventually("admission is on again", Duration::from_secs(20), async || {
        let applied = tenant.try_apply(&another).await;
        let _ = tenant.cluster.try_kubectl(&["-n", &tenant.ns, "delete", "alr", "another"]).await;
        applied.err().filter(|refusal| refusal.contains("InvalidMatch")).ok_or("it was stored".to_owned())
    })
    .await;
    tenant.cluster.kubectl(&["-n", &tenant.ns, "label", "alr", "broken", "team=payments"]).await;
    tenant.cluster.kubectl(&["-n", &tenant.ns, "delete", "alr", "broken", "--timeout=20s"]).await;
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clash_is_refused_with_when_whose_how_many_and_the_nearest_free_times() {
    let tenant = Tenant::new("t-clash").await;
    tenant.apply(&schedule("standup", "2027-01-04T10:00:00", &format!("{ROOM}{WEEKLY}"))).await;
    tenant.ready("sch/standup").await;
    let asked = schedule(
        "review",
        "2027-01-18T10:10:00",
        &format!("{ROOM}  recurrence: {{rrule: FREQ=WEEKLY;COUNT=3}}\n"),
    )
    .replace("metadata: {", "metadata: {labels: {asked: \"1\"}, ");
    let refusal = refusal(&tenant, &asked).await;
    for words in [
        "Conflicting: 3 occurrences clash",
        "2027-01-18T10:10:00+09:00: schedule standup has room-1",
        "2027-01-25T10:10:00+09:00: schedule standup has room-1",
        "free for all of it, nearest first: 2027-01-18T10:30:00+09:00, 2027-01-18T10:45:00+09:00, 2027-01-18T09:30:00+09:00",
    ] {
        assert!(refusal.contains(words), "it does not say {words:?}: {refusal}");
    }
    // One of the times that the refusal named is really free.
    tenant.apply(&asked.replace("T10:10", "T10:30")).await;
    tenant.ready("sch/review").await;
    // Moving a Schedule into a taken slot is refused like creating one there. Other changes are not refused.
    assert!(tenant.try_apply(&asked).await.expect_err("taken").contains("schedule standup"));
    tenant.apply(&asked.replace("T10:10", "T10:30").replace("title: review", "title: retro")).await;
    // With Warn the Schedule is stored, and kubectl prints the clash as a warning.
    let warned =
        asked.replace("name: review", "name: warned").replace("Reject", "Warn").replace("$NS", &tenant.ns);
    let script = "kubectl apply -f - 2>&1";
    let said = run_command("sh", &["-c", script], &warned).await.expect("it is stored");
    assert!(said.contains("Warning: Conflicting: ") && said.contains("warned created"), "{said}");
    tenant.condition("sch/warned", "Conflicting", "True", "", 30).await;
    tenant.leave().await;
}

/// Admission can't prevent this race: each replica answers before its watches show what the other has let in.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_come_for_one_slot_at_once_one_gets_it_and_the_others_are_told() {
    const MANY: usize = 12;
    let tenant = Tenant::new("t-race").await;
    let manifests: Vec<String> = (0..MANY)
        .map(|n| {
            schedule(&format!("s{n}"), "2027-01-04T10:00:00", &format!("{ROOM}{WEEKLY}"))
                .replace("$NS", &tenant.ns)
        })
        .collect();
    let creating: Vec<_> = manifests
        .into_iter()
        .map(|manifest| {
            tokio::spawn(async move { run_command("kubectl", &["create", "-f", "-"], &manifest).await })
        })
        .collect();
    let mut refused = 0;
    for created in creating {
        if let Err(refusal) = created.await.expect("it ran") {
            assert!(refusal.contains("Conflicting"), "{refusal}");
            refused += 1;
        }
    }
    println!("{refused} of {MANY} were refused at admission");
    eventually("one holds the slot", Duration::from_secs(30), async || {
        let list = tenant.cluster.kubectl(&["-n", &tenant.ns, "get", "sch", "-o", "json"]).await;
        let list: Value = serde_json::from_str(&list).map_err(|error| error.to_string())?;
        let standing = |kind: &str, status: &str| {
            let items = list["items"].as_array().into_iter().flatten();
            items.filter(|item| condition(item, kind).is_some_and(|(is, ..)| is == status)).count()
        };
        let seen = (standing("Ready", "True"), standing("Conflicting", "True"));
        if seen == (1, MANY - refused - 1) { Ok(()) } else { Err(format!("{seen:?}, {refused} refused")) }
    })
    .await;
    tenant.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_api_server_shows_a_certificate_nobody_else_may_call_the_webhook() {
    let tenant = Tenant::new("t-asks").await;
    let system = ["-n", "belfry-system", "get"];
    let flags = ["deploy", "belfry-operator", "-o", "jsonpath={.spec.template.spec.containers[0].args}"];
    let flags = tenant.cluster.kubectl(&[&system[..], &flags].concat()).await;
    // A cluster of the user's own need not use client certificates.
    if std::env::var_os("TESTBED").is_some() {
        assert!(flags.contains("--admission-client-ca-file"), "{flags}");
    }
    if flags.contains("--admission-client-ca-file") {
        let address = ["svc", "belfry-webhook", "-o", "jsonpath={.spec.clusterIP}"];
        let address = tenant.cluster.kubectl(&[&system[..], &address].concat()).await;
        let (_, _, authority) = tenant.cluster.hub().await;
        let roots = reqwest::Certificate::from_pem_bundle(&authority).expect("PEM");
        let name = "belfry-webhook.belfry-system.svc";
        let socket = format!("{}:443", address.trim()).parse().expect("an address");
        let client = reqwest::Client::builder().no_proxy().tls_certs_only(roots).resolve(name, socket);
        let client = client.build().expect("a client");
        let asked = client.post(format!("https://{name}/admit")).body("{}").send().await;
        assert!(asked.is_err(), "{asked:?}");
    }
    // The API server itself may call the webhook.
    let wrong = schedule("wrong", "2027-01-04T10:00:00", "").replace("timeZone: ", "timeZone: Nowhere/");
    let refused = refusal(&tenant, &wrong).await;
    assert!(refused.contains("timeZone"), "{refused}");
    tenant.leave().await;
}
