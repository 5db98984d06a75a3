//! The budget of one rendering: steps, time, and how large a value may become.
//!
//! Everything that a template makes the renderer do is charged **before** it is done, by the size of what it touches: an
//! expression, an element, a comparison and each 32 bytes are a step. So the steps bound time and memory together: no value
//! is made that was not charged for. Time is looked at every 512 steps, by a clock that the caller lends.
//!
//! Never: a loop over data that charges nothing; a clock of its own.

/// The most steps that a rendering takes.
pub const STEPS: u64 = 100_000;
/// The longest text that an expression makes, bytes.
pub const MAX_TEXT: usize = 64 << 10;
/// The longest list that an expression makes, elements.
pub const MAX_ITEMS: usize = 16 << 10;
/// How many bytes are a step.
const BYTES: usize = 32;
/// After how many steps the clock is looked at.
const LOOK: u64 = 512;

/// Where a text was cut.
const MARK: &str = "…";

/// Says whether a rendering's time is over, and then which time that was: `50ms for a text`.
pub type TimeCheck<'a> = &'a dyn Fn() -> Option<&'static str>;

/// Why a rendering ended without a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// More steps than allowed.
    Steps,
    /// More time than allowed.
    Time(&'static str),
    /// A value that is not there, by the expression that asked for it.
    Undefined(String),
    /// The output is longer than this: what there was room for, with a mark at its end.
    Full(usize, String),
    /// Anything else, in words and without the data's values.
    Fault(String),
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Steps => write!(f, "more than {STEPS} steps"),
            Self::Time(which) => write!(f, "took longer than {which}"),
            Self::Undefined(name) if name.is_empty() => f.write_str("undefined value"),
            Self::Undefined(name) => write!(f, "undefined value {name:?}"),
            Self::Full(limit, _) => write!(f, "longer than {limit} bytes"),
            Self::Fault(words) => f.write_str(words),
        }
    }
}

/// A fault in words.
pub(crate) fn fault<T>(words: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Fault(words.into()))
}

/// Counts the steps of one rendering.
pub(crate) struct Meter<'a> {
    used: u64,
    looked: u64,
    time_check: TimeCheck<'a>,
}

impl<'a> Meter<'a> {
    /// A full budget, if there is time at all.
    pub(crate) fn new(time_check: TimeCheck<'a>) -> Result<Self, Stop> {
        match time_check() {
            Some(which) => Err(Stop::Time(which)),
            None => Ok(Self { used: 0, looked: 0, time_check }),
        }
    }

    /// Steps that were charged.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Charges so many steps, or refuses: what they were for is then not done.
    pub(crate) fn steps(&mut self, count: usize) -> Result<(), Stop> {
        let used = self.used.saturating_add(count as u64);
        if used > STEPS {
            return Err(Stop::Steps);
        }
        self.used = used;
        if self.used - self.looked >= LOOK {
            self.looked = self.used;
            if let Some(which) = (self.time_check)() {
                return Err(Stop::Time(which));
            }
        }
        Ok(())
    }

    /// Charges for reading or writing so many bytes once.
    pub(crate) fn bytes(&mut self, count: usize) -> Result<(), Stop> {
        self.steps(1 + count / BYTES)
    }

    /// Charges for one more element of a list that has `len`.
    pub(crate) fn element(&mut self, len: usize) -> Result<(), Stop> {
        if len >= MAX_ITEMS {
            return fault(format!("a list of more than {MAX_ITEMS} elements"));
        }
        self.steps(1)
    }
}

/// A text that grows up to a limit, and is charged for as it does.
pub(crate) struct BoundedText {
    pub(crate) text: String,
    limit: usize,
    is_output: bool,
}

impl BoundedText {
    /// What a template puts out.
    pub(crate) fn output(limit: usize) -> Self {
        Self { text: String::new(), limit, is_output: true }
    }

    /// What an expression makes.
    pub(crate) fn value() -> Self {
        Self { text: String::new(), limit: MAX_TEXT, is_output: false }
    }

    /// Appends.
    pub(crate) fn push(&mut self, meter: &mut Meter<'_>, more: &str) -> Result<(), Stop> {
        meter.bytes(more.len())?;
        let room = self.limit - self.text.len();
        if more.len() > room && self.is_output {
            let mut text = std::mem::take(&mut self.text);
            text.push_str(&more[..more.floor_char_boundary(room)]);
            // The mark needs its own room.
            text.truncate(text.floor_char_boundary(self.limit.saturating_sub(MARK.len())));
            text.push_str(MARK);
            return Err(Stop::Full(self.limit, text));
        }
        if more.len() > room {
            return fault(format!("an expression's text is longer than {} bytes", self.limit));
        }
        self.text.push_str(more);
        Ok(())
    }
}
