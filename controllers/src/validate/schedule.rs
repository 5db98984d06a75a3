//! `Schedule` → [`Plan`], and the recurrence that the operator itself needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use calendar::{
    Dst, Fold, Gap, Override, Recurrence, RecurrenceError, RecurrenceSpec, Reminder, Search, SpecProblem,
    WhichRule, WorkingHours,
};
use crds::resource::ResourceRef;
use crds::schedule::{self as wire, Schedule};
use domain::{
    CatchUp, CatchUpPolicy, Digest, Millis, Plan, PlanBody, ReminderPlan, ReminderTime, ScheduleDetails,
    SchedulePlan,
};
use jiff::SignedDuration;
use jiff::civil::{Time, Weekday};
use templates::names::Names;
use uuid::Uuid;

use super::{DAY, Faults, HOUR, Identity, Invalid, MINUTE, MONTH, WEEK, duration, duration_or};
use crate::conditions::reasons;

/// The most `rrules`, and the most `exceptRrules`.
const MAX_RULES: usize = 8;

/// A schedule that cannot be wrong.
#[derive(Debug, Clone)]
pub struct ValidSchedule {
    /// What hub and workers need. Suspended as the user says; a conflict may suspend it too.
    pub plan: Plan,
    /// When it is.
    pub recurrence: Arc<Recurrence>,
    /// Its reminders.
    pub reminders: Vec<Reminder>,
    /// What to do when it clashes.
    pub policy: wire::ConflictPolicy,
    /// The participants (by address, or else by name) and resources of its own namespace that it needs. Empty if it
    /// leaves them free.
    pub needs: Vec<Need>,
    /// The resources of other namespaces that it asks for. Whether it may have them is not known here.
    pub shared: BTreeSet<ResourceRef>,
    /// Time before and after each occurrence in which nothing else may be under way.
    pub buffers: (Duration, Duration),
    /// The suggestions that it asks for, if any.
    pub suggest: Option<Suggest>,
}

/// A request for other times.
#[derive(Debug, Clone)]
pub struct Suggest {
    /// Where to look.
    pub search: Search,
    /// Whose hours count.
    pub people: BTreeMap<Need, WorkingHours>,
}

/// A person or resource of a namespace, which serves a limited number at a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Need {
    /// The namespace that it belongs to. The same name in another namespace is somebody or something else.
    pub namespace: String,
    /// Who or what.
    pub what: What,
}

/// Who or what is needed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// A participant, by lower-case address.
    Address(String),
    /// A participant without an address.
    Person(String),
    /// A resource.
    Resource(String),
}

impl Need {
    /// Its name for readers in `namespace`.
    pub fn seen_from(&self, namespace: &str) -> String {
        let (What::Address(name) | What::Person(name) | What::Resource(name)) = &self.what;
        if self.namespace == namespace { name.clone() } else { format!("{}/{name}", self.namespace) }
    }
}

impl From<&ResourceRef> for Need {
    fn from(reference: &ResourceRef) -> Self {
        Self { namespace: reference.namespace.clone(), what: What::Resource(reference.name.clone()) }
    }
}

/// Validates a schedule; reports all faults.
pub fn schedule(object: &Schedule) -> Result<ValidSchedule, Invalid> {
    let identity = Identity::from_metadata(&object.metadata)?;
    let spec = &object.spec;
    let mut faults = Faults::default();
    let when = when(spec, &mut faults);
    let delay_minutes = faults.take(delay(spec.jitter.as_ref(), identity.uid));
    let reminders = told(spec, delay_minutes.unwrap_or(0), &mut faults);
    let catch_up = faults.take(catch_up(spec.catch_up.as_ref()));
    let about = faults.take(about(spec));
    if let Some(summary) = &spec.summary {
        faults.take(super::text("summary", summary, &Names::for_schedule()));
    }
    // The worker gets their time zones too, so they are checked even if no suggestions are asked for.
    let people = match people(spec, &identity.namespace) {
        Ok(people) => people,
        Err(invalid) => {
            faults.add(invalid);
            BTreeMap::new()
        }
    };
    let suggest = faults.take(spec.suggest.as_ref().map(|wire| suggest(wire, people)).transpose());
    let buffers = faults.take(buffers(spec.buffer.as_ref()));
    let valid = (|| {
        let (text, recurrence) = when?;
        let (reminders, plans) = reminders?;
        let body = SchedulePlan {
            title: spec.title.clone(),
            about: about?,
            summary: spec.summary.clone(),
            recurrence: text,
            reminders: plans,
            time_zones: zones(spec),
            delay_minutes: delay_minutes?,
            catch_up: catch_up?,
        };
        let needs = needs(spec, &identity.namespace);
        Some(ValidSchedule {
            plan: identity.plan(spec.suspend, PlanBody::Schedule(body)),
            recurrence: Arc::new(recurrence),
            reminders,
            policy: spec.conflict_policy,
            needs,
            shared: if is_free(spec) {
                BTreeSet::new()
            } else {
                spec.shared_resources.iter().cloned().collect()
            },
            buffers: buffers?,
            suggest: suggest?,
        })
    })();
    faults.end(valid)
}

