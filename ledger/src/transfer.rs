//! Copies a whole ledger between SQLite and PostgreSQL, and makes and takes back copies of a SQLite file.
//!
//! Invariants: a copy is whole, or nothing of it is there: it is one transaction. It begins only if the target is empty and
//! no hub has the source open, and it ends only once every row of every table has been read back and compared.
//!
//! Rows travel as JSON objects, so tables and columns are those of the SQLite side, whichever side that is.

use std::path::Path;

use futures::TryStreamExt as _;
use serde_json::{Map, Value};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::engine::{Conn, query_scalar, storable};
use crate::{Database, Error, database, postgres};

/// Rows and bytes of one statement that inserts.
const ROWS: usize = 500;
const BYTES: usize = 4 << 20;
/// A hub that was heard within this time uses the database, seconds.
const IN_USE: f64 = 30.0;

/// How many rows each table has that was copied.
pub type Copied = Vec<(String, u64)>;

/// A table with its columns.
struct Table {
    name: String,
    columns: Vec<String>,
    /// The columns of its primary key, or all.
    key: Vec<String>,
}

/// Copies the ledger `from` into `to`, which must be empty. One is SQLite, the other PostgreSQL.
pub async fn copy(from: &Database, to: &Database) -> Result<Copied, Error> {
    let same = matches!((from, to), (Database::Sqlite(_), Database::Sqlite(_)))
        || !matches!((from, to), (Database::Sqlite(_), _) | (_, Database::Sqlite(_)));
    if same {
        return Err(Error::Invalid("a ledger is copied from SQLite to PostgreSQL, or back".to_owned()));
    }
    if let Database::Sqlite(path) = from
        && !path.exists()
    {
        return Err(Error::NotFound(format!("the ledger {}", path.display())));
    }
    let (mut source, _source_lock) = open(from).await?;
    let (mut target, _target_lock) = open(to).await?;
    let sqlite = if source.is_shared() { &mut target } else { &mut source };
    let tables = tables(sqlite).await?;
    begin(&mut source).await?;
    begin(&mut target).await?;
    for table in &tables {
        let there: i64 = count(&mut target, table).await?;
        if there > 0 {
            return Err(Error::Conflict(format!(
                "the target is not empty: its table {} has {there} rows",
                table.name
            )));
        }
    }
    let mut copied = Copied::new();
    for table in &tables {
        // What triggers have made of the rows before.
        raw(&mut target, format!("DELETE FROM {}", table.name)).await?;
        copied.push((table.name.clone(), copy_table(&mut source, &mut target, table).await?));
    }
    for table in &tables {
        compare(&mut source, &mut target, table).await?;
    }
    if target.is_shared() {
        continue_ids(&mut target).await?;
    }
    raw(&mut target, "COMMIT".to_owned()).await?;
    source.close().await?;
    target.close().await?;
    Ok(copied)
}

/// Opens a ledger that nobody else has open.
async fn open(at: &Database) -> Result<(Conn, Option<std::fs::File>), Error> {
    if let Database::Sqlite(path) = at {
        let lock = database::lock_file(path)?;
        return Ok((database::open_writer(path, true).await?, Some(lock)));
    }
    let mut conn = postgres::open_writer(&at.url()?.unwrap_or_default()).await?;
    let hubs: Vec<String> =
        query_scalar("SELECT hub FROM hubs WHERE seen > clock_timestamp() - make_interval(secs => $1)")
            .bind(IN_USE)
            .fetch_all(&mut conn)
            .await?;
    if hubs.is_empty() {
        return Ok((conn, None));
    }
    Err(Error::Conflict(format!("these hubs use the database; stop them first: {}", hubs.join(", "))))
}

