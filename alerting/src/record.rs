//! A record as it came, and as rules see it.
//!
//! Invariants: both borrow; nothing is copied to look at a record. Never: a record's time from a clock.

use domain::RecordRef;
use jiff::Timestamp;

use crate::document::Node;

/// How far event time may be ahead of [`RawRecord::clock_ms`]. A record further ahead has no window: its clock is wrong, or
/// its alert would come when nobody remembers it. The same as Kafka's `message.timestamp.after.max.ms` unless changed.
pub const MAX_AHEAD: i64 = 3_600_000;

/// The [`RawRecord::clock_ms`] of a record with this timestamp, which is the broker's or a producer's; the reader's clock is
/// `now_ms`. A broker's needs no other clock. Of a producer's, the reader's decides only where it is further ahead of it than
/// [`MAX_AHEAD`], which the broker refuses unless told otherwise (since Kafka 4.0): such a record may be read so late that it
/// is not ahead any more. It moves no event time on, so that what becomes of other records does not depend on that.
pub fn clock_ms(timestamp_ms: i64, is_brokers: bool, now_ms: i64) -> i64 {
    if is_brokers { timestamp_ms } else { timestamp_ms.min(now_ms) }
}

/// A header: its name and its value, which may be null.
pub type Header<'r> = (&'r str, Option<&'r [u8]>);

/// A record as the broker gave it.
#[derive(Debug, Default, Clone, Copy)]
pub struct RawRecord<'r> {
    /// Topic name.
    pub topic: &'r str,
    /// Partition number.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Event time, Unix ms: its timestamp in Kafka until it is known to be elsewhere.
    pub timestamp_ms: i64,
    /// When it was said to be produced, Unix ms: its timestamp in Kafka, but where that is a producer's no later than the
    /// reader's clock ([`clock_ms`]). Whether event time is too far ahead is told by it, nothing else.
    pub clock_ms: i64,
    /// The key's bytes.
    pub key: Option<&'r [u8]>,
    /// The value's bytes; none for a tombstone.
    pub value: Option<&'r [u8]>,
    /// The headers in their order; of those with the same name the last counts.
    pub headers: &'r [Header<'r>],
}

/// A record with its value decoded.
#[derive(Debug, Clone, Copy)]
pub struct Record<'r> {
    /// All but the value.
    pub raw: RawRecord<'r>,
    /// The decoded value.
    pub value: Node<'r>,
}

impl<'r> RawRecord<'r> {
    /// The key, if there is one and it is UTF-8.
    pub fn key_text(&self) -> Option<&'r str> {
        self.key.and_then(|key| std::str::from_utf8(key).ok())
    }

    /// The last header of that name, if there is one whose value is UTF-8.
    pub fn header_text(&self, name: &str) -> Option<&'r str> {
        let (_, value) = self.headers.iter().rev().find(|(header, _)| *header == name)?;
        value.and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Event time; the nearest representable instant where the milliseconds are out of range (year -9999 to 9999).
    pub fn time(&self) -> Timestamp {
        Timestamp::from_millisecond(self.timestamp_ms).unwrap_or(if self.timestamp_ms < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        })
    }

    /// The same, Unix ms.
    pub(crate) fn time_ms(&self) -> i64 {
        self.timestamp_ms.clamp(Timestamp::MIN.as_millisecond(), Timestamp::MAX.as_millisecond())
    }

    /// Whether event time is more than [`MAX_AHEAD`] ahead of when it was said to be produced.
    pub fn is_ahead(&self) -> bool {
        self.timestamp_ms.saturating_sub(self.clock_ms) > MAX_AHEAD
    }

    /// Event time if it is not too far ahead, within the years that a timestamp has.
    pub(crate) fn near_ms(&self) -> Option<i64> {
        (!self.is_ahead()).then(|| self.time_ms())
    }

    /// Where it is.
    pub fn record_ref(&self) -> RecordRef {
        RecordRef {
            time: self.time(),
            topic: self.topic.to_owned(),
            partition: self.partition,
            offset: self.offset,
        }
    }
}
