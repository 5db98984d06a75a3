//! Opens a ledger in SQLite: takes the lock, migrates the schema and checks the file. Loads, for both engines, what
//! the writer starts with.
//!
//! Refuses a file that another process has open, and a schema that is newer than this program.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::{ObjectKind, Plan};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, raw_sql};
use uuid::Uuid;

use crate::catalog::{Catalog, Object};
use crate::engine::{Conn, query, query_scalar};
use crate::queries::Readers;
use crate::replicas::WriterRow;
use crate::writer::{DirtyObjects, RowIds, Tx};
use crate::{Database, Error, Options, WriterMetrics};

/// Each migration runs once, in order, in a transaction of its own that also raises `user_version`. `sqlx::migrate!`
/// would not do: hubs of earlier versions look at `user_version` to refuse a newer schema, so both numbers would have
/// to be kept.
const MIGRATIONS: [&str; 8] = [
    include_str!("../migrations/0001.sql"),
    include_str!("../migrations/0002.sql"),
    include_str!("../migrations/0003.sql"),
    include_str!("../migrations/0004.sql"),
    include_str!("../migrations/0005.sql"),
    include_str!("../migrations/0006.sql"),
    include_str!("../migrations/0007.sql"),
    include_str!("../migrations/0008.sql"),
];

/// Locks `<path>.lock`. The lock lives as long as the open file, so it ends with the process, however the process
/// ends.
pub(crate) fn lock_file(path: &Path) -> Result<File, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let storage = |error: std::io::Error| Error::Storage(format!("{}: {error}", name.display()));
    let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(storage)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(storage(error)),
    }
}

/// Opens the write connection and brings the schema up to date.
pub(crate) async fn open_writer(path: &Path, check: bool) -> Result<Conn, Error> {
    let mut conn = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(false)
        .statement_cache_capacity(400)
        .row_buffer_size(1_000)
        .pragma("cache_size", "-16000")
        .pragma("temp_store", "MEMORY")
        .pragma("journal_size_limit", "67108864")
        .disable_statement_logging()
        .connect()
        .await?;
    if check {
        let said: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut conn).await?;
        if said != "ok" {
            return Err(Error::Corrupt(said));
        }
    }
    run_migrations(&mut conn).await?;
    Ok(Conn::Sqlite(conn))
}

/// The version of the schema, which must not be newer than this program.
pub(crate) async fn check_version(conn: &mut SqliteConnection) -> Result<i64, Error> {
    let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(conn).await?;
    let known = MIGRATIONS.len() as i64;
    if found > known { Err(Error::TooNew { found, known }) } else { Ok(found) }
}

async fn run_migrations(conn: &mut SqliteConnection) -> Result<(), Error> {
    let found = check_version(conn).await?;
    for (version, migration) in MIGRATIONS.into_iter().enumerate().skip(found as usize) {
        raw_sql("BEGIN IMMEDIATE").execute(&mut *conn).await?;
        raw_sql(migration).execute(&mut *conn).await?;
        // A pragma takes no parameter, and the number is our own.
        let stamp = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {}", version + 1));
        raw_sql(stamp).execute(&mut *conn).await?;
        raw_sql("COMMIT").execute(&mut *conn).await?;
    }
    Ok(())
}

/// Opens connections that can only read. Their temporary tables stay in memory, because the file system may have no
/// room for a temporary file.
pub(crate) async fn open_readers(path: &Path, count: u32) -> Result<Readers, Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .foreign_keys(false)
        .statement_cache_capacity(200)
        .row_buffer_size(1_000)
        .pragma("cache_size", "-4000")
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging();
    Ok(Readers::Sqlite(SqlitePoolOptions::new().max_connections(count.max(1)).connect_with(options).await?))
}

