//! Makes the faults: SIGKILL to the main process of a container at a drawn instant, a broker that goes away, and more or fewer
//! consumers.
//!
//! Every other kill, and every kill of a container that has been restarted before, is followed by removing the pod by
//! force, or else the kubelet would wait longer and longer before it starts it again. Never: a stop that the process could
//! notice beforehand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::chance::Chance;
use super::rules::FIRST;
use super::{Settings, now_ms, sleep_until};
use crate::cluster::{Cluster, run_command};
use crate::kafka;

/// A kind of process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// `belfry-worker consume`.
    Consumer,
    /// `belfry-worker send`.
    Send,
    /// `belfry-worker retry`.
    Retry,
    /// `belfry-hub`.
    Hub,
    /// `belfry-operator`.
    Operator,
}

/// All kinds.
pub const KINDS: [FaultKind; 5] =
    [FaultKind::Consumer, FaultKind::Send, FaultKind::Retry, FaultKind::Hub, FaultKind::Operator];
/// A run without at least so many kills of each kind shows nothing.
pub const AT_LEAST: usize = 5;

impl FaultKind {
    /// For the line of figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Send => "send",
            Self::Retry => "retry",
            Self::Hub => "hub",
            Self::Operator => "operator",
        }
    }

    /// The program's name and its first argument, where that tells them apart.
    fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Consumer => ("belfry-worker", "consume"),
            Self::Send => ("belfry-worker", "send"),
            Self::Retry => ("belfry-worker", "retry"),
            Self::Hub => ("belfry-hub", ""),
            Self::Operator => ("belfry-operator", ""),
        }
    }

    fn matches(self, arguments: &[&str]) -> bool {
        let (program, first) = self.program();
        let name = arguments.first().and_then(|path| path.rsplit('/').next());
        name == Some(program) && (first.is_empty() || arguments.get(1) == Some(&first))
    }
}

/// Something that happens at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A process is killed.
    Kill(FaultKind),
    /// The broker is stopped, or killed, and started again after so many ms.
    Broker {
        /// SIGKILL instead of SIGTERM.
        kill: bool,
        /// How long it stays away.
        away_ms: i64,
    },
    /// There are to be so many consumers.
    Scale(i32),
    /// PostgreSQL is stopped as if it crashed, and started again after so many ms.
    Database {
        /// How long it stays away.
        away_ms: i64,
    },
    /// Redis is killed, and started again after so many ms.
    Redis {
        /// How long it stays away.
        away_ms: i64,
    },
    /// A hub's connection to PostgreSQL is cut.
    Cut,
    /// A hub's process is stopped, and goes on after so many ms.
    Pause {
        /// How long it stands still.
        still_ms: i64,
    },
}

/// The faults of a run by their instants, ms from its start: a function of the settings.
pub fn plan(settings: &Settings) -> Vec<(i64, Fault)> {
    let mut chance = Chance::new(settings.seed, 2);
    let length = settings.length_ms();
    // A few more than are asked for: a process may end by itself before it is killed.
    let each = AT_LEAST.max(settings.kills.div_ceil(KINDS.len()) + 1 + settings.kills / 25);
    let mut plan = Vec::new();
    for kind in KINDS {
        for _ in 0..each {
            plan.push((chance.between(3_000, length + 4_000), Fault::Kill(kind)));
        }
    }
    let (shortest, longest) = if settings.short { (2_000, 6_000) } else { (5_000, 20_000) };
    let rounds = if settings.short { 1 } else { (length / 600_000).max(1) };
    for round in 0..rounds {
        let (from, half) = (length * round / rounds, length / rounds / 2);
        for (begin, kill) in [(from, false), (from + half, true)] {
            let at = chance.between(begin + half / 5, begin + half / 2);
            plan.push((at, Fault::Broker { kill, away_ms: chance.between(shortest, longest) }));
        }
    }
    let steps = if settings.short { vec![1, 0] } else { [-1, 0, -2, 0].repeat(3) };
    for (number, step) in (1..).zip(&steps) {
        let at = length * number / (steps.len() as i64 + 1);
        plan.push((at, Fault::Scale(settings.consumers() + step)));
    }
    super::database::plan(settings, &mut chance, &mut plan);
    plan.sort_by_key(|(at, _)| *at);
    plan
}

