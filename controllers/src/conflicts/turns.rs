//! A lock that is given in the order in which it was asked for.
//!
//! So nobody waits longer than for what those before do with it, each once, however often others ask again.
//! Never: held for work whose length a tenant chooses.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Something that one at a time has, in turns.
pub(super) struct Turns<T> {
    line: Mutex<Line>,
    called: Condvar,
    held: Mutex<T>,
}

#[derive(Default)]
struct Line {
    next: u64,
    now: u64,
}

impl<T> Turns<T> {
    pub(super) fn new(held: T) -> Self {
        Self { line: Mutex::default(), called: Condvar::new(), held: Mutex::new(held) }
    }

    /// Waits for its turn, and gives it back when `act` is done, also by a panic.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        let mut line = lock(&self.line);
        let mine = line.next;
        line.next += 1;
        let waited = self.called.wait_while(line, |line| line.now != mine);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        let _turn = Turn(self);
        act(&mut lock(&self.held))
    }
}

/// The turn of one who has it.
struct Turn<'a, T>(&'a Turns<T>);

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        lock(&self.0.line).now += 1;
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
        let turns = Turns::new(Vec::new());
        std::thread::scope(|scope| {
            turns.with(|order| {
                scope.spawn(|| turns.with(|order| order.push("neighbour")));
                // It stands in line once it has drawn its number.
                while lock(&turns.line).next < 2 {
                    std::thread::yield_now();
                }
                order.push("first");
            });
            turns.with(|order| order.push("again"));
        });
        assert_eq!(turns.with(|order| order.clone()), ["first", "neighbour", "again"]);
        let act = std::panic::AssertUnwindSafe(|| turns.with(|_| panic!("our bug")));
        assert!(std::panic::catch_unwind(act).is_err());
        assert_eq!(turns.with(|order| order.len()), 3, "a panic gives the turn back");
    }
}
