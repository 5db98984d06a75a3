//! What all kinds of worker share: flags, the hub's client, health, metrics and the signal to stop.

use std::sync::Arc;

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use protocol::{Client, ClientConfig, TokenSource};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::health::Health;

/// What all kinds of worker share. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The worker's flags.
    pub config: Arc<Config>,
    /// The hub's client.
    pub hub: Client,
    /// Liveness, readiness, and the registry of metrics.
    pub health: Health,
    /// Cancelled by SIGTERM or SIGINT: take no more work, finish or give back what was taken, and end.
    pub stop: CancellationToken,
}

impl Context {
    /// Reads the hub's CA file, if a flag names one, and makes the hub's client.
    pub fn new(config: Config) -> anyhow::Result<Self> {
        let ca = config
            .hub_ca_file
            .as_ref()
            .map(|path| std::fs::read(path).with_context(|| format!("can't read {}", path.display())))
            .transpose()?;
        let hub = Client::new(ClientConfig {
            url: config.hub_url.clone(),
            ca,
            server_name: None,
            token: TokenSource::File(config.token_file.clone()),
        })?;
        Ok(Self {
            config: Arc::new(config),
            hub,
            health: Health::new(Registry::with_prefix("belfry_worker")),
            stop: CancellationToken::new(),
        })
    }

    /// The first SIGTERM or SIGINT cancels [`Self::stop`].
    pub fn stop_on_signals(&self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("asked to stop");
            stop.cancel();
        });
        Ok(())
    }
}
