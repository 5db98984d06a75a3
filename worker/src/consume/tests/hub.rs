//! A hub in the test's process. Of the real one it has only fenced commits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use domain::Digest;
use protocol::messages::{
    Commit, CommitResult, DeadLetter, Dropped, EntryResult, PlanQuery, Positions, PositionsRequest, Report,
    SourcePlan,
};
use protocol::paths;
use uuid::Uuid;

/// How the hub answers commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Up,
    /// Accepts nothing.
    Down,
    /// Accepts every commit but answers none.
    Mute,
}

#[derive(Debug)]
pub struct Ledger {
    pub mode: Mode,
    pub plan: Option<SourcePlan>,
    /// Topic id and next offsets.
    pub topics: BTreeMap<String, (String, Vec<i64>)>,
    pub counts: BTreeMap<Uuid, i64>,
    /// How often each (rule, partition, offset) was committed.
    pub records: BTreeMap<(Uuid, i32, i64), u32>,
    pub dropped: Vec<Dropped>,
    pub dead_letters: Vec<DeadLetter>,
    pub progress: BTreeMap<(String, i32), i64>,
    /// The end offset of each accepted entry, with its partition's event-time progress.
    pub taken: Vec<(i64, Option<i64>)>,
    /// How far the rules that read all topics could be decided after each commit, and how many partitions were open.
    pub bounds: Vec<(i64, usize)>,
    pub reports: BTreeMap<String, Report>,
    pub refused: usize,
    pub muted: usize,
    /// The bound of counts and records in an entry, if there is one, and how often an entry was over it.
    pub limit: Option<usize>,
    pub too_large: usize,
    /// First `from` with which a revision was accepted, by (revision, partition).
    pub activated: BTreeMap<(Digest, i32), i64>,
}

#[derive(Clone)]
pub struct Hub {
    ledger: Arc<Mutex<Ledger>>,
    pub url: String,
}

impl Hub {
    pub async fn start() -> Self {
        let ledger = Arc::new(Mutex::new(Ledger {
            mode: Mode::Up,
            plan: None,
            topics: BTreeMap::new(),
            counts: BTreeMap::new(),
            records: BTreeMap::new(),
            dropped: Vec::new(),
            dead_letters: Vec::new(),
            progress: BTreeMap::new(),
            taken: Vec::new(),
            bounds: Vec::new(),
            reports: BTreeMap::new(),
            refused: 0,
            muted: 0,
            limit: None,
            too_large: 0,
            activated: BTreeMap::new(),
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let hub = Self { ledger, url };
        let router = Router::new()
            .route(paths::SOURCE_PLAN, get(plan))
            .route(paths::POSITIONS, post(positions))
            .route(paths::COMMITS, post(commits))
            .route(paths::REPORTS, put(reports))
            .with_state(hub.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        hub
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }
}

async fn plan(State(hub): State<Hub>, Query(query): Query<PlanQuery>) -> Response {
    let until = std::time::Instant::now() + Duration::from_millis(query.wait_ms);
    loop {
        match hub.ledger().plan.clone() {
            None => return StatusCode::NOT_FOUND.into_response(),
            Some(plan) if plan.revision.as_str() != query.revision => return Json(plan).into_response(),
            Some(_) if std::time::Instant::now() > until => return StatusCode::NO_CONTENT.into_response(),
            Some(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn positions(State(hub): State<Hub>, Json(request): Json<PositionsRequest>) -> Response {
    let mut ledger = hub.ledger();
    if ledger.mode != Mode::Up {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let mut answer = Positions { topics: BTreeMap::new() };
    for asked in request.topics {
        let first: Vec<i64> = asked.partitions.iter().map(|(first, _)| *first).collect();
        let known =
            ledger.topics.entry(asked.topic.clone()).or_insert((asked.topic_id.clone(), first.clone()));
        if known.0 != asked.topic_id {
            *known = (asked.topic_id, first);
        }
        answer.topics.insert(asked.topic, known.1.clone());
    }
    Json(answer).into_response()
}

async fn commits(
    State(hub): State<Hub>,
    Path(_): Path<(String, String)>,
    Json(commit): Json<Commit>,
) -> Response {
    let mut ledger = hub.ledger();
    let ledger = &mut *ledger;
    if ledger.mode == Mode::Down {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let holds = |entry: &protocol::messages::Entry| entry.counts.len() + entry.records.len();
    if ledger.limit.is_some_and(|limit| commit.entries.iter().any(|entry| holds(entry) > limit)) {
        ledger.too_large += 1;
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    }
    let mut results = Vec::new();
    for entry in commit.entries {
        let known = ledger.topics.get_mut(&entry.topic).filter(|(id, _)| *id == entry.topic_id);
        let Some(next) = known.and_then(|(_, next)| next.get_mut(entry.partition as usize)) else {
            results.push(EntryResult::Unknown);
            continue;
        };
        if *next != entry.from {
            ledger.refused += 1;
            results.push(EntryResult::Elsewhere(*next));
            continue;
        }
        *next = entry.to;
        ledger.taken.push((entry.to, entry.progress_ms));
        ledger.activated.entry((commit.revision.clone(), entry.partition)).or_insert(entry.from);
        for count in entry.counts {
            *ledger.counts.entry(count.rule).or_default() += count.count;
        }
        for record in entry.records {
            let at = (record.rule, record.sample.at.partition, record.sample.at.offset);
            assert!((entry.from..entry.to).contains(&at.2), "a record outside of its entry");
            *ledger.records.entry(at).or_default() += 1;
        }
        if let Some(progress) = entry.progress_ms {
            let told = ledger.progress.entry((entry.topic, entry.partition)).or_default();
            *told = progress.max(*told);
        }
        ledger.dropped.extend(entry.dropped);
        ledger.dead_letters.extend(entry.dead_letters);
        results.push(EntryResult::Accepted(entry.to));
    }
    let open: Vec<_> = ledger
        .topics
        .iter()
        .flat_map(|(topic, (_, next))| (0..next.len()).map(|at| (topic.clone(), at as i32)))
        .collect();
    let known = ledger.plan.as_ref().and_then(|plan| commit.survey.as_ref()?.known_until(&plan.topics));
    let least = open.iter().map(|partition| ledger.progress.get(partition).copied()).min().flatten();
    ledger.bounds.extend(known.zip(least).map(|(known, least)| (known.min(least), open.len())));
    if ledger.mode == Mode::Mute {
        ledger.muted += 1;
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let revision = ledger.plan.as_ref().map_or(commit.revision, |plan| plan.revision.clone());
    Json(CommitResult { entries: results, revision }).into_response()
}

async fn reports(State(hub): State<Hub>, Json(report): Json<Report>) -> StatusCode {
    hub.ledger().reports.insert(report.instance.clone(), report);
    StatusCode::NO_CONTENT
}
