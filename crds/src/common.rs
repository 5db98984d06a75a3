//! Types that the kinds share (durations, references, status conditions), and functions that make validation rules.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A duration as the Gateway API writes it (GEP-2257): `15m`, `1h30m`, `500ms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(pub String);

impl From<&str> for Duration {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 2,
            "maxLength": 24,
            "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$",
        })
    }
}

/// A time before something in whole minutes; negative means after it: `10m`, `1h30m`, `-10m`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignedMinutes(pub String);

impl JsonSchema for SignedMinutes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SignedMinutes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 2,
            "maxLength": 24,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^-?([0-9]{1,5}h)?([0-9]{1,5}m)?$') && duration(self) >= duration('-720h') && duration(self) <= duration('720h')",
                "message": "must be whole minutes from -720h to 720h, such as 10m, 24h, 1h30m, or -10m for after the start; seconds are not possible here",
            }],
        })
    }
}

/// CEL: each unit of a duration at most once, larger units first. Go's `duration()` doesn't require this.
const UNITS_IN_ORDER: &str = "self.matches('^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,5}s)?([0-9]{1,5}ms)?$')";

/// The validation rules of a duration between two inclusive bounds.
pub(crate) fn between(least: &str, most: &str) -> Value {
    json!([{
        "rule": format!(
            "{UNITS_IN_ORDER} && duration(self) >= duration('{least}') && duration(self) <= duration('{most}')"
        ),
        "message": format!("must be a duration from {least} to {most}, such as 1h30m, 15m, 10s or 500ms: each unit at most once, larger ones first"),
    }])
}

/// The validation rules of a duration in whole minutes between two inclusive bounds.
pub(crate) fn minutes(least: &str, most: &str) -> Value {
    json!([{
        "rule": format!(
            "self.matches('^([0-9]{{1,5}}h)?([0-9]{{1,5}}m)?$') && duration(self) >= duration('{least}') && duration(self) <= duration('{most}')"
        ),
        "message": format!("must be whole minutes from {least} to {most}, such as 10m, 24h or 1h30m; seconds are not possible here"),
    }])
}

/// A validation rule in CEL, with its message.
pub(crate) fn cel(rule: &str, message: &str) -> Value {
    json!({"rule": rule, "message": message})
}

/// The validation rule of a union: it has the member named like its `type` (in lower camel case), and no other. `members` are
/// pairs of type and member; the types in `bare` have no member.
pub(crate) fn union(members: &[(&str, &str)], bare: &[&str]) -> Value {
    let fields = |but: &str| -> String {
        let others: Vec<&str> =
            members.iter().map(|(_, field)| *field).filter(|field| *field != but).collect();
        others.join(", ")
    };
    let fits: Vec<String> =
        members.iter().map(|(name, field)| format!("(self.type == '{name}') == has(self.{field})")).collect();
    let mut says: Vec<String> = members
        .iter()
        .map(|(name, field)| match fields(field).as_str() {
            "" => format!("self.type == '{name}' ? 'type {name} needs the member {field}'"),
            others => {
                format!(
                    "self.type == '{name}' ? 'type {name} needs the member {field}, and none of {others}'"
                )
            }
        })
        .collect();
    says.push(match bare {
        [] => "'the type is not known'".to_owned(),
        _ => format!("'type {} has no member: leave out {}'", bare.join(", "), fields("")),
    });
    json!([{
        "rule": fits.join(" && "),
        "messageExpression": says.join(" : "),
        "message": "the member named like the type is needed, and no other",
    }])
}

/// A key of a Secret in the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret, in this namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key in the Secret's data. Its value is read when it is used, so a change needs no restart.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^(\.?[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$"))]
    pub key: String,
}

/// A key of a ConfigMap in the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap, in this namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key in the ConfigMap's data.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^(\.?[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$"))]
    pub key: String,
}

/// The certificates of a private authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [cel(
    "has(self.configMapRef) != has(self.secretRef)",
    "exactly one of configMapRef and secretRef is needed",
)]))]
pub struct CaBundle {
    /// A key of a ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigMapKeyRef>,
    /// A key of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
}

/// One channel that gets notifications.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notify {
    /// The NotificationChannel, in this namespace. It may be created later; until then a condition names it.
    pub channel_ref: ChannelRef,
}

/// A NotificationChannel in the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChannelRef {
    /// Name of the NotificationChannel.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// The last notification that an object caused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastNotification {
    /// Its id; belfry ask shows its deliveries and attempts.
    #[schemars(length(max = 36))]
    pub id: String,
    /// When it was decided.
    pub time: Moment,
    /// Delivered, Pending, or why it was not delivered. Of several deliveries, the worst.
    #[schemars(length(max = 512))]
    pub outcome: String,
}

/// Deliveries over one channel that did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Undelivered {
    /// The channel.
    #[schemars(length(max = 63))]
    pub channel: String,
    /// How many since the last one that arrived, without those that were sent again.
    #[schemars(range(min = 0))]
    pub count: i64,
    /// When the first of them was given up or expired.
    pub since: Moment,
    /// Why the last of them did not arrive: Dead or Expired, and the receiver's words.
    #[schemars(length(max = 512))]
    pub reason: String,
}

/// A time in a status: RFC 3339, UTC, whole seconds.
pub type Moment = Time;

/// The schema of `status.conditions`, with the limits of Kubernetes' own definitions, which the derive leaves out.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "The object's status conditions, as kubectl wait, Helm, Flux and Argo CD read them: Ready; Reconciling and Stalled only while they are true; and those of this kind.",
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "description": "One aspect of the object's state.",
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {
                    "description": "Which aspect, in UpperCamelCase.",
                    "type": "string",
                    "maxLength": 316,
                    "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                },
                "status": {
                    "description": "True, False or Unknown.",
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                },
                "observedGeneration": {
                    "description": "The metadata.generation that the condition is about.",
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                },
                "lastTransitionTime": {
                    "description": "When the status last changed.",
                    "type": "string",
                    "format": "date-time",
                },
                "reason": {
                    "description": "Why, as one word for programs.",
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {
                    "description": "Why and what to do, for people.",
                    "type": "string",
                    "maxLength": 32768,
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_of_a_union_say_what_is_allowed() {
        let rules = union(&[("Frequency", "frequency")], &["Any"]);
        assert_eq!(rules[0]["rule"], "(self.type == 'Frequency') == has(self.frequency)");
        assert_eq!(
            rules[0]["messageExpression"],
            "self.type == 'Frequency' ? 'type Frequency needs the member frequency' : 'type Any has no member: leave out frequency'"
        );
        let rules = union(&[("Slack", "slack"), ("Email", "email")], &[]);
        let said = rules[0]["messageExpression"].as_str().unwrap();
        assert!(said.contains("'type Slack needs the member slack, and none of email'"), "{said}");
    }
}
