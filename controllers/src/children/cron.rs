//! The CronJobs that wake a `remind` pod when a reminder falls due.

use std::collections::BTreeSet;

use calendar::CronLine;
use domain::{CatchUpPolicy, Plan, PlanBody};
use serde_json::json;

use super::pod::{Settings, Worker, template};
use super::{Child, ChildKind, Owner, SCHEDULE, labels, owners};

/// How late a reminder may be under `catchUp.policy: None`; a pod needs a moment to start.
const NONE_WINDOW: i64 = 120;

/// One CronJob for each line.
///
/// - `Forbid`: while the hub is down one pod keeps trying, not one a minute. What fell due meanwhile is not lost: that pod,
///   or the start that Kubernetes makes up for within `startingDeadlineSeconds`, asks the hub what is due.
/// - A failed Job is gone after an hour, so that Argo CD does not call the schedule degraded for ever.
pub fn reminders(settings: &Settings, plan: &Plan, lines: &[CronLine]) -> Vec<Child> {
    let window = match &plan.body {
        PlanBody::Schedule(schedule) if schedule.catch_up.policy != CatchUpPolicy::None => {
            (schedule.catch_up.window.0 / 1_000).max(60)
        }
        _ => NONE_WINDOW,
    };
    let uid = plan.uid.to_string();
    let labels = labels("remind", &[(SCHEDULE, &uid)]);
    let worker = Worker {
        args: vec!["remind".to_owned(), "--schedule".to_owned(), uid.clone()],
        labels: labels.clone(),
        files: &BTreeSet::new(),
        probes: false,
        restart: "Never",
    };
    lines
        .iter()
        .enumerate()
        .map(|(n, line)| {
            let name = format!("belfry-remind-{}-{n}", uid.get(..8).unwrap_or_default());
            let body = json!({
                "apiVersion": "batch/v1",
                "kind": "CronJob",
                "metadata": {
                    "name": name,
                    "namespace": plan.namespace,
                    "labels": labels,
                    "ownerReferences": owners(&[Owner::of(plan)]),
                },
                "spec": {
                    "schedule": line.to_string(),
                    "timeZone": "Etc/UTC",
                    "suspend": plan.suspended,
                    "concurrencyPolicy": "Forbid",
                    "startingDeadlineSeconds": window,
                    "successfulJobsHistoryLimit": 1,
                    "failedJobsHistoryLimit": 1,
                    "jobTemplate": {
                        "metadata": {"labels": labels},
                        "spec": {
                            "backoffLimit": 2,
                            "activeDeadlineSeconds": window + 300,
                            "ttlSecondsAfterFinished": 3_600,
                            "template": template(settings, &worker),
                        },
                    },
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
