//! Buckets and windows.
//!
//! Invariants: buckets are aligned to the Unix epoch and half open, `[start, start + width)`; the window at a boundary
//! is the `count` whole buckets before it. All times are whole milliseconds.
//!
//! Clause E2 of docs/semantics.md.

use domain::Millis;
use serde::{Deserialize, Serialize};

/// How a rule's event time is divided into buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Buckets {
    width: i64,
    count: i64,
}

impl Buckets {
    /// The buckets for a window of this length: `width = max(1 s, min(window / 60, 5 s), ceil(window / 720))` and
    /// `count = clamp(window / width, 1, 720)`.
    pub fn for_window(window: Millis) -> Self {
        let window = window.0.max(1);
        let width =
            (window / 60).min(5_000).max(window.div_euclid(720) + i64::from(window % 720 != 0)).max(1_000);
        Self { width, count: (window / width).clamp(1, 720) }
    }

    /// A bucket's width, ms; at least 1,000.
    pub fn width(&self) -> i64 {
        self.width
    }

    /// Buckets in a window, 1 to 720.
    pub fn count(&self) -> i64 {
        self.count
    }

    /// The window's length, ms.
    pub fn span(&self) -> i64 {
        self.width * self.count
    }

    /// Start of the bucket that holds the instant.
    pub fn start_of(&self, at_ms: i64) -> i64 {
        at_ms.div_euclid(self.width) * self.width
    }

    /// The first boundary at or after the instant.
    pub fn boundary_at_or_after(&self, at_ms: i64) -> i64 {
        let start = self.start_of(at_ms);
        if start == at_ms { start } else { start + self.width }
    }

    /// Start of the window that ends at the boundary.
    pub fn window_start(&self, boundary: i64) -> i64 {
        boundary - self.span()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_follows_the_window_between_one_second_and_a_720th() {
        for (window, width, count) in [
            ("1s", 1_000, 1),
            ("500ms", 1_000, 1),
            ("1m", 1_000, 60),
            ("5m", 5_000, 60),
            ("10m", 5_000, 120),
            ("1h", 5_000, 720),
            ("2h", 10_000, 720),
            ("24h", 120_000, 720),
        ] {
            let buckets = Buckets::for_window(Millis::parse(window).unwrap());
            assert_eq!((buckets.width(), buckets.count()), (width, count), "{window}");
        }
    }

    #[test]
    fn buckets_are_aligned_to_the_epoch_before_it_too() {
        let buckets = Buckets::for_window(Millis::from_secs(60));
        assert_eq!(buckets.start_of(1_999), 1_000);
        assert_eq!(buckets.start_of(2_000), 2_000);
        assert_eq!(buckets.start_of(-1), -1_000);
        assert_eq!(buckets.boundary_at_or_after(2_000), 2_000);
        assert_eq!(buckets.boundary_at_or_after(2_001), 3_000);
    }
}
