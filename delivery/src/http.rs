//! The only HTTP client: it makes every request to an address that a tenant names.
//!
//! | observation | outcome |
//! | --- | --- |
//! | 2xx | `Delivered`, whatever the body |
//! | 410 | `Refused` |
//! | 429 | `Later`, the whole channel, not before `Retry-After` |
//! | 408, 425, 5xx | `Later`, this delivery, not before `Retry-After` |
//! | other 4xx | `Later`: a receiver that is set up wrongly gets mended (a channel may know its service better: see `slack`) |
//! | 307, 308 | followed with the same method and body, at most 3 times, never from https to http; else `Later` |
//! | 301, 302, 303 | `Later`: clients may turn them into a GET, so they are not followed; mend the URL |
//! | address not allowed: in the URL, behind its name, or of a redirect | `Refused` |
//! | name not found, connection refused, TLS refused, no connection in time | `Later`: nothing was sent |
//! | no answer in time, connection broken, once the body was handed to the connection | `Unknown` |
//!
//! A reason names the host, never a path or query, since those may hold tokens. The host of a redirect comes from the
//! receiver, so it is masked like everything that the receiver says. `Retry-After` (RFC 9110) is a lower bound of the wait,
//! and counts up to 24 h.
//!
//! Invariants: no proxy from the environment; no decompression; certificates are verified; the address is checked where
//! the socket connects; only [`build_client`] builds a client.

mod body_sent;
mod retry_after;

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::{Denied, Digest, FileRef, Guard, Millis, Outcome};
use http::{HeaderMap, Method, StatusCode, header};
use jiff::Timestamp;
use reqwest::Url;
use tokio::time::{Instant, timeout, timeout_at};

use crate::lookup::{Lookup, LookupError};
use crate::secrets::{FileProblem, Secret};
use crate::text::{Mask, error_in_words, quote_for_reason};
use crate::trust::{TlsCache, Trust};
use body_sent::BodySent;

/// Redirects followed in one attempt.
const MAX_REDIRECTS: usize = 3;
/// How much of a response's body is read, bytes.
const MAX_BODY: usize = 64 * 1024;
/// How long a response's body may take once its status is known.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// Idle connections kept for one host: as many as a worker makes attempts at once. With fewer, a full load would open and
/// close connections all the time.
const MAX_IDLE: usize = 512;
/// How long making a connection may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The HTTP client. It holds one client for each bundle of authorities.
pub struct Http {
    lookup: Arc<Lookup>,
    clients: TlsCache<Option<Digest>, reqwest::Client>,
}

/// A request with a body.
pub(crate) struct HttpRequest<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trust: &'a Trust,
    pub(crate) timeout: Duration,
    /// Whether redirects are followed. Must be `false` if the request has headers or credentials of the user.
    pub(crate) follow: bool,
    /// Hides secrets that the receiver may repeat in its answer or a redirect.
    pub(crate) mask: &'a Mask,
}

/// The receiver's response.
pub(crate) struct HttpResponse {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<String>,
    /// The body's first 64 KiB.
    pub(crate) body: String,
    pub(crate) host: String,
}

