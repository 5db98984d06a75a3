//! The CronJobs that start a `remind` pod when a reminder falls due, and the Job for a reminder for which none of them
//! did.

use std::collections::BTreeSet;

use calendar::CronLine;
use domain::{CatchUpPolicy, Plan, PlanBody};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::pod::{Settings, Worker, template};
use super::{Child, ChildKind, Owner, SCHEDULE, labels, owners};

/// How late a reminder may be under `catchUp.policy: None`, since a pod needs a moment to start.
const NONE_WINDOW: i64 = 120;

/// The name of a schedule's CronJob. Kubernetes appends a hyphen and ten digits for each of its Jobs.
pub fn cron_job_name(plan: &Plan, number: usize) -> String {
    format!("belfry-remind-{}-{number}", plan.uid.to_string().get(..8).unwrap_or_default())
}

/// One CronJob for each cron line.
///
/// - `Forbid`: while the hub is down one pod keeps trying, not one a minute. What fell due meanwhile is not lost: that pod,
///   or the start that Kubernetes makes up for within `startingDeadlineSeconds`, asks the hub what is due.
/// - A failed Job is gone after an hour, so that Argo CD does not call the schedule degraded for ever.
pub fn reminders(settings: &Settings, plan: &Plan, lines: &[CronLine]) -> Vec<Child> {
    lines
        .iter()
        .enumerate()
        .map(|(n, line)| {
            let name = cron_job_name(plan, n);
            let body = json!({
                "apiVersion": "batch/v1",
                "kind": "CronJob",
                "metadata": metadata(plan, &name),
                "spec": {
                    "schedule": line.to_string(),
                    "timeZone": "Etc/UTC",
                    "suspend": plan.suspended,
                    "concurrencyPolicy": "Forbid",
                    "startingDeadlineSeconds": window(plan),
                    "successfulJobsHistoryLimit": 1,
                    "failedJobsHistoryLimit": 1,
                    "jobTemplate": {"metadata": {"labels": own_labels(plan)}, "spec": job(settings, plan)},
                },
            });
            Child {
                kind: ChildKind::CronJob,
                namespace: plan.namespace.clone(),
                name,
                component: "remind",
                body,
            }
        })
        .collect()
}

/// The Job that starts a pod at once because no CronJob did when a reminder fell due. There is one for each such
/// instant.
pub fn late_reminder(settings: &Settings, plan: &Plan, due: Timestamp) -> Value {
    let uid = plan.uid.to_string();
    let name = format!("belfry-remind-{}-{}", uid.get(..8).unwrap_or_default(), due.as_second() / 60);
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(plan, &name),
        "spec": job(settings, plan),
    })
}

/// For how many seconds after its time a reminder may still be sent.
fn window(plan: &Plan) -> i64 {
    match &plan.body {
        PlanBody::Schedule(schedule) if schedule.catch_up.policy != CatchUpPolicy::None => {
            (schedule.catch_up.window.0 / 1_000).max(60)
        }
        _ => NONE_WINDOW,
    }
}

fn own_labels(plan: &Plan) -> Value {
    labels("remind", &[(SCHEDULE, &plan.uid.to_string())])
}

fn metadata(plan: &Plan, name: &str) -> Value {
    json!({
        "name": name,
        "namespace": plan.namespace,
        "labels": own_labels(plan),
        "ownerReferences": owners(&[Owner::for_plan(plan)]),
    })
}

fn job(settings: &Settings, plan: &Plan) -> Value {
    let worker = Worker {
        args: vec!["remind".to_owned(), "--schedule".to_owned(), plan.uid.to_string()],
        labels: own_labels(plan),
        files: &BTreeSet::new(),
        probes: false,
        restart: "Never",
    };
    json!({
        "backoffLimit": 2,
        "activeDeadlineSeconds": window(plan) + 300,
        "ttlSecondsAfterFinished": 3_600,
        "template": template(settings, &worker),
    })
}
