//! Several hubs over one PostgreSQL: what one process may keep in memory is in the database there, and each hub catches
//! up with the others.
//!
//! Invariants: a transaction that writes locks the row of `writer` first, so the transactions of all hubs run one after
//! the other, and each command may reason as if it were alone. With the lock, a hub learns what others have changed:
//! plans, the last ids, published statuses. Versions of the status feed rise in the order of commits. A lock ends
//! with its transaction: a hub that loses its connection, or stands still for 5 s, loses it. What a hub keeps
//! besides may be stale: it is compared with the database before anything is decided by it.
//!
//! With SQLite, one process has the file, and nothing here is done.
//!
//! [ADR 32](../../docs/adr/0032-hubs-write-in-turns.md) says why there is one lock and not one for each namespace.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use protocol::messages::ObjectStatus;
use tokio::sync::watch;
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::engine::{Conn, query, query_scalar};
use crate::published::LastShown;
use crate::queries::Readers;
use crate::sql::{set, uuid};
use crate::writer::{Command, Shared, Tx};
use crate::{Error, Ledger, Signal, database, namespaces, postgres};

/// How many versions of the catalog are kept. A hub that is further behind loads all plans.
const VERSIONS_KEPT: i64 = 10_000;
/// A hub that was not heard for this long is gone, seconds.
const GONE_AFTER: f64 = 30.0;
/// How long a transaction may take, waiting for the lock included. Then its connection is given up.
pub(crate) const TRANSACTION_TIME: Duration = Duration::from_secs(30);

/// How long undoing a transaction may take.
const ROLLBACK_TIME: Duration = Duration::from_secs(5);

/// The row of `writer`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct WriterRow {
    /// The version of the catalog.
    pub(crate) catalog: i64,
    /// The last transaction that woke somebody.
    pub(crate) signal: i64,
    pub(crate) notification: i64,
    pub(crate) delivery: i64,
    pub(crate) place: i64,
    /// The last version of the status feed.
    pub(crate) status: i64,
}

impl WriterRow {
    /// Reads the row without its lock.
    pub(crate) async fn load(conn: &mut Conn) -> Result<Self, Error> {
        query("SELECT catalog, signal, notification, delivery, place, status FROM writer")
            .fetch_one(conn)
            .await
    }
}

/// Another hub, as it showed itself last.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    /// The hub's name.
    pub hub: String,
    /// How long ago that was.
    pub age: Duration,
    /// What it gave to [`Ledger::exchange`].
    pub body: String,
}

impl Tx {
    /// Begins a transaction. In PostgreSQL, waits for its turn and catches up with the other hubs.
    pub(crate) async fn begin(&mut self) -> Result<(), Error> {
        self.conn.begin().await?;
        if self.conn.is_shared() {
            let row: WriterRow =
                query("SELECT catalog, signal, notification, delivery, place, status FROM writer FOR UPDATE")
                    .fetch_one(&mut self.conn)
                    .await?;
            if row.catalog != self.row.catalog {
                self.catalog = Arc::new(self.changed_catalog(row.catalog).await?);
            }
            if row.status != self.row.status {
                self.load_published().await?;
            }
            self.row = row;
            self.ids = row.into();
        }
        self.begun_with = Arc::clone(&self.catalog);
        Ok(())
    }

    /// Commits, with what other hubs have to know.
    pub(crate) async fn commit(&mut self) -> Result<(), Error> {
        let mut row = self.row;
        if self.conn.is_shared() {
            (row.notification, row.delivery) = (self.ids.notification, self.ids.delivery);
            (row.place, row.status) = (self.ids.place, self.ids.status);
            if !Arc::ptr_eq(&self.begun_with, &self.catalog) {
                row.catalog += 1;
                self.store_catalog_changes(row.catalog).await?;
            }
            if !self.wakes.is_empty() {
                row.signal += 1;
                self.store_signals(row.signal).await?;
            }
            if row != self.row {
                query(
                    "UPDATE writer SET catalog = $1, signal = $2, notification = $3, delivery = $4, place = $5, \
                     status = $6",
                )
                .bind(row.catalog)
                .bind(row.signal)
                .bind(row.notification)
                .bind(row.delivery)
                .bind(row.place)
                .bind(row.status)
                .execute(&mut self.conn)
                .await?;
            }
        }
        query("COMMIT").execute(&mut self.conn).await?;
        self.row = row;
        self.begun_with = Arc::clone(&self.catalog);
        Ok(())
    }

    /// Undoes a transaction. In PostgreSQL, a connection on which that fails is given up.
    pub(crate) async fn roll_back(&mut self) {
        self.catalog = Arc::clone(&self.begun_with);
        if self.broken {
            return;
        }
        let undone = tokio::time::timeout(ROLLBACK_TIME, query("ROLLBACK").execute(&mut self.conn)).await;
        self.broken = self.conn.is_shared() && !matches!(undone, Ok(Ok(_)));
    }

