//! How a record is read: its value's format, and where its event time is.

use serde::{Deserialize, Serialize};

/// How a record is read.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reading {
    /// How its value is decoded.
    pub format: Format,
    /// Where its event time is; its timestamp in Kafka where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_time: Option<EventTime>,
}

impl Reading {
    /// Whether it is what a source has that says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How a record's value is decoded.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Format {
    /// One JSON text (RFC 8259).
    #[default]
    Json,
    /// One line of `name=value` pairs.
    Logfmt,
    /// A text that a regular expression takes apart.
    Text {
        /// With at least one named group.
        pattern: String,
    },
    /// A CloudEvent 1.0, in the binary or the structured mode of its Kafka binding.
    CloudEvents,
}

/// Where in a record its event time is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventTime {
    /// A path, as `groupBy` has them.
    pub path: String,
    /// How it is written there.
    pub form: TimeForm,
}

/// How a time is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all_fields = "camelCase")]
pub enum TimeForm {
    /// RFC 3339.
    Rfc3339,
    /// Seconds since 1970-01-01T00:00:00Z, a number with or without a fraction or its text.
    UnixSeconds,
    /// Milliseconds since then.
    UnixMilliseconds,
    /// As `strptime` reads it.
    Pattern {
        /// With directives such as `%Y`.
        pattern: String,
        /// The time zone (IANA) of a pattern that has no offset; UTC where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time_zone: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, Source};

    #[test]
    fn a_source_that_says_nothing_of_reading_has_the_key_that_it_always_had() {
        let source = Source { bootstrap_servers: vec!["a:1".to_owned()], ..Source::default() };
        assert_eq!(source.key(), Digest::of(&serde_json::json!({"bootstrapServers": ["a:1"]})));
        let other = Source {
            reading: Box::new(Reading { format: Format::Logfmt, event_time: None }),
            ..source.clone()
        };
        assert_ne!(source.key(), other.key());
    }

    #[test]
    fn a_reading_survives_its_text() {
        let form =
            TimeForm::Pattern { pattern: "%F %T".to_owned(), time_zone: Some("Asia/Tokyo".to_owned()) };
        let reading = Reading {
            format: Format::Text { pattern: "(?<a>.)".to_owned() },
            event_time: Some(EventTime { path: "record.a".to_owned(), form }),
        };
        let text = serde_json::to_string(&reading).unwrap();
        assert_eq!(serde_json::from_str::<Reading>(&text).unwrap(), reading, "{text}");
    }
}
