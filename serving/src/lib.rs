//! The HTTP server of every part: bounded connections, TLS, a bound on how long a client may take over handshake and
//! headers, and a clean end. HTTP/1.1 alone.
//!
//! A client that goes away takes its request with it: hyper drops the handler, so a long poll leaves nothing behind.
//! Never here: what is answered, or where a certificate comes from.
#![warn(missing_docs)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// How long a client may take to send its headers, and keep an idle connection. Not 10 s to the second: clients that call
/// every ten seconds would meet the end of their connection each time.
const HEADERS: Duration = Duration::from_secs(12);
const CONNECTIONS: usize = 8_192;
/// Longest headers, bytes: a token of 16 KiB and what else there is.
const BUFFER: usize = 64 * 1024;

/// The caller's address, among the extensions of each request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// How connections are protected, if at all; a new one as it is at that moment.
pub type Tls = Option<watch::Receiver<Arc<ServerConfig>>>;

/// What to serve with, of a certificate with its chain and its key, both PEM. Says in words what can't be used.
pub fn tls(certificate: &[u8], key: &[u8]) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
    let chain = chain.context("the certificate is not PEM")?;
    let key = PrivateKeyDer::from_pem_slice(key).context("the certificate's key is not PEM")?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.context("the certificate and its key can't be used")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Serves until `stop`; ends when all connections have ended.
pub async fn serve(listener: TcpListener, tls: Tls, router: Router, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async {
                let place = places.clone().acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (Ok(place), Ok((stream, peer))) => {
                let (router, stop) = (router.clone(), stop.clone());
                let tls = tls.as_ref().map(|tls| tls.borrow().clone());
                connections.spawn(async move {
                    handshake(stream, peer, tls, router, stop).await;
                    drop(place);
                });
            }
            (_, Err(error)) => {
                // Out of file descriptors, or a client that left at once: the listener itself goes on.
                tracing::debug!(%error, "a connection can't be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            (Err(_), _) => break,
        }
    }
    connections.close();
    connections.wait().await;
}

async fn handshake(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    stop: CancellationToken,
) {
    // Small answers to long polls should not wait for more; a failure only costs time.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return connection(stream, peer, router, stop).await };
    let shaken = tokio::time::timeout(HEADERS, TlsAcceptor::from(tls).accept(stream));
    match stop.run_until_cancelled(shaken).await {
        Some(Ok(Ok(stream))) => connection(stream, peer, router, stop).await,
        Some(Ok(Err(error))) => tracing::debug!(%error, %peer, "a handshake failed"),
        Some(Err(_)) => tracing::debug!(%peer, "a handshake took too long"),
        None => {}
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(router, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a connection broke");
    }
}

async fn answer(router: Router, request: hyper::Request<Incoming>) -> hyper::Response<Body> {
    match router.oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
