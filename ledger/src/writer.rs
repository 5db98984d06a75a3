//! The one task that writes. It takes waiting commands, namespaces in turn, runs each in a savepoint of one
//! transaction, commits, and only then answers.
//!
//! Invariants: a command that fails undoes only itself. When the storage fails, the whole transaction is undone,
//! every caller in it is told, and the next commands start afresh. A transaction takes no further command once its
//! time is used. Nobody sees a change of the catalog before it is durable, and no tenant's template runs here
//! (`texts.rs`).
//!
//! Clause P14 of docs/semantics.md.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use crate::engine::{Conn, query};
use crate::queue::Queue;
use crate::replicas::{TRANSACTION_TIME, WriterRow};
use crate::{Database, Error, Options, Signal, WriterMetrics, catalog::Catalog, published::Published};

/// A transaction that has lasted this long takes no further command.
const BUDGET: Duration = Duration::from_millis(50);

/// Something to do in a transaction. It may run again after a failure.
pub(crate) trait Command: Send + 'static {
    /// What the caller gets.
    type Answer: Send + 'static;
    /// Whether to skip the command when its caller has left.
    const NEEDS_CALLER: bool = false;

    /// The namespace whose turn it takes in the queue; `None` for commands of the hub's loops and of the operator.
    fn namespace(&self) -> Option<&str> {
        None
    }

    fn run(&mut self, tx: &mut Tx) -> impl Future<Output = Result<Self::Answer, Error>> + Send;
}

/// The write connection, and what else commands need.
pub(crate) struct Tx {
    pub(crate) conn: Conn,
    pub(crate) database: Database,
    /// The connection is lost.
    pub(crate) broken: bool,
    pub(crate) catalog: Arc<Catalog>,
    /// The catalog as it is stored: what a failed transaction goes back to.
    pub(crate) begun_with: Arc<Catalog>,
    /// PostgreSQL: what is stored of `ids`, and up to which versions this hub knows what others do.
    pub(crate) row: WriterRow,
    pub(crate) options: Options,
    pub(crate) ids: RowIds,
    /// Objects whose status may have changed. A spurious mark costs one comparison, so a rollback keeps it.
    pub(crate) dirty: DirtyObjects,
    /// What was last published to the feed.
    pub(crate) published: Published,
    pub(crate) wakes: HashSet<Signal>,
    pub(crate) counted: WriterMetrics,
    /// How many commands and transactions were finished since the start, with or without success. Others see by it
    /// that the writer makes progress.
    pub(crate) steps: Arc<AtomicU64>,
    /// Set when the ledger closes: waiting commands are done, new ones are refused.
    pub(crate) closing: bool,
}

/// The last row ids given out. They rise; a failure leaves gaps.
#[derive(Debug, Default)]
pub(crate) struct RowIds {
    pub(crate) notification: i64,
    pub(crate) delivery: i64,
    pub(crate) place: i64,
    pub(crate) status: i64,
}

impl From<WriterRow> for RowIds {
    fn from(row: WriterRow) -> Self {
        let WriterRow { notification, delivery, place, status, .. } = row;
        Self { notification, delivery, place, status }
    }
}

/// The next id of a counter.
pub(crate) fn next_id(counter: &mut i64) -> i64 {
    *counter += 1;
    *counter
}

/// Objects whose status may have changed.
#[derive(Debug, Default)]
pub(crate) struct DirtyObjects {
    marks: HashMap<Uuid, DirtyMark>,
    sequence: u64,
    cleared: Vec<ClearedMark>,
    /// When an object's status was last published, Unix ms.
    published: HashMap<Uuid, i64>,
}

/// A mark to remove once the transaction is durable, with the time at which the object was published; `None` if the
/// object is gone.
#[derive(Debug)]
struct ClearedMark {
    uid: Uuid,
    sequence: u64,
    published: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct DirtyMark {
    urgent: bool,
    sequence: u64,
}

impl DirtyObjects {
    pub(crate) fn mark(&mut self, uid: Uuid, urgent: bool) {
        self.sequence += 1;
        let sequence = self.sequence;
        let mark = self.marks.entry(uid).or_insert(DirtyMark { urgent, sequence });
        *mark = DirtyMark { urgent: mark.urgent || urgent, sequence };
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Uuid, bool)> {
        self.marks.iter().map(|(uid, mark)| (*uid, mark.urgent))
    }

    /// When an object's status was last published, Unix ms.
    pub(crate) fn published(&self, uid: &Uuid) -> Option<i64> {
        self.published.get(uid).copied()
    }

    /// Removes the mark once the transaction is durable, unless it is set again before that, and stores when the
    /// object was published; `None` forgets the time.
    pub(crate) fn clear(&mut self, uid: Uuid, published: Option<i64>) {
        if let Some(mark) = self.marks.get(&uid) {
            self.cleared.push(ClearedMark { uid, sequence: mark.sequence, published });
        }
    }

