//! Who calls, and what they may do here.
//!
//! Invariants: a worker is the account named in the settings, in a namespace of its own, by a token made for the hub's
//! audience; it may touch that namespace alone. The operator is one account, and may use the operator's paths alone.
//! Anyone else may only read, and only where a SubjectAccessReview allows it. A token is known by its hash.
//! Never: a claim of a token believed that the API server has not confirmed, but for its expiry, and that only to refuse.

mod cache;
mod kube;
mod review;
mod token;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::http::HeaderMap;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use self::cache::{Access, Answers};
pub use self::kube::KubeReviewer;
pub use self::review::{Identity, ReviewError, Reviewer};
use self::token::Hash;
use crate::problem::Refusal;

/// Questions asked of the API server at the same time. A flood of junk waits in line here.
const REVIEWS_AT_ONCE: usize = 16;

/// How long the API server is taken for down after it gave no answer: meanwhile those who are known are not kept waiting.
const DOWN_FOR: Duration = Duration::from_secs(30);

/// What a path asks of its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// To be the operator.
    Operator,
    /// To be a worker of this namespace.
    Worker(String),
    /// To be a worker of this namespace, or a person who may read there.
    Reader(String),
}

/// Who calls, once it is known that they may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The operator.
    Operator,
    /// A worker of the path's namespace.
    Worker,
    /// A person, or a service that reads like one.
    Person,
}

/// How the question ended: the label of the metric.
pub(crate) type AuthResult = &'static str;

/// A refusal, with whom it refused.
#[derive(Debug)]
pub struct Denied {
    /// What the caller is told.
    pub refusal: Refusal,
    /// Who they are, where the API server knows them.
    pub who: Option<String>,
}

impl Denied {
    fn new(refusal: Refusal, who: Option<&str>) -> Self {
        Self { refusal, who: who.map(str::to_owned) }
    }

    /// The label of the metric.
    pub(crate) fn result(&self) -> AuthResult {
        match self.refusal.status.as_u16() {
            401 => "unauthorized",
            403 => "forbidden",
            _ => "unavailable",
        }
    }
}

/// The accounts that mean something here.
#[derive(Debug, Clone)]
pub struct Accounts {
    /// Audience of operator's and workers' tokens.
    pub audience: String,
    /// The operator's username.
    pub operator: String,
    /// Name of the workers' service account in each namespace.
    pub worker: String,
}

/// Answers who may do what.
pub struct Auth {
    accounts: Accounts,
    reviewer: Arc<dyn Reviewer>,
    answers: Answers,
    asking: Semaphore,
    /// Until when the API server is taken for down, from its first failure to its next answer.
    down: Mutex<Option<Instant>>,
}

impl Auth {
    /// Asks `reviewer` what it does not know.
    pub fn new(accounts: Accounts, reviewer: Arc<dyn Reviewer>) -> Self {
        let asking = Semaphore::new(REVIEWS_AT_ONCE);
        Self { accounts, reviewer, answers: Answers::default(), asking, down: Mutex::default() }
    }

    /// Whether the request's bearer may do what `need` says, and as whom.
    pub async fn check(&self, headers: &HeaderMap, need: &Need, now: Timestamp) -> Result<Caller, Denied> {
        let token = token::bearer(headers).map_err(|why| Denied::new(Refusal::unauthorized(why), None))?;
        let hash = token::hash(token);
        let known = self.identify(token, hash, now).await.map_err(|refusal| Denied::new(refusal, None))?;
        let who = &known.identity.username;
        let forbid = |why: String| Err(Denied::new(Refusal::forbidden(why), Some(who)));
        let worker = known.for_hub.then(|| self.worker_namespace(who)).flatten();
        match need {
            Need::Operator if known.for_hub && *who == self.accounts.operator => Ok(Caller::Operator),
            Need::Operator => forbid("only Belfry's operator may do this".to_owned()),
            Need::Worker(ns) | Need::Reader(ns) if worker == Some(ns) => Ok(Caller::Worker),
            Need::Worker(ns) => forbid(format!("only a Belfry worker of namespace {ns:?} may do this")),
            // A worker of another namespace and the operator are no people, whatever else their accounts may do.
            Need::Reader(_) if worker.is_some() || *who == self.accounts.operator => {
                forbid("this token is for another part of Belfry".to_owned())
            }
            Need::Reader(ns) => {
                let may = self.may_read(hash, &known.identity, ns);
                if may.await.map_err(|refusal| Denied::new(refusal, Some(who)))? {
                    Ok(Caller::Person)
                } else {
                    forbid(format!(
                        "to read notifications of namespace {ns:?} you need the right to get alertrules.belfry.dev there"
                    ))
                }
            }
        }
    }

