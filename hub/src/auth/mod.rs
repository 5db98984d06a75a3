//! Who calls, and what they may do here.
//!
//! Invariants: a worker is the account named in the settings, in a namespace of its own, by a token made for the hub's
//! audience; it may touch that namespace alone. The operator is one account, and may use the operator's paths alone.
//! Anyone else may only read, and only where a SubjectAccessReview allows it, by such a token too unless the settings take
//! those for the API server; or by one of the account for people, which says in its audience who may read where: the API server
//! gave it out by a policy that asked the same (docs/adr/0026). A token is known by its hash. What can be refused without asking is, and what is asked is bounded.
//! Never: a claim of a token believed that the API server has not confirmed; its form, expiry and audience serve to refuse.

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

/// How long the API server is taken for down after it gave no answer: meanwhile those who are known are not kept waiting.
const DOWN_FOR: Duration = Duration::from_secs(30);

/// How long a token that the policy for people gives out may last from now, seconds: an hour, and clocks differ.
const GRANTED_FOR: i64 = 3_600 + 60;

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
    /// A person, or a service that reads like one, by username.
    Person(Arc<str>),
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
            429 => "limited",
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
    /// Username of the account whose tokens are given out by the policy for people, if there is one.
    pub people: Option<String>,
    /// Whether people may show tokens for the API server.
    pub accept_api_server_tokens: bool,
}

/// Answers who may do what.
pub struct Auth {
    accounts: Accounts,
    reviewer: Arc<dyn Reviewer>,
    answers: Answers,
    asking: ReviewLimits,
    metrics: Arc<Metrics>,
    /// Until when the API server is taken for down, from its first failure to its next answer.
    down: Mutex<Option<Instant>>,
}

impl Auth {
    /// Asks `reviewer` what it does not know.
    pub(crate) fn new(accounts: Accounts, reviewer: Arc<dyn Reviewer>, metrics: Arc<Metrics>) -> Self {
        let asking = ReviewLimits::new(Instant::now());
        Self { accounts, reviewer, answers: Answers::default(), asking, metrics, down: Mutex::default() }
    }

    /// Whether the request's bearer, who calls from this address, may do what `need` says, and as whom.
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
            // A worker of another namespace and the operator are no people, whatever else their accounts may do.
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

    /// Which namespace a caller who may read there reads in: the one that they were allowed in, or a later one; none when it is
    /// gone.
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

    /// Which namespace of this name there is now; none when there is none.
    pub async fn namespace(&self, ns: &str) -> Result<Option<NamespaceIdentity>, ReviewError> {
        let _turn = self.asking.known().await.map_err(|refusal| ReviewError(refusal.message))?;
        self.metrics.reviews.get_or_create(&KindLabel { kind: "namespace" }).inc();
        self.reviewer.namespace(ns).await
    }

    /// The namespace of a worker's username.
    fn worker_namespace<'a>(&self, username: &'a str) -> Option<&'a str> {
        let (namespace, account) = username.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        (account == self.accounts.worker && !namespace.is_empty()).then_some(namespace)
    }

    /// What a token's form says before anybody is asked about it.
    fn check_claims(&self, token: &str, now: Timestamp) -> Result<Option<Claims>, Refusal> {
        let claims = token::claims(token);
        if claims.as_ref().and_then(|claims| claims.exp).is_some_and(|exp| exp <= now.as_second()) {
            return Err(Refusal::unauthorized("the token has expired"));
        }
        let is_for_hub = claims.as_ref().is_some_and(|claims| self.is_for_hub(claims));
        if let Some(claims) = claims.as_ref().filter(|claims| self.granted(claims).is_some()) {
            // The policy gives out none that lasts longer: such a one was made without it.
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

    /// What a token of the account for people says in its audience: the namespace, and the user.
    fn granted<'a>(&self, claims: &'a Claims) -> Option<(&'a str, &'a str)> {
        self.accounts.people.as_ref()?;
        let [audience] = claims.audiences.as_slice() else { return None };
        let grant = audience.strip_prefix(&self.accounts.audience)?.strip_prefix('/')?;
        grant.split_once('/').filter(|(ns, user)| is_namespace(ns) && !user.is_empty())
    }

    /// Who holds this token, by the cache or by the API server.
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
        // Another request may have asked the same, or found the server down, while this one waited for its turn.
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

    /// What is known of a token without asking: that it is nobody's, or whose it is.
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

    /// Asks the API server: as a token for the hub where it says that it is one, else as one of its own; once. A token that says
    /// nothing of itself may be either.
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

/// What a caller is told when it can't be found out which namespace this is.
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
