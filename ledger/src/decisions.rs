//! Has the alert engine decide the groups that are due, in bounded steps: the first in the transaction that moved the
//! watermark, the others in later ones.
//!
//! Invariants: a rule's watermark is the smallest progress of the opened partitions of its topics, and what it has passed
//! takes no more counts, whether or not it is decided yet; so that when a group is decided changes nothing of what is
//! decided. Each group knows up to where it is; its decisions and their notifications are in one transaction. What is
//! left is found by `groups.next`. Never: a decision before every partition has told how far it is, all due groups in
//! memory at once, or a text rendered here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use alerting::decide::{
    Bucket, Decision, GroupState, RuleParams, advance_at_most, expected_groups, next_due,
};
use alerting::fold::{TOP_KEPT, merge_values};
use alerting::tell::Shown;
use domain::{AlertKind, Values};
use jiff::Timestamp;
use protocol::messages::Sample;
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use crate::Error;
use crate::commit::Live;
use crate::counts::group_bytes;
use crate::notify::{Draft, targets};
use crate::positions::Topic;
use crate::rules::{Rule, labels};
use crate::sql::set;
use crate::texts::{Ask, Of, Ready, Told};
use crate::writer::Tx;

/// Bytes of groups with their counts that one step looks at; one group may be more.
pub(crate) const STEP_BYTES: i64 = 4 << 20;
/// Decisions of one group in one step.
const DECISIONS: usize = 16;
/// Texts that are asked for at once, and the deliveries that they are for.
const ASKS: usize = 64;
const DELIVERIES: usize = 1_000;

/// What a step left to do.
#[derive(Default)]
pub(crate) struct Left {
    /// Texts that are needed to go on.
    pub(crate) asks: Vec<Ask>,
    /// More is due, or waits for texts.
    pub(crate) more: bool,
    pub(crate) deliveries: usize,
}

impl Left {
    /// Whether another text may be asked for.
    pub(crate) fn room(&self) -> bool {
        self.asks.is_empty() || (self.asks.len() < ASKS && self.deliveries < DELIVERIES)
    }

    /// Asks for a text, for so many deliveries.
    pub(crate) fn ask(&mut self, deliveries: usize, ask: Ask) {
        self.deliveries += deliveries;
        self.asks.push(ask);
    }

    pub(crate) fn add(&mut self, mut other: Self) {
        self.more |= other.more;
        while self.room()
            && let Some(ask) = other.asks.pop()
        {
            self.asks.push(ask);
        }
    }
}

/// A group that is due.
struct Due {
    g: i64,
    rule: Uuid,
    labels: String,
    /// Its state before, JSON.
    stored: String,
    state: GroupState,
    sample: Option<String>,
    buckets: Vec<Bucket>,
    /// Up to where it was decided, if it was.
    decided: Option<i64>,
    bytes: i64,
    /// What its own row takes of them.
    row_bytes: i64,
    decisions: Vec<Decision>,
    /// Up to where it is decided now.
    to: i64,
}

/// A row of `groups`, as read: itself, its rule, labels, state, sample, window, decided, bytes.
type Stored = (i64, i64, String, String, Option<String>, Option<String>, Option<i64>, i64);

/// A row of `groups`, as written back: itself, state, firing, count, next, sample, pending, window; decided, bytes.
type Row =
    (i64, String, Option<i64>, i64, Option<i64>, Option<String>, Option<i64>, Option<String>, i64, i64);

fn watermark(rule: &Live, topics: &HashMap<String, Topic>) -> Option<i64> {
    let names = &rule.object.rule()?.topics;
    let mut least: Option<i64> = None;
    for topic in names.iter().filter_map(|name| topics.get(name)) {
        for partition in topic.partitions.values() {
            let progress = partition.progress?;
            least = Some(least.map_or(progress, |least| least.min(progress)));
        }
    }
    least
}

