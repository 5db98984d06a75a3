//! The one client of the hub's API. It makes a call and returns its result; when to call again is up to the caller.
//! A commit that is larger than the hub takes becomes several calls.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::messages::{
    Alive, ChannelRequest, ChannelsPlan, ClaimRequest, Claimed, Commit, CommitResult, DeadLetterList,
    DeadLetterQuery, Feed, FeedQuery, LiveObjects, NotificationList, NotificationQuery, NotificationStory,
    Outcomes, PlanQuery, Positions, PositionsRequest, Problem, PutPlans, ReminderState, Reminders, Report,
    Revisions, SourcePlan,
};
use crate::paths;
use crate::split;
use crate::version::{HEADER, VERSION};

/// Longest answer taken, bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// How long a call may take beyond the time it was asked to wait.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Where the bearer token comes from.
#[derive(Clone)]
pub enum TokenSource {
    /// A projected service-account token, read at every call, since the kubelet renews it.
    File(PathBuf),
    /// A given token.
    Fixed(String),
}

/// How to reach the hub.
#[derive(Clone)]
pub struct ClientConfig {
    /// `https://belfry-hub.belfry-system.svc:8443`, or http where something else sees to secrecy.
    pub url: String,
    /// PEM of the authority of the hub's certificate, where it is a private one.
    pub ca: Option<Vec<u8>>,
    /// The name that the certificate is checked for, where the address has another.
    pub server_name: Option<String>,
    /// Who is calling.
    pub token: TokenSource,
}

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The hub's address or certificates can't be used.
    #[error("the hub's address or certificate authority can't be used: {0}")]
    Config(String),
    /// The token can't be read.
    #[error("the service-account token can't be read")]
    Token(#[source] std::io::Error),
    /// No answer: not reached, broken off, or timed out. What was asked may have happened.
    #[error("the hub can't be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The hub answered with an error.
    #[error("the hub answered {} {}: {}", .status.as_u16(), .problem.reason, .problem.message)]
    Refused {
        /// The status.
        status: StatusCode,
        /// What it said.
        problem: Problem,
        /// From `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The answer isn't of the protocol.
    #[error("the hub's answer can't be read: {0}")]
    Answer(String),
}

impl Error {
    /// The status, where the hub answered.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Config(_) | Self::Answer(_) => false,
            Self::Token(_) | Self::Unreachable(_) => true,
            Self::Refused { status, .. } => {
                status.is_server_error() || matches!(status.as_u16(), 401 | 408 | 429)
            }
        }
    }
}

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: TokenSource,
}

/// The URL with another name for its host, and where that is.
fn named(url: &str, name: &str) -> Result<(String, Vec<SocketAddr>), String> {
    let mut parsed = reqwest::Url::parse(url).map_err(|error| format!("{url}: {error}"))?;
    let addresses = parsed.socket_addrs(|| None).map_err(|error| format!("{url}: {error}"))?;
    parsed.set_host(Some(name)).map_err(|error| format!("{name}: {error}"))?;
    Ok((parsed.into(), addresses))
}

