//! Flags. Each has an environment variable `BELFRY_<NAME>`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use controllers::children::Settings;
use domain::{AddressRange, Guard};

/// Turns NotificationChannels, AlertRules and Schedules into plans for the hub and workers beside them.
#[derive(Debug, Clone, Parser)]
#[command(name = "belfry-operator", version, disable_help_subcommand = true)]
pub(crate) struct Config {
    /// URL of the hub, for the operator and for workers.
    #[arg(long, env = "BELFRY_HUB_URL")]
    pub(crate) hub_url: String,
    /// File with the operator's token for the hub; read at every call.
    #[arg(long, env = "BELFRY_HUB_TOKEN_FILE", default_value = "/var/run/belfry/token/token")]
    pub(crate) hub_token_file: PathBuf,
    /// Audience of the workers' tokens.
    #[arg(long, env = "BELFRY_AUDIENCE", default_value = "belfry-hub")]
    pub(crate) audience: String,
    /// Image of workers.
    #[arg(long, env = "BELFRY_WORKER_IMAGE")]
    pub(crate) worker_image: String,
    /// The worker's binary in that image.
    #[arg(long, env = "BELFRY_WORKER_COMMAND", default_value = "/belfry-worker")]
    pub(crate) worker_command: String,
    /// Always, IfNotPresent or Never; Kubernetes' default when absent.
    #[arg(long, env = "BELFRY_WORKER_IMAGE_PULL_POLICY", default_value = "", value_parser = ["", "Always", "IfNotPresent", "Never"])]
    pub(crate) worker_image_pull_policy: String,
    /// Names of image pull secrets that exist in the tenants' namespaces.
    #[arg(long, env = "BELFRY_IMAGE_PULL_SECRETS", value_delimiter = ',')]
    pub(crate) image_pull_secrets: Vec<String>,
    /// Memory limit of a worker; none when empty.
    #[arg(long, env = "BELFRY_WORKER_MEMORY_LIMIT", default_value = "256Mi")]
    pub(crate) worker_memory_limit: String,
    /// Log filter of workers.
    #[arg(long, env = "BELFRY_WORKER_LOG", default_value = "info")]
    pub(crate) worker_log: String,
    /// Workers refuse receivers and brokers at private addresses.
    #[arg(long, env = "BELFRY_DENY_PRIVATE")]
    pub(crate) deny_private: bool,
    /// Ranges of addresses that workers refuse besides, such as 203.0.112.0/20, separated by commas.
    #[arg(long, env = "BELFRY_DENIED_RANGES", value_delimiter = ',')]
    pub(crate) denied_ranges: Vec<AddressRange>,
    /// Ranges of addresses that workers connect to all the same. Of a range to refuse and one to allow the longer prefix
    /// counts; clouds' metadata is allowed only by its very address.
    #[arg(long, env = "BELFRY_ALLOWED_RANGES", value_delimiter = ',')]
    pub(crate) allowed_ranges: Vec<AddressRange>,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, env = "BELFRY_LISTEN", default_value = "0.0.0.0:8081")]
    pub(crate) listen: SocketAddr,
    /// Where admission is served, over TLS.
    #[arg(long, env = "BELFRY_ADMISSION_LISTEN", default_value = "0.0.0.0:9443")]
    pub(crate) admission_listen: SocketAddr,
    /// File with the authorities (PEM) of the certificates that API servers show; without, anybody may ask, each address within
    /// its share.
    #[arg(long, env = "BELFRY_ADMISSION_CLIENT_CA_FILE")]
    pub(crate) admission_client_ca_file: Option<PathBuf>,
    /// Common names, separated by commas, of which such a certificate has one; any when absent.
    #[arg(
        long,
        env = "BELFRY_ADMISSION_CLIENT_NAMES",
        value_delimiter = ',',
        requires = "admission_client_ca_file"
    )]
    pub(crate) admission_client_names: Vec<String>,
    /// What the reviews under way may take in memory, bytes; from 48 MiB, so that the longest is among what one address may have.
    #[arg(long, env = "BELFRY_ADMISSION_MEMORY", default_value_t = 48 << 20, value_parser = clap::value_parser!(u32).range(48 << 20..))]
    pub(crate) admission_memory: u32,
    /// Name of the ValidatingWebhookConfiguration that has to trust this operator; without one, admission is off.
    #[arg(long, env = "BELFRY_WEBHOOK")]
    pub(crate) webhook: Option<String>,
    /// Namespace of the Secret with the certificates.
    #[arg(long, env = "BELFRY_NAMESPACE", default_value = "belfry-system")]
    pub(crate) namespace: String,
    /// Name of the Secret with the certificates, which must exist, if only empty.
    #[arg(long, env = "BELFRY_CERTIFICATES", default_value = "belfry-certificates")]
    pub(crate) certificates: String,
    /// Name of the ConfigMap that gets the authority alone, for people; it must exist, if only empty.
    #[arg(long, env = "BELFRY_AUTHORITIES", default_value = "belfry-ca")]
    pub(crate) authorities: String,
    /// Names of webhook and hub that the certificate is for, separated by commas.
    #[arg(long, env = "BELFRY_CERTIFICATE_NAMES", value_delimiter = ',')]
    pub(crate) certificate_names: Vec<String>,
    /// How far ahead schedules are compared, days: 1 to 18300 (50 years).
    #[arg(long, env = "BELFRY_CONFLICT_HORIZON_DAYS", default_value_t = 731, value_parser = clap::value_parser!(u16).range(1..=18_300))]
    pub(crate) conflict_horizon_days: u16,
    /// Namespace of the lease; the pod's own when absent.
    #[arg(long, env = "BELFRY_LEASE_NAMESPACE")]
    pub(crate) lease_namespace: Option<String>,
    /// Name of the lease.
    #[arg(long, env = "BELFRY_LEASE_NAME", default_value = "belfry-operator")]
    pub(crate) lease_name: String,
    /// Namespaces to watch, separated by commas; all when absent.
    #[arg(long, env = "BELFRY_WATCH_NAMESPACES", value_delimiter = ',')]
    pub(crate) watch_namespaces: Vec<String>,
    /// Name of this process, unique among its replicas: the pod's.
    #[arg(long, env = "HOSTNAME", default_value = "belfry-operator")]
    pub(crate) instance: String,
    /// Log filter, such as info or debug.
    #[arg(long, env = "BELFRY_LOG", default_value = "info")]
    pub(crate) log: String,
}

