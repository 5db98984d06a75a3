//! Starts and stops a hub, in `main` and in the process of a test or a benchmark.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ledger::{Database, Error, Ledger, Options};
use serving::{Caps, Probes, Tunnel, serve_with_tunnel};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::app::{App, Shared};
use crate::attempts::Attempts;
use crate::auth::{Accounts, Auth, Reviewer};
use crate::chance::Chance;
use crate::config::Config;
use crate::denials::Denials;
use crate::faults::Faults;
use crate::health::{self, Health};
use crate::limits::Limits;
use crate::loops;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::reading::{self, Reads};
use crate::render::Texts;
use crate::reports::Reports;
use crate::routes;
use crate::sessions::Sessions;
use crate::tls;

/// Name of the database file in the data folder.
const FILE: &str = "belfry.db";
/// How long to wait for another hub to release the database.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
/// How long requests and loops may take to end. With `CLOSE_PATIENCE`, a stop takes less than ten seconds.
const STOP_PATIENCE: Duration = Duration::from_secs(6);
/// How long it may take to tell the other hubs of the stop.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);
/// How long the ledger may take to close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// What a hub starts with.
pub struct Start {
    /// Settings.
    pub config: Config,
    /// Reviews tokens and access.
    pub reviewer: Arc<dyn Reviewer>,
    /// The id that a newly created ledger gets: a random UUID.
    pub new_ledger: Uuid,
    /// Randomness for the jitter of retries.
    pub chance: Chance,
}

/// A running hub.
pub struct Hub {
    /// Address of the API.
    pub api: SocketAddr,
    /// Address of /healthz, /readyz and /metrics.
    pub metrics: SocketAddr,
    app: App,
    health: Arc<Health>,
    tasks: TaskTracker,
    probes: Probes,
}

impl Hub {
    /// Opens the ledger and serves. Probes are answered from the beginning, so that Kubernetes does not take a long
    /// check of a large database for a hang.
    pub async fn start(start: Start) -> anyhow::Result<Self> {
        let Start { config, reviewer, new_ledger, chance } = start;
        let metrics = Arc::new(Metrics::with_namespaces(config.metrics_namespaces));
        let health = Arc::new(Health::default());
        let probes = Probes::start(config.metrics_listen, health::router(health.clone(), metrics.clone()))?;
        let metrics_addr = probes.address();

        let listener = TcpListener::bind(config.listen).await;
        let listener = listener.with_context(|| format!("can't listen on {}", config.listen))?;
        let api = listener.local_addr()?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let tls = match config.tls_cert_file.clone().zip(config.tls_key_file.clone()) {
            Some((certificate, key)) => {
                Some(tls::load_and_watch(certificate, key, stop.clone(), &tasks).await?)
            }
            None => None,
        };
        let texts = Arc::new(Texts::new(metrics.clone()));
        let ledger = open_ledger(&config, new_ledger, texts.clone()).await?;
        health.watch(ledger.writer_steps(), Instant::now());
        tracing::info!(ledger = %ledger.id(), %api, tls = tls.is_some(), metrics = %metrics_addr, "the hub is ready");

        let caps = Caps::new(config.max_connections, config.max_connections_per_peer);
        let accounts = Accounts {
            audience: config.audience,
            operator: config.operator_account,
            worker: config.worker_account,
            people: config.people_account,
            accept_api_server_tokens: config.accept_api_server_tokens,
        };
        let app = App::new(Shared {
            ledger,
            texts,
            auth: Auth::new(accounts, reviewer, metrics.clone()),
            limits: Limits::new(config.max_bytes_per_second),
            reads: Reads::new(),
            reports: Reports::default(),
            sessions: Sessions::new(Instant::now()),
            peers: Peers::default(),
            name: config.name,
            attempts: Attempts::default(),
            faults: Faults::new(metrics.clone()),
            metrics,
            denials: Denials::new(),
            chance,
            stop,
        });
        let file = config.data_dir.join(FILE);
        let settings = loops::Settings {
            keep_delivered: config.keep_delivered,
            keep_dead: config.keep_dead,
            redis_url_file: config.redis_url_file,
            files: match config.database_url_file {
                Some(_) => Vec::new(),
                None => vec![file.with_extension("db-wal"), file],
            },
        };
        loops::start(&app, &health, &settings, &tasks);
        let tunnel = Tunnel { path: protocol::paths::TUNNEL, protocol: protocol::paths::TUNNEL_PROTOCOL };
        let router = routes::router(app.clone());
        tasks.spawn(serve_with_tunnel(listener, tls, caps, router, Some(tunnel), app.stop.clone()));
        tasks.close();
        health.set_ready(true);
        Ok(Self { api, metrics: metrics_addr, app, health, tasks, probes })
    }

    /// The ledger, for tests and benchmarks in the hub's process.
    pub fn ledger(&self) -> &Ledger {
        &self.app.ledger
    }

    /// Stops in less than ten seconds: takes no more work, answers long polls at once, finishes requests under way
    /// and closes the ledger. What was answered is durable; callers without an answer try again.
    pub async fn stop(self) {
        self.health.set_ready(false);
        self.app.stop.cancel();
        if tokio::time::timeout(STOP_PATIENCE, self.tasks.wait()).await.is_err() {
            tracing::warn!("some requests did not end in time");
        }
        // The others need not wait until this hub counts as gone.
        let _ = tokio::time::timeout(LEAVE_PATIENCE, self.app.ledger.leave(&self.app.name)).await;
        let closing = self.app.ledger.clone().close();
        if tokio::time::timeout(CLOSE_PATIENCE, closing).await.is_err() {
            tracing::warn!("the ledger did not close in time; what was answered is durable");
        }
        drop(self.probes);
        tracing::info!("the hub has stopped");
    }
}

/// Opens the ledger. During a roll-out the old hub may still hold the file, and PostgreSQL may start at the same time: then it
/// waits up to `LOCK_PATIENCE`.
async fn open_ledger(config: &Config, new_id: Uuid, texts: Arc<Texts>) -> anyhow::Result<Ledger> {
    let database = if let Some(file) = &config.database_url_file {
        Database::PostgresUrlFile(file.clone())
    } else {
        let folder = &config.data_dir;
        tokio::fs::create_dir_all(folder)
            .await
            .with_context(|| format!("the data folder {} can't be made", folder.display()))?;
        Database::Sqlite(folder.join(FILE))
    };
    let mut options = Options::new(new_id);
    options.max_pending = config.max_pending;
    options.max_groups = config.max_groups;
    options.max_state_bytes = config.max_state_bytes;
    options.max_pending_bytes = config.max_pending_bytes;
    options.max_finished_bytes = config.max_finished_bytes;
    options.max_dead_letter_bytes = config.max_dead_letter_bytes;
    options.readers = reading::CONNECTIONS;
    let began = tokio::time::Instant::now();
    let mut said = false;
    loop {
        match Ledger::open(database.clone(), options.clone(), texts.clone()).await {
            Err(error @ (Error::Locked(_) | Error::Storage(_))) if began.elapsed() < LOCK_PATIENCE => {
                if !said {
                    tracing::warn!(%error, "the database can't be opened yet; it is tried again");
                    said = true;
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            opened => return opened.context("the ledger can't be opened"),
        }
    }
}
