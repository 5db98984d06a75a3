//! The queue of commands that wait for the writer. Namespaces take turns.
//!
//! Invariants: within a namespace, first come, first served. Between namespaces, one command each, so a namespace
//! that sends a thousand commands delays another's next command by one. A command whose caller has left is skipped if
//! nobody else needs it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Error;
use crate::writer::QueuedCommand;

/// How many commands of one namespace may wait. Beyond that, the caller gets an error.
const MAX_WAITING: usize = 4_096;
/// From this many waiting commands on, those whose callers have left are dropped.
const DROP_ABANDONED_FROM: usize = 64;

#[derive(Default)]
pub(crate) struct Queue(Mutex<QueueState>);

#[derive(Default)]
struct QueueState {
    /// By namespace, without empty queues.
    waiting: HashMap<String, VecDeque<Box<dyn QueuedCommand>>>,
    /// Namespaces with waiting commands, in the order of their turns.
    turns: VecDeque<String>,
    len: usize,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, namespace: String, job: Box<dyn QueuedCommand>) -> Result<(), Error> {
        let mut all = self.lock();
        let QueueState { waiting, turns, len, closed } = &mut *all;
        if *closed {
            return Err(Error::Closed);
        }
        let waiters = waiting.entry(namespace.clone()).or_insert_with(|| {
            turns.push_back(namespace.clone());
            VecDeque::new()
        });
        if waiters.len() >= DROP_ABANDONED_FROM && waiters.len().is_power_of_two() {
            let before = waiters.len();
            waiters.retain(|job| !job.abandoned());
            *len -= before - waiters.len();
        }
        // The hub's own loops have no namespace; they are few.
        if waiters.len() >= MAX_WAITING && !namespace.is_empty() {
            return Err(Error::OverQuota {
                namespace,
                what: "requests that wait to be stored",
                limit: MAX_WAITING as i64,
                retry: protocol::messages::DEFAULT_RETRY,
            });
        }
        waiters.push_back(job);
        *len += 1;
        Ok(())
    }

    /// How many commands wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().len
    }

    /// Takes the next command and passes the turn on to the next namespace.
    pub(crate) fn next(&self) -> Option<Box<dyn QueuedCommand>> {
        let mut all = self.lock();
        while let Some(namespace) = all.turns.pop_front() {
            let mut found = None;
            let mut taken = 0;
            if let Some(waiters) = all.waiting.get_mut(&namespace) {
                while let Some(job) = waiters.pop_front() {
                    taken += 1;
                    if !job.abandoned() {
                        found = Some(job);
                        break;
                    }
                }
                if waiters.is_empty() {
                    all.waiting.remove(&namespace);
                } else {
                    all.turns.push_back(namespace);
                }
            }
            all.len -= taken;
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Refuses further commands; those that wait are still done.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::writer::CommandFuture;

    thread_local! {
        static DONE: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
    }

    struct Named(&'static str, Arc<AtomicBool>);

    impl QueuedCommand for Named {
        fn abandoned(&self) -> bool {
            self.1.load(Ordering::Relaxed)
        }

        fn run<'a>(&'a mut self, _: &'a mut crate::writer::Tx) -> CommandFuture<'a> {
            Box::pin(async { Ok(()) })
        }

        fn answer(self: Box<Self>, _: Option<Error>) {
            DONE.with_borrow_mut(|done| done.push(self.0));
        }
    }

    fn push(queue: &Queue, namespace: &str, name: &'static str) -> Result<(), Error> {
        queue.push(namespace.to_owned(), Box::new(Named(name, Arc::default())))
    }

    fn order(queue: &Queue) -> Vec<&'static str> {
        while let Some(job) = queue.next() {
            job.answer(None);
        }
        DONE.take()
    }

    #[test]
    fn a_namespace_with_a_thousand_commands_delays_another_by_one() {
        let queue = Queue::default();
        for _ in 0..1_000 {
            push(&queue, "busy", "busy").unwrap();
        }
        push(&queue, "quiet", "first").unwrap();
        push(&queue, "quiet", "second").unwrap();
        assert_eq!(queue.len(), 1_002);
        let order = order(&queue);
        assert_eq!(order[..5], ["busy", "first", "busy", "second", "busy"]);
        assert_eq!((order.len(), queue.len()), (1_002, 0));
    }

    #[test]
    fn commands_whose_callers_left_take_no_turn_and_no_room() {
        let queue = Queue::default();
        let left = Arc::new(AtomicBool::new(false));
        for _ in 0..DROP_ABANDONED_FROM {
            queue.push("a".to_owned(), Box::new(Named("left", left.clone()))).unwrap();
        }
        left.store(true, Ordering::Relaxed);
        push(&queue, "a", "there").unwrap();
        assert_eq!(queue.len(), 1);
        assert_eq!(order(&queue), ["there"]);
    }

    #[test]
    fn over_the_bound_that_namespace_alone_is_told_so() {
        let queue = Queue::default();
        for _ in 0..MAX_WAITING {
            push(&queue, "a", "a").unwrap();
        }
        let error = push(&queue, "a", "more").unwrap_err();
        assert!(matches!(&error, Error::OverQuota { namespace, .. } if namespace == "a"), "{error}");
        push(&queue, "b", "b").unwrap();
    }
}
