//! Tells the hub that this process is alive while it has tasks that are not reported. If a process is silent
//! and has a successor, the hub takes it for gone and ends its attempts as unknown. Without such tasks there is nothing
//! to tell.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use protocol::messages::{Alive, Pool};
use tokio::time::{MissedTickBehavior, interval};

use super::Tools;
use super::reporter::call_briefly;
use crate::context::Context;

/// How often the hub is told. It takes a silent worker for gone after 10 s.
const PACE: Duration = Duration::from_secs(2);

/// Runs until it is aborted.
pub(super) async fn say(context: Context, pool: Pool, tools: Arc<Tools>) {
    let alive = Alive { pool, instance: context.config.instance.clone(), session: tools.session };
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if tools.unreported.load(Ordering::Relaxed) == 0 {
            continue;
        }
        if let Err(error) = call_briefly(context.hub.alive(&context.config.namespace, &alive)).await {
            tracing::debug!(error, "can't say that this worker is there, trying again");
        }
    }
}
