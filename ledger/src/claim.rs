//! Hands out attempts under leases.
//!
//! Invariants: only the first unfinished delivery of a lane is handed out, and only to one worker at a time. A
//! channel's budget is spent in the transaction that hands out. A delivery that is too old, or whose channel is
//! suspended, gone or paused, is not handed out; one whose cause was deleted is held until it is ended, or until its
//! object turns out to exist.
//!
//! Clauses of docs/semantics.md: D6, D8, D13.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use domain::{Millis, RateLimit};
use jiff::Timestamp;
use protocol::messages::{ChannelEntry, ClaimRequest, Claimed, Pool, Task};
use serde_json::value::RawValue;

use crate::catalog::{Catalog, Object};
use crate::chores;
use crate::engine::{Conn, query, query_scalar};
use crate::sql::{ms, set, time, uuid};
use crate::writer::{Command, Tx};
use crate::{Error, Ledger};

/// The tasks of a claim, with notifications as the JSON that is stored.
pub type RawClaimed = Claimed<Box<RawValue>>;

/// Tokens are computed from fractions of time, so a whole token may be short by rounding.
const ROUNDING: f64 = 1e-6;
/// How long after the grace a delivery of a deleted object is looked at again, ms. By then it has ended.
const RECHECK_MS: i64 = 60_000;

/// A channel's budget, and when its first delivery is due.
#[derive(Debug, sqlx::FromRow)]
struct Budget {
    c: i64,
    tokens: f64,
    refilled: Option<i64>,
    paused: Option<i64>,
    due: Option<i64>,
}

impl Budget {
    /// The tokens at `now`.
    fn tokens(&self, rate: RateLimit, now: i64) -> f64 {
        let burst = f64::from(rate.burst.max(1));
        let Some(refilled) = self.refilled else { return burst };
        let grown = (now - refilled).max(0) as f64 * f64::from(rate.per_minute) / 60_000.0;
        (self.tokens + grown).min(burst)
    }

    /// When something can be handed out; it may be in the past. `None` if nothing waits.
    fn next_at(&self, rate: Option<RateLimit>) -> Option<i64> {
        let from = self.due?.max(self.paused.unwrap_or(i64::MIN));
        let (Some(rate), Some(refilled)) = (rate, self.refilled) else { return Some(from) };
        if self.tokens >= 1.0 - ROUNDING {
            return Some(from);
        }
        let wait = (1.0 - self.tokens) * 60_000.0 / f64::from(rate.per_minute.max(1));
        Some(from.max(refilled.saturating_add(wait.ceil() as i64)))
    }
}

async fn load_budgets(
    conn: &mut Conn,
    channels: &HashMap<i64, &Object>,
    pool: Pool,
) -> Result<Vec<Budget>, Error> {
    let rows: Vec<i64> = channels.keys().copied().collect();
    let budgets =
        query(crate::queries::BUDGETS).bind(set(&rows)?).bind(pool == Pool::Retry).fetch_all(conn).await?;
    Ok(budgets)
}

/// The active channels of a namespace for which the worker has all files that it needs.
fn claimable_channels<'a>(
    catalog: &'a Catalog,
    namespace: &str,
    asked: &ClaimRequest,
) -> HashMap<i64, &'a Object> {
    let space = catalog.namespace(namespace);
    let channels = space.into_iter().flat_map(|space| &space.all_channels);
    let has_all = |channel: &&Arc<Object>| !asked.without.contains(&channel.plan.uid);
    channels
        .filter(|channel| channel.is_active())
        .filter(has_all)
        .map(|channel| (channel.row, channel.as_ref()))
        .collect()
}

fn rate_limit(channel: &Object) -> Option<RateLimit> {
    channel.channel()?.delivery.rate_limit
}

struct Claim {
    namespace: String,
    request: ClaimRequest,
    now: Timestamp,
}

#[derive(sqlx::FromRow)]
struct DueDelivery {
    d: i64,
    due: i64,
}

#[derive(sqlx::FromRow)]
struct ClaimedDelivery {
    d: i64,
    id: String,
    numbered: i64,
    c: i64,
    recipient: String,
    body: String,
    object: String,
    /// Its object is deleted, and what it caused is being ended.
    leaving: bool,
}

impl Command for Claim {
    type Answer = RawClaimed;
    // A task for a caller that has left would wait for its lease to end.
    const NEEDS_CALLER: bool = true;

    fn namespace(&self) -> Option<&str> {
        Some(&self.namespace)
    }

