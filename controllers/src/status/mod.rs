//! Builds the status of an object from what is known of it; pure functions, one file for each kind.
//!
//! `Ready` is true only when the children do the job for this generation. No message of a condition has a number that
//! changes all the time.

mod channel;
mod deliveries;
mod resource;
mod rule;
mod schedule;

pub use channel::channel;
pub use resource::resource;
pub use rule::rule;
pub(crate) use schedule::local;
pub use schedule::{Clash, Times, schedule};

use domain::Plan;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use protocol::messages::{ObjectProblem, ObjectStatus};

use crate::conditions::{Standing, reasons};
use crate::hub::View;
use crate::validate::Invalid;

/// The state of a worker's Deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workers {
    /// Its name.
    pub name: String,
    /// Pods that can work.
    pub available: i32,
    /// What keeps pods from being made.
    pub trouble: Option<String>,
}

/// A channel that can't send now, as its own status says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Its name.
    pub name: String,
    /// The reason of its `Ready`.
    pub reason: String,
    /// The message of its `Ready`.
    pub message: String,
    /// Whether only a person can help.
    pub stalled: bool,
}

/// What the status is built from, the same for all kinds.
pub struct Facts<'a> {
    /// `metadata.generation`.
    pub generation: i64,
    /// Its conditions so far.
    pub before: &'a [Condition],
    /// Its plan, or why it is invalid.
    pub plan: Result<&'a Plan, &'a Invalid>,
    /// What the hub holds and says of it.
    pub hub: Option<View>,
    /// What keeps its children from being written.
    pub apply_error: Option<Standing>,
    /// The Deployments that work for it.
    pub workers: Vec<Workers>,
    /// Whether a worker runs for it all the time and reports its revision.
    pub wants_running: bool,
    /// Channels that it names and that do not exist.
    pub missing_channels: Vec<String>,
    /// Channels that it names and that can't send now.
    pub stuck_channels: Vec<Stuck>,
    /// Where workers look for the hub.
    pub hub_url: &'a str,
    /// The current time.
    pub now: Timestamp,
}

