//! The certificate that the API is served with: read from two files, and again when they change.
//!
//! Invariant: what can't be used does not replace what can. Never here: where the certificate comes from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::ServerConfig;
use serving::tls;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often the files are looked at; the kubelet takes about a minute to write them.
const LOOK: Duration = Duration::from_secs(10);

/// The files (PEM).
#[derive(Debug, Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// What the files hold.
type PemPair = (Vec<u8>, Vec<u8>);

impl Files {
    async fn read_pems(&self) -> anyhow::Result<PemPair> {
        let read = async |path: &Path| {
            tokio::fs::read(path).await.with_context(|| format!("can't read {}", path.display()))
        };
        Ok((read(&self.certificate).await?, read(&self.key).await?))
    }
}

/// The configuration to serve with, now and after every change of the files, until `stop`. Fails when they can't be used to
/// begin with.
pub(crate) async fn load_and_watch(
    certificate: PathBuf,
    key: PathBuf,
    stop: CancellationToken,
    tasks: &TaskTracker,
) -> anyhow::Result<watch::Receiver<Arc<ServerConfig>>> {
    let files = Files { certificate, key };
    let mut held = files.read_pems().await?;
    let (current, receiver) = watch::channel(tls(&held.0, &held.1, None)?);
    tasks.spawn(async move {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let changed = match files.read_pems().await {
                Ok(read) if read == held => continue,
                // Between two reads the kubelet may have written one of the two: then they don't fit, and soon they do.
                Ok(read) => tls(&read.0, &read.1, None).map(|config| (read, config)),
                Err(error) => Err(error),
            };
            match changed {
                Ok((read, config)) => {
                    tracing::info!("a new certificate");
                    held = read;
                    current.send_replace(config);
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "the new certificate can't be used; it is looked at again soon");
                }
            }
        }
    });
    Ok(receiver)
}
