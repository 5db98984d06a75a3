//! The ledger: the only access to the database. It keeps plans, offsets, counts, alert states, notifications,
//! deliveries, attempts and statuses in SQLite or PostgreSQL.
//!
//! Invariants: one transaction writes at a time. A file of SQLite belongs to one process, in which one task writes; in
//! PostgreSQL the processes take turns (`replicas.rs`). The ledger answers only after what the answer says is durable. Everything that an accepted entry of a commit causes is in the same transaction as its offset.
//! Memory holds caches only.
//!
//! This crate has no clock, no randomness (both come in as arguments), no network, and no SQL that isn't static text.

mod activations;
mod catalog;
mod chores;
mod claim;
mod commit;
mod commit_parts;
mod counts;
mod database;
mod dead_letters;
mod decider;
mod decisions;
mod deliveries;
mod due;
mod engine;
mod error;
mod expiry;
mod namespaces;
mod notify;
mod observe;
mod outcomes;
mod plans;
mod positions;
mod postgres;
mod published;
mod queries;
mod queue;
mod recent_records;
mod reminders;
mod replicas;
mod requests;
mod rule_cleanup;
mod rule_updates;
mod rules;
mod sql;
mod status;
mod stories;
mod texts;
mod totals;
mod transfer;
mod types;
mod undelivered;
mod workers;
mod writer;

pub use claim::RawClaimed;
pub use error::Error;
pub use namespaces::NamespaceIdentity;
pub use replicas::Peer;
pub use transfer::{Copied, back_up, copy, restore};
pub use types::{
    Database, Options, PartitionRef, Pruned, Render, Rendered, Signal, SourceRef, Totals, WorkerView,
    WriterMetrics,
};
pub use workers::PresentWorkers;

use std::sync::atomic::{AtomicU64, AtomicUsize};

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::decider::Decider;
use crate::texts::TextRenderer;
use crate::writer::{Command, Shared, Tx, WriterHandle};

/// The database, as the hub uses it. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    writer: WriterHandle,
    readers: queries::Readers,
    /// Connections for people's reads, so that workers never wait behind them.
    people_readers: queries::Readers,
    shared: Arc<Shared>,
    database: Database,
    /// Bytes of finished notifications, and of dead letters, that a namespace may keep.
    quotas: (i64, i64),
    /// Counts calls of `prune`, so that namespaces over a quota take turns.
    turn: Arc<AtomicUsize>,
    decider: Arc<Decider>,
    writer_task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Ledger {
    /// Opens or creates a ledger, brings its schema up to date and checks it. A file belongs to this process until the ledger is
    /// closed or the process ends; a database of PostgreSQL may be open in several.
    pub async fn open(
        database: impl Into<Database>,
        options: Options,
        render: Arc<dyn Render>,
    ) -> Result<Self, Error> {
        let database = database.into();
        let (lock, conn, readers, people_readers) = match &database {
            Database::Sqlite(path) => (
                Some(database::lock_file(path)?),
                database::open_writer(path, options.check_file).await?,
                database::open_readers(path, options.readers).await?,
                database::open_readers(path, options.readers).await?,
            ),
            Database::Postgres(_) | Database::PostgresUrlFile(_) => {
                let url = database.url()?.unwrap_or_default();
                (
                    None,
                    postgres::open_writer(&url).await?,
                    postgres::open_readers(&url, options.readers).await?,
                    postgres::open_readers(&url, options.readers).await?,
                )
            }
        };
        let quotas = (options.max_finished_bytes, options.max_dead_letter_bytes);
        let (texts, decide_wait) = (TextRenderer::new(render, &options), options.decide_wait.std());
        let (id, tx) = database::load_tx(database.clone(), conn, options).await?;
        let shared = Arc::new(Shared::new(id, &tx));
        let (writer, task) = writer::start_writer(tx, Arc::clone(&shared), lock);
        let decider = Arc::new(Decider::new(writer.clone(), texts, decide_wait));
        let (turn, writer_task) = (Arc::default(), Arc::new(Mutex::new(Some(task))));
        Ok(Self { writer, readers, people_readers, shared, database, quotas, turn, decider, writer_task })
    }

    /// Closes the database and releases its lock, once the writer has done what was sent to it. Other clones get
    /// [`Error::Closed`] from then on.
    pub async fn close(self) {
        // This fails only if the writer has ended already.
        let _ = self.writer.execute(CloseLedger).await;
        let task = self.writer_task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // The task ends when nothing waits any more, and returns nothing.
            let _ = task.await;
        }
        self.readers.close().await;
        self.people_readers.close().await;
    }

    /// The ledger's id.
    pub fn id(&self) -> Uuid {
        self.shared.id
    }

    /// A receiver whose value changes whenever what `signal` names may have changed.
    pub fn watch(&self, signal: &Signal) -> watch::Receiver<u64> {
        self.shared.watch(signal)
    }

    /// Counters of the writer.
    pub fn writer_metrics(&self) -> WriterMetrics {
        *self.shared.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many commands and transactions the writer has finished, with or without success. The count rises as long
    /// as the writer makes progress; holding it keeps nothing open.
    pub fn writer_steps(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.steps)
    }

    /// SQLite: bounds the file's size, in pages of 4 KiB; 0 for no bound of ours. What is stored stays, however large.
    pub async fn limit_pages(&self, pages: i64) -> Result<(), Error> {
        self.writer.execute(LimitPages(pages)).await
    }
}

struct CloseLedger;

impl Command for CloseLedger {
    type Answer = ();

    async fn run(&mut self, tx: &mut Tx) -> Result<(), Error> {
        tx.closing = true;
        Ok(())
    }
}

struct LimitPages(i64);

impl Command for LimitPages {
    type Answer = ();

    async fn run(&mut self, tx: &mut Tx) -> Result<(), Error> {
        // A pragma takes no parameter, and the number is our own. SQLite's largest value means no bound.
        let pages = if self.0 > 0 { self.0 } else { 4_294_967_294 };
        let pragma = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
        tx.conn.raw(pragma).await
    }
}
