//! One text of each statement for two engines, SQLite and PostgreSQL: connections, statements, and what differs between them.
//!
//! Statements are written in the SQL that both understand, with `$1` placeholders, and with a few forms that [`translate`]
//! rewrites for the engine at hand:
//!
//! | form | meaning |
//! | --- | --- |
//! | `ROWS($1 AS j: g BIGINT, labels TEXT)` | a table `j` of the tuples in a JSON array, with column `ord`: their place, from 0 |
//! | `EACH($1 AS j: BIGINT)` | a table `j` of the scalars in a JSON array: columns `value` and `ord` |
//! | `JSON_TEXT(x, 'name')` | a member of a JSON object that is kept as text |
//! | `SAME_TEXT(a, b)` | whether two long texts are equal, by an index of their digests in PostgreSQL |
//! | `GREATEST(a, b)`, `LEAST(a, b)` | the larger, the smaller of two. Where one may be NULL, `coalesce` stands around it: the engines differ there |
//! | `CROSS JOIN t ON ...`, `INDEXED BY i` | an inner join, an index: SQLite keeps the order and takes the index, PostgreSQL's planner decides |
//!
//! [ADR 31](../../docs/adr/0031-one-text-for-two-engines.md) says why this is ours and not `sqlx::Any`. Never: SQL for one
//! engine alone outside of `database.rs`, `postgres.rs`, `replicas.rs`, the migrations and this module.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres};
use sqlx::query::{Query as SqlxQuery, QueryAs as SqlxQueryAs};
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Connection as _, FromRow};

use crate::Error;

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// A connection, the writer's own or one of a pool of readers.
pub(crate) enum Conn {
    Sqlite(SqliteConnection),
    SqliteReader(PoolConnection<Sqlite>),
    Postgres(PgConnection),
    PostgresReader(PoolConnection<Postgres>),
}

/// What a statement runs on.
enum Handle<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

impl Conn {
    fn handle(&mut self) -> Handle<'_> {
        match self {
            Self::Sqlite(conn) => Handle::Sqlite(conn),
            Self::SqliteReader(conn) => Handle::Sqlite(conn),
            Self::Postgres(conn) => Handle::Postgres(conn),
            Self::PostgresReader(conn) => Handle::Postgres(conn),
        }
    }

    /// Begins a transaction that writes.
    pub(crate) async fn begin(&mut self) -> Result<(), Error> {
        let begin = match self.handle() {
            // Otherwise SQLite asks for the lock at the first write, too late to wait for it.
            Handle::Sqlite(_) => "BEGIN IMMEDIATE",
            // A hub that stands still in a transaction loses it, so the others go on.
            Handle::Postgres(_) => {
                return self
                    .raw(
                        "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '5s'; \
                         SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '30s'",
                    )
                    .await;
            }
        };
        query(begin).execute(self).await?;
        Ok(())
    }

    /// Whether other processes may write to the database too.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_) | Self::PostgresReader(_))
    }

    /// Runs SQL of one engine as it is.
    pub(crate) async fn raw(&mut self, sql: impl sqlx::SqlSafeStr) -> Result<(), Error> {
        match self.handle() {
            Handle::Sqlite(conn) => {
                sqlx::raw_sql(sql).execute(conn).await?;
            }
            Handle::Postgres(conn) => {
                sqlx::raw_sql(sql).execute(conn).await?;
            }
        }
        Ok(())
    }

    /// Closes the connection properly. A connection of a pool goes back to it.
    pub(crate) async fn close(self) -> Result<(), Error> {
        match self {
            Self::Sqlite(conn) => conn.close().await?,
            Self::Postgres(conn) => conn.close().await?,
            Self::SqliteReader(_) | Self::PostgresReader(_) => {}
        }
        Ok(())
    }
}

/// A row that both engines can give.
pub(crate) trait Row:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl<T> Row for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

/// A parameter. NULL has a type too, because PostgreSQL needs the type of each parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'q> {
    Int(Option<i64>),
    Float(Option<f64>),
    Bool(bool),
    Text(Option<Cow<'q, str>>),
}

macro_rules! values {
    ($($from:ty, $value:ident => $to:expr;)*) => {
        $(impl<'q> From<$from> for Value<'q> {
            fn from($value: $from) -> Self {
                $to
            }
        })*
    };
}

