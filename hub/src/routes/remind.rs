//! Paths of `worker remind`: up to when a schedule's reminders are settled, and those that fell due.

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use protocol::messages::{ReminderState, Reminders};

use crate::app::App;
use crate::clock;
use crate::extract::{JsonBody, uid};
use crate::refusal::Refusal;

pub(super) async fn schedule(
    State(app): State<App>,
    Path((ns, schedule)): Path<(String, String)>,
) -> Result<Json<ReminderState>, Refusal> {
    let state = app.faults.read_result(app.ledger.reminder_state(&ns, uid(&schedule)?).await)?;
    state.map(Json).ok_or_else(|| Refusal::not_found("this namespace has no such schedule"))
}

pub(super) async fn reminders(
    State(app): State<App>,
    Path((ns, schedule)): Path<(String, String)>,
    body: JsonBody<Reminders>,
) -> Result<StatusCode, Refusal> {
    let Reminders { skipped, clock, .. } = body.value;
    let recorded = app.ledger.record_reminders(&ns, uid(&schedule)?, body.value, clock::now()).await;
    if let Some(made) = app.faults.write_result(recorded)? {
        app.metrics.reminded(made, skipped, clock);
    }
    Ok(StatusCode::NO_CONTENT)
}
