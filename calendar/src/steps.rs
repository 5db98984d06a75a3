//! What work may cost: steps, counted down inside it.
//!
//! Never: a clock. The same question with the same steps has the same answer, however busy the machine is.

/// Steps that are left for some work. One is a look at one event, stretch or occurrence: some nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps(u64);

impl Steps {
    /// So many.
    #[must_use]
    pub const fn new(most: u64) -> Self {
        Self(most)
    }

    /// How many are left.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.0
    }

    /// Takes so many. False if there are not as many; then none is left.
    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> bool {
        let enough = count as u64 <= self.0;
        self.0 = self.0.saturating_sub(count as u64);
        enough
    }
}