values! {
    i64, value => Self::Int(Some(value));
    i32, value => Self::Int(Some(value.into()));
    u32, value => Self::Int(Some(value.into()));
    Option<i64>, value => Self::Int(value);
    f64, value => Self::Float(Some(value));
    bool, value => Self::Bool(value);
    &'q str, value => Self::Text(Some(value.into()));
    &'q String, value => Self::Text(Some(value.into()));
    String, value => Self::Text(Some(value.into()));
    Option<String>, value => Self::Text(value.map(Cow::Owned));
    Option<&'q str>, value => Self::Text(value.map(Cow::Borrowed));
    &'q Option<String>, value => Self::Text(value.as_deref().map(Cow::Borrowed));
}

/// A statement with its parameters.
pub(crate) struct Query<'q> {
    sql: &'static str,
    values: Vec<Value<'q>>,
}

/// A statement whose text is the same for both engines but for the forms of this module.
pub(crate) fn query<'q>(sql: &'static str) -> Query<'q> {
    Query { sql, values: Vec::with_capacity(4) }
}

/// A statement like that of [`query`], whose rows have one column.
pub(crate) fn query_scalar<'q>(sql: &'static str) -> Scalar<'q> {
    Scalar(query(sql))
}

macro_rules! bound {
    ($query:expr, $values:expr, $text:expr) => {{
        let mut query = $query;
        for value in $values {
            query = match value {
                Value::Int(value) => query.bind(value),
                Value::Float(value) => query.bind(value),
                Value::Bool(value) => query.bind(value),
                Value::Text(value) => query.bind(value.map($text)),
            };
        }
        query
    }};
}

impl<'q> Query<'q> {
    pub(crate) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// How many rows it changed.
    pub(crate) async fn execute(self, conn: &mut Conn) -> Result<u64, Error> {
        let changed = match conn.handle() {
            Handle::Sqlite(conn) => self.sqlite().execute(conn).await?.rows_affected(),
            Handle::Postgres(conn) => self.postgres().execute(conn).await?.rows_affected(),
        };
        Ok(changed)
    }

    pub(crate) async fn fetch_all<T: Row>(self, conn: &mut Conn) -> Result<Vec<T>, Error> {
        let rows = match conn.handle() {
            Handle::Sqlite(conn) => self.sqlite_as().fetch_all(conn).await?,
            Handle::Postgres(conn) => self.postgres_as().fetch_all(conn).await?,
        };
        Ok(rows)
    }

    pub(crate) async fn fetch_optional<T: Row>(self, conn: &mut Conn) -> Result<Option<T>, Error> {
        let row = match conn.handle() {
            Handle::Sqlite(conn) => self.sqlite_as().fetch_optional(conn).await?,
            Handle::Postgres(conn) => self.postgres_as().fetch_optional(conn).await?,
        };
        Ok(row)
    }

    pub(crate) async fn fetch_one<T: Row>(self, conn: &mut Conn) -> Result<T, Error> {
        let row = match conn.handle() {
            Handle::Sqlite(conn) => self.sqlite_as().fetch_one(conn).await?,
            Handle::Postgres(conn) => self.postgres_as().fetch_one(conn).await?,
        };
        Ok(row)
    }

    fn sqlite(self) -> SqlxQuery<'q, Sqlite, SqliteArguments> {
        bound!(sqlx::query(translated(Engine::Sqlite, self.sql)), self.values, |text| text)
    }

    fn sqlite_as<T: Row>(self) -> SqlxQueryAs<'q, Sqlite, T, SqliteArguments> {
        bound!(sqlx::query_as(translated(Engine::Sqlite, self.sql)), self.values, |text| text)
    }

    fn postgres(self) -> SqlxQuery<'q, Postgres, PgArguments> {
        bound!(sqlx::query(translated(Engine::Postgres, self.sql)), self.values, storable)
    }

    fn postgres_as<T: Row>(self) -> SqlxQueryAs<'q, Postgres, T, PgArguments> {
        bound!(sqlx::query_as(translated(Engine::Postgres, self.sql)), self.values, storable)
    }
}

/// A statement whose rows have one column.
pub(crate) struct Scalar<'q>(Query<'q>);

impl<'q> Scalar<'q> {
    pub(crate) fn bind(self, value: impl Into<Value<'q>>) -> Self {
        Self(self.0.bind(value))
    }

