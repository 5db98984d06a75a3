//! A budget of steps that bounds how much work is done.
//!
//! It reads no clock: the same question with the same steps has the same answer, however busy the machine is.

/// The steps left for some work. A step is a look at one event, span or occurrence and takes some nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps(u64);

impl Steps {
    /// A budget of `most` steps.
    #[must_use]
    pub const fn new(most: u64) -> Self {
        Self(most)
    }

    /// How many are left.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.0
    }

    /// Takes `count` steps. False if there are fewer; then none is left.
    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> bool {
        let enough = count as u64 <= self.0;
        self.0 = self.0.saturating_sub(count as u64);
        enough
    }
}
