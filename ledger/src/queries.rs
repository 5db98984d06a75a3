//! Every statement that readers run, and the connections that they run on.
//!
//! Invariants: a statement finds its rows by an index and takes a bounded number of them, so none sorts, scans or
//! gathers what a tenant can make large; longer reads continue from a cursor. A read that takes too many steps is
//! stopped, and only that read fails. Readers' SQL is nowhere else, and needs no temporary file.

use sqlx::Sqlite;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;
use sqlx::sqlite::SqlitePool;

use crate::Error;
use crate::engine::Conn;

/// An answer with this many bytes takes no further item.
pub(crate) const PAGE_BYTES: i64 = 1024 * 1024;
/// How many rows one statement reads when it goes through a large table.
pub(crate) const ROWS_PER_READ: i64 = 2_000;
/// How many steps of SQLite's virtual machine pass between two checks of the budget.
const STEPS_PER_CHECK: i32 = 1_000;
/// How many such checks a read may take. A few million steps are some tenths of a second.
const BUDGET_CHECKS: u32 = 5_000;

/// Read-only connections.
#[derive(Clone)]
pub(crate) enum Readers {
    Sqlite(SqlitePool),
    /// Its connections have a `statement_timeout`.
    Postgres(PgPool),
}

impl Readers {
    /// A connection for one read, with its budget of steps or time.
    pub(crate) async fn acquire(&self) -> Result<Conn, Error> {
        self.within(BUDGET_CHECKS).await
    }

    /// A connection, if one is free now.
    pub(crate) async fn try_acquire(&self) -> Option<Conn> {
        match self {
            Self::Sqlite(pool) => {
                let mut reader = pool.try_acquire()?;
                set_budget(&mut reader, BUDGET_CHECKS).await.ok()?;
                Some(Conn::SqliteReader(reader))
            }
            Self::Postgres(pool) => pool.try_acquire().map(Conn::PostgresReader),
        }
    }

