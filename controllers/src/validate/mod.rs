//! Validation: turns what a user wrote into a plan that cannot be wrong, or into the places and reasons why it is
//! invalid.
//!
//! It is pure: it needs no cluster and no clock. What the schema refuses is refused here again, since an object may be
//! older than the schema. It reads no Secret.

mod channel;
mod condition;
mod kafka;
mod references;
mod resource;
mod rule;
mod schedule;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

pub use channel::{channel, files_of};
pub use resource::{ValidResource, resource};
pub use rule::{rule, source_of};
pub use schedule::{Need, Suggest, ValidSchedule, What, people, schedule};

use domain::{Guard, Millis, Plan, PlanBody};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use templates::names::Names;
use uuid::Uuid;

use crate::conditions::reasons;

/// Why an object can't be a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    /// From [`crate::conditions::reasons`].
    pub reason: &'static str,
    /// The place, and what is allowed.
    pub message: String,
    /// What else is wrong with the same object.
    pub others: Vec<Self>,
}

/// The most faults that are reported for one object.
const MAX_FAULTS: usize = 20;

impl Invalid {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), others: Vec::new() }
    }

    /// This fault and the others, as separate values.
    pub fn all(self) -> Vec<Self> {
        let others = self.others.into_iter().flat_map(Self::all);
        let mut all = vec![Self::new(self.reason, self.message)];
        all.extend(others);
        all
    }

    /// All faults in one text; a fault has its reason in front if it differs from the first's.
    pub fn full_message(&self) -> String {
        let mut told = self.message.clone();
        for other in &self.others {
            told.push_str("; also ");
            if other.reason != self.reason {
                told.push_str(other.reason);
                told.push_str(": ");
            }
            told.push_str(&other.full_message());
        }
        told
    }

    fn spec(message: impl Into<String>) -> Self {
        Self::new(reasons::INVALID_SPEC, message)
    }

    /// The same faults with `place` in front of each message.
    fn below(self, place: &str) -> Self {
        Self {
            message: format!("{place}{}", self.message),
            others: self.others.into_iter().map(|other| other.below(place)).collect(),
            ..self
        }
    }
}

/// Collects what is wrong with an object, so that all faults are reported together.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Invalid>);

impl Faults {
    /// The checked value; if it is wrong, keeps the fault and returns `None`.
    pub(crate) fn take<T>(&mut self, checked: Result<T, Invalid>) -> Option<T> {
        checked.map_err(|invalid| self.0.extend(invalid.all())).ok()
    }

    /// Adds a fault.
    pub(crate) fn add(&mut self, invalid: Invalid) {
        self.0.extend(invalid.all());
    }

    /// The checked value if there was no fault, otherwise all faults.
    pub(crate) fn end<T>(mut self, checked: Option<T>) -> Result<T, Invalid> {
        if self.0.len() > MAX_FAULTS {
            let more = self.0.len() - MAX_FAULTS;
            self.0.truncate(MAX_FAULTS);
            self.add(Invalid::spec(format!("{more} more mistakes are not listed; mend these first")));
        }
        let mut faults = self.0.into_iter();
        match (faults.next(), checked) {
            (None, Some(checked)) => Ok(checked),
            (Some(first), _) => Err(Invalid { others: faults.collect(), ..first }),
            (None, None) => {
                Err(Invalid::new(reasons::INTERNAL_ERROR, "a check gave neither a value nor a fault"))
            }
        }
    }
}

/// The identity of an object, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: Uuid,
    /// Its generation.
    pub generation: i64,
    /// When it was created.
    pub created: Timestamp,
}

impl Identity {
    /// The identity in the metadata of a stored object.
    pub fn from_metadata(meta: &ObjectMeta) -> Result<Self, Invalid> {
        let missing = |what: &str| Invalid::spec(format!("metadata.{what} is missing"));
        let uid = meta.uid.as_deref().ok_or_else(|| missing("uid"))?;
        Ok(Self {
            namespace: meta.namespace.clone().ok_or_else(|| missing("namespace"))?,
            name: meta.name.clone().ok_or_else(|| missing("name"))?,
            uid: uid.parse().map_err(|_| Invalid::spec("metadata.uid is not a UUID"))?,
            generation: meta.generation.unwrap_or(0),
            created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        })
    }

