//! Logs: one JSON object a line, to standard error.
//!
//! Never: a token, a body, or a query in a log line. Values that come from a request are its path, its peer and whom the
//! API server says it is.

use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// Libraries that see whole requests stay at this level, whatever was asked for: below it, some of them log headers. The
/// API server's failures are told by `auth`, once each.
const QUIET: &str = "hyper=info,hyper_util=info,kube=info,kube_client=off,rustls=info,tower=info";

/// Starts logging; the first call of a process wins.
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
