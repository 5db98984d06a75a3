//! The receiver's state: what was received, and how to answer.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use serde::{Deserialize, Serialize};

/// One request that arrived.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Received {
    /// Its place, from 1.
    pub number: u64,
    /// When it arrived, Unix milliseconds.
    pub time_ms: u64,
    /// The request's path.
    pub path: String,
    /// Its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
    /// The status it was answered with; 0 where it was left without an answer.
    pub status: u16,
}

impl Received {
    /// The title in a webhook's JSON body; empty where there is none.
    pub fn title(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["data"]["title"].as_str().unwrap_or_default().to_owned()
    }
}

/// How a path answers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Behaviour {
    /// The status while failing; 200 where 0.
    pub status: u16,
    /// Headers of that answer.
    pub headers: BTreeMap<String, String>,
    /// How many requests fail before all is well; for ever where 0.
    pub times: u64,
    /// Of requests that would fail, only each n-th does; all where 0.
    pub every: u64,
    /// Wait this long before the answer, milliseconds.
    pub hang_ms: u64,
    /// How many of the path's requests were handled under this behaviour.
    pub seen: u64,
}

struct Inner {
    file: File,
    received: Vec<Received>,
    behaviours: BTreeMap<String, Behaviour>,
}

/// The receiver.
#[derive(Clone)]
pub struct Sink(Arc<Mutex<Inner>>);

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
    /// Only this path's.
    path: Option<String>,
}

impl Sink {
    /// Opens the file and reads what an earlier run received.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let received = BufReader::new(File::open(path)?)
            .lines()
            .filter_map(|line| serde_json::from_str(&line.ok()?).ok())
            .collect();
        Ok(Self(Arc::new(Mutex::new(Inner { file, received, behaviours: BTreeMap::new() }))))
    }

    /// What channels talk to.
    pub fn receiver(&self) -> axum::Router {
        axum::Router::new()
            .fallback(receive)
            .layer(DefaultBodyLimit::max(8 * 1024 * 1024))
            .with_state(self.clone())
    }

    /// What the test talks to.
    pub fn control(&self) -> axum::Router {
        axum::Router::new()
            .route("/received", get(received).delete(forget))
            .route("/count", get(count))
            .route("/behaviours", put(behave))
            .layer(DefaultBodyLimit::max(8 * 1024 * 1024))
            .with_state(self.clone())
    }
}

/// A receiver that only counts, and its control, which knows only `/count`.
pub fn counter() -> (axum::Router, axum::Router) {
    let count = Arc::new(AtomicUsize::new(0));
    let more = Arc::clone(&count);
    let counting = axum::Router::new().fallback(async move |_: Bytes| {
        more.fetch_add(1, Ordering::Relaxed);
        StatusCode::OK
    });
    let control = axum::Router::new().route("/count", get(async move || Json(count.load(Ordering::Relaxed))));
    (counting, control)
}

async fn receive(State(sink): State<Sink>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let (answer, hang) = {
        let mut inner = sink.0.lock().unwrap();
        let (answer, hang) = decide(&mut inner.behaviours, uri.path());
        let entry = Received {
            number: inner.received.len() as u64 + 1,
            time_ms: now_ms(),
            path: uri.path().to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| {
                    (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
                })
                .collect(),
            body: String::from_utf8_lossy(&body).into_owned(),
            status: answer.0.as_u16(),
        };
        let mut line = serde_json::to_vec(&entry).unwrap();
        line.push(b'\n');
        if inner.file.write_all(&line).is_err() {
            return StatusCode::INSUFFICIENT_STORAGE.into_response();
        }
        inner.received.push(entry);
        (answer, hang)
    };
    if hang > 0 {
        tokio::time::sleep(Duration::from_millis(hang)).await;
    }
    answer.into_response()
}

fn decide(behaviours: &mut BTreeMap<String, Behaviour>, path: &str) -> ((StatusCode, HeaderMap), u64) {
    let fine = (StatusCode::OK, HeaderMap::new());
    let Some(behaviour) = behaviours.get_mut(path) else { return (fine, 0) };
    behaviour.seen += 1;
    let over = behaviour.times > 0 && behaviour.seen > behaviour.times;
    if over || behaviour.every > 0 && behaviour.seen % behaviour.every != 0 {
        return (fine, 0);
    }
    let status = StatusCode::from_u16(behaviour.status).unwrap_or(StatusCode::OK);
    let headers = behaviour
        .headers
        .iter()
        .filter_map(|(name, value)| {
            Some((
                axum::http::HeaderName::try_from(name).ok()?,
                axum::http::HeaderValue::try_from(value).ok()?,
            ))
        })
        .collect();
    ((status, headers), behaviour.hang_ms)
}

async fn received(
    State(sink): State<Sink>,
    Query(After { after, path }): Query<After>,
) -> Json<Vec<Received>> {
    let inner = sink.0.lock().unwrap();
    let from = usize::try_from(after).unwrap_or(usize::MAX).min(inner.received.len());
    let of_path = |one: &&Received| path.as_ref().is_none_or(|path| one.path == *path);
    Json(inner.received[from..].iter().filter(of_path).cloned().collect())
}

async fn count(State(sink): State<Sink>) -> Json<usize> {
    Json(sink.0.lock().unwrap().received.len())
}

async fn forget(State(sink): State<Sink>) -> StatusCode {
    let mut inner = sink.0.lock().unwrap();
    inner.received.clear();
    match inner.file.set_len(0) {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

async fn behave(State(sink): State<Sink>, Json(behaviours): Json<BTreeMap<String, Behaviour>>) -> StatusCode {
    sink.0.lock().unwrap().behaviours.extend(behaviours);
    StatusCode::NO_CONTENT
}

#[allow(clippy::disallowed_methods, reason = "the receiver owns its clock")]
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_fails_as_often_as_told_and_then_answers_well() {
        let mut behaviours =
            BTreeMap::from([("/a".to_owned(), Behaviour { status: 500, times: 2, ..Default::default() })]);
        let statuses: Vec<u16> = (0..4).map(|_| decide(&mut behaviours, "/a").0.0.as_u16()).collect();
        assert_eq!(statuses, [500, 500, 200, 200]);
        assert_eq!(decide(&mut behaviours, "/b").0.0, StatusCode::OK);
    }

    #[test]
    fn every_third_request_fails_for_ever() {
        let failing = Behaviour { status: 503, every: 3, ..Default::default() };
        let mut behaviours = BTreeMap::from([("/a".to_owned(), failing)]);
        let statuses: Vec<u16> = (0..6).map(|_| decide(&mut behaviours, "/a").0.0.as_u16()).collect();
        assert_eq!(statuses, [200, 200, 503, 200, 200, 503]);
    }
}
