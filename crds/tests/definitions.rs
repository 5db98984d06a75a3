//! The committed definitions are those that the types make, and they follow the API conventions.

use serde_json::Value;

fn schemas() -> Vec<(String, Value)> {
    crds::definitions()
        .into_iter()
        .map(|definition| {
            let schema = definition.json["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
            (definition.file.to_owned(), schema)
        })
        .collect()
}

/// Calls `check` with the path and the schema of everything below.
fn visit(path: &str, schema: &Value, check: &mut impl FnMut(&str, &Value)) {
    check(path, schema);
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        visit(&format!("{path}.{name}"), child, check);
    }
    if schema["items"].is_object() {
        visit(&format!("{path}[]"), &schema["items"], check);
    }
    if schema["additionalProperties"].is_object() {
        visit(&format!("{path}{{}}"), &schema["additionalProperties"], check);
    }
}

fn every(check: impl Fn(&str, &Value) -> Option<&'static str>) {
    let mut wrong = Vec::new();
    for (file, schema) in schemas() {
        visit(&file, &schema, &mut |path, schema| {
            if let Some(what) = check(path, schema) {
                wrong.push(format!("{path}: {what}"));
            }
        });
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_committed_is_what_the_types_say() {
    for definition in crds::definitions() {
        let path = format!("{}/yaml/{}", env!("CARGO_MANIFEST_DIR"), definition.file);
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        let made = serde_saphyr::to_string(&definition.json).unwrap();
        assert!(committed == made, "{path} is old: run `cargo run -p belfry-crds --example generate`");
        assert_eq!(serde_saphyr::from_str::<Value>(&made).unwrap(), definition.json);
    }
}

#[test]
fn the_page_of_all_fields_is_what_the_definitions_say() {
    let path = format!("{}/../docs/fields.md", env!("CARGO_MANIFEST_DIR"));
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == crds::field_reference(),
        "{path} is old: run `cargo run -p belfry-crds --example generate`"
    );
}

#[test]
fn each_file_is_small_enough_to_apply_and_free_of_what_other_tools_would_expand() {
    for definition in crds::definitions() {
        let yaml = serde_saphyr::to_string(&definition.json).unwrap();
        assert!(yaml.len() < 262_144, "{}", definition.file);
        assert!(!yaml.contains("{{") && !yaml.contains("${"), "{}", definition.file);
    }
}

#[test]
fn everything_is_described() {
    every(|path, schema| {
        // The items of a list of strings are what the list's description says.
        let plain_item = path.ends_with("[]") && schema["type"] == "string";
        (!plain_item && schema["description"].as_str().is_none_or(str::is_empty)).then_some("no description")
    });
}

#[test]
fn every_string_number_list_and_map_is_bounded() {
    every(|_, schema| match schema["type"].as_str() {
        Some("string") => {
            let bounded =
                schema["maxLength"].is_u64() || schema["enum"].is_array() || schema["format"] == "date-time";
            (!bounded).then_some("a string without maxLength")
        }
        Some("integer") => (!(schema["minimum"].is_i64() && schema["maximum"].is_i64()))
            .then_some("an integer without minimum or maximum"),
        Some("array") => (!(schema["maxItems"].is_u64() && schema["x-kubernetes-list-type"].is_string()))
            .then_some("a list without maxItems or x-kubernetes-list-type"),
        Some("object") if schema["additionalProperties"].is_object() => {
            (!schema["maxProperties"].is_u64()).then_some("a map without maxProperties")
        }
        Some("object" | "boolean") => None,
        _ => Some("no type that an API server takes"),
    });
}

#[test]
fn nothing_is_nullable_and_no_number_is_unsigned_or_a_float() {
    every(|_, schema| {
        let format = schema["format"].as_str().unwrap_or_default();
        if !schema["nullable"].is_null() {
            Some("nullable")
        } else if format.starts_with("uint") || schema["type"] == "number" {
            Some("unsigned or float")
        } else {
            None
        }
    });
}

#[test]
fn every_rule_of_the_schema_says_what_is_allowed() {
    every(|_, schema| {
        let rules = schema["x-kubernetes-validations"].as_array();
        rules
            .is_some_and(|rules| {
                rules.iter().any(|rule| rule["message"].as_str().is_none_or(|text| text.len() < 20))
            })
            .then_some("a rule without a message that helps")
    });
}

#[test]
fn every_pattern_is_said_in_words_as_well() {
    for (file, schema) in schemas() {
        visit(&file, &schema["properties"]["spec"], &mut |path, schema| {
            let rules = schema["x-kubernetes-validations"].as_array().map_or(0, Vec::len);
            assert!(!schema["pattern"].is_string() || rules > 0, "{path}: {schema}");
        });
    }
}

#[test]
fn an_object_that_nobody_has_seen_yet_says_so() {
    // A resource is what others book: nobody acts on it, so there is nothing to have been seen.
    for (file, schema) in schemas().into_iter().filter(|(file, _)| file != "bookableresources.yaml") {
        assert_eq!(schema["properties"]["status"]["default"]["observedGeneration"], -1, "{file}");
    }
}

#[test]
fn a_status_read_back_is_the_status_written() {
    let status = crds::rule::AlertRuleStatus::default();
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json, serde_json::json!({"observedGeneration": 0}));
    assert_eq!(serde_json::from_value::<crds::rule::AlertRuleStatus>(json).unwrap(), status);
}
