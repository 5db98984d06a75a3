//! Runs reviews on a few threads of its own. API servers take turns, and for each API server its namespaces do.
//!
//! A namespace has at most one review running, and an address always leaves a thread to others. The number of waiting
//! reviews is bounded. A review whose caller has left is not begun. No thread of the async runtime runs a review.

use std::any::Any;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::Instant;

/// How many reviews run at a time.
pub(crate) const THREADS: usize = 4;
/// How many reviews may wait: in all, of one address, of one namespace.
pub(crate) const WAIT: (usize, usize, usize) = (256, 128, 16);

/// Why a review was not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotReviewed {
    /// Too many reviews wait.
    #[error("{most} reviews of {of} wait already; no more do")]
    Full {
        /// How many may wait.
        most: usize,
        /// Whose reviews they are.
        of: String,
    },
    /// Its time was over before it ran.
    #[error("it was not looked at in time: others are, in pool between namespaces")]
    Late,
    /// The review panicked, which is our bug.
    #[error("the look at it broke off: please report its manifest as a bug of Belfry")]
    Broke,
}

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct PeerQueue {
    /// Namespaces with waiting reviews, the next one first.
    order: VecDeque<String>,
    jobs: HashMap<String, VecDeque<Job>>,
    running: HashSet<String>,
    waiting: usize,
}

#[derive(Default)]
struct QueueState {
    /// Addresses with waiting reviews, the next one first.
    order: VecDeque<IpAddr>,
    peers: HashMap<IpAddr, PeerQueue>,
    waiting: usize,
    ended: bool,
}

struct SharedQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

/// The threads and the queue of reviews. The threads end when this is dropped.
pub(crate) struct ReviewPool(Arc<SharedQueue>);

impl ReviewPool {
    pub(crate) fn start() -> std::io::Result<Self> {
        let inner = Arc::new(SharedQueue { state: Mutex::default(), changed: Condvar::new() });
        for number in 0..THREADS {
            let inner = Arc::clone(&inner);
            let name = format!("admission-{number}");
            std::thread::Builder::new().name(name).spawn(move || inner.work())?;
        }
        Ok(Self(inner))
    }

    /// Runs a job when its turn comes, if that is before `until`.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        peer: IpAddr,
        namespace: &str,
        until: Instant,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotReviewed> {
        let (done, result) = oneshot::channel();
        self.0.put(
            peer,
            namespace,
            Box::new(move || {
                // Skipped if nobody waits for it any more.
                if !done.is_closed() {
                    let result: Result<T, Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(job));
                    let _ = done.send(result.ok());
                }
            }),
        )?;
        match tokio::time::timeout_at(until, result).await {
            Ok(Ok(Some(result))) => Ok(result),
            Ok(_) => Err(NotReviewed::Broke),
            Err(_) => Err(NotReviewed::Late),
        }
    }
}

impl Drop for ReviewPool {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}

impl SharedQueue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, peer: IpAddr, namespace: &str, job: Job) -> Result<(), NotReviewed> {
        let mut state = self.lock();
        let full = |most: usize, of: &str| Err(NotReviewed::Full { most, of: of.to_owned() });
        if state.waiting >= WAIT.0 {
            return full(WAIT.0, "all namespaces");
        }
        let held = state.peers.entry(peer).or_default();
        if held.waiting >= WAIT.1 {
            return full(WAIT.1, "this API server");
        }
        let jobs = held.jobs.entry(namespace.to_owned()).or_default();
        if jobs.len() >= WAIT.2 {
            return full(WAIT.2, &format!("namespace {namespace}"));
        }
        jobs.push_back(job);
        if jobs.len() == 1 {
            held.order.push_back(namespace.to_owned());
        }
        held.waiting += 1;
        state.waiting += 1;
        if !state.order.contains(&peer) {
            state.order.push_back(peer);
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if state.ended {
                return;
            }
            let Some((peer, namespace, job)) = state.next() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            job();
            state = self.lock();
            state.done(peer, &namespace);
            // More reviews may be able to run now than this thread takes.
            self.changed.notify_all();
        }
    }
}