impl Client {
    /// Makes a client; a rustls crypto provider must have been installed as the process default. Looks the address up where
    /// `server_name` is given.
    pub fn new(config: ClientConfig) -> Result<Self, Error> {
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .tcp_keepalive(Duration::from_secs(15))
            .redirect(reqwest::redirect::Policy::none());
        if let Some(pem) = config.ca {
            let roots = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| Error::Config(error.to_string()))?;
            builder = builder.tls_certs_only(roots);
        }
        let mut base = config.url;
        if let Some(name) = &config.server_name {
            let (url, addresses) = named(&base, name).map_err(Error::Config)?;
            base = url;
            builder = builder.resolve_to_addrs(name, &addresses);
        }
        let http = builder.build().map_err(|error| Error::Config(error.to_string()))?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), token: config.token })
    }

    fn to(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    async fn call(
        &self,
        mut request: reqwest::RequestBuilder,
        body: Option<Vec<u8>>,
        wait: Duration,
    ) -> Result<Option<Vec<u8>>, Error> {
        let token = match &self.token {
            TokenSource::Fixed(token) => token.clone(),
            TokenSource::File(path) => tokio::fs::read_to_string(path).await.map_err(Error::Token)?,
        };
        request = request
            .timeout(wait + CALL_TIMEOUT)
            .bearer_auth(token.trim())
            .header(HEADER, VERSION.to_string());
        if let Some(body) = body {
            request = request.header(http::header::CONTENT_TYPE, "application/json").body(body);
        }
        let mut response = request.send().await.map_err(|error| Error::Unreachable(error.without_url()))?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get(http::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let mut bytes = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| Error::Unreachable(error.without_url()))?
        {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(Error::Answer(format!("longer than {MAX_ANSWER} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        if status == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        if status.is_success() {
            return Ok(Some(bytes));
        }
        let problem = serde_json::from_slice(&bytes).unwrap_or_else(|_| Problem {
            reason: "Unreadable".to_owned(),
            message: String::from_utf8_lossy(&bytes).chars().take(200).collect(),
        });
        Err(Error::Refused { status, problem, retry_after })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        some(self.ask(path, &(), Duration::ZERO).await?)
    }

    /// Asks a query, of the type that the hub reads it as. `None` where there is nothing new.
    async fn ask<Q: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        query: &Q,
        wait: Duration,
    ) -> Result<Option<T>, Error> {
        let bytes = self.call(self.to(Method::GET, path).query(query), None, wait).await?;
        bytes.map(|bytes| parse_answer(&bytes)).transpose()
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: Vec<u8>, wait: Duration) -> Result<T, Error> {
        let bytes = self.call(self.to(Method::POST, path), Some(body), wait).await?;
        parse_answer(&bytes.unwrap_or_default())
    }

    async fn tell<B: Serialize + Sync>(&self, method: Method, path: &str, body: &B) -> Result<(), Error> {
        self.call(self.to(method, path), Some(json(body)?), Duration::ZERO).await.map(drop)
    }

    /// [`paths::PLANS`].
    pub async fn put_plans(&self, plans: &PutPlans) -> Result<(), Error> {
        self.tell(Method::POST, paths::PLANS, plans).await
    }

    /// [`paths::REVISIONS`].
    pub async fn revisions(&self) -> Result<Revisions, Error> {
        self.get(paths::REVISIONS).await
    }

    /// [`paths::LIVE`].
    pub async fn put_live(&self, live: &LiveObjects) -> Result<(), Error> {
        self.tell(Method::PUT, paths::LIVE, live).await
    }

    /// [`paths::FEED`].
    pub async fn feed(&self, after: i64, wait: Duration) -> Result<Feed, Error> {
        let query = FeedQuery { after, wait_ms: wait.as_millis() as u64 };
        some(self.ask(paths::FEED, &query, wait).await?)
    }

    /// [`paths::REQUESTS`].
    pub async fn request(&self, request: &ChannelRequest) -> Result<(), Error> {
        self.tell(Method::POST, paths::REQUESTS, request).await
    }

    async fn plan<T: DeserializeOwned>(
        &self,
        path: &str,
        held: &str,
        wait: Duration,
    ) -> Result<Option<T>, Error> {
        let query = PlanQuery { revision: held.to_owned(), wait_ms: wait.as_millis() as u64 };
        self.ask(path, &query, wait).await
    }

    /// [`paths::SOURCE_PLAN`]; `None` when unchanged.
    pub async fn source_plan(
        &self,
        ns: &str,
        source: &str,
        held: &str,
        wait: Duration,
    ) -> Result<Option<SourcePlan>, Error> {
        self.plan(&paths::fill(paths::SOURCE_PLAN, &[ns, source]), held, wait).await
    }

    /// [`paths::POSITIONS`].
    pub async fn positions(
        &self,
        ns: &str,
        source: &str,
        request: &PositionsRequest,
    ) -> Result<Positions, Error> {
        self.post(&paths::fill(paths::POSITIONS, &[ns, source]), json(request)?, Duration::ZERO).await
    }

    /// [`paths::COMMITS`]. One that is larger than the hub takes goes in parts, one after the other; after an error some of
    /// them may have been taken, which the same commit again is told of each entry.
    pub async fn commit(&self, ns: &str, source: &str, commit: &Commit) -> Result<CommitResult, Error> {
        let path = paths::fill(paths::COMMITS, &[ns, source]);
        let mut all: Option<CommitResult> = None;
        for body in split::bodies(commit).map_err(|error| Error::Config(error.to_string()))? {
            let result: CommitResult = self.post(&path, body, Duration::ZERO).await?;
            match &mut all {
                None => all = Some(result),
                Some(all) => {
                    all.entries.extend(result.entries);
                    all.revision = result.revision;
                }
            }
        }
        some(all)
    }

    /// [`paths::CHANNELS_PLAN`]; `None` when unchanged.
    pub async fn channels_plan(
        &self,
        ns: &str,
        held: &str,
        wait: Duration,
    ) -> Result<Option<ChannelsPlan>, Error> {
        self.plan(&paths::fill(paths::CHANNELS_PLAN, &[ns]), held, wait).await
    }

    /// [`paths::CLAIM`].
    pub async fn claim(&self, ns: &str, request: &ClaimRequest) -> Result<Claimed, Error> {
        let wait = Duration::from_millis(request.wait_ms);
        self.post(&paths::fill(paths::CLAIM, &[ns]), json(request)?, wait).await
    }

    /// [`paths::ALIVE`].
    pub async fn alive(&self, ns: &str, alive: &Alive) -> Result<(), Error> {
        self.tell(Method::POST, &paths::fill(paths::ALIVE, &[ns]), alive).await
    }

    /// [`paths::OUTCOMES`].
    pub async fn outcomes(&self, ns: &str, outcomes: &Outcomes) -> Result<(), Error> {
        self.tell(Method::POST, &paths::fill(paths::OUTCOMES, &[ns]), outcomes).await
    }

    /// [`paths::SCHEDULE`].
    pub async fn schedule(&self, ns: &str, uid: Uuid) -> Result<ReminderState, Error> {
        self.get(&paths::fill(paths::SCHEDULE, &[ns, &uid.to_string()])).await
    }

    /// [`paths::REMINDERS`].
    pub async fn reminders(&self, ns: &str, uid: Uuid, reminders: &Reminders) -> Result<(), Error> {
        self.tell(Method::POST, &paths::fill(paths::REMINDERS, &[ns, &uid.to_string()]), reminders).await
    }

    /// [`paths::REPORTS`].
    pub async fn report(&self, ns: &str, report: &Report) -> Result<(), Error> {
        self.tell(Method::PUT, &paths::fill(paths::REPORTS, &[ns]), report).await
    }

    /// [`paths::NOTIFICATIONS`].
    pub async fn notifications(
        &self,
        ns: &str,
        query: &NotificationQuery,
    ) -> Result<NotificationList, Error> {
        some(self.ask(&paths::fill(paths::NOTIFICATIONS, &[ns]), query, Duration::ZERO).await?)
    }

    /// [`paths::NOTIFICATION`].
    pub async fn notification(&self, ns: &str, id: Uuid) -> Result<NotificationStory, Error> {
        self.get(&paths::fill(paths::NOTIFICATION, &[ns, &id.to_string()])).await
    }

    /// [`paths::DEAD_LETTERS`].
    pub async fn dead_letters(&self, ns: &str, query: &DeadLetterQuery) -> Result<DeadLetterList, Error> {
        some(self.ask(&paths::fill(paths::DEAD_LETTERS, &[ns]), query, Duration::ZERO).await?)
    }
}

fn json<B: Serialize>(body: &B) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(body).map_err(|error| Error::Config(format!("a request can't be written: {error}")))
}

fn parse_answer<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Answer(error.to_string()))
}

fn some<T>(answer: Option<T>) -> Result<T, Error> {
    answer.ok_or_else(|| Error::Answer("empty".to_owned()))
}
