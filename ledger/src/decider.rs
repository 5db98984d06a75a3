//! Goes on with what a commit left to decide: step by step, each a command of its own in the writer's queue, with the
//! texts that it needs rendered before.
//!
//! Invariants: at most one for a namespace; what is left is in the database (`groups.next`, `leaving`, deliveries without a
//! channel), so that one that breaks off is begun anew by the next commit, or by [`Ledger::decide`]. Never: a clock; the time is that of the last
//! caller.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

use crate::db::{query, query_scalar};
use crate::decisions::decide;
use crate::leaving::leave;
use crate::live::{Live, numbers};
use crate::notify::{appear, make};
use crate::sql::{ms, set};
use crate::texts::{Ask, Left, Ready, Texts};
use crate::writer::{Command, Door, Tx};
use crate::{Error, Ledger, reads};

/// Who goes on.
pub(crate) struct Decider {
    door: Door,
    pub(crate) texts: Texts,
    patience: Duration,
    spaces: Mutex<HashMap<String, Space>>,
}

/// A namespace that is gone on with.
struct Space {
    /// There is more than was there when the step began.
    again: bool,
    asks: Vec<Ask>,
    now: Timestamp,
    /// Gone when nothing is left.
    ended: watch::Sender<()>,
}

impl Decider {
    pub(crate) fn new(door: Door, texts: Texts, patience: Duration) -> Self {
        Self { door, texts, patience, spaces: Mutex::default() }
    }

    fn spaces(&self) -> MutexGuard<'_, HashMap<String, Space>> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on with a namespace; the receiver ends when nothing is left.
    pub(crate) fn wake(
        self: &Arc<Self>,
        namespace: &str,
        asks: Vec<Ask>,
        now: Timestamp,
    ) -> watch::Receiver<()> {
        let mut spaces = self.spaces();
        if let Some(space) = spaces.get_mut(namespace) {
            space.again = true;
            space.now = space.now.max(now);
            // What is asked for meanwhile is found again by the next step.
            return space.ended.subscribe();
        }
        let (ended, end) = watch::channel(());
        spaces.insert(namespace.to_owned(), Space { again: true, asks, now, ended });
        drop(spaces);
        tokio::spawn(Arc::clone(self).run(namespace.to_owned()));
        end
    }

