//! Who calls, and what they may do here.
//!
//! Invariants:
//! - A worker is the account named in the settings, in its own namespace, with a token made for the hub's audience.
//!   It may use that namespace alone.
//! - The operator is one account, and may use the operator's paths alone.
//! - Anyone else may only read, where a SubjectAccessReview allows it. Their token is for the hub's audience too,
//!   unless the settings also accept tokens for the API server. Or it is a token of the account for people: its
//!   audience says who may read which namespace, and the API server issued it by a policy that asked the same
//!   question (docs/adr/0026).
//! - A token is remembered by its hash.
//! - What can be refused without asking the API server is refused; questions to it are bounded.
//! - No claim of a token is believed before the API server has confirmed the token. Its form, expiry and audience
//!   serve only to refuse.

mod cache;
mod kube;
mod review;
mod review_limits;
mod token;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::http::HeaderMap;
use jiff::Timestamp;
use ledger::NamespaceIdentity;

use self::cache::{Access, Answers, TokenHolder};
pub use self::kube::KubeReviewer;
pub use self::review::{Identity, ReviewError, Reviewer};
use self::review_limits::ReviewLimits;
use self::token::{Claims, Hash};
use crate::metrics::{KindLabel, Metrics};
use crate::refusal::Refusal;

/// How long the API server is taken for down after a failed question. Meanwhile, known workers and the operator are
/// answered from the cache at once.
const DOWN_FOR: Duration = Duration::from_secs(30);

/// The longest remaining lifetime of a token issued by the policy for people, seconds: an hour, plus a minute for
/// clocks that differ.
const GRANTED_FOR: i64 = 3_600 + 60;

/// What a path requires of its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// The caller must be the operator.
    Operator,
    /// The caller must be a worker of this namespace.
    Worker(String),
    /// The caller must be a worker of this namespace, or a person who may read there.
    Reader(String),
}

/// A caller who may do what the path does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The operator.
    Operator,
    /// A worker of the path's namespace.
    Worker,
    /// A person or another reading service, by username.
    Person(Arc<str>),
}

/// The result of a check, as a metric's label.
pub(crate) type AuthResult = &'static str;

/// A refusal, and whom it refused.
#[derive(Debug)]
pub struct Denied {
    /// What the caller is told.
    pub refusal: Refusal,
    /// The username, if the API server knows the caller.
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
            429 => "limited",
            _ => "unavailable",
        }
    }
}

/// The settings that say who is who.
#[derive(Debug, Clone)]
pub struct Accounts {
    /// Audience of the tokens of operator and workers.
    pub audience: String,
    /// The operator's username.
    pub operator: String,
    /// Name of the workers' service account in each namespace.
    pub worker: String,
    /// Username of the account for whose tokens the policy for people stands, if there is one.
    pub people: Option<String>,
    /// Whether people may use tokens made for the API server.
    pub accept_api_server_tokens: bool,
}

/// Authenticates and authorizes callers.
pub struct Auth {
    accounts: Accounts,
    reviewer: Arc<dyn Reviewer>,
    answers: Answers,
    asking: ReviewLimits,
    metrics: Arc<Metrics>,
    /// While set and not over, the API server is taken for down. Set by each failure, cleared by an answer.
    down: Mutex<Option<Instant>>,
}

impl Auth {
    /// Asks `reviewer` what the cache does not hold.
    pub(crate) fn new(accounts: Accounts, reviewer: Arc<dyn Reviewer>, metrics: Arc<Metrics>) -> Self {
        let asking = ReviewLimits::new(Instant::now());
        Self { accounts, reviewer, answers: Answers::default(), asking, metrics, down: Mutex::default() }
    }

