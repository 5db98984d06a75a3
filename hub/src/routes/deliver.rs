//! Paths of `worker send` and `worker retry`: channels, work under lease, outcomes.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use jiff::Timestamp;
use ledger::{RawClaimed, Signal};
use protocol::messages::{Alive, ClaimRequest, Claimed, Outcomes, PlanQuery};
use tokio::time::Instant;

use crate::app::App;
use crate::clock;
use crate::extract::{JsonBody, QueryParams};
use crate::metrics::{KindLabel, seconds_since};
use crate::refusal::Refusal;
use crate::wait::{LONGEST, Wait};

/// The longest time that a claim may wait for work.
const LONGEST_CLAIM: Duration = Duration::from_secs(30);
/// Attempts of one claim.
const MOST_TASKS: i32 = 500;
/// The shortest and the longest pause before looking again for work that is due but was not handed out, for example
/// because its channel's budget is used up.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

pub(super) async fn plan(
    State(app): State<App>,
    Path(ns): Path<String>,
    QueryParams(query): QueryParams<PlanQuery>,
) -> Response {
    let wait = Wait::new(query.wait_ms, LONGEST, &app.stop);
    let mut changed = app.ledger.watch(&Signal::Plans(ns.clone()));
    loop {
        changed.borrow_and_update();
        let plan = app.ledger.channels_plan(&ns);
        if plan.revision.as_str() != query.revision {
            return Json(plan.as_ref()).into_response();
        }
        if !wait.news(&mut changed, None).await {
            return StatusCode::NO_CONTENT.into_response();
        }
    }
}

pub(super) async fn claim(
    State(app): State<App>,
    Path(ns): Path<String>,
    body: JsonBody<ClaimRequest>,
) -> Result<Json<RawClaimed>, Refusal> {
    let request = body.value;
    if !(1..=MOST_TASKS).contains(&request.max) {
        return Err(Refusal::invalid(format!("max must be 1 to {MOST_TASKS}")));
    }
    let session = request.session;
    let _there = session.map(|session| app.sessions.claims(&ns, request.pool, &request.instance, session));
    let wait = Wait::new(request.wait_ms, LONGEST_CLAIM, &app.stop);
    let mut changed = app.ledger.watch(&Signal::Work(ns.clone(), request.pool));
    let mut pause = PAUSES.0;
    loop {
        changed.borrow_and_update();
        if wait.is_stopping() {
            // Hands out nothing more: its worker could not report the outcome.
            return Ok(Json(Claimed { tasks: vec![], channels: BTreeMap::new() }));
        }
        let start = std::time::Instant::now();
        let claimed = app.faults.write_result(app.ledger.claim(&ns, request.clone(), clock::now()).await)?;
        app.metrics.call_seconds.get_or_create(&KindLabel { kind: "claim" }).observe(seconds_since(start));
        if !claimed.tasks.is_empty() {
            app.attempts.claimed(&claimed, start);
            return Ok(Json(claimed));
        }
        let due = app.faults.read_result(app.ledger.next_claim_at(&ns, &request).await)?;
        let look = due.map(|due| {
            let left = until(due);
            if left > pause {
                pause = PAUSES.0;
                return Instant::now() + left;
            }
            // Due, but not handed out: looking again at once would find the same.
            let look = Instant::now() + pause;
            pause = (pause * 2).min(PAUSES.1);
            look
        });
        if !wait.news(&mut changed, look).await {
            return Ok(Json(claimed));
        }
    }
}

/// How long from now until then; zero if it has passed.
fn until(then: Timestamp) -> Duration {
    let left = then.as_millisecond() - clock::now().as_millisecond();
    Duration::from_millis(u64::try_from(left).unwrap_or(0))
}

pub(super) async fn alive(
    State(app): State<App>,
    Path(ns): Path<String>,
    body: JsonBody<Alive>,
) -> StatusCode {
    let Alive { pool, instance, session } = body.value;
    app.sessions.heard(&ns, pool, &instance, session, std::time::Instant::now());
    StatusCode::NO_CONTENT
}

pub(super) async fn outcomes(
    State(app): State<App>,
    Path(ns): Path<String>,
    body: JsonBody<Outcomes>,
) -> Result<StatusCode, Refusal> {
    let outcomes = body.value.outcomes;
    let start = std::time::Instant::now();
    let chances = outcomes.iter().cloned().map(|outcome| (outcome, app.chance.next())).collect();
    let result = app.ledger.record_outcomes(&ns, chances, clock::now()).await;
    app.metrics.call_seconds.get_or_create(&KindLabel { kind: "outcomes" }).observe(seconds_since(start));
    app.faults.write_result(result)?;
    app.attempts.ended(&outcomes, &app.metrics, std::time::Instant::now());
    Ok(StatusCode::NO_CONTENT)
}
