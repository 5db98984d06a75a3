//! Paths for people: was the person told, when, and if not, why not?

use axum::Json;
use axum::extract::{Path, State};
use protocol::messages::{
    DeadLetterList, DeadLetterQuery, NotificationList, NotificationQuery, NotificationStory,
};

use crate::extract::{Asked, uid};
use crate::problem::Refusal;
use crate::state::App;

pub(super) async fn notifications(
    State(app): State<App>,
    Path(ns): Path<String>,
    Asked(mut query): Asked<NotificationQuery>,
) -> Result<Json<NotificationList>, Refusal> {
    query.limit = Some(query.limit.unwrap_or(100).clamp(1, 500));
    app.faults.read(app.ledger.notifications(&ns, query).await).map(Json)
}

pub(super) async fn notification(
    State(app): State<App>,
    Path((ns, id)): Path<(String, String)>,
) -> Result<Json<NotificationStory>, Refusal> {
    let story = app.faults.read(app.ledger.notification(&ns, uid(&id)?).await)?;
    story.map(Json).ok_or_else(|| {
        Refusal::not_found("this namespace has no notification or delivery of that id; old ones are removed")
    })
}

pub(super) async fn dead_letters(
    State(app): State<App>,
    Path(ns): Path<String>,
    Asked(query): Asked<DeadLetterQuery>,
) -> Result<Json<DeadLetterList>, Refusal> {
    app.faults.read(app.ledger.dead_letters(&ns, query).await).map(Json)
}