/// Moves the rules on to their watermarks: what these have passed takes no more counts, and groups are due up to there. Which
/// moved.
pub(crate) async fn moved(
    tx: &mut Tx,
    rules: &mut BTreeMap<Uuid, Live>,
    topics: &HashMap<String, Topic>,
) -> Result<HashSet<Uuid>, Error> {
    let mut moved = HashSet::new();
    for (uid, rule) in rules.iter_mut() {
        let (Some(params), Some(watermark)) = (rule.params, watermark(rule, topics)) else { continue };
        let to = params.decided_to(watermark);
        if rule.decided.is_none_or(|decided| to > decided) {
            rule.numbers.decided = Some(to);
            moved.insert(*uid);
        }
    }
    if !moved.is_empty() {
        observe(tx, rules, &moved, topics).await?;
    }
    Ok(moved)
}

/// One step: decides groups of these rules that are due, first those whose texts are there. What it leaves is due as before.
pub(crate) async fn decide(
    tx: &mut Tx,
    rules: &mut BTreeMap<Uuid, Live>,
    which: &HashSet<Uuid>,
    (first, texts): (&[i64], &Ready),
    drafts: &mut Vec<Draft>,
    now: Timestamp,
) -> Result<Left, Error> {
    let mut left = Left { more: wake(tx, rules, which).await?, ..Left::default() };
    let chosen = choose(tx, rules, which, first, &mut left).await?;
    if chosen.is_empty() {
        return Ok(left);
    }
    let mut due = load(tx, rules, &chosen).await?;
    for group in &mut due {
        let Some(rule) = rules.get(&group.rule) else { continue };
        group.advance(rule, DECISIONS);
    }
    let samples = samples(tx, &due).await?;
    let mut top = top(tx, &due, rules).await?;
    let (mut rows, mut gone, mut old) = (Vec::new(), Vec::new(), Vec::new());
    let mut told = Vec::new();
    let mut at = 0;
    for group in &mut due {
        let Some(rule) = rules.get(&group.rule) else { continue };
        let Some(params) = rule.params else { continue };
        let (mut ready, mut waits) = (Vec::new(), None);
        let before = group.sample.clone();
        let mut kept = before.clone();
        for (place, decision) in group.decisions.iter().enumerate() {
            let (first, last) = &samples[at];
            let top = top.remove(&at).unwrap_or_default();
            at += 1;
            let best = decision.seen.as_ref().and_then(|seen| seen.sample.as_ref());
            if let Some(best) = best {
                group.sample = Some(serde_json::to_string(best)?);
            } else if decision.kind != AlertKind::Resolved || last.is_some() {
                group.sample.clone_from(last);
            }
            if let Some(speaks) = Rule::of(&rule.object).filter(|_| decision.notify) {
                let id = speaks.alert_id(&group.labels, decision);
                let text = texts.get(&id).filter(|_| waits.is_none());
                if let Some(text) = text {
                    let draft = group.draft(speaks, text.clone(), decision, (first, &top), now)?;
                    ready.push(((decision.at_ms, group.rule, group.labels.clone()), draft));
                } else {
                    waits = waits.or(Some(place));
                    if left.room() {
                        let (first, last) = (first.clone(), group.sample.clone());
                        let labels = group.labels.clone();
                        let told = Told { labels, decision: decision.clone(), first, last, top };
                        let of = Of::Alert(Box::new(told));
                        let object = Arc::clone(&rule.object);
                        left.ask(targets(tx, &object), Ask { id, object, group: Some(group.g), of });
                    }
                }
            }
            if waits.is_none() {
                kept.clone_from(&group.sample);
            }
        }
        match waits {
            None => {}
            // What comes before the first text that is missing is decided; it goes on from there.
            Some(0) => {
                left.more = true;
                continue;
            }
            Some(most) => {
                left.more = true;
                group.sample = kept;
                group.state = serde_json::from_str(&group.stored)?;
                group.advance(rule, most);
            }
        }
        if !group.decisions.is_empty() {
            tx.mark(group.rule, true);
        }
        told.append(&mut ready);
        let keep = params.keep_from(group.to);
        let passed = group.buckets.iter().filter(|bucket| bucket.start_ms < keep);
        old.extend(passed.map(|bucket| (group.g, bucket.start_ms)));
        match row(group, &params, rule.observed())? {
            Some(row) => {
                left.more |= rule.to().is_some_and(|to| row.4.is_some_and(|next| next <= to));
                rows.push((group.rule, group.row_bytes, row));
            }
            None => gone.push((group.rule, group.g, group.bytes)),
        }
    }
    // In event-time order; within one instant in an order that does not depend on how it was counted.
    told.sort_by(|(left, _), (right, _)| left.cmp(right));
    drafts.extend(told.into_iter().map(|(_, draft)| draft));
    store(tx, rules, rows, &gone, &old).await?;
    Ok(left)
}

