//! Other people's objects are not changed, whatever their names and labels. Our own are taken over, whichever release
//! made them.

use std::sync::Arc;
use std::time::Duration;

use domain::Plan;
use serde_json::{Value, json};

use super::support::{Asked, Bed, condition, ready, rule, schedule, slack, written};
use crate::channels::Channels;
use crate::children::{self, cron_job_name};
use crate::queue::Reconciler as _;
use crate::rules::Rules;
use crate::schedules::Schedules;
use crate::validate;

const NS: &str = "payments";
const ACCOUNTS: &str = "v1/serviceaccounts";
const DEPLOYMENTS: &str = "apps/v1/deployments";
const CRON_JOBS: &str = "batch/v1/cronjobs";
const JOBS: &str = "batch/v1/jobs";

/// Somebody's object, with this in its metadata.
#[allow(clippy::needless_pass_by_value, reason = "json! gives a value")]
fn foreign(kind: &str, name: &str, metadata: Value) -> Value {
    let api = match kind {
        "ServiceAccount" => "v1",
        "Deployment" => "apps/v1",
        _ => "batch/v1",
    };
    let mut object =
        json!({"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": NS}, "mine": true});
    object["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    object
}

fn our_labels(component: &str) -> Value {
    json!({"labels": {
        "app.kubernetes.io/managed-by": "belfry", "app.kubernetes.io/component": component,
        "app.kubernetes.io/name": "belfry-worker",
    }})
}

fn owned_by(uid: &str, component: &str) -> Value {
    let mut metadata = our_labels(component);
    metadata["ownerReferences"] = json!([{"apiVersion": "belfry.dev/v1alpha1", "kind": "NotificationChannel", "name": "slack", "uid": uid}]);
    metadata
}

/// The cache hears of a Deployment that the API server holds.
fn hear(bed: &Bed, object: &Value) {
    bed.context.deployments.insert(serde_json::from_value(object.clone()).unwrap());
}

fn message(status: &Value) -> String {
    condition(status, "Ready")["message"].as_str().unwrap().to_owned()
}

/// Nothing of this path was taken by the API server but reading.
fn assert_untouched(asked: &[Asked], path: &str) {
    let written: Vec<&Asked> = asked
        .iter()
        .filter(|asked| asked.path.ends_with(path) && asked.method != "GET" && asked.code < 300)
        .collect();
    assert!(written.is_empty(), "{written:#?}");
}

fn channels(bed: &Bed) -> Channels {
    bed.context.channels.insert(slack("slack", 1));
    Channels::new(Arc::clone(&bed.context), bed.cluster("test"))
}

fn slack_uid() -> String {
    crate::tests::support::slack("slack", 1).0.unwrap().metadata.uid.unwrap()
}

fn schedule_plan() -> Plan {
    validate::schedule(schedule("standup", 5, &json!({})).0.as_ref().unwrap()).unwrap().plan
}

#[tokio::test]
async fn somebodys_service_account_of_our_name_is_left_alone_and_no_pod_is_made_to_run_under_it() {
    for metadata in [json!({}), our_labels("")] {
        let bed = Bed::new().await;
        let channels = channels(&bed);
        let before = bed.put(ACCOUNTS, foreign("ServiceAccount", "belfry-worker", metadata));
        let again = channels.reconcile(NS.to_owned()).await.unwrap();
        assert_eq!(again, Some(Duration::from_secs(30)), "it looks again whether the name is free");
        let asked = bed.asked();
        assert_untouched(&asked, "serviceaccounts/belfry-worker");
        assert!(asked.iter().all(|asked| !asked.path.contains("/deployments")), "{asked:#?}");
        let status = written(&asked, "slack");
        assert_eq!(ready(&status), "False/NameTaken");
        assert_eq!(condition(&status, "Stalled")["status"], "True");
        assert!(message(&status).contains("ServiceAccount belfry-worker"), "{status:#}");
        assert!(message(&status).contains("delete the object"), "{status:#}");
        assert_eq!(bed.there(ACCOUNTS, "belfry-worker"), Some(before));

        bed.delete(ACCOUNTS, "belfry-worker");
        channels.reconcile(NS.to_owned()).await.unwrap();
        bed.settle();
        assert_eq!(ready(&written(&bed.asked(), "slack")), "False/WorkerUnavailable");
        for name in ["belfry-send", "belfry-retry"] {
            assert!(bed.there(DEPLOYMENTS, name).is_some(), "{name}");
        }
    }
}

