//! The validating webhook over TLS, on every replica.
//!
//! Never here: what is allowed (that is `controllers::admission`).

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use controllers::admission::Admission;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionReview};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::certificates::Certificates;

/// Two objects of the API server's largest size, and what is around them.
const MAX_BODY: usize = 8 << 20;

/// Serves with the certificates as they are, until the process ends.
pub(crate) async fn serve(
    listen: SocketAddr,
    mut certificates: watch::Receiver<Option<Certificates>>,
    admission: Arc<Admission>,
) -> anyhow::Result<()> {
    let first = certificates.wait_for(Option::is_some).await?.clone().context("no certificates")?;
    let (current, tls) = watch::channel(config(&first)?);
    tokio::spawn(async move {
        while certificates.changed().await.is_ok() {
            let next = certificates.borrow_and_update().as_ref().map(config);
            match next {
                Some(Ok(next)) => drop(current.send_replace(next)),
                Some(Err(error)) => tracing::error!(%error, "the new certificate can't be used"),
                None => {}
            }
        }
    });
    let router = Router::new()
        .route("/admit", post(admit))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(admission);
    let listener = TcpListener::bind(listen).await.with_context(|| format!("can't listen on {listen}"))?;
    serving::serve(listener, Some(tls), router, CancellationToken::new()).await;
    Ok(())
}

fn config(held: &Certificates) -> anyhow::Result<Arc<ServerConfig>> {
    serving::tls(held.certificate.as_bytes(), held.key.as_bytes())
}

async fn admit(
    State(admission): State<Arc<Admission>>,
    review: Bytes,
) -> Result<Json<AdmissionReview<DynamicObject>>, StatusCode> {
    let review: AdmissionReview<DynamicObject> =
        serde_json::from_slice(&review).map_err(|_| StatusCode::BAD_REQUEST)?;
    let request: AdmissionRequest<DynamicObject> = review.try_into().map_err(|_| StatusCode::BAD_REQUEST)?;
    // Comparing long series takes milliseconds of a processor.
    let answer = tokio::task::spawn_blocking(move || admission.review(&request).into_review()).await;
    answer.map(Json).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
