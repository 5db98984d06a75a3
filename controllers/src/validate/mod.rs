//! Validation: from what a user wrote to a plan that cannot be wrong, or to the place and reason why not.
//!
//! Pure: needs no cluster and no clock. What the schema refuses already is refused here again, since an object may be older
//! than the schema. Never: a value of a Secret.

mod channel;
mod condition;
mod kafka;
mod resource;
mod rule;
mod schedule;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use channel::{channel, files_of};
pub use resource::{Valid as ValidResource, resource};
pub use rule::{rule, source_of};
pub use schedule::{Need, Suggest, Valid as ValidSchedule, What, people, schedule};

use domain::{Guard, Millis, Plan, PlanBody};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
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
}

impl Invalid {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    fn spec(message: impl Into<String>) -> Self {
        Self::new(reasons::INVALID_SPEC, message)
    }
}

/// What names an object, checked.
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
    /// Of an object that the API server stored.
    pub fn of(meta: &ObjectMeta) -> Result<Self, Invalid> {
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

/// Runs a check that meets whatever a user may write. A panic in it is our bug, and stays this one object's trouble.
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

/// The same, or a default where it is absent.
fn duration_or(
    place: &str,
    text: Option<&crds::common::Duration>,
    (least, default, most): (Millis, Millis, Millis),
) -> Result<Millis, Invalid> {
    text.map_or(Ok(default), |text| duration(place, text, least, most))
}

/// Refuses the host of a URL, or a host alone, that no worker may connect to. A name is judged where it is resolved.
fn reachable(place: &str, url: &str) -> Result<(), Invalid> {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    let host = match host.split_once(']') {
        Some((inside, _)) => inside.trim_start_matches('['),
        // Several colons: an address of IPv6 that stands alone.
        None if host.matches(':').count() > 1 => host,
        None => host.split(':').next().unwrap_or_default(),
    };
    let own = host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost");
    let denied = if own {
        Some(format!("{host} is the worker itself"))
    } else {
        Guard::new(false).check_host(host).err().map(|denied| denied.to_string())
    };
    denied.map_or(Ok(()), |why| Err(Invalid::new(reasons::FORBIDDEN_ADDRESS, format!("{place}: {why}"))))
}

const SECOND: Millis = Millis::from_secs(1);
const MINUTE: Millis = Millis::from_secs(60);
const HOUR: Millis = Millis::from_secs(3_600);
const DAY: Millis = Millis::from_secs(86_400);
const WEEK: Millis = Millis::from_secs(7 * 86_400);
const MONTH: Millis = Millis::from_secs(30 * 86_400);

/// Checks a template, and says where it is wrong.
fn template(place: &str, text: &str) -> Result<(), Invalid> {
    templates::Template::compile(text)
        .map(drop)
        .map_err(|error| Invalid::new(reasons::INVALID_TEMPLATE, format!("{place}: {error}")))
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
        ] {
            let refused = reachable("webhook.url", forbidden).unwrap_err();
            assert!(refused.message.starts_with("webhook.url: "), "{}", refused.message);
        }
        for allowed in
            ["http://10.0.0.1/", "https://example.com:8443/127.0.0.1", "mail.example.com", "2606:4700::1"]
        {
            assert_eq!(reachable("x", allowed), Ok(()), "{allowed}");
        }
    }
}