/// Its recurrence; `None` if that is wrong.
fn when(spec: &wire::ScheduleSpec, faults: &mut Faults) -> Option<(RecurrenceSpec, Recurrence)> {
    let length = faults.take(length(spec));
    // The other faults do not depend on the duration.
    let likely = if spec.all_day.unwrap_or(false) || is_date(&spec.start) { DAY } else { HOUR };
    let text = text(spec, length.unwrap_or(likely), faults);
    let recurrence = Recurrence::checked(&text);
    match recurrence {
        Ok(recurrence) => length.map(|_| (text, recurrence)),
        Err(all) => {
            let is_length = |error: &RecurrenceError| {
                matches!(error, RecurrenceError::Duration | RecurrenceError::AllDayDuration)
            };
            for problem in all.iter().filter(|it| length.is_some() || !is_length(&it.error)) {
                faults.add(unread(problem, &text, spec));
            }
            None
        }
    }
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && !text.contains('T')
}

/// Describes a recurrence's error by the field to change.
fn unread(problem: &SpecProblem, text: &RecurrenceSpec, spec: &wire::ScheduleSpec) -> Invalid {
    let rules = spec.recurrence.as_ref().map_or(0, |it| it.rrules.len());
    let place = match problem.rule {
        Some(WhichRule::Rule(at)) if rules > 0 => format!("recurrence.rrules[{at}]"),
        Some(WhichRule::Rule(_)) => "recurrence.rrule".to_owned(),
        Some(WhichRule::Except(at)) => format!("recurrence.exceptRrules[{at}]"),
        None => "recurrence".to_owned(),
    };
    let message = match &problem.error {
        RecurrenceError::Start(_) if has_offset(&text.start) => format!(
            "start: {:?} has an offset; write the local time without one, such as 2026-01-05T10:00:00: its zone is in timeZone",
            text.start
        ),
        error @ (RecurrenceError::Date { .. }
        | RecurrenceError::TooManyDates { .. }
        | RecurrenceError::NoSuchOccurrence { .. }
        | RecurrenceError::OverridesTooCostly) => format!("{place}.{error}"),
        RecurrenceError::NeverHappens => format!("{place}: {}", problem.error),
        error => match (error.to_string(), problem.rule) {
            // The field is named already.
            (told, Some(_)) => format!("{place}{}", told.strip_prefix("rrule").unwrap_or(&told)),
            (told, None) => told,
        },
    };
    Invalid::new(reasons::INVALID_RECURRENCE, message)
}

fn has_offset(start: &str) -> bool {
    start.split_once('T').is_some_and(|(_, time)| time.contains(['Z', 'z', '+', '-']))
}

/// A local time with its seconds, which may be left out.
fn with_seconds(text: &str) -> String {
    let is_bare = text.len() == 16 && text.as_bytes().get(10) == Some(&b'T');
    if is_bare { format!("{text}:00") } else { text.to_owned() }
}

/// Its reminders; `None` if one is wrong.
fn told(
    spec: &wire::ScheduleSpec,
    delay_minutes: u16,
    faults: &mut Faults,
) -> Option<(Vec<Reminder>, Vec<ReminderPlan>)> {
    let mut reminders = Vec::new();
    let mut plans: Vec<ReminderPlan> = Vec::new();
    for (at, wire) in spec.reminders.iter().enumerate() {
        let checked = reminder(&format!("reminders[{at}]"), wire).and_then(|(reminder, plan)| {
            if plans.iter().any(|other| other.time == plan.time) {
                return Err(Invalid::new(
                    reasons::INVALID_REMINDER,
                    format!(
                        "reminders[{at}]: its time is there already; put all of its channels in one notify"
                    ),
                ));
            }
            Ok((reminder, plan))
        });
        if let Some((reminder, plan)) = faults.take(checked) {
            reminders.push(reminder.delayed(delay_minutes));
            plans.push(plan);
        }
    }
    (plans.len() == spec.reminders.len()).then_some((reminders, plans))
}

