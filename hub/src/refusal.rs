//! What a caller is told when a request can't be done: a status, a stable reason, a text for people, and when to
//! try again.
//!
//! It never contains a token, a secret's value or the text of an inner error. Details for the operator of Belfry go
//! to the log; the caller gets the reason.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use protocol::messages::{DEFAULT_RETRY, Problem};

/// A refusal. Its reason is also a metric's label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// One of the closed set that [`Problem::reason`] lists.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// When to try again; always set for 429 and 503.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into(), retry_after: None }
    }

    /// 401: the token is missing, invalid or unknown.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
    }

    /// 403: the caller is known, but may not do this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Invalid", "this path has other methods")
    }

    /// 400: the request is not valid.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Invalid", message)
    }

    /// 409: the caller's knowledge is out of date.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", message)
    }

    /// 404, to a worker of a namespace of which the hub has no plan.
    pub fn no_plans(namespace: &str) -> Self {
        let why = format!("the hub has no plan of namespace {namespace:?}: nothing of its workers is taken");
        Self::new(StatusCode::NOT_FOUND, "NoPlans", why)
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "TooLarge",
            format!("the body is longer than {limit} bytes, the most that this path takes: send it in parts"),
        )
    }

    /// 413: more than one request may do; the message says what and how much is allowed.
    pub fn too_much(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", message)
    }

    /// 413: the parsed body would take too much memory, even if it is short.
    pub fn too_heavy(bytes: usize, limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "TooLarge",
            format!(
                "the body would take {bytes} bytes of memory, at most {limit} are given: send it in parts"
            ),
        )
    }

    /// 413.
    pub fn too_deep(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "TooLarge",
            format!("the body is nested deeper than {limit} lists and objects"),
        )
    }

    /// 408: the body did not come in time.
    pub fn slow_body() -> Self {
        let why = "the body came too slowly: 8 s and a second more for each 256 KiB, at most 30 s";
        Self::new(StatusCode::REQUEST_TIMEOUT, "Invalid", why)
    }

    /// 503: the memory for large requests is in use.
    pub fn busy() -> Self {
        Self::unavailable("the memory for large requests of this namespace is in use: come again")
    }

    /// 503, for this read alone: it failed, or took too long.
    pub fn read_failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ReadFailed", message).after(DEFAULT_RETRY.std())
    }

    /// 426: the protocol versions are too far apart.
    pub fn version(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UPGRADE_REQUIRED, "Version", message)
    }

    /// 429, for one namespace alone.
    pub fn over_quota(message: impl Into<String>, wait: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "OverQuota", message).after(wait)
    }

    /// 503: not possible now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", message).after(DEFAULT_RETRY.std())
    }

    /// 507: the database's disk is full. Nothing of the request was done; what was stored before is safe.
    pub fn storage_full() -> Self {
        Self::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "StorageFull",
            "the hub's disk is full: nothing of this request was stored, what was stored before is safe; the hub goes on by itself when there is room",
        )
        .after(DEFAULT_RETRY.std())
    }

    /// 500: a fault of the hub; the log has the details.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal", "the hub failed; its log says why")
            .after(DEFAULT_RETRY.std())
    }

    fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = Problem { reason: self.reason.to_owned(), message: self.message };
        let mut response = (self.status, Json(problem)).into_response();
        if let Some(wait) = self.retry_after {
            // Whole seconds, rounded up: an earlier retry would only be refused again.
            let seconds = wait.as_millis().div_ceil(1_000).max(1);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_refusal_says_when_to_try_again_in_whole_seconds() {
        let response = Refusal::over_quota("too much", Duration::from_millis(1_200)).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        for refusal in [Refusal::unavailable("x"), Refusal::storage_full()] {
            assert!(refusal.into_response().headers().contains_key(header::RETRY_AFTER));
        }
    }
}
