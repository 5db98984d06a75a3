//! The background loops, which own the clock. Each does one thing at its pace, logs when it begins to fail, and
//! goes on.
//!
//! No loop decides: it tells the ledger the time, and the ledger applies its own rules. Running twice changes
//! nothing.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::Millis;
use ledger::{Error, Signal};
use protocol::messages::{ObjectProblem, StatusBody};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::clock;
use crate::health::Health;
use crate::metrics::LoopLabel;
use crate::peers;
use crate::wakeups::{self, Redis};

/// How long one run of batches may take. Then the loop reports that it is alive, and the next run goes on.
const RUN: Duration = Duration::from_secs(5);
/// The shortest time between two publications of statuses.
const PUBLISH_PACE: Duration = Duration::from_millis(250);
/// The longest time between two publications of statuses.
const PUBLISH_IDLE: Duration = Duration::from_secs(1);

/// How often a hub asks what others have changed.
const CATCH_UP_PACE: Duration = Duration::from_millis(250);

/// What the loops need besides the ledger.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) keep_delivered: Millis,
    pub(crate) keep_dead: Millis,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) redis_url_file: Option<PathBuf>,
}

/// One loop: its name, its pace and its present failure.
struct BackgroundLoop {
    name: &'static str,
    pace: Duration,
    app: App,
    health: Arc<Health>,
    failing: Option<String>,
}

impl BackgroundLoop {
    /// Records the result of a run. Logs a failure when it begins, changes or ends.
    fn ended(&mut self, result: Result<(), Error>) {
        // A writer that has ended does not come back: the probe fails, and Kubernetes restarts the process.
        if result != Err(Error::Closed) {
            self.health.beat(self.name, self.pace, Instant::now());
        } else if !self.app.stop.is_cancelled() {
            self.health.writer_ended();
        }
        let failure = result.err().filter(|error| *error != Error::Closed);
        if let Some(error) = &failure {
            self.app.faults.note(error);
            self.app.metrics.loop_failures.get_or_create(&LoopLabel { task: self.name }).inc();
        }
        let failure = failure.map(|error| error.to_string());
        if failure != self.failing {
            if let Some(error) = &failure {
                tracing::error!(task = self.name, error, "a background loop fails, and goes on");
            } else {
                tracing::info!(task = self.name, "a background loop works again");
            }
            self.failing = failure;
        }
    }
}

/// Starts all loops; they end when the app stops.
pub(crate) fn start(app: &App, health: &Arc<Health>, settings: &Settings, tasks: &TaskTracker) {
    let seconds = Duration::from_secs;
    let run = |name, pace| {
        // Counted from the start, so that a hanging first run is noticed too.
        health.beat(name, pace, Instant::now());
        app.metrics.loop_failures.get_or_create(&LoopLabel { task: name }).inc_by(0);
        BackgroundLoop { name, pace, app: app.clone(), health: health.clone(), failing: None }
    };
    tasks.spawn(every(
        run("leases", seconds(1)),
        |app, _| async move {
            give_up_abandoned(&app).await?;
            batches(app, |app| async move {
                Ok(app.ledger.expire_leases(clock::now(), app.chance.next()).await? > 0)
            })
            .await
        },
        settings.clone(),
    ));
    tasks.spawn(every(
        run("expiry", seconds(5)),
        |app, _| batches(app, |app| async move { Ok(app.ledger.expire_deliveries(clock::now()).await? > 0) }),
        settings.clone(),
    ));
    tasks.spawn(every(
        run("collect", seconds(10)),
        |app, _| {
            batches(app, |app| async move {
                let collected = app.ledger.collect(clock::now()).await?;
                if collected > 0 {
                    tracing::info!(collected, "state of deleted objects is forgotten");
                }
                Ok(collected > 0)
            })
        },
        settings.clone(),
    ));
    tasks.spawn(every(
        run("decide", seconds(5)),
        |app, _| async move { app.ledger.resume_deciding(clock::now()).await },
        settings.clone(),
    ));
    tasks.spawn(every(run("chores", seconds(1)), chores, settings.clone()));
    tasks.spawn(every(run("prune", seconds(2)), prune, settings.clone()));
    tasks.spawn(every(run("measure", seconds(10)), measure, settings.clone()));
    tasks.spawn(publish(run("statuses", PUBLISH_IDLE)));
    if app.ledger.is_shared() {
        app.sessions.others_are_known(false);
        let heard = Arc::new(Notify::new());
        if let Some(url_file) = settings.redis_url_file.clone() {
            let redis = Redis::new(url_file, app.ledger.id());
            wakeups::start(app, redis, Arc::clone(&heard), tasks);
        }
        tasks.spawn(catch_up(run("catch-up", CATCH_UP_PACE), heard));
        tasks.spawn(every(
            run("peers", seconds(1)),
            |app, _| async move { peers::exchange(&app).await },
            settings.clone(),
        ));
    }
}

/// Learns what other hubs have changed, at the loop's pace and when another hub says that there is something.
async fn catch_up(mut runs: BackgroundLoop, heard: Arc<Notify>) {
    loop {
        tokio::select! {
            () = runs.app.stop.cancelled() => return,
            () = tokio::time::sleep(runs.pace) => {}
            () = heard.notified() => {}
        }
        let result = runs.app.ledger.catch_up().await;
        runs.ended(result);
    }
}