impl Facts<'_> {
    /// The status that the hub's feed gave.
    fn hub_status(&self) -> Option<&ObjectStatus> {
        self.hub.as_ref()?.status.as_ref()
    }

    /// The first of these that is true: only a new manifest can help, something is under way, something is missing.
    /// `None` if the object does its job.
    fn trouble(&self) -> Option<Standing> {
        let plan = match self.plan {
            Err(invalid) => {
                let earlier =
                    self.hub_status().map(|told| format!("; generation {} stays in force", told.generation));
                return Some(Standing::Stalled {
                    reason: invalid.reason.to_owned(),
                    message: format!("{}{}", invalid.full_message(), earlier.unwrap_or_default()),
                });
            }
            Ok(plan) => plan,
        };
        if let Some(standing) = &self.apply_error {
            return Some(standing.clone());
        }
        if let Some(trouble) = self.hub_trouble(plan) {
            return Some(trouble);
        }
        if plan.suspended {
            return Some(waiting(
                reasons::SUSPENDED,
                "suspended as spec.suspend says; set it to false to go on".to_owned(),
            ));
        }
        if let Some(trouble) = self.missing() {
            return Some(trouble);
        }
        if let Some(down) = self.workers.iter().find(|workers| workers.available == 0) {
            let why = down.trouble.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            return Some(under_way(
                reasons::WORKER_UNAVAILABLE,
                format!(
                    "Deployment {} has no available pod yet{why}; a pod is available once it has reached the hub at {}{}",
                    down.name,
                    self.hub_url,
                    if self.hub.as_ref().is_some_and(|hub| hub.silent) {
                        ", which does not answer the operator now either"
                    } else {
                        ""
                    }
                ),
            ));
        }
        let runs = self.hub_status().is_some_and(|told| told.revision == plan.revision() && told.running > 0);
        (self.wants_running && !runs).then(|| {
            under_way(
                reasons::WORKER_BEHIND,
                "no worker has said yet that it runs this generation; it should within seconds".to_owned(),
            )
        })
    }

    fn hub_trouble(&self, plan: &Plan) -> Option<Standing> {
        let hub = self.hub.as_ref()?;
        if let Some(why) = &hub.unreachable {
            return Some(under_way(
                reasons::HUB_UNREACHABLE,
                format!(
                    "the hub can't serve the operator: {why}; workers go on with what they have, and this comes back by itself"
                ),
            ));
        }
        if let Some(why) = &hub.refused {
            return Some(Standing::Stalled { reason: reasons::HUB_REFUSED.to_owned(), message: why.clone() });
        }
        (!hub.holds).then(|| {
            under_way(
                reasons::PROGRESSING,
                format!("generation {} is on its way to the hub", plan.generation),
            )
        })
    }

    fn missing(&self) -> Option<Standing> {
        if !self.missing_channels.is_empty() {
            let names = self.missing_channels.join(", ");
            return Some(waiting(
                reasons::CHANNEL_NOT_FOUND,
                format!(
                    "no NotificationChannel of this name in this namespace: {names}; what is for it waits up to 24h, and is sent when it appears"
                ),
            ));
        }
        if let Some(stuck) = self.stuck_channels.iter().find(|stuck| stuck.stalled) {
            return Some(waiting(reasons::CHANNEL_NOT_READY, stuck.sentence()));
        }
        let (first, message) = self.problems(|problem| problem.reason != ObjectProblem::TEMPLATE_FAILED)?;
        Some(Standing::Waiting { reason: word(&first.reason), message })
    }

    /// Ready. The message also names a channel that can't send now, or a text that could not be rendered lately.
    fn ready(&self, message: &str) -> Standing {
        if let Some(stuck) = self.stuck_channels.first() {
            let message = format!("{message}; but {}", stuck.sentence());
            return Standing::Ready { reason: reasons::CHANNEL_NOT_READY, message };
        }
        match self.problems(|problem| problem.reason == ObjectProblem::TEMPLATE_FAILED) {
            Some((_, failed)) => Standing::Ready {
                reason: reasons::TEMPLATE_FAILED,
                message: format!(
                    "{failed}; messages are sent all the same, with a text that says so; {message}"
                ),
            },
            None => Standing::Ready { reason: reasons::READY, message: message.to_owned() },
        }
    }

    /// The first of the problems for which `such` holds, and the messages of the first five.
    fn problems(&self, such: impl Fn(&&ObjectProblem) -> bool) -> Option<(&ObjectProblem, String)> {
        let problems = || self.hub_status().into_iter().flat_map(|told| &told.problems).filter(&such);
        let messages: Vec<&str> = problems().take(5).map(|problem| problem.message.as_str()).collect();
        Some((problems().next()?, messages.join("; ")))
    }
}

impl Stuck {
    fn sentence(&self) -> String {
        let Self { name, reason, message, .. } = self;
        format!(
            "NotificationChannel {name} can't send now: {reason}: {}",
            crate::conditions::cut(message, 500)
        )
    }
}

/// A reason that the API server accepts, whatever a worker reported.
fn word(reason: &str) -> String {
    let good: String = reason.chars().filter(char::is_ascii_alphanumeric).take(100).collect();
    if good.starts_with(|first: char| first.is_ascii_alphabetic()) {
        good
    } else {
        "WorkerProblem".to_owned()
    }
}

/// The message, and how many deliveries have lost their history, if any.
fn history(message: &str, dropped: i64) -> String {
    if dropped == 0 {
        return message.to_owned();
    }
    format!(
        "{message}; the hub holds as many bytes of finished notifications as it may for the namespace \
         (hub.quotas.finishedBytes), so the history of {dropped} went before its time (HistoryDropped)"
    )
}

fn under_way(reason: &str, message: String) -> Standing {
    Standing::UnderWay { reason: reason.to_owned(), message }
}

fn waiting(reason: &str, message: String) -> Standing {
    Standing::Waiting { reason: reason.to_owned(), message }
}

fn moment(time: Option<Timestamp>) -> Option<Time> {
    time.map(Time)
}