    fn plan(self, suspended: bool, body: PlanBody) -> Plan {
        Plan {
            namespace: self.namespace,
            name: self.name,
            uid: self.uid,
            generation: self.generation,
            created: self.created,
            suspended,
            body,
        }
    }
}

/// Runs a check of what a user wrote. A panic in it is our bug and must affect this object alone.
pub fn guarded<T>(check: impl FnOnce() -> Result<T, Invalid>) -> Result<T, Invalid> {
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|_| {
        Err(Invalid::new(
            reasons::INTERNAL_ERROR,
            "the check of this object broke off: please report its manifest as a bug of Belfry",
        ))
    })
}

/// Reads a duration within its bounds.
fn duration(
    place: &str,
    text: &crds::common::Duration,
    least: Millis,
    most: Millis,
) -> Result<Millis, Invalid> {
    let millis = Millis::parse(&text.0).map_err(|error| Invalid::spec(format!("{place}: {error}")))?;
    if millis < least || millis > most {
        return Err(Invalid::spec(format!("{place}: {millis} is not from {least} to {most}")));
    }
    Ok(millis)
}

/// The same, with a default if it is absent.
fn duration_or(
    place: &str,
    text: Option<&crds::common::Duration>,
    (least, default, most): (Millis, Millis, Millis),
) -> Result<Millis, Invalid> {
    text.map_or(Ok(default), |text| duration(place, text, least, most))
}

/// Where workers may connect to, as this cluster's administrator set it.
static WORKERS: OnceLock<Guard> = OnceLock::new();

/// Sets where workers may connect to, once, before the first object is validated. If it is not set, as in a command
/// line without a cluster, the defaults count.
pub fn workers_connect_by(guard: Guard) {
    let _ = WORKERS.set(guard);
}

/// Refuses a URL, a `host:port` or a host to which no worker may connect. A name is judged where it is resolved, in the
/// worker.
fn reachable(place: &str, url: &str) -> Result<(), Invalid> {
    reachable_by(WORKERS.get().copied().unwrap_or(Guard::new(false)), place, url)
}

fn reachable_by(guard: Guard, place: &str, url: &str) -> Result<(), Invalid> {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    // URL parsers take a backslash for a slash (WHATWG).
    let host = host.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    let host = match host.split_once(']') {
        Some((inside, _)) => inside.trim_start_matches('['),
        // Several colons: an IPv6 address without a port.
        None if host.matches(':').count() > 1 => host,
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let own = name == "localhost" || name.ends_with(".localhost");
    let denied = if own {
        guard.check_host("127.0.0.1").is_err().then(|| format!("{host} is the worker itself"))
    } else if let Err(denied) = guard.check_host(host) {
        Some(denied.to_string())
    } else {
        // URL parsers turn these into other characters (percent-encoding, full-width digits), so the host can't be
        // judged.
        let is_plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '.' | '_' | ':');
        let zone = host.split('%').next().filter(|before| before.contains(':')).unwrap_or(host);
        (!zone.chars().all(is_plain)).then(|| {
            format!("the host {host} is not ASCII letters, digits, '-', '.' and '_' (xn-- for others)")
        })
    };
    let refused = |why| format!("{place}: {why}; allowed are {}", guard.allowed());
    denied.map_or(Ok(()), |why| Err(Invalid::new(reasons::FORBIDDEN_ADDRESS, refused(why))))
}

const SECOND: Millis = Millis::from_secs(1);
const MINUTE: Millis = Millis::from_secs(60);
const HOUR: Millis = Millis::from_secs(3_600);
const DAY: Millis = Millis::from_secs(86_400);
const WEEK: Millis = Millis::from_secs(7 * 86_400);
const MONTH: Millis = Millis::from_secs(30 * 86_400);

