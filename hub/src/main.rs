//! The hub's process: settings, logs, the client of the API server, and signals. Everything else is in the library.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use hub::auth::KubeReviewer;
use hub::{Chance, Config, Hub, Start, logs};
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    if let Err(error) = logs::start(&config) {
        eprintln!("belfry-hub: {error:#}");
        return ExitCode::from(2);
    }
    match run_until_signal(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the hub ends");
            ExitCode::FAILURE
        }
    }
}

async fn run_until_signal(config: Config) -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is already installed"))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let reviewer = Arc::new(KubeReviewer::connect()?);
    let (new_ledger, seed) = random();
    let starting = Hub::start(Start { config, reviewer, new_ledger, chance: Chance::new(seed) });
    let hub = tokio::select! {
        hub = starting => hub?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    hub.stop().await;
    Ok(())
}

#[allow(
    clippy::disallowed_methods,
    reason = "chance enters here: a new ledger's id, the seed of the retries' jitter"
)]
fn random() -> (Uuid, u64) {
    (Uuid::new_v4(), Uuid::new_v4().as_u64_pair().0)
}
