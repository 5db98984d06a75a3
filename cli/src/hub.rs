//! How commands connect to the hub: through the cluster of the kubeconfig, or at the address that `--hub` gives.
//!
//! No token is put on the command line of another process, and the hub never gets a token for the API server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use protocol::{Client, ClientConfig, Error, TokenSource};

use crate::kubeconfig::{Cluster, Installation};
use crate::terminal;

/// For how long, in all, requests to a busy hub are repeated.
const PATIENCE: Duration = Duration::from_secs(30);
/// The wait before a request is repeated if the hub names none; the shortest wait too.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);

/// Which hub to ask, and with which token.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Asking the hub")]
pub(crate) struct Flags {
    /// The namespace to ask about; the kubeconfig context's when absent, else `default`.
    #[arg(short, long, global = true)]
    pub(crate) namespace: Option<String>,
    /// The kubeconfig's context, instead of its current one.
    #[arg(long, global = true)]
    context: Option<String>,
    /// The kubeconfig, instead of what KUBECONFIG names or ~/.kube/config.
    #[arg(long, value_name = "FILE", global = true)]
    kubeconfig: Option<PathBuf>,
    /// Where Belfry is installed: the namespace, and what its objects' names begin with (the release's name, mostly).
    #[arg(
        long,
        env = "BELFRY_INSTALLATION",
        value_name = "NAMESPACE/NAME",
        default_value = "belfry-system/belfry",
        value_parser = Installation::parse,
        global = true
    )]
    installation: Option<Installation>,
    /// Asks the hub there instead of through the API server, such as https://localhost:8443 after `kubectl port-forward`.
    #[arg(long, env = "BELFRY_HUB_URL", value_name = "URL", global = true)]
    hub: Option<String>,
    /// PEM of the authority of the hub's certificate; when absent the one that the cluster tells, with --hub the public ones.
    #[arg(long, env = "BELFRY_HUB_CA_FILE", value_name = "FILE", global = true)]
    hub_ca_file: Option<PathBuf>,
    /// The name that the hub's certificate is checked for, where its address has another.
    #[arg(long, env = "BELFRY_HUB_SERVER_NAME", value_name = "NAME", global = true)]
    hub_server_name: Option<String>,
    /// A file with a token of somebody who may get alertrules in the namespace, such as from `kubectl create token
    /// ACCOUNT --audience=belfry-hub`, instead of one that the cluster gives out.
    #[arg(long, env = "BELFRY_TOKEN_FILE", value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// The same token itself.
    #[arg(long, env = "BELFRY_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
}

/// A connection to a hub, and the namespace to ask about.
pub(crate) struct Hub {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Flags {
    /// Finds the hub and a token for it.
    pub(crate) async fn connect(&self) -> anyhow::Result<Hub> {
        // An error only means that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(TokenSource::Fixed(token.clone())),
            (None, Some(file)) => Some(TokenSource::File(file.clone())),
            (None, None) => None,
        };
        let at = self.installation.clone().context("--installation is empty")?;
        let server_name = self.hub_server_name.clone();
        let ca = match &self.hub_ca_file {
            Some(file) => Some(std::fs::read(file).with_context(|| format!("reading {}", file.display()))?),
            None => None,
        };
        if let (Some(url), Some(token)) = (&self.hub, &token) {
            let namespace = self.namespace.clone().unwrap_or_else(|| "default".to_owned());
            let config = ClientConfig { url: url.clone(), ca, server_name, token: token.clone() };
            return Ok(Hub { client: Client::new(config)?, namespace });
        }
        let cluster =
            Cluster::from_kubeconfig(self.kubeconfig.as_deref(), self.context.as_deref(), at.clone()).await;
        let cluster = Arc::new(cluster.context(
            "the hub is asked through the cluster of your kubeconfig, which can't be used (or give --hub and --token)",
        )?);
        let namespace = self.namespace.clone().unwrap_or_else(|| cluster.namespace.clone());
        let token = async {
            match token {
                Some(token) => Ok(token),
                None => cluster.token(&namespace).await.map(TokenSource::Fixed),
            }
        };
        let config = if let Some(url) = &self.hub {
            ClientConfig { url: url.clone(), ca, server_name, token: token.await? }
        } else {
            let authority = async {
                match ca {
                    Some(ca) => Ok(ca),
                    None => cluster.authority().await,
                }
            };
            let (token, ca, address) = tokio::try_join!(token, authority, Arc::clone(&cluster).forward())?;
            let server_name = Some(server_name.unwrap_or_else(|| at.server_name()));
            ClientConfig { url: format!("https://{address}"), ca: Some(ca), server_name, token }
        };
        Ok(Hub { client: Client::new(config)?, namespace })
    }
}

/// Sends a request. If the hub is busy, repeats it at the time that the hub names, for at most half a minute in all.
pub(crate) async fn retry_while_busy<T>(ask: impl AsyncFn() -> Result<T, Error>) -> anyhow::Result<T> {
    let mut left = PATIENCE;
    loop {
        let error = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let wait = match &error {
            Error::Refused { status, retry_after, .. } if status.as_u16() == 429 => {
                retry_after.unwrap_or(DEFAULT_WAIT)
            }
            Error::Refused { status, retry_after: Some(after), .. } if status.as_u16() == 503 => *after,
            _ => return Err(error.into()),
        };
        // A hub that says "now" must not be asked in a tight loop.
        let wait = wait.max(DEFAULT_WAIT);
        if wait > left {
            bail!("{error}; it says to come again in {} s", wait.as_secs());
        }
        left -= wait;
        terminal::note(format_args!("belfry: {error}; asking again in {} s", wait.as_secs()));
        tokio::time::sleep(wait).await;
    }
}
