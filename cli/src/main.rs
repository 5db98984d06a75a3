//! `belfry`, also `kubectl-belfry`: asks the hub what happened to a notification.
//!
//! Never here: a change. The command line only reads.

mod story;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use domain::DeliveryState;
use protocol::messages::NotificationQuery;
use protocol::{Client, ClientConfig, TokenSource};
use uuid::Uuid;

/// Was the person told, when, and if not, why not?
#[derive(Parser)]
#[command(name = "belfry", version)]
struct Flags {
    /// The hub, such as http://localhost:8080 after `kubectl -n belfry-system port-forward svc/belfry-hub 8080`.
    #[arg(long, env = "BELFRY_HUB_URL", default_value = "http://localhost:8080", global = true)]
    hub: String,
    /// PEM of the authority of the hub's certificate.
    #[arg(long, env = "BELFRY_HUB_CA_FILE", global = true)]
    hub_ca_file: Option<PathBuf>,
    /// A file with a token of somebody who may get alertrules in the namespace, such as from `kubectl create token`.
    #[arg(long, env = "BELFRY_TOKEN_FILE", global = true)]
    token_file: Option<PathBuf>,
    /// The same token itself.
    #[arg(long, env = "BELFRY_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// The namespace to ask about.
    #[arg(short, long, default_value = "default", global = true)]
    namespace: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything about one notification: what caused it, every delivery, every attempt.
    Ask {
        /// The id of a notification or of a delivery (the `webhook-id` that a receiver saw).
        id: Uuid,
    },
    /// The newest notifications, a line for each delivery.
    List {
        /// Only those of this rule, schedule or channel, by uid.
        #[arg(long)]
        object: Option<Uuid>,
        /// Only those with a delivery in this state: Pending, Delivered, Dead, Expired or Suppressed.
        #[arg(long, value_parser = state)]
        state: Option<DeliveryState>,
        /// At most this many, 1 to 500.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=500))]
        limit: i64,
    },
}

fn state(text: &str) -> Result<DeliveryState, String> {
    use DeliveryState::{Dead, Delivered, Expired, Pending, Suppressed};
    let all = [Pending, Delivered, Dead, Expired, Suppressed];
    let found = all.into_iter().find(|state| state.name().eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("write one of {}", all.map(DeliveryState::name).join(", ")))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    // An error says that a provider is there already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let flags = Flags::parse();
    let token = match (flags.token, flags.token_file) {
        (Some(token), _) => TokenSource::Fixed(token),
        (None, Some(file)) => TokenSource::File(file),
        (None, None) => anyhow::bail!(
            "the hub asks who you are: give --token \"$(kubectl create token SERVICE_ACCOUNT -n {})\" or --token-file",
            flags.namespace
        ),
    };
    let ca = flags
        .hub_ca_file
        .map(|file| std::fs::read(&file).with_context(|| format!("reading {}", file.display())))
        .transpose()?;
    let client = Client::new(ClientConfig { url: flags.hub, ca, token })?;
    match flags.command {
        Command::Ask { id } => print!("{}", story::whole(&client.notification(&flags.namespace, id).await?)),
        Command::List { object, state, limit } => {
            let query = NotificationQuery { object, state, limit: Some(limit) };
            for item in client.notifications(&flags.namespace, &query).await?.items {
                print!("{}", story::lines(&item));
            }
        }
    }
    Ok(())
}
