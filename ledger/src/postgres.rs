//! Opens a ledger in PostgreSQL: connects the writer and the readers, and brings the schema up to date.
//!
//! Several processes may have it open (`replicas.rs`). Refuses a schema that is newer than this program.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::Error;
use crate::engine::Conn;
use crate::queries::Readers;

/// Each migration runs once, in order, in one transaction that also stores how many have run. The first is SQLite's
/// schema after its migration 8; later ones are the same for both engines.
const MIGRATIONS: [&str; 2] =
    [include_str!("../migrations/postgres/0001.sql"), include_str!("../migrations/postgres/0002.sql")];
/// The key of the advisory lock under which one process at a time migrates: "belfry" in ASCII.
const LOCK: i64 = 0x6265_6c66_7279;
/// How long connecting may take, and how long a read waits for a connection.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How long a read may take.
const READ_TIME: &str = "2s";

fn options(url: &str) -> Result<PgConnectOptions, Error> {
    let options: PgConnectOptions = url.parse()?;
    let options =
        options.application_name("belfry-hub").statement_cache_capacity(400).disable_statement_logging();
    // Statements are short and use an index, so compiling them would take longer than running them.
    Ok(options.options([("jit", "off")]))
}

/// Opens a connection that writes, and brings the schema up to date.
pub(crate) async fn open_writer(url: &str) -> Result<Conn, Error> {
    let late = |_| Error::Storage(format!("PostgreSQL did not answer within {} s", CONNECT_TIME.as_secs()));
    let mut conn = tokio::time::timeout(CONNECT_TIME, options(url)?.connect()).await.map_err(late)??;
    migrate(&mut conn).await?;
    Ok(Conn::Postgres(conn))
}

async fn migrate(conn: &mut PgConnection) -> Result<(), Error> {
    let mut tx = conn.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *tx).await?;
    sqlx::raw_sql("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
        .execute(&mut *tx)
        .await?;
    let found: Option<i64> =
        sqlx::query_scalar("SELECT version FROM schema_version").fetch_optional(&mut *tx).await?;
    let (found, known) = (found.unwrap_or(0), MIGRATIONS.len() as i64);
    if found > known {
        return Err(Error::TooNew { found, known });
    }
    for migration in MIGRATIONS.into_iter().skip(found as usize) {
        sqlx::raw_sql(migration).execute(&mut *tx).await?;
    }
    if found < known {
        sqlx::query("DELETE FROM schema_version").execute(&mut *tx).await?;
        sqlx::query("INSERT INTO schema_version (version) VALUES ($1)").bind(known).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

fn reader_options(url: &str) -> Result<PgConnectOptions, Error> {
    Ok(options(url)?.options([("default_transaction_read_only", "on"), ("statement_timeout", READ_TIME)]))
}

/// From now on, readers connect by this URL.
pub(crate) fn renew(readers: &Readers, url: &str) -> Result<(), Error> {
    if let Readers::Postgres(pool) = readers {
        pool.set_connect_options(reader_options(url)?);
    }
    Ok(())
}

/// Opens connections that can only read.
pub(crate) async fn open_readers(url: &str, count: u32) -> Result<Readers, Error> {
    let options = reader_options(url)?;
    let pool = PgPoolOptions::new().max_connections(count.max(1)).acquire_timeout(CONNECT_TIME);
    Ok(Readers::Postgres(pool.connect_with(options).await?))
}
