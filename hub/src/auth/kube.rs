//! The questions to a real API server: the hub's only use of Kubernetes.
//!
//! The hub may create two kinds of review and get namespaces, nothing else.

use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::PostParams;
use kube::{Api, Client, Config};
use ledger::NamespaceIdentity;
use uuid::Uuid;

use super::review::{Identity, ReviewError, Reviewer};

/// How long the API server may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the API server of the cluster that the hub runs in.
pub struct KubeReviewer {
    tokens: Api<TokenReview>,
    access: Api<SubjectAccessReview>,
    namespaces: Api<Namespace>,
}

impl KubeReviewer {
    /// Reads the in-cluster configuration; does not connect yet.
    pub fn connect() -> anyhow::Result<Self> {
        let mut config = Config::incluster()?;
        config.connect_timeout = Some(PATIENCE);
        config.read_timeout = Some(PATIENCE);
        Ok(Self::with(Client::try_from(config)?))
    }

    fn with(client: Client) -> Self {
        let namespaces = Api::all(client.clone());
        Self { tokens: Api::all(client.clone()), access: Api::all(client), namespaces }
    }
}

/// Asks within [`PATIENCE`]. The error text comes from the client and holds no token.
async fn ask<T>(question: impl Future<Output = kube::Result<T>>) -> Result<T, ReviewError> {
    match tokio::time::timeout(PATIENCE, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(ReviewError(error.to_string())),
        Err(_) => Err(ReviewError(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

impl Reviewer for KubeReviewer {
    fn token<'a>(
        &'a self,
        token: &'a str,
        audience: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<Identity>, ReviewError>> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: audience.map(|audience| vec![audience.to_owned()]),
            },
            ..TokenReview::default()
        };
        Box::pin(async move {
            let answer = ask(self.tokens.create(&PostParams::default(), &review)).await?;
            Ok(identity(answer, audience))
        })
    }

    fn namespace<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<NamespaceIdentity>, ReviewError>> {
        Box::pin(async move {
            let found = ask(self.namespaces.get_metadata_opt(name)).await?;
            found.map(|found| made(found.metadata)).transpose()
        })
    }

    fn may_read<'a>(
        &'a self,
        who: &'a Identity,
        namespace: &'a str,
    ) -> BoxFuture<'a, Result<bool, ReviewError>> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(who.username.clone()),
                uid: Some(who.uid.clone()).filter(|uid| !uid.is_empty()),
                groups: Some(who.groups.clone()),
                extra: Some(who.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("belfry.dev".to_owned()),
                    resource: Some("alertrules".to_owned()),
                    verb: Some("get".to_owned()),
                    namespace: Some(namespace.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        Box::pin(async move {
            let answer = ask(self.access.create(&PostParams::default(), &review)).await?;
            Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
        })
    }
}

fn made(meta: ObjectMeta) -> Result<NamespaceIdentity, ReviewError> {
    let uid = meta.uid.and_then(|uid| Uuid::try_parse(&uid).ok());
    let created = meta.creation_timestamp.map(|Time(at)| at);
    match (uid, created) {
        (Some(uid), Some(created)) => Ok(NamespaceIdentity { uid, created }),
        _ => Err(ReviewError("a namespace without uid and time".to_owned())),
    }
}

/// The token's holder, if the server confirmed the token and, if one was asked for, its audience.
fn identity(answer: TokenReview, audience: Option<&str>) -> Option<Identity> {
    let status = answer.status.filter(|status| status.authenticated == Some(true))?;
    if let Some(audience) = audience {
        // An API server without support for audiences confirms any token, with an empty list.
        let confirmed = status.audiences.unwrap_or_default();
        if !confirmed.iter().any(|each| each == audience) {
            return None;
        }
    }
    let user = status.user?;
    Some(Identity {
        username: user.username.filter(|name| !name.is_empty())?,
        uid: user.uid.unwrap_or_default(),
        groups: user.groups.unwrap_or_default(),
        extra: user.extra.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};

    use super::*;

    /// An API server that answers with this status, and the list of what it was asked.
    fn server(status: &str) -> (KubeReviewer, Arc<Mutex<Vec<String>>>) {
        answering(format!(r#"{{"metadata":{{}},"spec":{{"token":"x"}},"status":{status}}}"#))
    }

    fn answering(answer: String) -> (KubeReviewer, Arc<Mutex<Vec<String>>>) {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = asked.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (seen, answer) = (seen.clone(), answer.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                let body = String::from_utf8_lossy(&body).into_owned();
                seen.lock().expect("unpoisoned").push(format!("{} {} {body}", head.method, head.uri.path()));
                Ok::<_, kube::Error>(http::Response::new(kube::client::Body::from(answer.into_bytes())))
            }
        });
        (KubeReviewer::with(Client::new(service, "default")), asked)
    }

    #[tokio::test]
    async fn a_token_is_reviewed_for_the_hubs_audience() {
        let status =
            r#"{"authenticated":true,"audiences":["belfry-hub"],"user":{"username":"ann","groups":["dev"]}}"#;
        let (reviewer, asked) = server(status);
        let who = reviewer.token("t0ken", Some("belfry-hub")).await.expect("an answer").expect("known");
        assert_eq!((who.username.as_str(), who.groups.as_slice()), ("ann", ["dev".to_owned()].as_slice()));
        let asked = asked.lock().expect("unpoisoned");
        assert!(asked[0].starts_with("POST /apis/authentication.k8s.io/v1/tokenreviews "), "{asked:?}");
        assert!(asked[0].contains(r#""audiences":["belfry-hub"]"#), "{asked:?}");
    }

    #[tokio::test]
    async fn a_namespace_is_known_by_its_uid_and_by_when_it_was_made() {
        let answer = |meta: &str| {
            format!(
                r#"{{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{{"name":"a"{meta}}}}}"#
            )
        };
        let uid = Uuid::from_u128(7);
        let meta = format!(r#","uid":"{uid}","creationTimestamp":"2026-11-20T00:00:00Z""#);
        let (reviewer, asked) = answering(answer(&meta));
        let made = reviewer.namespace("a").await.expect("an answer").expect("it is there");
        assert_eq!(made, NamespaceIdentity { uid, created: "2026-11-20T00:00:00Z".parse().expect("a time") });
        let asked = asked.lock().expect("unpoisoned").remove(0);
        assert!(asked.starts_with("GET /api/v1/namespaces/a"), "{asked}");
        let (reviewer, _) = answering(answer(""));
        assert!(reviewer.namespace("a").await.is_err(), "not taken for the one that was known");
    }

    #[tokio::test]
    async fn a_right_is_reviewed_in_the_namespace_that_is_asked_about() {
        let (reviewer, asked) = server(r#"{"allowed":true}"#);
        let who =
            Identity { username: "ann".to_owned(), groups: vec!["dev".to_owned()], ..Identity::default() };
        assert!(reviewer.may_read(&who, "payments").await.expect("an answer"));
        let (reviewer, _) = server(r#"{"allowed":true,"denied":true}"#);
        assert!(!reviewer.may_read(&who, "payments").await.expect("an answer"));
        let asked = asked.lock().expect("unpoisoned");
        assert!(asked[0].contains("/subjectaccessreviews"), "{asked:?}");
        for part in [
            r#""namespace":"payments""#,
            r#""group":"belfry.dev""#,
            r#""resource":"alertrules""#,
            r#""verb":"get""#,
            r#""user":"ann""#,
            r#""groups":["dev"]"#,
        ] {
            assert!(asked[0].contains(part), "{part} is not in {asked:?}");
        }
    }

    fn answer(authenticated: bool, audiences: Option<Vec<String>>) -> TokenReview {
        TokenReview {
            status: Some(TokenReviewStatus {
                authenticated: Some(authenticated),
                audiences,
                user: Some(UserInfo { username: Some("ann".to_owned()), ..UserInfo::default() }),
                ..TokenReviewStatus::default()
            }),
            ..TokenReview::default()
        }
    }

    #[test]
    fn a_server_that_ignores_audiences_confirms_nobody_for_the_hub() {
        assert_eq!(identity(answer(true, None), Some("belfry-hub")), None);
        assert_eq!(identity(answer(true, Some(vec!["api".to_owned()])), Some("belfry-hub")), None);
        assert!(identity(answer(true, Some(vec!["belfry-hub".to_owned()])), Some("belfry-hub")).is_some());
    }

    #[test]
    fn a_token_that_is_not_confirmed_is_nobodys() {
        assert_eq!(identity(answer(false, None), None), None);
        assert_eq!(identity(TokenReview::default(), None), None);
        assert_eq!(identity(answer(true, None), None).map(|who| who.username), Some("ann".to_owned()));
    }
}
