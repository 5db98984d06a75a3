//! The work queue of one controller: it decides which namespace is reconciled next.
//!
//! The key is the namespace, since channels share their senders, rules share consumers, and schedules clash within one.
//! kube's own `Controller` has objects as keys and does not report a deleted one, whose part of the shared children
//! must be removed.
//!
//! A namespace is reconciled by one task at a time. A wake-up during a run leads to another run. A failed run is
//! retried with growing delay, and a panic counts as a failed run. No namespace waits for the failure of another.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::metrics::Metrics;

/// Wakes a controller.
#[derive(Clone)]
pub struct Waker(mpsc::UnboundedSender<String>);

impl Waker {
    /// Asks for a reconcile of the namespace, soon.
    pub fn wake(&self, namespace: &str) {
        // A controller that has stopped needs no waking.
        let _ = self.0.send(namespace.to_owned());
    }
}

/// The two ends of a queue: the waker, and what the controller receives.
pub fn queue() -> (Waker, mpsc::UnboundedReceiver<String>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Waker(sender), receiver)
}

/// One controller.
pub trait Reconciler: Send + Sync + 'static {
    /// Its name, a label of metrics and the field manager's suffix.
    const NAME: &'static str;

    /// Makes one namespace as its objects want it. Returns after what time to reconcile again even if nothing changes.
    fn reconcile(
        &self,
        namespace: String,
    ) -> impl Future<Output = Result<Option<Duration>, crate::cluster::Error>> + Send;
}

/// How long changes are collected before a run.
const GATHER: Duration = Duration::from_millis(100);
/// Namespaces reconciled at the same time.
const AT_ONCE: usize = 8;

/// Delay before the n-th retry, from 1: 1 s doubling to 1 min.
fn delay(failures: u32) -> Duration {
    Duration::from_secs(1_u64 << failures.saturating_sub(1).min(6)).min(Duration::from_mins(1))
}

/// Runs for as long as somebody holds a [`Waker`].
pub async fn run<R: Reconciler>(
    reconciler: Arc<R>,
    mut wakes: mpsc::UnboundedReceiver<String>,
    metrics: Metrics,
) {
    let mut due: HashMap<String, Instant> = HashMap::new();
    let mut failures: HashMap<String, u32> = HashMap::new();
    let mut busy: HashSet<String> = HashSet::new();
    let mut running: FuturesUnordered<Pin<Box<dyn Future<Output = Ran> + Send>>> = FuturesUnordered::new();
    loop {
        let next = due
            .iter()
            .filter(|(namespace, _)| busy.len() < AT_ONCE && !busy.contains(*namespace))
            .min_by_key(|(_, at)| **at)
            .map(|(namespace, at)| (namespace.clone(), *at));
        tokio::select! {
            woken = wakes.recv() => {
                let Some(namespace) = woken else { return };
                let soon = Instant::now() + GATHER;
                due.entry(namespace).and_modify(|at| *at = soon.min(*at)).or_insert(soon);
            }
            Some((namespace, again)) = running.next(), if !running.is_empty() => {
                busy.remove(&namespace);
                let again = if let Ok(again) = again {
                    failures.remove(&namespace);
                    again
                } else {
                    let failures = failures.entry(namespace.clone()).or_default();
                    *failures += 1;
                    Some(delay(*failures))
                };
                if let Some(again) = again {
                    let at = Instant::now() + again;
                    due.entry(namespace).and_modify(|due| *due = at.min(*due)).or_insert(at);
                }
            }
            () = tokio::time::sleep_until(next.as_ref().map_or_else(Instant::now, |(_, at)| *at)), if next.is_some() => {
                if let Some((namespace, _)) = next {
                    due.remove(&namespace);
                    busy.insert(namespace.clone());
                    running.push(Box::pin(once(Arc::clone(&reconciler), namespace, metrics.clone())));
                }
            }
        }
        metrics.queue_depth(R::NAME, due.len());
    }
}

/// A namespace, and after what time to reconcile it again, or that its run failed.
type Ran = (String, Result<Option<Duration>, ()>);

async fn once<R: Reconciler>(reconciler: Arc<R>, namespace: String, metrics: Metrics) -> Ran {
    let started = Instant::now();
    let task = {
        let namespace = namespace.clone();
        tokio::spawn(async move { reconciler.reconcile(namespace).await })
    };
    let result = match task.await {
        Ok(Ok(again)) => Ok(again),
        Ok(Err(error)) => {
            tracing::warn!(controller = R::NAME, namespace, reason = error.reason(), error = %error.chain(), "reconcile failed; it comes again");
            Err(())
        }
        Err(_) => {
            tracing::error!(controller = R::NAME, namespace, "reconcile broke off; it comes again");
            Err(())
        }
    };
    metrics.reconciled(R::NAME, result.is_ok(), started.elapsed());
    (namespace, result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    struct Counts {
        runs: Mutex<HashMap<String, usize>>,
        ran: Notify,
        at_once: AtomicUsize,
        most: AtomicUsize,
    }

    impl Reconciler for Counts {
        const NAME: &'static str = "test";

        async fn reconcile(&self, namespace: String) -> Result<Option<Duration>, crate::cluster::Error> {
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            *self.runs.lock().unwrap().entry(namespace.clone()).or_default() += 1;
            self.ran.notify_one();
            assert!(namespace != "poison", "poison");
            Ok(None)
        }
    }

    fn start() -> (Arc<Counts>, Waker) {
        let counts = Arc::new(Counts {
            runs: Mutex::default(),
            ran: Notify::new(),
            at_once: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let (waker, woken) = queue();
        tokio::spawn(run(Arc::clone(&counts), woken, Metrics::new()));
        (counts, waker)
    }

    async fn wait(counts: &Counts, namespace: &str, runs: usize) {
        while counts.runs.lock().unwrap().get(namespace).copied().unwrap_or(0) < runs {
            counts.ran.notified().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_wakes_are_one_run_and_a_wake_during_a_run_is_another() {
        let (counts, waker) = start();
        (0..10).for_each(|_| waker.wake("a"));
        tokio::time::sleep(GATHER + Duration::from_millis(10)).await;
        waker.wake("a");
        wait(&counts, "a", 2).await;
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(counts.runs.lock().unwrap()["a"], 2);
        assert_eq!(counts.most.load(Ordering::SeqCst), 1, "one run of a namespace at a time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_panics_comes_again_and_its_neighbour_goes_on() {
        let (counts, waker) = start();
        waker.wake("poison");
        waker.wake("good");
        wait(&counts, "good", 1).await;
        wait(&counts, "poison", 3).await;
    }
}