/// Runs at the loop's pace. If a run takes longer than that, the missed ones are not made up for.
async fn every<F, R>(mut runs: BackgroundLoop, run: F, settings: Settings)
where
    F: Fn(App, Settings) -> R,
    R: Future<Output = Result<(), Error>>,
{
    let mut ticks = tokio::time::interval(runs.pace);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = runs.app.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let result = run(runs.app.clone(), settings.clone()).await;
        runs.ended(result);
    }
}

/// Runs batches until one says that there is no more, for at most [`RUN`]. After each it pauses for as long as the
/// batch took, so that no loop keeps the writer from the others.
async fn batches<F, R>(app: App, batch: F) -> Result<(), Error>
where
    F: Fn(App) -> R,
    R: Future<Output = Result<bool, Error>>,
{
    let begun = Instant::now();
    while !app.stop.is_cancelled() && begun.elapsed() < RUN {
        let before = Instant::now();
        if !batch(app.clone()).await? {
            break;
        }
        tokio::time::sleep(before.elapsed().min(Duration::from_secs(1))).await;
    }
    Ok(())
}

/// Gives up the attempts of workers that are gone.
async fn give_up_abandoned(app: &App) -> Result<(), Error> {
    let mut result = Ok(());
    for (ns, pool, there) in app.sessions.changed_pools(Instant::now()) {
        let ended =
            app.ledger.end_abandoned_attempts(&ns, pool, there, clock::now(), app.chance.next()).await;
        match ended {
            Ok(0) => continue,
            Ok(attempts) => {
                tracing::info!(namespace = ns, ?pool, attempts, "a worker is gone: its attempts go on");
            }
            Err(error) => result = Err(error),
        }
        app.sessions.mark_changed(&ns, pool);
    }
    result
}

/// Does work that commands left behind: a batch of each namespace in turn.
async fn chores(app: App, _: Settings) -> Result<(), Error> {
    let last = Arc::new(Mutex::new(String::new()));
    batches(app, |app| {
        let last = Arc::clone(&last);
        async move {
            let after = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let done = app.ledger.run_chore(&after, clock::now()).await?;
            let more = done.is_some();
            *last.lock().unwrap_or_else(PoisonError::into_inner) = done.unwrap_or_default();
            Ok(more)
        }
    })
    .await
}

async fn prune(app: App, settings: Settings) -> Result<(), Error> {
    app.attempts.tidy(Instant::now());
    let (delivered, dead) = (settings.keep_delivered, settings.keep_dead);
    batches(app, |app| async move {
        let pruned = app.ledger.prune(clock::now(), delivered, dead).await?;
        app.metrics.pruned.inc_by(pruned.notifications);
        app.metrics.pruned_letters.inc_by(pruned.letters);
        Ok(pruned.more)
    })
    .await
}

async fn measure(app: App, settings: Settings) -> Result<(), Error> {
    let mut bytes = 0;
    for file in &settings.files {
        // The write-ahead log may not exist yet.
        bytes += tokio::fs::metadata(file).await.map_or(0, |meta| meta.len());
    }
    let folder = settings.files.first().and_then(|file| file.parent()).map(std::path::Path::to_owned);
    // On a blocking thread, since a hanging volume blocks it.
    let volume = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&folder?).ok()).await;
    if let Ok(Some(volume)) = volume {
        let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(volume.f_frsize)).unwrap_or(i64::MAX);
        app.metrics.volume_bytes.set(bytes(volume.f_blocks));
        app.metrics.volume_free_bytes.set(bytes(volume.f_bavail));
    }
    app.metrics.database_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    let counts = app.ledger.totals().await;
    app.metrics.set_ledger(app.ledger.writer_metrics(), counts.as_ref().ok().cloned(), clock::now());
    match counts {
        // A failed read does not mark the storage as failing: it is counted, and the numbers stay as they were.
        Err(error) if error != Error::Closed => drop(app.faults.read_result::<()>(Err(error))),
        counts => drop(counts?),
    }
    Ok(())
}

/// Loads from the stored statuses which rules' templates failed lately. Without it, a restart of the hub would
/// clear those problems too early.
async fn restore(app: &App) -> Result<(), Error> {
    let mut after = 0;
    loop {
        let feed = app.ledger.feed(after).await?;
        if feed.objects.is_empty() {
            return Ok(());
        }
        after = feed.version;
        for status in feed.objects.into_iter().filter(|it| matches!(it.body, StatusBody::AlertRule(_))) {
            for problem in status.problems {
                if problem.reason == ObjectProblem::TEMPLATE_FAILED {
                    app.texts.restore(status.uid, problem.message, Instant::now());
                }
            }
        }
    }
}

/// Publishes statuses when something changed: transitions at once, everything else once a second.
async fn publish(mut runs: BackgroundLoop) {
    let app = runs.app.clone();
    if let Err(error) = restore(&app).await {
        tracing::warn!(%error, "which templates failed before the start is not known");
    }
    let mut changed = app.ledger.watch(&Signal::Statuses);
    loop {
        changed.borrow_and_update();
        let (view, instances) = app.peers.view(&app, Instant::now());
        app.metrics.instances.set(instances as i64);
        let result = app.ledger.publish_statuses(Arc::new(view), clock::now()).await;
        if let Ok(published) = &result {
            app.metrics.statuses.inc_by(*published);
            // This loop writes first what could not be written before, because that stays dirty.
            app.faults.worked(Instant::now());
        }
        runs.ended(result.map(drop));
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = tokio::time::sleep(PUBLISH_PACE) => {}
        }
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = tokio::time::sleep(PUBLISH_IDLE.saturating_sub(PUBLISH_PACE)) => {}
            () = app.reports.changed.notified() => {}
            news = changed.changed() => if news.is_err() { return },
        }
    }
}
