//! A connection within a connection, for clients behind a proxy that terminates TLS itself but passes on what
//! follows an `Upgrade`. The API server's proxy of Services is one.
//!
//! The client asks for an `Upgrade`; after 101 both sides start as on a new connection, with their own TLS
//! handshake, which the proxy can't read. The inner connection shares the outer one's slot and has the same bounds
//! on handshake and headers. Tunnels don't nest, and nothing is said before the inner request.

use std::future::Future;
use std::pin::Pin;

use axum::body::Body;
use axum::http::header::{CONNECTION, HeaderValue, UPGRADE};
use axum::http::{Method, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use crate::Served;

/// How a client asks for a tunnel.
#[derive(Debug, Clone, Copy)]
pub struct Tunnel {
    /// The path of the request.
    pub path: &'static str,
    /// The protocol in `Upgrade`.
    pub protocol: &'static str,
}

/// The answer to a request that starts a tunnel; `None` for other requests.
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
