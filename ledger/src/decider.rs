//! Continues what a commit left to decide, step by step. Each step is a command of its own in the writer's queue, and
//! the texts that it needs are rendered before.
//!
//! Invariants: at most one task runs for a namespace. What is left to do is in the database (`groups.next`,
//! `leaving`, deliveries without a channel), so if a task fails, the next commit or [`Ledger::resume_deciding`]
//! starts it again. It has no clock: the time is that of the last caller.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

use crate::decisions::decide_step;
use crate::engine::{query, query_scalar};
use crate::notify::{make_notifications, release_waiting};
use crate::rule_cleanup::clean_up_step;
use crate::rule_updates::{RuleUpdate, store_rule_deltas};
use crate::sql::{ms, set};
use crate::texts::{Remaining, RenderedTexts, TextRenderer, TextRequest};
use crate::writer::{Command, Tx, WriterHandle};
use crate::{Error, Ledger, queries};

/// Runs the steps, one task for each namespace with something left to decide.
pub(crate) struct Decider {
    writer: WriterHandle,
    pub(crate) texts: TextRenderer,
    decide_wait: Duration,
    ongoing: Mutex<HashMap<String, OngoingNamespace>>,
}

/// A namespace for which a task runs.
struct OngoingNamespace {
    /// More may have become due since the step began.
    again: bool,
    requests: Vec<TextRequest>,
    now: Timestamp,
    /// Dropped when nothing is left.
    ended: watch::Sender<()>,
}

impl Decider {
    pub(crate) fn new(writer: WriterHandle, texts: TextRenderer, decide_wait: Duration) -> Self {
        Self { writer, texts, decide_wait, ongoing: Mutex::default() }
    }

    fn ongoing(&self) -> MutexGuard<'_, HashMap<String, OngoingNamespace>> {
        self.ongoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a namespace's task, or tells the running one that there is more. The receiver ends when nothing is
    /// left.
    pub(crate) fn start(
        self: &Arc<Self>,
        namespace: &str,
        requests: Vec<TextRequest>,
        now: Timestamp,
    ) -> watch::Receiver<()> {
        let mut ongoing = self.ongoing();
        if let Some(one) = ongoing.get_mut(namespace) {
            one.again = true;
            one.now = one.now.max(now);
            // The next step finds again what these requests are for.
            return one.ended.subscribe();
        }
        let (ended, end) = watch::channel(());
        ongoing.insert(namespace.to_owned(), OngoingNamespace { again: true, requests, now, ended });
        drop(ongoing);
        tokio::spawn(Arc::clone(self).run_steps(namespace.to_owned()));
        end
    }

    async fn run_steps(self: Arc<Self>, namespace: String) {
        let mut requests = Vec::new();
        loop {
            let Some(now) = self.ongoing().get_mut(&namespace).map(|one| {
                one.again = false;
                requests.append(&mut one.requests);
                one.now
            }) else {
                return;
            };
            let first: Vec<i64> = requests.iter().filter_map(|request| request.group).collect();
            let texts = self.texts.render_all(&namespace, std::mem::take(&mut requests)).await;
            let step = DecideStep { namespace: namespace.clone(), first, texts, now };
            match self.writer.execute(step).await {
                Ok(left) if left.more || !left.requests.is_empty() => requests = left.requests,
                ended => {
                    let mut ongoing = self.ongoing();
                    let again = ongoing.get(&namespace).is_some_and(|one| one.again);
                    if ended.is_ok() && again {
                        continue;
                    }
                    ongoing.remove(&namespace);
                    if let Err(error) = ended
                        && error != Error::Closed
                    {
                        tracing::warn!(namespace, %error, "deciding broke off, and is begun anew");
                    }
                    return;
                }
            }
        }
    }
}

/// One step of deciding for a namespace.
struct DecideStep {
    namespace: String,
    /// Groups whose texts are rendered.
    first: Vec<i64>,
    texts: RenderedTexts,
    now: Timestamp,
}

impl Command for DecideStep {
    type Answer = Remaining;

    fn namespace(&self) -> Option<&str> {
        Some(&self.namespace)
    }

    async fn run(&mut self, tx: &mut Tx) -> Result<Remaining, Error> {
        let mut left =
            Remaining { more: release_waiting(tx, &self.namespace, self.now).await?, ..Remaining::default() };
        match crate::deliveries::check_quota(tx, &self.namespace).await {
            // It resumes when there is room again.
            Err(Error::OverQuota { .. }) => return Ok(left),
            checked => checked?,
        }
        let mut drafts = Vec::new();
        left.add(clean_up_step(tx, &self.namespace, &self.texts, &mut drafts, self.now).await?);
        let closing = closing_rules(tx, &self.namespace).await?;
        let mut rules = due_rules(tx, &self.namespace, &closing).await?;
        let all = rules.keys().copied().collect();
        let more =
            decide_step(tx, &mut rules, &all, (&self.first, &self.texts), &mut drafts, self.now).await?;
        left.add(more);
        for draft in &drafts {
            if let Some(rule) = rules.get_mut(&draft.object) {
                rule.delta.last_alert = Some(ms(self.now));
            }
        }
        make_notifications(tx, drafts, self.now).await?;
        store_rule_deltas(tx, &rules, self.now).await?;
        Ok(left)
    }
}