impl Config {
    /// The namespaces to watch, without the empty one that an empty variable gives.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        named(&self.watch_namespaces)
    }

    /// Who may ask the webhook, and how much.
    pub(crate) fn reviews(&self) -> crate::webhook::Settings {
        let names = named(&self.admission_client_names);
        crate::webhook::Settings {
            clients: self.admission_client_ca_file.clone().map(|file| (file, names)),
            memory: self.admission_memory as usize,
        }
    }

    /// What workers may connect to. Once in a process.
    pub(crate) fn guard(&self) -> Guard {
        Guard::new(self.deny_private).with_ranges(self.denied_ranges.clone(), self.allowed_ranges.clone())
    }

    /// What workers are made with.
    pub(crate) fn settings(&self, hub_ca: String) -> Settings {
        Settings {
            image: self.worker_image.clone(),
            command: self.worker_command.clone(),
            pull_policy: self.worker_image_pull_policy.clone(),
            pull_secrets: named(&self.image_pull_secrets),
            hub_url: self.hub_url.clone(),
            hub_ca,
            audience: self.audience.clone(),
            deny_private: self.deny_private,
            denied_ranges: self.denied_ranges.clone(),
            allowed_ranges: self.allowed_ranges.clone(),
            memory_limit: self.worker_memory_limit.clone(),
            log: self.worker_log.clone(),
        }
    }
}

/// Each name once, in the order given, without empty ones.
fn named(names: &[String]) -> Vec<String> {
    let mut once: Vec<String> = Vec::new();
    for name in names.iter().map(|name| name.trim()).filter(|name| !name.is_empty()) {
        if !once.iter().any(|seen| seen == name) {
            once.push(name.to_owned());
        }
    }
    once
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_sound() {
        use clap::CommandFactory as _;
        Config::command().debug_assert();
    }

    #[test]
    fn names_of_clients_need_their_authority_and_memory_has_room_for_the_longest_review() {
        let config = |more: &[&str]| {
            let flags = ["x", "--hub-url", "http://hub", "--worker-image", "image"];
            Config::try_parse_from(flags.iter().chain(more))
        };
        assert!(config(&["--admission-client-names=a"]).is_err());
        assert!(config(&["--admission-memory=1000"]).is_err());
        let told =
            config(&["--admission-client-names=a,b", "--admission-client-ca-file=/ca"]).unwrap().reviews();
        assert_eq!(told.clients.unwrap(), ("/ca".into(), vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!((config(&[]).unwrap().reviews().clients, told.memory), (None, 50_331_648));
    }

    #[test]
    fn an_empty_list_watches_all_and_a_name_given_twice_is_watched_once() {
        let config = |list: &str| {
            let list = format!("--watch-namespaces={list}");
            Config::parse_from(["x", "--hub-url", "http://hub", "--worker-image", "image", &list])
        };
        assert!(config("").namespaces().is_empty());
        assert_eq!(config("a,b,a").namespaces(), ["a", "b"]);
    }
}
