//! The ledger's database, lost, and its disk, full.

use std::time::Duration;

use e2e::cluster::{Cluster, condition, eventually};
use serde_json::json;

use crate::support::{Line, SYSTEM, now, volume_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_lost_its_database_is_whole_again_by_itself() {
    let line = Line::new("f-lost", None).await;
    line.produce(0, 2).await;
    line.all_told_once_and_in_order(2, 60).await;
    // What was lost can be said of what was shown; counts are shown every 30 s.
    eventually("the count is shown", Duration::from_mins(1), async || {
        let channel = line.tenant.get("nch/hook").await.ok_or("not there")?;
        let shown = &channel["status"]["deliveries"]["delivered"];
        if *shown == 6 { Ok(()) } else { Err(shown.to_string()) }
    })
    .await;
    line.scale(SYSTEM, "deploy/belfry-hub", 0).await;
    let volume = volume_of(&line.tenant.cluster, "belfry-hub").await;
    line.tenant.cluster.bed("exec", &["--", "sh", "-c", &format!("rm -rf {volume}/*")]).await;
    // Until what was lost is said.
    line.tenant.behave("hook", e2e::sink::Behaviour { status: 503, times: 3, ..Default::default() }).await;
    line.scale(SYSTEM, "deploy/belfry-hub", 1).await;
    line.tenant.ready("nch/hook").await;
    line.tenant.ready("alr/event").await;
    eventually("what was lost is said", Duration::from_mins(1), async || {
        let events = line.tenant.cluster.kubectl(&["-n", "f-lost", "get", "events"]).await;
        if events.contains("LedgerLost") { Ok(()) } else { Err(events) }
    })
    .await;
    // The offsets went with the database: the topic is read again from its start, told again under the same ids.
    line.produce(2, 4).await;
    let all = eventually("the new records are told", Duration::from_mins(2), async || {
        let all = line.tenant.received("hook").await;
        let new = all.iter().filter(|one| one.status == 200 && one.title().ends_with(" 3")).count();
        if new == 3 { Ok(all) } else { Err(format!("{} arrived, {new} of the last", all.len())) }
    })
    .await;
    let ids: std::collections::BTreeSet<_> =
        all.iter().map(|one| one.headers["webhook-id"].clone()).collect();
    assert_eq!(ids.len(), 12, "the same ids for what was told before: {}", json!(ids));
    line.tenant.leave().await;
}

/// Starts the hub anew on the volume of another claim.
async fn hub_on(cluster: &Cluster, claim: &str) {
    let patch = json!([{
        "op": "replace", "path": "/spec/template/spec/volumes/0/persistentVolumeClaim/claimName", "value": claim,
    }]);
    let hub = "deploy/belfry-hub";
    cluster.kubectl(&["-n", SYSTEM, "patch", hub, "--type=json", "-p", &patch.to_string()]).await;
    cluster.kubectl(&["-n", SYSTEM, "rollout", "status", hub, "--timeout=90s"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledgers_disk_full_is_said_and_when_there_is_room_all_goes_on() {
    const CLAIM: &str = "hub-on-a-small-disk";
    let cluster = Cluster::from_env();
    cluster
        .apply(&format!(
            "apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {CLAIM}, namespace: {SYSTEM}}}
spec: {{storageClassName: tiny, accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 16Mi}}}}}}
"
        ))
        .await;
    hub_on(&cluster, CLAIM).await;
    let volume = volume_of(&cluster, CLAIM).await;
    let fill = format!("cat /dev/zero >{volume}/filler; test $(df --output=avail {volume} | tail -1) = 0");
    let clear = format!("rm -f {volume}/filler");
    // What an earlier run that failed may have left.
    cluster.bed("exec", &["--", "sh", "-c", &clear]).await;
    let line = Line::new("f-disk", None).await;
    line.produce(0, 5).await;
    line.all_told_once_and_in_order(5, 60).await;
    cluster.bed("exec", &["--", "sh", "-c", &fill]).await;
    let begun = now();
    line.produce(5, 40).await;
    let since = format!("--since-time={begun}");
    for (ns, part) in [(SYSTEM, "hub"), ("f-disk", "consume")] {
        let selector = format!("-lapp.kubernetes.io/component={part}");
        eventually(&format!("the log of {part} says why"), Duration::from_mins(1), async || {
            let log = cluster.try_kubectl(&["-n", ns, "logs", &since, &selector]).await?;
            if log.contains("StorageFull") { Ok(()) } else { Err(log) }
        })
        .await;
    }
    let rule = line.tenant.condition("alr/event", "Ready", "False", "HubUnreachable", 90).await;
    let (_, _, message) = condition(&rule, "Ready").expect("it is there");
    assert!(message.contains("disk is full"), "{message}");
    cluster.bed("exec", &["--", "sh", "-c", &clear]).await;
    line.all_told_once_and_in_order(40, 120).await;
    line.tenant.ready("alr/event").await;
    line.tenant.leave().await;
    hub_on(&cluster, "belfry-hub").await;
    cluster.kubectl(&["-n", SYSTEM, "delete", "pvc", CLAIM, "--wait=false"]).await;
}
