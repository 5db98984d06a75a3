//! What happens when the certificates are lost.

use std::time::Duration;

use e2e::cluster::{eventually, run_command};

use crate::support::{Pipeline, SYSTEM};

#[tokio::test(flavor = "multi_thread")]
async fn lost_certificates_are_made_again_and_everything_goes_on() {
    let pipeline = Pipeline::new("f-certificates", None).await;
    let cluster = &pipeline.tenant.cluster;
    pipeline.produce(0, 2).await;
    pipeline.assert_all_arrive_once_and_in_order(2, 60).await;
    let (_, _, before) = cluster.hub().await;
    let emptied = r#"[{"op": "remove", "path": "/data"}]"#;
    cluster
        .kubectl(&["-n", SYSTEM, "patch", "secret", "belfry-certificates", "--type=json", "-p", emptied])
        .await;
    eventually("another authority", Duration::from_mins(2), async || {
        let (_, _, after) = cluster.hub().await;
        if before == after { Err("still the same".to_owned()) } else { Ok(()) }
    })
    .await;
    pipeline.produce(2, 4).await;
    // The kubelet takes a minute or two to bring the new certificate to the hub. Until then no new client trusts the hub.
    let (client, hub) = cluster.hub_client().await;
    eventually("the hub, trusted", Duration::from_mins(3), async || {
        let answer = client.get(format!("{hub}/v1/operator/revisions")).send().await;
        let status = answer.map_err(|error| format!("{error:?}"))?.status();
        if status == 401 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    pipeline.produce(4, 6).await;
    pipeline.assert_all_arrive_once_and_in_order(6, 120).await;
    // The API server trusts the webhook again. Until it does, it accepts what it can't ask about; the dry run stores nothing.
    eventually("a rule that can't work is refused", Duration::from_mins(1), async || {
        let rule = "
apiVersion: belfry.dev/v1alpha1
kind: AlertRule
metadata: {name: bad, namespace: f-certificates}
spec:
  source:
    kafka: {bootstrapServers: [\"kafka:9092\"], topics: [none], format: Json}
  match: has(record.key
  condition: {type: Any}
  severity: info
  title: none
  notify: [{channelRef: {name: hook}}]
";
        match run_command("kubectl", &["apply", "--dry-run=server", "-f", "-"], rule).await {
            Err(error) if error.contains("admission.belfry.dev") => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await;
    pipeline.tenant.leave().await;
}