impl Due {
    /// Decides it up to where its rule is, but no more than so many decisions.
    fn advance(&mut self, rule: &Live, most: usize) {
        let (Some(params), Some(to)) = (rule.params, rule.to()) else { return };
        let (observed, first) = (rule.observed(), self.buckets.first().map_or(to, |it| it.start_ms));
        // A count may be for a bucket before anything was decided: whatever came before it was without records.
        let from = self.decided.unwrap_or_else(|| first.min(observed.unwrap_or(to)).min(to));
        (self.decisions, self.to) =
            advance_at_most(&params, &mut self.state, &self.buckets, observed, (from, to), most);
    }

    fn draft(
        &self,
        rule: Rule<'_>,
        text: crate::Rendered,
        decision: &Decision,
        (first, top): (&Option<String>, &BTreeMap<String, Values>),
        now: Timestamp,
    ) -> Result<Draft, Error> {
        let read = |sample: &Option<String>| -> Result<Option<Sample>, Error> {
            Ok(sample.as_deref().map(serde_json::from_str).transpose()?)
        };
        let (first, last) = (read(first)?, read(&self.sample)?);
        let labels: BTreeMap<String, String> = serde_json::from_str(&self.labels)?;
        let shown = Shown { first: first.as_ref(), last: last.as_ref(), top };
        rule.alert(text, &labels, decision, (shown, None), now)
    }
}

/// Finds out, for rules to which absence matters, since when they have seen all records, and makes the groups that they
/// watch without having seen them.
async fn observe(
    tx: &mut Tx,
    rules: &mut BTreeMap<Uuid, Live>,
    moved: &HashSet<Uuid>,
    topics: &HashMap<String, Topic>,
) -> Result<(), Error> {
    let needs = |rule: &&mut Live| {
        let needs = rule.params.is_some_and(|params| params.needs_observed());
        needs && moved.contains(&rule.object.plan.uid) && (rule.observed.is_none() || rule.decided.is_none())
    };
    for rule in rules.values_mut().filter(needs) {
        let mut made = Vec::new();
        let (row, Some(plan)) = (rule.object.row, rule.object.rule()) else { continue };
        if rule.decided.is_none() {
            let state = serde_json::to_string(&GroupState::expected())?;
            for group in expected_groups(plan) {
                let labels = labels(&group)?;
                let bytes = group_bytes(&labels, &state, None, None);
                made.push((row, labels, state.clone(), bytes));
            }
        }
        let (groups, bytes) = expect(tx, &made).await?;
        rule.numbers.groups += groups;
        rule.numbers.bytes += bytes;
        if rule.observed.is_some() {
            continue;
        }
        let since: Vec<(i64, i32, Option<i64>)> =
            query_as("SELECT t, p, since FROM activations WHERE r = ?1")
                .bind(row)
                .fetch_all(&mut tx.conn)
                .await?;
        let since: HashMap<(i64, i32), Option<i64>> =
            since.into_iter().map(|(t, p, since)| ((t, p), since)).collect();
        let read = plan.topics.iter().filter_map(|name| topics.get(name));
        let partitions = read.flat_map(|topic| topic.partitions.keys().map(|p| (topic.t, *p)));
        let all: Option<Vec<i64>> = partitions.map(|at| since.get(&at).copied().flatten()).collect();
        rule.numbers.observed = all.and_then(|all| all.into_iter().max());
        if rule.numbers.observed.is_some() {
            rule.woken = Some(String::new());
        }
    }
    Ok(())
}