    pub(crate) async fn fetch_all<T>(self, conn: &mut Conn) -> Result<Vec<T>, Error>
    where
        (T,): Row,
    {
        Ok(self.0.fetch_all::<(T,)>(conn).await?.into_iter().map(|(value,)| value).collect())
    }

    pub(crate) async fn fetch_optional<T>(self, conn: &mut Conn) -> Result<Option<T>, Error>
    where
        (T,): Row,
    {
        Ok(self.0.fetch_optional::<(T,)>(conn).await?.map(|(value,)| value))
    }

    pub(crate) async fn fetch_one<T>(self, conn: &mut Conn) -> Result<T, Error>
    where
        (T,): Row,
    {
        Ok(self.0.fetch_one::<(T,)>(conn).await?.0)
    }
}

/// Text as PostgreSQL takes it: it has no NUL, neither as a character nor in what it reads as JSON. It becomes U+FFFD, the
/// replacement character.
pub(crate) fn storable(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\0') || text.contains("\\u0000") { without_nul(&text).into() } else { text }
}

fn without_nul(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\0', '\\']) {
        let (before, from) = rest.split_at(at);
        clean.push_str(before);
        // Take an escape as a whole, so that the second of two backslashes begins none.
        let taken = if from.starts_with('\0') {
            clean.push(char::REPLACEMENT_CHARACTER);
            1
        } else if from.starts_with("\\u0000") {
            clean.push_str("\\ufffd");
            6
        } else {
            let taken = 1 + from.chars().nth(1).map_or(0, char::len_utf8);
            clean.push_str(&from[..taken]);
            taken
        };
        rest = &from[taken..];
    }
    clean.push_str(rest);
    clean
}

/// Translated statements, by engine and by the address and length of the text.
type Translations = HashMap<(Engine, usize, usize), &'static str>;