/// What it tells people about itself.
fn about(spec: &wire::ScheduleSpec) -> Result<ScheduleDetails, Invalid> {
    if let Some(url) = &spec.url {
        let scheme = url.split_once(':').filter(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
        if scheme.is_none() || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Invalid::spec(format!(
                "url: {url:?} is not a URL such as https://meet.example.com/x"
            )));
        }
    }
    let shared = spec.shared_resources.iter().map(|it| format!("{}/{}", it.namespace, it.name));
    Ok(ScheduleDetails {
        description: spec.description.clone(),
        location: spec.location.clone(),
        url: spec.url.clone(),
        resources: spec.resources.iter().cloned().chain(shared).collect(),
    })
}

/// The recurrence as the calendar reads it, here and in the worker, without the parts that are wrong by themselves.
fn text(spec: &wire::ScheduleSpec, length: Millis, faults: &mut Faults) -> RecurrenceSpec {
    let default = wire::Recurrence::default();
    let wire = spec.recurrence.as_ref().unwrap_or(&default);
    let dst = wire.dst.clone().unwrap_or_default();
    let (rule, more_rules, except_rules) = rules(wire, faults);
    let times = |texts: &[String]| texts.iter().map(|text| with_seconds(text)).collect();
    let overrides: Vec<Override> =
        wire.overrides.iter().enumerate().filter_map(|it| overrides(it, faults)).collect();
    RecurrenceSpec {
        start: with_seconds(&spec.start),
        time_zone: spec.time_zone.clone(),
        duration: Some(SignedDuration::from_millis(length.0)),
        rule,
        more_rules,
        except_rules,
        dates: times(&wire.dates),
        except_dates: times(&wire.except_dates),
        // Messages have indexes into the list, so a shortened list would be wrong.
        overrides: if overrides.len() == wire.overrides.len() { overrides } else { Vec::new() },
        dst: Dst {
            gap: match dst.gap {
                wire::Gap::ShiftForward => Gap::ShiftForward,
                wire::Gap::Skip => Gap::Skip,
            },
            fold: match dst.fold {
                wire::Fold::First => Fold::First,
                wire::Fold::Last => Fold::Last,
                wire::Fold::Both => Fold::Both,
            },
        },
        ..RecurrenceSpec::default()
    }
}

/// The first rule, the other rules, and the rules whose times are left out.
fn rules(wire: &wire::Recurrence, faults: &mut Faults) -> (Option<String>, Vec<String>, Vec<String>) {
    let mut bounded = |list: &str, rules: &[String]| {
        if rules.len() <= MAX_RULES {
            return rules.to_vec();
        }
        faults.add(Invalid::spec(format!("recurrence.{list}: at most {MAX_RULES} rules are allowed")));
        Vec::new()
    };
    let (mut more, except) = (bounded("rrules", &wire.rrules), bounded("exceptRrules", &wire.except_rrules));
    let single = wire.rrule.clone().filter(|rule| !rule.is_empty());
    if single.is_some() && !wire.rrules.is_empty() || wire.rrules.len() == 1 {
        faults.add(Invalid::spec(
            "recurrence: either rrule or rrules: put one rule in rrule, 2 to 8 rules in rrules",
        ));
    }
    if single.is_some() || more.is_empty() {
        return (single, Vec::new(), except);
    }
    let first = more.remove(0);
    (Some(first), more, except)
}

fn overrides((at, wire): (usize, &wire::Override), faults: &mut Faults) -> Option<Override> {
    let place = format!("recurrence.overrides[{at}]");
    let cancelled = wire.cancelled.unwrap_or(false);
    if cancelled == (wire.start.is_some() || wire.duration.is_some()) {
        faults.add(Invalid::spec(format!("{place}: either cancelled: true, or start or duration or both")));
    }
    let length = wire.duration.as_ref();
    let length = length.map(|text| duration(&format!("{place}.duration"), text, MINUTE, MONTH)).transpose();
    let length = faults.take(length)?;
    Some(Override {
        recurrence_id: with_seconds(&wire.recurrence_id),
        this_and_future: wire.range == wire::OverrideRange::ThisAndFuture,
        cancelled,
        start: wire.start.as_deref().map(with_seconds),
        duration: length.map(|length| SignedDuration::from_millis(length.0)),
        nominal_days: 0,
    })
}

