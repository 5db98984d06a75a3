//! The operator's paths: plans in, statuses out. While nothing can be stored, statuses are out of date: then the
//! hub refuses the operator, which reports that in every object's status.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use domain::Plan;
use futures::{StreamExt as _, stream};
use http::StatusCode;
use ledger::Signal;
use protocol::messages::{ChannelRequest, Feed, FeedQuery, LiveObjects, PutPlans, Revisions};

use crate::app::App;
use crate::auth::no_namespace;
use crate::clock;
use crate::extract::{JsonBody, LARGE, QueryParams};
use crate::refusal::Refusal;
use crate::wait::{LONGEST, Wait};

/// How many namespaces are asked about at the same time.
const ASKED: usize = 8;

pub(super) async fn put_plans(
    State(app): State<App>,
    body: JsonBody<PutPlans, LARGE>,
) -> Result<StatusCode, Refusal> {
    namespaces(&app, &body.value.plans).await?;
    app.faults.write_result(app.ledger.put_plans(body.value.plans, clock::now()).await)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Learns the uids of new objects' namespaces before anything of them is stored. So they don't inherit what was
/// recorded for an earlier namespace of the same name.
async fn namespaces(app: &App, plans: &[Plan]) -> Result<(), Refusal> {
    let new = plans.iter().filter(|plan| !app.ledger.has_object(plan.uid));
    let new: BTreeSet<String> = new.map(|plan| plan.namespace.clone()).collect();
    let ask = |ns: String| {
        let app = app.clone();
        async move { (app.auth.namespace(&ns).await, ns) }
    };
    let answers: Vec<_> = stream::iter(new.into_iter().map(ask)).buffer_unordered(ASKED).collect().await;
    for (answer, ns) in answers {
        // Without an answer nothing new is stored: what the ledger holds for this name could be another tenant's.
        let made = answer.map_err(|error| no_namespace(&error))?;
        if let Some(made) = made {
            app.faults.write_result(app.ledger.register_namespace(&ns, made, clock::now()).await)?;
        }
    }
    Ok(())
}

pub(super) async fn revisions(State(app): State<App>) -> Result<Json<Revisions>, Refusal> {
    app.faults.failing()?;
    Ok(Json(app.ledger.revisions()))
}

pub(super) async fn put_live(
    State(app): State<App>,
    body: JsonBody<LiveObjects, LARGE>,
) -> Result<StatusCode, Refusal> {
    app.faults.write_result(app.ledger.put_live(body.value.uids, clock::now()).await)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn feed(
    State(app): State<App>,
    QueryParams(query): QueryParams<FeedQuery>,
) -> Result<Json<Feed>, Refusal> {
    let wait = Wait::new(query.wait_ms, LONGEST, &app.stop);
    let mut changed = app.ledger.watch(&Signal::Statuses);
    loop {
        changed.borrow_and_update();
        app.faults.failing()?;
        let feed = app.faults.read_result(app.ledger.feed(query.after).await)?;
        if !feed.objects.is_empty() || !wait.news(&mut changed, None).await {
            app.metrics.feed_version.set(feed.version);
            return Ok(Json(feed));
        }
    }
}

pub(super) async fn request(
    State(app): State<App>,
    body: JsonBody<ChannelRequest>,
) -> Result<StatusCode, Refusal> {
    app.faults.write_result(app.ledger.handle_request(body.value, clock::now()).await)?;
    Ok(StatusCode::NO_CONTENT)
}
