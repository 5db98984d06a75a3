//! Delivers notifications: one file per channel, one trait method ([`Channel::deliver`]), one HTTP client ([`Http`]).
//!
//! Read [`Message`] and [`Channel`] first, then a channel's file. Each file begins with its table of outcomes, which adds to
//! that of [`Http`]:
//!
//! | channel | file | outcomes besides the common ones |
//! | --- | --- | --- |
//! | Slack | `slack.rs` | Slack's definite errors are `Refused` |
//! | Webhook | `webhook.rs` | none |
//! | Email | `email.rs`, `email/session.rs` | by SMTP's replies and how far the conversation came |
//! | Kafka | `kafka.rs`; the worker has the client, the [`Producer`] | by what brokers answer |
//!
//! For all channels: if a referenced file is missing or can't be used, the outcome is `NotSent` with a reason such as
//! `SecretKeyNotFound: key "x" of Secret "y" is not there`. No attempt is counted, and the message waits for the file until
//! `expiresAfter`. An outcome is `Unknown` only if the receiver may have taken the message.
//!
//! Invariants: reasons hold no secret; a text over its channel's bound is cut with a visible mark, never dropped; the time
//! comes with the message. The hub decides when to try again.
#![warn(missing_docs)]

mod cloud_event;
mod compose;
mod email;
#[cfg(test)]
mod fixtures;
mod http;
mod kafka;
mod lookup;
mod message;
mod oauth;
mod secrets;
mod slack;
#[cfg(test)]
mod template_names;
mod text;
mod trust;
mod webhook;

use std::sync::Arc;

use domain::{ChannelPlan, Target};

pub use compose::{Composer, MessageTexts};
pub use http::Http;
pub use kafka::{KafkaRecord, Producer};
pub use message::{Channel, Message, OutcomeFuture, Payload};
pub use oauth::{BearerToken, named_endpoint};
pub use secrets::{FileProblem, Files, Secret};
pub use text::Mask;
pub use trust::Trust;

/// Files and clients that all channels of a worker share. Make one and keep it: it holds the connections.
pub struct Kit {
    files: Files,
    http: Arc<Http>,
    smtp: email::Smtp,
    kafka: Box<dyn Producer>,
}

impl Kit {
    /// Reads secrets from `files`, sends with `http`, connects only where `http`'s guard allows, and writes records with
    /// `kafka`.
    pub fn new(http: Arc<Http>, files: Files, kafka: Box<dyn Producer>) -> Self {
        Self { files, smtp: email::Smtp::new(http.lookup()), http, kafka }
    }

    /// The channel that a plan describes.
    pub fn channel<'a>(&'a self, plan: &'a ChannelPlan) -> Box<dyn Channel + 'a> {
        let (kit, ca_bundle) = (self, plan.ca_bundle.as_ref());
        match &plan.target {
            Target::Slack(plan) => Box::new(slack::Slack { kit, plan, ca_bundle }),
            Target::Email(plan) => Box::new(email::Email { kit, plan, ca_bundle }),
            Target::Webhook(plan) => Box::new(webhook::Webhook { kit, plan, ca_bundle }),
            Target::Kafka(plan) => Box::new(kafka::Kafka { kit, plan }),
        }
    }

    /// The channel's files that are missing or can't be used, sorted. Connects to nothing.
    pub async fn problems(&self, plan: &ChannelPlan) -> Vec<FileProblem> {
        let channel = self.channel(plan);
        let mut problems = Vec::new();
        for file in plan.files() {
            let checked = match self.files.read(file).await {
                Ok(value) if plan.ca_bundle.as_ref() == Some(file) => http::check_bundle(file, &value),
                Ok(value) => channel.check(file, &value),
                Err(problem) => Err(problem),
            };
            problems.extend(checked.err());
        }
        problems.sort();
        problems.dedup();
        problems
    }
}
