//! The validating webhook's decisions: whether the API server may store an object.
//!
//! The decisions use the controllers' validation and the caches of this replica, whether it leads or not. What is
//! refused here would not work. What can only be known later is a condition: a channel that does not exist yet, or a
//! slot lost to a schedule that was created in the same instant.
//!
//! A question is read no further than its answer needs: the text of the two specs, and a few names. The memory for a
//! spec is bounded by its bytes and its number of values, which are counted before it is parsed. An object is never
//! refused when its spec does not change or when it is being deleted, so nothing that was stored gets stuck. A review
//! asks nobody, changes no object and reads no Secret.

use std::borrow::Cow;
use std::sync::Arc;

use crds::schedule::ConflictPolicy;
use crds::{AlertRule, BookableResource, NotificationChannel, Schedule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::conditions::reasons::{CONFLICTING, INVALID_SPEC, REF_NOT_PERMITTED, UNREADABLE};
use crate::conflicts::{Slot, not_permitted};
use crate::context::Context;
use crate::metrics::Metrics;
use crate::validate::{self, Invalid, ValidResource, ValidSchedule, guarded};

/// The longest spec, bytes; the schema's bounds allow half of it.
pub const MAX_SPEC: usize = 512 << 10;
/// The most values (members and elements, at any depth) in a spec; the schema's bounds allow half of them.
pub const MAX_VALUES: usize = 8_000;
/// The memory for a value besides its text, bytes: an object with one member has room for eleven.
const VALUE: usize = 700;
/// The longest message, bytes; a text that it quotes may be longer.
const MAX_MESSAGE: usize = 4_096;

/// Answers the API server.
pub struct Admission {
    context: Arc<Context>,
    metrics: Metrics,
}

/// A review as the API server asks it, as far as it needs to be read.
#[derive(Debug)]
pub struct Question {
    uid: String,
    kind: &'static str,
    namespace: String,
    news: Option<ChangedSpec>,
}

/// A spec that may differ from the stored one.
#[derive(Debug)]
struct ChangedSpec {
    metadata: ObjectMeta,
    spec: Box<str>,
    before: Option<Box<str>>,
    values: usize,
    /// Why the spec is too large; then its text is not kept.
    too_large: Option<String>,
}

/// The answer to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether the object may be stored.
    pub allowed: bool,
    /// Why not; empty when it may.
    pub message: String,
    /// Warnings that the user sees although the object is stored.
    pub warnings: Vec<String>,
    /// The same question may get another answer soon.
    pub again: bool,
}

/// The decision about an object.
enum Verdict {
    Allowed,
    Warned(String),
    Denied(String),
}

impl From<Invalid> for Verdict {
    fn from(invalid: Invalid) -> Self {
        let all =
            invalid.all().into_iter().map(|Invalid { reason, message, .. }| format!("{reason}: {message}"));
        Self::Denied(all.collect::<Vec<_>>().join("\n"))
    }
}

impl Admission {
    /// Judges by what the caches show.
    pub fn new(context: Arc<Context>, metrics: Metrics) -> Self {
        Self { context, metrics }
    }

    /// The answer to a question.
    pub fn review(&self, question: &Question) -> Answer {
        let verdict = match &question.news {
            Some(news) if !news.is_unchanged() => self.judge(question, news).unwrap_or_else(Verdict::from),
            _ => Verdict::Allowed,
        };
        let (result, answer) = match verdict {
            Verdict::Allowed => ("allowed", Answer::allowed(Vec::new())),
            Verdict::Warned(why) => ("warned", Answer::allowed(vec![why])),
            Verdict::Denied(why) => ("denied", Answer::denied(why)),
        };
        self.metrics.admitted(question.kind, result);
        answer
    }

