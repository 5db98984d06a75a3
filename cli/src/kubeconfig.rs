//! Reaches the hub through the cluster of a kubeconfig, and gets a token for it.
//!
//! The API server's proxy of Services forwards a connection to the hub. Inside it we open a TLS connection of our own to the hub;
//! the certificate of its authority is in a ConfigMap that the chart lets us read. We identify ourselves with a token that the API
//! server issues after it has checked that we may get AlertRules in the namespace (docs/adr/0026).
//!
//! The hub's certificate is always verified, so whoever ends the outer connection can't read or change the inner one. The token is
//! valid only for the hub, for one namespace and ten minutes, and is not stored. Nothing in the cluster changes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::api::PostParams;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config};
use protocol::paths;
use tokio::net::TcpListener;

use crate::terminal;

/// The common part of the audience of all tokens for the hub.
const AUDIENCE: &str = "belfry-hub";
/// The lifetime of a token, in seconds: the shortest that API servers issue.
const TOKEN_SECONDS: i64 = 600;

/// Where Belfry is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installation {
    namespace: String,
    /// The prefix of the names of the chart's objects.
    name: String,
}

impl Installation {
    /// Parses `NAMESPACE/NAME`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let is_name = |name: &str| {
            let of_name =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
            !name.is_empty() && name.bytes().all(of_name)
        };
        match text.split_once('/') {
            Some((namespace, name)) if is_name(namespace) && is_name(name) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err("write NAMESPACE/NAME, such as belfry-system/belfry".to_owned()),
        }
    }

    /// The name in the hub's certificate.
    pub(crate) fn server_name(&self) -> String {
        format!("{}-hub.{}.svc", self.name, self.namespace)
    }
}

/// A cluster that a kubeconfig names.
pub(crate) struct Cluster {
    client: Client,
    /// The namespace of the kubeconfig's context.
    pub(crate) namespace: String,
    at: Installation,
}

impl Cluster {
    /// Reads the kubeconfig: `file`, or what `KUBECONFIG` names, or the default one; in a pod, uses its service account. Sends no
    /// request yet.
    pub(crate) async fn from_kubeconfig(
        file: Option<&Path>,
        context: Option<&str>,
        at: Installation,
    ) -> anyhow::Result<Self> {
        let options =
            KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
        let mut config = match (file, context) {
            (Some(file), _) => {
                let read = Kubeconfig::read_from(file).map_err(|error| anyhow!("{}", unusable(&error)))?;
                let config = Config::from_custom_kubeconfig(read, &options).await;
                config.map_err(|error| anyhow!("{}: {}", file.display(), unusable(&error)))?
            }
            (None, Some(_)) => {
                let config = Config::from_kubeconfig(&options).await;
                config.map_err(|error| anyhow!("{}", unusable(&error)))?
            }
            // If neither a kubeconfig nor a pod's account works, report the kubeconfig's error: the user can fix that one.
            (None, None) => {
                if let Ok(config) = Config::infer().await {
                    config
                } else {
                    let config = Config::from_kubeconfig(&options).await;
                    config.map_err(|error| anyhow!("{}", unusable(&error)))?
                }
            }
        };
        // Errors are reported at once. By default, kube would repeat requests to a server that answers 503 for over a minute.
        config.default_retry = false;
        let namespace = config.default_namespace.clone();
        Ok(Self { client: Client::try_from(config)?, namespace, at })
    }

    /// The certificate (PEM) of the authority that signed the hub's certificate.
    pub(crate) async fn authority(&self) -> anyhow::Result<Vec<u8>> {
        let Installation { namespace, name } = &self.at;
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let map = maps.get(&format!("{name}-ca")).await;
        let map = map.map_err(|error| self.refused("the authority of the hub's certificate", &error))?;
        let pem = map.data.unwrap_or_default().remove("ca.crt");
        pem.map(String::into_bytes).with_context(|| {
            format!(
                "ConfigMap {namespace}/{name}-ca has no ca.crt yet: the operator writes it when it starts"
            )
        })
    }

    /// Gets a token with which the hub lets us read a namespace.
    pub(crate) async fn token(&self, namespace: &str) -> anyhow::Result<String> {
        let reviews: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await;
        let review = review
            .map_err(|error| anyhow!("the API server does not say who you are: {}", with_causes(&error)))?;
        let user = review.status.and_then(|status| status.user_info?.username).unwrap_or_default();
        let audience = paths::reader_audience(AUDIENCE, namespace, &user);
        let spec = TokenRequestSpec {
            audiences: Some(vec![audience]),
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.at.namespace);
        let account = format!("{}-people", self.at.name);
        let given = accounts.create_token_request(&account, &PostParams::default(), &request).await;
        let given = given.map_err(|error| match &error {
            // Only the policy's own words.
            kube::Error::Api(status) if status.message.contains("ValidatingAdmissionPolicy") => {
                let why = status.message.split("denied request: ").last().unwrap_or_default();
                anyhow!("namespace {namespace:?}: {why}")
            }
            _ => self.refused("a token for the hub", &error),
        })?;
        given.status.and_then(|status| status.token).context("the API server gave no token")
    }