async fn begin(conn: &mut Conn) -> Result<(), Error> {
    if !conn.is_shared() {
        return raw(conn, "BEGIN IMMEDIATE".to_owned()).await;
    }
    raw(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ".to_owned()).await?;
    // A hub that starts meanwhile waits, and then finds the ledger whole.
    raw(conn, "LOCK TABLE writer IN EXCLUSIVE MODE".to_owned()).await
}

async fn raw(conn: &mut Conn, sql: String) -> Result<(), Error> {
    conn.raw(AssertSqlSafe(sql)).await
}

/// The tables of a ledger in SQLite, those first that change others when a row is inserted.
async fn tables(conn: &mut Conn) -> Result<Vec<Table>, Error> {
    let names: Vec<String> = query_scalar(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name IN ('rules', 'usage'), name",
    )
    .fetch_all(conn)
    .await?;
    let mut tables = Vec::new();
    for name in names {
        let columns: Vec<String> =
            query_scalar("SELECT name FROM pragma_table_info($1)").bind(&name).fetch_all(conn).await?;
        let key: Vec<String> =
            query_scalar("SELECT name FROM pragma_table_info($1) WHERE pk > 0 ORDER BY pk")
                .bind(&name)
                .fetch_all(conn)
                .await?;
        let key = if key.is_empty() { columns.clone() } else { key };
        tables.push(Table { name, columns, key });
    }
    Ok(tables)
}

async fn count(conn: &mut Conn, table: &Table) -> Result<i64, Error> {
    let sql = format!("SELECT count(*) FROM {}", table.name);
    Ok(match conn {
        Conn::Postgres(conn) => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(conn).await?,
        Conn::Sqlite(conn) => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(conn).await?,
        Conn::SqliteReader(_) | Conn::PostgresReader(_) => 0,
    })
}

fn quoted(columns: &[String]) -> String {
    columns.iter().map(|column| format!("\"{column}\"")).collect::<Vec<_>>().join(", ")
}

/// A statement that gives each row as a JSON object, in the order of the key.
fn select(table: &Table, shared: bool) -> String {
    let (name, key) = (&table.name, quoted(&table.key));
    if shared {
        let columns = quoted(&table.columns);
        return format!(
            "SELECT CAST(row_to_json(x) AS TEXT) FROM (SELECT {columns} FROM {name} ORDER BY {key}) x"
        );
    }
    let members: Vec<String> =
        table.columns.iter().map(|column| format!("'{column}', \"{column}\"")).collect();
    format!("SELECT json_object({}) FROM {name} ORDER BY {key}", members.join(", "))
}

type Rows<'c> = futures::stream::BoxStream<'c, Result<String, sqlx::Error>>;

/// All rows of a table, as PostgreSQL can store them.
fn rows<'c>(conn: &'c mut Conn, table: &Table) -> Rows<'c> {
    let sql = AssertSqlSafe(select(table, conn.is_shared()));
    let rows: Rows<'c> = match conn {
        Conn::Postgres(conn) => sqlx::query_scalar(sql).fetch(conn),
        Conn::Sqlite(conn) => sqlx::query_scalar(sql).fetch(conn),
        Conn::SqliteReader(_) | Conn::PostgresReader(_) => Box::pin(futures::stream::empty()),
    };
    Box::pin(rows.map_ok(|row| storable(row.into()).into_owned()))
}

async fn copy_table(source: &mut Conn, target: &mut Conn, table: &Table) -> Result<u64, Error> {
    let mut rows = rows(source, table);
    let (mut total, mut set, mut held) = (0, String::from("["), 0);
    while let Some(row) = rows.try_next().await? {
        if held > 0 {
            set.push(',');
        }
        set.push_str(&row);
        (total, held) = (total + 1, held + 1);
        if held >= ROWS || set.len() >= BYTES {
            set.push(']');
            insert(target, table, &set).await?;
            (set, held) = (String::from("["), 0);
        }
    }
    if held > 0 {
        set.push(']');
        insert(target, table, &set).await?;
    }
    Ok(total)
}

/// Inserts a JSON array of rows.
async fn insert(target: &mut Conn, table: &Table, set: &str) -> Result<(), Error> {
    let (name, columns) = (&table.name, quoted(&table.columns));
    match target {
        Conn::Postgres(conn) => {
            let sql = format!(
                "INSERT INTO {name} ({columns}) SELECT {columns} FROM json_populate_recordset(CAST(NULL AS {name}), CAST($1 AS JSON))"
            );
            sqlx::query(AssertSqlSafe(sql)).bind(set).execute(conn).await?;
        }
        Conn::Sqlite(conn) => {
            let members: Vec<String> =
                table.columns.iter().map(|column| format!("value ->> '{column}'")).collect();
            let sql =
                format!("INSERT INTO {name} ({columns}) SELECT {} FROM json_each($1)", members.join(", "));
            sqlx::query(AssertSqlSafe(sql)).bind(set).execute(conn).await?;
        }
        Conn::SqliteReader(_) | Conn::PostgresReader(_) => {}
    }
    Ok(())
}

