//! Bounds: records that nobody controls can't use up the memory of consumer and hub.

use std::time::Duration;

use e2e::bench::process;
use e2e::cluster::{condition, eventually};
use e2e::kafka::{create_topic, flush};
use e2e::tenant::Tenant;
use rdkafka::producer::FutureRecord;
use serde_json::{Value, json};

use crate::support::webhook;

/// How many records come, each with a new group.
const RECORDS: u64 = 200_000;
/// How many groups the rule may have (`maxGroups`).
const GROUPS: u64 = 500;

/// The memory limit of a process's cgroup, and the most memory that it ever used, both in bytes.
fn memory(pid: u32) -> Option<(u64, u64)> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let read = |path: String| std::fs::read_to_string(path).ok()?.trim().parse().ok();
    groups.lines().find_map(|line| {
        let [_, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>().try_into().ok()?;
        match controllers {
            "memory" => {
                let folder = format!("/sys/fs/cgroup/memory{path}");
                let limit = read(format!("{folder}/memory.limit_in_bytes"))?;
                Some((limit, read(format!("{folder}/memory.max_usage_in_bytes"))?))
            }
            "" => {
                let folder = format!("/sys/fs/cgroup{path}");
                Some((read(format!("{folder}/memory.max"))?, read(format!("{folder}/memory.peak"))?))
            }
            _ => None,
        }
    })
}

/// The pods of a namespace: name, restarts, and memory limit of the main container.
async fn pods(tenant: &Tenant, ns: &str, selector: &str) -> Vec<(String, u64, String)> {
    let text = tenant.cluster.kubectl(&["-n", ns, "get", "pods", "-l", selector, "-o", "json"]).await;
    let list: Value = serde_json::from_str(&text).expect("pods");
    let describe = |pod: &Value| {
        (
            pod["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0),
            pod["spec"]["containers"][0]["resources"]["limits"]["memory"]
                .as_str()
                .unwrap_or("none")
                .to_owned(),
        )
    };
    list["items"].as_array().into_iter().flatten().map(describe).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_in_every_record_stays_within_the_memory_limit_and_the_status_says_so() {
    let tenant = Tenant::new("t-bounds").await;
    let (kafka, topic) = (tenant.cluster.kafka.clone(), tenant.topic("logs"));
    create_topic(&kafka, &topic, 2).await;
    let rule = format!(
        "apiVersion: belfry.dev/v1alpha1
kind: AlertRule
metadata: {{name: many, namespace: $NS}}
spec:
  source: {{kafka: {{bootstrapServers: [\"$KAFKA\"], topics: [{topic}], startFrom: Earliest}}}}
  match: record.kind == \"seen\"
  groupBy: {{id: record.id}}
  condition: {{type: Frequency, frequency: {{count: 2, window: 1h}}}}
  maxGroups: {GROUPS}
  title: twice
  notify: [{{channelRef: {{name: hook}}}}]
"
    );
    tenant.apply(&(webhook(&tenant, "hook", "{}") + &rule)).await;
    tenant.ready("alr/many").await;
    let consumers = "app.kubernetes.io/component=consume";
    let before = pods(&tenant, &tenant.ns, consumers).await;
    let hub = pods(&tenant, "belfry-system", "app.kubernetes.io/component=hub").await;
    assert!(before.len() == 1 && hub.len() == 1, "{before:?} {hub:?}");
    let producer = e2e::kafka::producer(&kafka);
    for n in 0..RECORDS {
        let value = json!({"kind": "seen", "id": format!("{n:032x}"), "text": "x".repeat(200)}).to_string();
        let mut record = FutureRecord::<str, [u8]>::to(&topic).payload(value.as_bytes());
        loop {
            match producer.send_result(record) {
                Ok(_) => break,
                Err((_, again)) => record = again,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    flush(&producer);
    let object = eventually("all are counted", Duration::from_mins(5), async || {
        let object = tenant.get("alr/many").await.ok_or("not there")?;
        let status = &object["status"];
        let count = |reason: &str| status["unmatched"][reason].as_u64().unwrap_or(0);
        let gone = count("GroupsEvicted") + count("GroupsFull");
        if status["matched"] == RECORDS && gone == RECORDS - GROUPS {
            Ok(object)
        } else {
            Err(status.to_string())
        }
    })
    .await;
    let (_, _, message) = condition(&object, "Ready").expect("a condition");
    assert!(message.contains("maxGroups"), "{message}");
    let reasons: Vec<&String> = object["status"]["unmatched"].as_object().expect("reasons").keys().collect();
    assert!(reasons.iter().all(|reason| reason.starts_with("Groups")), "{reasons:?}");
    assert_eq!(pods(&tenant, &tenant.ns, consumers).await, before, "no consumer was started anew");
    assert_eq!(pods(&tenant, "belfry-system", "app.kubernetes.io/component=hub").await, hub, "nor the hub");
    if std::env::var_os("TESTBED").is_some() {
        let source = tenant
            .cluster
            .kubectl(&[
                "-n",
                &tenant.ns,
                "get",
                "deploy",
                "-l",
                consumers,
                "-o",
                "jsonpath={.items[0].spec.template.spec.containers[0].args[2]}",
            ])
            .await;
        let pids = process::find(&["consume", source.trim()]);
        let (limit, peak) = pids.into_iter().find_map(memory).expect("the consumer's cgroup");
        println!("the consumer's limit is {limit} bytes, it used at most {peak}");
        assert!(limit <= 256 << 20, "the limit is in force: {limit}");
    }
    tenant.leave().await;
}
