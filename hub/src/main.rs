//! The hub's process: settings, logs, the client of the API server, and signals. Everything else is in the library.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use hub::auth::KubeReviewer;
use hub::{Chance, Command, Config, Hub, Start, logs};
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    if let Err(error) = logs::start(&config) {
        eprintln!("belfry-hub: {error:#}");
        return ExitCode::from(2);
    }
    if let Some(command) = config.command.clone() {
        return maintain(command).await;
    }
    match run_until_signal(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the hub ends");
            ExitCode::FAILURE
        }
    }
}

/// Copies a ledger, and says on standard output what was copied and how long it took.
async fn maintain(command: Command) -> ExitCode {
    // For connections to PostgreSQL. It fails only if there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let begun = std::time::Instant::now();
    let done = match command {
        Command::Migrate { from, to } => ledger::copy(&from, &to).await.map(|copied| {
            let rows: u64 = copied.iter().map(|(_, rows)| rows).sum();
            let tables: Vec<String> = copied
                .iter()
                .filter(|(_, rows)| *rows > 0)
                .map(|(table, rows)| format!("{table} {rows}"))
                .collect();
            format!("{rows} rows copied and compared: {}", tables.join(", "))
        }),
        Command::Backup { from, to } => {
            ledger::back_up(&from, &to).await.map(|bytes| format!("{bytes} bytes in {}", to.display()))
        }
        Command::Restore { from, to } => {
            ledger::restore(&from, &to).await.map(|()| format!("{} is in place", to.display()))
        }
    };
    match done {
        Ok(said) => {
            println!("belfry-hub: {said}; it took {:.1} s", begun.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("belfry-hub: {error}; nothing was changed");
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
