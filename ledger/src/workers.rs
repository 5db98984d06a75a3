//! Ends the attempts of workers that are gone, before their leases end.
//!
//! Invariant: only attempts of processes that are not present are ended, a bounded batch at a time. The hub, which
//! hears the workers, decides who is present.
//!
//! Clause D7 of docs/semantics.md.

use jiff::Timestamp;
use protocol::messages::Pool;
use uuid::Uuid;

use crate::engine::{query, query_scalar};
use crate::expiry::{BATCH, LeasedDelivery, end_unreported};
use crate::sql::set;
use crate::writer::{Command, Tx};
use crate::{Error, Ledger, queries};

/// The workers of a namespace and pool that are present.
#[derive(Debug, Clone, Default)]
pub struct PresentWorkers {
    /// Their processes.
    pub sessions: Vec<Uuid>,
    /// Their instances (pod names). An earlier process of one of them has ended.
    pub instances: Vec<String>,
    /// Whether attempts of all other instances are ended too, because they have had time to report.
    pub others_are_gone: bool,
}

struct EndAbandoned {
    namespace: String,
    pool: Pool,
    present: PresentWorkers,
    now: Timestamp,
    chance: f64,
}

impl Command for EndAbandoned {
    type Answer = u64;

    fn namespace(&self) -> Option<&str> {
        Some(&self.namespace)
    }

    async fn run(&mut self, tx: &mut Tx) -> Result<u64, Error> {
        let rows: Vec<LeasedDelivery> = query(
            "SELECT d.d, d.n, d.c, d.lane, d.state, d.made, d.expires, d.numbered \
             FROM deliveries d INDEXED BY deliveries_leased CROSS JOIN attempts a ON a.d = d.d \
             AND a.number = d.numbered WHERE d.namespace = $1 AND d.lease IS NOT NULL AND (d.made > 0) = $2 \
             AND a.state = 0 AND a.session NOT IN (SELECT value FROM EACH($3 AS j: TEXT)) AND ($5 \
             OR a.instance IN (SELECT value FROM EACH($4 AS j: TEXT))) LIMIT $6",
        )
        .bind(&self.namespace)
        .bind(self.pool == Pool::Retry)
        .bind(set(&self.present.sessions)?)
        .bind(set(&self.present.instances)?)
        .bind(self.present.others_are_gone)
        .bind(BATCH)
        .fetch_all(&mut tx.conn)
        .await?;
        end_unreported(tx, &rows, "the worker ended during the attempt", self.now, self.chance).await?;
        Ok(rows.len() as u64)
    }
}

impl Ledger {
    /// Ends attempts of workers that are gone, at most 500, and returns how many. Attempts of workers that name no
    /// process end with their leases.
    pub async fn end_abandoned_attempts(
        &self,
        namespace: &str,
        pool: Pool,
        present: PresentWorkers,
        now: Timestamp,
        chance: f64,
    ) -> Result<u64, Error> {
        let mut reader = self.readers.acquire().await?;
        let left: Option<i64> = query_scalar(queries::ABANDONED)
            .bind(namespace)
            .bind(pool == Pool::Retry)
            .bind(set(&present.sessions)?)
            .bind(set(&present.instances)?)
            .bind(present.others_are_gone)
            .fetch_optional(&mut reader)
            .await?;
        drop(reader);
        if left.is_none() {
            return Ok(0);
        }
        let namespace = namespace.to_owned();
        self.writer.execute(EndAbandoned { namespace, pool, present, now, chance }).await
    }
}
