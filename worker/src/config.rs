//! Flags and environment of a worker.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use domain::{AddressRange, Digest, FileRef, Guard};
use uuid::Uuid;

/// Does one thing for one namespace.
#[derive(Debug, Clone, Parser)]
#[command(name = "belfry-worker", version, about)]
pub struct Config {
    /// What to do.
    #[command(subcommand)]
    pub kind: WorkerKind,
    /// Address of the hub, such as <https://belfry-hub.belfry-system.svc:8443>
    #[arg(
        long,
        env = "BELFRY_HUB_URL",
        global = true,
        default_value = "https://belfry-hub.belfry-system.svc:8443"
    )]
    pub hub_url: String,
    /// The namespace that this worker works for
    #[arg(long, env = "BELFRY_NAMESPACE", global = true, default_value = "default")]
    pub namespace: String,
    /// Name of this instance (the pod's name), the same in its reports and claims
    #[arg(long, env = "BELFRY_INSTANCE", global = true, default_value = "local")]
    pub instance: String,
    /// File with the service-account token for the hub, read at every call
    #[arg(long, env = "BELFRY_TOKEN_FILE", global = true, default_value = "/var/run/belfry/token/token")]
    pub token_file: PathBuf,
    /// PEM file with the private authority of the hub's certificate, if it has one
    #[arg(long, env = "BELFRY_HUB_CA_FILE", global = true)]
    pub hub_ca_file: Option<PathBuf>,
    /// Root of the mounted Secret and `ConfigMap` keys
    #[arg(long, env = "BELFRY_FILES", global = true, default_value = "/var/run/belfry/files")]
    pub files: PathBuf,
    /// Hashes of the paths below the root of all keys that this pod mounts; without this flag it mounts every key
    #[arg(long, env = "BELFRY_MOUNTED", global = true, value_delimiter = ',')]
    pub mounted: Option<Vec<String>>,
    /// Where to answer /healthz, /readyz and /metrics
    #[arg(long, env = "BELFRY_LISTEN", global = true, default_value = "0.0.0.0:9090")]
    pub listen: SocketAddr,
    /// What to log, as a filter of tracing's `EnvFilter`
    #[arg(long, env = "BELFRY_LOG", global = true, default_value = "info")]
    pub log: String,
    /// Refuse to connect to private addresses for tenants (RFC 1918, RFC 4193, RFC 6598)
    #[arg(long, env = "BELFRY_DENY_PRIVATE", global = true, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub deny_private: bool,
    /// Further ranges of addresses to refuse
    #[arg(long, env = "BELFRY_DENIED_RANGES", global = true, value_delimiter = ',')]
    pub denied_ranges: Vec<AddressRange>,
    /// Ranges of addresses to allow although they are refused otherwise; the range with the longer prefix wins
    #[arg(long, env = "BELFRY_ALLOWED_RANGES", global = true, value_delimiter = ',')]
    pub allowed_ranges: Vec<AddressRange>,
}

/// What a worker does.
#[derive(Debug, Clone, Subcommand)]
pub enum WorkerKind {
    /// Read a Kafka source, match and count its records
    Consume {
        /// The source's key
        #[arg(long, env = "BELFRY_SOURCE")]
        source: String,
    },
    /// Make the first attempts of deliveries
    Send,
    /// Make the further attempts of deliveries
    Retry,
    /// Record the reminders of a schedule that fell due, and exit
    Remind {
        /// The schedule's uid
        #[arg(long, env = "BELFRY_SCHEDULE")]
        schedule: Uuid,
    },
}

impl Config {
    /// Which addresses this worker may connect to for tenants. Call it once in a process.
    pub fn guard(&self) -> Guard {
        Guard::new(self.deny_private).with_ranges(self.denied_ranges.clone(), self.allowed_ranges.clone())
    }

    /// The path of a referenced file. The file may be absent, and it changes with the Secret: read it at every use.
    #[allow(dead_code)]
    pub fn file(&self, file: &FileRef) -> PathBuf {
        self.files.join(file.path())
    }

    /// Whether the pod mounts this file, even if it does not exist yet. A pod that does not mount it is older than the
    /// reference.
    pub fn mounts(&self, file: &FileRef) -> bool {
        let hash = Digest::of(&file.path());
        self.mounted.as_ref().is_none_or(|mounted| mounted.iter().any(|one| one == hash.short()))
    }

    /// Logs JSON lines to standard output.
    pub fn start_log(&self) {
        let filter = tracing_subscriber::EnvFilter::try_new(&self.log)
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
        #[allow(clippy::disallowed_methods, reason = "the one place that logs")]
        let writer = || domain::PlainLog { to: std::io::stdout(), json: true };
        tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_env_filter(filter)
            .with_writer(writer)
            .init();
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent_and_work_behind_the_subcommand() {
        Config::command().debug_assert();
        let config = Config::try_parse_from([
            "belfry-worker",
            "consume",
            "--source",
            "ab",
            "--namespace",
            "payments",
            "--deny-private",
        ])
        .unwrap();
        assert_eq!(config.namespace, "payments");
        assert!(config.deny_private);
        assert!(!Config::try_parse_from(["belfry-worker", "send"]).unwrap().deny_private);
    }

    #[test]
    fn a_pod_knows_which_files_it_mounts() {
        let file =
            FileRef { kind: domain::FileKind::Secret, name: "notify".to_owned(), key: "signing".to_owned() };
        let hash = Digest::of("secrets/notify/signing");
        let both = format!("0a1b2c3d,{}", hash.short());
        for (mounted, expected) in
            [(None, true), (Some(""), false), (Some("0a1b2c3d"), false), (Some(both.as_str()), true)]
        {
            let flags = mounted.map(|mounted| format!("--mounted={mounted}"));
            let args = ["belfry-worker", "send"].map(str::to_owned).into_iter().chain(flags);
            assert_eq!(Config::parse_from(args).mounts(&file), expected, "{mounted:?}");
        }
    }
}
