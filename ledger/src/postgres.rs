//! Opens a ledger in PostgreSQL: takes the lock, migrates the schema, connects the readers.
//!
//! Refuses a database that another process has open, and a schema that is newer than this program.

use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::Error;
use crate::engine::Conn;
use crate::queries::Readers;

/// Each migration runs once, in order, in one transaction that also stores how many have run. The first is SQLite's
/// schema after its migration 8; later ones are the same for both engines.
const MIGRATIONS: [&str; 1] = [include_str!("../migrations/postgres/0001.sql")];
/// The key of the advisory lock that the one process holds: "belfry" in ASCII.
const LOCK: i64 = 0x6265_6c66_7279;
/// How long opening waits for the lock.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a read may take.
const READ_TIME: &str = "2s";

fn options(url: &str) -> Result<PgConnectOptions, Error> {
    let options: PgConnectOptions = url.parse()?;
    let options =
        options.application_name("belfry-hub").statement_cache_capacity(400).disable_statement_logging();
    // Statements are short and use an index, so compiling them would take longer than running them.
    Ok(options.options([("jit", "off")]))
}

/// Opens the write connection, takes the lock and brings the schema up to date.
pub(crate) async fn open_writer(url: &str) -> Result<Conn, Error> {
    let mut conn = options(url)?.connect().await?;
    lock(&mut conn).await?;
    migrate(&mut conn).await?;
    Ok(Conn::Postgres(conn))
}

/// Takes the lock, which ends with the connection. The lock of a process that has just ended may last a moment
/// longer.
async fn lock(conn: &mut PgConnection) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        let free: bool =
            sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(LOCK).fetch_one(&mut *conn).await?;
        if free {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(Error::Locked("in PostgreSQL".into()));
        }
        tokio::time::sleep(PATIENCE / 20).await;
    }
}

async fn migrate(conn: &mut PgConnection) -> Result<(), Error> {
    let mut tx = conn.begin().await?;
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

/// Opens connections that can only read.
pub(crate) async fn open_readers(url: &str, count: u32) -> Result<Readers, Error> {
    let options =
        options(url)?.options([("default_transaction_read_only", "on"), ("statement_timeout", READ_TIME)]);
    Ok(Readers::Postgres(PgPoolOptions::new().max_connections(count.max(1)).connect_with(options).await?))
}