    async fn within(&self, looks: u32) -> Result<Conn, Error> {
        match self {
            Self::Sqlite(pool) => {
                let mut reader = pool.acquire().await?;
                set_budget(&mut reader, looks).await?;
                Ok(Conn::SqliteReader(reader))
            }
            Self::Postgres(pool) => Ok(Conn::PostgresReader(pool.acquire().await?)),
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// Gives a connection a budget for what it does next, in checks.
async fn set_budget(reader: &mut PoolConnection<Sqlite>, mut looks: u32) -> Result<(), Error> {
    reader.lock_handle().await?.set_progress_handler(STEPS_PER_CHECK, move || {
        looks = looks.saturating_sub(1);
        looks > 0
    });
    Ok(())
}

/// Defines the statements, and for the tests a list of all of them.
macro_rules! reads {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)*) => {
        $($(#[$doc])* pub(crate) const $name: &str = $sql;)*

        #[cfg(test)]
        const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),*];
    };
}

reads! {
    /// The row of a notification of a namespace.
    NOTIFICATION = "SELECT n FROM notifications WHERE id = $1 AND namespace = $2";
    /// The row of the notification of a delivery.
    NOTIFICATION_OF = "SELECT n FROM deliveries WHERE id = $1 AND namespace = $2";
    /// A notification's id, and when it was decided.
    NOTIFICATION_ID = "SELECT id, created FROM notifications WHERE n = $1";
    /// Rows of a namespace's notifications before one, newest first.
    PAGE_OF_NAMESPACE = "SELECT n FROM notifications WHERE namespace = $1 AND n < $2 ORDER BY n DESC LIMIT $3";
    /// Rows of the notifications that an object caused before one, newest first, with their namespaces.
    PAGE_OF_OBJECT =
        "SELECT n, namespace FROM notifications WHERE object = $1 AND n < $2 ORDER BY n DESC LIMIT $3";
    /// Those of these rows that an object caused, that were decided since a time, and that have a delivery to a channel, in a state, or both.
    MATCHING_ROWS =
        "SELECT n.n FROM EACH($1 AS j: BIGINT) CROSS JOIN notifications n ON n.n = j.value WHERE ($2 IS NULL \
         OR n.object = $2) AND ($3 IS NULL OR n.created >= $3) AND (($4 IS NULL AND $5 IS NULL) \
         OR EXISTS (SELECT 1 FROM deliveries d WHERE d.n = n.n AND ($4 IS NULL OR d.c = $4) AND ($5 IS NULL \
         OR d.state = $5)))";
    /// A notification's JSON.
    NOTIFICATION_BODY = "SELECT body FROM notifications WHERE n = $1";
    /// A notification's first deliveries.
    DELIVERIES =
        "SELECT d.d, d.id, d.c, d.channel, d.recipient, d.head = 1 AS head, d.state, substr(d.reason, 1, 1200) AS reason, \
         d.numbered, d.due, d.lease, d.expires, c.paused, n.object, EXISTS (SELECT 1 FROM chores x \
         WHERE x.namespace = d.namespace AND x.kind = 'object' AND x.name = n.object) AS leaving \
         FROM deliveries d CROSS JOIN notifications n ON n.n = d.n LEFT JOIN channels c ON c.c = d.c \
         WHERE d.n = $1 ORDER BY d.d LIMIT $2";
    /// How many deliveries a notification has, up to a bound.
    DELIVERY_COUNT = "SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE n = $1 LIMIT $2) x";
    /// The last attempts of each of the first deliveries.
    ATTEMPTS =
        "SELECT a.d, CAST(a.number AS INTEGER) AS number, a.started, a.ended, a.outcome, CASE \
         WHEN length(a.reason) > 500 THEN substr(a.reason, 1, 500) || '…' ELSE a.reason END AS reason \
         FROM (SELECT d, numbered FROM deliveries WHERE n = $1 ORDER BY d LIMIT $2) d CROSS JOIN attempts a \
         ON a.d = d.d AND a.number > d.numbered - $3";
    /// The row of a dead letter.
    DEAD_LETTER_ROW =
        "SELECT l FROM dead_letters WHERE namespace = $1 AND topic_id = $2 AND p = $3 AND position = $4";
    /// Sizes of a namespace's dead letters before one, newest first.
    DEAD_LETTER_SIZES =
        "SELECT l, bytes FROM dead_letters WHERE namespace = $1 AND l < $2 ORDER BY l DESC LIMIT $3";
    /// A namespace's dead letters before one, down to another one.
    DEAD_LETTERS =
        "SELECT topic, p, stored, body, topic_id FROM dead_letters WHERE namespace = $1 AND l < $2 AND l >= $3 \
         ORDER BY l DESC LIMIT $4";
    /// Lengths of statuses after a version.
    FEED_SIZES =
        "SELECT version, CAST(octet_length(body) AS BIGINT) FROM statuses WHERE version > $1 ORDER BY version \
         LIMIT $2";
    /// Statuses after a version, up to another one.
    FEED =
        "SELECT version, body FROM statuses WHERE version > $1 AND version <= $2 ORDER BY version LIMIT $3";
    /// The newest version of the feed.
    FEED_NEWEST = "SELECT version FROM statuses ORDER BY version DESC LIMIT 1";
    /// Up to when a schedule's reminders are recorded.
    SCHEDULE_THROUGH = "SELECT through FROM schedules WHERE uid = $1";
    /// Whether a lease has run out.
    LEASE_DUE = "SELECT 1 FROM deliveries WHERE lease <= $1 LIMIT 1";
    /// Whether a delivery has expired.
    EXPIRY_DUE =
        "SELECT 1 FROM deliveries WHERE state = 0 AND lease IS NULL AND expires <= $1 LIMIT 1";
    /// Whether a notification without, or with, a dead delivery is to be removed for its age.
    NOTIFICATION_OLD = "SELECT 1 FROM notifications WHERE dead = $1 AND settled < $2 LIMIT 1";
    /// Whether a dead letter is to be removed for its age.
    DEAD_LETTER_OLD = "SELECT 1 FROM dead_letters WHERE stored < $1 LIMIT 1";
    /// Bytes that namespaces hold, after a (namespace, kind).
    USAGE =
        "SELECT namespace, kind, bytes FROM usage WHERE (namespace, kind) > ($1, $2) ORDER BY namespace, kind \
         LIMIT $3";
    /// The first chore after a namespace.
    CHORE = "SELECT namespace FROM chores WHERE namespace > $1 ORDER BY namespace LIMIT 1";
    /// Numbers of channels after one, each with the time of its oldest pending delivery.
    CHANNEL_TOTALS =
        "SELECT c.c, c.pending, c.retrying, c.delivered, c.dead, c.expired, c.suppressed, (SELECT n.created \
         FROM deliveries d JOIN notifications n ON n.n = d.n WHERE d.c = c.c AND d.state = 0 ORDER BY d.d \
         LIMIT 1) AS oldest FROM channels c WHERE c.c > $1 ORDER BY c.c LIMIT $2";
    /// When the pending delivery that expires first was decided.
    OLDEST_WAITING =
        "SELECT n.created FROM deliveries d JOIN notifications n ON n.n = d.n WHERE d.state = 0 AND d.lease IS NULL \
         AND d.expires > 0 ORDER BY d.expires LIMIT 1";
    /// How many deliveries wait for a channel that doesn't exist, up to a bound.
    WAITING_COUNT =
        "SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE namespace > '' AND state = 0 AND c IS NULL \
         LIMIT $1) x";
    /// Partitions after one, with their lag.
    PARTITION_LAGS =
        "SELECT t, p, GREATEST(high - position, 0) FROM partitions WHERE (t, p) > ($1, $2) ORDER BY t, p \
         LIMIT $3";
    /// Numbers of rules after one.
    RULE_TOTALS =
        "SELECT r, matched, late, dead_lettered, groups FROM rules WHERE r > $1 ORDER BY r LIMIT $2";
    /// How many groups are firing, up to a bound.
    FIRING_COUNT =
        "SELECT count(*) FROM (SELECT 1 FROM groups WHERE r > 0 AND firing IS NOT NULL LIMIT $1) x";
    /// An attempt of a namespace's pool whose process is not among these sessions, of one of these instances or of any.
    ABANDONED =
        "SELECT d.d FROM deliveries d INDEXED BY deliveries_leased CROSS JOIN attempts a ON a.d = d.d \
         AND a.number = d.numbered WHERE d.namespace = $1 AND d.lease IS NOT NULL AND (d.made > 0) = $2 \
         AND a.state = 0 AND a.session NOT IN (SELECT value FROM EACH($3 AS j: TEXT)) AND ($5 \
         OR a.instance IN (SELECT value FROM EACH($4 AS j: TEXT))) LIMIT 1";
    /// How many records rules left out, after a (rule, reason).
    DROPS =
        "SELECT r, reason, count FROM drops WHERE (r, reason) > ($1, $2) ORDER BY r, reason LIMIT $3";
    /// Rules after one, and whether anything of them is left to decide.
    UNDECIDED =
        "SELECT r.r, r.namespace, r.woken IS NOT NULL OR EXISTS (SELECT 1 FROM groups g WHERE g.r = r.r \
         AND g.next <= r.decided) FROM rules r WHERE r.r > $1 ORDER BY r.r LIMIT $2";
    /// Changed or deleted rules after one whose groups are still to be removed.
    LEAVING = "SELECT r, namespace, true FROM leaving WHERE r > $1 ORDER BY r LIMIT $2";
    /// A namespace in which deliveries wait for one of these channels.
    CHANNEL_WAITED_FOR =
        "SELECT j.namespace FROM ROWS($1 AS j: namespace TEXT, channel TEXT, after BIGINT) \
         WHERE EXISTS (SELECT 1 FROM deliveries d WHERE d.namespace = j.namespace AND d.channel = j.channel \
         AND d.d > j.after AND d.state = 0 AND d.c IS NULL) LIMIT 1";
    /// The position of a partition.
    POSITION =
        "SELECT p.position FROM sources s JOIN topics t ON t.s = s.s JOIN partitions p ON p.t = t.t \
         WHERE s.namespace = $1 AND s.key = $2 AND t.name = $3 AND t.topic_id = $4 AND p.p = $5";
    /// Channels' budgets, and the first due delivery of each.
    BUDGETS =
        "SELECT c.c, c.tokens, c.refilled, c.paused, (SELECT d.due FROM deliveries d WHERE d.c = c.c \
         AND (d.made > 0) = $2 AND d.state = 0 AND d.head = 1 AND d.lease IS NULL ORDER BY d.due LIMIT 1) AS due \
         FROM EACH($1 AS j: BIGINT) CROSS JOIN channels c ON c.c = j.value";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::query;

    async fn readers(dir: &tempfile::TempDir) -> Readers {
        let path = dir.path().join("ledger.db");
        crate::database::open_writer(&path, false).await.expect("a schema");
        crate::database::open_readers(&path, 1).await.expect("readers")
    }

    /// Checks the plan of each statement: it uses an index, doesn't sort, and is bounded unless its key names a
    /// single row.
    #[tokio::test]
    async fn no_read_sorts_or_scans_and_each_takes_a_bounded_number_of_rows() {
        let dir = tempfile::tempdir().expect("a folder");
        let readers = readers(&dir).await;
        let mut reader = readers.acquire().await.expect("a reader");
        for (name, sql) in ALL {
            let explain = format!("EXPLAIN QUERY PLAN {sql}").leak();
            let plan: Vec<(i64, i64, i64, String)> =
                query(explain).fetch_all(&mut reader).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!plan.is_empty(), "{name}");
            for (.., step) in &plan {
                assert!(!step.contains("USE TEMP B-TREE"), "{name} sorts: {plan:#?}");
                assert!(!step.contains("AUTOMATIC"), "{name} makes an index: {plan:#?}");
                // Scans of a parameter, and of a bounded subquery of the statement itself.
                let given = ["SCAN jsonb_each VIRTUAL TABLE", "SCAN d", "SCAN x", "SCAN (subquery"];
                let given = given.iter().any(|given| step.starts_with(given)) && !step.contains("USING");
                let first = *name == "FEED_NEWEST" && step.contains("USING COVERING INDEX");
                assert!(!step.starts_with("SCAN") || given || first, "{name} scans: {plan:#?}");
            }
            let by_key = plan.iter().all(|(.., step)| !step.contains('>') && !step.contains('<'));
            assert!(sql.contains("LIMIT") || (by_key && NEED_NO_BOUND.contains(name)), "{name} has no bound");
        }
    }