/// Checks a template that may use these names; reports all faults.
fn text(place: &str, text: &str, names: &Names) -> Result<(), Invalid> {
    let mut faults = Faults::default();
    for error in names.check(text) {
        faults.take::<()>(Err(Invalid::new(reasons::INVALID_TEMPLATE, format!("{place}: {error}"))));
    }
    faults.end(Some(()))
}

/// Checks a CEL expression; reports all faults.
fn expression(place: &str, text: &str) -> Result<(), Invalid> {
    let mut faults = Faults::default();
    for error in alerting::matching::Matcher::check(text) {
        faults.add(Invalid::new(reasons::INVALID_MATCH, format!("{place}: {error}")));
    }
    faults.end(Some(()))
}

/// Names of channels, each once, in the order given.
fn channels<'a>(notify: impl IntoIterator<Item = &'a crds::common::Notify>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for notify in notify {
        if !names.contains(&notify.channel_ref.name) {
            names.push(notify.channel_ref.name.clone());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_panics_is_the_trouble_of_its_object_alone() {
        let result = guarded::<()>(|| panic!("poison"));
        assert_eq!(result.unwrap_err().reason, reasons::INTERNAL_ERROR);
    }

    #[test]
    fn an_address_that_no_worker_may_connect_to_is_refused_wherever_it_stands_in_a_url() {
        for forbidden in [
            "http://127.0.0.1:9090/metrics",
            "http://[::1]/",
            "https://user@169.254.169.254?x",
            "http://localhost:8080",
            "http://a.LOCALHOST/",
            "127.0.0.1",
            "fe80::1",
            "fe80::1%eth0",
            "http://LocalHost./",
            "http://127.0.0.1\\@example.com/",
            "http://2130706433/",
            "http://0x7f.1:80/",
            "https://0251.0376.0251.0376/",
            "http://[::FFFF:A9FE:A9FE]/",
            "168.63.129.16:9092",
            "[fd00:ec2::254]:9092",
            "198.18.0.1",
        ] {
            let refused = reachable("webhook.url", forbidden).unwrap_err();
            assert_eq!(refused.reason, reasons::FORBIDDEN_ADDRESS);
            assert!(refused.message.starts_with("webhook.url: "), "{}", refused.message);
            let allowed = "; allowed are public and private addresses, and names that lead to them";
            assert!(refused.message.ends_with(allowed), "{}", refused.message);
        }
        for spelled in
            ["http://①②⑦.⓪.⓪.①/", "http://127。0。0。1/", "http://１２７.0.0.1/", "http://%31%32%37.0.0.1/"]
        {
            let refused = reachable("webhook.url", spelled).unwrap_err();
            assert_eq!(refused.reason, reasons::FORBIDDEN_ADDRESS, "{}", refused.message);
        }
        for allowed in
            ["http://10.0.0.1/", "https://example.com:8443/127.0.0.1", "mail.example.com", "2606:4700::1"]
        {
            assert_eq!(reachable("x", allowed), Ok(()), "{allowed}");
        }
    }

    #[test]
    fn what_the_administrator_refuses_or_allows_is_what_admission_does() {
        let range = |text: &str| vec![text.parse().unwrap()];
        let guard = Guard::new(true).with_ranges(range("8.8.8.0/24"), range("127.0.0.0/8"));
        for (host, allowed) in
            [("127.0.0.1:9092", true), ("localhost", true), ("8.8.8.8", false), ("10.0.0.1:9092", false)]
        {
            let checked = reachable_by(guard, "x", host);
            assert_eq!(checked.is_ok(), allowed, "{host}");
            let told = checked.err().map_or(String::new(), |invalid| invalid.message);
            assert!(
                allowed || told.ends_with("public addresses, and names that lead to them, 127.0.0.0/8"),
                "{told}"
            );
        }
    }
}