/// Loads what the writer starts with: the ledger's id, the catalog and the last row ids.
pub(crate) async fn load_tx(
    database: Database,
    mut conn: Conn,
    options: Options,
) -> Result<(Uuid, Tx), Error> {
    query("INSERT INTO meta (key, value) VALUES ('ledger', $1) ON CONFLICT DO NOTHING")
        .bind(options.new_id.to_string())
        .execute(&mut conn)
        .await?;
    let id: String = query_scalar("SELECT value FROM meta WHERE key = 'ledger'").fetch_one(&mut conn).await?;
    let (notification, delivery, place, status): (i64, i64, i64, i64) = query(
        "SELECT (SELECT coalesce(max(n), 0) FROM notifications), (SELECT coalesce(max(d), 0) FROM deliveries), \
         (SELECT coalesce(max(place), 0) FROM deliveries), (SELECT coalesce(max(version), 0) FROM statuses)",
    )
    .fetch_one(&mut conn)
    .await?;
    // The feed's versions keep rising, also past those of objects that are gone.
    let feed: Option<String> =
        query_scalar("SELECT value FROM meta WHERE key = 'feed'").fetch_optional(&mut conn).await?;
    let status = status.max(feed.and_then(|version| version.parse().ok()).unwrap_or(0));
    let mut ids = RowIds { notification, delivery, place, status };
    let mut row = WriterRow::default();
    if conn.is_shared() {
        // Read before the catalog: what others change meanwhile is loaded again.
        row = WriterRow::load(&mut conn).await?;
        ids = row.into();
    }
    let catalog = Arc::new(load_catalog(&mut conn).await?);
    let mut dirty = DirtyObjects::default();
    for uid in catalog.objects.keys() {
        dirty.mark(*uid, false);
    }
    let tx = Tx {
        conn,
        database,
        broken: false,
        begun_with: Arc::clone(&catalog),
        catalog,
        row,
        options,
        ids,
        dirty,
        published: crate::published::Published::default(),
        wakes: std::collections::HashSet::new(),
        counted: WriterMetrics::default(),
        steps: Arc::default(),
        closing: false,
    };
    Ok((crate::sql::uuid(&id)?, tx))
}

/// Loads all plans and all known namespaces.
pub(crate) async fn load_catalog(conn: &mut Conn) -> Result<Catalog, Error> {
    let mut catalog = Catalog::default();
    for object in load_objects(conn, None).await? {
        catalog.put(object);
    }
    catalog.rebuild_all();
    crate::namespaces::load_known(conn, &mut catalog, None).await?;
    Ok(catalog)
}

/// Loads objects: those of these uids, as [`crate::sql::set`] writes them, or all.
pub(crate) async fn load_objects(conn: &mut Conn, uids: Option<String>) -> Result<Vec<Object>, Error> {
    const ALL: &str = "SELECT p.body, coalesce(c.c, r.r, 0) AS row, p.resumed, p.absent FROM plans p \
        LEFT JOIN channels c ON c.uid = p.uid LEFT JOIN rules r ON r.uid = p.uid";
    const SOME: &str = "SELECT p.body, coalesce(c.c, r.r, 0) AS row, p.resumed, p.absent FROM EACH($1 AS j: TEXT) \
        JOIN plans p ON p.uid = j.value LEFT JOIN channels c ON c.uid = p.uid LEFT JOIN rules r ON r.uid = p.uid";
    let load = match uids {
        Some(uids) => query(SOME).bind(uids),
        None => query(ALL),
    };
    let rows: Vec<(String, i64, Option<i64>, Option<i64>)> = load.fetch_all(conn).await?;
    let object = |(body, row, resumed, absent): (String, i64, Option<i64>, Option<i64>)| {
        let plan: Plan = serde_json::from_str(&body)?;
        if row == 0 && plan.kind() != ObjectKind::Schedule {
            return Err(Error::Corrupt(format!("{} {} has no state", plan.kind().name(), plan.name)));
        }
        Ok(Object::new(plan, row, resumed, absent))
    };
    rows.into_iter().map(object).collect()
}