    async fn run(&mut self, tx: &mut Tx) -> Result<RawClaimed, Error> {
        let now = ms(self.now);
        let catalog = Arc::clone(&tx.catalog);
        let channels = claimable_channels(&catalog, &self.namespace, &self.request);
        let budgets = load_budgets(&mut tx.conn, &channels, self.request.pool).await?;
        let most = i64::from(self.request.max.clamp(1, 500));
        let deleted = self.has_deleted(tx, &catalog).await?;
        let mut due: Vec<(i64, i64)> = Vec::new();
        let mut rooms: HashMap<i64, i64> = HashMap::new();
        for budget in &budgets {
            let rate = channels.get(&budget.c).and_then(|channel| rate_limit(channel));
            if budget.next_at(rate).is_none_or(|at| at > now) {
                continue;
            }
            let room = rate.map_or(most, |rate| (budget.tokens(rate, now) + ROUNDING) as i64).min(most);
            let rows: Vec<DueDelivery> = query(
                "SELECT d, due FROM deliveries WHERE c = $1 AND (made > 0) = $2 AND state = 0 AND head = 1 \
                 AND lease IS NULL AND due <= $3 AND expires > $3 ORDER BY due, d LIMIT $4",
            )
            .bind(budget.c)
            .bind(self.request.pool == Pool::Retry)
            .bind(now)
            // Deliveries that will be held must not take the room of others.
            .bind(if deleted { most } else { room })
            .fetch_all(&mut tx.conn)
            .await?;
            rooms.insert(budget.c, room);
            due.extend(rows.iter().map(|row| (row.due, row.d)));
        }
        due.sort_unstable();
        due.truncate(most as usize);
        if due.is_empty() {
            return Ok(Claimed { tasks: Vec::new(), channels: BTreeMap::new() });
        }
        let chosen: Vec<i64> = due.iter().map(|(_, d)| *d).collect();
        let mut work: Vec<ClaimedDelivery> = query(
            "SELECT d.d, d.id, d.numbered, d.c, d.recipient, n.body, n.object, EXISTS (SELECT 1 FROM chores x \
             WHERE x.namespace = d.namespace AND x.kind = $2 AND x.name = n.object) AS leaving \
             FROM EACH($1 AS j: BIGINT) JOIN deliveries d ON d.d = j.value JOIN notifications n ON n.n = d.n \
             ORDER BY j.ord",
        )
        .bind(set(&chosen)?)
        .bind(chores::kind::OBJECT)
        .fetch_all(&mut tx.conn)
        .await?;
        if deleted {
            work = hold_deleted(tx, work, now).await?;
            work.retain(|row| {
                let room = rooms.entry(row.c).or_default();
                *room -= 1;
                *room >= 0
            });
            if work.is_empty() {
                return Ok(Claimed { tasks: Vec::new(), channels: BTreeMap::new() });
            }
        }
        self.hand_out(tx, work, &channels, &budgets).await
    }
}

/// Puts off deliveries caused by deleted objects, and returns the others. They are put off by more than the grace and
/// the time that ending them takes. If an object turns out to exist, its deliveries are sent that much later.
async fn hold_deleted(
    tx: &mut Tx,
    work: Vec<ClaimedDelivery>,
    now: i64,
) -> Result<Vec<ClaimedDelivery>, Error> {
    let (mut held, mut free) = (Vec::new(), Vec::new());
    for row in work {
        let absent = tx.catalog.get(uuid(&row.object)?).and_then(|object| object.absent);
        match absent {
            Some(since) => {
                held.push((row.d, since.max(now - tx.options.grace.0) + tx.options.grace.0 + RECHECK_MS));
            }
            None if row.leaving => held.push((row.d, now + RECHECK_MS)),
            None => free.push(row),
        }
    }
    if !held.is_empty() {
        query("UPDATE deliveries SET due = j.due FROM ROWS($1 AS j: d BIGINT, due BIGINT) WHERE deliveries.d = j.d")
            .bind(set(&held)?)
            .execute(&mut tx.conn)
            .await?;
    }
    Ok(free)
}

impl Claim {
    /// Whether any object of the namespace is absent, or is deleted and what it caused isn't ended yet.
    async fn has_deleted(&self, tx: &mut Tx, catalog: &Catalog) -> Result<bool, Error> {
        if catalog.is_any_absent(&self.namespace) {
            return Ok(true);
        }
        let leaving = query_scalar("SELECT EXISTS (SELECT 1 FROM chores WHERE namespace = $1 AND kind = $2)")
            .bind(&self.namespace)
            .bind(chores::kind::OBJECT)
            .fetch_one(&mut tx.conn)
            .await?;
        Ok(leaving)
    }