/// Makes groups that are watched without having been seen; how many are new, and their bytes.
async fn expect(tx: &mut Tx, made: &[(i64, String, String, i64)]) -> Result<(i64, i64), Error> {
    if made.is_empty() {
        return Ok((0, 0));
    }
    let made = set(made)?;
    let new: Vec<i64> = query_scalar(
        "INSERT INTO groups (r, labels, state, bytes) SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 \
         FROM jsonb_each(?1) WHERE true ON CONFLICT (r, labels) DO NOTHING RETURNING bytes",
    )
    .bind(&made)
    .fetch_all(&mut tx.conn)
    .await?;
    // Before the first decision a group has counts at most.
    query(
        "UPDATE groups SET state = j.value ->> 2, next = 0 FROM jsonb_each(?1) j \
         WHERE r = j.value ->> 0 AND labels = j.value ->> 1",
    )
    .bind(&made)
    .execute(&mut tx.conn)
    .await?;
    Ok((new.len() as i64, new.iter().sum()))
}

/// Makes groups due of rules that have learnt since when they have seen all records, some at a time, by their labels;
/// whether there are more.
async fn wake(tx: &mut Tx, rules: &mut BTreeMap<Uuid, Live>, which: &HashSet<Uuid>) -> Result<bool, Error> {
    let step = tx.options.step.max(1) as i64;
    let mut more = false;
    for (_, rule) in rules.iter_mut().filter(|(uid, _)| which.contains(uid)) {
        let Some(woken) = rule.woken.take() else { continue };
        // Labels are never empty, so each is after the first place.
        let up_to: Option<String> = query_scalar(
            "SELECT labels FROM groups WHERE r = ?1 AND labels > ?2 ORDER BY labels LIMIT 1 OFFSET ?3",
        )
        .bind(rule.object.row)
        .bind(&woken)
        .bind(step - 1)
        .fetch_optional(&mut tx.conn)
        .await?;
        query("UPDATE groups SET next = 0 WHERE r = ?1 AND labels > ?2 AND (?3 IS NULL OR labels <= ?3)")
            .bind(rule.object.row)
            .bind(&woken)
            .bind(&up_to)
            .execute(&mut tx.conn)
            .await?;
        more |= up_to.is_some();
        rule.woken = up_to;
    }
    Ok(more)
}

