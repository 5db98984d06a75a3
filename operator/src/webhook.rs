//! The validating webhook over TLS, on every replica. What is allowed is decided in `controllers::admission`.
//!
//! If the administrator has the API server show a certificate ([`Clients`]), only the API server may ask; otherwise
//! anybody may, and each address has its share. Memory is charged for a body as it arrives, and for what is parsed from
//! it before it is parsed ([`review_memory`]). Objects are checked on separate threads, in turns ([`review_pool`]).
//!
//! A review that begins is answered before the API server gives up. If a bound is reached, the answer is a denial that
//! names the bound: with no answer in time, the API server might store the object unchecked.

mod review_memory;
mod review_pool;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::{Body, BodyDataStream};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use controllers::admission::{Admission, Answer, Question};
use controllers::metrics::Metrics;
use futures::StreamExt as _;
use rustls::ServerConfig;
use serde_json::Value;
use serving::{Caps, Clients, Peer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::review_memory::{Charge, ReviewMemory};
use self::review_pool::ReviewPool;
use crate::certificates::Certificates;

/// The longest review, bytes: as long as the longest object that the API server takes.
const MAX_BODY: usize = 3 << 20;
/// How much of a review is read before memory is charged, bytes. The review's uid is within it.
const HEAD: usize = 4 << 10;
/// How long a review may take to arrive and to wait for memory.
const ARRIVES: Duration = Duration::from_secs(2);
/// How much longer the rest of a refused review may take to arrive.
const DRAINS: Duration = Duration::from_secs(1);
/// How long an answer may take. The chart has the API server wait for five seconds.
const ANSWERS: Duration = Duration::from_secs(4);
/// A review up to this size, bytes, is parsed on the task that received it; a longer one on a blocking thread, two at a
/// time.
const SHORT: usize = 64 << 10;
/// Bounds of connections. An API server opens one for each question that it has at a time.
const CAPS: Caps = Caps { all: 512, per_peer: 256, silent: 256, silent_per_peer: 128 };
/// How often the log says that reviews are turned away.
const TELLS: Duration = Duration::from_secs(10);
/// How often the clients' authorities are read again; the kubelet takes about a minute to write them.
const LOOK: Duration = Duration::from_secs(30);

/// Who may ask, and how much memory reviews may take.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// A file with the clients' authorities (PEM), and the common names of which a client must have one. `None`:
    /// anybody may ask.
    pub(crate) clients: Option<(PathBuf, Vec<String>)>,
    /// The most memory for all reviews under way, bytes.
    pub(crate) memory: usize,
}

/// Serves with the current certificates until the process ends.
pub(crate) async fn serve(
    listen: SocketAddr,
    certificates: watch::Receiver<Option<Certificates>>,
    admission: Arc<Admission>,
    metrics: Metrics,
    settings: Settings,
) -> anyhow::Result<()> {
    let tls = keep_tls_config(certificates, settings.clients.clone()).await?;
    let handler = ReviewHandler::new(admission, metrics, &settings)?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("can't listen on {listen}"))?;
    serving::serve(listener, Some(tls), CAPS, router(handler), CancellationToken::new()).await;
    Ok(())
}

fn router(handler: Arc<ReviewHandler>) -> Router {
    Router::new().route("/admit", post(admit)).with_state(handler)
}

/// The TLS configuration, renewed after every change of the certificates or of the clients' authorities.
async fn keep_tls_config(
    mut certificates: watch::Receiver<Option<Certificates>>,
    clients: Option<(PathBuf, Vec<String>)>,
) -> anyhow::Result<watch::Receiver<Arc<ServerConfig>>> {
    let first = certificates.wait_for(Option::is_some).await?.clone().context("no certificates")?;
    let mut known = read_client_authorities(clients.as_ref()).await?;
    let (current, tls) = watch::channel(tls_config(&first, known.as_ref())?);
    tokio::spawn(async move {
        loop {
            let renewed = tokio::select! {
                changed = certificates.changed() => if changed.is_ok() { true } else { return },
                () = tokio::time::sleep(LOOK), if clients.is_some() => false,
            };
            match read_client_authorities(clients.as_ref()).await {
                Ok(read) if read == known && !renewed => continue,
                Ok(read) => known = read,
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "the clients' authorities stay as they are");
                }
            }
            let next = certificates.borrow_and_update().as_ref().map(|held| tls_config(held, known.as_ref()));
            match next {
                Some(Ok(next)) => drop(current.send_replace(next)),
                Some(Err(error)) => tracing::error!(%error, "the new certificate can't be used"),
                None => {}
            }
        }
    });
    Ok(tls)
}