fn length(spec: &wire::ScheduleSpec) -> Result<Millis, Invalid> {
    match (&spec.duration, spec.all_day.unwrap_or(false)) {
        (Some(text), false) => {
            let length = duration("duration", text, MINUTE, MONTH)?;
            if length.0 % 1_000 != 0 {
                return Err(Invalid::spec("duration: whole seconds are needed"));
            }
            Ok(length)
        }
        (None, true) => Ok(DAY),
        _ => Err(Invalid::spec("exactly one of duration and allDay: true is needed")),
    }
}

fn reminder(place: &str, wire: &wire::Reminder) -> Result<(Reminder, ReminderPlan), Invalid> {
    let mut faults = Faults::default();
    let reminder = faults.take(reminder_time(place, wire));
    if wire.notify.is_empty() {
        let message = format!("{place}.notify: at least one channel is needed");
        faults.add(Invalid::new(reasons::INVALID_REMINDER, message));
    }
    faults.end(reminder.map(|reminder| {
        let plan = ReminderPlan { time: reminder.time(), notify: super::channels(&wire.notify) };
        (reminder, plan)
    }))
}

fn reminder_time(place: &str, wire: &wire::Reminder) -> Result<Reminder, Invalid> {
    let invalid = |message: String| Invalid::new(reasons::INVALID_REMINDER, message);
    match (&wire.before, &wire.at) {
        (Some(before), None) if wire.days_before.is_none() => {
            let (sign, text) = before.0.strip_prefix('-').map_or((1, before.0.as_str()), |text| (-1, text));
            let before = duration(&format!("{place}.before"), &text.into(), Millis(0), MONTH)
                .map_err(|error| invalid(error.message))?;
            Reminder::new(SignedDuration::from_millis(sign * before.0))
                .map_err(|error| invalid(format!("{place}: {error}")))
        }
        (None, Some(text)) => {
            let mut faults = Faults::default();
            let at = faults.take(text.parse().map_err(|_| {
                invalid(format!("{place}.at: {text:?} is not a time of the clock such as 09:00"))
            }));
            let days = wire.days_before.unwrap_or(1);
            let days_before = faults.take(
                u16::try_from(days)
                    .ok()
                    .filter(|days| *days <= 30)
                    .ok_or_else(|| invalid(format!("{place}.daysBefore: {days} is not from 0 to 30"))),
            );
            let (at, days_before) = faults.end(at.zip(days_before))?;
            Reminder::from_time(ReminderTime::At { at, days_before })
                .map_err(|error| invalid(format!("{place}: {error}")))
        }
        (Some(_), None) => Err(invalid(format!("{place}: daysBefore belongs to at"))),
        _ => Err(invalid(format!("{place}: exactly one of before and at is needed"))),
    }
}

/// Participants whose time zone differs from the schedule's.
fn zones(spec: &wire::ScheduleSpec) -> BTreeMap<String, String> {
    let zone = |person: &wire::Participant| {
        let zone = person.working_hours.as_ref()?.time_zone.clone()?;
        Some((person.email.as_ref()?.to_lowercase(), zone)).filter(|(_, zone)| *zone != spec.time_zone)
    };
    spec.participants.iter().filter_map(zone).collect()
}

/// The schedule's own delay within the jitter.
fn delay(jitter: Option<&crds::common::Duration>, uid: Uuid) -> Result<u16, Invalid> {
    let most = duration_or("jitter", jitter, (Millis(0), Millis(0), HOUR))?.0 / 60_000;
    let spread = Digest::of(&uid.to_string());
    let number = u64::from_str_radix(spread.short(), 16).unwrap_or_default();
    Ok((number % (most.unsigned_abs() + 1)) as u16)
}

fn catch_up(wire: Option<&wire::CatchUp>) -> Result<CatchUp, Invalid> {
    let default = wire::CatchUp::default();
    let wire = wire.unwrap_or(&default);
    Ok(CatchUp {
        policy: match wire.policy {
            wire::CatchUpPolicy::All => CatchUpPolicy::All,
            wire::CatchUpPolicy::Latest => CatchUpPolicy::Latest,
            wire::CatchUpPolicy::None => CatchUpPolicy::None,
        },
        window: duration_or("catchUp.window", wire.window.as_ref(), (MINUTE, HOUR, WEEK))?,
    })
}

fn is_free(spec: &wire::ScheduleSpec) -> bool {
    spec.transparency == wire::Transparency::Transparent
}

fn needs(spec: &wire::ScheduleSpec, namespace: &str) -> Vec<Need> {
    if is_free(spec) {
        return Vec::new();
    }
    let people = spec.participants.iter().map(person);
    let all = people.chain(spec.resources.iter().cloned().map(What::Resource));
    let mut needs: Vec<Need> = all.map(|what| Need { namespace: namespace.to_owned(), what }).collect();
    needs.sort_unstable();
    needs.dedup();
    needs
}