    fn end_transaction(&mut self, durable: bool) {
        for ClearedMark { uid, sequence, published } in self.cleared.drain(..) {
            if !durable {
                continue;
            }
            if self.marks.get(&uid).is_some_and(|mark| mark.sequence == sequence) {
                self.marks.remove(&uid);
            }
            match published {
                Some(at) => self.published.insert(uid, at),
                None => self.published.remove(&uid),
            };
        }
    }
}

impl Tx {
    pub(crate) fn wake(&mut self, signal: Signal) {
        self.wakes.insert(signal);
    }

    /// Marks an object's status as changed. An urgent one, a transition, is published at once.
    pub(crate) fn mark(&mut self, uid: Uuid, urgent: bool) {
        self.dirty.mark(uid, urgent);
        if urgent {
            self.wakes.insert(Signal::Statuses);
        }
    }

    /// Counts a finished command or transaction, also if it failed.
    pub(crate) fn count_step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    async fn sql(&mut self, sql: &'static str) -> Result<(), Error> {
        query(sql).execute(&mut self.conn).await?;
        Ok(())
    }
}

/// What the writer shares with the rest of the ledger.
pub(crate) struct Shared {
    pub(crate) id: Uuid,
    pub(crate) catalog: RwLock<Arc<Catalog>>,
    pub(crate) metrics: Mutex<WriterMetrics>,
    pub(crate) steps: Arc<AtomicU64>,
    /// PostgreSQL: the version of `catalog`.
    pub(crate) catalog_version: AtomicI64,
    /// PostgreSQL: the last of other hubs' signals that was heard.
    pub(crate) seen_signal: AtomicI64,
    wakers: Mutex<HashMap<Signal, watch::Sender<u64>>>,
    /// Changes with each transaction of this process that wakes somebody.
    pub(crate) committed: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn new(id: Uuid, tx: &Tx) -> Self {
        Self {
            id,
            catalog: RwLock::new(Arc::clone(&tx.catalog)),
            metrics: Mutex::default(),
            steps: Arc::clone(&tx.steps),
            catalog_version: AtomicI64::new(tx.row.catalog),
            seen_signal: AtomicI64::new(tx.row.signal),
            wakers: Mutex::default(),
            committed: watch::Sender::new(0),
        }
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn watch(&self, signal: &Signal) -> watch::Receiver<u64> {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        // Drop signals that nobody waits for any more, so that deleted namespaces leave nothing behind.
        if wakers.len() > 1_000 {
            wakers.retain(|_, waker| waker.receiver_count() > 0);
        }
        wakers.entry(signal.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    fn publish(&self, tx: &mut Tx) {
        *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&tx.catalog);
        self.catalog_version.store(tx.row.catalog, Ordering::Release);
        *self.metrics.lock().unwrap_or_else(PoisonError::into_inner) = tx.counted;
        if !tx.wakes.is_empty() {
            self.committed.send_modify(|changes| *changes += 1);
        }
        for signal in tx.wakes.drain() {
            self.wake(&signal);
        }
    }

    /// Wakes those who wait for a signal.
    pub(crate) fn wake(&self, signal: &Signal) {
        let wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = wakers.get(signal) {
            waker.send_modify(|changes| *changes += 1);
        }
    }
}

pub(crate) type CommandFuture<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// A queued command, of any type, with its caller.
pub(crate) trait QueuedCommand: Send {
    fn abandoned(&self) -> bool;
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> CommandFuture<'a>;
    /// Answers the caller: the command's own result if the transaction is durable, else the error.
    fn answer(self: Box<Self>, failed: Option<Error>);
}

struct CommandWithCaller<C: Command> {
    command: C,
    result: Option<Result<C::Answer, Error>>,
    caller: oneshot::Sender<Result<C::Answer, Error>>,
}

impl<C: Command> QueuedCommand for CommandWithCaller<C> {
    fn abandoned(&self) -> bool {
        C::NEEDS_CALLER && self.caller.is_closed()
    }

    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> CommandFuture<'a> {
        Box::pin(async move {
            let result = self.command.run(tx).await;
            tx.count_step();
            let told = result.as_ref().map(|_| ()).map_err(Clone::clone);
            self.result = Some(result);
            told
        })
    }

    fn answer(self: Box<Self>, failed: Option<Error>) {
        let result = match failed {
            Some(error) => Err(error),
            None => self.result.unwrap_or(Err(Error::Closed)),
        };
        // This fails if the caller has left.
        let _ = self.caller.send(result);
    }
}

/// Sends commands to the writer.
#[derive(Clone)]
pub(crate) struct WriterHandle {
    queue: Arc<Queue>,
    /// Wakes the writer; one message is enough for all waiting commands.
    bell: mpsc::Sender<()>,
}

impl WriterHandle {
    /// Has the writer execute a command, and waits until it is durable.
    pub(crate) async fn execute<C: Command>(&self, command: C) -> Result<C::Answer, Error> {
        let (caller, answer) = oneshot::channel();
        let namespace = command.namespace().unwrap_or_default().to_owned();
        self.queue.push(namespace, Box::new(CommandWithCaller { command, result: None, caller }))?;
        // If the channel is full, the writer is about to wake anyway.
        let _ = self.bell.try_send(());
        answer.await.map_err(|_| Error::Closed)?
    }
}

/// Starts the writer. It ends when the last handle is gone or the ledger is closed, and releases the lock last.
pub(crate) fn start_writer(
    tx: Tx,
    shared: Arc<Shared>,
    lock: Option<File>,
) -> (WriterHandle, tokio::task::JoinHandle<()>) {
    let (bell, woken) = mpsc::channel(1);
    let queue = Arc::new(Queue::default());
    let task = tokio::spawn(run_writer(tx, shared, Arc::clone(&queue), woken, lock));
    (WriterHandle { queue, bell }, task)
}

async fn run_writer(
    mut tx: Tx,
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    mut woken: mpsc::Receiver<()>,
    lock: Option<File>,
) {
    while !tx.closing && woken.recv().await.is_some() {
        run_waiting(&mut tx, &shared, &queue).await;
    }
    queue.close();
    run_waiting(&mut tx, &shared, &queue).await;
    if let Err(error) = tx.conn.close().await {
        tracing::warn!(%error, "the ledger's file was not closed cleanly");
    }
    drop(lock);
}

/// Runs transactions until no command waits.
async fn run_waiting(tx: &mut Tx, shared: &Shared, queue: &Queue) {
    loop {
        // Commands that arrive from now on go into the next transaction.
        let most = queue.len().min(tx.options.max_batch.max(1));
        let Some(first) = queue.next() else { return };
        let begun = Instant::now();
        let mut jobs = vec![first];
        let failed = match tx.reconnect(shared.id).await {
            Ok(()) => run_transaction(tx, &mut jobs, queue, most, begun).await.err(),
            Err(error) => Some(error),
        };
        tx.dirty.end_transaction(failed.is_none());
        tx.counted.seconds += begun.elapsed().as_secs_f64();
        if let Some(error) = &failed {
            // Each caller gets the error and logs it, so debug is enough here.
            tracing::debug!(%error, commands = jobs.len(), "a transaction failed and was undone");
            tx.counted.failed += jobs.len() as u64;
            // Without this the connection would stay inside a transaction, and the next one would fail.
            tx.roll_back().await;
        } else {
            tx.counted.commits += 1;
            tx.counted.commands += jobs.len() as u64;
        }
        tx.count_step();
        shared.publish(tx);
        for job in jobs {
            job.answer(failed.clone());
        }
    }
}

/// Runs one transaction, in PostgreSQL within a time: an answer that never comes must not hold up everybody.
async fn run_transaction(
    tx: &mut Tx,
    jobs: &mut Vec<Box<dyn QueuedCommand>>,
    queue: &Queue,
    most: usize,
    begun: Instant,
) -> Result<(), Error> {
    if !tx.conn.is_shared() {
        return run_commands(tx, jobs, queue, most, begun).await;
    }
    if let Ok(result) =
        tokio::time::timeout(TRANSACTION_TIME, run_commands(tx, jobs, queue, most, begun)).await
    {
        return result;
    }
    tx.broken = true;
    Err(Error::Storage(format!("no answer within {} s", TRANSACTION_TIME.as_secs())))
}

/// Runs a transaction of at most `most` commands. The first is in `jobs`; more are taken from the queue until the
/// time is used. A command's own error concerns only its caller; an error of the storage fails the whole transaction.
async fn run_commands(
    tx: &mut Tx,
    jobs: &mut Vec<Box<dyn QueuedCommand>>,
    queue: &Queue,
    most: usize,
    begun: Instant,
) -> Result<(), Error> {
    tx.begin().await?;
    if most <= 1
        && let [only] = &mut jobs[..]
    {
        // A single command needs no savepoint of its own.
        return match only.run(tx).await {
            Ok(()) => tx.commit().await,
            Err(error) if error.is_storage() => Err(error),
            Err(_) => {
                tx.counted.failed += 1;
                tx.roll_back().await;
                Ok(())
            }
        };
    }
    let mut at = 0;
    while let Some(job) = jobs.get_mut(at) {
        let before = Arc::clone(&tx.catalog);
        tx.sql("SAVEPOINT command").await?;
        match job.run(tx).await {
            Ok(()) => {}
            Err(error) if error.is_storage() => return Err(error),
            Err(_) => {
                tx.catalog = before;
                tx.counted.failed += 1;
                tx.sql("ROLLBACK TO command").await?;
            }
        }
        tx.sql("RELEASE command").await?;
        at += 1;
        if at < most && begun.elapsed() < BUDGET {
            jobs.extend(queue.next());
        }
    }
    tx.commit().await
}