async fn read_client_authorities(
    clients: Option<&(PathBuf, Vec<String>)>,
) -> anyhow::Result<Option<Clients>> {
    let Some((file, names)) = clients else { return Ok(None) };
    let path: &Path = file;
    let authorities =
        tokio::fs::read(path).await.with_context(|| format!("can't read {}", path.display()))?;
    Ok(Some(Clients { authorities, names: names.clone() }))
}

fn tls_config(held: &Certificates, clients: Option<&Clients>) -> anyhow::Result<Arc<ServerConfig>> {
    serving::tls(held.certificate.as_bytes(), held.key.as_bytes(), clients)
}

/// Answers reviews.
struct ReviewHandler {
    admission: Arc<Admission>,
    metrics: Metrics,
    memory: Arc<ReviewMemory>,
    /// Memory for bodies up to [`SHORT`], which long ones and what is parsed from them can't use up.
    short: Arc<ReviewMemory>,
    pool: ReviewPool,
    long: Semaphore,
    told: Mutex<Option<Instant>>,
}

/// Why a review is not answered by admission.
enum Stop {
    /// The review with this uid gets this answer instead.
    Answer(String, Answer),
    /// It is not a review.
    NoReview,
}

async fn admit(
    State(handler): State<Arc<ReviewHandler>>,
    request: Request,
) -> Result<Json<Value>, StatusCode> {
    // Every connection has a peer, so a request without one is our bug.
    let peer = request.extensions().get::<Peer>().map(|Peer(peer)| peer.ip());
    let peer = peer.ok_or(StatusCode::INTERNAL_SERVER_ERROR)?.to_canonical();
    let begun = Instant::now();
    let until = begun + patience(request.uri().query().unwrap_or_default());
    match handler.answer(peer, request.into_body(), begun, until).await {
        Ok(answer) => Ok(Json(answer)),
        Err(Stop::Answer(uid, answer)) => {
            handler.metrics.turned_away();
            if handler.is_to_be_told(begun) {
                tracing::warn!(%peer, message = answer.message, "reviews are not looked at, such as this one");
            }
            Ok(Json(answer.to(&uid)))
        }
        Err(Stop::NoReview) => Err(StatusCode::BAD_REQUEST),
    }
}

/// How long an answer may take: four fifths of what the API server says that it waits (`?timeout=5s`), at most [`ANSWERS`].
fn patience(query: &str) -> Duration {
    let timeout = query.split('&').find_map(|pair| pair.strip_prefix("timeout="));
    let seconds = timeout.and_then(|text| text.strip_suffix('s')).and_then(|text| text.parse::<u32>().ok());
    seconds.map_or(ANSWERS, |seconds| (Duration::from_secs(seconds.into()) * 4 / 5).min(ANSWERS))
}

impl ReviewHandler {
    fn new(admission: Arc<Admission>, metrics: Metrics, settings: &Settings) -> anyhow::Result<Arc<Self>> {
        // A client with a certificate is an API server and may use all; without certificates each address may use a
        // third.
        let per_peer = |of: usize| if settings.clients.is_some() { of } else { of / 3 };
        let short = settings.memory / 12;
        let long = settings.memory - short;
        Ok(Arc::new(Self {
            admission,
            metrics,
            memory: ReviewMemory::new(long, per_peer(long)),
            short: ReviewMemory::new(short, per_peer(short)),
            pool: ReviewPool::start().context("no threads for admission")?,
            long: Semaphore::new(2),
            told: Mutex::default(),
        }))
    }

