//! Chance, as an argument: the jitter of retries. Seeded once in `main`; nothing secret rests on it.

use std::sync::atomic::{AtomicU64, Ordering};

/// A stream of even chances.
pub struct Chance(AtomicU64);

impl Chance {
    /// The same seed gives the same stream.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The next, in `0.0..1.0` (splitmix64).
    pub(crate) fn next(&self) -> f64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_even_and_below_one() {
        let chance = Chance::new(7);
        let drawn: Vec<f64> = (0..10_000).map(|_| chance.next()).collect();
        assert!(drawn.iter().all(|x| (0.0..1.0).contains(x)));
        let mean = drawn.iter().sum::<f64>() / 10_000.0;
        assert!((0.48..0.52).contains(&mean), "{mean}");
    }
}