/// Rules that were changed and whose earlier alerts are still being closed. They decide nothing until that is done,
/// so that people hear things in order.
pub(crate) async fn closing_rules(tx: &mut Tx, namespace: &str) -> Result<HashSet<Uuid>, Error> {
    let uids: Vec<String> =
        query_scalar("SELECT uid FROM leaving WHERE namespace = $1 AND state IS NOT NULL")
            .bind(namespace)
            .fetch_all(&mut tx.conn)
            .await?;
    uids.iter().map(|uid| crate::sql::uuid(uid)).collect()
}

/// A rule as stored, as (uid, decided, observed, woken).
type DueRule = (String, Option<i64>, Option<i64>, Option<String>);

/// The rules of a namespace with due groups, suspended rules included: what they counted before is still decided.
async fn due_rules(
    tx: &mut Tx,
    namespace: &str,
    closing: &HashSet<Uuid>,
) -> Result<BTreeMap<Uuid, RuleUpdate>, Error> {
    let rows: Vec<DueRule> = query(
        "SELECT r.uid, r.decided, r.observed, r.woken FROM rules r WHERE r.namespace = $1 \
         AND (r.woken IS NOT NULL OR EXISTS (SELECT 1 FROM groups g WHERE g.r = r.r AND g.next <= r.decided))",
    )
    .bind(namespace)
    .fetch_all(&mut tx.conn)
    .await?;
    let mut rules = BTreeMap::new();
    for (uid, decided, observed, woken) in rows {
        let uid = crate::sql::uuid(&uid)?;
        let object = tx.catalog.get(uid).filter(|object| object.absent.is_none()).cloned();
        if let Some(object) = object.filter(|_| !closing.contains(&uid)) {
            rules.insert(uid, RuleUpdate::from_stored(object, decided, observed, woken));
        }
    }
    Ok(rules)
}

impl Ledger {
    /// Resumes what commits, changes and deletions left to do, and deliveries whose channels exist by now. Call it
    /// after a start, after a failure, and when there is room for deliveries again. Doesn't wait for the work to end.
    pub async fn resume_deciding(&self, now: Timestamp) -> Result<(), Error> {
        let mut namespaces: BTreeSet<String> = BTreeSet::new();
        for sql in [queries::UNDECIDED, queries::LEAVING] {
            let mut after = 0;
            loop {
                let mut reader = self.readers.acquire().await?;
                let rows: Vec<(i64, String, bool)> =
                    query(sql).bind(after).bind(queries::ROWS_PER_READ).fetch_all(&mut reader).await?;
                let last =
                    rows.last().map(|(r, ..)| *r).filter(|_| rows.len() as i64 >= queries::ROWS_PER_READ);
                namespaces.extend(rows.into_iter().filter(|(.., left)| *left).map(|(_, of, _)| of));
                let Some(r) = last else { break };
                after = r;
            }
        }
        let catalog = self.shared.catalog();
        for (namespace, space) in
            catalog.namespaces().filter(|(namespace, _)| !namespaces.contains(*namespace)).collect::<Vec<_>>()
        {
            let before = catalog.deliveries_before(namespace);
            let names: Vec<(&str, &str, i64)> =
                space.names.keys().map(|name| (namespace.as_str(), name.as_str(), before)).collect();
            let mut reader = self.readers.acquire().await?;
            let appeared: Option<String> = query_scalar(queries::CHANNEL_WAITED_FOR)
                .bind(set(&names)?)
                .fetch_optional(&mut reader)
                .await?;
            namespaces.extend(appeared);
        }
        for namespace in namespaces {
            self.decider.start(&namespace, Vec::new(), now);
        }
        Ok(())
    }

    /// Waits until no task runs: everything is decided, or as much as can be now.
    pub async fn wait_until_decided(&self) {
        loop {
            let next = self.decider.ongoing().values().next().map(|one| one.ended.subscribe());
            match next {
                Some(mut ended) => {
                    // This ends with an error, since nothing is ever sent.
                    let _ = ended.changed().await;
                }
                None => return,
            }
        }
    }

    /// Continues what is left of a commit, and waits for it, at most `decide_wait`.
    pub(crate) async fn wait_for_decisions(&self, namespace: &str, left: Remaining, now: Timestamp) {
        if left.more || !left.requests.is_empty() {
            let mut ended = self.decider.start(namespace, left.requests, now);
            let _ = tokio::time::timeout(self.decider.decide_wait, ended.changed()).await;
        }
    }
}