    fn judge(&self, question: &Question, news: &ChangedSpec) -> Result<Verdict, Invalid> {
        Ok(match question.kind {
            "NotificationChannel" => {
                let check = |it: &NotificationChannel| validate::channel(it).map(drop);
                news.checked(NotificationChannel::new, question, check).map(|()| Verdict::Allowed)?
            }
            "AlertRule" => {
                let check = |it: &AlertRule| validate::rule(it).map(drop);
                news.checked(AlertRule::new, question, check).map(|()| Verdict::Allowed)?
            }
            "Schedule" => self.booked(&news.checked(Schedule::new, question, validate::schedule)?),
            "BookableResource" => {
                self.lent(&news.checked(BookableResource::new, question, validate::resource)?)
            }
            _ => Verdict::Allowed,
        })
    }

    /// A resource belongs to its owner, so a change is never denied; the owner is only warned who loses it.
    fn lent(&self, resource: &ValidResource) -> Verdict {
        self.context
            .conflicts
            .taken_by(resource, (self.context.now)())
            .map_or(Verdict::Allowed, Verdict::Warned)
    }

    /// Whether a schedule may book what it names, and its slot is free.
    fn booked(&self, schedule: &ValidSchedule) -> Verdict {
        let conflicts = &self.context.conflicts;
        let refused = not_permitted(&conflicts.not_permitted(schedule), &schedule.plan.namespace);
        if let Some(why) = refused {
            return Verdict::Denied(format!("{REF_NOT_PERMITTED}: {why}"));
        }
        if schedule.policy == ConflictPolicy::Allow {
            return Verdict::Allowed;
        }
        // The index skips the stored version of the same schedule.
        match conflicts.refusal(schedule, (self.context.now)()) {
            Slot::Free => Verdict::Allowed,
            Slot::Taken(why) | Slot::NotKnown(why) if schedule.policy == ConflictPolicy::Reject => {
                Verdict::Denied(format!("{CONFLICTING}: {why}"))
            }
            Slot::Taken(why) | Slot::NotKnown(why) => Verdict::Warned(format!("{CONFLICTING}: {why}")),
        }
    }
}

/// A review as the API server sends it. Everything else in it is skipped and takes no memory.
#[derive(Deserialize)]
struct Review<'a> {
    #[serde(borrow)]
    request: ReviewRequest<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReviewRequest<'a> {
    #[serde(borrow)]
    uid: Cow<'a, str>,
    #[serde(borrow)]
    kind: ReviewKind<'a>,
    #[serde(borrow)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow)]
    operation: Cow<'a, str>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    old_object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ReviewKind<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct ReviewObject<'a> {
    #[serde(borrow)]
    metadata: Option<ReviewMetadata<'a>>,
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
}

impl<'a> ReviewObject<'a> {
    /// The text of the spec.
    fn text(&self) -> &'a str {
        self.spec.map_or("null", RawValue::get)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReviewMetadata<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow)]
    uid: Option<Cow<'a, str>>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    #[serde(borrow)]
    deletion_timestamp: Option<&'a RawValue>,
}

/// The kinds that the webhook reviews.
const KINDS: [&str; 4] = ["NotificationChannel", "AlertRule", "Schedule", "BookableResource"];
/// Longest name of an object, a namespace or a question.
const MAX_NAME: usize = 253;

impl Question {
    /// Reads a review, in time proportional to its length, and with memory for at most two specs.
    pub fn read(review: &[u8]) -> Result<Self, serde_json::Error> {
        use serde::de::Error as _;
        let Review { request } = serde_json::from_slice(review)?;
        let kind = KINDS.into_iter().find(|kind| *kind == request.kind.kind).unwrap_or("Other");
        let namespace = request.namespace.unwrap_or_default();
        if request.uid.len() > MAX_NAME || namespace.len() > MAX_NAME {
            return Err(serde_json::Error::custom("a name is too long"));
        }
        let news = match (&*request.operation, request.object) {
            ("CREATE", Some(object)) => ChangedSpec::read(object, None, &namespace)?,
            ("UPDATE", Some(object)) => ChangedSpec::read(object, request.old_object, &namespace)?,
            _ => None,
        };
        Ok(Self { uid: request.uid.into_owned(), kind, namespace: namespace.into_owned(), news })
    }

    /// The namespace of the object.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether there is a spec to check; if not, the answer is yes.
    pub fn needs_review(&self) -> bool {
        self.news.is_some()
    }

