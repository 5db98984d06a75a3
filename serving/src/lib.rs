//! The HTTP server of every process: bounded connections ([`Caps`]), TLS, bounds on how long a client may take for
//! handshake, headers and reading its answer, and a graceful stop. HTTP/1.1 only. Probes have a thread of their own
//! ([`Probes`]).
//!
//! When a client goes away, hyper drops the handler of its request, so a long poll leaves nothing behind. What is
//! answered, and where certificates come from, is up to the caller.
#![warn(missing_docs)]

mod clients;
mod connection_slots;
pub mod exposition;
mod probes;
#[cfg(test)]
mod tests;
mod tunnel;
mod write_timeout;

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
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

pub use clients::Clients;
pub use connection_slots::Caps;
use connection_slots::{ConnectionSlot, ConnectionSlots};
pub use probes::Probes;
pub use tunnel::Tunnel;
use write_timeout::WriteTimeout;

/// How long a client may take for its headers, and how long an idle connection is kept. Not exactly 10 s: clients
/// that call every ten seconds would each time meet a connection that is just being closed.
const HEADERS: Duration = Duration::from_secs(12);
/// Longest headers, bytes: a token of 16 KiB and the rest.
const BUFFER: usize = 32 * 1024;
/// How often the log says that slots run short.
const SAID: Duration = Duration::from_mins(1);

/// The caller's address, in the extensions of each request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// The TLS configuration, if connections are protected. A new connection uses the latest one.
pub type Tls = Option<watch::Receiver<Arc<ServerConfig>>>;

/// Builds the TLS configuration from a certificate with its chain and its key, both PEM, and from the clients that
/// are admitted, if not all are. The error says in words what can't be used.
pub fn tls(certificate: &[u8], key: &[u8], clients: Option<&Clients>) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
    let chain = chain.context("the certificate is not PEM")?;
    let key = PrivateKeyDer::from_pem_slice(key).context("the certificate's key is not PEM")?;
    let config = match clients {
        Some(clients) => ServerConfig::builder().with_client_cert_verifier(clients.verifier()?),
        None => ServerConfig::builder().with_no_client_auth(),
    };
    let mut config =
        config.with_single_cert(chain, key).context("the certificate and its key can't be used")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Serves until `stop`, then ends when all connections have ended. A connection without a slot is closed at once,
/// so that its client tries again and does not wait.
pub async fn serve(listener: TcpListener, tls: Tls, caps: Caps, router: Router, stop: CancellationToken) {
    serve_with_tunnel(listener, tls, caps, router, None, stop).await;
}

/// Does the same. With a [`Tunnel`], a client may start a connection within its connection, which is served like
/// any other.
pub async fn serve_with_tunnel(
    listener: TcpListener,
    tls: Tls,
    caps: Caps,
    router: Router,
    tunnel: Option<Tunnel>,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    let slots = ConnectionSlots::new(caps);
    let mut said = tokio::time::interval(SAID);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            _ = said.tick() => {
                let (pushed_out, refused) = slots.troubles();
                if pushed_out + refused > 0 {
                    tracing::warn!(pushed_out, refused, ?caps, "places for connections ran short in the last minute");
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(slot) = slots.acquire(peer.ip()) else { continue };
                // Small answers to long polls should not wait for more; a failure only costs time.
                let _ = stream.set_nodelay(true);
                let served = Served {
                    peer,
                    tls: tls.as_ref().map(|tls| tls.borrow().clone()),
                    router: router.clone(),
                    slot: Arc::new(slot),
                    tunnel: tunnel.map(|tunnel| (tunnel, connections.clone())),
                    stop: stop.clone(),
                };
                connections.spawn(served.serve_until_pushed_out(WriteTimeout::new(stream)));
            }
            Err(error) => {
                // Out of file descriptors, or a client that left at once: the listener itself goes on.
                tracing::debug!(%error, "a connection can't be accepted");
                slots.make_room();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

/// Everything that one connection needs.
#[derive(Clone)]
struct Served {
    peer: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    /// One slot, shared with the connection within it.
    slot: Arc<ConnectionSlot>,
    /// Where a connection within this one may begin, and the tracker that waits for its end. `None` within a
    /// tunnel.
    tunnel: Option<(Tunnel, TaskTracker)>,
    stop: CancellationToken,
}

impl Served {
    /// Serves the connection until it ends, or until its slot goes to another.
    async fn serve_until_pushed_out(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let pushed_out = self.slot.pushed_out.clone();
        let _ = pushed_out.run_until_cancelled(self.handshake(stream)).await;
    }

    async fn handshake(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Some(tls) = self.tls.clone() else { return self.connection(stream).await };
        let peer = self.peer;
        let shaken = tokio::time::timeout(HEADERS, TlsAcceptor::from(tls).accept(stream));
        match self.stop.clone().run_until_cancelled(shaken).await {
            Some(Ok(Ok(stream))) => self.connection(stream).await,
            Some(Ok(Err(error))) => tracing::debug!(%error, %peer, "a handshake failed"),
            Some(Err(_)) => tracing::debug!(%peer, "a handshake took too long"),
            None => {}
        }
    }

    async fn connection(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (peer, stop) = (self.peer, self.stop.clone());
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            let served = self.clone();
            async move {
                if let Some(begun) = tunnel::begin(&served, &mut request) {
                    return Ok::<_, Infallible>(begun);
                }
                request.extensions_mut().insert(Peer(served.peer));
                served.slot.begins();
                let response = answer(served.router, request).await;
                served.slot.answers(response.status().is_success());
                Ok(response)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
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
}

async fn answer(router: Router, request: hyper::Request<Incoming>) -> hyper::Response<Body> {
    match router.oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
