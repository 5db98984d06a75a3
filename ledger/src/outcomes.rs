//! Records the outcomes of attempts.
//!
//! Invariants: an outcome belongs to (delivery, attempt) and is recorded once, however often it is reported. An
//! outcome that comes after its lease ran out is written to its row, but changes the delivery only if it was
//! delivered after all. No attempt is counted twice.
//!
//! Clause D9 of docs/semantics.md.

use std::collections::{HashMap, HashSet};

use domain::{DeliveryState, Outcome, Verdict};
use jiff::Timestamp;
use protocol::messages::AttemptOutcome;

use crate::deliveries::{AttemptState, ChannelDelta, DeliveryChange, StoredDelivery, apply_changes};
use crate::engine::query;
use crate::sql::{ms, set, time};
use crate::writer::{Command, Tx};
use crate::{Error, Ledger};

/// The name of the outcome `NotSent`.
const NOT_SENT: &str = "NotSent";

struct RecordOutcomes {
    namespace: String,
    outcomes: Vec<(AttemptOutcome, f64)>,
    now: Timestamp,
}

#[derive(sqlx::FromRow)]
struct ReportedAttempt {
    at: i64,
    #[sqlx(flatten)]
    delivery: StoredDelivery,
    numbered: i64,
    leased: bool,
    attempt: AttemptState,
}

impl Command for RecordOutcomes {
    type Answer = ();

    fn namespace(&self) -> Option<&str> {
        Some(&self.namespace)
    }

    async fn run(&mut self, tx: &mut Tx) -> Result<(), Error> {
        let asked: Vec<_> = self.outcomes.iter().map(|(told, _)| (told.delivery, told.attempt)).collect();
        let found: Vec<ReportedAttempt> = query(
            "SELECT j.ord AS at, d.d, d.n, d.c, d.lane, d.state, d.made, d.expires, d.numbered, d.lease IS NOT \
             NULL AS leased, a.state AS attempt FROM ROWS($1 AS j: delivery TEXT, number BIGINT) \
             JOIN deliveries d ON d.id = j.delivery AND d.namespace = $2 JOIN attempts a ON a.d = d.d \
             AND a.number = j.number ORDER BY j.ord",
        )
        .bind(set(&asked)?)
        .bind(&self.namespace)
        .fetch_all(&mut tx.conn)
        .await?;
        let now = ms(self.now);
        let mut seen = HashSet::new();
        let mut reports = Vec::with_capacity(found.len());
        let mut changes = Vec::with_capacity(found.len());
        let mut tallies: HashMap<i64, ChannelDelta> = HashMap::new();
        for row in found {
            let Some((told, chance)) = usize::try_from(row.at).ok().and_then(|at| self.outcomes.get(at))
            else {
                continue;
            };
            if row.attempt == AttemptState::Reported || !seen.insert((row.delivery.d, told.attempt)) {
                continue;
            }
            let outcome = &told.outcome;
            reports.push((row.delivery.d, told.attempt, now, outcome.name(), outcome.reason()));
            if let Some(c) = row.delivery.c {
                tally_outcome(tallies.entry(c).or_default(), outcome, now);
            }
            changes.extend(change_for(tx, &row, told, *chance, self.now, &mut tallies));
        }
        if reports.is_empty() {
            return Ok(());
        }
        tx.counted.outcomes += reports.len() as u64;
        query(
            "UPDATE attempts SET state = $2, ended = j.ended, outcome = j.outcome, reason = j.reason \
             FROM ROWS($1 AS j: d BIGINT, number BIGINT, ended BIGINT, outcome TEXT, reason TEXT) \
             WHERE attempts.d = j.d AND attempts.number = j.number",
        )
        .bind(set(&reports)?)
        .bind(AttemptState::Reported)
        .execute(&mut tx.conn)
        .await?;
        // Of a delivery's attempts that could not be sent, only the last is kept.
        let not_sent: Vec<_> =
            reports.iter().filter(|report| report.3 == NOT_SENT).map(|it| (it.0, it.1)).collect();
        if !not_sent.is_empty() {
            query(
                "DELETE FROM attempts WHERE (d, number) IN (SELECT a.d, a.number \
                 FROM ROWS($1 AS j: d BIGINT, number BIGINT) JOIN attempts a ON a.d = j.d \
                 AND a.number < j.number AND a.outcome = $2)",
            )
            .bind(set(&not_sent)?)
            .bind(NOT_SENT)
            .execute(&mut tx.conn)
            .await?;
        }
        apply_changes(tx, &changes, tallies, self.now).await
    }
}

