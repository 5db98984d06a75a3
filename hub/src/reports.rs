//! What workers reported lately: which revisions they run, what they can't do, which partitions they own.
//!
//! Kept only in memory: after a restart the hub hears all of it again within one report interval. Bounded by
//! namespace and in all, so that no namespace fills the memory of all. The caller checks that each object belongs
//! to the worker's namespace.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ledger::WorkerView;
use protocol::messages::{ObjectProblem, Report};
use tokio::sync::Notify;

use crate::peers::{PeerReport, ShownReport};
use crate::refusal::Refusal;

/// How long a report counts.
const COUNTS_FOR: Duration = Duration::from_mins(1);
/// How long a silent worker still counts as the owner of its partitions. After that the ledger waits another minute
/// before it says that nobody owns them.
const OWNS_FOR: Duration = Duration::from_secs(30);
/// Workers of a namespace.
const INSTANCES: usize = 256;
/// Memory of one namespace's reports, bytes. No namespace may hold more than is free for the others.
const BYTES: usize = 4 * 1024 * 1024;
/// Memory of all reports, bytes.
const ALL_BYTES: usize = 48 * 1024 * 1024;
/// Problems of one object, in one report and in all reports together.
const PROBLEMS: usize = 10;
/// Longest message of a problem, characters.
const MESSAGE: usize = 512;
/// Longest instance name, bytes: that of a pod.
const INSTANCE_NAME: usize = 253;

struct Heard {
    report: Report,
    bytes: usize,
    at: Instant,
}

#[derive(Default)]
struct Namespace {
    instances: HashMap<String, Heard>,
    bytes: usize,
}

#[derive(Default)]
struct All {
    namespaces: HashMap<String, Namespace>,
    bytes: usize,
}

/// All reports of the last minute.
#[derive(Default)]
pub(crate) struct Reports {
    all: Mutex<All>,
    /// Wakes the loop that publishes statuses.
    pub(crate) changed: Notify,
}

