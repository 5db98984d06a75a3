//! Makes docs/fields.md, a page of all fields, from the definitions. The texts are the doc comments of the fields.

use std::fmt::Write as _;

use serde_json::Value;

use crate::definitions;

const HEAD: &str = "# All fields

Each field of `spec` of each kind, as the cluster's definitions describe it; `kubectl explain alr.spec.condition` says the same.
The page of each kind says more about the meanings: [NotificationChannel](notificationchannel.md),
[AlertRule](alertrule.md), [Schedule](schedule.md), [BookableResource](conflicts.md#rooms-with-a-capacity-and-rooms-of-other-namespaces).

`[]` is each item of a list. A field may be left out unless it says *required*. `{name, key}`
is a key of a Secret or ConfigMap of the same namespace. This page is generated:
`cargo run -p belfry-crds --example generate`.
";

/// The page `docs/fields.md`.
#[must_use]
pub fn field_reference() -> String {
    let mut page = HEAD.to_owned();
    for definition in definitions() {
        let names = &definition.json["spec"]["names"];
        let kind = names["kind"].as_str().unwrap_or_default();
        let short = names["shortNames"][0].as_str().unwrap_or_default();
        let _ = write!(
            page,
            "\n## {kind} (`{short}`)\n\n| field | what it may be | default | meaning |\n| --- | --- | --- | --- |\n"
        );
        let schema = &definition.json["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        add_rows(&mut page, "", &schema["properties"]["spec"]);
    }
    page
}

/// Adds the rows of all fields below a schema.
fn add_rows(page: &mut String, path: &str, schema: &Value) {
    let required = schema["required"].as_array();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let is_required = required.is_some_and(|all| all.iter().any(|one| one == name));
        let default = match &field["default"] {
            Value::Null if is_required => "*required*".to_owned(),
            Value::Null => String::new(),
            default => format!("`{}`", plain(default)),
        };
        let meaning = cell(field["description"].as_str().unwrap_or_default());
        let _ = writeln!(page, "| `{path}` | {} | {default} | {meaning} |", cell(&shape(field)));
        if is_reference(field) {
            continue;
        }
        add_rows(page, &path, field);
        add_rows(page, &format!("{path}[]"), &field["items"]);
        add_rows(page, &format!("{path}.*"), &field["additionalProperties"]);
    }
}

/// Describes the allowed values in a few words.
fn shape(field: &Value) -> String {
    if let Some(values) = field["enum"].as_array() {
        return values.iter().map(|value| format!("`{}`", plain(value))).collect::<Vec<_>>().join(", ");
    }
    let between = |least: &str, most: &str, unit: &str| match (field[least].as_i64(), field[most].as_i64()) {
        (Some(least), Some(most)) => format!(", {least} to {most}{unit}"),
        (None, Some(most)) => format!(", at most {most}{unit}"),
        (Some(least), None) => format!(", at least {least}{unit}"),
        (None, None) => String::new(),
    };
    match field["type"].as_str() {
        Some("string") if field["pattern"].as_str().is_some_and(|pattern| pattern.contains("(h|m|s|ms)")) => {
            "duration".to_owned()
        }
        Some("string") if field["format"] == "date-time" => "time (RFC 3339)".to_owned(),
        Some("string") => format!("text{}", between("minLength", "maxLength", " characters")),
        Some("integer") => format!("integer{}", between("minimum", "maximum", "")),
        Some("boolean") => "`true`, `false`".to_owned(),
        Some("array") => {
            format!("list of {}{}", shape(&field["items"]), between("minItems", "maxItems", " items"))
        }
        _ if is_reference(field) => "`{name, key}`".to_owned(),
        _ if field["additionalProperties"].is_object() => {
            format!(
                "map to {}{}",
                shape(&field["additionalProperties"]),
                between("minProperties", "maxProperties", " entries")
            )
        }
        Some("object") => "object".to_owned(),
        _ if field["x-kubernetes-preserve-unknown-fields"] == true => "any value".to_owned(),
        _ => "number or text".to_owned(),
    }
}

/// Whether the field is a reference to a key of another object.
fn is_reference(field: &Value) -> bool {
    let names = field["properties"].as_object();
    names.is_some_and(|names| names.len() == 2 && names.contains_key("name") && names.contains_key("key"))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Escapes a text for a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}
