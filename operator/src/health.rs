//! `/healthz` says that the process is alive, `/readyz` that it can work, `/metrics` what it did.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use controllers::metrics::Metrics;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How far the process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not yet, or not any more.
    NotReady,
    /// Another replica leads; this one would take over.
    Standby,
    /// Leads, with full caches.
    Leading,
}

/// Serves until the process ends.
pub(crate) async fn serve(
    listen: SocketAddr,
    phase: watch::Receiver<Phase>,
    metrics: Metrics,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let phase = Arc::new(phase);
    let router = Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(move || std::future::ready(ready(*phase.borrow()))))
        .route("/metrics", get(move || std::future::ready(exposed(&metrics))));
    serving::serve(listener, None, router, CancellationToken::new()).await;
    Ok(())
}

fn ready(phase: Phase) -> impl IntoResponse {
    match phase {
        Phase::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        Phase::Standby => (StatusCode::OK, "standby\n"),
        Phase::Leading => (StatusCode::OK, "leading\n"),
    }
}

fn exposed(metrics: &Metrics) -> impl IntoResponse + use<> {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.text())
}