/// Groups for one step: those named first, then of each rule as many, those that have been due for longest.
async fn choose(
    tx: &mut Tx,
    rules: &BTreeMap<Uuid, Live>,
    which: &HashSet<Uuid>,
    first: &[i64],
    left: &mut Left,
) -> Result<Vec<i64>, Error> {
    let to = rules.iter().filter(|(uid, _)| which.contains(uid));
    let to: Vec<(i64, i64)> = to.filter_map(|(_, rule)| Some((rule.object.row, rule.to()?))).collect();
    let due: Vec<(i64, i64)> = query_as(
        "SELECT j.value ->> 0, j.value ->> 1 FROM jsonb_each(?1) j WHERE EXISTS (SELECT 1 FROM groups x \
         WHERE x.r = j.value ->> 0 AND x.next <= j.value ->> 1)",
    )
    .bind(set(&to)?)
    .fetch_all(&mut tx.conn)
    .await?;
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let step = tx.options.step.max(1);
    let share = (step / due.len()).max(1);
    left.more |= due.len() > step;
    let mut found: Vec<(i64, i64, i64)> = query_as(
        "SELECT g.g, g.r, g.bytes FROM jsonb_each(?1) f JOIN groups g ON g.g = f.value \
         JOIN jsonb_each(?2) j ON g.r = j.value ->> 0 AND g.next <= j.value ->> 1 ORDER BY f.key",
    )
    .bind(set(first)?)
    .bind(set(&due)?)
    .fetch_all(&mut tx.conn)
    .await?;
    let others: Vec<(i64, i64, i64)> = query_as(
        "SELECT g.g, g.r, g.bytes FROM jsonb_each(?1) j JOIN groups g ON g.g IN (SELECT x.g FROM groups x \
         WHERE x.r = j.value ->> 0 AND x.next <= j.value ->> 1 ORDER BY x.next, x.g LIMIT ?2)",
    )
    .bind(set(&due[..due.len().min(step)])?)
    .bind(share as i64 + 1)
    .fetch_all(&mut tx.conn)
    .await?;
    found.extend(others);
    let (mut chosen, mut seen, mut each, mut bytes) =
        (Vec::new(), HashSet::new(), HashMap::<i64, usize>::new(), 0);
    for (g, r, size) in found {
        if !seen.insert(g) {
            continue;
        }
        let of_rule = each.entry(r).or_default();
        if chosen.len() >= step || *of_rule >= share || (bytes + size > STEP_BYTES && !chosen.is_empty()) {
            left.more = true;
            continue;
        }
        *of_rule += 1;
        bytes += size;
        chosen.push(g);
    }
    Ok(chosen)
}

/// These groups, with their buckets.
async fn load(tx: &mut Tx, rules: &BTreeMap<Uuid, Live>, which: &[i64]) -> Result<Vec<Due>, Error> {
    let groups: Vec<Stored> = query_as(
        "SELECT g.g, g.r, g.labels, g.state, g.sample, g.window, g.decided, g.bytes FROM jsonb_each(?1) j \
         JOIN groups g ON g.g = j.value ORDER BY g.g",
    )
    .bind(set(which)?)
    .fetch_all(&mut tx.conn)
    .await?;
    let by_row: HashMap<i64, (&Uuid, &Live)> =
        rules.iter().map(|(uid, rule)| (rule.object.row, (uid, rule))).collect();
    let (mut due, mut which) = (Vec::with_capacity(groups.len()), Vec::with_capacity(groups.len()));
    for (g, row, labels, stored, sample, window, decided, bytes) in groups {
        let Some((uid, rule)) = by_row.get(&row) else { continue };
        let Some(params) = rule.params else { continue };
        let row_bytes = group_bytes(&labels, &stored, sample.as_deref(), window.as_deref());
        let state = serde_json::from_str(&stored)?;
        let buckets = window.map_or(Ok(Vec::new()), |window| unpack(&params, &window))?;
        which.push((g, params.needs_extras(), buckets.last().map_or(i64::MIN, |bucket| bucket.start_ms)));
        let (decisions, to) = (Vec::new(), decided.unwrap_or(i64::MIN));
        let rule = **uid;
        due.push(Due {
            g,
            rule,
            labels,
            stored,
            state,
            sample,
            buckets,
            decided,
            bytes,
            row_bytes,
            decisions,
            to,
        });
    }
    if due.is_empty() {
        return Ok(due);
    }
    let buckets: Vec<(i64, i64, i64, Option<String>)> = query_as(
        "SELECT b.g, b.bucket, b.count, iif(j.value ->> 1, b.extras, NULL) FROM jsonb_each(?1) j \
         JOIN buckets b ON b.g = j.value ->> 0 AND b.bucket > j.value ->> 2 ORDER BY b.g, b.bucket",
    )
    .bind(set(&which)?)
    .fetch_all(&mut tx.conn)
    .await?;
    let mut places: HashMap<i64, usize> = due.iter().enumerate().map(|(at, group)| (group.g, at)).collect();
    for (g, start_ms, count, extras) in buckets {
        let extras = extras.map(|text| serde_json::from_str(&text)).transpose()?;
        if let Some(group) = places.get_mut(&g).and_then(|at| due.get_mut(*at)) {
            group.buckets.push(Bucket { start_ms, count, extras });
        }
    }
    Ok(due)
}

