//! Follows the plan of the namespace's channels, checks that the files that they name can be used, and reports both.
//!
//! Missing Secret keys are found here, since the operator can't read Secrets. Meanwhile nothing is claimed for the channel;
//! claiming resumes within 3 s of the kubelet's update. Reports hold no value of a file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use protocol::messages::{ChannelsPlan, ObjectProblem, Report};
use tokio::time::Instant;

use super::reporter::call_briefly;
use super::{Tools, error_chain, retry_pause};
use crate::context::Context;

/// How long a poll waits at the hub for a new plan.
const WAIT: Duration = Duration::from_secs(30);
/// How often the files are checked: while all are there, and while some are missing.
const CHECK: Duration = Duration::from_secs(5);
const CHECK_SOON: Duration = Duration::from_secs(1);
/// How often an unchanged report is repeated; the hub forgets it after a minute.
const REPEAT: Duration = Duration::from_secs(20);

/// Runs until [`Context::stop`], and then says that this instance leaves.
pub(super) async fn watch(context: Context, tools: Arc<Tools>) {
    let (plans, mut newest) = tokio::sync::watch::channel(None);
    let poll = tokio::spawn(poll(context.clone(), plans));
    let mut told: Option<(Instant, Report)> = None;
    loop {
        let check = if tools.channels_lacking_files().is_empty() { CHECK } else { CHECK_SOON };
        tokio::select! {
            () = tokio::time::sleep(check) => {}
            Ok(()) = newest.changed() => {}
            () = context.stop.cancelled() => break,
        }
        let Some(plan) = newest.borrow_and_update().clone() else { continue };
        let report = report(&context, &tools, &plan).await;
        let due = told.as_ref().is_none_or(|(at, last)| *last != report || at.elapsed() >= REPEAT);
        if due {
            match call_briefly(context.hub.report(&context.config.namespace, &report)).await {
                Ok(()) => told = Some((Instant::now(), report)),
                Err(error) => tracing::debug!(error, "can't report, trying again"),
            }
        }
    }
    poll.abort();
    let leaving = Report { leaving: true, ..empty(&context) };
    if let Err(error) = call_briefly(context.hub.report(&context.config.namespace, &leaving)).await {
        tracing::debug!(error, "can't say that this instance leaves");
    }
}

async fn poll(context: Context, plans: tokio::sync::watch::Sender<Option<Arc<ChannelsPlan>>>) {
    let (mut held, mut failures) = (String::new(), 0);
    loop {
        match context.hub.channels_plan(&context.config.namespace, &held, WAIT).await {
            Ok(None) => failures = 0,
            Ok(Some(plan)) => {
                failures = 0;
                held = plan.revision.to_string();
                tracing::info!(channels = plan.channels.len(), revision = held, "channels changed");
                plans.send_replace(Some(Arc::new(plan)));
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(
                        error = error_chain(&error),
                        "can't read the channels' plan, trying again"
                    );
                }
                failures += 1;
                tokio::time::sleep(retry_pause(failures, &error)).await;
            }
        }
    }
}

fn empty(context: &Context) -> Report {
    Report {
        instance: context.config.instance.clone(),
        running: BTreeMap::new(),
        problems: BTreeMap::new(),
        owned: Vec::new(),
        source: None,
        leaving: false,
    }
}

async fn report(context: &Context, tools: &Tools, plan: &ChannelsPlan) -> Report {
    let mut report = empty(context);
    let (mut missing, mut lacking) = (0, BTreeSet::new());
    for (uid, entry) in &plan.channels {
        // A new pod that mounts them is starting, and will report for the channel.
        if !entry.plan.files().into_iter().all(|file| context.config.mounts(file)) {
            lacking.insert(*uid);
            continue;
        }
        report.running.insert(*uid, entry.revision.clone());
        let problems: Vec<ObjectProblem> = tools
            .kit
            .problems(&entry.plan)
            .await
            .into_iter()
            .map(|problem| ObjectProblem { reason: problem.reason.to_owned(), message: problem.message })
            .collect();
        missing += problems.len();
        if !problems.is_empty() {
            lacking.insert(*uid);
            report.problems.insert(*uid, problems);
        }
    }
    tools.metrics.files_missing.set(missing as i64);
    *tools.channels_lacking_files() = lacking;
    for (uid, message) in tools.faults() {
        if plan.channels.contains_key(&uid) {
            let reason = ObjectProblem::TEMPLATE_FAILED.to_owned();
            report.problems.entry(uid).or_default().push(ObjectProblem { reason, message });
        }
    }
    report.problems.values_mut().for_each(|problems| problems.sort());
    report
}