/// What was done.
#[derive(Debug, Default, Clone)]
pub struct Done {
    /// Kills by kind.
    pub kills: BTreeMap<&'static str, usize>,
    /// How often the broker went away.
    pub broker: usize,
    /// The longest that it was away, ms.
    pub longest_outage_ms: i64,
    /// How often the number of consumers was changed.
    pub scaled: usize,
    /// How often PostgreSQL was stopped.
    pub database: usize,
    /// How often Redis was killed.
    pub redis: usize,
    /// How many connections to PostgreSQL were cut.
    pub cuts: usize,
    /// How often a hub stood still.
    pub pauses: usize,
    /// One line for each, with its instant.
    pub log: Vec<String>,
}

/// Where faults are made.
#[derive(Clone)]
pub struct Faults {
    cluster: Cluster,
    namespace: String,
    logs: PathBuf,
    done: Arc<Mutex<Done>>,
}

/// A process to kill.
#[derive(Debug)]
pub(super) struct Victim {
    pub(super) pid: u32,
    started: String,
    namespace: String,
    pub(super) pod: String,
    folder: PathBuf,
}

impl Faults {
    /// Of the workers in a namespace, and of hub and operator. Logs of pods that are removed are kept in `logs`.
    pub fn new(cluster: &Cluster, namespace: &str, logs: &Path) -> Self {
        Self {
            cluster: cluster.clone(),
            namespace: namespace.to_owned(),
            logs: logs.to_owned(),
            done: Arc::default(),
        }
    }

    /// Makes all faults of a plan; what was done.
    pub async fn make(&self, settings: &Settings, start_ms: i64) -> Done {
        let mut tasks = tokio::task::JoinSet::new();
        let mut chance = Chance::new(settings.seed, 3);
        // Each kind has its own sequence: a slow restart of one delays no other's kill.
        for kind in KINDS {
            let (all, pick) = (self.clone(), Chance::new(settings.seed, chance.draw()));
            let times = plan(settings).into_iter().filter(move |(_, fault)| *fault == Fault::Kill(kind));
            let times: Vec<i64> = times.map(|(at, _)| start_ms + at).collect();
            tasks.spawn(async move { all.kills(kind, &times, pick).await });
        }
        let (all, outages) = (self.clone(), plan(settings));
        tasks.spawn(async move {
            for (at, fault) in outages {
                if let Fault::Broker { kill, away_ms } = fault {
                    sleep_until(start_ms + at).await;
                    all.broker(kill, away_ms).await;
                }
            }
        });
        let (all, steps) = (self.clone(), plan(settings));
        tasks.spawn(async move {
            for (at, fault) in steps {
                if let Fault::Scale(consumers) = fault {
                    sleep_until(start_ms + at).await;
                    all.scale(consumers).await;
                }
            }
        });
        let (all, plan, pick) = (self.clone(), plan(settings), Chance::new(settings.seed, chance.draw()));
        for (at, fault) in plan.iter().copied() {
            if let Fault::Pause { still_ms } = fault {
                let (all, mut pick) = (self.clone(), Chance::new(settings.seed, chance.draw()));
                tasks.spawn(async move {
                    sleep_until(start_ms + at).await;
                    all.pause(still_ms, &mut pick).await;
                });
            }
        }
        tasks.spawn(async move { all.make_database_faults(plan, start_ms, pick).await });
        while let Some(end) = tasks.join_next().await {
            end.expect("faults are made");
        }
        self.done().clone()
    }

