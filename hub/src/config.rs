//! Settings: flags, each also an environment variable. Durations in Gateway API form (`90s`, `1h30m`), and `d` for days.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use domain::Millis;
use ledger::Database;

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people at a terminal.
    Text,
}

/// What to do instead of serving.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Copy a ledger from SQLite to PostgreSQL, or back: whole, or not at all. No hub may use either. Each is the path of a file, a URL
    /// (postgres://...), or @FILE for a file with a URL. Consumers, reminders and retries go on from there where they stood.
    Migrate {
        /// The ledger to copy.
        #[arg(long)]
        from: Database,
        /// Where to copy it, which must be empty.
        #[arg(long)]
        to: Database,
    },
    /// Copy the ledger of a running hub to a new file, as it is at one instant. SQLite only.
    Backup {
        /// The new file.
        #[arg(long)]
        to: PathBuf,
        /// The ledger.
        #[arg(long, default_value = "/var/lib/belfry/belfry.db")]
        from: PathBuf,
    },
    /// Put a copy in the place of the ledger. The hub must not run. SQLite only.
    Restore {
        /// The copy.
        #[arg(long)]
        from: PathBuf,
        /// The ledger that is replaced.
        #[arg(long, default_value = "/var/lib/belfry/belfry.db")]
        to: PathBuf,
    },
}