    /// Opens a port of this machine that forwards to the hub as long as this process lives.
    pub(crate) async fn forward(self: Arc<Self>) -> anyhow::Result<SocketAddr> {
        // The first connection is made now, so that its error is reported as it is.
        let first = self.tunnel().await?;
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port of this machine is free")?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            let mut first = Some(first);
            while let Ok((mut near, _)) = listener.accept().await {
                let far = match first.take() {
                    Some(far) => Ok(far),
                    None => self.tunnel().await,
                };
                match far {
                    Ok(far) => {
                        tokio::spawn(async move {
                            let mut far = TokioIo::new(far);
                            // If the connection breaks, whoever waits for an answer sees that.
                            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                        });
                    }
                    Err(error) => terminal::note(format_args!("belfry: {error:#}")),
                }
            }
        });
        Ok(address)
    }

    /// Opens a connection to the hub through the API server.
    async fn tunnel(&self) -> anyhow::Result<Upgraded> {
        let Installation { namespace, name } = &self.at;
        let path =
            format!("/api/v1/namespaces/{namespace}/services/https:{name}-hub:https/proxy{}", paths::TUNNEL);
        let request = http::Request::get(path)
            .header(http::header::CONNECTION, "Upgrade")
            .header(http::header::UPGRADE, paths::TUNNEL_PROTOCOL)
            .body(Body::empty())?;
        let answer = self.client.send(request).await;
        let answer =
            answer.map_err(|error| anyhow!("the API server can't be reached: {}", with_causes(&error)))?;
        if answer.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            return hyper::upgrade::on(answer).await.context("the way through the API server broke");
        }
        let status = answer.status();
        let body = answer.into_body().collect_bytes().await.unwrap_or_default();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let why = body["message"].as_str().unwrap_or_default();
        match status.as_u16() {
            401 | 403 => bail!("{}", self.forbidden("the hub", why)),
            404 if body["kind"] == "Status" => bail!("{}", self.not_installed(why)),
            404 => bail!("the hub of {namespace}/{name} is older than this command: give --hub and --token"),
            _ => {
                bail!("the hub can't be reached through the API server: {status} {why}; is its pod running?")
            }
        }
    }

    fn refused(&self, what: &str, error: &kube::Error) -> anyhow::Error {
        match error {
            kube::Error::Api(status) if [401, 403].contains(&status.code) => {
                anyhow!("{}", self.forbidden(what, &status.message))
            }
            kube::Error::Api(status) if status.code == 404 => {
                anyhow!("{}", self.not_installed(&status.message))
            }
            _ => anyhow!("{what}: {}", with_causes(error)),
        }
    }

    fn forbidden(&self, what: &str, why: &str) -> String {
        let Installation { namespace, name } = &self.at;
        format!(
            "your kubeconfig's user is not let to {what}: {why}\nEither Belfry is not installed as {namespace}/{name} (say --installation \
             NAMESPACE/NAME), or its chart lets others ask by kubeconfig (hub.askByKubeconfig): then give --hub and --token"
        )
    }

    fn not_installed(&self, why: &str) -> String {
        let Installation { namespace, name } = &self.at;
        format!(
            "{why}: Belfry is not installed as {namespace}/{name} (say --installation NAMESPACE/NAME), or without hub.askByKubeconfig \
             (give --hub and --token)"
        )
    }
}

/// Why the kubeconfig is missing or can't be used, and how to name another one.
fn unusable(error: &KubeconfigError) -> String {
    let other = "name another with --kubeconfig or the variable KUBECONFIG";
    match error {
        KubeconfigError::ReadConfig(why, path) if why.kind() == std::io::ErrorKind::NotFound => {
            format!("there is no kubeconfig at {}: {other}", path.display())
        }
        KubeconfigError::ReadConfig(why, path) => {
            format!("the kubeconfig {} can't be read: {why}; {other}", path.display())
        }
        KubeconfigError::FindPath => format!("there is no home folder with a kubeconfig: {other}"),
        KubeconfigError::CurrentContextNotSet => {
            format!("the kubeconfig says no current-context: say one with --context, or {other}")
        }
        KubeconfigError::LoadContext(name) => {
            format!("the kubeconfig has no context {name:?}: say one that it has with --context, or {other}")
        }
        KubeconfigError::LoadClusterOfContext(name) => {
            format!("the kubeconfig has no cluster {name:?}, which its context names; {other}")
        }
        error => format!("the kubeconfig can't be used: {error}; {other}"),
    }
}

/// An error's message with those of its causes.
fn with_causes(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return status.message.clone();
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        let deeper_text = deeper.to_string();
        if !text.contains(&deeper_text) {
            text = format!("{text}: {deeper_text}");
        }
        cause = deeper.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_missing_kubeconfig_says_how_to_name_another_one() {
        let missing = std::path::Path::new("/nonexistent/.kube/config");
        let told = unusable(&Kubeconfig::read_from(missing).unwrap_err());
        assert_eq!(
            told,
            "there is no kubeconfig at /nonexistent/.kube/config: name another with --kubeconfig or the variable KUBECONFIG"
        );
        let told = unusable(&KubeconfigError::LoadContext("x".to_owned()));
        assert!(told.contains("no context \"x\": say one that it has with --context"), "{told}");
    }

    #[test]
    fn an_installation_is_a_namespace_and_a_name() {
        let ours = Installation::parse("belfry-system/belfry").unwrap();
        assert_eq!(ours.server_name(), "belfry-hub.belfry-system.svc");
        for bad in ["", "belfry", "/belfry", "a/", "a/b/c", "a/B", "a/b?c", "../x/y"] {
            assert!(Installation::parse(bad).is_err(), "{bad}");
        }
    }
}