    /// Whether it is time to log a refusal; all are counted. A stranger must not be able to fill the log.
    fn is_to_be_told(&self, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|told| now.saturating_duration_since(told) >= TELLS);
        if due {
            *told = Some(now);
        }
        due
    }

    async fn answer(&self, peer: IpAddr, body: Body, begun: Instant, until: Instant) -> Result<Value, Stop> {
        let (review, charge) = self.body(peer, body, until.min(begun + ARRIVES)).await?;
        let uid = uid(&review);
        let stop = |why: &str| match &uid {
            Some(uid) => Stop::Answer(uid.clone(), Answer::again(why)),
            None => Stop::NoReview,
        };
        let question = if review.len() <= SHORT {
            let question = Question::read(&review);
            drop((review, charge));
            question
        } else {
            let permit = tokio::time::timeout_at(until, self.long.acquire()).await;
            let _permit = permit.map_err(|_| stop("many long reviews are being read"))?;
            let read = tokio::task::spawn_blocking(move || {
                let question = Question::read(&review);
                drop((review, charge));
                question
            });
            read.await.map_err(|_| stop("reading the review broke off"))?
        };
        let question = question.map_err(|error| {
            tracing::debug!(%error, %peer, "a review that can't be read");
            Stop::NoReview
        })?;
        if !question.needs_review() {
            return Ok(question.answered(&self.admission.review(&question)));
        }
        let charge = self.memory.charge(peer, question.cost(), until).await;
        let charge = charge.map_err(|spent| stop(&spent.to_string()))?;
        let (admission, namespace) = (Arc::clone(&self.admission), question.namespace().to_owned());
        let look = move || {
            let answer = question.answered(&admission.review(&question));
            drop((question, charge));
            answer
        };
        let answer = self.pool.run(peer, &namespace, until, look).await;
        answer.map_err(|not_reviewed| stop(&not_reviewed.to_string()))
    }

    /// Reads the whole body; returns it with its charge.
    async fn body(
        &self,
        peer: IpAddr,
        body: Body,
        until: Instant,
    ) -> Result<(Vec<u8>, Option<Charge>), Stop> {
        let mut chunks = body.into_data_stream();
        let (mut review, mut charge) = (Vec::with_capacity(HEAD), None);
        let refused = loop {
            let chunk = match tokio::time::timeout_at(until, chunks.next()).await {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(None) => return Ok((review, charge)),
                Ok(Some(Err(_))) => return Err(Stop::NoReview),
                Err(_) => break Answer::again(&format!("the review did not arrive within {ARRIVES:?}")),
            };
            let length = review.len() + chunk.len();
            if length > MAX_BODY {
                break Answer::too_large(&format!("the review is longer than {MAX_BODY} bytes"));
            }
            if length > review.capacity() {
                // The old buffer is freed only when the new one is filled, so both are charged.
                let room = (2 * review.capacity()).clamp(length, MAX_BODY.max(length));
                let short = (room <= SHORT).then(|| self.short.charge_now(peer, room)).flatten();
                let charged = match short {
                    Some(short) => Ok(short),
                    None => self.memory.charge(peer, room, until).await,
                };
                match charged {
                    Ok(larger) => {
                        let mut moved = Vec::with_capacity(room);
                        moved.extend_from_slice(&review);
                        (review, charge) = (moved, Some(larger));
                    }
                    Err(spent) => {
                        if review.len() < HEAD {
                            let room = review.capacity() - review.len();
                            review.extend_from_slice(&chunk[..room.min(chunk.len())]);
                        }
                        break Answer::again(&spent.to_string());
                    }
                }
            }
            review.extend_from_slice(&chunk);
        };
        drop(charge);
        let uid = uid(&review).ok_or(Stop::NoReview)?;
        drop(review);
        // A client may not read an answer that comes before it has sent everything.
        drained(chunks, until + DRAINS).await;
        Err(Stop::Answer(uid, refused))
    }
}

/// Reads the rest of a body and drops it.
async fn drained(mut chunks: BodyDataStream, until: Instant) {
    let mut left = 2 * MAX_BODY;
    while let Ok(Some(Ok(chunk))) = tokio::time::timeout_at(until, chunks.next()).await {
        left = left.saturating_sub(chunk.len());
        if left == 0 {
            return;
        }
    }
}

/// Finds the uid at the beginning of a review, where API servers write it, to answer a review that is not parsed.
fn uid(review: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(review.get(..review.len().min(HEAD))?);
    let (_, request) = head.split_once("\"request\"")?;
    let (_, rest) = request.split_once("\"uid\"")?;
    let value = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    let (uid, _) = value.split_once('"')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    ((1..=64).contains(&uid.len()) && uid.bytes().all(plain)).then(|| uid.to_owned())
}