    /// Connects again if the connection was lost. The database must hold the same ledger.
    pub(crate) async fn reconnect(&mut self, ledger: Uuid) -> Result<(), Error> {
        if !self.broken {
            return Ok(());
        }
        let Some(url) = self.database.url()? else { return Ok(()) };
        let mut conn = postgres::open_writer(&url).await?;
        let id: Option<String> =
            query_scalar("SELECT value FROM meta WHERE key = 'ledger'").fetch_optional(&mut conn).await?;
        if id.as_deref() != Some(ledger.to_string().as_str()) {
            return Err(Error::OtherLedger { ours: ledger.to_string(), found: id.unwrap_or_default() });
        }
        self.conn = conn;
        self.broken = false;
        tracing::info!("connected to the database again");
        Ok(())
    }

    /// The catalog of a version, made from the one at hand.
    async fn changed_catalog(&mut self, version: i64) -> Result<Catalog, Error> {
        let known = self.row.catalog;
        // A database that was restored to an earlier time has an earlier version.
        if version < known || version - known > VERSIONS_KEPT {
            return database::load_catalog(&mut self.conn).await;
        }
        let changes: Vec<(String, String)> =
            query("SELECT DISTINCT kind, key FROM catalog_changes WHERE version > $1")
                .bind(known)
                .fetch_all(&mut self.conn)
                .await?;
        let (plans, names): (Vec<_>, Vec<_>) = changes.into_iter().partition(|(kind, _)| kind == "plan");
        let mut catalog = Catalog::clone(&self.catalog);
        let mut touched = BTreeSet::new();
        let uids: Vec<Uuid> = plans.iter().map(|(_, uid)| uuid(uid)).collect::<Result<_, _>>()?;
        for uid in &uids {
            touched.extend(catalog.remove(*uid).map(|object| object.plan.namespace.clone()));
        }
        for object in database::load_objects(&mut self.conn, Some(set(&uids)?)).await? {
            touched.insert(object.plan.namespace.clone());
            catalog.put(object);
        }
        for namespace in touched {
            catalog.rebuild(&namespace);
        }
        for (_, name) in &names {
            catalog.known_namespaces.remove(name);
        }
        let names: Vec<&String> = names.iter().map(|(_, name)| name).collect();
        namespaces::load_known(&mut self.conn, &mut catalog, Some(set(&names)?)).await?;
        Ok(catalog)
    }

    async fn store_catalog_changes(&mut self, version: i64) -> Result<(), Error> {
        let changes = changes(&self.begun_with, &self.catalog);
        query(
            "INSERT INTO catalog_changes (version, kind, key) SELECT $2, kind, key \
             FROM ROWS($1 AS j: kind TEXT, key TEXT)",
        )
        .bind(set(&changes)?)
        .bind(version)
        .execute(&mut self.conn)
        .await?;
        query("DELETE FROM catalog_changes WHERE version <= $1")
            .bind(version - VERSIONS_KEPT)
            .execute(&mut self.conn)
            .await?;
        Ok(())
    }

    async fn store_signals(&mut self, version: i64) -> Result<(), Error> {
        let keys: Vec<String> = self.wakes.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        query(
            "INSERT INTO signals (key, version) SELECT value, $2 FROM EACH($1 AS j: TEXT) WHERE true \
             ON CONFLICT (key) DO UPDATE SET version = excluded.version",
        )
        .bind(set(&keys)?)
        .bind(version)
        .execute(&mut self.conn)
        .await?;
        Ok(())
    }

    /// Learns what others have published since.
    async fn load_published(&mut self) -> Result<(), Error> {
        let news: Vec<(String, String)> = query("SELECT uid, body FROM statuses WHERE version > $1")
            .bind(self.row.status)
            .fetch_all(&mut self.conn)
            .await?;
        for (uid, body) in news {
            let status: ObjectStatus = serde_json::from_str(&body)?;
            self.published.shown.insert(crate::sql::uuid(&uid)?, LastShown::from_status(&status.body));
        }
        Ok(())
    }
}

/// What differs between two catalogs, as (kind, key).
fn changes(before: &Catalog, after: &Catalog) -> Vec<(&'static str, String)> {
    let mut changes = Vec::new();
    for (uid, object) in &after.objects {
        if !before.objects.get(uid).is_some_and(|known| Arc::ptr_eq(known, object)) {
            changes.push(("plan", uid.to_string()));
        }
    }
    let gone = before.objects.keys().filter(|uid| !after.objects.contains_key(*uid));
    changes.extend(gone.map(|uid| ("plan", uid.to_string())));
    let names = before.known_namespaces.keys().chain(after.known_namespaces.keys());
    for name in names.collect::<BTreeSet<_>>() {
        if before.known_namespaces.get(name) != after.known_namespaces.get(name) {
            changes.push(("namespace", name.clone()));
        }
    }
    changes
}

