//! The path of all workers: which revisions an instance runs, and what it can't do.

use std::collections::BTreeSet;
use std::time::Instant;

use axum::extract::{Path, State};
use http::StatusCode;
use protocol::messages::Report;
use uuid::Uuid;

use crate::app::App;
use crate::extract::JsonBody;
use crate::refusal::Refusal;

/// Schedules that one report may speak of; a `remind` pod has one.
const SCHEDULES: usize = 8;

pub(super) async fn put(
    State(app): State<App>,
    Path(ns): Path<String>,
    body: JsonBody<Report>,
) -> Result<StatusCode, Refusal> {
    let mut report = body.value;
    let objects = objects(&app, &ns, &report).await?;
    report.running.retain(|uid, _| objects.contains(uid));
    report.problems.retain(|uid, _| objects.contains(uid));
    app.reports.put(&ns, report, Instant::now())?;
    app.metrics.reports.inc();
    Ok(StatusCode::NO_CONTENT)
}

/// The objects of the report that belong to the worker's namespace. A worker can't influence the status of others.
async fn objects(app: &App, ns: &str, report: &Report) -> Result<BTreeSet<Uuid>, Refusal> {
    let named: BTreeSet<Uuid> = report.running.keys().chain(report.problems.keys()).copied().collect();
    let channels = app.ledger.channels_plan(ns);
    let source = report.source.as_ref().and_then(|source| app.ledger.source_plan(ns, source.as_str()));
    let (mut ours, others): (BTreeSet<Uuid>, BTreeSet<Uuid>) = named.into_iter().partition(|uid| {
        channels.channels.contains_key(uid)
            || source.as_ref().is_some_and(|source| source.rules.contains_key(uid))
    });
    for uid in others.into_iter().take(SCHEDULES) {
        if app.faults.read_result(app.ledger.reminder_state(ns, uid).await)?.is_some() {
            ours.insert(uid);
        }
    }
    Ok(ours)
}