    /// The namespace of a worker's username.
    fn worker_namespace<'a>(&self, username: &'a str) -> Option<&'a str> {
        let (namespace, account) = username.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        (account == self.accounts.worker && !namespace.is_empty()).then_some(namespace)
    }

    /// Who holds this token, by the cache or by the API server.
    async fn identify(&self, token: &str, hash: Hash, now: Timestamp) -> Result<Arc<Known>, Refusal> {
        let exp = token::expiry(token);
        if exp.is_some_and(|exp| exp <= now.as_second()) {
            return Err(Refusal::unauthorized("the token has expired"));
        }
        if let Some(answer) = self.remembered(&hash, exp.is_some()) {
            return answer.ok_or_else(unknown);
        }
        let _turn = self.asking.acquire().await.map_err(|_| Refusal::unavailable("shutting down"))?;
        // Another request may have asked the same, or found the server down, while this one waited for its turn.
        if let Some(answer) = self.remembered(&hash, exp.is_some()) {
            return answer.ok_or_else(unknown);
        }
        match self.review(token).await {
            Ok(answer) => {
                self.answered();
                let answer = answer.map(Arc::new);
                self.answers.keep(hash, answer.clone(), Instant::now());
                answer.ok_or_else(unknown)
            }
            Err(error) => {
                self.failed(&error);
                let held = self.answers.hold(&hash, exp.is_some(), Instant::now());
                held.ok_or_else(|| {
                    Refusal::unavailable("the Kubernetes API server can't be asked who you are")
                })
            }
        }
    }

    /// What is known of a token without asking: that it is nobody's, or whose it is.
    #[allow(clippy::option_option, reason = "not known, known to be nobody's, known")]
    fn remembered(&self, hash: &Hash, says_when_it_ends: bool) -> Option<Option<Arc<Known>>> {
        let at = Instant::now();
        let fresh = self.answers.token(hash, at);
        if fresh.is_some() || !self.is_down(at) {
            return fresh;
        }
        self.answers.hold(hash, says_when_it_ends, at).map(Some)
    }

    fn is_down(&self, at: Instant) -> bool {
        self.down.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| at < until)
    }

    fn failed(&self, error: &ReviewError) {
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        if down.is_none() {
            tracing::warn!(%error, "callers can't be reviewed; those already known go on");
        }
        *down = Some(Instant::now() + DOWN_FOR);
    }

    fn answered(&self) {
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        if down.take().is_some() {
            tracing::info!("callers can be reviewed again");
        }
    }

    /// Asks the API server: as a token for the hub, and where it is none, as any token of the cluster.
    async fn review(&self, token: &str) -> Result<Option<Known>, ReviewError> {
        if let Some(identity) = self.reviewer.token(token, Some(&self.accounts.audience)).await? {
            return Ok(Some(Known { identity, for_hub: true }));
        }
        let identity = self.reviewer.token(token, None).await?;
        Ok(identity.map(|identity| Known { identity, for_hub: false }))
    }

    async fn may_read(&self, hash: Hash, who: &Identity, ns: &str) -> Result<bool, Refusal> {
        let key = Access { token: hash, namespace: ns.to_owned() };
        if let Some(may) = self.answers.access(&key, Instant::now()) {
            return Ok(may);
        }
        let _turn = self.asking.acquire().await.map_err(|_| Refusal::unavailable("shutting down"))?;
        let may = self.reviewer.may_read(who, ns).await.map_err(|error| {
            self.failed(&error);
            Refusal::unavailable("the Kubernetes API server can't be asked what you may read")
        })?;
        self.answered();
        self.answers.keep_access(key, may, Instant::now());
        Ok(may)
    }
}

fn unknown() -> Refusal {
    Refusal::unauthorized("the Kubernetes API server does not know this token, or it has expired")
}

/// A token's holder.
#[derive(Debug)]
pub(crate) struct Known {
    identity: Identity,
    /// Whether the token was made for the hub's audience.
    for_hub: bool,
}

#[cfg(test)]
mod tests;
