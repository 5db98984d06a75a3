//! Delivers notifications: one file per channel, one trait method ([`Channel::deliver`]), one HTTP client ([`Http`]).
//!
//! Read [`Message`] and [`Channel`] first, then a channel's file; each has its table of outcomes at its head, on top of
//! [`Http`]'s:
//!
//! | channel | file | outcomes beside the common ones |
//! | --- | --- | --- |
//! | Slack | `slack.rs` | Slack's definite errors are `Refused` |
//! | Webhook | `webhook.rs` | none |
//! | Email | `email.rs`, `email/session.rs` | by SMTP's replies and how far the conversation came |
//! | Kafka | in the worker, which has the Kafka client; it says what [`Event`] says | |
//!
//! What holds for all: where a referenced file is missing or can't be used, the outcome is `NotSent`, with its reason
//! (`SecretKeyNotFound: key "x" of Secret "y" is not there`): no attempt is counted, and the message waits for the file until
//! `expiresAfter`. An outcome is `Unknown` only when the message may have
//! been taken.
//!
//! Invariants: reasons hold no secret; every text is within its channel's bounds, cut visibly, never dropped; the clock
//! comes in with the message. Never here: Kubernetes, a database, a retry (the hub decides when to try again).
#![warn(missing_docs)]

mod compose;
mod email;
mod event;
mod http;
mod lookup;
mod message;
#[cfg(test)]
mod names;
mod oauth;
#[cfg(test)]
mod sample;
mod secrets;
mod slack;
mod text;
mod trust;
mod webhook;

use std::sync::Arc;

use domain::{ChannelPlan, FileRef, Guard, Target};

pub use compose::{Composer, Texts};
pub use event::{Event, MAX_BYTES};
pub use http::Http;
pub use message::{Attempt, Channel, Message, Payload};
pub use oauth::{Bearer, named_endpoint};
pub use secrets::{FileProblem, Files, Secret};
pub use text::Mask;
pub use trust::Trust;

/// What all channels of a worker share. Make one and keep it: it holds the connections.
pub struct Kit {
    /// Mounted Secrets and ConfigMaps.
    pub files: Files,
    /// The HTTP client.
    pub http: Http,
    smtp: email::Smtp,
    guard: Guard,
}

impl Kit {
    /// Connects to what `guard` allows, with values from `files`.
    pub fn new(guard: Guard, files: Files) -> Self {
        let lookup = Arc::new(lookup::Lookup::new(guard));
        Self { files, http: Http::new(Arc::clone(&lookup)), smtp: email::Smtp::new(lookup), guard }
    }

    /// What may be connected to.
    pub fn guard(&self) -> Guard {
        self.guard
    }

    /// The channel of a plan; none for Kafka, whose client is the worker's.
    pub fn channel<'a>(&'a self, plan: &'a ChannelPlan) -> Option<Box<dyn Channel + 'a>> {
        let (kit, ca_bundle) = (self, plan.ca_bundle.as_ref());
        match &plan.target {
            Target::Slack { webhook_url } => Some(Box::new(slack::Slack { kit, webhook_url, ca_bundle })),
            Target::Email { host, port, tls, username, password, from, to: _ } => {
                Some(Box::new(email::Email {
                    kit,
                    host,
                    port: *port,
                    tls: *tls,
                    username: username.as_ref(),
                    password: password.as_ref(),
                    from,
                    ca_bundle,
                }))
            }
            Target::Webhook(plan) => Some(Box::new(webhook::Webhook { kit, plan, ca_bundle })),
            Target::Kafka { .. } => None,
        }
    }

    /// What a channel can't do now for want of a file: each missing or unusable one, sorted. Connects to nothing.
    pub async fn problems(&self, plan: &ChannelPlan) -> Vec<FileProblem> {
        let mut problems = Vec::new();
        for file in plan.files() {
            match self.files.read(file).await {
                Err(problem) => problems.push(problem),
                Ok(value) => problems.extend(unusable(plan, file, &value, self.guard)),
            }
        }
        problems.sort();
        problems.dedup();
        problems
    }
}

/// Why a value that is there can't be what its channel takes it for.
fn unusable(plan: &ChannelPlan, file: &FileRef, value: &Secret, guard: Guard) -> Option<FileProblem> {
    match &plan.target {
        _ if plan.ca_bundle.as_ref() == Some(file) => http::check_bundle(file, value).err(),
        Target::Slack { webhook_url } if webhook_url == file => slack::url(file, value).err(),
        Target::Webhook(webhook) => webhook::check(webhook, file, value, guard).err(),
        _ => None,
    }
}