    /// Statements that need no bound: the key names one row, or the parameter names the rows.
    const NEED_NO_BOUND: &[&str] = &[
        "NOTIFICATION",
        "NOTIFICATION_OF",
        "NOTIFICATION_ID",
        "MATCHING_ROWS",
        "NOTIFICATION_BODY",
        "DEAD_LETTER_ROW",
        "SCHEDULE_THROUGH",
        "BUDGETS",
        "POSITION",
    ];

    #[tokio::test]
    async fn a_reader_has_no_use_for_temporary_files() {
        let dir = tempfile::tempdir().expect("a folder");
        let readers = readers(&dir).await;
        let mut reader = readers.acquire().await.expect("a reader");
        let (store,): (i64,) = query("PRAGMA temp_store").fetch_one(&mut reader).await.expect("a pragma");
        assert_eq!(store, 2, "in memory");
    }

    #[tokio::test]
    async fn a_read_without_end_is_stopped_and_the_next_one_works() {
        let dir = tempfile::tempdir().expect("a folder");
        let readers = readers(&dir).await;
        let mut reader = readers.within(100).await.expect("a reader");
        let endless =
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let stopped = query(endless).fetch_one::<(i64,)>(&mut reader).await;
        assert!(matches!(&stopped, Err(Error::Invalid(why)) if why.contains("steps")), "{stopped:?}");
        drop(reader);
        let mut reader = readers.acquire().await.expect("a reader");
        let (one,): (i64,) = query("SELECT 1").fetch_one(&mut reader).await.expect("an answer");
        assert_eq!(one, 1);
    }
}
