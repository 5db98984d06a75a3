//! The validating webhook over TLS, on every replica.
//!
//! Never here: what is allowed (that is `controllers::admission`).

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use axum_server::tls_rustls::RustlsConfig;
use controllers::admission::Admission;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionReview};
use tokio::sync::watch;

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
    let tls = RustlsConfig::from_pem(first.certificate.into_bytes(), first.key.into_bytes()).await?;
    let reloading = tls.clone();
    tokio::spawn(async move {
        while certificates.changed().await.is_ok() {
            let Some(next) = certificates.borrow_and_update().clone() else { continue };
            if let Err(error) =
                reloading.reload_from_pem(next.certificate.into_bytes(), next.key.into_bytes()).await
            {
                tracing::error!(%error, "the new certificate can't be used");
            }
        }
    });
    let router = Router::new()
        .route("/admit", post(admit))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(admission);
    axum_server::bind_rustls(listen, tls).serve(router.into_make_service()).await?;
    Ok(())
}

async fn admit(
    State(admission): State<Arc<Admission>>,
    Json(review): Json<AdmissionReview<DynamicObject>>,
) -> Result<Json<AdmissionReview<DynamicObject>>, StatusCode> {
    let request: AdmissionRequest<DynamicObject> = review.try_into().map_err(|_| StatusCode::BAD_REQUEST)?;
    // Comparing long series takes milliseconds of a processor.
    let answer = tokio::task::spawn_blocking(move || admission.review(&request).into_review()).await;
    answer.map(Json).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
