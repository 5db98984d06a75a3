//! What people ask of the ledger: a few at a time, in turns between namespaces and persons, each within its time.
//!
//! The ledger has connections beyond those that people may use at once, so the operator's and the workers' reads never wait
//! behind them. A read goes on where its caller gave up, and keeps its place until it has ended: nobody gets more of the
//! ledger by not waiting. Never: a read that says of the hub as a whole that it fails.

use std::sync::Arc;
use std::time::Duration;

use ledger::Error;

use crate::places::{Bounds, Places};
use crate::problem::Refusal;
use crate::state::App;

/// Reads of people at once: in all, of one namespace, of one person.
const AT_ONCE: Bounds = Bounds { all: 4, namespace: 2, person: 2 };
/// The ledger's connections for reading: those, and two for operator and workers.
pub(crate) const CONNECTIONS: u32 = AT_ONCE.all as u32 + 2;
/// How long a read may wait for its turn, and how long it may take.
const TURN: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(10);

/// Who reads, and where.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(crate) person: Arc<str>,
    pub(crate) namespace: Arc<str>,
}

/// Turns of people's reads.
pub(crate) struct Reads(Arc<Places>);

impl Reads {
    pub(crate) fn new() -> Self {
        Self(Places::new(AT_ONCE))
    }
}

impl App {
    /// Reads for somebody when it is their turn.
    pub(crate) async fn read_for<T: Send + 'static>(
        &self,
        reader: &Reader,
        read: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Refusal> {
        let turn = self.reads.0.wait(&reader.person, &reader.namespace, TURN).await.map_err(|full| {
            self.faults.read_failed("Busy", "no turn in time");
            Refusal::read_failed(format!("too many reads are under way: {full}"))
        })?;
        let reading = tokio::spawn(async move {
            let read = read.await;
            drop(turn);
            read
        });
        match tokio::time::timeout(LONGEST, reading).await {
            Ok(Ok(read)) => self.faults.read(read),
            Ok(Err(_)) => Err(Refusal::internal()),
            Err(_) => {
                self.faults.read_failed("Timeout", "a read took longer than its time");
                let longest = LONGEST.as_secs();
                Err(Refusal::read_failed(format!("the read took longer than {longest} s: ask for less")))
            }
        }
    }
}
