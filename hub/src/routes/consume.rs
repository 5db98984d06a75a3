//! Paths of `worker consume`: its plan, the positions to read from, and its commits.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use ledger::Signal;
use protocol::messages::{Commit, CommitResult, Entry, EntryResult, PlanQuery, Positions, PositionsRequest};

use crate::app::App;
use crate::clock;
use crate::extract::{JsonBody, LARGE, QueryParams};
use crate::metrics::{KindLabel, Metrics, ReasonLabel, seconds_since};
use crate::refusal::Refusal;
use crate::wait::{LONGEST, Wait};

pub(super) async fn plan(
    State(app): State<App>,
    Path((ns, source)): Path<(String, String)>,
    QueryParams(query): QueryParams<PlanQuery>,
) -> Result<Response, Refusal> {
    let wait = Wait::new(query.wait_ms, LONGEST, &app.stop);
    let mut changed = app.ledger.watch(&Signal::Plans(ns.clone()));
    loop {
        changed.borrow_and_update();
        let Some(plan) = app.ledger.source_plan(&ns, &source) else {
            return Err(Refusal::not_found("no rule of this namespace reads this source"));
        };
        if plan.revision.as_str() != query.revision {
            return Ok(Json(plan.as_ref()).into_response());
        }
        if !wait.news(&mut changed, None).await {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
}

pub(super) async fn positions(
    State(app): State<App>,
    Path((ns, source)): Path<(String, String)>,
    body: JsonBody<PositionsRequest>,
) -> Result<Json<Positions>, Refusal> {
    app.faults.write_result(app.ledger.positions(&ns, &source, body.value).await).map(Json)
}

pub(super) async fn commit(
    State(app): State<App>,
    Path((ns, source)): Path<(String, String)>,
    body: JsonBody<Commit, LARGE>,
) -> Result<Json<CommitResult>, Refusal> {
    let tallies: Vec<Tally> = body.value.entries.iter().map(Tally::from_entry).collect();
    let start = std::time::Instant::now();
    let result = app.ledger.commit(&ns, &source, body.value, clock::now()).await;
    app.metrics.call_seconds.get_or_create(&KindLabel { kind: "commit" }).observe(seconds_since(start));
    let result = app.faults.write_result(result)?;
    count(&app.metrics, &tallies, &result.entries);
    Ok(Json(result))
}

/// What an entry counts if it is accepted.
struct Tally {
    read: u64,
    matched: u64,
    dead: u64,
    dropped: Vec<(&'static str, u64)>,
}

impl Tally {
    fn from_entry(entry: &Entry) -> Self {
        let unsigned = |n: i64| u64::try_from(n).unwrap_or(0);
        let counted: i64 = entry.counts.iter().map(|count| count.count.max(0)).fold(0, i64::saturating_add);
        Self {
            read: unsigned(entry.to.saturating_sub(entry.from)),
            matched: unsigned(counted).saturating_add(entry.records.len() as u64),
            dead: entry.dead_letters.len() as u64,
            dropped: entry
                .dropped
                .iter()
                .map(|dropped| (dropped.reason.name(), unsigned(dropped.count)))
                .collect(),
        }
    }
}

fn count(metrics: &Metrics, tallies: &[Tally], results: &[EntryResult]) {
    for (tally, result) in tallies.iter().zip(results) {
        if !result.is_accepted() {
            metrics.entries_refused.inc();
            continue;
        }
        metrics.records_read.inc_by(tally.read);
        metrics.records_matched.inc_by(tally.matched);
        metrics.dead_lettered.inc_by(tally.dead);
        for (reason, n) in &tally.dropped {
            metrics.records_dropped.get_or_create(&ReasonLabel { reason }).inc_by(*n);
        }
    }
}