/// The first and the last record of each decision's window, in the order of groups and decisions.
async fn samples(tx: &mut Tx, due: &[Due]) -> Result<Vec<(Option<String>, Option<String>)>, Error> {
    let windows: Vec<(i64, i64, i64)> = due
        .iter()
        .flat_map(|group| {
            group.decisions.iter().map(|decision| (group.g, decision.window_start_ms, decision.window_end_ms))
        })
        .collect();
    if windows.is_empty() {
        return Ok(Vec::new());
    }
    let samples = query_as(
        "SELECT (SELECT b.first FROM buckets b WHERE b.g = j.value ->> 0 AND b.bucket >= j.value ->> 1 \
         AND b.bucket < j.value ->> 2 ORDER BY b.bucket LIMIT 1), \
         (SELECT b.last FROM buckets b WHERE b.g = j.value ->> 0 AND b.bucket >= j.value ->> 1 \
         AND b.bucket < j.value ->> 2 ORDER BY b.bucket DESC LIMIT 1) FROM jsonb_each(?1) j ORDER BY j.key",
    )
    .bind(set(&windows)?)
    .fetch_all(&mut tx.conn)
    .await?;
    Ok(samples)
}

/// The values of `topValues` in each decision's window, by the decision's place.
async fn top(
    tx: &mut Tx,
    due: &[Due],
    rules: &BTreeMap<Uuid, Live>,
) -> Result<HashMap<usize, BTreeMap<String, Values>>, Error> {
    let wants = |uid: &Uuid| {
        let plan = rules.get(uid).and_then(|rule| rule.object.rule());
        plan.is_some_and(|plan| !plan.policy.top_values.is_empty())
    };
    let windows: Vec<(usize, i64, i64, i64)> = due
        .iter()
        .flat_map(|group| group.decisions.iter().map(move |decision| (group, decision)))
        .enumerate()
        .filter(|(_, (group, decision))| decision.notify && wants(&group.rule))
        .map(|(at, (group, decision))| (at, group.g, decision.window_start_ms, decision.window_end_ms))
        .collect();
    let mut all: HashMap<usize, BTreeMap<String, Values>> = HashMap::new();
    if windows.is_empty() {
        return Ok(all);
    }
    let stored: Vec<(i64, String)> = query_as(
        "SELECT j.value ->> 0, b.top FROM jsonb_each(?1) j JOIN buckets b ON b.g = j.value ->> 1 \
         AND b.bucket >= j.value ->> 2 AND b.bucket < j.value ->> 3 WHERE b.top IS NOT NULL",
    )
    .bind(set(&windows)?)
    .fetch_all(&mut tx.conn)
    .await?;
    for (at, text) in stored {
        let values: BTreeMap<String, Values> = serde_json::from_str(&text)?;
        let into = all.entry(usize::try_from(at).unwrap_or(0)).or_default();
        for (name, more) in values {
            merge_values(into.entry(name).or_default(), more, TOP_KEPT);
        }
    }
    Ok(all)
}

/// The decided buckets of a group as one text, so that the next decision reads no row of each; none where rows hold more of
/// them than a count that matters.
fn pack(params: &RuleParams, buckets: &[Bucket], to: i64) -> Result<Option<String>, Error> {
    if params.needs_extras() {
        return Ok(None);
    }
    let width = params.buckets().width();
    let mut before = 0;
    let decided = buckets.iter().filter(|bucket| bucket.start_ms + width <= to);
    let numbers = decided.flat_map(|bucket| {
        let number = bucket.start_ms / width;
        [number - std::mem::replace(&mut before, number), bucket.count]
    });
    Ok(Some(set(&numbers.collect::<Vec<i64>>())?))
}

