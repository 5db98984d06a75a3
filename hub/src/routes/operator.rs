//! The operator's paths: plans in, statuses out. While nothing can be stored, what statuses tell is out of date: the operator
//! is refused, and says so of every object.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use ledger::Topic;
use protocol::messages::{ChannelRequest, Feed, FeedQuery, LiveObjects, PutPlans, Revisions};

use crate::clock;
use crate::extract::{Asked, LARGE, Sent};
use crate::problem::Refusal;
use crate::state::App;
use crate::wait::{LONGEST, Wait};

pub(super) async fn put_plans(
    State(app): State<App>,
    sent: Sent<PutPlans, LARGE>,
) -> Result<StatusCode, Refusal> {
    app.faults.wrote(app.ledger.put_plans(sent.value.plans, clock::now()).await)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn revisions(State(app): State<App>) -> Result<Json<Revisions>, Refusal> {
    app.faults.failing()?;
    Ok(Json(app.ledger.revisions()))
}

pub(super) async fn put_live(
    State(app): State<App>,
    sent: Sent<LiveObjects, LARGE>,
) -> Result<StatusCode, Refusal> {
    app.faults.wrote(app.ledger.put_live(sent.value.uids, clock::now()).await)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn feed(
    State(app): State<App>,
    Asked(query): Asked<FeedQuery>,
) -> Result<Json<Feed>, Refusal> {
    let wait = Wait::new(query.wait_ms, LONGEST, &app.stop);
    let mut changed = app.ledger.watch(&Topic::Statuses);
    loop {
        changed.borrow_and_update();
        app.faults.failing()?;
        let feed = app.faults.read(app.ledger.feed(query.after).await)?;
        if !feed.objects.is_empty() || !wait.news(&mut changed, None).await {
            app.metrics.feed_version.set(feed.version);
            return Ok(Json(feed));
        }
    }
}

pub(super) async fn request(
    State(app): State<App>,
    sent: Sent<ChannelRequest>,
) -> Result<StatusCode, Refusal> {
    app.faults.wrote(app.ledger.request(sent.value, clock::now()).await)?;
    Ok(StatusCode::NO_CONTENT)
}
