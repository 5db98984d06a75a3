//! `BookableResource`: a room, a machine, anything that schedules book: how many at once, and from which namespaces.
//!
//! Never here: who has booked it. Whoever may read it would learn of other namespaces' schedules.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A room, a machine, anything that Schedules book: how many may at once, and from which namespaces.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "belfry.dev",
    version = "v1alpha1",
    kind = "BookableResource",
    plural = "bookableresources",
    shortname = "bkr",
    category = "belfry",
    namespaced,
    derive = "PartialEq",
    doc = "A room, a machine, anything that Schedules book: how many may at once, and from which namespaces.",
    printcolumn(
        name = "Capacity",
        type_ = "integer",
        json_path = ".spec.capacity",
        description = "How many schedules may have it at the same time"
    ),
    printcolumn(
        name = "Shared With",
        type_ = "string",
        json_path = ".spec.sharedWith",
        description = "Other namespaces whose schedules may book it"
    ),
    printcolumn(
        name = "Title",
        type_ = "string",
        json_path = ".spec.title",
        description = "What it is",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Since when it exists"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct BookableResourceSpec {
    /// What it is, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub title: Option<String>,
    /// How many schedules may have it at the same time.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10_000))]
    pub capacity: i32,
    /// Other namespaces whose Schedules may book it, by spec.sharedResources; "*" is all. Schedules of this namespace always may,
    /// by spec.resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 256),
        inner(length(min = 1, max = 63), regex(pattern = r"^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub shared_with: Vec<String>,
}

fn one() -> i32 {
    1
}

/// Names a BookableResource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceRef {
    /// Namespace of the BookableResource, whose owner must have shared it with this one.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub namespace: String,
    /// Name of the BookableResource.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}