/// Parses an http or https URL with a host.
pub(crate) fn parse_url(text: &str) -> Option<Url> {
    let url = Url::parse(text.trim()).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// Host and port, the only part of a URL that a reason may name.
fn host_and_port(url: &Url) -> String {
    match (url.host_str().unwrap_or_default(), url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    }
}

impl HttpResponse {
    /// The outcome by the table at this module's head. The receiver's words are masked.
    pub(crate) fn outcome(&self, now: Timestamp, mask: &Mask) -> Outcome {
        if self.status.is_success() {
            return Outcome::Delivered;
        }
        let mut reason = format!("{} answered {}", self.host, self.status);
        if self.status.is_redirection() {
            reason.push_str(", a redirect that is not followed: mend the URL");
        }
        let body = quote_for_reason(&self.body, mask);
        if !body.is_empty() {
            reason.push_str(": ");
            reason.push_str(&body);
        }
        self.outcome_because(reason, now)
    }

    /// The same with the channel's own reason.
    pub(crate) fn outcome_because(&self, reason: String, now: Timestamp) -> Outcome {
        match self.status.as_u16() {
            200..=299 => Outcome::Delivered,
            410 => Outcome::Refused { reason },
            429 => Outcome::Later { reason, wait: self.wait(now), channel_wide: true },
            408 | 425 | 500..=599 => Outcome::Later { reason, wait: self.wait(now), channel_wide: false },
            _ => Outcome::later(reason),
        }
    }

    fn wait(&self, now: Timestamp) -> Option<Millis> {
        retry_after::wait(self.retry_after.as_deref()?, now)
    }
}

impl Http {
    /// A client that connects only where `guard` allows. The process must have a default rustls provider at the first use.
    pub fn new(guard: Guard) -> Self {
        Self { lookup: Arc::new(Lookup::new(guard)), clients: TlsCache::new() }
    }

    /// Which addresses it may connect to.
    pub fn guard(&self) -> Guard {
        self.lookup.guard()
    }

    /// Its resolver, for clients of other protocols.
    pub(crate) fn lookup(&self) -> Arc<Lookup> {
        Arc::clone(&self.lookup)
    }

    /// Makes one attempt. The error is the outcome if there is no response.
    pub(crate) async fn send(&self, request: HttpRequest<'_>) -> Result<HttpResponse, Outcome> {
        let deadline = Instant::now() + request.timeout;
        let client = self.clients.get(request.trust.key(), || build_client(&self.lookup, request.trust))?;
        let sent = BodySent::default();
        let at = host_and_port(&request.url);
        let timed = request.timeout;
        match timeout_at(deadline, self.send_following_redirects(&client, request, &sent)).await {
            Ok(Ok((mut response, at))) => {
                let status = response.status();
                let retry_after = response.headers().get(header::RETRY_AFTER);
                let retry_after = retry_after.and_then(|value| value.to_str().ok()).map(str::to_owned);
                let left = deadline.saturating_duration_since(Instant::now()).min(BODY_TIMEOUT);
                let mut body = Vec::new();
                // The status decides the outcome; a body that does not come changes nothing.
                let _ = timeout(left, read_body(&mut response, &mut body)).await;
                let body = String::from_utf8_lossy(&body).into_owned();
                Ok(HttpResponse { status, retry_after, body, host: at })
            }
            Ok(Err(outcome)) => Err(outcome),
            Err(_) if sent.is_set() => {
                Err(Outcome::Unknown { reason: format!("{at} did not answer within {timed:?}") })
            }
            Err(_) => Err(Outcome::later(format!("{at} could not be connected to within {timed:?}"))),
        }
    }

    async fn send_following_redirects(
        &self,
        client: &reqwest::Client,
        request: HttpRequest<'_>,
        sent: &BodySent,
    ) -> Result<(reqwest::Response, String), Outcome> {
        let mut url = request.url;
        for followed in 0..=MAX_REDIRECTS {
            let at =
                if followed == 0 { host_and_port(&url) } else { request.mask.apply(&host_and_port(&url)) };
            self.guard()
                .check_host(url.host_str().unwrap_or_default())
                .map_err(|why| denied_outcome(&why, followed, request.mask))?;
            let sending = client
                .request(request.method.clone(), url.clone())
                .headers(request.headers.clone())
                .body(sent.body(request.body.clone()));
            let failed = |error: reqwest::Error| {
                failure_outcome(&error.without_url(), &at, sent, followed, request.mask)
            };
            let response = sending.send().await.map_err(failed)?;
            if !request.follow || !matches!(response.status().as_u16(), 307 | 308) {
                return Ok((response, at));
            }
            let next =
                response.headers().get(header::LOCATION).and_then(|to| url.join(to.to_str().ok()?).ok());
            match next.filter(|next| matches!(next.scheme(), "http" | "https") && next.has_host()) {
                Some(next) if url.scheme() == "https" && next.scheme() == "http" => {
                    return Err(Outcome::later(format!("{at} redirects from https to http: not followed")));
                }
                Some(next) => url = next,
                None => return Err(Outcome::later(format!("{at} redirects to no http or https URL"))),
            }
        }
        let at = request.mask.apply(&host_and_port(&url));
        Err(Outcome::later(format!("{at} redirects more than {MAX_REDIRECTS} times")))
    }
}

const NO_CERTIFICATES: &str = "holds no certificates (PEM)";

fn certificates(pem: &[u8]) -> Option<Vec<reqwest::Certificate>> {
    reqwest::Certificate::from_pem_bundle(pem).ok().filter(|found| !found.is_empty())
}

/// Checks that a `tls.caBundle` holds certificates.
pub(crate) fn check_bundle(file: &FileRef, pem: &Secret) -> Result<(), FileProblem> {
    match certificates(pem.expose().as_bytes()) {
        Some(_) => Ok(()),
        None => Err(FileProblem::invalid(file, NO_CERTIFICATES)),
    }
}

/// The only place where a client is built.
fn build_client(lookup: &Arc<Lookup>, trust: &Trust) -> Result<reqwest::Client, FileProblem> {
    let bundle = match trust.pem() {
        None => Vec::new(),
        Some(pem) => certificates(pem).ok_or_else(|| trust.invalid(NO_CERTIFICATES))?,
    };
    let builder = || {
        reqwest::Client::builder()
            .no_proxy()
            .referer(false)
            .redirect(reqwest::redirect::Policy::none())
            // One message on a connection at a time: if it breaks, it stays clear whether the message was sent.
            .http1_only()
            .user_agent(concat!("Belfry/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(Duration::from_secs(15))
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(MAX_IDLE)
            .dns_resolver(ReqwestResolver(Arc::clone(lookup)))
    };
    // A machine without system authorities can still speak to receivers that need none of them.
    let client = builder().tls_certs_merge(bundle.clone()).build();
    client
        .or_else(|_| builder().tls_certs_only(bundle).build())
        .map_err(|_| trust.invalid("holds a certificate that can't be used"))
}

/// Resolves names to addresses that the guard allows.
struct ReqwestResolver(Arc<Lookup>);

impl reqwest::dns::Resolve for ReqwestResolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let lookup = Arc::clone(&self.0);
        Box::pin(async move {
            let found = lookup.addresses(name.as_str(), 0).await?;
            Ok(Box::new(found.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

async fn read_body(response: &mut reqwest::Response, body: &mut Vec<u8>) {
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = MAX_BODY - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            return;
        }
    }
}

fn denied_outcome(why: &Denied, followed: usize, mask: &Mask) -> Outcome {
    let why = why.to_string();
    let reason = if followed > 0 { format!("redirect: {}", mask.apply(&why)) } else { why };
    Outcome::refused(reason)
}

/// The outcome of a request without a response.
fn failure_outcome(
    error: &reqwest::Error,
    at: &str,
    sent: &BodySent,
    followed: usize,
    mask: &Mask,
) -> Outcome {
    let mut last: &dyn StdError = error;
    while let Some(source) = last.source() {
        if let Some(LookupError::Denied(why)) = source.downcast_ref() {
            return denied_outcome(why, followed, mask);
        }
        last = source;
    }
    let why = quote_for_reason(&error_in_words(last), mask);
    if sent.is_set() {
        Outcome::Unknown { reason: format!("{at}: the connection broke before an answer: {why}") }
    } else if error.is_timeout() {
        Outcome::later(format!("{at} could not be connected to within {CONNECT_TIMEOUT:?}"))
    } else {
        Outcome::later(format!("{at} could not be connected to: {why}"))
    }
}

#[cfg(test)]
mod tests;