impl Reports {
    /// Stores a report. The caller has checked that its objects are of the namespace.
    pub(crate) fn put(&self, ns: &str, mut report: Report, at: Instant) -> Result<(), Refusal> {
        if report.instance.is_empty() || report.instance.len() > INSTANCE_NAME {
            return Err(Refusal::invalid("the instance must have a name, of at most 253 bytes"));
        }
        tidy(&mut report);
        let bytes = weight(&report);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let All { namespaces, bytes: total } = &mut *all;
        let namespace = namespaces.entry(ns.to_owned()).or_default();
        let before = namespace.instances.remove(&report.instance);
        let gone = before.as_ref().map_or(0, |before| before.bytes);
        namespace.bytes -= gone;
        *total -= gone;
        if report.leaving {
            // Kept for a minute, since another hub may have an earlier report of it.
            if namespace.instances.len() < INSTANCES
                && namespace.bytes + bytes <= BYTES
                && *total + bytes <= ALL_BYTES
            {
                namespace.bytes += bytes;
                *total += bytes;
                namespace.instances.insert(report.instance.clone(), Heard { report, bytes, at });
            }
            self.changed.notify_one();
            return Ok(());
        }
        let own = namespace.bytes + bytes;
        if namespace.instances.len() >= INSTANCES || own > BYTES || own > ALL_BYTES - *total {
            return Err(Refusal::over_quota(
                format!(
                    "namespace {ns:?} has more workers, or says more of them, than the hub remembers: at most \
                     {INSTANCES} workers and {BYTES} bytes"
                ),
                COUNTS_FOR,
            ));
        }
        namespace.bytes = own;
        *total += bytes;
        let news = before.is_none_or(|before| before.report != report);
        namespace.instances.insert(report.instance.clone(), Heard { report, bytes, at });
        drop(all);
        if news {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// The reports that other hubs should hear of, up to so many bytes.
    pub(crate) fn shown(&self, most: usize, at: Instant) -> Vec<ShownReport> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        let mut shown = Vec::new();
        for (ns, namespace) in &all.namespaces {
            for heard in namespace.instances.values() {
                let age = at.saturating_duration_since(heard.at);
                bytes += heard.bytes;
                if age < COUNTS_FOR && bytes <= most {
                    let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                    shown.push(ShownReport { namespace: ns.clone(), report: heard.report.clone(), age_ms });
                }
            }
        }
        shown
    }

    /// All reports of the last minute, merged, and the number of instances that sent them. Of a worker that has
    /// reported to several hubs the newest report counts.
    pub(crate) fn view(&self, peers: &[PeerReport], at: Instant) -> (WorkerView, usize) {
        let mut view = WorkerView::default();
        let mut instances = 0;
        let mut newest: HashMap<(&str, &str), &PeerReport> = HashMap::new();
        for peer in peers.iter().filter(|peer| at.saturating_duration_since(peer.at) < COUNTS_FOR) {
            let one = newest.entry((&peer.namespace, &peer.report.instance)).or_insert(peer);
            if peer.at > one.at {
                *one = peer;
            }
        }
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let All { namespaces, bytes: total } = &mut *all;
        *total = 0;
        namespaces.retain(|_, namespace| {
            namespace.instances.retain(|_, heard| at.saturating_duration_since(heard.at) < COUNTS_FOR);
            namespace.bytes = namespace.instances.values().map(|heard| heard.bytes).sum();
            *total += namespace.bytes;
            !namespace.instances.is_empty()
        });
        for (ns, namespace) in namespaces.iter() {
            for (instance, heard) in &namespace.instances {
                let key = (ns.as_str(), instance.as_str());
                if newest.get(&key).is_none_or(|peer| peer.at <= heard.at) {
                    newest.remove(&key);
                    instances += usize::from(!heard.report.leaving);
                    merge(&mut view, ns, &heard.report, at.saturating_duration_since(heard.at));
                }
            }
        }
        for peer in newest.values() {
            instances += usize::from(!peer.report.leaving);
            merge(&mut view, &peer.namespace, &peer.report, at.saturating_duration_since(peer.at));
        }
        (view, instances)
    }
}

/// About how much memory a report takes, bytes. Map entries count twice, because a map's leaves may be half empty.
fn weight(report: &Report) -> usize {
    let running: usize = report.running.values().map(|revision| revision.as_str().len() + 128).sum();
    let problem = |it: &ObjectProblem| it.reason.len() + it.message.len() + 128;
    let problems: usize =
        report.problems.values().map(|each| each.iter().map(problem).sum::<usize>() + 128).sum();
    let owned: usize = report.owned.iter().map(|(topic, id, _)| topic.len() + id.len() + 128).sum();
    512 + report.instance.len() + running + problems + owned
}

/// Adds a report that came so long ago.
fn merge(view: &mut WorkerView, ns: &str, report: &Report, age: Duration) {
    if report.leaving {
        return;
    }
    if age < OWNS_FOR
        && let Some(source) = &report.source
    {
        let owned = view.owned.entry((ns.to_owned(), source.to_string())).or_default();
        owned.extend(report.owned.iter().cloned());
    }
    for (uid, revision) in &report.running {
        let revisions: &mut BTreeMap<_, i32> = view.running.entry(*uid).or_default();
        *revisions.entry(revision.clone()).or_default() += 1;
    }
    for (uid, problems) in &report.problems {
        let told = view.problems.entry(*uid).or_default();
        told.extend(problems.iter().cloned());
        while told.len() > PROBLEMS {
            told.pop_last();
        }
    }
}

/// Cuts texts that are too long, and makes each reason a valid reason of a condition.
fn tidy(report: &mut Report) {
    for problems in report.problems.values_mut() {
        problems.truncate(PROBLEMS);
        problems.shrink_to_fit();
        for ObjectProblem { reason, message } in problems.iter_mut() {
            let word = |c: char| c.is_ascii_alphanumeric();
            if reason.is_empty() || reason.len() > 100 || !reason.chars().all(word) {
                "WorkerProblem".clone_into(reason);
            }
            if let Some((cut, _)) = message.char_indices().nth(MESSAGE) {
                message.truncate(cut);
            }
            // Frees the memory of what was cut off.
            reason.shrink_to_fit();
            message.shrink_to_fit();
        }
    }
    report.problems.retain(|_, problems| !problems.is_empty());
}

#[cfg(test)]
mod tests {
    use domain::Digest;
    use uuid::Uuid;

    use super::*;

    const RULE: Uuid = Uuid::from_u128(7);

    fn report(instance: &str) -> Report {
        Report {
            instance: instance.to_owned(),
            running: BTreeMap::from([(RULE, Digest::of("r1"))]),
            problems: BTreeMap::new(),
            owned: vec![("t".to_owned(), "id".to_owned(), 0)],
            source: Some(Digest::of("s")),
            leaving: false,
        }
    }

    fn running(reports: &Reports, at: Instant) -> i32 {
        let (view, _) = reports.view(&[], at);
        view.running.get(&RULE).and_then(|each| each.get(&Digest::of("r1"))).copied().unwrap_or(0)
    }