    async fn run(self: Arc<Self>, namespace: String) {
        let mut asks = Vec::new();
        loop {
            let Some(now) = self.spaces().get_mut(&namespace).map(|space| {
                space.again = false;
                asks.append(&mut space.asks);
                space.now
            }) else {
                return;
            };
            let first: Vec<i64> = asks.iter().filter_map(|ask| ask.group).collect();
            let texts = self.texts.ready(&namespace, std::mem::take(&mut asks)).await;
            let step = Step { namespace: namespace.clone(), first, texts, now };
            match self.door.done(step).await {
                Ok(left) if left.more || !left.asks.is_empty() => asks = left.asks,
                ended => {
                    let mut spaces = self.spaces();
                    let again = spaces.get(&namespace).is_some_and(|space| space.again);
                    if ended.is_ok() && again {
                        continue;
                    }
                    spaces.remove(&namespace);
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

/// One step.
struct Step {
    namespace: String,
    /// Groups whose texts are there.
    first: Vec<i64>,
    texts: Ready,
    now: Timestamp,
}

impl Command for Step {
    type Answer = Left;

    fn namespace(&self) -> Option<&str> {
        Some(&self.namespace)
    }

    async fn run(&mut self, tx: &mut Tx) -> Result<Left, Error> {
        let mut left = Left { more: appear(tx, &self.namespace, self.now).await?, ..Left::default() };
        match crate::deliveries::check_quota(tx, &self.namespace).await {
            // It goes on when there is room again.
            Err(Error::OverQuota { .. }) => return Ok(left),
            checked => checked?,
        }
        let mut drafts = Vec::new();
        left.add(leave(tx, &self.namespace, &self.texts, &mut drafts, self.now).await?);
        let closing = closing(tx, &self.namespace).await?;
        let mut rules = due(tx, &self.namespace, &closing).await?;
        let all = rules.keys().copied().collect();
        let more = decide(tx, &mut rules, &all, (&self.first, &self.texts), &mut drafts, self.now).await?;
        left.add(more);
        for draft in &drafts {
            if let Some(rule) = rules.get_mut(&draft.object) {
                rule.numbers.last_alert = Some(ms(self.now));
            }
        }
        make(tx, drafts, self.now).await?;
        numbers(tx, &rules, self.now).await?;
        Ok(left)
    }
}

/// Rules whose alerts of before they were changed are being closed: until then they decide nothing, so that people are told
/// in order.
pub(crate) async fn closing(tx: &mut Tx, namespace: &str) -> Result<HashSet<Uuid>, Error> {
    let uids: Vec<String> =
        query_scalar("SELECT uid FROM leaving WHERE namespace = $1 AND state IS NOT NULL")
            .bind(namespace)
            .fetch_all(&mut tx.conn)
            .await?;
    uids.iter().map(|uid| crate::sql::uuid(uid)).collect()
}

/// A rule as stored: uid, decided, observed, woken.
type Stored = (String, Option<i64>, Option<i64>, Option<String>);

/// The rules of a namespace of which groups are due, suspended ones too: what was counted before is decided.
async fn due(tx: &mut Tx, namespace: &str, closing: &HashSet<Uuid>) -> Result<BTreeMap<Uuid, Live>, Error> {
    let rows: Vec<Stored> = query(
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
            rules.insert(uid, Live::stored(object, decided, observed, woken));
        }
    }
    Ok(rules)
}

impl Ledger {
    /// Goes on with what commits, changes and deletions left to do, and with what waited for channels that there are now: after a start, after a failure, and when there is room
    /// again for what is to be delivered. Does not wait for it.
    pub async fn decide(&self, now: Timestamp) -> Result<(), Error> {
        let mut namespaces: BTreeSet<String> = BTreeSet::new();
        for sql in [reads::UNDECIDED, reads::LEAVING] {
            let mut after = 0;
            loop {
                let mut reader = self.readers.acquire().await?;
                let rows: Vec<(i64, String, bool)> =
                    query(sql).bind(after).bind(reads::SLICE).fetch_all(&mut reader).await?;
                let last = rows.last().map(|(r, ..)| *r).filter(|_| rows.len() as i64 >= reads::SLICE);
                namespaces.extend(rows.into_iter().filter(|(.., left)| *left).map(|(_, of, _)| of));
                let Some(r) = last else { break };
                after = r;
            }
        }
        let catalog = self.shared.catalog();
        for (namespace, space) in
            catalog.spaces().filter(|(namespace, _)| !namespaces.contains(*namespace)).collect::<Vec<_>>()
        {
            let before = catalog.deliveries_before(namespace);
            let names: Vec<(&str, &str, i64)> =
                space.names.keys().map(|name| (namespace.as_str(), name.as_str(), before)).collect();
            let mut reader = self.readers.acquire().await?;
            let appeared: Option<String> =
                query_scalar(reads::APPEARED).bind(set(&names)?).fetch_optional(&mut reader).await?;
            namespaces.extend(appeared);
        }
        for namespace in namespaces {
            self.decider.wake(&namespace, Vec::new(), now);
        }
        Ok(())
    }

    /// Waits until nothing is left to go on with, or as much as can be done is done.
    pub async fn settled(&self) {
        loop {
            let next = self.decider.spaces().values().next().map(|space| space.ended.subscribe());
            match next {
                Some(mut ended) => {
                    // It ends by an error: nothing is ever sent.
                    let _ = ended.changed().await;
                }
                None => return,
            }
        }
    }

    /// Goes on with what is left of a commit, and waits for it, but not for long.
    pub(crate) async fn go_on(&self, namespace: &str, left: Left, now: Timestamp) {
        if left.more || !left.asks.is_empty() {
            let mut ended = self.decider.wake(namespace, left.asks, now);
            let _ = tokio::time::timeout(self.decider.patience, ended.changed()).await;
        }
    }
}
