//! Paths of `worker remind`: where a schedule's reminders stand, and those that fell due.

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use protocol::messages::{ReminderState, Reminders};

use crate::clock;
use crate::extract::{Sent, uid};
use crate::problem::Refusal;
use crate::state::App;

pub(super) async fn schedule(
    State(app): State<App>,
    Path((ns, schedule)): Path<(String, String)>,
) -> Result<Json<ReminderState>, Refusal> {
    let state = app.faults.read(app.ledger.reminder_state(&ns, uid(&schedule)?).await)?;
    state.map(Json).ok_or_else(|| Refusal::not_found("this namespace has no such schedule"))
}

pub(super) async fn reminders(
    State(app): State<App>,
    Path((ns, schedule)): Path<(String, String)>,
    sent: Sent<Reminders>,
) -> Result<StatusCode, Refusal> {
    let Reminders { skipped, clock, .. } = sent.value;
    let recorded = app.ledger.record_reminders(&ns, uid(&schedule)?, sent.value, clock::now()).await;
    if let Some(made) = app.faults.wrote(recorded)? {
        app.metrics.reminded(made, skipped, clock);
    }
    Ok(StatusCode::NO_CONTENT)
}