    #[test]
    fn instances_count_for_a_minute_or_until_they_leave() {
        let reports = Reports::default();
        let at = Instant::now();
        reports.put("a", report("one"), at).expect("taken");
        reports.put("a", report("one"), at).expect("taken again");
        reports.put("a", report("two"), at + Duration::from_secs(30)).expect("taken");
        assert_eq!(running(&reports, at + Duration::from_secs(59)), 2);
        assert_eq!(running(&reports, at + Duration::from_secs(61)), 1);
        let leaving = Report { leaving: true, ..report("two") };
        reports.put("a", leaving, at + Duration::from_secs(61)).expect("taken");
        assert_eq!(running(&reports, at + Duration::from_secs(61)), 0);
    }

    #[test]
    fn a_worker_that_falls_silent_owns_its_partitions_half_a_minute_longer() {
        let reports = Reports::default();
        let at = Instant::now();
        reports.put("a", report("one"), at).expect("taken");
        let owned = |after| !reports.view(&[], at + Duration::from_secs(after)).0.owned.is_empty();
        assert!(owned(29));
        assert!(!owned(31));
        reports.put("a", report("one"), at + Duration::from_secs(40)).expect("taken");
        assert!(owned(41));
        let leaving = Report { leaving: true, ..report("one") };
        reports.put("a", leaving, at + Duration::from_secs(41)).expect("taken");
        assert!(!owned(41));
    }

    #[test]
    fn of_a_worker_that_reported_to_several_hubs_the_newest_report_counts() {
        let (one, other) = (Reports::default(), Reports::default());
        let at = Instant::now();
        let after = |seconds| at + Duration::from_secs(seconds);
        let shown = |now: Instant| -> Vec<PeerReport> {
            let peer = |it: ShownReport| PeerReport {
                at: now.checked_sub(Duration::from_millis(it.age_ms)).expect("after the start"),
                namespace: it.namespace,
                report: it.report,
            };
            other.shown(1 << 20, now).into_iter().map(peer).collect()
        };
        let both = |now| {
            let (view, instances) = one.view(&shown(now), now);
            (view.running.get(&RULE).map_or(0, |each| each.values().sum()), instances)
        };
        one.put("a", report("one"), at).expect("taken");
        other.put("a", report("two"), after(1)).expect("taken");
        other.put("a", report("one"), after(2)).expect("taken");
        assert_eq!(both(after(3)), (2, 2), "a worker counts once");
        other.put("a", Report { leaving: true, ..report("one") }, after(4)).expect("taken");
        assert_eq!(both(after(5)), (1, 1), "it left by the other hub");
        assert_eq!(other.shown(100, after(5)).len(), 0, "what is over the bound is not shown");
        assert_eq!(both(after(66)), (0, 0));
    }

    #[test]
    fn a_namespace_can_not_fill_the_memory() {
        let reports = Reports::default();
        let at = Instant::now();
        let taken = (0..10_000).filter(|n| reports.put("a", report(&n.to_string()), at).is_ok()).count();
        assert_eq!(taken, INSTANCES);
        let large = |instance: &str| Report {
            owned: vec![("t".repeat(249), "i".repeat(64), 0); 5_000],
            ..report(instance)
        };
        for namespace in ["b", "c", "d"] {
            let taken = (0..10).filter(|n| reports.put(namespace, large(&n.to_string()), at).is_ok()).count();
            assert_eq!(taken, 1, "{namespace}");
        }
        assert!(reports.put("e", report("one"), at).is_ok());
        // A worker's next report replaces its earlier one.
        assert!((0..10).all(|_| reports.put("b", large("0"), at).is_ok()));
        let (_, instances) = reports.view(&[], at + COUNTS_FOR);
        assert_eq!((instances, reports.all.lock().expect("unpoisoned").bytes), (0, 0));
    }

    #[test]
    fn problems_of_all_instances_are_joined_and_cut() {
        let reports = Reports::default();
        let at = Instant::now();
        let problem = |reason: &str, message: String| ObjectProblem { reason: reason.to_owned(), message };
        let mut one = report("one");
        one.problems.insert(RULE, vec![problem("TopicNotFound", "é".repeat(5_000))]);
        let mut two = report("two");
        two.problems.insert(RULE, vec![problem("no word", "x".to_owned())]);
        reports.put("a", one, at).expect("taken");
        reports.put("a", two, at).expect("taken");
        let (view, _) = reports.view(&[], at);
        let found: Vec<_> = view.problems[&RULE].iter().collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].message.chars().count(), MESSAGE);
        assert_eq!(found[1].reason, "WorkerProblem");
        for instance in 0..100 {
            let mut more = report(&format!("more-{instance}"));
            more.problems.insert(RULE, vec![problem("Own", format!("of {instance}"))]);
            reports.put("a", more, at).expect("taken");
        }
        assert_eq!(reports.view(&[], at).0.problems[&RULE].len(), PROBLEMS);
    }
}
