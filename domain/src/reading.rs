//! How a record is read: the format of its value, and where its event time is.

use serde::{Deserialize, Serialize};

/// How a record is read.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reading {
    /// How its value is decoded.
    pub format: Format,
    /// Where its event time is; the Kafka timestamp if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_time: Option<EventTime>,
}

impl Reading {
    /// Whether it is the default.
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
    /// A text that a regular expression splits into fields.
    Text {
        /// The regular expression; has at least one named group.
        pattern: String,
    },
    /// A CloudEvent 1.0, in the binary or the structured mode of its Kafka binding.
    CloudEvents,
}

/// Where in a record its event time is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventTime {
    /// A path, as in `groupBy`.
    pub path: String,
    /// How the time is written there.
    pub form: TimeForm,
}

/// How a time is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all_fields = "camelCase")]
pub enum TimeForm {
    /// RFC 3339.
    Rfc3339,
    /// Seconds since 1970-01-01T00:00:00Z: a number, or a text of a number; may have a fraction.
    UnixSeconds,
    /// Milliseconds since then.
    UnixMilliseconds,
    /// In the form that a `strptime` pattern describes.
    Pattern {
        /// The pattern, with directives such as `%Y`.
        pattern: String,
        /// The IANA time zone for a pattern that has no offset; UTC if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time_zone: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, Source};

    #[test]
    fn a_source_with_the_default_reading_keeps_its_key() {
        let source = Source { bootstrap_servers: vec!["a:1".to_owned()], ..Source::default() };
        assert_eq!(source.key(), Digest::of(&serde_json::json!({"bootstrapServers": ["a:1"]})));
        let other = Source {
            reading: Box::new(Reading { format: Format::Logfmt, event_time: None }),
            ..source.clone()
        };
        assert_ne!(source.key(), other.key());
    }

    #[test]
    fn a_reading_parses_back_from_its_json() {
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