impl QueueState {
    /// Takes the next job whose turn it is, with its address and namespace.
    fn next(&mut self) -> Option<(IpAddr, String, Job)> {
        for at in 0..self.order.len() {
            let address = *self.order.get(at)?;
            let peer = self.peers.get_mut(&address)?;
            if peer.running.len() + 1 >= THREADS {
                continue;
            }
            let free = peer.order.iter().position(|namespace| !peer.running.contains(namespace));
            let Some(namespace) = free.and_then(|at| peer.order.remove(at)) else { continue };
            let jobs = peer.jobs.get_mut(&namespace)?;
            let job = jobs.pop_front()?;
            if jobs.is_empty() {
                peer.jobs.remove(&namespace);
            } else {
                peer.order.push_back(namespace.clone());
            }
            peer.running.insert(namespace.clone());
            peer.waiting -= 1;
            self.waiting -= 1;
            self.order.remove(at);
            if !peer.order.is_empty() {
                self.order.push_back(address);
            }
            return Some((address, namespace, job));
        }
        None
    }

    fn done(&mut self, address: IpAddr, namespace: &str) {
        let Some(peer) = self.peers.get_mut(&address) else { return };
        peer.running.remove(namespace);
        if peer.running.is_empty() && peer.jobs.is_empty() {
            self.peers.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Longer than anything here takes; only a hang lasts so long.
    const HANG: Duration = Duration::from_mins(1);

    fn peer(number: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, number])
    }

    /// A job that goes on until it is let go.
    fn held(begun: &mpsc::Sender<()>) -> (mpsc::Sender<()>, impl FnOnce() + Send + 'static) {
        let (go, gone) = mpsc::channel::<()>();
        let begun = begun.clone();
        (go, move || {
            let _ = begun.send(());
            let _ = gone.recv();
        })
    }

    #[tokio::test]
    async fn a_namespace_that_takes_long_leaves_the_other_threads_to_others() {
        let pool = Arc::new(ReviewPool::start().unwrap());
        let until = Instant::now() + HANG;
        let (begun, begins) = mpsc::channel();
        let (go, job) = held(&begun);
        let slow = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.run(peer(1), "slow", until, job).await }
        });
        tokio::task::spawn_blocking(move || begins.recv_timeout(HANG).unwrap()).await.unwrap();
        // What waits behind it is late, and never begun.
        let soon = Instant::now() + Duration::from_millis(1);
        let behind = pool.run(peer(1), "slow", soon, || panic!("begun")).await;
        assert_eq!(behind, Err(NotReviewed::Late));
        for number in 0..20 {
            assert_eq!(pool.run(peer(1), "other", until, move || number).await, Ok(number));
        }
        drop(go);
        assert_eq!(slow.await.unwrap(), Ok(()));
        assert_eq!(pool.run(peer(1), "slow", until, || 7).await, Ok(7));
    }

    #[tokio::test]
    async fn an_address_with_many_namespaces_leaves_a_thread_to_others_and_is_told_when_too_many_wait() {
        let pool = Arc::new(ReviewPool::start().unwrap());
        let until = Instant::now() + HANG;
        let (begun, _begins) = mpsc::channel();
        let (mut lets_go, mut tasks) = (Vec::new(), Vec::new());
        let running =
            |pool: &ReviewPool| pool.0.lock().peers.get(&peer(1)).map_or(0, |peer| peer.running.len());
        for number in 0..WAIT.1 + THREADS - 1 {
            while running(&pool) < number.min(THREADS - 1) {
                tokio::task::yield_now().await;
            }
            let (go, job) = held(&begun);
            lets_go.push(go);
            let pool = Arc::clone(&pool);
            let namespace = format!("n{number}");
            tasks.push(tokio::spawn(async move { pool.run(peer(1), &namespace, until, job).await }));
        }
        while pool.0.lock().waiting < WAIT.1 {
            // All but one of the threads are taken.
            tokio::task::yield_now().await;
        }
        let full = pool.run(peer(1), "more", until, || ()).await;
        assert_eq!(full.unwrap_err().to_string(), "128 reviews of this API server wait already; no more do");
        assert_eq!(pool.run(peer(2), "n0", until, || 7).await, Ok(7));
        drop(lets_go);
        for task in tasks {
            assert_eq!(task.await.unwrap(), Ok(()));
        }
        let state = pool.0.lock();
        assert_eq!((state.waiting, state.order.len()), (0, 0));
    }

    #[tokio::test]
    async fn a_panic_is_the_trouble_of_its_object_alone() {
        let pool = ReviewPool::start().unwrap();
        let until = Instant::now() + HANG;
        for _ in 0..2 * THREADS {
            assert_eq!(
                pool.run::<()>(peer(1), "a", until, || panic!("poison")).await,
                Err(NotReviewed::Broke)
            );
        }
        assert_eq!(pool.run(peer(1), "a", until, || 7).await, Ok(7));
    }
}
