//! Decodes a record's bytes into a document.
//!
//! Each format has a file; [`Decoder`] chooses among them. A new format is a variant of [`domain::Format`], a variant
//! of [`Decoder`] with what must be prepared, and a caller of the document's builder.
//!
//! Invariants: decoding is bounded by [`MAX_VALUE`] and a nesting of 128, and no input panics. An error has a reason
//! from a closed set and a message without the record's content. Malformed input is refused, never repaired.

mod cloud_events;
mod json;
mod logfmt;
mod text;

use aho_corasick::AhoCorasick;
use domain::Format;

use crate::document::{Document, DocumentView};
use crate::record::RawRecord;

pub use text::{Pattern, PatternError};

/// The largest value that is decoded, bytes.
pub const MAX_VALUE: usize = 16 << 20;

/// Decodes the records of one format.
#[derive(Debug, Clone)]
pub enum Decoder {
    /// One JSON text (RFC 8259).
    Json,
    /// One line of `name=value` pairs.
    Logfmt,
    /// A text whose fields are the named groups of a regular expression.
    Text(Pattern),
    /// A CloudEvent.
    CloudEvents,
}

/// What a record's value turned out to be.
#[derive(Debug, Clone, Copy)]
pub enum Decoded<'d> {
    /// A value.
    Value(DocumentView<'d>),
    /// Null: the record is skipped and counted.
    Tombstone,
}

/// Why a value can't be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DecodeReason {
    /// The value has no bytes.
    Empty,
    /// More than [`MAX_VALUE`] bytes, or more than the pattern can search within its budget.
    TooLarge,
    /// Nested more than 128 deep.
    TooDeep,
    /// The value ends too early.
    Truncated,
    /// The value violates the format.
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
    /// The error in words, without the record's content.
    pub message: String,
}

impl DecodeError {
    fn malformed(message: impl Into<String>) -> Self {
        Self { reason: DecodeReason::Malformed, message: message.into() }
    }

    fn truncated(message: impl Into<String>) -> Self {
        Self { reason: DecodeReason::Truncated, message: message.into() }
    }
}

impl Decoder {
    /// A decoder for the format.
    pub fn new(format: &Format) -> Result<Self, PatternError> {
        Ok(match format {
            Format::Json => Self::Json,
            Format::Logfmt => Self::Logfmt,
            Format::Text { pattern } => Self::Text(Pattern::compile(pattern)?),
            Format::CloudEvents => Self::CloudEvents,
        })
    }

    /// Decodes a record's value into a document and reuses the document's buffers.
    pub fn decode<'d>(
        &self,
        record: &RawRecord<'d>,
        into: &'d mut Document,
    ) -> Result<Decoded<'d>, DecodeError> {
        let size = record.value.map_or(0, <[u8]>::len);
        if size > MAX_VALUE {
            let message = format!("{size} bytes; at most {MAX_VALUE} are decoded");
            return Err(DecodeError { reason: DecodeReason::TooLarge, message });
        }
        let view = match (self, record.value) {
            // A CloudEvent in binary mode may have no data.
            (Self::CloudEvents, _) if cloud_events::is_binary(record) => cloud_events::binary(record, into)?,
            (_, None) => return Ok(Decoded::Tombstone),
            (Self::Json, Some(bytes)) => json::decode(bytes, into)?,
            (Self::CloudEvents, Some(bytes)) => cloud_events::structured(record, bytes, into)?,
            (Self::Logfmt, Some(bytes)) => logfmt::decode(line(bytes)?, into)?,
            (Self::Text(pattern), Some(bytes)) => text::decode(pattern, line(bytes)?, into)?,
        };
        Ok(Decoded::Value(view))
    }
}

/// Whether `value` is a JSON object that contains none of the texts, not even as escapes.
///
/// Cheaper than decoding. Also false if the cheap checks cannot tell, for example if there is any backslash.
pub(crate) fn is_object_without(value: &[u8], texts: &AhoCorasick, scratch: &mut String) -> bool {
    value.first() == Some(&b'{')
        && value.len() <= MAX_VALUE
        && memchr::memchr(b'\\', value).is_none()
        && !texts.is_match(value)
        && json::accepts(value, scratch)
}

/// The value as one line of text; a trailing newline is not part of it.
fn line(bytes: &[u8]) -> Result<&str, DecodeError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| DecodeError::malformed(format!("not UTF-8 from byte {} on", error.valid_up_to())))?;
    let text = text.strip_suffix('\n').map_or(text, |it| it.strip_suffix('\r').unwrap_or(it));
    if text.is_empty() {
        let message = "an empty value is not a line of text; only null is a tombstone".to_owned();
        return Err(DecodeError { reason: DecodeReason::Empty, message });
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
