//! Rooms that a namespace shares with others: who may book them, capacity, and who keeps the slot when many book at once.

use std::time::Duration;

use e2e::cluster::{condition, eventually, run_command};
use e2e::tenant::Tenant;
use serde_json::Value;

/// A BookableResource `hall` in the tenant's namespace; `spec` is YAML in flow style.
fn hall(spec: &str) -> String {
    format!(
        "apiVersion: belfry.dev/v1alpha1\nkind: BookableResource\nmetadata: {{name: hall, namespace: $NS}}\nspec: {spec}\n---\n"
    )
}

/// A weekly Schedule that books the hall of another namespace.
fn guest(name: &str, namespace: &str, owner: &Tenant, start: &str) -> String {
    format!(
        "apiVersion: belfry.dev/v1alpha1
kind: Schedule
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  title: {name} of {namespace}
  timeZone: Asia/Seoul
  start: \"{start}\"
  duration: 30m
  recurrence: {{rrule: FREQ=WEEKLY}}
  sharedResources: [{{namespace: {}, name: hall}}]
  conflictPolicy: Reject
---
",
        owner.ns
    )
}

const START: &str = "2027-01-04T10:00:00";

/// Applies a manifest until it is accepted. Webhook and controllers learn of `sharedWith` through watches; until then they refuse a guest.
async fn apply_until_accepted(tenant: &Tenant, manifest: &str) {
    eventually("it is let in", Duration::from_secs(20), async || tenant.try_apply(manifest).await.map(drop))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_booked_only_by_namespaces_that_its_owner_lets_in_and_who_has_it_is_not_named() {
    let owner = Tenant::new("t-lends").await;
    let (one, other) = (Tenant::new("t-guest-a").await, Tenant::new("t-guest-b").await);
    let secret = guest("takeover", &one.ns, &owner, START);
    let absent = one.try_apply(&secret).await.expect_err("there is no hall");
    assert!(absent.contains("RefNotPermitted"), "{absent}");
    owner.apply(&hall("{sharedWith: [t-guest-b]}")).await;
    let second = guest("second", &other.ns, &owner, "2027-01-04T10:10:00");
    apply_until_accepted(&other, &second).await;
    other.ready("sch/second").await;
    owner
        .cluster
        .kubectl(&["-n", &owner.ns, "wait", "--for=condition=Ready", "bkr/hall", "--timeout=30s"])
        .await;
    eventually("the hall shows when it is taken, and not by whom", Duration::from_secs(90), async || {
        let hall = owner.get("bkr/hall").await.ok_or("not there")?;
        let next = &hall["status"]["next"][0];
        let start = next["start"].as_str().unwrap_or_default();
        let seen = start.ends_with("T01:10:00Z") && next["schedule"].is_null();
        if seen { Ok(()) } else { Err(hall["status"].to_string()) }
    })
    .await;
    assert_eq!(
        one.try_apply(&secret).await.expect_err("it is not shared"),
        absent,
        "there or not is not told"
    );

    other.cluster.kubectl(&["-n", &other.ns, "delete", "sch", "second"]).await;
    owner.apply(&hall("{sharedWith: [t-guest-a, t-guest-b]}")).await;
    apply_until_accepted(&one, &secret).await;
    one.ready("sch/takeover").await;
    let refusal = eventually("it is refused", Duration::from_secs(20), async || {
        let applied = other.try_apply(&second).await;
        if applied.is_ok() {
            other.cluster.kubectl(&["-n", &other.ns, "delete", "sch", "second"]).await;
        }
        applied.err().filter(|refusal| refusal.contains("clash")).ok_or("not because of a clash".to_owned())
    })
    .await;
    assert!(refusal.contains("a schedule of another namespace has t-lends/hall"), "{refusal}");
    assert!(!refusal.contains("takeover"), "{refusal}");

    // A larger hall has room for both. When it gets smaller, kubectl warns its owner, and the Schedule that loses its slot says so.
    owner.apply(&hall("{sharedWith: [t-guest-a, t-guest-b], capacity: 2}")).await;
    apply_until_accepted(&other, &second).await;
    other.ready("sch/second").await;
    let smaller = hall("{sharedWith: [t-guest-a, t-guest-b]}").replace("$NS", &owner.ns);
    let said = run_command("sh", &["-c", "kubectl apply -f - 2>&1"], &smaller).await.expect("it is stored");
    assert!(said.contains("Warning: capacity 1 is less than what is booked: 1 schedule that"), "{said}");
    let object = other.condition("sch/second", "Ready", "False", "Conflicting", 30).await;
    let shown = object["status"].to_string();
    assert!(shown.contains("a schedule of another namespace") && !shown.contains("takeover"), "{shown}");
    let events = other.cluster.kubectl(&["-n", &other.ns, "get", "events", "-o", "json"]).await;
    assert!(!events.contains("takeover"), "{events}");

    // When a namespace is taken out of `sharedWith`, the hall is free for others. When it is put back, its Schedule has its slot again.
    owner.apply(&hall("{sharedWith: [t-guest-b]}")).await;
    one.condition("sch/takeover", "Ready", "False", "RefNotPermitted", 30).await;
    other.ready("sch/second").await;
    owner.apply(&hall("{sharedWith: [\"*\"]}")).await;
    one.ready("sch/takeover").await;
    other.condition("sch/second", "Ready", "False", "Conflicting", 30).await;
    owner.cluster.kubectl(&["-n", &owner.ns, "delete", "bkr", "hall"]).await;
    one.condition("sch/takeover", "Ready", "False", "RefNotPermitted", 30).await;
    for tenant in [one, other, owner] {
        tenant.leave().await;
    }
}

/// The Schedules of these namespaces that are Ready, as `namespace/name`, and how many others are `Conflicting`. An error if one is neither.
async fn standing(spaces: &[Tenant]) -> Result<(Vec<String>, usize), String> {
    let (mut ready, mut giving_way) = (Vec::new(), 0);
    for tenant in spaces {
        let list = tenant.cluster.kubectl(&["-n", &tenant.ns, "get", "sch", "-o", "json"]).await;
        let list: Value = serde_json::from_str(&list).map_err(|error| error.to_string())?;
        for item in list["items"].as_array().into_iter().flatten() {
            match condition(item, "Ready") {
                Some((status, ..)) if status == "True" => {
                    ready.push(format!(
                        "{}/{}",
                        tenant.ns,
                        item["metadata"]["name"].as_str().unwrap_or_default()
                    ));
                }
                Some((_, reason, _)) if reason == "Conflicting" => giving_way += 1,
                other => return Err(format!("{other:?}")),
            }
        }
    }
    ready.sort_unstable();
    Ok((ready, giving_way))
}

/// Waits until as many of the `stored` Schedules are Ready as there is room for, and all others are `Conflicting`. Returns the Ready ones.
async fn settled(spaces: &[Tenant], room: usize, stored: usize) -> Vec<String> {
    eventually(&format!("{room} of {stored} hold the hall"), Duration::from_mins(1), async || {
        let (ready, giving_way) = standing(spaces).await?;
        let seen = (ready.len(), giving_way);
        if seen == (room.min(stored), stored.saturating_sub(room)) {
            Ok(ready)
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await
}

/// Many Schedules ask for the same slot at once. Two replicas answer the API server, each from its own caches, and the leader decides which
/// of the stored ones keep the slot. When one of these is deleted, the next one gets its room.
async fn race(name: &str, capacity: usize, spaces: [Tenant; 2], owner: Tenant) {
    const MANY: usize = 8;
    let cluster = owner.cluster.clone();
    let manifests: Vec<String> =
        (0..MANY).map(|n| guest(&format!("{name}{n}"), &spaces[n % 2].ns, &owner, START)).collect();
    let creating: Vec<_> = manifests
        .into_iter()
        .map(|manifest| {
            tokio::spawn(async move { run_command("kubectl", &["create", "-f", "-"], &manifest).await })
        })
        .collect();
    let mut stored = 0;
    for created in creating {
        match created.await.expect("it ran") {
            Ok(_) => stored += 1,
            Err(refusal) => assert!(refusal.contains("Conflicting"), "{refusal}"),
        }
    }
    println!("{name}: {} of {MANY} were refused at admission", MANY - stored);
    let mut holders = settled(&spaces, capacity, stored).await;
    // Each deleted Schedule makes room for the next one, until no Schedule waits.
    while stored > capacity {
        let (namespace, gone) = holders[0].split_once('/').expect("namespace/name");
        cluster.kubectl(&["-n", namespace, "delete", "sch", gone]).await;
        stored -= 1;
        let next = settled(&spaces, capacity, stored).await;
        assert!(holders[1..].iter().all(|holder| next.contains(holder)), "{holders:?} then {next:?}");
        holders = next;
    }
    for tenant in spaces.into_iter().chain([owner]) {
        tenant.leave().await;
    }
}

/// Scales the operator to two replicas. They stay, because scaling down would disturb the tests that run beside this one.
async fn two_replicas(tenant: &Tenant) {
    let operator = async |args: &[&str]| {
        tenant.cluster.kubectl(&[&["-n", "belfry-system"], args].concat()).await;
    };
    operator(&["scale", "deploy/belfry-operator", "--replicas=2"]).await;
    operator(&["rollout", "status", "deploy/belfry-operator", "--timeout=90s"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_come_at_once_through_two_replicas_as_many_as_there_is_room_for_stay_and_the_others_heal()
 {
    let owner = Tenant::new("t-two").await;
    two_replicas(&owner).await;
    // One slot, through both replicas' webhooks.
    owner.apply(&hall("{sharedWith: [t-two-a, t-two-b]}")).await;
    let spaces = [Tenant::new("t-two-a").await, Tenant::new("t-two-b").await];
    apply_until_accepted(&spaces[0], &guest("first", &spaces[0].ns, &owner, "2027-01-04T20:00:00")).await;
    spaces[0].cluster.kubectl(&["-n", &spaces[0].ns, "delete", "sch", "first"]).await;
    race("slot", 1, spaces, owner).await;
    // The worst case is that neither replica sees what the other has let in. It is made by not asking the webhook at all.
    let owner = Tenant::unchecked("t-two-c").await;
    owner.apply(&hall("{sharedWith: [\"*\"], capacity: 3}")).await;
    let spaces = [Tenant::unchecked("t-two-d").await, Tenant::unchecked("t-two-e").await];
    race("blind", 3, spaces, owner).await;
}