    async fn hand_out(
        &self,
        tx: &mut Tx,
        work: Vec<ClaimedDelivery>,
        channels: &HashMap<i64, &Object>,
        budgets: &[Budget],
    ) -> Result<RawClaimed, Error> {
        let now = ms(self.now);
        let mut claimed = Claimed { tasks: Vec::with_capacity(work.len()), channels: BTreeMap::new() };
        let mut leases = Vec::with_capacity(work.len());
        let mut taken: HashMap<i64, i64> = HashMap::new();
        for row in work {
            let Some((channel, plan)) =
                channels.get(&row.c).and_then(|channel| Some((channel, channel.channel()?)))
            else {
                continue;
            };
            let lease = plan.delivery.timeout.0.saturating_add(tx.options.lease_margin.0);
            let attempt = row.numbered + 1;
            leases.push((row.d, now.saturating_add(lease), attempt));
            *taken.entry(row.c).or_default() += 1;
            let uid = channel.plan.uid;
            claimed.channels.entry(uid).or_insert_with(|| ChannelEntry {
                name: channel.plan.name.clone(),
                revision: channel.revision.clone(),
                plan: plan.clone(),
            });
            claimed.tasks.push(Task {
                delivery: uuid(&row.id)?,
                attempt: attempt as i32,
                channel: uid,
                recipient: row.recipient,
                lease: Millis(lease),
                notification: RawValue::from_string(row.body)?,
            });
        }
        self.store_leases(tx, &leases).await?;
        store_budgets(tx, &budgets_after(budgets, channels, &taken, now)).await?;
        tx.counted.claimed += claimed.tasks.len() as u64;
        Ok(claimed)
    }

    /// Stores leases, and the attempts that begin. Each item is (delivery's row, end of the lease, attempt number).
    async fn store_leases(&self, tx: &mut Tx, leases: &[(i64, i64, i64)]) -> Result<(), Error> {
        let leases = set(leases)?;
        query(
            "UPDATE deliveries SET lease = j.lease, numbered = j.numbered \
             FROM ROWS($1 AS j: d BIGINT, lease BIGINT, numbered BIGINT) WHERE deliveries.d = j.d",
        )
        .bind(&leases)
        .execute(&mut tx.conn)
        .await?;
        query(
            "INSERT INTO attempts (d, number, instance, started, state, reason, session) SELECT d, number, $2, \
             $3, 0, '', $4 FROM ROWS($1 AS j: d BIGINT, lease BIGINT, number BIGINT)",
        )
        .bind(&leases)
        .bind(&self.request.instance)
        .bind(ms(self.now))
        .bind(self.request.session.map(|session| session.to_string()))
        .execute(&mut tx.conn)
        .await?;
        Ok(())
    }
}

/// What is left of the channels' budgets after `taken` tokens, as (channel's row, tokens, now).
fn budgets_after(
    budgets: &[Budget],
    channels: &HashMap<i64, &Object>,
    taken: &HashMap<i64, i64>,
    now: i64,
) -> Vec<(i64, f64, i64)> {
    let spent = budgets.iter().filter_map(|budget| {
        let rate = rate_limit(channels.get(&budget.c)?)?;
        let spent = *taken.get(&budget.c)?;
        Some((budget.c, (budget.tokens(rate, now) - spent as f64).max(0.0), now))
    });
    spent.collect()
}

async fn store_budgets(tx: &mut Tx, spent: &[(i64, f64, i64)]) -> Result<(), Error> {
    if spent.is_empty() {
        return Ok(());
    }
    query(
        "UPDATE channels SET tokens = j.tokens, refilled = j.refilled \
         FROM ROWS($1 AS j: c BIGINT, tokens DOUBLE PRECISION, refilled BIGINT) WHERE channels.c = j.c",
    )
    .bind(set(spent)?)
    .execute(&mut tx.conn)
    .await?;
    Ok(())
}

impl Ledger {
    /// Hands out attempts that are due now; the answer may be empty. Doesn't wait for any.
    pub async fn claim(
        &self,
        namespace: &str,
        request: ClaimRequest,
        now: Timestamp,
    ) -> Result<RawClaimed, Error> {
        // Reading first saves a transaction.
        if self.next_claim_at(namespace, &request).await?.is_none_or(|at| at > now) {
            return Ok(Claimed { tasks: Vec::new(), channels: BTreeMap::new() });
        }
        self.writer.execute(Claim { namespace: namespace.to_owned(), request, now }).await
    }

    /// When the next attempt for this request is due; it may be in the past. `None` if none waits.
    pub async fn next_claim_at(
        &self,
        namespace: &str,
        request: &ClaimRequest,
    ) -> Result<Option<Timestamp>, Error> {
        let catalog = self.shared.catalog();
        let channels = claimable_channels(&catalog, namespace, request);
        if channels.is_empty() {
            return Ok(None);
        }
        let mut reader = self.readers.acquire().await?;
        let budgets = load_budgets(&mut reader, &channels, request.pool).await?;
        let next = budgets
            .iter()
            .filter_map(|budget| {
                budget.next_at(channels.get(&budget.c).and_then(|channel| rate_limit(channel)))
            })
            .min();
        Ok(next.map(time))
    }
}