/// Does nothing: the transaction catches up.
struct CatchUp;

impl Command for CatchUp {
    type Answer = ();

    async fn run(&mut self, _: &mut Tx) -> Result<(), Error> {
        Ok(())
    }
}

/// Shows this hub to the others.
struct Exchange {
    hub: String,
    body: String,
}

impl Command for Exchange {
    type Answer = Vec<Peer>;

    async fn run(&mut self, tx: &mut Tx) -> Result<Vec<Peer>, Error> {
        query(
            "INSERT INTO hubs (hub, seen, body) VALUES ($1, clock_timestamp(), $2) ON CONFLICT (hub) DO UPDATE \
             SET seen = excluded.seen, body = excluded.body",
        )
        .bind(&self.hub)
        .bind(&self.body)
        .execute(&mut tx.conn)
        .await?;
        let gone: Vec<String> = query_scalar(
            "DELETE FROM hubs WHERE seen < clock_timestamp() - make_interval(secs => $1) RETURNING hub",
        )
        .bind(GONE_AFTER)
        .fetch_all(&mut tx.conn)
        .await?;
        // It may have known of changed objects that were not published yet.
        if !gone.is_empty() {
            tracing::info!(hubs = ?gone, "a hub is gone: all objects are compared with what is published");
            for uid in tx.catalog.objects.keys() {
                tx.dirty.mark(*uid, false);
            }
        }
        let peers: Vec<(String, f64, String)> = query(
            "SELECT hub, CAST(extract(epoch FROM clock_timestamp() - seen) AS DOUBLE PRECISION), body FROM hubs \
             WHERE hub <> $1",
        )
        .bind(&self.hub)
        .fetch_all(&mut tx.conn)
        .await?;
        let peer = |(hub, age, body): (String, f64, String)| Peer {
            hub,
            age: Duration::from_secs_f64(age.max(0.0)),
            body,
        };
        Ok(peers.into_iter().map(peer).collect())
    }
}

/// Says goodbye.
struct Leave(String);

impl Command for Leave {
    type Answer = ();

    async fn run(&mut self, tx: &mut Tx) -> Result<(), Error> {
        query("DELETE FROM hubs WHERE hub = $1").bind(&self.0).execute(&mut tx.conn).await?;
        Ok(())
    }
}

impl Shared {
    /// Wakes those who wait for these signals.
    fn wake_all(&self, keys: &[String]) {
        for key in keys {
            // A later version may have signals that this one doesn't know.
            if let Ok(signal) = serde_json::from_str::<Signal>(key) {
                self.wake(&signal);
            }
        }
    }
}

impl Ledger {
    /// Whether other processes may have this ledger open too.
    pub fn is_shared(&self) -> bool {
        matches!(self.readers, Readers::Postgres(_))
    }

    /// A receiver whose value changes with each transaction of this process that wakes somebody, here or at another hub.
    pub fn watch_committed(&self) -> watch::Receiver<u64> {
        self.shared.committed.subscribe()
    }

    /// Learns what other hubs have changed, and wakes those who wait for it. Call it a few times a second, and when
    /// another hub says that there is something.
    pub async fn catch_up(&self) -> Result<(), Error> {
        if !self.is_shared() {
            return Ok(());
        }
        let mut reader = self.readers.acquire().await?;
        let row = WriterRow::load(&mut reader).await?;
        let seen = self.shared.seen_signal.load(Ordering::Acquire);
        let keys: Vec<String> = if row.signal == seen {
            Vec::new()
        } else {
            query_scalar("SELECT key FROM signals WHERE version > $1")
                .bind(seen)
                .fetch_all(&mut reader)
                .await?
        };
        drop(reader);
        if row.catalog != self.shared.catalog_version.load(Ordering::Acquire) {
            self.writer.execute(CatchUp).await?;
        }
        self.shared.wake_all(&keys);
        self.shared.seen_signal.store(row.signal, Ordering::Release);
        Ok(())
    }

    /// Shows this hub to the others, with a text of at most some MiB, and returns how each of the others showed itself
    /// last. A hub that does not call this for 30 s counts as gone.
    pub async fn exchange(&self, hub: &str, body: String) -> Result<Vec<Peer>, Error> {
        if !self.is_shared() {
            return Ok(Vec::new());
        }
        // After a rotation of the password, readers too connect with the new one.
        if let Some(url) = self.database.url()? {
            for readers in [&self.readers, &self.people_readers] {
                postgres::renew(readers, &url)?;
            }
        }
        self.writer.execute(Exchange { hub: hub.to_owned(), body }).await
    }

    /// Takes this hub from the list of those that run.
    pub async fn leave(&self, hub: &str) -> Result<(), Error> {
        if self.is_shared() { self.writer.execute(Leave(hub.to_owned())).await } else { Ok(()) }
    }
}
