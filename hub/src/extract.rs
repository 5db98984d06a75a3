//! Reading requests: bodies within their bounds and quotas, queries, path parts. What can't be read is refused with a
//! `Problem` like everything else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use http::header;
use http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::limits::{BodyMemory, Share};
use crate::problem::Refusal;
use crate::state::App;

/// Longest body of most paths, bytes.
pub(crate) const SMALL: usize = 1024 * 1024;
/// Longest body of a consumer's commit and of plans, bytes.
pub(crate) const LARGE: usize = 32 * 1024 * 1024;
/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(30);

/// A body from this length is read aside, so that it does not hold up those that wait for a thread.
const ASIDE: usize = 256 * 1024;

/// A JSON body of at most `MOST` bytes. Its memory stays counted until this is dropped.
pub(crate) struct Sent<T, const MOST: usize = SMALL> {
    pub(crate) value: T,
    pub(crate) bytes: usize,
    _memory: BodyMemory,
}

impl<T: DeserializeOwned + Send + 'static, const MOST: usize> FromRequest<App> for Sent<T, MOST> {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &App) -> Result<Self, Refusal> {
        // The gate puts the caller's share here; a path without it would be open to all.
        let share = request.extensions().get::<Arc<Share>>().cloned().ok_or_else(Refusal::internal)?;
        let announced = request.headers().get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > MOST) {
            return Err(Refusal::too_large(MOST));
        }
        share.may_send(Instant::now())?;
        let memory = app.limits.body(&share, announced.unwrap_or(MOST)).await?;
        let body = Limited::new(request.into_body(), MOST).collect();
        let bytes = match tokio::time::timeout(ARRIVAL, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Refusal::too_large(MOST)),
            Ok(Err(_)) => return Err(Refusal::invalid("the body broke off")),
            Err(_) => return Err(Refusal::slow_body()),
        };
        share.sent(bytes.len(), Instant::now());
        let length = bytes.len();
        let value = if length < ASIDE {
            read(&bytes)
        } else {
            tokio::task::spawn_blocking(move || read(&bytes)).await.map_err(|_| Refusal::internal())?
        }?;
        Ok(Self { value, bytes: length, _memory: memory })
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes)
        .map_err(|error| Refusal::invalid(format!("the body is not what this path takes: {error}")))
}

/// A query.
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query.map(|Query(value)| Self(value)).map_err(|error| Refusal::invalid(error.body_text()))
    }
}

/// An uid of a path.
pub(crate) fn uid(text: &str) -> Result<Uuid, Refusal> {
    text.parse().map_err(|_| Refusal::not_found("there is nothing of that id"))
}