#[tokio::test]
async fn somebodys_deployment_of_our_name_is_neither_filled_nor_scaled_nor_deleted() {
    // With our labels it is in the cache, without them it is not.
    for metadata in [json!({}), our_labels("retry")] {
        let bed = Bed::new().await;
        let channels = channels(&bed);
        let before = bed.put(DEPLOYMENTS, foreign("Deployment", "belfry-retry", metadata.clone()));
        if metadata != json!({}) {
            hear(&bed, &before);
        }
        channels.reconcile(NS.to_owned()).await.unwrap();
        bed.settle();
        let asked = bed.asked();
        assert_untouched(&asked, "deployments/belfry-retry");
        let status = written(&asked, "slack");
        assert_eq!(ready(&status), "False/NameTaken");
        assert!(message(&status).contains("Deployment belfry-retry"), "{status:#}");
        assert!(bed.there(DEPLOYMENTS, "belfry-send").is_some(), "its neighbour is made");

        bed.context.channels.remove(NS, "slack");
        channels.reconcile(NS.to_owned()).await.unwrap();
        assert_eq!(bed.there(DEPLOYMENTS, "belfry-retry"), Some(before), "nor when the channel goes");
    }
}

#[tokio::test]
async fn what_carries_only_our_labels_is_not_pruned() {
    let bed = Bed::new().await;
    bed.context.rules.insert(rule("errors", 2, &json!({})));
    bed.context.schedules.insert(schedule("standup", 5, &json!({})));
    let mine = bed.put(DEPLOYMENTS, foreign("Deployment", "reader", our_labels("consume")));
    hear(&bed, &mine);
    let nightly = bed.put(CRON_JOBS, foreign("CronJob", "nightly", our_labels("remind")));
    bed.context.cron_jobs.insert(serde_json::from_value(nightly.clone()).unwrap());
    Rules::new(Arc::clone(&bed.context), bed.cluster("test")).reconcile(NS.to_owned()).await.unwrap();
    Schedules::new(Arc::clone(&bed.context), bed.cluster("test")).reconcile(NS.to_owned()).await.unwrap();
    assert!(bed.asked().iter().all(|asked| asked.method != "DELETE"));
    assert_eq!(bed.there(DEPLOYMENTS, "reader"), Some(mine));
    assert_eq!(bed.there(CRON_JOBS, "nightly"), Some(nightly));
}

#[tokio::test]
async fn somebodys_consumer_of_our_name_is_named_in_the_rule() {
    let bed = Bed::new().await;
    let object = rule("errors", 2, &json!({}));
    let source = validate::source_of(object.0.as_ref().unwrap()).unwrap();
    let name = format!("belfry-consume-{}", source.key().short());
    bed.context.rules.insert(object);
    let before = bed.put(DEPLOYMENTS, foreign("Deployment", &name, json!({})));
    let rules = Rules::new(Arc::clone(&bed.context), bed.cluster("test"));
    rules.reconcile(NS.to_owned()).await.unwrap();
    let status = written(&bed.asked(), "errors");
    assert_eq!(ready(&status), "False/NameTaken");
    assert!(message(&status).contains(&name), "{status:#}");
    assert_eq!(bed.there(DEPLOYMENTS, &name), Some(before));
}

#[tokio::test]
async fn somebodys_cron_job_or_job_of_our_name_is_named_in_the_schedule() {
    let plan = schedule_plan();
    let name = cron_job_name(&plan, 0);
    let bed = Bed::new().await;
    bed.context.schedules.insert(schedule("standup", 5, &json!({})));
    let before = bed.put(CRON_JOBS, foreign("CronJob", &name, json!({})));
    let schedules = Schedules::new(Arc::clone(&bed.context), bed.cluster("test"));
    let again = schedules.reconcile(NS.to_owned()).await.unwrap();
    assert!(again.unwrap() <= Duration::from_secs(30));
    let status = written(&bed.asked(), "standup");
    assert_eq!(ready(&status), "False/NameTaken");
    assert!(message(&status).contains(&format!("CronJob {name}")), "{status:#}");
    assert_eq!(bed.there(CRON_JOBS, &name), Some(before));

    let job = children::late_reminder(&super::support::settings(), &plan, super::support::now());
    let name = job["metadata"]["name"].as_str().unwrap();
    let cluster = bed.cluster("test");
    let owners = bed.context.owners(NS);
    let before = bed.put(JOBS, foreign("Job", name, json!({})));
    let error = cluster.start(&job, &owners).await.unwrap_err();
    assert_eq!(error.reason(), "NameTaken");
    assert_eq!(bed.there(JOBS, name), Some(before));
    bed.delete(JOBS, name);
    cluster.start(&job, &owners).await.unwrap();
    cluster.start(&job, &owners).await.expect("one that we made already is as good");
}

