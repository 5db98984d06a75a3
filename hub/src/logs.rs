//! Logs to standard error, one JSON object a line unless text is asked for.
//!
//! No token, body or query appears in a log line. Of a request, only its path, its peer and the username that the
//! API server confirmed are logged.

use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// These libraries see whole requests, and some log headers at debug level. They stay at this level whatever was
/// asked for. `auth` logs the API server's failures, once each.
const QUIET: &str = "hyper=info,hyper_util=info,kube=info,kube_client=off,rustls=info,tower=info";

/// Starts logging. Fails if the process has a logger already.
pub fn start(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{},{QUIET}", config.log))?;
    let json = config.log_format == LogFormat::Json;
    #[allow(clippy::disallowed_methods, reason = "the one place that logs")]
    let writer = move || domain::PlainLog { to: std::io::stderr(), json };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = match config.log_format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => builder.try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging can't start: {error}"))
}
