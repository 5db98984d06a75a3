//! Converts a Schedule to a series of iCalendar. The series doesn't contain channels, nor anything else about who gets reminders.

use calendar::RecurrenceSpec;
use calendar::ical::{Person, Series};
use controllers::validate::ValidSchedule;
use crds::schedule::{Schedule, ScheduleSpec, Transparency};
use domain::PlanBody;

use super::{SEQUENCE, UID};

/// The series of a valid Schedule, and remarks on what iCalendar can't express.
pub(crate) fn series(object: &Schedule, valid: &ValidSchedule, namespace: &str) -> (Series, Vec<String>) {
    let meta = &object.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let annotation = |key: &str| meta.annotations.as_ref().and_then(|all| all.get(key));
    let namespace = meta.namespace.as_deref().unwrap_or(namespace);
    let uid = annotation(UID).filter(|uid| !uid.trim().is_empty()).cloned().or_else(|| meta.uid.clone());
    let base = annotation(SEQUENCE).and_then(|text| text.parse::<i64>().ok());
    let edits = meta.generation.map(|generation| (generation - 1).max(0));
    let sequence = match (base, edits) {
        (None, None) => None,
        (base, edits) => Some(base.unwrap_or(0).saturating_add(edits.unwrap_or(0))),
    };
    let spec = &object.spec;
    let remarks = not_written(spec);
    let shared = spec.shared_resources.iter().map(|it| format!("{}/{}", it.namespace, it.name));
    let series = Series {
        uid: uid.unwrap_or_else(|| format!("{namespace}/{name}")),
        name: Some(name),
        sequence,
        title: spec.title.clone(),
        description: spec.description.clone(),
        location: spec.location.clone(),
        url: spec.url.clone(),
        spec: recurrence(valid),
        transparent: spec.transparency == Transparency::Transparent,
        people: spec
            .participants
            .iter()
            .map(|it| Person {
                name: it.name.clone(),
                address: it.email.as_ref().map(|it| it.to_lowercase()),
            })
            .collect(),
        resources: spec.resources.iter().cloned().chain(shared).collect(),
        reminders: valid.reminders.iter().map(|it| it.time()).collect(),
        remarks: Vec::new(),
    };
    (series, remarks)
}

/// The validated recurrence. An override that only sets the length of an all-day series becomes the series' own length.
fn recurrence(valid: &ValidSchedule) -> RecurrenceSpec {
    let PlanBody::Schedule(plan) = &valid.plan.body else { return RecurrenceSpec::default() };
    let mut spec = plan.recurrence.clone();
    if valid.recurrence.is_all_day() {
        let single = RecurrenceSpec { overrides: Vec::new(), ..spec.clone() };
        let first = calendar::Recurrence::new(&single).ok().and_then(|it| it.all().next());
        let first = first.map(|it| it.local_start.date().to_string());
        let whole = spec.overrides.iter().position(|it| {
            it.this_and_future
                && it.start.is_none()
                && !it.cancelled
                && Some(&it.recurrence_id) == first.as_ref()
        });
        if let Some(at) = whole {
            spec.duration = spec.overrides.remove(at).duration;
        }
    }
    spec
}

/// A remark that lists the fields that iCalendar doesn't have.
fn not_written(spec: &ScheduleSpec) -> Vec<String> {
    let says = [
        ("conflictPolicy", spec.conflict_policy != crds::schedule::ConflictPolicy::default()),
        ("buffer", spec.buffer.is_some()),
        ("suggest", spec.suggest.is_some()),
        ("catchUp", spec.catch_up.is_some()),
        ("jitter", spec.jitter.is_some()),
        ("summary", spec.summary.is_some()),
        ("suspend", spec.suspend),
        ("participants[].workingHours", spec.participants.iter().any(|it| it.working_hours.is_some())),
        ("reminders[].notify", !spec.reminders.is_empty()),
    ];
    let names: Vec<&str> = says.into_iter().filter(|(_, says)| *says).map(|(name, _)| name).collect();
    let told = format!("not written: {}", names.join(", "));
    if names.is_empty() { Vec::new() } else { vec![told] }
}

/// The namespace and name, such as `default/standup`.
pub(crate) fn qualified_name(valid: &ValidSchedule) -> String {
    format!("{}/{}", valid.plan.namespace, valid.plan.name)
}
