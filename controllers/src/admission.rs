//! What the API server is told of an object before it stores it: the validating webhook's decisions.
//!
//! The same validation as the controllers', from the caches of this replica, whether it leads or not. What is refused here
//! would not work; what can only be known later (a channel that is not there yet, a slot lost to one created in the same
//! instant) is a condition. Invariants: an object whose spec does not change is never refused, nor one that is going, so
//! nothing that was stored gets stuck. Never: a question to anybody, a change to the object, or a Secret.

use std::sync::Arc;

use crds::schedule::ConflictPolicy;
use crds::{AlertRule, BookableResource, NotificationChannel, Schedule};
use kube::Resource;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, Operation};
use serde::de::DeserializeOwned;

use crate::conditions::reasons::{CONFLICTING, REF_NOT_PERMITTED, UNREADABLE};
use crate::conflicts::{Slot, not_permitted};
use crate::metrics::Metrics;
use crate::validate::{self, Invalid, ValidResource, ValidSchedule, guarded};
use crate::world::World;

/// Answers the API server.
pub struct Admission {
    world: Arc<World>,
    metrics: Metrics,
}

/// What is said of an object.
enum Verdict {
    Allowed,
    Warned(String),
    Denied(String),
}

impl From<Invalid> for Verdict {
    fn from(Invalid { reason, message }: Invalid) -> Self {
        Self::Denied(format!("{reason}: {message}"))
    }
}

impl Admission {
    /// Judges by what the world shows.
    pub fn new(world: Arc<World>, metrics: Metrics) -> Self {
        Self { world, metrics }
    }

    /// The answer to a request.
    pub fn review(&self, request: &AdmissionRequest<DynamicObject>) -> AdmissionResponse {
        let mut response = AdmissionResponse::from(request);
        let verdict = if is_news(request) { self.judge(request) } else { Verdict::Allowed };
        let (result, response) = match verdict {
            Verdict::Allowed => ("allowed", response),
            Verdict::Warned(why) => {
                response.warnings = Some(vec![why]);
                ("warned", response)
            }
            Verdict::Denied(why) => ("denied", response.deny(why)),
        };
        self.metrics.admitted(&request.kind.kind, result);
        response
    }

    fn judge(&self, request: &AdmissionRequest<DynamicObject>) -> Verdict {
        let judged = match request.kind.kind.as_str() {
            "NotificationChannel" => {
                checked::<NotificationChannel, _>(request, validate::channel).map(|_| Verdict::Allowed)
            }
            "AlertRule" => checked::<AlertRule, _>(request, validate::rule).map(|_| Verdict::Allowed),
            "Schedule" => checked::<Schedule, _>(request, validate::schedule).map(|it| self.booked(&it)),
            "BookableResource" => {
                checked::<BookableResource, _>(request, validate::resource).map(|it| self.lent(&it))
            }
            _ => Ok(Verdict::Allowed),
        };
        judged.unwrap_or_else(Verdict::from)
    }

    /// A room is as small as it is, and its owner's: who loses it is only told.
    fn lent(&self, resource: &ValidResource) -> Verdict {
        self.world.conflicts.taken_by(resource, (self.world.now)()).map_or(Verdict::Allowed, Verdict::Warned)
    }

    /// Whether a schedule may book what it names, and its slot is free.
    fn booked(&self, schedule: &ValidSchedule) -> Verdict {
        let conflicts = &self.world.conflicts;
        let refused = not_permitted(&conflicts.not_permitted(schedule), &schedule.plan.namespace);
        if let Some(why) = refused {
            return Verdict::Denied(format!("{REF_NOT_PERMITTED}: {why}"));
        }
        if schedule.policy == ConflictPolicy::Allow {
            return Verdict::Allowed;
        }
        // As it stands, it holds what it needs, and is not in its own way.
        match conflicts.refusal(schedule, (self.world.now)()) {
            Slot::Free => Verdict::Allowed,
            Slot::Taken(why) | Slot::NotKnown(why) if schedule.policy == ConflictPolicy::Reject => {
                Verdict::Denied(format!("{CONFLICTING}: {why}"))
            }
            Slot::Taken(why) | Slot::NotKnown(why) => Verdict::Warned(format!("{CONFLICTING}: {why}")),
        }
    }
}

/// Whether a request brings a spec that was not there before.
fn is_news(request: &AdmissionRequest<DynamicObject>) -> bool {
    let spec = |object: &Option<DynamicObject>| object.as_ref().map(|object| object.data["spec"].clone());
    let going = request.object.as_ref().is_some_and(|object| object.metadata.deletion_timestamp.is_some());
    let change = match request.operation {
        Operation::Create => true,
        Operation::Update => spec(&request.object) != spec(&request.old_object),
        _ => false,
    };
    change && !going
}

/// Reads and validates the object of a request.
fn checked<K, V>(
    request: &AdmissionRequest<DynamicObject>,
    check: impl FnOnce(&K) -> Result<V, Invalid>,
) -> Result<V, Invalid>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let unreadable = |message: String| Invalid { reason: UNREADABLE, message };
    let object = request.object.clone().ok_or_else(|| unreadable("the request has no object".to_owned()))?;
    let mut object: K = object.try_parse().map_err(|error| unreadable(error.to_string()))?;
    let meta = object.meta_mut();
    if meta.namespace.is_none() {
        meta.namespace.clone_from(&request.namespace);
    }
    // One with generateName has no name yet.
    meta.name.get_or_insert_default();
    meta.uid.get_or_insert_with(|| uuid::Uuid::nil().to_string());
    guarded(|| check(&object))
}
