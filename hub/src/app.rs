//! What every handler shares.

use std::sync::Arc;

use ledger::{Error, Ledger};
use tokio_util::sync::CancellationToken;

use crate::attempts::Attempts;
use crate::auth::Auth;
use crate::chance::Chance;
use crate::denials::Denials;
use crate::faults::Faults;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::reading::{Reader, Reads};
use crate::refusal::Refusal;
use crate::render::Texts;
use crate::reports::Reports;
use crate::sessions::Sessions;

/// What every handler shares. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

/// The contents of [`App`].
pub(crate) struct Shared {
    pub(crate) ledger: Ledger,
    pub(crate) auth: Auth,
    pub(crate) limits: Limits,
    pub(crate) reads: Reads,
    pub(crate) reports: Reports,
    pub(crate) sessions: Sessions,
    pub(crate) peers: Peers,
    /// What this hub is called among others: its pod's name, or a random one.
    pub(crate) name: String,
    pub(crate) texts: Arc<Texts>,
    pub(crate) attempts: Attempts,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) faults: Faults,
    pub(crate) denials: Denials,
    pub(crate) chance: Chance,
    /// Cancelled at shutdown, which ends long polls at once.
    pub(crate) stop: CancellationToken,
}

impl App {
    pub(crate) fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    /// See [`Reads::run_read`].
    pub(crate) async fn read_for<T: Send + 'static>(
        &self,
        reader: &Reader,
        read: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.reads.run_read(&self.faults, reader, read).await
    }
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
