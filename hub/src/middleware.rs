//! Every request passes here: it checks that the caller is known and allowed, that the versions fit, and that the
//! caller's share has room. Every answer gets the protocol's version and is counted.
//!
//! Invariants: a request holds its permit until the caller has the answer; a long answer also holds its memory that
//! long. Work that a worker sent runs to its end, and counts against its share until then, even if the caller goes
//! away: nobody gets more done by hanging up. No handler runs before its caller was checked: routes are added to a
//! group, and the group has this middleware.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::BodyExt as _;
use protocol::{HEADER, VERSION, paths};
use serving::Peer;

use crate::app::App;
use crate::auth::{Caller, Denied, Need};
use crate::clock;
use crate::limits::{RequestPermit, Share};
use crate::memory::Patience;
use crate::metrics::{RequestLabels, ResultLabel};
use crate::reading::Reader;
use crate::refusal::Refusal;

/// An answer of at least this many bytes reserves memory of its caller's share.
const LONG_ANSWER: usize = 64 * 1024;
/// A long answer goes to the connection in pieces of this many bytes, each when the connection has room for it.
const PIECE: usize = 16 * 1024;

/// Whom a group of routes serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteGroup {
    Operator,
    Workers,
    Readers,
}

/// Passes a request to its handler, or refuses it.
pub(crate) async fn admit(
    State((app, group)): State<(App, RouteGroup)>,
    params: RawPathParams,
    mut request: Request,
    next: Next,
) -> Response {
    let ns = || params.iter().find(|(name, _)| *name == "ns").map(|(_, value)| value.to_owned());
    let need = match (group, ns()) {
        (RouteGroup::Operator, _) => Need::Operator,
        (RouteGroup::Workers, Some(ns)) => Need::Worker(ns),
        (RouteGroup::Readers, Some(ns)) => Need::Reader(ns),
        (RouteGroup::Workers | RouteGroup::Readers, None) => return Refusal::internal().into_response(),
    };
    let peer = request.extensions().get::<Peer>().copied();
    let from = peer.map(|Peer(address)| address.ip());
    let checked = app.auth.check(request.headers(), &need, from, clock::now()).await;
    let result = checked.as_ref().map_or_else(Denied::result, |_| "allowed");
    app.metrics.auth.get_or_create(&ResultLabel { result }).inc();
    let caller = match checked {
        Ok(caller) => caller,
        Err(denied) => {
            app.denials.log(&denied, request.uri().path(), peer);
            return denied.refusal.into_response();
        }
    };
    if let Err(refusal) = check_version(&request, group) {
        return refusal.into_response();
    }
    if let (RouteGroup::Readers, Some(ns)) = (group, ns())
        && let Err(refusal) = app.reads_in(request.headers(), &ns).await
    {
        return refusal.into_response();
    }
    let (share, turn) = match acquire_share(&app, group, need, &caller, &mut request) {
        Ok(entered) => entered,
        Err(refusal) => return refusal.into_response(),
    };
    request.extensions_mut().insert(share.clone());
    let path = request.extensions().get::<MatchedPath>();
    let is_poll = request.method() == Method::GET || path.is_some_and(|path| path.as_str() == paths::CLAIM);
    if is_poll {
        return deliver(next.run(request).await, &share, turn).await;
    }
    let work = tokio::spawn(async move { deliver(next.run(request).await, &share, turn).await });
    work.await.unwrap_or_else(|_| Refusal::internal().into_response())
}

impl App {
    /// Makes sure that a reader sees only what was recorded for the present namespace, not for an earlier one of
    /// the same name.
    async fn reads_in(&self, headers: &HeaderMap, ns: &str) -> Result<(), Refusal> {
        let Some(made) = self.auth.reads_in(headers, ns).await? else { return Ok(()) };
        self.faults.write_result(self.ledger.register_namespace(ns, made, clock::now()).await)
    }
}

/// The caller's share, and a permit for one request of it.
fn acquire_share(
    app: &App,
    group: RouteGroup,
    need: Need,
    caller: &Caller,
    request: &mut Request,
) -> Result<(Arc<Share>, RequestPermit), Refusal> {
    let (share, turn) = match (need, caller) {
        (Need::Operator, _) => (app.limits.operator(), None),
        (Need::Worker(ns) | Need::Reader(ns), Caller::Worker) => {
            // Anyone who may make service accounts in a namespace can act as its worker.
            if group == RouteGroup::Workers && request.method() != Method::GET && !app.ledger.has_plans(&ns) {
                return Err(Refusal::no_plans(&ns));
            }
            let person = "a worker".into();
            request.extensions_mut().insert(Reader { person, namespace: ns.as_str().into() });
            (app.limits.namespace(&ns), None)
        }
        (Need::Reader(ns), Caller::Person(person)) => {
            let turn = app.limits.reader_permit(person, &ns)?;
            let reader = Reader { person: person.clone(), namespace: ns.as_str().into() };
            request.extensions_mut().insert(reader);
            (app.limits.people(&ns), Some(turn))
        }
        _ => return Err(Refusal::internal()),
    };
    let turn = turn.map_or_else(|| share.request_permit(), Ok)?;
    Ok((share, turn))
}

/// Makes the answer hold its permit, and its memory if it is long, until the caller has it.
async fn deliver(mut response: Response, share: &Share, turn: RequestPermit) -> Response {
    let hint = response.body().size_hint();
    if let Some(length) = hint.exact().filter(|length| *length > 0) {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    let length = usize::try_from(hint.lower()).unwrap_or(usize::MAX);
    let memory = if length < LONG_ANSWER {
        None
    } else {
        // The answer is in memory already. It must not wait for room: waiting answers would be what fills the memory.
        let memory = share.answers.take(length, &mut Patience::new(Duration::ZERO)).await;
        if memory.is_none() {
            return Refusal::read_failed(
                "too many long answers are on their way: take them, or ask for less",
            )
            .into_response();
        }
        memory
    };
    let held = (turn, memory);
    response.map(|body| pieces(body, held))
}

/// Turns a body into a stream of copied pieces, and keeps `held` until the last one is handed out. A connection
/// queues what it gets, and drops a body that has ended: an answer handed over whole would stay in memory uncounted
/// while nobody reads it.
fn pieces<T: Send + 'static>(body: Body, held: T) -> Body {
    let begun = (body, Bytes::new(), held);
    Body::from_stream(futures::stream::try_unfold(begun, async |(mut body, mut rest, held)| {
        while rest.is_empty() {
            let Some(frame) = body.frame().await.transpose()? else { return Ok::<_, axum::Error>(None) };
            // No answer has trailers.
            rest = frame.into_data().unwrap_or_default();
        }
        let piece = Bytes::copy_from_slice(&rest.split_to(PIECE.min(rest.len())));
        Ok(Some((piece, (body, rest, held))))
    }))
}

/// Checks the protocol's version. Operator and workers send it with every request; people may leave it out.
fn check_version(request: &Request, group: RouteGroup) -> Result<(), Refusal> {
    let header = request.headers().get(HEADER);
    if header.is_none() && group == RouteGroup::Readers {
        return Ok(());
    }
    let text = header.map(|value| value.to_str().unwrap_or("unreadable"));
    VERSION.check(text).map_err(|error| Refusal::version(error.to_string()))
}

/// Counts the answer and adds our version to it.
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