    /// The most memory for it and its answer, bytes.
    pub fn cost(&self) -> usize {
        self.news.as_ref().map_or(0, |news| {
            let texts = news.spec.len() + news.before.as_ref().map_or(0, |text| text.len());
            // As texts, as values, and as the kind's own type.
            3 * texts + news.values * VALUE
        })
    }

    /// The review that carries the answer.
    pub fn answered(&self, answer: &Answer) -> Value {
        answer.to(&self.uid)
    }
}

impl Answer {
    fn allowed(warnings: Vec<String>) -> Self {
        Self { allowed: true, message: String::new(), warnings, again: false }
    }

    fn denied(mut message: String) -> Self {
        if message.len() > MAX_MESSAGE {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE));
            message.push_str(" ...");
        }
        Self { allowed: false, message, warnings: Vec::new(), again: false }
    }

    /// Denied for now: `why` names the bound.
    pub fn again(why: &str) -> Self {
        Self { again: true, ..Self::denied(format!("denied: try again: {why}")) }
    }

    /// Denied: `why` names the bound.
    pub fn too_large(why: &str) -> Self {
        Self::denied(format!("{INVALID_SPEC}: {why}"))
    }

    /// The review that carries this answer to the question with that uid. Clients of the API server retry by
    /// themselves.
    pub fn to(&self, uid: &str) -> Value {
        let mut response = json!({"uid": uid, "allowed": self.allowed});
        if !self.allowed {
            response["status"] = json!({"status": "Failure", "message": self.message});
        }
        if self.again {
            response["status"]["code"] = json!(429);
            response["status"]["reason"] = json!("TooManyRequests");
            response["status"]["details"] = json!({"retryAfterSeconds": 1});
        }
        if !self.warnings.is_empty() {
            response["warnings"] = json!(self.warnings);
        }
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }
}

impl ChangedSpec {
    /// `None` if the object is being deleted or its spec is the same text as before.
    fn read(
        object: &RawValue,
        before: Option<&RawValue>,
        namespace: &str,
    ) -> Result<Option<Self>, serde_json::Error> {
        let object: ReviewObject<'_> = serde_json::from_str(object.get())?;
        let before: Option<ReviewObject<'_>> = before.map(|it| serde_json::from_str(it.get())).transpose()?;
        let metadata = object.metadata.as_ref();
        let going = metadata.is_some_and(|it| it.deletion_timestamp.is_some());
        if going || before.as_ref().is_some_and(|before| before.text() == object.text()) {
            return Ok(None);
        }
        let owned = |text: Option<&Cow<'_, str>>| {
            text.filter(|text| text.len() <= MAX_NAME).map(|text| text.clone().into_owned())
        };
        let metadata = ObjectMeta {
            // One with generateName has no name yet.
            name: Some(owned(metadata.and_then(|it| it.name.as_ref())).unwrap_or_default()),
            namespace: owned(metadata.and_then(|it| it.namespace.as_ref()))
                .or_else(|| Some(namespace.to_owned())),
            uid: owned(metadata.and_then(|it| it.uid.as_ref()))
                .or_else(|| Some(uuid::Uuid::nil().to_string())),
            generation: metadata.and_then(|it| it.generation),
            creation_timestamp: metadata.and_then(|it| it.creation_timestamp.clone()),
            ..ObjectMeta::default()
        };
        let too_large = size(object.text()).err();
        let spec = too_large.as_ref().map_or(object.text(), |_| "null");
        let before = before.as_ref().map(ReviewObject::text).filter(|text| size(text).is_ok());
        let values = values(spec) + before.map_or(0, values);
        Ok(Some(Self { metadata, spec: spec.into(), before: before.map(Into::into), values, too_large }))
    }

    /// Whether the spec is the same as before, in another spelling.
    fn is_unchanged(&self) -> bool {
        let Some(before) = &self.before else { return false };
        let value = |text: &str| serde_json::from_str::<Value>(text).ok();
        self.too_large.is_none() && value(&self.spec) == value(before)
    }

    /// Reads and validates the object.
    fn checked<S: DeserializeOwned, K: kube::Resource<DynamicType = ()>, V>(
        &self,
        make: impl FnOnce(&str, S) -> K,
        question: &Question,
        check: impl FnOnce(&K) -> Result<V, Invalid>,
    ) -> Result<V, Invalid> {
        let unreadable = |message: String| Invalid::new(UNREADABLE, message);
        if let Some(message) = self.too_large.clone() {
            return Err(Invalid::new(INVALID_SPEC, message));
        }
        // Parsed by way of a `Value`, as in the caches: code for another way would make the operator larger.
        let spec: Value = serde_json::from_str(&self.spec).map_err(|error| unreadable(error.to_string()))?;
        if spec.is_null() {
            return Err(unreadable(format!("{} has no spec", question.kind)));
        }
        let spec: S = serde_json::from_value(spec).map_err(|error| unreadable(error.to_string()))?;
        let mut object = make("", spec);
        *object.meta_mut() = self.metadata.clone();
        guarded(|| check(&object))
    }
}

