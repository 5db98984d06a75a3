//! `belfry-worker consume|send|retry|remind`: does one thing for one namespace.
//!
//! It gets its plan from the hub by long poll, and authenticates with a projected service-account token. It uses neither
//! Kubernetes' API nor a database, and logs no secret.

mod config;
mod consume;
mod context;
mod deliver;
mod health;
mod kafka;
mod remind;

use clap::Parser;
use protocol::messages::Pool;

use config::{Config, WorkerKind};
use context::Context;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    // Fails only if a provider is installed already, which is impossible in the first line.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Config::parse();
    config.start_log();
    // A single thread keeps an idle worker small; heavy work (reading Kafka) has its own thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_stack_size(256 * 1024)
        .build()?;
    let code = runtime.block_on(run_worker(config));
    // Blocking work such as a name lookup must not delay the exit.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    code
}

async fn run_worker(config: Config) -> anyhow::Result<()> {
    let kind = config.kind.clone();
    let context = Context::new(config)?;
    context.stop_on_signals()?;
    let _probes = health::serve(&context)?;
    match kind {
        WorkerKind::Send | WorkerKind::Retry => {
            let pool = if matches!(kind, WorkerKind::Send) { Pool::Send } else { Pool::Retry };
            deliver::run(context, pool).await
        }
        WorkerKind::Consume { source } => consume::run(context, source).await,
        WorkerKind::Remind { schedule } => remind::run(context, schedule).await,
    }
}
