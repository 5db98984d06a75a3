//! Faults of a run with several hubs: PostgreSQL that stops at once, connections that are cut, Redis that is killed, and a hub that
//! stands still.

use std::path::Path;
use std::time::Duration;

use super::Settings;
use super::chance::Chance;
use super::faults::{Fault, FaultKind, Faults};
use super::now_ms;
use crate::cluster::run_command;

/// Adds the faults to a plan, ms from its start.
pub(super) fn plan(settings: &Settings, chance: &mut Chance, plan: &mut Vec<(i64, Fault)>) {
    if settings.hubs < 2 {
        return;
    }
    let length = settings.length_ms();
    let (stops, cuts, (shortest, longest), still_ms) =
        if settings.short { (1, 5, (1_000, 4_000), 12_000) } else { (3, 30, (3_000, 15_000), 60_000) };
    for round in 0..stops {
        let from = length * round / stops;
        let at = chance.between(from + length / stops / 4, from + length / stops / 2);
        plan.push((at, Fault::Database { away_ms: chance.between(shortest, longest) }));
    }
    plan.push((length / 2, Fault::Redis { away_ms: if settings.short { 20_000 } else { 60_000 } }));
    for _ in 0..cuts {
        plan.push((chance.between(3_000, length), Fault::Cut));
    }
    plan.push((chance.between(length / 10, length / 2), Fault::Pause { still_ms }));
}

impl Faults {
    /// Makes those faults of a plan that are the database's, one after the other.
    pub(super) async fn make_database_faults(
        &self,
        plan: Vec<(i64, Fault)>,
        start_ms: i64,
        mut chance: Chance,
    ) {
        for (at, fault) in plan {
            super::sleep_until(start_ms + at).await;
            match fault {
                Fault::Database { away_ms } => self.stop_database(away_ms).await,
                Fault::Cut => self.cut(&mut chance).await,
                Fault::Redis { away_ms } => self.stop_redis(away_ms).await,
                Fault::Kill(_) | Fault::Broker { .. } | Fault::Scale(_) | Fault::Pause { .. } => {}
            }
        }
    }

    async fn stop_database(&self, away_ms: i64) {
        self.cluster().bed("postgres-stop", &[]).await;
        tokio::time::sleep(Duration::from_millis(away_ms as u64)).await;
        self.cluster().bed("postgres-start", &[]).await;
        self.note(&format!("PostgreSQL stopped at once, away for {away_ms} ms"));
        self.done().database += 1;
    }

    async fn stop_redis(&self, away_ms: i64) {
        self.cluster().bed("redis-stop", &[]).await;
        tokio::time::sleep(Duration::from_millis(away_ms as u64)).await;
        self.cluster().bed("redis-start", &[]).await;
        self.note(&format!("Redis killed, away for {away_ms} ms"));
        self.done().redis += 1;
    }

    /// Ends one of the server's processes that serve a hub, as `pg_terminate_backend` does.
    async fn cut(&self, chance: &mut Chance) {
        let serving = serving(Path::new(&self.cluster().folder));
        let Some(pid) = serving.get(chance.below(serving.len().max(1) as u64) as usize) else {
            self.note("no connection to cut");
            return;
        };
        if run_command("kill", &["-15", &pid.to_string()], "").await.is_ok() {
            self.note(&format!("connection of server process {pid} cut"));
            self.done().cuts += 1;
        }
    }

    /// Stops a hub's process for some time, and lets it go on.
    pub(super) async fn pause(&self, still_ms: i64, chance: &mut Chance) {
        let Some(hub) = self.find(FaultKind::Hub, chance).await else { return };
        let pid = hub.pid.to_string();
        let began = now_ms();
        if run_command("kill", &["-STOP", &pid], "").await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(still_ms as u64)).await;
        // It may have been killed meanwhile: that counts as a pause too.
        let _ = run_command("kill", &["-CONT", &pid], "").await;
        self.note(&format!("hub {} stood still for {} ms", hub.pod, now_ms() - began));
        self.done().pauses += 1;
    }
}

/// The processes of a cluster's PostgreSQL that serve a connection.
fn serving(cluster: &Path) -> Vec<u32> {
    let server = std::fs::read_to_string(cluster.join("postgres/data/postmaster.pid")).unwrap_or_default();
    let Some(server) = server.lines().next().map(str::to_owned) else { return Vec::new() };
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let read = |name: &str| std::fs::read(process.path().join(name)).unwrap_or_default();
        let (title, stat) = (read("cmdline"), read("stat"));
        let stat = String::from_utf8_lossy(&stat).into_owned();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
        if title.starts_with(b"postgres: belfry ") && parent == Some(server.as_str()) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found
}
