//! A Kafka record, raw and decoded.
//!
//! Invariant: both types borrow; looking at a record copies nothing.

use domain::RecordRef;
use jiff::Timestamp;

use crate::document::Node;

/// How far event time may be ahead of [`RawRecord::clock_ms`], ms. A record further ahead is not counted: its clock is
/// wrong, or its alert would come when nobody remembers it. The default of Kafka's `message.timestamp.after.max.ms`.
pub const MAX_AHEAD: i64 = 3_600_000;

/// The [`RawRecord::clock_ms`] of a record with this Kafka timestamp, read at `now_ms`.
///
/// A broker's timestamp stands as it is. A producer's timestamp is capped at the reader's clock. That matters only if
/// it is more than [`MAX_AHEAD`] ahead of the clock, which brokers refuse by default (since Kafka 4.0); such a record
/// may also be read so late that it is not ahead any more. It never advances event time, so what happens to other
/// records does not depend on it.
pub fn clock_ms(timestamp_ms: i64, is_brokers: bool, now_ms: i64) -> i64 {
    if is_brokers { timestamp_ms } else { timestamp_ms.min(now_ms) }
}

/// A header: its name and its value, which may be null.
pub type Header<'r> = (&'r str, Option<&'r [u8]>);

/// A record as the broker delivered it.
#[derive(Debug, Default, Clone, Copy)]
pub struct RawRecord<'r> {
    /// Topic name.
    pub topic: &'r str,
    /// Partition number.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Event time, Unix ms: the Kafka timestamp, until `eventTime` has found another one.
    pub timestamp_ms: i64,
    /// The Kafka timestamp, Unix ms; a producer's timestamp is capped at the reader's clock ([`clock_ms`]). It alone
    /// decides whether event time is too far ahead.
    pub clock_ms: i64,
    /// The key's bytes.
    pub key: Option<&'r [u8]>,
    /// The value's bytes; `None` for a tombstone.
    pub value: Option<&'r [u8]>,
    /// The headers in their order. If a name occurs twice, the last one counts.
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
    /// The key, if it is UTF-8.
    pub fn key_text(&self) -> Option<&'r str> {
        self.key.and_then(|key| std::str::from_utf8(key).ok())
    }

    /// The last header of that name, if its value is UTF-8.
    pub fn header_text(&self, name: &str) -> Option<&'r str> {
        let (_, value) = self.headers.iter().rev().find(|(header, _)| *header == name)?;
        value.and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Event time, clamped to the years that a timestamp can hold (-9999 to 9999).
    pub fn time(&self) -> Timestamp {
        Timestamp::from_millisecond(self.timestamp_ms).unwrap_or(if self.timestamp_ms < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        })
    }

    /// Event time, clamped like [`RawRecord::time`], Unix ms.
    pub(crate) fn time_ms(&self) -> i64 {
        self.timestamp_ms.clamp(Timestamp::MIN.as_millisecond(), Timestamp::MAX.as_millisecond())
    }

    /// Whether event time is more than [`MAX_AHEAD`] after `clock_ms`.
    pub fn is_ahead(&self) -> bool {
        self.timestamp_ms.saturating_sub(self.clock_ms) > MAX_AHEAD
    }

    /// Event time in Unix ms, clamped; `None` if it is too far ahead.
    pub(crate) fn near_ms(&self) -> Option<i64> {
        (!self.is_ahead()).then(|| self.time_ms())
    }

    /// The record's topic, partition, offset and event time.
    pub fn record_ref(&self) -> RecordRef {
        RecordRef {
            time: self.time(),
            topic: self.topic.to_owned(),
            partition: self.partition,
            offset: self.offset,
        }
    }
}
