//! Extractors: bodies within their bounds and quotas, query parameters, path parameters. What can't be read is
//! refused with a `Problem`, like everything else.
//!
//! Invariants: a body holds memory for what has arrived, not for what was announced; before it is parsed, the
//! memory that it will take is estimated and reserved from its namespace's share; a handler sees a message only
//! after it was bounded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use http::header;
use http::request::Parts;
use http_body_util::BodyExt as _;
use protocol::weight::{MAX_BODY, MAX_BODY_DEPTH, MAX_BODY_MEMORY, Weight, weigh};
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use crate::app::App;
use crate::bounds::Bounded;
use crate::limits::{PATIENCE, Share};
use crate::memory::{Patience, ReservedMemory};
use crate::refusal::Refusal;

/// Longest body of most paths, bytes.
pub(crate) const SMALL: usize = 1024 * 1024;
/// Longest body of a consumer's commit and of plans, bytes.
pub(crate) const LARGE: usize = MAX_BODY;
/// How long a body may take to arrive, waits for memory not counted: `START`, and a second more for each `PACE`
/// bytes, at most `ARRIVAL` in all.
const START: Duration = Duration::from_secs(8);
/// See [`START`]; bytes a second.
const PACE: u32 = 256 * 1024;
/// See [`START`].
const ARRIVAL: Duration = Duration::from_secs(30);
/// A body longer than this waits until it is its namespace's only large one, bytes.
const LONG: usize = 512 * 1024;
/// So does a body that takes more memory than this, bytes.
const HEAVY: usize = 1024 * 1024;
/// The buffer grows by at least this many bytes, or by half of what has arrived.
const STEP: usize = 4 * 1024;
/// A body of at least this many bytes is parsed on a blocking thread, so that it does not delay other requests.
const OFF_THREAD: usize = 128 * 1024;
/// How much of a parser's message is shown, characters. It may quote what was sent.
const SAID: usize = 300;

/// A JSON body of at most `MOST` bytes. Its memory stays reserved until this is dropped.
pub(crate) struct JsonBody<T, const MOST: usize = SMALL> {
    pub(crate) value: T,
    _memory: ReservedMemory,
    _large: Option<OwnedSemaphorePermit>,
}

/// A body that has arrived, not parsed yet.
struct Arrived {
    bytes: Vec<u8>,
    memory: ReservedMemory,
    large: Option<OwnedSemaphorePermit>,
    patience: Patience,
}

impl<T: DeserializeOwned + Bounded + Send + 'static, const MOST: usize> FromRequest<App>
    for JsonBody<T, MOST>
{
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &App) -> Result<Self, Refusal> {
        // The middleware puts the caller's share here. A path without it would be open to all, so it fails.
        let share = request.extensions().get::<Arc<Share>>().cloned().ok_or_else(Refusal::internal)?;
        let announced = request.headers().get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > MOST) {
            return Err(Refusal::too_large(MOST));
        }
        share.may_send(Instant::now())?;
        let Arrived { bytes, memory, mut large, mut patience } =
            arrive(request.into_body(), &share, MOST).await?;
        let (bytes, weight) = run_off_thread(bytes.len(), move || {
            let weight = weigh(&bytes);
            (bytes, weight)
        })
        .await?;
        check_weight(weight)?;
        if weight.memory > HEAVY && large.is_none() {
            large = Some(share.large(&mut patience).await.ok_or_else(Refusal::busy)?);
        }
        let room = share.read.take(weight.memory, &mut patience).await.ok_or_else(Refusal::busy)?;
        let value = run_off_thread(bytes.len(), move || {
            let value = parse_body(&bytes);
            // Free the raw bytes for the next body.
            drop((bytes, memory));
            value
        })
        .await??;
        Ok(Self { value, _memory: room, _large: large })
    }
}

/// Receives a body, and reserves memory as it arrives.
async fn arrive(mut body: Body, share: &Share, most: usize) -> Result<Arrived, Refusal> {
    let mut patience = Patience::new(PATIENCE);
    let mut memory = share.arriving.empty();
    let mut large = None;
    let mut bytes: Vec<u8> = Vec::new();
    let mut spent = Duration::ZERO;
    loop {
        let allowed = START + Duration::from_secs(bytes.len() as u64) / PACE;
        let left = allowed.min(ARRIVAL).saturating_sub(spent);
        let begun = Instant::now();
        let frame = tokio::time::timeout(left, body.frame()).await.map_err(|_| Refusal::slow_body())?;
        spent += begun.elapsed();
        let Some(frame) = frame else { return Ok(Arrived { bytes, memory, large, patience }) };
        let frame = frame.map_err(|_| Refusal::invalid("the body broke off"))?;
        // Trailers are ignored.
        let Ok(data) = frame.into_data() else { continue };
        share.sent(data.len(), Instant::now());
        let length = bytes.len() + data.len();
        if length > most {
            return Err(Refusal::too_large(most));
        }
        if length > LONG && large.is_none() {
            large = Some(share.large(&mut patience).await.ok_or_else(Refusal::busy)?);
        }
        if length > bytes.capacity() {
            let room = length.max(bytes.len() + (bytes.len() / 2).max(STEP)).min(most);
            if !memory.grow(room, &mut patience).await {
                return Err(Refusal::busy());
            }
            bytes.reserve_exact(room - bytes.len());
        }
        bytes.extend_from_slice(&data);
    }
}

fn check_weight(weight: Weight) -> Result<(), Refusal> {
    if weight.depth > MAX_BODY_DEPTH {
        return Err(Refusal::too_deep(MAX_BODY_DEPTH));
    }
    if weight.memory > MAX_BODY_MEMORY {
        return Err(Refusal::too_heavy(weight.memory, MAX_BODY_MEMORY));
    }
    Ok(())
}

/// Runs `work` on a blocking thread if the body is at least [`OFF_THREAD`] bytes long.
async fn run_off_thread<T: Send + 'static>(
    length: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    if length < OFF_THREAD {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|_| Refusal::internal())
}

fn parse_body<T: DeserializeOwned + Bounded>(bytes: &[u8]) -> Result<T, Refusal> {
    let mut value: T = serde_json::from_slice(bytes).map_err(|error| {
        let said: String = error.to_string().chars().take(SAID).collect();
        Refusal::invalid(format!("the body is not what this path takes: {said}"))
    })?;
    value.bound().map_err(Refusal::invalid)?;
    Ok(value)
}

/// The query of a URL.
pub(crate) struct QueryParams<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for QueryParams<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query.map(|Query(value)| Self(value)).map_err(|error| {
            let said: String = error.body_text().chars().take(SAID).collect();
            Refusal::invalid(said)
        })
    }
}

/// An uid of a path.
pub(crate) fn uid(text: &str) -> Result<Uuid, Refusal> {
    text.parse().map_err(|_| Refusal::not_found("there is nothing of that id"))
}
