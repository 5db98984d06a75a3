//! What happens when the ledger's database is lost, and when its disk is full.

use std::time::Duration;

use e2e::cluster::{Cluster, condition, eventually};
use serde_json::json;

use crate::support::{Pipeline, SYSTEM, now, volume_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_lost_its_database_is_whole_again_by_itself() {
    let pipeline = Pipeline::new("f-lost", None).await;
    pipeline.produce(0, 2).await;
    pipeline.assert_all_arrive_once_and_in_order(2, 60).await;
    // The operator can only tell that something was lost if a status showed it before. Statuses show counts every 30 s.
    eventually("the count is shown", Duration::from_mins(1), async || {
        let channel = pipeline.tenant.get("nch/hook").await.ok_or("not there")?;
        let shown = &channel["status"]["deliveries"]["delivered"];
        if *shown == 6 { Ok(()) } else { Err(shown.to_string()) }
    })
    .await;
    pipeline.scale(SYSTEM, "deploy/belfry-hub", 0).await;
    let volume = volume_of(&pipeline.tenant.cluster, "belfry-hub").await;
    pipeline.tenant.cluster.bed("exec", &["--", "sh", "-c", &format!("rm -rf {volume}/*")]).await;
    // The receiver fails at first, so that the new hub can say what was lost before it delivers.
    pipeline
        .tenant
        .behave("hook", e2e::sink::Behaviour { status: 503, times: 3, ..Default::default() })
        .await;
    pipeline.scale(SYSTEM, "deploy/belfry-hub", 1).await;
    pipeline.tenant.ready("nch/hook").await;
    pipeline.tenant.ready("alr/event").await;
    eventually("what was lost is said", Duration::from_mins(1), async || {
        let events = pipeline.tenant.cluster.kubectl(&["-n", "f-lost", "get", "events"]).await;
        if events.contains("LedgerLost") { Ok(()) } else { Err(events) }
    })
    .await;
    // The offsets were lost with the database. So the topic is read again from its start, and its notifications come again with the
    // same ids.
    pipeline.produce(2, 4).await;
    let all = eventually("the new records are told", Duration::from_mins(2), async || {
        let all = pipeline.tenant.received("hook").await;
        let new = all.iter().filter(|one| one.status == 200 && one.title().ends_with(" 3")).count();
        if new == 3 { Ok(all) } else { Err(format!("{} arrived, {new} of the last", all.len())) }
    })
    .await;
    let ids: std::collections::BTreeSet<_> =
        all.iter().map(|one| one.headers["webhook-id"].clone()).collect();
    assert_eq!(ids.len(), 12, "the same ids for what was told before: {}", json!(ids));
    pipeline.tenant.leave().await;
}

/// Restarts the hub on the volume of another claim.
async fn hub_on(cluster: &Cluster, claim: &str) {
    let patch = json!([{
        "op": "replace", "path": "/spec/template/spec/volumes/0/persistentVolumeClaim/claimName", "value": claim,
    }]);
    let hub = "deploy/belfry-hub";
    cluster.kubectl(&["-n", SYSTEM, "patch", hub, "--type=json", "-p", &patch.to_string()]).await;
    cluster.kubectl(&["-n", SYSTEM, "rollout", "status", hub, "--timeout=90s"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_ledger_shows_in_logs_and_status_and_everything_goes_on_once_there_is_room() {
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
    // A failed earlier run may have left a full disk.
    cluster.bed("exec", &["--", "sh", "-c", &clear]).await;
    let pipeline = Pipeline::new("f-disk", None).await;
    pipeline.produce(0, 5).await;
    pipeline.assert_all_arrive_once_and_in_order(5, 60).await;
    cluster.bed("exec", &["--", "sh", "-c", &fill]).await;
    let begun = now();
    pipeline.produce(5, 40).await;
    let since = format!("--since-time={begun}");
    for (ns, part) in [(SYSTEM, "hub"), ("f-disk", "consume")] {
        let selector = format!("-lapp.kubernetes.io/component={part}");
        eventually(&format!("the log of {part} says why"), Duration::from_mins(1), async || {
            let log = cluster.try_kubectl(&["-n", ns, "logs", &since, &selector]).await?;
            if log.contains("StorageFull") { Ok(()) } else { Err(log) }
        })
        .await;
    }
    let rule = pipeline.tenant.condition("alr/event", "Ready", "False", "HubUnreachable", 90).await;
    let (_, _, message) = condition(&rule, "Ready").expect("it is there");
    assert!(message.contains("disk is full"), "{message}");
    cluster.bed("exec", &["--", "sh", "-c", &clear]).await;
    pipeline.assert_all_arrive_once_and_in_order(40, 120).await;
    pipeline.tenant.ready("alr/event").await;
    pipeline.tenant.leave().await;
    hub_on(&cluster, "belfry-hub").await;
    cluster.kubectl(&["-n", SYSTEM, "delete", "pvc", CLAIM, "--wait=false"]).await;
}
