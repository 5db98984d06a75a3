//! Tells which namespace a name means. A namespace that was deleted and made again is another one, by its uid: its
//! readers and channels have nothing to do with what was recorded for the earlier one.
//!
//! Invariants: whoever reads something of a namespace, or stores its first plans, registers first which namespace it
//! is. From the transaction on that registers another one, nothing of the earlier ones is read, claimed or released,
//! and it is removed in batches. A namespace's data is never removed because it is gone, only because another one has
//! its name.
//!
//! Clause P13 of docs/semantics.md.

use jiff::Timestamp;
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::engine::{Conn, query, query_scalar};
use crate::sql::ms;
use crate::writer::{Command, Tx};
use crate::{Error, Ledger, chores, plans};

/// When a namespace is registered for the first time, what was recorded this much before its creation belongs to an
/// earlier one. The margin is for clocks that differ.
const CLOCK_SKEW_MS: i64 = 60_000;
/// How many namespaces without data are forgotten at once.
const FORGET_BATCH: usize = 100;

/// The identity of a namespace, as the cluster knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespaceIdentity {
    /// Its uid.
    pub uid: Uuid,
    /// When it was created, by the cluster's clock, in whole seconds.
    pub created: Timestamp,
}

/// A namespace as registered last, and up to which rows what is recorded belongs to earlier ones of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownNamespace {
    pub(crate) uid: Uuid,
    created: i64,
    /// The last notification, delivery and dead letter of earlier namespaces of this name.
    pub(crate) n: i64,
    pub(crate) d: i64,
    pub(crate) l: i64,
}

/// A row of `namespaces`.
type NamespaceRow = (String, String, i64, i64, i64, i64);

/// Loads registered namespaces into the catalog: those of these names, as [`crate::sql::set`] writes them, or all.
pub(crate) async fn load_known(
    conn: &mut Conn,
    catalog: &mut Catalog,
    names: Option<String>,
) -> Result<(), Error> {
    let load = match names {
        Some(names) => query(
            "SELECT namespace, uid, created, n, d, l FROM namespaces WHERE namespace IN (SELECT value \
             FROM EACH($1 AS j: TEXT))",
        )
        .bind(names),
        None => query("SELECT namespace, uid, created, n, d, l FROM namespaces"),
    };
    let rows: Vec<NamespaceRow> = load.fetch_all(conn).await?;
    for (namespace, uid, created, n, d, l) in rows {
        catalog
            .known_namespaces
            .insert(namespace, KnownNamespace { uid: crate::sql::uuid(&uid)?, created, n, d, l });
    }
    Ok(())
}

struct RegisterNamespace {
    namespace: String,
    identity: NamespaceIdentity,
    now: Timestamp,
}

impl Command for RegisterNamespace {
    type Answer = ();

    async fn run(&mut self, tx: &mut Tx) -> Result<(), Error> {
        let (namespace, created) = (self.namespace.as_str(), ms(self.identity.created));
        let known = tx.catalog.known_namespaces.get(namespace).copied();
        // An answer of the cluster that was delayed may be about an earlier namespace.
        if known.is_some_and(|known| known.uid == self.identity.uid || known.created >= created) {
            return Ok(());
        }
        let origin = match known {
            Some(_) => self.replace(tx).await?,
            None => first_seen(tx, namespace, &self.identity).await?,
        };
        query(
            "INSERT INTO namespaces (namespace, uid, created, n, d, l) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (namespace) DO UPDATE SET uid = excluded.uid, created = excluded.created, n = \
             excluded.n, d = excluded.d, l = excluded.l",
        )
        .bind(namespace)
        .bind(self.identity.uid.to_string())
        .bind(created)
        .bind(origin.n)
        .bind(origin.d)
        .bind(origin.l)
        .execute(&mut tx.conn)
        .await?;
        if origin.n > 0 || origin.l > 0 {
            chores::add_chore(tx, namespace, chores::kind::NAMESPACE, ("", 0), 0).await?;
        }
        let mut catalog = Catalog::clone(&tx.catalog);
        catalog.known_namespaces.insert(namespace.to_owned(), origin);
        tx.catalog = std::sync::Arc::new(catalog);
        Ok(())
    }
}

impl RegisterNamespace {
    /// Another namespace has taken the name. Everything stored belongs to the earlier one, because the new one's
    /// first plans come later.
    async fn replace(&self, tx: &mut Tx) -> Result<KnownNamespace, Error> {
        tracing::info!(
            namespace = self.namespace,
            "the namespace was deleted and made again: what was recorded before is forgotten"
        );
        plans::forget_namespace(tx, &self.namespace).await?;
        // Under another namespace nobody reads on from these positions; they are removed like topics that no rule
        // reads.
        query("UPDATE sources SET namespace = 'gone/' || s WHERE namespace = $1")
            .bind(&self.namespace)
            .execute(&mut tx.conn)
            .await?;
        let l = query_scalar("SELECT coalesce(max(l), 0) FROM dead_letters").fetch_one(&mut tx.conn).await?;
        let (n, d) = (tx.ids.notification, tx.ids.delivery);
        tracing::debug!(namespace = self.namespace, n, d, l, now = %self.now, "up to these rows");
        Ok(KnownNamespace { uid: self.identity.uid, created: ms(self.identity.created), n, d, l })
    }
}

