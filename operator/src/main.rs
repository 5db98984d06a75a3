//! The operator's process: flags, logs, the lease, health, and an orderly end. The work is in `controllers`.
//!
//! It decides nothing about objects.

mod certificates;
mod config;
mod health;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use certificates::{Certificates, Keeper};
use clap::Parser as _;
use config::Config;
use controllers::admission::Admission;
use controllers::metrics::Metrics;
use controllers::run::{Options, Running};
use health::{Phase, Pulse};
use jiff::SignedDuration;
use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long it may take to release the lease at the end.
const RELEASE: Duration = Duration::from_secs(5);

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    logs(&config.log)?;
    controllers::validate::workers_connect_by(config.guard());
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let result = tokio::select! {
        result = run(config) => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    // `run` was dropped: the watches have ended and the lease is being released by its own task.
    leave().await;
    if let Err(error) = &result {
        tracing::error!(error = %format!("{error:#}"), "the operator stops");
    }
    result
}

/// The lease's task; it releases the lease when its channel is dropped.
static LEASE: std::sync::Mutex<Option<tokio::task::JoinHandle<()>>> = std::sync::Mutex::new(None);

async fn leave() {
    let lease = LEASE.lock().ok().and_then(|mut lease| lease.take());
    if let Some(lease) = lease
        && tokio::time::timeout(RELEASE, lease).await.is_err()
    {
        tracing::warn!("the lease was not given back in time; it runs out by itself");
    }
}

fn logs(filter: &str) -> anyhow::Result<()> {
    // Libraries that see whole requests stay at this level: below it, some of them log headers.
    let quiet = "hyper=info,hyper_util=info,kube=info,kube_client=info,rustls=info,tower=info";
    let filter = tracing_subscriber::EnvFilter::try_new(format!("{filter},{quiet}")).context("--log")?;
    #[allow(clippy::disallowed_methods, reason = "the one place that logs")]
    let writer = || domain::PlainLog { to: std::io::stderr(), json: true };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    builder
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .try_init()
        .map_err(|error| anyhow::anyhow!("logging can't start: {error}"))
}

async fn run(config: Config) -> anyhow::Result<()> {
    let metrics = Metrics::new();
    let (phase, phases) = watch::channel(Phase::NotReady);
    let pulse = Pulse::default();
    let _probes =
        health::serve(config.listen, phases, metrics.clone(), pulse.clone()).context("serve /healthz")?;
    tokio::spawn(pulse.beats());
    work(&config, &metrics, &phase).await
}

/// Runs the watches and the webhook; holds the lease, and reconciles while it does.
async fn work(config: &Config, metrics: &Metrics, phase: &watch::Sender<Phase>) -> anyhow::Result<()> {
    // It runs only in a pod; code for kubeconfig files would make the program a tenth larger.
    let client = kube::Config::incluster().context("find the API server")?;
    let client = Client::try_from(client)?;
    let (certificates, current) = watch::channel(None);
    let mut tasks = JoinSet::new();
    let keeper = Keeper {
        client: client.clone(),
        namespace: config.namespace.clone(),
        secret: config.certificates.clone(),
        authorities: config.authorities.clone(),
        webhook: config.webhook.clone(),
        names: config.certificate_names.clone(),
        metrics: metrics.clone(),
    };
    tasks.spawn(async move {
        keeper.keep(certificates).await;
        anyhow::Ok(())
    });
    let mut trusted = current.clone();
    let first = trusted.wait_for(Option::is_some).await.context("no certificates")?.clone();
    let authorities = first.map(|first| first.authorities).unwrap_or_default();
    let options = options(config, client.clone(), metrics, &authorities)?;
    tasks.spawn(async move {
        let other =
            |held: &Option<Certificates>| held.as_ref().is_some_and(|held| held.authorities != authorities);
        let _ = trusted.wait_for(other).await;
        anyhow::bail!("there is a new authority: begins anew with it")
    });
    let mut running = controllers::run::watch(&options);
    if config.webhook.is_some() {
        let admission = Arc::new(Admission::new(Arc::clone(&running.context), metrics.clone()));
        let (listen, reviews) = (config.admission_listen, config.reviews());
        tasks.spawn(webhook::serve(listen, current, admission, metrics.clone(), reviews));
    }
    let (mut leads, task) = lease(config, client).await?.watch().await;
    if let Ok(mut slot) = LEASE.lock() {
        *slot = Some(tokio::spawn(async move {
            if let Ok(Err(error)) = task.await {
                tracing::warn!(%error, "the lease was not given back; it runs out by itself");
            }
        }));
    }
    // Until the caches are full and all schedules are compared, this replica is not ready.
    running.context.synced().await;
    running.context.conflicts.recheck(now());
    phase.send_replace(Phase::Standby);
    tokio::select! {
        leads = leads.wait_for(|leads| *leads) => { leads.context("the lease's task ended")?; }
        ended = ended(&mut running, &mut tasks) => return ended,
    }
    metrics.leads(true);
    tracing::info!(instance = config.instance, "leads");
    controllers::run::lead(&mut running, &options);
    phase.send_replace(Phase::Leading);
    tokio::select! {
        ended = ended(&mut running, &mut tasks) => ended,
        // What was decided while it led must not continue beside another leader, so the process ends and starts again.
        _ = leads.wait_for(|leads| !*leads) => anyhow::bail!("lost the lease; another replica leads"),
    }
}

/// Waits until a task ends; none should.
async fn ended(running: &mut Running, tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::select! {
        () = running.ended() => anyhow::bail!("a controller ended"),
        Some(task) = tasks.join_next() => {
            task.context("a task broke off")??;
            anyhow::bail!("a task ended")
        }
    }
}

fn options(config: &Config, client: Client, metrics: &Metrics, authorities: &str) -> anyhow::Result<Options> {
    let hub = protocol::Client::new(protocol::ClientConfig {
        url: config.hub_url.clone(),
        ca: Some(authorities.as_bytes().to_vec()),
        server_name: None,
        token: protocol::TokenSource::File(config.hub_token_file.clone()),
    })?;
    Ok(Options {
        client,
        hub,
        settings: config.settings(authorities.to_owned()),
        namespaces: config.namespaces(),
        instance: config.instance.clone(),
        now,
        conflict_horizon: SignedDuration::from_hours(24 * i64::from(config.conflict_horizon_days)),
        metrics: metrics.clone(),
    })
}

/// The lease; it is created if it does not exist. Held for 15 s, renewed every 10 s.
async fn lease(config: &Config, client: Client) -> anyhow::Result<LeaseManager> {
    let mut wait = Duration::from_secs(1);
    loop {
        let mut builder = LeaseManagerBuilder::new(client.clone(), &config.lease_name)
            .with_identity(&config.instance)
            .with_duration(15)
            .with_grace(5);
        if let Some(namespace) = &config.lease_namespace {
            builder = builder.with_namespace(namespace);
        }
        match builder.build().await {
            Ok(lease) => return Ok(lease),
            Err(error) => tracing::warn!(%error, "the lease can't be had; it is tried again"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(15));
    }
}

#[allow(clippy::disallowed_methods, reason = "the process owns the clock")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
