//! A lock that is granted in the order in which it was asked for.
//!
//! A caller waits only for those who asked before it, once each, however often others ask again. It must not be held
//! for work whose length a tenant chooses.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A value that one caller at a time can use, in the order of asking.
pub(super) struct FairLock<T> {
    tickets: Mutex<Tickets>,
    called: Condvar,
    held: Mutex<T>,
}

#[derive(Default)]
struct Tickets {
    next: u64,
    now: u64,
}

impl<T> FairLock<T> {
    pub(super) fn new(held: T) -> Self {
        Self { tickets: Mutex::default(), called: Condvar::new(), held: Mutex::new(held) }
    }

    /// Waits for the lock, runs `act`, and releases the lock, also after a panic.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        let mut tickets = lock(&self.tickets);
        let mine = tickets.next;
        tickets.next += 1;
        let waited = self.called.wait_while(tickets, |tickets| tickets.now != mine);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        let _turn = FairLockGuard(self);
        act(&mut lock(&self.held))
    }
}

/// Releases the lock when it is dropped.
struct FairLockGuard<'a, T>(&'a FairLock<T>);

impl<T> Drop for FairLockGuard<'_, T> {
    fn drop(&mut self) {
        lock(&self.0.tickets).now += 1;
        self.0.called.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_again_and_again_does_not_come_before_one_who_waits() {
        let fair = FairLock::new(Vec::new());
        std::thread::scope(|scope| {
            fair.with(|order| {
                scope.spawn(|| fair.with(|order| order.push("neighbour")));
                // It stands in tickets once it has drawn its number.
                while lock(&fair.tickets).next < 2 {
                    std::thread::yield_now();
                }
                order.push("first");
            });
            fair.with(|order| order.push("again"));
        });
        assert_eq!(fair.with(|order| order.clone()), ["first", "neighbour", "again"]);
        let act = std::panic::AssertUnwindSafe(|| fair.with(|_| panic!("our bug")));
        assert!(std::panic::catch_unwind(act).is_err());
        assert_eq!(fair.with(|order| order.len()), 3, "a panic gives the turn back");
    }
}
