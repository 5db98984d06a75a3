//! Makes attempts of deliveries: `send` the first ones, `retry` the others.

use protocol::messages::Pool;

use crate::context::Context;

/// Runs until [`Context::stop`].
pub async fn run(context: Context, _pool: Pool) -> anyhow::Result<()> {
    context.stop.cancelled().await;
    Ok(())
}