    /// Whether the bearer of the request's token, calling from this address, may do what `need` says, and who they
    /// are.
    pub async fn check(
        &self,
        headers: &HeaderMap,
        need: &Need,
        from: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Caller, Denied> {
        let token = token::bearer(headers).map_err(|why| Denied::new(Refusal::unauthorized(why), None))?;
        let hash = token::hash(token);
        let from = from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let known = self.identify(token, hash, from, now).await;
        let known = known.map_err(|refusal| Denied::new(refusal, None))?;
        let who = &known.identity.username;
        let forbid = |why: String| Err(Denied::new(Refusal::forbidden(why), Some(who)));
        let worker = known.for_hub.then(|| self.worker_namespace(who)).flatten();
        match need {
            Need::Operator if known.for_hub && *who == self.accounts.operator => Ok(Caller::Operator),
            Need::Operator => forbid("only Belfry's operator may do this".to_owned()),
            Need::Worker(ns) | Need::Reader(ns) if worker == Some(ns) => Ok(Caller::Worker),
            Need::Worker(ns) | Need::Reader(ns) if !is_namespace(ns) => {
                forbid("the path names nothing that could be a namespace".to_owned())
            }
            Need::Worker(ns) => forbid(format!("only a Belfry worker of namespace {ns:?} may do this")),
            // Workers of other namespaces and the operator may not read as people, whatever rights their accounts have.
            Need::Reader(_) if worker.is_some() || *who == self.accounts.operator => {
                forbid("this token is for another part of Belfry".to_owned())
            }
            Need::Reader(ns) if known.granted.is_some() => {
                if known.granted.as_ref() == Some(ns) {
                    return Ok(Caller::Person(who.as_str().into()));
                }
                forbid(format!("this token is not for namespace {ns:?}"))
            }
            Need::Reader(ns) => {
                let may = self.may_read(hash, &known.identity, ns);
                if may.await.map_err(|refusal| Denied::new(refusal, Some(who)))? {
                    Ok(Caller::Person(who.as_str().into()))
                } else {
                    forbid(format!(
                        "to read notifications of namespace {ns:?} you need the right to get alertrules.belfry.dev there"
                    ))
                }
            }
        }
    }

    /// The namespace that a caller with read access reads: the one in which access was granted, or a later one;
    /// `None` if it is gone.
    pub async fn reads_in(
        &self,
        headers: &HeaderMap,
        ns: &str,
    ) -> Result<Option<NamespaceIdentity>, Refusal> {
        let token = token::bearer(headers).map_err(Refusal::unauthorized)?;
        let key = Access { token: token::hash(token), namespace: ns.to_owned() };
        if let Some(known) = self.answers.namespace(&key, Instant::now()) {
            return Ok(known);
        }
        let made = self.namespace(ns).await.map_err(|error| no_namespace(&error))?;
        self.answers.keep_namespace(key, made, Instant::now());
        Ok(made)
    }

    /// The identity of the namespace that has this name now; `None` if there is none.
    pub async fn namespace(&self, ns: &str) -> Result<Option<NamespaceIdentity>, ReviewError> {
        let _turn = self.asking.known().await.map_err(|refusal| ReviewError(refusal.message))?;
        self.metrics.reviews.get_or_create(&KindLabel { kind: "namespace" }).inc();
        self.reviewer.namespace(ns).await
    }

    /// The namespace of a worker, by its username; `None` for other users.
    fn worker_namespace<'a>(&self, username: &'a str) -> Option<&'a str> {
        let (namespace, account) = username.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        (account == self.accounts.worker && !namespace.is_empty()).then_some(namespace)
    }

    /// Refuses what a token's claims alone rule out, before the API server is asked; returns the claims.
    fn check_claims(&self, token: &str, now: Timestamp) -> Result<Option<Claims>, Refusal> {
        let claims = token::claims(token);
        if claims.as_ref().and_then(|claims| claims.exp).is_some_and(|exp| exp <= now.as_second()) {
            return Err(Refusal::unauthorized("the token has expired"));
        }
        let is_for_hub = claims.as_ref().is_some_and(|claims| self.is_for_hub(claims));
        if let Some(claims) = claims.as_ref().filter(|claims| self.granted(claims).is_some()) {
            // The policy issues none that lasts longer: this one was made in another way.
            if claims.exp.is_none_or(|exp| exp > now.as_second() + GRANTED_FOR) {
                return Err(Refusal::unauthorized("a token to read a namespace with lasts an hour at most"));
            }
            return Ok(Some(claims.clone()));
        }
        if is_for_hub || self.accounts.accept_api_server_tokens {
            return Ok(claims);
        }
        Err(Refusal::unauthorized(format!(
            "the token is not for the hub: make one with kubectl create token ACCOUNT --audience={}",
            self.accounts.audience
        )))
    }

    fn is_for_hub(&self, claims: &Claims) -> bool {
        claims.audiences.contains(&self.accounts.audience)
    }

    /// The namespace and the user that the audience of a token for people names.
    fn granted<'a>(&self, claims: &'a Claims) -> Option<(&'a str, &'a str)> {
        self.accounts.people.as_ref()?;
        let [audience] = claims.audiences.as_slice() else { return None };
        let grant = audience.strip_prefix(&self.accounts.audience)?.strip_prefix('/')?;
        grant.split_once('/').filter(|(ns, user)| is_namespace(ns) && !user.is_empty())
    }

    /// The token's holder, from the cache or the API server.
    async fn identify(
        &self,
        token: &str,
        hash: Hash,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<Arc<TokenHolder>, Refusal> {
        let claims = self.check_claims(token, now)?;
        let says_when_it_ends = claims.as_ref().is_some_and(|claims| claims.exp.is_some());
        if let Some(answer) = self.remembered(&hash, says_when_it_ends) {
            return answer.ok_or_else(unknown);
        }
        let is_stranger = !self.answers.knew(&hash);
        let turn = if is_stranger { self.asking.stranger(from).await } else { self.asking.known().await };
        let _turn = turn?;
        // While this request waited for its turn, another may have asked the same, or found the server down.
        if let Some(answer) = self.remembered(&hash, says_when_it_ends) {
            return answer.ok_or_else(unknown);
        }
        match self.review(token, claims.as_ref()).await {
            Ok(answer) => {
                self.answered();
                if is_stranger && answer.is_some() {
                    self.asking.confirmed(from);
                }
                let answer = answer.map(Arc::new);
                self.answers.keep(hash, answer.clone(), Instant::now());
                answer.ok_or_else(unknown)
            }
            Err(error) => {
                self.failed(&error);
                let held = self.answers.hold(&hash, says_when_it_ends, Instant::now());
                held.ok_or_else(|| {
                    Refusal::unavailable("the Kubernetes API server can't be asked who you are")
                })
            }
        }
    }

    /// What the cache says of a token: not known, known to be nobody's, or its holder.
    #[allow(clippy::option_option, reason = "not known, known to be nobody's, known")]
    fn remembered(&self, hash: &Hash, says_when_it_ends: bool) -> Option<Option<Arc<TokenHolder>>> {
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

    /// Asks the API server once: for the hub's audience if the token claims it, otherwise for the API server's own.
    /// A token without readable claims may be either, so both questions are possible.
    async fn review(&self, token: &str, claims: Option<&Claims>) -> Result<Option<TokenHolder>, ReviewError> {
        if let Some((claims, (ns, user))) = claims.and_then(|claims| Some((claims, self.granted(claims)?))) {
            let audience = claims.audiences.first().map(String::as_str);
            let confirmed = self.ask(token, audience).await?;
            let is_ours = |identity: &Identity| Some(&identity.username) == self.accounts.people.as_ref();
            return Ok(confirmed.filter(is_ours).map(|_| TokenHolder {
                identity: Identity { username: user.to_owned(), ..Identity::default() },
                for_hub: false,
                granted: Some(ns.to_owned()),
                is_service: false,
            }));
        }
        let says_for_hub = claims.map(|claims| self.is_for_hub(claims));
        if says_for_hub != Some(false)
            && let Some(identity) = self.ask(token, Some(&self.accounts.audience)).await?
        {
            let who = &identity.username;
            let is_service = *who == self.accounts.operator || self.worker_namespace(who).is_some();
            return Ok(Some(TokenHolder { identity, for_hub: true, granted: None, is_service }));
        }
        if says_for_hub == Some(true) || !self.accounts.accept_api_server_tokens {
            return Ok(None);
        }
        let identity = self.ask(token, None).await?;
        Ok(identity.map(|identity| TokenHolder {
            identity,
            for_hub: false,
            granted: None,
            is_service: false,
        }))
    }

    async fn ask(&self, token: &str, audience: Option<&str>) -> Result<Option<Identity>, ReviewError> {
        self.metrics.reviews.get_or_create(&KindLabel { kind: "token" }).inc();
        self.reviewer.token(token, audience).await
    }

    async fn may_read(&self, hash: Hash, who: &Identity, ns: &str) -> Result<bool, Refusal> {
        let key = Access { token: hash, namespace: ns.to_owned() };
        if let Some(may) = self.answers.access(&key, Instant::now()) {
            return Ok(may);
        }
        let _turn = self.asking.access(&who.username).await?;
        self.metrics.reviews.get_or_create(&KindLabel { kind: "access" }).inc();
        let may = self.reviewer.may_read(who, ns).await.map_err(|error| {
            self.failed(&error);
            Refusal::unavailable("the Kubernetes API server can't be asked what you may read")
        })?;
        self.answered();
        self.answers.keep_access(key, may, Instant::now());
        Ok(may)
    }
}

/// The refusal when the API server can't say which namespace this is.
pub(crate) fn no_namespace(error: &ReviewError) -> Refusal {
    tracing::warn!(%error, "a namespace can't be asked for: has the hub the right to get namespaces?");
    Refusal::unavailable("the Kubernetes API server can't be asked which namespace this is")
}

fn unknown() -> Refusal {
    Refusal::unauthorized("the Kubernetes API server does not know this token, or it has expired")
}

/// Whether a namespace can have this name (RFC 1123).
fn is_namespace(name: &str) -> bool {
    let of_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(of_label)
}

#[cfg(test)]
mod tests;
