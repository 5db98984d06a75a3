//! What every request passes: its caller is known and allowed, its version fits, it has a place in its share; and every
//! answer carries the protocol's version and is counted.
//!
//! Never: a handler reached before its caller was checked. Routes are added to a group, and the group has the gate.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::HeaderValue;
use protocol::{HEADER, VERSION};
use serving::Peer;

use crate::auth::{Denied, Need};
use crate::clock;
use crate::limits::Bucket;
use crate::metrics::{RequestLabels, ResultLabel};
use crate::problem::Refusal;
use crate::state::App;

/// Refusals logged a second; all are counted.
const LOGGED_PER_SECOND: u64 = 20;

/// Whom a group of routes is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Operator,
    Workers,
    Readers,
}

/// Bounds how many refusals are logged, so that a flood of junk does not fill the log.
pub(crate) struct Denials(Mutex<Bucket>);

impl Denials {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Bucket::new(LOGGED_PER_SECOND, Instant::now())))
    }

    fn log(&self, denied: &Denied, path: &str, peer: Option<Peer>) {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = Instant::now();
        if !bucket.wait(at).is_zero() {
            return;
        }
        bucket.spend(1, at);
        drop(bucket);
        tracing::warn!(
            status = denied.refusal.status.as_u16(),
            who = denied.who.as_deref().unwrap_or("unknown"),
            path,
            peer = peer.map(|Peer(address)| tracing::field::display(address)),
            reason = denied.refusal.message,
            "refused"
        );
    }
}

/// Lets a request through to its handler, or refuses it.
pub(crate) async fn admit(
    State((app, door)): State<(App, Door)>,
    params: RawPathParams,
    mut request: Request,
    next: Next,
) -> Response {
    let ns = || params.iter().find(|(name, _)| *name == "ns").map(|(_, value)| value.to_owned());
    let need = match (door, ns()) {
        (Door::Operator, _) => Need::Operator,
        (Door::Workers, Some(ns)) => Need::Worker(ns),
        (Door::Readers, Some(ns)) => Need::Reader(ns),
        (Door::Workers | Door::Readers, None) => return Refusal::internal().into_response(),
    };
    let checked = app.auth.check(request.headers(), &need, clock::now()).await;
    let result = checked.as_ref().map_or_else(Denied::result, |_| "allowed");
    app.metrics.auth.get_or_create(&ResultLabel { result }).inc();
    let caller = match checked {
        Ok(caller) => caller,
        Err(denied) => {
            app.denials.log(&denied, request.uri().path(), request.extensions().get::<Peer>().copied());
            return denied.refusal.into_response();
        }
    };
    if let Err(refusal) = check_version(&request, door) {
        return refusal.into_response();
    }
    let share = match (&need, caller) {
        (Need::Worker(ns) | Need::Reader(ns), crate::auth::Caller::Worker) => app.limits.namespace(ns),
        (Need::Operator, _) => app.limits.operator(),
        _ => app.limits.readers(),
    };
    let _turn = match share.enter() {
        Ok(turn) => turn,
        Err(refusal) => return refusal.into_response(),
    };
    request.extensions_mut().insert(share);
    next.run(request).await
}

/// Operator and workers say their version with every request; people may.
fn check_version(request: &Request, door: Door) -> Result<(), Refusal> {
    let header = request.headers().get(HEADER);
    if header.is_none() && door == Door::Readers {
        return Ok(());
    }
    let text = header.map(|value| value.to_str().unwrap_or("unreadable"));
    VERSION.check(text).map_err(|error| Refusal::version(error.to_string()))
}

/// Counts the answer and says our version.
pub(crate) async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let method = match request.method().as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        _ => "other",
    };
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let mut response = next.run(request).await;
    let status = response.status().as_u16();
    app.metrics.requests.get_or_create(&RequestLabels { method, route, status }).inc();
    if let Ok(version) = HeaderValue::from_str(&VERSION.to_string()) {
        response.headers_mut().insert(HEADER, version);
    }
    response
}
