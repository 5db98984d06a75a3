//! Paths for people, who ask: was I told, when, and if not, why not?

use axum::extract::{Path, State};
use axum::{Extension, Json};
use protocol::messages::{
    DeadLetterList, DeadLetterQuery, NotificationList, NotificationQuery, NotificationStory,
};

use crate::app::App;
use crate::extract::{QueryParams, uid};
use crate::reading::Reader;
use crate::refusal::Refusal;

pub(super) async fn notifications(
    State(app): State<App>,
    Path(ns): Path<String>,
    Extension(reader): Extension<Reader>,
    QueryParams(mut query): QueryParams<NotificationQuery>,
) -> Result<Json<NotificationList>, Refusal> {
    query.limit = Some(query.limit.unwrap_or(100).clamp(1, 500));
    let ledger = app.ledger.clone();
    app.read_for(&reader, async move { ledger.notifications(&ns, query).await }).await.map(Json)
}

pub(super) async fn notification(
    State(app): State<App>,
    Path((ns, id)): Path<(String, String)>,
    Extension(reader): Extension<Reader>,
) -> Result<Json<NotificationStory>, Refusal> {
    let (ledger, id) = (app.ledger.clone(), uid(&id)?);
    let story = app.read_for(&reader, async move { ledger.notification(&ns, id).await }).await?;
    story.map(Json).ok_or_else(|| {
        Refusal::not_found("this namespace has no notification or delivery of that id; old ones are removed")
    })
}

pub(super) async fn dead_letters(
    State(app): State<App>,
    Path(ns): Path<String>,
    Extension(reader): Extension<Reader>,
    QueryParams(query): QueryParams<DeadLetterQuery>,
) -> Result<Json<DeadLetterList>, Refusal> {
    let ledger = app.ledger.clone();
    app.read_for(&reader, async move { ledger.dead_letters(&ns, query).await }).await.map(Json)
}