    /// The cluster in which they are made.
    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What was done up to now.
    pub(super) fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often the group of the consumers shared out partitions anew since then, as the broker wrote it down. The last
    /// kills do so only after a while.
    pub fn rebalances(&self, since_ms: i64) -> usize {
        let group = format!("belfry.{}.", self.namespace);
        kafka::generations(&self.cluster.kafka, &group, since_ms).len()
    }

    /// Asks for so many consumers. The operator may be down just now: it does so once it is back.
    async fn scale(&self, consumers: i32) {
        let patch = format!(r#"{{"spec":{{"consumers":{{"replicas":{consumers}}}}}}}"#);
        let rule = format!("alertrule/{FIRST}");
        self.cluster.kubectl(&["-n", &self.namespace, "patch", &rule, "--type=merge", "-p", &patch]).await;
        self.note(&format!("{consumers} consumers from now on"));
        self.done().scaled += 1;
    }

    pub(super) fn note(&self, line: &str) {
        println!("      {line}");
        self.done().log.push(format!("{} {line}", now_ms()));
    }

    async fn kills(&self, kind: FaultKind, times: &[i64], mut chance: Chance) {
        for (round, at) in times.iter().enumerate() {
            sleep_until(*at).await;
            let Some(victim) = self.find(kind, &mut chance).await else {
                self.note(&format!("no {} process to kill within a minute", kind.name()));
                continue;
            };
            if !victim.kill().await {
                self.note(&format!("{} {} ended by itself before it was killed", kind.name(), victim.pod));
                continue;
            }
            let again = victim.restarted();
            let fresh = again || round % 2 == 1;
            let what = if fresh { ", pod removed" } else { "" };
            self.note(&format!("SIGKILL {} {} pid {}{what}", kind.name(), victim.pod, victim.pid));
            *self.done().kills.entry(kind.name()).or_default() += 1;
            if fresh {
                keep(&victim.folder, &self.logs);
                let force = ["--force", "--grace-period=0", "--wait=false"];
                let mut args = vec!["-n", &victim.namespace, "delete", "pod", &victim.pod];
                args.extend(force);
                // Gone already is as good.
                let _ = self.cluster.try_kubectl(&args).await;
            }
        }
    }

    pub(super) async fn find(&self, kind: FaultKind, chance: &mut Chance) -> Option<Victim> {
        let namespace = match kind {
            FaultKind::Hub | FaultKind::Operator => "belfry-system",
            FaultKind::Consumer | FaultKind::Send | FaultKind::Retry => &self.namespace,
        };
        let deadline = now_ms() + 60_000;
        while now_ms() < deadline {
            let mut found = victims(kind, namespace, Path::new(&self.cluster.folder));
            if !found.is_empty() {
                found.sort_by_key(|victim| victim.pid);
                let pick = chance.below(found.len() as u64) as usize;
                return Some(found.swap_remove(pick));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    async fn broker(&self, kill: bool, away_ms: i64) {
        let began = now_ms();
        self.cluster.bed(if kill { "kafka-kill" } else { "kafka-stop" }, &[]).await;
        tokio::time::sleep(Duration::from_millis(away_ms as u64)).await;
        self.cluster.bed("kafka-start", &[]).await;
        let away = now_ms() - began;
        self.note(&format!("broker {}, away for {away} ms", if kill { "killed" } else { "stopped" }));
        let mut done = self.done();
        done.broker += 1;
        done.longest_outage_ms = done.longest_outage_ms.max(away);
    }
}

impl Victim {
    /// Kills it and waits until it is gone; false where it was gone before.
    async fn kill(&self) -> bool {
        if start_time(self.pid).as_ref() != Some(&self.started) {
            return false;
        }
        if run_command("kill", &["-9", &self.pid.to_string()], "").await.is_err() {
            return false;
        }
        let deadline = now_ms() + 10_000;
        while start_time(self.pid).as_ref() == Some(&self.started) {
            assert!(now_ms() < deadline, "pid {} does not end after SIGKILL", self.pid);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }

    /// Whether the kubelet has restarted its container before: there is more than its first log.
    fn restarted(&self) -> bool {
        let containers = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        containers.into_iter().any(|container| {
            !container.path().join("0.log").exists() || container.path().join("1.log").exists()
        })
    }
}

/// The processes of a kind in a namespace of this cluster: by their command line, and by their cgroup, which names the pod's
/// uid, which the kubelet's folder of logs names together with namespace and pod.
fn victims(kind: FaultKind, namespace: &str, cluster: &Path) -> Vec<Victim> {
    let mut pods = BTreeMap::new();
    for folder in std::fs::read_dir(cluster.join("podlogs")).into_iter().flatten().flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        if let [of, pod, uid] = name.split('_').collect::<Vec<_>>()[..]
            && of == namespace
        {
            pods.insert(uid.to_owned(), (pod.to_owned(), folder.path()));
        }
    }
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if !kind.matches(&line.split('\0').collect::<Vec<_>>()) {
            continue;
        }
        let cgroup = std::fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
        let pod = pods.iter().find(|(uid, _)| cgroup.contains(uid.as_str()));
        if let (Some((_, (pod, folder))), Some(started)) = (pod, start_time(pid)) {
            let (pod, folder) = (pod.clone(), folder.clone());
            found.push(Victim { pid, started, namespace: namespace.to_owned(), pod, folder });
        }
    }
    found
}

/// When a process began, in the kernel's ticks; none where it is gone or a zombie.
fn start_time(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    (fields.first() != Some(&"Z")).then(|| fields.get(19).map(|field| (*field).to_owned()))?
}

/// Copies a pod's logs before the kubelet removes them.
pub fn keep(folder: &Path, logs: &Path) {
    let Some(name) = folder.file_name() else { return };
    for container in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let to = logs.join(name).join(container.file_name());
        if std::fs::create_dir_all(&to).is_err() {
            return;
        }
        for file in std::fs::read_dir(container.path()).into_iter().flatten().flatten() {
            // A log that is gone meanwhile can't be kept.
            let _ = std::fs::copy(file.path(), to.join(file.file_name()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_enough_of_each_kind_and_the_broker_stopped_and_killed() {
        let plan = plan(&Settings::short(7));
        for kind in KINDS {
            let kills = plan.iter().filter(|(_, fault)| *fault == Fault::Kill(kind)).count();
            assert!(kills > AT_LEAST && kills * KINDS.len() >= Settings::short(7).kills + KINDS.len());
        }
        let broker: Vec<bool> = plan
            .iter()
            .filter_map(|(_, fault)| if let Fault::Broker { kill, .. } = fault { Some(*kill) } else { None })
            .collect();
        assert_eq!(broker, [false, true]);
        let scaled = plan.iter().filter(|(_, fault)| matches!(fault, Fault::Scale(_)));
        assert_eq!(scaled.count(), 2);
    }

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_one_another() {
        assert_eq!(plan(&Settings::short(7)), plan(&Settings::short(7)));
        assert_ne!(plan(&Settings::short(7)), plan(&Settings::short(8)));
    }

    #[test]
    fn outages_of_the_broker_never_overlap_and_leave_it_time_to_start() {
        for seed in 0..200 {
            let mut before = 0;
            for (at, fault) in plan(&Settings::short(seed)) {
                if let Fault::Broker { away_ms, .. } = fault {
                    assert!(at > before, "seed {seed}");
                    before = at + away_ms + 12_000;
                }
            }
        }
    }

    #[test]
    fn a_kind_is_known_by_program_and_first_argument() {
        assert!(FaultKind::Send.matches(&["/belfry-worker", "send", "--hub-url=x", ""]));
        assert!(!FaultKind::Send.matches(&["/belfry-worker", "retry", ""]));
        assert!(FaultKind::Hub.matches(&["/belfry-hub", "--listen=0.0.0.0:8443", ""]));
        assert!(!FaultKind::Hub.matches(&["bash", "/belfry-hub", ""]));
    }
}