#[tokio::test]
async fn children_of_the_release_before_are_taken_on() {
    let bed = Bed::new().await;
    let channels = channels(&bed);
    let owner = owned_by(&slack_uid(), "send");
    let account = bed.put(ACCOUNTS, foreign("ServiceAccount", "belfry-worker", owner.clone()));
    bed.context.accounts.insert(serde_json::from_value(account.clone()).unwrap());
    let send = bed.put(DEPLOYMENTS, foreign("Deployment", "belfry-send", owner.clone()));
    hear(&bed, &send);
    // Its labels were taken away: it is not in the cache, and ours all the same.
    let mut unlabelled = owner;
    unlabelled.as_object_mut().unwrap().remove("labels");
    let retry = bed.put(DEPLOYMENTS, foreign("Deployment", "belfry-retry", unlabelled));
    channels.reconcile(NS.to_owned()).await.unwrap();
    bed.settle();
    assert_eq!(
        ready(&written(&bed.asked(), "slack")),
        "False/WorkerUnavailable",
        "nothing stands in the way"
    );
    for (plural, name, before) in [
        (ACCOUNTS, "belfry-worker", account),
        (DEPLOYMENTS, "belfry-send", send),
        (DEPLOYMENTS, "belfry-retry", retry),
    ] {
        let after = bed.there(plural, name).unwrap();
        assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"], "{name} is the same object");
        assert!(after["mine"].is_null(), "{name} is as this release wants it");
    }
    channels.reconcile(NS.to_owned()).await.unwrap();
    let writes: Vec<Asked> =
        bed.asked().into_iter().filter(|asked| !asked.path.ends_with("/status")).collect();
    assert!(writes.iter().all(|asked| asked.method == "POST"), "only an event: {writes:#?}");
}

#[tokio::test]
async fn what_is_left_of_a_deleted_channel_is_waited_for_and_then_made_anew() {
    let bed = Bed::new().await;
    let channels = channels(&bed);
    let gone = "0f0e0d0c-0000-4000-8000-000000000000";
    let left = bed.put(DEPLOYMENTS, foreign("Deployment", "belfry-send", owned_by(gone, "send")));
    hear(&bed, &left);
    let error = channels.reconcile(NS.to_owned()).await.unwrap_err();
    assert_eq!(error.reason(), "ApplyFailed", "it comes again soon");
    let asked = bed.asked();
    assert!(asked.iter().all(|asked| asked.method != "DELETE"), "Kubernetes collects it");
    assert_untouched(&asked, "deployments/belfry-send");
    let status = written(&asked, "slack");
    assert_eq!(ready(&status), "False/ApplyFailed");
    assert!(condition(&status, "Stalled").is_null(), "it heals by itself");
    bed.delete(DEPLOYMENTS, "belfry-send");
    bed.context.deployments.remove(NS, "belfry-send");
    channels.reconcile(NS.to_owned()).await.unwrap();
    assert!(bed.there(DEPLOYMENTS, "belfry-send").is_some());
}

#[tokio::test]
async fn an_object_that_took_the_place_of_ours_before_the_cache_heard_of_it_is_left_alone() {
    let bed = Bed::new().await;
    let channels = channels(&bed);
    channels.reconcile(NS.to_owned()).await.unwrap();
    bed.settle();
    bed.asked();
    bed.delete(DEPLOYMENTS, "belfry-send");
    let mine = bed.put(DEPLOYMENTS, foreign("Deployment", "belfry-send", json!({})));
    // Something to write: another Secret to mount.
    let mut channel = slack("slack", 1);
    let spec = &mut channel.0.as_mut().unwrap().spec;
    spec.slack.as_mut().unwrap().webhook_url_secret_ref.name = "other".to_owned();
    bed.context.channels.insert(channel);
    channels.reconcile(NS.to_owned()).await.unwrap();
    let asked = bed.asked();
    assert_eq!(ready(&written(&asked, "slack")), "False/NameTaken");
    assert_eq!(bed.there(DEPLOYMENTS, "belfry-send"), Some(mine));

    // And one that is only gone is made again.
    bed.delete(DEPLOYMENTS, "belfry-send");
    channels.reconcile(NS.to_owned()).await.unwrap();
    assert!(bed.there(DEPLOYMENTS, "belfry-send").is_some());
}

#[tokio::test]
async fn a_child_that_changed_since_the_cache_heard_of_it_is_not_deleted_unseen() {
    let bed = Bed::new().await;
    let other = json!({"source": {"kafka": {"bootstrapServers": ["other:9092"], "topics": ["t"]}}});
    bed.context.rules.insert(rule("errors", 2, &other));
    let rules = Rules::new(Arc::clone(&bed.context), bed.cluster("test"));
    rules.reconcile(NS.to_owned()).await.unwrap();
    bed.settle();
    let name = bed.context.deployments.in_namespace(NS)[0].metadata.name.clone().unwrap();
    let mut orphan = bed.there(DEPLOYMENTS, &name).unwrap();
    bed.delete(DEPLOYMENTS, &name);
    orphan["metadata"]["ownerReferences"] = json!([]);
    let uid = orphan["metadata"]["uid"].clone();
    let mut orphan = bed.put(DEPLOYMENTS, orphan);
    orphan["metadata"]["uid"] = uid;
    bed.asked();
    bed.context.rules.insert(rule("errors", 2, &json!({})));
    rules.reconcile(NS.to_owned()).await.unwrap();
    let asked = bed.asked();
    let deletes: Vec<u16> =
        asked.iter().filter(|asked| asked.method == "DELETE").map(|asked| asked.code).collect();
    assert_eq!(deletes, [409]);
    assert!(bed.there(DEPLOYMENTS, &name).is_some());
}
