//! What the API server is told of an object before it stores it: the validating webhook's decisions.
//!
//! The same validation as the controllers', from the caches of this replica, whether it leads or not. What is refused here
//! would not work; what can only be known later (a channel that is not there yet, a slot lost to one created in the same
//! instant) is a condition. Invariants: an object whose spec does not change is never refused, nor one that is going, so
//! nothing that was stored gets stuck. Never: a question to anybody, a change to the object, or a Secret.

use std::sync::Arc;

use crds::schedule::ConflictPolicy;
use crds::{AlertRule, NotificationChannel, Schedule};
use jiff::Timestamp;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, Operation};
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::conflicts::clashes_of;
use crate::metrics::Metrics;
use crate::validate::{self, Invalid, ValidSchedule, guarded};
use crate::world::{Memo, World};

/// Answers the API server.
pub struct Admission {
    world: Arc<World>,
    schedules: Memo<ValidSchedule>,
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
        Self { world, schedules: Memo::default(), metrics }
    }

    /// The answer to a request.
    pub fn review(&self, request: &AdmissionRequest<DynamicObject>) -> AdmissionResponse {
        let response = AdmissionResponse::from(request);
        let verdict = if is_news(request) { self.judge(request) } else { Verdict::Allowed };
        let (result, response) = match verdict {
            Verdict::Allowed => ("allowed", response),
            Verdict::Warned(why) => {
                ("warned", AdmissionResponse { warnings: Some(vec![why]), ..response })
            }
            Verdict::Denied(why) => ("denied", response.deny(why)),
        };
        self.metrics.admitted(&request.kind.kind, result);
        response
    }

    fn judge(&self, request: &AdmissionRequest<DynamicObject>) -> Verdict {
        let judged = match request.kind.kind.as_str() {
            "NotificationChannel" => checked::<NotificationChannel, _>(request, validate::channel).map(|_| None),
            "AlertRule" => checked::<AlertRule, _>(request, validate::rule).map(|_| None),
            "Schedule" => checked::<Schedule, _>(request, validate::schedule).map(Some),
            _ => Ok(None),
        };
        match judged {
            Ok(Some(schedule)) => self.clash(schedule),
            Ok(None) => Verdict::Allowed,
            Err(invalid) => invalid.into(),
        }
    }

    /// Whether the slot of a schedule is taken. Whoever comes or moves comes last, however old the object is.
    fn clash(&self, mut schedule: ValidSchedule) -> Verdict {
        if schedule.policy == ConflictPolicy::Allow || schedule.plan.suspended {
            return Verdict::Allowed;
        }
        let (namespace, name) = (schedule.plan.namespace.clone(), schedule.plan.name.clone());
        let others: Vec<Arc<ValidSchedule>> = self
            .world
            .schedules
            .of(&namespace)
            .iter()
            .filter(|other| other.name_any() != name && other.meta().deletion_timestamp.is_none())
            .filter_map(|other| self.schedules.validate(other, validate::schedule).ok())
            .collect();
        schedule.plan.created = Timestamp::MAX;
        match clashes_of(&schedule, others.iter().map(AsRef::as_ref), (self.world.now)()) {
            None => Verdict::Allowed,
            Some(why) if schedule.policy == ConflictPolicy::Reject => {
                Verdict::Denied(format!("{}: {why}", crate::conditions::reasons::CONFLICTING))
            }
            Some(why) => Verdict::Warned(why),
        }
    }

    /// Forgets objects that are gone.
    pub fn forget(&self, is_alive: impl Fn(&str) -> bool) {
        self.schedules.forget(is_alive);
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
    let unreadable = |message: String| Invalid { reason: crate::conditions::reasons::UNREADABLE, message };
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
