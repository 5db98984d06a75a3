//! Decodes CloudEvents 1.0 by the Kafka protocol binding, in both modes. The document has the form of the JSON event
//! format: attributes and extensions by name, and `data` (or `data_base64` if it is neither JSON nor text).
//!
//! A content type `application/cloudevents+json` means structured mode; otherwise headers `ce_...` mean binary mode. A
//! record with neither must be a structured event whose header was left out. An event without id, source, specversion
//! or type is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{DecodeError, json};
use crate::document::{Document, DocumentView, NodeData};
use crate::record::RawRecord;

/// Attributes that every event must have.
const REQUIRED: [&str; 4] = ["id", "source", "specversion", "type"];
/// The prefix of structured mode's content type.
const STRUCTURED: &str = "application/cloudevents";
const PREFIX: &str = "ce_";

/// Whether the record is an event in binary mode.
pub(super) fn is_binary(record: &RawRecord<'_>) -> bool {
    let structured = content_type(record).is_some_and(|it| {
        it.get(..STRUCTURED.len()).is_some_and(|start| start.eq_ignore_ascii_case(STRUCTURED))
    });
    !structured && record.headers.iter().any(|(name, _)| name.starts_with(PREFIX))
}

fn content_type<'r>(record: &RawRecord<'r>) -> Option<&'r str> {
    record.header_text("content-type")
}

/// A media type without its parameters.
fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn not_an_event(why: &str) -> DecodeError {
    DecodeError::malformed(format!("not a CloudEvent: {why}"))
}

/// Checks the value of a required attribute.
fn check(name: &str, value: &str) -> Result<(), DecodeError> {
    match (name, value) {
        ("specversion", "1.0") => Ok(()),
        ("specversion", _) => Err(not_an_event("specversion is not 1.0")),
        (_, "") => Err(not_an_event(&format!("{name} is empty"))),
        _ => Ok(()),
    }
}

/// Decodes an event in structured mode.
pub(super) fn structured<'d>(
    record: &RawRecord<'_>,
    bytes: &'d [u8],
    into: &'d mut Document,
) -> Result<DocumentView<'d>, DecodeError> {
    if let Some(media_type) = content_type(record).map(essence)
        && media_type.starts_with(STRUCTURED)
        && media_type != "application/cloudevents+json"
    {
        let message = if media_type.starts_with("application/cloudevents-batch") {
            "a batch of CloudEvents; a record holds one event"
        } else {
            "structured mode, but not application/cloudevents+json"
        };
        return Err(DecodeError::malformed(message));
    }
    let view = json::decode(bytes, into)?;
    let NodeData::Map(event) = view.root().data() else {
        return Err(not_an_event("the JSON text is no object"));
    };
    for name in REQUIRED {
        match event.get_text(name).map(|node| node.data()) {
            Some(NodeData::Text(value)) => check(name, value)?,
            Some(_) => return Err(not_an_event(&format!("{name} is no text"))),
            None => return Err(not_an_event(&format!("{name} is missing"))),
        }
    }
    Ok(view)
}

/// Decodes an event in binary mode.
pub(super) fn binary<'d>(
    record: &RawRecord<'d>,
    into: &'d mut Document,
) -> Result<DocumentView<'d>, DecodeError> {
    for name in REQUIRED {
        let given = record.headers.iter().any(|(header, _)| header.strip_prefix(PREFIX) == Some(name));
        match record.header_text(&format!("{PREFIX}{name}")) {
            Some(value) => check(name, value)?,
            None if given => return Err(not_an_event(&format!("header {PREFIX}{name} is not UTF-8"))),
            None => return Err(not_an_event(&format!("header {PREFIX}{name} is missing"))),
        }
    }
    let mut scratch = std::mem::take(&mut into.scratch);
    let source = event(record, into, &mut scratch);
    into.scratch = scratch;
    Ok(into.view(source?))
}

/// Appends the event; returns the text that the document points into.
fn event<'r>(
    record: &RawRecord<'r>,
    into: &mut Document,
    scratch: &mut String,
) -> Result<&'r str, DecodeError> {
    let mut builder = into.build();
    let mut map = builder.open_map();
    for (header, value) in record.headers {
        // If an attribute occurs twice, the last one counts, as with any header.
        let Some(name) = header.strip_prefix(PREFIX) else { continue };
        let Some(value) = value.and_then(|value| std::str::from_utf8(value).ok()) else {
            return Err(not_an_event("a header ce_... is not UTF-8"));
        };
        builder.name(&mut map, name);
        builder.text(value);
    }
    let media_type = content_type(record);
    if let Some(media_type) = media_type {
        builder.name(&mut map, "datacontenttype");
        builder.text(media_type);
    }
    let Some(data) = record.value else {
        builder.close_map(&map, "");
        return Ok("");
    };
    // Without a content type the data is JSON, as in the JSON event format.
    let media_type = media_type.map_or_else(|| "application/json".to_owned(), essence);
    let source = if media_type.ends_with("/json") || media_type.ends_with("+json") {
        let text = std::str::from_utf8(data).unwrap_or_default();
        builder.name(&mut map, "data");
        if !json::parse(text, &mut builder, scratch) {
            let error = json::parse_with_serde(data).err();
            return Err(error.unwrap_or_else(|| DecodeError::malformed("data: not a JSON text")));
        }
        text
    } else if media_type.starts_with("text/") {
        let text = std::str::from_utf8(data).map_err(|_| DecodeError::malformed("data: not UTF-8"))?;
        builder.name(&mut map, "data");
        builder.source_text(0, text.len());
        text
    } else {
        builder.name(&mut map, "data_base64");
        builder.text(&STANDARD.encode(data));
        ""
    };
    builder.close_map(&map, source);
    Ok(source)
}