/// The statement's text for an engine, translated once and kept forever. There are as many as this crate has statements.
fn translated(engine: Engine, sql: &'static str) -> &'static str {
    static KNOWN: RwLock<Option<Translations>> = RwLock::new(None);
    // Constants that hold the same text may share an address, but then they have the same length, and the same translation.
    let key = (engine, sql.as_ptr().addr(), sql.len());
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(text) = known.as_ref().and_then(|known| known.get(&key)) {
        return text;
    }
    drop(known);
    let text: &'static str = translate(engine, sql).leak();
    KNOWN.write().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(key, text);
    text
}

/// Rewrites the forms that this module's head names.
fn translate(engine: Engine, sql: &str) -> String {
    let mut text = sql.to_owned();
    for (form, table) in [
        ("ROWS(", rows as fn(Engine, &str) -> String),
        ("EACH(", each),
        ("JSON_TEXT(", member),
        ("SAME_TEXT(", same),
    ] {
        while let Some(at) = text.find(form) {
            let (before, from) = text.split_at(at);
            let inner = from[form.len()..].split(')').next().unwrap_or_default();
            let after = &from[form.len() + inner.len() + 1..];
            text = format!("{before}{}{after}", table(engine, inner));
        }
    }
    match engine {
        Engine::Sqlite => text.replace("GREATEST(", "max(").replace("LEAST(", "min("),
        Engine::Postgres => {
            let words: Vec<&str> = text.split(' ').collect();
            let index = words.iter().position(|word| *word == "INDEXED");
            let kept = words.iter().enumerate();
            let kept = kept.filter(|(at, _)| !index.is_some_and(|index| (index..index + 3).contains(at)));
            let text = kept.map(|(_, word)| *word).collect::<Vec<_>>().join(" ");
            text.replace("CROSS JOIN", "JOIN")
        }
    }
}

/// `$1 AS j` of a form, and what comes behind the colon.
fn parts(inner: &str) -> (&str, &str, &str) {
    let (head, columns) = inner.split_once(": ").unwrap_or((inner, ""));
    let (parameter, name) = head.split_once(" AS ").unwrap_or((head, ""));
    (parameter, name, columns)
}

fn rows(engine: Engine, inner: &str) -> String {
    let (parameter, name, columns) = parts(inner);
    let columns = columns.split(", ").enumerate().map(|(at, column)| {
        let (column, kind) = column.split_once(' ').unwrap_or((column, ""));
        match engine {
            Engine::Sqlite => format!("value ->> {at} AS {column}"),
            Engine::Postgres => format!("CAST(value ->> {at} AS {kind}) AS {column}"),
        }
    });
    let columns = columns.collect::<Vec<_>>().join(", ");
    table(engine, parameter, name, &columns)
}

fn each(engine: Engine, inner: &str) -> String {
    let (parameter, name, kind) = parts(inner);
    let value = match engine {
        Engine::Sqlite => "value".to_owned(),
        Engine::Postgres => format!("CAST(value #>> '{{}}' AS {kind}) AS value"),
    };
    table(engine, parameter, name, &value)
}

fn member(engine: Engine, inner: &str) -> String {
    let (text, name) = inner.split_once(", ").unwrap_or((inner, ""));
    match engine {
        Engine::Sqlite => format!("{text} ->> {name}"),
        Engine::Postgres => format!("CAST({text} AS JSONB) ->> {name}"),
    }
}

fn same(engine: Engine, inner: &str) -> String {
    let (left, right) = inner.split_once(", ").unwrap_or((inner, ""));
    match engine {
        Engine::Sqlite => format!("{left} = {right}"),
        Engine::Postgres => format!("md5({left}) = md5({right}) AND {left} = {right}"),
    }
}

fn table(engine: Engine, parameter: &str, name: &str, columns: &str) -> String {
    match engine {
        Engine::Sqlite => format!("(SELECT key AS ord, {columns} FROM jsonb_each({parameter})) {name}"),
        Engine::Postgres => format!(
            "(SELECT place - 1 AS ord, {columns} FROM jsonb_array_elements(CAST({parameter} AS JSONB)) \
             WITH ORDINALITY AS given (value, place)) {name}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_rows_is_a_table_with_named_columns() {
        let sql = "UPDATE t SET x = j.x FROM ROWS($1 AS j: id BIGINT, x TEXT) WHERE t.id = j.id";
        assert_eq!(
            translate(Engine::Sqlite, sql),
            "UPDATE t SET x = j.x FROM (SELECT key AS ord, value ->> 0 AS id, value ->> 1 AS x FROM jsonb_each($1)) j \
             WHERE t.id = j.id"
        );
        assert_eq!(
            translate(Engine::Postgres, sql),
            "UPDATE t SET x = j.x FROM (SELECT place - 1 AS ord, CAST(value ->> 0 AS BIGINT) AS id, CAST(value ->> 1 AS TEXT) AS x \
             FROM jsonb_array_elements(CAST($1 AS JSONB)) WITH ORDINALITY AS given (value, place)) j WHERE t.id = j.id"
        );
    }

    #[test]
    fn joins_and_indexes_are_left_to_the_planner_of_postgresql() {
        let sql = "SELECT GREATEST(a, 0) FROM t INDEXED BY i CROSS JOIN u ON u.t = t.t WHERE u.x IN (SELECT value FROM EACH($2 AS j: BIGINT))";
        assert_eq!(
            translate(Engine::Sqlite, sql),
            "SELECT max(a, 0) FROM t INDEXED BY i CROSS JOIN u ON u.t = t.t WHERE u.x IN (SELECT value FROM (SELECT key AS ord, value FROM jsonb_each($2)) j)"
        );
        let same = "SELECT 1 WHERE SAME_TEXT(a.x, b.x)";
        assert_eq!(translate(Engine::Sqlite, same), "SELECT 1 WHERE a.x = b.x");
        assert_eq!(translate(Engine::Postgres, same), "SELECT 1 WHERE md5(a.x) = md5(b.x) AND a.x = b.x");
        assert_eq!(
            translate(Engine::Postgres, sql),
            "SELECT GREATEST(a, 0) FROM t JOIN u ON u.t = t.t WHERE u.x IN (SELECT value FROM (SELECT place - 1 AS ord, CAST(value #>> '{}' AS BIGINT) AS value \
             FROM jsonb_array_elements(CAST($2 AS JSONB)) WITH ORDINALITY AS given (value, place)) j)"
        );
    }

    #[test]
    fn a_nul_becomes_the_replacement_character() {
        assert_eq!(storable("a\0b".into()), "a\u{fffd}b");
        assert_eq!(storable(r#"["a\u0000b"]"#.into()), r#"["a\ufffdb"]"#);
        // An escaped backslash before what only looks like it.
        assert_eq!(storable(r#"["a\\u0000b\u0000"]"#.into()), r#"["a\\u0000b\ufffd"]"#);
        assert_eq!(storable("as it is".into()), "as it is");
    }
}
