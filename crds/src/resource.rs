//! `BookableResource`: a room, a machine, anything that schedules book: how many at once, and from which namespaces.
//!
//! Its status shows when it is taken, but names no schedule of another namespace: readers of the status may not be allowed to
//! see that namespace's schedules.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{self, Moment};

/// A room, a machine, anything that Schedules book: how many may have it at once, and from which namespaces.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "belfry.dev",
    version = "v1alpha1",
    kind = "BookableResource",
    plural = "bookableresources",
    shortname = "bkr",
    category = "belfry",
    namespaced,
    status = "BookableResourceStatus",
    derive = "PartialEq",
    doc = "A room, a machine, anything that Schedules book: how many may have it at once, and from which namespaces.",
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
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether schedules may book it"
    ),
    printcolumn(
        name = "In Use",
        type_ = "integer",
        json_path = ".status.inUse",
        description = "How many schedules have it now"
    ),
    printcolumn(
        name = "Until",
        type_ = "date",
        json_path = ".status.now[0].end",
        description = "When the first of them gives it back",
        priority = 1
    ),
    printcolumn(
        name = "Next",
        type_ = "string",
        json_path = ".status.next[0].start",
        description = "When it is taken next, UTC"
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
    /// Other namespaces whose Schedules may book it in spec.sharedResources; "*" means all. Schedules of this namespace may always
    /// book it, in spec.resources.
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

/// The status of a resource.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BookableResourceStatus {
    /// The metadata.generation that the operator last acted on; -1 before it has seen the object.
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// The object's status conditions.
    #[schemars(schema_with = "common::conditions")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// How many schedules have it now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub in_use: Option<i64>,
    /// Who has it now, at most 5.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "atomic"))]
    pub now: Vec<Booking>,
    /// Who has it next within 92 days, at most 5.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "atomic"))]
    pub next: Vec<Booking>,
}

/// When a schedule has a resource, with the schedule's buffers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Booking {
    /// From when.
    pub start: Moment,
    /// Until when.
    pub end: Moment,
    /// The schedule's name; absent if the schedule is in another namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub schedule: Option<String>,
}

/// A BookableResource of another namespace.
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
