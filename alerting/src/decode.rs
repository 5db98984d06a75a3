//! From a record's bytes to a value.
//!
//! Invariants: bounded by [`MAX_VALUE`] and by a nesting of 128. A failure has a reason from a closed set and a message
//! without the record's content. Never: a panic on any input, or a guess at what malformed input meant.

mod json;

use domain::Format;
use serde_json::Value;

use crate::document::{Document, View};

/// The largest value that is decoded, bytes.
pub const MAX_VALUE: usize = 16 << 20;

/// Decodes values of one format.
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    format: Format,
}

/// What a record's value turned out to be.
#[derive(Debug, Clone, Copy)]
pub enum Decoded<'d> {
    /// A value.
    Value(View<'d>),
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

    /// Decodes a value's bytes into a document, whose buffers it uses again.
    pub fn decode<'d>(
        &self,
        value: Option<&'d [u8]>,
        into: &'d mut Document,
    ) -> Result<Decoded<'d>, DecodeError> {
        let Some(bytes) = value else { return Ok(Decoded::Tombstone) };
        if bytes.len() > MAX_VALUE {
            let message = format!("{} bytes; at most {MAX_VALUE} are decoded", bytes.len());
            return Err(DecodeError { reason: DecodeReason::TooLarge, message });
        }
        match self.format {
            Format::Json => json(bytes, into).map(Decoded::Value),
        }
    }
}

fn json<'d>(bytes: &'d [u8], into: &'d mut Document) -> Result<View<'d>, DecodeError> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let mut scratch = std::mem::take(&mut into.scratch);
        let parsed = json::parse(text, &mut into.build(), &mut scratch);
        into.scratch = scratch;
        if parsed {
            return Ok(into.view(text));
        }
    }
    // It knows where and why; both parsers accept the same texts.
    let value = refused(bytes)?;
    into.build().value(&value);
    Ok(into.view(""))
}

#[cold]
fn refused(bytes: &[u8]) -> Result<Value, DecodeError> {
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
        Decoder::new(Format::Json).decode(Some(value), &mut Document::default()).unwrap_err().reason
    }

    #[test]
    fn null_is_a_tombstone_and_an_empty_value_is_not() {
        let mut document = Document::default();
        let decoded = Decoder::new(Format::Json).decode(None, &mut document).unwrap();
        assert!(matches!(decoded, Decoded::Tombstone));
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
        let mut document = Document::default();
        let error =
            Decoder::new(Format::Json).decode(Some(b"{\"secret\": hunter2}"), &mut document).unwrap_err();
        assert!(!error.to_string().contains("hunter"), "{error}");
    }

    #[test]
    fn ten_megabytes_of_json_decode() {
        let value = format!("{{\"text\":\"{}\"}}", "x".repeat(10 << 20));
        let mut document = Document::default();
        let decoded = Decoder::new(Format::Json).decode(Some(value.as_bytes()), &mut document).unwrap();
        let Decoded::Value(view) = decoded else { panic!("a value") };
        assert_eq!(view.root().to_json(), serde_json::from_str::<Value>(&value).unwrap());
    }

    /// What both parsers make of a text.
    fn both(text: &[u8]) -> (Option<Value>, Option<Value>) {
        let mut document = Document::default();
        let ours = std::str::from_utf8(text).ok().and_then(|text| {
            let parsed = json::parse(text, &mut document.build(), &mut String::new());
            parsed.then(|| document.view(text).root().to_json())
        });
        (ours, serde_json::from_slice(text).ok())
    }

    #[test]
    fn our_parser_accepts_what_serde_json_accepts_with_the_same_value() {
        let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let mut texts: Vec<String> = [
            "null",
            " true ",
            "false",
            "tru",
            "nul",
            "-",
            "-0",
            "0",
            "00",
            "01",
            "-01",
            "1.",
            ".5",
            "1.5",
            "-1.5e3",
            "1e",
            "1e+",
            "1e5",
            "1E-5",
            "1e999",
            "-1e999",
            "1e-999",
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775808",
            "-9223372036854775809",
            "18446744073709551615",
            "18446744073709551616",
            "123456789012345678901234567890",
            "0.1",
            "123456.789",
            "1.0",
            "-0.0",
            "\"\"",
            "\"a\"",
            "\"a",
            "\"\\\"",
            "\"\\u00e9\\n\\/\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"\\ud83dx\"",
            "\"\\ud83d\\u0041\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\u{1}\"",
            "\"\n\"",
            "\"\u{7f}é\u{10ffff}\"",
            "[]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1,2",
            "[ 1 , 2 ]",
            "{}",
            "{\"a\":1}",
            "{\"a\" : 1 , \"b\":[{}]}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":1,\"a\":2}",
            "{\"a\":{\"x\":1},\"b\":2,\"a\":[3]}",
            "{\"\":0,\"\":1}",
            "{\"a\":1,\"\\u0061\":2}",
            "{\"abcdefgh\":\"0123456789\\t\"}",
            "1 2",
            "{} {}",
            "\u{feff}1",
            "",
            " ",
            "]",
            "{]",
            "[}",
        ]
        .map(str::to_owned)
        .into();
        texts.extend([deep(126), deep(127), deep(128), deep(129)]);
        let many = |count: usize, twice: usize| {
            let fields = (0..count).map(|n| format!("\"field{}\":{n}", n % twice)).collect::<Vec<_>>();
            format!("{{{},\"field0\":-1}}", fields.join(","))
        };
        texts.extend([many(5, 4), many(31, 31), many(32, 32), many(33, 40), many(100, 30), many(1_000, 900)]);
        for text in texts {
            let (ours, theirs) = both(text.as_bytes());
            assert_eq!(ours, theirs, "{}", &text[..text.len().min(80)]);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_and_any_cut_of_json_are_judged_as_serde_json_judges_them(
            noise in "[\\[\\]{}:,\" \\\\aub019.eE+\\-\u{e9}]{0,24}",
            bytes in proptest::collection::vec(0..=255_u8, 0..12),
            value in values(), at in 0..200_usize, by in 0..=255_u8,
        ) {
            let (ours, theirs) = both(noise.as_bytes());
            proptest::prop_assert_eq!(ours, theirs);
            let (ours, theirs) = both(&bytes);
            proptest::prop_assert_eq!(ours, theirs);
            for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
                let (ours, theirs) = both(text.as_bytes());
                proptest::prop_assert_eq!(&ours, &theirs);
                proptest::prop_assert_eq!(ours.as_ref(), Some(&value));
                let mut changed = text.into_bytes();
                changed.truncate(at.max(1));
                let (ours, theirs) = both(&changed);
                proptest::prop_assert_eq!(ours, theirs);
                let last = changed.len() - 1;
                changed[last] = by;
                let (ours, theirs) = both(&changed);
                proptest::prop_assert_eq!(ours, theirs);
            }
        }
    }

    /// Values whose numbers are the same in both parsers.
    fn values() -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1_000_000..1_000_000_i64).prop_map(|it| Value::from(it as f64 / 64.0)),
            "\\PC{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map("[a-d\"\\\\é]{0,3}", inner, 0..8)
                    .prop_map(|it| Value::Object(it.into_iter().collect())),
            ]
        })
    }
}
