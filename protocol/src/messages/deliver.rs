//! Messages of workers that send.

use std::collections::{BTreeMap, BTreeSet};

use domain::{ChannelPlan, Digest, Millis, Notification, Outcome};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// All channels of a namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelsPlan {
    /// Changes with any of the channels.
    pub revision: Digest,
    /// Every channel, by uid.
    pub channels: BTreeMap<Uuid, ChannelEntry>,
}

/// One channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelEntry {
    /// Its name.
    pub name: String,
    /// Revision of its plan.
    pub revision: Digest,
    /// The plan.
    pub plan: ChannelPlan,
}

/// Which attempts a worker makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Pool {
    /// The first.
    Send,
    /// The others.
    Retry,
}

/// Asks for work.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRequest {
    /// Which attempts.
    pub pool: Pool,
    /// The worker's instance (pod name), for the ledger.
    pub instance: String,
    /// The worker's process; a restarted one has another session. If it is gone, its attempts are given up early;
    /// without a session, when their leases end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Uuid>,
    /// Channels that it can't serve now, because a file is missing; at most 10,000. Other workers get their
    /// deliveries, or these wait.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub without: BTreeSet<Uuid>,
    /// At most this many, 1 to 500.
    pub max: i32,
    /// How long to wait for the first, milliseconds, at most 30,000.
    pub wait_ms: u64,
}

impl ClaimRequest {
    /// Asks for up to `max` attempts of any channel, and does not wait.
    pub fn new(pool: Pool, instance: impl Into<String>, max: i32) -> Self {
        Self { pool, instance: instance.into(), session: None, without: BTreeSet::new(), max, wait_ms: 0 }
    }
}

/// Says that a worker is alive; sent every 2 s while it has attempts in hand.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alive {
    /// Which attempts it makes.
    pub pool: Pool,
    /// The worker's instance (pod name).
    pub instance: String,
    /// The process, as in its claims.
    pub session: Uuid,
}

/// Work under a lease. The hub passes notifications on as they are stored, without parsing them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claimed<N = Notification> {
    /// The attempts to make. A lease ends early when its worker is gone.
    pub tasks: Vec<Task<N>>,
    /// The channels of the tasks, as they are now.
    pub channels: BTreeMap<Uuid, ChannelEntry>,
}

/// One attempt to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task<N = Notification> {
    /// The delivery's stable id, the same for every attempt.
    pub delivery: Uuid,
    /// The attempt's number, from 1: with the delivery it names the lease.
    pub attempt: i32,
    /// The channel.
    pub channel: Uuid,
    /// The recipient; empty where the channel has one unnamed.
    pub recipient: String,
    /// How long the lease runs, counted from the answer because clocks differ. A hub of an earlier release leaves
    /// it out.
    #[serde(default)]
    pub lease: Millis,
    /// What to say.
    pub notification: N,
}

/// Outcomes of attempts, up to 1,000.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcomes {
    /// One for each.
    pub outcomes: Vec<AttemptOutcome>,
}

/// The outcome of one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptOutcome {
    /// The delivery.
    pub delivery: Uuid,
    /// The attempt.
    pub attempt: i32,
    /// The outcome.
    pub outcome: Outcome,
}