/// What [`pack`] made a text of.
fn unpack(params: &RuleParams, window: &str) -> Result<Vec<Bucket>, Error> {
    let numbers: Vec<i64> = serde_json::from_str(window)?;
    let mut number = 0;
    let (pairs, _) = numbers.as_chunks::<2>();
    let buckets = pairs.iter().map(|[more, count]| {
        number += more;
        Bucket { start_ms: number * params.buckets().width(), count: *count, extras: None }
    });
    Ok(buckets.collect())
}

/// The group as it is stored, with its own row's bytes; none when nothing of it is worth keeping.
fn row(group: &mut Due, params: &RuleParams, observed: Option<i64>) -> Result<Option<Row>, Error> {
    let to = group.to;
    let keep = params.keep_from(to);
    group.buckets.retain(|bucket| bucket.start_ms >= keep);
    let kept = &group.buckets;
    if kept.is_empty() && group.state.is_blank() {
        return Ok(None);
    }
    // When its last bucket has left the window, there is something to remove.
    let empty = kept.last().map(|bucket| params.left_at(bucket.start_ms));
    let change = next_due(params, &group.state, kept, observed, to);
    let next = [change, empty].into_iter().flatten().min();
    let episode = group.state.episode.as_ref();
    let state = serde_json::to_string(&group.state)?;
    let sample = group.sample.clone().filter(|_| episode.is_some());
    let window = pack(params, kept, to)?;
    let bytes = group_bytes(&group.labels, &state, sample.as_deref(), window.as_deref());
    let (firing, count) = (episode.map(|it| it.since_ms), episode.map_or(0, |it| it.count));
    Ok(Some((group.g, state, firing, count, next, sample, group.state.pending_ms, window, to, bytes)))
}

/// Writes back what was decided: rows with their rule and what each took before; groups that are gone with their rule and
/// bytes; buckets that don't matter any more.
async fn store(
    tx: &mut Tx,
    rules: &mut BTreeMap<Uuid, Live>,
    rows: Vec<(Uuid, i64, Row)>,
    gone: &[(Uuid, i64, i64)],
    old: &[(i64, i64)],
) -> Result<(), Error> {
    let mut freed: HashMap<i64, i64> = HashMap::new();
    if !old.is_empty() {
        let removed: Vec<(i64, i64)> = query_as(
            "DELETE FROM buckets WHERE (g, bucket) IN (SELECT value ->> 0, value ->> 1 FROM jsonb_each(?1)) \
             RETURNING g, 60 + octet_length(first) + octet_length(last) + coalesce(octet_length(extras), 0) \
             + coalesce(octet_length(top), 0)",
        )
        .bind(set(old)?)
        .fetch_all(&mut tx.conn)
        .await?;
        for (g, bytes) in removed {
            *freed.entry(g).or_default() += bytes;
        }
    }
    let mut written = Vec::with_capacity(rows.len());
    for (uid, before, mut row) in rows {
        // From its row's bytes to how much more or less it takes in all.
        row.9 -= before + freed.get(&row.0).copied().unwrap_or(0);
        if let Some(rule) = rules.get_mut(&uid) {
            rule.numbers.bytes += row.9;
        }
        written.push(row);
    }
    if !written.is_empty() {
        query(
            "UPDATE groups SET state = j.value ->> 1, firing = j.value ->> 2, count = j.value ->> 3, \
             next = j.value ->> 4, sample = j.value ->> 5, pending = j.value ->> 6, window = j.value ->> 7, \
             decided = j.value ->> 8, bytes = max(bytes + (j.value ->> 9), 0) \
             FROM jsonb_each(?1) j WHERE g = j.value ->> 0",
        )
        .bind(set(&written)?)
        .execute(&mut tx.conn)
        .await?;
    }
    for (uid, _, bytes) in gone {
        if let Some(rule) = rules.get_mut(uid) {
            rule.numbers.groups -= 1;
            rule.numbers.bytes -= bytes;
        }
    }
    let gone: Vec<i64> = gone.iter().map(|(_, g, _)| *g).collect();
    crate::rules::remove(tx, &gone).await
}