/// All settings of the hub.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "belfry-hub",
    version,
    about = "The hub of Belfry: keeps the ledger, decides, hands out work.",
    args_conflicts_with_subcommands = true
)]
pub struct Config {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Address of the API, for operator, workers and people.
    #[arg(long, env = "BELFRY_LISTEN", default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,
    /// Certificate (PEM) that the API is served with; read again when it changes. Without one it is served in the clear.
    #[arg(long, env = "BELFRY_TLS_CERT_FILE", requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// The certificate's key (PEM).
    #[arg(long, env = "BELFRY_TLS_KEY_FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, env = "BELFRY_METRICS_LISTEN", default_value = "0.0.0.0:8081")]
    pub metrics_listen: SocketAddr,
    /// Folder of the database. Only one hub may use it at a time. Not used with --database-url-file.
    #[arg(long, env = "BELFRY_DATA_DIR", default_value = "/var/lib/belfry")]
    pub data_dir: PathBuf,
    /// File with the URL of a PostgreSQL database, 15 or newer, in place of a database in a folder:
    /// `postgres://USER:PASSWORD@HOST/NAME?sslmode=verify-full&sslrootcert=FILE`. Several hubs may use it. Read again for each new
    /// connection, so a rotated password needs no restart.
    #[arg(long, env = "BELFRY_DATABASE_URL_FILE")]
    pub database_url_file: Option<PathBuf>,
    /// File with the URL of a Redis (redis:// or rediss://) through which hubs of one database wake each other at once. Without it, or while
    /// it fails, they look four times a second. An authority beside the file, `ca.crt`, is the one trusted for rediss://.
    #[arg(long, env = "BELFRY_REDIS_URL_FILE", requires = "database_url_file")]
    pub redis_url_file: Option<PathBuf>,
    /// What this hub is called among the hubs of its database. Each must have a name of its own.
    #[arg(long, env = "BELFRY_HUB_NAME", default_value = "hub")]
    pub name: String,
    /// Audience that tokens for the hub are made for: `kubectl create token ACCOUNT --audience=belfry-hub`.
    #[arg(long, env = "BELFRY_AUDIENCE", default_value = "belfry-hub")]
    pub audience: String,
    /// Take from people tokens for the API server too, such as those of an identity provider. Whoever sees such a token,
    /// as the hub then does, can use it at the API server.
    #[arg(long, env = "BELFRY_ACCEPT_API_SERVER_TOKENS")]
    pub accept_api_server_tokens: bool,
    /// Username of the service account whose tokens an admission policy gives out to people who may get alertrules in a
    /// namespace, for the audience AUDIENCE/NAMESPACE/USERNAME alone: they may read there. Nobody may by such a token where absent.
    #[arg(long, env = "BELFRY_PEOPLE_ACCOUNT")]
    pub people_account: Option<String>,
    /// Username of the operator's service account.
    #[arg(
        long,
        env = "BELFRY_OPERATOR_ACCOUNT",
        default_value = "system:serviceaccount:belfry-system:belfry-operator"
    )]
    pub operator_account: String,
    /// Name of the workers' service account in each tenant namespace.
    #[arg(long, env = "BELFRY_WORKER_ACCOUNT", default_value = "belfry-worker")]
    pub worker_account: String,
    /// How long notifications are kept after all their deliveries ended well.
    #[arg(long, env = "BELFRY_KEEP_DELIVERED", default_value = "7d", value_parser = duration)]
    pub keep_delivered: Millis,
    /// How long notifications with a dead delivery are kept.
    #[arg(long, env = "BELFRY_KEEP_DEAD", default_value = "30d", value_parser = duration)]
    pub keep_dead: Millis,
    /// Pending deliveries that a namespace may have.
    #[arg(long, env = "BELFRY_MAX_PENDING", default_value_t = 100_000)]
    pub max_pending: i64,
    /// Groups that a namespace's rules may hold.
    #[arg(long, env = "BELFRY_MAX_GROUPS", default_value_t = 20_000)]
    pub max_groups: i64,
    /// Bytes that the groups of a namespace's rules may take in the database, with their counts and samples.
    #[arg(long, env = "BELFRY_MAX_STATE_BYTES", default_value_t = 64 << 20)]
    pub max_state_bytes: i64,
    /// Bytes of notifications with a pending delivery that a namespace may have; over them it is told to wait.
    #[arg(long, env = "BELFRY_MAX_PENDING_BYTES", default_value_t = 64 * 1024 * 1024)]
    pub max_pending_bytes: i64,
    /// Bytes of finished notifications that are kept for a namespace; over them its oldest go.
    #[arg(long, env = "BELFRY_MAX_FINISHED_BYTES", default_value_t = 32 * 1024 * 1024)]
    pub max_finished_bytes: i64,
    /// Bytes of dead letters that are kept for a namespace; over them its oldest go.
    #[arg(long, env = "BELFRY_MAX_DEAD_LETTER_BYTES", default_value_t = 16 * 1024 * 1024)]
    pub max_dead_letter_bytes: i64,
    /// Bytes a second that a namespace's workers may send.
    #[arg(long, env = "BELFRY_MAX_BYTES_PER_SECOND", default_value_t = 50 * 1024 * 1024)]
    pub max_bytes_per_second: u64,
    /// Connections to the API in all. An eighth may be without a request that was answered well.
    #[arg(long, env = "BELFRY_MAX_CONNECTIONS", default_value_t = 8_192)]
    pub max_connections: usize,
    /// Connections of one address, of which an eighth likewise. Pods may come by their node's address: leave room for all
    /// workers of a node.
    #[arg(long, env = "BELFRY_MAX_CONNECTIONS_PER_PEER", default_value_t = 1_024)]
    pub max_connections_per_peer: usize,
    /// Count deliveries by namespace too, while no more than so many have channels; 0: never.
    #[arg(long, env = "BELFRY_METRICS_NAMESPACES", default_value_t = 100)]
    pub metrics_namespaces: usize,
    /// What to log: a level, or directives as `info,hub=debug`.
    #[arg(long, env = "BELFRY_LOG", default_value = "info")]
    pub log: String,
    /// Form of the log.
    #[arg(long, env = "BELFRY_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
}

/// Reads `7d` or the Gateway API form.
fn duration(text: &str) -> Result<Millis, String> {
    if let Some(days) = text.strip_suffix('d') {
        return match days.parse::<u16>() {
            Ok(days) => Ok(Millis::from_secs(i64::from(days) * 86_400)),
            Err(_) => Err(format!("{text:?} is not a number of days: write 7d, or hours as 168h")),
        };
    }
    Millis::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_days_or_the_gateway_api_form() {
        assert_eq!(duration("7d"), Ok(Millis::from_secs(604_800)));
        assert_eq!(duration("1h30m"), Ok(Millis::from_secs(5_400)));
        for bad in ["d", "-1d", "1.5d", "7 d", "week", ""] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_chart() {
        let config = Config::parse_from(["belfry-hub"]);
        assert_eq!(config.audience, "belfry-hub");
        assert_eq!(config.keep_dead, Millis::from_secs(30 * 86_400));
        assert_eq!(config.max_bytes_per_second, 52_428_800);
        let bytes = (config.max_pending_bytes, config.max_finished_bytes, config.max_dead_letter_bytes);
        assert_eq!(bytes, (67_108_864, 33_554_432, 16_777_216));
    }
}
