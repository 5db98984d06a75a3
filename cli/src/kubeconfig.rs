//! The way to the hub that a kubeconfig opens, and who one is there.
//!
//! The hub is reached through the API server's proxy of Services, and in what that passes on a TLS connection of our own to the
//! hub begins: its authority is in a ConfigMap that the chart lets us read. Who we are says a token that the API server gives
//! out after it has asked itself whether we may get AlertRules in the namespace (docs/adr/0026).
//!
//! Invariants: the hub's certificate is verified by the authority of the cluster, whoever ends what is around it; the token is
//! for the hub alone, one namespace and ten minutes, and is written nowhere. Never: a change of the cluster.

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

/// The audience of all tokens for the hub.
const AUDIENCE: &str = "belfry-hub";
/// How long a token lasts, seconds: the shortest that API servers give out.
const LASTS: i64 = 600;

/// Where Belfry is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installation {
    namespace: String,
    /// What the names of the chart's objects begin with.
    name: String,
}

impl Installation {
    /// `NAMESPACE/NAME`.
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

    /// The name that the hub's certificate is for.
    pub(crate) fn server_name(&self) -> String {
        format!("{}-hub.{}.svc", self.name, self.namespace)
    }
}

/// A cluster, by a kubeconfig.
pub(crate) struct Cluster {
    client: Client,
    /// The context's.
    pub(crate) namespace: String,
    at: Installation,
}

impl Cluster {
    /// Reads the kubeconfig: that file, or what `KUBECONFIG` names, or the usual one; in a pod its account. Asks nobody yet.
    pub(crate) async fn of(
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
            // Of a pod's account and a kubeconfig the second is what somebody at a terminal can mend.
            (None, None) => {
                if let Ok(config) = Config::infer().await {
                    config
                } else {
                    let config = Config::from_kubeconfig(&options).await;
                    config.map_err(|error| anyhow!("{}", unusable(&error)))?
                }
            }
        };
        // What stands in the way is told at once: kube would ask a server that says 503 for a minute and more.
        config.default_retry = false;
        let namespace = config.default_namespace.clone();
        Ok(Self { client: Client::try_from(config)?, namespace, at })
    }

    /// PEM of the authority of the hub's certificate.
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

    /// A token with which the hub lets us read a namespace.
    pub(crate) async fn token(&self, namespace: &str) -> anyhow::Result<String> {
        let reviews: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await;
        let review =
            review.map_err(|error| anyhow!("the API server does not say who you are: {}", said(&error)))?;
        let user = review.status.and_then(|status| status.user_info?.username).unwrap_or_default();
        let audience = paths::reader_audience(AUDIENCE, namespace, &user);
        let spec = TokenRequestSpec {
            audiences: Some(vec![audience]),
            expiration_seconds: Some(LASTS),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.at.namespace);
        let account = format!("{}-people", self.at.name);
        let given = accounts.create_token_request(&account, &PostParams::default(), &request).await;
        let given = given.map_err(|error| match &error {
            // The policy's own words, without whose they are.
            kube::Error::Api(status) if status.message.contains("ValidatingAdmissionPolicy") => {
                let why = status.message.split("denied request: ").last().unwrap_or_default();
                anyhow!("namespace {namespace:?}: {why}")
            }
            _ => self.refused("a token for the hub", &error),
        })?;
        given.status.and_then(|status| status.token).context("the API server gave no token")
    }

    /// A port of this machine from which the hub is reached, as long as this process lives.
    pub(crate) async fn forward(self: Arc<Self>) -> anyhow::Result<SocketAddr> {
        // Now, so that what stands in the way is told as it is.
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
                            // An end is an end: whoever waits for an answer sees it.
                            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                        });
                    }
                    Err(error) => terminal::note(format_args!("belfry: {error:#}")),
                }
            }
        });
        Ok(address)
    }

    /// A connection to the hub through the API server, with nothing said on it yet.
    async fn tunnel(&self) -> anyhow::Result<Upgraded> {
        let Installation { namespace, name } = &self.at;
        let path =
            format!("/api/v1/namespaces/{namespace}/services/https:{name}-hub:https/proxy{}", paths::TUNNEL);
        let request = http::Request::get(path)
            .header(http::header::CONNECTION, "Upgrade")
            .header(http::header::UPGRADE, paths::TUNNEL_PROTOCOL)
            .body(Body::empty())?;
        let answer = self.client.send(request).await;
        let answer = answer.map_err(|error| anyhow!("the API server can't be reached: {}", said(&error)))?;
        if answer.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            return hyper::upgrade::on(answer).await.context("the way through the API server broke");
        }
        let status = answer.status();
        let body = answer.into_body().collect_bytes().await.unwrap_or_default();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let why = body["message"].as_str().unwrap_or_default();
        match status.as_u16() {
            401 | 403 => bail!("{}", self.not_let("the hub", why)),
            404 if body["kind"] == "Status" => bail!("{}", self.not_there(why)),
            404 => bail!("the hub of {namespace}/{name} is older than this command: give --hub and --token"),
            _ => {
                bail!("the hub can't be reached through the API server: {status} {why}; is its pod running?")
            }
        }
    }

    fn refused(&self, what: &str, error: &kube::Error) -> anyhow::Error {
        match error {
            kube::Error::Api(status) if [401, 403].contains(&status.code) => {
                anyhow!("{}", self.not_let(what, &status.message))
            }
            kube::Error::Api(status) if status.code == 404 => anyhow!("{}", self.not_there(&status.message)),
            _ => anyhow!("{what}: {}", said(error)),
        }
    }

    fn not_let(&self, what: &str, why: &str) -> String {
        let Installation { namespace, name } = &self.at;
        format!(
            "your kubeconfig's user is not let to {what}: {why}\nEither Belfry is not installed as {namespace}/{name} (say --installation \
             NAMESPACE/NAME), or its chart lets others ask by kubeconfig (hub.askByKubeconfig): then give --hub and --token"
        )
    }

    fn not_there(&self, why: &str) -> String {
        let Installation { namespace, name } = &self.at;
        format!(
            "{why}: Belfry is not installed as {namespace}/{name} (say --installation NAMESPACE/NAME), or without hub.askByKubeconfig \
             (give --hub and --token)"
        )
    }
}

/// Why there is no kubeconfig, or why it can't be used, and how another is named.
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

/// An error with its causes.
fn said(error: &kube::Error) -> String {
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
    fn a_kubeconfig_that_is_not_there_is_told_once_with_how_another_is_named() {
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