fn person(person: &wire::Participant) -> What {
    match &person.email {
        Some(email) => What::Address(email.to_lowercase()),
        None => What::Person(person.name.clone()),
    }
}

fn buffers(wire: Option<&wire::Buffer>) -> Result<(Duration, Duration), Invalid> {
    let none = wire::Buffer::default();
    let wire = wire.unwrap_or(&none);
    let mut faults = Faults::default();
    let mut buffer = |place, text| {
        let millis = faults.take(duration_or(place, text, (Millis(0), Millis(0), DAY)))?;
        Some(Duration::from_millis(millis.0.unsigned_abs()))
    };
    let both = (buffer("buffer.before", wire.before.as_ref()), buffer("buffer.after", wire.after.as_ref()));
    faults.end(both.0.zip(both.1))
}

fn suggest(wire: &wire::Suggest, people: BTreeMap<Need, WorkingHours>) -> Result<Suggest, Invalid> {
    let default = Search::default();
    let mut faults = Faults::default();
    let mut span = |place, text: Option<&crds::common::Duration>, (least, default, most)| {
        let default = Millis(SignedDuration::as_millis(&default) as i64);
        let millis = faults.take(duration_or(place, text, (least, default, most)));
        millis.map(|millis| SignedDuration::from_millis(millis.0))
    };
    let grid = span("suggest.grid", wire.grid.as_ref(), (MINUTE, default.grid, DAY));
    let reach = span("suggest.within", wire.within.as_ref(), (HOUR, default.reach, MONTH));
    let count = wire.count.map_or(Ok(default.count), usize::try_from);
    let count = faults.take(count.ok().filter(|count| (1..=10).contains(count)).ok_or_else(|| {
        Invalid::spec(format!("suggest.count: {} is not from 1 to 10", wire.count.unwrap_or_default()))
    }));
    let search = (|| Some(Search { grid: grid?, reach: reach?, count: count? }))();
    faults.end(search.map(|search| Suggest { search, people }))
}

/// The working hours of each participant.
pub fn people(spec: &wire::ScheduleSpec, namespace: &str) -> Result<BTreeMap<Need, WorkingHours>, Invalid> {
    let (mut people, mut faults) = (BTreeMap::new(), Faults::default());
    for (at, participant) in spec.participants.iter().enumerate() {
        let place = format!("participants[{at}].workingHours.");
        let hours = hours(participant.working_hours.as_ref(), &spec.time_zone);
        if let Some(hours) = faults.take(hours.map_err(|invalid| invalid.below(&place))) {
            people.insert(Need { namespace: namespace.to_owned(), what: person(participant) }, hours);
        }
    }
    faults.end(Some(people))
}

fn hours(wire: Option<&wire::WorkingHours>, zone: &str) -> Result<WorkingHours, Invalid> {
    let mut faults = Faults::default();
    let mut time = |place: &str, text: &str| {
        let time = text.parse::<Time>();
        faults.take(time.map_err(|_| Invalid::spec(format!("{place}: {text:?} is not a time such as 09:00"))))
    };
    let (from, to) = match wire {
        Some(wire) => (time("from", &wire.from), time("to", &wire.to)),
        None => (Some(Time::constant(9, 0, 0, 0)), Some(Time::constant(18, 0, 0, 0))),
    };
    let days: Vec<Weekday> = match wire {
        Some(wire) => wire.days.iter().map(|day| weekday(*day)).collect(),
        None => Weekday::Monday.cycle_forward().take(5).collect(),
    };
    let own = wire.and_then(|wire| wire.time_zone.as_deref());
    // Without a zone of its own it has the schedule's, which has its own check.
    let zone = own.or_else(|| calendar::find_zone(zone).map(|_| zone)).unwrap_or("UTC");
    let midnight = Time::midnight();
    let hours = WorkingHours::new(zone, &days, from.unwrap_or(midnight), to.unwrap_or(midnight));
    let hours = faults.take(hours.map_err(|error| Invalid::spec(error.to_string())));
    faults.end(hours)
}

fn weekday(day: wire::Weekday) -> Weekday {
    match day {
        wire::Weekday::MO => Weekday::Monday,
        wire::Weekday::TU => Weekday::Tuesday,
        wire::Weekday::WE => Weekday::Wednesday,
        wire::Weekday::TH => Weekday::Thursday,
        wire::Weekday::FR => Weekday::Friday,
        wire::Weekday::SA => Weekday::Saturday,
        wire::Weekday::SU => Weekday::Sunday,
    }
}
