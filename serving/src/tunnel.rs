//! A connection within a connection: for clients that reach us only through a proxy which ends TLS itself, as the API server's
//! proxy of Services does, and passes on what follows an `Upgrade`.
//!
//! The client asks for an `Upgrade`; after 101 both sides begin as on a new connection, with a handshake of their
//! own, which the proxy can't read. Invariants: it has the place of the connection that it is in, with the same bounds on
//! handshake and headers. Never: a tunnel within a tunnel, or something told before the inner request is.

use std::future::Future;
use std::pin::Pin;

use axum::body::Body;
use axum::http::header::{CONNECTION, HeaderValue, UPGRADE};
use axum::http::{Method, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use crate::Served;

/// How a tunnel is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Tunnel {
    /// At this path.
    pub path: &'static str,
    /// By `Upgrade` to this protocol.
    pub protocol: &'static str,
}

/// The answer, where a connection within this one begins.
pub(crate) fn begin(
    served: &Served,
    request: &mut hyper::Request<Incoming>,
) -> Option<hyper::Response<Body>> {
    let (Tunnel { path, protocol }, tasks) = served.tunnel.as_ref()?;
    let to = request.headers().get(UPGRADE);
    let asks = to.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(protocol.as_bytes()));
    if !asks || request.method() != Method::GET || request.uri().path() != *path {
        return None;
    }
    let upgrade = hyper::upgrade::on(request);
    let inner = Served { tunnel: None, ..served.clone() };
    let served: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
        match upgrade.await {
            Ok(stream) => inner.serve_until_pushed_out(TokioIo::new(stream)).await,
            Err(error) => tracing::debug!(%error, "a tunnel broke before it began"),
        }
    });
    tasks.spawn(served);
    let mut response = hyper::Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(protocol));
    Some(response)
}
