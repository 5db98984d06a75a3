//! The three questions that the hub asks of the API server, behind a trait so that a test can answer them.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use ledger::NamespaceIdentity;

/// A user, as the API server knows them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `system:serviceaccount:<namespace>:<name>` for service accounts.
    pub username: String,
    /// The account's uid.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// What else the authenticator said; part of an access review.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The API server can't be reached, or gave no answer.
#[derive(Debug, thiserror::Error)]
#[error("the API server can't be asked: {0}")]
pub struct ReviewError(pub String);

/// Asks the API server.
pub trait Reviewer: Send + Sync + 'static {
    /// TokenReview: the holder of this token for this audience, or for the API server's own audience if none is
    /// given; `None` if the token is not valid.
    fn token<'a>(
        &'a self,
        token: &'a str,
        audience: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<Identity>, ReviewError>>;

    /// The identity of the namespace that has this name now; `None` if there is none.
    fn namespace<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<NamespaceIdentity>, ReviewError>>;

    /// SubjectAccessReview: whether they may `get` `alertrules.belfry.dev` in this namespace.
    fn may_read<'a>(
        &'a self,
        who: &'a Identity,
        namespace: &'a str,
    ) -> BoxFuture<'a, Result<bool, ReviewError>>;
}
