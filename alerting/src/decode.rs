//! From a record's bytes to a value.
//!
//! Invariants: bounded by [`MAX_VALUE`] and by serde_json's nesting (128). A failure has a reason from a closed set and
//! a message without the record's content. Never: a panic on any input, or a guess at what malformed input meant.

use domain::Format;
use serde_json::Value;

/// The largest value that is decoded, bytes.
pub const MAX_VALUE: usize = 16 << 20;

/// Decodes values of one format.
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    format: Format,
}

/// What a record's value turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// A value.
    Value(Value),
    /// No value at all (null): skipped and counted.
    Tombstone,
}

/// Why a value can't be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DecodeReason {
    /// There is a value and it has no bytes.
    Empty,
    /// More than [`MAX_VALUE`] bytes.
    TooLarge,
    /// Nested more than 128 deep.
    TooDeep,
    /// Ends in the middle.
    Truncated,
    /// Not what the format demands.
    Malformed,
}

impl DecodeReason {
    /// The reason's name, for headers, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::TooLarge => "TooLarge",
            Self::TooDeep => "TooDeep",
            Self::Truncated => "Truncated",
            Self::Malformed => "Malformed",
        }
    }
}

/// A value that can't be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", reason.name())]
pub struct DecodeError {
    /// Why.
    pub reason: DecodeReason,
    /// In words, without the record's content.
    pub message: String,
}

impl Decoder {
    /// A decoder for the format.
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// The format that it decodes.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Decodes a value's bytes.
    pub fn decode(&self, value: Option<&[u8]>) -> Result<Decoded, DecodeError> {
        let Some(bytes) = value else { return Ok(Decoded::Tombstone) };
        if bytes.len() > MAX_VALUE {
            let message = format!("{} bytes; at most {MAX_VALUE} are decoded", bytes.len());
            return Err(DecodeError { reason: DecodeReason::TooLarge, message });
        }
        match self.format {
            Format::Json => json(bytes).map(Decoded::Value),
        }
    }
}

fn json(bytes: &[u8]) -> Result<Value, DecodeError> {
    if bytes.is_empty() {
        let message = "an empty value is not a JSON text; only null is a tombstone".to_owned();
        return Err(DecodeError { reason: DecodeReason::Empty, message });
    }
    serde_json::from_slice(bytes).map_err(|error| {
        // serde_json has no kind for its nesting limit, only this message.
        let reason = if error.to_string().starts_with("recursion limit exceeded") {
            DecodeReason::TooDeep
        } else if error.is_eof() {
            DecodeReason::Truncated
        } else {
            DecodeReason::Malformed
        };
        DecodeError { reason, message: format!("not a JSON text: {error}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(value: &[u8]) -> DecodeReason {
        Decoder::new(Format::Json).decode(Some(value)).unwrap_err().reason
    }

    #[test]
    fn null_is_a_tombstone_and_an_empty_value_is_not() {
        assert_eq!(Decoder::new(Format::Json).decode(None), Ok(Decoded::Tombstone));
        assert_eq!(reason(b""), DecodeReason::Empty);
    }

    #[test]
    fn what_is_not_json_says_why() {
        assert_eq!(reason(b"{\"a\":"), DecodeReason::Truncated);
        assert_eq!(reason(b"hello"), DecodeReason::Malformed);
        assert_eq!(reason(b"{} {}"), DecodeReason::Malformed);
        assert_eq!(reason(b"{\"a\":1e999}"), DecodeReason::Malformed);
        assert_eq!(reason(b"\"\xff\xfe\""), DecodeReason::Malformed);
        assert_eq!(reason("[".repeat(100_000).as_bytes()), DecodeReason::TooDeep);
        assert_eq!(reason(&vec![b' '; MAX_VALUE + 1]), DecodeReason::TooLarge);
    }

    #[test]
    fn the_message_does_not_quote_the_record() {
        let error = Decoder::new(Format::Json).decode(Some(b"{\"secret\": hunter2}")).unwrap_err();
        assert!(!error.to_string().contains("hunter"), "{error}");
    }

    #[test]
    fn ten_megabytes_of_json_decode() {
        let value = format!("{{\"text\":\"{}\"}}", "x".repeat(10 << 20));
        assert!(matches!(
            Decoder::new(Format::Json).decode(Some(value.as_bytes())),
            Ok(Decoded::Value(Value::Object(_)))
        ));
    }
}
