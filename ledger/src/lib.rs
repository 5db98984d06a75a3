//! The ledger: the only door to the database. Plans, offsets, counts, alert states, notifications, deliveries,
//! attempts and statuses, in SQLite.
//!
//! Invariants: one process has the file open; one task writes; an answer is given only after what it says is durable;
//! all that an accepted entry of a commit causes is in the same transaction as its offset. Memory holds caches only.
//!
//! Never here: a clock, randomness (both come in as arguments), the network, or SQL that is not static text.

mod activations;
mod api;
mod catalog;
mod chores;
mod claim;
mod commit;
mod counts;
mod db;
mod decider;
mod decisions;
mod deliveries;
mod due;
mod error;
mod expiry;
mod lately;
mod leaving;
mod letters;
mod live;
mod notify;
mod numbers;
mod observe;
mod open;
mod origins;
mod outcomes;
mod parts;
mod plans;
mod positions;
mod postgres;
mod published;
mod queue;
mod reads;
mod reminders;
mod requests;
mod rules;
mod sql;
mod status;
mod stories;
mod texts;
mod undelivered;
mod workers;
mod writer;

pub use api::{
    Counts, Database, Options, PartitionRef, Pruned, Render, Rendered, SourceRef, Topic, WorkerView,
    WriterMetrics,
};
pub use claim::Handed;
pub use error::Error;
pub use origins::Made;
pub use workers::There;

use std::sync::atomic::{AtomicU64, AtomicUsize};

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::decider::Decider;
use crate::texts::Texts;
use crate::writer::{Command, Door, Shared, Tx};

/// The database, as the hub uses it. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    door: Door,
    readers: reads::Readers,
    /// Those of people: however much they read, workers' looks don't wait for it.
    people: reads::Readers,
    shared: Arc<Shared>,
    /// Bytes of finished notifications and of letters that a namespace may keep.
    quotas: (i64, i64),
    /// Whose turn it is of those over a quota.
    turn: Arc<AtomicUsize>,
    decider: Arc<Decider>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Ledger {
    /// Opens or creates a ledger, brings its schema up to date and checks it. The database belongs to this process until the
    /// ledger is closed or the process ends.
    pub async fn open(
        database: impl Into<Database>,
        options: Options,
        render: Arc<dyn Render>,
    ) -> Result<Self, Error> {
        let (lock, conn, readers, people) = match database.into() {
            Database::Sqlite(path) => (
                Some(open::lock(&path)?),
                open::connect(&path, options.check).await?,
                open::readers(&path, options.readers).await?,
                open::readers(&path, options.readers).await?,
            ),
            Database::Postgres(url) => (
                None,
                postgres::connect(&url).await?,
                postgres::readers(&url, options.readers).await?,
                postgres::readers(&url, options.readers).await?,
            ),
        };
        let quotas = (options.max_finished_bytes, options.max_letter_bytes);
        let (texts, patience) = (Texts::new(render, &options), options.patience.std());
        let (id, tx) = open::load(conn, options).await?;
        let shared = Arc::new(Shared::new(id, Arc::clone(&tx.catalog), Arc::clone(&tx.steps)));
        let (door, writer) = writer::start(tx, Arc::clone(&shared), lock);
        let decider = Arc::new(Decider::new(door.clone(), texts, patience));
        let (turn, writer) = (Arc::default(), Arc::new(Mutex::new(Some(writer))));
        Ok(Self { door, readers, people, shared, quotas, turn, decider, writer })
    }

    /// Closes the file and gives up its lock, after what was sent to the writer is done. Other clones get
    /// [`Error::Closed`] from then on.
    pub async fn close(self) {
        // It fails only when the writer has ended already.
        let _ = self.door.done(Close).await;
        let task = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // It ends when nothing waits any more; it has nothing to tell.
            let _ = task.await;
        }
        self.readers.close().await;
        self.people.close().await;
    }

    /// The ledger's own id.
    pub fn id(&self) -> Uuid {
        self.shared.id
    }

    /// A receiver whose value changes when what it is about may have changed.
    pub fn watch(&self, topic: &Topic) -> watch::Receiver<u64> {
        self.shared.watch(topic)
    }

    /// The writer's numbers.
    pub fn metrics(&self) -> WriterMetrics {
        *self.shared.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Steps that the writer has done, whatever came of them: it rises while the writer gets on. Holds nothing open.
    pub fn steps(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.steps)
    }

    /// Bounds the file's size, in pages of 4 KiB; 0 for no bound of ours. What is stored stays, however large.
    pub async fn limit_pages(&self, pages: i64) -> Result<(), Error> {
        self.door.done(Limit(pages)).await
    }
}

struct Close;

impl Command for Close {
    type Answer = ();

    async fn run(&mut self, tx: &mut Tx) -> Result<(), Error> {
        tx.closing = true;
        Ok(())
    }
}

struct Limit(i64);

impl Command for Limit {
    type Answer = ();

    async fn run(&mut self, tx: &mut Tx) -> Result<(), Error> {
        // A pragma takes no parameter; the number is ours. The largest there is means no bound.
        let pages = if self.0 > 0 { self.0 } else { 4_294_967_294 };
        let pragma = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
        tx.conn.raw(pragma).await
    }
}
