//! The budget of one rendering: steps, time, and how large a value may become.
//!
//! Everything that a template makes the renderer do is charged **before** it is done, by the size of what it touches:
//! an expression, an element, a comparison and each 32 bytes are a step. So the steps bound time and memory together,
//! and no value is built without having been charged. Every 512 steps the renderer asks the caller's [`TimeCheck`]
//! whether its time is over.
//!
//! Every loop over data must charge.

/// The most steps of a rendering.
pub const STEPS: u64 = 100_000;
/// The longest text that an expression builds, bytes.
pub const MAX_TEXT: usize = 64 << 10;
/// The longest list that an expression builds, elements.
pub const MAX_ITEMS: usize = 16 << 10;
/// Bytes per step.
const BYTES: usize = 32;
/// Steps between two time checks.
const LOOK: u64 = 512;

/// Marks where a text was cut.
const MARK: &str = "…";

/// Says whether a rendering's time is over, and if so, names the limit: `50ms for a text`.
pub type TimeCheck<'a> = &'a dyn Fn() -> Option<&'static str>;

/// Why a rendering ended without a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// More steps than allowed.
    Steps,
    /// More time than allowed.
    Time(&'static str),
    /// An undefined value, with the expression that used it.
    Undefined(String),
    /// The output is longer than this limit; with as much of it as fits, and a mark at its end.
    Full(usize, String),
    /// Anything else, in words, without the data's values.
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
    /// A full budget; fails if the time is already over.
    pub(crate) fn new(time_check: TimeCheck<'a>) -> Result<Self, Stop> {
        match time_check() {
            Some(which) => Err(Stop::Time(which)),
            None => Ok(Self { used: 0, looked: 0, time_check }),
        }
    }

    /// The steps charged so far.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Charges steps. On an error, what they were for must not be done.
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

/// A text that grows up to a limit, and is charged as it grows.
pub(crate) struct BoundedText {
    pub(crate) text: String,
    limit: usize,
    is_output: bool,
}

impl BoundedText {
    /// A template's output.
    pub(crate) fn output(limit: usize) -> Self {
        Self { text: String::new(), limit, is_output: true }
    }

    /// A text that an expression builds.
    pub(crate) fn value() -> Self {
        Self { text: String::new(), limit: MAX_TEXT, is_output: false }
    }

    /// Appends `more`; charges for it.
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
