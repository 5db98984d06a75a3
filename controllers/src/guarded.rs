//! An object that may not be readable as its kind. One unreadable object in a list does not keep the others from being
//! read.
//!
//! Does the same as `kube::core::DeserializeGuard`, but deserializes from `serde_json::Value`, as admission does: code
//! for a second way would make the operator 0.8 MB larger.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::cache::Weighed;

/// An object, or its metadata with the reason why it can't be read; and about how many bytes its spec takes.
#[derive(Debug, Clone)]
pub struct Guarded<K>(pub Result<K, Unreadable>, usize);

/// What a value takes in memory besides its text, bytes.
const NODE: usize = 64;

/// About how many bytes a value takes.
fn weight(value: &Value) -> usize {
    NODE + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(all) => all.iter().map(weight).sum(),
        Value::Object(all) => all.iter().map(|(name, value)| NODE + name.len() + weight(value)).sum(),
    }
}

impl<K: Resource> Weighed for Guarded<K> {
    fn weight(&self) -> usize {
        self.1
    }

    fn without_spec(self, why: &str) -> Self {
        let metadata = self.meta().clone();
        Self(Err(Unreadable { error: why.to_owned(), metadata }), 0)
    }
}

/// What is known of an object that can't be read.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// Why.
    pub error: String,
    /// Its metadata.
    pub metadata: ObjectMeta,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let metadata = value.get("metadata").cloned();
        let weight = value.get("spec").map_or(0, weight);
        let error = match serde_json::from_value(value) {
            Ok(object) => return Ok(Self(Ok(object), weight)),
            Err(error) => error.to_string(),
        };
        let metadata = metadata.map(serde_json::from_value).transpose().map_err(D::Error::custom)?;
        Ok(Self(Err(Unreadable { error, metadata: metadata.unwrap_or_default() }), 0))
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|unreadable| &mut unreadable.metadata, K::meta_mut)
    }
}