/// Compares all rows of a table.
async fn compare(source: &mut Conn, target: &mut Conn, table: &Table) -> Result<(), Error> {
    let (mut left, mut right) = (rows(source, table), rows(target, table));
    let mut at = 0_u64;
    loop {
        let (one, other) = (left.try_next().await?, right.try_next().await?);
        let is_same = match (&one, &other) {
            (None, None) => return Ok(()),
            (Some(one), Some(other)) => {
                one == other || same_row(&serde_json::from_str(one)?, &serde_json::from_str(other)?)
            }
            _ => false,
        };
        if !is_same {
            return Err(Error::Corrupt(format!("row {at} of table {} came out otherwise", table.name)));
        }
        at += 1;
    }
}

/// Whether two rows are the same. Fractions are written with 15 digits or more.
fn same_row(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    one.len() == other.len()
        && one.iter().all(|(name, value)| {
            other.get(name).is_some_and(|there| match (value.as_f64(), there.as_f64()) {
                (Some(left), Some(right)) if value.as_i64().is_none() || there.as_i64().is_none() => {
                    (left - right).abs() <= 1e-9 * left.abs().max(1.0)
                }
                _ => value == there,
            })
        })
}

/// PostgreSQL: ids go on behind those that were copied.
async fn continue_ids(target: &mut Conn) -> Result<(), Error> {
    let sequences: Vec<(String, String)> = crate::engine::query(
        "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT) FROM information_schema.columns \
         WHERE table_schema = current_schema() AND is_identity = 'YES'",
    )
    .fetch_all(target)
    .await?;
    for (table, column) in sequences {
        let sql = format!(
            "SELECT setval(pg_get_serial_sequence('{table}', '{column}'), (SELECT coalesce(max({column}), 0) + 1 FROM {table}), false)"
        );
        raw(target, sql).await?;
    }
    raw(
        target,
        "UPDATE writer SET notification = (SELECT coalesce(max(n), 0) FROM notifications), \
         delivery = (SELECT coalesce(max(d), 0) FROM deliveries), place = (SELECT coalesce(max(place), 0) FROM deliveries), \
         status = greatest((SELECT coalesce(max(version), 0) FROM statuses), \
         coalesce((SELECT CAST(value AS BIGINT) FROM meta WHERE key = 'feed'), 0))"
            .to_owned(),
    )
    .await
}

/// Copies the SQLite ledger `from` into the new file `to`, also while a hub uses it: as it is at one instant.
pub async fn back_up(from: &Path, to: &Path) -> Result<u64, Error> {
    if to.exists() {
        return Err(Error::Conflict(format!("{} is there already", to.display())));
    }
    let mut conn = SqliteConnectOptions::new().filename(from).read_only(true).connect().await?;
    sqlx::query("VACUUM INTO $1").bind(to.to_string_lossy().into_owned()).execute(&mut conn).await?;
    conn.close().await?;
    check(to).await?;
    let failed = |error: std::io::Error| Error::Storage(format!("{}: {error}", to.display()));
    let file = std::fs::File::open(to).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok(file.metadata().map_err(failed)?.len())
}

/// Puts the copy `from` in the place of the SQLite ledger `to`, which no hub may have open.
pub async fn restore(from: &Path, to: &Path) -> Result<(), Error> {
    check(from).await?;
    let _lock = database::lock_file(to)?;
    let failed = |error: std::io::Error| Error::Storage(format!("{}: {error}", to.display()));
    let fresh = to.with_extension("restored");
    std::fs::copy(from, &fresh).map_err(failed)?;
    std::fs::File::open(&fresh).and_then(|file| file.sync_all()).map_err(failed)?;
    // The log of the ledger that goes must not be read into the one that comes.
    for log in ["db-wal", "db-shm"] {
        match std::fs::remove_file(to.with_extension(log)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    std::fs::rename(&fresh, to).map_err(failed)
}

/// Checks that a file is a whole ledger, of a schema that this program knows.
async fn check(file: &Path) -> Result<(), Error> {
    if !file.exists() {
        return Err(Error::NotFound(file.display().to_string()));
    }
    let mut conn: SqliteConnection =
        SqliteConnectOptions::new().filename(file).read_only(true).connect().await?;
    let said: String = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut conn).await?;
    if said != "ok" {
        return Err(Error::Corrupt(said));
    }
    let tables: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM sqlite_master WHERE name IN ('meta', 'plans', 'deliveries')",
    )
    .fetch_one(&mut conn)
    .await?;
    if tables < 3 {
        return Err(Error::Corrupt(format!("{} holds no ledger", file.display())));
    }
    database::check_version(&mut conn).await?;
    conn.close().await?;
    Ok(())
}
