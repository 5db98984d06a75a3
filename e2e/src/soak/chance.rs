//! Chance that can be repeated: SplitMix64 from the run's seed.
//!
//! Never here: a source of randomness other than the seed.

/// Numbers that look random and are a function of the seed.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Of a seed and what it is for, so that two uses of one seed differ.
    pub fn new(seed: u64, purpose: u64) -> Self {
        Self(mix(seed ^ mix(purpose)))
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Below a bound, which is 1 or more.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    /// Whether something of this probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.fraction() < probability
    }

    /// From 0 to 1.
    pub fn fraction(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Between two instants, ms.
    pub fn between(&mut self, from: i64, to: i64) -> i64 {
        from + self.below((to - from).max(1) as u64) as i64
    }
}

/// Scatters the bits of a number.
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_purpose_others() {
        let take = |seed, purpose| {
            let mut chance = Chance::new(seed, purpose);
            [chance.draw(), chance.draw(), chance.draw()]
        };
        assert_eq!(take(7, 1), take(7, 1));
        assert_ne!(take(7, 1), take(7, 2));
        assert_ne!(take(7, 1), take(8, 1));
    }

    #[test]
    fn numbers_stay_within_their_bounds() {
        let mut chance = Chance::new(1, 1);
        for _ in 0..1000 {
            assert!(chance.below(3) < 3);
            assert!((0.0..1.0).contains(&chance.fraction()));
            assert!((-5..9).contains(&chance.between(-5, 9)));
        }
    }
}
