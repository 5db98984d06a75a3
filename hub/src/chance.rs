//! Randomness as an argument: the jitter of retries. Seeded once in `main`; no secret depends on it.

use std::sync::{Mutex, PoisonError};

use fastrand::Rng;

/// A stream of uniformly distributed numbers.
pub struct Chance(Mutex<Rng>);

impl Chance {
    /// The same seed gives the same stream.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(Rng::with_seed(seed)))
    }

    /// The next number, in `0.0..1.0`.
    pub(crate) fn next(&self) -> f64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }
}