/// Refuses a spec that is larger than any valid one.
pub fn size(spec: &str) -> Result<(), String> {
    if spec.len() > MAX_SPEC {
        return Err(format!("spec: {} bytes; at most {MAX_SPEC}", spec.len()));
    }
    let values = values(spec);
    if values > MAX_VALUES {
        return Err(format!("spec: {values} values; at most {MAX_VALUES}"));
    }
    Ok(())
}

/// How many values a text of JSON has at most: one more than its commas and opened brackets outside of strings.
fn values(text: &str) -> usize {
    let (mut count, mut inside, mut escaped) = (1, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b',' | b'[' | b'{' if !inside => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_outside_of_strings() {
        for (text, count) in
            [("null", 1), ("[]", 2), (r#"{"a,[{": "b,\",[", "c": [1, 2, {}]}"#, 7), (r#"["\\", "a"]"#, 3)]
        {
            assert_eq!(values(text), count, "{text}");
        }
    }

    #[test]
    fn what_is_around_the_specs_takes_no_memory_and_a_spec_is_counted() {
        let fields = vec!["{}"; 100_000].join(",");
        let review = |spec: &str| {
            format!(
                r#"{{"kind": "AdmissionReview", "request": {{"uid": "u", "kind": {{"kind": "AlertRule"}}, "operation": "CREATE",
                "namespace": "a", "userInfo": {{"groups": [{fields}]}}, "object": {{"metadata": {{"managedFields": [{fields}]}},
                "status": {{"conditions": [{fields}]}}, "spec": {spec}}}}}}}"#
            )
        };
        let question = Question::read(review("{}").as_bytes()).unwrap();
        assert!(question.needs_review() && question.cost() < 2_000, "{}", question.cost());
        let many = format!("[{}]", vec!["0"; 20_000].join(","));
        let question = Question::read(review(&many).as_bytes()).unwrap();
        assert!(question.cost() < 2_000, "it is not kept: {}", question.cost());
        let most = format!("[{}]", vec!["0"; MAX_VALUES - 2].join(","));
        let question = Question::read(review(&most).as_bytes()).unwrap();
        assert!(question.cost() >= (MAX_VALUES - 2) * VALUE);
        assert_eq!(size(&many).unwrap_err(), "spec: 20001 values; at most 8000");
        assert!(size(&format!("\"{}\"", "x".repeat(MAX_SPEC))).unwrap_err().ends_with("at most 524288"));
    }

    #[test]
    fn a_denial_that_may_be_otherwise_soon_says_so_to_clients() {
        let told = Answer::again("the queue is full").to("7");
        assert_eq!(told["response"]["uid"], "7");
        assert_eq!(told["response"]["status"]["code"], 429);
        assert_eq!(told["response"]["status"]["message"], "denied: try again: the queue is full");
        let long = Answer::denied("ü".repeat(MAX_MESSAGE));
        assert!(long.message.len() < MAX_MESSAGE + 8 && long.message.ends_with("ü ..."));
    }
}
