//! What was last published of each object, as far as a change of it is published at once.
//!
//! Invariant: this is in memory only. After a start, everything is compared anew.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use protocol::messages::{DeliverySummary, StatusBody};
use uuid::Uuid;

use crate::WorkerView;

/// What the last publication saw.
#[derive(Default)]
pub(crate) struct Published {
    pub(crate) workers: Arc<WorkerView>,
    /// Partitions that nobody owns, by (topic's row, number).
    pub(crate) unowned: BTreeMap<(i64, i32), UnownedPartition>,
    /// The partition after which the next look continues.
    pub(crate) looked_up_to: Option<(i64, i32)>,
    /// Facts of each object whose change is published at once.
    pub(crate) shown: HashMap<Uuid, LastShown>,
}

impl Published {
    /// Whether the object's status said that something was not delivered at the channel.
    pub(crate) fn fails(&self, uid: Uuid, channel: &str) -> bool {
        self.shown.get(&uid).is_some_and(|shown| shown.fails.contains(channel))
    }

    /// What was published of the object.
    pub(crate) fn shown(&self, uid: &Uuid) -> Option<&LastShown> {
        self.shown.get(uid)
    }
}

/// A partition that nobody owns.
pub(crate) struct UnownedPartition {
    pub(crate) namespace: String,
    pub(crate) source: String,
    pub(crate) topic: String,
    pub(crate) since: i64,
    /// Whether the status says so: it has been without an owner long enough.
    pub(crate) said: bool,
}

/// Facts of an object's published status whose change is published at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LastShown {
    /// Channels at which something was not delivered.
    pub(crate) fails: HashSet<String>,
    /// Whether its records can't be counted.
    pub(crate) uncountable: bool,
    /// Whether it has met a quota.
    pub(crate) full: bool,
}

impl LastShown {
    /// What a published status shows.
    pub(crate) fn from_status(body: &StatusBody) -> Self {
        match body {
            StatusBody::NotificationChannel(_) => Self::default(),
            StatusBody::Schedule(status) => Self::from_told(&status.told),
            StatusBody::AlertRule(status) => Self {
                uncountable: status.uncountable.is_some(),
                full: status.full.is_some(),
                ..Self::from_told(&status.told)
            },
        }
    }

    pub(crate) fn from_told(told: &DeliverySummary) -> Self {
        let fails = told.undelivered.iter().map(|it| it.channel.clone()).collect();
        Self { fails, ..Self::default() }
    }
}