/// The namespace is registered for the first time. Rows are in the order of creation, so one row separates earlier
/// ones' rows from its own.
async fn first_seen(
    tx: &mut Tx,
    namespace: &str,
    identity: &NamespaceIdentity,
) -> Result<KnownNamespace, Error> {
    let created = ms(identity.created);
    let cut = created.saturating_sub(CLOCK_SKEW_MS);
    let notifications =
        "SELECT n, created FROM notifications WHERE namespace = $1 AND n > $2 ORDER BY n LIMIT 1";
    let letters = "SELECT l, stored FROM dead_letters WHERE namespace = $1 AND l > $2 ORDER BY l LIMIT 1";
    let top = query_scalar("SELECT coalesce(max(l), 0) FROM dead_letters").fetch_one(&mut tx.conn).await?;
    let last = tx.ids.notification;
    let n = last_before(tx, notifications, namespace, cut, last).await?;
    let l = last_before(tx, letters, namespace, cut, top).await?;
    let first: Option<i64> = query_scalar(
        "SELECT d.d FROM notifications n JOIN deliveries d ON d.n = n.n WHERE n.namespace = $1 AND n.n > $2 \
         ORDER BY n.n, d.d LIMIT 1",
    )
    .bind(namespace)
    .bind(n)
    .fetch_optional(&mut tx.conn)
    .await?;
    let d = if n == 0 { 0 } else { first.map_or(tx.ids.delivery, |d| d - 1) };
    Ok(KnownNamespace { uid: identity.uid, created, n, d, l })
}

/// Finds, by binary search, the last row up to `top` that is older than `cut`; 0 for none.
async fn last_before(
    tx: &mut Tx,
    next: &'static str,
    namespace: &str,
    cut: i64,
    top: i64,
) -> Result<i64, Error> {
    // All rows up to `low` are older, and none above `high` is.
    let (mut low, mut high) = (0, top);
    while low < high {
        // Look at the oldest row first: usually none is older.
        let middle = if low == 0 && high == top { 0 } else { low + (high - low) / 2 };
        let found: Option<(i64, i64)> =
            query(next).bind(namespace).bind(middle).fetch_optional(&mut tx.conn).await?;
        match found.filter(|(row, _)| *row <= high) {
            Some((row, at)) if at < cut => low = row,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// Forgets namespaces without data. The next one of such a name is registered as for the first time.
pub(crate) async fn forget_unused(tx: &mut Tx) -> Result<(), Error> {
    let unused: Vec<&String> = tx
        .catalog
        .known_namespaces
        .keys()
        .filter(|namespace| tx.catalog.namespace(namespace).is_none())
        .take(FORGET_BATCH)
        .collect();
    if unused.is_empty() {
        return Ok(());
    }
    let gone: Vec<String> = query_scalar(
        "DELETE FROM namespaces WHERE namespace IN (SELECT value FROM EACH($1 AS j: TEXT)) \
         AND NOT EXISTS (SELECT 1 FROM usage u WHERE u.namespace = namespaces.namespace) \
         AND NOT EXISTS (SELECT 1 FROM chores c WHERE c.namespace = namespaces.namespace) RETURNING namespace",
    )
    .bind(crate::sql::set(&unused)?)
    .fetch_all(&mut tx.conn)
    .await?;
    if !gone.is_empty() {
        let mut catalog = Catalog::clone(&tx.catalog);
        for namespace in &gone {
            catalog.known_namespaces.remove(namespace);
        }
        tx.catalog = std::sync::Arc::new(catalog);
    }
    Ok(())
}

impl Ledger {
    /// Registers which namespace has this name now. If another one was registered, everything recorded for it is
    /// hidden from here on. Call this before reading something for people, and before storing an object's first plan.
    pub async fn register_namespace(
        &self,
        namespace: &str,
        identity: NamespaceIdentity,
        now: Timestamp,
    ) -> Result<(), Error> {
        let catalog = self.shared.catalog();
        if catalog.known_namespaces.get(namespace).is_some_and(|known| known.uid == identity.uid) {
            return Ok(());
        }
        self.writer.execute(RegisterNamespace { namespace: namespace.to_owned(), identity, now }).await
    }

    /// Whether the ledger has an object.
    pub fn has_object(&self, uid: Uuid) -> bool {
        self.shared.catalog().get(uid).is_some()
    }
}
