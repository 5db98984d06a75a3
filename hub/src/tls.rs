//! The API's certificate: read from two files, and again when they change.
//!
//! Invariant: an unusable certificate never replaces a usable one. Where the certificate comes from is not known
//! here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::ServerConfig;
use serving::tls;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often the files are checked. The kubelet takes about a minute to write new ones.
const LOOK: Duration = Duration::from_secs(10);

/// The files (PEM).
#[derive(Debug, Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// Contents of certificate and key.
type PemPair = (Vec<u8>, Vec<u8>);

impl Files {
    async fn read_pems(&self) -> anyhow::Result<PemPair> {
        let read = async |path: &Path| {
            tokio::fs::read(path).await.with_context(|| format!("can't read {}", path.display()))
        };
        Ok((read(&self.certificate).await?, read(&self.key).await?))
    }
}

/// Loads the TLS configuration, and loads it again after every change of the files, until `stop`. Fails if the
/// first load does.
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
                // The kubelet may have written only one of the two between our reads: they don't match now, and will soon.
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