/// Adds an outcome to the channel's summary of attempts.
fn tally_outcome(tally: &mut ChannelDelta, outcome: &Outcome, now: i64) {
    match outcome {
        Outcome::Delivered => tally.attempts.delivered(now),
        other => tally.attempts.failed(other.reason(), now),
    }
}

fn change_for(
    tx: &Tx,
    row: &ReportedAttempt,
    told: &AttemptOutcome,
    chance: f64,
    now: Timestamp,
    tallies: &mut HashMap<i64, ChannelDelta>,
) -> Option<DeliveryChange> {
    let current = row.numbered == i64::from(told.attempt);
    let in_time = current
        && row.attempt == AttemptState::UnderWay
        && row.leased
        && row.delivery.state == DeliveryState::Pending;
    if !in_time {
        // A late `Delivered` counts, whatever happened to the delivery since.
        let late = told.outcome == Outcome::Delivered && row.delivery.state != DeliveryState::Delivered;
        return late.then(|| DeliveryChange {
            from: row.delivery.clone(),
            verdict: Verdict::End(DeliveryState::Delivered, String::new()),
            made: row.delivery.made,
            keep_lease: row.leased && !current,
            reason: String::new(),
        });
    }
    let channel = row.delivery.c.and_then(|c| tx.catalog.channel_at(c));
    let Some(policy) = channel.and_then(|channel| channel.channel()).map(|plan| &plan.delivery) else {
        return Some(end_without_attempt(&row.delivery, DeliveryState::Suppressed, CHANNEL_DELETED));
    };
    let sent = !matches!(told.outcome, Outcome::NotSent { .. });
    let made = row.delivery.made + i64::from(sent);
    let verdict = policy.decide(&told.outcome, made as i32, now, time(row.delivery.expires), chance);
    if let (Outcome::Later { wait, channel_wide: true, .. }, Some(c)) = (&told.outcome, row.delivery.c) {
        // A pause longer than a delivery lives would be forever.
        let wait = wait.unwrap_or(policy.retry.initial_delay).min(policy.expires_after);
        let until = ms(now).saturating_add(wait.0);
        let tally = tallies.entry(c).or_default();
        tally.paused = tally.paused.max(Some(until));
    }
    // More attempts are numbered than counted, so the delivery was dead and a person had it sent again.
    if let (true, Verdict::End(..), Some(c)) = (row.numbered > made, &verdict, row.delivery.c) {
        tallies.entry(c).or_default().awaited = true;
    }
    let reason = told.outcome.reason().to_owned();
    Some(DeliveryChange { from: row.delivery.clone(), verdict, made, keep_lease: false, reason })
}

/// The reason of a suppressed delivery if the object that caused it was deleted.
pub(crate) const CAUSE_DELETED: &str = "what caused it was deleted, so it is not sent any more (Deleted)";
/// The reason if its channel was deleted.
pub(crate) const CHANNEL_DELETED: &str = "its channel was deleted, so it is not sent any more (Deleted)";

/// The change that ends a delivery without an attempt.
pub(crate) fn end_without_attempt(from: &StoredDelivery, state: DeliveryState, why: &str) -> DeliveryChange {
    DeliveryChange {
        from: from.clone(),
        verdict: Verdict::End(state, why.to_owned()),
        made: from.made,
        keep_lease: true,
        reason: String::new(),
    }
}

impl Ledger {
    /// Records outcomes of attempts, each with a chance in `0.0..1.0` for the jitter of its retry. Outcomes that were
    /// recorded before, or of unknown attempts, change nothing.
    pub async fn record_outcomes(
        &self,
        namespace: &str,
        outcomes: Vec<(AttemptOutcome, f64)>,
        now: Timestamp,
    ) -> Result<(), Error> {
        if outcomes.is_empty() {
            return Ok(());
        }
        self.writer.execute(RecordOutcomes { namespace: namespace.to_owned(), outcomes, now }).await
    }
}
